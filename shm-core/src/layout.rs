//! Bytes that another process may be writing, copied in and out without ever forming a reference.
//!
//! Each aligned word of up to 8 bytes is one relaxed atomic access, so a racing copy is at worst a
//! mixture of old and new words, never undefined; who needs more validates with a sequence number or holds a lock.

use crate::mutants::mutant;
use crate::sync::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Calls `$step` for ascending offsets below `$len`, each time with the widest atomic that is
/// aligned there and still fits: so an aligned item of 1, 2, 4 or 8 bytes is one access.
macro_rules! by_words {
    ($shared:expr, $len:expr, $step:ident) => {{
        let mut at = 0;
        while at < $len {
            let (address, left) = ($shared.addr() + at, $len - at);
            at += match () {
                () if mutant("Layout::CopiesByteByByte") => $step!(at, AtomicU8, u8, 1),
                () if left >= 8 && address.is_multiple_of(8) => $step!(at, AtomicU64, u64, 8),
                () if left >= 4 && address.is_multiple_of(4) => $step!(at, AtomicU32, u32, 4),
                () if left >= 2 && address.is_multiple_of(2) => $step!(at, AtomicU16, u16, 2),
                () => $step!(at, AtomicU8, u8, 1),
            };
        }
    }};
}

/// Copies `len` bytes out of shared memory.
///
/// # Safety
/// `from` is valid for `len` bytes of memory that lives on and to which all writers, in any
/// process, write atomically or under a lock that the caller holds too; `to` is valid for writing
/// `len` bytes that are the caller's alone.
#[inline]
pub unsafe fn load_bytes(from: *const u8, to: *mut u8, len: usize) {
    macro_rules! step {
        ($at:expr, $atomic:ty, $int:ty, $size:literal) => {{
            // SAFETY: `$at + $size` is at most `len`.
            let source = unsafe { from.add($at) }.cast::<$atomic>();
            // SAFETY: in bounds and aligned (`by_words`); an atomic; any bytes are a value.
            let source = unsafe { &*source };
            // Relaxed: the caller orders the copy as a whole (fence or lock).
            let word: $int = source.load(Ordering::Relaxed);
            // SAFETY: `$at + $size` is at most `len`, of the caller's own buffer.
            let target = unsafe { to.add($at) }.cast::<[u8; $size]>();
            // SAFETY: the caller's own bytes; byte arrays need no alignment.
            unsafe { target.write(word.to_ne_bytes()) };
            $size
        }};
    }
    by_words!(from, len, step);
}

/// Copies `len` bytes into shared memory.
///
/// # Safety
/// `to` is valid for `len` bytes of memory that lives on and is writable, and which all others, in
/// any process, read and write atomically or under a lock that the caller holds; `from` is valid for reading `len` bytes of the caller's.
#[inline]
pub unsafe fn store_bytes(to: *mut u8, from: *const u8, len: usize) {
    macro_rules! step {
        ($at:expr, $atomic:ty, $int:ty, $size:literal) => {{
            // SAFETY: `$at + $size` is at most `len`, of the caller's own buffer.
            let source = unsafe { from.add($at) }.cast::<[u8; $size]>();
            // SAFETY: the caller's own bytes; byte arrays need no alignment.
            let word = unsafe { source.read() };
            // SAFETY: `$at + $size` is at most `len`.
            let target = unsafe { to.add($at) }.cast::<$atomic>();
            // SAFETY: in bounds and aligned (`by_words`); an atomic; any bytes are a value.
            let target = unsafe { &*target };
            // Relaxed: the caller orders the copy as a whole (fence or lock).
            target.store(<$int>::from_ne_bytes(word), Ordering::Relaxed);
            $size
        }};
    }
    by_words!(to, len, step);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_goes_in_and_comes_out() {
        let pattern: Vec<u8> = (0..64).collect();
        for start in 0..9 {
            for len in 0..40 {
                let mut shared = [0xEEu8; 64];
                let base = shared.as_mut_ptr();
                let mut out = vec![0; len];
                let (shared_at, pattern) = (base.wrapping_add(start), pattern.as_ptr());
                // SAFETY: start + len is below 64, both buffers are this test's own.
                unsafe { store_bytes(shared_at, pattern, len) };
                // SAFETY: as above.
                unsafe { load_bytes(shared_at, out.as_mut_ptr(), len) };
                assert!(out.iter().copied().eq(0..len as u8), "{start} {len}");
                assert_eq!(shared[start + len], 0xEE, "one byte behind the copy");
            }
        }
    }
}
