//! An array of fixed length, locked in place.
//!
//! Payload, kind `ARRY`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 48 | [`RawMutex`] |
//! | 48 | 8 | `len`: number of elements; never changes |
//! | 56, aligned for `T` and 8 | `len` times the size of `T` | the elements |
//!
//! INV-A1: the elements are written only by the thread whose id is in the raw mutex's word.
//! Peer death: elements up to 8 bytes are old or new each, if written by `set`; which of several
//! were written is for the next owner to find out, who is told.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, align_of, size_of};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::fork::Origin;
use shm_core::mutants::mutant;
use shm_core::sync::{AtomicU64, Ordering};
use shm_core::{Error, Field, Kind, Place, Segment, Spec, layout};
use shm_lock::{
    Cause, Guarded, Inspection, LockError, LockFailure, LockResult, Patience, RawMutex,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::ValueError;

/// An array that processes share; a handle that is cheap to clone.
///
/// `T` has no padding, no pointers, and every bit pattern is a value of it.
///
/// # Peer death
/// The kernel hands a dead owner's lock to the next one, who gets [`LockError::OwnerDied`] with the
/// array in its hands. [`set`](Self::set) never tears an element of 1, 2, 4 or 8 bytes.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_value::Array;
///
/// # let name = format!("doc-array-{}", std::process::id());
/// let numbers = Array::create(Place::named(&name).unlink_on_drop(true), &[0_i32, 1, 2, 3])?;
///
/// let peer = Array::<i32>::open(&name)?; // in another process
/// for number in peer.lock_or_repair(|_, _| ())?.iter_mut() {
///     *number = -*number;
/// }
/// assert_eq!(numbers.get(2)?, -2);
/// numbers.set(3, 7)?;
/// assert_eq!(numbers.get(3)?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Array<T> {
    segment: Segment,
    lock: NonNull<RawMutex>,
    elements: NonNull<T>,
    len: usize,
}

