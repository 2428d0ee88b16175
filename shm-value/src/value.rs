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
//! INV-V1: slot `version & 1` is not written; the other is written only under the lock.
//! INV-V2: a commit is the one store of `version + 1`.
//! PAIR value-commit: a writer stores `version` with Release after its slot; a reader loads it with
//! Acquire before its copy.
//! PAIR value-reuse: a writer fences with Release before it touches a slot; a reader fences with
//! Acquire after its copy and looks at `version` again. If the reader saw a byte of a later write
//! into its slot, then it sees a later version too, since that slot is written again only after the
//! next version was stored.
//! Peer death: a writer killed before its store of `version` leaves the old value, after it the new
//! one; the lock is the kernel's to hand on. Nothing is to be repaired, nobody is told.
//! Source: the two-slot seqlock; Boehm, "Can seqlocks get along with programming language memory
//! models?" (the fences of the reader).

use std::fmt;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, align_of, size_of};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use shm_core::mutants::mutant;
use shm_core::sync::{AtomicU64, Ordering, fence, spin_loop, yield_now};
use shm_core::{Error, Kind, Place, Segment, Spec, layout};
use shm_lock::{Inspection, Patience, RawMutex};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::error::ValueError;

/// Looks that a reader takes before it makes the writers wait.
const LOOKS: u32 = 64;

/// How long a reader waits for its turn among the writers before it looks again: one of them may
/// have been stopped with the lock.
const TURN: Duration = Duration::from_millis(10);

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
    segment: Segment,
    lock: NonNull<RawMutex>,
    version: NonNull<AtomicU64>,
    slots: [NonNull<T>; 2],
}

