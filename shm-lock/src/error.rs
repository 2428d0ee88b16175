//! Why a lock was not simply given.

use std::fmt;

use shm_core::ProcessId;
use shm_core::mutants::mutant;

use crate::raw_mutex::{Acquired, RawLockError};
use crate::recover::Recover;

/// A lock that was not given, or given with a report.
///
/// The first two carry the lock: it is held, and what it protects may be half-way through a change.
/// Take it out with [`Recover::repair`] or [`Recover::accept`], or drop it, and the next one gets
/// the same report. Converts into a [`LockFailure`], which borrows nothing.
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
    /// Somebody waits for the condition variable with another mutex; here is the guard, still locked.
    OtherMutex(G),
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
    #[inline]
    pub fn report(guard: G, acquired: Acquired) -> Result<G, Self> {
        if acquired.is_clean() {
            Ok(guard)
        } else {
            Err(Self::reported(guard, acquired))
        }
    }

    /// The guard, after a repair if one was due.
    ///
    /// # Errors
    /// Whatever is no report.
    #[doc(hidden)]
    pub fn repaired(
        result: Result<G, Self>,
        repair: impl FnOnce(&mut G::Data, Cause),
    ) -> Result<G, LockFailure> {
        match result {
            Err(Self::OwnerDied(recover) | Self::Poisoned(recover)) => {
                let cause = recover.cause();
                if mutant("Recover::SkipsTheRepair") {
                    return Ok(recover.accept());
                }
                Ok(recover.repair(|data| repair(data, cause)))
            }
            other => other.map_err(LockFailure::from),
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

    /// The error without the lock: what `?` can carry away. A lock that came with a report is
    /// released, and the report waits for the next one.
    fn failure(&self) -> LockFailure {
        match self {
            Self::OwnerDied(recover) | Self::Poisoned(recover) => {
                LockFailure::NeedsRepair(recover.cause())
            }
            Self::NotRecoverable => LockFailure::NotRecoverable,
            Self::WouldBlock => LockFailure::WouldBlock,
            Self::Timeout => LockFailure::Timeout,
            Self::Deadlock => LockFailure::Deadlock,
            Self::TooManyLocks => LockFailure::TooManyLocks,
            Self::OtherMutex(_) => LockFailure::OtherMutex,
            Self::ReadOnly => LockFailure::ReadOnly,
            Self::Unsupported => LockFailure::Unsupported,
        }
    }
}

/// A [`LockError`] without the lock: `'static`, so that `?` carries it into any error type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockFailure {
    /// The last owner did not finish, and the caller did not take the lock to repair the data.
    #[error("{0}; lock it to repair it")]
    NeedsRepair(Cause),
    /// Somebody gave the protected data up.
    #[error("the data behind the lock was given up")]
    NotRecoverable,
    /// `try_lock` met a lock that is held.
    #[error("the lock is held by somebody else")]
    WouldBlock,
    /// The time was over.
    #[error("the lock was not free in time")]
    Timeout,
    /// This thread holds the lock already.
    #[error("this thread holds the lock already")]
    Deadlock,
    /// This thread holds as many locks as the kernel would release at its death (2000).
    #[error("this thread holds too many locks")]
    TooManyLocks,
    /// Somebody waits for the condition variable with another mutex.
    #[error("somebody waits for the condition variable with another mutex")]
    OtherMutex,
    /// The segment is attached read-only.
    #[error("the segment is attached read-only")]
    ReadOnly,
    /// The C library's robust list cannot be used in this process.
    #[error("the C library's robust list cannot be used")]
    Unsupported,
}

impl LockFailure {
    /// Whether it is [`Timeout`](Self::Timeout).
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

impl<G: Guarded> From<LockError<G>> for LockFailure {
    fn from(error: LockError<G>) -> Self {
        error.failure()
    }
}

impl From<RawLockError> for LockFailure {
    fn from(error: RawLockError) -> Self {
        match error {
            RawLockError::WouldBlock => Self::WouldBlock,
            RawLockError::Timeout => Self::Timeout,
            RawLockError::Deadlock => Self::Deadlock,
            RawLockError::NotRecoverable => Self::NotRecoverable,
            RawLockError::TooManyLocks => Self::TooManyLocks,
            RawLockError::Unsupported => Self::Unsupported,
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
            RawLockError::TooManyLocks => Self::TooManyLocks,
            RawLockError::Unsupported => Self::Unsupported,
        }
    }
}

impl<G: Guarded> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockError({:?})", self.failure())
    }
}

impl<G: Guarded> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure())
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
