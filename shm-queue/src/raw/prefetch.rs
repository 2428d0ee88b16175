//! Lines fetched before they are needed.
//!
//! Every line of a cell goes from the producer's processor to the consumer's and back, which takes longer than
//! all the rest of a put or a get; and since each of these ends with an instruction that waits for all stores
//! before it, the lines of two messages would never be under way at once. So each side asks for the
//! lines of cells that it is going to use: they are its alone, since they are free, or ready and the
//! other side is done with them; but for one who spins for the only message, which another may want as well. Hints: no
//! byte depends on them.

#[cfg(not(loom))]
pub(crate) use machine::LINE;

#[cfg(loom)]
use super::RawQueue;

#[cfg(not(loom))]
mod machine {
    use shm_core::sync::{AtomicU32, Ordering, prefetch_to_read, prefetch_to_write};

    use super::super::{Cell, RawQueue};

    /// Bytes of a line.
    pub(crate) const LINE: usize = 64;

    /// Cells that are under way at a time: with half as many the next one is not there in time.
    const CELLS: u32 = 8;

    /// Places of a ring, so that its next line is under way.
    const PLACES: u64 = 16;

    impl RawQueue {
        /// Under the put lock, with `top` cells on the stack: the one that is popped in a while, for a message of
        /// `len` bytes too.
        #[inline]
        pub(crate) fn prefetch_stacked(&self, top: u32, len: u32) {
            if let Some(place) = top.checked_sub(CELLS) {
                self.prefetch_cell(self.stack.get(place as usize), len);
            }
        }

        /// Before the get lock, for one who has waited for the only message: its place in the ring, and the lines of
        /// its cell that a short one takes. All at once: the place alone would have to come before the cell is known.
        #[inline]
        pub(crate) fn prefetch_only(&self, head: u64) {
            prefetch_to_read(&raw const self.ring[self.at(head)]);
            self.prefetch_cell(Some(&self.control.shown.last), LINE as u32);
        }

        /// Under the get lock: the cell that comes to the front in a while, if it is known to be ready, and
        /// if its message has `len` bytes too.
        #[inline]
        pub(crate) fn prefetch_ready(&self, head: u64, tail_seen: u64, len: u32) {
            if tail_seen.wrapping_sub(head) > u64::from(CELLS) {
                let place = self.at(head.wrapping_add(CELLS.into()));
                self.prefetch_cell(self.ring.get(place), len);
            }
        }

        /// Under the put lock: the place of the ring that is a line behind `tail`.
        #[inline]
        pub(crate) fn prefetch_ring(&self, tail: u64) {
            prefetch_to_write(&raw const self.ring[self.at(tail.wrapping_add(PLACES))]);
        }

        /// Under the get lock: the place of the freed ring that is a line behind `freed`.
        #[inline]
        pub(crate) fn prefetch_freed(&self, freed: u64) {
            prefetch_to_write(&raw const self.freed[self.at(freed.wrapping_add(PLACES))]);
        }

        /// The lines of the cell whose number stands in this place that a message of `len` bytes takes.
        #[inline]
        fn prefetch_cell(&self, place: Option<&AtomicU32>, len: u32) {
            let (Some(place), cells) = (place, &self.cells) else {
                return;
            };
            // Relaxed: a hint, and wherever a wrong one leads, nothing is read there.
            let index = place.load(Ordering::Relaxed) as usize;
            let cell = cells.base.wrapping_add(index.wrapping_mul(cells.stride));
            let inside = if self.is_large(len) { 0 } else { len };
            let taken = size_of::<Cell>() + inside as usize;
            for at in (0..taken).step_by(LINE) {
                prefetch_to_write(cell.wrapping_add(at));
            }
        }
    }
}

/// A model has no caches, and its loads cost.
#[cfg(loom)]
impl RawQueue {
    pub(super) fn prefetch_only(&self, _: u64) {}
    pub(super) fn prefetch_ring(&self, _: u64) {}
    pub(super) fn prefetch_freed(&self, _: u64) {}
    pub(super) fn prefetch_stacked(&self, _: u32, _: u32) {}
    pub(super) fn prefetch_ready(&self, _: u64, _: u64, _: u32) {}
}
