//! A reader-writer lock made of mutexes: a reader takes one, a writer takes all.
//!
//! ```text
//! offset size field   meaning (all zero: unlocked, never held)
//!      0   48 gate    RawMutex: held by a writer from before its first slot to after its last
//!     48    8 writer  ProcessId of the writer in its section; 0: no section is open
//!     56    4 state   bit 0 inconsistent, bit 1 poisoned, bit 2 not recoverable, bit 3 a writer is
//!                     here (hint); bits 8.. deaths, wrapping
//!     60    4 readers number of slots, 1 to 1024; never changes
//!     64   64 slot 0  RawMutex, and padding; its `depth` counts a reader's nested reads
//!    128      slot 1, ...
//! ```
//!
//! A reader takes a slot that nobody has, of its own choice, so that readers write no common line. A
//! writer takes the gate, then every slot in order. Both exclude each other at the slot; the gate
//! orders the writers, and holds the readers back while a writer collects the slots.
//!
//! # Invariants
//!
//! - INV-W1: who writes the data holds all slots; who reads it holds one.
//! - INV-W2: `writer` is not 0 exactly from the entry into a writer's section to its end: stored after the
//!   last slot is taken, cleared before the first is released. So whoever holds a slot and finds
//!   `writer` not 0 knows that the writer it names died (INV-M4 of the raw mutex).
//! - INV-W3: a dead writer's `writer` stays until the death is noted in `state`, and is then replaced, not
//!   cleared (INV-M5).
//! - INV-W4: `writer`, and `state` but for its hint, are written by writers in possession of all slots; the
//!   hint is written by whoever holds the gate, as those writers do.
//!
//! # Pairs
//!
//! - PAIR mutex-word of each slot: a writer's section is published to the reader that takes any slot
//!   after it, a reader's section to the writer that takes its slot.
//!
//! # Nesting
//!
//! A thread that reads may read again: if it needs it, in the same slot (`depth`), so that it never waits,
//! neither for a writer that waits for it nor for room. Writing while reading, and reading or writing while
//! writing, is a deadlock and is told so.
//!
//! # Peer death
//!
//! | killed | left behind | seen by the next |
//! |--------|-------------|------------------|
//! | reader, anywhere | its slot, orphaned | nothing: whoever takes the slot goes on |
//! | writer, collecting slots | gate and slots, orphaned; the hint | nothing: `writer` is 0 |
//! | writer, in its section | the same, and `writer` | readers are refused, writers repair |
//! | writer, after its section | what is not yet released, orphaned | nothing: `writer` is 0 |
//! | recovering writer | as in the section: `state` or the old `writer` tells | the same again |
//!
//! # Sources
//!
//! "Big reader" locks of the Linux kernel (brlock); W. C. Hsieh, W. E. Weihl, *Scalable Reader-Writer
//! Locks for Parallel Systems* (a mutex for each processor). That a slot is a robust mutex, and so
//! both sides survive a death, is this module's.
//!
//! Shown by `tests/loom_rwlock.rs`, with broken twins.

use core::time::Duration;

use shm_core::mutants::{mutant, mutant_of};
use shm_core::sync::{AtomicU32, AtomicU64, Ordering, compiler_fence};
use shm_core::{Deadline, ProcessId};

use crate::error::{Cause, LockFailure};
use crate::patience::Patience;
use crate::raw_mutex::{Acquired, RawInspect, RawLockError, RawMutex};
use crate::slot::{self, Slot};

/// As in the raw mutex: a writer died in its section, and nobody has repaired since.
const INCONSISTENT: u32 = 1 << 0;
/// As in the raw mutex: a writer panicked in its section, and nobody has repaired since.
const POISONED: u32 = 1 << 1;
/// As in the raw mutex: the data was given up.
const NOT_RECOVERABLE: u32 = 1 << 2;
/// A writer holds the gate, or held it when it died.
const WRITER_HERE: u32 = 1 << 3;
/// Where the count of deaths begins.
const DEATHS_SHIFT: u32 = 8;
/// What a reader must not overlook.
const BAD: u32 = INCONSISTENT | POISONED | NOT_RECOVERABLE;

