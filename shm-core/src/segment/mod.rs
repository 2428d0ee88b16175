//! Segments: memory that several processes map, with a header that says what it is.
//!
//! | file | idea |
//! |---|---|
//! | `name.rs` | what may be a name |
//! | `place.rs` | where a segment lives and how it is made |
//! | `spec.rs` | what it holds |
//! | `header.rs` | its first 256 bytes, and every check of `open` |
//! | `create.rs` | build, then publish whole |
//! | `open.rs` | find, check, attach |
//! | `placement.rs` | the same question in a region that everybody sees from the start |
//! | `region.rs` | memory of the caller's own |
//! | `parking.rs` | memory that a held lock keeps from being unmapped |
//! | `removal.rs` | `unlink`, `sweep`: by identity, under the inode's lock |
//! | `listing.rs` | what exists |
//! | `scope.rs` | names that end with a scope |
//! | `handover.rs` | descriptors over sockets and to children; handles that serialise |

mod create;
mod handover;
mod header;
mod listing;
mod name;
mod open;
mod parking;
mod place;
#[doc(hidden)]
pub mod placement;
mod region;
mod removal;
mod scope;
mod spec;

use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapRaw;

pub use handover::{SegmentHandle, recv_fd, send_fd};
pub use header::{FORMAT_VERSION, HEADER_SIZE, Kind, MAGIC};
pub use listing::{SegmentInfo, list};
pub use place::{DIRECTORY, Place};
pub use region::Region;
pub use removal::{sweep, unlink};
pub use scope::Scope;
pub use spec::Spec;

use crate::error::Error;
use crate::fork::PerProcess;
use crate::layout;
use crate::mutants::mutant;
use crate::participant::{ProcessId, Slot, Table};
use crate::sync::{AtomicU64, AtomicUsize, Ordering, prefetch_to_write};
use crate::sys::file::{self, FileId};
use header::{Header, PARTICIPANT_SIZE};

/// A mapped segment: a handle that is cheap to clone and safe to share between threads.
///
/// Dropping the last handle unmaps; the name stays until [`unlink`](Self::unlink), unless
/// [`Place::unlink_on_drop`] was asked for.
///
/// # Peer death
/// A creator killed at any instruction leaves nothing, or the whole segment. An attached process
/// that dies leaves its participant slot, which the next one takes, and its bytes as they were.
///
/// # Examples
/// ```
/// use shm_core::{Place, Segment};
///
/// # let name = format!("doc-segment-{}", std::process::id());
/// let frames = Segment::create(Place::named(&name).unlink_on_drop(true), 4096)?;
/// frames.write(0, b"frame 1")?;
///
/// let peer = Segment::open(&name, 4096)?; // in another process
/// let mut text = [0; 7];
/// peer.read(0, &mut text)?;
/// assert_eq!(&text, b"frame 1");
/// # Ok::<(), shm_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Segment {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    path: Option<PathBuf>,
    base: NonNull<u8>,
    /// Private copy of the header: the mapped one is not read again.
    header: Header,
    read_only: bool,
    /// Fork stamp of the creator whose drop takes the name away.
    owns_name: Option<u64>,
    participant: Participant,
    /// Where lock words lie, so that a lock held at the end keeps the mapping.
    lock_words: Mutex<Vec<usize>>,
    /// Last: everything above refers to it.
    backing: ManuallyDrop<Backing>,
}

#[derive(Debug)]
enum Backing {
    File {
        #[expect(dead_code, reason = "unmaps when it is dropped")]
        map: MmapRaw,
        file: OwnedFd,
        id: FileId,
    },
    Region(#[expect(dead_code, reason = "keeps the caller's memory")] region::Extent),
}

/// The slot through which this mapping is registered, and in which process.
#[derive(Debug, Default)]
struct Participant {
    /// Index + 1; 0 = none.
    slot: AtomicUsize,
    uses: AtomicU64,
    /// Fork stamp of the process that registered.
    stamp: AtomicU64,
    /// Held while registering: at the creation of the handle, or at the first use in a forked child.
    registering: PerProcess<()>,
}

// SAFETY:
// - `base` is an address inside `backing`, which is Send and Sync and lives as long;
// - the bytes behind it are reached through atomics or under locks that live in them.
unsafe impl Send for Inner {}
// SAFETY: as for Send.
unsafe impl Sync for Inner {}

/// Types that other processes may be writing while this one looks: all their fields are atomics.
///
/// # Safety
/// Every byte of the type is inside an atomic (or padding), so that any bytes are a value and any
/// write by another process is one the compiler reckons with; it has no pointers that are followed
/// without a check, and no drop glue.
#[doc(hidden)]
pub unsafe trait Shared: Send + Sync + 'static {}

macro_rules! shared {
    ($($atomic:ident),*) => {$(
        // SAFETY: one atomic word.
        unsafe impl Shared for crate::sync::$atomic {}
    )*};
}
shared!(
    AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicI8, AtomicI16, AtomicI32, AtomicI64
);

// SAFETY: two atomic words.
unsafe impl Shared for Slot {}

impl Segment {
    /// Name, path, or what stands for it in errors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The file of a named or file-backed segment.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// Payload size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inner.header.payload_size as usize
    }

