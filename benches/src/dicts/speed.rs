//! One way of use in each section: get, insert, replace, mixed, update; by one process and by two.

use super::in_process::Std;
use super::map::{KEYS, entries};
use super::peers::{Access, Insert, Update};
use super::shm::{New, Numbers, Shm};
use super::{absent, python};
use crate::section::{After, Bound, Section, Target};
use crate::workload::{Act, Workload};

const SHM: &str = "shm Dict";
const CLEARED: &str = "shm Dict, after clear";
const STD: &str = "std HashMap under a Mutex (threads)";
const STD_NEW: &str = "std HashMap under a Mutex (threads), memory new";
const DASHMAP: &str = "dashmap (threads)";
#[cfg(feature = "rivals")]
const PAPAYA: &str = "papaya (threads)";
const LMDB: &str = "LMDB, no sync";

pub(super) fn sections() -> Vec<Section> {
    let mut sections = of::<1>([
        ["get_64", "Get, 64 B"],
        ["get_1k", "Get, 1 KiB"],
        ["insert_64", "Insert new keys, 64 B"],
        ["insert_1k", "Insert new keys, 1 KiB"],
        ["replace_64", "Replace values, 64 B"],
        ["replace_1k", "Replace values, 1 KiB"],
        ["mixed_64", "95 gets to 5 replacements, 64 B"],
        ["mixed_1k", "95 gets to 5 replacements, 1 KiB"],
        ["update", "Add one to a number"],
    ]);
    sections.extend(of::<2>([
        ["two_get_64", "Two at once: get, 64 B"],
        ["two_get_1k", "Two at once: get, 1 KiB"],
        ["two_insert_64", "Two at once: insert new keys, 64 B"],
        ["two_insert_1k", "Two at once: insert new keys, 1 KiB"],
        ["two_replace_64", "Two at once: replace values, 64 B"],
        ["two_replace_1k", "Two at once: replace values, 1 KiB"],
        [
            "two_mixed_64",
            "Two at once: 95 gets to 5 replacements, 64 B",
        ],
        [
            "two_mixed_1k",
            "Two at once: 95 gets to 5 replacements, 1 KiB",
        ],
        ["two_update", "Two at once: add one to a number"],
    ]));
    sections
}

/// The sections of so many peers, in the order of their names.
fn of<const SEATS: usize>(names: [[&'static str; 2]; 9]) -> Vec<Section> {
    let rows = [
        access::<64, 0>(SEATS),
        access::<1024, 0>(SEATS),
        inserts::<64, SEATS>(),
        inserts::<1024, SEATS>(),
        access::<64, 100>(SEATS),
        access::<1024, 100>(SEATS),
        access::<64, 5>(SEATS),
        access::<1024, 5>(SEATS),
        updates::<SEATS, KEYS>(),
    ];
    let sections = names.into_iter().zip(rows);
    let sections = sections.map(|([key, title], rows)| Section {
        key,
        title,
        reference: STD,
        rows,
        targets: targets(key),
        notes: notes(key),
        after: (key == "get_64").then_some(python::lines as After),
    });
    sections.collect()
}

/// Speed at least so many times that of the other.
fn targets(key: &str) -> Vec<Target> {
    let floors: &[(&'static str, &'static str, f64)] = match key {
        "get_64" => &[(SHM, STD, 1.8), (SHM, LMDB, 3.0)],
        "get_1k" => &[(SHM, STD, 0.9)],
        "insert_64" => &[(SHM, STD_NEW, 1.5), (CLEARED, STD, 1.5), (SHM, LMDB, 3.0)],
        "insert_1k" => &[(SHM, STD_NEW, 0.7), (CLEARED, STD, 0.7)],
        "update" => &[(SHM, STD, 1.2), (SHM, LMDB, 6.0)],
        "two_get_64" | "two_mixed_64" => &[(SHM, DASHMAP, 1.3)],
        "two_update" => &[(SHM, DASHMAP, 0.6), (SHM, LMDB, 12.0)],
        _ => &[],
    };
    let target = |&(row, reference, least)| Target {
        row,
        reference,
        bound: Bound::SpeedAtLeast(least),
    };
    floors.iter().map(target).collect()
}

fn notes(key: &str) -> Vec<String> {
    let mut notes = vec![format!(
        "{KEYS} keys of 16 bytes, bytes to bytes; a value that was got is copied into a buffer that is used again. Threads are those of one process."
    )];
    if key.contains("insert") {
        notes.push("`shm Dict` and `memory new` touch each page for the first time; the others use what they or their allocator have from the round before.".into());
    }
    notes.extend(absent());
    notes
}

/// The same act with each mapping that is not ours.
macro_rules! rivals {
    ($seats:expr, $act:ident::<_, $($parameter:tt),*>) => {
        [
            threads::<$act<Std<false>, $($parameter),*>>(STD, $seats),
            #[cfg(feature = "rivals")]
            threads::<$act<super::in_process::Dash, $($parameter),*>>(DASHMAP, $seats),
            #[cfg(feature = "rivals")]
            threads::<$act<super::in_process::Papaya, $($parameter),*>>(PAPAYA, $seats),
            #[cfg(feature = "rivals")]
            processes::<$act<super::lmdb::Lmdb, $($parameter),*>>(LMDB, $seats),
        ]
    };
}

fn processes<A: Act>(name: &'static str, seats: usize) -> Workload {
    Workload::new::<A>(name, seats)
}

fn threads<A: Act>(name: &'static str, seats: usize) -> Workload {
    Workload::new::<A>(name, seats).in_threads()
}

fn access<const SIZE: usize, const WRITES: u64>(seats: usize) -> Vec<Workload> {
    let mut rows = vec![processes::<Access<Shm, SIZE, WRITES>>(SHM, seats)];
    rows.extend(rivals!(seats, Access::<_, SIZE, WRITES>));
    rows
}

fn inserts<const SIZE: usize, const SEATS: usize>() -> Vec<Workload> {
    let mut rows = vec![
        processes::<Insert<New, SIZE, SEATS, KEYS>>(SHM, SEATS),
        processes::<Insert<Shm, SIZE, SEATS, KEYS>>(CLEARED, SEATS),
    ];
    rows.extend(rivals!(SEATS, Insert::<_, SIZE, SEATS, KEYS>));
    rows.push(threads::<Insert<Std<true>, SIZE, SEATS, KEYS>>(
        STD_NEW, SEATS,
    ));
    rows
}

fn updates<const SEATS: usize, const COUNT: u64>() -> Vec<Workload> {
    let mut rows = vec![processes::<Update<Numbers, SEATS, COUNT>>(SHM, SEATS)];
    rows.extend(rivals!(SEATS, Update::<_, SEATS, COUNT>));
    rows
}

/// What no cache holds.
const MANY: u64 = entries(1_000_000);

/// As `update`, of mappings that no cache holds.
pub(super) fn update_many() -> Section {
    let mut notes = vec![format!(
        "{MANY} keys of 16 bytes. Threads are those of one process."
    )];
    notes.extend(absent());
    Section {
        key: "update_1m",
        title: "Add one to a number, of a million",
        reference: STD,
        rows: updates::<1, MANY>(),
        targets: targets("update"),
        notes,
        after: None,
    }
}
