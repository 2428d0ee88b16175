//! A ticket lock: fair, and no answer to a waiter that dies with its ticket.

use std::sync::atomic::Ordering::SeqCst;

use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};

use crate::words::{self, Words};

pub(crate) fn commands() -> Commands {
    Commands::new()
        .hold("ticket", |name, pause| {
            let words = words::open(name);
            lock(words);
            pause();
            unlock(words);
        })
        .victim("ticket", |name| {
            let words = words::open(name);
            mark_start();
            lock(words);
            words.a.fetch_add(1, SeqCst);
            unlock(words);
            mark_end();
        })
        .check("ticket", |name, _| {
            let words = words::open(name);
            lock(words);
            unlock(words);
            words::remove(name);
            words.a.load(SeqCst).to_string()
        })
}

fn lock(words: &Words) {
    let ticket = words.next.fetch_add(1, SeqCst);
    loop {
        let serving = words.serving.load(SeqCst);
        if serving == ticket {
            return;
        }
        words::sleep_on(&words.serving, serving, None);
    }
}

fn unlock(words: &Words) {
    words.serving.fetch_add(1, SeqCst);
    words::wake(&words.serving);
}
