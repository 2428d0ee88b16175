//! A condition variable in two words of shared memory, which no dead waiter can hold up.
//!
//! ```text
//! offset size field   meaning (all zero: nobody waits)
//!      0    4 seq     futex: number of notifications that met a waiter, wrapping
//!      4    4         reserved
//!      8    8 tally   signals (10 bits) | waiting (10 bits) | mutex (20 bits) | epoch (24 bits)
//! ```
//!
//! # How it works
//!
//! A waiter counts itself in `tally` while it holds the mutex, then unlocks and sleeps on `seq`. A notifier puts
//! signals into `tally`, then moves `seq`, then wakes; it never waits for anybody. A woken waiter locks
//! the mutex and takes a signal **under it**; one that finds none sleeps on. Notifying as many as there
//! are is simpler: a new epoch begins with nobody in it, and every waiter of an older one returns.
//!
//! # Invariants
//!
//! - INV-C1: `signals < waiting`, or both are 0: a notification that would make them equal begins a new epoch.
//! - INV-C2: who waits has counted itself in the present epoch before it unlocked the mutex; whoever
//!   locks that mutex afterwards and notifies finds it counted. So unlock and sleep are one step.
//! - INV-C3: `seq` moves after every change of `tally` that lets somebody return, and the wake comes after that;
//!   who sleeps on a `seq` has looked at the tally after reading it.
//! - INV-C4: a signal is taken under the mutex, together with its taker's place in `waiting`. So a waiter
//!   that dies before it holds the mutex leaves its signal to another, and one that dies later is an owner
//!   that died, of whom the mutex tells.
//! - INV-C5: a signal is for those who came before it: its taker's `seq` has moved since it came.
//! - INV-C6: to begin a new epoch is always harmless: it is a spurious wake-up of all. Every count that a dead
//!   waiter left ends with the epoch.
//!
//! # Pairs
//!
//! - PAIR condvar-seq: Release moves `seq` after `tally`; the Acquire of the sleeper then sees that tally.
//! - PAIR mutex-word (`raw_mutex`) orders the waiter's place in `tally` before the notifier's look at it,
//!   and the user's data.
//! - PAIR futex-queue (`shm_core::futex`): `seq` moves before the wake, and is compared when falling asleep.
//!
//! # Peer death
//!
//! | killed | left behind | the others |
//! |---|---|---|
//! | waiting, asleep | its place in `waiting` | at worst one spurious wake-up and one system call too many, until the epoch ends |
//! | woken for a signal, before it has the mutex | its place, and the signal | another takes the signal at the end of its slice (100 ms) |
//! | with the mutex | | the mutex says `OwnerDied` to the next; who repairs should notify |
//! | notifying, before `tally` | nothing | |
//! | notifying, before `seq` or the wake | signals or a new epoch; sleepers | see a new epoch, and a signal if `seq` moved, at the end of their slice |
//!
//! # The mutex
//!
//! `mutex` is a fingerprint of the mutex of those who wait. Waiting with another one is refused while anybody waits;
//! one in a million others has the same fingerprint and is not noticed, which breaks nothing but the promise
//! to wake. Where nobody sleeps but some are counted, they are taken for dead and a new epoch begins.
//!
//! Sources: futex(2); Rust's `library/std/src/sys/sync/condvar/futex.rs` (the sequence); glibc
//! `nptl/pthread_cond_wait.c` (groups of waiters, and why a dead one hangs the next signal). Shown by
//! `tests/loom_condvar.rs`, `tests/crash_condvar.rs`.

use shm_core::Deadline;
use shm_core::futex;
use shm_core::mutants::mutant_of;
use shm_core::sync::{AtomicU32, AtomicU64, Ordering, yield_now};

