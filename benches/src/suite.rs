//! The benches `lock_family`, `value`, `queue`, `dict` and `containers`: their command line, and their sections one after the other.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};

use crate::machine::{BUSY, Machine};
use crate::options::Plan;
use crate::process::{Janitor, Role};
use crate::section::{Outcome, Section, measure};
use crate::{containers, dicts, family, queues, values, worker};

/// One of the benches that consist of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Suite {
    /// The locks besides the mutex.
    LockFamily,
    /// Values and arrays.
    Value,
    /// Queues.
    Queue,
    /// Dictionaries.
    Dict,
    /// Lists, containers inside of others, transactions.
    Containers,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::LockFamily,
        Self::Value,
        Self::Queue,
        Self::Dict,
        Self::Containers,
    ];

    /// Its sections, in the order of the tables.
    #[must_use]
    pub fn sections(self) -> Vec<Section> {
        match self {
            Self::LockFamily => family::sections(),
            Self::Value => values::sections(),
            Self::Queue => queues::sections(),
            Self::Dict => dicts::sections(),
            Self::Containers => containers::sections(),
        }
    }

    /// Sections that are measured only when they are named.
    #[must_use]
    pub fn long_sections(self) -> Vec<Section> {
        match self {
            Self::Dict => dicts::long_sections(),
            _ => Vec::new(),
        }
    }

    /// The section of that key.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none.
    pub fn section(self, key: &str) -> io::Result<Section> {
        let found = self
            .sections()
            .into_iter()
            .chain(self.long_sections())
            .find(|section| section.key == key);
        found.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{self} has no section `{key}`"),
            )
        })
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LockFamily => "lock_family",
            Self::Value => "value",
            Self::Queue => "queue",
            Self::Dict => "dict",
            Self::Containers => "containers",
        })
    }
}

/// What the types of the shm family cost, beside their rivals.
#[derive(Clone, Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    /// Measure only these sections; some are measured only so.
    #[arg(long, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<String>,
    /// Names the sections, and measures nothing.
    #[arg(long)]
    list: bool,
    /// Some seconds in all: shows that everything runs, its figures say little.
    #[arg(long, alias = "test")]
    quick: bool,
    /// One JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// Interleaved rounds of each section.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Given by `cargo bench`; without it the bench runs as a test, that is quickly.
    #[arg(long, hide = true)]
    bench: bool,
    /// What a child process does.
    #[command(subcommand)]
    role: Option<Role>,
}

impl Options {
    fn is_quick(&self) -> bool {
        self.quick || !self.bench
    }

    fn plan(&self) -> Plan {
        let plan = Plan::new(self.is_quick(), self.rounds);
        // A round has many rows: a slice is shorter than one of `counter`, but long enough for a sleeper's slice.
        let slice = if self.is_quick() { 2 } else { 25 };
        Plan {
            slice: Duration::from_millis(slice),
            rounds: if self.is_quick() { 1 } else { plan.rounds },
            ..plan
        }
    }

    /// The arguments that make the same run again.
    fn command(&self, suite: Suite) -> String {
        let mut command = format!("cargo bench -p shm-benches --bench {suite}");
        if cfg!(feature = "rivals") {
            command += " --features rivals";
        }
        let mut arguments = String::new();
        if !self.only.is_empty() {
            arguments += &format!(" --only {}", self.only.join(","));
        }
        if self.is_quick() {
            arguments += " --quick";
        }
        if let Some(rounds) = self.rounds {
            arguments += &format!(" --rounds {rounds}");
        }
        if !arguments.is_empty() {
            command += " --";
            command += &arguments;
        }
        command
    }
}

/// Runs a suite, or plays the role that the command line gives to a child.
#[must_use]
pub fn main(suite: Suite) -> ExitCode {
    let mut options = Options::parse();
    let done = match options.role.take() {
        Some(role) => worker::play(role).map(|()| true),
        None if options.list => {
            for section in suite.sections() {
                println!("{}: {}", section.key, section.title);
            }
            for section in suite.long_sections() {
                println!("{}: {}, only if named", section.key, section.title);
            }
            Ok(true)
        }
        None => run(suite, &options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{suite}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all sections; false if one found something wrong.
fn run(suite: Suite, options: &Options) -> io::Result<bool> {
    let machine = Machine::look();
    let command = options.command(suite);
    let run = format!("shm-bench.{}.", std::process::id());
    // Declared before all that makes names, so that its work begins when they are done.
    let _janitor = Janitor::start(&run)?;
    let wanted = match options.only.as_slice() {
        [] => suite.sections(),
        keys => keys
            .iter()
            .map(|key| suite.section(key))
            .collect::<io::Result<_>>()?,
    };
    let mut document = Map::new();
    let mut good = true;
    for section in wanted {
        let key = section.key;
        let outcome = measure(&run, suite, section, &options.plan())?;
        good &= outcome.failures.is_empty();
        if options.json {
            document.insert(
                key.to_owned(),
                json!({ "rows": outcome.rows, "notes": outcome.table.notes(), "failures": outcome.failures }),
            );
        } else {
            print(&outcome, &machine, &command, options.is_quick());
        }
    }
    if options.json {
        document.insert("machine".into(), machine.to_json());
        document.insert("command".into(), json!(command));
        document.insert("quick".into(), json!(options.is_quick()));
        println!("{:#}", Value::Object(document));
    }
    Ok(good)
}

fn print(outcome: &Outcome, machine: &Machine, command: &str, quick: bool) {
    println!("{}", outcome.table);
    println!("{machine}");
    println!("`{command}`");
    if quick {
        println!("A quick run: it shows that everything works, its figures say little.");
    } else if machine.load > BUSY {
        println!("The machine was busy: its figures say little.");
    }
    for failure in &outcome.failures {
        println!("FAILED: {failure}");
    }
    println!();
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::{CommandFactory, Parser};

    use super::{Options, Suite};

    #[test]
    fn command_line_is_consistent() {
        <Options as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn command_makes_the_same_run_again() {
        let of = |line: &str| Options::parse_from(line.split(' ')).command(Suite::Value);
        assert!(
            of("value --bench --only seq,list --rounds 9")
                .ends_with(" -- --only seq,list --rounds 9")
        );
        assert!(of("value").contains("--bench value") && of("value").ends_with(" -- --quick"));
    }

    #[test]
    fn names_within_a_section_are_unique_and_targets_name_rows() {
        for suite in Suite::ALL {
            for section in suite.sections() {
                let names: HashSet<_> = section.rows.iter().map(|row| row.name).collect();
                assert_eq!(names.len(), section.rows.len(), "{suite} {}", section.key);
                assert!(
                    section
                        .rows
                        .iter()
                        .all(|row| row.seats <= crate::company::STRENGTH)
                );
                for target in &section.targets {
                    // A rival may be absent; what is ours may not.
                    assert!(names.contains(target.row), "{target:?}");
                    assert!(
                        names.contains(target.reference) || cfg!(not(feature = "rivals")),
                        "{target:?}"
                    );
                }
                assert!(suite.section(section.key).is_ok());
            }
        }
    }
}
