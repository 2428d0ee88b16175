//! The event under loom: every schedule within the preemption bound, and deaths at every step.
//!
//! Beside each claim stands a twin, an event broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_event`

#![cfg(loom)]

use std::sync::Arc;

use shm_core::Deadline;
use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{UnsafeCell, explore, thread};
use shm_lock::{EventFault as Fault, Patience, RawEvent};

/// What the threads share.
struct Shared {
    event: RawEvent,
    /// Written before the set, read after the wait: loom reports a reader that does not see the writer.
    news: UnsafeCell<u32>,
}

// SAFETY: `news` is written before the set alone and read after the wait alone, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new(fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            event: RawEvent::new_broken(fault),
            news: UnsafeCell::new(0),
        })
    }

    fn publish(&self) {
        self.news.with_mut(|news| {
            // SAFETY: nobody reads before the set; loom checks that.
            unsafe { *news = 1 }
        });
        self.event.set();
    }

    fn read(&self) {
        assert!(self.event.wait(Patience::Endless));
        // SAFETY: written before the set; loom checks that.
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

/// `waiters` wait; the event is set, and cleared again at once if `clears` says so.
fn waiting(waiters: usize, clears: bool, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(fault);
        // With a clear, only who was there before is owed a return; those are asleep when this is true.
        let waiters: Vec<_> = (0..waiters).map(|_| spawn(&shared, Shared::read)).collect();
        if clears {
            while shared.event.inspect().waiters < waiters.len() {
                thread::yield_now();
            }
        }
        shared.publish();
        if clears {
            shared.event.clear();
        }
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
        assert_eq!(shared.event.is_set(), !clears);
    });
}

#[test]
fn all_who_wait_go_on_and_see_what_came_before() {
    waiting(1, false, None);
    waiting(2, false, None);
}

#[test]
fn a_set_that_is_cleared_at_once_is_not_missed() {
    waiting(1, true, None);
    waiting(2, true, None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_sets_with_relaxed() {
    waiting(1, false, Some(Fault::SetsWithRelaxed));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_waits_with_relaxed() {
    waiting(1, false, Some(Fault::WaitsWithRelaxed));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake() {
    waiting(1, false, Some(Fault::ForgetsToWake));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_wakes_one() {
    waiting(2, false, Some(Fault::WakesOne));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_sleeps_without_waiters() {
    waiting(1, false, Some(Fault::SleepsWithoutWaiters));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_the_number() {
    waiting(1, true, Some(Fault::ForgetsTheNumber));
}

/// One clears while the other sets: the event ends set or cleared, and no waiter is lost.
fn clearing(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(fault);
        let waiter = spawn(&shared, |shared| {
            shared.event.wait(Patience::Endless);
        });
        let clearer = spawn(&shared, |shared| shared.event.clear());
        shared.event.set();
        clearer.join().expect("no panic");
        // If the clear came after the set, the waiter may have come even later.
        shared.event.set();
        waiter.join().expect("no panic");
        assert!(shared.event.is_set());
    });
}

#[test]
fn a_clear_beside_a_set_loses_nobody() {
    clearing(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_clears_by_a_store() {
    clearing(Some(Fault::ClearsByStore));
}

/// One gives up at its n-th look at the clock.
#[test]
fn giving_up_takes_nothing_from_the_others() {
    for n in 1..=2 {
        explore(move || {
            let shared = Shared::new(None);
            let impatient = spawn(&shared, move |shared| {
                shared
                    .event
                    .wait(Patience::Until(Deadline::from_nanoseconds(n)))
            });
            let patient = spawn(&shared, Shared::read);
            shared.publish();
            patient.join().expect("no panic");
            impatient.join().expect("no panic");
        });
    }
}

#[test]
fn a_waiter_may_die_anywhere() {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(None);
            let victim = spawn(&shared, move |shared| death::run(step, || shared.read()));
            let other = spawn(&shared, Shared::read);
            shared.publish();
            other.join().expect("no panic");
            victim.join().expect("no panic");
        });
    });
}

/// The setter is killed at each step; a slice later the waiter knows, or it was not set at all.
fn dying_setter(slices_end: bool) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(None);
            let waiter = spawn(&shared, |shared| {
                shared.event.wait(Patience::Endless);
            });
            let victim = spawn(&shared, move |shared| {
                death::run(step, || shared.event.set())
            });
            let outcome = victim.join().expect("no panic");
            let is_set = shared.event.is_set();
            assert!(is_set || outcome == Outcome::Killed);
            if slices_end {
                shared.event.end_slices();
            }
            if !is_set {
                shared.event.set();
            }
            waiter.join().expect("no panic");
        });
    });
}

#[test]
fn a_setter_may_die_anywhere() {
    dying_setter(true);
}

/// Why every sleep is sliced.
#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_slices_do_not_end() {
    dying_setter(false);
}
