//! Words of a segment together with the segment that keeps them mapped.

use std::ops::Deref;
use std::ptr::NonNull;

use shm_core::{Error, Segment, Shared};

/// A view that lives as long as the handle it was made from.
pub(crate) struct Mapped<T> {
    segment: Segment,
    at: NonNull<T>,
}

// SAFETY: the view is shared by processes anyway (`T: Shared` where it is made); the address leads
// into the segment, which is kept.
unsafe impl<T: Send + Sync> Send for Mapped<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send + Sync> Sync for Mapped<T> {}

impl<T: Shared> Mapped<T> {
    /// The view of the payload's bytes from `offset` on.
    pub(crate) fn new(segment: Segment, offset: usize) -> Result<Self, Error> {
        let at = NonNull::from(segment.view::<T>(offset)?);
        Ok(Self { segment, at })
    }
}

impl<T> Mapped<T> {
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }
}

impl<T> Clone for Mapped<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            at: self.at,
        }
    }
}

impl<T> Deref for Mapped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as `self.segment` (INV-S1);
        // - other writers: `T: Shared` where views are made, so all its fields are atomics; any
        //   bytes are a value.
        unsafe { self.at.as_ref() }
    }
}
