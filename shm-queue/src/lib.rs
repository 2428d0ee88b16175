//! Bounded queues between processes: put here, get there, and `join` until all is done.
//!
//! | type | for | a message whose consumer dies |
//! |---|---|---|
//! | [`Queue`] | values, encoded by a [`Codec`] | is lost once `get` has taken it out: at most once |
//! | [`JoinableQueue`] | tasks, finished by `task_done` | is delivered again: at least once |
//! | [`ByteQueue`] | byte strings, also written and read in place | as `get` or as a task, as it is got |
//!
//! Any number of processes and threads on each side, messages of any length up to the queue's limit. No
//! server, no feeder thread, no system call as long as nobody has to wait.
//!
//! # What is promised
//! Any process may be killed between any two instructions. Nobody waits for it for longer than a slice
//! (100 ms), no message is torn, none is lost that was in the queue, none that was handed out as a task, and an
//! unfinished put leaves no trace and hides nobody else's.
//!
//! # How
//! Two short robust locks, one for each side, and one word for each message that alone says what has become of
//! it; everything else is a cache that whoever follows a dead process makes anew. See `docs/format.md`.
//!
//! # Not from signal handlers
//! A handler may have interrupted an operation on the same thread's locks.
//!
//! # Examples
//! See the types, and `examples/` of this crate.

#[cfg(not(loom))]
mod bytes;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod halves;
#[cfg(not(loom))]
mod inner;
#[cfg(not(loom))]
mod inspect;
#[cfg(not(loom))]
mod joinable;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod macros;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod queue;
#[doc(hidden)]
pub mod raw;
#[cfg(not(loom))]
mod readiness;
#[cfg(not(loom))]
mod transfer;
#[cfg(not(loom))]
mod wait;

#[cfg(not(loom))]
pub use bytes::{ByteQueue, Received, Reservation};
#[cfg(not(loom))]
pub use error::{CreateError, PutError, QueueError};
#[cfg(not(loom))]
pub use inspect::{DeadLetter, DeadReason, Inspection, LeaseInspection, Recovered};
#[cfg(not(loom))]
pub use joinable::{JoinableQueue, TaskGuard};
#[cfg(not(loom))]
pub use options::{MAX_ARENA, MAX_CAPACITY, MAX_MESSAGE, OnDrop, Options};
#[cfg(not(loom))]
pub use queue::{Iter, Queue, Receiver, Sender};
#[cfg(not(loom))]
pub use readiness::Readiness;
#[cfg(not(loom))]
pub use shm_core::codec::{Bytes, Codec, CodecError, Postcard, Raw};
#[cfg(not(loom))]
pub use shm_core::{Error, Place, ProcessId, Region, Segment, SegmentHandle};
#[cfg(not(loom))]
pub use wait::WaitStrategy;

/// The examples of the README, run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
