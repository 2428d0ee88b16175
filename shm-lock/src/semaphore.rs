//! A semaphore that processes share: permits, without owners.
//!
//! Payload, kind `SEMA`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 8 | [`RawSemaphore`] |
//!
//! Peer death: a permit has no owner, so the permit of a dead holder is lost (docs/peer-death.md).

use std::fmt;
use std::time::{Duration, Instant};

use shm_core::{Error, Kind, Place, Segment, Spec, fork};

use crate::create_error::CreateError;
use crate::mapped::Mapped;
use crate::patience::Patience;
use crate::raw_semaphore::{AcquireError, RawSemaphore, ReleaseError, SemaphoreInspection};

/// A counter of permits that processes share; a handle that is cheap to clone.
///
/// [`acquire`](Self::acquire) takes a permit and waits while there is none; dropping the [`Permit`] gives
/// it back. Whoever holds none may [`release`](Self::release) too, and raise the count above its start:
/// for that being an error there is [`BoundedSemaphore`](crate::BoundedSemaphore). Permits go to
/// whoever comes first, in no fixed order. Without waiters, neither taking nor giving makes a system call.
///
/// # Peer death
/// **A permit has no owner: that of a killed holder is lost**, as with `sem_t` and with
/// `multiprocessing.Semaphore`. Where a dead holder's permit must come back, take a semaphore that is
/// robust. A killed waiter harms nobody; if it was just being woken, another one gets the permit with the
/// next release, or within 100 ms.
///
/// # Memory ordering
/// Giving a permit happens before the taking of any permit that it made possible.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::Semaphore;
///
/// # let name = format!("doc-semaphore-{}", std::process::id());
/// let connections = Semaphore::create(Place::named(&name).unlink_on_drop(true), 2)?;
///
/// // In every other process:
/// let connections = Semaphore::open(&name)?;
/// let one = connections.acquire();
/// let two = connections.acquire();
/// assert!(connections.try_acquire().is_err());
/// drop(one);
/// assert!(connections.try_acquire().is_ok());
/// # drop(two);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    raw: Mapped<RawSemaphore>,
}

impl Semaphore {
    /// Bytes that a region must have for a semaphore.
    pub const REGION_SIZE: usize = size_of::<RawSemaphore>() + shm_core::HEADER_SIZE;
    /// The most permits there may be.
    pub const MAX_PERMITS: u32 = RawSemaphore::MAX;

    fn spec() -> Spec {
        Spec::new(Kind(*b"SEMA"), 1, size_of::<RawSemaphore>() as u64)
            .label("Semaphore")
            .locked()
    }

    /// Creates a semaphore of `permits`; with 0, the first acquirer waits for a release.
    ///
    /// # Errors
    /// [`CreateError::TooMany`]; [`CreateError::Segment`] as [`Segment::create`].
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
        let max = Self::MAX_PERMITS;
        if permits > max {
            return Err(CreateError::TooMany {
                count: permits,
                max,
            });
        }
        Ok(RawSemaphore::bytes(permits, max))
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        Ok(Self {
            raw: attach(segment)?,
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

    /// Adds `permits`, whoever holds them; never blocks.
    ///
    /// # Errors
    /// [`ReleaseError::ZeroPermits`]; [`ReleaseError::TooManyPermits`] beyond
    /// [`MAX_PERMITS`](Self::MAX_PERMITS).
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

/// Attaches to the words of either kind, if their numbers can be.
pub(crate) fn attach(segment: Segment) -> Result<Mapped<RawSemaphore>, Error> {
    let raw = Mapped::<RawSemaphore>::new(segment, 0)?;
    let (permits, max) = raw.counts();
    let corrupt = |field, value| {
        Err(Error::Corrupt {
            segment: raw.segment().name().to_owned(),
            field,
            value: u64::from(value),
        })
    };
    if !(1..=RawSemaphore::MAX).contains(&max) {
        return corrupt("most permits", max);
    }
    if permits > max {
        return corrupt("number of permits", permits);
    }
    Ok(raw)
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("segment", &self.segment().name())
            .field("state", &self.inspect())
            .finish()
    }
}

/// A permit, held; dropping it gives it back.
///
/// It may go to another thread. Its copy in a forked child is inert: the parent gives it back.
#[must_use = "dropping the permit gives it back"]
pub struct Permit<'a> {
    raw: &'a RawSemaphore,
    /// The process that took it.
    stamp: u64,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(crate) fn acquire(raw: &'a RawSemaphore, patience: Patience) -> Result<Self, AcquireError> {
        raw.acquire(patience)?;
        let stamp = fork::stamp();
        Ok(Self { raw, stamp })
    }

    /// Keeps the permit for good; it comes back by a `release` alone.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.stamp == fork::stamp() {
            // Refused if somebody released more than they held, and nothing is left to give back.
            let _ = self.raw.release(1);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
