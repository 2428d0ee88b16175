//! A list of fixed length of short items of any kind, each replaced by one store.
//!
//! Payload, kind `SLST`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 48 | [`RawMutex`] of the writers |
//! | 48 | 8 | `len`: number of items; never changes |
//! | 56 | 8 | reserved |
//! | 64 | `len` times 16 | the entries: `room` (8), a multiple of 8, not 0, that never changes; `version` (8): the item is in slot `version & 1` |
//! | behind | for each item twice 8 + `room` | its slots 0 and 1, those of one item behind those of the other |
//!
//! A slot is a word, bits 0..8 the kind and bits 8..64 the number of bytes, and then the bytes (`item.rs`).
//!
//! How a version commits and how readers validate: `version.rs`, here with two slots for each item.
//! INV-L1: where the slots of an item lie follows from the `room`s before it, which are read and checked once,
//! by [`ShareableList::open`]; nothing that is read later leads anywhere.
//! Peer death: a writer killed anywhere leaves each item old or new; the lock is the kernel's to hand on.

use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_core::fork::Origin;
use shm_core::mutants::mutant;
use shm_core::sync::{AtomicU64, Ordering};
use shm_core::{Error, Kind, Place, Segment, Shared, Spec, layout};
use shm_lock::{Inspection, Patience, RawMutex};

use crate::error::ValueError;
use crate::item::{Item, ItemRef};
use crate::slots::look_among_writers;
use crate::version::Version;

/// Where the number of items lies.
const LEN: usize = size_of::<RawMutex>();
/// Where the entries begin.
const ENTRIES: usize = 64;
/// Bytes of a slot before those of the item.
const HEAD: usize = 8;
/// Slots of an item.
const SLOTS: u64 = 2;

/// What is known of an item in shared memory.
#[repr(C)]
struct Entry {
    room: AtomicU64,
    version: Version,
}

const _: () = assert!(size_of::<Entry>() == 16);

// SAFETY: two atomic words.
unsafe impl Shared for Entry {}

/// What is known of an item here: checked, and never changed.
struct Spot {
    /// Offset of slot 0 in the payload.
    at: usize,
    room: usize,
}

/// A list of fixed length of short items, which processes share; a handle that is cheap to clone.
///
/// An item is a string, bytes, an integer, a float, a bool or none ([`Item`]), and may be replaced by
/// one of another kind. How many bytes there is room for is fixed for each item when the list is created: for
/// those it had then, and for 8 at least.
///
/// Reading takes no lock: it gives each item as it was last written, also while somebody holds the guard, and
/// also through a read-only attachment. Writers take turns.
///
/// What Python's `multiprocessing.shared_memory.ShareableList` offers; but items keep trailing zero bytes,
/// replacing one by a string of several bytes a character neither corrupts nor shortens it, and two
/// who write at a time do not mix.
///
/// # Peer death
/// A writer killed at any instruction leaves each item old or new. Nobody has to repair anything, and
/// the next writer gets its turn within microseconds. If it meant to change several items, those
/// that it had not come to are old.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_value::{Item, ShareableList, ValueError};
///
/// # let name = format!("doc-list-{}", std::process::id());
/// let items = ["howdy".into(), 42.into(), 2.5.into(), Item::None];
/// let list = ShareableList::create(Place::named(&name).unlink_on_drop(true), &items)?;
///
/// let peer = ShareableList::open(&name)?; // in another process
/// peer.set(0, "encodés")?;
/// peer.set(3, true)?;
/// assert_eq!(list.get(0)?, Item::from("encodés"));
/// assert_eq!(list.index_of(true)?, Some(3));
///
/// let error = list.set(0, "far too many").unwrap_err();
/// assert_eq!(error, ValueError::TooLong { index: 0, need: 12, room: 8 });
///
/// // Read, compute, write, and no other writer in between.
/// let guard = list.lock()?;
/// if let Item::Int(n) = guard.get(1)? {
///     guard.set(1, n + 1)?;
/// }
/// drop(guard);
/// assert_eq!(peer.get(1)?, Item::Int(43));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ShareableList {
    segment: Segment,
    lock: NonNull<RawMutex>,
    entries: NonNull<Entry>,
    payload: NonNull<u8>,
    spots: Arc<[Spot]>,
}

