//! A semaphore in one word of shared memory.
//!
//! ```text
//! offset size field  meaning
//!      0    4 word   futex: permits (31 bits) | WAITERS (bit 31)
//!      4    4 max    the most permits that there may be; nobody writes it after creation
//! ```
//!
//! # The word
//!
//! | permits | WAITERS | |
//! |---|---|---|
//! | 0 | 0 | an acquirer sets WAITERS and sleeps |
//! | 0 | 1 | an acquirer sleeps; a release wakes |
//! | n | 0 | anybody takes one; a release makes no system call |
//! | n | 1 | anybody takes one; sleepers have been woken and are on their way |
//!
//! # Invariants
//!
//! - INV-SM1: a permit is added and taken by one compare-and-exchange: no death loses or doubles one
//!   between two words.
//! - INV-SM2: whoever sleeps sleeps on `0 | WAITERS`. Every release that sees WAITERS wakes as many as
//!   it gives permits.
//! - INV-SM3: WAITERS is taken away by a waker alone, who found fewer sleepers than permits, and who
//!   then wakes all that may have come since; each of these sets it again before it sleeps.
//!
//! # Pairs
//!
//! - PAIR semaphore-word: the Release that adds a permit publishes what came before to the Acquire that takes
//!   one. All writes to the word are read-modify-writes, so every later taker is in the release sequence.
//! - PAIR futex-queue (`shm_core::futex`): the word changes before the wake, and is compared when falling asleep.
//!
//! # Peer death
//!
//! | killed | left behind | the others |
//! |---|---|---|
//! | acquiring, before the word is taken | perhaps WAITERS: one system call too many | nothing |
//! | with a permit | the permit is gone | wait for another; only [`release`](RawSemaphore::release) brings it back |
//! | asleep, or woken and not yet taking | the permit that it was woken for, free | the next release or the end of a slice |
//! | releasing, before the word is changed | the permit is gone | as with a permit |
//! | releasing, before the wake | the permit, free | the next release or the end of a slice |
//!
//! Sources: futex(2); U. Drepper, *Futexes Are Tricky*; glibc `nptl/sem_waitcommon.c` (what a count of waiters
//! costs when one of them dies). Shown by `tests/loom_semaphore.rs`, `tests/crash_semaphore.rs`.

use shm_core::Deadline;
use shm_core::futex;
use shm_core::mutants::{mutant, mutant_of};
use shm_core::sync::{AtomicU32, Ordering};
use thiserror::Error;

use crate::patience::Patience;
use crate::spin::Spin;

/// Somebody may sleep.
const WAITERS: u32 = 1 << 31;
/// The count.
const PERMITS: u32 = WAITERS - 1;

/// Why no permit was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// There is none, and the call does not wait.
    #[error("there is no permit")]
    WouldBlock,
    /// There was none in time.
    #[error("there was no permit in time")]
    Timeout,
}

/// Why permits were not taken back. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// A release of nothing.
    #[error("a release of 0 permits")]
    ZeroPermits,
    /// There would be more permits than there may be.
    #[error("a release of {released} permits to {permits}, of which there may be {max}")]
    TooManyPermits {
        /// Permits to release.
        released: u32,
        /// Permits that were free.
        permits: u32,
        /// The most there may be.
        max: u32,
    },
}

/// What `inspect` saw. True at some instant of the call at best: for people and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemaphoreInspection {
    /// Permits that are free.
    pub permits: u32,
    /// The most there may be.
    pub max: u32,
    /// Threads that sleep for one.
    pub waiters: usize,
}

/// What a broken semaphore does wrong, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum SemaphoreFault {
    TakesWithRelaxed,
    ReleasesWithRelaxed,
    ForgetsToWake,
    WakesOneForMany,
    TakesTheBitAwayWithEveryRelease,
    TakesTheBitAwayAndWakesNobody,
    TakesWithoutExchange,
    GivesUpBeforeLooking,
}

/// A semaphore without guards, between threads of any processes that map it.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct RawSemaphore {
    word: AtomicU32,
    max: AtomicU32,
    #[cfg(loom)]
    fault: Option<SemaphoreFault>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawSemaphore>() == 8 && align_of::<RawSemaphore>() == 8);

#[cfg(not(loom))]
// SAFETY: two atomic words.
unsafe impl shm_core::Shared for RawSemaphore {}

impl RawSemaphore {
    /// The most permits that can be counted.
    pub const MAX: u32 = PERMITS;

    /// A semaphore of `permits`, of which there may be `max`.
    #[must_use]
    pub fn new(permits: u32, max: u32) -> Self {
        Self {
            word: AtomicU32::new(permits & PERMITS),
            max: AtomicU32::new(max.min(PERMITS)),
            #[cfg(loom)]
            fault: None,
        }
    }

    /// A semaphore that does one thing wrong.
    #[cfg(loom)]
    #[must_use]
    pub fn new_broken(permits: u32, max: u32, fault: Option<SemaphoreFault>) -> Self {
        Self {
            fault,
            ..Self::new(permits, max)
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: SemaphoreFault) -> bool {
        self.fault == Some(fault) || mutant_of("Semaphore", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: SemaphoreFault) -> bool {
        mutant_of("Semaphore", &fault)
    }

    /// Its bytes as they are at creation.
    #[cfg(not(loom))]
    pub(crate) fn bytes(permits: u32, max: u32) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&permits.to_ne_bytes());
        bytes[4..].copy_from_slice(&max.to_ne_bytes());
        bytes
    }

