//! The `shm` command: shows what the shm family does, and looks after its named segments.
//!
//! `shm tour` runs the primitives on real processes; `shm ls`, `shm rm` and `shm gc` list and remove
//! what stands in `/dev/shm`.

mod exit;
mod figures;
mod gc;
mod list;
mod tour;
mod unlink;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::Failure;

/// Shared memory between processes: a tour of it, and its named segments.
#[derive(Debug, Parser)]
#[command(name = "shm", version, about, after_help = exit::CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch locks, values, queues and dictionaries on real processes, some of which are killed
    #[command(after_help = exit::CODES)]
    Tour(tour::Options),
    /// List the named segments
    #[command(after_help = exit::CODES)]
    Ls(list::Options),
    /// Remove names that should have gone with creators who died
    #[command(after_help = exit::CODES)]
    Gc,
    /// Remove segments by name
    #[command(after_help = exit::CODES)]
    Rm(unlink::Options),
    /// A process of the tour; the tour starts them itself
    #[command(hide = true)]
    TourChild(tour::ChildOptions),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Tour(options) => tour::run(&options),
        Command::Ls(options) => list::run(&options),
        Command::Gc => gc::run(),
        Command::Rm(options) => unlink::run(&options),
        Command::TourChild(options) => return tour::run_child(&options),
    };
    done.unwrap_or_else(Failure::report)
}
