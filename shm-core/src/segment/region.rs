//! Memory of the caller's own, where every primitive can live too.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fork;

/// Memory that the caller mapped: a `shared_memory::Shmem`, a memmap2 map, or plain process memory.
///
/// What is created in it is found again by opening the same bytes, in this process or in another
/// that maps them. A fresh region must be zeroed, as new shared memory is.
///
/// # Examples
/// ```
/// use shm_core::{Region, Segment};
///
/// let region = Region::heap(4096);
/// let made = Segment::create(region.clone(), 100)?;
/// made.write(0, b"hello")?;
/// let mut word = [0; 5];
/// Segment::open(region, 100)?.read(0, &mut word)?;
/// assert_eq!(&word, b"hello");
/// # Ok::<(), shm_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    shared: Arc<Shared>,
}

/// What a region and all its parts have in common.
struct Shared {
    /// Start and end of every segment that this process has attached in them, once a handle.
    /// INV-E1: two of them are the same or do not overlap, so that what one protects no other reaches.
    extents: Mutex<Vec<(usize, usize)>>,
    /// Of the process that made it.
    stamp: u64,
    #[expect(dead_code, reason = "keeps the memory")]
    keep: Box<dyn Any + Send + Sync>,
}

/// The bytes of a region that a segment is in; given back when it is dropped.
pub(super) struct Extent {
    region: Region,
    bytes: (usize, usize),
}

impl Drop for Extent {
    fn drop(&mut self) {
        // Bytes that stay taken are only refused to others.
        let Some(mut extents) = self.region.extents() else {
            return;
        };
        if let Some(at) = extents.iter().position(|extent| *extent == self.bytes) {
            extents.swap_remove(at);
        }
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Extent").field(&self.region).finish()
    }
}

// SAFETY:
// - a Region is an address range that lives as long as `shared`, which is Send and Sync itself;
// - the bytes are only touched through atomics or under a lock that lives in them.
unsafe impl Send for Region {}
// SAFETY: as for Send.
unsafe impl Sync for Region {}

impl Region {
    /// Takes memory that the caller vouches for.
    ///
    /// # Safety
    /// `start` is valid for reads and writes of `len` bytes for as long as `keep` lives, in
    /// whichever thread; nobody, in any process, touches these bytes but through this family.
    pub unsafe fn new(start: NonNull<u8>, len: usize, keep: impl Any + Send + Sync) -> Self {
        let shared = Shared {
            extents: Mutex::default(),
            stamp: fork::stamp(),
            keep: Box::new(keep),
        };
        Self {
            start,
            len,
            shared: Arc::new(shared),
        }
    }

    /// Zeroed memory of this process alone, aligned to 4096 bytes: for tests, examples, threads.
    ///
    /// # Panics
    /// If `len` is beyond `isize::MAX`.
    #[must_use]
    pub fn heap(len: usize) -> Self {
        #[repr(C, align(4096))]
        #[derive(Clone, Copy, zerocopy::FromBytes)]
        struct Page([u8; 4096]);
        struct Pages(
            #[allow(dead_code, reason = "kept alive, used by address")] NonNull<Page>,
            usize,
        );
        impl Drop for Pages {
            fn drop(&mut self) {
                let pages = std::ptr::slice_from_raw_parts_mut(self.0.as_ptr(), self.1);
                // SAFETY: this is the box that `heap` took apart, put together once.
                drop(unsafe { Box::from_raw(pages) });
            }
        }
        // SAFETY: sent and shared as an address only; freed once, by whoever drops it last.
        unsafe impl Send for Pages {}
        // SAFETY: as for Send.
        unsafe impl Sync for Pages {}

        let count = len.div_ceil(4096).max(1);
        let pages: Box<[Page]> = <[Page] as zerocopy::FromZeros>::new_box_zeroed_with_elems(count)
            .expect("a region of at most isize::MAX bytes");
        // SAFETY: into_raw gives the address of a live box, never null.
        let start = unsafe { NonNull::new_unchecked(Box::into_raw(pages).cast::<Page>()) };
        let pages = Pages(start, count);
        // SAFETY: the pages live as long as `pages`, and nobody else has their address.
        unsafe { Self::new(start.cast(), len, pages) }
    }

    /// A user's existing `shared_memory::Shmem`; kept mapped until the last primitive in it is gone.
    #[cfg(feature = "shared_memory")]
    #[must_use]
    pub fn from_shmem(shmem: shared_memory::Shmem) -> Self {
        struct Kept(
            #[allow(dead_code, reason = "kept alive, used by address")] shared_memory::Shmem,
        );
        // SAFETY: a Shmem is an address, a descriptor and a name; it is only dropped from here on.
        unsafe impl Send for Kept {}
        // SAFETY: as for Send; no method is called through a shared reference.
        unsafe impl Sync for Kept {}

        let len = shmem.len();
        let start = NonNull::new(shmem.as_ptr()).expect("a mapped Shmem has an address");
        // SAFETY:
        // - the mapping lives as long as the Shmem that is kept;
        // - other holders of the same Shmem reach its bytes only by `unsafe` of their own.
        unsafe { Self::new(start, len, Kept(shmem)) }
    }

    /// A part of this region, for one primitive beside another. `None` if it is not inside.
    ///
    /// The offset must be a multiple of 64, or creating in it will say so. Parts may overlap, but a
    /// segment that would overlap another one in them is refused.
    #[must_use]
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        // SAFETY: offset is inside, as just checked.
        let start = unsafe { self.start.add(offset) };
        Some(Self {
            start,
            len,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Bytes in the region.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the region has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the first `len` bytes for a segment; says why not.
    pub(super) fn occupy(&self, len: usize) -> Result<Extent, &'static str> {
        let start = self.start.as_ptr().addr();
        let bytes = (start, start.saturating_add(len));
        let mut extents = self.extents().ok_or(
            "a region in which a thread of the parent's was at work as this child was forked",
        )?;
        let apart = |other: &(usize, usize)| bytes.1 <= other.0 || other.1 <= bytes.0;
        if !extents.iter().all(|other| *other == bytes || apart(other)) {
            return Err("a segment that overlaps another one in the same region");
        }
        extents.push(bytes);
        Ok(Extent {
            region: self.clone(),
            bytes,
        })
    }

    fn extents(&self) -> Option<MutexGuard<'_, Vec<(usize, usize)>>> {
        fork::lock_inherited(&self.shared.extents, self.shared.stamp)
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("start", &self.start)
            .field("len", &self.len)
            .finish()
    }
}