/// How long a reader for whom there is no room waits at one slot before it looks at all of them again.
const TURN: Duration = Duration::from_millis(1);

/// Ways to break the lock, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum RwFault {
    WriterSkipsASlot,
    NeverOpensTheSection,
    ClosesAfterRelease,
    ClearsBeforeNoting,
    NestedReadWaits,
    ReaderWaitsToWrite,
    GivesUpWithSlots,
    DowngradesWithoutASlot,
}

/// What all who use the lock look at; readers write nothing here.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RwHead {
    gate: RawMutex,
    writer: AtomicU64,
    state: AtomicU32,
    /// For the handle; the algorithm has its slots as a slice.
    #[cfg(not(loom))]
    readers: AtomicU32,
    #[cfg(loom)]
    fault: Option<RwFault>,
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<RwHead>() == 64 && offset_of!(RwHead, writer) == 48);
    assert!(offset_of!(RwHead, state) == 56 && offset_of!(RwHead, readers) == 60);
};

#[cfg(not(loom))]
// SAFETY: every field is an atomic, or a raw mutex of atomics.
unsafe impl shm_core::Shared for RwHead {}

impl RwHead {
    /// Where `readers` lies.
    #[cfg(not(loom))]
    pub(crate) const READERS: usize = core::mem::offset_of!(Self, readers);

    /// A head that does one thing wrong, or none.
    #[cfg(loom)]
    #[must_use]
    pub fn new(fault: Option<RwFault>) -> Self {
        Self {
            gate: RawMutex::new(),
            writer: AtomicU64::new(0),
            state: AtomicU32::new(0),
            fault,
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: RwFault) -> bool {
        self.fault == Some(fault) || mutant_of("RwLock", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: RwFault) -> bool {
        mutant_of("RwLock", &fault)
    }

    /// How many slots stand behind it.
    #[cfg(not(loom))]
    pub(crate) fn readers(&self) -> u32 {
        // Relaxed: never changes after publication.
        self.readers.load(Ordering::Relaxed)
    }
}

/// The lock: its head and its slots, wherever they are.
#[derive(Clone, Copy, Debug)]
pub struct RawRwLock<'a> {
    head: &'a RwHead,
    slots: &'a [Slot],
}

impl<'a> RawRwLock<'a> {
    /// The lock of this head and these slots; there is at least one.
    #[inline]
    #[must_use]
    pub fn new(head: &'a RwHead, slots: &'a [Slot]) -> Self {
        Self { head, slots }
    }

    // ---- readers ----------------------------------------------------------------------------

    /// Takes a slot, and gives its index; waits while a writer is here.
    ///
    /// # Errors
    /// [`LockFailure::NeedsRepair`] if a writer did not finish; those of [`RawMutex::lock`] and
    /// [`RawMutex::try_lock`]. After an error nothing is held.
    ///
    /// # Safety
    /// As [`RawMutex::lock`], for head and slots.
    #[inline]
    pub unsafe fn read(self, patience: Patience) -> Result<usize, LockFailure> {
        // SAFETY: the caller's promise.
        let slot = match unsafe { self.read_fast() }? {
            Some(slot) => slot,
            // SAFETY: the caller's promise.
            None => unsafe { self.read_slow(patience) }?,
        };
        // Relaxed, both: nobody changes them while a slot is held (INV-W4), and its word ordered us
        // behind whoever did (PAIR mutex-word).
        let writer = self.head.writer.load(Ordering::Relaxed);
        let state = self.head.state.load(Ordering::Relaxed);
        if writer != 0 || state & BAD != 0 {
            // SAFETY: taken just now.
            unsafe { self.unlock_read(slot) };
            return Err(refusal(writer, state));
        }
        Ok(slot)
    }

