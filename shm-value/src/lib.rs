//! Typed values and arrays that processes share.
//!
//! | type | for | reading | a killed writer leaves |
//! |---|---|---|---|
//! | [`AtomicValue`] | numbers and flags up to 64 bits | one load | old or new |
//! | [`AtomicArray`] | many of them | one load each | each old or new |
//! | [`Value`] | any plain type | no lock, a validated copy | old or new |
//! | [`Array`] | many elements, changed in place | the lock | what it wrote so far; the next owner is told |
//!
//! What Python calls `Value(lock=False)` is [`AtomicValue`] here, and `get_lock()` is
//! [`Value::lock`]. `v.value -= 1`, which loses updates there, is [`Value::update`] or
//! [`AtomicValue::fetch_sub`], which do not.
//!
//! # Examples
//! See the types, and `examples/` of this crate.

mod array;
mod atomic_array;
mod atomic_value;
mod error;
mod value;

pub use array::{Array, ArrayGuard};
pub use atomic_array::{AtomicArray, AtomicArrayReader, AtomicElement};
pub use atomic_value::{Atomic, AtomicNumber, AtomicReader, AtomicValue};
pub use error::ValueError;
pub use shm_core::{Error, Place, ProcessId, Region, Segment};
pub use shm_lock::{Cause, LockError, LockFailure, LockResult, Recover};
pub use value::{Value, ValueGuard};

/// The examples of the README, run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
