//! A number that every process changes by one instruction, without a lock.
//!
//! Payload, kind `ATOM`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 1 to 8 | the number, in as many bytes as its type has |
//! | 8 | 4 | `changes`: a [`Bell`]; one more with each notification |
//!
//! Peer death: each operation is one instruction; it happened or it did not. One who is killed
//! between its store and its notification, or woken in another's stead and killed, delays the
//! waiters by one slice (100 ms) at most: then they look by themselves.

use std::fmt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::mutants::mutant;
use shm_core::sync::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
};
use shm_core::{Deadline, Error, Kind, Place, Segment, Shared, Spec};

use crate::bell::Bell;
use crate::error::ValueError;

/// Where `changes` lies.
const CHANGES: usize = 8;
/// Bytes of the payload.
const SIZE: usize = 12;

/// An atomic number or flag that processes share; a handle that is cheap to clone.
///
/// `T` is an integer of 8 to 64 bits, `f32`, `f64` or `bool`. Whoever only counts needs no lock.
///
/// # Memory ordering
/// Loads acquire, stores release, and operations that read and write do both: what a process wrote
/// before a store is seen by whoever loads the stored number.
///
/// # Waiting
/// [`wait`](Self::wait) sleeps until the number is another one; whoever changes it says so with
/// [`notify_one`](Self::notify_one) or [`notify_all`](Self::notify_all). A number that is changed without a
/// notification is noticed within 100 ms.
///
/// # Peer death
/// Nothing can be left half done. Who dies between a change and its notification delays the waiters by
/// 100 ms at most.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_value::AtomicValue;
///
/// # let name = format!("doc-atomic-{}", std::process::id());
/// let left = AtomicValue::create(Place::named(&name).unlink_on_drop(true), 1_000_i64)?;
/// let peer = AtomicValue::<i64>::open(&name)?; // in another process
/// assert_eq!(peer.fetch_sub(1), 1_000);
/// assert_eq!(left.load(), 999);
/// # Ok::<(), shm_core::Error>(())
/// ```
pub struct AtomicValue<T: Atomic> {
    reader: AtomicReader<T>,
}

/// An atomic number that this process may only read ([`AtomicValue::open_read_only`]).
pub struct AtomicReader<T: Atomic> {
    segment: Segment,
    cell: NonNull<T::Cell>,
    changes: NonNull<Bell>,
}

// SAFETY: the cell is an atomic in the segment, which the handle keeps mapped.
unsafe impl<T: Atomic> Send for AtomicReader<T> {}
// SAFETY: as for Send.
unsafe impl<T: Atomic> Sync for AtomicReader<T> {}

impl<T: Atomic> Clone for AtomicReader<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            cell: self.cell,
            changes: self.changes,
        }
    }
}

impl<T: Atomic> Clone for AtomicValue<T> {
    fn clone(&self) -> Self {
        Self {
            reader: self.reader.clone(),
        }
    }
}

impl<T: Atomic> AtomicReader<T> {
    fn attach(segment: Segment) -> Result<Self, Error> {
        let cell = NonNull::from(segment.view::<T::Cell>(0)?);
        let changes = NonNull::from(segment.view::<Bell>(CHANGES)?);
        Ok(Self {
            segment,
            cell,
            changes,
        })
    }

    /// The number now (Acquire).
    #[must_use]
    #[inline]
    pub fn load(&self) -> T {
        T::load(self.cell())
    }

    /// Blocks while the number is `old`, bit by bit, and gives the other one. May be overtaken: the
    /// number it gives may have changed again, and one that was `old` again by then is waited for.
    pub fn wait(&self, old: T) -> T {
        loop {
            if let Some(new) = self.wait_once(old, None) {
                return new;
            }
        }
    }