// SAFETY: the entries are atomics and the slots are read and written word by word, by whichever
// thread; the pointers lead into the segment, which the handle keeps mapped.
unsafe impl Send for ShareableList {}
// SAFETY: as for Send.
unsafe impl Sync for ShareableList {}

/// The room for an item that has `bytes` bytes at creation.
fn room_for(bytes: usize, least: usize) -> usize {
    // What is beyond `usize` cannot be mapped either; `create` says so.
    let room = bytes.max(least).max(8);
    room.checked_next_multiple_of(8).unwrap_or(usize::MAX)
}

impl ShareableList {
    /// Bytes that a region must have for a list of these items, each with room for at least `room` bytes.
    #[must_use]
    pub fn region_size(items: &[Item], room: usize) -> usize {
        Self::size(items, room).saturating_add(shm_core::HEADER_SIZE)
    }

    fn size(items: &[Item], room: usize) -> usize {
        let mut word = [0; 8];
        let fixed = ENTRIES + items.len() * size_of::<Entry>();
        items.iter().fold(fixed, |size, item| {
            let (_, bytes) = item.as_ref().encode(&mut word);
            let slot = room_for(bytes.len(), room).saturating_add(HEAD);
            size.saturating_add(slot.saturating_mul(SLOTS as usize))
        })
    }

    fn spec(size: usize) -> Spec {
        Spec::new(Kind(*b"SLST"), 1, size as u64)
            .label("ShareableList")
            .locked()
    }

