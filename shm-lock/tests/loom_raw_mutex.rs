//! The raw mutex under loom: every schedule within the preemption bound, and deaths at every step.
//!
//! Beside each claim stands a twin, a mutex broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test 'loom_*'`

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed as Plain};

use shm_core::robust::Kernel;
use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, UnsafeCell, explore, thread};
use shm_core::{Deadline, futex};
use shm_lock::{Acquired, Fault, RawLockError, RawMutex};

const NEVER: usize = usize::MAX;

/// What the threads share.
struct Shared {
    mutex: RawMutex,
    /// Loom reports two that touch it at once.
    count: UnsafeCell<u32>,
    /// Equal whenever no section is open; each store is a step at which the thread may die.
    first: AtomicU32,
    second: AtomicU32,
}

impl Shared {
    fn new(mutex: RawMutex) -> Arc<Self> {
        Arc::new(Self {
            mutex,
            count: UnsafeCell::new(0),
            first: AtomicU32::new(0),
            second: AtomicU32::new(0),
        })
    }

    fn broken(fault: Option<Fault>) -> Arc<Self> {
        Self::new(fault.map_or_else(RawMutex::new, RawMutex::new_broken))
    }

    fn lock(&self, deadline: Option<Deadline>) -> Result<Acquired, RawLockError> {
        // SAFETY: the mutex outlives all threads of the model.
        unsafe { self.mutex.lock(deadline) }
    }

    fn unlock(&self) {
        // SAFETY: every caller has locked it.
        unsafe { self.mutex.unlock() }
    }

    /// A section that cannot be cut.
    fn add(&self) {
        self.lock(None).expect("no deadline");
        self.section();
        self.unlock();
    }

    fn section(&self) {
        self.count.with_mut(|count| {
            // SAFETY: the lock is held; loom checks that.
            unsafe { *count += 1 }
        });
    }

    /// A section that can be cut between its two stores.
    fn add_pair(&self) -> Acquired {
        let acquired = self.lock(None).expect("no deadline");
        self.pair(&acquired);
        self.unlock();
        acquired
    }

    fn pair(&self, acquired: &Acquired) {
        self.section();
        let first = self.first.load(Ordering::Relaxed);
        let second = self.second.load(Ordering::Relaxed);
        assert!(
            first == second || acquired.inconsistent,
            "torn, and nobody said so"
        );
        self.first.store(first + 1, Ordering::Relaxed);
        self.second.store(first + 1, Ordering::Relaxed);
        self.mutex.mark_consistent();
    }
}

// SAFETY: `count` is touched under the lock alone, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

// ---- exclusion -----------------------------------------------------------------------------------

fn exclusion(threads: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::broken(fault);
        let others: Vec<_> = (1..threads).map(|_| spawn(&shared, Shared::add)).collect();
        shared.add();
        for other in others {
            other.join().expect("no panic");
        }
        shared.lock(None).expect("no deadline");
        // SAFETY: the lock is held; loom checks that.
        assert_eq!(shared.count.with(|count| unsafe { *count }), threads);
        shared.unlock();
    });
}

#[test]
fn two_threads_exclude_each_other() {
    exclusion(2, None);
}

#[test]
fn three_threads_exclude_each_other_and_all_get_through() {
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
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake() {
    exclusion(2, Some(Fault::ForgetsToWake));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_sleeper_takes_without_waiters() {
    exclusion(3, Some(Fault::SleeperTakesWithoutWaiters));
}

// ---- death ---------------------------------------------------------------------------------------

/// Who is killed at which step of an uncontended lock, section, unlock: what the next one is told.
fn reports(fault: Option<Fault>) -> String {
    let reports = Arc::new(std::sync::Mutex::new(String::new()));
    death::at_every_step(|step| {
        let reports = Arc::clone(&reports);
        explore(move || {
            let shared = Shared::broken(fault);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || {
                    shared.lock(None).expect("no deadline");
                    shared.first.store(1, Ordering::Relaxed);
                    shared.unlock();
                })
            });
            let outcome = victim.join().expect("no panic");
            let acquired = shared.lock(None).expect("no deadline");
            assert_eq!(acquired.inconsistent, acquired.dead_owner.is_some());
            assert_eq!(acquired.deaths, u32::from(acquired.inconsistent));
            let report = match outcome {
                Outcome::Finished(()) => "|",
                Outcome::Killed if acquired.inconsistent => "!",
                Outcome::Killed => ".",
            };
            reports.lock().expect("no panic").push_str(report);
            shared.unlock();
        });
    });
    reports.lock().expect("no panic").clone()
}

