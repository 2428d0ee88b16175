//! A flag that is raised, and a bell for those who sleep until it is.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};

use crate::words::{self, Words};

const SLICE: Duration = Duration::from_millis(20);

pub(crate) fn commands() -> Commands {
    Commands::new()
        .victim("raise", |name| {
            let words = words::open(name);
            mark_start();
            raise(words);
            mark_end();
        })
        .victim("sleep and give up", |name| {
            let words = words::open(name);
            mark_start();
            words::sleep_on(&words.a, 0, Some(SLICE));
            mark_end();
        })
        .act("sleep in slices", |name| {
            sleep(words::open(name), Some(SLICE))
        })
        .act("sleep for ever", |name| sleep(words::open(name), None))
        .check("raise", |name, _| {
            let words = words::open(name);
            let raised = words.a.load(SeqCst) == 1;
            if !raised {
                raise(words);
            }
            words::remove(name);
            if raised { "1" } else { "0" }
        })
}

/// Killed between the two, a raiser leaves the sleepers asleep.
fn raise(words: &Words) {
    words.a.store(1, SeqCst);
    words::wake(&words.a);
}

fn sleep(words: &Words, slice: Option<Duration>) -> &'static str {
    while words.a.load(SeqCst) == 0 {
        words::sleep_on(&words.a, 0, slice);
    }
    "woken"
}
