//! Why a primitive that counts something was not created.

use shm_core::Error;

/// A semaphore, a barrier or a lock for a number of readers that was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The segment was not created or not opened.
    #[error(transparent)]
    Segment(#[from] Error),
    /// For nobody: no permits, no parties, no readers.
    #[error("0 were asked for, at least 1 is needed")]
    Zero,
    /// For more than there can be.
    #[error("{count} were asked for, at most {max} are possible")]
    TooMany {
        /// How many permits, parties or readers were asked for.
        count: u32,
        /// The most there can be.
        max: u32,
    },
}

impl CreateError {
    /// The count, if it is between 1 and `max`.
    pub(crate) fn check(count: u32, max: u32) -> Result<u32, Self> {
        match count {
            0 => Err(Self::Zero),
            count if count > max => Err(Self::TooMany { count, max }),
            count => Ok(count),
        }
    }
}
