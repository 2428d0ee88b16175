//! The robust semaphore under loom: never too many permits, no wake lost, none kept by the dead.
//!
//! Beside each claim stands a twin, a semaphore broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-lock --test loom_robust_semaphore`

#![cfg(loom)]

use std::sync::Arc;

use shm_core::sync::death::{self};
use shm_core::sync::{AtomicU32, Ordering, explore, thread};
use shm_lock::{
    Patience, RawLockError, RawRobustSemaphore, RobustSemaphoreFault, SemaphoreHead, Slot,
};

const NEVER: usize = usize::MAX;

struct Shared {
    head: SemaphoreHead,
    slots: Vec<Slot>,
    /// How many have a permit.
    inside: AtomicU32,
}

impl Shared {
    fn new(permits: usize, fault: Option<RobustSemaphoreFault>, looks: bool) -> Arc<Self> {
        Arc::new(Self {
            head: SemaphoreHead::new(fault, looks),
            slots: (0..permits).map(|_| Slot::new()).collect(),
            inside: AtomicU32::new(0),
        })
    }

    fn acquire(&self, patience: Patience) -> Result<usize, RawLockError> {
        // SAFETY: the semaphore outlives all threads of the model.
        let permit = unsafe { RawRobustSemaphore::new(&self.head, &self.slots).acquire(patience) };
        permit.map(|(slot, _)| slot)
    }

    fn release(&self, slot: usize) {
        // SAFETY: every caller has it from `acquire`.
        unsafe { RawRobustSemaphore::new(&self.head, &self.slots).release(slot) }
    }

    fn pass(&self) {
        let permit = self.acquire(Patience::Endless).expect("no deadline");
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        assert!((before as usize) < self.slots.len(), "too many permits");
        self.inside.fetch_sub(1, Ordering::Relaxed);
        self.release(permit);
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

fn passing(threads: usize, permits: usize, fault: Option<RobustSemaphoreFault>) {
    explore(move || {
        let shared = Shared::new(permits, fault, false);
        let others: Vec<_> = (1..threads).map(|_| spawn(&shared, Shared::pass)).collect();
        shared.pass();
        for other in others {
            other.join().expect("no panic");
        }
        for _ in 0..permits {
            shared.acquire(Patience::None).expect("all are back");
        }
    });
}

#[test]
fn all_who_wait_get_a_permit() {
    passing(2, 1, None);
    passing(3, 2, None);
}

#[test]
fn three_stand_in_line_for_one_permit() {
    passing(3, 1, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake() {
    passing(2, 1, Some(RobustSemaphoreFault::ForgetsToWake));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_sleeps_without_another_look() {
    passing(2, 1, Some(RobustSemaphoreFault::SleepsWithoutAnotherLook));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_releases_without_a_fence() {
    passing(2, 1, Some(RobustSemaphoreFault::ReleasesWithoutFence));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_waits_without_a_fence() {
    passing(2, 1, Some(RobustSemaphoreFault::WaitsWithoutFence));
}

/// One is killed at each step, holding, waiting first in line or behind: its permit comes back.
fn dying(others: usize) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(1, None, true);
            let victim = spawn(&shared, move |shared| {
                death::run(step, || {
                    let permit = shared.acquire(Patience::Endless).expect("no deadline");
                    shared.release(permit);
                });
            });
            let through = |shared: &Shared| {
                let permit = shared.acquire(Patience::Endless).expect("no deadline");
                shared.release(permit);
            };
            let others: Vec<_> = (0..others).map(|_| spawn(&shared, through)).collect();
            through(&shared);
            for other in others {
                other.join().expect("no panic");
            }
            victim.join().expect("no panic");
            shared.acquire(Patience::None).expect("it is back");
        });
    });
}

#[test]
fn a_permit_comes_back_wherever_its_holder_dies() {
    dying(0);
}

#[test]
fn the_line_moves_on_wherever_one_of_three_dies() {
    dying(1);
}

/// The bound of the sleep is what finds the permit of one that died while another slept for it.
#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_does_not_look_by_itself() {
    explore(|| {
        let shared = Shared::new(1, None, false);
        let victim = spawn(&shared, |shared| {
            death::run(NEVER, || {
                shared.acquire(Patience::Endless).expect("no deadline");
            });
        });
        shared.pass();
        victim.join().expect("no panic");
    });
}
