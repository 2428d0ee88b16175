//! Why something was not put, or not got.

use std::fmt;

use shm_core::Error;
use shm_core::codec::CodecError;
use shm_lock::RawLockError;

use crate::raw::{Damaged, NotEntered, Refused};

/// A queue that was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The segment was not created or not opened.
    #[error(transparent)]
    Segment(#[from] Error),
    /// An option outside of its bounds.
    #[error("{option} of {value} was asked for; it is possible from {least} to {most}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was asked for.
        value: u64,
        /// The least that is possible.
        least: u64,
        /// The most that is possible.
        most: u64,
    },
}

/// An operation on a queue that did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// A `try_` form met a full queue.
    #[error("the queue is full")]
    Full,
    /// A `try_` form met an empty queue.
    #[error("the queue is empty")]
    Empty,
    /// The time was over.
    #[error("the time was over")]
    Timeout,
    /// The queue is closed: it takes nothing more, and for a get: nothing is left in it.
    #[error("the queue is closed")]
    Closed,
    /// The encoded message is longer than this queue was made for.
    #[error("the message has {len} bytes, the queue takes at most {most}")]
    TooLarge {
        /// Bytes of the message.
        len: u64,
        /// The most that the queue takes.
        most: u64,
    },
    /// The file system has no memory for the message. Nothing was changed.
    #[error("storage full, {need} bytes needed, {free} free")]
    StorageFull {
        /// Bytes that had to be allocated.
        need: u64,
        /// Bytes that were free at that moment.
        free: u64,
    },
    /// The value was not encoded.
    #[error("the value cannot be encoded: {0}")]
    Encode(String),
    /// The message was not decoded; it is among the dead letters.
    #[error("the message cannot be decoded: {0}")]
    Decode(String),
    /// `task_done` was called more often than tasks were detached.
    #[error("task_done was called more often than tasks were detached")]
    TaskDoneTooOften,
    /// The task is somebody else's: its time was over and it was taken back, or the caller is a forked child, and it
    /// is the parent's.
    #[error(
        "the task is somebody else's: its time was over, or it is the parent's of this forked process"
    )]
    Stale,
    /// The queue is attached read-only.
    #[error("the queue is attached read-only")]
    ReadOnly,
    /// As many processes take part as the segment keeps track of
    /// ([`Place::participants`](shm_core::Place::participants), 240 unless set), or a queue can tell apart (1024).
    #[error(
        "the queue has as many participants as it keeps track of (Place::participants; at most 1024)"
    )]
    TooManyParticipants,
    /// This thread holds as many locks as the kernel would release at its death (2000).
    #[error("this thread holds too many locks")]
    TooManyLocks,
    /// The C library's robust list cannot be used in this process, or the call came from a signal handler
    /// that interrupted one.
    #[error("the queue's lock cannot be used here")]
    Unsupported,
    /// Bytes in the queue that no process of this family writes.
    #[error("the queue is corrupt: {field} is {value}")]
    Corrupt {
        /// The field.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// Any other answer of the operating system.
    #[error("{0}")]
    System(String),
}

impl QueueError {
    /// Whether it is [`Timeout`](Self::Timeout).
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Whether it is [`Closed`](Self::Closed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Whether it is [`Full`](Self::Full).
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }

    /// Whether it is [`Empty`](Self::Empty).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl From<Damaged> for QueueError {
    fn from(Damaged { field, value }: Damaged) -> Self {
        Self::Corrupt { field, value }
    }
}

impl From<CodecError> for QueueError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Encode(reason) => Self::Encode(reason),
            CodecError::Decode(reason) => Self::Decode(reason),
            other => Self::Decode(other.to_string()),
        }
    }
}

impl From<RawLockError> for QueueError {
    fn from(error: RawLockError) -> Self {
        match error {
            // A `try_` form does wait for the queue's own locks: they are held for moments.
            RawLockError::WouldBlock | RawLockError::Timeout => Self::Timeout,
            RawLockError::TooManyLocks => Self::TooManyLocks,
            _ => Self::Unsupported,
        }
    }
}

impl From<NotEntered> for QueueError {
    fn from(error: NotEntered) -> Self {
        match error {
            NotEntered::Lock(error) => error.into(),
            NotEntered::Damaged(damaged) => damaged.into(),
        }
    }
}

impl From<Refused> for QueueError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Closed => Self::Closed,
            Refused::StorageFull { need, free } => Self::StorageFull { need, free },
            Refused::Damaged(damaged) => damaged.into(),
        }
    }
}

impl From<Error> for QueueError {
    fn from(error: Error) -> Self {
        match error {
            Error::ReadOnly { .. } => Self::ReadOnly,
            Error::TooManyParticipants { .. } => Self::TooManyParticipants,
            Error::StorageFull { need, free, .. } => Self::StorageFull { need, free },
            other => Self::System(other.to_string()),
        }
    }
}

/// A value that was not put: it comes back with the reason.
pub struct PutError<T> {
    /// The value, as it was given.
    pub value: T,
    /// Why it was not put.
    pub error: QueueError,
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for PutError<T> {}
