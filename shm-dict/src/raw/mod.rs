//! The dictionary without its types: words, records and locks, on the machine or in a model.
//!
//! | file | idea |
//! |---|---|
//! | `words.rs` | one word for each place of a table, one for each table |
//! | `control.rs` | the fixed part, and what each shard has of its own |
//! | `hash.rs` | SipHash-1-3 |
//! | `classes.rs` | the sizes that blocks have |
//! | `owners.rs` | which shard a chunk of the heap belongs to: taken by compare-and-swap |
//! | `heap.rs` | blocks, given out and taken back under a shard's lock |
//! | `record.rs` | a key and its value in a block |
//! | `table.rs` | where a key is, or would go |
//! | `home.rs` | where a mapping or a list has its root: in its shard, or as a container in a record |
//! | `path.rs` | the way from a shard's root to a container |
//! | `array.rs` | the places of a list |
//! | `view.rs` | looks without a lock |
//! | `reader.rs` | look-ups in a mapping without a lock |
//! | `list_reader.rs` | likewise in a list |
//! | `writer.rs` | a shard's lock, held |
//! | `map.rs` | a mapping under the lock |
//! | `list.rs` | a list under the lock |
//! | `tree.rs` | containers with all that is in them are taken back |
//! | `intent.rs` | several words are changed together or not at all |
//! | `rebuild.rs` | everything but tables and records is a cache, and is made anew after a death |
//! | `check.rs` | the proof that no block is lost or used twice |
//!
//! # Invariants
//!
//! - INV-D1: the table word of a shard, the words of that table and the owners of the chunks are the only
//!   truth. Every change is one store of one of these words; what is stored before it cannot be reached.
//! - INV-D2: a record is not changed while a word leads to it, but for its version and for a value that is one
//!   word, which are stored under the shard's lock.
//! - INV-D3: a block goes to a free list, and a chunk to another owner, only after the shard's generation
//!   was raised behind the store that cut it off.
//! - INV-D4: a table has no key twice, and an empty word behind every chain of full buckets.
//! - INV-D5: whoever is killed under a shard's lock leaves free lists, counts and bumps perhaps broken and the
//!   lock inconsistent; the next to take it rebuilds before anything else.
//!
//! # Pairs
//!
//! - PAIR dict-entry: a writer stores a table's word with Release behind the record; a reader loads it with
//!   Acquire before it reads the record. Likewise the table word, behind the table's words.
//! - PAIR dict-generation: a writer raises the generation, fences (Release), and only then writes to what it cut
//!   off (in [`Writer`]'s `cut_off`), or another does who took the block or chunk later and fences as well (in
//!   `allocate`); a reader that read such a store fences (Acquire) and finds the generation changed.
//! - PAIR dict-span: a writer stores a list's span with Release behind the items; a reader loads it with Acquire
//!   before it reads them.
//! - PAIR dict-intent: an intent is stored with Release behind its block, and taken back with Release behind the words
//!   that it names; who takes over after a death loads it with Acquire.
//! - PAIR dict-owner: a chunk is given back with Release and taken with Acquire.
//! - PAIR dict-epoch, dict-version, dict-count: stored with Release behind a change; who loads it with Acquire, and has no lock,
//!   sees what was changed before. What a clearing does behind the epoch's store is stored with Release too: who has read of it
//!   fences (Acquire) and finds the epoch changed.
//! - PAIR dict-frontier: raised with Release when owners have memory; loaded with Acquire before they are looked at.
//! - PAIR dict-bell: rung with Release behind a change; who waits for one loads it with Acquire before it asks to be told.
//! - PAIR mutex-word (`shm_lock`): everything else, between the writers of a shard.

mod array;
mod check;
mod classes;
mod control;
mod hash;
mod heap;
mod home;
mod intent;
mod list;
mod list_reader;
mod map;
mod owners;
mod path;
mod reader;
mod rebuild;
mod record;
mod table;
mod tree;
mod view;
mod words;
mod writer;

use shm_core::ProcessId;
use shm_core::sync::{AtomicU32, AtomicU64, Ordering, fence};
use shm_lock::{Patience, RawLockError};

pub use array::{Item, Span};
pub use check::Account;
pub use classes::{CLASSES, class_of, size_of_class};
pub use control::{Control, MAX_SHARDS, Shard};
pub(crate) use hash::hash;
pub use home::{CONTAINER, Container, Home, Kind, MAX_DEPTH, Shape};
pub use intent::Change;
pub use list::{Element, List};
pub use map::Map;
pub use owners::{Memory, NoMemory, Owner, Use};
pub use path::{Path, Step, Way};
pub use reader::Hint;
pub use rebuild::Rebuilt;
use record::Content;
pub use record::{HEADER, Record, Value, record_bytes};
pub use table::Found;
pub use view::Looked;
pub use words::{Entry, TableWord, Tag};
pub use writer::Writer;

