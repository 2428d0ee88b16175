//! Why a lock was not simply given.

use std::fmt;

use shm_core::ProcessId;

use crate::raw_mutex::{Acquired, RawLockError};
use crate::recover::Recover;

/// A lock that was not given, or given with a report.
///
/// The first two carry the lock: it is held, and what it protects may be half-way through a change.
/// Take it out with [`Recover::repair`] or [`Recover::accept`], or drop it, and the next one gets
/// the same report.
#[non_exhaustive]
pub enum LockError<G: Guarded> {
    /// The last owner died while it held the lock.
    OwnerDied(Recover<G>),
    /// The last owner panicked while it held the lock.
    Poisoned(Recover<G>),
    /// Somebody gave the protected data up ([`Recover::abandon`]); no one will ever get this lock.
    NotRecoverable,
    /// `try_lock` met a lock that is held.
    WouldBlock,
    /// The time was over.
    Timeout,
    /// This thread holds the lock already.
    Deadlock,
    /// This thread holds as many locks as the kernel would release at its death (2000).
    TooManyLocks,
    /// The segment is attached read-only.
    ReadOnly,
    /// The C library's robust list cannot be used in this process.
    Unsupported,
}

impl<G: Guarded> LockError<G> {
    /// Whether it is [`Timeout`](Self::Timeout).
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// The guard, or the guard with a report.
    ///
    /// # Errors
    /// [`OwnerDied`](Self::OwnerDied) and [`Poisoned`](Self::Poisoned).
    #[doc(hidden)]
    pub fn report(guard: G, acquired: Acquired) -> Result<G, Self> {
        if acquired.is_clean() {
            Ok(guard)
        } else {
            Err(Self::reported(guard, acquired))
        }
    }

    #[cold]
    fn reported(guard: G, acquired: Acquired) -> Self {
        if acquired.inconsistent {
            let (process, deaths) = (acquired.dead_owner, acquired.deaths);
            return Self::OwnerDied(Recover::new(guard, Cause::OwnerDied { process, deaths }));
        }
        Self::Poisoned(Recover::new(guard, Cause::Panicked))
    }

    fn text(&self) -> String {
        match self {
            Self::OwnerDied(recover) => format!("the lock is held, but {}", recover.cause()),
            Self::Poisoned(recover) => format!("the lock is held, but {}", recover.cause()),
            Self::NotRecoverable => "the data behind the lock was given up".to_owned(),
            Self::WouldBlock => "the lock is held by somebody else".to_owned(),
            Self::Timeout => "the lock was not free in time".to_owned(),
            Self::Deadlock => "this thread holds the lock already".to_owned(),
            Self::TooManyLocks => "this thread holds too many locks".to_owned(),
            Self::ReadOnly => "the segment is attached read-only".to_owned(),
            Self::Unsupported => "the C library's robust list cannot be used".to_owned(),
        }
    }
}

impl<G: Guarded> From<RawLockError> for LockError<G> {
    #[cold]
    fn from(error: RawLockError) -> Self {
        match error {
            RawLockError::WouldBlock => Self::WouldBlock,
            RawLockError::Timeout => Self::Timeout,
            RawLockError::Deadlock => Self::Deadlock,
            RawLockError::NotRecoverable => Self::NotRecoverable,
            RawLockError::TooManyLocks(_) => Self::TooManyLocks,
            RawLockError::Unsupported(_) => Self::Unsupported,
        }
    }
}

impl<G: Guarded> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockError({})", self.text())
    }
}

impl<G: Guarded> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl<G: Guarded> std::error::Error for LockError<G> {}

/// What happened to the last owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It died.
    OwnerDied {
        /// Which process it was; `None` if somebody before got this report, and did not repair.
        process: Option<ProcessId>,
        /// How many owners of this lock have died so far, this one included (modulo 2^24).
        deaths: u32,
    },
    /// It panicked.
    Panicked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied {
                process: Some(process),
                ..
            } => {
                write!(f, "its last owner ({process}) died while it held it")
            }
            Self::OwnerDied { process: None, .. } => {
                f.write_str("an owner died while it held it, and nobody has repaired the data yet")
            }
            Self::Panicked => f.write_str("its last owner panicked while it held it"),
        }
    }
}

/// A guard that a [`Recover`] can hold back.
#[doc(hidden)]
pub trait Guarded {
    /// What the guard gives access to.
    type Data: ?Sized;
    /// The data.
    fn data(&self) -> &Self::Data;
    /// The data, to be repaired.
    fn data_mut(&mut self) -> &mut Self::Data;
    /// Declares the data whole.
    fn mark_consistent(&mut self);
    /// Gives the data up for good.
    fn mark_not_recoverable(&mut self);
}
