//! The bench `counter`: the parts that are wanted, one after the other, and what they say.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value, json};

use crate::crew::Crew;
use crate::machine::{BUSY, Machine};
use crate::options::{Options, Part};
use crate::part::{Report, fairness, handover, lock, segment};
use crate::process::Janitor;
use crate::worker;

/// Runs the bench, or plays the role that the command line gives to a child.
#[must_use]
pub fn main() -> ExitCode {
    let mut options = Options::parse();
    let done = match options.role.take() {
        Some(role) => worker::play(role).map(|()| true),
        None => run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("counter: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all parts; false if one found something wrong.
fn run(options: &Options) -> io::Result<bool> {
    let machine = Machine::look();
    let command = command(options);
    let run = format!("shm-bench.{}.", std::process::id());
    // Declared before all that makes names, so that its work begins when they are done.
    let _janitor = Janitor::start(&run)?;
    let mut document = Map::new();
    let mut good = true;

    for part in [Part::Lock, Part::Fairness, Part::Handover, Part::Segment] {
        if !options.wants(part) {
            continue;
        }
        let report = measure(part, options, &run)?;
        good &= report.failures.is_empty();
        if options.json {
            document.insert(format!("{part:?}").to_lowercase(), report.to_json());
        } else {
            print(&report, &machine, &command, options.is_quick());
        }
    }
    if options.json {
        document.insert("machine".into(), machine.to_json());
        document.insert("command".into(), json!(command));
        document.insert("quick".into(), json!(options.is_quick()));
        document.insert("rounds".into(), json!(options.plan().rounds));
        println!("{:#}", Value::Object(document));
    }
    Ok(good)
}

fn measure(part: Part, options: &Options, run: &str) -> io::Result<Report> {
    let plan = options.plan();
    match part {
        Part::Lock => lock::measure(&mut Crew::start(run)?, &plan),
        Part::Fairness => fairness::measure(&mut Crew::start(run)?, &plan),
        Part::Handover => handover::measure(run, &plan),
        Part::Segment => segment::measure(run, &plan),
    }
}

fn print(report: &Report, machine: &Machine, command: &str, quick: bool) {
    println!("{}", report.table);
    println!("{machine}");
    println!("`{command}`");
    if quick {
        println!("A quick run: it shows that everything works, its figures say little.");
    } else if machine.load > BUSY {
        println!("The machine was busy: its figures say little.");
    }
    for failure in &report.failures {
        println!("FAILED: {failure}");
    }
    println!();
}

/// The command that makes the same run again.
fn command(options: &Options) -> String {
    let mut command = "cargo bench -p shm-benches --bench counter".to_owned();
    if cfg!(feature = "rivals") {
        command += " --features rivals";
    }
    let mut arguments = Vec::new();
    if !options.only.is_empty() {
        let parts: Vec<String> = options
            .only
            .iter()
            .map(|part| format!("{part:?}").to_lowercase())
            .collect();
        arguments.push(format!("--only {}", parts.join(",")));
    }
    if options.is_quick() {
        arguments.push("--quick".to_owned());
    }
    if let Some(rounds) = options.rounds {
        arguments.push(format!("--rounds {rounds}"));
    }
    if !arguments.is_empty() {
        command = format!("{command} -- {}", arguments.join(" "));
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::command;
    use crate::options::Options;

    fn of(line: &str) -> String {
        command(&Options::parse_from(line.split(' ')))
    }

    #[test]
    fn command_makes_the_same_run_again() {
        assert!(
            of("counter --bench").ends_with(if cfg!(feature = "rivals") {
                "rivals"
            } else {
                "counter"
            })
        );
        assert!(
            of("counter --bench --only lock,segment --rounds 9")
                .ends_with(" -- --only lock,segment --rounds 9")
        );
        assert!(of("counter").ends_with(" -- --quick"));
    }
}
