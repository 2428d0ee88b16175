//! What the models of dictionaries and lists share: a small one in the model's own memory.

#![allow(dead_code, reason = "each model uses a part of it")]

use std::sync::Arc;

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, AtomicU64, thread};
use shm_dict::raw::{
    Control, Fault, Found, Kind, Limits, Looked, Memory, NoMemory, NotEntered, RawDict, Record,
    Refused, Shard, Writer,
};
use shm_lock::Patience;

/// Chunks of 128 bytes: two tables of a bucket, or two records of a value of two words.
const CHUNK_SHIFT: u32 = 7;

/// A file system with room for all.
#[derive(Debug)]
pub(crate) struct Plenty;

impl Memory for Plenty {
    fn back_owners(&self, _: u32, _: u32) -> Result<(), NoMemory> {
        Ok(())
    }

    fn back_chunks(&self, _: u32, _: u32) -> Result<(), NoMemory> {
        Ok(())
    }
}

pub(crate) struct Shared(pub(crate) RawDict);

/// A value of one word.
pub(crate) fn word(n: u8) -> [u8; 8] {
    [n; 8]
}

/// A value of two words, whose record moves when it is replaced.
pub(crate) fn pair(n: u8) -> [u8; 16] {
    [n; 16]
}

/// What a value says that is the same byte again and again.
pub(crate) fn number(value: &[u8]) -> u8 {
    assert!(value.windows(2).all(|two| two[0] == two[1]), "a torn value");
    value[0]
}

impl Shared {
    pub(crate) fn new(shards: usize, chunks: u32, fault: Option<Fault>) -> Arc<Self> {
        Self::of(Kind::Map, shards, chunks, fault)
    }

    pub(crate) fn of(root: Kind, shards: usize, chunks: u32, fault: Option<Fault>) -> Arc<Self> {
        let words = (chunks as usize) << CHUNK_SHIFT >> 3;
        Arc::new(Self(RawDict {
            control: Box::new(Control::default()),
            shards: (0..shards).map(|_| Shard::default()).collect(),
            owners: (0..chunks).map(|_| AtomicU32::new(0)).collect(),
            heap: (0..words).map(|_| AtomicU64::new(0)).collect(),
            limits: Limits {
                chunk_shift: CHUNK_SHIFT,
                chunks,
                max_key: 8,
                max_value: 64,
                seed: [1, 2],
                root,
            },
            run_hint: AtomicU32::new(0),
            fault,
        }))
    }

    /// A shard's lock; what somebody left who died in a transaction is finished first.
    pub(crate) fn writer(&self, shard: usize) -> Writer<'_> {
        loop {
            // SAFETY: the dictionary outlives all threads of the model.
            match unsafe { self.0.enter(shard, Patience::Endless, &Plenty) } {
                Ok((writer, _)) => return writer,
                Err(NotEntered::Unfinished(_)) => drop(self.writers()),
                Err(error) => panic!("a lock without a deadline, and good words: {error:?}"),
            }
        }
    }

    /// All locks.
    pub(crate) fn writers(&self) -> Vec<Writer<'_>> {
        // SAFETY: the dictionary outlives all threads of the model.
        let entered = unsafe { self.0.enter_all(Patience::Endless, &Plenty, None) };
        entered.expect("locks without a deadline, and good words").0
    }

    pub(crate) fn writer_for(&self, key: u8) -> (Writer<'_>, u64) {
        let hash = self.0.hash(&[key]);
        (self.writer(self.0.shard_of(hash)), hash)
    }

    pub(crate) fn try_set(&self, key: u8, value: &[u8]) -> Result<(), Refused> {
        let (writer, hash) = self.writer_for(key);
        let found = writer.top().find(hash, &[key]).expect("good words");
        writer.top().store(found, hash, &[key], value)
    }

    pub(crate) fn set(&self, key: u8, value: &[u8]) {
        self.try_set(key, value).expect("room");
    }

    pub(crate) fn remove(&self, key: u8) -> bool {
        let (writer, hash) = self.writer_for(key);
        let found = writer.top().find(hash, &[key]).expect("good words");
        writer.top().remove(found).expect("good words")
    }

    pub(crate) fn clear(&self) {
        let shards = 0..self.0.shards.len();
        let writers: Vec<_> = shards.map(|shard| self.writer(shard)).collect();
        self.0.clear(&writers).expect("good words");
    }

    /// Looks without a lock.
    pub(crate) fn get(&self, key: u8) -> Option<Vec<u8>> {
        let hash = self.0.hash(&[key]);
        loop {
            let mut value = Vec::new();
            let take = |record: Record<'_>| record.value().expect("a value").copy_to(&mut value);
            match self
                .0
                .look_up(None, hash, &[key], take)
                .expect("good words")
            {
                Looked::Found(()) => return Some(value),
                Looked::Absent => return None,
                Looked::Gone => unreachable!("the root is there"),
                Looked::Disturbed => thread::yield_now(),
            }
        }
    }

    pub(crate) fn number(&self, key: u8) -> Option<u8> {
        self.get(key).map(|value| number(&value))
    }

    /// The value under the lock.
    pub(crate) fn settled(&self, key: u8) -> Option<u8> {
        let (writer, hash) = self.writer_for(key);
        match writer.top().find(hash, &[key]).expect("good words") {
            Found::At { record, .. } => {
                let mut value = Vec::new();
                record.value().expect("a value").copy_to(&mut value);
                Some(number(&value))
            }
            _ => None,
        }
    }

    /// Every block is used once, or free once; gives how many entries there are.
    pub(crate) fn check(&self) -> u64 {
        let writers = self.writers();
        self.0.check_owners().expect("owners in order");
        let accounts = writers.iter().map(|writer| writer.check());
        accounts
            .map(|account| account.expect("caches in order").entries)
            .sum()
    }
}

/// A key of each of two shards.
pub(crate) fn one_of_each(dict: &RawDict) -> [u8; 2] {
    let of = |shard| (0..=255).find(|&key| dict.shard_of(dict.hash(&[key])) == shard);
    [0, 1].map(|shard| of(shard).expect("there are many keys"))
}

pub(crate) fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// Runs two at once. The model runs the first to its end before it tries other orders: what it finds are accesses of the
/// second that could have come earlier, so the second is to be the one that looks.
pub(crate) fn at_once<A: 'static, B: 'static>(
    shared: &Arc<Shared>,
    first: impl FnOnce(&Shared) -> A + 'static,
    second: impl FnOnce(&Shared) -> B + 'static,
) -> (A, B) {
    let (first, second) = (spawn(shared, first), spawn(shared, second));
    let first = first.join().expect("no panic");
    (first, second.join().expect("no panic"))
}

/// Spawns a process that is killed at `step`; says whether it came to its end.
pub(crate) fn spawn_victim(
    shared: &Arc<Shared>,
    step: usize,
    body: impl FnOnce(&Shared) + 'static,
) -> thread::JoinHandle<bool> {
    spawn(shared, killed_at(step, body))
}

/// What is killed at `step`; says whether it came to its end.
pub(crate) fn killed_at(
    step: usize,
    body: impl FnOnce(&Shared) + 'static,
) -> impl FnOnce(&Shared) -> bool + 'static {
    move |shared| death::run(step, || body(shared)) == Outcome::Finished(())
}

/// Schedules with one preemption, where threads and points of death are many.
pub(crate) fn explore_less(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.max_branches = 20_000;
    builder.check(model);
}