/// Ways to be wrong, for the models to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum Fault {
    PublishesRelaxed,
    ForgetsTheGeneration,
    ReusesWithoutFence,
    DoesNotValidate,
    EmptiesInsideAChain,
    SkipsRebuild,
    SkipsIntents,
    ForgetsTheCutOfAPop,
    PublishesTheSpanFirst,
    DoesNotCompareVersions,
    ForgetsTheNumber,
    RebuildsDespiteIntents,
    TakesTheIntentBackFirst,
    HintsAtNothing,
    TakesWithoutSwap,
    ClearsShardByShard,
}

/// Words that do not fit together: bytes that were never a dictionary, or that somebody damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What is wrong.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
}

/// Why something was not stored. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The heap or the file system has no room.
    Full {
        /// Bytes that had to be allocated.
        needed: u64,
        /// Bytes that were free at that moment.
        free: u64,
    },
    /// The words do not fit together.
    Damaged(Damaged),
    /// As [`NotEntered::NotMine`], after a function of the caller's forked.
    NotMine,
    /// The container would be inside of more than [`MAX_DEPTH`] others.
    TooDeep,
    /// A list cannot have so many elements.
    TooLong,
}

/// A shard whose lock was found orphaned, and was given back so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The shard.
    pub shard: usize,
    /// Who had the lock. Only the first to take it afterwards is told.
    pub dead: Option<ProcessId>,
}

/// Why a shard was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEntered {
    /// The lock was not given.
    Lock(RawLockError),
    /// The words do not fit together.
    Damaged(Damaged),
    /// It is the lock of this process's parent, which held it when it forked.
    NotMine,
    /// Somebody died in a change of several words, which is to be finished under all locks.
    Unfinished(Death),
}

impl From<Damaged> for Refused {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

impl From<RawLockError> for NotEntered {
    fn from(error: RawLockError) -> Self {
        Self::Lock(error)
    }
}

impl From<Damaged> for NotEntered {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// Memory of the segment for as long as the handle keeps it mapped; in a model, its own.
#[cfg(not(loom))]
pub type Mapped<T> = &'static T;
/// Memory of the segment for as long as the handle keeps it mapped; in a model, its own.
#[cfg(loom)]
pub type Mapped<T> = Box<T>;

/// What a dictionary was created with, as far as its words need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Binary logarithm of the bytes of a chunk.
    pub chunk_shift: u32,
    /// Chunks of the heap.
    pub chunks: u32,
    /// The longest key, in bytes.
    pub max_key: u32,
    /// The longest value, in bytes.
    pub max_value: u32,
    /// The hash's keys.
    pub seed: [u64; 2],
    /// What the shards' own roots are of: a mapping, or a list, of which there is one shard.
    pub root: Kind,
}

/// A dictionary's memory, with a private copy of its limits.
#[derive(Debug)]
pub struct RawDict {
    /// The fixed part.
    pub control: Mapped<Control>,
    /// The shards, a power of two of them.
    pub shards: Mapped<[Shard]>,
    /// A word for each chunk.
    pub owners: Mapped<[AtomicU32]>,
    /// The chunks.
    pub heap: Mapped<[AtomicU64]>,
    /// Checked when the dictionary was opened, and not read from the segment again.
    pub limits: Limits,
    /// Where this attachment looks for a run of chunks first: behind the last one, or where one was given back.
    pub run_hint: AtomicU32,
    /// What a model does wrong.
    #[cfg(loom)]
    pub fault: Option<Fault>,
}

/// A shard's lock, held by the thread, of which a [`Writer`] is to be made. One word, which need not be in memory.
#[derive(Clone, Copy, Debug)]
#[must_use = "the lock is held until its writer is dropped"]
pub struct Taken {
    /// The shard's, when it was locked.
    version: u64,
}

impl RawDict {
    #[cfg(loom)]
    pub(crate) fn broken(&self, fault: Fault) -> bool {
        self.fault == Some(fault) || shm_core::mutants::mutant_of("Dict", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "a model's dictionary has faults")]
    pub(crate) fn broken(&self, fault: Fault) -> bool {
        shm_core::mutants::mutant_of("Dict", &fault)
    }

    /// The hash of a key: SipHash-1-3 with the dictionary's own keys, so that nobody can choose keys that
    /// collide.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        hash(self.limits.seed, key)
    }