// SAFETY: a T is copied in and out whole, from whichever thread; the pointers lead into the
// segment, which the handle keeps mapped.
unsafe impl<T: Send> Send for Value<T> {}
// SAFETY: as for Send; no `&T` to the shared bytes is ever formed.
unsafe impl<T: Send> Sync for Value<T> {}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        let (lock, version, slots) = (self.lock, self.version, self.slots);
        Self {
            segment: self.segment.clone(),
            lock,
            version,
            slots,
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Value<T> {
    const VERSION: usize = size_of::<RawMutex>();
    const ALIGN: usize = if align_of::<T>() > 8 {
        align_of::<T>()
    } else {
        8
    };
    const SLOTS: [usize; 2] = {
        let first = (Self::VERSION + 8).next_multiple_of(Self::ALIGN);
        [
            first,
            (first + size_of::<T>()).next_multiple_of(Self::ALIGN),
        ]
    };
    const SIZE: usize = Self::SLOTS[1] + size_of::<T>();

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
        let init = |segment: &Segment| segment.write(Self::SLOTS[0], value.as_mut_bytes());
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
        let init = |segment: &Segment| segment.write(Self::SLOTS[0], bytes);
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
        let lock = NonNull::from(segment.view::<RawMutex>(0)?);
        let version = NonNull::from(segment.view::<AtomicU64>(Self::VERSION)?);
        let slot = |at: usize| -> Result<NonNull<T>, Error> {
            let slot = segment.at(at, size_of::<T>())?.cast::<T>();
            if slot.is_aligned() {
                return Ok(slot);
            }
            let (offset, align) = (slot.addr().get() as u64, align_of::<T>() as u64);
            Err(Error::Misaligned {
                segment: segment.name().to_owned(),
                offset,
                align,
            })
        };
        let slots = [slot(Self::SLOTS[0])?, slot(Self::SLOTS[1])?];
        segment.watch_lock(0);
        Ok(Self {
            segment,
            lock,
            version,
            slots,
        })
    }

    /// The value of the last commit. Takes no lock unless writers keep interfering.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock), where writers left no other way in 64 looks. A read-only
    /// attachment has no other way and goes on looking.
    #[inline]
    pub fn get(&self) -> Result<T, ValueError> {
        for _ in 0..LOOKS {
            if let Some(value) = self.look() {
                return Ok(value);
            }
            spin_loop();
        }
        self.get_slow()
    }

    #[cold]
    fn get_slow(&self) -> Result<T, ValueError> {
        loop {
            if self.segment.is_read_only() {
                yield_now();
            } else {
                match self.take(TURN.into()) {
                    Ok(held) => return Ok(held.copy()),
                    // Whoever holds it for so long commits nothing meanwhile: look again.
                    Err(ValueError::Timeout) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(value) = self.look() {
                return Ok(value);
            }
        }
    }

    /// One validated copy; `None` if a writer came in between.
    #[inline]
    fn look(&self) -> Option<T> {
        let version = self.version_word();
        // PAIR value-commit: Acquire.
        let before = version.load(Ordering::Acquire);
        let value = self.copy_of(before);
        // PAIR value-reuse: Acquire.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence.
        let valid = version.load(Ordering::Relaxed) == before;
        (valid || mutant("Value::ReadsWithoutValidation")).then_some(value)
    }

    /// Copies the slot of a version; whole if nobody writes it meanwhile, and a `T` in any case.
    #[inline]
    fn copy_of(&self, version: u64) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let from = self.slots[(version & 1) as usize].as_ptr().cast::<u8>();
        // SAFETY:
        // - in bounds, as `attach` checked; mapped as long as the segment (INV-S1);
        // - other writers store word by word, atomically (`commit`).
        unsafe { layout::load_bytes(from, value.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: any bytes are a value: `T: FromBytes`; all of them were written.
        unsafe { value.assume_init() }
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock).
    #[inline]
    pub fn set(&self, value: T) -> Result<(), ValueError> {
        let held = self.take_writable(Patience::Endless)?;
        held.commit(value);
        Ok(())
    }

    /// Reads, computes and writes with no other writer in between. If `change` panics, the value
    /// stays as it was; a child that it forks commits nothing.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock).
    #[inline]
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, ValueError> {
        let held = self.take_writable(Patience::Endless)?;
        let mut copy = held.copy();
        let result = change(&mut copy);
        // Not in a child that `change` forked: the lock is its parent's.
        if self.lock_word().is_held_by_me() && !mutant("Value::ForgetsTheCommit") {
            held.commit(copy);
        }
        Ok(result)
    }

    /// Takes the writers' lock for several steps; blocks until it is free. Readers go on with the
    /// last commit meanwhile.
    ///
    /// # Errors
    /// [`ValueError::ReadOnly`], [`ValueError::Deadlock`] (this thread holds it),
    /// [`ValueError::TooManyLocks`], [`ValueError::Unsupported`].
    #[inline]
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, ValueError> {
        self.take_writable(Patience::Endless).map(ValueGuard::new)
    }

    /// As [`lock`](Self::lock), without blocking.
    ///
    /// # Errors
    /// [`ValueError::WouldBlock`], and those of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, ValueError> {
        self.take_writable(Patience::None).map(ValueGuard::new)
    }

    /// As [`lock`](Self::lock), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, ValueError> {
        self.take_writable(timeout.into()).map(ValueGuard::new)
    }

    /// As [`lock`](Self::lock), until `deadline` at most.
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ValueGuard<'_, T>, ValueError> {
        self.take_writable(deadline.into()).map(ValueGuard::new)
    }

    #[inline]
    fn take_writable(&self, patience: Patience) -> Result<Held<'_, T>, ValueError> {
        if self.segment.is_read_only() {
            return Err(ValueError::ReadOnly);
        }
        self.take(patience)
    }

    #[inline]
    fn take(&self, patience: Patience) -> Result<Held<'_, T>, ValueError> {
        // SAFETY: `Held` borrows `self`, which keeps the lock mapped where it is; for a guard that is
        // forgotten, the segment keeps its memory (`watch_lock`).
        let acquired = unsafe { self.lock_word().acquire(patience) }?;
        let held = Held {
            value: self,
            not_send: PhantomData,
        };
        if !acquired.is_clean() {
            // A dead writer left a whole value, old or new (INV-V2).
            self.lock_word().mark_consistent();
        }
        Ok(held)
    }

    /// Who writes, since when, and how many wait: for people; it may be over when it is read.
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

