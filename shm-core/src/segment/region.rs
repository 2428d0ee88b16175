//! Memory of the caller's own, where every primitive can live too.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

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
    keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY:
// - a Region is an address range that lives as long as `keep`, which is Send and Sync itself;
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
        Self {
            start,
            len,
            keep: Arc::new(keep),
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
    /// The offset must be a multiple of 64, or creating in it will say so.
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
            keep: Arc::clone(&self.keep),
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
