//! The mutex that everything else stands on: a word of shared memory that a dead owner cannot keep.
//!
//! ```text
//! offset size field   meaning (all zero: unlocked, never held)
//!      0    4 word    TID (30 bits) | OWNER_DIED (bit 30) | WAITERS (bit 31); 32 before the list node
//!      4    4 state   bit 0 inconsistent, bit 1 poisoned, bit 2 not recoverable; bits 8.. deaths, wrapping
//!      8    8 owner   ProcessId of the owner; 0: no section is open
//!     16    4 starve  1: a waiter has slept for longer than STARVATION
//!     20    4 depth   sections of the owner inside this one, where nesting is allowed; 0 in a plain mutex
//!     24    8 prev  } node of the owner's robust list, valid in the owner's address space alone
//!     32    8 next  }
//!     40    8 since   CLOCK_MONOTONIC ns at which a sleeping waiter first saw this owner; 0: none did
//!     48      the protected data may follow in the same cache line
//! ```
//!
//! # The word
//!
//! | TID | OWNER_DIED | WAITERS | the lock is | who may take it |
//! |-----|------------|---------|-------------|-----------------|
//! |  0  |     0      |    0    | free        | anybody |
//! |  0  |     0      |    1    | handed over | a thread that has slept on it in this call; others after [`HAND_OVER`] |
//! |  0  |     1      |   any   | orphaned    | anybody; WAITERS stays |
//! |  t  |     0      |    0    | held by t, nobody sleeps | nobody |
//! |  t  |     0      |    1    | held by t, somebody may sleep | nobody |
//! |  t  |     1      |    1    | held by t, whom a waiter suspects to be gone (see `rescue`) | nobody |
//!
//! # Invariants
//!
//! - INV-M1: the word holds a thread's id exactly while that thread holds the lock. It is set by one
//!   compare-and-exchange, so there is no instant at which the lock is taken and the taker unknown.
//! - INV-M2: while a thread's id stands in the word, the lock is in that thread's robust list or pending
//!   there (INV-R1 of `shm_core::robust`); so the kernel finds it, whenever the thread ends.
//! - INV-M3: whoever sleeps has seen WAITERS in the word it sleeps on, and whoever takes the lock after having
//!   slept leaves WAITERS set. So as long as anybody sleeps, the next unlock or burial wakes one, and that
//!   one, by taking, timing out or dying, lets the next be woken.
//! - INV-M4: `owner` is not 0 exactly from the entry into the section to its end. It is stored after the word
//!   is taken and cleared before the word is released; hence an orphaned lock with `owner` 0 was lost
//!   outside the section and needs no repair.
//! - INV-M5: `owner` of a dead owner stays until the death is noted in `state`, and is then replaced, not
//!   cleared. So a recoverer that is killed leaves either the note or an `owner`: nothing is forgotten.
//! - INV-M6: `state`, `owner`, `depth`, `prev`, `next` are written by the holder alone. `starve` and `since` are
//!   hints; any value is harmless.
//!
//! # Pairs
//!
//! - PAIR mutex-word: the Release that gives the word away publishes the section to the Acquire that
//!   takes it. A burial stands between the two as the kernel's compare-and-exchange, a full barrier that
//!   runs after the dead thread's last instruction; so the section of the dead is published too.
//! - PAIR futex-queue (`shm_core::futex`): a waiter compares the word under the kernel's bucket lock, the
//!   waker changes the word before it takes that lock.
//! - `owner` before the section, and the section before `owner` is cleared, are in program order by
//!   compiler fences: only the kernel, after the thread's last instruction, needs that order.
//!
//! # Peer death
//!
//! | killed | left behind | seen by the next |
//! |--------|-------------|------------------|
//! | before the word is taken | pending; the kernel wakes one if nobody holds the lock | nothing |
//! | holding, before `owner` is stored, after it is cleared | OWNER_DIED, owner 0 | nothing: no section was open |
//! | in the section | OWNER_DIED, owner | `inconsistent`, `dead_owner`, one more death |
//! | having released, before the wake | pending; the kernel wakes one | nothing |
//! | asleep, or woken and not yet taking | pending; the kernel wakes another one if the lock is free | at most one slice of delay |
//! | recovering | as in the section; `state` or the old `owner` tells | `inconsistent` |
//!
//! # Waiting
//!
//! While nobody sleeps a waiter yields the processor a few times, then sleeps. Who has slept for
//! [`STARVATION`] and is overtaken again sets `starve`; the next contended unlock then hands the lock over
//! instead of freeing it. Who has woken a sleeper yields once: until that one runs, nobody sets WAITERS
//! and so nobody else is woken, and it may be queued for the waker's own processor (without the yield
//! the longest wait for sections of 1 to 50 us was 18 ms instead of 2). Sleeps last at most one slice (100 ms),
//! so that a wake that an old kernel loses delays and does not hang.
//!
//! # Sources
//!
//! The kernel's `Documentation/locking/robust-futexes.rst` and `robust-futex-ABI.rst`; futex(2); glibc
//! `nptl/pthread_mutex_lock.c` (the order of pending, word and list); U. Drepper, *Futexes Are Tricky*
//! (mutex2: who has slept locks contended); parking_lot's `SpinWait` (yields before sleeping, while nobody sleeps).
//!
//! Shown by `tests/loom_raw_mutex.rs` (every claim above, with broken twins) and `tests/raw_mutex.rs`
//! (real processes).

