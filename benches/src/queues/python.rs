//! Queues of Python, by a script that runs alone: their figures stand below the table, not in its rounds.

use crate::options::Plan;
use crate::python;
use crate::statistics::{largest, median};
use crate::table::thousands;

/// The script; it prints messages per second, or why it cannot.
const SCRIPT: &str = include_str!("queue.py");

/// A line for each queue of Python, absent ones named.
pub(super) fn lines(size: usize, side: usize, plan: &Plan) -> Vec<String> {
    ["multiprocessing.Queue", "faster_fifo.Queue"]
        .into_iter()
        .map(|queue| line(queue, size, side, plan))
        .collect()
}

fn line(queue: &str, size: usize, side: usize, plan: &Plan) -> String {
    let (bytes, peers) = (size.to_string(), side.to_string());
    let mut speeds = Vec::new();
    for _ in 0..plan.rounds.min(5) {
        match python::speed(SCRIPT, &[queue, &bytes, &peers], plan) {
            Ok(speed) => speeds.push(speed),
            Err(why) => return format!("absent: Python {queue}: {why}"),
        }
    }
    let slowest = -largest(&speeds.iter().map(|speed| -speed).collect::<Vec<_>>());
    format!(
        "Python {queue}, {size} B: {} messages per s, slowest of {} runs {}",
        thousands(median(&speeds) as u64),
        speeds.len(),
        thousands(slowest as u64),
    )
}
