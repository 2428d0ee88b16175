//! Bytes that another process may be writing, copied in and out without ever forming a reference.
//!
//! Each aligned word of up to 8 bytes is one relaxed atomic access, so a racing copy of the same bytes is at worst a
//! mixture of old and new words, never undefined; who needs more validates with a sequence number or holds a lock. Of copies of
//! different lengths the last words may be of different widths: each is one access of the processor still, but Rust's own
//! memory model does not speak of those.

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

/// Bytes from which on [`load_words`] and [`store_words`] copy in blocks.
const BLOCKS_FROM: usize = 64;

/// As [`load_bytes`], from an address that is a multiple of 8, and faster.
///
/// A racing copy is a mixture of old and new words here too: an instruction that copies two words copies each of
/// them whole.
///
/// # Safety
/// As [`load_bytes`]; `from` is aligned to 8.
#[inline(always)]
pub unsafe fn load_words(from: *const u8, to: *mut u8, len: usize) {
    let blocks = if len >= BLOCKS_FROM { len / 32 } else { 0 };
    if blocks > 0 {
        // SAFETY: 32 * `blocks` bytes are at most `len` of each.
        unsafe { copy_blocks(from, to, blocks) };
    }
    let mut at = blocks * 32;
    while at + 8 <= len {
        // SAFETY: in bounds: `at + 8` is at most `len`.
        let source = unsafe { from.add(at) }.cast::<AtomicU64>();
        // SAFETY: in bounds, and aligned as `from` is; an atomic; any bytes are a value.
        let source = unsafe { &*source };
        // SAFETY: in bounds, of the caller's own buffer.
        let target = unsafe { to.add(at) }.cast::<[u8; 8]>();
        // Relaxed: the caller orders the copy as a whole. SAFETY: the caller's own bytes; no alignment needed.
        unsafe { target.write(source.load(Ordering::Relaxed).to_ne_bytes()) };
        at += 8;
    }
    if at < len {
        let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
        // SAFETY: what is left of both.
        unsafe { load_bytes(from, to, len - at) };
    }
}

/// As [`store_bytes`], to an address that is a multiple of 8, and faster.
///
/// # Safety
/// As [`store_bytes`]; `to` is aligned to 8.
#[inline(always)]
pub unsafe fn store_words(to: *mut u8, from: *const u8, len: usize) {
    let blocks = if len >= BLOCKS_FROM { len / 32 } else { 0 };
    if blocks > 0 {
        // SAFETY: 32 * `blocks` bytes are at most `len` of each.
        unsafe { copy_blocks(from, to, blocks) };
    }
    let mut at = blocks * 32;
    while at + 8 <= len {
        // SAFETY: in bounds, of the caller's own buffer.
        let source = unsafe { from.add(at) }.cast::<[u8; 8]>();
        // SAFETY: the caller's own bytes; no alignment needed.
        let word = u64::from_ne_bytes(unsafe { source.read() });
        // SAFETY: in bounds: `at + 8` is at most `len`.
        let target = unsafe { to.add(at) }.cast::<AtomicU64>();
        // SAFETY: in bounds, and aligned as `to` is; an atomic; any bytes are a value.
        let target = unsafe { &*target };
        // Relaxed: the caller orders the copy as a whole.
        target.store(word, Ordering::Relaxed);
        at += 8;
    }
    if at < len {
        let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
        // SAFETY: what is left of both.
        unsafe { store_bytes(to, from, len - at) };
    }
}

/// Copies blocks of 32 bytes, in assembly: the compiler must not assume that nobody else writes to them.
///
/// # Safety
/// Both are valid for so many blocks; others write to shared ones as [`load_bytes`] and [`store_bytes`] say.
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing))))]
#[inline(always)]
unsafe fn copy_blocks(from: *const u8, to: *mut u8, blocks: usize) {
    // SAFETY: reads and writes these bytes alone. The registers are clobbered as is said.
    unsafe {
        core::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "add {from}, 32",
            "add {to}, 32",
            "dec {blocks}",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            blocks = inout(reg) blocks => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// AddressSanitizer does not see what assembly reads and writes, and a fuzz target has one thread.
#[cfg(fuzzing)]
#[inline(always)]
unsafe fn copy_blocks(from: *const u8, to: *mut u8, blocks: usize) {
    // SAFETY: the caller's own contract; nobody else writes.
    unsafe { to.copy_from_nonoverlapping(from, blocks * 32) };
}

#[cfg(all(any(not(target_arch = "x86_64"), miri), not(fuzzing)))]
#[inline(always)]
unsafe fn copy_blocks(from: *const u8, to: *mut u8, blocks: usize) {
    // The private one of the two is read or written as if it was shared.
    for word in 0..blocks * 4 {
        let (from, to) = (from.wrapping_add(word * 8), to.wrapping_add(word * 8));
        let mut bytes = [0_u8; 8];
        // SAFETY: eight bytes of each.
        unsafe { load_bytes(from, bytes.as_mut_ptr(), 8) };
        // SAFETY: as above.
        unsafe { store_bytes(to, bytes.as_ptr(), 8) };
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

    #[test]
    fn every_length_of_words_goes_in_and_comes_out() {
        let pattern: Vec<u8> = (0..200).collect();
        for len in 0..200 {
            let mut shared = [0xEEEE_EEEE_EEEE_EEEE_u64; 26];
            let at = shared.as_mut_ptr().cast::<u8>();
            let mut out = vec![0xDD; len + 1];
            // SAFETY: `len` is at most 200 bytes of 208, both buffers are this test's own; a `u64` is aligned.
            unsafe { store_words(at, pattern.as_ptr(), len) };
            // SAFETY: as above.
            unsafe { load_words(at, out.as_mut_ptr(), len) };
            assert_eq!(out[..len], pattern[..len]);
            assert_eq!(out[len], 0xDD, "{len}: one byte behind the copy out");
            let behind = shared[len / 8].to_ne_bytes()[len % 8];
            assert_eq!(behind, 0xEE, "{len}: one byte behind the copy in");
        }
    }
}