    /// As [`wait`](Self::wait), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`ValueError::Timeout`].
    pub fn wait_timeout(&self, old: T, timeout: Duration) -> Result<T, ValueError> {
        self.wait_until(old, Deadline::after(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline` at most.
    ///
    /// # Errors
    /// [`ValueError::Timeout`].
    pub fn wait_deadline(&self, old: T, deadline: Instant) -> Result<T, ValueError> {
        self.wait_until(old, Deadline::at(deadline))
    }

    fn wait_until(&self, old: T, deadline: Deadline) -> Result<T, ValueError> {
        loop {
            if let Some(new) = self.wait_once(old, Some(deadline)) {
                return Ok(new);
            }
            if deadline.is_past() {
                // A change that came with the deadline is a change.
                return self.look(old).ok_or(ValueError::Timeout);
            }
        }
    }

    /// One look, and one sleep if the number is still `old`.
    fn wait_once(&self, old: T, deadline: Option<Deadline>) -> Option<T> {
        self.changes().wait_once(deadline, || self.look(old))
    }

    /// The number, if it is another than `old`.
    fn look(&self, old: T) -> Option<T> {
        let now = self.load();
        (!T::same(now, old)).then_some(now)
    }

    fn changes(&self) -> &Bell {
        // SAFETY: as for `cell`.
        unsafe { self.changes.as_ref() }
    }

    /// The segment it lives in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    #[inline]
    fn cell(&self) -> &T::Cell {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as the segment (INV-S1);
        // - other writers: it is an atomic; any bytes are a value.
        unsafe { self.cell.as_ref() }
    }
}

impl<T: Atomic> AtomicValue<T> {
    /// Bytes that a region must have for it.
    pub const REGION_SIZE: usize = shm_core::HEADER_SIZE + SIZE;

    fn spec() -> Spec {
        Spec::new(Kind(*b"ATOM"), 1, SIZE as u64)
            .label("AtomicValue")
            .of_type::<T>()
    }

    /// Creates a number.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>, value: T) -> Result<Self, Error> {
        let init = |segment: &Segment| T::init(segment, 0, value);
        let segment = Segment::create_with(place, Self::spec(), init)?;
        Ok(Self {
            reader: AtomicReader::attach(segment)?,
        })
    }

    /// Opens a number that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        let segment = Segment::open(place, Self::spec())?;
        Ok(Self {
            reader: AtomicReader::attach(segment)?,
        })
    }

    /// Opens a number, or creates it; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>, value: T) -> Result<Self, Error> {
        let init = |segment: &Segment| T::init(segment, 0, value);
        let segment = Segment::open_or_create_with(place, Self::spec(), init)?;
        Ok(Self {
            reader: AtomicReader::attach(segment)?,
        })
    }

    /// Opens a number to read it; needs only read permission.
    ///
    /// # Errors
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(place: impl Into<Place>) -> Result<AtomicReader<T>, Error> {
        AtomicReader::attach(Segment::open_read_only(place, Self::spec())?)
    }

    /// The number now (Acquire).
    #[must_use]
    #[inline]
    pub fn load(&self) -> T {
        self.reader.load()
    }

    /// Replaces the number (Release).
    #[inline]
    pub fn store(&self, value: T) {
        T::store(self.reader.cell(), value);
    }

    /// Replaces the number and gives the old one (AcqRel).
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::swap(self.reader.cell(), value)
    }

    /// Replaces the number if it is `current`, bit by bit (AcqRel): for floats, `0.0` is not `-0.0`
    /// here, and a NaN is itself.
    ///
    /// # Errors
    /// The number there is, if it is another one.
    #[inline]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        T::compare_exchange(self.reader.cell(), current, new)
    }

    /// Replaces the number by what `change` makes of it, until no other process came in between;
    /// `None` leaves it. Gives the old one.
    ///
    /// # Errors
    /// The number there is, if `change` gave `None`.
    ///
    /// # Examples
    /// ```
    /// # use {shm_core::Region, shm_value::AtomicValue};
    /// let left = AtomicValue::create(Region::heap(4096), 1_u32)?;
    /// let buy = || left.fetch_update(|left| left.checked_sub(1)).is_ok();
    /// assert!(buy() && !buy(), "one ticket, one buyer");
    /// # Ok::<(), shm_core::Error>(())
    /// ```
    #[inline]
    pub fn fetch_update(&self, mut change: impl FnMut(T) -> Option<T>) -> Result<T, T> {
        let mut seen = self.load();
        loop {
            let Some(new) = change(seen) else {
                return Err(seen);
            };
            match self.compare_exchange(seen, new) {
                Ok(old) => return Ok(old),
                Err(now) => seen = now,
            }
        }
    }

    /// Blocks while the number is `old`, bit by bit, and gives the other one. May be overtaken: the
    /// number it gives may have changed again, and one that was `old` again by then is waited for.
    ///
    /// # Examples
    /// ```
    /// # use {shm_core::Region, shm_value::AtomicValue};
    /// let stage = AtomicValue::create(Region::heap(4096), 0_u32)?;
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         stage.store(1);
    ///         stage.notify_all();
    ///     });
    ///     assert_eq!(stage.wait(0), 1);
    /// });
    /// # Ok::<(), shm_core::Error>(())
    /// ```
    pub fn wait(&self, old: T) -> T {
        self.reader.wait(old)
    }

    /// As [`wait`](Self::wait), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`ValueError::Timeout`].
    pub fn wait_timeout(&self, old: T, timeout: Duration) -> Result<T, ValueError> {
        self.reader.wait_timeout(old, timeout)
    }

    /// As [`wait`](Self::wait), until `deadline` at most.
    ///
    /// # Errors
    /// [`ValueError::Timeout`].
    pub fn wait_deadline(&self, old: T, deadline: Instant) -> Result<T, ValueError> {
        self.reader.wait_deadline(old, deadline)
    }

    /// Has one who waits look again, after a change; gives whether there was one. One system call.
    pub fn notify_one(&self) -> bool {
        self.notify(1) != 0
    }

    /// Has all who wait look again, after a change; gives how many there were. One system call.
    pub fn notify_all(&self) -> usize {
        self.notify(u32::MAX)
    }

    fn notify(&self, count: u32) -> usize {
        if mutant("AtomicValue::ForgetsToNotify") {
            return 0;
        }
        self.reader.changes().ring(count)
    }

    /// How many wait: for people; it may be over when it is read.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.reader.changes().sleepers()
    }

    /// Removes the name, as [`Segment::unlink`].
    ///
    /// # Errors
    /// As [`Segment::unlink`].
    pub fn unlink(&self) -> Result<(), Error> {
        self.reader.segment.unlink()
    }

    /// The segment it lives in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.reader.segment
    }
}

impl<T: AtomicNumber> AtomicValue<T> {
    /// Adds and gives the old number (AcqRel). Integers wrap around.
    #[inline]
    pub fn fetch_add(&self, value: T) -> T {
        T::fetch_add(self.reader.cell(), value)
    }

