//! A semaphore whose permits are locks, so that the kernel takes them back from the dead.
//!
//! ```text
//! offset size field   meaning (all zero: all permits free)
//!      0   48 queue   RawMutex: held by the first of those who wait for a permit
//!     48    4 waiting 1: somebody waits (hint of the first in the queue; any value is harmless)
//!     52    4 freed   futex: changes with each permit given back while somebody waits
//!     56    4 deaths  permits that came back from the dead, wrapping
//!     60    4 permits number of slots, 1 to 1024; never changes
//!     64   64 slot 0  RawMutex, and padding
//!    128      slot 1, ...
//! ```
//!
//! A permit is a slot. Who finds none lines up at `queue`; the first in the line looks at the slots, sleeps on
//! `freed`, and looks again. One permit given back wakes one sleeper, the first; it takes the permit and
//! gives the queue to the next. Who stands behind a first one that is stopped looks at the slots itself, each slice.
//!
//! # Invariants
//!
//! - INV-B1: who has a permit holds its slot, so there are never more permits out than slots.
//! - INV-B2: nobody sleeps on a slot. So its word is never handed over, and a slot that is free can be had.
//! - INV-B3: who sleeps on `freed` has, after it set `waiting` and read `freed`, seen every slot taken.
//!
//! # Pairs
//!
//! - PAIR permit-freed: the releaser frees the slot, fences, reads `waiting`; the first in the queue
//!   sets `waiting`, fences, looks at the slots. With both fences SeqCst one of them sees the other: the
//!   releaser sees `waiting`, or the first in the queue sees the slot free.
//! - PAIR futex-queue: the releaser changes `freed` before it wakes; the sleeper compares it.
//!
//! # Peer death
//!
//! | killed | left behind | seen by the others |
//! |--------|-------------|--------------------|
//! | with a permit | the slot, orphaned; the kernel does not know `freed` | the first in the queue finds it at its next look, after [`LOOK`] at most; others at once |
//! | giving back, before the wake | a free slot | the same |
//! | first in the queue | `queue`, orphaned; `waiting` | the kernel wakes the next in line, which looks |
//! | further back in the queue | nothing | nothing |
//! | none, but the first in the queue is stopped | `queue`, held | who stands behind looks at the slots after a slice |
//!
//! A permit protects nothing by itself, so its holder's death is no report; the guard tells whom it came from.
//!
//! Shown by `tests/loom_robust_semaphore.rs`, with broken twins.

use core::time::Duration;

use shm_core::mutants::mutant_of;
use shm_core::sync::{AtomicU32, Ordering, fence};
use shm_core::{Deadline, ProcessId, deadline, futex};

use crate::patience::Patience;
use crate::raw_mutex::{Acquired, RawInspect, RawLockError, RawMutex, SUSPICION};
use crate::slot::{self, Slot};

/// How long the first in the queue sleeps between looks for permits of the dead.
const LOOK: Duration = Duration::from_millis(10);

/// Ways to break the semaphore, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum RobustSemaphoreFault {
    ForgetsToWake,
    ReleasesWithoutFence,
    WaitsWithoutFence,
    SleepsWithoutAnotherLook,
}

/// What all who use the semaphore look at.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct SemaphoreHead {
    queue: RawMutex,
    waiting: AtomicU32,
    freed: AtomicU32,
    deaths: AtomicU32,
    /// For the handle; the algorithm has its slots as a slice.
    #[cfg(not(loom))]
    permits: AtomicU32,
    #[cfg(loom)]
    fault: Option<RobustSemaphoreFault>,
    /// Whether sleeps end by themselves: off, a lost wake shows as a deadlock.
    #[cfg(loom)]
    looks: bool,
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<SemaphoreHead>() == 64 && offset_of!(SemaphoreHead, waiting) == 48);
    assert!(offset_of!(SemaphoreHead, freed) == 52 && offset_of!(SemaphoreHead, deaths) == 56);
    assert!(offset_of!(SemaphoreHead, permits) == 60);
};

#[cfg(not(loom))]
// SAFETY: every field is an atomic, or a raw mutex of atomics.
unsafe impl shm_core::Shared for SemaphoreHead {}

impl SemaphoreHead {
    /// Where `permits` lies.
    #[cfg(not(loom))]
    pub(crate) const PERMITS: usize = core::mem::offset_of!(Self, permits);

