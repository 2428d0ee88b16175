//! Names all entries, and sees that all memory is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shm_core::{Place, Region};
use shm_dict::Recovery;
use shm_dict::raw::{class_of, record_bytes};

use super::victims::next_value;
use super::{
    CHUNK_SHIFT, HEAP, KEYS, MORE, OF_MORE, Values, label, number_of, open, small_dict, value,
};

type Entries = BTreeMap<u64, u8>;

/// Names all entries, and sees that readers had them before the repair, and that no memory is lost.
pub(super) fn check(name: &str, acted: Option<&str>) -> String {
    let before = match Values::open_read_only(name) {
        Ok(reader) => entries(&reader),
        Err(shm_core::Error::NotFound { .. }) => return "absent".to_owned(),
        Err(other) => panic!("{other}"),
    };
    let dict = open(name);
    let (repaired, told) = count_recoveries(true);
    dict.on_recovery(told);
    assert_eq!(dict.len(), Ok(before.len()));
    assert_eq!(entries(&dict), before, "a repair has changed it");
    assert_eq!(items(&dict), before);
    let repaired = repaired.load(Ordering::Relaxed) > 0;
    all_memory_is_known(&dict, &before, repaired);
    use_again(name, &dict, &before);
    all_memory_is_usable(&dict);
    dict.unlink().expect("it is there");
    label(acted, &describe(&before))
}

/// All entries, by key and by going through them.
pub(super) fn entries(dict: &Values) -> Entries {
    let number = |key| {
        let value = dict.get(&key).expect("nothing is wrong");
        value.map(|value| (key, number_of(&value)))
    };
    KEYS.filter_map(number).collect()
}

fn items(dict: &Values) -> Entries {
    let items = dict.items().map(|item| item.expect("nothing is wrong"));
    items.map(|(key, value)| (key, number_of(&value))).collect()
}

pub(super) fn describe(entries: &Entries) -> String {
    let few = entries
        .range(..MORE)
        .map(|(key, number)| format!("{key}={number}"));
    let few = few.collect::<Vec<_>>().join(" ");
    let more = entries.range(MORE..).count() as u64;
    for key in MORE..MORE + more {
        assert_eq!(entries.get(&key), Some(&OF_MORE), "{key}, {entries:?}");
    }
    match (few.is_empty(), more) {
        (true, 0) => "nothing".to_owned(),
        (false, 0) => few,
        (true, more) => format!("{more} more"),
        (false, more) => format!("{few}, {more} more"),
    }
}

/// How often a repair was reported, and what is to be told of each. Who died is known, unless a dead one was told, and
/// had given the lock back to take it among others.
pub(crate) fn count_recoveries(
    is_known: bool,
) -> (Arc<AtomicUsize>, impl Fn(&Recovery) + Send + Sync) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let told = move |recovery: &Recovery| {
        assert!(recovery.dead.is_some() || !is_known, "{recovery:?}");
        counted.fetch_add(1, Ordering::Relaxed);
    };
    (count, told)
}

/// Each block is an entry's, a table's, or free; and behind a repair no chunk is held for nothing.
fn all_memory_is_known(dict: &Values, entries: &Entries, repaired: bool) {
    let stats = dict.check().expect("no block is lost or used twice");
    let payload = entries
        .values()
        .map(|&number| 8 + value(number).len() as u64);
    assert_eq!(stats.entries, entries.len() as u64);
    assert_eq!(stats.payload, payload.sum::<u64>());
    assert_eq!(stats.used_bytes + stats.free_bytes, HEAP);
    let shards = dict.inspect().shards;
    if repaired && shards.len() == 1 && entries.len() <= 12 {
        let table = 8 * shards[0].places as usize;
        let held = chunks_for(entries, table) << CHUNK_SHIFT;
        assert_eq!(stats.used_bytes, held, "{entries:?}");
    }
}

/// The chunks that a table and a few entries lie in.
fn chunks_for(entries: &Entries, table: usize) -> u64 {
    let records = entries
        .values()
        .map(|&number| record_bytes(8, value(number).len()));
    chunks_of(records.chain((table > 0).then_some(table)))
}

/// The chunks that a few blocks of so many bytes lie in: one for each size, and runs.
pub(crate) fn chunks_of(blocks: impl IntoIterator<Item = usize>) -> u64 {
    let (mut classes, mut runs) = (BTreeSet::new(), 0);
    for bytes in blocks {
        match class_of(bytes, CHUNK_SHIFT) {
            Some(class) => {
                classes.insert(class);
            }
            None => runs += bytes.div_ceil(1 << CHUNK_SHIFT) as u64,
        }
    }
    classes.len() as u64 + runs
}

/// Every operation works, and in the end everything is as it was.
fn use_again(name: &str, dict: &Values, before: &Entries) {
    match dict.set(&50, &value(10)) {
        Ok(()) => {
            assert_eq!(dict.modify(&50, next_value), Ok(Some(value(11))));
            assert_eq!(dict.get(&50), Ok(Some(value(11))));
            let reader = Values::open_read_only(name).expect("the dictionary");
            assert_eq!(reader.get(&50), Ok(Some(value(11))));
            assert_eq!(dict.pop(&50), Ok(Some(value(11))));
        }
        Err(error) => assert!(error.is_full() && before.len() > 100, "{error}"),
    }
    dict.check().expect("no block is lost or used twice");
    assert_eq!(entries(dict), *before);
    let reader = Values::open_read_only(name).expect("the dictionary");
    assert_eq!(items(&reader), *before);
}

/// Emptied, it has room for as much as a new one.
fn all_memory_is_usable(dict: &Values) {
    dict.clear().expect("nothing stands in the way");
    let stats = dict.check().expect("no block is lost or used twice");
    assert_eq!((stats.entries, stats.used_bytes), (0, 0), "{stats:?}");
    let shards = dict.inspect().shards.len() as u32;
    let place = Place::region(Region::heap(2 * HEAP as usize));
    let fresh = Values::create(place, small_dict(shards)).expect("a new dictionary");
    let large = |dict: &Values| {
        let all = |key: &u64| dict.set(key, &value(30)).is_ok();
        (0..100).take_while(all).count()
    };
    // One chunk is the table's, another that of shorter ones before it.
    let (room, expected) = (large(dict), large(&fresh));
    assert_eq!((room, expected), (7, 7), "of two chunks each");
    dict.check().expect("no block is lost or used twice");
}