use core::time::Duration;

use shm_core::mutants::{mutant, mutant_of};
use shm_core::robust::{self, Node, OWNER_DIED, TID_MASK, Thread, WAITERS};
use shm_core::sync::{AtomicU32, AtomicU64, Ordering, compiler_fence};
use shm_core::{Deadline, ProcessId, deadline, futex};
use thiserror::Error;

use fault::Fault;
use wait::{Patience, Sleep};

pub(crate) mod fault;
#[cfg(all(test, not(loom)))]
mod tests;
mod wait;

/// The lock is free.
const FREE: u32 = 0;
/// The lock is free, and only for threads that have slept on it.
const HANDED_OVER: u32 = WAITERS;

/// In `state`: an owner died inside its section, and nobody has declared the data consistent since.
const INCONSISTENT: u32 = 1 << 0;
/// In `state`: an owner panicked inside its section, and nobody has declared the data consistent since.
const POISONED: u32 = 1 << 1;
/// In `state`: the data was given up; no lock succeeds any more.
const NOT_RECOVERABLE: u32 = 1 << 2;
/// In `state`: where the count of deaths begins.
const DEATHS_SHIFT: u32 = 8;

/// A waiter that has slept for longer, and is overtaken, has the lock handed over.
const STARVATION: Duration = Duration::from_micros(300);
/// How long a newcomer leaves a lock that is handed over to those who have slept. Bounded, since
/// nobody may be asleep: they may have timed out or been killed.
const HAND_OVER: Duration = Duration::from_millis(1);
/// Who has held the lock for longer while others sleep is checked for existence after each slice.
pub(crate) const SUSPICION: Duration = Duration::from_secs(1);

/// Why a raw lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RawLockError {
    /// Somebody holds it, and the call does not wait.
    #[error("the lock is held")]
    WouldBlock,
    /// Somebody still held it when the deadline came.
    #[error("the lock was still held at the deadline")]
    Timeout,
    /// The calling thread holds it.
    #[error("the calling thread already holds the lock")]
    Deadlock,
    /// Its data was given up with [`RawMutex::mark_not_recoverable`].
    #[error("the data behind the lock was given up as not recoverable")]
    NotRecoverable,
    /// The thread holds [`robust::LIMIT`] already; the kernel would not release more at its death.
    #[error("the thread holds too many locks: the kernel would not release another at its death")]
    TooManyLocks,
    /// The thread's robust list cannot be used, so that its death would not be noticed.
    #[error("the thread's robust list cannot be used: its death would not be noticed")]
    Unsupported,
}

impl From<robust::TooManyLocks> for RawLockError {
    fn from(_: robust::TooManyLocks) -> Self {
        Self::TooManyLocks
    }
}

impl From<robust::Unsupported> for RawLockError {
    fn from(_: robust::Unsupported) -> Self {
        Self::Unsupported
    }
}

/// From whom the word was taken. (The slow paths return this and not [`Acquired`], which then need
/// not exist in memory.)
#[derive(Clone, Copy)]
enum Taken {
    /// The last owner released it.
    Released,
    /// The last owner died while its id stood in the word.
    Orphaned,
}

/// What the taker of a lock finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// An owner died in its section, now or earlier, and nobody has called
    /// [`RawMutex::mark_consistent`] since.
    pub inconsistent: bool,
    /// As `inconsistent`, for an owner that called [`RawMutex::mark_poisoned`].
    pub poisoned: bool,
    /// The owner from whom the kernel took the lock for this very caller.
    pub dead_owner: Option<ProcessId>,
    /// How many owners have died in their sections since the lock was made (modulo 2^24).
    pub deaths: u32,
}

