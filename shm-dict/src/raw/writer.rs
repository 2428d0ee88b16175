//! What is done under a shard's lock. Every change is one store; what comes before it cannot be seen, and what
//! comes after it is caches and what readers need to know.

use core::marker::PhantomData;

use shm_core::futex;
use shm_core::sync::{AtomicU64, Ordering, fence, prefetch_to_read};

use super::table::{Table, WIDTH, table_bytes};
use super::{
    Damaged, Entry, Fault, Found, Hint, Memory, NotEntered, RawDict, Record, Refused, Shard,
    TableWord, record_bytes,
};

/// Records whose lines are under way while a table is copied.
const AHEAD: usize = 16;

/// A shard's lock, held.
#[derive(Debug)]
pub struct Writer<'a> {
    pub(super) dict: &'a RawDict,
    pub(super) index: usize,
    pub(super) shard: &'a Shard,
    pub(super) memory: &'a dyn Memory,
    /// The shard's, when it was locked.
    version: u64,
    /// Whether the thread was panicking already when it locked.
    panicking: bool,
    not_send: PhantomData<*const ()>,
}

impl<'a> Writer<'a> {
    #[inline(always)]
    pub(super) fn new(dict: &'a RawDict, index: usize, memory: &'a dyn Memory) -> Self {
        let shard = &dict.shards[index];
        Self {
            dict,
            index,
            shard,
            memory,
            version: shard.version.load(Ordering::Relaxed),
            panicking: std::thread::panicking(),
            not_send: PhantomData,
        }
    }

    /// The shard's number.
    #[must_use]
    pub const fn shard(&self) -> usize {
        self.index
    }

    /// Entries of the shard.
    #[must_use]
    pub fn count(&self) -> u64 {
        // Relaxed: the shard's lock, as everywhere in this file where nothing else is said.
        self.shard.count.load(Ordering::Relaxed)
    }

    /// Refuses a child that was forked since the lock was taken: it is its parent's. For after the caller's
    /// functions.
    ///
    /// # Errors
    /// [`NotEntered::NotMine`].
    #[inline(always)]
    pub fn ensure_held(&self) -> Result<(), NotEntered> {
        match self.shard.lock.is_held_by_me() {
            true => Ok(()),
            false => Err(NotEntered::NotMine),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        // Relaxed: who changes it holds this lock too.
        self.dict.control.epoch.load(Ordering::Relaxed)
    }

    /// The table of the present epoch.
    #[inline(always)]
    pub(super) fn table_word(&self) -> TableWord {
        let word = TableWord(self.shard.table.load(Ordering::Relaxed));
        match word.is_of(self.epoch()) {
            true => word,
            false => TableWord::none(self.epoch()),
        }
    }

    #[inline(always)]
    pub(super) fn table(&self) -> Result<Option<Table<'a>>, Damaged> {
        match self.table_word().table() {
            Some((unit, log)) => self.dict.table(unit, log).map(Some),
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
            Some(table) => table.find(self.dict, hash, key),
            None => Ok(Found::Nowhere),
        }
    }

