//! Numbers in a row, each of which every process changes by one instruction, without a lock.
//!
//! Payload, kind `ATAR`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 8 | `len`: number of elements; never changes |
//! | 64 | `len` times 1 to 8 | the elements, each as the number of an [`AtomicValue`](crate::AtomicValue) |
//!
//! Peer death: each operation is one instruction on one element; it happened or it did not. What belongs
//! together in several elements needs an [`Array`](crate::Array).

use std::fmt;
use std::ptr::NonNull;

use shm_core::sync::{AtomicU64, Ordering};
use shm_core::{Error, Field, Kind, Place, Segment, Spec};

use crate::atomic_value::{Atomic, AtomicNumber};
use crate::error::ValueError;

const ELEMENTS: usize = 64;

/// An array of atomic numbers or flags that processes share; a handle that is cheap to clone.
///
/// `T` is an integer of 8 to 64 bits, `f32`, `f64` or `bool`. Elements are neighbours: processes that change
/// elements of the same 64 bytes disturb each other's caches, and nothing else.
///
/// # Memory ordering
/// For each element as for [`AtomicValue`](crate::AtomicValue).
///
/// # Peer death
/// Nothing can be left half done.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_value::AtomicArray;
///
/// # let name = format!("doc-atomic-array-{}", std::process::id());
/// let votes = AtomicArray::<u32>::zeroed(Place::named(&name).unlink_on_drop(true), 3)?;
/// let peer = AtomicArray::<u32>::open(&name)?; // in another process
/// peer.element(2)?.fetch_add(1);
/// assert_eq!(votes.load(2)?, 1);
/// assert_eq!(votes.to_vec(), [0, 0, 1]);
/// assert!(votes.element(3).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AtomicArray<T: Atomic> {
    reader: AtomicArrayReader<T>,
}

/// An array of atomic numbers that this process may only read ([`AtomicArray::open_read_only`]).
pub struct AtomicArrayReader<T: Atomic> {
    segment: Segment,
    elements: NonNull<[T::Cell]>,
}

// SAFETY: the elements are atomics in the segment, which the handle keeps mapped.
unsafe impl<T: Atomic> Send for AtomicArrayReader<T> {}
// SAFETY: as for Send.
unsafe impl<T: Atomic> Sync for AtomicArrayReader<T> {}

impl<T: Atomic> Clone for AtomicArrayReader<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            elements: self.elements,
        }
    }
}

impl<T: Atomic> Clone for AtomicArray<T> {
    fn clone(&self) -> Self {
        Self {
            reader: self.reader.clone(),
        }
    }
}

