//! A value of any size that is never torn: two slots, and one store that says which is the value.
//!
//! Payload, kind `VALU`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 48 | [`RawMutex`] of the writers |
//! | 48 | 8 | `version`: the value is in slot `version & 1` |
//! | 56, aligned for `T` | size of `T` | slot 0 |
//! | behind, aligned for `T` and 8 | size of `T` | slot 1 |
//!
//! How a version commits and how readers validate: `version.rs`, here with two slots.
//!
//! Peer death: a writer killed before its store of `version` leaves the old value, after it the new
//! one; the lock is the kernel's to hand on. Nothing is to be repaired, nobody is told.

use std::fmt;
use std::mem::size_of;
use std::time::{Duration, Instant};

use shm_core::{Error, Kind, Place, Segment, Spec};
use shm_lock::{Inspection, Patience, RawMutex};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::error::ValueError;
use crate::slots::{Offsets, Slots, ValueGuard, look_among_writers};

/// A value that processes share; a handle that is cheap to clone.
///
/// Reading takes no lock: it gives the value of the last commit, also while somebody holds the
/// guard, and also through a read-only attachment. Writers take turns.
///
/// A guard works on a private copy; dropping it commits the copy by one store, a panic discards it.
/// So a reader never sees half a change, and neither does whoever comes after a writer's death.
///
/// `T` has no padding, no pointers, and every bit pattern is a value of it.
///
/// # Peer death
/// A writer killed at any instruction leaves the old value or the new one. Nobody has to repair
/// anything, and the next writer gets its turn within microseconds.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_value::Value;
///
/// # let name = format!("doc-value-{}", std::process::id());
/// let pi = Value::create(Place::named(&name).unlink_on_drop(true), 0.0_f64)?;
/// Value::<f64>::open(&name)?.set(3.1415927)?; // in another process
/// assert_eq!(pi.get()?, 3.1415927);
///
/// // Read, compute, write, and nobody in between: no update is lost.
/// pi.update(|value| *value *= 2.0)?;
/// # assert_eq!(pi.get()?, 6.2831854);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Value<T> {
    slots: Slots<T>,
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Value<T> {
    const ALIGN: usize = Slots::<T>::ALIGN;
    const OFFSETS: Offsets = Offsets {
        version: size_of::<RawMutex>(),
        slots: (size_of::<RawMutex>() + 8).next_multiple_of(Self::ALIGN),
        count: 2,
        bell: None,
    };
    const SIZE: usize = Self::OFFSETS.slots + Slots::<T>::STRIDE + size_of::<T>();

    /// Bytes that a region must have for a value of this type.
    pub const REGION_SIZE: usize =
        shm_core::HEADER_SIZE + Self::SIZE + if Self::ALIGN > 64 { Self::ALIGN } else { 0 };

    fn spec() -> Spec {
        Spec::new(Kind(*b"VALU"), 1, Self::SIZE as u64)
            .label("Value")
            .locked()
            .of_type::<T>()
            .align(Self::ALIGN as u32)
    }

    /// Creates a value.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>, mut value: T) -> Result<Self, Error> {
        let init = |segment: &Segment| segment.write(Self::OFFSETS.slots, value.as_mut_bytes());
        Self::attach(Segment::create_with(place, Self::spec(), init)?)
    }

    /// Opens a value that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec())?)
    }

    /// Opens a value, or creates it; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>, mut value: T) -> Result<Self, Error> {
        let bytes = value.as_mut_bytes();
        let init = |segment: &Segment| segment.write(Self::OFFSETS.slots, bytes);
        Self::attach(Segment::open_or_create_with(place, Self::spec(), init)?)
    }

    /// Opens a value to read it; needs only read permission.
    ///
    /// # Errors
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open_read_only(place, Self::spec())?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let slots = Slots::attach(segment, &Self::OFFSETS)?;
        Ok(Self { slots })
    }

    /// The value of the last commit. Takes no lock unless writers keep interfering.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock), where writers left no other way in 64 looks. A read-only
    /// attachment has no other way and goes on looking.
    #[inline]
    pub fn get(&self) -> Result<T, ValueError> {
        look_among_writers(
            self.slots.segment().is_read_only(),
            |patience| self.slots.take(patience),
            || self.slots.look().map(|(value, _)| value),
        )
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock).
    #[inline]
    pub fn set(&self, value: T) -> Result<(), ValueError> {
        self.slots.take_writable(Patience::Endless)?.commit(value);
        Ok(())
    }

    /// Reads, computes and writes with no other writer in between. If `change` panics, the value
    /// stays as it was; a child that it forks commits nothing.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock).
    #[inline]
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, ValueError> {
        self.slots.update(change)
    }

    /// Takes the writers' lock for several steps; blocks until it is free. Readers go on with the
    /// last commit meanwhile.
    ///
    /// # Errors
    /// [`ValueError::ReadOnly`], [`ValueError::Deadlock`] (this thread holds it),
    /// [`ValueError::TooManyLocks`], [`ValueError::Unsupported`].
    #[inline]
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, ValueError> {
        self.slots
            .take_writable(Patience::Endless)
            .map(ValueGuard::new)
    }

    /// As [`lock`](Self::lock), without blocking.
    ///
    /// # Errors
    /// [`ValueError::WouldBlock`], and those of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, ValueError> {
        self.slots
            .take_writable(Patience::None)
            .map(ValueGuard::new)
    }

    /// As [`lock`](Self::lock), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, ValueError> {
        self.slots
            .take_writable(timeout.into())
            .map(ValueGuard::new)
    }

    /// As [`lock`](Self::lock), until `deadline` at most.
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ValueGuard<'_, T>, ValueError> {
        self.slots
            .take_writable(deadline.into())
            .map(ValueGuard::new)
    }

    /// Who writes, how many wait, and since when somebody has had to: for people; it may be over when it is
    /// read.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        self.slots.lock().inspect()
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
        self.slots.segment()
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("segment", &self.slots.segment().name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::look_with_the_lock;

    #[test]
    fn a_reader_that_has_lost_patience_does_not_wait_for_a_guard() {
        let value = Value::create(shm_core::Region::heap(4096), 1_u32).unwrap();
        std::thread::scope(|s| {
            let (send, receive) = std::sync::mpsc::channel();
            let _guard = value.lock().unwrap();
            let slots = &value.slots;
            s.spawn(move || {
                let take = |patience| slots.take(patience);
                send.send(look_with_the_lock(false, take, || slots.look()))
            });
            let seen = receive.recv_timeout(Duration::from_secs(5));
            assert_eq!(seen, Ok(Ok((1, 0))));
        });
    }
}
