//! A reader-writer lock over data that lives in shared memory.
//!
//! Payload, kind `RWLK`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 64 | head: the writers' gate, `writer`, `state`, number of reader slots (`raw_rwlock`) |
//! | 64 | 64 each | reader slots |
//! | behind, aligned for `T` | size of `T` | the data |
//!
//! INV-W1 of `raw_rwlock`: the data is written by whoever holds all slots, and read by whoever holds one.
//! Peer death: a dead reader's slot is free again; a dead writer's lock too, and the next one to
//! come is told, if it died in its section.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, align_of, size_of};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::fork::Origin;
use shm_core::{Error, Kind, Place, Segment, Spec};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::create_error::CreateError;
use crate::error::{Cause, Guarded, LockError, LockFailure};
use crate::mutex::LockResult;
use crate::patience::Patience;
use crate::raw_mutex::RawInspect as Inspection;
use crate::raw_rwlock::{RawRwLock, RwHead};
use crate::slot::{MAX_SLOTS, Slot};

/// A reader-writer lock that processes share, with the data it protects; a handle that is cheap to
/// clone.
///
/// Many read at a time, or one writes. A reader takes one of the lock's slots (64, or as many as it was
/// created with), each on a cache line of its own, so that readers on different processors do not
/// disturb each other and reading costs what a [`Mutex`](crate::Mutex) costs that nobody else wants. A
/// writer takes all slots, one after the other: the lock is for data that is read far more often than
/// written.
///
/// `T` has no padding, no pointers, every bit pattern is a value of it, and it may be read by several
/// threads at a time.
///
/// # Who goes first
/// A writer that waits holds new readers back: it waits for the readers of the moment only. Writers
/// and held-back readers line up at a [`Mutex`](crate::Mutex) and are served as there.
///
/// A thread that reads may read again without waiting, even if a writer waits: the guards are
/// counted in one slot. To write while one reads, or to read or write while one writes, is
/// [`LockFailure::Deadlock`] (for the `try_` forms: `WouldBlock`).
///
/// One reader more than there are slots waits until one is free; it may take a millisecond for each
/// slot to notice that. `try_read` then says [`LockFailure::WouldBlock`].
///
/// # Limits
/// A writer holds the slots and one lock more (65 by default) of the 2000 that one thread may hold.
///
/// # Peer death
/// A reader killed at any instruction changes nothing for the others: the kernel frees its slot. A writer
/// killed while it collects the slots, too. One that is killed while it has them leaves the data perhaps
/// half-way through a change: the next writer gets [`LockError::OwnerDied`] and repairs it, and until
/// then readers get [`LockFailure::NeedsRepair`]. [`read_or_repair`](Self::read_or_repair) does both.
///
/// # Memory ordering
/// A writer's unlocking happens before every later locking, a reader's before every later writer's
/// locking, in whichever process.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::RwLock;
///
/// # let name = format!("doc-rwlock-{}", std::process::id());
/// let limits = RwLock::create(Place::named(&name).unlink_on_drop(true), [10_u32, 20])?;
///
/// // In every other process:
/// let limits = RwLock::<[u32; 2]>::open(&name)?;
/// let reader = limits.read_or_repair(|limits, _| *limits = [0, 0])?;
/// assert!(reader[0] <= reader[1]);
/// drop(reader);
///
/// let mut writer = limits.write_or_repair(|limits, _| *limits = [0, 0])?;
/// *writer = [15, 30];
/// let reader = writer.downgrade(); // and nobody has written in between
/// assert_eq!(*reader, [15, 30]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RwLock<T> {
    segment: Segment,
    head: NonNull<RwHead>,
    slots: NonNull<[Slot]>,
    data: NonNull<T>,
}