    /// The slot that the thread prefers, if no writer is here and nobody has it.
    #[inline]
    unsafe fn read_fast(self) -> Result<Option<usize>, RawLockError> {
        if self.writer_is_here() {
            return Ok(None);
        }
        let slot = slot::preferred(self.slots.len());
        // SAFETY: the caller's promise.
        match unsafe { self.slots[slot].try_take() } {
            Ok(_) => Ok(Some(slot)),
            Err(RawLockError::WouldBlock) => Ok(None),
            Err(other) => Err(other),
        }
    }

    #[inline]
    fn writer_is_here(self) -> bool {
        // Relaxed: decides who goes first, not who may; that the slot decides.
        self.head.state.load(Ordering::Relaxed) & WRITER_HERE != 0
    }

    #[cold]
    #[inline(never)]
    unsafe fn read_slow(self, patience: Patience) -> Result<usize, RawLockError> {
        let nested = slot::mine(self.slots).filter(|_| !self.head.gate.is_held_by_me());
        if let Some(slot) = nested
            && !self.head.broken(RwFault::NestedReadWaits)
        {
            let raw = self.slots[slot].raw();
            let depth = raw.depth().checked_add(1);
            raw.set_depth(depth.ok_or(RawLockError::TooManyLocks)?);
            return Ok(slot);
        }
        let mut turn = slot::preferred(self.slots.len());
        loop {
            if self.writer_is_here() {
                // SAFETY: the caller's promise.
                if let Some(slot) = unsafe { self.read_through_the_gate(patience) }? {
                    return Ok(slot);
                }
            // SAFETY: the caller's promise.
            } else if let Some((slot, _)) = unsafe { slot::try_take_any(self.slots) }? {
                return Ok(slot);
            }
            // Other readers have all the slots, or a writer has just come.
            let bound = bound(patience)?;
            turn = (turn + 1) % self.slots.len();
            // SAFETY: the caller's promise.
            match unsafe { self.slots[turn].raw().lock(Some(bound)) } {
                Ok(acquired) => {
                    self.slots[turn].taken(acquired);
                    return Ok(turn);
                }
                Err(RawLockError::Timeout) => {}
                Err(other) => return Err(other),
            }
        }
    }

    /// Waits until no writer has the gate, and takes a slot before the next one does.
    unsafe fn read_through_the_gate(
        self,
        patience: Patience,
    ) -> Result<Option<usize>, RawLockError> {
        // SAFETY: the caller's promise.
        unsafe { self.pass_gate(patience) }?;
        // We hold the gate, so no writer is here: one that died has left the hint.
        self.change_state(|state| state & !WRITER_HERE);
        // SAFETY: the caller's promise.
        let taken = unsafe { slot::try_take_any(self.slots) };
        // SAFETY: taken above.
        unsafe { self.head.gate.unlock() };
        Ok(taken?.map(|(slot, _)| slot))
    }

    /// Takes the gate. A death of who held it is no news: `writer` tells whether a section was open.
    unsafe fn pass_gate(self, patience: Patience) -> Result<(), RawLockError> {
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.head.gate.acquire(patience) }?;
        if !acquired.is_clean() {
            self.head.gate.mark_consistent();
        }
        Ok(())
    }

    /// Gives a reader's slot back, or the last of the nested reads in it. Does nothing in a forked
    /// child of the reader.
    ///
    /// # Safety
    /// The thread has it from [`read`](Self::read) or [`downgrade`](Self::downgrade), or is the
    /// forked copy of such a thread.
    #[inline]
    pub unsafe fn unlock_read(self, slot: usize) {
        let raw = self.slots[slot].raw();
        // The depth is the holder's: read by another it says nothing, and leads nowhere.
        match raw.depth() {
            // SAFETY: the caller's promise.
            0 => unsafe { raw.unlock() },
            depth if raw.is_held_by_me() => raw.set_depth(depth - 1),
            _ => {}
        }
    }

    // ---- writers ----------------------------------------------------------------------------

