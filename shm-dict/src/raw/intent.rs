//! Several words are changed together or not at all, in any shards whose locks are held.
//!
//! ```text
//! intent of a shard: 0: none    63 set: another shard has the change    otherwise the block, plus 1, of
//!   0  8 changes    8  8 0    then for each:
//!   0  8 63..48 shard | 47..0 word of the heap    8  8 what is to be there
//! ```
//!
//! All that may fail is done before: records are written, tables have places. The other shards are told that they are
//! part of a change; then the store of the one shard's intent is the change; then the words are stored, and that
//! intent is taken back before the others. Who finds a shard orphaned that has an intent gives it back as it is, takes
//! all locks in ascending order, stores the words again, and rebuilds.

use std::collections::HashSet;

use shm_core::sync::{AtomicU64, Ordering};
use shm_lock::Patience;

use super::map::add;
use super::{
    Content, Damaged, Death, Entry, Fault, Found, Home, Map, Memory, NotEntered, RawDict, Rebuilt,
    Record, Refused, Writer, record_bytes,
};

const SHARD_SHIFT: u32 = 48;
const WORD_MASK: u64 = (1 << SHARD_SHIFT) - 1;
/// The intent of a shard whose part another shard has written down.
const ELSEWHERE: u64 = 1 << 63;

/// What is to become of a key, with everything ready for it.
#[derive(Debug)]
pub struct Change<'w, 'a> {
    writer: &'w Writer<'a>,
    home: Home<'a>,
    place: &'a AtomicU64,
    /// The place's number among the words of the heap.
    word: u64,
    new: Entry,
    /// What is cut off.
    old: Option<(u64, Record<'a>)>,
    entries: i64,
    tombstones: i64,
}

impl<'w, 'a> Map<'w, 'a> {
    /// Sees to it that so many new keys have places. Before [`prepare`](Self::prepare).
    ///
    /// # Errors
    /// [`Refused`].
    pub fn make_places(&self, new_keys: usize) -> Result<(), Refused> {
        match new_keys {
            0 => Ok(()),
            more => self.reserve(more as u64),
        }
    }

    /// Makes ready what a key's value is to become; `None` takes it out. `taken` are the places that new keys of the same
    /// step take. What is not committed is to be given back with [`abandon`](Self::abandon).
    ///
    /// # Errors
    /// [`Refused`].
    pub fn prepare(
        &self,
        hash: u64,
        key: &[u8],
        value: Option<&[u8]>,
        taken: &mut HashSet<u64>,
    ) -> Result<Option<Change<'w, 'a>>, Refused> {
        let found = self.find(hash, key)?;
        match (found, value) {
            (Found::At { slot, unit, record }, None) => {
                // Always a tombstone: what is empty in its bucket now may not be so after the other changes.
                let change = self.change(slot, Entry::TOMBSTONE, Some((unit, record)), [-1, 1])?;
                Ok(Some(change))
            }
            (_, None) => Ok(None),
            (Found::At { slot, unit, record }, Some(value)) => {
                let new = self.new_entry(hash, key, value)?;
                Ok(Some(self.change(
                    slot,
                    new,
                    Some((unit, record)),
                    [0, 0],
                )?))
            }
            (_, Some(value)) => {
                let (slot, tombstone) = self.free_place(hash, taken)?;
                let new = self.new_entry(hash, key, value)?;
                let change = self.change(slot, new, None, [1, -i64::from(tombstone)])?;
                taken.insert(change.word);
                Ok(Some(change))
            }
        }
    }

    /// Gives back what was made ready and not committed.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn abandon(&self) -> Result<(), Damaged> {
        self.writer.free_pinned()
    }

    fn new_entry(&self, hash: u64, key: &[u8], value: &[u8]) -> Result<Entry, Refused> {
        let (writer, version) = (self.writer, self.writer.next_version());
        let unit = writer.allocate_pinned(record_bytes(key.len(), value.len()))?;
        writer
            .dict
            .write_record(unit, key, Content::value(value), version)?;
        Ok(Entry::new(hash, unit))
    }

