//! What a dictionary tells about itself.

use shm_core::ProcessId;

use crate::raw::Rebuilt;

/// A repair after a writer died: its change is there as a whole, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The shard that was repaired.
    pub shard: usize,
    /// Who died, if it is known.
    pub dead: Option<ProcessId>,
    /// Entries of the shard, or elements of the list; of those inside of them none.
    pub entries: u64,
    /// Chunks of memory that belonged to nothing and are free again.
    pub freed_chunks: u64,
}

impl Recovery {
    pub(crate) fn new(rebuilt: &Rebuilt) -> Self {
        Self {
            shard: rebuilt.shard,
            dead: rebuilt.dead,
            entries: rebuilt.entries,
            freed_chunks: rebuilt.chunks,
        }
    }
}

/// What [`Dict::inspect`](crate::Dict::inspect) saw: for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Entries, or elements of a list; of those inside of them none. 0 of a list that is damaged, as
    /// [`check`](crate::List::check) tells, or that writers changed all the time.
    pub entries: u64,
    /// Bytes of memory that belong to shards.
    pub used_bytes: u64,
    /// Bytes that the dictionary can have in all.
    pub max_bytes: u64,
    /// Each shard.
    pub shards: Vec<ShardInspection>,
}

/// A shard of the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardInspection {
    /// Entries, or elements of a list, as in [`Inspection`].
    pub entries: u64,
    /// Words of its table, or of the list's array.
    pub places: u64,
    /// Who holds its lock.
    pub owner: Option<ProcessId>,
    /// How many threads sleep for it.
    pub waiters: usize,
    /// How often it was repaired after a death.
    pub recoveries: u64,
}

/// What [`Dict::check`](crate::Dict::check) counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries, or elements of a list; of those inside of them none.
    pub entries: u64,
    /// Bytes of keys and values, of those inside of others too.
    pub payload: u64,
    /// Bytes of memory that belong to shards.
    pub used_bytes: u64,
    /// Blocks within that memory that are free.
    pub free_blocks: u64,
    /// Bytes that belong to nobody.
    pub free_bytes: u64,
}