    /// Takes a permit; waits for one with as much patience as given.
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`], [`AcquireError::Timeout`].
    #[inline]
    pub fn acquire(&self, patience: Patience) -> Result<(), AcquireError> {
        // Relaxed: a look; `take` decides.
        let word = self.word.load(Ordering::Relaxed);
        if word & PERMITS != 0 && self.take(word) {
            return Ok(());
        }
        self.acquire_slow(patience)
    }

    /// Gives `permits` back.
    ///
    /// # Errors
    /// [`ReleaseError::ZeroPermits`], [`ReleaseError::TooManyPermits`].
    #[inline]
    pub fn release(&self, permits: u32) -> Result<(), ReleaseError> {
        // Relaxed: never written after creation; if it is, the count must stay within its bits.
        let max = self.max.load(Ordering::Relaxed).min(PERMITS);
        // Relaxed: a look; the exchange decides.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let free = word & PERMITS;
            let room = max.saturating_sub(free);
            if permits == 0 || permits > room && !mutant("Semaphore::IgnoresTheMaximum") {
                return Err(Self::refused(permits, free, max));
            }
            let mut after = word + permits;
            if self.broken(SemaphoreFault::TakesTheBitAwayWithEveryRelease) {
                after &= PERMITS;
            }
            // PAIR semaphore-word: Release publishes what came before to the taker. Relaxed on failure: looked
            // at again.
            match self
                .word
                .compare_exchange(word, after, self.publish(), Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        if word & WAITERS != 0 {
            self.wake(permits);
        }
        Ok(())
    }

    /// One attempt to take a permit from a word that is `seen` and has one.
    #[inline(always)]
    fn take(&self, seen: u32) -> bool {
        let acquire = if self.broken(SemaphoreFault::TakesWithRelaxed) {
            Ordering::Relaxed
        } else {
            // PAIR semaphore-word: Acquire sees what came before the release.
            Ordering::Acquire
        };
        if self.broken(SemaphoreFault::TakesWithoutExchange) {
            self.word.store(seen - 1, Ordering::Relaxed);
            return true;
        }
        // Relaxed on failure: looked at again.
        self.word
            .compare_exchange(seen, seen - 1, acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    fn publish(&self) -> Ordering {
        if self.broken(SemaphoreFault::ReleasesWithRelaxed) {
            Ordering::Relaxed
        } else {
            Ordering::Release
        }
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&self, patience: Patience) -> Result<(), AcquireError> {
        let mut spin = Spin::new();
        loop {
            if self.broken(SemaphoreFault::GivesUpBeforeLooking)
                && matches!(patience, Patience::Until(deadline) if deadline.is_past())
            {
                return Err(AcquireError::Timeout);
            }
            // Relaxed: a look; `take` decides.
            let word = self.word.load(Ordering::Relaxed);
            if word & PERMITS != 0 {
                if self.take(word) {
                    return Ok(());
                }
                continue;
            }
            let deadline = match patience {
                Patience::None => return Err(AcquireError::WouldBlock),
                Patience::Endless => None,
                Patience::Until(deadline) => Some(deadline),
            };
            if spin.again() {
                continue;
            }
            // Only here, after a look that found nothing: a waiter that was woken and gives up has seen
            // somebody else take the permit it was woken for.
            if deadline.is_some_and(Deadline::is_past) {
                return Err(AcquireError::Timeout);
            }
            // Relaxed: publishes nothing; the releaser sees the bit in the word that it changes.
            if word == 0
                && self
                    .word
                    .compare_exchange(0, WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            // Whatever it says: look again. A slice bounds what a dead waker leaves.
            let _ = futex::wait_slice(&self.word, WAITERS, deadline);
        }
    }

    /// Wakes one sleeper for each permit given; takes WAITERS away when there are fewer (INV-SM3).
    #[cold]
    #[inline(never)]
    fn wake(&self, permits: u32) {
        if self.broken(SemaphoreFault::ForgetsToWake) {
            return;
        }
        if self.broken(SemaphoreFault::WakesOneForMany) {
            futex::wake(&self.word, 1);
            return;
        }
        let woken = futex::wake(&self.word, permits);
        if woken >= permits as usize || self.broken(SemaphoreFault::TakesTheBitAwayWithEveryRelease)
        {
            return;
        }
        // Relaxed: publishes nothing, and continues the release sequence.
        let before = self.word.fetch_and(PERMITS, Ordering::Relaxed);
        if before & WAITERS != 0 && !self.broken(SemaphoreFault::TakesTheBitAwayAndWakesNobody) {
            // Who fell asleep since the wake above relies on the bit that is gone now.
            futex::wake(&self.word, u32::MAX);
        }
    }

    #[cold]
    fn refused(released: u32, permits: u32, max: u32) -> ReleaseError {
        if released == 0 {
            return ReleaseError::ZeroPermits;
        }
        ReleaseError::TooManyPermits {
            released,
            permits,
            max,
        }
    }

    /// How many permits are free, and the most there may be: what a handle checks when it is made.
    #[cfg(not(loom))]
    pub(crate) fn counts(&self) -> (u32, u32) {
        // Relaxed, both: the first changes within the second, which does not.
        let permits = self.word.load(Ordering::Relaxed) & PERMITS;
        (permits, self.max.load(Ordering::Relaxed))
    }

    /// How many permits are free, and how many wait. Makes one system call, disturbs nobody.
    #[must_use]
    pub fn inspect(&self) -> SemaphoreInspection {
        SemaphoreInspection {
            // Relaxed: outdated as soon as it is read.
            permits: self.word.load(Ordering::Relaxed) & PERMITS,
            max: self.max.load(Ordering::Relaxed),
            waiters: futex::waiters(&self.word),
        }
    }

    /// Ends the slice of every sleeper, which the model's kernel does not do by itself.
    #[cfg(loom)]
    pub fn end_slices(&self) {
        futex::wake(&self.word, u32::MAX);
    }
}
