//! Where the parts of a queue lie in its segment.
//!
//! Payload, kinds `QUEU` and `JOIN`, version 1; each part aligned to 128 bytes, the arena to 4096:
//!
//! | part | bytes |
//! |---|---|
//! | [`Control`] | 1024 |
//! | halves: senders and receivers of each participant | 8 each, 1024 of them |
//! | ring: cell numbers in the queue's order | 4 each, as many as cells, rounded up to a power of two |
//! | freed ring: cell numbers given back by consumers | the same |
//! | stack: cell numbers that producers may take | 4 each, as many as cells |
//! | bitmap: chunks in use | 1 bit each, rounded up to 8 bytes |
//! | cells: heads of the messages, and messages that fit | 64 to 256 each |
//! | arena: chunks of 256 bytes for the others; memory is allocated as it is used | `arena_bytes` |

use std::mem::size_of;

use crate::options::Shape;
use crate::raw::{CHUNK, Cell, Control, Limits, MAX_SLOTS};

/// Bytes of the largest cell.
const MAX_STRIDE: u64 = 256;
/// The longest message that lies in a cell; longer ones lie in the arena.
pub(crate) const MAX_INLINE: u64 = MAX_STRIDE - size_of::<Cell>() as u64;

/// Offsets and sizes, computed from what the queue was created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) limits: Limits,
    pub(crate) cells: u32,
    pub(crate) stride: usize,
    pub(crate) ring_len: usize,
    pub(crate) bitmap_len: usize,
    pub(crate) halves_at: usize,
    pub(crate) ring_at: usize,
    pub(crate) freed_at: usize,
    pub(crate) stack_at: usize,
    pub(crate) bitmap_at: usize,
    pub(crate) cells_at: usize,
    pub(crate) arena_at: usize,
    pub(crate) size: u64,
}

impl Layout {
    /// `None` if the shape cannot be: an option outside of its bounds.
    pub(crate) fn new(shape: &Shape) -> Option<Self> {
        shape.check().ok()?;
        let stride = (size_of::<Cell>() as u64 + shape.max_message)
            .next_multiple_of(64)
            .clamp(64, MAX_STRIDE);
        let inline = stride - size_of::<Cell>() as u64;
        let needs_arena = shape.max_message > inline;
        let chunks = match needs_arena {
            true => u32::try_from(shape.arena_bytes.div_ceil(CHUNK as u64)).ok()?,
            false => 0,
        };
        let cells = shape
            .capacity
            .checked_add(shape.leases)?
            .checked_add(shape.dead_letters)?;
        let ring_len = (cells as usize).next_power_of_two();
        let bitmap_len = (chunks as usize).div_ceil(64);
        let after = |start: usize, bytes: usize| (start + bytes).next_multiple_of(128);
        let halves_at = size_of::<Control>();
        let ring_at = after(halves_at, 8 * MAX_SLOTS);
        let freed_at = after(ring_at, 4 * ring_len);
        let stack_at = after(freed_at, 4 * ring_len);
        let bitmap_at = after(stack_at, 4 * cells as usize);
        let cells_at = after(bitmap_at, 8 * bitmap_len);
        let cells_end = cells_at + stride as usize * cells as usize;
        let arena_at = match needs_arena {
            true => cells_end.next_multiple_of(4096),
            false => cells_end,
        };
        Some(Self {
            limits: Limits {
                capacity: shape.capacity,
                leases: shape.leases,
                dead_letters: shape.dead_letters,
                max_deliveries: shape.max_deliveries,
                inline: inline as u32,
                chunks,
            },
            cells,
            stride: stride as usize,
            ring_len,
            bitmap_len,
            halves_at,
            ring_at,
            freed_at,
            stack_at,
            bitmap_at,
            cells_at,
            arena_at,
            size: arena_at as u64 + u64::from(chunks) * CHUNK as u64,
        })
    }

    /// Where a message lies in the payload: in its cell or in the arena.
    pub(crate) fn bytes_at(&self, index: u32, chunk: u32, len: u32) -> usize {
        match len > self.limits.inline {
            true => self.arena_at + chunk as usize * CHUNK,
            false => self.cells_at + index as usize * self.stride + size_of::<Cell>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Shape;

    #[test]
    fn parts_follow_each_other_and_do_not_overlap() {
        for (capacity, max_message) in [(1, 1), (1, 224), (10, 225), (1000, 65536), (4096, 96)] {
            let shape = Shape {
                capacity,
                max_message,
                arena_bytes: 1 << 20,
                ..Shape::default()
            };
            let l = Layout::new(&shape).unwrap();
            let ends = [
                (l.halves_at, l.ring_at, 8 * MAX_SLOTS),
                (l.ring_at, l.freed_at, 4 * l.ring_len),
                (l.freed_at, l.stack_at, 4 * l.ring_len),
                (l.stack_at, l.bitmap_at, 4 * l.cells as usize),
                (l.bitmap_at, l.cells_at, 8 * l.bitmap_len),
                (l.cells_at, l.arena_at, l.stride * l.cells as usize),
            ];
            for (start, next, bytes) in ends {
                assert!(
                    start % 128 == 0 && start + bytes <= next,
                    "{shape:?}: {l:?}"
                );
            }
            assert!(l.ring_len >= l.cells as usize);
            let fits = max_message <= u64::from(l.limits.inline);
            assert_eq!(l.limits.chunks == 0, fits, "{shape:?}: {l:?}");
        }
    }

    #[test]
    fn shapes_that_cannot_be_have_no_layout() {
        let none = |shape: Shape| assert_eq!(Layout::new(&shape), None);
        let some = Shape::default();
        none(Shape {
            capacity: 0,
            ..some
        });
        none(Shape {
            capacity: u32::MAX,
            ..some
        });
        none(Shape {
            leases: u32::MAX,
            ..some
        });
        none(Shape { leases: 0, ..some });
        none(Shape {
            max_message: 0,
            ..some
        });
        none(Shape {
            arena_bytes: 4096,
            max_message: 4097,
            ..some
        });
        none(Shape {
            arena_bytes: u64::MAX,
            ..some
        });
    }
}
