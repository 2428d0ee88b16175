//! The fixed part of a dictionary, and what each shard has of its own.

use core::ops::Deref;

use shm_core::sync::{AtomicU32, AtomicU64, Ordering};
use shm_lock::RawMutex;

use super::{CLASSES, TableWord};

/// The most shards: a thread can hold 2000 locks, and `lock` takes all of them.
pub const MAX_SHARDS: usize = 256;

/// Keeps neighbours apart by a line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Apart<T>(pub T);

impl<T> Deref for Apart<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The first 512 bytes.
#[derive(Debug, Default)]
#[repr(C, align(512))]
pub struct Control {
    /// What the dictionary was created with (`options.rs`).
    pub config: [AtomicU64; 16],
    /// Counts the clearings; tables of another epoch are void.
    pub epoch: Apart<AtomicU64>,
    /// Owners below this one have memory.
    pub frontier: Apart<AtomicU32>,
    /// Where to begin to look for a free chunk.
    pub hint: AtomicU32,
    /// Who waits for a change sleeps on it.
    pub bell: AtomicU32,
    /// Containers that were ever made: the number of the next.
    pub containers: AtomicU64,
}

/// What writers of one shard work with: caches, but for `table`.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Shard {
    /// The writers' lock.
    pub lock: RawMutex,
    /// What readers look at.
    pub front: Apart<Front>,
    /// Entries.
    pub count: AtomicU64,
    /// Counts the changes; each has its number in the record that it left.
    pub version: AtomicU64,
    /// Places of the table that are tombstones.
    pub tombstones: AtomicU64,
    /// Bytes given back since the last rebuild, which finds whole chunks among them.
    pub freed: AtomicU64,
    /// How often this shard was rebuilt after a death.
    pub recoveries: AtomicU64,
    /// A change of several words that is being made (`intent.rs`); 0: none.
    pub intent: AtomicU64,
    /// 1: somebody waits for a change.
    pub watched: AtomicU32,
    /// Entries and elements that the last rebuild or collection looked at.
    pub counted: AtomicU64,
    /// Blocks to give out.
    pub classes: Classes,
}

/// What readers look at; written only when something is cut off.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Front {
    /// Raised whenever something that readers may be reading was cut off.
    pub generation: AtomicU64,
    /// [`TableWord`](super::TableWord).
    pub table: AtomicU64,
}

/// The blocks of all sizes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Classes([Class; CLASSES]);

/// The blocks of one size.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Class {
    /// The first free block, in units of 16 bytes, plus 1; its first word leads to the next.
    pub free: AtomicU64,
    /// The first block of a chunk that was never given out, likewise.
    pub bump: AtomicU64,
}

impl Default for Classes {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Class::default()))
    }
}

impl Deref for Classes {
    type Target = [Class; CLASSES];

    #[inline]
    fn deref(&self) -> &[Class; CLASSES] {
        &self.0
    }
}

impl Shard {
    /// Entries of its own mapping in an epoch, by its count: a table of another epoch is void, and has been counted still
    /// until it is let go.
    #[must_use]
    pub fn entries(&self, epoch: u64) -> u64 {
        // PAIR dict-entry: Acquire; the count is at least as new as the table.
        let table = TableWord(self.table.load(Ordering::Acquire));
        match table.is_of(epoch) && table.table().is_some() {
            // Relaxed: a number on its own.
            true => self.count.load(Ordering::Relaxed),
            false => 0,
        }
    }
}

impl Deref for Shard {
    type Target = Front;

    #[inline]
    fn deref(&self) -> &Front {
        &self.front.0
    }
}

#[cfg(not(loom))]
// SAFETY: every field is an atomic.
unsafe impl shm_core::Shared for Control {}
#[cfg(not(loom))]
// SAFETY: every field is an atomic, or the lock, which is `Shared` itself.
unsafe impl shm_core::Shared for Shard {}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Control>() == 512 && size_of::<Shard>() == 1152);
    assert!(offset_of!(Control, epoch) == 128 && offset_of!(Control, frontier) == 192);
    assert!(offset_of!(Control, hint) == 256 && offset_of!(Control, bell) == 260);
    assert!(offset_of!(Control, containers) == 264);
    assert!(offset_of!(Shard, lock) == 0 && offset_of!(Shard, front) == 64);
    assert!(offset_of!(Front, generation) == 0 && offset_of!(Front, table) == 8);
    assert!(offset_of!(Shard, count) == 128 && offset_of!(Shard, version) == 136);
    assert!(offset_of!(Shard, tombstones) == 144 && offset_of!(Shard, freed) == 152);
    assert!(offset_of!(Shard, recoveries) == 160 && offset_of!(Shard, intent) == 168);
    assert!(offset_of!(Shard, watched) == 176 && offset_of!(Shard, counted) == 184);
    assert!(offset_of!(Shard, classes) == 192);
    assert!(size_of::<Class>() == 16 && offset_of!(Class, bump) == 8);
};