/// What the signals are counted in, and where the waiting begin.
const COUNT_BITS: u32 = 10;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const WAITING_SHIFT: u32 = COUNT_BITS;
const ONE_WAITING: u64 = 1 << WAITING_SHIFT;
const MUTEX_SHIFT: u32 = 2 * COUNT_BITS;
const MUTEX_BITS: u32 = 20;
const MUTEX: u64 = (1 << MUTEX_BITS) - 1;
const EPOCH_SHIFT: u32 = MUTEX_SHIFT + MUTEX_BITS;

/// How often a waiter looks for sleepers before it takes those counted for dead.
const LOOKS: u32 = 4;

/// A tally, taken apart.
#[derive(Clone, Copy)]
struct Tally(u64);

impl Tally {
    fn signals(self) -> u64 {
        self.0 & COUNT
    }

    fn waiting(self) -> u64 {
        self.0 >> WAITING_SHIFT & COUNT
    }

    fn mutex(self) -> u64 {
        self.0 >> MUTEX_SHIFT & MUTEX
    }

    fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }

    /// Nobody is counted, and whoever waits returns.
    fn next_epoch(self) -> Self {
        Self(self.epoch().wrapping_add(1) << EPOCH_SHIFT)
    }

    fn joined(self, mutex: u64) -> Self {
        let others = self.0 & !(MUTEX << MUTEX_SHIFT);
        Self((others | mutex << MUTEX_SHIFT) + ONE_WAITING)
    }

    fn notified(self, count: u64) -> Self {
        // Saturating: bytes that nobody of ours wrote may say more signals than waiters (INV-C1).
        if count >= self.waiting().saturating_sub(self.signals()) {
            self.next_epoch()
        } else {
            Self(self.0 + count)
        }
    }

    /// One fewer who waits, without a signal.
    fn left(self) -> Self {
        if self.signals() + 1 >= self.waiting() {
            self.next_epoch()
        } else {
            Self(self.0 - ONE_WAITING)
        }
    }
}

/// What `inspect` saw. True at some instant of the call at best: for people and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CondvarInspection {
    /// Threads that sleep in it.
    pub waiters: usize,
    /// Threads that are counted as waiting; more than sleep, if some are on their way or were killed.
    pub counted: u32,
    /// Signals that nobody has taken yet.
    pub signals: u32,
}

/// What a broken condition variable does wrong, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum CondvarFault {
    CountsItselfAfterUnlocking,
    ReadsSeqAfterLooking,
    ForgetsToWake,
    WakesOneForAll,
    TakesTheSignalBeforeTheLock,
    LeavesWithoutLooking,
}

/// Somebody waits with another mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherMutex;

/// A place among those who wait.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    epoch: u64,
    seq: u32,
}

/// A condition variable, between threads of any processes that map it. All zero bytes: nobody waits.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct RawCondvar {
    seq: AtomicU32,
    _reserved: AtomicU32,
    tally: AtomicU64,
    #[cfg(loom)]
    fault: Option<CondvarFault>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawCondvar>() == 16 && align_of::<RawCondvar>() == 16);

#[cfg(not(loom))]
// SAFETY: atomic words.
unsafe impl shm_core::Shared for RawCondvar {}

impl Default for RawCondvar {
    fn default() -> Self {
        Self::new()
    }
}

