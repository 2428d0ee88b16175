//! The condition variable under loom, with the raw mutex: every schedule within the preemption bound, and
//! deaths at every step.
//!
//! Beside each claim stands a twin, a condition variable broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_condvar`

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed as Plain};

use shm_core::Deadline;
use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, Ordering, explore, thread};
use shm_lock::{Acquired, CondvarFault as Fault, RawCondvar, RawMutex};

/// What the threads share: a number of items, under the mutex.
struct Shared {
    mutex: RawMutex,
    condvar: RawCondvar,
    items: AtomicU32,
    /// The victim has taken one.
    taken_by_victim: AtomicU32,
    /// The one who must get through has got through.
    done: AtomicU32,
}

/// The mutex, held; as a real guard it unlocks when it is dropped, but not for the killed.
struct Held<'a>(&'a Shared, Acquired);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `lock` alone.
            unsafe { self.0.mutex.unlock() };
        }
    }
}

impl Shared {
    fn new(fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            mutex: RawMutex::new(),
            condvar: RawCondvar::new_broken(fault),
            items: AtomicU32::new(0),
            taken_by_victim: AtomicU32::new(0),
            done: AtomicU32::new(0),
        })
    }

    fn lock(&self) -> Held<'_> {
        // SAFETY: the mutex outlives all threads of the model.
        let acquired = unsafe { self.mutex.lock(None) }.expect("no deadline");
        Held(self, acquired)
    }

    fn wait<'a>(&'a self, held: Held<'a>, deadline: Option<Deadline>) -> (Held<'a>, bool) {
        let lock = || -> Result<_, std::convert::Infallible> { Ok(self.lock()) };
        let waited = self.condvar.wait(7, deadline, held, lock);
        let Ok((Ok(held), notified)) = waited else {
            unreachable!("there is one mutex, and it can be locked")
        };
        (held, notified)
    }

    fn put(&self, count: u32) {
        let held = self.lock();
        // Relaxed, here and below: under the mutex.
        let items = self.items.load(Ordering::Relaxed);
        self.items.store(items + count, Ordering::Relaxed);
        drop(held);
    }

    fn take(&self) -> Held<'_> {
        let mut held = self.lock();
        while self.items.load(Ordering::Relaxed) == 0 {
            held = self.wait(held, None).0;
        }
        let items = self.items.load(Ordering::Relaxed);
        self.items.store(items - 1, Ordering::Relaxed);
        held
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// Schedules with one preemption: three threads, two locks and thirty points of death are many.
fn explore_less(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.max_branches = 20_000;
    builder.check(model);
}

fn takes_one(shared: &Shared) {
    drop(shared.take());
}

// ---- nobody is overlooked ------------------------------------------------------------------------

/// `waiters` take one item each; they are put, all together or one by one, and announced.
fn delivery(waiters: u32, all: bool, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(fault);
        let others: Vec<_> = (1..waiters).map(|_| spawn(&shared, takes_one)).collect();
        let notifier = spawn(&shared, move |shared| {
            if all {
                shared.put(waiters);
                shared.condvar.notify(usize::MAX);
            } else {
                for _ in 0..waiters {
                    shared.put(1);
                    shared.condvar.notify(1);
                }
            }
        });
        takes_one(&shared);
        for other in others {
            other.join().expect("no panic");
        }
        notifier.join().expect("no panic");
    });
}

#[test]
fn unlock_and_sleep_are_one_step() {
    delivery(1, false, None);
}

#[test]
fn notify_all_reaches_all() {
    delivery(2, true, None);
}