// SAFETY: threads have `&T` at the same time (Sync) and `&mut T` one after another (Send); the
// pointers lead into the segment, which the handle keeps mapped.
unsafe impl<T: Send + Sync> Send for RwLock<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            head: self.head,
            slots: self.slots,
            data: self.data,
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + Sync + 'static> RwLock<T> {
    /// Reader slots of a lock for which nothing else was said.
    pub const DEFAULT_READERS: u32 = 64;
    /// The most reader slots that a lock can have.
    pub const MAX_READERS: u32 = MAX_SLOTS;

    const SLOTS: usize = size_of::<RwHead>();
    /// A payload of higher alignment starts later.
    const SLACK: usize = if align_of::<T>() > 64 {
        align_of::<T>()
    } else {
        0
    };

    const fn data(readers: usize) -> usize {
        (Self::SLOTS + readers * size_of::<Slot>()).next_multiple_of(align_of::<T>())
    }

    /// Bytes that a region must have for a lock of this type with `readers` slots, of which at
    /// most [`MAX_READERS`](Self::MAX_READERS) are counted.
    #[must_use]
    pub const fn region_size(readers: u32) -> usize {
        let readers = if readers > MAX_SLOTS {
            MAX_SLOTS
        } else {
            readers
        };
        shm_core::HEADER_SIZE + Self::data(readers as usize) + size_of::<T>() + Self::SLACK
    }

    /// Bytes that a region must have for a lock of this type with
    /// [`DEFAULT_READERS`](Self::DEFAULT_READERS).
    pub const REGION_SIZE: usize = Self::region_size(Self::DEFAULT_READERS);

    fn spec(readers: u32) -> Spec {
        let size = Self::data(readers as usize) + size_of::<T>();
        Spec::new(Kind(*b"RWLK"), 1, size as u64)
            .label("RwLock")
            .locked()
            .of_type::<T>()
            .align(align_of::<T>() as u32)
    }

    fn init(segment: &Segment, readers: u32, value: &[u8]) -> Result<(), Error> {
        segment.write(RwHead::READERS, &readers.to_ne_bytes())?;
        segment.write(Self::data(readers as usize), value)
    }

    /// Creates a lock with [`DEFAULT_READERS`](Self::DEFAULT_READERS) slots, unlocked.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>, mut value: T) -> Result<Self, Error> {
        let readers = Self::DEFAULT_READERS;
        let value = &*value.as_mut_bytes();
        let init = |segment: &Segment| Self::init(segment, readers, value);
        Self::attach(Segment::create_with(place, Self::spec(readers), init)?)
    }

    /// Creates a lock with `readers` slots, unlocked.
    ///
    /// # Errors
    /// [`CreateError::Zero`], [`CreateError::TooMany`] beyond [`MAX_READERS`](Self::MAX_READERS);
    /// [`CreateError::Segment`] as [`Segment::create`].
    pub fn create_for(
        place: impl Into<Place>,
        mut value: T,
        readers: u32,
    ) -> Result<Self, CreateError> {
        let readers = CreateError::check(readers, Self::MAX_READERS)?;
        let value = &*value.as_mut_bytes();
        let init = |segment: &Segment| Self::init(segment, readers, value);
        let segment = Segment::create_with(place, Self::spec(readers), init)?;
        Ok(Self::attach(segment)?)
    }

    /// Opens a lock that exists, with however many slots.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec(1))?)
    }

    /// Opens a lock, or creates it with `value` and [`DEFAULT_READERS`](Self::DEFAULT_READERS)
    /// slots; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>, mut value: T) -> Result<Self, Error> {
        let place = place.into();
        let readers = Self::DEFAULT_READERS;
        let value = &*value.as_mut_bytes();
        let init = |segment: &Segment| Self::init(segment, readers, value);
        Self::attach(Segment::open_or_create_with(
            place,
            Self::spec(readers),
            init,
        )?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let head = NonNull::from(segment.view::<RwHead>(0)?);
        // Read once, checked below.
        // SAFETY: a view of `segment`, made just now.
        let readers = unsafe { head.as_ref() }.readers();
        let corrupt = || Error::Corrupt {
            segment: segment.name().to_owned(),
            field: "number of reader slots",
            value: u64::from(readers),
        };
        if !(1..=MAX_SLOTS).contains(&readers) {
            return Err(corrupt());
        }
        let count = readers as usize;
        let slots = segment
            .at(Self::SLOTS, count * size_of::<Slot>())
            .map_err(|_| corrupt())?;
        let data = segment
            .at(Self::data(count), size_of::<T>())
            .map_err(|_| corrupt())?
            .cast::<T>();
        if !data.is_aligned() {
            let (offset, align) = (data.addr().get() as u64, align_of::<T>() as u64);
            return Err(Error::Misaligned {
                segment: segment.name().to_owned(),
                offset,
                align,
            });
        }
        segment.watch_lock(0);
        (0..count).for_each(|slot| segment.watch_lock(Self::SLOTS + slot * size_of::<Slot>()));
        let slots = NonNull::slice_from_raw_parts(slots.cast::<Slot>(), count);
        Ok(Self {
            segment,
            head,
            slots,
            data,
        })
    }

    /// Takes the lock for reading; blocks while somebody writes or waits to write.
    ///
    /// # Errors
    /// [`LockFailure::NeedsRepair`] if a writer died or panicked in its section and nobody has repaired
    /// the data: only a writer can. [`LockFailure::NotRecoverable`], [`LockFailure::Deadlock`] (this
    /// thread writes), [`LockFailure::TooManyLocks`], [`LockFailure::Unsupported`].
    #[inline]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, LockFailure> {
        self.acquire_read(Patience::Endless)
    }

    /// As [`read`](Self::read); never blocks.
    ///
    /// # Errors
    /// [`LockFailure::WouldBlock`], also if there are as many readers as slots; and those of
    /// [`read`](Self::read).
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, LockFailure> {
        self.acquire_read(Patience::None)
    }

    /// As [`read`](Self::read); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`LockFailure::Timeout`], and those of [`read`](Self::read).
    pub fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard<'_, T>, LockFailure> {
        self.acquire_read(timeout.into())
    }

    /// As [`read`](Self::read); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`LockFailure::Timeout`], and those of [`read`](Self::read).
    pub fn read_deadline(&self, deadline: Instant) -> Result<RwLockReadGuard<'_, T>, LockFailure> {
        self.acquire_read(deadline.into())
    }

    /// As [`read`](Self::read). If a writer left the data to be repaired, writes first, has `repair`
    /// mend it, and reads on without another writer in between.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), but never for want of a repair.
    pub fn read_or_repair(
        &self,
        repair: impl FnOnce(&mut T, Cause),
    ) -> Result<RwLockReadGuard<'_, T>, LockFailure> {
        match self.read() {
            Err(LockFailure::NeedsRepair(_)) => Ok(self.write_or_repair(repair)?.downgrade()),
            other => other,
        }
    }

    /// Takes the lock for writing; blocks until nobody else has it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] and [`LockError::Poisoned`] (the last writer died, panicked), with the
    /// lock held; [`LockError::NotRecoverable`], [`LockError::Deadlock`] (this thread reads or
    /// writes), [`LockError::TooManyLocks`], [`LockError::Unsupported`].
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.acquire_write(Patience::Endless)
    }

    /// As [`write`](Self::write); never blocks.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], and those of [`write`](Self::write).
    pub fn try_write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.acquire_write(Patience::None)
    }

    /// As [`write`](Self::write); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`write`](Self::write).
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.acquire_write(timeout.into())
    }

    /// As [`write`](Self::write); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`write`](Self::write).
    pub fn write_deadline(&self, deadline: Instant) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.acquire_write(deadline.into())
    }

    /// As [`write`](Self::write), with `repair` run on the data if the last writer died or panicked.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), but never for want of a repair.
    pub fn write_or_repair(
        &self,
        repair: impl FnOnce(&mut T, Cause),
    ) -> Result<RwLockWriteGuard<'_, T>, LockFailure> {
        LockError::repaired(self.write(), repair)
    }

    /// Who writes and who reads: for people; it may be over when it is read. Looks at every slot.
    #[must_use]
    pub fn inspect(&self) -> RwLockInspection {
        let raw = self.raw();
        let readers = raw.slots().iter().map(|slot| slot.raw().inspect());
        let writer = raw.inspect_gate();
        RwLockInspection {
            slots: raw.slots().len(),
            // A writer has all the slots, or some of them already.
            readers: readers
                .filter(|slot| slot.owner_tid != 0 && slot.owner_tid != writer.owner_tid)
                .collect(),
            writer,
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
    fn acquire_read(&self, patience: Patience) -> Result<RwLockReadGuard<'_, T>, LockFailure> {
        // SAFETY: the guard borrows `self`, which keeps the lock mapped where it is; for a guard that
        // is forgotten, the segment keeps its memory (`watch_lock`).
        let slot = unsafe { self.raw().read(patience) }?;
        Ok(RwLockReadGuard {
            lock: self,
            slot,
            origin: Origin::here(),
            not_send: PhantomData,
        })
    }

    fn acquire_write(&self, patience: Patience) -> LockResult<RwLockWriteGuard<'_, T>> {
        // SAFETY: as in `acquire_read`.
        let acquired = unsafe { self.raw().write(patience) }?;
        let panicking = std::thread::panicking();
        LockError::report(
            RwLockWriteGuard {
                lock: self,
                panicking,
                origin: Origin::here(),
                not_send: PhantomData,
            },
            acquired,
        )
    }
}

