//! A mutex that its owner may lock again, over data that lives in shared memory.
//!
//! Payload, kind `RMTX`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 48 | [`RawMutex`]; its `depth` counts the guards besides the first; bit 31: a report is not settled |
//! | 48, aligned for `T` | size of `T` | the data |
//!
//! INV-N3: there is a `&mut T` only inside [`Recover`], and no other guard beside it (INV-N2 of
//! `raw_reentrant_mutex`).
//! Peer death: as for a mutex. One death is one report, however often the owner had locked.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::fork::Origin;
use shm_core::{Error, Kind, Place, Segment, Spec};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::error::{Cause, Guarded, LockError, LockFailure};
use crate::mutex::LockResult;
use crate::patience::Patience;
use crate::raw_mutex::RawInspect as Inspection;
#[cfg(doc)]
use crate::raw_mutex::RawMutex;
use crate::raw_reentrant_mutex::RawReentrantMutex;
#[cfg(doc)]
use crate::recover::Recover;

/// A mutex that the thread that holds it may lock again; a handle that is cheap to clone.
///
/// The lock is free again when the last guard of its owner is gone. The owner is a thread of a
/// process: another thread waits, and so does a forked child, which is not its parent. Only the
/// guards release, so nobody releases what another holds.
///
/// Since one thread may have several guards, they give shared access: what is to be changed lies in
/// a [`Cell`](std::cell::Cell) or an atomic. `T` has no padding, no pointers, and every bit pattern
/// is a value of it.
///
/// # Peer death
/// As for [`Mutex`](crate::Mutex): the next owner gets [`LockError::OwnerDied`], and starts with one
/// guard, however many the dead one had. Until it has settled the report (by
/// [`Recover::repair`] or [`Recover::accept`]), it cannot lock again: the repair has the data alone.
///
/// # Memory ordering
/// The last unlocking of one owner happens before the locking of the next, in whichever process.
///
/// # Examples
/// ```
/// use std::cell::Cell;
///
/// use shm_core::Place;
/// use shm_lock::ReentrantMutex;
///
/// # let name = format!("doc-reentrant-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let balance = ReentrantMutex::create(place, Cell::new(10_i64))?;
///
/// // In every other process:
/// let balance = ReentrantMutex::<Cell<i64>>::open(&name)?;
/// let deposit = |amount| -> Result<(), shm_lock::LockFailure> {
///     let balance = balance.lock()?; // locked already, if called from below
///     balance.set(balance.get() + amount);
///     Ok(())
/// };
/// let held = balance.lock_or_repair(|_, cause| eprintln!("{cause}"))?;
/// deposit(5)?;
/// assert_eq!(held.get(), 15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReentrantMutex<T> {
    segment: Segment,
    raw: NonNull<RawReentrantMutex>,
    data: NonNull<T>,
}

// SAFETY: the data is reached by one thread at a time, so `T: Send` is enough; the pointers lead
// into the segment, which the handle keeps mapped.
unsafe impl<T: Send> Send for ReentrantMutex<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send> Sync for ReentrantMutex<T> {}

