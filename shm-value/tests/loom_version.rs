//! The version of `Value` and `SeqValue` under loom: no copy is torn, no sleeper is forgotten, and a
//! writer may die at every step.
//!
//! Beside each claim stands a twin, a version broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-value --test loom_version`

#![cfg(loom)]

use std::sync::Arc;

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, explore, thread};
use shm_core::{Deadline, futex};
use shm_lock::{Patience, RawMutex};
use shm_value::{Bell, Version, VersionFault as Fault};

/// A value of two words, both of which are the number of the commit.
struct Shared {
    lock: RawMutex,
    version: Version,
    bell: Bell,
    slots: Vec<[AtomicU32; 2]>,
}

impl Shared {
    fn new(slots: usize, fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            lock: RawMutex::new(),
            version: Version::new(fault),
            bell: Bell::default(),
            slots: (0..slots).map(|_| Default::default()).collect(),
        })
    }

    fn count(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Writes the next number, as the only writer or under the lock; whether somebody waits for it.
    fn write(&self) -> bool {
        let number = self.version.number() as u32 + 1;
        let next = self.version.prepare(self.count(), |slot| {
            for word in &self.slots[slot as usize] {
                word.store(number, Ordering::Relaxed);
            }
        });
        self.version.commit_and_ask(next)
    }

    /// As [`write`](Self::write), under the lock, and wakes who waits.
    fn set(&self) {
        // SAFETY: the lock outlives all threads of the model.
        let acquired = unsafe { self.lock.acquire(Patience::Endless) }.expect("no deadline");
        if !acquired.is_clean() {
            self.lock.mark_consistent();
        }
        let awaited = self.write();
        // SAFETY: this thread took it.
        unsafe { self.lock.unlock() };
        if awaited {
            self.bell.ring(u32::MAX);
        }
    }

    /// One look: whole, and as old as it says, if it gives anything.
    fn look(&self) -> Option<u64> {
        let copy = |slot: u64| {
            let words = &self.slots[slot as usize];
            [&words[0], &words[1]].map(|word| u64::from(word.load(Ordering::Relaxed)))
        };
        let (copied, number) = self.version.look(self.count(), copy)?;
        assert_eq!(copied, [number; 2], "a torn value");
        Some(number)
    }

    /// Looks until it is given something.
    fn get(&self) -> u64 {
        loop {
            if let Some(number) = self.look() {
                return number;
            }
            thread::yield_now();
        }
    }

    /// Waits until the version is not 0.
    fn wait(&self, deadline: Option<Deadline>) {
        while !self.version.wait_once(0, &self.bell, deadline) {}
        assert_ne!(self.get(), 0);
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// One writes some times while another looks.
fn reading(slots: usize, writes: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(slots, fault);
        let writer = spawn(&shared, move |shared| {
            for _ in 0..writes {
                shared.write();
            }
        });
        let mut last = 0;
        for _ in 0..2 {
            if let Some(number) = shared.look() {
                assert!(number >= last, "time runs backwards");
                last = number;
            }
            thread::yield_now();
        }
        writer.join().expect("no panic");
        assert_eq!(shared.look(), Some(u64::from(writes)));
    });
}

#[test]
fn a_copy_is_whole_or_refused() {
    reading(2, 2, None);
    reading(2, 3, None);
    reading(4, 4, None);
}

