//! Where a key is, or would go: buckets of eight words, a line each, searched one after the other.
//!
//! A search ends at a bucket with an empty word. Words never move within a table, and a word that is taken
//! out leaves a tombstone unless its bucket has an empty word anyway: so a reader misses no key that is there.

use shm_core::sync::{AtomicU64, Ordering};

use super::words::MAX_LOG_BUCKETS;
use super::{Damaged, Entry, RawDict, Record, Tag};

/// Words of a bucket.
pub(super) const WIDTH: usize = 8;

/// The words of a shard's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    pub(super) slots: &'a [AtomicU64],
}

/// What a search found.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The key is there.
    At {
        /// Its place in the table.
        slot: usize,
        /// Its block.
        unit: u64,
        /// What it leads to.
        record: Record<'a>,
    },
    /// It is not; there is a place for it, which may be a tombstone.
    Free {
        /// The place.
        slot: usize,
        /// Whether a tombstone is there.
        tombstone: bool,
    },
    /// It is not, and there is no place, or no table.
    Nowhere,
}

/// The bytes of a table; more than any heap has for what is larger than any table.
pub(super) const fn table_bytes(log_buckets: u32) -> usize {
    match log_buckets {
        0..=MAX_LOG_BUCKETS => (WIDTH * 8) << log_buckets,
        _ => usize::MAX,
    }
}

/// Places of a bucket: a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places(u32);

impl Places {
    /// Those with such an entry. Looked at all at once: which is the first cannot be guessed, and a branch for each
    /// would be wrong once in each search.
    #[inline(always)]
    pub(super) fn of(bucket: &[AtomicU64; WIDTH], is_such: impl Fn(Entry) -> bool) -> Self {
        // Relaxed: the shard's lock, or nothing is believed (`approach`).
        let is_such = |place: usize| is_such(Entry(bucket[place].load(Ordering::Relaxed)));
        Self(
            (0..WIDTH)
                .map(|place| u32::from(is_such(place)) << place)
                .sum(),
        )
    }

    /// Those where no key is.
    #[inline(always)]
    fn dead(bucket: &[AtomicU64; WIDTH]) -> Self {
        Self::of(bucket, |entry| !entry.is_live())
    }
}

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (place < WIDTH).then_some(place)
    }
}

impl RawDict {
    #[inline(always)]
    pub(super) fn table(&self, unit: u64, log_buckets: u32) -> Result<Table<'_>, Damaged> {
        let slots = self.block(unit, table_bytes(log_buckets) / 8)?;
        Ok(Table { slots })
    }
}

impl<'a> Table<'a> {
    /// The first places of the buckets to search, in order; each bucket once.
    #[inline(always)]
    pub(super) fn probe(self, hash: u64) -> impl Iterator<Item = usize> {
        let mask = self.slots.len() / WIDTH - 1;
        let first = hash as usize & mask;
        (0..=mask).map(move |step| ((first + step) & mask) * WIDTH)
    }

    #[inline(always)]
    pub(super) fn bucket(self, first: usize) -> &'a [AtomicU64; WIDTH] {
        // Of a place that `probe` gave: there are as many.
        self.slots[first..].first_chunk().expect("whole buckets")
    }

    /// Searches under the shard's lock.
    #[inline]
    pub(super) fn find(
        self,
        dict: &'a RawDict,
        hash: u64,
        key: &[u8],
    ) -> Result<Found<'a>, Damaged> {
        let (tag, mut free) = (Tag::of(hash), Found::Nowhere);
        for first in self.probe(hash) {
            let bucket = self.bucket(first);
            for place in Places::of(bucket, |entry| entry.has(tag)) {
                // Relaxed, here and below: the shard's lock.
                let unit = Entry(bucket[place].load(Ordering::Relaxed)).unit();
                let record = dict.record(unit)?;
                if record.has_key(key) {
                    let slot = first + place;
                    return Ok(Found::At { slot, unit, record });
                }
            }
            for place in Places::dead(bucket) {
                let slot = first + place;
                let tombstone = Entry(bucket[place].load(Ordering::Relaxed)) != Entry::EMPTY;
                if matches!(free, Found::Nowhere) {
                    free = Found::Free { slot, tombstone };
                }
                if !tombstone {
                    return Ok(free);
                }
            }
        }
        Ok(free)
    }

    /// The first free place on a key's way, in a table that nobody else sees.
    pub(super) fn place(self, hash: u64) -> Option<&'a AtomicU64> {
        self.probe(hash).find_map(|first| {
            let bucket = self.bucket(first);
            let place = Places::dead(bucket).next()?;
            Some(&bucket[place])
        })
    }

    /// The places on a key's way, and what is there.
    pub(super) fn places(self, hash: u64) -> impl Iterator<Item = (usize, &'a AtomicU64, Entry)> {
        let buckets = self.probe(hash);
        let places = buckets.flat_map(move |first| (first..).zip(self.bucket(first)));
        // Relaxed: the shard's lock.
        places.map(|(slot, place)| (slot, place, Entry(place.load(Ordering::Relaxed))))
    }

    /// The entries that lead to records.
    pub(super) fn live(self) -> impl Iterator<Item = Entry> {
        // Relaxed: the shard's lock.
        let entries = self
            .slots
            .iter()
            .map(|slot| Entry(slot.load(Ordering::Relaxed)));
        entries.filter(|entry| entry.is_live())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_cannot_be_fits_nowhere() {
        assert_eq!(table_bytes(3), 512);
        // Shifted by so much, 64 would be 0, or 64 again.
        assert_eq!([32, 58, 64, 254].map(table_bytes), [usize::MAX; 4]);
    }
}