/// What [`RawMutex::inspect`] saw. True at some instant of the call at best: for people and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawInspect {
    /// The owner's thread id; 0 if nobody holds the lock.
    pub owner_tid: u32,
    /// The owner's process.
    pub owner: Option<ProcessId>,
    /// Since when somebody has had to sleep for this owner's lock, in nanoseconds of `CLOCK_MONOTONIC`; the
    /// owner has had it longer. `None` if nobody has had to sleep for it: taking a lock reads no clock.
    /// A hint: noted beside a release, it may be the time of an owner before, and stays so, also for owners for whom
    /// nobody has had to sleep, until one releases the lock while somebody sleeps for it.
    pub since: Option<u64>,
    /// How many threads sleep for it.
    pub waiters: usize,
    /// As [`Acquired::deaths`].
    pub deaths: u32,
    /// As [`Acquired::inconsistent`], or the lock is orphaned at this moment.
    pub inconsistent: bool,
    /// As [`Acquired::poisoned`].
    pub poisoned: bool,
    /// The data was given up.
    pub not_recoverable: bool,
}

/// A robust mutex without data, between threads of any processes that map it.
///
/// All zero bytes are an unlocked mutex. A thread's death while it holds the lock, by whatever
/// cause, gives it to the next one, who is told. Locking never allocates and makes no system call
/// unless it has to wait.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct RawMutex {
    word: AtomicU32,
    state: AtomicU32,
    owner: AtomicU64,
    starve: AtomicU32,
    depth: AtomicU32,
    node: Node,
    since: AtomicU64,
    #[cfg(loom)]
    fault: Option<Fault>,
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<RawMutex>() == 48 && align_of::<RawMutex>() == 16);
    assert!(offset_of!(RawMutex, word) == 0 && offset_of!(RawMutex, state) == 4);
    assert!(offset_of!(RawMutex, owner) == 8 && offset_of!(RawMutex, starve) == 16);
    assert!(offset_of!(RawMutex, depth) == 20 && offset_of!(RawMutex, since) == 40);
    // The kernel's node is the second word of `Node`.
    assert!(offset_of!(RawMutex, node) as isize + 8 + robust::WORD_OFFSET == 0);
};

#[cfg(not(loom))]
// SAFETY: every field is an atomic; the links in `node` are followed only by the thread that wrote
// them (INV-R3 of the robust list).
unsafe impl shm_core::Shared for RawMutex {}

impl Acquired {
    /// Whether there is nothing to report.
    #[inline]
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        !self.inconsistent && !self.poisoned
    }
}

impl Default for RawMutex {
    fn default() -> Self {
        Self::new()
    }
}

