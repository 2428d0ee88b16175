//! The proof that every block of a shard is used once, or free once.

use shm_core::sync::Ordering;

use super::heap::UNIT;
use super::rebuild::{Census, Counts, Held};
use super::table::Table;
use super::{Damaged, Found, Kind, Map, Owner, RawDict, Use, Writer, class_of, size_of_class};

/// What a check counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Entries, or elements.
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
        let mut census = self.census()?;
        for (home, kind, counts) in &census.homes {
            if *kind == Kind::Map {
                self.map(*home).check(*counts)?;
            }
        }
        let free_blocks = self.mark_free(&mut census)?;
        self.check_bumps()?;
        for held in &census.held {
            self.check_chunk(held)?;
        }
        Ok(Account {
            entries: census.top.entries,
            payload: census.payload,
            chunks: census.held.len() as u64,
            free_blocks,
        })
    }

    /// Notes the blocks of the free lists beside those that are used: none may be noted before. Counts them.
    fn mark_free(&self, census: &mut Census<'_>) -> Result<u64, Damaged> {
        let mut count = 0;
        for (class, lists) in self.shard.classes.iter().enumerate() {
            let size = size_of_class(class);
            let has_blocks = class_of(size, self.dict.limits.chunk_shift).is_some();
            // Relaxed, both: the shard's lock.
            let mut next = lists.free.load(Ordering::Relaxed);
            while let Some(unit) = next.checked_sub(1) {
                let is_noted = has_blocks && census.mark(unit, size).is_ok();
                require(is_noted, "free list", unit)?;
                count += 1;
                next = self.dict.word(unit)?.load(Ordering::Relaxed);
            }
        }
        Ok(count)
    }

    /// What was never given out of a chunk begins at a block of its class.
    fn check_bumps(&self) -> Result<(), Damaged> {
        let bumps = self.shard.classes.iter().map(|lists| &lists.bump);
        for (class, bump) in bumps.enumerate() {
            // Relaxed: the shard's lock.
            if let Some(unit) = bump.load(Ordering::Relaxed).checked_sub(1) {
                let is_block = self.check_block(unit, class).is_ok();
                require(is_block, "bump of a class", unit)?;
            }
        }
        Ok(())
    }

    /// Each block of a chunk is noted, or was never given out.
    fn check_chunk(&self, held: &Held) -> Result<(), Damaged> {
        let Use::Blocks(class) = held.used else {
            return require(!held.is_unused(), "run of chunks", held.chunk.into());
        };
        let units = (size_of_class(class) / UNIT) as u64;
        let per_chunk = (1 << self.dict.limits.chunk_shift) / UNIT as u64;
        let first = u64::from(held.chunk) * per_chunk;
        // From the bump on, blocks were never given out. Relaxed: the shard's lock.
        let bump = self.shard.classes[class].bump.load(Ordering::Relaxed);
        let bump = bump
            .checked_sub(1)
            .filter(|unit| unit / per_chunk == held.chunk.into());
        let bump = bump.unwrap_or(first + per_chunk);
        for block in 0..per_chunk / units {
            let unit = first + block * units;
            let is_noted = held.is_live(block as usize);
            require(is_noted == (unit < bump), "uses of a block", unit)?;
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
