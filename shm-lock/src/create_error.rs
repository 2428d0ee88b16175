//! Why a primitive that counts something was not created.

use shm_core::Error;

/// A semaphore or a barrier that was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The segment was not created or not opened.
    #[error(transparent)]
    Segment(#[from] Error),
    /// A bound of zero permits: nobody could ever acquire one.
    #[error("a bound of 0 permits was asked for")]
    ZeroPermits,
    /// More permits than a semaphore can count.
    #[error("{permits} permits were asked for, at most {max} are possible")]
    TooManyPermits {
        /// Permits asked for.
        permits: u32,
        /// The most there can be.
        max: u32,
    },
    /// A barrier for nobody.
    #[error("a barrier of 0 parties was asked for")]
    ZeroParties,
    /// More parties than a barrier has places for.
    #[error("{parties} parties were asked for, at most {max} are possible")]
    TooManyParties {
        /// Parties asked for.
        parties: u32,
        /// The most there can be.
        max: u32,
    },
}
