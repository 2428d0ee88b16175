//! Where the parts of a dictionary lie in its segment.
//!
//! Payload, kind `DICT` or `LIST`, version 1; each part aligned to 128 bytes, the heap to 4096:
//!
//! | part | bytes |
//! |---|---|
//! | [`Control`] | 512 |
//! | shards | 1152 each |
//! | owners: a word for each chunk; memory is allocated as it is used | 4 each |
//! | heap: chunks; memory is allocated as it is used | `max_bytes`, in whole chunks |

use std::mem::size_of;

use crate::options::{MAX_KEY, Shape};
use crate::raw::{Control, Limits, Shard};

/// Offsets and sizes, computed from what the dictionary was created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) limits: Limits,
    pub(crate) shards_at: usize,
    pub(crate) owners_at: usize,
    pub(crate) heap_at: usize,
    pub(crate) size: u64,
}

impl Layout {
    /// `None` if the shape cannot be: an option outside of its bounds.
    pub(crate) fn new(shape: &Shape) -> Option<Self> {
        shape.check().ok()?;
        let chunk_shift = shape.chunk_shift();
        let chunks = u32::try_from(shape.max_bytes >> chunk_shift).ok()?;
        let shards_at = size_of::<Control>();
        let owners_at = shards_at + size_of::<Shard>() * shape.shards as usize;
        let heap_at = (owners_at + 4 * chunks as usize).next_multiple_of(4096);
        let heap = u64::from(chunks) << chunk_shift;
        Some(Self {
            limits: Limits {
                chunk_shift,
                chunks,
                max_key: MAX_KEY,
                max_value: shape.max_value,
                seed: shape.seed,
                root: shape.root,
            },
            shards_at,
            owners_at,
            heap_at,
            size: heap_at as u64 + heap,
        })
    }

    /// Bytes of the heap.
    pub(crate) fn heap_len(&self) -> usize {
        (self.limits.chunks as usize) << self.limits.chunk_shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn parts_follow_each_other_and_do_not_overlap() {
        for (bytes, shards) in [(16 << 10, 1), (1 << 20, 16), (1 << 30, 256), (1 << 42, 16)] {
            let shape = Options::new().max_bytes(bytes).shards(shards).shape();
            let layout = Layout::new(&shape).unwrap();
            let chunks = layout.limits.chunks as usize;
            assert!(layout.shards_at.is_multiple_of(128) && layout.owners_at.is_multiple_of(128));
            assert!(
                layout.owners_at + 4 * chunks <= layout.heap_at,
                "{layout:?}"
            );
            assert!((4..=1 << 18).contains(&chunks), "{layout:?}");
            assert_eq!(layout.heap_at as u64 + bytes, layout.size);
        }
    }

    #[test]
    fn shapes_that_cannot_be_have_no_layout() {
        let none = |options: Options| assert_eq!(Layout::new(&options.shape()), None);
        none(Options::new().max_bytes(0));
        none(Options::new().max_bytes(u64::MAX));
        none(Options::new().shards(0));
        none(Options::new().shards(3));
        none(Options::new().shards(512));
        none(Options::new().max_value(0));
        none(Options::new().max_value(u32::MAX));
    }
}
