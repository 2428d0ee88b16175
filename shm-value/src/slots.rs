//! What [`Value`](crate::Value) and [`SeqValue`](crate::SeqValue) have in common: a lock for the writers,
//! a version, and slots of which the version says which one is the value.
//!
//! The bytes are those of the two types; the protocol is `version.rs`. INV-V1 and INV-V2 are told there.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, align_of, size_of};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::Duration;

use shm_core::fork::Origin;
use shm_core::mutants::mutant;
use shm_core::sync::{spin_loop, yield_now};
use shm_core::{Error, Segment, layout};
use shm_lock::{Patience, RawMutex};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::bell::Bell;
use crate::error::ValueError;
use crate::version::Version;

/// Looks that a reader takes before it makes the writers wait.
const LOOKS: u32 = 64;

/// How long a reader waits for its turn among the writers before it looks again: one of them may
/// have been stopped with the lock.
const TURN: Duration = Duration::from_millis(10);

/// Looks until it is given something; if that takes long, with the lock, so that nobody writes. Who is
/// attached read-only cannot lock, and goes on looking.
#[inline]
pub(crate) fn look_among_writers<R, H>(
    read_only: bool,
    take: impl Fn(Patience) -> Result<H, ValueError>,
    look: impl Fn() -> Option<R>,
) -> Result<R, ValueError> {
    for _ in 0..LOOKS {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        spin_loop();
    }
    look_with_the_lock(read_only, take, look)
}

#[cold]
pub(crate) fn look_with_the_lock<R, H>(
    read_only: bool,
    take: impl Fn(Patience) -> Result<H, ValueError>,
    look: impl Fn() -> Option<R>,
) -> Result<R, ValueError> {
    loop {
        let held = if read_only {
            yield_now();
            None
        } else {
            match take(TURN.into()) {
                Ok(held) => Some(held),
                // Whoever holds it for so long commits nothing meanwhile: look again.
                Err(ValueError::Timeout) => None,
                Err(error) => return Err(error),
            }
        };
        let seen = look();
        drop(held);
        if let Some(seen) = seen {
            return Ok(seen);
        }
    }
}

/// Where a type keeps its parts, as offsets in the payload. The lock is at 0.
pub(crate) struct Offsets {
    pub(crate) version: usize,
    /// The first slot; the others follow, [`Slots::STRIDE`] apart.
    pub(crate) slots: usize,
    /// How many; a power of two.
    pub(crate) count: u64,
    /// What sleepers sleep on, where there may be any.
    pub(crate) bell: Option<usize>,
}

/// The parts, found in a segment.
pub(crate) struct Slots<T> {
    segment: Segment,
    lock: NonNull<RawMutex>,
    version: NonNull<Version>,
    first: NonNull<T>,
    count: u64,
    bell: Option<NonNull<Bell>>,
}

// SAFETY: a T is copied in and out whole, from whichever thread; the pointers lead into the
// segment, which the handle keeps mapped.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: as for Send; no `&T` to the shared bytes is ever formed.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            ..*self
        }
    }
}

