//! A semaphore that refuses to have more permits than it began with.
//!
//! Payload, kind `BSEM`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 8 | [`RawSemaphore`], `max` = the permits at creation |
//!
//! Peer death: as [`Semaphore`](crate::Semaphore).

use std::fmt;
use std::time::{Duration, Instant};

use shm_core::{Error, Kind, Place, Segment, Spec};

use crate::create_error::CreateError;
use crate::mapped::Mapped;
use crate::patience::Patience;
use crate::raw_semaphore::{AcquireError, RawSemaphore, ReleaseError, SemaphoreInspection};
use crate::semaphore::{self, Permit};

/// A [`Semaphore`](crate::Semaphore) whose permits never become more than at its creation: releasing
/// what nobody holds is an error.
///
/// # Peer death
/// As [`Semaphore`](crate::Semaphore): the permit of a killed holder is lost until somebody who knows
/// calls [`release`](Self::release) for it.
///
/// # Memory ordering
/// As [`Semaphore`](crate::Semaphore).
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::{BoundedSemaphore, ReleaseError};
///
/// # let name = format!("doc-bounded-semaphore-{}", std::process::id());
/// let slots = BoundedSemaphore::create(Place::named(&name).unlink_on_drop(true), 2)?;
/// let permit = slots.acquire();
/// drop(permit);
/// let refused = slots.release(1).unwrap_err();
/// assert!(matches!(refused, ReleaseError::TooManyPermits { permits: 2, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BoundedSemaphore {
    raw: Mapped<RawSemaphore>,
}

impl BoundedSemaphore {
    /// Bytes that a region must have for a semaphore.
    pub const REGION_SIZE: usize = size_of::<RawSemaphore>() + shm_core::HEADER_SIZE;
    /// The most permits there may be.
    pub const MAX_PERMITS: u32 = RawSemaphore::MAX;

    fn spec() -> Spec {
        Spec::new(Kind(*b"BSEM"), 1, size_of::<RawSemaphore>() as u64)
            .label("BoundedSemaphore")
            .locked()
    }

    /// Creates a semaphore of `permits`, which is also the most it will ever have.
    ///
    /// # Errors
    /// [`CreateError::Zero`], [`CreateError::TooMany`]; [`CreateError::Segment`] as [`Segment::create`].
    pub fn create(place: impl Into<Place>, permits: u32) -> Result<Self, CreateError> {
        let bytes = Self::checked(permits)?;
        let init = |segment: &Segment| segment.write(0, &bytes);
        Ok(Self::attach(Segment::create_with(
            place,
            Self::spec(),
            init,
        )?)?)
    }

    /// Opens a semaphore that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec())?)
    }

    /// Opens a semaphore, or creates it with `permits`; whoever is first creates it.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn open_or_create(place: impl Into<Place>, permits: u32) -> Result<Self, CreateError> {
        let bytes = Self::checked(permits)?;
        let init = |segment: &Segment| segment.write(0, &bytes);
        let segment = Segment::open_or_create_with(place, Self::spec(), init)?;
        Ok(Self::attach(segment)?)
    }

    fn checked(permits: u32) -> Result<[u8; 8], CreateError> {
        let permits = CreateError::check(permits, Self::MAX_PERMITS)?;
        Ok(RawSemaphore::bytes(permits, permits))
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        Ok(Self {
            raw: semaphore::attach(segment)?,
        })
    }

    /// Takes a permit; blocks until there is one.
    pub fn acquire(&self) -> Permit<'_> {
        match Permit::acquire(&self.raw, Patience::Endless) {
            Ok(permit) => permit,
            Err(_) => unreachable!("endless patience ends with a permit"),
        }
    }

    /// Takes a permit if there is one; never blocks.
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`].
    pub fn try_acquire(&self) -> Result<Permit<'_>, AcquireError> {
        Permit::acquire(&self.raw, Patience::None)
    }

    /// Takes a permit; blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`AcquireError::Timeout`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AcquireError> {
        Permit::acquire(&self.raw, timeout.into())
    }

    /// Takes a permit; blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`AcquireError::Timeout`].
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, AcquireError> {
        Permit::acquire(&self.raw, deadline.into())
    }

    /// Gives `permits` back that were kept ([`Permit::forget`]) or lost; never blocks.
    ///
    /// # Errors
    /// [`ReleaseError::ZeroPermits`]; [`ReleaseError::TooManyPermits`] if there would be more than at
    /// creation.
    pub fn release(&self, permits: u32) -> Result<(), ReleaseError> {
        self.raw.release(permits)
    }

    /// How many permits are free and how many wait: for people; it may be over when it is read.
    /// (Who holds the others is not known: a permit has no owner.)
    #[must_use]
    pub fn inspect(&self) -> SemaphoreInspection {
        self.raw.inspect()
    }

    /// Removes the name, as [`Segment::unlink`].
    ///
    /// # Errors
    /// As [`Segment::unlink`].
    pub fn unlink(&self) -> Result<(), Error> {
        self.segment().unlink()
    }

    /// The segment it lives in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        self.raw.segment()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore")
            .field("segment", &self.segment().name())
            .field("state", &self.inspect())
            .finish()
    }
}
