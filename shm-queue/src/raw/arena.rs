//! The chunks for messages that do not fit into their cells: a bitmap, searched from the lowest address.
//!
//! Lowest first keeps the memory warm and small: what was given back last is used again, and memory that a
//! queue never needed is never touched. All under the put lock; a cache (INV-Q3).

use shm_core::sync::Ordering;

use super::RawQueue;

/// Bytes of a chunk.
pub const CHUNK: usize = 256;

/// The longest message that is copied under a lock, in bytes: to take the lock a second time costs as much.
const SHORT: u32 = 2048;

/// Chunks that `len` bytes take.
#[must_use]
pub(crate) fn chunks_for(len: u32) -> u32 {
    len.div_ceil(CHUNK as u32)
}

impl RawQueue {
    /// Whether a message of `len` bytes lies in the arena.
    #[inline]
    pub(crate) fn is_large(&self, len: u32) -> bool {
        len > self.limits.inline
    }

    /// Whether a message is copied outside the locks.
    #[inline]
    pub(crate) fn is_long(&self, len: u32) -> bool {
        len > SHORT
    }

    /// The lowest `count` free chunks in a row.
    pub(super) fn find_run(&self, count: u32) -> Option<u32> {
        // Relaxed, here and below: under the put lock.
        let lowest = self.control.put.lowest.load(Ordering::Relaxed);
        let end = u64::from(self.limits.chunks);
        let (mut start, mut at) = (u64::from(lowest), u64::from(lowest));
        while at < end {
            let word = self.bitmap.get((at / 64) as usize)?;
            let bits = word.load(Ordering::Relaxed) >> (at % 64);
            let free = match bits {
                0 => 64 - at % 64,
                bits => u64::from(bits.trailing_zeros()),
            };
            at += free;
            if at.min(end).saturating_sub(start) >= u64::from(count) {
                return Some(start as u32);
            }
            if bits != 0 {
                at += u64::from((bits >> free).trailing_ones());
                start = at;
            }
        }
        None
    }

    /// Notes chunks as used, or as free.
    pub(super) fn set_run(&self, first: u32, count: u32, used: bool) {
        let (mut at, end) = (u64::from(first), u64::from(first) + u64::from(count));
        while at < end {
            let Some(word) = self.bitmap.get((at / 64) as usize) else {
                return;
            };
            let stretch = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - stretch)) << (at % 64);
            // Relaxed: under the put lock.
            let bits = word.load(Ordering::Relaxed);
            let bits = if used { bits | mask } else { bits & !mask };
            word.store(bits, Ordering::Relaxed);
            at += stretch;
        }
        self.note_run(first, count, used);
    }

    fn note_run(&self, first: u32, count: u32, used: bool) {
        let put = &self.control.put;
        // Relaxed, all: under the put lock.
        let (lowest, chunks) = (
            put.lowest.load(Ordering::Relaxed),
            put.chunks.load(Ordering::Relaxed),
        );
        let (lowest, chunks) = if used {
            let lowest = if lowest == first {
                first + count
            } else {
                lowest
            };
            (lowest, chunks.wrapping_add(count))
        } else {
            (lowest.min(first), chunks.wrapping_sub(count))
        };
        put.lowest.store(lowest, Ordering::Relaxed);
        put.chunks.store(chunks, Ordering::Relaxed);
    }

    /// Whether any of the chunks is in use.
    pub(super) fn any_used(&self, first: u32, count: u32) -> bool {
        (u64::from(first)..u64::from(first) + u64::from(count)).any(|at| {
            let word = self.bitmap.get((at / 64) as usize);
            // Relaxed: under the put lock.
            word.is_none_or(|word| word.load(Ordering::Relaxed) >> (at % 64) & 1 != 0)
        })
    }
}
