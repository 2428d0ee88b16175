//! One counter in shared memory, decremented in a tight loop by one, two and four peers.

use std::io;

use serde_json::json;

use super::{Report, number, rotated};
use crate::control::Task;
use crate::crew::Crew;
use crate::options::{Part, Plan};
use crate::statistics::{jain, median, quotients};
use crate::table::{Align, Table, figures, thousands};
use crate::variants::{
    ALL, ATOMIC, BOOST, Entry, PARKING_LOT, RAW_SYNC, ROBUST, absent, without_code,
};

/// Strengths of the crew.
const PEERS: [usize; 3] = [1, 2, 4];

/// Of one variant at one strength: a figure for each round.
#[derive(Clone, Debug, Default)]
struct Series {
    nanoseconds: Vec<f64>,
    jain: Vec<f64>,
    lost: u64,
    operations: u64,
}

/// Of all variants: `[strength][variant]`.
type Found = [Vec<Series>; PEERS.len()];

/// Measures and reports.
///
/// # Errors
///
/// What the system says, or a peer that ended.
pub fn measure(crew: &mut Crew, plan: &Plan) -> io::Result<Report> {
    let mut found: Found = std::array::from_fn(|_| vec![Series::default(); ALL.len()]);
    // The first round warms pages, branch predictors and the peers' own tables up; it does not count.
    for round in 0..=plan.rounds {
        for (strength, series) in PEERS.into_iter().zip(&mut found) {
            for variant in rotated(ALL.len(), round) {
                let slice = crew.slice(variant, strength, Task::Count, plan.slice)?;
                if round > 0 {
                    let series = &mut series[variant];
                    series.nanoseconds.push(slice.nanoseconds());
                    series.jain.push(jain(&slice.operations));
                    series.lost += slice.lost;
                    series.operations += slice.total();
                }
            }
        }
    }
    Ok(report(&found))
}

fn report(found: &Found) -> Report {
    let columns = [
        "variant",
        "ns per op: 1, 2, 4",
        "x atomic: 1, 2, 4",
        "x robust: 1, 2, 4",
        "lost updates",
        "Jain: 2, 4",
        "killed holder's lock",
    ];
    let mut table = Table::new(
        "One shared counter, decremented by 1, 2 and 4 processes",
        &columns,
    )
    .align(6, Align::Left);
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for (variant, entry) in ALL.iter().enumerate() {
        let at: Vec<&Series> = found.iter().map(|series| &series[variant]).collect();
        let time: Vec<f64> = at
            .iter()
            .map(|series| median(&series.nanoseconds))
            .collect();
        let atomic = ratios(found, variant, ATOMIC);
        let robust = ratios(found, variant, ROBUST);
        let jain: Vec<f64> = at.iter().map(|series| median(&series.jain)).collect();
        let lost: u64 = at.iter().map(|series| series.lost).sum();
        let operations: u64 = at.iter().map(|series| series.operations).sum();
        table.row(vec![
            entry.name.to_owned(),
            figures(&time, 6, 1),
            figures(&atomic, 6, 2),
            figures(&robust, 6, 2),
            lost_of(lost, operations),
            figures(&jain[1..], 4, 2),
            entry.after_kill.to_string(),
        ]);
        let numbers = |values: &[f64]| values.iter().copied().map(number).collect::<Vec<_>>();
        rows.push(json!({
            "variant": entry.name,
            "peers": PEERS,
            "ns_per_op": numbers(&time),
            "to_atomic": numbers(&atomic),
            "to_pthread_robust": numbers(&robust),
            "jain": numbers(&jain),
            "operations": operations,
            "lost_updates": lost,
            "after_kill": entry.after_kill.to_string(),
        }));
        failures.extend(failure(entry, lost));
    }
    table.note("ns per op: wall time over the operations of all peers; x: median of the ratios within each round; Jain: 1 is fair.");
    for line in absent(&[RAW_SYNC, PARKING_LOT])
        .into_iter()
        .chain(without_code(&[BOOST]))
    {
        table.note(line);
    }
    Report {
        part: Part::Lock,
        table,
        rows,
        failures,
    }
}

/// The median over the rounds of this variant's time over that of the reference in the same round, for each strength.
fn ratios(found: &Found, variant: usize, reference: &str) -> Vec<f64> {
    let reference = ALL.iter().position(|entry| entry.name == reference);
    let ratio = |series: &Vec<Series>| {
        reference.map_or(f64::NAN, |reference| {
            median(&quotients(
                &series[variant].nanoseconds,
                &series[reference].nanoseconds,
            ))
        })
    };
    found.iter().map(ratio).collect()
}

fn lost_of(lost: u64, operations: u64) -> String {
    if lost == 0 {
        "0".to_owned()
    } else {
        format!(
            "{} ({:.0} %)",
            thousands(lost),
            100.0 * lost as f64 / operations as f64
        )
    }
}

fn failure(entry: &Entry, lost: u64) -> Option<String> {
    (entry.exact && lost > 0).then(|| format!("{} lost {} updates", entry.name, thousands(lost)))
}

#[cfg(test)]
mod tests {
    use super::{ALL, Found, Series, report};

    /// Variant `at` takes `at + 1` nanoseconds, at each strength and in each of three rounds.
    fn found(lost: u64) -> Found {
        std::array::from_fn(|_| {
            let series = |at| Series {
                nanoseconds: vec![(at + 1) as f64; 3],
                jain: vec![1.0; 3],
                lost,
                operations: 1000,
            };
            (0..ALL.len()).map(series).collect()
        })
    }

    #[test]
    fn ratios_are_taken_to_the_two_references() {
        let report = report(&found(0));
        let place = |name| ALL.iter().position(|entry| entry.name == name).unwrap();
        let (atomic, robust) = (place(super::ATOMIC), place(super::ROBUST));
        let row = &report.rows[robust];
        let ratio = (robust + 1) as f64 / (atomic + 1) as f64;
        assert_eq!(row["to_atomic"][2], super::number(ratio));
        assert_eq!(row["to_pthread_robust"][0], 1.0);
        assert!(report.failures.is_empty());
    }

    #[test]
    fn lost_update_is_a_failure_of_exact_variants_only() {
        let report = report(&found(1));
        assert_eq!(report.failures.len(), ALL.len() - 1);
        assert!(
            !report
                .failures
                .iter()
                .any(|line| line.starts_with("unlocked"))
        );
        assert!(
            report.failures[0].contains("lost 3 updates"),
            "{:?}",
            report.failures
        );
    }

    #[test]
    fn absent_rivals_are_named() {
        let text = report(&found(0)).table.to_string();
        assert_eq!(
            text.contains("absent: parking_lot"),
            cfg!(not(feature = "rivals"))
        );
        assert_eq!(text.contains("| parking_lot"), cfg!(feature = "rivals"));
    }
}
