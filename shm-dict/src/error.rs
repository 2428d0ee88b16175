//! Why something was not stored, or not found out.

use shm_core::Error;
use shm_core::codec::CodecError;
use shm_lock::RawLockError;

use crate::raw::{Container, Damaged, Kind, MAX_DEPTH, NotEntered, Refused};

/// A dictionary that was not created.
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

/// An operation on a dictionary that did not happen: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DictError {
    /// No room for the entry: the dictionary has all the memory that it may have, or the file system has no more. Memory
    /// that entries of another shard were removed from is found by all when nobody has that shard's lock; what is
    /// refused while somebody has it may fit a moment later.
    #[error("no room, {needed} bytes needed, {free} free")]
    Full {
        /// Bytes that had to be allocated.
        needed: u64,
        /// Bytes that were free at that moment.
        free: u64,
    },
    /// The encoded key is longer than a key may be.
    #[error("the key has {len} bytes, at most {most} are possible")]
    KeyTooLong {
        /// Bytes of the key.
        len: u64,
        /// The most that is possible.
        most: u64,
    },
    /// The encoded value is longer than this dictionary's values may be.
    #[error("the value has {len} bytes, at most {most} are possible")]
    ValueTooLong {
        /// Bytes of the value.
        len: u64,
        /// The most that is possible.
        most: u64,
    },
    /// What was given is no key, as NaN is not: it equals nothing.
    #[error("not a key: {0}")]
    NotAKey(&'static str),
    /// The value was not encoded, or what is stored was not decoded. It stays where it is.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// There is something else under the key, or in the list.
    #[error("{found} is there, not {expected}")]
    WrongKind {
        /// What was asked for.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The container that the handle leads to was taken out of the one that it was in.
    #[error("the container was removed")]
    Stale,
    /// Containers cannot be inside of each other so deep.
    #[error("containers can be inside of each other {most} deep at most")]
    TooDeep {
        /// The most that is possible.
        most: u32,
    },
    /// The list has no such element.
    #[error("there is no element {index} in a list of {len}")]
    IndexOutOfRange {
        /// The element that was asked for.
        index: u64,
        /// How many there are.
        len: u64,
    },
    /// The list would have more elements than can be counted.
    #[error("the list cannot have so many elements")]
    TooLong,
    /// Elements that cannot be compared were to be sorted.
    #[error("the elements cannot be compared with each other")]
    Unordered,
    /// The key was not named when the transaction began.
    #[error("the key is not one of the transaction's")]
    NotInTransaction,
    /// The time was over.
    #[error("the time was over")]
    Timeout,
    /// The call came from a function that this dictionary has called, or from one who holds its lock: that one
    /// works through what it was given.
    #[error("the dictionary is in use further up in this thread")]
    Reentered,
    /// For [`trim`](crate::Dict::trim): others are attached, or other handles of this process. For what looks without a
    /// lock ([`get`](crate::Dict::get), [`items`](crate::Dict::items), ..): writers replaced or removed entries of the
    /// shard during each of 1000 rounds of looks, and its lock was not to be had.
    #[error("others are at work")]
    Busy,
    /// The dictionary is attached read-only.
    #[error("the dictionary is attached read-only")]
    ReadOnly,
    /// This thread holds as many locks as the kernel would release at its death (2000).
    #[error("this thread holds too many locks")]
    TooManyLocks,
    /// The C library's robust list cannot be used in this process, or the call came from a signal handler
    /// that interrupted one, or from a child that was forked while its parent held the lock.
    #[error("the dictionary's lock cannot be used here")]
    Unsupported,
    /// Bytes in the dictionary that no process of this family writes.
    #[error("the dictionary is corrupt: {field} is {value}")]
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

impl DictError {
    /// Whether it is [`Full`](Self::Full).
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// A container where a value was expected.
    #[cold]
    pub(crate) fn no_value(container: Option<Container<'_>>) -> Self {
        let shape = container.map(|container| container.shape());
        match shape.transpose() {
            Ok(shape) => Self::WrongKind {
                expected: "a value",
                found: match shape.map(|shape| shape.kind) {
                    Some(Kind::Map) => "a dictionary",
                    Some(Kind::List) => "a list",
                    None => "a container",
                },
            },
            Err(damaged) => damaged.into(),
        }
    }

    /// Whether it is [`Timeout`](Self::Timeout).
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

impl From<Damaged> for DictError {
    fn from(Damaged { field, value }: Damaged) -> Self {
        Self::Corrupt { field, value }
    }
}

impl From<Refused> for DictError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { needed, free } => Self::Full { needed, free },
            Refused::Damaged(damaged) => damaged.into(),
            Refused::NotMine => Self::Unsupported,
            Refused::TooDeep => Self::TooDeep { most: MAX_DEPTH },
            Refused::TooLong => Self::TooLong,
        }
    }
}

impl From<NotEntered> for DictError {
    fn from(error: NotEntered) -> Self {
        match error {
            NotEntered::NotMine => Self::Unsupported,
            NotEntered::Unfinished(_) => Self::Busy,
            NotEntered::Lock(RawLockError::WouldBlock | RawLockError::Timeout) => Self::Timeout,
            NotEntered::Lock(RawLockError::Deadlock) => Self::Reentered,
            NotEntered::Lock(RawLockError::TooManyLocks) => Self::TooManyLocks,
            NotEntered::Lock(_) => Self::Unsupported,
            NotEntered::Damaged(damaged) => damaged.into(),
        }
    }
}

impl From<Error> for DictError {
    fn from(error: Error) -> Self {
        match error {
            Error::ReadOnly { .. } => Self::ReadOnly,
            other => Self::System(other.to_string()),
        }
    }
}