    /// What lives in it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind(self.inner.header.kind)
    }

    /// Random number that tells apart all segments that ever had this name.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.header.generation
    }

    /// Whether this handle may only read.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    /// The process that created the segment.
    #[must_use]
    pub fn creator(&self) -> Option<ProcessId> {
        ProcessId::from_bits(self.inner.header.claim)
    }

    /// The living processes that are attached and registered, each as often as it is attached.
    ///
    /// Read-only attachments are not among them, nor are forked children that use an inherited
    /// handle: one that may outlive its parent opens the segment itself.
    #[must_use]
    pub fn participants(&self) -> Vec<ProcessId> {
        self.table().living().collect()
    }

    /// Copies bytes of the payload out, word by word; with writers at work the words may be of
    /// different writes.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; [`Error::Unsupported`] in the segment of a lock, a value, an array, a queue or a dictionary,
    /// whose bytes are those of its type alone; those of atomic values and arrays may be read.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.require_no_lock("plain reads of a segment with a lock in it")?;
        let from = self.at(offset, to.len())?;
        // SAFETY:
        // - in bounds: `at` checked it; mapped as long as `self`;
        // - writers go through `write`, which is atomic word by word; any bytes are `u8`s.
        unsafe { layout::load_bytes(from.as_ptr(), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies bytes into the payload, word by word.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::ReadOnly`]; [`Error::Unsupported`] as from [`read`](Self::read).
    ///
    /// # Peer death
    /// A writer killed on the way leaves some words new and some old.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.require_writable()?;
        self.require_no_lock("plain writes to a segment with a lock in it")?;
        let to = self.at(offset, from.len())?;
        // SAFETY:
        // - in bounds: `at` checked it; mapped as long as `self`, and writable;
        // - other writers go through here too and are atomic word by word.
        unsafe { layout::store_bytes(to.as_ptr(), from.as_ptr(), from.len()) };
        Ok(())
    }

    /// Allocates a range of the payload that was not reserved at creation. Before its first use:
    /// a touch of memory that is not there is a SIGBUS.
    ///
    /// # Errors
    /// [`Error::StorageFull`], [`Error::OutOfBounds`], [`Error::ReadOnly`].
    pub fn allocate(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.require_writable()?;
        self.at(offset, len)?;
        match &*self.inner.backing {
            Backing::File { file, .. } => {
                let start = self.inner.header.payload_offset + offset as u64;
                file::allocate(&self.inner.name, file, start, len as u64)
            }
            Backing::Region(_) => Ok(()),
        }
    }

    /// Maps a range that was [allocated](Self::allocate), in one call, instead of at the first touch of each page.
    /// What cannot be mapped now is mapped then.
    #[doc(hidden)]
    pub fn prefault(&self, offset: usize, len: usize) {
        let Ok(start) = self.at(offset, len) else {
            return;
        };
        let inside = start.addr().get() % 4096;
        file::prefault(start.as_ptr().wrapping_sub(inside), len + inside);
    }

    /// Gives the memory of a range back, which reads as zeros then. Who uses it again [allocates](Self::allocate)
    /// it first: even a read of memory that is not there can be a SIGBUS. In a region of the caller's nothing
    /// is given back, and nothing changes.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::ReadOnly`], [`Error::System`].
    #[doc(hidden)]
    pub fn discard(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.require_writable()?;
        self.at(offset, len)?;
        match &*self.inner.backing {
            Backing::File { file, .. } => {
                let start = self.inner.header.payload_offset + offset as u64;
                file::discard(&self.inner.name, file, start, len as u64)
            }
            Backing::Region(_) => Ok(()),
        }
    }

    /// The descriptor of a segment that has one, for [`send_fd`].
    ///
    /// # Errors
    /// [`Error::NotNamed`] for a region of the caller's.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, Error> {
        match &*self.inner.backing {
            Backing::File { file, .. } => Ok(file.as_fd()),
            Backing::Region(_) => Err(Error::NotNamed {
                segment: self.inner.name.clone(),
            }),
        }
    }

    /// A view of atomics in the payload, for the primitives that are built on segments.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Misaligned`].
    #[doc(hidden)]
    pub fn view<T: Shared>(&self, offset: usize) -> Result<&T, Error> {
        let at = self.at(offset, size_of::<T>())?.cast::<T>();
        if !at.is_aligned() {
            let (offset, align) = (offset as u64, align_of::<T>() as u64);
            return Err(Error::Misaligned {
                segment: self.inner.name.clone(),
                offset,
                align,
            });
        }
        // SAFETY:
        // - in bounds, aligned: just checked; mapped as long as `self` (INV-S1 of the crate doc);
        // - other writers: `T: Shared` consists of atomics; any bytes are a value.
        Ok(unsafe { at.as_ref() })
    }

    /// As [`view`](Self::view), `count` of them in a row.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Misaligned`].
    #[doc(hidden)]
    pub fn view_slice<T: Shared>(&self, offset: usize, count: usize) -> Result<&[T], Error> {
        let len = count.saturating_mul(size_of::<T>());
        let at = self.at(offset, len)?.cast::<T>();
        if !at.is_aligned() {
            let (offset, align) = (offset as u64, align_of::<T>() as u64);
            return Err(Error::Misaligned {
                segment: self.inner.name.clone(),
                offset,
                align,
            });
        }
        // SAFETY: as for `view`; `at` checked all `count` of them.
        Ok(unsafe { std::slice::from_raw_parts(at.as_ptr(), count) })
    }

    /// The address of a checked range of the payload.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`].
    #[doc(hidden)]
    pub fn at(&self, offset: usize, len: usize) -> Result<NonNull<u8>, Error> {
        let size = self.size();
        if offset > size || len > size - offset {
            let (offset, len, size) = (offset as u64, len as u64, size as u64);
            return Err(Error::OutOfBounds {
                segment: self.inner.name.clone(),
                offset,
                len,
                size,
            });
        }
        // SAFETY: payload_offset + payload_size <= total_size, which is mapped (INV-H2).
        Ok(unsafe {
            self.inner
                .base
                .add(self.inner.header.payload_offset as usize + offset)
        })
    }

    /// Asks for the line at that offset of the payload, to be written soon: a hint
    /// ([`sync::prefetch_to_write`](crate::sync::prefetch_to_write)), wherever it leads.
    #[doc(hidden)]
    #[inline]
    pub fn prefetch_to_write(&self, offset: usize) {
        let payload = self.inner.header.payload_offset as usize;
        let base = self.inner.base.as_ptr();
        prefetch_to_write(base.wrapping_add(payload.wrapping_add(offset)));
    }

    /// Says where a lock word lies: a lock that this process still holds when the last handle goes
    /// keeps the memory mapped, because the kernel's robust list leads into it.
    #[doc(hidden)]
    pub fn watch_lock(&self, offset: usize) {
        let mut words = self
            .inner
            .lock_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        words.push(offset);
    }

    /// This process's participant slot and how often that slot was taken; registers anew in a
    /// forked child.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`], [`Error::ReadOnly`].
    #[doc(hidden)]
    pub fn participant(&self) -> Result<(usize, u64), Error> {
        self.require_writable()?;
        let mine = &self.inner.participant;
        // PAIR participant-slot: Acquire sees the slot stored before the stamp.
        if mine.stamp.load(Ordering::Acquire) != crate::fork::stamp() {
            self.register()?;
        }
        // Relaxed: ordered by the stamp.
        let slot = mine.slot.load(Ordering::Relaxed);
        Ok((slot - 1, mine.uses.load(Ordering::Relaxed)))
    }

    /// Whether a slot is taken by a living process, for the use of which `is_use` says that it is meant.
    #[doc(hidden)]
    #[must_use]
    pub fn is_attached(&self, slot: usize, is_use: impl Fn(u64) -> bool) -> bool {
        self.table().is_attached(slot, is_use)
    }

    /// The living participants with their slots and the count of those slots' uses.
    #[doc(hidden)]
    #[must_use]
    pub fn attached(&self) -> Vec<(usize, u64, ProcessId)> {
        self.table().attached().collect()
    }

    /// The slots of participants that are dead, until somebody [buries](Self::bury) them.
    #[doc(hidden)]
    #[must_use]
    pub fn dead_participants(&self) -> Vec<(usize, ProcessId)> {
        self.table().dead().collect()
    }

    /// Frees the slot of a dead participant, after all that it left in the contents was settled.
    #[doc(hidden)]
    pub fn bury(&self, slot: usize, dead: ProcessId) {
        self.table().release(slot, dead);
    }

    fn register(&self) -> Result<(), Error> {
        let (mine, stamp) = (&self.inner.participant, crate::fork::stamp());
        let _one = mine.registering.lock();
        // Relaxed: under the lock.
        if mine.stamp.load(Ordering::Relaxed) == stamp {
            return Ok(());
        }
        let (slot, uses) = self.table().register(ProcessId::current()).ok_or_else(|| {
            let capacity = self.inner.header.participants;
            Error::TooManyParticipants {
                segment: self.inner.name.clone(),
                capacity,
            }
        })?;
        // Relaxed: published by the stamp.
        mine.slot.store(slot + 1, Ordering::Relaxed);
        mine.uses.store(uses, Ordering::Relaxed);
        // PAIR participant-slot: Release.
        mine.stamp.store(stamp, Ordering::Release);
        Ok(())
    }

    /// Removes the name, if it still refers to this segment. Mappings live on.
    ///
    /// # Errors
    /// [`Error::NotNamed`], [`Error::NotFound`], [`Error::Replaced`] (another segment has the name
    /// by now and keeps it), [`Error::Busy`].
    pub fn unlink(&self) -> Result<(), Error> {
        self.inner.unlink()
    }

    pub(crate) fn require_writable(&self) -> Result<(), Error> {
        match self.inner.read_only {
            true => Err(Error::ReadOnly {
                segment: self.inner.name.clone(),
            }),
            false => Ok(()),
        }
    }

    fn require_no_lock(&self, what: &'static str) -> Result<(), Error> {
        let locked = self.inner.header.flags & header::FLAG_LOCKED != 0;
        // While it is being made, nobody has the lock.
        match locked && self.inner.placement().is_ready() {
            true => Err(Error::Unsupported {
                segment: self.inner.name.clone(),
                what,
            }),
            false => Ok(()),
        }
    }

    fn table(&self) -> Table<'_> {
        self.inner.table()
    }
}

