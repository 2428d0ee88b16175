//! Four processes, 50 us in the critical section, the lock asked for again at once: who gets it, and who waits how long.

use std::io;

use serde_json::json;

use super::{Report, number, rotated};
use crate::control::Task;
use crate::crew::{Crew, STRENGTH, Slice};
use crate::options::{Part, Plan};
use crate::statistics::{jain, largest, median};
use crate::table::{Table, figure};
use crate::variants::{ALL, BOOST, Peers, RAW_SYNC, absent, without_code};

/// Measures and reports.
///
/// # Errors
///
/// What the system says, or a peer that ended.
pub fn measure(crew: &mut Crew, plan: &Plan) -> io::Result<Report> {
    let variants: Vec<usize> = (0..ALL.len())
        .filter(|&at| ALL[at].lock && ALL[at].peers == Peers::Processes)
        .collect();
    let mut found: Vec<Vec<Slice>> = vec![Vec::new(); variants.len()];
    for round in 0..plan.rounds {
        for at in rotated(variants.len(), round) {
            found[at].push(crew.slice(variants[at], STRENGTH, Task::Hold, plan.long_slice)?);
        }
    }

    let columns = [
        "variant",
        "us per op",
        "Jain",
        "longest wait, ms: median",
        "worst",
    ];
    let mut table = Table::new(
        "Fairness: 4 processes, 50 us in the critical section, locked again at once",
        &columns,
    );
    let mut rows = Vec::new();
    for (&variant, slices) in variants.iter().zip(&found) {
        let of = |measure: fn(&Slice) -> f64| slices.iter().map(measure).collect::<Vec<_>>();
        let time = median(&of(|slice| slice.nanoseconds() / 1e3));
        let fair = median(&of(|slice| jain(&slice.operations)));
        let waits = of(|slice| slice.longest_wait as f64 / 1e6);
        let name = ALL[variant].name;
        table.row(vec![
            name.to_owned(),
            figure(time, 1),
            figure(fair, 2),
            figure(median(&waits), 1),
            figure(largest(&waits), 1),
        ]);
        rows.push(json!({
            "variant": name,
            "us_per_op": number(time),
            "jain": number(fair),
            "longest_wait_ms": { "median": number(median(&waits)), "worst": number(largest(&waits)) },
        }));
    }
    table.note(format!(
        "Medians over {} interleaved slices of {} ms; longest wait: of all peers in a slice; Jain: 1 is fair.",
        plan.rounds,
        plan.long_slice.as_millis()
    ));
    for line in absent(&[RAW_SYNC])
        .into_iter()
        .chain(without_code(&[BOOST]))
    {
        table.note(line);
    }
    Ok(Report {
        part: Part::Fairness,
        table,
        rows,
        failures: Vec::new(),
    })
}
