//! The largest allocation of a piece of code: a length that an attacker wrote must not become one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Larger than this is only what is no larger than the segment: paths, error texts and the buffers
/// of std's file reading are below.
const ORDINARY: usize = 16 << 10;

/// Size of the largest allocation since it was last set to 0.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// Size of the segment that is worked on.
static SIZE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Watched = Watched;

struct Watched;

// SAFETY: every call goes to `System` unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's own contract.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's own contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller's own contract.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs code that works on a segment of `size` bytes.
///
/// # Panics
/// If it allocates more than that at once.
pub(crate) fn bounded<R>(size: usize, code: impl FnOnce() -> R) -> R {
    SIZE.store(size, Ordering::Relaxed);
    LARGEST.store(0, Ordering::Relaxed);
    let result = code();
    check(size.max(ORDINARY));
    result
}

fn check(most: usize) {
    let largest = LARGEST.load(Ordering::Relaxed);
    let size = SIZE.load(Ordering::Relaxed);
    assert!(
        largest <= most,
        "an allocation of {largest} bytes for a segment of {size}"
    );
}

/// Within [`bounded`], code that decodes all elements or entries. In the segment each has 8 bytes at least; as many as fit, decoded,
/// may take more than the segment, and a vector grows ahead.
///
/// # Panics
/// If it allocates more at once than 64 bytes for each of so many.
pub(crate) fn bounded_by_elements<R>(code: impl FnOnce() -> R) -> R {
    let before = LARGEST.swap(0, Ordering::Relaxed);
    let result = code();
    check(SIZE.load(Ordering::Relaxed) / 8 * 64);
    LARGEST.store(before, Ordering::Relaxed);
    result
}
