//! A mutex over data that lives in shared memory.
//!
//! Payload, kind `MUTX`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 48 | [`RawMutex`] |
//! | 48, aligned for `T` | size of `T` | the data |
//!
//! INV-M1: the data is read and written only by the thread whose id is in the raw mutex's word.
//! Peer death: the kernel hands the lock on; the data is as the dead owner's last store left it, and
//! the next owner is told so.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::fork::Origin;
use shm_core::mutants::mutant;
use shm_core::{Error, Kind, Place, Segment, Spec};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::error::{Cause, Guarded, LockError, LockFailure};
use crate::patience::Patience;
use crate::raw_mutex::{RawInspect as Inspection, RawMutex};

/// What the locking methods return.
pub type LockResult<G> = Result<G, LockError<G>>;

/// A mutex that processes share, with the data it protects; a handle that is cheap to clone.
///
/// `T` has no padding, no pointers, and every bit pattern is a value of it (zerocopy's
/// [`FromBytes`] and [`IntoBytes`]): a killed owner can leave a `T` torn between two states, and
/// even that is a `T`.
///
/// A waiter spins for a moment, then sleeps in the kernel. The lock is handed over in no fixed
/// order, but a waiter that slept for 300 µs is next.
///
/// # Peer death
/// The kernel itself frees the lock of a dead owner, whatever killed it, and wakes a waiter within
/// microseconds. That waiter, or the next one to lock, gets [`LockError::OwnerDied`] with the lock
/// held, and repairs what it protects. Neither does the death of a waiter harm anybody.
///
/// # Memory ordering
/// Unlocking happens before the next locking, in whichever process.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::Mutex;
///
/// # let name = format!("doc-mutex-{}", std::process::id());
/// let tickets = Mutex::create(Place::named(&name).unlink_on_drop(true), 10_u32)?;
///
/// // In every other process:
/// let tickets = Mutex::<u32>::open(&name)?;
/// let mut left = tickets.lock_or_repair(|left, cause| eprintln!("{cause}; {left} left"))?;
/// if *left > 0 {
///     *left -= 1;
/// }
/// # assert_eq!(*left, 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutex<T> {
    segment: Segment,
    raw: NonNull<RawMutex>,
    data: NonNull<T>,
}

// SAFETY: the data is reached by one thread at a time (INV-M1), so `T: Send` is enough; the
// pointers lead into the segment, which the handle keeps mapped.
unsafe impl<T: Send> Send for Mutex<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            raw: self.raw,
            data: self.data,
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Mutex<T> {
    const DATA: usize = size_of::<RawMutex>().next_multiple_of(align_of::<T>());

    /// Bytes that a region must have for a mutex of this type.
    pub const REGION_SIZE: usize = Self::spec_size() + shm_core::HEADER_SIZE + Self::SLACK;
    /// A payload of higher alignment starts later.
    const SLACK: usize = if align_of::<T>() > 64 {
        align_of::<T>()
    } else {
        0
    };

    const fn spec_size() -> usize {
        Self::DATA + size_of::<T>()
    }

    fn spec() -> Spec {
        Spec::new(Kind(*b"MUTX"), 1, Self::spec_size() as u64)
            .label("Mutex")
            .locked()
            .of_type::<T>()
            .align(align_of::<T>() as u32)
    }

    /// Creates a mutex, unlocked.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>, mut value: T) -> Result<Self, Error> {
        let init = |segment: &Segment| segment.write(Self::DATA, value.as_mut_bytes());
        Self::attach(Segment::create_with(place, Self::spec(), init)?)
    }

    /// Opens a mutex that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec())?)
    }

    /// Opens a mutex, or creates it with `value`; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>, mut value: T) -> Result<Self, Error> {
        let bytes = value.as_mut_bytes();
        let init = |segment: &Segment| segment.write(Self::DATA, bytes);
        Self::attach(Segment::open_or_create_with(place, Self::spec(), init)?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let raw = NonNull::from(segment.view::<RawMutex>(0)?);
        let data = segment.at(Self::DATA, size_of::<T>())?.cast::<T>();
        if !data.is_aligned() {
            let (offset, align) = (data.addr().get() as u64, align_of::<T>() as u64);
            return Err(Error::Misaligned {
                segment: segment.name().to_owned(),
                offset,
                align,
            });
        }
        segment.watch_lock(0);
        Ok(Self { segment, raw, data })
    }

    /// Takes the lock; blocks until it is free.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] and [`LockError::Poisoned`], with the lock held;
    /// [`LockError::NotRecoverable`], [`LockError::Deadlock`], [`LockError::TooManyLocks`],
    /// [`LockError::Unsupported`].
    #[inline]
    pub fn lock(&self) -> LockResult<Guard<'_, T>> {
        self.acquire(Patience::Endless)
    }

    /// Takes the lock if it is free; never blocks.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], and those of [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> LockResult<Guard<'_, T>> {
        self.acquire(Patience::None)
    }

    /// Takes the lock; blocks for at most `timeout` (CLOCK_MONOTONIC, which no change of the wall
    /// clock disturbs).
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<Guard<'_, T>> {
        self.acquire(timeout.into())
    }

    /// Takes the lock; blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> LockResult<Guard<'_, T>> {
        self.acquire(deadline.into())
    }

    /// Takes the lock, and has `repair` mend the data if its last owner died or panicked.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock), but never for want of a repair.
    ///
    /// # Examples
    /// ```
    /// # use {shm_core::Region, shm_lock::Mutex};
    /// # let mutex = Mutex::create(Region::heap(4096), [10_i64, -10])?;
    /// // Two words that must add up to zero.
    /// let pair = mutex.lock_or_repair(|pair, cause| {
    ///     eprintln!("{cause}");
    ///     pair[1] = -pair[0];
    /// })?;
    /// assert_eq!(pair[0] + pair[1], 0);
    /// # drop(pair);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock_or_repair(
        &self,
        repair: impl FnOnce(&mut T, Cause),
    ) -> Result<Guard<'_, T>, LockFailure> {
        LockError::repaired(self.lock(), repair)
    }

    /// Who holds the lock, how many wait, and since when somebody has had to: for people; it may be over
    /// when it is read.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        self.raw().inspect()
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
    fn acquire(&self, patience: Patience) -> LockResult<Guard<'_, T>> {
        // SAFETY: the guard borrows `self`, which keeps the lock mapped where it is; for a guard that
        // is forgotten, the segment keeps its memory (`watch_lock`).
        let acquired = unsafe { self.raw().acquire(patience) }?;
        let panicking = std::thread::panicking();
        LockError::report(
            Guard {
                mutex: self,
                panicking,
                origin: Origin::here(),
                not_send: PhantomData,
            },
            acquired,
        )
    }
}

