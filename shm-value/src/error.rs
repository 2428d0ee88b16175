//! Why a value could not be read or written.

use shm_lock::{LockFailure, RawLockError};

/// A read or write that did not happen; the value is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A `try_` form met a value that somebody is writing.
    #[error("the value is locked by somebody else")]
    WouldBlock,
    /// The time was over.
    #[error("the value was not free in time")]
    Timeout,
    /// This thread holds the value's guard.
    #[error("this thread holds the value's lock already")]
    Deadlock,
    /// This thread holds as many locks as the kernel would release at its death (2000).
    #[error("this thread holds too many locks")]
    TooManyLocks,
    /// The C library's robust list cannot be used in this process.
    #[error("the C library's robust list cannot be used")]
    Unsupported,
    /// A writing operation on a read-only attachment.
    #[error("the value is attached read-only")]
    ReadOnly,
    /// An element beyond the end of an array or a list.
    #[error("there is no element {index}, but {len} elements")]
    OutOfRange {
        /// Index asked for.
        index: usize,
        /// Number of elements.
        len: usize,
    },
    /// An item of a list that has more bytes than there is room for at its place.
    #[error("item {index} has room for {room} bytes, {need} are needed")]
    TooLong {
        /// Index of the place.
        index: usize,
        /// Bytes of the item.
        need: usize,
        /// Bytes that the place has room for.
        room: usize,
    },
    /// Something that is no item, written past this crate.
    #[error("item {index} is corrupt")]
    Corrupt {
        /// Its index.
        index: usize,
    },
    /// Somebody died or panicked while changing the array; `Array::lock` gives it for repair.
    #[error("somebody died while changing the array; lock it to repair it")]
    NeedsRepair,
    /// Somebody gave the array up.
    #[error("the array was given up")]
    NotRecoverable,
}

impl ValueError {
    /// Whether it is [`Timeout`](Self::Timeout).
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

impl From<LockFailure> for ValueError {
    fn from(error: LockFailure) -> Self {
        match error {
            LockFailure::NeedsRepair(_) => Self::NeedsRepair,
            LockFailure::NotRecoverable => Self::NotRecoverable,
            LockFailure::WouldBlock => Self::WouldBlock,
            LockFailure::Timeout => Self::Timeout,
            LockFailure::Deadlock => Self::Deadlock,
            LockFailure::TooManyLocks => Self::TooManyLocks,
            LockFailure::ReadOnly => Self::ReadOnly,
            _ => Self::Unsupported,
        }
    }
}

impl From<RawLockError> for ValueError {
    #[cold]
    fn from(error: RawLockError) -> Self {
        LockFailure::from(error).into()
    }
}
