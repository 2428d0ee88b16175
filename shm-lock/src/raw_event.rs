//! An event in one word of shared memory.
//!
//! ```text
//! offset size field  meaning
//!      0    4 word   futex: SET (bit 0) | WAITERS (bit 1) | number of times it was set (30 bits, wrapping)
//!      4    4        reserved
//! ```
//!
//! # Invariants
//!
//! - INV-E1: SET and WAITERS never stand together: a setter takes WAITERS away as it puts SET, a waiter puts
//!   WAITERS only where SET is not.
//! - INV-E2: the number grows exactly when SET is put where it was not. So a waiter that finds another number
//!   than when it came was set free, even if somebody has cleared the event since. (It would be deceived by
//!   2^30 rounds of set and clear between two of its looks.)
//! - INV-E3: whoever sleeps has seen WAITERS in the word it sleeps on.
//!
//! # Pairs
//!
//! - PAIR event-word: the Release of the setter publishes what came before to the Acquire of whoever sees SET or
//!   another number. All writes are read-modify-writes, so a clear in between does not break the chain.
//! - PAIR futex-queue (`shm_core::futex`): the word changes before the wake, and is compared when falling asleep.
//!
//! # Peer death
//!
//! | killed | left behind | the others |
//! |---|---|---|
//! | waiting | perhaps WAITERS | the next set makes one system call too many |
//! | setting, before the word is changed | nothing | nothing |
//! | setting, before the wake | SET; sleepers without WAITERS | see it at the end of their slice |
//! | clearing | SET or not | |
//!
//! Sources: futex(2); signal-safety(7). Shown by `tests/loom_event.rs`, `tests/crash_event.rs`.

use shm_core::Deadline;
use shm_core::futex;
use shm_core::mutants::mutant_of;
use shm_core::sync::{AtomicU32, Ordering};

use crate::patience::Patience;
use crate::spin::Spin;

/// The event is set.
const SET: u32 = 1 << 0;
/// Somebody may sleep.
const WAITERS: u32 = 1 << 1;
/// Where the number of sets begins.
const NUMBER_SHIFT: u32 = 2;

/// What `inspect` saw. True at some instant of the call at best: for people and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventInspection {
    /// Whether it is set.
    pub is_set: bool,
    /// How often it was set while it was not (modulo 2^30).
    pub sets: u32,
    /// Threads that sleep for it.
    pub waiters: usize,
}

/// What a broken event does wrong, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum EventFault {
    SetsWithRelaxed,
    WaitsWithRelaxed,
    ForgetsToWake,
    WakesOne,
    SleepsWithoutWaiters,
    ForgetsTheNumber,
    ClearsByStore,
}

/// An event, between threads of any processes that map it. All zero bytes: not set.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct RawEvent {
    word: AtomicU32,
    _reserved: AtomicU32,
    #[cfg(loom)]
    fault: Option<EventFault>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawEvent>() == 8 && align_of::<RawEvent>() == 8);

#[cfg(not(loom))]
// SAFETY: two atomic words.
unsafe impl shm_core::Shared for RawEvent {}

impl Default for RawEvent {
    fn default() -> Self {
        Self::new()
    }
}

impl RawEvent {
    /// An event that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
            #[cfg(loom)]
            fault: None,
        }
    }

    /// An event that does one thing wrong.
    #[cfg(loom)]
    #[must_use]
    pub fn new_broken(fault: Option<EventFault>) -> Self {
        Self {
            fault,
            ..Self::new()
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: EventFault) -> bool {
        self.fault == Some(fault) || mutant_of("Event", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: EventFault) -> bool {
        mutant_of("Event", &fault)
    }

    /// Sets the event and wakes all who wait. Atomic operations on one word and at most one system
    /// call that cannot fail: nothing here allocates, locks or touches `errno`.
    pub fn set(&self) {
        let publish = if self.broken(EventFault::SetsWithRelaxed) {
            Ordering::Relaxed
        } else {
            // PAIR event-word: Release, also when it is set already: this setter publishes too.
            Ordering::Release
        };
        // Relaxed: a look; the exchange decides.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let after = match word & SET {
                0 => (word & !WAITERS).wrapping_add(1 << NUMBER_SHIFT) | SET,
                _ => word,
            };
            match self
                .word
                .compare_exchange(word, after, publish, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        if word & WAITERS != 0 && !self.broken(EventFault::ForgetsToWake) {
            let all = if self.broken(EventFault::WakesOne) {
                1
            } else {
                u32::MAX
            };
            futex::wake(&self.word, all);
        }
    }

    /// Whoever waits from now on waits for the next [`set`](Self::set).
    pub fn clear(&self) {
        if self.broken(EventFault::ClearsByStore) {
            let word = self.word.load(Ordering::Relaxed);
            self.word.store(word & !SET, Ordering::Release);
            return;
        }
        // PAIR event-word: AcqRel, so that what came before the set that is undone here stays visible to
        // whoever sees this clear.
        self.word.fetch_and(!SET, Ordering::AcqRel);
    }

    /// Whether it is set now.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.look() & SET != 0
    }

    /// Waits until it is set, with as much patience as given; whether it was.
    #[inline]
    pub fn wait(&self, patience: Patience) -> bool {
        let word = self.look();
        word & SET != 0 || self.wait_slow(word, patience)
    }

    #[inline]
    fn look(&self) -> u32 {
        if self.broken(EventFault::WaitsWithRelaxed) {
            return self.word.load(Ordering::Relaxed);
        }
        // PAIR event-word: Acquire sees what came before the set.
        self.word.load(Ordering::Acquire)
    }

    #[cold]
    #[inline(never)]
    fn wait_slow(&self, came: u32, patience: Patience) -> bool {
        let mut spin = Spin::new();
        loop {
            let word = self.look();
            let number_moved = word >> NUMBER_SHIFT != came >> NUMBER_SHIFT;
            if word & SET != 0 || number_moved && !self.broken(EventFault::ForgetsTheNumber) {
                return true;
            }
            let deadline = match patience {
                Patience::None => return false,
                Patience::Endless => None,
                Patience::Until(deadline) => Some(deadline),
            };
            if deadline.is_some_and(Deadline::is_past) {
                return false;
            }
            if spin.again() {
                continue;
            }
            let asleep = if self.broken(EventFault::SleepsWithoutWaiters) {
                word
            } else {
                word | WAITERS
            };
            // Relaxed: publishes nothing; the setter sees the bit in the word that it changes.
            if word != asleep
                && self
                    .word
                    .compare_exchange(word, asleep, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            // Whatever it says: look again. A slice bounds what a dead setter leaves.
            let _ = futex::wait_slice(&self.word, asleep, deadline);
        }
    }

    /// Whether it is set, how often it was, and how many wait. Makes one system call, disturbs nobody.
    #[must_use]
    pub fn inspect(&self) -> EventInspection {
        // Relaxed: outdated as soon as it is read.
        let word = self.word.load(Ordering::Relaxed);
        EventInspection {
            is_set: word & SET != 0,
            sets: word >> NUMBER_SHIFT,
            waiters: futex::waiters(&self.word),
        }
    }

    /// Ends the slice of every sleeper, which the model's kernel does not do by itself.
    #[cfg(loom)]
    pub fn end_slices(&self) {
        futex::wake(&self.word, u32::MAX);
    }
}
