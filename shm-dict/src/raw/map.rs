//! A mapping, under its shard's lock. Every change is one store; what comes before it cannot be seen, and what
//! comes after it is caches and what readers need to know.

use shm_core::sync::{AtomicU64, Ordering, prefetch_to_read};

use super::table::{Table, WIDTH, table_bytes};
use super::{
    Content, Damaged, Entry, Fault, Found, Hint, Home, Record, Refused, Shape, TableWord, Writer,
    record_bytes,
};

/// Records whose lines are under way while a table is copied.
const AHEAD: usize = 16;

/// Binary logarithm of the buckets of a shard's first table.
const FIRST: u32 = 2;
/// A shard's tables that have so many buckets, by the binary logarithm, are no larger than need be.
const STEADY: u32 = 10;
/// Nor are those that would take more than this part of the heap.
const LITTLE: usize = 1024;

/// A mapping whose shard's lock is held.
#[derive(Clone, Copy, Debug)]
pub struct Map<'w, 'a> {
    pub(super) writer: &'w Writer<'a>,
    pub(super) home: Home<'a>,
}

impl<'a> Writer<'a> {
    /// The mapping with this root, which is in the shard.
    #[inline(always)]
    #[must_use]
    pub const fn map<'w>(&'w self, home: Home<'a>) -> Map<'w, 'a> {
        Map { writer: self, home }
    }

    /// The shard's own mapping.
    #[inline(always)]
    #[must_use]
    pub fn top(&self) -> Map<'_, 'a> {
        self.map(self.home())
    }
}

