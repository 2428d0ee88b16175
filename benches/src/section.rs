//! One table: its rows take turns, each figure is compared within its round, and its targets are looked at.

use std::fmt;
use std::io;

use serde_json::{Value, json};

use crate::calls::Calls;
use crate::company::{Company, Slice};
use crate::options::Plan;
use crate::part::{number, rotated};
use crate::statistics::{largest, median, quotients};
use crate::suite::Suite;
use crate::table::{Table, figure, thousands};
use crate::workload::Workload;

/// What is aimed at. No figure is asserted: a missed target is printed, no more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The time of an operation is at most so many times that of the reference.
    TimeAtMost(f64),
    /// As many operations in the same time as the reference, at least so many times.
    SpeedAtLeast(f64),
    /// The median of timed operations is at most so many times that of the reference.
    MedianAtMost(f64),
    /// The speed of its slowest round is at least this part of its median speed; the reference is the row itself.
    SlowestAtLeast(f64),
}

/// A bound for one row against another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Name of the row.
    pub row: &'static str,
    /// Name of the row that it is compared with.
    pub reference: &'static str,
    /// What is aimed at.
    pub bound: Bound,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name on the command line.
    pub key: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// The row that all others are set against, if this build has it.
    pub reference: &'static str,
    /// The rows.
    pub rows: Vec<Workload>,
    /// What is aimed at.
    pub targets: Vec<Target>,
    /// Lines below the table: what is compared, who is absent.
    pub notes: Vec<String>,
    /// Further lines, of what is measured apart when the rounds are over; it sees the rows of [`Outcome`].
    pub after: Option<After>,
}

/// Measures apart.
pub type After = fn(&Plan, &[Value]) -> io::Result<Vec<String>>;

/// What one row did, round by round.
type Series = Vec<Slice>;

/// The most slices in which the system calls of a row are counted.
const COUNTED: usize = 5;

/// System calls for an operation of each row, NaN where they were not counted.
type PerOperation = Vec<f64>;

/// What a section found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// For people.
    pub table: Table,
    /// For programs, a row for each workload.
    pub rows: Vec<Value>,
    /// What was wrong. Never a matter of time.
    pub failures: Vec<String>,
}

impl Section {
    fn place(&self, name: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.name == name)
    }
}

/// Measures a section.
///
/// # Errors
///
/// What the system or a library says, or a peer that ended.
pub fn measure(run: &str, suite: Suite, section: Section, plan: &Plan) -> io::Result<Outcome> {
    let mut company = Company::start(run, suite, section)?;
    let rows = company.section().rows.len();
    let mut found: Vec<Series> = vec![Vec::new(); rows];
    // The first round warms pages, branch predictors and the peers' own tables up; it does not count.
    for round in 0..=plan.rounds {
        for row in rotated(rows, round) {
            let slice = company.slice(row, plan.slice)?;
            if round > 0 {
                found[row].push(slice);
            }
        }
    }
    // Apart from the rounds, since counting slows the calls.
    let mut counted: Vec<Series> = vec![Vec::new(); rows];
    for round in 0..plan.rounds.min(COUNTED) {
        for row in rotated(rows, round) {
            counted[row].push(company.slice_with_calls(row, plan.slice)?);
        }
    }
    let calls = counted.iter().map(calls_per_operation).collect();
    let mut outcome = report(company.section(), &found, &calls);
    if let Err(error) = Calls::begin() {
        outcome.table.note(format!("calls: not counted: {error}"));
    }
    let after = company.section().after;
    drop(company);
    if let Some(after) = after {
        for line in after(plan, &outcome.rows)? {
            outcome.table.note(line);
        }
    }
    Ok(outcome)
}

fn calls_per_operation(series: &Series) -> f64 {
    let operations: u64 = series.iter().map(|slice| slice.done.operations).sum();
    let calls: Option<u64> = series.iter().map(|slice| slice.calls).sum();
    calls.map_or(f64::NAN, |calls| calls as f64 / operations as f64)
}

fn times(series: &Series) -> Vec<f64> {
    series.iter().map(Slice::nanoseconds).collect()
}

/// The speed of the slowest round over the median speed.
fn slowest(times: &[f64]) -> f64 {
    median(times) / largest(times)
}

fn medians(series: &Series) -> Vec<f64> {
    let timed = |slice: &Slice| match slice.done.median {
        0 => f64::NAN,
        median => median as f64,
    };
    series.iter().map(timed).collect()
}

fn report(section: &Section, found: &[Series], calls: &PerOperation) -> Outcome {
    let reference = section.place(section.reference);
    let against = format!("x {}", section.reference);
    let columns = [
        "variant",
        "ns per op",
        "ops per s",
        against.as_str(),
        "slowest round",
        "p50, us",
        "p99, us",
        "sleeps per 1000",
        "calls per op",
    ];
    let mut table = Table::new(section.title, &columns);
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for ((row, series), &calls) in section.rows.iter().zip(found).zip(calls) {
        let time = median(&times(series));
        let ratio = reference.map_or(f64::NAN, |reference| {
            median(&quotients(&times(series), &times(&found[reference])))
        });
        let slowest = slowest(&times(series));
        let p50 = median(&medians(series)) / 1e3;
        let tails: Vec<f64> = series.iter().map(|slice| slice.done.tail as f64).collect();
        let p99 = if p50.is_nan() {
            f64::NAN
        } else {
            median(&tails) / 1e3
        };
        let operations: u64 = series.iter().map(|slice| slice.done.operations).sum();
        let sleeps: u64 = series.iter().map(|slice| slice.sleeps).sum();
        let sleeps = 1e3 * sleeps as f64 / operations as f64;
        table.row(vec![
            row.name.to_owned(),
            figure(time, 1),
            thousands((1e9 / time) as u64),
            figure(ratio, 2),
            figure(slowest, 2),
            figure(p50, 2),
            figure(p99, 2),
            figure(sleeps, 1),
            figure(calls, 3),
        ]);
        rows.push(json!({
            "variant": row.name,
            "ns_per_op": number(time),
            "to_reference": number(ratio),
            "slowest_round": number(slowest),
            "p50_us": number(p50),
            "p99_us": number(p99),
            "sleeps_per_1000": number(sleeps),
            "calls_per_op": number(calls),
        }));
        failures.extend(failure(row, series));
    }
    table.note("ns per op: wall time over the operations of all peers; x: median of the ratios of times within each round;");
    table.note(
        "slowest round: its speed over the median speed; sleeps: voluntary context switches;",
    );
    table.note("calls: system calls of all peers over all operations, as the kernel counts them (raw_syscalls:sys_enter), in slices apart from the rounds.");
    for target in &section.targets {
        table.note(judge(section, found, target));
    }
    for note in &section.notes {
        table.note(note);
    }
    Outcome {
        table,
        rows,
        failures,
    }
}

