//! Queues of Python, by a script that runs alone: their figures stand below the table, not in its rounds.

use std::process::Command;

use crate::options::Plan;
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
    let mut speeds = Vec::new();
    for _ in 0..plan.rounds.min(5) {
        match speed(queue, size, side, plan) {
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

fn speed(queue: &str, size: usize, side: usize, plan: &Plan) -> Result<f64, String> {
    // It takes the processes of Python a while to get going.
    let length = plan.slice.as_secs_f64() * 8.0;
    let output = Command::new("python3")
        .args(["-c", SCRIPT, queue])
        .args([size.to_string(), side.to_string(), length.to_string()])
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().parse() {
        Ok(speed) if output.status.success() => Ok(speed),
        _ => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(why.lines().last().unwrap_or("it said nothing").to_owned())
        }
    }
}