impl<'a> Map<'_, 'a> {
    /// Entries.
    #[must_use]
    pub fn count(&self) -> u64 {
        // Relaxed: the shard's lock, as everywhere in this file where nothing else is said.
        self.home.count.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn table(&self) -> Result<Option<Table<'a>>, Damaged> {
        match self.home.table_word().table() {
            Some((unit, log)) => self.writer.dict.table(unit, log).map(Some),
            None => Ok(None),
        }
    }

    /// Finds a key, or the place for it.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Result<Found<'a>, Damaged> {
        match self.table()? {
            Some(table) => table.find(self.writer.dict, hash, key),
            None => Ok(Found::Nowhere),
        }
    }

    /// As [`find`](Self::find), which looks first where the key seemed to be before the lock was taken.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline(always)]
    pub fn find_at(
        &self,
        hint: Option<Hint<'a>>,
        hash: u64,
        key: &[u8],
    ) -> Result<Found<'a>, Damaged> {
        // Any place with the key is its place: a key is in a table once.
        if let Some(Hint {
            table,
            slot,
            word,
            entry,
        }) = hint
            && self.home.table_word() == table
            && word.load(Ordering::Relaxed) == entry.0
        {
            let (unit, record) = (entry.unit(), self.writer.dict.record(entry.unit())?);
            if record.has_key(key) {
                return Ok(Found::At { slot, unit, record });
            }
        }
        self.find(hash, key)
    }

    /// The records.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn records(
        &self,
    ) -> Result<impl Iterator<Item = Result<Record<'a>, Damaged>> + use<'a>, Damaged> {
        let (dict, table) = (self.writer.dict, self.table()?);
        let entries = table.into_iter().flat_map(Table::live);
        let mut left = dict.heap.len();
        Ok(entries.map(move |entry| dict.next_record(entry, &mut left)))
    }

    /// The records with their places, from a place on and round.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn records_from(
        &self,
        from: usize,
    ) -> Result<impl Iterator<Item = (usize, Result<Record<'a>, Damaged>)> + use<'a>, Damaged> {
        let (dict, table) = (self.writer.dict, self.table()?);
        let slots = table.map_or(&[][..], |table| table.slots);
        // The table may be a smaller one by now.
        let from = if from < slots.len() { from } else { 0 };
        let mut left = dict.heap.len();
        let round = (from..slots.len()).chain(0..from).map(|slot| {
            // Relaxed: the shard's lock.
            (slot, Entry(slots[slot].load(Ordering::Relaxed)))
        });
        let live = round.filter(|(_, entry)| entry.is_live());
        Ok(live.map(move |(slot, entry)| (slot, dict.next_record(entry, &mut left))))
    }

    /// Stores a value where [`find`](Self::find) found its key, or a place for it, a moment ago.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline(always)]
    pub fn store(
        &self,
        found: Found<'a>,
        hash: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Refused> {
        match found {
            Found::At { record, .. } if record.has_room_for(value) => {
                if !value.is_empty() {
                    let version = self.writer.next_version();
                    record.replace_word(value, version);
                    self.writer.has_changed(version);
                }
                Ok(())
            }
            found => self.put(found, hash, key, Content::value(value)),
        }
    }

    /// Puts an empty container in the place of a key's value; says its number.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn put_container(
        &self,
        found: Found<'a>,
        hash: u64,
        key: &[u8],
        shape: Shape,
    ) -> Result<u64, Refused> {
        let (id, bytes) = self.writer.new_container(shape, self.home)?;
        self.put(found, hash, key, Content::container(&bytes))?;
        Ok(id)
    }

    fn put(
        &self,
        found: Found<'a>,
        hash: u64,
        key: &[u8],
        content: Content<'_>,
    ) -> Result<(), Refused> {
        match found {
            Found::At { slot, unit, record } => {
                self.replace(slot, unit, record, hash, key, content)
            }
            free => self.insert(free, hash, key, content),
        }
    }

    fn replace(
        &self,
        slot: usize,
        old: u64,
        record: Record<'a>,
        hash: u64,
        key: &[u8],
        content: Content<'_>,
    ) -> Result<(), Refused> {
        let (version, place) = (self.writer.next_version(), self.slot(slot)?);
        // What is collected for want of room changes no table.
        let unit = self
            .writer
            .allocate(record_bytes(key.len(), content.bytes.len()))?;
        self.writer.dict.write_record(unit, key, content, version)?;
        self.writer.publish(place, Entry::new(hash, unit).0);
        self.writer.has_changed(version);
        self.writer.cut_off();
        self.writer.free_record(old, record)?;
        Ok(())
    }

    fn insert(
        &self,
        free: Found<'a>,
        hash: u64,
        key: &[u8],
        content: Content<'_>,
    ) -> Result<(), Refused> {
        let free = match self.has_place(free) {
            true => free,
            false => {
                self.grow(1)?;
                self.find(hash, key)?
            }
        };
        let Found::Free { slot, tombstone } = free else {
            return Err(Refused::Damaged(Damaged {
                field: "places of a table",
                value: 0,
            }));
        };
        let (version, place) = (self.writer.next_version(), self.slot(slot)?);
        let unit = self
            .writer
            .allocate(record_bytes(key.len(), content.bytes.len()))?;
        self.writer.dict.write_record(unit, key, content, version)?;
        self.writer.publish(place, Entry::new(hash, unit).0);
        self.writer.has_changed(version);
        add(self.home.count, 1);
        if tombstone {
            add(self.home.tombstones, -1);
        }
        Ok(())
    }

    /// Takes a key out, where [`find`](Self::find) found it a moment ago; `false` if it did not.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn remove(&self, found: Found<'a>) -> Result<bool, Damaged> {
        let Found::At { slot, unit, record } = found else {
            return Ok(false);
        };
        let Some(table) = self.table()? else {
            return Ok(false);
        };
        let version = self.writer.next_version();
        let left = self.left_behind(table, slot);
        self.writer.publish(&table.slots[slot], left.0);
        self.writer.has_changed(version);
        add(self.home.count, -1);
        if left == Entry::TOMBSTONE {
            add(self.home.tombstones, 1);
        }
        self.writer.cut_off();
        self.writer.free_record(unit, record)?;
        Ok(true)
    }

    /// What is left in a place that is emptied.
    pub(super) fn left_behind(&self, table: Table<'_>, slot: usize) -> Entry {
        let bucket = table.bucket(slot / WIDTH * WIDTH);
        let is_empty = |word: &AtomicU64| Entry(word.load(Ordering::Relaxed)) == Entry::EMPTY;
        // Where the bucket has an empty word, every search ends here anyway.
        match bucket.iter().any(is_empty) || self.writer.dict.broken(Fault::EmptiesInsideAChain) {
            true => Entry::EMPTY,
            false => Entry::TOMBSTONE,
        }
    }

    /// Takes everything out of a container, by one store.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn clear(&self) -> Result<(), Damaged> {
        let old = self.home.table_word();
        if old.table().is_none() {
            return Ok(());
        }
        let version = self.writer.next_version();
        // PAIR dict-entry: Release, as for any table.
        let none = TableWord::none(self.home.epoch);
        self.home.root.store(none.0, Ordering::Release);
        self.writer.has_changed(version);
        self.home.set_counts(0, 0);
        self.writer.cut_off();
        self.writer.free_map(old)
    }

    fn slot(&self, slot: usize) -> Result<&'a AtomicU64, Damaged> {
        let word = self.table()?.and_then(|table| table.slots.get(slot));
        word.ok_or(Damaged {
            field: "place of a table",
            value: slot as u64,
        })
    }

    // ---- tables ------------------------------------------------------------------------------

    /// Whether an entry can go there without the table becoming too full to search.
    #[inline]
    fn has_place(&self, free: Found<'a>) -> bool {
        match free {
            Found::Free {
                tombstone: true, ..
            } => true,
            Found::Free { .. } => self.used() < self.places() * 4 / 5,
            _ => false,
        }
    }

    /// Places of its table.
    #[must_use]
    pub fn places(&self) -> u64 {
        let log_buckets = self.home.table_word().table().map(|(_, log)| log);
        log_buckets.map_or(0, |log| table_bytes(log) as u64 / 8)
    }

    /// Places that are not empty.
    fn used(&self) -> u64 {
        let tombstones = self.home.tombstones.load(Ordering::Relaxed);
        self.count().saturating_add(tombstones)
    }

    /// Sees to it that there is a place for each of so many keys more.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn reserve(&self, more: u64) -> Result<(), Refused> {
        match self.used().saturating_add(more) <= self.places() * 4 / 5 {
            true => Ok(()),
            false => self.grow(more),
        }
    }

    /// Makes a table in which there is a place for each of so many more; where there is no memory for it, the
    /// present one may go on until it is nearly full.
    #[cold]
    fn grow(&self, more: u64) -> Result<(), Refused> {
        let (used, slots) = (self.used().saturating_add(more), self.places());
        match self.renew_table(more) {
            Err(Refused::Full { .. }) if used <= slots - (slots / 16).max(1).min(slots) => Ok(()),
            result => result,
        }
    }

    fn renew_table(&self, more: u64) -> Result<(), Refused> {
        let old = self.home.table_word();
        let (log_buckets, unit) = self.allocate_table(more)?;
        let new = TableWord::new(self.home.epoch, log_buckets, unit).ok_or(Damaged {
            field: "table",
            value: unit,
        })?;
        let table = self.writer.dict.table(unit, log_buckets)?;
        for slot in table.slots {
            slot.store(Entry::EMPTY.0, Ordering::Relaxed);
        }
        self.copy_entries(table)?;
        // PAIR dict-entry: Release publishes the table's words.
        self.home.root.store(new.0, Ordering::Release);
        self.home.tombstones.store(0, Ordering::Relaxed);
        self.writer.cut_off();
        if let Some((unit, log_buckets)) = old.table() {
            self.writer.free(unit, table_bytes(log_buckets))?;
        }
        Ok(())
    }

    /// A table of which the entries and so many more take up half at most; a small one of a shard is larger, where there
    /// is room.
    fn allocate_table(&self, more: u64) -> Result<(u32, u64), Refused> {
        let wanted = self.count().saturating_add(more).saturating_mul(2);
        let least = wanted.div_ceil(WIDTH as u64).next_power_of_two().ilog2();
        // They grow by four at once: each size takes a chunk of its own, and each entry is copied less often. Containers
        // are many, and have the chunks of a size in common.
        let larger = (least + 1).max(FIRST);
        let is_little = table_bytes(larger) <= self.writer.dict.heap.len() * 8 / LITTLE;
        let ample = match self.home.depth() == 0 && least < STEADY && is_little {
            true => larger,
            false => least,
        };
        match self.writer.allocate(table_bytes(ample)) {
            Err(Refused::Full { .. }) if ample > least => {
                Ok((least, self.writer.allocate(table_bytes(least))?))
            }
            unit => Ok((ample, unit?)),
        }
    }

    fn copy_entries(&self, to: Table<'a>) -> Result<(), Damaged> {
        let Some(from) = self.table()? else {
            return Ok(());
        };
        let mut ahead = from.live();
        (0..AHEAD).for_each(|_| self.prefetch(ahead.next()));
        for entry in from.live() {
            self.prefetch(ahead.next());
            let record = self.writer.dict.record(entry.unit())?;
            let hash = record.hash(self.writer.dict.limits.seed);
            let slot = to.place(hash).ok_or(Damaged {
                field: "entries of a mapping",
                value: self.count(),
            })?;
            slot.store(entry.0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn prefetch(&self, entry: Option<Entry>) {
        if let Some(word) = entry.and_then(|entry| self.writer.dict.word(entry.unit()).ok()) {
            prefetch_to_read(word);
        }
    }
}

/// Adds to a count under the shard's lock.
#[inline]
pub(super) fn add(number: &AtomicU64, by: i64) {
    // Relaxed: the shard's lock.
    let old = number.load(Ordering::Relaxed);
    // PAIR dict-count: Release; who reads the count of a container that took the place of another sees that one's end.
    number.store(old.wrapping_add_signed(by), Ordering::Release);
}
