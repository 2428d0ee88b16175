//! Dictionaries between processes, beside their rivals; `-- --help` tells what can be chosen.

use std::process::ExitCode;

use shm_benches::suite::{self, Suite};

fn main() -> ExitCode {
    suite::main(Suite::Dict)
}
