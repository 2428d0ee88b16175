//! What looks without a lock say when writers disturb them all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use shm_core::sync::AtomicU64;
use shm_core::{Place, Region, Segment};
use shm_dict::{Dict, DictError, DictGuard, List, Options, Postcard};
use shm_testing::watchdog;

fn place() -> Place {
    Place::region(Region::heap(1 << 20))
}

fn small() -> Options {
    Options::new().max_bytes(256 << 10).shards(1)
}

/// Ends another thread's loop, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls `look` while the first shard's generation is raised as by a writer that cuts something off without a pause, but
/// for one now and then, until this has come in the way of many of the calls.
fn disturbed(segment: &Segment, look: impl Fn()) {
    // Behind the control block and the lock.
    let generation = segment.view::<AtomicU64>(512 + 64).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..10_000 {
                    generation.fetch_add(1, Ordering::Release);
                }
                thread::yield_now();
            }
        });
        let _ends = Ends(&is_over);
        let mut calls = 0;
        while calls < 30 {
            let before = generation.load(Ordering::Acquire);
            look();
            calls += u64::from(generation.load(Ordering::Acquire) - before > 100);
        }
    });
}

#[test]
fn an_inspection_counts_the_elements_of_a_list_that_is_changed_all_the_time() {
    let _watchdog = watchdog();
    let list = List::<u32>::create(place(), small()).unwrap();
    list.extend(0..3).unwrap();
    disturbed(list.segment(), || {
        let seen = list.inspect();
        assert_eq!((seen.entries, seen.shards[0].entries), (3, 3));
    });
}

/// As many locks as a thread may hold.
fn locks(dicts: &[Dict<u32, u32>]) -> Vec<DictGuard<'_, u32, u32, Postcard>> {
    let mut held = Vec::new();
    for dict in dicts {
        match dict.lock() {
            Ok(all) => held.push(all),
            Err(error) => assert_eq!(error, DictError::TooManyLocks),
        }
    }
    held
}

#[test]
fn a_look_up_needs_no_lock_of_a_thread_that_has_too_many() {
    let _watchdog = watchdog();
    let sizes = [256; 8].into_iter().chain((0..8).rev().map(|log| 1 << log));
    let of_size = |shards| Dict::create(place(), Options::new().max_bytes(64 << 10).shards(shards));
    let dicts: Vec<_> = sizes.map(|shards| of_size(shards).unwrap()).collect();
    let dict = Dict::<u32, u32>::create(place(), small()).unwrap();
    let list = List::<u32>::create(place(), small()).unwrap();
    dict.set(&1, &1).unwrap();
    list.push(&1).unwrap();
    let held = locks(&dicts);
    assert_eq!(dict.set(&1, &2), Err(DictError::TooManyLocks));
    disturbed(dict.segment(), || {
        assert_eq!(dict.get(&1), Ok(Some(1)));
    });
    disturbed(list.segment(), || {
        assert_eq!(list.get(0), Ok(Some(1)));
    });
    drop(held);
}

#[test]
fn who_is_told_that_there_is_no_such_element_is_told_of_how_many() {
    let _watchdog = watchdog();
    let list = List::<u32>::create(place(), small()).unwrap();
    list.extend(0..3).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                list.push(&3).unwrap();
                list.pop().unwrap();
            }
        });
        let _ends = Ends(&is_over);
        let over = || (0..50_000).map(|_| list.child_list::<u32, Postcard>(3));
        let wrong = over().find(|child| match child {
            Err(DictError::IndexOutOfRange { index: 3, len }) => *len != 3,
            Err(DictError::WrongKind { .. }) => false,
            other => panic!("{other:?}"),
        });
        assert!(wrong.is_none(), "{wrong:?}");
    });
}
