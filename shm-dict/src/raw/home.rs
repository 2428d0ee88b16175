//! Where a mapping or a list has its root: in its shard, or as a container in the record of another.
//!
//! A container stands in the place of a value, in six words:
//!
//! ```text
//!  0  8 id, which no other container of the segment ever has
//!  8  1 kind: 1 a mapping, 2 a list    9  1 depth: how many containers it is inside of, with itself
//! 16  8 types: a hash of their names
//! 24  8 root: a table word, of epoch 0; an array is a table word too
//! 32  8 entries of a mapping           40  8 tombstones of its table
//! ```
//!
//! Its root is changed where it is, under the shard's lock, as the shard's own is.

use shm_core::sync::{AtomicU64, Ordering};

use super::{Damaged, TableWord, Writer};

/// Words of a container.
pub const CONTAINER: usize = 6;
/// Containers inside of each other, at most.
pub const MAX_DEPTH: u32 = 32;

/// What kind of container something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keys and values.
    Map,
    /// Values in a row.
    List,
}

/// What a container is created as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The kind.
    pub kind: Kind,
    /// A hash of the names of the types.
    pub types: u64,
}

/// A container in a record.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    words: &'a [AtomicU64; CONTAINER],
}

/// The words of a mapping or a list.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    pub(super) root: &'a AtomicU64,
    pub(super) count: &'a AtomicU64,
    pub(super) tombstones: &'a AtomicU64,
    pub(super) epoch: u64,
    /// Containers that it is inside of, with itself.
    pub(super) depth: u32,
}

impl Shape {
    /// The bytes of a new container's words.
    pub(super) fn bytes(self, id: u64, depth: u32) -> [u8; CONTAINER * 8] {
        let kind = match self.kind {
            Kind::Map => 1,
            Kind::List => 2,
        };
        let root = TableWord::none(0).0;
        let words = [id, kind | u64::from(depth) << 8, self.types, root, 0, 0];
        let mut bytes = [0; CONTAINER * 8];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

impl<'a> Container<'a> {
    /// The container of these words.
    #[must_use]
    pub(super) fn of(words: &'a [AtomicU64]) -> Option<Self> {
        let words = words.try_into().ok()?;
        Some(Self { words })
    }

    fn word(&self, index: usize) -> u64 {
        // Relaxed: behind the Acquire of PAIR dict-entry, or under the shard's lock.
        self.words[index].load(Ordering::Relaxed)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.word(0)
    }

    /// What it is.
    ///
    /// # Errors
    /// [`Damaged`] if it is neither.
    pub fn shape(&self) -> Result<Shape, Damaged> {
        let word = self.word(1);
        let kind = match word & 0xFF {
            1 => Kind::Map,
            2 => Kind::List,
            _ => {
                return Err(Damaged {
                    field: "kind of a container",
                    value: word,
                });
            }
        };
        let types = self.word(2);
        Ok(Shape { kind, types })
    }

    /// Its root, if it is no deeper than a container may be.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn home(&self) -> Result<Home<'a>, Damaged> {
        let word = self.word(1);
        let depth = (word >> 8 & 0xFF) as u32;
        // None is of depth 0: that is what tells it from a shard's own root.
        if depth == 0 || depth > MAX_DEPTH {
            return Err(Damaged {
                field: "depth of a container",
                value: word,
            });
        }
        let [_, _, _, root, count, tombstones] = self.words;
        Ok(Home {
            root,
            count,
            tombstones,
            epoch: 0,
            depth,
        })
    }
}

impl<'a> Home<'a> {
    /// How many containers it is inside of, with itself.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Entries of a mapping, by its own count.
    #[must_use]
    pub fn entries(&self) -> u64 {
        // PAIR dict-count: Acquire, for a reader's next look at the generation.
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn set_counts(&self, entries: u64, tombstones: u64) {
        // PAIR dict-count: Release.
        self.count.store(entries, Ordering::Release);
        // Relaxed: the shard's lock.
        self.tombstones.store(tombstones, Ordering::Relaxed);
    }

    /// The table word of the present epoch, under the shard's lock.
    #[inline(always)]
    pub(super) fn table_word(&self) -> TableWord {
        // Relaxed: the shard's lock.
        let word = TableWord(self.root.load(Ordering::Relaxed));
        match word.is_of(self.epoch) {
            true => word,
            false => TableWord::none(self.epoch),
        }
    }
}

impl<'a> Writer<'a> {
    /// The shard's own root.
    #[inline(always)]
    #[must_use]
    pub fn home(&self) -> Home<'a> {
        Home {
            root: &self.shard.front.0.table,
            count: &self.shard.count,
            tombstones: &self.shard.tombstones,
            epoch: self.epoch(),
            depth: 0,
        }
    }
}
