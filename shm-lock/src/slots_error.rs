//! Why something that consists of slots was not created.

use shm_core::Error;

/// A [`RwLock`](crate::RwLock) of a chosen size or a [`RobustSemaphore`](crate::RobustSemaphore) that
/// was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotsError {
    /// The segment was not created or not opened.
    #[error(transparent)]
    Segment(#[from] Error),
    /// Room for nobody.
    #[error("0 slots were asked for")]
    Zero,
    /// More than one thread could hold at a time.
    #[error("{slots} slots were asked for, at most {max} are possible")]
    TooMany {
        /// Slots asked for.
        slots: u32,
        /// The most there can be.
        max: u32,
    },
}

impl SlotsError {
    /// The number, if there can be so many slots.
    pub(crate) fn check(slots: u32) -> Result<u32, Self> {
        let max = crate::slot::MAX_SLOTS;
        match slots {
            0 => Err(Self::Zero),
            slots if slots > max => Err(Self::TooMany { slots, max }),
            slots => Ok(slots),
        }
    }
}