impl<T> RwLock<T> {
    #[inline]
    fn raw(&self) -> RawRwLock<'_> {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as `self.segment` (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        let head = unsafe { self.head.as_ref() };
        // SAFETY: as above, checked by `attach`; slots of 64 bytes behind a head of 64.
        let slots = unsafe { self.slots.as_ref() };
        RawRwLock::new(head, slots)
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("segment", &self.segment.name())
            .field("writer", &self.raw().inspect_gate())
            .finish_non_exhaustive()
    }
}

/// What [`RwLock::inspect`] saw. Its parts need not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RwLockInspection {
    /// Who writes, or waits for the readers to finish; how many wait behind it; what is known of the data.
    pub writer: Inspection,
    /// Who reads: one for each slot that is taken, however many guards a reader has.
    pub readers: Vec<Inspection>,
    /// How many can read at a time.
    pub slots: usize,
}

/// The lock, held for reading: gives shared access to the data; dropping it unlocks.
///
/// It belongs to its thread and is not `Send`. In a forked child it is inert.
#[must_use = "dropping the guard unlocks"]
pub struct RwLockReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    slot: usize,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY:
        // - in bounds and aligned, as `attach` checked; mapped as long as the lock (INV-S1);
        // - no writer: we hold a slot (INV-W1);
        // - any bytes are a value: `T: FromBytes` where locks are made.
        unsafe { self.lock.data.as_ref() }
    }
}

