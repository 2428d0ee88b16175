//! What an insert costs and how much memory an entry takes, in small mappings and in large ones.

use std::io;

use shm_core::Place;
use shm_dict::{Bytes, Dict, Options};

use super::in_process::Std;
use super::map::{KEYS, entries, key};
use super::peers::Insert;
use super::repair;
use super::shm::New;
use crate::section::Section;
use crate::table::thousands;
use crate::workload::Workload;

const SMALL: u64 = 1000;
const MIDDLE: u64 = KEYS;
const LARGE: u64 = entries(1_000_000);
const HUGE: u64 = entries(10_000_000);

/// Bytes of a value.
const SIZE: usize = 64;

const REFERENCE: &str = "std HashMap under a Mutex (threads), 100,000";

pub(super) fn section() -> Section {
    Section {
        key: "growth",
        title: "Insert new keys until there are so many, 64 B; memory; repair",
        reference: REFERENCE,
        rows: vec![
            Workload::new::<Insert<New, SIZE, 1, SMALL>>("shm Dict, 1,000", 1),
            Workload::new::<Insert<New, SIZE, 1, MIDDLE>>("shm Dict, 100,000", 1),
            Workload::new::<Insert<New, SIZE, 1, LARGE>>("shm Dict, 1,000,000", 1),
            threads::<SMALL>("std HashMap under a Mutex (threads), 1,000"),
            threads::<MIDDLE>(REFERENCE),
            threads::<LARGE>("std HashMap under a Mutex (threads), 1,000,000"),
        ],
        targets: Vec::new(),
        notes: notes(),
        after: Some(|plan, _| {
            let mut lines = memory(&[SMALL, MIDDLE, LARGE])?;
            lines.extend(repair::lines(plan)?);
            Ok(lines)
        }),
    }
}

pub(super) fn ten_million() -> Section {
    let reference = "std HashMap under a Mutex (threads), 10,000,000";
    Section {
        key: "growth_10m",
        title: "Insert new keys until there are ten million, 64 B; memory",
        reference,
        rows: vec![
            Workload::new::<Insert<New<4>, SIZE, 1, HUGE>>("shm Dict, 10,000,000", 1),
            threads::<HUGE>(reference),
        ],
        targets: Vec::new(),
        notes: notes(),
        after: Some(|_, _| memory(&[HUGE])),
    }
}

fn threads<const COUNT: u64>(name: &'static str) -> Workload {
    Workload::new::<Insert<Std<true>, SIZE, 1, COUNT>>(name, 1).in_threads()
}

fn notes() -> Vec<String> {
    vec!["Each time in a new mapping, whose pages nobody has touched.".to_owned()]
}

/// A line for each number of entries.
fn memory(counts: &[u64]) -> io::Result<Vec<String>> {
    counts.iter().map(|&count| memory_of(count)).collect()
}

fn memory_of(count: u64) -> io::Result<String> {
    let name = format!("shm-bench.{}.memory", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let options = match count {
        HUGE.. => Options::new().max_bytes(4 << 30),
        _ => Options::new(),
    };
    let dict = Dict::<Vec<u8>, Vec<u8>, Bytes>::create(place, options).map_err(io::Error::other)?;
    let value = vec![7; SIZE];
    for number in 0..count {
        dict.set(&key(number)[..], &value)
            .map_err(io::Error::other)?;
    }
    let stats = dict.stats().map_err(io::Error::other)?;
    let beside = (stats.used_bytes - stats.payload) as f64 / stats.entries as f64;
    Ok(format!(
        "memory with {} entries: {beside:.0} bytes for each beside the {} of its key and value",
        thousands(stats.entries),
        stats.payload / stats.entries,
    ))
}
