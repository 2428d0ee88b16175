//! Operations whose way is not always the same: each eighth victim of a tool goes a longer one to the same place, only
//! the first comes to the end, or only one that is alone.

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::process::parent_id;
use std::sync::atomic::Ordering::SeqCst;

use nix::libc;
use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};

use crate::words::{self, Words};

/// Rounds of the way before the store and behind it.
const ROUNDS: u32 = 20;

pub(crate) fn commands() -> Commands {
    Commands::new()
        .victim("stray", |name| {
            let words = words::open(name);
            let detour = if number().is_multiple_of(8) {
                ROUNDS
            } else {
                0
            };
            mark_start();
            go(ROUNDS + detour);
            words.a.store(1, SeqCst);
            go(ROUNDS);
            mark_end();
        })
        .check("stray", |name, _| {
            let stored = words::open(name).a.load(SeqCst) == 1;
            words::remove(name);
            if stored { "1" } else { "0" }
        })
        // Nobody but the first comes to the end.
        .victim("lose the way", |name| {
            let words = words::open(name);
            store_unless(number() > 1, words);
        })
        // Nobody but the first goes straight ahead.
        .victim("turn off", |name| {
            let words = words::open(name);
            let straight = number() == 1;
            mark_start();
            if straight {
                go(ROUNDS);
            } else {
                turn_off(ROUNDS);
            }
            words.a.store(1, SeqCst);
            mark_end();
        })
        .victim("shun others", |name| {
            let words = words::open(name);
            store_unless(others(name), words);
        })
}

/// The operation of those who may be lost, and then end at once.
fn store_unless(lost: bool, words: &Words) {
    mark_start();
    if lost {
        // SAFETY: ends this process, at once.
        unsafe { libc::_exit(0) };
    }
    words.a.store(1, SeqCst);
    go(ROUNDS);
    mark_end();
}

/// Whether files of the tool's other jobs are there, whose names differ in their last part.
fn others(name: &str) -> bool {
    let (tool, _) = name.rsplit_once('-').expect("the job's number");
    let files = fs::read_dir("/dev/shm").expect("a directory of segments");
    let mut names = files.map(|file| file.expect("a file").file_name().into_encoded_bytes());
    names.any(|other| other.starts_with(tool.as_bytes()) && !other.starts_with(name.as_bytes()))
}

/// How many came before, plus one; counted by the bytes of a file that the tool's process is to remove.
fn number() -> u64 {
    let path = std::env::temp_dir().join(format!("stray-{}", parent_id()));
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.expect("a file to count in");
    file.write_all(b".").expect("room for a byte");
    file.metadata().expect("its size").len()
}

#[inline(never)]
fn go(rounds: u32) {
    for round in 0..rounds {
        black_box(round);
    }
}

#[inline(never)]
fn turn_off(rounds: u32) {
    for round in 0..2 * rounds {
        black_box(!round);
    }
}