/// With four slots, two commits during a copy do not disturb it.
#[test]
fn a_copy_of_four_slots_outlives_two_commits() {
    explore(|| {
        let shared = Shared::new(4, None);
        let writer = spawn(&shared, |shared| {
            shared.write();
            shared.write();
        });
        assert!(shared.look().is_some(), "refused");
        writer.join().expect("no panic");
    });
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_commits_with_relaxed() {
    reading(2, 2, Some(Fault::CommitsWithRelaxed));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_loads_with_relaxed() {
    reading(2, 2, Some(Fault::LoadsWithRelaxed));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_reuses_without_a_fence() {
    reading(2, 2, Some(Fault::ReusesWithoutFence));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_copies_without_a_fence() {
    reading(2, 2, Some(Fault::CopiesWithoutFence));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_does_not_look_again() {
    reading(2, 2, Some(Fault::DoesNotLookAgain));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_allows_one_commit_too_many() {
    reading(2, 2, Some(Fault::AllowsOneCommitTooMany));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_allows_one_commit_too_many_of_four_slots() {
    reading(4, 4, Some(Fault::AllowsOneCommitTooMany));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_commits_before_the_slot() {
    reading(2, 1, Some(Fault::CommitsBeforeTheSlot));
}

/// Some wait for a change, which comes.
fn waiting(waiters: usize, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(2, fault);
        let wait = |shared: &Shared| shared.wait(None);
        let waiters: Vec<_> = (0..waiters).map(|_| spawn(&shared, wait)).collect();
        if shared.write() {
            shared.bell.ring(u32::MAX);
        }
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
}

#[test]
fn a_change_wakes_all_who_wait_for_it() {
    waiting(1, None);
    waiting(2, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_sleeps_without_waiters() {
    waiting(1, Some(Fault::SleepsWithoutWaiters));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_asks_before_the_commit() {
    waiting(1, Some(Fault::AsksBeforeTheCommit));
}

/// One who may not say that it waits sees the change all the same.
#[test]
fn a_glance_sees_the_change() {
    explore(|| {
        let shared = Shared::new(2, None);
        let waiter = spawn(&shared, |shared| {
            while !shared.version.glance(0, &shared.bell, None) {}
            assert_eq!(shared.get(), 1);
        });
        assert!(!shared.write(), "nobody has said that it waits");
        waiter.join().expect("no panic");
    });
}

/// One gives up at its n-th look at the clock; the other is woken.
#[test]
fn giving_up_takes_nothing_from_the_others() {
    for n in 1..=2 {
        explore(move || {
            let shared = Shared::new(2, None);
            let impatient = spawn(&shared, move |shared| {
                let deadline = Deadline::from_nanoseconds(n);
                shared.version.wait_once(0, &shared.bell, Some(deadline));
            });
            let patient = spawn(&shared, |shared| shared.wait(None));
            if shared.write() {
                shared.bell.ring(u32::MAX);
            }
            patient.join().expect("no panic");
            impatient.join().expect("no panic");
        });
    }
}

/// A writer is killed at each step beside a reader: the value is the old one or the new one, and the next
/// writer goes on.
fn dying(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, fault);
            let victim = spawn(&shared, move |shared| death::run(step, || shared.set()));
            shared.look();
            let outcome = victim.join().expect("no panic");
            let left = shared.look().expect("nobody writes");
            assert!(left == 1 || outcome == Outcome::Killed);
            shared.set();
            assert_eq!(shared.look(), Some(left + 1));
        });
    });
}

#[test]
fn a_writer_may_die_anywhere() {
    dying(None);
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_commits_before_the_slot_and_dies() {
    dying(Some(Fault::CommitsBeforeTheSlot));
}

/// A writer for whom somebody sleeps is killed at each step; a slice later the sleeper knows, or there is
/// nothing to know.
fn dying_for_a_waiter(slices_end: bool) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, None);
            let awake = Arc::new(AtomicU32::new(0));
            let waiter = thread::spawn({
                let (shared, awake) = (Arc::clone(&shared), Arc::clone(&awake));
                move || {
                    shared.wait(None);
                    awake.store(1, Ordering::Relaxed);
                }
            });
            let victim = spawn(&shared, move |shared| death::run(step, || shared.set()));
            let outcome = victim.join().expect("no panic");
            let changed = shared.version.number() == 1;
            assert!(changed || outcome == Outcome::Killed);
            if !changed {
                shared.set();
            }
            // It may be about to fall asleep.
            while slices_end && awake.load(Ordering::Relaxed) == 0 {
                futex::end_slices();
                thread::yield_now();
            }
            waiter.join().expect("no panic");
        });
    });
}

#[test]
fn a_writer_may_die_before_it_rings() {
    dying_for_a_waiter(true);
}

/// Why every sleep is sliced.
#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_slices_do_not_end() {
    dying_for_a_waiter(false);
}

#[test]
fn a_waiter_may_die_anywhere() {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, None);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || shared.wait(None))
            });
            let other = spawn(&shared, |shared| shared.wait(None));
            if shared.write() {
                shared.bell.ring(u32::MAX);
            }
            other.join().expect("no panic");
            victim.join().expect("no panic");
        });
    });
}
