//! A value that many read and few write: readers take no lock, write nothing, and wait for nobody.
//!
//! Payload, kind `SEQV`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 48 | [`RawMutex`] of the writers |
//! | 48 | 4 | `bell`: futex; one more whenever a writer wakes those who wait for a change |
//! | 52 | 12 | reserved |
//! | 64 | 8 | `version`: number of commits (63 bits), bit 63 `WAITERS` |
//! | 72, aligned for `T` | size of `T` | slot 0 |
//! | each behind the other, aligned for `T` and 8 | size of `T` | slots 1, 2, 3 |
//!
//! The value is in slot `version % 4`. How a version commits and how readers validate: `version.rs`.
//! The lock of the writers and the bell lie on a cache line of their own, which readers never touch.
//!
//! With four slots a copy is torn only if three commits fall into it. With two a single one does it, and a
//! reader beside a writer that never pauses was refused more often than not.
//!
//! Peer death: as [`Value`](crate::Value). A writer killed after its commit, before it woke those who
//! wait, delays them by a slice (100 ms) at most.

use std::fmt;
use std::mem::size_of;
use std::time::{Duration, Instant};

use shm_core::sync::spin_loop;
use shm_core::{Deadline, Error, Kind, Place, Segment, Spec};
use shm_lock::{Inspection, Patience, RawMutex};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::bell::Bell;
use crate::error::ValueError;
use crate::slots::{Offsets, Slots, ValueGuard};

/// A value that many processes read and few write, a configuration for instance; a handle that is
/// cheap to clone.
///
/// Reading cannot fail, takes no lock and makes no system call: [`get`](Self::get) gives the last commit,
/// whatever the writers do, and also through a read-only attachment. Readers write no shared memory,
/// so any number of them cost one another nothing. Writers take turns.
///
/// A change is made on a private copy and committed by one instruction; a panic discards it. In
/// exchange it takes four times the memory of a `T`.
///
/// `T` has no padding, no pointers, and every bit pattern is a value of it.
///
/// # Waiting
/// [`wait_for_change`](Self::wait_for_change) sleeps until another value than a known one was committed.
/// A writer makes a system call for that only if somebody waits.
///
/// # Peer death
/// A writer killed at any instruction leaves the old value or the new one, which readers go on reading
/// without a pause. Nobody has to repair anything, and the next writer gets its turn within microseconds.
/// Who waits for a change is woken 100 ms late if the writer dies between its commit and the wake.
/// Readers and waiters leave nothing behind.
///
/// # Memory ordering
/// What a writer did before its commit is seen by whoever reads the committed value.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_value::SeqValue;
///
/// # let name = format!("doc-seq-value-{}", std::process::id());
/// let limits = SeqValue::create(Place::named(&name).unlink_on_drop(true), [10_u32, 20])?;
///
/// let reader = SeqValue::<[u32; 2]>::open_read_only(&name)?; // in another process
/// let (seen, version) = reader.get_with_version();
/// assert_eq!(seen, [10, 20]);
///
/// limits.update(|limits| limits[1] = 30)?;
/// assert_eq!(reader.wait_for_change(version), ([10, 30], version + 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SeqValue<T> {
    slots: Slots<T>,
}

impl<T> Clone for SeqValue<T> {
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + Sync + 'static> SeqValue<T> {
    const ALIGN: usize = Slots::<T>::ALIGN;
    const OFFSETS: Offsets = Offsets {
        version: 64,
        slots: (64 + 8_usize).next_multiple_of(Self::ALIGN),
        count: 4,
        bell: Some(size_of::<RawMutex>()),
    };
    const SIZE: usize = Self::OFFSETS.slots + 3 * Slots::<T>::STRIDE + size_of::<T>();

    /// Bytes that a region must have for a value of this type.
    pub const REGION_SIZE: usize =
        shm_core::HEADER_SIZE + Self::SIZE + if Self::ALIGN > 64 { Self::ALIGN } else { 0 };

