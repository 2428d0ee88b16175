//! The two kinds of words that say what is in a dictionary.
//!
//! ```text
//! entry:  63..48 tag: hash bits 63..48, the lowest of them set | 47..0 block / 16
//!         0: empty   1: tombstone
//! table:  63..48 epoch | 47..40 binary logarithm of the buckets, plus 1; 0: no table | 39..0 block / 16
//! ```
//!
//! Blocks are counted from the start of the heap.

use core::fmt;

const UNIT_BITS: u32 = 48;
const UNIT_MASK: u64 = (1 << UNIT_BITS) - 1;

/// A place in a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// Nothing was ever here, in this table: a search ends.
    pub const EMPTY: Self = Self(0);
    /// Something was here: a search goes on.
    pub const TOMBSTONE: Self = Self(1);

    /// The word of a record.
    #[inline]
    #[must_use]
    pub const fn new(hash: u64, unit: u64) -> Self {
        Self(Self::tag(hash) | unit & UNIT_MASK)
    }

    #[inline]
    const fn tag(hash: u64) -> u64 {
        (hash | 1 << UNIT_BITS) & !UNIT_MASK
    }

    /// Whether it leads to a record.
    #[inline]
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.0 > UNIT_MASK
    }

    /// Whether the record may have a key of that hash.
    #[inline]
    #[must_use]
    pub const fn may_be(self, hash: u64) -> bool {
        self.0 & !UNIT_MASK == Self::tag(hash)
    }

    /// The record's block, in units of 16 bytes.
    #[inline]
    #[must_use]
    pub const fn unit(self) -> u64 {
        self.0 & UNIT_MASK
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EMPTY => f.write_str("Empty"),
            Self::TOMBSTONE => f.write_str("Tombstone"),
            Self(word) => write!(f, "Entry({:#x}, {:#x})", word >> UNIT_BITS, self.unit()),
        }
    }
}

const TABLE_UNIT_MASK: u64 = (1 << 40) - 1;
/// The largest table: 2^31 buckets of eight.
pub(super) const MAX_LOG_BUCKETS: u32 = 31;

/// Where a shard's table is, and of which epoch of the dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableWord(pub u64);

impl TableWord {
    /// No table: the shard is empty.
    #[must_use]
    pub const fn none(epoch: u64) -> Self {
        Self(epoch << 48)
    }

    /// A table of 2^`log_buckets` buckets; `None` if the block is beyond what the word can say.
    #[must_use]
    pub const fn new(epoch: u64, log_buckets: u32, unit: u64) -> Option<Self> {
        if log_buckets > MAX_LOG_BUCKETS || unit > TABLE_UNIT_MASK {
            return None;
        }
        Some(Self(epoch << 48 | (log_buckets as u64 + 1) << 40 | unit))
    }

    /// Whether it is of this epoch. One of another is as if there was none: the dictionary was cleared.
    #[inline]
    #[must_use]
    pub const fn is_of(self, epoch: u64) -> bool {
        self.0 >> 48 == epoch & 0xFFFF
    }

    /// The table's block and the binary logarithm of its buckets.
    #[inline]
    #[must_use]
    pub const fn table(self) -> Option<(u64, u32)> {
        match self.0 >> 40 & 0xFF {
            0 => None,
            log => Some((self.0 & TABLE_UNIT_MASK, log as u32 - 1)),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_never_taken_for_empty() {
        for hash in [0, 1, u64::MAX, 0xFFFE << 48] {
            let entry = Entry::new(hash, 0);
            assert!(entry.is_live() && entry.may_be(hash), "{hash:#x}");
            assert_eq!(Entry::new(hash, 77).unit(), 77);
        }
        assert!(!Entry::EMPTY.is_live() && !Entry::TOMBSTONE.is_live());
    }

    #[test]
    fn a_table_word_says_what_it_was_made_of() {
        let word = TableWord::new(0x1_0007, 31, (1 << 40) - 1).unwrap();
        assert!(word.is_of(7) && !word.is_of(8));
        assert_eq!(word.table(), Some(((1 << 40) - 1, 31)));
        assert_eq!(TableWord::none(3).table(), None);
        assert_eq!(TableWord::new(0, 32, 0), None);
        assert_eq!(TableWord::new(0, 0, 1 << 40), None);
    }
}