    /// Subtracts and gives the old number (AcqRel). Integers wrap around.
    #[inline]
    pub fn fetch_sub(&self, value: T) -> T {
        T::fetch_sub(self.reader.cell(), value)
    }
}

impl<T: Atomic + fmt::Debug> fmt::Debug for AtomicReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtomicReader").field(&self.load()).finish()
    }
}

impl<T: Atomic + fmt::Debug> fmt::Debug for AtomicValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtomicValue").field(&self.load()).finish()
    }
}

/// Types that fit an atomic word: integers of 8 to 64 bits, `f32`, `f64`, `bool`.
pub trait Atomic: Copy + Send + Sync + 'static + sealed::Sealed {
    #[doc(hidden)]
    type Cell: Shared;
    #[doc(hidden)]
    fn init(segment: &Segment, offset: usize, value: Self) -> Result<(), Error>;
    #[doc(hidden)]
    fn same(one: Self, other: Self) -> bool;
    #[doc(hidden)]
    fn load(cell: &Self::Cell) -> Self;
    #[doc(hidden)]
    fn store(cell: &Self::Cell, value: Self);
    #[doc(hidden)]
    fn swap(cell: &Self::Cell, value: Self) -> Self;
    #[doc(hidden)]
    fn compare_exchange(cell: &Self::Cell, current: Self, new: Self) -> Result<Self, Self>;
}

