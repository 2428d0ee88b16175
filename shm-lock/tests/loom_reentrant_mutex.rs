//! The reentrant mutex under loom: its owner alone enters again, and whoever comes after a death enters
//! anew.
//!
//! Beside each claim stands a twin, a mutex broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_reentrant_mutex`

#![cfg(loom)]

use std::sync::Arc;

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, UnsafeCell, explore, thread};
use shm_lock::{Patience, RawLockError, RawReentrantMutex, ReentrantFault as Fault};

/// What the threads share.
struct Shared {
    mutex: RawReentrantMutex,
    /// Loom reports two that touch it at once.
    count: UnsafeCell<u32>,
    /// Equal whenever nobody is inside; each store is a step at which the thread may die.
    first: AtomicU32,
    second: AtomicU32,
}

// SAFETY: `count` is touched under the lock alone, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new(fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            mutex: RawReentrantMutex::new(fault),
            count: UnsafeCell::new(0),
            first: AtomicU32::new(0),
            second: AtomicU32::new(0),
        })
    }

    fn touch(&self) {
        self.count.with_mut(|count| {
            // SAFETY: the lock is held; loom checks that.
            unsafe { *count += 1 }
        });
    }

    /// Enters; whether there was a report, which is settled before anybody enters again.
    fn enter(&self) -> bool {
        // SAFETY: the mutex outlives all threads of the model.
        let acquired = unsafe { self.mutex.acquire(Patience::Endless) };
        let acquired = acquired.expect("no deadline").expect("not held before");
        if acquired.is_clean() {
            return false;
        }
        assert_eq!(self.mutex.times(), 1, "a report is found with one guard");
        assert_eq!(self.again(), Err(RawLockError::Deadlock), "it is alone");
        self.mutex.mark_consistent();
        true
    }

    /// Enters once more.
    fn again(&self) -> Result<(), RawLockError> {
        // SAFETY: as in `enter`.
        let acquired = unsafe { self.mutex.acquire(Patience::Endless) }?;
        assert!(acquired.is_none(), "held before");
        Ok(())
    }

    /// Goes in twice and out twice, and touches what is protected at each depth. Gives whether there
    /// was a report.
    fn nest(&self) -> bool {
        let told = self.enter();
        let [first, second] = [&self.first, &self.second].map(|half| half.load(Ordering::Relaxed));
        assert!(first == second || told, "torn, and nobody said so");
        self.touch();
        self.first.store(first + 1, Ordering::Relaxed);
        self.again().expect("settled");
        assert_eq!(self.mutex.times(), 2);
        self.touch();
        self.mutex.release(false);
        self.touch();
        self.second.store(first + 1, Ordering::Relaxed);
        self.mutex.release(false);
        assert!(!self.mutex.is_held_by_me());
        told
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

fn nesting(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(fault);
        let other = spawn(&shared, Shared::nest);
        let told = shared.nest();
        assert!(!told && !other.join().expect("no panic"), "nobody died");
        assert!(!shared.enter());
        // SAFETY: the lock is held; loom checks that.
        assert_eq!(shared.count.with(|count| unsafe { *count }), 6);
    });
}

#[test]
fn only_its_owner_enters_again() {
    nesting(None);
}

#[test]
#[should_panic(expected = "torn, and nobody said so")]
fn twin_that_releases_at_once() {
    nesting(Some(Fault::ReleasesAtOnce));
}

#[test]
#[should_panic(expected = "not held before")]
fn twin_that_lets_anybody_in() {
    nesting(Some(Fault::LetsAnybodyIn));
}

/// One is killed at each step; the next two go in and out as if it had never nested.
fn dying(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(fault);
            let victim = spawn(&shared, move |shared| death::run(step, || shared.nest()));
            let told = shared.nest();
            let killed = victim.join().expect("no panic") == Outcome::Killed;
            assert!(killed || !told, "a false report");
            let told_later = shared.nest();
            assert!(!(told && told_later), "one death, two reports");
            assert!(killed || !told_later, "a false report");
        });
    });
}

#[test]
fn whoever_comes_after_a_death_starts_anew() {
    dying(None);
}

#[test]
#[should_panic(expected = "a report is found with one guard")]
fn twin_that_inherits_the_depth() {
    dying(Some(Fault::InheritsTheDepth));
}

#[test]
#[should_panic(expected = "it is alone")]
fn twin_that_forgets_the_report() {
    dying(Some(Fault::ForgetsTheReport));
}
