//! The command line of the bench `counter`.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::process::Role;

/// One of the four tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One counter, decremented by one, two and four processes.
    Lock,
    /// Long critical sections: who gets the lock how often, and who waits how long.
    Fairness,
    /// From the death of a holder until a sleeping waiter owns the lock.
    Handover,
    /// The life of a small segment: create, open, unlink.
    Segment,
}

/// What the locks and segments of the shm family cost, beside their rivals.
#[derive(Clone, Debug, Parser)]
#[command(name = "counter", args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Measure only these parts.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,
    /// A couple of seconds in all: shows that everything runs, its figures say little.
    #[arg(long, alias = "test")]
    pub quick: bool,
    /// One JSON document instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Interleaved rounds of each part; handover has twelve deaths for each.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,
    /// Given by `cargo bench`; without it the bench runs as a test, that is quickly.
    #[arg(long, hide = true)]
    pub bench: bool,
    /// What a child process does.
    #[command(subcommand)]
    pub role: Option<Role>,
}

/// How long and how often each part measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Interleaved rounds.
    pub rounds: usize,
    /// Length of a slice with a tight loop.
    pub slice: Duration,
    /// Length of a slice with long critical sections.
    pub long_slice: Duration,
    /// Deaths of a holder.
    pub deaths: usize,
    /// Deaths of a holder whose lock is expected to stay stuck.
    pub hopeless: usize,
    /// How long a waiter of such a lock is watched before it counts as stuck.
    pub patience: Duration,
    /// Lives of a segment in a round.
    pub lives: usize,
}

impl Options {
    /// Whether that part is wanted.
    #[must_use]
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether this run is only to show that everything works.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.quick || !self.bench
    }

    /// How long and how often to measure.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan::new(self.is_quick(), self.rounds)
    }
}

impl Plan {
    /// The plan of a quick run or of a full one, with that many rounds if it is said.
    #[must_use]
    pub fn new(quick: bool, rounds: Option<u16>) -> Self {
        let rounds = |default| rounds.map_or(default, usize::from);
        if quick {
            Self {
                rounds: rounds(3),
                slice: Duration::from_millis(3),
                long_slice: Duration::from_millis(40),
                deaths: rounds(1) * 12,
                hopeless: 1,
                patience: Duration::from_millis(250),
                lives: 10,
            }
        } else {
            Self {
                rounds: rounds(15),
                slice: Duration::from_millis(30),
                long_slice: Duration::from_millis(600),
                deaths: rounds(15) * 12,
                hopeless: 3,
                patience: Duration::from_secs(1),
                lives: 100,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Options, Part};

    fn options(line: &str) -> Options {
        Options::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn all_parts_are_wanted_unless_some_are_named() {
        assert!(options("counter --bench").wants(Part::Handover));
        let some = options("counter --only lock,segment --bench");
        assert!(some.wants(Part::Lock) && some.wants(Part::Segment) && !some.wants(Part::Fairness));
    }

    #[test]
    fn run_without_bench_is_a_test() {
        assert!(!options("counter --bench").is_quick());
        assert!(options("counter --bench --test").is_quick());
        assert!(options("counter --bench --quick").is_quick());
        assert!(options("counter --json").is_quick());
    }

    #[test]
    fn full_run_has_enough_rounds_and_deaths() {
        let plan = options("counter --bench").plan();
        assert!(plan.rounds >= 9 && plan.deaths >= 100);
        assert_eq!(options("counter --bench --rounds 20").plan().rounds, 20);
    }
}