/// A line that says whether a target was met.
fn judge(section: &Section, found: &[Series], target: &Target) -> String {
    let Target {
        row,
        reference,
        bound,
    } = *target;
    let (Some(this), Some(that)) = (section.place(row), section.place(reference)) else {
        return format!(
            "target: {row}: {bound} {reference}: not compared, this build lacks one of them"
        );
    };
    let of = |values: fn(&Series) -> Vec<f64>| {
        median(&quotients(&values(&found[this]), &values(&found[that])))
    };
    let (ratio, met) = match bound {
        Bound::TimeAtMost(most) => (of(times), of(times) <= most),
        Bound::SpeedAtLeast(least) => (1.0 / of(times), 1.0 / of(times) >= least),
        Bound::MedianAtMost(most) => (of(medians), of(medians) <= most),
        Bound::SlowestAtLeast(least) => {
            let slowest = slowest(&times(&found[this]));
            (slowest, slowest >= least)
        }
    };
    let verdict = if met { "met" } else { "MISSED" };
    format!("target: {row}: {bound} {reference}: {ratio:.2}, {verdict}")
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeAtMost(most) => write!(f, "time at most {most:.1} of"),
            Self::SpeedAtLeast(least) => write!(f, "speed at least {least:.1} of"),
            Self::MedianAtMost(most) => write!(f, "p50 at most {most:.1} of"),
            Self::SlowestAtLeast(least) => {
                write!(f, "slowest round at least {least:.1} of the median of")
            }
        }
    }
}

fn failure(row: &Workload, series: &Series) -> Option<String> {
    let faults: u64 = series.iter().map(|slice| slice.done.faults).sum();
    let unbalanced = series
        .iter()
        .filter(|slice| slice.done.balance != 0)
        .count();
    (faults > 0 || unbalanced > 0).then(|| {
        format!(
            "{}: {faults} faults seen, {unbalanced} rounds in which not all came out that went in",
            row.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Bound, Section, Series, Slice, Target, calls_per_operation, report};
    use crate::suite::Suite;
    use crate::workload::Done;

    /// The first rows of a section, the row `at` with `at + 1` nanoseconds for an operation.
    fn found() -> (Section, Vec<Series>) {
        let mut section = Suite::LockFamily.section("semaphore").unwrap();
        section.targets.clear();
        let slice = |at| Slice {
            wall: 1000 * (at as u64 + 1),
            done: Done {
                operations: 1000,
                ..Done::default()
            },
            ..Slice::default()
        };
        let found = (0..section.rows.len())
            .map(|at| vec![slice(at); 3])
            .collect();
        (section, found)
    }

    fn verdict(bound: Bound) -> String {
        let (mut section, found) = found();
        let (row, reference) = (section.rows[1].name, section.rows[0].name);
        section.targets.push(Target {
            row,
            reference,
            bound,
        });
        report(&section, &found, &vec![0.0; found.len()])
            .table
            .to_string()
    }

    #[test]
    fn targets_are_met_or_missed() {
        assert!(verdict(Bound::TimeAtMost(2.0)).contains(": 2.00, met"));
        assert!(verdict(Bound::TimeAtMost(1.9)).contains(": 2.00, MISSED"));
        assert!(verdict(Bound::SpeedAtLeast(0.5)).contains(": 0.50, met"));
        assert!(verdict(Bound::SpeedAtLeast(0.6)).contains(": 0.50, MISSED"));
        // Nobody timed single operations.
        assert!(verdict(Bound::MedianAtMost(9.0)).contains("MISSED"));
    }

    #[test]
    fn calls_are_those_of_all_peers_or_unknown() {
        let slice = |calls| Slice {
            done: Done {
                operations: 1000,
                ..Done::default()
            },
            calls,
            ..Slice::default()
        };
        let calls = [Some(400), Some(600), None].map(slice);
        assert_eq!(calls_per_operation(&calls[..2].to_vec()), 0.5);
        assert!(calls_per_operation(&calls.to_vec()).is_nan());
    }

    #[test]
    fn what_is_lost_or_seen_wrong_is_a_failure() {
        let (section, mut found) = found();
        assert!(
            report(&section, &found, &vec![0.0; found.len()])
                .failures
                .is_empty()
        );
        found[0][1].done.balance = -1;
        found[1][2].done.faults = 2;
        let failures = report(&section, &found, &vec![0.0; found.len()]).failures;
        assert_eq!(failures.len(), 2);
        assert!(failures[1].contains("2 faults"), "{failures:?}");
    }
}
