//! A word on which processes sleep until something else changes, and which is changed to wake them.
//!
//! ```text
//! offset size field   meaning
//!      0    4 rings   futex; one more with each ring
//! ```
//!
//! - PAIR bell: whoever rings adds to `rings` with Release, after the change that it rings for; who waits
//!   loads `rings` with Acquire, then looks for a change, and sleeps only while `rings` is what it loaded. So
//!   whoever heard the ring sees the change, and whoever did not hear it does not fall asleep after it.
//! - PAIR futex-queue (`shm_core::futex`): `rings` changes before the wake, and is compared when falling asleep.
//!
//! Peer death: one who is killed between the change and the ring, or woken in another's stead and killed,
//! delays the others by one slice (100 ms): then they look by themselves. A killed sleeper leaves nothing.
//!
//! Source: the event count. Shown by `tests/loom_bell.rs`, with broken twins.

use core::time::Duration;

use shm_core::sync::{AtomicU32, Ordering};
use shm_core::{Deadline, futex};

/// Ways to break it, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum BellFault {
    RingsWithoutChange,
    RingsWithRelaxed,
    ForgetsToWake,
    ListensWithRelaxed,
    ListensAfterTheLook,
}

/// A bell. All zero bytes: never rung.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Bell {
    rings: AtomicU32,
    #[cfg(loom)]
    fault: Option<BellFault>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bell>() == 4 && align_of::<Bell>() == 4);

#[cfg(not(loom))]
// SAFETY: one atomic word.
unsafe impl shm_core::Shared for Bell {}

impl Bell {
    /// One that does one thing wrong, or none.
    #[cfg(loom)]
    #[must_use]
    pub fn new(fault: Option<BellFault>) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: BellFault) -> bool {
        self.fault == Some(fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    const fn broken(&self, _: BellFault) -> bool {
        false
    }

    /// Wakes up to `count` of those who sleep, after a change; gives how many it were. One system call.
    pub fn ring(&self, count: u32) -> usize {
        if !self.broken(BellFault::RingsWithoutChange) {
            let order = if self.broken(BellFault::RingsWithRelaxed) {
                Ordering::Relaxed
            } else {
                // PAIR bell: Release, after the change.
                Ordering::Release
            };
            self.rings.fetch_add(1, order);
        }
        if self.broken(BellFault::ForgetsToWake) {
            return 0;
        }
        futex::wake(&self.rings, count)
    }

    /// One look for a change, and one sleep if there is none: `None` then, whatever has ended the sleep.
    #[inline]
    pub fn wait_once<R>(
        &self,
        deadline: Option<Deadline>,
        look: impl FnOnce() -> Option<R>,
    ) -> Option<R> {
        self.wait_by(look, |heard| {
            // A slice bounds what a dead ringer leaves.
            let _ = futex::wait_slice(&self.rings, heard, deadline);
        })
    }

    /// As [`wait_once`](Self::wait_once), for `bound` at most.
    pub fn wait_briefly<R>(
        &self,
        bound: Duration,
        deadline: Option<Deadline>,
        look: impl FnOnce() -> Option<R>,
    ) -> Option<R> {
        self.wait_by(look, |heard| {
            let _ = futex::wait_briefly(&self.rings, heard, deadline, bound);
        })
    }

    #[inline]
    fn wait_by<R>(&self, look: impl FnOnce() -> Option<R>, sleep: impl FnOnce(u32)) -> Option<R> {
        let mut heard = self.listen();
        if let Some(found) = look() {
            return Some(found);
        }
        if self.broken(BellFault::ListensAfterTheLook) {
            heard = self.listen();
        }
        sleep(heard);
        None
    }

    #[inline]
    fn listen(&self) -> u32 {
        if self.broken(BellFault::ListensWithRelaxed) {
            return self.rings.load(Ordering::Relaxed);
        }
        // PAIR bell: Acquire, before the look.
        self.rings.load(Ordering::Acquire)
    }

    /// How many sleep: for people; it may be over when it is read. One system call.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        futex::waiters(&self.rings)
    }
}