impl RawMutex {
    /// An unlocked mutex.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            word: AtomicU32::new(FREE),
            state: AtomicU32::new(0),
            owner: AtomicU64::new(0),
            starve: AtomicU32::new(0),
            depth: AtomicU32::new(0),
            node: Node::new(),
            since: AtomicU64::new(0),
        }
    }

    /// An unlocked mutex.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self::made(None, false)
    }

    /// A mutex that does one thing wrong.
    #[cfg(loom)]
    #[must_use]
    pub fn new_broken(fault: Fault) -> Self {
        Self::made(Some(fault), false)
    }

    /// A mutex for which somebody has waited too long, and which may do one thing wrong.
    #[cfg(loom)]
    #[must_use]
    pub fn new_starved(fault: Option<Fault>) -> Self {
        Self::made(fault, true)
    }

    #[cfg(loom)]
    fn made(fault: Option<Fault>, starved: bool) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            state: AtomicU32::new(0),
            owner: AtomicU64::new(0),
            starve: AtomicU32::new(u32::from(starved)),
            depth: AtomicU32::new(0),
            node: Node::new(),
            since: AtomicU64::new(0),
            fault,
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: Fault) -> bool {
        self.fault == Some(fault) || mutant_of("RawMutex", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: Fault) -> bool {
        mutant_of("RawMutex", &fault)
    }

    // ---- the fast path ----------------------------------------------------------------------

    /// Takes the lock; waits for it until `deadline`, or for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Timeout`](RawLockError::Timeout), [`Deadlock`](RawLockError::Deadlock),
    /// [`NotRecoverable`](RawLockError::NotRecoverable), [`TooManyLocks`](RawLockError::TooManyLocks),
    /// [`Unsupported`](RawLockError::Unsupported). After an error the lock is not held.
    ///
    /// # Safety
    ///
    /// - After success, until [`unlock`](Self::unlock) by the same thread or that thread's end, the
    ///   mutex stays mapped, writable, at this address.
    /// - Not called from a signal handler, which may have interrupted an operation on the thread's list.
    ///
    /// # Memory ordering
    ///
    /// All that previous owners did, the dead included, happens before the return.
    #[inline(always)]
    pub unsafe fn lock(&self, deadline: Option<Deadline>) -> Result<Acquired, RawLockError> {
        // SAFETY: the caller's promise.
        unsafe { self.lock_or_else(|| self.lock_slow(deadline)) }
    }

    /// Takes the lock if nobody holds it; never waits.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), with [`WouldBlock`](RawLockError::WouldBlock) in place of `Timeout` and
    /// `Deadlock`.
    ///
    /// # Safety
    ///
    /// As [`lock`](Self::lock).
    #[inline]
    pub unsafe fn try_lock(&self) -> Result<Acquired, RawLockError> {
        // SAFETY: the caller's promise.
        unsafe { self.lock_or_else(|| self.try_lock_slow()) }
    }

    /// Takes the lock, with as much patience as given.
    ///
    /// # Errors
    /// As [`lock`](Self::lock) and [`try_lock`](Self::try_lock).
    ///
    /// # Safety
    /// As [`lock`](Self::lock).
    #[inline(always)]
    pub unsafe fn acquire(&self, patience: crate::Patience) -> Result<Acquired, RawLockError> {
        let slow = || match patience {
            crate::Patience::None => self.try_lock_slow(),
            crate::Patience::Endless => self.lock_slow(None),
            crate::Patience::Until(deadline) => self.lock_slow(Some(deadline)),
        };
        // SAFETY: the caller's promise.
        unsafe { self.lock_or_else(slow) }
    }

    /// Takes a free lock, or one that is not by the slow path.
    ///
    /// # Safety
    /// As [`lock`](Self::lock).
    #[inline(always)]
    unsafe fn lock_or_else(
        &self,
        slow: impl FnOnce() -> Result<Taken, RawLockError>,
    ) -> Result<Acquired, RawLockError> {
        let thread = robust::thread()?;
        thread.begin(&self.node, &self.word)?;
        let taken = match self.take(FREE, thread.tid()) {
            true => Taken::Released,
            false => slow()?,
        };
        self.enter(thread, taken)
    }

    /// Releases the lock. Does nothing in a process that was forked while its parent held it.
    ///
    /// # Safety
    ///
    /// This thread took the lock with [`lock`](Self::lock) or [`try_lock`](Self::try_lock) and has not
    /// released it since; or it is the forked copy of such a thread.
    #[inline(always)]
    pub unsafe fn unlock(&self) {
        let Some(thread) = robust::current() else {
            return;
        };
        // Relaxed: if the thread's id stands there, the thread itself stored it (INV-M1).
        let word = self.word.load(Ordering::Relaxed);
        if word & TID_MASK != thread.tid() {
            return;
        }
        thread.begin_unlock(&self.node, &self.word);
        self.close_section();
        // SAFETY: the thread holds the lock, so its node was pushed when it was taken.
        unsafe { thread.remove(&self.node) };
        if self.broken(Fault::EndsBeforeRelease) {
            thread.end();
        }
        // PAIR mutex-word: Release publishes the section to the next taker.
        let released =
            self.word
                .compare_exchange(thread.tid(), FREE, self.release(), Ordering::Relaxed);
        if released.is_err() {
            return self.unlock_slow();
        }
        if self.broken(Fault::ClearsOwnerAfterRelease) {
            self.owner.store(0, Ordering::Relaxed);
        }
        thread.end();
    }

    /// One attempt to take a lock whose word is `seen`.
    #[inline(always)]
    fn take(&self, seen: u32, mine: u32) -> bool {
        let acquire = if self.broken(Fault::TakesWithRelaxed) {
            Ordering::Relaxed
        } else {
            // PAIR mutex-word: Acquire sees the sections before.
            Ordering::Acquire
        };
        // Relaxed on failure: the slow path looks again.
        self.word
            .compare_exchange(seen, mine, acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// The word is ours; opens the section and tells what the taker has to know.
    #[inline(always)]
    fn enter(&self, thread: Thread, taken: Taken) -> Result<Acquired, RawLockError> {
        // SAFETY: the word was just taken, so no list holds the node; the mutex stays mapped by the
        // contract of `lock`.
        unsafe { thread.push(&self.node) };
        thread.end();
        let dead_owner = match taken {
            Taken::Released => None,
            Taken::Orphaned => self.note_death(),
        };
        // Relaxed: whoever needs it finds it by the word (PAIR mutex-word), or looks for a person.
        self.owner.store(thread.process(), Ordering::Relaxed);
        // No write of the section before `owner` stands (INV-M4).
        compiler_fence(Ordering::SeqCst);
        // Relaxed: written by holders alone (INV-M6).
        let state = self.state.load(Ordering::Relaxed);
        if state & NOT_RECOVERABLE != 0 {
            self.give_back();
            return Err(RawLockError::NotRecoverable);
        }
        Ok(Acquired {
            inconsistent: state & INCONSISTENT != 0,
            poisoned: state & POISONED != 0,
            dead_owner,
            deaths: state >> DEATHS_SHIFT,
        })
    }

    /// No write of the section after `owner` is cleared (INV-M4).
    #[inline]
    fn close_section(&self) {
        compiler_fence(Ordering::SeqCst);
        // Relaxed: the release of the word publishes it.
        if !self.broken(Fault::NeverClearsOwner) && !self.broken(Fault::ClearsOwnerAfterRelease) {
            self.owner.store(0, Ordering::Relaxed);
        }
        compiler_fence(Ordering::SeqCst);
    }

    #[inline]
    fn release(&self) -> Ordering {
        if self.broken(Fault::ReleasesWithRelaxed) {
            Ordering::Relaxed
        } else {
            Ordering::Release
        }
    }

    // ---- the slow path ----------------------------------------------------------------------

    // The slow paths look the thread up again: handed over by reference, it would have to exist in
    // memory on the fast path too.

    #[cold]
    #[inline(never)]
    fn lock_slow(&self, deadline: Option<Deadline>) -> Result<Taken, RawLockError> {
        let thread = robust::thread()?;
        self.contend(thread, deadline).inspect_err(|_| thread.end())
    }

    /// Waits until the word is ours.
    fn contend(&self, thread: Thread, deadline: Option<Deadline>) -> Result<Taken, RawLockError> {
        let mut patience = Patience::new();
        let mut sleep = Sleep::new();
        loop {
            // Relaxed: a look; `take` decides.
            let word = self.word.load(Ordering::Relaxed);
            if word & OWNER_DIED != 0 && word & TID_MASK == 0 {
                if self.take_orphan(word, thread, sleep.queued) {
                    return Ok(Taken::Orphaned);
                }
                continue;
            }
            if word == FREE || word == HANDED_OVER && sleep.queued != 0 {
                if self.take(word, thread.tid() | sleep.queued) {
                    if sleep.queued != 0 {
                        // The waiters' turn is taken. Relaxed: a hint.
                        self.starve.store(0, Ordering::Relaxed);
                        if word == HANDED_OVER {
                            // Of `take_unclaimed`: not since when this owner holds it.
                            self.since.store(0, Ordering::Relaxed);
                        }
                    }
                    return Ok(Taken::Released);
                }
                continue;
            }
            if self.is_held_by(thread, word) {
                return Err(RawLockError::Deadlock);
            }
            if word & WAITERS == 0 {
                if patience.wait() {
                    continue;
                }
                if self.broken(Fault::GivesUpWithoutWaiters)
                    && deadline.is_some_and(Deadline::is_past)
                {
                    return Err(RawLockError::Timeout);
                }
                // Relaxed: publishes nothing; the owner sees the bit when it releases the word.
                if self
                    .word
                    .compare_exchange(word, word | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
                {
                    continue;
                }
            }
            // Only here, with WAITERS set: a waiter that was woken and then gives up has thereby
            // passed the wake on to the next release (INV-M3).
            if deadline.is_some_and(Deadline::is_past) {
                if word == HANDED_OVER && self.take_unclaimed(thread) {
                    return Ok(Taken::Released);
                }
                return Err(RawLockError::Timeout);
            }
            let ended = self.sleep(word | WAITERS, deadline, &mut sleep);
            if ended == futex::Wait::Interrupted && mutant("RawMutex::GivesUpWhenInterrupted") {
                return Err(RawLockError::Timeout);
            }
            patience = Patience::new();
        }
    }

    #[cold]
    #[inline(never)]
    fn try_lock_slow(&self) -> Result<Taken, RawLockError> {
        let thread = robust::thread()?;
        loop {
            // Relaxed: a look; `take` decides.
            let word = self.word.load(Ordering::Relaxed);
            if word == FREE {
                if self.take(word, thread.tid()) {
                    return Ok(Taken::Released);
                }
            } else if word & OWNER_DIED != 0 && word & TID_MASK == 0 {
                if self.take_orphan(word, thread, 0) {
                    return Ok(Taken::Orphaned);
                }
            } else if word == HANDED_OVER && self.take_unclaimed(thread) {
                return Ok(Taken::Released);
            } else {
                thread.end();
                return Err(RawLockError::WouldBlock);
            }
        }
    }

    /// One attempt, for one who does not wait, to take a lock that is handed over. It succeeds
    /// when no sleeper has come for the lock within [`HAND_OVER`]: the one woken may have been killed.
    fn take_unclaimed(&self, thread: Thread) -> bool {
        // Relaxed, all: hints. While the lock is handed over nobody owns it, and `since` is free to
        // say since when it was seen so.
        let (since, now) = (self.since.load(Ordering::Relaxed), deadline::now());
        if since == 0 || since > now {
            self.since.store(now, Ordering::Relaxed);
        } else if now - since > HAND_OVER.as_nanos() as u64
            // Others may sleep on it still (INV-M3).
            && self.take(HANDED_OVER, thread.tid() | WAITERS)
        {
            self.since.store(0, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// One attempt to take a lock whose owner died.
    fn take_orphan(&self, word: u32, thread: Thread, queued: u32) -> bool {
        // Whoever slept on it still does.
        let waiters = if self.broken(Fault::RecoveryDropsWaiters) {
            0
        } else {
            word & WAITERS | queued
        };
        self.take(word, thread.tid() | waiters)
    }

    /// Notes in `state` that the last owner died in its section, if it did (INV-M5).
    #[cold]
    #[inline(never)]
    fn note_death(&self) -> Option<ProcessId> {
        // Relaxed, all of them: between holders, who are ordered by the word.
        self.since.store(0, Ordering::Relaxed);
        let dead_owner = ProcessId::from_bits(self.owner.load(Ordering::Relaxed));
        if self.broken(Fault::ClearsOwnerBeforeNoting) {
            self.owner.store(0, Ordering::Relaxed);
        }
        if dead_owner.is_some() && !mutant("RawMutex::NotesNoDeath") {
            let state = self.state.load(Ordering::Relaxed);
            let noted = (state | INCONSISTENT).wrapping_add(1 << DEATHS_SHIFT);
            self.state.store(noted, Ordering::Relaxed);
        }
        // Before `enter` replaces `owner`.
        compiler_fence(Ordering::SeqCst);
        dead_owner
    }

    /// Sleeps until `word`, which has WAITERS set, may have changed.
    fn sleep(&self, word: u32, deadline: Option<Deadline>, sleep: &mut Sleep) -> futex::Wait {
        let now = deadline::now();
        if sleep.queued == 0 {
            sleep.begin = now;
            sleep.looked = now;
        } else if now.saturating_sub(sleep.begin) > STARVATION.as_nanos() as u64 {
            // Overtaken again. Relaxed: a hint.
            self.starve.store(1, Ordering::Relaxed);
        }
        let ended = if word == HANDED_OVER && !self.broken(Fault::SleepsUnboundedAtHandOff) {
            futex::wait_briefly(&self.word, word, deadline, HAND_OVER)
        } else {
            self.note_since(word, now, sleep);
            futex::wait_slice(&self.word, word, deadline)
        };
        if ended != futex::Wait::Changed && !self.broken(Fault::SleeperTakesWithoutWaiters) {
            // A wake may have been spent on this thread, and others may sleep (INV-M3).
            sleep.queued = WAITERS;
        }
        let is_slice_over = match ended {
            futex::Wait::TimedOut => true,
            // A signal that comes again and again lets none end.
            futex::Wait::Interrupted => {
                now.saturating_sub(sleep.looked) > futex::SLICE.as_nanos() as u64
            }
            _ => false,
        };
        if is_slice_over {
            sleep.looked = now;
            if word & TID_MASK != 0 && self.is_suspicious(word) {
                self.rescue(word);
            }
        }
        ended
    }

    /// Leaves in `since` when the present owner was first seen by a sleeper.
    fn note_since(&self, word: u32, now: u64, sleep: &mut Sleep) {
        let owner = word & TID_MASK;
        let owner_changed = sleep.owner != 0 && sleep.owner != owner;
        sleep.owner = owner;
        // Relaxed: a hint. The owner clears it in its contended unlock; one that is stored too late, for an
        // owner that is gone, is replaced as soon as its writer, whom that unlock wakes, sleeps again. If its writer
        // takes the lock instead, and nobody else is queued, it stays until the next contended unlock: at worst
        // somebody is suspected too early, and found alive.
        if owner_changed || self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(now, Ordering::Relaxed);
        }
    }

    /// Whether a sleep that ended with nothing new should lead to a look at the owner's existence.
    fn is_suspicious(&self, word: u32) -> bool {
        // Relaxed: hints.
        let since = self.since.load(Ordering::Relaxed);
        since != 0
            && self.word.load(Ordering::Relaxed) == word
            && deadline::now().saturating_sub(since) > SUSPICION.as_nanos() as u64
    }

    /// As a sleeper does, for a lock on which nobody sleeps. By one at a time, and not within a second of another.
    pub(crate) fn rescue_if_gone(&self) {
        // Relaxed: a look; `rescue` decides.
        let word = self.word.load(Ordering::Relaxed);
        if word & TID_MASK != 0 && futex::thread_is_gone(word & TID_MASK) {
            self.rescue(word);
        }
    }

    /// Orphans a lock whose owner is gone although the kernel did not say so.
    ///
    /// The kernel's walk can miss a lock: its holder called `exec` from a thread other than the first (it has
    /// the first thread's id by the time of the walk), its region was unmapped while held, the thread
    /// held more than 2048 locks, an old kernel's out-of-memory reaper freed the list first.
    ///
    /// Two steps, since a thread id alone may be reused. First the word is marked, keeping the id: harmless
    /// if the owner lives, whose unlock and whose burial treat the mark as nothing. Then the id is looked
    /// up. A thread's list is walked before its id vanishes, and a new thread of that id can lock only a
    /// word that is free; so if the id is gone while the marked word still holds it, the walk has missed
    /// this lock, and from then on only a rescuer changes the word. That a rescuer did, that a new thread
    /// got the id, the lock and a mark of its own, all between the last two steps here, would take the second for
    /// which such a lock stays unsuspected ([`SUSPICION`]) between two neighbouring instructions.
    #[cold]
    fn rescue(&self, word: u32) {
        let suspected = word | OWNER_DIED;
        // Relaxed, here and below: publishes nothing; the dead owner's last writes are older than the
        // lookup, and whoever takes the lock acquires.
        if word != suspected
            && self
                .word
                .compare_exchange(word, suspected, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        if futex::thread_is_gone(word & TID_MASK)
            && self
                .word
                .compare_exchange(
                    suspected,
                    OWNER_DIED | WAITERS,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
        {
            futex::wake(&self.word, 1);
        }
    }

    /// Releases a word that has more than the thread's id in it, as `unlock` does, and wakes one.
    #[cold]
    #[inline(never)]
    fn unlock_slow(&self) {
        // Relaxed: hints.
        self.since.store(0, Ordering::Relaxed);
        let hand_over =
            self.starve.load(Ordering::Relaxed) != 0 && !mutant("RawMutex::NeverHandsOver");
        let freed = if hand_over { HANDED_OVER } else { FREE };
        // PAIR mutex-word: Release publishes the section to the next taker.
        self.word.swap(freed, self.release());
        if self.broken(Fault::ClearsOwnerAfterRelease) {
            self.owner.store(0, Ordering::Relaxed);
        }
        let woken = if self.broken(Fault::ForgetsToWake) {
            1
        } else {
            futex::wake(&self.word, 1)
        };
        if woken == 0 && hand_over {
            // Nobody slept any more: free it for all. Fails if somebody has taken it since. Relaxed: the
            // swap has released the section, and this continues its release sequence.
            let _ =
                self.word
                    .compare_exchange(HANDED_OVER, FREE, Ordering::Relaxed, Ordering::Relaxed);
        }
        if let Some(thread) = robust::current() {
            thread.end();
        }
        if woken != 0 {
            // The one woken may wait for this very processor, and nobody else is woken before it has run.
            futex::give_way();
        }
    }

    /// Gives a lock back whose data was given up; so its waiters learn of it one after another.
    #[cold]
    #[inline(never)]
    fn give_back(&self) {
        // SAFETY: called by `enter`, when the lock has just been taken by this thread.
        unsafe { self.unlock() };
    }

    // ---- for the holder ---------------------------------------------------------------------

    /// Declares the data good again: neither inconsistent nor poisoned. For the holder.
    pub fn mark_consistent(&self) {
        self.change_state(|state| state & !(INCONSISTENT | POISONED));
    }

    /// Notes that the holder leaves the data in doubt, as after a panic. For the holder.
    pub fn mark_poisoned(&self) {
        self.change_state(|state| state | POISONED);
    }

    /// Gives the data up: from the next unlock on, every lock is refused. For the holder.
    pub fn mark_not_recoverable(&self) {
        self.change_state(|state| state | NOT_RECOVERABLE);
    }

    /// Needs no fence against the section: until that is closed, a death is reported whatever `state` says.
    fn change_state(&self, change: impl FnOnce(u32) -> u32) {
        // A forked child's copy of a guard changes nothing.
        if !self.is_held_by_me() {
            return;
        }
        // Relaxed: written by holders alone, who are ordered by the word (INV-M6).
        let state = self.state.load(Ordering::Relaxed);
        self.state.store(change(state), Ordering::Relaxed);
    }

    /// How deep the holder is nested in its own section. For the holder, who sets it anew whenever it
    /// takes the lock: what a dead owner left means nothing.
    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        // Relaxed: written by holders alone, who are ordered by the word (INV-M6).
        self.depth.load(Ordering::Relaxed)
    }

    /// Notes how deep the holder is nested. For the holder.
    #[inline]
    pub(crate) fn set_depth(&self, depth: u32) {
        // Relaxed: as in `depth`.
        self.depth.store(depth, Ordering::Relaxed);
    }

    // ---- for observers ----------------------------------------------------------------------

    /// Whether the calling thread holds the lock. Not so in a forked child, whoever it was forked from.
    #[must_use]
    pub fn is_held_by_me(&self) -> bool {
        robust::current()
            // Relaxed: if the thread's id stands there, the thread itself stored it.
            .is_some_and(|thread| self.is_held_by(thread, self.word.load(Ordering::Relaxed)))
    }

    /// The owner's process is compared too: an id alone could be a thread's of another PID namespace.
    fn is_held_by(&self, thread: Thread, word: u32) -> bool {
        word & TID_MASK == thread.tid() && self.owner.load(Ordering::Relaxed) == thread.process()
    }

    /// Whether an owner died in its section and nobody has made its data consistent since: a hint, for who would
    /// repair it.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        // Relaxed, both: hints. While anybody holds it, the dead are that one's concern.
        let word = self.word.load(Ordering::Relaxed);
        let died = word & OWNER_DIED != 0;
        word & TID_MASK == 0 && (died || self.state.load(Ordering::Relaxed) & INCONSISTENT != 0)
    }

    /// The thread id of the owner at this moment; 0 if there is none. One load.
    #[inline]
    #[must_use]
    pub fn owner_tid(&self) -> u32 {
        // Relaxed: outdated as soon as it is read.
        self.word.load(Ordering::Relaxed) & TID_MASK
    }

    /// Who holds the lock, how many wait, since when somebody has had to, and what is known of the data.
    /// Works on a read-only mapping, does not disturb anybody, and makes one system call.
    #[must_use]
    pub fn inspect(&self) -> RawInspect {
        // Relaxed, all: each is outdated as soon as it is read, and they need not fit together.
        let word = self.word.load(Ordering::Relaxed);
        let owner = self.owner.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed);
        let held = word & TID_MASK != 0;
        let orphaned = !held && word & OWNER_DIED != 0 && owner != 0;
        RawInspect {
            owner_tid: word & TID_MASK,
            owner: ProcessId::from_bits(owner).filter(|_| held),
            since: (held && since != 0).then_some(since),
            waiters: futex::waiters(&self.word),
            deaths: state >> DEATHS_SHIFT,
            inconsistent: state & INCONSISTENT != 0 || orphaned,
            poisoned: state & POISONED != 0,
            not_recoverable: state & NOT_RECOVERABLE != 0,
        }
    }
}