/// Killed before: the exchange that takes the word, the store of `owner` (nothing); the look at the state, the
/// section, the look at the word, the clearing of `owner` (reported); the release (nothing).
const EXACT: &str = "..!!!!.|";

#[test]
fn a_death_is_reported_exactly_if_the_section_was_open() {
    assert_eq!(reports(None), EXACT);
}

#[test]
fn twin_that_never_clears_the_owner_reports_too_much() {
    assert_ne!(reports(Some(Fault::NeverClearsOwner)), EXACT);
}

/// One is killed at each step while `survivors` others want the lock too.
fn dying(survivors: usize, fault: Option<Fault>) {
    let reported = Arc::new(AtomicUsize::new(0));
    let steps = death::at_every_step(|step| {
        let reported = Arc::clone(&reported);
        explore(move || {
            let shared = Shared::broken(fault);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || shared.add_pair())
            });
            let others: Vec<_> = (1..survivors)
                .map(|_| spawn(&shared, |shared| death::run(NEVER, || shared.add_pair())))
                .collect();
            let mut deaths = shared.add_pair().deaths;
            for other in others {
                match other.join().expect("no panic") {
                    Outcome::Finished(acquired) => deaths = deaths.max(acquired.deaths),
                    Outcome::Killed => unreachable!("nobody kills it"),
                }
            }
            victim.join().expect("no panic");
            // After all of them: still whole, or reported.
            deaths = deaths.max(shared.add_pair().deaths);
            assert!(deaths <= 1);
            reported.fetch_add(deaths as usize, Plain);
        });
    });
    assert!(steps > EXACT.len(), "the victim was contended too");
    assert_ne!(reported.load(Plain), 0, "no death hit a section");
}

#[test]
fn a_survivor_goes_on_wherever_the_other_dies() {
    dying(1, None);
}

#[test]
fn two_survivors_go_on_wherever_the_third_dies() {
    dying(2, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_recovery_drops_the_waiters() {
    dying(2, Some(Fault::RecoveryDropsWaiters));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_ends_before_the_release() {
    dying(1, Some(Fault::EndsBeforeRelease));
}

#[test]
#[should_panic(expected = "torn")]
fn twin_that_clears_the_owner_after_the_release() {
    dying(1, Some(Fault::ClearsOwnerAfterRelease));
}

/// The lock is orphaned, and the one that recovers is killed at each step too.
fn dying_recovery(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::broken(fault);
            // Dies between the two stores of its section.
            let owner = spawn(&shared, |shared| {
                death::run(NEVER, || {
                    shared.lock(None).expect("no deadline");
                    shared.first.store(1, Ordering::Relaxed);
                })
            });
            owner.join().expect("no panic");
            let recoverer = spawn(&shared, move |shared| {
                death::run(step, || shared.add_pair())
            });
            shared.add_pair();
            recoverer.join().expect("no panic");
            shared.add_pair();
        });
    });
}

#[test]
fn a_death_in_recovery_forgets_nothing() {
    dying_recovery(None);
}

#[test]
#[should_panic(expected = "torn")]
fn twin_that_clears_the_owner_before_noting_the_death() {
    dying_recovery(Some(Fault::ClearsOwnerBeforeNoting));
}