    /// A head that does one thing wrong, or none; whose sleepers look again by themselves, or not.
    #[cfg(loom)]
    #[must_use]
    pub fn new(fault: Option<RobustSemaphoreFault>, looks: bool) -> Self {
        Self {
            queue: RawMutex::new(),
            waiting: AtomicU32::new(0),
            freed: AtomicU32::new(0),
            deaths: AtomicU32::new(0),
            fault,
            looks,
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: RobustSemaphoreFault) -> bool {
        self.fault == Some(fault) || mutant_of("RobustSemaphore", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: RobustSemaphoreFault) -> bool {
        mutant_of("RobustSemaphore", &fault)
    }

    /// How many slots stand behind it.
    #[cfg(not(loom))]
    pub(crate) fn permits(&self) -> u32 {
        // Relaxed: never changes after publication.
        self.permits.load(Ordering::Relaxed)
    }

    /// How long to stand in the queue before a look at the slots. In a model a first one that is stopped is one that
    /// has not gone on yet.
    fn slice(deadline: Option<Deadline>) -> Option<Deadline> {
        #[cfg(loom)]
        return deadline;
        #[cfg(not(loom))]
        Some(Deadline::earliest(deadline, futex::SLICE))
    }

    /// Sleeps while `freed` is `seen`, until the next look is due.
    fn sleep(&self, seen: u32, deadline: Option<Deadline>) {
        #[cfg(loom)]
        if !self.looks {
            let _ = futex::wait_slice(&self.freed, seen, deadline);
            return;
        }
        let _ = futex::wait_briefly(&self.freed, seen, deadline, LOOK);
    }
}

/// The semaphore: its head and its slots, wherever they are.
#[derive(Clone, Copy, Debug)]
pub struct RawRobustSemaphore<'a> {
    head: &'a SemaphoreHead,
    slots: &'a [Slot],
}

impl<'a> RawRobustSemaphore<'a> {
    /// The semaphore of this head and these slots; there is at least one.
    #[inline]
    #[must_use]
    pub fn new(head: &'a SemaphoreHead, slots: &'a [Slot]) -> Self {
        Self { head, slots }
    }