    /// The number of the shard that has a key.
    #[inline]
    #[must_use]
    pub fn shard_of(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    /// Takes a shard's lock; rebuilds first if somebody died under it, and says what that found.
    ///
    /// # Errors
    /// [`NotEntered`].
    ///
    /// # Safety
    /// As [`shm_lock::RawMutex::lock`], for the locks of all shards.
    #[inline(always)]
    pub unsafe fn enter<'a>(
        &'a self,
        shard: usize,
        patience: Patience,
        memory: &'a dyn Memory,
    ) -> Result<(Writer<'a>, Option<Rebuilt>), NotEntered> {
        // SAFETY: the caller's promise.
        let (taken, rebuilt) = unsafe { self.take_lock(shard, patience, memory) }?;
        // SAFETY: just taken.
        Ok((unsafe { self.writer(shard, taken, memory) }, rebuilt))
    }

    /// As [`enter`](Self::enter), but for the writer, which is large: who makes it where it stays need not move it.
    ///
    /// # Errors
    /// [`NotEntered`].
    ///
    /// # Safety
    /// As [`enter`](Self::enter).
    #[inline(always)]
    pub unsafe fn take_lock(
        &self,
        shard: usize,
        patience: Patience,
        memory: &dyn Memory,
    ) -> Result<(Taken, Option<Rebuilt>), NotEntered> {
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.shards[shard].lock.acquire(patience) }?;
        // As it is before a rebuild, which is a change that waiters are told of.
        let version = self.shards[shard].version.load(Ordering::Relaxed);
        let taken = Taken { version };
        let rebuilt = match acquired.is_clean() || self.broken(Fault::SkipsRebuild) {
            true => None,
            false => Some(self.rebuild(shard, taken, acquired.dead_owner, memory)?),
        };
        Ok((taken, rebuilt))
    }

    /// The writer of a shard's lock that was taken.
    ///
    /// # Safety
    /// This thread has just taken it, by [`take_lock`](Self::take_lock) of this shard, and makes one writer of it.
    #[inline(always)]
    pub unsafe fn writer<'a>(
        &'a self,
        shard: usize,
        taken: Taken,
        memory: &'a dyn Memory,
    ) -> Writer<'a> {
        Writer::new(self, shard, taken.version, memory)
    }

    /// Rebuilds a shard whose lock was just taken; where that cannot be done, or not yet, the lock is given back and
    /// stays inconsistent.
    #[cold]
    #[inline(never)]
    fn rebuild(
        &self,
        shard: usize,
        taken: Taken,
        dead: Option<ProcessId>,
        memory: &dyn Memory,
    ) -> Result<Rebuilt, NotEntered> {
        // SAFETY: just taken; this one is forgotten before the caller makes its own, or gives the lock back.
        let writer = unsafe { self.writer(shard, taken, memory) };
        if self.has_intent(shard) && !self.broken(Fault::RebuildsDespiteIntents) {
            return Err(NotEntered::Unfinished(Death { shard, dead }));
        }
        let rebuilt = writer.recover(dead)?;
        // The lock stays with the caller.
        core::mem::forget(writer);
        Ok(rebuilt)
    }

    /// Takes everything out, by one store; `writers` are those of all shards.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn clear(&self, writers: &[Writer<'_>]) -> Result<(), Damaged> {
        debug_assert_eq!(writers.len(), self.shards.len());
        if self.broken(Fault::ClearsShardByShard) {
            return writers.iter().try_for_each(|writer| writer.top().clear());
        }
        // PAIR dict-epoch: Release. This is the change; what follows frees what it cut off.
        self.control.epoch.fetch_add(1, Ordering::Release);
        writers.iter().try_for_each(Writer::begin_epoch)
    }

    /// A number that grows with every change, and with every repair.
    #[must_use]
    pub fn version(&self) -> u64 {
        let versions = self.shards.iter().map(|shard| {
            // PAIR dict-version: Acquire sees what was changed before.
            shard.version.load(Ordering::Acquire)
        });
        versions.fold(0, u64::wrapping_add)
    }

    /// Entries, by the shards' own counts; none of what a clearing has cut off.
    #[must_use]
    pub fn entries(&self) -> u64 {
        let mut entries = 0;
        for _ in 0..view::TRIES {
            // PAIR dict-epoch: Acquire; what is read after it is at least as new.
            let epoch = self.control.epoch.load(Ordering::Acquire);
            let counts = self.shards.iter().map(|shard| shard.entries(epoch));
            entries = counts.fold(0, u64::wrapping_add);
            // PAIR dict-epoch: behind the fence, a table word or a count of another epoch shows that epoch.
            fence(Ordering::Acquire);
            if self.control.epoch.load(Ordering::Relaxed) == epoch {
                break;
            }
        }
        entries
    }

    /// Bytes of chunks that belong to nobody.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        // Relaxed: numbers for people.
        let taken = |word: &&AtomicU32| Owner::from_bits(word.load(Ordering::Relaxed)).is_taken();
        let frontier = self.frontier() as usize;
        let taken = self.owners[..frontier].iter().filter(taken).count();
        ((self.limits.chunks as usize - taken) as u64) << self.limits.chunk_shift
    }
}
