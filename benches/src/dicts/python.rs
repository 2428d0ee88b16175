//! Dictionaries of Python, by a script that runs alone: their figures stand below the table, not in its rounds.

use std::io;

use serde_json::Value;

use crate::options::Plan;
use crate::python;
use crate::statistics::median;
use crate::table::thousands;

/// The script; it prints gets per second, or why it cannot.
const SCRIPT: &str = include_str!("dict.py");

/// What ours is aimed to be against the manager's.
const LEAST: f64 = 200.0;

/// A line for each dictionary of Python, absent ones named; ours is the first row.
pub(super) fn lines(plan: &Plan, rows: &[Value]) -> io::Result<Vec<String>> {
    let ours = rows.first().and_then(|row| row["ns_per_op"].as_f64());
    let ours = 1e9 / ours.unwrap_or(f64::NAN);
    let mut lines = Vec::new();
    for dict in ["multiprocessing.Manager", "UltraDict.UltraDict"] {
        lines.push(match speed(dict, plan) {
            Ok(speed) => {
                let ratio = ours / speed;
                let verdict = if ratio >= LEAST { "met" } else { "MISSED" };
                format!(
                    "Python {dict}, 64 B: {} gets per s; target: shm Dict: speed at least {LEAST} of it: {ratio:.0}, {verdict}",
                    thousands(speed as u64),
                )
            }
            Err(why) => format!("absent: Python {dict}: {why}"),
        });
    }
    Ok(lines)
}

fn speed(dict: &str, plan: &Plan) -> Result<f64, String> {
    let runs = (0..plan.rounds.min(5)).map(|_| python::speed(SCRIPT, &[dict], plan));
    runs.collect::<Result<Vec<_>, _>>()
        .map(|speeds| median(&speeds))
}
