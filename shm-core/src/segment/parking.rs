//! Memory that may not be unmapped yet: its last handle went while a thread of this process held a
//! lock in it.
//!
//! The kernel's walk of that thread's robust list leads into the mapping; unmapped, the walk would end
//! there, and that lock and all older ones of the thread would stay locked for ever. So the mapping
//! waits here until no thread of this process has its id in one of the lock words, which is looked at
//! whenever another handle goes. (The same lock held through another mapping looks the same from
//! here, and is waited for as well.)

use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, TryLockError};

use super::Backing;
use crate::robust::TID_MASK;
use crate::sync::{AtomicU32, Ordering};

static PARKED: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

/// A mapping without a handle.
#[derive(Debug)]
pub(super) struct Mapping {
    /// Where the lock words are; inside of `backing`.
    pub(super) words: Vec<NonNull<AtomicU32>>,
    /// Unmaps when it is dropped.
    #[expect(dead_code, reason = "kept, not used")]
    pub(super) backing: Backing,
}

// SAFETY: the words are atomics in memory that the backing keeps mapped; the backing is Send.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Whether a thread of this process has its id in one of the lock words.
    fn holds_a_lock(&self) -> bool {
        self.words.iter().any(|word| {
            // SAFETY: a checked view's address, mapped as long as the backing; an atomic word.
            let word = unsafe { word.as_ref() };
            // Relaxed: what our own threads stored before the last handle went is visible.
            let tid = word.load(Ordering::Relaxed) & TID_MASK;
            tid != 0 && Path::new(&format!("/proc/self/task/{tid}")).exists()
        })
    }
}

/// Unmaps, now or when no lock in it is held any more.
pub(super) fn let_go(mapping: Mapping) {
    // Never wait: in a forked child the lock may be that of a thread that is not there.
    let mut parked = match PARKED.try_lock() {
        Ok(parked) => parked,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            if mapping.holds_a_lock() {
                // Another thread is at the list just now: this one stays for good.
                std::mem::forget(mapping);
            }
            return;
        }
    };
    parked.retain(Mapping::holds_a_lock);
    if mapping.holds_a_lock() {
        parked.push(mapping);
    }
}
