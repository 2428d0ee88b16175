//! A program around a list of cases, for people and for CI.

use std::fs;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::engine::END;
use super::{Case, Error, Sampling, StepKiller};
use crate::procfs;

/// Points of a row, unless told.
const SAMPLE: usize = 20;

const USAGE: &str = "\
usage: [--full | --points N | --every N] [--seed N] [--budget SECONDS] [--jobs N] [--only TEXT]
       [--table FILE] [--env NAME=VALUE] [--list] [--help]
  --full       every step (otherwise a sample of each row)
  --points N   at most N points a row (20 unless told)
  --every N    one step in N
  --seed N     which steps a sample has; printed at the end, and of the clock unless told
  --budget S   at most S seconds a row, and one point
  --jobs N     N points at a time
  --only TEXT  the rows whose `operation, state` has TEXT in it
  --table FILE write the table there
  --env N=V    an environment variable for the victims, which have almost none otherwise
  --list       name the cases and do nothing
  --help       say this";

/// The victims' program and the cases to run on it.
#[derive(Debug)]
pub struct Suite {
    program: PathBuf,
    cases: Vec<Case>,
    controls: Option<usize>,
}

#[derive(Debug)]
struct Options {
    sampling: Sampling,
    seed: usize,
    budget: Option<Duration>,
    jobs: Option<usize>,
    only: String,
    table: Option<PathBuf>,
    env: Vec<(String, String)>,
    list: bool,
    help: bool,
}

impl Suite {
    /// The victims are sub-commands of `program`.
    pub fn new(program: impl Into<PathBuf>, cases: Vec<Case>) -> Self {
        Self {
            program: program.into(),
            cases,
            controls: None,
        }
    }

    /// Refuses to run unless so many of the cases are negative controls.
    pub fn with_controls(mut self, controls: usize) -> Self {
        self.controls = Some(controls);
        self
    }

    /// Runs by the command line's `args` (without the program's name), prints each row and at last
    /// the line `points=N violations=V controls_caught=C/M`. Fails when V is not 0 or a control
    /// was missed, or when the tool could not work. SIGINT and SIGTERM end it by exit code 130, with no file left; they are
    /// blocked in the calling thread.
    pub fn main(self, args: impl IntoIterator<Item = String>) -> ExitCode {
        let options = match Options::parse(args) {
            Ok(options) => options,
            Err(what) => {
                eprintln!("{what}\n{USAGE}");
                return ExitCode::from(2);
            }
        };
        if options.help {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        end_when_told();
        match self.run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error @ Error::Ended) => {
                eprintln!("step killer: {error}");
                ExitCode::from(130)
            }
            Err(error) => {
                eprintln!("step killer: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Says whether all was as it should be.
    fn run(mut self, options: &Options) -> Result<bool, Error> {
        let controls = self.cases.iter().filter(|c| c.control.is_some()).count();
        if self.controls.is_some_and(|promised| promised != controls) {
            return Err(Error::Cases(format!("{controls} negative controls")));
        }
        self.cases
            .retain(|case| case.to_string().contains(&options.only));
        if self.cases.is_empty() {
            return Err(Error::Cases(format!("no case with {:?}", options.only)));
        }
        if options.list {
            for case in &self.cases {
                println!("{case}");
            }
            return Ok(true);
        }
        let mut killer = StepKiller::new(&self.program)?
            .sampling(options.sampling)
            .seed(options.seed);
        if let Some(budget) = options.budget {
            killer = killer.budget(budget);
        }
        if let Some(jobs) = options.jobs {
            killer = killer.jobs(jobs);
        }
        for (name, value) in &options.env {
            killer = killer.env(name, value);
        }
        let begun = Instant::now();
        // A fault of two instructions would slip through a sample: the controls are run whole.
        let (controls, cases): (Vec<_>, Vec<_>) =
            self.cases.into_iter().partition(|c| c.control.is_some());
        let mut report = killer.run_with(&cases, |row| println!("{row}"))?;
        let whole = killer
            .sampling(Sampling::All)
            .run_with(&controls, |row| println!("{row}"))?;
        report.append(whole);
        if let Some(path) = &options.table {
            fs::write(path, report.table())?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{} rows in {seconds:.1} s, seed {}, {} points missed, {} beside the way, {} victims hung",
            report.rows.len(),
            options.seed,
            report.missed(),
            report.aside(),
            report.hung()
        );
        println!("{}", report.summary());
        Ok(report.is_good())
    }
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            sampling: Sampling::Points(SAMPLE),
            seed: by_clock(),
            budget: None,
            jobs: None,
            only: String::new(),
            table: None,
            env: Vec::new(),
            list: false,
            help: false,
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--full" => options.sampling = Sampling::All,
                "--points" => options.sampling = Sampling::Points(number(&value()?)?),
                "--every" => options.sampling = Sampling::Every(number(&value()?)?),
                "--seed" => options.seed = number(&value()?)?,
                "--budget" => options.budget = Some(seconds(&value()?)?),
                "--jobs" => options.jobs = Some(number(&value()?)?),
                "--only" => options.only = value()?,
                "--table" => options.table = Some(value()?.into()),
                "--env" => options.env.push(variable(&value()?)?),
                "--list" => options.list = true,
                "--help" => options.help = true,
                _ => return Err(format!("unknown: {arg}")),
            }
        }
        Ok(options)
    }
}

/// From now on SIGINT and SIGTERM are taken by a thread of their own, which sees that all work ends soon.
fn end_when_told() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // The tool's threads inherit this, its children do not.
    if signals.thread_block().is_err() {
        return;
    }
    let wait = move || {
        if signals.wait().is_err() {
            return;
        }
        END.store(true, Ordering::Relaxed);
        // Until this process is no more. Each of the others waits for one of these, and looks whether it is to end.
        loop {
            for child in procfs::children(process::id()) {
                let _ = kill(Pid::from_raw(child as i32), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    // Without it a signal would not end the tool at all.
    let waits = thread::Builder::new().name("signals".into()).spawn(wait);
    waits.expect("a thread for the signals");
}

fn by_clock() -> usize {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
    now.tv_nsec() as usize
}

fn variable(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=');
    let (name, value) = parts.ok_or_else(|| format!("not NAME=VALUE: {text}"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match number(text)? {
        0 => Err("no time for anything".to_owned()),
        seconds => Ok(Duration::from_secs(seconds as u64)),
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let options = parse("--every 7 --budget 3 --jobs 2 --only put --table t.md").unwrap();
        assert_eq!(options.sampling, Sampling::Every(7));
        assert_eq!(options.budget, Some(Duration::from_secs(3)));
        assert_eq!((options.jobs, options.only.as_str()), (Some(2), "put"));
        assert_eq!(parse("--full").unwrap().sampling, Sampling::All);
        let of_a_seed = parse("--seed 5").unwrap();
        assert_eq!(of_a_seed.seed, 5);
        assert_eq!(of_a_seed.sampling, parse("").unwrap().sampling);
        assert!(parse("--help").unwrap().help);
        let env = parse("--env A=1 --env B=x=y").unwrap().env;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(env, [pair("A", "1"), pair("B", "x=y")]);
    }

    #[test]
    fn wrong_options_are_refused() {
        assert!(parse("--every").is_err());
        assert!(parse("--every x").is_err());
        assert!(parse("--budget 0").is_err());
        assert!(parse("--ful").is_err());
        assert!(parse("--env x").is_err());
    }
}