    /// The number of a place's word in the heap.
    fn word(&self, slot: usize) -> u64 {
        let unit = self.home.table_word().table().map_or(0, |(unit, _)| unit);
        unit * 2 + slot as u64
    }

    fn free_place(&self, hash: u64, taken: &HashSet<u64>) -> Result<(usize, bool), Damaged> {
        let table = self.table()?.into_iter();
        let mut places = table.flat_map(|table| table.places(hash));
        let is_free =
            |slot: usize, entry: Entry| !entry.is_live() && !taken.contains(&self.word(slot));
        let free = places.find(|(slot, _, entry)| is_free(*slot, *entry));
        let (slot, _, entry) = free.ok_or(Damaged {
            field: "places of a table",
            value: self.count(),
        })?;
        Ok((slot, entry == Entry::TOMBSTONE))
    }

    fn change(
        &self,
        slot: usize,
        new: Entry,
        old: Option<(u64, Record<'a>)>,
        [entries, tombstones]: [i64; 2],
    ) -> Result<Change<'w, 'a>, Damaged> {
        let damaged = Damaged {
            field: "place of a table",
            value: slot as u64,
        };
        let table = self.table()?.ok_or(damaged)?;
        Ok(Change {
            writer: self.writer,
            home: self.home,
            place: table.slots.get(slot).ok_or(damaged)?,
            word: self.word(slot),
            new,
            old,
            entries,
            tombstones,
        })
    }
}

impl Change<'_, '_> {
    fn store(&self) {
        self.writer.publish(self.place, self.new.0);
    }

    /// What follows the store: what readers need to know, caches, and what is free now.
    fn settle(&self) -> Result<(), Damaged> {
        add(self.home.count, self.entries);
        add(self.home.tombstones, self.tombstones);
        match self.old {
            Some((unit, record)) => self.writer.free_record(unit, record),
            None => Ok(()),
        }
    }
}

impl RawDict {
    /// Makes all changes, in one step for who is killed, and for who holds the locks.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed, unless it is [`Damaged`].
    pub fn commit(&self, changes: &[Change<'_, '_>]) -> Result<(), Refused> {
        let Some(first) = changes.first() else {
            return Ok(());
        };
        let mut writers: Vec<&Writer<'_>> = changes.iter().map(|change| change.writer).collect();
        writers.sort_unstable_by_key(|writer| writer.index);
        writers.dedup_by_key(|writer| writer.index);
        let intent = match changes.len() {
            1 => None,
            _ => Some(first.writer.declare(changes, &writers)?),
        };
        if self.broken(Fault::TakesTheIntentBackFirst) {
            first.writer.shard.intent.store(0, Ordering::Release);
        }
        changes.iter().for_each(Change::store);
        for writer in &writers {
            writer.has_changed(writer.next_version());
            writer.cut_off();
        }
        if intent.is_some() {
            first.writer.take_back(&writers);
        }
        writers.iter().for_each(|writer| writer.unpin());
        for change in changes {
            change.settle()?;
        }
        if let Some((unit, bytes)) = intent {
            first.writer.free(unit, bytes)?;
        }
        Ok(())
    }

    /// Whether who held a shard died in a change of several words.
    pub(super) fn has_intent(&self, shard: usize) -> bool {
        // PAIR dict-intent: Acquire.
        self.shards[shard].intent.load(Ordering::Acquire) != 0
    }