    /// Takes the gate and all slots, and opens the section.
    ///
    /// # Errors
    /// As [`RawMutex::lock`] and [`RawMutex::try_lock`]; [`RawLockError::Deadlock`] also if the
    /// thread reads. After an error nothing is held.
    ///
    /// # Safety
    /// As [`RawMutex::lock`], for head and slots.
    pub unsafe fn write(self, patience: Patience) -> Result<Acquired, RawLockError> {
        // Before the gate: who has it may be waiting for this very reader. Who only tries waits for nobody.
        let waits = !matches!(patience, Patience::None);
        let reads = waits && slot::mine(self.slots).is_some() && !self.is_write_locked_by_me();
        if reads && !self.head.broken(RwFault::ReaderWaitsToWrite) {
            return Err(RawLockError::Deadlock);
        }
        // SAFETY: the caller's promise.
        unsafe { self.pass_gate(patience) }?;
        if !mutant("RwLock::WriterAnnouncesNothing") {
            self.change_state(|state| state | WRITER_HERE);
        }
        let all = self.slots.len() - usize::from(self.head.broken(RwFault::WriterSkipsASlot));
        for (index, slot) in self.slots[..all].iter().enumerate() {
            // SAFETY: the caller's promise.
            match unsafe { slot.raw().acquire(patience) } {
                Ok(acquired) => {
                    slot.taken(acquired);
                }
                Err(error) => {
                    let keep = self.head.broken(RwFault::GivesUpWithSlots);
                    // SAFETY: taken above.
                    unsafe { self.leave(if keep { 0 } else { index }, None) };
                    return Err(error);
                }
            }
        }
        self.open_section()
    }

    /// All slots are ours: tells what the writer has to know (INV-W2, INV-W3).
    fn open_section(self) -> Result<Acquired, RawLockError> {
        let head = self.head;
        // Relaxed, here and below: written by those who hold all slots (INV-W4).
        let dead_owner = ProcessId::from_bits(head.writer.load(Ordering::Relaxed));
        if head.broken(RwFault::ClearsBeforeNoting) {
            head.writer.store(0, Ordering::Relaxed);
        }
        if dead_owner.is_some() {
            self.change_state(|state| (state | INCONSISTENT).wrapping_add(1 << DEATHS_SHIFT));
        }
        // The note stands before `writer` is replaced.
        compiler_fence(Ordering::SeqCst);
        if !head.broken(RwFault::NeverOpensTheSection) {
            head.writer
                .store(ProcessId::current().to_bits(), Ordering::Relaxed);
        }
        // No write of the section before `writer` stands.
        compiler_fence(Ordering::SeqCst);
        let state = head.state.load(Ordering::Relaxed);
        if state & NOT_RECOVERABLE != 0 {
            // SAFETY: all are taken.
            unsafe { self.unlock_write() };
            return Err(RawLockError::NotRecoverable);
        }
        Ok(Acquired {
            inconsistent: state & INCONSISTENT != 0,
            poisoned: state & POISONED != 0,
            dead_owner,
            deaths: state >> DEATHS_SHIFT,
        })
    }

    /// Closes the section and gives everything back. Does nothing in a forked child of the writer.
    ///
    /// # Safety
    /// The thread has the lock from [`write`](Self::write), or is the forked copy of such a thread.
    pub unsafe fn unlock_write(self) {
        if !self.is_write_locked_by_me() {
            return;
        }
        let late = self.head.broken(RwFault::ClosesAfterRelease);
        if !late {
            self.close_section();
        }
        // SAFETY: the caller's promise.
        unsafe { self.leave(self.slots.len(), None) };
        if late {
            self.close_section();
        }
    }

    /// Closes the section, and keeps one slot: gives its index. No other writer comes in between.
    ///
    /// # Safety
    /// As [`unlock_write`](Self::unlock_write).
    pub unsafe fn downgrade(self) -> usize {
        let slot = slot::preferred(self.slots.len());
        if !self.is_write_locked_by_me() {
            // In a forked child: it holds no slot, and giving back one that it does not hold is nothing.
            return slot;
        }
        self.close_section();
        let kept = (!self.head.broken(RwFault::DowngradesWithoutASlot)).then_some(slot);
        // SAFETY: the caller's promise.
        unsafe { self.leave(self.slots.len(), kept) };
        slot
    }

