//! Something that is done once, by whoever comes first and lives to finish it.
//!
//! ```text
//! offset size field   meaning (all zero: not done, nobody at it)
//!      0   48 lock    RawMutex of whoever is doing it
//!     48    4 state   0: not done; 1: done
//!     52   12 reserved, 0
//!     64      the value
//! ```
//!
//! - INV-O1: `state` goes from 0 to 1 once, by one store under the lock, after the value is written; the
//!   value is not written again. So the value is whole exactly if `state` is 1.
//! - PAIR once-done: that store releases the value to whoever loads `state` with Acquire.
//!
//! Peer death: killed before the store, the initialiser leaves `state` 0 and a lock that the kernel hands on,
//! and whatever it wrote is written anew; killed after it, the value. There is nothing to report.
//!
//! Source: Rust's `std::sync::Once`, with a robust mutex in place of the states "running" and
//! "poisoned".
//!
//! Shown by `tests/loom_once.rs`, with broken twins.

use shm_core::fork::Origin;
use shm_core::mutants::{mutant, mutant_of};
use shm_core::sync::{AtomicU32, Ordering};

use crate::patience::Patience;
use crate::raw_mutex::{RawInspect, RawLockError, RawMutex};

const DONE: u32 = 1;

/// Ways to break it, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum OnceFault {
    DoneBeforeTheValue,
    PublishesWithRelaxed,
    DoesNotLookAgain,
}

/// The lock and the state.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct RawOnce {
    lock: RawMutex,
    state: AtomicU32,
    #[cfg(not(loom))]
    _reserved: [AtomicU32; 3],
    #[cfg(loom)]
    fault: Option<OnceFault>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawOnce>() == 64 && core::mem::offset_of!(RawOnce, state) == 48);

#[cfg(not(loom))]
// SAFETY: every field is an atomic, or a raw mutex of atomics.
unsafe impl shm_core::Shared for RawOnce {}

impl RawOnce {
    /// One that does one thing wrong, or none.
    #[cfg(loom)]
    #[must_use]
    pub fn new(fault: Option<OnceFault>) -> Self {
        Self {
            lock: RawMutex::new(),
            state: AtomicU32::new(0),
            fault,
        }
    }

    #[cfg(loom)]
    fn broken(&self, fault: OnceFault) -> bool {
        self.fault == Some(fault) || mutant_of("Once", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(&self, fault: OnceFault) -> bool {
        mutant_of("Once", &fault)
    }

    /// Whether it is done. After `true` the value can be read, and stays.
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        // PAIR once-done: Acquire.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Has it done: returns when it is. `make` makes the value and `write` writes it; they run in one thread
    /// of one process at a time, and `write` not again once it has returned.
    ///
    /// # Errors
    /// What `make` gives, with nothing done; those of [`RawMutex::lock`] and [`RawMutex::try_lock`], of which
    /// [`Deadlock`](RawLockError::Deadlock) says that `make` itself asked, and
    /// [`WouldBlock`](RawLockError::WouldBlock) also that this is a child that `make` forked: it is its
    /// parent who makes the value, and what the child made is not written.
    ///
    /// # Safety
    /// As [`RawMutex::lock`].
    pub unsafe fn call<V, E: From<RawLockError>>(
        &self,
        patience: Patience,
        make: impl FnOnce() -> Result<V, E>,
        write: impl FnOnce(V),
    ) -> Result<(), E> {
        if self.is_done() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        let acquired = match unsafe { self.lock.acquire(patience) } {
            // Whoever holds it may have finished since.
            Err(_) if self.is_done() => return Ok(()),
            acquired => acquired?,
        };
        let locked = Locked(&self.lock, Origin::here());
        if !acquired.is_clean() {
            // A dead initialiser left nothing that counts (INV-O1).
            self.lock.mark_consistent();
            if mutant("Once::BelievesADeadInitialiser") {
                self.state.store(DONE, Ordering::Release);
            }
        }
        // Relaxed: ordered by the lock.
        if self.state.load(Ordering::Relaxed) == DONE && !self.broken(OnceFault::DoesNotLookAgain) {
            return Ok(());
        }
        if self.broken(OnceFault::DoneBeforeTheValue) {
            self.state.store(DONE, Ordering::Release);
        }
        let value = make()?;
        // Not in a child that `make` forked: the lock is its parent's.
        if !locked.is_ours() {
            return Err(RawLockError::WouldBlock.into());
        }
        write(value);
        let publish = if self.broken(OnceFault::PublishesWithRelaxed) {
            Ordering::Relaxed
        } else {
            // PAIR once-done: Release.
            Ordering::Release
        };
        self.state.store(DONE, publish);
        Ok(())
    }

    /// Who is doing it, how many wait, and since when somebody has had to.
    #[must_use]
    pub fn inspect(&self) -> RawInspect {
        self.lock.inspect()
    }
}

/// The lock, held, also through a panic of the initialiser.
struct Locked<'a>(&'a RawMutex, Origin);

impl Locked<'_> {
    fn is_ours(&self) -> bool {
        self.1.is_here()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: made when the lock had been taken, by the thread that drops it: it never leaves `call`.
            unsafe { self.0.unlock() };
        }
    }
}
