//! A semaphore whose permits come back when their holders die.
//!
//! Payload, kind `RSEM`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 64 | head: the queue of those who wait, `waiting`, `freed`, `deaths`, number of permits (`raw_robust_semaphore`) |
//! | 64 | 64 each | permits, each a [`RawMutex`](crate::RawMutex) |
//!
//! INV-B1 of `raw_robust_semaphore`: who has a permit holds its lock.
//! Peer death: the permit is free again at once; who sleeps for it notices within 10 ms.

use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::fork::Origin;
use shm_core::{Error, Kind, Place, ProcessId, Segment, Spec};

use crate::create_error::CreateError;
use crate::error::LockFailure;
use crate::patience::Patience;
use crate::raw_mutex::RawInspect as Inspection;
use crate::raw_robust_semaphore::{RawRobustSemaphore, SemaphoreHead};
use crate::slot::{MAX_SLOTS, Slot};

/// A fixed number of permits that processes share; a handle that is cheap to clone.
///
/// For what exists a few times: connections, licences, slots of a device. Each permit belongs to the
/// thread that acquired it, and is given back by dropping it, or by the kernel when that thread dies.
/// Nobody gives back what it does not have, so there are never more permits than at the start.
///
/// Who waits stands in a line; a newcomer that meets a free permit takes it without standing
/// in the line.
///
/// # Limits
/// At most [`MAX_PERMITS`](Self::MAX_PERMITS), each 64 bytes. A permit is one of the 2000 locks that
/// one thread may hold.
///
/// # Peer death
/// The kernel frees the permit of a dead holder within microseconds: whoever comes next can have it.
/// Somebody who sleeps for a permit looks for those of the dead every 10 ms. What the permit stood
/// for may need care: [`RobustPermit::dead_holder`] says that it came from the dead. The death of
/// one who waits harms nobody.
///
/// # Memory ordering
/// Giving a permit back happens before acquiring that permit again, in whichever process; two holders
/// of different permits are not ordered.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::RobustSemaphore;
///
/// # let name = format!("doc-robust-semaphore-{}", std::process::id());
/// let connections = RobustSemaphore::create(Place::named(&name).unlink_on_drop(true), 2)?;
///
/// // In every other process:
/// let connections = RobustSemaphore::open(&name)?;
/// let first = connections.acquire()?;
/// let second = connections.acquire()?;
/// assert!(connections.try_acquire().is_err());
/// drop(first);
/// assert_eq!(connections.available(), 1);
/// # drop(second);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RobustSemaphore {
    segment: Segment,
    head: NonNull<SemaphoreHead>,
    slots: NonNull<[Slot]>,
}

// SAFETY: head and slots are atomics in the segment, which the handle keeps mapped.
unsafe impl Send for RobustSemaphore {}
// SAFETY: as for Send.
unsafe impl Sync for RobustSemaphore {}

impl Clone for RobustSemaphore {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            head: self.head,
            slots: self.slots,
        }
    }
}

impl RobustSemaphore {
    /// The most permits there can be.
    pub const MAX_PERMITS: u32 = MAX_SLOTS;

    const SLOTS: usize = size_of::<SemaphoreHead>();

    const fn size(permits: u32) -> usize {
        let permits = if permits > MAX_SLOTS {
            MAX_SLOTS
        } else {
            permits
        };
        Self::SLOTS + permits as usize * size_of::<Slot>()
    }

    /// Bytes that a region must have for `permits` permits, of which at most
    /// [`MAX_PERMITS`](Self::MAX_PERMITS) are counted.
    #[must_use]
    pub const fn region_size(permits: u32) -> usize {
        shm_core::HEADER_SIZE + Self::size(permits)
    }

    fn spec(permits: u32) -> Spec {
        Spec::new(Kind(*b"RSEM"), 1, Self::size(permits) as u64)
            .label("RobustSemaphore")
            .locked()
    }

    /// Creates a semaphore, all of whose permits are free.
    ///
    /// # Errors
    /// [`CreateError::Zero`], [`CreateError::TooMany`] beyond [`MAX_PERMITS`](Self::MAX_PERMITS);
    /// [`CreateError::Segment`] as [`Segment::create`].
    pub fn create(place: impl Into<Place>, permits: u32) -> Result<Self, CreateError> {
        let permits = CreateError::check(permits, Self::MAX_PERMITS)?;
        let init =
            |segment: &Segment| segment.write(SemaphoreHead::PERMITS, &permits.to_ne_bytes());
        let segment = Segment::create_with(place, Self::spec(permits), init)?;
        Ok(Self::attach(segment)?)
    }