impl<T> Mutex<T> {
    #[inline]
    fn raw(&self) -> &RawMutex {
        // SAFETY:
        // - in bounds and aligned, as `view` checked when the handle was made; mapped as long as
        //   `self.segment` (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        unsafe { self.raw.as_ref() }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.raw().inspect();
        f.debug_struct("Mutex")
            .field("segment", &self.segment.name())
            .field("state", &state)
            .finish()
    }
}

/// The lock, held: gives access to the data; dropping it unlocks.
///
/// It belongs to its thread, as the kernel's list of held locks does, and is not `Send`. Dropped
/// while its thread panics, it poisons the mutex. In a forked child it
/// unlocks nothing, and the child must not use it: the parent still writes.
#[must_use = "dropping the guard unlocks"]
pub struct Guard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Whether the thread was panicking already when it locked.
    panicking: bool,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

impl<'a, T> Guard<'a, T> {
    /// The mutex that is held.
    pub(crate) fn mutex_of(guard: &Self) -> &'a Mutex<T> {
        guard.mutex
    }
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: Sync> Sync for Guard<'_, T> {}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY:
        // - in bounds and aligned, as `attach` checked; mapped as long as the mutex (INV-S1);
        // - no other writer: we hold the lock (INV-M1);
        // - any bytes are a value: `T: FromBytes` where mutexes are made.
        unsafe { self.mutex.data.as_ref() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let mut data = self.mutex.data;
        // SAFETY: as in `deref`; and no other reference: this guard is borrowed mutably.
        unsafe { data.as_mut() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.origin.is_here() {
            return;
        }
        let raw = self.mutex.raw();
        let unwinding = !self.panicking && std::thread::panicking();
        if unwinding && raw.is_held_by_me() && !mutant("Mutex::PanicDoesNotPoison") {
            raw.mark_poisoned();
        }
        // SAFETY: this guard is the one that the lock was given to.
        unsafe { raw.unlock() };
    }
}

impl<T> Guarded for Guard<'_, T> {
    type Data = T;

    fn data(&self) -> &T {
        self
    }

    fn data_mut(&mut self) -> &mut T {
        self
    }

    fn mark_consistent(&mut self) {
        if self.origin.is_here() {
            self.mutex.raw().mark_consistent();
        }
    }

    fn mark_not_recoverable(&mut self) {
        if self.origin.is_here() {
            self.mutex.raw().mark_not_recoverable();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
