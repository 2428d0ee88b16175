//! Once under loom: done once, seen whole, and done by somebody wherever another dies.
//!
//! Beside each claim stands a twin, broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_once`

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed as Plain};

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, UnsafeCell, explore, thread};
use shm_lock::{OnceFault, Patience, RawLockError, RawOnce};

struct Shared {
    once: RawOnce,
    /// Loom reports a reader beside the writer.
    value: UnsafeCell<u32>,
    /// Two halves of the value, each store a step at which the thread may die.
    first: AtomicU32,
    second: AtomicU32,
    /// How often it was done to the end.
    runs: AtomicU32,
}

// SAFETY: `value` is written by the initialiser and read when it is done, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new(fault: Option<OnceFault>) -> Arc<Self> {
        Arc::new(Self {
            once: RawOnce::new(fault),
            value: UnsafeCell::new(0),
            first: AtomicU32::new(0),
            second: AtomicU32::new(0),
            runs: AtomicU32::new(0),
        })
    }

    fn call(&self, patience: Patience) -> Result<(), RawLockError> {
        let write = |()| {
            self.first.store(7, Ordering::Relaxed);
            self.value.with_mut(|value| {
                // SAFETY: one initialiser at a time, and nobody reads yet; loom checks that.
                unsafe { *value = 7 }
            });
            self.second.store(7, Ordering::Relaxed);
            self.runs.fetch_add(1, Ordering::Relaxed);
        };
        // SAFETY: it outlives all threads of the model.
        unsafe { self.once.call(patience, || Ok(()), write) }
    }

    fn look(&self) {
        let halves = [&self.first, &self.second].map(|half| half.load(Ordering::Relaxed));
        assert_eq!(halves, [7, 7], "half a value");
        // SAFETY: it is done; loom checks that nobody writes.
        assert_eq!(self.value.with(|value| unsafe { *value }), 7);
    }

    fn init(&self) {
        self.call(Patience::Endless).expect("no deadline");
        self.look();
    }

    /// A reader that never initialises.
    fn glance(&self) {
        while !self.once.is_done() {
            thread::yield_now();
        }
        self.look();
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

fn racing(fault: Option<OnceFault>) {
    explore(move || {
        let shared = Shared::new(fault);
        let other = spawn(&shared, Shared::init);
        shared.init();
        other.join().expect("no panic");
        assert_eq!(shared.runs.load(Ordering::Relaxed), 1, "done twice");
    });
}

fn glancing(fault: Option<OnceFault>) {
    explore(move || {
        let shared = Shared::new(fault);
        let reader = spawn(&shared, Shared::glance);
        shared.init();
        reader.join().expect("no panic");
    });
}

#[test]
fn of_two_who_come_one_does_it() {
    racing(None);
}

#[test]
fn three_who_come_all_see_it_done() {
    explore(|| {
        let shared = Shared::new(None);
        let others = [spawn(&shared, Shared::init), spawn(&shared, Shared::init)];
        shared.init();
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!(shared.runs.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_reader_without_the_lock_sees_the_whole_value() {
    glancing(None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_does_not_look_again() {
    racing(Some(OnceFault::DoesNotLookAgain));
}

#[test]
#[should_panic(expected = "half a value")]
fn twin_that_says_done_before_the_value() {
    glancing(Some(OnceFault::DoneBeforeTheValue));
}

#[test]
#[should_panic(expected = "half a value")]
fn twin_that_publishes_with_relaxed() {
    glancing(Some(OnceFault::PublishesWithRelaxed));
}

/// An initialiser is killed at each step, beside another and a reader.
fn dying(fault: Option<OnceFault>) {
    let killed = Arc::new(AtomicUsize::new(0));
    death::at_every_step(|step| {
        let killed = Arc::clone(&killed);
        explore(move || {
            let shared = Shared::new(fault);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || {
                    shared.call(Patience::Endless).expect("no deadline")
                })
            });
            shared.init();
            if victim.join().expect("no panic") == Outcome::Killed {
                killed.fetch_add(1, Plain);
            }
            shared.init();
            // Once to the end by a survivor, and perhaps once by the victim that did not live to say so.
            assert!((1..=2).contains(&shared.runs.load(Ordering::Relaxed)));
        });
    });
    assert_ne!(killed.load(Plain), 0);
}

#[test]
fn somebody_initialises_wherever_another_dies() {
    dying(None);
}

#[test]
#[should_panic(expected = "half a value")]
fn twin_that_says_done_before_the_value_and_dies() {
    dying(Some(OnceFault::DoneBeforeTheValue));
}

#[test]
fn trying_never_waits() {
    explore(|| {
        let shared = Shared::new(None);
        let other = spawn(&shared, Shared::init);
        match shared.call(Patience::None) {
            Ok(()) => shared.look(),
            Err(error) => assert_eq!(error, RawLockError::WouldBlock),
        }
        other.join().expect("no panic");
        assert_eq!(shared.runs.load(Ordering::Relaxed), 1);
    });
}