    /// Takes all locks, in ascending order; finishes and rebuilds what the dead have left, and says what that found. `known` is a
    /// death that the caller was told of.
    ///
    /// # Errors
    /// [`NotEntered`].
    ///
    /// # Safety
    /// As [`enter`](Self::enter).
    pub unsafe fn enter_all<'a>(
        &'a self,
        patience: Patience,
        memory: &'a dyn Memory,
        known: Option<Death>,
    ) -> Result<(Vec<Writer<'a>>, Vec<Rebuilt>), NotEntered> {
        let (mut writers, mut deaths) = (Vec::new(), Vec::new());
        for (index, shard) in self.shards.iter().enumerate() {
            // SAFETY: the caller's promise.
            let acquired = unsafe { shard.lock.acquire(patience) }?;
            // Relaxed: the shard's lock.
            let version = shard.version.load(Ordering::Relaxed);
            writers.push(Writer::new(self, index, version, memory));
            let known = known.filter(|death| death.shard == index);
            let dead = acquired.dead_owner.or(known.and_then(|death| death.dead));
            deaths.push((!acquired.is_clean()).then_some(dead));
        }
        if !self.broken(Fault::SkipsIntents) {
            writers.iter().try_for_each(Writer::finish)?;
            // When there is nothing left to finish.
            writers.iter().for_each(Writer::forget_intent);
        }
        let mut rebuilt = Vec::new();
        for (writer, death) in writers.iter().zip(deaths) {
            if let Some(dead) = death
                && !self.broken(Fault::SkipsRebuild)
            {
                rebuilt.push(writer.recover(dead)?);
            }
        }
        Ok((writers, rebuilt))
    }
}

impl Writer<'_> {
    /// Writes down what is going to be changed: with the store of the intent it is.
    fn declare(
        &self,
        changes: &[Change<'_, '_>],
        writers: &[&Writer<'_>],
    ) -> Result<(u64, usize), Refused> {
        let bytes = 16 * (changes.len() + 1);
        let unit = self.allocate_pinned(bytes)?;
        let words = self.dict.block(unit, bytes / 8)?;
        // Relaxed, all: the intent's store publishes them.
        words[0].store(changes.len() as u64, Ordering::Relaxed);
        words[1].store(0, Ordering::Relaxed);
        for (words, change) in words[2..].chunks_exact(2).zip(changes) {
            let shard = (change.writer.index as u64) << SHARD_SHIFT;
            words[0].store(shard | change.word, Ordering::Relaxed);
            words[1].store(change.new.0, Ordering::Relaxed);
        }
        for writer in writers.iter().filter(|writer| writer.index != self.index) {
            // Relaxed: who looks at it has the shard's lock after us.
            writer.shard.intent.store(ELSEWHERE, Ordering::Relaxed);
        }
        // PAIR dict-intent: Release.
        self.shard.intent.store(unit + 1, Ordering::Release);
        Ok((unit, bytes))
    }

    /// All words are stored.
    fn take_back(&self, writers: &[&Writer<'_>]) {
        self.forget_intent();
        writers.iter().for_each(|writer| writer.forget_intent());
    }

    fn forget_intent(&self) {
        // PAIR dict-intent: Release; who sees none sees that all words were stored.
        self.shard.intent.store(0, Ordering::Release);
    }

    /// Stores the words of an intent that somebody left, under all locks.
    fn finish(&self) -> Result<(), Damaged> {
        // PAIR dict-intent: Acquire sees the block.
        let intent = self.shard.intent.load(Ordering::Acquire);
        let Some(unit) = intent.checked_sub(1).filter(|_| intent < ELSEWHERE) else {
            return Ok(());
        };
        let damaged = Damaged {
            field: "intent",
            value: unit,
        };
        let owned = |bytes: usize| self.owns(unit, bytes).then_some(bytes / 8).ok_or(damaged);
        let head = self.dict.block(unit, owned(16)?)?;
        // Relaxed, all: the locks of all shards.
        let changes = usize::try_from(head[0].load(Ordering::Relaxed));
        let bytes = changes.ok().and_then(|n| n.checked_add(1)?.checked_mul(16));
        let words = self.dict.block(unit, owned(bytes.ok_or(damaged)?)?)?;
        for words in words[2..].chunks_exact(2) {
            let place = words[0].load(Ordering::Relaxed);
            let new = Entry(words[1].load(Ordering::Relaxed));
            let (shard, word) = ((place >> SHARD_SHIFT) as usize, place & WORD_MASK);
            let is_its = |unit: u64| self.dict.owner_of(unit).is_backed_of(shard);
            let fits = is_its(word / 2) && (new == Entry::TOMBSTONE || is_its(new.unit()));
            let place = self.dict.heap.get(word as usize).filter(|_| fits);
            self.publish(place.ok_or(damaged)?, new.0);
        }
        // The shards are rebuilt next, which raises their generations.
        self.forget_intent();
        Ok(())
    }
}
