//! What a dictionary is created with.

use std::hash::{BuildHasher, RandomState};

use crate::error::CreateError;
use crate::raw::{Kind, MAX_SHARDS};

/// The most memory that a dictionary can have, in bytes.
pub const MAX_BYTES: u64 = 1 << 42;
/// The least, in bytes.
pub const MIN_BYTES: u64 = 16 << 10;
/// The longest encoded key, in bytes.
pub const MAX_KEY: u32 = (1 << 16) - 1;
/// The longest encoded value, in bytes.
pub const MAX_VALUE: u32 = (1 << 31) - 1;

/// The most chunks that a heap is divided into.
const MAX_CHUNKS: u64 = 1 << 18;
/// Shards unless told, where there is memory for them.
const SHARDS: u64 = 16;
/// Chunks for each of them, at least: its table, a larger one that takes its place, and records of some sizes.
const CHUNKS_OF_A_SHARD: u64 = 8;
/// SipHash-1-3 of the key's bytes.
const HASH_ID: u64 = 1;

/// Options for creating a dictionary; whoever opens it takes them from the dictionary.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_dict::{Dict, Options};
///
/// # let name = format!("doc-options-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let options = Options::new().max_bytes(256 << 20).shards(32);
/// let sizes = Dict::<String, u64>::create(place, options)?;
/// assert!(sizes.is_empty()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "options do nothing until a dictionary is created with them"]
pub struct Options {
    max_bytes: u64,
    /// `None`: as many as the memory is enough for.
    shards: Option<u32>,
    max_value: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// At most 1 GiB of memory, which is allocated as it is used, and 16 shards.
    pub const fn new() -> Self {
        Self {
            max_bytes: 1 << 30,
            shards: None,
            max_value: MAX_VALUE,
        }
    }

    /// The memory that keys, values and their tables may take in all, in bytes (1 GiB unless told; 16 KiB at least).
    ///
    /// It is given out in chunks of 4 KiB up to 4 MiB in all, of 16 KiB up to 4 GiB. A chunk has blocks of one size, and
    /// belongs to one shard: in a dictionary of a few chunks, entries of several sizes are
    /// [`Full`](crate::DictError::Full) before its bytes are used up.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many writers can be at work at once, each in a shard of the mapping: a power of two, at most 256.
    ///
    /// Unless told, 16 from 512 KiB of [`max_bytes`](Self::max_bytes) on, and fewer where there is less: one for each
    /// 32 KiB (rounded down to a power of two, one at least). A shard that has any entries takes two chunks. Where more
    /// are asked for than there are chunks for, the first entry of a shard can be [`Full`](crate::DictError::Full) in a
    /// dictionary of few entries.
    pub const fn shards(mut self, shards: u32) -> Self {
        self.shards = Some(shards);
        self
    }

    /// The longest encoded value, in bytes (unless told: 2 GiB - 1).
    pub const fn max_value(mut self, bytes: u32) -> Self {
        self.max_value = bytes;
        self
    }

    /// For a list, which has one shard.
    pub(crate) fn list_shape(self) -> Shape {
        Shape {
            root: Kind::List,
            shards: 1,
            ..self.shape()
        }
    }

    pub(crate) fn shape(self) -> Shape {
        let random = || RandomState::new().hash_one(0_u64);
        Shape {
            root: Kind::Map,
            max_bytes: self.max_bytes,
            shards: self.shards.unwrap_or_else(|| shards_for(self.max_bytes)),
            max_value: self.max_value,
            seed: [random(), random()],
        }
    }
}

/// The options with nothing left open, as they stand in the dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Not in the dictionary: the segment's kind says it.
    pub(crate) root: Kind,
    pub(crate) max_bytes: u64,
    pub(crate) shards: u32,
    pub(crate) max_value: u32,
    pub(crate) seed: [u64; 2],
}

impl Shape {
    pub(crate) fn check(&self) -> Result<(), CreateError> {
        let within = |option, value: u64, least: u64, most: u64| match value {
            _ if (least..=most).contains(&value) => Ok(()),
            _ => Err(CreateError::Option {
                option,
                value,
                least,
                most,
            }),
        };
        within("max_bytes", self.max_bytes, MIN_BYTES, MAX_BYTES)?;
        within("shards", self.shards.into(), 1, MAX_SHARDS as u64)?;
        if !self.shards.is_power_of_two() {
            return Err(CreateError::Option {
                option: "shards, a power of two,",
                value: self.shards.into(),
                least: 1 << self.shards.ilog2(),
                most: self.shards.next_power_of_two().into(),
            });
        }
        within("max_value", self.max_value.into(), 1, MAX_VALUE.into())
    }

    /// The words that stand in the dictionary.
    pub(crate) fn to_words(self) -> [u64; 6] {
        let [first, second] = self.seed;
        [
            self.max_bytes,
            self.shards.into(),
            self.max_value.into(),
            HASH_ID,
            first,
            second,
        ]
    }

    /// The shape behind the words of a dictionary; `None` if they are none.
    pub(crate) fn from_words(words: [u64; 6], root: Kind) -> Option<Self> {
        let shape = Self {
            root,
            max_bytes: words[0],
            shards: words[1].try_into().ok()?,
            max_value: words[2].try_into().ok()?,
            seed: [words[4], words[5]],
        };
        (words[3] == HASH_ID).then_some(shape)
    }

    /// Binary logarithm of the bytes of a chunk.
    pub(crate) fn chunk_shift(&self) -> u32 {
        chunk_shift(self.max_bytes)
    }
}

/// Binary logarithm of the bytes of a chunk: small where there is little memory, and such that there are not too many.
fn chunk_shift(max_bytes: u64) -> u32 {
    let least = match max_bytes {
        ..=0x40_0000 => 12,
        _ => 14,
    };
    let wanted = max_bytes.div_ceil(MAX_CHUNKS).next_power_of_two();
    wanted.ilog2().max(least)
}

/// Shards, unless told.
fn shards_for(max_bytes: u64) -> u32 {
    let chunks = max_bytes >> chunk_shift(max_bytes);
    1 << (chunks / CHUNKS_OF_A_SHARD).clamp(1, SHARDS).ilog2()
}