/// A sleeper is woken and killed, a third thread has taken the lock meanwhile, a fourth call sleeps.
fn killed_when_woken(kernel: Kernel, slices_end: bool) {
    kernel.install();
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(RawMutex::new());
            let awake = Arc::new(AtomicU32::new(0));
            let victim = spawn(&shared, move |shared| {
                death::run(step, || shared.add_pair())
            });
            let sleeper = spawn(&shared, {
                let awake = Arc::clone(&awake);
                move |shared| {
                    shared.add_pair();
                    awake.store(1, Ordering::Relaxed);
                }
            });
            shared.add_pair();
            shared.add_pair();
            victim.join().expect("no panic");
            // From here on this thread is the clock; the one that hangs within two preemptions is the other.
            while slices_end && awake.load(Ordering::Relaxed) == 0 {
                futex::end_slices();
                thread::yield_now();
            }
            sleeper.join().expect("no panic");
        });
    });
}

#[test]
fn a_woken_sleeper_may_die() {
    killed_when_woken(Kernel::New, false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_kernel_that_loses_a_wake() {
    killed_when_woken(Kernel::Old, false);
}

/// Why every sleep is sliced.
#[test]
fn a_wake_that_the_kernel_loses_is_a_delay() {
    killed_when_woken(Kernel::Old, true);
}

// ---- giving up -----------------------------------------------------------------------------------

/// One gives up at its n-th look at the clock, for each n; the others must get through.
fn giving_up(fault: Option<Fault>) {
    for n in 1..=6 {
        let gave_up = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&gave_up);
        explore(move || {
            let shared = Shared::broken(fault);
            let impatient = spawn(&shared, move |shared| {
                match shared.lock(Some(Deadline::from_nanoseconds(n))) {
                    Ok(_) => {
                        shared.section();
                        shared.unlock();
                        0
                    }
                    Err(RawLockError::Timeout) => 1,
                    Err(error) => panic!("{error}"),
                }
            });
            let other = spawn(&shared, Shared::add);
            shared.add();
            shared.add();
            other.join().expect("no panic");
            counted.fetch_add(impatient.join().expect("no panic"), Plain);
        });
        assert!(n > 3 || gave_up.load(Plain) != 0, "nobody gave up at {n}");
    }
}

#[test]
fn giving_up_loses_no_wake() {
    giving_up(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_gives_up_without_waiters() {
    giving_up(Some(Fault::GivesUpWithoutWaiters));
}

// ---- hand-over -----------------------------------------------------------------------------------

fn handing_over(threads: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(RawMutex::new_starved(fault));
        let others: Vec<_> = (1..threads).map(|_| spawn(&shared, Shared::add)).collect();
        shared.add();
        for other in others {
            other.join().expect("no panic");
        }
    });
}

#[test]
fn a_handed_over_lock_reaches_everybody() {
    handing_over(2, None);
    handing_over(3, None);
}

fn dying_at_hand_over(survivors: usize, fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(RawMutex::new_starved(fault));
            let victim = spawn(&shared, move |shared| {
                death::run(step, || shared.add_pair())
            });
            let others: Vec<_> = (1..survivors)
                .map(|_| spawn(&shared, |shared| shared.add_pair()))
                .collect();
            shared.add_pair();
            for other in others {
                other.join().expect("no panic");
            }
            victim.join().expect("no panic");
            shared.add_pair();
        });
    });
}

#[test]
fn one_that_dies_handing_over_hangs_nobody() {
    dying_at_hand_over(1, None);
}

#[test]
fn one_of_three_that_dies_handing_over_hangs_nobody() {
    dying_at_hand_over(2, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_sleeps_unbounded_at_hand_over() {
    dying_at_hand_over(1, Some(Fault::SleepsUnboundedAtHandOff));
}

// ---- trying --------------------------------------------------------------------------------------

#[test]
fn trying_never_waits_and_never_shares() {
    explore(|| {
        let shared = Shared::new(RawMutex::new());
        let trying = spawn(&shared, |shared| {
            // SAFETY: the mutex outlives all threads of the model.
            match unsafe { shared.mutex.try_lock() } {
                Ok(_) => {
                    shared.section();
                    shared.unlock();
                }
                Err(error) => assert_eq!(error, RawLockError::WouldBlock),
            }
        });
        shared.add();
        trying.join().expect("no panic");
        // SAFETY: as above.
        unsafe { shared.mutex.try_lock() }.expect("nobody holds it");
        shared.unlock();
    });
}
