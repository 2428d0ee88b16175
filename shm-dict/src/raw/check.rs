//! The proof that every block of a shard is used once, or free once.

use std::collections::HashSet;

use shm_core::sync::Ordering;

use super::heap::UNIT;
use super::rebuild::{Counts, Held};
use super::table::Table;
use super::{Damaged, Found, Kind, Map, Owner, RawDict, Use, Writer, size_of_class};

/// What a check counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Entries.
    pub entries: u64,
    /// Bytes of keys and values.
    pub payload: u64,
    /// Chunks that belong to shards.
    pub chunks: u64,
    /// Blocks that are free within them.
    pub free_blocks: u64,
}

impl core::ops::AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.payload += other.payload;
        self.chunks += other.chunks;
        self.free_blocks += other.free_blocks;
    }
}

fn require(holds: bool, field: &'static str, value: u64) -> Result<(), Damaged> {
    match holds {
        true => Ok(()),
        false => Err(Damaged { field, value }),
    }
}

impl Writer<'_> {
    /// Checks that every mapping leads to its keys, each found where it is, and that each block of the shard's chunks is
    /// used once or free once; counts them.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn check(&self) -> Result<Account, Damaged> {
        let census = self.census()?;
        for (home, kind, counts) in &census.homes {
            if *kind == Kind::Map {
                self.map(*home).check(*counts)?;
            }
        }
        let free = self.free_blocks()?;
        for held in &census.held {
            self.check_chunk(held, &free)?;
        }
        Ok(Account {
            entries: census.top.entries,
            payload: census.payload,
            chunks: census.held.len() as u64,
            free_blocks: free.len() as u64,
        })
    }

    /// The blocks in the free lists.
    fn free_blocks(&self) -> Result<HashSet<u64>, Damaged> {
        let mut free = HashSet::new();
        for lists in self.shard.classes.iter() {
            let mut next = lists.free.load(Ordering::Relaxed);
            while let Some(unit) = next.checked_sub(1) {
                require(free.insert(unit), "free list", unit)?;
                next = self.dict.word(unit)?.load(Ordering::Relaxed);
            }
        }
        Ok(free)
    }

    fn check_chunk(&self, held: &Held, free: &HashSet<u64>) -> Result<(), Damaged> {
        let chunk = u64::from(held.chunk);
        let Use::Blocks(class) = held.used else {
            return require(!held.is_unused(), "run of chunks", chunk);
        };
        let units = (size_of_class(class) / UNIT) as u64;
        let per_chunk = (1 << self.dict.limits.chunk_shift) / UNIT as u64;
        // From the bump on, blocks were never given out.
        let bump = self.shard.classes[class].bump.load(Ordering::Relaxed);
        let bump = bump.checked_sub(1).filter(|unit| unit / per_chunk == chunk);
        let bump = bump.unwrap_or((chunk + 1) * per_chunk);
        for block in 0..per_chunk / units {
            let unit = chunk * per_chunk + block * units;
            let uses = [
                held.is_live(block as usize),
                free.contains(&unit),
                unit >= bump,
            ];
            let uses = uses.into_iter().filter(|used| *used).count();
            require(uses == 1, "uses of a block", unit)?;
        }
        Ok(())
    }
}

impl Map<'_, '_> {
    /// Checks that the counts are right, and that each key is found where it is.
    fn check(&self, counts: Counts) -> Result<(), Damaged> {
        // Relaxed: the shard's lock.
        let (count, tombstones) = (self.count(), self.home.tombstones.load(Ordering::Relaxed));
        require(count == counts.entries, "count of a mapping", count)?;
        require(
            tombstones == counts.tombstones,
            "tombstones of a mapping",
            tombstones,
        )?;
        let (mut key, dict) = (Vec::new(), self.writer.dict);
        for entry in self.table()?.into_iter().flat_map(Table::live) {
            dict.record(entry.unit())?.key().copy_to(&mut key);
            let hash = dict.hash(&key);
            let is_here = self.home.depth > 0 || dict.shard_of(hash) == self.writer.index;
            require(is_here, "shard of a key", hash)?;
            let found = self.find(hash, &key)?;
            let is_it = matches!(found, Found::At { unit, .. } if unit == entry.unit());
            require(is_it, "place of a key", hash)?;
        }
        Ok(())
    }
}

impl RawDict {
    /// Checks that each chunk belongs to a shard that there is, or to nobody. Under all locks.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn check_owners(&self) -> Result<(), Damaged> {
        for word in &self.owners[..self.frontier() as usize] {
            // Relaxed: all locks.
            let bits = word.load(Ordering::Relaxed);
            let owner = Owner::from_bits(bits);
            let known = (0..self.shards.len()).any(|shard| owner.is_of(shard));
            require(!owner.is_taken() || known, "owner of a chunk", bits.into())?;
        }
        Ok(())
    }
}