    /// No write of the section after `writer` is cleared (INV-W2).
    fn close_section(self) {
        compiler_fence(Ordering::SeqCst);
        // Relaxed: the release of the slots publishes it.
        self.head.writer.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// Gives the first `count` slots back, but for `kept`, and then the gate.
    unsafe fn leave(self, count: usize, kept: Option<usize>) {
        // The readers that find it gone find a slot, or wait for one.
        self.change_state(|state| state & !WRITER_HERE);
        for (index, slot) in self.slots[..count].iter().enumerate() {
            if kept != Some(index) {
                // SAFETY: taken by this thread, as the caller promises; one that is not is left alone.
                unsafe { slot.raw().unlock() };
            }
        }
        // SAFETY: as above.
        unsafe { self.head.gate.unlock() };
    }

    /// Whether the calling thread is the writer; not so in a forked child.
    #[must_use]
    pub fn is_write_locked_by_me(self) -> bool {
        self.head.gate.is_held_by_me()
    }

    /// Declares the data good again. For the writer.
    pub fn mark_consistent(self) {
        self.change_state(|state| state & !(INCONSISTENT | POISONED));
    }

    /// Notes that the writer leaves the data in doubt, as after a panic. For the writer.
    pub fn mark_poisoned(self) {
        self.change_state(|state| state | POISONED);
    }

    /// Gives the data up: from the next unlock on, everybody is refused. For the writer.
    pub fn mark_not_recoverable(self) {
        self.change_state(|state| state | NOT_RECOVERABLE);
    }

    fn change_state(self, change: impl FnOnce(u32) -> u32) {
        // Relaxed: the gate is held (INV-W4). Readers look at the bits that only writers change.
        let state = self.head.state.load(Ordering::Relaxed);
        self.head.state.store(change(state), Ordering::Relaxed);
    }

    // ---- observers --------------------------------------------------------------------------

    /// The gate: who writes or is about to, how many wait for it, and since when somebody has had to.
    #[must_use]
    pub fn inspect_gate(self) -> RawInspect {
        // Relaxed, both: outdated as soon as they are read.
        let writer = self.head.writer.load(Ordering::Relaxed);
        let state = self.head.state.load(Ordering::Relaxed);
        let gate = self.head.gate.inspect();
        let orphaned = writer != 0 && gate.owner_tid == 0;
        RawInspect {
            deaths: state >> DEATHS_SHIFT,
            inconsistent: state & INCONSISTENT != 0 || orphaned,
            poisoned: state & POISONED != 0,
            not_recoverable: state & NOT_RECOVERABLE != 0,
            ..gate
        }
    }

    /// The slots.
    #[must_use]
    pub fn slots(self) -> &'a [Slot] {
        self.slots
    }
}

/// Until when a reader for whom there is no room waits at one slot.
fn bound(patience: Patience) -> Result<Deadline, RawLockError> {
    match patience {
        Patience::None => Err(RawLockError::WouldBlock),
        Patience::Endless => Ok(Deadline::after(TURN)),
        Patience::Until(deadline) if deadline.is_past() => Err(RawLockError::Timeout),
        Patience::Until(deadline) => Ok(Deadline::earliest(Some(deadline), TURN)),
    }
}

/// Why a reader that found `writer` and `state` is refused.
#[cold]
fn refusal(writer: u64, state: u32) -> LockFailure {
    if state & NOT_RECOVERABLE != 0 {
        return LockFailure::NotRecoverable;
    }
    let process = ProcessId::from_bits(writer);
    if process.is_none() && state & INCONSISTENT == 0 {
        return LockFailure::NeedsRepair(Cause::Panicked);
    }
    // A death that no writer has noted yet counts too.
    let deaths = (state >> DEATHS_SHIFT).wrapping_add(u32::from(process.is_some()));
    LockFailure::NeedsRepair(Cause::OwnerDied { process, deaths })
}
