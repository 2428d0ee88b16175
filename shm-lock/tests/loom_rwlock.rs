//! The reader-writer lock under loom: readers, writers, and deaths of both at every step.
//!
//! Beside each claim stands a twin, a lock broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_rwlock`

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed as Plain};

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, UnsafeCell, explore, thread};
use shm_lock::{Acquired, LockFailure, Patience, RawLockError, RawRwLock, RwFault, RwHead, Slot};

const NEVER: usize = usize::MAX;

/// What the threads share.
struct Shared {
    head: RwHead,
    slots: Vec<Slot>,
    /// Loom reports a writer beside anybody else.
    count: UnsafeCell<u32>,
    /// Equal whenever no section is open; each store is a step at which the thread may die.
    first: AtomicU32,
    second: AtomicU32,
}

// SAFETY: `count` is touched under the lock alone, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new(slots: usize, fault: Option<RwFault>) -> Arc<Self> {
        Arc::new(Self {
            head: RwHead::new(fault),
            slots: (0..slots).map(|_| Slot::new()).collect(),
            count: UnsafeCell::new(0),
            first: AtomicU32::new(0),
            second: AtomicU32::new(0),
        })
    }

    fn lock(&self) -> RawRwLock<'_> {
        RawRwLock::new(&self.head, &self.slots)
    }

    fn read(&self, patience: Patience) -> Result<usize, LockFailure> {
        // SAFETY: the lock outlives all threads of the model.
        unsafe { self.lock().read(patience) }
    }

    fn unlock_read(&self, slot: usize) {
        // SAFETY: every caller has it from `read`.
        unsafe { self.lock().unlock_read(slot) }
    }

    fn write(&self, patience: Patience) -> Result<Acquired, RawLockError> {
        // SAFETY: the lock outlives all threads of the model.
        unsafe { self.lock().write(patience) }
    }

    fn unlock_write(&self) {
        // SAFETY: every caller has locked it.
        unsafe { self.lock().unlock_write() }
    }

    /// What a reader does.
    fn look(&self) -> u32 {
        let first = self.first.load(Ordering::Relaxed);
        let second = self.second.load(Ordering::Relaxed);
        assert_eq!(first, second, "torn, and nobody said so");
        // SAFETY: a slot is held; loom checks that nobody writes.
        assert_eq!(self.count.with(|count| unsafe { *count }), first, "count");
        first
    }

    /// What a writer does; can be cut between its steps.
    fn add(&self, acquired: &Acquired) {
        let first = self.first.load(Ordering::Relaxed);
        let second = self.second.load(Ordering::Relaxed);
        assert!(
            first == second || acquired.inconsistent,
            "torn, and nobody said so"
        );
        self.first.store(first + 1, Ordering::Relaxed);
        self.count.with_mut(|count| {
            // SAFETY: the lock is held; loom checks that.
            unsafe { *count = first + 1 }
        });
        self.second.store(first + 1, Ordering::Relaxed);
        self.lock().mark_consistent();
    }

    fn write_once(&self) -> Acquired {
        let acquired = self.write(Patience::Endless).expect("no deadline");
        self.add(&acquired);
        self.unlock_write();
        acquired
    }

    /// Reads, or learns that a repair is due.
    fn read_once(&self) -> Option<u32> {
        match self.read(Patience::Endless) {
            Ok(slot) => {
                let seen = self.look();
                self.unlock_read(slot);
                Some(seen)
            }
            Err(LockFailure::NeedsRepair(_)) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn read_whole(&self) -> u32 {
        self.read_once().expect("nobody died: a false report")
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

// ---- exclusion -----------------------------------------------------------------------------------

fn reader_and_writer(slots: usize, fault: Option<RwFault>) {
    explore(move || {
        let shared = Shared::new(slots, fault);
        let reader = spawn(&shared, Shared::read_whole);
        shared.write_once();
        assert!(reader.join().expect("no panic") <= 1);
        assert_eq!(shared.read_whole(), 1);
    });
}

#[test]
fn a_reader_and_a_writer_exclude_each_other() {
    reader_and_writer(1, None);
    reader_and_writer(2, None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_whose_writer_skips_a_slot() {
    // One slot, and it is the one that is skipped.
    reader_and_writer(1, Some(RwFault::WriterSkipsASlot));
}

#[test]
#[should_panic(expected = "a false report")]
fn twin_that_closes_the_section_after_the_release() {
    reader_and_writer(2, Some(RwFault::ClosesAfterRelease));
}

#[test]
fn two_writers_and_a_reader_exclude_each_other() {
    explore(|| {
        let shared = Shared::new(1, None);
        let writer = spawn(&shared, |shared| {
            shared.write_once();
        });
        let reader = spawn(&shared, Shared::read_whole);
        shared.write_once();
        writer.join().expect("no panic");
        reader.join().expect("no panic");
        assert_eq!(shared.read_whole(), 2);
    });
}

#[test]
fn one_reader_more_than_slots_gets_its_turn() {
    explore(|| {
        let shared = Shared::new(1, None);
        let other = spawn(&shared, Shared::read_whole);
        shared.read_whole();
        other.join().expect("no panic");
    });
}

// ---- nesting -------------------------------------------------------------------------------------

fn nested_read(fault: Option<RwFault>) {
    explore(move || {
        let shared = Shared::new(2, fault);
        let writer = spawn(&shared, |shared| {
            shared.write_once();
        });
        let outer = shared.read(Patience::Endless).expect("nobody died");
        let before = shared.look();
        let inner = shared.read(Patience::Endless).expect("never waits");
        assert_eq!(shared.look(), before);
        shared.unlock_read(inner);
        assert_eq!(shared.look(), before, "the outer read goes on");
        shared.unlock_read(outer);
        writer.join().expect("no panic");
        assert_eq!(shared.read_whole(), 1);
    });
}

#[test]
fn a_nested_read_does_not_wait_for_a_writer_that_waits_for_it() {
    nested_read(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_nested_read_waits() {
    nested_read(Some(RwFault::NestedReadWaits));
}

fn write_while_reading(fault: Option<RwFault>) {
    explore(move || {
        let shared = Shared::new(2, fault);
        let writer = spawn(&shared, |shared| {
            shared.write_once();
        });
        let slot = shared.read(Patience::Endless).expect("nobody died");
        let refused = shared.write(Patience::Endless);
        assert_eq!(refused.err(), Some(RawLockError::Deadlock));
        shared.unlock_read(slot);
        writer.join().expect("no panic");
        shared.write_once();
        assert_eq!(shared.read_whole(), 2);
    });
}

#[test]
fn who_reads_and_would_write_does_not_wait_for_a_writer_that_waits_for_it() {
    write_while_reading(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_reader_waits_to_write() {
    write_while_reading(Some(RwFault::ReaderWaitsToWrite));
}

fn downgrade(fault: Option<RwFault>) {
    explore(move || {
        let shared = Shared::new(2, fault);
        let other = spawn(&shared, |shared| {
            shared.write_once();
        });
        let acquired = shared.write(Patience::Endless).expect("no deadline");
        shared.add(&acquired);
        let mine = shared.first.load(Ordering::Relaxed);
        // SAFETY: locked above.
        let slot = unsafe { shared.lock().downgrade() };
        assert_eq!(shared.look(), mine, "somebody wrote in between");
        shared.unlock_read(slot);
        other.join().expect("no panic");
        assert_eq!(shared.read_whole(), 2);
    });
}

#[test]
fn nobody_writes_between_a_downgrade_and_the_read() {
    downgrade(None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_downgrades_without_a_slot() {
    downgrade(Some(RwFault::DowngradesWithoutASlot));
}

// ---- giving up -----------------------------------------------------------------------------------

fn giving_up(fault: Option<RwFault>) {
    let gave_up = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&gave_up);
    explore(move || {
        let shared = Shared::new(2, fault);
        let reader = spawn(&shared, Shared::read_whole);
        match shared.write(Patience::None) {
            Ok(acquired) => {
                shared.add(&acquired);
                shared.unlock_write();
            }
            Err(error) => {
                assert_eq!(error, RawLockError::WouldBlock);
                counted.fetch_add(1, Plain);
            }
        }
        reader.join().expect("no panic");
        shared.write_once();
    });
    assert_ne!(gave_up.load(Plain), 0, "nobody gave up");
}

#[test]
fn a_writer_that_gives_up_leaves_nothing() {
    giving_up(None);
}

#[test]
#[should_panic(expected = "Deadlock")]
fn twin_that_gives_up_with_slots_in_hand() {
    giving_up(Some(RwFault::GivesUpWithSlots));
}

// ---- death ---------------------------------------------------------------------------------------

/// A writer is killed at each step: what a reader and the next writer are told.
fn reports(fault: Option<RwFault>) -> String {
    let reports = Arc::new(std::sync::Mutex::new(String::new()));
    death::at_every_step(|step| {
        let reports = Arc::clone(&reports);
        explore(move || {
            let shared = Shared::new(2, fault);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || {
                    shared.write(Patience::Endless).expect("no deadline");
                    shared.first.store(0, Ordering::Relaxed);
                    shared.unlock_write();
                })
            });
            let outcome = victim.join().expect("no panic");
            let told = shared.read_once().is_none();
            let acquired = shared.write(Patience::Endless).expect("no deadline");
            assert_eq!(told, acquired.inconsistent, "reader and writer disagree");
            assert_eq!(acquired.inconsistent, acquired.dead_owner.is_some());
            assert_eq!(acquired.deaths, u32::from(acquired.inconsistent));
            let report = match outcome {
                Outcome::Finished(()) => '|',
                Outcome::Killed if told => '!',
                Outcome::Killed => '.',
            };
            reports.lock().expect("no panic").push(report);
            shared.unlock_write();
            assert_eq!(
                shared.read_once().is_none(),
                told,
                "reported until repaired"
            );
        });
    });
    let reports = reports.lock().expect("no panic").clone();
    reports
}

#[test]
fn a_writers_death_is_reported_exactly_if_its_section_was_open() {
    let reports = reports(None);
    // Nothing, then the section and the looks around it, then nothing, then no death.
    let open = reports.trim_start_matches('.');
    let closed = open.trim_start_matches('!');
    assert!(open.len() - closed.len() >= 3, "{reports}");
    assert_eq!(closed.trim_start_matches('.'), "|", "{reports}");
    assert!(reports.starts_with("..........."), "{reports}");
}

/// A writer is killed at each step while a reader and another writer want the lock.
fn dying_writer(fault: Option<RwFault>) {
    let reported = Arc::new(AtomicUsize::new(0));
    death::at_every_step(|step| {
        let reported = Arc::clone(&reported);
        explore(move || {
            let shared = Shared::new(1, fault);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || shared.write_once());
            });
            let told = shared.read_once().is_none();
            let repaired = shared.write_once().inconsistent;
            victim.join().expect("no panic");
            reported.fetch_add(usize::from(told) + usize::from(repaired), Plain);
            // After the victim: whole, or reported.
            shared.write_once();
            shared.read_whole();
        });
    });
    assert_ne!(reported.load(Plain), 0, "no death hit a section");
}

#[test]
fn survivors_go_on_wherever_a_writer_dies() {
    dying_writer(None);
}

#[test]
#[should_panic(expected = "torn")]
fn twin_that_never_opens_the_section() {
    dying_writer(Some(RwFault::NeverOpensTheSection));
}

/// A reader is killed at each step: nobody is told, and nobody waits for it.
#[test]
fn survivors_go_on_wherever_a_reader_dies() {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, None);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || {
                    let slot = shared.read(Patience::Endless).expect("nobody dies writing");
                    let nested = shared.read(Patience::Endless).expect("never waits");
                    shared.look();
                    shared.unlock_read(nested);
                    shared.unlock_read(slot);
                });
            });
            assert!(!shared.write_once().inconsistent, "a reader breaks nothing");
            shared.read_whole();
            victim.join().expect("no panic");
            shared.write_once();
            // Each of the two slots can be had, with no depth left of the dead.
            let slot = shared.read(Patience::None).expect("free");
            shared.unlock_read(slot);
            shared.write(Patience::None).expect("all are free");
        });
    });
}

/// The lock is orphaned in a section, and the writer that recovers is killed at each step too.
fn dying_recovery(fault: Option<RwFault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(1, fault);
            let owner = spawn(&shared, |shared| {
                death::run(NEVER, || {
                    shared.write(Patience::Endless).expect("no deadline");
                    shared.first.store(7, Ordering::Relaxed);
                })
            });
            owner.join().expect("no panic");
            let recoverer = spawn(&shared, move |shared| {
                death::run(step, || shared.write_once());
            });
            shared.read_once();
            recoverer.join().expect("no panic");
            shared.write_once();
            shared.read_whole();
        });
    });
}

#[test]
fn a_death_in_recovery_forgets_nothing() {
    dying_recovery(None);
}

#[test]
#[should_panic(expected = "torn")]
fn twin_that_clears_the_writer_before_noting_the_death() {
    dying_recovery(Some(RwFault::ClearsBeforeNoting));
}
