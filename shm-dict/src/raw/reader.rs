//! Look-ups in a mapping without a lock.

use shm_core::sync::{AtomicU64, Ordering, prefetch_to_write};

use super::path::Path;
use super::table::{Places, Table};
use super::view::{Missed, TRIES, View};
use super::{Damaged, Entry, Fault, HEADER, Home, Looked, RawDict, Record, TableWord, Tag};

/// Where a key seemed to be, before the lock was taken.
#[derive(Clone, Copy, Debug)]
pub struct Hint<'a> {
    /// The table.
    pub(super) table: TableWord,
    /// The place in it.
    pub(super) slot: usize,
    /// That place.
    pub(super) word: &'a AtomicU64,
    /// What was there.
    pub(super) entry: Entry,
}

impl RawDict {
    /// Looks a key up, in the container at the end of a way or in a shard's own mapping, and takes something of its
    /// record with `take`, which may be called several times, also on bytes that are nobody's; what it gave last is
    /// what counts.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline]
    pub fn look_up<R>(
        &self,
        path: Option<&Path>,
        hash: u64,
        key: &[u8],
        mut take: impl FnMut(Record<'_>) -> R,
    ) -> Result<Looked<R>, Damaged> {
        let shard = path.map_or_else(|| self.shard_of(hash), |path| path.shard);
        let shard = &self.shards[shard];
        for _ in 0..TRIES {
            let view = View::at(self, shard);
            if let Some(looked) = view.judge(view.key(path, hash, key, &mut take)) {
                return looked;
            }
            shm_core::sync::spin_loop();
        }
        Ok(Looked::Disturbed)
    }

    /// For a writer, before it takes the lock: asks for the lines that it will need, which then come while it locks,
    /// and says where the key, of so many bytes, seems to be.
    #[inline(always)]
    pub fn approach(&self, hash: u64, key: usize) -> Option<Hint<'_>> {
        let shard = &self.shards[self.shard_of(hash)];
        // PAIR dict-entry: Acquire sees the table's words.
        let table_word = TableWord(shard.table.load(Ordering::Acquire));
        let (unit, log) = table_word.table()?;
        let table = self.table(unit, log).ok()?;
        let (first, tag) = (table.probe(hash).next()?, Tag::of(hash));
        let bucket = table.bucket(first);
        let place = Places::of(bucket, |entry| entry.has(tag)).next()?;
        let (slot, word) = (first + place, &bucket[place]);
        // Relaxed: nothing is believed.
        let entry = Entry(word.load(Ordering::Relaxed));
        // Looked at again, it may be none any more.
        if !entry.has(tag) && !self.broken(Fault::HintsAtNothing) {
            return None;
        }
        let record = entry.unit() as usize * 2;
        prefetch_to_write(self.heap.get(record)?);
        // Where the value begins, perhaps in another line.
        prefetch_to_write(self.heap.get(record + HEADER / 8 + key.div_ceil(8))?);
        Some(Hint {
            table: table_word,
            slot,
            word,
            entry,
        })
    }

    /// Takes something of each record of a mapping in a shard, with `take`, which may be called for the same key twice
    /// if the table was changed meanwhile; `restart` is called before everything begins anew.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn look_at_all(
        &self,
        path: Option<&Path>,
        shard: usize,
        mut restart: impl FnMut(),
        mut take: impl FnMut(Record<'_>),
    ) -> Result<Looked<()>, Damaged> {
        let shard = &self.shards[shard];
        for _ in 0..TRIES {
            restart();
            let view = View::at(self, shard);
            if let Some(looked) = view.judge(view.all(path, &mut take)) {
                return looked;
            }
            shm_core::sync::spin_loop();
        }
        Ok(Looked::Disturbed)
    }

    /// How many entries the mapping at the end of a way has.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn look_at_count(&self, path: &Path) -> Result<Looked<u64>, Damaged> {
        for _ in 0..TRIES {
            let view = View::at(self, &self.shards[path.shard]);
            let count = view.home(Some(path)).map(|home| Some(home.entries()));
            if let Some(looked) = view.judge(count) {
                return looked;
            }
            shm_core::sync::spin_loop();
        }
        Ok(Looked::Disturbed)
    }
}

impl<'a> View<'a> {
    #[inline]
    pub(super) fn table(&self, home: Home<'a>) -> Result<Option<Table<'a>>, Damaged> {
        match self.root(home).table() {
            Some((unit, log)) => self.dict.table(unit, log).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn key<R>(
        &self,
        path: Option<&Path>,
        hash: u64,
        key: &[u8],
        take: &mut impl FnMut(Record<'_>) -> R,
    ) -> Result<Option<R>, Missed> {
        let home = self.home(path)?;
        match self.record(home, hash, key)? {
            Some(record) => {
                if record.is_long() {
                    self.ensure_valid()?;
                }
                Ok(Some(take(record)))
            }
            None => Ok(None),
        }
    }

    /// The record of a key. What is not there may only not have been seen: the look has to be judged.
    #[inline]
    pub(super) fn record(
        &self,
        home: Home<'a>,
        hash: u64,
        key: &[u8],
    ) -> Result<Option<Record<'a>>, Missed> {
        let Some(table) = self.table(home)? else {
            return Ok(None);
        };
        if home.depth > 0 {
            // The block of a container's table was given out with it, and may be another's by now.
            self.ensure_valid()?;
        }
        let tag = Tag::of(hash);
        for first in table.probe(hash) {
            let bucket = table.bucket(first);
            for word in bucket {
                // PAIR dict-entry: Acquire sees the record.
                let entry = Entry(word.load(Ordering::Acquire));
                if !entry.has(tag) {
                    continue;
                }
                self.ensure_valid()?;
                self.dict.prefetch_second_line(entry.unit());
                let record = self.dict.record(entry.unit())?;
                if record.has_key(key) {
                    return Ok(Some(record));
                }
            }
            // Relaxed: what the loop above saw, or something newer, which a later generation tells.
            let is_empty = |word: &AtomicU64| Entry(word.load(Ordering::Relaxed)) == Entry::EMPTY;
            if bucket.iter().any(is_empty) {
                break;
            }
        }
        Ok(None)
    }

    fn all(
        &self,
        path: Option<&Path>,
        take: &mut impl FnMut(Record<'_>),
    ) -> Result<Option<()>, Missed> {
        let home = self.home(path)?;
        let Some(table) = self.table(home)? else {
            return Ok(Some(()));
        };
        self.ensure_valid()?;
        let mut left = self.dict.heap.len();
        for word in table.slots {
            // PAIR dict-entry: Acquire sees the record.
            let entry = Entry(word.load(Ordering::Acquire));
            if !entry.is_live() {
                continue;
            }
            self.ensure_valid()?;
            let record = self.dict.next_record(entry, &mut left)?;
            if record.is_long() {
                self.ensure_valid()?;
            }
            take(record);
        }
        Ok(Some(()))
    }
}