    /// Takes a permit; gives its index, and the dead holder from whom it came.
    ///
    /// # Errors
    /// As [`RawMutex::lock`] and [`RawMutex::try_lock`]; [`RawLockError::Deadlock`] if the thread has
    /// all permits itself. After an error nothing is held.
    ///
    /// # Safety
    /// As [`RawMutex::lock`], for head and slots.
    #[inline]
    pub unsafe fn acquire(
        self,
        patience: Patience,
    ) -> Result<(usize, Option<ProcessId>), RawLockError> {
        // SAFETY: the caller's promise.
        match unsafe { slot::try_take_any(self.slots) }? {
            Some(taken) => Ok(self.permit(taken)),
            // SAFETY: the caller's promise.
            None => unsafe { self.acquire_slow(patience) },
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn acquire_slow(
        self,
        patience: Patience,
    ) -> Result<(usize, Option<ProcessId>), RawLockError> {
        let deadline = match patience {
            Patience::None => return Err(RawLockError::WouldBlock),
            Patience::Endless => None,
            Patience::Until(deadline) => Some(deadline),
        };
        if self.slots.iter().all(|slot| slot.raw().is_held_by_me()) {
            return Err(RawLockError::Deadlock);
        }
        // SAFETY: the caller's promise.
        if let Some(taken) = unsafe { self.line_up(deadline) }? {
            return Ok(self.permit(taken));
        }
        // SAFETY: the caller's promise.
        let taken = unsafe { self.wait_as_first(deadline) };
        // Relaxed: a hint; the next in line sets it again before it looks.
        self.head.waiting.store(0, Ordering::Relaxed);
        // SAFETY: `line_up` has locked it.
        unsafe { self.head.queue.unlock() };
        taken.map(|taken| self.permit(taken))
    }

    /// Waits until the thread is the first in the queue: `None`. The first may be stopped, and take nothing; so
    /// what is free at the end of a slice is taken out of turn, and the thread is in the queue no more.
    unsafe fn line_up(
        self,
        deadline: Option<Deadline>,
    ) -> Result<Option<(usize, Acquired)>, RawLockError> {
        loop {
            // SAFETY: the caller's promise.
            match unsafe { self.head.queue.lock(SemaphoreHead::slice(deadline)) } {
                Ok(queued) => {
                    if !queued.is_clean() {
                        // Whoever was first in the line and died had nothing in hand.
                        self.head.queue.mark_consistent();
                    }
                    return Ok(None);
                }
                Err(RawLockError::Timeout) => {
                    // SAFETY: the caller's promise.
                    if let Some(taken) = unsafe { slot::try_take_any(self.slots) }? {
                        return Ok(Some(taken));
                    }
                    if deadline.is_some_and(Deadline::is_past) {
                        return Err(RawLockError::Timeout);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until some slot is free, and takes it. The thread is the first in the queue.
    unsafe fn wait_as_first(
        self,
        deadline: Option<Deadline>,
    ) -> Result<(usize, Acquired), RawLockError> {
        let head = self.head;
        // Relaxed: ordered by the fence.
        head.waiting.store(1, Ordering::Relaxed);
        if !head.broken(RobustSemaphoreFault::WaitsWithoutFence) {
            // PAIR permit-freed: between `waiting` and the look at the slots.
            fence(Ordering::SeqCst);
        }
        let mut looked = deadline::now();
        loop {
            // PAIR permit-freed: what was freed before this value was stored is seen below.
            let freed = head.freed.load(Ordering::Acquire);
            if !head.broken(RobustSemaphoreFault::SleepsWithoutAnotherLook) {
                // SAFETY: the caller's promise.
                if let Some(taken) = unsafe { slot::try_take_any(self.slots) }? {
                    return Ok(taken);
                }
            }
            if deadline.is_some_and(Deadline::is_past) {
                return Err(RawLockError::Timeout);
            }
            let now = deadline::now();
            if now.saturating_sub(looked) > SUSPICION.as_nanos() as u64 {
                // Whom the kernel has forgotten, nobody sleeps for but this thread.
                looked = now;
                self.slots
                    .iter()
                    .for_each(|slot| slot.raw().rescue_if_gone());
                continue;
            }
            head.sleep(freed, deadline);
            if head.broken(RobustSemaphoreFault::SleepsWithoutAnotherLook) {
                // SAFETY: the caller's promise.
                if let Some(taken) = unsafe { slot::try_take_any(self.slots) }? {
                    return Ok(taken);
                }
            }
        }
    }

    /// A slot was taken: whose it was.
    #[inline]
    fn permit(self, (slot, acquired): (usize, Acquired)) -> (usize, Option<ProcessId>) {
        if acquired.dead_owner.is_some() {
            // Relaxed: a count on its own.
            self.head.deaths.fetch_add(1, Ordering::Relaxed);
        }
        (slot, acquired.dead_owner)
    }

    /// Gives a permit back, and wakes the first who waits. Does nothing in a forked child.
    ///
    /// # Safety
    /// The thread has it from [`acquire`](Self::acquire), or is the forked copy of such a thread.
    #[inline]
    pub unsafe fn release(self, slot: usize) {
        let head = self.head;
        // SAFETY: the caller's promise.
        unsafe { self.slots[slot].raw().unlock() };
        if !head.broken(RobustSemaphoreFault::ReleasesWithoutFence) {
            // PAIR permit-freed: between the slot and `waiting`.
            fence(Ordering::SeqCst);
        }
        // Relaxed: ordered by the fence.
        if head.waiting.load(Ordering::Relaxed) != 0 {
            self.wake();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(self) {
        // PAIR permit-freed: Release, after the slot was freed.
        self.head.freed.fetch_add(1, Ordering::Release);
        if !self.head.broken(RobustSemaphoreFault::ForgetsToWake) {
            futex::wake(&self.head.freed, 1);
        }
    }

    // ---- observers --------------------------------------------------------------------------

    /// The queue: who is first, and how many stand behind.
    #[must_use]
    pub fn inspect_queue(self) -> RawInspect {
        self.head.queue.inspect()
    }

    /// How many permits have come back from the dead, wrapping.
    #[must_use]
    pub fn deaths(self) -> u32 {
        // Relaxed: a count on its own.
        self.head.deaths.load(Ordering::Relaxed)
    }

    /// The slots.
    #[must_use]
    pub fn slots(self) -> &'a [Slot] {
        self.slots
    }
}
