//! Everything but tables, records and the owners of chunks is a cache, and is made anew from them: after a
//! death, and to find whole chunks among the blocks that were given back.
//!
//! Killed here, the lock stays inconsistent and the next one begins anew: nothing is read that is written.

use shm_core::ProcessId;
use shm_core::sync::{Ordering, fence};

use super::array::Array;
use super::heap::UNIT;
use super::table::table_bytes;
use super::{
    CLASSES, Damaged, Entry, Home, Item, Kind, MAX_DEPTH, Owner, RawDict, Record, Use, Writer,
    class_of, size_of_class,
};

/// What a rebuild found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The shard.
    pub shard: usize,
    /// Who died under its lock.
    pub dead: Option<ProcessId>,
    /// Entries that are there, or elements.
    pub entries: u64,
    /// Chunks that became free.
    pub chunks: u64,
}

/// A chunk of a shard, and which blocks of it are used. A check notes those in the free lists as well.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) chunk: u32,
    pub(super) used: Use,
    /// How many blocks it has; 1 for a run's chunks.
    blocks: usize,
    /// A bit for each block, once one is used.
    live: Vec<u64>,
}

/// What a mapping has; of a list, its elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) tombstones: u64,
}

/// Which blocks of a shard are used: by its root and by what that leads to.
#[derive(Debug)]
pub(super) struct Census<'a> {
    chunk_shift: u32,
    /// For each chunk, its index in `held` plus 1.
    places: Vec<u32>,
    pub(super) held: Vec<Held>,
    /// Of the shard's own root.
    pub(super) top: Counts,
    /// The shard's own root and those of its containers, with what they have.
    pub(super) homes: Vec<(Home<'a>, Kind, Counts)>,
    /// The highest of the records.
    pub(super) version: u64,
    /// Bytes of keys and values.
    pub(super) payload: u64,
    /// What had to be looked at: entries and elements.
    counted: u64,
}

impl Held {
    fn new(chunk: u32, used: Use, chunk_shift: u32) -> Self {
        let blocks = match used {
            Use::Blocks(class) => (1 << chunk_shift) / size_of_class(class),
            Use::Head | Use::Rest => 1,
        };
        Self {
            chunk,
            used,
            blocks,
            live: Vec::new(),
        }
    }

