//! Typed values and arrays that processes share.
//!
//! | type | for | reading | a killed writer leaves |
//! |---|---|---|---|
//! | [`AtomicValue`] | numbers and flags up to 64 bits | one load | old or new |
//! | [`AtomicArray`] | many of them | one load each | each old or new |
//! | [`Value`] | any plain type | no lock, a validated copy | old or new |
//! | [`SeqValue`] | any plain type, read by many and written by few | never waits, cannot fail | old or new |
//! | [`Array`] | many elements, changed in place | the lock | what it wrote so far; the next owner is told |
//! | [`ShareableList`] | strings, bytes, numbers, mixed | no lock, a validated copy of each item | each item old or new |
//!
//! What Python calls `Value(lock=False)` is [`AtomicValue`] here, and `get_lock()` is
//! [`Value::lock`]. `v.value -= 1`, which loses updates there, is [`Value::update`] or
//! [`AtomicValue::fetch_sub`], which do not.
//!
//! # Examples
//! See the types, and `examples/` of this crate.

#[cfg(not(loom))]
mod array;
#[cfg(not(loom))]
mod atomic_array;
#[cfg(not(loom))]
mod atomic_value;
mod bell;
mod error;
#[cfg(not(loom))]
mod item;
#[cfg(not(loom))]
mod seq_value;
#[cfg(not(loom))]
mod shareable_list;
#[cfg(not(loom))]
mod slots;
#[cfg(not(loom))]
mod value;
mod version;

#[cfg(not(loom))]
pub use array::{Array, ArrayGuard};
#[cfg(not(loom))]
pub use atomic_array::{AtomicArray, AtomicArrayReader, AtomicElement};
#[cfg(not(loom))]
pub use atomic_value::{Atomic, AtomicNumber, AtomicReader, AtomicValue};
#[doc(hidden)]
pub use bell::{Bell, BellFault};
pub use error::ValueError;
#[cfg(not(loom))]
pub use item::{Item, ItemRef};
#[cfg(not(loom))]
pub use seq_value::SeqValue;
#[cfg(not(loom))]
pub use shareable_list::{ShareableList, ShareableListGuard};
#[cfg(not(loom))]
pub use shm_core::{Error, Place, ProcessId, Region, Segment};
#[cfg(not(loom))]
pub use shm_lock::{Cause, LockError, LockFailure, LockResult, Recover};
#[cfg(not(loom))]
pub use slots::ValueGuard;
#[cfg(not(loom))]
pub use value::Value;
#[doc(hidden)]
pub use version::{Version, VersionFault};

/// The examples of the README, run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