/// The [`Atomic`] types that can be added: all but `bool`.
pub trait AtomicNumber: Atomic {
    #[doc(hidden)]
    fn fetch_add(cell: &Self::Cell, value: Self) -> Self;
    #[doc(hidden)]
    fn fetch_sub(cell: &Self::Cell, value: Self) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

/// `Atomic` for `$t` in a `$cell`, by way of `$bits` and back.
macro_rules! atomic {
    ($t:ty, $cell:ty, $to:expr, $from:expr) => {
        impl sealed::Sealed for $t {}
        impl Atomic for $t {
            type Cell = $cell;
            fn init(segment: &Segment, offset: usize, value: Self) -> Result<(), Error> {
                let to: fn($t) -> _ = $to;
                segment.write(offset, &to(value).to_ne_bytes())
            }
            fn same(one: Self, other: Self) -> bool {
                let to: fn($t) -> _ = $to;
                to(one) == to(other)
            }
            // PAIR atomic-value: Acquire in loads, Release in stores, both in the rest.
            #[inline]
            fn load(cell: &$cell) -> Self {
                let from: fn(_) -> $t = $from;
                from(cell.load(Ordering::Acquire))
            }
            #[inline]
            fn store(cell: &$cell, value: Self) {
                let to: fn($t) -> _ = $to;
                cell.store(to(value), Ordering::Release);
            }
            #[inline]
            fn swap(cell: &$cell, value: Self) -> Self {
                let (to, from): (fn($t) -> _, fn(_) -> $t) = ($to, $from);
                from(cell.swap(to(value), Ordering::AcqRel))
            }
            #[inline]
            fn compare_exchange(cell: &$cell, current: Self, new: Self) -> Result<Self, Self> {
                let (to, from): (fn($t) -> _, fn(_) -> $t) = ($to, $from);
                let mut expected = to(current);
                loop {
                    let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
                    match cell.compare_exchange(expected, to(new), success, failure) {
                        Ok(old) => return Ok(from(old)),
                        // Bits that no store of ours leaves (a `bool` of 2) stand for a value too.
                        Err(seen) if seen != expected && to(from(seen)) == to(current) => {
                            expected = seen;
                        }
                        Err(seen) => return Err(from(seen)),
                    }
                }
            }
        }
    };
}

macro_rules! integers {
    ($($t:ty: $cell:ty),*) => {$(
        atomic!($t, $cell, |value| value, |bits| bits);
        impl AtomicNumber for $t {
            #[inline]
            fn fetch_add(cell: &$cell, value: Self) -> Self {
                if mutant("AtomicValue::AddsByLoadAndStore") {
                    let old = cell.load(Ordering::Acquire);
                    cell.store(old.wrapping_add(value), Ordering::Release);
                    return old;
                }
                cell.fetch_add(value, Ordering::AcqRel)
            }
            #[inline]
            fn fetch_sub(cell: &$cell, value: Self) -> Self {
                cell.fetch_sub(value, Ordering::AcqRel)
            }
        }
    )*};
}

macro_rules! floats {
    ($($t:ty: $cell:ty),*) => {$(
        atomic!($t, $cell, <$t>::to_bits, <$t>::from_bits);
        impl AtomicNumber for $t {
            #[inline]
            fn fetch_add(cell: &$cell, value: Self) -> Self {
                // Relaxed: the exchange decides.
                let mut seen = Self::from_bits(cell.load(Ordering::Relaxed));
                loop {
                    match Self::compare_exchange(cell, seen, seen + value) {
                        Ok(old) => return old,
                        Err(now) => seen = now,
                    }
                }
            }
            #[inline]
            fn fetch_sub(cell: &$cell, value: Self) -> Self {
                Self::fetch_add(cell, -value)
            }
        }
    )*};
}

integers!(u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64);
integers!(i8: AtomicI8, i16: AtomicI16, i32: AtomicI32, i64: AtomicI64);
floats!(f32: AtomicU32, f64: AtomicU64);
atomic!(bool, AtomicU8, u8::from, |bits| bits != 0);
