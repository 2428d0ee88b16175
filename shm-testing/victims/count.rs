//! Counts without owners, said to survive their users: what the dead have counted stays counted.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};

use crate::words::{self, Words};

/// How often somebody looks before it gives up, and how long it sleeps in between.
const LOOKS: u32 = 4;
const SLICE: Duration = Duration::from_millis(2);

pub(crate) fn commands() -> Commands {
    Commands::new()
        .setup("two permits", |name| {
            words::create(name).next.store(2, SeqCst);
        })
        // A semaphore: a permit is a number less.
        .victim("permit", |name| {
            let words = words::open(name);
            mark_start();
            assert!(take(&words.next));
            words.a.fetch_add(1, SeqCst);
            give(&words.next);
            mark_end();
        })
        .check("permit", |name, _| {
            let words = words::open(name);
            let back = take(&words.next) && take(&words.next);
            assert!(back, "a permit of the dead did not come back");
            words::remove(name);
            "all there"
        })
        // A reader-writer lock: a reader is a number more.
        .victim("reader", |name| {
            let words = words::open(name);
            mark_start();
            words.serving.fetch_add(1, SeqCst);
            words.a.load(SeqCst);
            words.serving.fetch_sub(1, SeqCst);
            words::wake(&words.serving);
            mark_end();
        })
        .check("reader", |name, _| {
            let words = words::open(name);
            assert!(nobody_reads(words), "a dead reader keeps the writer out");
            words::remove(name);
            "free"
        })
}

fn take(permits: &AtomicU32) -> bool {
    let one_less = |n: u32| n.checked_sub(1);
    (0..LOOKS).any(|_| {
        let taken = permits.fetch_update(SeqCst, SeqCst, one_less).is_ok();
        if !taken {
            words::sleep_on(permits, 0, Some(SLICE));
        }
        taken
    })
}

fn give(permits: &AtomicU32) {
    permits.fetch_add(1, SeqCst);
    words::wake(permits);
}

fn nobody_reads(words: &Words) -> bool {
    (0..LOOKS).any(|_| {
        let readers = words.serving.load(SeqCst);
        if readers != 0 {
            words::sleep_on(&words.serving, readers, Some(SLICE));
        }
        readers == 0
    })
}