// SAFETY: the elements are reached by one thread at a time (INV-A1), so `T: Send` is enough; the
// pointers lead into the segment, which the handle keeps mapped.
unsafe impl<T: Send> Send for Array<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send> Sync for Array<T> {}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        let (lock, elements, len) = (self.lock, self.elements, self.len);
        Self {
            segment: self.segment.clone(),
            lock,
            elements,
            len,
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Array<T> {
    const LEN: usize = size_of::<RawMutex>();
    const ALIGN: usize = if align_of::<T>() > 8 {
        align_of::<T>()
    } else {
        8
    };
    const ELEMENTS: usize = (Self::LEN + 8).next_multiple_of(Self::ALIGN);
    /// Elements that one load or store reads or writes whole.
    const WHOLE: bool =
        matches!(size_of::<T>(), 1 | 2 | 4 | 8) && align_of::<T>() == size_of::<T>();

    /// Bytes that a region must have for an array of `len` elements; `None` if there are no such
    /// regions.
    #[must_use]
    pub const fn region_size(len: usize) -> Option<usize> {
        let fixed = shm_core::HEADER_SIZE + Self::ELEMENTS + Self::ALIGN;
        match size_of::<T>().checked_mul(len) {
            Some(bytes) => bytes.checked_add(fixed),
            None => None,
        }
    }

    fn spec(len: usize) -> Spec {
        // A size that does not fit u64 cannot be mapped either; `create` says so.
        let elements = (size_of::<T>() as u64).saturating_mul(len as u64);
        let size = elements.saturating_add(Self::ELEMENTS as u64);
        Spec::new(Kind(*b"ARRY"), 1, size)
            .label("Array")
            .locked()
            .of_type::<T>()
            .align(Self::ALIGN as u32)
    }

    /// Creates an array of the given elements.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>, elements: &[T]) -> Result<Self, Error>
    where
        T: Immutable,
    {
        let init = |segment: &Segment| {
            segment.write(Self::LEN, &(elements.len() as u64).to_ne_bytes())?;
            segment.write(Self::ELEMENTS, elements.as_bytes())
        };
        Self::attach(Segment::create_with(
            place,
            Self::spec(elements.len()),
            init,
        )?)
    }

    /// Creates an array of `len` elements whose bytes are zero.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn zeroed(place: impl Into<Place>, len: usize) -> Result<Self, Error> {
        let init = |segment: &Segment| segment.write(Self::LEN, &(len as u64).to_ne_bytes());
        Self::attach(Segment::create_with(place, Self::spec(len), init)?)
    }

    /// Opens an array that exists, of whatever length.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec(0))?)
    }

    /// Opens an array of `len` elements, or creates it zeroed; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`]; [`Error::Mismatch`] when it has another length.
    pub fn open_or_create(place: impl Into<Place>, len: usize) -> Result<Self, Error> {
        let init = |segment: &Segment| segment.write(Self::LEN, &(len as u64).to_ne_bytes());
        let place = place.into();
        let array = Self::attach(Segment::open_or_create_with(place, Self::spec(len), init)?)?;
        if array.len == len {
            return Ok(array);
        }
        Err(Error::Mismatch {
            segment: array.segment.name().to_owned(),
            field: Field::Length,
            expected: len.to_string(),
            found: array.len.to_string(),
        })
    }

    /// Opens an array to read single elements of 1, 2, 4 or 8 bytes; needs only read permission.
    ///
    /// For processes that do not write: it takes no lock, so to read while another thread of the same process changes
    /// the elements through a guard would be a data race.
    ///
    /// # Errors
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open_read_only(place, Self::spec(0))?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let lock = NonNull::from(segment.view::<RawMutex>(0)?);
        // Relaxed: never changes after publication. Read once, checked below.
        let len = segment
            .view::<AtomicU64>(Self::LEN)?
            .load(Ordering::Relaxed);
        let corrupt = || Error::Corrupt {
            segment: segment.name().to_owned(),
            field: "array length",
            value: len,
        };
        let count = usize::try_from(len).map_err(|_| corrupt())?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or_else(corrupt)?;
        let elements = segment
            .at(Self::ELEMENTS, bytes)
            .map_err(|_| corrupt())?
            .cast::<T>();
        if !elements.is_aligned() {
            let (offset, align) = (elements.addr().get() as u64, align_of::<T>() as u64);
            return Err(Error::Misaligned {
                segment: segment.name().to_owned(),
                offset,
                align,
            });
        }
        segment.watch_lock(0);
        Ok(Self {
            segment,
            lock,
            elements,
            len: count,
        })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One element. Takes the lock, so that it is never in the middle of somebody's change; a
    /// read-only attachment cannot, and reads what is there: what `set` wrote is whole; what is being changed through a
    /// guard is as far as that has come, and an element that is copied there byte by byte may be seen in part.
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`]; [`ValueError::NeedsRepair`] after somebody's death or panic;
    /// [`ValueError::ReadOnly`] on a read-only attachment, but for elements of 1, 2, 4 or 8 bytes
    /// that are aligned to their size; [`ValueError::Deadlock`] and the others of [`lock`](Self::lock).
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, ValueError> {
        let at = self.element(index)?;
        if !self.segment.is_read_only() {
            let _held = self.hold()?;
            return Ok(load(at));
        }
        if Self::WHOLE {
            Ok(load(at))
        } else {
            Err(ValueError::ReadOnly)
        }
    }

    /// Replaces one element. Takes the lock.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`ValueError::ReadOnly`].
    ///
    /// # Peer death
    /// A writer killed on the way leaves an element of 1, 2, 4 or 8 bytes old or new; a larger one
    /// perhaps torn, which the next owner is told.
    #[inline]
    pub fn set(&self, index: usize, mut value: T) -> Result<(), ValueError> {
        let at = self.element(index)?;
        if self.segment.is_read_only() {
            return Err(ValueError::ReadOnly);
        }
        let _held = self.hold()?;
        let bytes = value.as_mut_bytes();
        // SAFETY:
        // - in bounds, as `element` checked; mapped writable as long as the segment (INV-S1);
        // - no other writer: we hold the lock (INV-A1).
        unsafe { layout::store_bytes(at.as_ptr().cast(), bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    #[inline]
    fn element(&self, index: usize) -> Result<NonNull<T>, ValueError> {
        if index >= self.len + usize::from(mutant("Array::BoundOneTooFar")) {
            return Err(ValueError::OutOfRange {
                index,
                len: self.len,
            });
        }
        // SAFETY: below `len`, whose elements `attach` found inside the payload.
        Ok(unsafe { self.elements.add(index) })
    }

    #[inline]
    fn hold(&self) -> Result<ArrayGuard<'_, T>, ValueError> {
        Ok(self.lock().map_err(LockFailure::from)?)
    }

    /// Takes the lock; blocks until it is free. The guard is a slice of the elements in place.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] and [`LockError::Poisoned`], with the lock held;
    /// [`LockError::NotRecoverable`], [`LockError::Deadlock`], [`LockError::TooManyLocks`],
    /// [`LockError::ReadOnly`], [`LockError::Unsupported`].
    #[inline]
    pub fn lock(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.acquire(Patience::Endless)
    }

    /// As [`lock`](Self::lock), without blocking.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], and those of [`lock`](Self::lock).
    pub fn try_lock(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.acquire(Patience::None)
    }

    /// As [`lock`](Self::lock), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ArrayGuard<'_, T>> {
        self.acquire(timeout.into())
    }

    /// As [`lock`](Self::lock), until `deadline` at most.
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> LockResult<ArrayGuard<'_, T>> {
        self.acquire(deadline.into())
    }

    /// As [`lock`](Self::lock), with `repair` run on the elements if the last owner died or panicked.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock), but never for want of a repair.
    pub fn lock_or_repair(
        &self,
        repair: impl FnOnce(&mut [T], Cause),
    ) -> Result<ArrayGuard<'_, T>, LockFailure> {
        LockError::repaired(self.lock(), repair)
    }

    #[inline]
    fn acquire(&self, patience: Patience) -> LockResult<ArrayGuard<'_, T>> {
        if self.segment.is_read_only() {
            return Err(LockError::ReadOnly);
        }
        // SAFETY: the guard borrows `self`, which keeps the lock mapped where it is; for a guard that
        // is forgotten, the segment keeps its memory (`watch_lock`).
        let acquired = unsafe { self.lock_word().acquire(patience) }?;
        let panicking = std::thread::panicking();
        LockError::report(
            ArrayGuard {
                array: self,
                panicking,
                origin: Origin::here(),
                not_send: PhantomData,
            },
            acquired,
        )
    }

    /// Who holds the lock, how many wait, and since when somebody has had to: for people; it may be over
    /// when it is read.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        self.lock_word().inspect()
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
}

impl<T> Array<T> {
    #[inline]
    fn lock_word(&self) -> &RawMutex {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as the segment (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        unsafe { self.lock.as_ref() }
    }
}

/// Copies an element out; in one access if its size is 1, 2, 4 or 8.
#[inline]
fn load<T: FromBytes>(at: NonNull<T>) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY:
    // - in bounds: the caller has it from `element`; mapped as long as the segment (INV-S1);
    // - other writers: none under the lock; on a read-only attachment, `set` writes whole words, and a guard's user what it
    //   likes: any bytes are a value, and it is not to be a thread of this process (`Array::open_read_only`).
    unsafe {
        layout::load_bytes(
            at.as_ptr().cast(),
            value.as_mut_ptr().cast(),
            size_of::<T>(),
        )
    };
    // SAFETY: any bytes are a value: `T: FromBytes`; all of them were written.
    unsafe { value.assume_init() }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array")
            .field("segment", &self.segment.name())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The lock, held: the elements in place, as a slice; dropping it unlocks.
///
/// It belongs to its thread and is not `Send`. Dropped while its thread panics, it poisons the
/// array. In a forked child it
/// unlocks nothing, and the child must not use it: the parent still writes.
#[must_use = "dropping the guard unlocks"]
pub struct ArrayGuard<'a, T> {
    array: &'a Array<T>,
    /// Whether the thread was panicking already when it locked.
    panicking: bool,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the elements only.
unsafe impl<T: Sync> Sync for ArrayGuard<'_, T> {}

impl<T> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY:
        // - in bounds and aligned, as `attach` checked; mapped as long as the array (INV-S1);
        // - no other writer: we hold the lock (INV-A1);
        // - any bytes are a value: `T: FromBytes` where arrays are made.
        unsafe { std::slice::from_raw_parts(self.array.elements.as_ptr(), self.array.len) }
    }
}

impl<T> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; and no other reference: this guard is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.array.elements.as_ptr(), self.array.len) }
    }
}

impl<T> Drop for ArrayGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.origin.is_here() {
            return;
        }
        let lock = self.array.lock_word();
        if !self.panicking && std::thread::panicking() && lock.is_held_by_me() {
            lock.mark_poisoned();
        }
        // SAFETY: the lock was given to this guard.
        unsafe { lock.unlock() };
    }
}

impl<T> Guarded for ArrayGuard<'_, T> {
    type Data = [T];

    fn data(&self) -> &[T] {
        self
    }

    fn data_mut(&mut self) -> &mut [T] {
        self
    }

    fn mark_consistent(&mut self) {
        if self.origin.is_here() {
            self.array.lock_word().mark_consistent();
        }
    }

    fn mark_not_recoverable(&mut self) {
        if self.origin.is_here() {
            self.array.lock_word().mark_not_recoverable();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for ArrayGuard<'_, T> {
    fn eq(&self, other: &[T; N]) -> bool {
        **self == *other
    }
}