    /// Notes a block as used; `false` if it was.
    fn mark(&mut self, block: usize) -> bool {
        if self.live.is_empty() {
            self.live = vec![0; self.blocks.div_ceil(64)];
        }
        let (word, bit) = (&mut self.live[block / 64], 1 << (block % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    pub(super) fn is_live(&self, block: usize) -> bool {
        let word = self.live.get(block / 64);
        word.is_some_and(|word| word & 1 << (block % 64) != 0)
    }

    pub(super) fn is_unused(&self) -> bool {
        self.live.iter().all(|word| *word == 0)
    }
}

impl<'a> Census<'a> {
    /// Counts what belongs to a shard; nothing is used yet.
    fn new(dict: &RawDict, shard: usize) -> Result<Self, Damaged> {
        let (chunk_shift, frontier) = (dict.limits.chunk_shift, dict.frontier());
        let mut places = vec![0; frontier as usize];
        let mut held = Vec::new();
        for chunk in 0..frontier {
            // Relaxed: the words of others are of no interest, and our own are ordered by the lock.
            let bits = dict.owners[chunk as usize].load(Ordering::Relaxed);
            let owner = Owner::from_bits(bits);
            if !owner.is_of(shard) {
                continue;
            }
            let used = owner.used().ok_or(Damaged {
                field: "owner of a chunk",
                value: bits.into(),
            })?;
            held.push(Held::new(chunk, used, chunk_shift));
            places[chunk as usize] = held.len() as u32;
        }
        Ok(Self {
            chunk_shift,
            places,
            held,
            top: Counts::default(),
            homes: Vec::new(),
            version: 0,
            payload: 0,
            counted: 0,
        })
    }

    fn held(&mut self, chunk: u64) -> Option<&mut Held> {
        let place = *self.places.get(usize::try_from(chunk).ok()?)?;
        self.held.get_mut((place as usize).checked_sub(1)?)
    }

    /// Notes a block of so many bytes; an error if it is none of the shard's, or was noted.
    pub(super) fn mark(&mut self, unit: u64, bytes: usize) -> Result<(), Damaged> {
        let damaged = Damaged {
            field: "block",
            value: unit,
        };
        let shift = self.chunk_shift - UNIT.ilog2();
        let (chunk, inside) = (unit >> shift, (unit & ((1 << shift) - 1)) as usize * UNIT);
        let marked = match class_of(bytes, self.chunk_shift) {
            Some(class) => {
                let size = size_of_class(class);
                let fits = inside.is_multiple_of(size) && inside + size <= 1 << self.chunk_shift;
                let held = self.held(chunk).ok_or(damaged)?;
                held.used == Use::Blocks(class) && fits && held.mark(inside / size)
            }
            None => {
                let end = chunk + (bytes as u64).div_ceil(1 << self.chunk_shift);
                inside == 0
                    && (chunk..end).all(|each| {
                        let used = if each == chunk { Use::Head } else { Use::Rest };
                        self.held(each)
                            .is_some_and(|held| held.used == used && held.mark(0))
                    })
            }
        };
        if marked { Ok(()) } else { Err(damaged) }
    }
}

impl<'a> Census<'a> {
    /// Follows a root and all that it leads to, which is inside of so many containers.
    fn follow(
        &mut self,
        dict: &'a RawDict,
        home: Home<'a>,
        kind: Kind,
        depth: u32,
    ) -> Result<Counts, Damaged> {
        let root = home.table_word();
        if let Some((unit, log)) = root.table() {
            self.mark(unit, table_bytes(log))?;
        }
        match (root.table(), kind) {
            (None, _) => Ok(Counts::default()),
            (Some((unit, log)), Kind::Map) => {
                let mut counts = Counts::default();
                for slot in dict.table(unit, log)?.slots {
                    // Relaxed: the shard's lock.
                    let entry = Entry(slot.load(Ordering::Relaxed));
                    counts.tombstones += u64::from(entry == Entry::TOMBSTONE);
                    if entry.is_live() {
                        counts.entries += 1;
                        self.counted += 1;
                        self.record(dict, entry.unit(), depth)?;
                    }
                }
                Ok(counts)
            }
            (Some(_), Kind::List) => {
                let items = Array::at(dict, root)?.map(|array| array.items());
                let mut counts = Counts::default();
                for item in items.transpose()?.into_iter().flatten() {
                    counts.entries += 1;
                    self.item(dict, item, depth)?;
                }
                Ok(counts)
            }
        }
    }

    fn item(&mut self, dict: &'a RawDict, item: Item, depth: u32) -> Result<(), Damaged> {
        self.counted += 1;
        match (item.unit(), item.value()) {
            (Some(unit), _) => self.record(dict, unit, depth),
            (None, Some((_, len))) => {
                self.payload += len as u64;
                Ok(())
            }
            (None, None) => Err(Damaged {
                field: "item of a list",
                value: item.0,
            }),
        }
    }

    fn record(&mut self, dict: &'a RawDict, unit: u64, depth: u32) -> Result<(), Damaged> {
        let record: Record<'a> = dict.record(unit)?;
        self.mark(unit, record.bytes())?;
        self.version = self.version.max(record.version());
        self.payload += record.key().len() as u64;
        match (record.value(), record.container()) {
            (Some(value), _) => self.payload += value.len() as u64,
            (None, Some(container)) => {
                if depth == MAX_DEPTH {
                    return Err(Damaged {
                        field: "depth of a container",
                        value: container.id(),
                    });
                }
                let (home, kind) = (container.home()?, container.shape()?.kind);
                let counts = self.follow(dict, home, kind, depth + 1)?;
                self.homes.push((home, kind, counts));
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl<'a> Writer<'a> {
    /// Follows the root and all records.
    pub(super) fn census(&self) -> Result<Census<'a>, Damaged> {
        let mut census = Census::new(self.dict, self.index)?;
        for (unit, bytes) in self.pins.borrow().iter() {
            census.mark(*unit, *bytes)?;
        }
        let (home, kind) = (self.home(), self.dict.limits.root);
        census.top = census.follow(self.dict, home, kind, 0)?;
        census.homes.push((home, kind, census.top));
        Ok(census)
    }

    /// After a death: makes all caches anew, and counts it. Who died is not known if somebody else was told, and could do
    /// nothing about it.
    ///
    /// # Errors
    /// [`Damaged`]; the lock stays inconsistent.
    pub(super) fn recover(&self, dead: Option<ProcessId>) -> Result<Rebuilt, Damaged> {
        // Relaxed: a number for people.
        self.shard.recoveries.fetch_add(1, Ordering::Relaxed);
        self.rebuild(dead)
    }

    /// After a death, or after the epoch was raised: makes all caches anew.
    ///
    /// # Errors
    /// [`Damaged`]; the lock stays inconsistent.
    pub(super) fn rebuild(&self, dead: Option<ProcessId>) -> Result<Rebuilt, Damaged> {
        // One of another epoch is none. PAIR dict-entry: Release, as for any table.
        self.shard
            .table
            .store(self.home().table_word().0, Ordering::Release);
        // What the dead cut off, and we.
        self.cut_off();
        let census = self.census()?;
        // Relaxed: the shard's lock.
        let version = self.shard.version.load(Ordering::Relaxed);
        self.set_version(version.max(census.version).wrapping_add(1));
        let chunks = self.renew_caches(&census)?;
        // Relaxed: a hint; the dead may have given a chunk back and left it behind that.
        self.dict.control.hint.store(0, Ordering::Relaxed);
        self.shard.lock.mark_consistent();
        Ok(Rebuilt {
            shard: self.index,
            dead,
            entries: census.top.entries,
            chunks,
        })
    }

    /// Finds whole chunks among the blocks that were given back.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn collect(&self) -> Result<(), Damaged> {
        let census = self.census()?;
        self.renew_caches(&census).map(drop)
    }

    /// Makes the free lists and counts anew; says how many chunks became free.
    fn renew_caches(&self, census: &Census<'a>) -> Result<u64, Damaged> {
        // PAIR dict-generation: blocks that another cut off are written here too.
        fence(Ordering::Release);
        let mut free = [0_u64; CLASSES];
        let mut chunks = 0;
        // From the end, so that the lists begin with the lowest block.
        for held in census.held.iter().rev() {
            match held.used {
                _ if held.is_unused() => {
                    self.dict.give_back(held.chunk);
                    chunks += 1;
                }
                Use::Blocks(class) => free[class] = self.link(held, class, free[class])?,
                Use::Head | Use::Rest => {}
            }
        }
        // Relaxed, all: the shard's lock.
        for (lists, free) in self.shard.classes.iter().zip(free) {
            lists.free.store(free, Ordering::Relaxed);
            lists.bump.store(0, Ordering::Relaxed);
        }
        for (home, kind, counts) in &census.homes {
            // A list has its length in its array.
            if *kind == Kind::Map {
                home.set_counts(counts.entries, counts.tombstones);
            }
        }
        self.shard.freed.store(0, Ordering::Relaxed);
        self.shard.counted.store(census.counted, Ordering::Relaxed);
        Ok(chunks)
    }

    /// Puts the unused blocks of a chunk before a list; gives the new list.
    fn link(&self, held: &Held, class: usize, mut first: u64) -> Result<u64, Damaged> {
        let units = (size_of_class(class) / UNIT) as u64;
        let per_chunk = (1 << self.dict.limits.chunk_shift) / UNIT as u64;
        let start = u64::from(held.chunk) * per_chunk;
        for block in (0..per_chunk / units).rev() {
            if !held.is_live(block as usize) {
                let unit = start + block * units;
                // Relaxed: the shard's lock.
                self.dict.word(unit)?.store(first, Ordering::Relaxed);
                first = unit + 1;
            }
        }
        Ok(first)
    }
}