    /// Opens a semaphore that exists, with however many permits.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec(1))?)
    }

    /// Opens a semaphore, or creates it with `permits` permits; whoever is first creates it, and says
    /// how many there are ([`permits`](Self::permits)).
    ///
    /// # Errors
    /// As [`create`](Self::create); [`CreateError::Segment`] as [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>, permits: u32) -> Result<Self, CreateError> {
        let permits = CreateError::check(permits, Self::MAX_PERMITS)?;
        let init =
            |segment: &Segment| segment.write(SemaphoreHead::PERMITS, &permits.to_ne_bytes());
        let segment = Segment::open_or_create_with(place, Self::spec(permits), init)?;
        Ok(Self::attach(segment)?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let head = segment.view::<SemaphoreHead>(0)?;
        // Read once, checked below.
        let permits = head.permits();
        let head = NonNull::from(head);
        let corrupt = || Error::Corrupt {
            segment: segment.name().to_owned(),
            field: "number of permits",
            value: u64::from(permits),
        };
        if !(1..=MAX_SLOTS).contains(&permits) {
            return Err(corrupt());
        }
        let count = permits as usize;
        let slots = segment
            .at(Self::SLOTS, count * size_of::<Slot>())
            .map_err(|_| corrupt())?;
        segment.watch_lock(0);
        (0..count).for_each(|slot| segment.watch_lock(Self::SLOTS + slot * size_of::<Slot>()));
        let slots = NonNull::slice_from_raw_parts(slots.cast::<Slot>(), count);
        Ok(Self {
            segment,
            head,
            slots,
        })
    }

    /// Acquires a permit; blocks until there is one.
    ///
    /// # Errors
    /// [`LockFailure::Deadlock`] if this thread has all permits itself; [`LockFailure::TooManyLocks`],
    /// [`LockFailure::Unsupported`].
    #[inline]
    pub fn acquire(&self) -> Result<RobustPermit<'_>, LockFailure> {
        self.take(Patience::Endless)
    }

    /// As [`acquire`](Self::acquire); never blocks.
    ///
    /// # Errors
    /// [`LockFailure::WouldBlock`]; [`LockFailure::TooManyLocks`], [`LockFailure::Unsupported`].
    #[inline]
    pub fn try_acquire(&self) -> Result<RobustPermit<'_>, LockFailure> {
        self.take(Patience::None)
    }

    /// As [`acquire`](Self::acquire); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`LockFailure::Timeout`], and those of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<RobustPermit<'_>, LockFailure> {
        self.take(timeout.into())
    }

    /// As [`acquire`](Self::acquire); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`LockFailure::Timeout`], and those of [`acquire`](Self::acquire).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<RobustPermit<'_>, LockFailure> {
        self.take(deadline.into())
    }

    #[inline]
    fn take(&self, patience: Patience) -> Result<RobustPermit<'_>, LockFailure> {
        // SAFETY: the permit borrows `self`, which keeps its lock mapped where it is; for a permit that
        // is forgotten, the segment keeps its memory (`watch_lock`).
        let (slot, dead_holder) = unsafe { self.raw().acquire(patience) }?;
        Ok(RobustPermit {
            semaphore: self,
            slot,
            dead_holder,
            origin: Origin::here(),
            not_send: PhantomData,
        })
    }

    /// How many permits there are.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How many permits nobody has, at some instant of the call at best. Looks at each.
    #[must_use]
    pub fn available(&self) -> u32 {
        let slots = self.raw().slots();
        slots
            .iter()
            .filter(|slot| slot.raw().owner_tid() == 0)
            .count() as u32
    }

    /// Who has permits, and how many wait for one: for people; it may be over when it is read.
    #[must_use]
    pub fn inspect(&self) -> RobustSemaphoreInspection {
        let raw = self.raw();
        let slots = raw.slots().iter().map(|slot| slot.raw().inspect());
        let queue = raw.inspect_queue();
        RobustSemaphoreInspection {
            permits: self.permits(),
            holders: slots.filter(|slot| slot.owner_tid != 0).collect(),
            waiters: queue.waiters + usize::from(queue.owner_tid != 0),
            deaths: raw.deaths(),
        }
    }

    /// Removes the name, as [`Segment::unlink`].
    ///
    /// # Errors
    /// As [`Segment::unlink`].
    pub fn unlink(&self) -> Result<(), Error> {
        self.segment.unlink()
    }

    /// The segment it lives in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    #[inline]
    fn raw(&self) -> RawRobustSemaphore<'_> {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as `self.segment` (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        let head = unsafe { self.head.as_ref() };
        // SAFETY: as above, checked by `attach`; slots of 64 bytes behind a head of 64.
        let slots = unsafe { self.slots.as_ref() };
        RawRobustSemaphore::new(head, slots)
    }
}

impl fmt::Debug for RobustSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustSemaphore")
            .field("segment", &self.segment.name())
            .field("permits", &self.permits())
            .field("available", &self.available())
            .finish()
    }
}

/// What [`RobustSemaphore::inspect`] saw. Its parts need not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RobustSemaphoreInspection {
    /// How many permits there are.
    pub permits: u32,
    /// Who has one: for each permit that is out, its holder. Waiters sleep for any permit, not for a
    /// certain one: [`since`](Inspection::since) is `None` and [`waiters`](Inspection::waiters) 0 in all of them.
    pub holders: Vec<Inspection>,
    /// How many wait for one.
    pub waiters: usize,
    /// How many permits have come back from the dead and been acquired again (modulo 2^32).
    pub deaths: u32,
}

/// A permit; dropping it gives it back.
///
/// It belongs to its thread, as the kernel's list of held locks does, and is not `Send`. In a forked
/// child it is inert.
#[must_use = "dropping the permit gives it back"]
pub struct RobustPermit<'a> {
    semaphore: &'a RobustSemaphore,
    slot: usize,
    dead_holder: Option<ProcessId>,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared permit gives numbers only.
unsafe impl Sync for RobustPermit<'_> {}

impl RobustPermit<'_> {
    /// The process that had this very permit last, if it died with it.
    #[must_use]
    pub fn dead_holder(&self) -> Option<ProcessId> {
        self.dead_holder
    }

    /// Which permit it is, from 0: nobody else has this number at the same time.
    #[must_use]
    pub fn index(&self) -> usize {
        self.slot
    }
}

impl Drop for RobustPermit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: the slot was given to this permit.
            unsafe { self.semaphore.raw().release(self.slot) };
        }
    }
}

impl fmt::Debug for RobustPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustPermit")
            .field("index", &self.slot)
            .field("dead_holder", &self.dead_holder)
            .finish()
    }
}
