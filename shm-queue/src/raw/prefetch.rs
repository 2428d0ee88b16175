//! Lines fetched before they are needed.
//!
//! Every line of a cell goes from the producer's processor to the consumer's and back, which takes longer than
//! all the rest of a put or a get; and since each of these ends with an instruction that waits for all stores
//! before it, the lines of two messages would never be under way at once. So each side asks for the
//! lines of cells that it is going to use: they are its alone, since they are free, or ready and the
//! other side is done with them. Hints: no byte depends on them.

#[cfg(not(loom))]
use shm_core::sync::Ordering;
use shm_core::sync::{AtomicU32, prefetch_to_write};

use super::RawQueue;

/// Cells that are under way at a time: with half as many the next one is not there in time.
#[cfg(not(loom))]
const CELLS: u32 = 8;

/// Places of a ring, so that its next line is under way.
const PLACES: u64 = 16;

impl RawQueue {
    /// The place behind `position` by a line, in a ring that this side writes.
    #[inline]
    pub(super) fn prefetch_place(&self, ring: &[AtomicU32], position: u64) {
        prefetch_to_write(&raw const ring[self.at(position.wrapping_add(PLACES))]);
    }
}

#[cfg(not(loom))]
impl RawQueue {
    /// Under the put lock, with `top` cells on the stack: the one that is popped in a while.
    #[inline]
    pub(super) fn prefetch_stacked(&self, top: u32) {
        if let Some(place) = top.checked_sub(CELLS) {
            self.prefetch_cell(self.stack.get(place as usize));
        }
    }

    /// Under the get lock: the cell that comes to the front in a while, if it is known to be ready.
    #[inline]
    pub(super) fn prefetch_ready(&self, head: u64, tail_seen: u64) {
        if tail_seen.wrapping_sub(head) > u64::from(CELLS) {
            let place = self.at(head.wrapping_add(CELLS.into()));
            self.prefetch_cell(self.ring.get(place));
        }
    }

    /// The first two lines of the cell whose number stands in this place.
    #[inline]
    fn prefetch_cell(&self, place: Option<&AtomicU32>) {
        let (Some(place), cells) = (place, &self.cells) else {
            return;
        };
        // Relaxed: a hint, and wherever a wrong one leads, nothing is read there.
        let index = place.load(Ordering::Relaxed) as usize;
        let cell = cells.base.wrapping_add(index.wrapping_mul(cells.stride));
        prefetch_to_write(cell);
        if cells.stride > 64 {
            prefetch_to_write(cell.wrapping_add(64));
        }
    }
}

/// A model has no caches, and its loads cost.
#[cfg(loom)]
impl RawQueue {
    pub(super) fn prefetch_stacked(&self, _: u32) {}
    pub(super) fn prefetch_ready(&self, _: u64, _: u64) {}
}
