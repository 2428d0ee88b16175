//! The bell under loom, with a number beside it as in `AtomicValue`: no change is slept through.
//!
//! Beside each claim stands a twin, a bell broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-value --test loom_bell`

#![cfg(loom)]

use std::sync::Arc;

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, UnsafeCell, explore, thread};
use shm_core::{Deadline, futex};
use shm_value::{Bell, BellFault as Fault};

/// What the threads share.
struct Shared {
    bell: Bell,
    number: AtomicU32,
    /// Written before the number: loom reports a waiter that does not see the writer.
    news: UnsafeCell<u32>,
}

// SAFETY: `news` is written before the number alone and read after it alone, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new(fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            bell: Bell::new(fault),
            number: AtomicU32::new(0),
            news: UnsafeCell::new(0),
        })
    }

    /// As `AtomicValue::store` and `notify_all`, with the orderings of those.
    fn change(&self) {
        self.news.with_mut(|news| {
            // SAFETY: nobody reads before the number changes; loom checks that.
            unsafe { *news = 1 }
        });
        self.number.store(1, Ordering::Release);
        self.bell.ring(u32::MAX);
    }

    fn look(&self) -> Option<u32> {
        let number = self.number.load(Ordering::Acquire);
        (number != 0).then_some(number)
    }

    /// As `AtomicValue::wait`.
    fn wait(&self) {
        while self.bell.wait_once(None, || self.look()).is_none() {}
        // SAFETY: written before the number; loom checks that.
        assert_eq!(self.news.with(|news| unsafe { *news }), 1);
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

fn waiting(waiters: usize, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(fault);
        let waiters: Vec<_> = (0..waiters).map(|_| spawn(&shared, Shared::wait)).collect();
        shared.change();
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
}

#[test]
fn no_change_is_slept_through() {
    waiting(1, None);
    waiting(2, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_rings_without_a_change() {
    waiting(1, Some(Fault::RingsWithoutChange));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_rings_with_relaxed() {
    waiting(1, Some(Fault::RingsWithRelaxed));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_listens_with_relaxed() {
    waiting(1, Some(Fault::ListensWithRelaxed));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_listens_after_the_look() {
    waiting(1, Some(Fault::ListensAfterTheLook));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake() {
    waiting(1, Some(Fault::ForgetsToWake));
}

/// A ball goes to and fro between two who each wait for the other, and wake one.
#[test]
fn a_ball_goes_to_and_fro() {
    explore(|| {
        let shared = Shared::new(None);
        let answer = |shared: &Shared| {
            shared.wait();
            shared.number.store(2, Ordering::Release);
            shared.bell.ring(1);
        };
        let other = spawn(&shared, answer);
        shared.change();
        let answered = || (shared.number.load(Ordering::Acquire) == 2).then_some(());
        while shared.bell.wait_once(None, answered).is_none() {}
        other.join().expect("no panic");
    });
}

/// One gives up at its n-th look at the clock; the other is woken.
#[test]
fn giving_up_takes_nothing_from_the_others() {
    for n in 1..=2 {
        explore(move || {
            let shared = Shared::new(None);
            let impatient = spawn(&shared, move |shared| {
                let deadline = Deadline::from_nanoseconds(n);
                shared.bell.wait_once(Some(deadline), || shared.look());
            });
            let patient = spawn(&shared, Shared::wait);
            shared.change();
            patient.join().expect("no panic");
            impatient.join().expect("no panic");
        });
    }
}

/// The one who changes the number is killed at each step; a slice later the waiter knows, or there was no
/// change.
fn dying(slices_end: bool) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(None);
            let awake = Arc::new(AtomicU32::new(0));
            let waiter = thread::spawn({
                let (shared, awake) = (Arc::clone(&shared), Arc::clone(&awake));
                move || {
                    shared.wait();
                    awake.store(1, Ordering::Relaxed);
                }
            });
            let victim = spawn(&shared, move |shared| death::run(step, || shared.change()));
            let outcome = victim.join().expect("no panic");
            let changed = shared.number.load(Ordering::Acquire) == 1;
            assert!(changed || outcome == Outcome::Killed);
            if !changed {
                shared.change();
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
fn a_notifier_may_die_anywhere() {
    dying(true);
}

/// Why every sleep is sliced.
#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_slices_do_not_end() {
    dying(false);
}

#[test]
fn a_waiter_may_die_anywhere() {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(None);
            let victim = spawn(&shared, move |shared| death::run(step, || shared.wait()));
            let other = spawn(&shared, Shared::wait);
            shared.change();
            other.join().expect("no panic");
            victim.join().expect("no panic");
        });
    });
}
