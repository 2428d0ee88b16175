//! Which of several slots holds the value: one word, and one store that commits.
//!
//! ```text
//! bits 0..63 number of commits; the value is in slot `number % slots`, `slots` a power of two
//! bit 63     WAITERS: somebody sleeps until the number changes; taken away by the commit
//! ```
//!
//! - INV-V1: whoever holds the writers' lock writes slot `number + 1` alone, then commits. So the slot of
//!   a number is written again only after `slots - 1` further commits.
//! - INV-V2: a commit is the one store of the next number.
//! - INV-V3: whoever sleeps has seen WAITERS in the word, beside the number that it wants changed,
//!   after it began to listen to the bell (PAIR bell of `bell.rs`).
//! - PAIR value-commit: a writer stores the number with Release after its slot; a reader loads it with Acquire
//!   before its copy.
//! - PAIR value-reuse: a writer fences with Release before it touches a slot; a reader fences with Acquire after
//!   its copy and looks at the number again. If the reader saw a byte of a later write into its slot, then it
//!   sees that `slots - 1` commits were made since, because they were made before that write.
//!
//! Peer death: a writer killed before its commit leaves the old value, after it the new one. Killed
//! between commit and ring, it leaves sleepers who look again at the end of their slice (100 ms). A
//! killed waiter leaves WAITERS, for which the next commit makes one system call too many.
//!
//! Source: the seqlock, here with several slots; Boehm, "Can seqlocks get along with programming
//! language memory models?" (the fences of the reader).
//!
//! Shown by `tests/loom_version.rs`, with broken twins.

use core::time::Duration;

use shm_core::Deadline;
use shm_core::mutants::{mutant, mutant_of};
use shm_core::sync::{AtomicU64, Ordering, fence};

use crate::bell::Bell;

/// Somebody sleeps until the number changes.
const WAITERS: u64 = 1 << 63;
/// How often those look who cannot say that they wait, being attached read-only.
const GLANCE: Duration = Duration::from_millis(10);

/// Ways to break it, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum VersionFault {
    CommitsWithRelaxed,
    LoadsWithRelaxed,
    ReusesWithoutFence,
    CopiesWithoutFence,
    DoesNotLookAgain,
    AllowsOneCommitTooMany,
    CommitsBeforeTheSlot,
    AsksBeforeTheCommit,
    SleepsWithoutWaiters,
}

/// The number of commits. All zero bytes: the value is in slot 0.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Version {
    word: AtomicU64,
    #[cfg(loom)]
    fault: Option<VersionFault>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Version>() == 8 && align_of::<Version>() == 8);

#[cfg(not(loom))]
// SAFETY: one atomic word.
unsafe impl shm_core::Shared for Version {}

impl Version {
    /// One that does one thing wrong, or none.
    #[cfg(loom)]
    #[must_use]
    pub fn new(fault: Option<VersionFault>) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: VersionFault) -> bool {
        self.fault == Some(fault) || mutant_of("Value", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: VersionFault) -> bool {
        mutant_of("Value", &fault)
    }

    /// `order`, or Relaxed in the version that has the fault.
    #[inline(always)]
    fn unless(&self, fault: VersionFault, order: Ordering) -> Ordering {
        if self.broken(fault) {
            Ordering::Relaxed
        } else {
            order
        }
    }

    /// The number of commits.
    #[inline]
    #[must_use]
    pub fn number(&self) -> u64 {
        // PAIR value-commit: Acquire.
        let order = self.unless(VersionFault::LoadsWithRelaxed, Ordering::Acquire);
        self.word.load(order) & !WAITERS
    }

    /// Has `copy` copy the slot that it is given, and says which number that was; `None` if the copy may be
    /// torn, since writers committed `slots - 1` times meanwhile. Writes nothing.
    #[inline]
    pub fn look<R>(&self, slots: u64, copy: impl FnOnce(u64) -> R) -> Option<(R, u64)> {
        let before = self.number();
        let copied = copy(before & (slots - 1));
        if !self.broken(VersionFault::CopiesWithoutFence) {
            // PAIR value-reuse: Acquire.
            fence(Ordering::Acquire);
        }
        // Relaxed: ordered by the fence.
        let now = self.word.load(Ordering::Relaxed) & !WAITERS;
        let bound = if self.broken(VersionFault::AllowsOneCommitTooMany) {
            slots
        } else {
            slots - 1
        };
        let whole = now.wrapping_sub(before) < bound || self.broken(VersionFault::DoesNotLookAgain);
        whole.then_some((copied, before))
    }

    /// The slot of the value, for whoever holds the writers' lock.
    #[inline]
    #[must_use]
    pub fn slot(&self, slots: u64) -> u64 {
        // Relaxed: the last writer's unlock ordered it before our lock.
        self.word.load(Ordering::Relaxed) & (slots - 1)
    }

    /// Has `store` write the next slot, and gives the number with which to commit it. Under the
    /// writers' lock.
    #[inline]
    pub fn prepare(&self, slots: u64, store: impl FnOnce(u64)) -> u64 {
        // Relaxed: under the lock. 63 bits do not overflow.
        let step = 1 + u64::from(mutant("Value::WritesTheSlotThatIsRead"));
        let next = (self.word.load(Ordering::Relaxed) & !WAITERS).wrapping_add(step) & !WAITERS;
        if self.broken(VersionFault::CommitsBeforeTheSlot) {
            self.word.store(next, Ordering::Release);
        }
        if !self.broken(VersionFault::ReusesWithoutFence) {
            // PAIR value-reuse: Release.
            fence(Ordering::Release);
        }
        store(next & (slots - 1));
        next
    }

    /// Commits, where nobody ever waits.
    #[inline]
    pub fn commit(&self, next: u64) {
        // PAIR value-commit: Release.
        self.word.store(next, Ordering::Release);
    }

    /// Commits, and says whether somebody waits: then ring the bell, which needs no lock.
    #[inline]
    #[must_use]
    pub fn commit_and_ask(&self, next: u64) -> bool {
        if self.broken(VersionFault::AsksBeforeTheCommit) {
            let awaited = self.word.load(Ordering::Relaxed) & WAITERS != 0;
            self.word.store(next, Ordering::Release);
            return awaited;
        }
        // PAIR value-commit: Release. One with the question, so that no waiter comes in between.
        let order = self.unless(VersionFault::CommitsWithRelaxed, Ordering::Release);
        self.word.swap(next, order) & WAITERS != 0
    }

    /// One look whether the number is another than `since`, and one sleep if it is not.
    pub fn wait_once(&self, since: u64, bell: &Bell, deadline: Option<Deadline>) -> bool {
        let look = || {
            let changed = self.number() != since || self.announce() != since;
            changed.then_some(())
        };
        bell.wait_once(deadline, look).is_some()
    }

    /// Says that somebody waits, and gives the number.
    fn announce(&self) -> u64 {
        if self.broken(VersionFault::SleepsWithoutWaiters) {
            return self.number();
        }
        // PAIR value-commit: Acquire, for who sees here that it need not sleep.
        self.word.fetch_or(WAITERS, Ordering::Acquire) & !WAITERS
    }

    /// As [`wait_once`](Self::wait_once), for who may not write: sleeps for 10 ms at most.
    pub fn glance(&self, since: u64, bell: &Bell, deadline: Option<Deadline>) -> bool {
        let look = || (self.number() != since).then_some(());
        bell.wait_briefly(GLANCE, deadline, look).is_some()
    }
}
