//! `shm tour`: what the shm family does, on real processes, told to a person.
//!
//! | file | idea |
//! |---|---|
//! | `counter.rs`, `tickets.rs`, `value.rs`, `death.rs`, `permits.rs`, `bakery.rs`, `dict.rs` with `containers.rs` | a part each: what is told, what the children do, what must be so |
//! | `children.rs` | the processes and names of a part, and that both end |
//! | `child.rs` | a process from its own side |
//! | `teller.rs` | how it is told |
//! | `report.rs` | figures, expectations, exit code |

mod bakery;
mod child;
mod children;
mod containers;
mod counter;
mod death;
mod dict;
mod permits;
mod report;
mod teller;
mod tickets;
mod value;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, thread};

use clap::{Args, ValueEnum};
use serde::Serialize;

pub(crate) use child::{ChildOptions, run_child};

use crate::exit::Failure;
use children::{Act, Trouble};
use report::{Expectation, Figures, PartReport, Report};
use teller::Teller;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Show only this part; may be given several times
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Print one JSON document with every figure instead of the story
    #[arg(long)]
    json: bool,
    /// The number that the counter part counts down from
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(10..=1_000_000_000_000_000))]
    from: u64,
    /// Seconds that a part may take before its processes are killed and it counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    limit: u64,
}

impl Options {
    /// The parts to show, in the order of the story.
    fn parts(&self) -> Vec<Part> {
        let wanted = |part: &Part| self.only.is_empty() || self.only.contains(part);
        Part::value_variants()
            .iter()
            .copied()
            .filter(wanted)
            .collect()
    }
}

/// A part of the tour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// Ten processes count one number down, with no lock, with a lock, and atomically
    Counter,
    /// Fifty buyers race for ten tickets
    Tickets,
    /// One process writes a value and an array, another one reads them
    Value,
    /// The owner of a lock is killed
    Death,
    /// A holder of a semaphore's permit is killed, and a party of a barrier
    Permits,
    /// Bakers and eaters around a queue, one of whom is killed
    Bakery,
    /// Ten processes change one entry of a dictionary, a writer is killed; lists, what is inside of others, and transfers
    Dict,
}

/// What a part found.
type Findings = (Figures, Vec<Expectation>);

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Tickets => "tickets",
            Self::Value => "value",
            Self::Death => "death",
            Self::Permits => "permits",
            Self::Bakery => "bakery",
            Self::Dict => "dict",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Counter => "Counter: ten processes, one number",
            Self::Tickets => "Tickets: fifty buyers, the last ten tickets",
            Self::Value => "Value: one process writes, another one reads",
            Self::Death => "Death: the owner of a lock is killed",
            Self::Permits => "Permits: holders and parties are killed",
            Self::Bakery => "Bakery: bakers, eaters, and a queue of ten buns",
            Self::Dict => "Dict: one entry, lists, transfers; and writers are killed",
        }
    }

    fn play(self, options: &Options, teller: &mut Teller) -> Result<Findings, Trouble> {
        let mut act = Act::begin(self.name(), Duration::from_secs(options.limit))?;
        match self {
            Self::Counter => counter::run(&mut act, options.from, teller),
            Self::Tickets => tickets::run(&mut act, teller),
            Self::Value => value::run(&mut act, teller),
            Self::Death => death::run(&mut act, teller),
            Self::Permits => permits::run(&mut act, teller),
            Self::Bakery => bakery::run(&mut act, teller),
            Self::Dict => dict::run(&mut act, teller),
        }
    }
}

/// Shows the parts and says whether everything was as it must be.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    children::end_on_signals()
        .map_err(|error| Failure::conflict(format!("cannot wait for signals: {error}")))?;
    // What a killed tour left; a directory that is not there is for the parts to report.
    let _ = shm_core::sweep();
    let mut teller = Teller::new(options.json);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let parts = options.parts();
    teller.opening(parts.len(), processors)?;

    let mut reports = Vec::new();
    for (at, &part) in parts.iter().enumerate() {
        teller.heading(at + 1, part.title())?;
        let report = show(part, options, &mut teller)?;
        teller.expectations(&report.expectations)?;
        reports.push(report);
    }

    let report = Report::new(processors, reports, left_behind());
    if options.json {
        let text = serde_json::to_string_pretty(&report).map_err(io::Error::from)?;
        writeln!(io::stdout().lock(), "{text}")?;
        for failure in report.failures() {
            anstream::eprintln!("shm tour: {failure}");
        }
    }
    teller.closing(&report)?;
    Ok(ExitCode::from(report.exit_code()))
}

/// Plays one part; what keeps it from its end is a failed expectation.
fn show(part: Part, options: &Options, teller: &mut Teller) -> io::Result<PartReport> {
    let began = Instant::now();
    let (figures, expectations) = match part.play(options, teller) {
        Ok((figures, expectations)) => (Some(figures), expectations),
        Err(Trouble::Output(error)) => return Err(error),
        Err(trouble) => {
            let ends = Expectation::new("the part runs to its end", false, trouble);
            (None, vec![ends])
        }
    };
    Ok(PartReport::new(
        part,
        began.elapsed(),
        figures,
        expectations,
    ))
}

/// This tour's names that are still there.
fn left_behind() -> Vec<String> {
    let Ok(entries) = fs::read_dir(shm_core::DIRECTORY) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut left: Vec<_> = names
        .filter(|name| name.starts_with(&children::prefix()))
        .collect();
    left.sort_unstable();
    left
}
