//! Toy structures in a mapped file, right and wrong ones, as victims of the step killer.
//!
//! The wrong ones are the instrument's negative controls: each has one well-known fault, and the
//! tests of this crate show that it is found. Run without arguments for the sub-commands.

mod bell;
mod count;
mod maker;
mod stray;
mod ticket;
mod toy;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    toy::commands()
        .and(ticket::commands())
        .and(bell::commands())
        .and(count::commands())
        .and(maker::commands())
        .and(stray::commands())
        .main()
}