    /// As [`find`](Self::find), which looks first where the key seemed to be before the lock was taken.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline(always)]
    pub fn find_at(&self, hint: Option<Hint>, hash: u64, key: &[u8]) -> Result<Found<'a>, Damaged> {
        let (Some(Hint { slot, entry }), Some(table)) = (hint, self.table()?) else {
            return self.find(hash, key);
        };
        let now = table.slots.get(slot);
        // Any place with the key is its place: a key is in a table once.
        if now.is_some_and(|now| now.load(Ordering::Relaxed) == entry.0) {
            let (unit, record) = (entry.unit(), self.dict.record(entry.unit())?);
            if record.has_key(key) {
                return Ok(Found::At { slot, unit, record });
            }
        }
        self.find(hash, key)
    }

    /// The records of the shard.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record<'a>, Damaged>>, Damaged> {
        let (dict, table) = (self.dict, self.table()?);
        let entries = table.into_iter().flat_map(Table::live);
        let mut left = dict.heap.len();
        Ok(entries.map(move |entry| dict.next_record(entry, &mut left)))
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
            Found::At { record, .. } if record.value().len() == value.len() && value.len() <= 8 => {
                if !value.is_empty() {
                    let version = self.next_version();
                    record.replace_word(value, version);
                    self.has_changed(version);
                }
                Ok(())
            }
            Found::At { slot, unit, record } => self.replace(slot, unit, record, hash, key, value),
            free => self.insert(free, hash, key, value),
        }
    }

    fn replace(
        &self,
        slot: usize,
        old: u64,
        record: Record<'a>,
        hash: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Refused> {
        let (version, bytes) = (self.next_version(), record.bytes());
        // Before the table is looked at: what is collected for want of room changes no table.
        let unit = self.allocate(record_bytes(key.len(), value.len()))?;
        self.dict.write_record(unit, key, value, version)?;
        self.publish(self.slot(slot)?, Entry::new(hash, unit));
        self.has_changed(version);
        self.cut_off();
        self.free(old, bytes)?;
        Ok(())
    }

    fn insert(&self, free: Found<'a>, hash: u64, key: &[u8], value: &[u8]) -> Result<(), Refused> {
        let free = match self.has_place(free) {
            true => free,
            false => {
                self.grow()?;
                self.find(hash, key)?
            }
        };
        let Found::Free { slot, tombstone } = free else {
            return Err(Refused::Damaged(Damaged {
                field: "places of a table",
                value: 0,
            }));
        };
        let version = self.next_version();
        let unit = self.allocate(record_bytes(key.len(), value.len()))?;
        self.dict.write_record(unit, key, value, version)?;
        self.publish(self.slot(slot)?, Entry::new(hash, unit));
        self.has_changed(version);
        add(&self.shard.count, 1);
        if tombstone {
            add(&self.shard.tombstones, -1);
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
        let (version, bytes) = (self.next_version(), record.bytes());
        let bucket = table.bucket(slot / WIDTH * WIDTH);
        let is_empty = |word: &AtomicU64| Entry(word.load(Ordering::Relaxed)) == Entry::EMPTY;
        // Where the bucket has an empty word, every search ends here anyway.
        let ends = bucket.iter().any(is_empty) || self.dict.broken(Fault::EmptiesInsideAChain);
        let left = if ends { Entry::EMPTY } else { Entry::TOMBSTONE };
        self.publish(&table.slots[slot], left);
        self.has_changed(version);
        add(&self.shard.count, -1);
        if !ends {
            add(&self.shard.tombstones, 1);
        }
        self.cut_off();
        self.free(unit, bytes)?;
        Ok(true)
    }

    /// Forgets all records of the shard, after the epoch was raised under the locks of all shards.
    ///
    /// # Errors
    /// [`Damaged`].
    pub(super) fn begin_epoch(&self) -> Result<(), Damaged> {
        self.rebuild(None).map(drop)
    }

    fn slot(&self, slot: usize) -> Result<&'a AtomicU64, Damaged> {
        let word = self.table()?.and_then(|table| table.slots.get(slot));
        word.ok_or(Damaged {
            field: "place of a table",
            value: slot as u64,
        })
    }

    /// Lets the table of a shard without entries go. Nobody else looks at it meanwhile but readers.
    pub fn drop_empty_table(&self) {
        if self.count() == 0 && self.table_word().table().is_some() {
            let none = TableWord::none(self.epoch());
            // PAIR dict-entry: Release, as for any table.
            self.shard.table.store(none.0, Ordering::Release);
            self.shard.tombstones.store(0, Ordering::Relaxed);
            self.cut_off();
        }
    }

    // ---- tables ------------------------------------------------------------------------------

    /// Whether an entry can go there without the table becoming too full to search.
    fn has_place(&self, free: Found<'a>) -> bool {
        match free {
            Found::Free {
                tombstone: true, ..
            } => true,
            Found::Free { .. } => self.used() < self.slots() * 4 / 5,
            _ => false,
        }
    }

    fn slots(&self) -> u64 {
        let log_buckets = self.table_word().table().map(|(_, log)| log);
        log_buckets.map_or(0, |log| table_bytes(log) as u64 / 8)
    }

    /// Places that are not empty.
    fn used(&self) -> u64 {
        let tombstones = self.shard.tombstones.load(Ordering::Relaxed);
        self.count().saturating_add(tombstones)
    }

    /// Makes a table in which there is a place for one more; where there is no memory for it, the present one
    /// may go on until it is nearly full.
    #[cold]
    fn grow(&self) -> Result<(), Refused> {
        let (used, slots) = (self.used(), self.slots());
        match self.renew_table() {
            Err(Refused::Full { .. }) if used < slots - (slots / 16).max(1).min(slots) => Ok(()),
            result => result,
        }
    }

    fn renew_table(&self) -> Result<(), Refused> {
        let old = self.table_word();
        let wanted = self.count().saturating_add(1).saturating_mul(2);
        let log_buckets = wanted.div_ceil(WIDTH as u64).next_power_of_two().ilog2();
        let unit = self.allocate(table_bytes(log_buckets))?;
        let new = TableWord::new(self.epoch(), log_buckets, unit).ok_or(Damaged {
            field: "table",
            value: unit,
        })?;
        let table = self.dict.table(unit, log_buckets)?;
        for slot in table.slots {
            slot.store(Entry::EMPTY.0, Ordering::Relaxed);
        }
        self.copy_entries(table)?;
        // PAIR dict-entry: Release publishes the table's words.
        self.shard.table.store(new.0, Ordering::Release);
        self.shard.tombstones.store(0, Ordering::Relaxed);
        self.cut_off();
        if let Some((unit, log_buckets)) = old.table() {
            self.free(unit, table_bytes(log_buckets))?;
        }
        Ok(())
    }

    fn copy_entries(&self, to: Table<'a>) -> Result<(), Damaged> {
        let mut key = Vec::new();
        let Some(from) = self.table()? else {
            return Ok(());
        };
        let mut ahead = from.live();
        (0..AHEAD).for_each(|_| self.prefetch(ahead.next()));
        for entry in from.live() {
            self.prefetch(ahead.next());
            self.dict.record(entry.unit())?.key().copy_to(&mut key);
            let slot = to.place(self.dict.hash(&key)).ok_or(Damaged {
                field: "entries of a shard",
                value: self.count(),
            })?;
            slot.store(entry.0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn prefetch(&self, entry: Option<Entry>) {
        if let Some(word) = entry.and_then(|entry| self.dict.word(entry.unit()).ok()) {
            prefetch_to_read(word);
        }
    }

    // ---- what readers see --------------------------------------------------------------------

    /// The store that is the change.
    #[inline]
    fn publish(&self, slot: &AtomicU64, entry: Entry) {
        let order = match self.dict.broken(Fault::PublishesRelaxed) {
            true => Ordering::Relaxed,
            // PAIR dict-entry: Release publishes the record.
            false => Ordering::Release,
        };
        slot.store(entry.0, order);
    }

    /// After the store that cut something off: who is reading it will notice, whatever is written there next.
    #[inline]
    pub(super) fn cut_off(&self) {
        if self.dict.broken(Fault::ForgetsTheGeneration) {
            return;
        }
        let generation = self.shard.generation.load(Ordering::Relaxed);
        self.shard
            .generation
            .store(generation.wrapping_add(1), Ordering::Release);
        // PAIR dict-generation: Release; what follows is written behind it.
        fence(Ordering::Release);
    }

    /// The number of the change that is about to be made.
    #[inline(always)]
    fn next_version(&self) -> u64 {
        self.shard.version.load(Ordering::Relaxed).wrapping_add(1)
    }

    /// Tells that a change was made.
    #[inline(always)]
    fn has_changed(&self, version: u64) {
        // PAIR dict-version: Release; who sees it sees the change.
        self.shard.version.store(version, Ordering::Release);
    }

    /// Has the next change ring.
    pub fn watch(&self) {
        self.shard.watched.store(1, Ordering::Relaxed);
    }

    /// For a version that was skipped, or a change made otherwise.
    pub(super) fn set_version(&self, version: u64) {
        self.has_changed(version);
    }
}

/// Adds to a number under the shard's lock.
fn add(number: &AtomicU64, by: i64) {
    // Relaxed: the shard's lock.
    let old = number.load(Ordering::Relaxed);
    number.store(old.wrapping_add_signed(by), Ordering::Relaxed);
}

impl Drop for Writer<'_> {
    #[inline]
    fn drop(&mut self) {
        if cfg!(loom) && !self.panicking && std::thread::panicking() {
            // A model thread that was killed: its kernel releases the lock.
            return;
        }
        // User code runs before anything is changed; so a panic leaves nothing half done.
        let changed = self.shard.version.load(Ordering::Relaxed) != self.version;
        let watched = changed && self.shard.watched.load(Ordering::Relaxed) != 0;
        // In a forked child it is the parent who tells.
        let watched = watched && self.ensure_held().is_ok();
        if watched {
            self.shard.watched.store(0, Ordering::Relaxed);
            // PAIR dict-bell: who waits compares the bell as it was before it asked to be told.
            self.dict.control.bell.fetch_add(1, Ordering::Release);
        }
        // SAFETY: made when this thread had taken the lock, and not `Send`.
        unsafe { self.shard.lock.unlock() };
        if watched {
            futex::wake(&self.dict.control.bell, u32::MAX);
        }
    }
}