    /// Creates a list of these items, each with room for the bytes that it has, and for 8 at least.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>, items: &[Item]) -> Result<Self, Error> {
        Self::create_with_room(place, items, 0)
    }

    /// As [`create`](Self::create), each with room for `room` bytes at least.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create_with_room(
        place: impl Into<Place>,
        items: &[Item],
        room: usize,
    ) -> Result<Self, Error> {
        let spec = Self::spec(Self::size(items, room));
        let init = |segment: &Segment| Self::init(segment, items, room);
        Self::attach(Segment::create_with(place, spec, init)?)
    }

    /// Opens a list that exists.
    ///
    /// # Errors
    /// As [`Segment::open`]; [`Error::Corrupt`] if its parts do not fit into it, or an item is none of
    /// the known kinds.
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec(ENTRIES))?)
    }

    /// Opens a list, whatever is in it, or creates it of these items; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`], and those of [`open`](Self::open).
    pub fn open_or_create(place: impl Into<Place>, items: &[Item]) -> Result<Self, Error> {
        let place = place.into();
        let spec = Self::spec(Self::size(items, 0));
        let init = |segment: &Segment| Self::init(segment, items, 0);
        Self::attach(Segment::open_or_create_with(place, spec, init)?)
    }

    /// Opens a list to read it; needs only read permission.
    ///
    /// # Errors
    /// As [`Segment::open_read_only`], and those of [`open`](Self::open).
    pub fn open_read_only(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open_read_only(place, Self::spec(ENTRIES))?)
    }

    /// Writes a new list into zeroed memory.
    fn init(segment: &Segment, items: &[Item], least: usize) -> Result<(), Error> {
        segment.write(LEN, &(items.len() as u64).to_ne_bytes())?;
        let mut at = ENTRIES + items.len() * size_of::<Entry>();
        for (index, item) in items.iter().enumerate() {
            let mut word = [0; 8];
            let (kind, bytes) = item.as_ref().encode(&mut word);
            let room = room_for(bytes.len(), least);
            let entry = ENTRIES + index * size_of::<Entry>();
            segment.write(entry, &(room as u64).to_ne_bytes())?;
            segment.write(at, &head(kind, bytes.len()).to_ne_bytes())?;
            segment.write(at + HEAD, bytes)?;
            at += SLOTS as usize * (HEAD + room);
        }
        Ok(())
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let corrupt = |field, value| Error::Corrupt {
            segment: segment.name().to_owned(),
            field,
            value,
        };
        let lock = NonNull::from(segment.view::<RawMutex>(0)?);
        // Relaxed: never changes after publication. Read once, checked below.
        let len = segment.view::<AtomicU64>(LEN)?.load(Ordering::Relaxed);
        let payload = segment.at(0, segment.size())?;
        let entries = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_mul(size_of::<Entry>()))
            .and_then(|bytes| segment.at(ENTRIES, bytes).ok())
            .ok_or_else(|| corrupt("list length", len))?;
        let mut at = ENTRIES + len as usize * size_of::<Entry>();
        // Grows as they prove to be there: a number says nothing.
        let mut spots = Vec::new();
        for index in 0..len as usize {
            let entry = segment.view::<Entry>(ENTRIES + index * size_of::<Entry>())?;
            // Relaxed: as `len`.
            let room = entry.room.load(Ordering::Relaxed);
            let end = usize::try_from(room)
                .ok()
                .filter(|room| *room >= 8 && room.is_multiple_of(8))
                .and_then(|room| room.checked_add(HEAD)?.checked_mul(SLOTS as usize))
                .and_then(|bytes| at.checked_add(bytes))
                .filter(|end| *end <= segment.size())
                .ok_or_else(|| corrupt("room of an item", room))?;
            let room = room as usize;
            spots.push(Spot { at, room });
            at = end;
        }
        let list = Self {
            lock,
            entries: entries.cast(),
            payload,
            spots: spots.into(),
            segment,
        };
        for index in 0..list.len() {
            if let Err(ValueError::Corrupt { .. }) = list.get(index) {
                return Err(Error::Corrupt {
                    segment: list.segment.name().to_owned(),
                    field: "item of a list",
                    value: index as u64,
                });
            }
        }
        // Last: what is refused keeps nothing mapped, whatever its lock word says.
        list.segment.watch_lock(0);
        Ok(list)
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spots.len()
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    /// How many bytes item `index` has room for; `None` if there is no such item.
    #[must_use]
    pub fn room(&self, index: usize) -> Option<usize> {
        self.spots.get(index).map(|spot| spot.room)
    }

    /// One item, as it was last written. Takes no lock unless writers keep interfering.
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`]; [`ValueError::Corrupt`] if somebody has written past this type, or if the item is said
    /// to have more bytes than there is memory for; those of [`lock`](Self::lock), where writers left no other way in 64 looks. A read-only attachment has no other
    /// way and goes on looking.
    pub fn get(&self, index: usize) -> Result<Item, ValueError> {
        self.spot(index)?;
        look_among_writers(
            self.segment.is_read_only(),
            |patience| self.take(patience),
            || self.look(index),
        )?
        .ok_or(ValueError::Corrupt { index })
    }

    fn spot(&self, index: usize) -> Result<&Spot, ValueError> {
        self.spots.get(index).ok_or(ValueError::OutOfRange {
            index,
            len: self.len(),
        })
    }

    /// One validated copy; `None` if a writer came in between, `Some(None)` if it is no item.
    fn look(&self, index: usize) -> Option<Option<Item>> {
        let copy = |slot| self.copy(index, slot);
        let (copied, _) = self.entry(index).version.look(SLOTS, copy)?;
        Some(copied.and_then(|(kind, bytes)| Item::decode(kind, bytes)))
    }

    /// Copies a slot: the kind and the bytes; `None` if there is no room for so many.
    fn copy(&self, index: usize, slot: u64) -> Option<(u8, Vec<u8>)> {
        let from = self.slot(index, slot);
        let mut word = [0; HEAD];
        // SAFETY:
        // - in bounds, as `attach` checked (INV-L1); mapped as long as the segment (INV-S1);
        // - other writers store word by word, atomically (`write`).
        unsafe { layout::load_bytes(from.as_ptr(), word.as_mut_ptr(), HEAD) };
        let word = u64::from_ne_bytes(word);
        // Read once, checked here.
        let len = usize::try_from(word >> 8).ok()?;
        if len > self.spots[index].room && !mutant("ShareableList::LengthUnchecked") {
            return None;
        }
        let mut bytes = Vec::new();
        // As many as the room may be more than there is memory for.
        bytes.try_reserve_exact(len).ok()?;
        let from = from.as_ptr().wrapping_add(HEAD);
        // SAFETY: as above; `len` is at most the room, and so many bytes were reserved.
        unsafe { layout::load_bytes(from, bytes.as_mut_ptr(), len) };
        // SAFETY: so many bytes were just written.
        unsafe { bytes.set_len(len) };
        Some((word as u8, bytes))
    }

    /// The address of a slot of an item that exists.
    fn slot(&self, index: usize, slot: u64) -> NonNull<u8> {
        let Spot { at, room } = self.spots[index];
        // SAFETY: in bounds of the payload, as `attach` checked (INV-L1).
        unsafe { self.payload.add(at + slot as usize * (HEAD + room)) }
    }

    fn entry(&self, index: usize) -> &Entry {
        assert!(index < self.len());
        // SAFETY: below the number of entries, all of which `attach` found inside the payload.
        let entry = unsafe { self.entries.add(index) };
        // SAFETY:
        // - in bounds and aligned, as above; mapped as long as the segment (INV-S1);
        // - other writers: its fields are atomics; any bytes are a value.
        unsafe { entry.as_ref() }
    }

    /// The items, one after the other, each as [`get`](Self::get) gives it. Of different moments, unless the
    /// list is locked.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<Item, ValueError>> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All items. Of different moments, unless the list is locked: then it is a snapshot.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn to_vec(&self) -> Result<Vec<Item>, ValueError> {
        self.iter().collect()
    }

    /// Where the first item is that equals `item`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn index_of<'a>(&self, item: impl Into<ItemRef<'a>>) -> Result<Option<usize>, ValueError> {
        let item = item.into();
        for (index, found) in self.iter().enumerate() {
            if found?.as_ref() == item {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// How many items equal `item`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn count<'a>(&self, item: impl Into<ItemRef<'a>>) -> Result<usize, ValueError> {
        let item = item.into();
        self.iter().try_fold(0, |count, found| {
            Ok(count + usize::from(found?.as_ref() == item))
        })
    }

    /// Replaces one item; blocks while another writes.
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`]; [`ValueError::TooLong`] if there is not so much room; those of
    /// [`lock`](Self::lock).
    ///
    /// # Peer death
    /// A writer killed on the way leaves the old item or the new one.
    pub fn set<'a>(&self, index: usize, item: impl Into<ItemRef<'a>>) -> Result<(), ValueError> {
        self.lock()?.set(index, item)
    }

    /// Takes the writers' lock, to read and write several items with no other writer in between; blocks
    /// until it is free. Readers go on meanwhile, and see each item that is set.
    ///
    /// # Errors
    /// [`ValueError::ReadOnly`], [`ValueError::Deadlock`] (this thread holds it),
    /// [`ValueError::TooManyLocks`], [`ValueError::Unsupported`].
    pub fn lock(&self) -> Result<ShareableListGuard<'_>, ValueError> {
        self.take_writable(Patience::Endless)
    }

    /// As [`lock`](Self::lock), without blocking.
    ///
    /// # Errors
    /// [`ValueError::WouldBlock`], and those of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ShareableListGuard<'_>, ValueError> {
        self.take_writable(Patience::None)
    }

    /// As [`lock`](Self::lock), for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ShareableListGuard<'_>, ValueError> {
        self.take_writable(timeout.into())
    }

    /// As [`lock`](Self::lock), until `deadline` at most.
    ///
    /// # Errors
    /// [`ValueError::Timeout`], and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ShareableListGuard<'_>, ValueError> {
        self.take_writable(deadline.into())
    }

    fn take_writable(&self, patience: Patience) -> Result<ShareableListGuard<'_>, ValueError> {
        if self.segment.is_read_only() {
            return Err(ValueError::ReadOnly);
        }
        self.take(patience)
    }

    fn take(&self, patience: Patience) -> Result<ShareableListGuard<'_>, ValueError> {
        // SAFETY: the guard borrows `self`, which keeps the lock mapped where it is; for a guard that
        // is forgotten, the segment keeps its memory (`watch_lock`).
        let acquired = unsafe { self.lock_word().acquire(patience) }?;
        let guard = ShareableListGuard {
            list: self,
            origin: Origin::here(),
            not_send: PhantomData,
        };
        if !acquired.is_clean() {
            // A dead writer left each item whole, old or new.
            self.lock_word().mark_consistent();
        }
        Ok(guard)
    }

    fn lock_word(&self) -> &RawMutex {
        // SAFETY:
        // - in bounds and aligned, as `view` checked; mapped as long as the segment (INV-S1);
        // - other writers: all its fields are atomics; any bytes are a value.
        unsafe { self.lock.as_ref() }
    }

    /// Who writes, how many wait, and since when somebody has had to: for people; it may be over when it is
    /// read.
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

