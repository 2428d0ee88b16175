//! How long a locking call waits: one argument in place of four methods.

use std::time::{Duration, Instant};

use shm_core::Deadline;

use crate::raw_mutex::{Acquired, RawLockError, RawMutex};

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Not at all: `try_lock`.
    None,
    /// As long as it takes: `lock`.
    Endless,
    /// Until then: `lock_timeout` and `lock_deadline`.
    Until(Deadline),
}

impl From<Duration> for Patience {
    fn from(timeout: Duration) -> Self {
        Self::Until(Deadline::after(timeout))
    }
}

impl From<Instant> for Patience {
    fn from(deadline: Instant) -> Self {
        Self::Until(Deadline::at(deadline))
    }
}

impl RawMutex {
    /// Takes the lock, with as much patience as given.
    ///
    /// # Errors
    /// As [`lock`](Self::lock) and [`try_lock`](Self::try_lock).
    ///
    /// # Safety
    /// As [`lock`](Self::lock).
    #[inline]
    pub unsafe fn acquire(&self, patience: Patience) -> Result<Acquired, RawLockError> {
        match patience {
            // SAFETY: the caller's promise.
            Patience::None => unsafe { self.try_lock() },
            // SAFETY: the caller's promise.
            Patience::Endless => unsafe { self.lock(None) },
            // SAFETY: the caller's promise.
            Patience::Until(deadline) => unsafe { self.lock(Some(deadline)) },
        }
    }
}
