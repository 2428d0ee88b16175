//! The barrier under loom: every schedule within the preemption bound, and deaths at every step.
//!
//! Beside each claim stands a twin, a barrier broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_barrier`

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed as Plain};

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, UnsafeCell, explore, thread};
use shm_core::{Deadline, ProcessId};
use shm_lock::{BarrierFault as Fault, BrokenBarrier, RawBarrier, RawParty};

/// What the threads share.
struct Shared {
    barrier: RawBarrier,
    /// Thread n writes `cells[n]` before the barrier, and the others read it after: loom reports a reader
    /// that does not see the writer.
    cells: [UnsafeCell<u32>; 3],
    /// The process number that is dead.
    dead: AtomicU32,
    /// The one who must get through, or hear that it broke, has.
    done: AtomicU32,
}

// SAFETY: the cells are written before the barrier and read after it, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// The process of a thread of the model; started at tick 1.
fn process(number: u32) -> ProcessId {
    ProcessId::from_bits(1 << 22 | u64::from(number)).expect("a process id")
}

impl Shared {
    fn new(parties: u32, fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            barrier: RawBarrier::new_broken(parties, fault),
            cells: std::array::from_fn(|_| UnsafeCell::new(0)),
            dead: AtomicU32::new(0),
            done: AtomicU32::new(0),
        })
    }

    fn wait(&self, number: u32) -> Result<u32, BrokenBarrier> {
        self.wait_as(RawParty::Passing(process(number)), None)
    }

    fn wait_as(&self, party: RawParty, deadline: Option<Deadline>) -> Result<u32, BrokenBarrier> {
        let is_alive = |id: ProcessId| id.pid() != self.dead.load(Ordering::Acquire);
        self.barrier.wait(party, deadline, is_alive)
    }

    /// One round of thread `number` from 1 among `parties`, then a look at what the others wrote.
    fn round(&self, number: u32, parties: u32, value: u32) -> u32 {
        self.cells[number as usize - 1].with_mut(|cell| {
            // SAFETY: nobody reads before the barrier; loom checks that.
            unsafe { *cell = value }
        });
        let index = self.wait(number).expect("nobody breaks it");
        for cell in &self.cells[..parties as usize] {
            // SAFETY: written before the barrier; loom checks that.
            assert_eq!(cell.with(|cell| unsafe { *cell }), value);
        }
        index
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// Schedules with one preemption, where threads and points of death are many.
fn explore_less(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.max_branches = 20_000;
    builder.check(model);
}

// ---- lockstep ------------------------------------------------------------------------------------

fn lockstep(parties: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(parties, fault);
        let others: Vec<_> = (2..=parties)
            .map(|number| spawn(&shared, move |shared| shared.round(number, parties, 1)))
            .collect();
        let mut indices = vec![shared.round(1, parties, 1)];
        indices.extend(
            others
                .into_iter()
                .map(|other| other.join().expect("no panic")),
        );
        indices.sort_unstable();
        assert!(indices.into_iter().eq(0..parties), "each number once");
    });
}