impl<T: Atomic> AtomicArrayReader<T> {
    fn attach(segment: Segment) -> Result<Self, Error> {
        // Relaxed: never changes after publication. Read once, checked below.
        let len = segment.view::<AtomicU64>(0)?.load(Ordering::Relaxed);
        let corrupt = || Error::Corrupt {
            segment: segment.name().to_owned(),
            field: "array length",
            value: len,
        };
        let count = usize::try_from(len).map_err(|_| corrupt())?;
        let bytes = count
            .checked_mul(size_of::<T::Cell>())
            .ok_or_else(corrupt)?;
        // The payload is aligned to 64, and so are the elements, which need 8 at most.
        let first = segment.at(ELEMENTS, bytes).map_err(|_| corrupt())?;
        let elements = NonNull::slice_from_raw_parts(first.cast::<T::Cell>(), count);
        Ok(Self { segment, elements })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One element now (Acquire).
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`].
    pub fn load(&self, index: usize) -> Result<T, ValueError> {
        self.cell(index).map(T::load)
    }

    /// The elements, each loaded (Acquire) when the iterator comes to it: not a picture of one instant.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.cells().iter().map(T::load)
    }

    /// The elements, one loaded after the other: not a picture of one instant.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().collect()
    }

    /// The segment it lives in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    fn cell(&self, index: usize) -> Result<&T::Cell, ValueError> {
        let len = self.len();
        let out = ValueError::OutOfRange { index, len };
        self.cells().get(index).ok_or(out)
    }

    fn cells(&self) -> &[T::Cell] {
        // SAFETY:
        // - in bounds and aligned, as `attach` checked; mapped as long as the segment (INV-S1);
        // - other writers: they are atomics; any bytes are a value.
        unsafe { self.elements.as_ref() }
    }
}

impl<T: Atomic> AtomicArray<T> {
    /// Bytes that a region must have for an array of `len` elements; `None` if there are no such
    /// regions.
    #[must_use]
    pub const fn region_size(len: usize) -> Option<usize> {
        match size_of::<T::Cell>().checked_mul(len) {
            Some(bytes) => bytes.checked_add(shm_core::HEADER_SIZE + ELEMENTS),
            None => None,
        }
    }

    fn spec(len: usize) -> Spec {
        // A size that does not fit u64 cannot be mapped either; `create` says so.
        let elements = (size_of::<T::Cell>() as u64).saturating_mul(len as u64);
        let size = elements.saturating_add(ELEMENTS as u64);
        Spec::new(Kind(*b"ATAR"), 1, size)
            .label("AtomicArray")
            .of_type::<T>()
    }

    /// Creates an array of the given elements.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>, elements: &[T]) -> Result<Self, Error> {
        let init = |segment: &Segment| {
            segment.write(0, &(elements.len() as u64).to_ne_bytes())?;
            let mut numbered = elements.iter().enumerate();
            numbered.try_for_each(|(index, &element)| {
                T::init(segment, ELEMENTS + index * size_of::<T::Cell>(), element)
            })
        };
        Self::attach(Segment::create_with(
            place,
            Self::spec(elements.len()),
            init,
        )?)
    }

    /// Creates an array of `len` elements that are zero, or `false`.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn zeroed(place: impl Into<Place>, len: usize) -> Result<Self, Error> {
        let init = |segment: &Segment| segment.write(0, &(len as u64).to_ne_bytes());
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
        let init = |segment: &Segment| segment.write(0, &(len as u64).to_ne_bytes());
        let array = Self::attach(Segment::open_or_create_with(place, Self::spec(len), init)?)?;
        if array.len() == len {
            return Ok(array);
        }
        Err(Error::Mismatch {
            segment: array.segment().name().to_owned(),
            field: Field::Length,
            expected: len.to_string(),
            found: array.len().to_string(),
        })
    }

    /// Opens an array to read it; needs only read permission.
    ///
    /// # Errors
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(place: impl Into<Place>) -> Result<AtomicArrayReader<T>, Error> {
        AtomicArrayReader::attach(Segment::open_read_only(place, Self::spec(0))?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let reader = AtomicArrayReader::attach(segment)?;
        Ok(Self { reader })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reader.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// One element, to be read and changed.
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`].
    pub fn element(&self, index: usize) -> Result<AtomicElement<'_, T>, ValueError> {
        self.reader.cell(index).map(AtomicElement)
    }

    /// All elements, to be read and changed.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = AtomicElement<'_, T>> {
        self.reader.cells().iter().map(AtomicElement)
    }

    /// One element now (Acquire).
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`].
    pub fn load(&self, index: usize) -> Result<T, ValueError> {
        self.reader.load(index)
    }

    /// Replaces one element (Release).
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`].
    pub fn store(&self, index: usize, value: T) -> Result<(), ValueError> {
        self.element(index).map(|element| element.store(value))
    }

    /// The elements, each loaded (Acquire) when the iterator comes to it: not a picture of one instant.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.reader.iter()
    }

    /// The elements, one loaded after the other: not a picture of one instant.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.reader.to_vec()
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

impl<T: Atomic + fmt::Debug> fmt::Debug for AtomicArrayReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Atomic + fmt::Debug> fmt::Debug for AtomicArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(f)
    }
}

/// One number of an [`AtomicArray`].
pub struct AtomicElement<'a, T: Atomic>(&'a T::Cell);

impl<T: Atomic> Clone for AtomicElement<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Atomic> Copy for AtomicElement<'_, T> {}

impl<T: Atomic> AtomicElement<'_, T> {
    /// The number now (Acquire).
    #[must_use]
    pub fn load(self) -> T {
        T::load(self.0)
    }

    /// Replaces the number (Release).
    pub fn store(self, value: T) {
        T::store(self.0, value);
    }

    /// Replaces the number and gives the old one (AcqRel).
    pub fn swap(self, value: T) -> T {
        T::swap(self.0, value)
    }

    /// Replaces the number if it is `current`, bit by bit (AcqRel).
    ///
    /// # Errors
    /// The number there is, if it is another one.
    pub fn compare_exchange(self, current: T, new: T) -> Result<T, T> {
        T::compare_exchange(self.0, current, new)
    }

    /// Replaces the number by what `change` makes of it, until no other process came in between;
    /// `None` leaves it. Gives the old one.
    ///
    /// # Errors
    /// The number there is, if `change` gave `None`.
    pub fn fetch_update(self, mut change: impl FnMut(T) -> Option<T>) -> Result<T, T> {
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
}

impl<T: AtomicNumber> AtomicElement<'_, T> {
    /// Adds and gives the old number (AcqRel). Integers wrap around.
    pub fn fetch_add(self, value: T) -> T {
        T::fetch_add(self.0, value)
    }

    /// Subtracts and gives the old number (AcqRel). Integers wrap around.
    pub fn fetch_sub(self, value: T) -> T {
        T::fetch_sub(self.0, value)
    }
}

impl<T: Atomic + fmt::Debug> fmt::Debug for AtomicElement<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}
