//! The semaphore under loom: every schedule within the preemption bound, and deaths at every step.
//!
//! Beside each claim stands a twin, a semaphore broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_semaphore`

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed as Plain};

use shm_core::Deadline;
use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{UnsafeCell, explore, thread};
use shm_lock::{AcquireError, Patience, RawSemaphore, SemaphoreFault as Fault};

/// What the threads share.
struct Shared {
    semaphore: RawSemaphore,
    /// Loom reports two that touch it at once.
    count: UnsafeCell<u32>,
}

// SAFETY: `count` is touched with the one permit alone, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new(permits: u32, fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            semaphore: RawSemaphore::new_broken(permits, RawSemaphore::MAX, fault),
            count: UnsafeCell::new(0),
        })
    }

    fn acquire(&self) {
        let taken = self.semaphore.acquire(Patience::Endless);
        taken.expect("endless patience");
    }

    fn release(&self, permits: u32) {
        self.semaphore.release(permits).expect("there is room");
    }

    fn add(&self) {
        self.acquire();
        self.count.with_mut(|count| {
            // SAFETY: the one permit is held; loom checks that.
            unsafe { *count += 1 }
        });
        self.release(1);
    }

    fn permits(&self) -> u32 {
        self.semaphore.inspect().permits
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

// ---- one permit excludes -------------------------------------------------------------------------

fn exclusion(threads: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, fault);
        let others: Vec<_> = (1..threads).map(|_| spawn(&shared, Shared::add)).collect();
        shared.add();
        for other in others {
            other.join().expect("no panic");
        }
        shared.acquire();
        // SAFETY: the one permit is held; loom checks that.
        assert_eq!(shared.count.with(|count| unsafe { *count }), threads);
        assert_eq!(shared.permits(), 0);
    });
}

#[test]
fn one_permit_excludes_two_threads() {
    exclusion(2, None);
}

#[test]
fn one_permit_excludes_three_threads_and_all_get_through() {
    exclusion(3, None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_takes_with_relaxed() {
    exclusion(2, Some(Fault::TakesWithRelaxed));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_releases_with_relaxed() {
    exclusion(2, Some(Fault::ReleasesWithRelaxed));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_takes_without_exchange() {
    exclusion(2, Some(Fault::TakesWithoutExchange));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake() {
    exclusion(2, Some(Fault::ForgetsToWake));
}

// ---- every permit reaches somebody ---------------------------------------------------------------

/// Two wait for what `releases` bring, two permits together.
fn distribution(releases: &'static [u32], fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(0, fault);
        let waiters: Vec<_> = (0..2).map(|_| spawn(&shared, Shared::acquire)).collect();
        for &permits in releases {
            shared.release(permits);
        }
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
        assert_eq!(shared.permits(), 0);
    });
}

#[test]
fn two_permits_at_once_reach_two() {
    distribution(&[2], None);
}

#[test]
fn two_permits_one_after_the_other_reach_two() {
    distribution(&[1, 1], None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_wakes_one_for_many() {
    distribution(&[2], Some(Fault::WakesOneForMany));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_takes_the_bit_away_with_every_release() {
    distribution(&[1, 1], Some(Fault::TakesTheBitAwayWithEveryRelease));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_takes_the_bit_away_and_wakes_nobody() {
    distribution(&[1, 1], Some(Fault::TakesTheBitAwayAndWakesNobody));
}

// ---- giving up -----------------------------------------------------------------------------------

/// One gives up at its n-th look at the clock; the permit meant for it reaches the other.
fn giving_up(fault: Option<Fault>) {
    for n in 1..=5 {
        let gave_up = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&gave_up);
        explore(move || {
            let shared = Shared::new(0, fault);
            let impatient = spawn(&shared, move |shared| {
                let patience = Patience::Until(Deadline::from_nanoseconds(n));
                match shared.semaphore.acquire(patience) {
                    Ok(()) => shared.release(1),
                    Err(AcquireError::Timeout) => return 1,
                    Err(error) => panic!("{error}"),
                }
                0
            });
            let patient = spawn(&shared, Shared::acquire);
            shared.release(1);
            patient.join().expect("no panic");
            // In the model a deadline does not end a sleep; this one may be overtaken and asleep.
            shared.release(1);
            counted.fetch_add(impatient.join().expect("no panic"), Plain);
        });
        assert!(n > 1 || gave_up.load(Plain) != 0, "nobody gave up at {n}");
    }
}

#[test]
fn giving_up_loses_no_permit() {
    giving_up(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_gives_up_before_looking() {
    giving_up(Some(Fault::GivesUpBeforeLooking));
}

// ---- death ---------------------------------------------------------------------------------------

/// One of two waiters is killed at each step; two permits are released one after the other.
fn dying_waiter(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(0, fault);
            let victim = spawn(&shared, move |shared| death::run(step, || shared.acquire()));
            let survivor = spawn(&shared, Shared::acquire);
            shared.release(1);
            shared.release(1);
            // Without the end of a slice: the wake spent on the dead is made up by the second release.
            survivor.join().expect("no panic");
            let left = match victim.join().expect("no panic") {
                Outcome::Finished(()) => 0,
                Outcome::Killed => 1,
            };
            assert_eq!(shared.permits(), left, "a permit was lost or doubled");
        });
    });
}

#[test]
fn a_waiter_may_die_anywhere() {
    dying_waiter(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_wake_dies_with_the_waiter() {
    dying_waiter(Some(Fault::TakesTheBitAwayWithEveryRelease));
}

/// One of two that release is killed at each step; a slice later both waiters have what was released.
fn dying_releaser(slices_end: bool) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(0, None);
            let waiter = spawn(&shared, Shared::acquire);
            let releaser = spawn(&shared, move |shared| {
                let outcome = death::run(step, || shared.release(1));
                // From here on somebody else, who cannot be killed.
                if slices_end {
                    shared.semaphore.end_slices();
                }
                shared.release(2);
                outcome
            });
            shared.acquire();
            waiter.join().expect("no panic");
            let released = releaser.join().expect("no panic") != Outcome::Killed;
            let left = shared.permits();
            assert!(if released { left == 1 } else { left <= 1 });
        });
    });
}

#[test]
fn a_releaser_may_die_anywhere() {
    dying_releaser(true);
}

/// Why every sleep is sliced: killed between taking WAITERS away and waking, a releaser leaves a sleeper
/// that nobody knows of.
#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_slices_do_not_end() {
    dying_releaser(false);
}
