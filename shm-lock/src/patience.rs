//! How long a locking call waits: one argument in place of four methods.

use std::time::{Duration, Instant};

use shm_core::Deadline;

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
