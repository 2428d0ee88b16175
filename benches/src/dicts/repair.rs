//! A writer is killed with a shard's lock: how long the next one repairs.

use std::convert::Infallible;
use std::{io, thread};

use shm_core::Place;
use shm_dict::{Bytes, Dict, Options};

use super::map::{entries, key};
use crate::clock::now;
use crate::options::Plan;
use crate::process::{Peer, Role};
use crate::statistics::{largest, median};
use crate::table::thousands;

type ByteDict = Dict<Vec<u8>, Vec<u8>, Bytes>;

/// Nanoseconds until a writer has the lock.
const PATIENCE: u64 = 20_000_000_000;

/// A line for each number of entries in the shard.
pub(super) fn lines(plan: &Plan) -> io::Result<Vec<String>> {
    let counts = [10_000, 100_000].map(entries);
    counts.into_iter().map(|count| line(count, plan)).collect()
}

fn line(count: u64, plan: &Plan) -> io::Result<String> {
    let name = format!("shm-bench.{}.repair", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let dict = ByteDict::create(place, Options::new().shards(1)).map_err(io::Error::other)?;
    for number in 0..count {
        dict.set(&key(number)[..], &vec![7; 64])
            .map_err(io::Error::other)?;
    }
    let deaths = plan.rounds.max(3);
    let times = (0..deaths)
        .map(|_| death(&dict, &name))
        .collect::<io::Result<Vec<f64>>>()?;
    let all = median(&times) / 1e3;
    Ok(format!(
        "repair of a shard of {} entries after a SIGKILL: {all:.0} us, {:.0} us for each 10,000 (median of {deaths}; longest {:.0} us)",
        thousands(count),
        all * 1e4 / count as f64,
        largest(&times) / 1e3,
    ))
}

/// Nanoseconds of a repair.
fn death(dict: &ByteDict, name: &str) -> io::Result<f64> {
    let mut writer = Peer::start(&Role::DictWriter {
        parent: std::process::id(),
        dict: name.to_owned(),
    })?;
    let deadline = now() + PATIENCE;
    while dict.inspect().shards[0].owner.is_none() {
        writer.still_runs()?;
        if now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(std::time::Duration::from_micros(100));
    }
    writer.kill()?;
    writer.wait()?;
    let before = dict.inspect().shards[0].recoveries;
    let began = now();
    dict.repair().map_err(io::Error::other)?;
    let ended = now();
    match dict.inspect().shards[0].recoveries - before {
        1 => Ok((ended - began) as f64),
        recoveries => Err(io::Error::other(format!(
            "{recoveries} repairs after a death"
        ))),
    }
}

/// The writer's side: holds the lock of a key's shard until it is killed.
///
/// # Errors
///
/// What the dictionary says.
pub fn hold_for_ever(name: &str) -> io::Result<()> {
    let dict = ByteDict::open(name).map_err(io::Error::other)?;
    let held = dict.with(&key(0)[..], |_| -> Infallible {
        loop {
            thread::park();
        }
    });
    match held.map_err(io::Error::other)? {
        Some(never) => match never {},
        None => Err(io::ErrorKind::NotFound.into()),
    }
}