#[test]
fn each_notify_one_reaches_one() {
    delivery(2, false, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_counts_itself_after_unlocking() {
    delivery(1, false, Some(Fault::CountsItselfAfterUnlocking));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_reads_seq_after_looking() {
    delivery(1, false, Some(Fault::ReadsSeqAfterLooking));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake() {
    delivery(1, false, Some(Fault::ForgetsToWake));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_wakes_one_for_all() {
    delivery(2, true, Some(Fault::WakesOneForAll));
}

// ---- giving up -----------------------------------------------------------------------------------

/// One gives up at its n-th look at the clock; the only item and the only signal reach the other.
fn giving_up(fault: Option<Fault>) {
    let gave_up = Arc::new(AtomicUsize::new(0));
    for n in 1..=4 {
        let counted = Arc::clone(&gave_up);
        explore_less(move || {
            let shared = Shared::new(fault);
            let impatient = spawn(&shared, move |shared| {
                let held = shared.lock();
                if shared.done.load(Ordering::Relaxed) != 0 {
                    return 0;
                }
                let (held, notified) = shared.wait(held, Some(Deadline::from_nanoseconds(n)));
                drop(held);
                if notified {
                    // It has had the signal, and leaves the item to whoever wants it.
                    shared.condvar.notify(1);
                }
                usize::from(!notified)
            });
            let notifier = spawn(&shared, |shared| {
                shared.put(1);
                shared.condvar.notify(1);
            });
            let held = shared.take();
            shared.done.store(1, Ordering::Relaxed);
            drop(held);
            notifier.join().expect("no panic");
            // In the model a deadline does not end a sleep; this one may have been overtaken.
            shared.condvar.notify(usize::MAX);
            counted.fetch_add(impatient.join().expect("no panic"), Plain);
        });
    }
    assert_ne!(gave_up.load(Plain), 0, "nobody gave up");
}

#[test]
fn giving_up_loses_no_signal() {
    giving_up(None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_leaves_without_looking() {
    giving_up(Some(Fault::LeavesWithoutLooking));
}

// ---- death ---------------------------------------------------------------------------------------

/// One of two waiters is killed at each step, and there is one item and one signal. Whoever takes the item
/// puts another, so that both come through if nobody dies.
fn dying_waiter(fault: Option<Fault>, slices_end: bool) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(fault);
            let victim = spawn(&shared, move |shared| {
                let outcome = death::run(step, || {
                    let held = shared.take();
                    shared.taken_by_victim.store(1, Ordering::Relaxed);
                    drop(held);
                });
                after_the_victim(shared, outcome, slices_end);
            });
            let notifier = spawn(&shared, |shared| {
                shared.put(1);
                shared.condvar.notify(1);
            });
            takes_one(&shared);
            shared.put(1);
            shared.condvar.notify(1);
            notifier.join().expect("no panic");
            victim.join().expect("no panic");
        });
    });
}

/// What others do when it is over with the victim: they let time pass, repair what the mutex says is broken,
/// and replace the item that it took. Nobody notifies for its sake otherwise.
fn after_the_victim(shared: &Shared, outcome: Outcome<()>, slices_end: bool) {
    if outcome == Outcome::Killed && slices_end {
        shared.condvar.end_slices();
    }
    let held = shared.lock();
    let broken = held.1.inconsistent;
    let taken = shared.taken_by_victim.load(Ordering::Relaxed) != 0;
    if broken {
        shared.mutex.mark_consistent();
    }
    drop(held);
    if broken || taken {
        shared.put(1);
        shared.condvar.notify(usize::MAX);
    }
}

#[test]
fn a_killed_waiter_loses_no_signal() {
    dying_waiter(None, true);
}

/// Why every sleep is sliced.
#[test]
#[should_panic(expected = "deadlock")]
fn twin_whose_slices_do_not_end() {
    dying_waiter(None, false);
}

/// Why a signal is taken under the mutex.
#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_takes_the_signal_before_the_lock() {
    dying_waiter(Some(Fault::TakesTheSignalBeforeTheLock), true);
}

/// The notifier is killed at each step: it has notified or not, and a second one is always heard.
#[test]
fn a_killed_notifier_leaves_a_condition_variable_that_works() {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(None);
            let notifier = spawn(&shared, move |shared| {
                shared.put(1);
                let outcome = death::run(step, || shared.condvar.notify(1));
                if outcome == Outcome::Killed {
                    // A slice that ends before its sleep began is followed by another one.
                    while shared.done.load(Ordering::Acquire) == 0
                        && shared.condvar.inspect().waiters == 0
                    {
                        thread::yield_now();
                    }
                    shared.condvar.end_slices();
                    shared.condvar.notify(1);
                }
            });
            takes_one(&shared);
            shared.done.store(1, Ordering::Release);
            notifier.join().expect("no panic");
        });
    });
}
