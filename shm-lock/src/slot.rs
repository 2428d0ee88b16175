//! Raw mutexes in a row, each on a cache line of its own: any of them is as good as another.
//!
//! What a thread takes there, a reader's place or a permit, is a lock in its robust list, so that the kernel
//! gives it back if the thread dies. Each thread begins to look where it found one last, so threads
//! that do not outnumber the slots soon have a line each and share none.

use shm_core::mutants::mutant;
use shm_core::robust;

use crate::raw_mutex::{Acquired, RawLockError, RawMutex};

/// The most slots there can be: with the writers' lock they stay below [`robust::LIMIT`].
pub(crate) const MAX_SLOTS: u32 = 1024;
const _: () = assert!(MAX_SLOTS < robust::LIMIT);

/// A raw mutex on a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Slot {
    raw: RawMutex,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    /// A slot that nobody has.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Its lock.
    #[inline]
    #[must_use]
    pub fn raw(&self) -> &RawMutex {
        &self.raw
    }

    /// Takes the slot if nobody has it. What its last owner, dead or alive, was doing with it does not
    /// matter to the next.
    ///
    /// # Errors
    /// As [`RawMutex::try_lock`].
    ///
    /// # Safety
    /// As [`RawMutex::lock`].
    #[inline]
    pub unsafe fn try_take(&self) -> Result<Acquired, RawLockError> {
        if mutant("Slot::LeavesWhatADeadOneHad") && self.raw.inspect().inconsistent {
            return Err(RawLockError::WouldBlock);
        }
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.raw.try_lock() }?;
        Ok(self.taken(acquired))
    }

    /// The slot was just taken: settles what was left of it.
    #[inline]
    pub fn taken(&self, acquired: Acquired) -> Acquired {
        if !acquired.is_clean() {
            self.raw.mark_consistent();
        }
        self.raw.set_depth(0);
        acquired
    }
}

/// Takes any slot that nobody has, the calling thread's preferred one first; `None` if there is none.
///
/// # Errors
/// As [`RawMutex::try_lock`], but for [`RawLockError::WouldBlock`].
///
/// # Safety
/// As [`RawMutex::lock`], for each slot.
#[inline]
pub(crate) unsafe fn try_take_any(
    slots: &[Slot],
) -> Result<Option<(usize, Acquired)>, RawLockError> {
    let first = preferred(slots.len());
    // SAFETY: the caller's promise.
    match unsafe { slots[first].try_take() } {
        Ok(acquired) => return Ok(Some((first, acquired))),
        Err(RawLockError::WouldBlock) => {}
        Err(other) => return Err(other),
    }
    // SAFETY: the caller's promise.
    unsafe { try_take_another(slots, first) }
}

/// # Safety
/// As [`try_take_any`].
#[cold]
#[inline(never)]
unsafe fn try_take_another(
    slots: &[Slot],
    first: usize,
) -> Result<Option<(usize, Acquired)>, RawLockError> {
    for index in (first + 1..slots.len()).chain(0..first) {
        // SAFETY: the caller's promise.
        match unsafe { slots[index].try_take() } {
            Ok(acquired) => {
                prefer(index);
                return Ok(Some((index, acquired)));
            }
            Err(RawLockError::WouldBlock) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// The slot that the calling thread holds, if any, the preferred one first. A thread that holds none comes by all, in the
/// same steps whatever its id.
pub(crate) fn mine(slots: &[Slot]) -> Option<usize> {
    let is_mine = |index: &usize| slots[*index].raw.is_held_by_me();
    let first = Some(preferred(slots.len())).filter(is_mine);
    first.or_else(|| (0..slots.len()).find(is_mine))
}

/// Where the calling thread begins to look among `count` slots.
#[inline]
pub(crate) fn preferred(count: usize) -> usize {
    let hint = hint::get().unwrap_or_else(first_hint);
    // Of almost all locks the hint is an index already, and a division is slow.
    if hint < count { hint } else { hint % count }
}

/// Threads have different ids, so they begin at different slots.
#[cold]
#[inline(never)]
fn first_hint() -> usize {
    let hint = robust::thread().map_or(0, |thread| thread.tid() as usize);
    prefer(hint);
    hint
}

/// Remembers where the calling thread found a slot.
fn prefer(index: usize) {
    hint::set(index);
}

#[cfg(not(loom))]
mod hint {
    use std::cell::Cell;

    std::thread_local! {
        /// The hint + 1; 0 = none yet. A forked child inherits it: it is only a hint.
        static HINT: Cell<usize> = const { Cell::new(0) };
    }

    #[inline]
    pub(super) fn get() -> Option<usize> {
        HINT.get().checked_sub(1)
    }

    pub(super) fn set(hint: usize) {
        HINT.set(hint + 1);
    }
}

/// In a model every look begins at the slot of the thread's id, so that executions are replayed alike.
#[cfg(loom)]
mod hint {
    pub(super) fn get() -> Option<usize> {
        None
    }

    pub(super) fn set(_: usize) {}
}