impl<T> Clone for ReentrantMutex<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            raw: self.raw,
            data: self.data,
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> ReentrantMutex<T> {
    const DATA: usize = size_of::<RawReentrantMutex>().next_multiple_of(align_of::<T>());
    const SIZE: usize = Self::DATA + size_of::<T>();
    /// A payload of higher alignment starts later.
    const SLACK: usize = if align_of::<T>() > 64 {
        align_of::<T>()
    } else {
        0
    };

    /// Bytes that a region must have for a mutex of this type.
    pub const REGION_SIZE: usize = shm_core::HEADER_SIZE + Self::SIZE + Self::SLACK;

    fn spec() -> Spec {
        Spec::new(Kind(*b"RMTX"), 1, Self::SIZE as u64)
            .label("ReentrantMutex")
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
        let raw = NonNull::from(segment.view::<RawReentrantMutex>(0)?);
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

    /// Takes the lock, or takes it once more; blocks while another thread has it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] and [`LockError::Poisoned`], with the lock held, both only when it is
    /// taken and not when it is taken once more; [`LockError::Deadlock`] if this thread holds the
    /// lock with a report that it has not settled; [`LockError::NotRecoverable`],
    /// [`LockError::TooManyLocks`], [`LockError::Unsupported`].
    pub fn lock(&self) -> LockResult<ReentrantGuard<'_, T>> {
        self.acquire(Patience::Endless)
    }

    /// As [`lock`](Self::lock); never blocks.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], and those of [`lock`](Self::lock).
    pub fn try_lock(&self) -> LockResult<ReentrantGuard<'_, T>> {
        self.acquire(Patience::None)
    }

    /// As [`lock`](Self::lock); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ReentrantGuard<'_, T>> {
        self.acquire(timeout.into())
    }

    /// As [`lock`](Self::lock); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`LockError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> LockResult<ReentrantGuard<'_, T>> {
        self.acquire(deadline.into())
    }

    /// As [`lock`](Self::lock), with `repair` run on the data if the last owner died or panicked.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock), but never for want of a repair.
    pub fn lock_or_repair(
        &self,
        repair: impl FnOnce(&mut T, Cause),
    ) -> Result<ReentrantGuard<'_, T>, LockFailure> {
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
    fn acquire(&self, patience: Patience) -> LockResult<ReentrantGuard<'_, T>> {
        // SAFETY: the guard borrows `self`, which keeps the lock mapped where it is; for a guard that
        // is forgotten, the segment keeps its memory (`watch_lock`).
        match unsafe { self.raw().acquire(patience) }? {
            Some(acquired) => LockError::report(self.guard(), acquired),
            None => Ok(self.guard()),
        }
    }

    fn guard(&self) -> ReentrantGuard<'_, T> {
        ReentrantGuard {
            mutex: self,
            panicking: std::thread::panicking(),
            origin: Origin::here(),
            not_send: PhantomData,
        }
    }
}

impl<T> ReentrantMutex<T> {
    fn raw(&self) -> &RawReentrantMutex {
        // SAFETY:
        // - in bounds and aligned, as `view` checked when the handle was made; mapped as long as
        //   `self.segment` (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        unsafe { self.raw.as_ref() }
    }
}

impl<T> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.raw().inspect();
        f.debug_struct("ReentrantMutex")
            .field("segment", &self.segment.name())
            .field("state", &state)
            .finish()
    }
}

/// The lock, held, perhaps several times over: gives shared access to the data. Dropping the
/// last one unlocks.
///
/// It belongs to its thread and is not `Send`. Dropped while its thread panics, it poisons the
/// mutex: the next owner is told, once the last guard is gone. In a forked child it is inert.
#[must_use = "dropping the guard unlocks"]
pub struct ReentrantGuard<'a, T> {
    mutex: &'a ReentrantMutex<T>,
    /// Whether the thread was panicking already when it locked.
    panicking: bool,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: Sync> Sync for ReentrantGuard<'_, T> {}

impl<T> ReentrantGuard<'_, T> {
    /// How many guards of this mutex the thread has, this one included.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.mutex.raw().times()
    }
}

impl<T> Deref for ReentrantGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY:
        // - in bounds and aligned, as `attach` checked; mapped as long as the mutex (INV-S1);
        // - no other writer: this thread holds the lock, and there is no `&mut` (INV-N3);
        // - any bytes are a value: `T: FromBytes` where mutexes are made.
        unsafe { self.mutex.data.as_ref() }
    }
}

impl<T> Drop for ReentrantGuard<'_, T> {
    fn drop(&mut self) {
        if self.origin.is_here() {
            let unwinding = !self.panicking && std::thread::panicking();
            self.mutex.raw().release(unwinding);
        }
    }
}

impl<T> Guarded for ReentrantGuard<'_, T> {
    type Data = T;

    fn data(&self) -> &T {
        self
    }

    fn data_mut(&mut self) -> &mut T {
        let alone = self.mutex.raw().is_unsettled();
        assert!(alone, "only a report that is not settled gives `&mut`");
        let mut data = self.mutex.data;
        // SAFETY: as in `deref`; and no other reference: until the report is settled there is no other
        // guard (INV-N3), and this one is borrowed mutably.
        unsafe { data.as_mut() }
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

impl<T: fmt::Debug> fmt::Debug for ReentrantGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
