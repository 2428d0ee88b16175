//! Look-ups without a lock: nothing is stored in shared memory, nobody is waited for.
//!
//! A reader looks at the shard's generation, follows the words, copies, and looks again. Where the
//! generation has not changed, nothing that it followed was cut off meanwhile, so nothing was written over.
//! A word is believed only after such a look, so that a block that was never given out is not touched.

use shm_core::sync::{AtomicU64, Ordering, fence, prefetch_to_write};

use super::table::Table;
use super::{Damaged, Entry, Fault, RawDict, Record, Shard, TableWord, Tag};

/// Looks that may be in vain, since writers cut something off meanwhile.
const TRIES: usize = 32;

/// What a look-up without a lock gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked<R> {
    /// The key is there; what was taken of its record.
    Found(R),
    /// It was not there, at some instant of the call.
    Absent,
    /// Writers were at work each time.
    Disturbed,
}

/// Where a key seemed to be, before the lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The place in the table.
    pub slot: usize,
    /// What was there.
    pub entry: Entry,
}

/// What one look gave: `None` if it was disturbed.
type Look<R> = Option<Result<R, Damaged>>;

impl RawDict {
    /// Looks a key up, and takes something of its record with `take`, which may be called several times, also on
    /// bytes that are nobody's; what it gave last is what counts.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline]
    pub fn look_up<R>(
        &self,
        hash: u64,
        key: &[u8],
        mut take: impl FnMut(Record<'_>) -> R,
    ) -> Result<Looked<R>, Damaged> {
        let shard = &self.shards[self.shard_of(hash)];
        for _ in 0..TRIES {
            let look = View::at(self, shard);
            if let Some(result) = look.key(hash, key, &mut take) {
                return result.map(|found| match found {
                    Some(found) => Looked::Found(found),
                    None => Looked::Absent,
                });
            }
            shm_core::sync::spin_loop();
        }
        Ok(Looked::Disturbed)
    }

    /// For a writer, before it takes the lock: asks for the lines that it will need, which then come while it locks,
    /// and says where the key seems to be.
    #[inline(always)]
    pub fn approach(&self, hash: u64) -> Option<Hint> {
        let shard = &self.shards[self.shard_of(hash)];
        let table = View::at(self, shard).table().ok()??;
        let (first, tag) = (table.probe(hash).next()?, Tag::of(hash));
        for (slot, word) in (first..).zip(table.bucket(first)) {
            // Relaxed: nothing is believed.
            let entry = Entry(word.load(Ordering::Relaxed));
            if entry.has(tag) {
                prefetch_to_write(self.word(entry.unit()).ok()?);
                return Some(Hint { slot, entry });
            }
        }
        None
    }

    /// Takes something of each record of a shard, with `take`, which may be called for the same key twice if
    /// the table was changed meanwhile; `restart` is called before everything begins anew.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn look_at_all(
        &self,
        shard: usize,
        mut restart: impl FnMut(),
        mut take: impl FnMut(Record<'_>),
    ) -> Result<bool, Damaged> {
        let shard = &self.shards[shard];
        for _ in 0..TRIES {
            restart();
            if let Some(result) = View::at(self, shard).all(&mut take) {
                return result.map(|()| true);
            }
            shm_core::sync::spin_loop();
        }
        Ok(false)
    }
}

/// One look at a shard.
struct View<'a> {
    dict: &'a RawDict,
    shard: &'a Shard,
    generation: u64,
}

impl<'a> View<'a> {
    #[inline]
    fn at(dict: &'a RawDict, shard: &'a Shard) -> Self {
        // PAIR dict-generation: Acquire; what is read after it is at least as new.
        let generation = shard.generation.load(Ordering::Acquire);
        Self {
            dict,
            shard,
            generation,
        }
    }

    /// Whether nothing was cut off since the look began.
    #[inline]
    fn is_valid(&self) -> bool {
        if self.dict.broken(Fault::DoesNotValidate) {
            return true;
        }
        // PAIR dict-generation: behind the fence, whatever was read that is newer than a cut shows the cut.
        fence(Ordering::Acquire);
        self.shard.generation.load(Ordering::Relaxed) == self.generation
    }

    /// Bytes that make no sense are damage if they were nobody else's meanwhile.
    #[inline]
    fn judged<T>(&self, result: Result<T, Damaged>) -> Look<T> {
        self.is_valid().then_some(result)
    }

    /// The table of the present epoch.
    #[inline]
    fn table(&self) -> Result<Option<Table<'a>>, Damaged> {
        // PAIR dict-entry: Acquire sees the table's words; PAIR dict-epoch: the epoch is at least the table's.
        let word = TableWord(self.shard.table.load(Ordering::Acquire));
        let epoch = self.dict.control.epoch.load(Ordering::Acquire);
        match word.table() {
            Some((unit, log)) if word.is_of(epoch) => self.dict.table(unit, log).map(Some),
            _ => Ok(None),
        }
    }

    #[inline]
    fn key<R>(
        &self,
        hash: u64,
        key: &[u8],
        take: &mut impl FnMut(Record<'_>) -> R,
    ) -> Look<Option<R>> {
        let table = match self.table() {
            Ok(Some(table)) => table,
            Ok(None) => return self.judged(Ok(None)),
            Err(damaged) => return self.judged(Err(damaged)),
        };
        let tag = Tag::of(hash);
        for first in table.probe(hash) {
            let bucket = table.bucket(first);
            for word in bucket {
                // PAIR dict-entry: Acquire sees the record.
                let entry = Entry(word.load(Ordering::Acquire));
                if !entry.has(tag) {
                    continue;
                }
                if !self.is_valid() {
                    return None;
                }
                self.dict.prefetch_second_line(entry.unit());
                match self.dict.record(entry.unit()) {
                    Ok(record) if record.has_key(key) => {
                        if record.is_long() && !self.is_valid() {
                            return None;
                        }
                        let taken = take(record);
                        return self.judged(Ok(Some(taken)));
                    }
                    Ok(_) => {}
                    Err(damaged) => return self.judged(Err(damaged)),
                }
            }
            // Relaxed: what the loop above saw, or something newer, which a later generation tells.
            let is_empty = |word: &AtomicU64| Entry(word.load(Ordering::Relaxed)) == Entry::EMPTY;
            if bucket.iter().any(is_empty) {
                break;
            }
        }
        self.judged(Ok(None))
    }

    fn all(&self, take: &mut impl FnMut(Record<'_>)) -> Look<()> {
        let table = match self.table() {
            Ok(Some(table)) => table,
            Ok(None) => return self.judged(Ok(())),
            Err(damaged) => return self.judged(Err(damaged)),
        };
        let mut left = self.dict.heap.len();
        for word in table.slots {
            // PAIR dict-entry: Acquire sees the record.
            let entry = Entry(word.load(Ordering::Acquire));
            if !entry.is_live() {
                continue;
            }
            if !self.is_valid() {
                return None;
            }
            match self.dict.next_record(entry, &mut left) {
                Ok(record) if record.is_long() && !self.is_valid() => return None,
                Ok(record) => take(record),
                Err(damaged) => return self.judged(Err(damaged)),
            }
        }
        self.judged(Ok(()))
    }
}