impl RawCondvar {
    /// A condition variable that nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seq: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
            tally: AtomicU64::new(0),
            #[cfg(loom)]
            fault: None,
        }
    }

    /// A condition variable that does one thing wrong.
    #[cfg(loom)]
    #[must_use]
    pub fn new_broken(fault: Option<CondvarFault>) -> Self {
        Self {
            fault,
            ..Self::new()
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: CondvarFault) -> bool {
        self.fault == Some(fault) || mutant_of("Condvar", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: CondvarFault) -> bool {
        mutant_of("Condvar", &fault)
    }

    /// Unlocks by dropping `guard`, waits, locks again by `lock`; tells whether it was notified, which
    /// otherwise means that the deadline came. `generation` names the mutex.
    ///
    /// # Errors
    /// The guard, still locked, if somebody waits with another mutex.
    pub fn wait<G, E>(
        &self,
        generation: u64,
        deadline: Option<Deadline>,
        guard: G,
        mut lock: impl FnMut() -> Result<G, E>,
    ) -> Result<(Result<G, E>, bool), G> {
        let counts_late = self.broken(CondvarFault::CountsItselfAfterUnlocking);
        let early = if counts_late {
            None
        } else {
            match self.join(generation) {
                Ok(ticket) => Some(ticket),
                Err(OtherMutex) => return Err(guard),
            }
        };
        drop(guard);
        let Some(ticket) = early.or_else(|| self.join(generation).ok()) else {
            unreachable!("joined above, or broken in a model of one mutex");
        };
        loop {
            let due = self.sleep(ticket, deadline);
            let looks = due || !self.broken(CondvarFault::LeavesWithoutLooking);
            let taken = self.broken(CondvarFault::TakesTheSignalBeforeTheLock) && self.take(ticket);
            match lock() {
                Ok(guard) if taken || looks && self.take(ticket) => return Ok((Ok(guard), true)),
                // Another waiter has the signal.
                Ok(guard) if due => drop(guard),
                Ok(guard) => return Ok((Ok(guard), self.leave(ticket))),
                // Held with a report, or not at all: in either case the caller hears of it now.
                Err(error) => return Ok((Err(error), self.leave(ticket))),
            }
        }
    }

    /// Lets `count` of those who wait return; all, if there are not more. Never blocks; without anybody who
    /// waits, it is one load.
    pub fn notify(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        // Relaxed: whoever was counted before we last held the mutex is seen (PAIR mutex-word).
        let mut seen = self.tally.load(Ordering::Relaxed);
        let all = loop {
            let tally = Tally(seen);
            if tally.waiting() == 0 || count == 0 {
                return;
            }
            let after = tally.notified(count);
            // Relaxed: `seq` publishes it.
            match self.exchange(tally, after) {
                Ok(()) => break after.epoch() != tally.epoch(),
                Err(now) => seen = now.0,
            }
        };
        // PAIR condvar-seq: Release, after the tally.
        self.seq.fetch_add(1, Ordering::Release);
        if self.broken(CondvarFault::ForgetsToWake) {
            return;
        }
        let sleepers = match all {
            true if !self.broken(CondvarFault::WakesOneForAll) => u32::MAX,
            true => 1,
            false => u32::try_from(count).unwrap_or(u32::MAX),
        };
        futex::wake(&self.seq, sleepers);
    }

    /// Counts the caller, who holds the mutex, among those who wait (INV-C2).
    fn join(&self, generation: u64) -> Result<Ticket, OtherMutex> {
        let mutex = fingerprint(generation);
        let mut looks = 0;
        // Relaxed: a look; the exchange decides.
        let mut tally = Tally(self.tally.load(Ordering::Relaxed));
        loop {
            let other = tally.waiting() != 0 && tally.mutex() != mutex;
            if other && (futex::waiters(&self.seq) != 0) {
                return Err(OtherMutex);
            }
            if other && looks < LOOKS {
                // They may be on their way from or to their sleep.
                looks += 1;
                yield_now();
                tally = Tally(self.tally.load(Ordering::Relaxed));
                continue;
            }
            if other || tally.waiting() == COUNT {
                // Dead ones, or more than can be counted: begin anew (INV-C6).
                self.notify(usize::MAX);
                tally = Tally(self.tally.load(Ordering::Relaxed));
                continue;
            }
            match self.exchange(tally, tally.joined(mutex)) {
                Ok(()) => break,
                Err(now) => tally = now,
            }
        }
        Ok(Ticket {
            epoch: tally.epoch(),
            // Relaxed: a notification before the caller unlocks need not be for it.
            seq: self.seq.load(Ordering::Relaxed),
        })
    }

    /// Sleeps until it looks as if the caller may return; `false` if the deadline came first.
    fn sleep(&self, ticket: Ticket, deadline: Option<Deadline>) -> bool {
        loop {
            // PAIR condvar-seq: Acquire sees the tally that this `seq` stands for.
            let mut seq = self.seq.load(Ordering::Acquire);
            if self.broken(CondvarFault::LeavesWithoutLooking)
                && deadline.is_some_and(Deadline::is_past)
            {
                return false;
            }
            if self.is_due(ticket, seq) {
                return true;
            }
            if deadline.is_some_and(Deadline::is_past) {
                return false;
            }
            if self.broken(CondvarFault::ReadsSeqAfterLooking) {
                seq = self.seq.load(Ordering::Acquire);
            }
            // Whatever it says: look again. A slice bounds what a dead waiter or notifier leaves.
            let _ = futex::wait_slice(&self.seq, seq, deadline);
        }
    }

    fn is_due(&self, ticket: Ticket, seq: u32) -> bool {
        // Relaxed: as new as `seq`, by its Acquire.
        let tally = Tally(self.tally.load(Ordering::Relaxed));
        tally.epoch() != ticket.epoch || tally.signals() != 0 && seq != ticket.seq
    }

    /// Takes a signal, or the end of the epoch; `false` if there is neither.
    fn take(&self, ticket: Ticket) -> bool {
        // Relaxed, both: a look; the exchange decides.
        let mut tally = Tally(self.tally.load(Ordering::Relaxed));
        let seq = self.seq.load(Ordering::Relaxed);
        loop {
            if tally.epoch() != ticket.epoch {
                return true;
            }
            if tally.signals() == 0 || seq == ticket.seq {
                return false;
            }
            match self.exchange(tally, Tally(tally.0 - ONE_WAITING - 1)) {
                Ok(()) => return true,
                Err(now) => tally = now,
            }
        }
    }

    /// Leaves those who wait, with a signal if there is one; whether there was.
    fn leave(&self, ticket: Ticket) -> bool {
        let looks = !self.broken(CondvarFault::LeavesWithoutLooking);
        if looks && self.take(ticket) {
            return true;
        }
        // Relaxed: a look; the exchange decides.
        let mut tally = Tally(self.tally.load(Ordering::Relaxed));
        loop {
            if tally.epoch() != ticket.epoch {
                return true;
            }
            let after = if looks {
                tally.left()
            } else {
                Tally(tally.0 - ONE_WAITING)
            };
            match self.exchange(tally, after) {
                Ok(()) => return false,
                Err(now) => tally = now,
            }
        }
    }

    /// Relaxed: the tally is ordered by the mutex, by `seq`, and by its own order of modification.
    fn exchange(&self, seen: Tally, after: Tally) -> Result<(), Tally> {
        self.tally
            .compare_exchange(seen.0, after.0, Ordering::Relaxed, Ordering::Relaxed)
            .map(|_| ())
            .map_err(Tally)
    }

    /// How many wait. Makes one system call, disturbs nobody.
    #[must_use]
    pub fn inspect(&self) -> CondvarInspection {
        // Relaxed: outdated as soon as it is read.
        let tally = Tally(self.tally.load(Ordering::Relaxed));
        CondvarInspection {
            waiters: futex::waiters(&self.seq),
            // Ten bits each.
            counted: tally.waiting() as u32,
            signals: tally.signals() as u32,
        }
    }

    /// Ends the slice of every sleeper, which the model's kernel does not do by itself.
    #[cfg(loom)]
    pub fn end_slices(&self) {
        futex::wake(&self.seq, u32::MAX);
    }
}

/// A mutex's generation in the bits that there are; never 0.
fn fingerprint(generation: u64) -> u64 {
    let folded = generation ^ generation >> MUTEX_BITS ^ generation >> (2 * MUTEX_BITS);
    (folded & MUTEX).max(1)
}