impl<T> Value<T> {
    #[inline]
    fn lock_word(&self) -> &RawMutex {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as the segment (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        unsafe { self.lock.as_ref() }
    }

    #[inline]
    fn version_word(&self) -> &AtomicU64 {
        // SAFETY: as for `lock_word`.
        unsafe { self.version.as_ref() }
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("segment", &self.segment.name())
            .finish_non_exhaustive()
    }
}

/// The writers' lock, held; dropping it unlocks and commits nothing.
struct Held<'a, T> {
    value: &'a Value<T>,
    not_send: PhantomData<*const ()>,
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Held<'_, T> {
    /// The value: nobody else commits while we hold the lock.
    #[inline]
    fn copy(&self) -> T {
        // Relaxed: the last writer's unlock ordered it before our lock.
        self.value
            .copy_of(self.value.version_word().load(Ordering::Relaxed))
    }

    /// Writes the slot that is not the value, then makes it the value.
    #[inline]
    fn commit(&self, mut value: T) {
        store(self.value, value.as_mut_bytes());
    }
}

/// Apart from the type of the value, so that it is one function for the step killer's eyes.
#[inline]
fn store<T>(value: &Value<T>, bytes: &[u8]) {
    let version = value.version_word();
    // Relaxed: under the lock.
    let mut next = version.load(Ordering::Relaxed).wrapping_add(1);
    if mutant("Value::WritesTheSlotThatIsRead") {
        next = next.wrapping_add(1);
    }
    if mutant("Value::CommitsBeforeTheCopy") {
        version.store(next, Ordering::Release);
    }
    // PAIR value-reuse: Release.
    fence(Ordering::Release);
    let to = value.slots[(next & 1) as usize].as_ptr().cast::<u8>();
    // SAFETY:
    // - in bounds, as `attach` checked; mapped writable as long as the segment (INV-S1);
    // - no other writer: we hold the lock, and this slot is not the value (INV-V1).
    unsafe { layout::store_bytes(to, bytes.as_ptr(), bytes.len()) };
    // PAIR value-commit: Release.
    version.store(next, Ordering::Release);
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the lock was given to this thread when `self` was made; in a forked child
        // unlocking is inert.
        unsafe { self.value.lock_word().unlock() };
    }
}

/// The writers' lock, with a private copy of the value; dropping it commits the copy if it was
/// touched, and a panic discards it.
///
/// It belongs to its thread and is not `Send`.
#[must_use = "dropping the guard commits and unlocks"]
pub struct ValueGuard<'a, T: FromBytes + IntoBytes + KnownLayout + Send + 'static> {
    copy: Option<T>,
    touched: bool,
    panicking: bool,
    held: Held<'a, T>,
}

impl<'a, T: FromBytes + IntoBytes + KnownLayout + Send + 'static> ValueGuard<'a, T> {
    #[inline]
    fn new(held: Held<'a, T>) -> Self {
        let panicking = std::thread::panicking();
        Self {
            copy: Some(held.copy()),
            touched: false,
            panicking,
            held,
        }
    }

    /// Unlocks and leaves the value as it was.
    pub fn discard(mut self) {
        self.touched = false;
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Deref for ValueGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.copy.as_ref().expect("taken by drop only")
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> DerefMut for ValueGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.touched = true;
        self.copy.as_mut().expect("taken by drop only")
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Drop for ValueGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let unwinding = !self.panicking && std::thread::panicking();
        let mine = self.held.value.lock_word().is_held_by_me();
        if let Some(copy) = self
            .copy
            .take()
            .filter(|_| self.touched && !unwinding && mine)
        {
            self.held.commit(copy);
        }
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + fmt::Debug + 'static> fmt::Debug
    for ValueGuard<'_, T>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_lost_patience_does_not_wait_for_a_guard() {
        let value = Value::create(shm_core::Region::heap(4096), 1_u32).unwrap();
        std::thread::scope(|s| {
            let (send, receive) = std::sync::mpsc::channel();
            let _guard = value.lock().unwrap();
            let value = &value;
            s.spawn(move || send.send(value.get_slow()));
            let seen = receive.recv_timeout(Duration::from_secs(5));
            assert_eq!(seen, Ok(Ok(1)));
        });
    }
}
