//! A raw mutex that its owner may take again: how often it has is the `depth` of the raw mutex.
//!
//! ```text
//! depth: bits 0..31 times that the owner has taken it besides the first; bit 31 a report is not settled
//! ```
//!
//! - INV-N1: `depth` is written by the owner alone, and set whenever the lock is taken: what a dead
//!   owner left there is never read.
//! - INV-N2: until a report is settled (bit 31) its owner has the lock once, and further attempts are refused.
//!
//! Peer death: as for the raw mutex. One death is one report, however often the owner had locked.
//!
//! Shown by `tests/loom_reentrant_mutex.rs`, with broken twins.

use crate::patience::Patience;
use crate::raw_mutex::{Acquired, RawInspect, RawLockError, RawMutex};
use shm_core::mutants::mutant_of;

/// In `depth`: the lock came with a report, which its owner has not settled yet.
const UNSETTLED: u32 = 1 << 31;
/// More than anybody nests; one more could reach bit 31.
const DEEPEST: u32 = UNSETTLED - 1;

/// Ways to break it, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum ReentrantFault {
    InheritsTheDepth,
    ReleasesAtOnce,
    ForgetsTheReport,
    LetsAnybodyIn,
}

/// The lock.
#[derive(Debug)]
#[repr(C)]
pub struct RawReentrantMutex {
    raw: RawMutex,
    #[cfg(loom)]
    fault: Option<ReentrantFault>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawReentrantMutex>() == size_of::<RawMutex>());

#[cfg(not(loom))]
// SAFETY: a raw mutex of atomics.
unsafe impl shm_core::Shared for RawReentrantMutex {}

impl RawReentrantMutex {
    /// One that does one thing wrong, or none.
    #[cfg(loom)]
    #[must_use]
    pub fn new(fault: Option<ReentrantFault>) -> Self {
        Self {
            raw: RawMutex::new(),
            fault,
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: ReentrantFault) -> bool {
        self.fault == Some(fault) || mutant_of("ReentrantMutex", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: ReentrantFault) -> bool {
        mutant_of("ReentrantMutex", &fault)
    }

    /// Takes the lock and says what was found, or takes it once more: `None`.
    ///
    /// # Errors
    /// Those of [`RawMutex::lock`] and [`RawMutex::try_lock`], of which
    /// [`Deadlock`](RawLockError::Deadlock) says that the calling thread has not settled its report, and
    /// [`TooManyLocks`](RawLockError::TooManyLocks) also that it has taken the lock 2^31 times.
    ///
    /// # Safety
    /// As [`RawMutex::lock`].
    #[inline]
    pub unsafe fn acquire(&self, patience: Patience) -> Result<Option<Acquired>, RawLockError> {
        if self.is_held_by_me() {
            return self.acquire_again().map(|()| None);
        }
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.raw.acquire(patience) }?;
        // INV-N1, INV-N2.
        let report = !acquired.is_clean() && !self.broken(ReentrantFault::ForgetsTheReport);
        let inherited = if self.broken(ReentrantFault::InheritsTheDepth) {
            self.raw.depth()
        } else {
            0
        };
        self.raw
            .set_depth(if report { UNSETTLED } else { 0 } | inherited);
        Ok(Some(acquired))
    }

    fn acquire_again(&self) -> Result<(), RawLockError> {
        match self.raw.depth() {
            UNSETTLED.. => Err(RawLockError::Deadlock),
            DEEPEST => Err(RawLockError::TooManyLocks),
            depth => {
                self.raw.set_depth(depth + 1);
                Ok(())
            }
        }
    }

    /// Whether the calling thread has it. Not so in a forked child, whoever it was forked from.
    #[inline]
    #[must_use]
    pub fn is_held_by_me(&self) -> bool {
        self.broken(ReentrantFault::LetsAnybodyIn) && self.raw.inspect().owner_tid != 0
            || self.raw.is_held_by_me()
    }

    /// How often the calling thread has it.
    #[must_use]
    pub fn times(&self) -> u32 {
        (self.raw.depth() & DEEPEST) + 1
    }

    /// Whether the calling thread has it with a report that is not settled, and so only once.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.raw.depth() == UNSETTLED
    }

    /// Gives it back once, and with `poisoned` leaves a report to the next owner; the last time another may
    /// take it. Inert in a thread that does not have it.
    pub fn release(&self, poisoned: bool) {
        // A forked child's copy: not even the depth is its own.
        if !self.is_held_by_me() {
            return;
        }
        if poisoned {
            self.raw.mark_poisoned();
        }
        let depth = self.raw.depth();
        if depth & DEEPEST != 0 && !self.broken(ReentrantFault::ReleasesAtOnce) {
            self.raw.set_depth(depth - 1);
            return;
        }
        // SAFETY: the last time that the thread which the lock was given to gives it back.
        unsafe { self.raw.unlock() };
    }

    /// The data is whole: the report is settled. For the owner.
    pub fn mark_consistent(&self) {
        self.raw.mark_consistent();
        self.raw.set_depth(self.raw.depth() & DEEPEST);
    }

    /// As [`RawMutex::mark_not_recoverable`].
    pub fn mark_not_recoverable(&self) {
        self.raw.mark_not_recoverable();
    }

    /// Who has it, how many wait, and since when somebody has had to.
    #[must_use]
    pub fn inspect(&self) -> RawInspect {
        self.raw.inspect()
    }
}