impl<T> Slots<T> {
    pub(crate) const ALIGN: usize = if align_of::<T>() > 8 {
        align_of::<T>()
    } else {
        8
    };
    pub(crate) const STRIDE: usize = size_of::<T>().next_multiple_of(Self::ALIGN);

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    #[inline]
    pub(crate) fn lock(&self) -> &RawMutex {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as the segment (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        unsafe { self.lock.as_ref() }
    }

    #[inline]
    pub(crate) fn version(&self) -> &Version {
        // SAFETY: as for `lock`.
        unsafe { self.version.as_ref() }
    }

    #[inline]
    pub(crate) fn bell(&self) -> Option<&Bell> {
        // SAFETY: as for `lock`.
        self.bell.map(|bell| unsafe { bell.as_ref() })
    }

    /// The address of a slot, whose index is below `count`.
    #[inline]
    fn slot(&self, index: u64) -> *mut u8 {
        let first = self.first.as_ptr().cast::<u8>();
        // In bounds: `attach` found all slots inside the payload.
        first.wrapping_add(index as usize * Self::STRIDE)
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Slots<T> {
    pub(crate) fn attach(segment: Segment, offsets: &Offsets) -> Result<Self, Error> {
        let lock = NonNull::from(segment.view::<RawMutex>(0)?);
        let version = NonNull::from(segment.view::<Version>(offsets.version)?);
        let bell = offsets.bell.map(|at| segment.view::<Bell>(at));
        let bell = bell.transpose()?.map(NonNull::from);
        let bytes = Self::STRIDE * (offsets.count as usize - 1) + size_of::<T>();
        let first = segment.at(offsets.slots, bytes)?.cast::<T>();
        if !first.is_aligned() {
            let (offset, align) = (first.addr().get() as u64, align_of::<T>() as u64);
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
            version,
            first,
            count: offsets.count,
            bell,
        })
    }

    /// One validated copy and its number; `None` if writers came in between.
    #[inline]
    pub(crate) fn look(&self) -> Option<(T, u64)> {
        self.version().look(self.count, |slot| self.copy(slot))
    }

    /// Copies a slot; whole if nobody writes it meanwhile, and a `T` in any case.
    #[inline]
    fn copy(&self, index: u64) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let from = self.slot(index);
        // SAFETY:
        // - in bounds, as `attach` checked; mapped as long as the segment (INV-S1);
        // - other writers store word by word, atomically (`store`).
        unsafe { layout::load_bytes(from, value.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: any bytes are a value: `T: FromBytes`; all of them were written.
        unsafe { value.assume_init() }
    }

    /// Takes the writers' lock.
    #[inline]
    pub(crate) fn take(&self, patience: Patience) -> Result<Held<'_, T>, ValueError> {
        // SAFETY: `Held` borrows `self`, which keeps the lock mapped where it is; for a guard that is
        // forgotten, the segment keeps its memory (`watch_lock`).
        let acquired = unsafe { self.lock().acquire(patience) }?;
        let held = Held {
            slots: self,
            origin: Origin::here(),
            not_send: PhantomData,
        };
        if !acquired.is_clean() {
            // A dead writer left a whole value, old or new (INV-V2).
            self.lock().mark_consistent();
        }
        Ok(held)
    }

    /// As [`take`](Self::take), to write.
    #[inline]
    pub(crate) fn take_writable(&self, patience: Patience) -> Result<Held<'_, T>, ValueError> {
        if self.segment.is_read_only() {
            return Err(ValueError::ReadOnly);
        }
        self.take(patience)
    }

    /// Reads, computes and writes under the lock; a panic of `change` leaves the value as it was.
    #[inline]
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, ValueError> {
        let held = self.take_writable(Patience::Endless)?;
        let mut copy = held.copy();
        let result = change(&mut copy);
        // Not in a child that `change` forked: the lock is its parent's.
        let ours = held.is_ours() || mutant("SeqValue::ForkedChildCommits");
        if ours && !mutant("Value::ForgetsTheCommit") {
            held.commit(copy);
        }
        Ok(result)
    }
}

/// The writers' lock, held; dropping it unlocks and commits nothing.
pub(crate) struct Held<'a, T> {
    slots: &'a Slots<T>,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Held<'_, T> {
    /// Not so in a child that was forked since.
    #[inline]
    fn is_ours(&self) -> bool {
        self.origin.is_here() && self.slots.lock().is_held_by_me()
    }

    /// The value: nobody else commits while we hold the lock.
    #[inline]
    pub(crate) fn copy(&self) -> T {
        let slots = self.slots;
        slots.copy(slots.version().slot(slots.count))
    }

    /// Writes the next slot, makes it the value, unlocks, and wakes those who wait for it.
    #[inline]
    pub(crate) fn commit(self, mut value: T) {
        let slots = self.slots;
        let next = store(slots, value.as_mut_bytes());
        let Some(bell) = slots.bell() else {
            return slots.version().commit(next);
        };
        let awaited = slots.version().commit_and_ask(next);
        drop(self);
        if awaited && !mutant("SeqValue::ForgetsToRing") {
            bell.ring(u32::MAX);
        }
    }
}

/// Writes the next slot. Apart from the type of the value, so that it is one function for the step
/// killer's eyes.
#[inline]
fn store<T>(slots: &Slots<T>, bytes: &[u8]) -> u64 {
    slots.version().prepare(slots.count, |slot| {
        let to = slots.slot(slot);
        // SAFETY:
        // - in bounds, as `attach` checked; mapped writable as long as the segment (INV-S1);
        // - no other writer: we hold the lock, and this slot is not the value (INV-V1).
        unsafe { layout::store_bytes(to, bytes.as_ptr(), bytes.len()) };
    })
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: the lock was given to this thread when `self` was made.
            unsafe { self.slots.lock().unlock() };
        }
    }
}

/// The writers' lock, with a private copy of the value; dropping it commits the copy if it was
/// touched, and a panic discards it.
///
/// It belongs to its thread and is not `Send`.
#[must_use = "dropping the guard commits and unlocks"]
pub struct ValueGuard<'a, T: FromBytes + IntoBytes + KnownLayout + Send + 'static> {
    copy: Option<(T, Held<'a, T>)>,
    touched: bool,
    panicking: bool,
}

impl<'a, T: FromBytes + IntoBytes + KnownLayout + Send + 'static> ValueGuard<'a, T> {
    #[inline]
    pub(crate) fn new(held: Held<'a, T>) -> Self {
        let panicking = std::thread::panicking();
        Self {
            copy: Some((held.copy(), held)),
            touched: false,
            panicking,
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
        &self.copy.as_ref().expect("taken by drop only").0
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> DerefMut for ValueGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.touched = true;
        &mut self.copy.as_mut().expect("taken by drop only").0
    }
}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Drop for ValueGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let unwinding = !self.panicking && std::thread::panicking();
        let unwinding = unwinding && !mutant("SeqValue::PanicCommits");
        let Some((copy, held)) = self.copy.take() else {
            return;
        };
        // Not in a child forked meanwhile: the lock is its parent's.
        if self.touched && !unwinding && held.is_ours() {
            held.commit(copy);
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