#[test]
fn all_come_before_any_goes() {
    lockstep(2, None);
    lockstep(3, None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_arrives_with_relaxed() {
    lockstep(2, Some(Fault::ArrivesWithRelaxed));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_the_bell() {
    lockstep(2, Some(Fault::ForgetsTheBell));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_reads_the_bell_after_looking() {
    lockstep(2, Some(Fault::ReadsTheBellAfterLooking));
}

/// The first to go may be back before the last has woken.
#[test]
fn a_round_follows_the_other() {
    explore(|| {
        let shared = Shared::new(2, None);
        let other = spawn(&shared, |shared| {
            (0..2).map(|_| shared.wait(2).is_ok()).collect::<Vec<_>>()
        });
        let mine: Vec<_> = (0..2).map(|_| shared.wait(1).is_ok()).collect();
        assert_eq!(mine, [true, true]);
        assert_eq!(other.join().expect("no panic"), [true, true]);
        assert_eq!(shared.barrier.inspect().rounds, 2);
    });
}

// ---- abort, reset, timeout -----------------------------------------------------------------------

#[test]
fn abort_breaks_it_for_who_waits_and_who_comes() {
    explore(|| {
        let shared = Shared::new(2, None);
        let waiter = spawn(&shared, |shared| shared.wait(2));
        shared.barrier.abort();
        assert!(waiter.join().expect("no panic").is_err());
        assert!(shared.barrier.is_broken() && shared.wait(1).is_err());
    });
}

/// A reset while one waits, and a whole round at once afterwards: the one who waited must not take the
/// end of that round for its own.
fn resetting(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(2, fault);
        let waiter = spawn(&shared, |shared| {
            let result = shared.wait(2);
            shared.done.store(1, Ordering::Release);
            result
        });
        while shared.barrier.sleepers() == 0 {
            thread::yield_now();
        }
        shared.barrier.reset();
        assert!(!shared.barrier.is_broken());
        let result = waiter.join().expect("no panic");
        assert!(result.is_err(), "the other party never came");
    });
}

#[test]
fn a_reset_breaks_it_for_who_waits() {
    resetting(None);
}

#[test]
#[should_panic(expected = "never came")]
fn twin_that_forgets_history() {
    resetting(Some(Fault::ForgetsHistory));
}

/// One gives up at its n-th look at the clock: both get through, or neither does.
#[test]
fn a_timeout_breaks_it_for_all_or_none() {
    let broken = Arc::new(AtomicUsize::new(0));
    for n in 1..=2 {
        let counted = Arc::clone(&broken);
        explore(move || {
            let shared = Shared::new(2, None);
            let impatient = spawn(&shared, move |shared| {
                let deadline = Some(Deadline::from_nanoseconds(n));
                shared.wait_as(RawParty::Passing(process(2)), deadline)
            });
            let mine = shared.wait(1);
            let theirs = impatient.join().expect("no panic");
            assert_eq!(mine.is_ok(), theirs.is_ok());
            if let Err(error) = theirs {
                assert!(error.timed_out() && mine.is_err_and(|mine| !mine.timed_out()));
                counted.fetch_add(1, Plain);
            }
        });
    }
    assert_ne!(broken.load(Plain), 0, "nobody was late");
}

// ---- death ---------------------------------------------------------------------------------------

/// Lets time pass until the one who waits has heard: a slice that ends before its sleep began is
/// followed by another one.
fn let_a_slice_end(shared: &Shared) {
    while shared.done.load(Ordering::Acquire) == 0 && shared.barrier.sleepers() == 0 {
        thread::yield_now();
    }
    shared.barrier.end_slices();
}

/// A registered party is killed at each step of its wait; the other gets through, or hears who died.
fn dying_party(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(2, fault);
            let standing = shared.barrier.register(process(2), |_| true);
            let standing = standing.expect("there is room");
            let victim = spawn(&shared, move |shared| {
                let party = RawParty::Registered(standing);
                let outcome = death::run(step, || shared.wait_as(party, None));
                if outcome == Outcome::Killed {
                    shared.dead.store(2, Ordering::Release);
                    let_a_slice_end(shared);
                }
                outcome
            });
            let mine = shared.wait(1);
            shared.done.store(1, Ordering::Release);
            if let Err(error) = mine {
                assert_eq!(error.dead_party(), Some(process(2)));
                assert!(shared.barrier.inspect().registered.is_empty());
            }
            let theirs = victim.join().expect("no panic");
            if let Outcome::Finished(theirs) = theirs {
                assert!(theirs.is_ok() && mine.is_ok());
            }
        });
    });
}

#[test]
fn a_registered_party_may_die_anywhere() {
    dying_party(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_ignores_the_dead() {
    dying_party(Some(Fault::IgnoresTheDead));
}

/// Three parties of which one never comes. One that did not register is killed at each step of its wait;
/// once it has arrived, the other hears of it.
fn dying_waiter(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(3, fault);
            let victim = spawn(&shared, move |shared| {
                // Late in any case, so that it ends if it is not killed.
                let deadline = Some(Deadline::from_nanoseconds(1));
                let party = RawParty::Passing(process(2));
                let outcome = death::run(step, || shared.wait_as(party, deadline));
                if outcome == Outcome::Killed {
                    shared.dead.store(2, Ordering::Release);
                    let_a_slice_end(shared);
                    // The other has arrived, or is through. Without the victim's arrival, nobody knows of it
                    // but by the other's timeout.
                    if shared.barrier.waiting() == 1 {
                        shared.barrier.abort();
                    }
                }
            });
            assert!(shared.wait(1).is_err());
            shared.done.store(1, Ordering::Release);
            victim.join().expect("no panic");
        });
    });
}

#[test]
fn a_waiting_party_may_die_anywhere() {
    dying_waiter(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_arrives_before_it_stands() {
    dying_waiter(Some(Fault::ArrivesBeforeItStands));
}

/// A party that did not register dies when its round is complete, on its way out. That breaks no later
/// round, which has enough parties without it.
fn dying_on_the_way_out(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(2, fault);
            let victim = spawn(&shared, move |shared| death::run(step, || shared.wait(2)));
            let first = shared.wait_as(
                RawParty::Passing(process(1)),
                Some(Deadline::from_nanoseconds(2)),
            );
            let outcome = victim.join().expect("no panic");
            if outcome == Outcome::Killed {
                shared.dead.store(2, Ordering::Release);
            }
            if first.is_err() {
                return;
            }
            // The round was complete: now two others.
            let third = spawn(&shared, |shared| {
                let_a_slice_end(shared);
                shared.wait(3)
            });
            assert!(
                shared.wait(1).is_ok(),
                "broken by one that does not belong to it"
            );
            shared.done.store(1, Ordering::Release);
            assert!(third.join().expect("no panic").is_ok());
        });
    });
}

#[test]
fn one_that_dies_on_its_way_out_breaks_no_later_round() {
    dying_on_the_way_out(None);
}

#[test]
#[should_panic(expected = "does not belong")]
fn twin_that_believes_any_round() {
    dying_on_the_way_out(Some(Fault::BelievesAnyRound));
}