impl Inner {
    fn table(&self) -> Table<'_> {
        let slots = self.header.participants as usize;
        // SAFETY: 256 + 16 * participants <= payload_offset <= mapped size (INV-H2).
        let first = unsafe { self.base.add(HEADER_SIZE) }.cast::<Slot>();
        // SAFETY:
        // - in bounds as above; aligned: base is 64-aligned and 256 a multiple; mapped as long as self;
        // - other writers: slots are atomics; any bytes are a value.
        Table(unsafe { std::slice::from_raw_parts(first.as_ptr(), slots) })
    }

    /// The two words of the header that a region's creators and openers share.
    fn placement(&self) -> placement::Placement<'_> {
        let word = |offset: usize| {
            // SAFETY: offsets below HEADER_SIZE, which is mapped.
            let at = unsafe { self.base.add(offset) }.cast::<AtomicU64>();
            // SAFETY: aligned to 8, as base is to 64; mapped as long as self; an atomic word.
            unsafe { at.as_ref() }
        };
        placement::Placement {
            magic: word(0),
            claim: word(header::CLAIM_OFFSET),
        }
    }

    fn unlink(&self) -> Result<(), Error> {
        let Backing::File { id, .. } = &*self.backing else {
            return Err(Error::NotNamed {
                segment: self.name.clone(),
            });
        };
        match &self.path {
            Some(path) => removal::unlink_if(&self.name, path, *id),
            None => Err(Error::NotNamed {
                segment: self.name.clone(),
            }),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let stamp = crate::fork::stamp();
        if self.owns_name == Some(stamp)
            || self.owns_name.is_some() && mutant("Segment::ForkedChildUnlinks")
        {
            // Errors have nobody to go to; `sweep` finds what stayed.
            let _ = self.unlink();
        }
        // Relaxed: the last handle.
        let slot = self.participant.slot.load(Ordering::Relaxed);
        if slot != 0 && self.participant.stamp.load(Ordering::Relaxed) == stamp {
            self.table().release(slot - 1, ProcessId::current());
        }
        let payload = self.header.payload_offset as usize;
        let offsets = self
            .lock_words
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let word = |offset: usize| {
            // SAFETY: the offset was a checked view's, inside the payload.
            unsafe { self.base.add(payload + offset) }.cast()
        };
        let words = offsets.drain(..).map(word).collect();
        // SAFETY: taken once, here; nothing uses it any more.
        let backing = unsafe { ManuallyDrop::take(&mut self.backing) };
        parking::let_go(parking::Mapping { words, backing });
    }
}

const _: () = assert!(size_of::<Slot>() == PARTICIPANT_SIZE);
