//! Dictionaries and lists in shared memory, which a killed process cannot corrupt.
//!
//! [`Dict`] maps keys whose equal values have equal bytes ([`ShmKey`]) to values that a [`Codec`] encodes; [`List`] has
//! values in a row. Either can be inside of the other, to some depth, and is changed there in place
//! ([`Dict::child_dict`]). [`Dict::transaction`] changes several keys together. [`Dynamic`] is a value or a key of any
//! kind. Any number of processes and threads read without a lock and write under short robust locks, one for each shard
//! of a mapping. No server, no system call as long as nobody has to wait and no memory has to be allocated.
//!
//! # What is promised
//! Any process may be killed between any two instructions. Every operation on one key or element, `clear`, what is said
//! to be one step, and a transaction is wholly done or wholly not; nothing is torn, nobody waits for the dead, and
//! memory that belonged to what they had not finished is free again after a repair that the next writer makes.
//!
//! # How
//! A change is one 8-byte store, of the word that leads to a record or to a value, or of the one that leads to a table or an
//! array; what it leads to was written before and is not written again while anybody can reach it. A change of several
//! words is written down first, and the store that publishes that is the change. Everything else is a cache that
//! whoever follows a dead process makes anew. See `docs/format.md`.
//!
//! # Not from signal handlers
//! A handler may have interrupted an operation on the same thread's locks.
//!
//! # Examples
//! See [`Dict`], and `examples/` of this crate.

#[cfg(not(loom))]
mod at;
#[cfg(not(loom))]
mod buffer;
#[cfg(not(loom))]
mod child;
#[cfg(not(loom))]
mod deep;
#[cfg(not(loom))]
mod dict;
#[cfg(not(loom))]
mod dynamic;
#[cfg(not(loom))]
mod entry;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
mod inner;
#[cfg(not(loom))]
mod inside;
#[cfg(not(loom))]
mod inspect;
#[cfg(not(loom))]
mod iter;
#[cfg(not(loom))]
mod key;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod list;
#[cfg(not(loom))]
mod number;
#[cfg(not(loom))]
mod options;
#[doc(hidden)]
pub mod raw;
#[cfg(not(loom))]
mod sort;
#[cfg(not(loom))]
mod transaction;
#[cfg(not(loom))]
mod whole;

#[cfg(not(loom))]
pub use dict::Dict;
#[cfg(not(loom))]
pub use dynamic::{
    BigInt, ConvertError, Dynamic, Element, Integer, Kind, MAX_DEPTH, Mapping, Sequence,
};
#[cfg(not(loom))]
pub use entry::Entry;
#[cfg(not(loom))]
pub use error::{CreateError, DictError};
#[cfg(not(loom))]
pub use guard::DictGuard;
#[cfg(not(loom))]
pub use inspect::{Inspection, Recovery, ShardInspection, Stats};
#[cfg(not(loom))]
pub use iter::{Items, Keys, Values};
#[cfg(not(loom))]
pub use key::{KeyBytes, ShmKey};
#[cfg(not(loom))]
pub use list::{Elements, List};
#[cfg(not(loom))]
pub use number::Number;
#[cfg(not(loom))]
pub use options::{MAX_BYTES, MAX_KEY, MAX_VALUE, MIN_BYTES, Options};
#[cfg(not(loom))]
pub use shm_core::codec::{Bytes, Codec, CodecError, Postcard, Raw};
#[cfg(not(loom))]
pub use shm_core::{Error, Place, ProcessId, Region, Segment};
#[cfg(not(loom))]
pub use transaction::Transaction;

/// The examples of the README, run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