/// The first word of a slot.
fn head(kind: u8, len: usize) -> u64 {
    u64::from(kind) | (len as u64) << 8
}

impl fmt::Debug for ShareableList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareableList")
            .field("segment", &self.segment.name())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The writers' lock of a list, held; dropping it unlocks. The list is read and written through it.
///
/// It belongs to its thread and is not `Send`. In a forked child it writes and unlocks nothing.
#[must_use = "dropping the guard unlocks"]
pub struct ShareableListGuard<'a> {
    list: &'a ShareableList,
    /// A forked child's copy is inert.
    origin: Origin,
    not_send: PhantomData<*const ()>,
}

impl ShareableListGuard<'_> {
    /// Replaces one item, at once: dropping the guard is not what commits it.
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`]; [`ValueError::TooLong`] if there is not so much room;
    /// [`ValueError::WouldBlock`] in a forked child: the lock is its parent's.
    pub fn set<'a>(&self, index: usize, item: impl Into<ItemRef<'a>>) -> Result<(), ValueError> {
        let mut word = [0; 8];
        let (kind, bytes) = item.into().encode(&mut word);
        let room = self.list.spot(index)?.room;
        if bytes.len() > room {
            let need = bytes.len();
            return Err(ValueError::TooLong { index, need, room });
        }
        let ours = self.origin.is_here() && self.list.lock_word().is_held_by_me();
        if !ours && !mutant("ShareableList::ForkedChildWrites") {
            return Err(ValueError::WouldBlock);
        }
        let version = &self.list.entry(index).version;
        if mutant("ShareableList::WritesInPlace") {
            self.write(index, version.slot(SLOTS), kind, bytes);
            return Ok(());
        }
        let next = version.prepare(SLOTS, |slot| self.write(index, slot, kind, bytes));
        version.commit(next);
        Ok(())
    }

    /// Writes a slot that is not the item, for which there is room.
    fn write(&self, index: usize, slot: u64, kind: u8, bytes: &[u8]) {
        let to = self.list.slot(index, slot).as_ptr();
        let head = head(kind, bytes.len()).to_ne_bytes();
        // SAFETY:
        // - in bounds, as `attach` checked (INV-L1); mapped writable as long as the segment (INV-S1);
        // - no other writer: we hold the lock, and this slot is not the item (INV-V1).
        unsafe { layout::store_bytes(to, head.as_ptr(), HEAD) };
        let to = to.wrapping_add(HEAD);
        // SAFETY: as above; the caller has compared the length with the room.
        unsafe { layout::store_bytes(to, bytes.as_ptr(), bytes.len()) };
    }
}

impl Deref for ShareableListGuard<'_> {
    type Target = ShareableList;

    fn deref(&self) -> &ShareableList {
        self.list
    }
}

impl Drop for ShareableListGuard<'_> {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: the lock was given to this thread when `self` was made.
            unsafe { self.list.lock_word().unlock() };
        }
    }
}

impl fmt::Debug for ShareableListGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShareableListGuard")
            .field(&self.list)
            .finish()
    }
}