impl<T> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: the slot was given to this guard.
            unsafe { self.lock.raw().unlock_read(self.slot) };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The lock, held for writing: gives access to the data; dropping it unlocks.
///
/// It belongs to its thread and is not `Send`. Dropped while its thread panics, it poisons the
/// lock. In a forked child it is inert.
#[must_use = "dropping the guard unlocks"]
pub struct RwLockWriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    /// Whether the thread was panicking already when it locked.
    panicking: bool,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T> RwLockWriteGuard<'a, T> {
    /// Goes on reading: lets other readers in, and no writer in between.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        let Self { lock, origin, .. } = *ManuallyDrop::new(self);
        let slot = match origin.is_here() {
            // SAFETY: this guard, which is not dropped, is the one that the lock was given to.
            true => unsafe { lock.raw().downgrade() },
            // Inert, as this one was.
            false => 0,
        };
        RwLockReadGuard {
            lock,
            slot,
            origin,
            not_send: PhantomData,
        }
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: as for the read guard; we hold all slots (INV-W1).
        unsafe { self.lock.data.as_ref() }
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let mut data = self.lock.data;
        // SAFETY: as in `deref`; no reader (INV-W1), and no other reference: this guard is borrowed
        // mutably.
        unsafe { data.as_mut() }
    }
}

impl<T> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        if !self.origin.is_here() {
            return;
        }
        let raw = self.lock.raw();
        if !self.panicking && std::thread::panicking() && raw.is_write_locked_by_me() {
            raw.mark_poisoned();
        }
        // SAFETY: this guard is the one that the lock was given to.
        unsafe { raw.unlock_write() };
    }
}

impl<T> Guarded for RwLockWriteGuard<'_, T> {
    type Data = T;

    fn data(&self) -> &T {
        self
    }

    fn data_mut(&mut self) -> &mut T {
        self
    }

    fn mark_consistent(&mut self) {
        if self.origin.is_here() {
            self.lock.raw().mark_consistent();
        }
    }

    fn mark_not_recoverable(&mut self) {
        if self.origin.is_here() {
            self.lock.raw().mark_not_recoverable();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