    fn spec() -> Spec {
        Spec::new(Kind(*b"SEQV"), 1, Self::SIZE as u64)
            .label("SeqValue")
            .locked()
            .of_type::<T>()
            .align(Self::ALIGN as u32)
    }

    /// Creates a value; its version is 0.
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

    /// The value of the last commit. Never blocks, writes nothing.
    ///
    /// It looks again only if three writers committed while it copied the value: so what keeps it busy is
    /// that others get on, and a writer that is stopped or dead, wherever it was, does not.
    #[inline]
    #[must_use]
    pub fn get(&self) -> T {
        self.get_with_version().0
    }

    /// As [`get`](Self::get), with the version of that value: how many commits were made.
    #[inline]
    #[must_use]
    pub fn get_with_version(&self) -> (T, u64) {
        loop {
            if let Some(seen) = self.slots.look() {
                return seen;
            }
            spin_loop();
        }
    }

    /// How many commits were made: 0 for a value as it was created. One load.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.slots.version().number()
    }

    /// Blocks until the version is another one than `since`, and gives the value and its version. Versions
    /// that were overtaken meanwhile are not shown.
    ///
    /// A read-only attachment cannot tell the writers that it waits, and looks every 10 ms.
    pub fn wait_for_change(&self, since: u64) -> (T, u64) {
        while !self.wait_once(since, None) {}
        self.get_with_version()
    }

    /// As [`wait_for_change`](Self::wait_for_change), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`ValueError::Timeout`].
    pub fn wait_for_change_timeout(
        &self,
        since: u64,
        timeout: Duration,
    ) -> Result<(T, u64), ValueError> {
        self.wait_until(since, Deadline::after(timeout))
    }

    /// As [`wait_for_change`](Self::wait_for_change), until `deadline` at most.
    ///
    /// # Errors
    /// [`ValueError::Timeout`].
    pub fn wait_for_change_deadline(
        &self,
        since: u64,
        deadline: Instant,
    ) -> Result<(T, u64), ValueError> {
        self.wait_until(since, Deadline::at(deadline))
    }

    fn wait_until(&self, since: u64, deadline: Deadline) -> Result<(T, u64), ValueError> {
        while !self.wait_once(since, Some(deadline)) {
            // A change that came with the deadline is a change.
            if deadline.is_past() && self.version() == since {
                return Err(ValueError::Timeout);
            }
        }
        Ok(self.get_with_version())
    }

    /// One look, and one sleep if the version is still `since`.
    fn wait_once(&self, since: u64, deadline: Option<Deadline>) -> bool {
        let (version, bell) = (self.slots.version(), self.bell());
        if self.slots.segment().is_read_only() {
            version.glance(since, bell, deadline)
        } else {
            version.wait_once(since, bell, deadline)
        }
    }

    fn bell(&self) -> &Bell {
        self.slots.bell().expect("OFFSETS has one")
    }

    /// How many sleep until the value changes: for people; it may be over when it is read.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.bell().sleepers()
    }

    /// Replaces the value; blocks while another writes.
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
        self.write(Patience::Endless)
    }

    /// As [`lock`](Self::lock), without blocking.
    ///
    /// # Errors
    /// [`ValueError::WouldBlock`], and those of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, ValueError> {
        self.write(Patience::None)
    }

    /// As [`lock`](Self::lock), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, ValueError> {
        self.write(timeout.into())
    }

    /// As [`lock`](Self::lock), until `deadline` at most.
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ValueGuard<'_, T>, ValueError> {
        self.write(deadline.into())
    }

    #[inline]
    fn write(&self, patience: Patience) -> Result<ValueGuard<'_, T>, ValueError> {
        self.slots.take_writable(patience).map(ValueGuard::new)
    }

    /// Who writes, how many wait for their turn to write, and since when somebody has had to: for people; it
    /// may be over when it is read.
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

impl<T> fmt::Debug for SeqValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeqValue")
            .field("segment", &self.slots.segment().name())
            .finish_non_exhaustive()
    }
}
