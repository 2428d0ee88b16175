//! Bytes that another process may be writing, copied in and out without ever forming a reference.
//!
//! Each word is one relaxed atomic access, so a racing copy is at worst a mixture of old and new
//! words, never undefined; who needs more validates with a sequence number or holds a lock.

use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// Copies `len` bytes out of shared memory.
///
/// # Safety
/// `from` is valid for `len` bytes of memory that lives on and to which all writers, in any
/// process, write atomically or under a lock that the caller holds too; `to` is valid for writing
/// `len` bytes that are the caller's alone.
pub unsafe fn load_bytes(from: *const u8, to: *mut u8, len: usize) {
    let words = if from.addr().is_multiple_of(8) {
        len / 8
    } else {
        0
    };
    for i in 0..words {
        // SAFETY: the i-th whole word is in bounds and aligned, as `words` says.
        let source = unsafe { from.add(i * 8) };
        // SAFETY: as above; an AtomicU64 has the layout of a u64, and any bytes are one.
        let word = unsafe { &*source.cast::<AtomicU64>() };
        // Relaxed: the caller orders the copy as a whole (fence or lock).
        let word = word.load(Ordering::Relaxed).to_ne_bytes();
        // SAFETY: in bounds of the caller's own buffer.
        let target = unsafe { to.add(i * 8) };
        // SAFETY: eight bytes of the caller's own, no alignment needed.
        unsafe { target.cast::<[u8; 8]>().write(word) };
    }
    for i in words * 8..len {
        // SAFETY: byte i is in bounds.
        let source = unsafe { from.add(i) };
        // SAFETY: as above; an AtomicU8 has the layout of a u8.
        let byte = unsafe { &*source.cast::<AtomicU8>() };
        // SAFETY: byte i is in bounds of the caller's own buffer.
        let target = unsafe { to.add(i) };
        // SAFETY: the caller's own byte. Relaxed: as above.
        unsafe { target.write(byte.load(Ordering::Relaxed)) };
    }
}

/// Copies `len` bytes into shared memory.
///
/// # Safety
/// `to` is valid for `len` bytes of memory that lives on, is writable, and to which no other
/// process or thread writes meanwhile; `from` is valid for reading `len` bytes of the caller's.
pub unsafe fn store_bytes(to: *mut u8, from: *const u8, len: usize) {
    let words = if to.addr().is_multiple_of(8) {
        len / 8
    } else {
        0
    };
    for i in 0..words {
        // SAFETY: in bounds of the caller's own buffer.
        let source = unsafe { from.add(i * 8) };
        // SAFETY: eight bytes of the caller's own, no alignment needed.
        let word = unsafe { source.cast::<[u8; 8]>().read() };
        // SAFETY: the i-th whole word is in bounds and aligned, as `words` says.
        let target = unsafe { to.add(i * 8) };
        // SAFETY: as above; an AtomicU64 has the layout of a u64.
        let target = unsafe { &*target.cast::<AtomicU64>() };
        // Relaxed: the caller orders the copy as a whole (fence or lock).
        target.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
    for i in words * 8..len {
        // SAFETY: byte i is in bounds of the caller's own buffer.
        let source = unsafe { from.add(i) };
        // SAFETY: the caller's own byte.
        let byte = unsafe { source.read() };
        // SAFETY: byte i is in bounds.
        let target = unsafe { to.add(i) };
        // SAFETY: as above; an AtomicU8 has the layout of a u8.
        let target = unsafe { &*target.cast::<AtomicU8>() };
        // Relaxed: as above.
        target.store(byte, Ordering::Relaxed);
    }
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
