//! The list of Python's manager, by a script that runs alone: its figures stand below the table, not in its rounds.

use std::io;

use serde_json::Value;

use super::list::{LIST_GET, LIST_PAIR};
use crate::options::Plan;
use crate::python;
use crate::statistics::median;
use crate::table::thousands;

/// The script; it prints calls per second, or why it cannot.
const SCRIPT: &str = include_str!("list.py");

/// What ours is aimed to be against the manager's.
const LEAST: f64 = 200.0;

/// A line for each call, absent ones named. An append is set against a push with the pop that follows it.
pub(super) fn lines(plan: &Plan, rows: &[Value]) -> io::Result<Vec<String>> {
    let lines = [("get", LIST_GET), ("append", LIST_PAIR)];
    Ok(lines.map(|(call, row)| line(call, row, plan, rows)).into())
}

fn line(call: &str, row: &str, plan: &Plan, rows: &[Value]) -> String {
    let runs = (0..plan.rounds.min(5)).map(|_| python::speed(SCRIPT, &[call], plan));
    let speeds: Result<Vec<f64>, String> = runs.collect();
    let speed = match speeds {
        Ok(speeds) => median(&speeds),
        Err(why) => return format!("absent: Python Manager().list {call}: {why}"),
    };
    let ours = rows.iter().find(|other| other["variant"] == row);
    let ours = ours.and_then(|row| row["ns_per_op"].as_f64());
    let ratio = 1e9 / ours.unwrap_or(f64::NAN) / speed;
    let verdict = if ratio >= LEAST { "met" } else { "MISSED" };
    format!(
        "Python Manager().list {call}, 64 B: {} per s; target: {row}: speed at least {LEAST} of it: {ratio:.0}, {verdict}",
        thousands(speed as u64),
    )
}
