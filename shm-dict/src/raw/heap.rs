//! Blocks, given out and taken back under a shard's lock. Free lists and bumps are caches.

use shm_core::sync::{Ordering, fence};

use shm_lock::Patience;

use super::{Damaged, Fault, Owner, RawDict, Refused, Shard, Use, Writer, class_of, size_of_class};

/// Bytes of a unit, in which blocks are counted.
pub(super) const UNIT: usize = 16;

impl Writer<'_> {
    /// Binary logarithm of the units of a chunk.
    #[inline]
    fn units_shift(&self) -> u32 {
        self.dict.limits.chunk_shift - UNIT.ilog2()
    }

    /// The chunk of a unit; `u32::MAX` for one beyond all chunks.
    #[inline]
    fn chunk_of(&self, unit: u64) -> u32 {
        u32::try_from(unit >> self.units_shift()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn first_unit(&self, chunk: u32) -> u64 {
        u64::from(chunk) << self.units_shift()
    }

    fn chunks_for(&self, bytes: usize) -> u64 {
        (bytes as u64).div_ceil(1 << self.dict.limits.chunk_shift)
    }

    /// A block of at least so many bytes, that nothing leads to yet. Nothing else may be in that state:
    /// where there is no room, all that nothing leads to is collected.
    pub(super) fn allocate(&self, bytes: usize) -> Result<u64, Refused> {
        let unit = match self.allocate_now(bytes) {
            Err(Refused::Full { .. }) if self.collect_all()? => self.allocate_now(bytes)?,
            result => result?,
        };
        if !self.dict.broken(Fault::ReusesWithoutFence) {
            // PAIR dict-generation: who reads what is stored from here on sees what cut the block off.
            fence(Ordering::Release);
        }
        Ok(unit)
    }

    /// As [`allocate`](Self::allocate), for one of several blocks: until the pins are let go, nothing that was allocated so
    /// is collected.
    pub(super) fn allocate_pinned(&self, bytes: usize) -> Result<u64, Refused> {
        let unit = self.allocate(bytes)?;
        self.pins.borrow_mut().push((unit, bytes));
        Ok(unit)
    }

    /// Something leads to the blocks now.
    pub(super) fn unpin(&self) {
        self.pins.borrow_mut().clear();
    }

    /// Nothing will lead to the blocks: takes them back, unless they are those of this process's parent.
    pub(super) fn free_pinned(&self) -> Result<(), Damaged> {
        let pins = self.pins.take();
        if self.ensure_held().is_err() {
            return Ok(());
        }
        pins.into_iter()
            .try_for_each(|(unit, bytes)| self.free(unit, bytes))
    }

    fn allocate_now(&self, bytes: usize) -> Result<u64, Refused> {
        let shift = self.dict.limits.chunk_shift;
        match class_of(bytes, shift) {
            Some(class) => self.allocate_block(class),
            None => {
                let count = u32::try_from(self.chunks_for(bytes)).unwrap_or(u32::MAX);
                let first = self.dict.take_run(self.index, count, self.memory)?;
                Ok(self.first_unit(first))
            }
        }
    }

    fn allocate_block(&self, class: usize) -> Result<u64, Refused> {
        let lists = &self.shard.classes[class];
        // Relaxed, all: the shard's lock.
        if let Some(unit) = lists.free.load(Ordering::Relaxed).checked_sub(1) {
            self.check_block(unit, class)?;
            let next = self.dict.word(unit)?.load(Ordering::Relaxed);
            lists.free.store(next, Ordering::Relaxed);
            return Ok(unit);
        }
        let unit = match lists.bump.load(Ordering::Relaxed).checked_sub(1) {
            Some(unit) => {
                self.check_block(unit, class)?;
                unit
            }
            None => {
                let chunk = self.dict.take_chunk(self.index, class, self.memory)?;
                self.first_unit(chunk)
            }
        };
        let units = (size_of_class(class) / UNIT) as u64;
        let next = unit + units;
        let has_room = self.chunk_of(next + units - 1) == self.chunk_of(unit);
        lists
            .bump
            .store(if has_room { next + 1 } else { 0 }, Ordering::Relaxed);
        Ok(unit)
    }

    /// What is given out must be a block of this shard: a list that was damaged leads anywhere.
    #[inline]
    pub(super) fn check_block(&self, unit: u64, class: usize) -> Result<(), Damaged> {
        let chunk = self.chunk_of(unit);
        let owner = self.dict.owner(chunk);
        // Units of a chunk are few enough for 32 bits, which are divided faster.
        let inside = (unit & ((1 << self.units_shift()) - 1)) as u32;
        let units = (size_of_class(class) / UNIT) as u32;
        let fits = inside.is_multiple_of(units) && inside + units <= 1 << self.units_shift();
        if owner.is_of(self.index) && owner.used() == Some(Use::Blocks(class)) && fits {
            return Ok(());
        }
        Err(Damaged {
            field: "free list",
            value: unit,
        })
    }

    /// Takes a block back that was cut off, and of which so many bytes were asked for.
    pub(super) fn free(&self, unit: u64, bytes: usize) -> Result<(), Damaged> {
        let Some(class) = class_of(bytes, self.dict.limits.chunk_shift) else {
            return self.free_run(unit, bytes);
        };
        self.check_block(unit, class)?;
        let lists = &self.shard.classes[class];
        // Relaxed, all: the shard's lock.
        let first = lists.free.load(Ordering::Relaxed);
        self.dict.word(unit)?.store(first, Ordering::Relaxed);
        lists.free.store(unit + 1, Ordering::Relaxed);
        let freed = self.shard.freed.load(Ordering::Relaxed);
        let size = size_of_class(class) as u64;
        self.shard
            .freed
            .store(freed.saturating_add(size), Ordering::Relaxed);
        Ok(())
    }

    fn free_run(&self, unit: u64, bytes: usize) -> Result<(), Damaged> {
        let damaged = Damaged {
            field: "run of chunks",
            value: unit,
        };
        let first = self.chunk_of(unit);
        let count = u32::try_from(self.chunks_for(bytes)).map_err(|_| damaged)?;
        let end = first.checked_add(count).ok_or(damaged)?;
        let is_ours = |chunk| {
            let owner = self.dict.owner(chunk);
            let used = if chunk == first { Use::Head } else { Use::Rest };
            owner.is_of(self.index) && owner.used() == Some(used)
        };
        if unit != self.first_unit(first) || !(first..end).all(is_ours) {
            return Err(damaged);
        }
        // The head last: what is killed on the way leaves a head, which the rebuild knows to be unused.
        for chunk in (first..end).rev() {
            self.dict.give_back(chunk);
        }
        // Relaxed: a hint.
        self.dict.run_hint.store(first, Ordering::Relaxed);
        Ok(())
    }

    /// Finds whole chunks among the blocks that this shard was given back, and the other shards, as far as nobody
    /// is at work there; says whether it looked.
    #[cold]
    fn collect_all(&self) -> Result<bool, Refused> {
        let mut looked = self.is_worth_collecting();
        if looked {
            self.collect()?;
        }
        for index in 0..self.dict.shards.len() {
            let other = &self.dict.shards[index];
            // What an orphaned one has is known after the repair.
            let worth = is_worth_collecting(other, self.dict) || other.lock.is_orphaned();
            if index == self.index || !worth {
                continue;
            }
            // SAFETY: as for this writer: the same memory, the same thread, and the guard does not outlive it.
            let entered = unsafe { self.dict.enter(index, Patience::None, self.memory) };
            if let Ok((writer, rebuilt)) = entered {
                if let Some(rebuilt) = rebuilt {
                    self.memory.repaired(&rebuilt);
                    // What is told of it may have forked.
                    writer.ensure_held().map_err(|_| Refused::NotMine)?;
                }
                writer.drop_empty_table();
                writer.collect()?;
                looked = true;
            }
        }
        Ok(looked)
    }

    /// Whether a block's chunks are all this shard's, and have memory.
    #[must_use]
    pub fn owns(&self, unit: u64, bytes: usize) -> bool {
        let last = unit.saturating_add((bytes.max(1) as u64 - 1) / UNIT as u64);
        let mut chunks = self.chunk_of(unit)..=self.chunk_of(last);
        chunks.all(|chunk| self.dict.owner(chunk).is_backed_of(self.index))
    }

    fn is_worth_collecting(&self) -> bool {
        is_worth_collecting(self.shard, self.dict)
    }
}

impl RawDict {
    /// The owner of the chunk that a block is in.
    pub(super) fn owner_of(&self, unit: u64) -> Owner {
        let chunk = unit >> (self.limits.chunk_shift - UNIT.ilog2());
        self.owner(u32::try_from(chunk).unwrap_or(u32::MAX))
    }
}

/// Whether to look for empty chunks: a chunk's worth was given back since somebody looked, or a byte for each entry
/// or element that has to be looked at, so that giving back pays for looking.
fn is_worth_collecting(shard: &Shard, dict: &RawDict) -> bool {
    // Relaxed, both: the shard's lock, or a hint.
    let freed = shard.freed.load(Ordering::Relaxed);
    let entries = shard.count.load(Ordering::Relaxed);
    let counted = shard.counted.load(Ordering::Relaxed).max(entries);
    freed >= counted.clamp(1, 1 << dict.limits.chunk_shift)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use shm_core::{Place, Region};

    use super::*;
    use crate::Options;
    use crate::inner::Inner;
    use crate::raw::{Memory, NoMemory};

    /// 64 chunks of 4 KiB.
    fn create() -> Arc<Inner> {
        let place = Place::region(Region::heap(1 << 20));
        let options = Options::new().max_bytes(256 << 10).shards(1);
        Inner::create(place, options.shape(), "test").unwrap()
    }

    #[test]
    fn a_run_is_looked_for_behind_the_last_one_and_then_from_the_start() {
        let inner = create();
        let writer = inner.writer(0, Patience::Endless).unwrap();
        let bytes = 4 << writer.dict.limits.chunk_shift;
        let take = || Some(writer.chunk_of(writer.allocate_now(bytes).ok()?));
        assert_eq!([take(), take(), take()], [Some(0), Some(4), Some(8)]);
        // As another attachment gives it back.
        (0..4).for_each(|chunk| writer.dict.give_back(chunk));
        assert_eq!(take(), Some(12), "the first ones are not looked at again");
        writer.free(writer.first_unit(8), bytes).unwrap();
        assert_eq!(take(), Some(8), "this one is known to be free");
        let rest: Vec<u32> = core::iter::from_fn(take).collect();
        let behind = (16..64).step_by(4);
        assert_eq!(rest, behind.chain([0]).collect::<Vec<_>>());
        // One that the end of the heap parts is none; one that the hint parts is found.
        (8..12).for_each(|chunk| writer.dict.give_back(chunk));
        writer.dict.run_hint.store(10, Ordering::Relaxed);
        assert_eq!(take(), Some(8));
        (60..64)
            .chain(0..4)
            .for_each(|chunk| writer.dict.give_back(chunk));
        writer.dict.run_hint.store(62, Ordering::Relaxed);
        assert_eq!([take(), take(), take()], [Some(0), Some(60), None]);
    }

    /// A file system that has so many chunks.
    #[derive(Debug)]
    struct Chunks(u32);

    impl Memory for Chunks {
        fn back_owners(&self, _: u32, _: u32) -> Result<(), NoMemory> {
            Ok(())
        }

        fn back_chunks(&self, first: u32, count: u32) -> Result<(), NoMemory> {
            match first + count <= self.0 {
                true => Ok(()),
                false => Err(NoMemory { needed: 0, free: 0 }),
            }
        }
    }

    #[test]
    fn where_no_memory_is_to_be_had_a_run_that_has_some_is_found() {
        let inner = create();
        // SAFETY: the region outlives the writer.
        let entered = unsafe { inner.raw.enter(0, Patience::Endless, &Chunks(16)) };
        let (writer, _) = entered.unwrap();
        let bytes = 4 << writer.dict.limits.chunk_shift;
        let take = || Some(writer.chunk_of(writer.allocate_now(bytes).ok()?));
        let all: Vec<u32> = core::iter::from_fn(take).collect();
        assert_eq!(all, [0, 4, 8, 12]);
        (4..8).for_each(|chunk| writer.dict.give_back(chunk));
        assert_eq!([take(), take()], [Some(4), None]);
    }
}
