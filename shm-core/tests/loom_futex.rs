//! The futex protocol by itself under loom: change the word, then wake; compare and sleep in one step.
//!
//! Beside the claim stand twins that the model must refuse: so it is the model that finds them, not luck.

#![cfg(loom)]

use std::sync::Arc;

use shm_core::futex::{self, Wait};
use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, UnsafeCell, explore, thread};

/// A word that is raised once, and what it publishes.
struct Flag {
    word: AtomicU32,
    value: UnsafeCell<u32>,
}

// SAFETY: `value` is written before the word is raised and read after; loom checks that.
unsafe impl Sync for Flag {}
// SAFETY: as above.
unsafe impl Send for Flag {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    WakesFirst,
    WakesOne,
    SleepsWithoutLooking,
    RaisesRelaxed,
}

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: AtomicU32::new(0),
            value: UnsafeCell::new(0),
        })
    }

    fn raise(&self, fault: Fault) {
        self.value.with_mut(|value| {
            // SAFETY: nobody reads before the word is raised; loom checks that.
            unsafe { *value = 7 }
        });
        if fault == Fault::WakesFirst {
            futex::wake(&self.word, u32::MAX);
        }
        let order = if fault == Fault::RaisesRelaxed {
            Ordering::Relaxed
        } else {
            // PAIR flag: Release publishes the value.
            Ordering::Release
        };
        self.word.store(1, order);
        match fault {
            Fault::WakesFirst => {}
            Fault::WakesOne => _ = futex::wake(&self.word, 1),
            _ => _ = futex::wake(&self.word, u32::MAX),
        }
    }

    fn wait(&self, fault: Fault) {
        // PAIR flag: Acquire sees the value.
        while self.word.load(Ordering::Acquire) == 0 {
            let expected = if fault == Fault::SleepsWithoutLooking {
                // What the word is now, which need not be what it was.
                self.word.load(Ordering::Relaxed)
            } else {
                0
            };
            let _ = futex::wait_slice(&self.word, expected, None);
        }
        // SAFETY: the word is raised, so the value is no longer written; loom checks that.
        assert_eq!(self.value.with(|value| unsafe { *value }), 7);
    }
}

fn raise_and_wait(fault: Fault) {
    explore(move || {
        let flag = Flag::new();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let flag = Arc::clone(&flag);
                thread::spawn(move || flag.wait(fault))
            })
            .collect();
        flag.raise(fault);
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
}

#[test]
fn whoever_changes_first_and_wakes_second_loses_no_sleeper() {
    raise_and_wait(Fault::None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_wakes_first() {
    raise_and_wait(Fault::WakesFirst);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_wakes_one_of_two() {
    raise_and_wait(Fault::WakesOne);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_sleeps_without_looking() {
    raise_and_wait(Fault::SleepsWithoutLooking);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_raises_relaxed() {
    raise_and_wait(Fault::RaisesRelaxed);
}

#[test]
fn waiters_counts_sleepers_and_leaves_them_asleep() {
    explore(|| {
        let flag = Flag::new();
        let sleeper = {
            let flag = Arc::clone(&flag);
            thread::spawn(move || futex::wait(&flag.word, 0, None))
        };
        while futex::waiters(&flag.word) == 0 {
            thread::yield_now();
        }
        assert_eq!(futex::waiters(&flag.word), 1);
        assert_eq!(futex::wake(&flag.word, u32::MAX), 1);
        assert_eq!(sleeper.join().expect("no panic"), Wait::Woken);
        assert_eq!(futex::waiters(&flag.word), 0);
    });
}

#[test]
fn a_thread_dies_at_each_of_its_steps_and_at_no_other() {
    let steps = death::at_every_step(|step| {
        explore(move || {
            let word = Arc::new(AtomicU32::new(0));
            let victim = {
                let word = Arc::clone(&word);
                thread::spawn(move || {
                    death::run(step, || {
                        for value in 1..=3 {
                            word.store(value, Ordering::Relaxed);
                        }
                    })
                })
            };
            let outcome = victim.join().expect("a death is no panic");
            let stored = word.load(Ordering::Relaxed) as usize;
            assert_eq!(stored, step.min(3));
            assert_eq!(outcome == Outcome::Killed, step < 3);
        });
    });
    assert_eq!(steps, 3);
}
