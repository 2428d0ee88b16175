//! A value that is made once, by whichever process comes first.
//!
//! Payload, kind `ONCE`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 48 | [`RawMutex`](crate::RawMutex) of whoever makes the value |
//! | 48 | 4 | `state`: 0 = not made, 1 = made |
//! | 52 | 12 | reserved |
//! | 64, aligned for `T` | size of `T` | the value |
//!
//! INV-O1 of `raw_once`: the value is whole, and not written any more, exactly if `state` is 1.
//! Peer death: nothing that is half done is ever seen.

use std::convert::Infallible;
use std::fmt;
use std::mem::{align_of, size_of};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::{Error, Kind, Place, Segment, Spec, layout};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::LockFailure;
use crate::patience::Patience;
use crate::raw_mutex::{RawInspect as Inspection, RawLockError};
use crate::raw_once::RawOnce;

/// A value that processes make once and then only read; a handle that is cheap to clone.
///
/// Whoever needs it first makes it, the others wait for that. From then on reading is one load, and
/// gives a reference into the shared memory.
///
/// `T` has no padding, no pointers, no interior mutability, and every bit pattern is a value of it.
///
/// # Peer death
/// If the process that makes the value is killed, or its initialiser panics, it is as if it had not
/// begun: one of those who wait, or the next to come, makes the value.
///
/// # Memory ordering
/// Making the value happens before every reading.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::OnceValue;
///
/// # let name = format!("doc-once-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let primes = OnceValue::<[u32; 4]>::open_or_create(place)?;
/// assert_eq!(primes.get(), None);
/// let made = primes.get_or_init(|| [2, 3, 5, 7])?;
/// assert_eq!(made[3], 7);
///
/// let peer = OnceValue::<[u32; 4]>::open_read_only(&name)?; // in another process
/// assert_eq!(peer.get(), Some(&[2, 3, 5, 7]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OnceValue<T> {
    segment: Segment,
    raw: NonNull<RawOnce>,
    value: NonNull<T>,
}

// SAFETY: a T is moved in by one thread and read by many; the pointers lead into the segment, which
// the handle keeps mapped.
unsafe impl<T: Send + Sync> Send for OnceValue<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send + Sync> Sync for OnceValue<T> {}

impl<T> Clone for OnceValue<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            raw: self.raw,
            value: self.value,
        }
    }
}

/// Why nothing was initialised: a lock that was not to be had, or the initialiser's own error.
enum Not<E> {
    Locked(RawLockError),
    Made(E),
}

impl<E> From<RawLockError> for Not<E> {
    fn from(error: RawLockError) -> Self {
        Self::Locked(error)
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + Sync + 'static> OnceValue<T> {
    const VALUE: usize = size_of::<RawOnce>().next_multiple_of(align_of::<T>());
    const SIZE: usize = Self::VALUE + size_of::<T>();

    /// Bytes that a region must have for a value of this type.
    pub const REGION_SIZE: usize = shm_core::HEADER_SIZE + Self::SIZE + Self::SLACK;
    /// A payload of higher alignment starts later.
    const SLACK: usize = if align_of::<T>() > 64 {
        align_of::<T>()
    } else {
        0
    };

    fn spec() -> Spec {
        Spec::new(Kind(*b"ONCE"), 1, Self::SIZE as u64)
            .label("OnceValue")
            .locked()
            .of_type::<T>()
            .align(align_of::<T>() as u32)
    }

    /// Creates a place for a value, which is not made yet.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::create(place, Self::spec())?)
    }

    /// Opens one that exists, its value made or not.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec())?)
    }

    /// Opens one, or creates it; whoever is first creates it. Who makes the value is another question.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open_or_create(place, Self::spec())?)
    }

    /// Opens one to read it; needs only read permission.
    ///
    /// # Errors
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open_read_only(place, Self::spec())?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let raw = NonNull::from(segment.view::<RawOnce>(0)?);
        let value = segment.at(Self::VALUE, size_of::<T>())?.cast::<T>();
        if !value.is_aligned() {
            let (offset, align) = (value.addr().get() as u64, align_of::<T>() as u64);
            return Err(Error::Misaligned {
                segment: segment.name().to_owned(),
                offset,
                align,
            });
        }
        segment.watch_lock(0);
        Ok(Self {
            segment,
            raw,
            value,
        })
    }

    /// The value, if it is made. Never blocks.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        if !self.raw().is_done() {
            return None;
        }
        // SAFETY:
        // - in bounds and aligned, as `attach` checked; mapped as long as `self` (INV-S1);
        // - no writer any more: it is done (INV-O1), and `T: Immutable`;
        // - any bytes are a value: `T: FromBytes`.
        Some(unsafe { self.value.as_ref() })
    }

    /// The value; makes it by `init` if nobody has. Blocks while another makes it.
    ///
    /// # Errors
    /// [`LockFailure::Deadlock`] if called from `init` itself; [`LockFailure::WouldBlock`] in a child that
    /// `init` forked, where nothing is written: its parent makes the value; [`LockFailure::ReadOnly`] if it
    /// is not made and the attachment is read-only; [`LockFailure::TooManyLocks`],
    /// [`LockFailure::Unsupported`].
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> Result<&T, LockFailure> {
        self.init(Patience::Endless, init)
    }

    /// As [`get_or_init`](Self::get_or_init); never waits for another's `init`.
    ///
    /// # Errors
    /// [`LockFailure::WouldBlock`] if another is making it, and those of
    /// [`get_or_init`](Self::get_or_init).
    pub fn try_get_or_init(&self, init: impl FnOnce() -> T) -> Result<&T, LockFailure> {
        self.init(Patience::None, init)
    }

    /// As [`get_or_init`](Self::get_or_init); waits for another's `init` for at most `timeout`
    /// (CLOCK_MONOTONIC). How long its own takes is up to `init`.
    ///
    /// # Errors
    /// [`LockFailure::Timeout`], and those of [`get_or_init`](Self::get_or_init).
    pub fn get_or_init_timeout(
        &self,
        timeout: Duration,
        init: impl FnOnce() -> T,
    ) -> Result<&T, LockFailure> {
        self.init(timeout.into(), init)
    }

    /// As [`get_or_init_timeout`](Self::get_or_init_timeout), until `deadline` at most.
    ///
    /// # Errors
    /// [`LockFailure::Timeout`], and those of [`get_or_init`](Self::get_or_init).
    pub fn get_or_init_deadline(
        &self,
        deadline: Instant,
        init: impl FnOnce() -> T,
    ) -> Result<&T, LockFailure> {
        self.init(deadline.into(), init)
    }

    /// As [`get_or_init`](Self::get_or_init), with an `init` that can fail. If it does, it is left to
    /// the next one.
    ///
    /// # Errors
    /// Outside, those of [`get_or_init`](Self::get_or_init); inside, that of `init`.
    pub fn get_or_try_init<E>(
        &self,
        init: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<&T, E>, LockFailure> {
        self.try_init(Patience::Endless, init)
    }

    /// As [`get_or_try_init`](Self::get_or_try_init); waits for another's `init` for at most `timeout`
    /// (CLOCK_MONOTONIC); zero: not at all.
    ///
    /// # Errors
    /// Outside, [`LockFailure::Timeout`] and those of [`get_or_init`](Self::get_or_init); inside, that of `init`.
    pub fn get_or_try_init_timeout<E>(
        &self,
        timeout: Duration,
        init: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<&T, E>, LockFailure> {
        self.try_init(timeout.into(), init)
    }

    /// As [`get_or_try_init_timeout`](Self::get_or_try_init_timeout), until `deadline` at most.
    ///
    /// # Errors
    /// As [`get_or_try_init_timeout`](Self::get_or_try_init_timeout).
    pub fn get_or_try_init_deadline<E>(
        &self,
        deadline: Instant,
        init: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<&T, E>, LockFailure> {
        self.try_init(deadline.into(), init)
    }

    fn init(&self, patience: Patience, init: impl FnOnce() -> T) -> Result<&T, LockFailure> {
        let made = self.try_init(patience, || Ok::<_, Infallible>(init()))?;
        Ok(made.unwrap_or_else(|never| match never {}))
    }

    fn try_init<E>(
        &self,
        patience: Patience,
        init: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<&T, E>, LockFailure> {
        if let Some(value) = self.get() {
            return Ok(Ok(value));
        }
        if self.segment.is_read_only() {
            return Err(LockFailure::ReadOnly);
        }
        let write = |mut value: T| {
            let bytes = value.as_mut_bytes();
            // SAFETY:
            // - in bounds, as `attach` checked; mapped writable as long as `self` (INV-S1);
            // - nobody else writes: `call` runs one `write` at a time; nobody reads: it is not done (INV-O1).
            unsafe {
                layout::store_bytes(self.value.as_ptr().cast(), bytes.as_ptr(), bytes.len());
            }
        };
        let make = || init().map_err(Not::Made);
        // SAFETY: `self` keeps the lock mapped where it is, and the lock is released before `call` ends.
        match unsafe { self.raw().call(patience, make, write) } {
            Ok(()) => Ok(Ok(self.get().expect("done just now"))),
            Err(Not::Made(error)) => Ok(Err(error)),
            Err(Not::Locked(error)) => Err(error.into()),
        }
    }

    /// Who is making the value, how many wait, and since when somebody has had to: for people; it may be
    /// over when it is read.
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
}

impl<T> OnceValue<T> {
    #[inline]
    fn raw(&self) -> &RawOnce {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as `self.segment` (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        unsafe { self.raw.as_ref() }
    }
}

impl<T> fmt::Debug for OnceValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceValue")
            .field("segment", &self.segment.name())
            .field("made", &self.raw().is_done())
            .finish()
    }
}

/// Something that is done once, by whichever process comes first; a handle that is cheap to clone.
///
/// As [`OnceValue`], without a value: for what is kept elsewhere.
///
/// # Peer death
/// If the process that does it is killed, or panics, the next one does it from the start. So what is
/// done must bear to be begun twice.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::Once;
///
/// # let name = format!("doc-once-plain-{}", std::process::id());
/// let migrated = Once::open_or_create(Place::named(&name).unlink_on_drop(true))?;
/// let mut runs = 0;
/// migrated.call_once(|| runs += 1)?;
/// migrated.call_once(|| runs += 1)?; // in whichever process
/// assert!(migrated.is_completed());
/// assert_eq!(runs, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Once(OnceValue<()>);

impl Once {
    /// Bytes that a region must have for it.
    pub const REGION_SIZE: usize = OnceValue::<()>::REGION_SIZE;

    /// Creates one, not done.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>) -> Result<Self, Error> {
        OnceValue::create(place).map(Self)
    }

    /// Opens one that exists, done or not.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        OnceValue::open(place).map(Self)
    }

    /// Opens one, or creates it; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>) -> Result<Self, Error> {
        OnceValue::open_or_create(place).map(Self)
    }

    /// Opens one to look whether it is done; needs only read permission.
    ///
    /// # Errors
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(place: impl Into<Place>) -> Result<Self, Error> {
        OnceValue::open_read_only(place).map(Self)
    }

    /// Whether it is done. Never blocks.
    #[inline]
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.0.get().is_some()
    }

    /// Returns when it is done; does it by `call` if nobody has. Blocks while another does it.
    ///
    /// # Errors
    /// As [`OnceValue::get_or_init`].
    pub fn call_once(&self, call: impl FnOnce()) -> Result<(), LockFailure> {
        self.0.get_or_init(call).map(|&()| ())
    }

    /// As [`call_once`](Self::call_once); never waits for another.
    ///
    /// # Errors
    /// As [`OnceValue::try_get_or_init`].
    pub fn try_call_once(&self, call: impl FnOnce()) -> Result<(), LockFailure> {
        self.0.try_get_or_init(call).map(|&()| ())
    }

    /// As [`call_once`](Self::call_once); waits for another for at most `timeout`
    /// (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// As [`OnceValue::get_or_init_timeout`].
    pub fn call_once_timeout(
        &self,
        timeout: Duration,
        call: impl FnOnce(),
    ) -> Result<(), LockFailure> {
        self.0.get_or_init_timeout(timeout, call).map(|&()| ())
    }

    /// As [`call_once_timeout`](Self::call_once_timeout), until `deadline` at most.
    ///
    /// # Errors
    /// As [`OnceValue::get_or_init_deadline`].
    pub fn call_once_deadline(
        &self,
        deadline: Instant,
        call: impl FnOnce(),
    ) -> Result<(), LockFailure> {
        self.0.get_or_init_deadline(deadline, call).map(|&()| ())
    }

    /// Who is doing it, how many wait, and since when somebody has had to: for people; it may be over when
    /// it is read.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        self.0.inspect()
    }

    /// Removes the name, as [`Segment::unlink`].
    ///
    /// # Errors
    /// As [`Segment::unlink`].
    pub fn unlink(&self) -> Result<(), Error> {
        self.0.unlink()
    }

    /// The segment it lives in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        self.0.segment()
    }
}
