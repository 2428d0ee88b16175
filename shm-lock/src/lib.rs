//! Locks for processes that share memory. A killed owner hands its lock over, with a report.
//!
//! [`Mutex<T>`] is a lock with the data it protects, in a segment that any process opens by name,
//! by a descriptor, or in memory of its own. Its word stands in the list that the C library keeps
//! for the kernel (the robust list): when a thread dies in whatever way, the kernel itself frees
//! what it held and wakes a waiter.
//!
//! Beside it: [`ReentrantMutex`], [`RwLock`], [`Semaphore`], [`BoundedSemaphore`], [`RobustSemaphore`]
//! (the permits of the dead come back), [`Condvar`], [`Event`], [`Barrier`] and [`Once`]. None of them is held up by a
//! process that was killed while it waited; each says what the death of a party leaves.
//!
//! # What is promised
//! Any process may be killed between any two instructions, and the others go on. Who gets the lock
//! next is told ([`LockError::OwnerDied`]), holds it, and repairs the data; a repairer that dies
//! leaves the same report to the next.
//!
//! # What is not
//! All processes that attach run as one user and trust each other not to attack (the list's nodes
//! are pointers in shared memory). A thread holds 2000 locks at most ([`LockError::TooManyLocks`]).
//! Signal handlers must not lock. A guard that crosses a `fork` stays the parent's: in the child it unlocks nothing and must not be used.
//!
//! # Platform
//! Linux 5.14 or later, 64-bit, glibc; elsewhere locking gives [`LockError::Unsupported`].
//!
//! # Examples
//! See [`Mutex`], and `examples/` of this crate.

#[cfg(not(loom))]
mod barrier;
#[cfg(not(loom))]
mod bounded_semaphore;
#[cfg(not(loom))]
mod condvar;
#[cfg(not(loom))]
mod create_error;
mod error;
#[cfg(not(loom))]
mod event;
#[cfg(not(loom))]
mod mapped;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod once;
mod patience;
mod raw_barrier;
mod raw_condvar;
mod raw_event;
mod raw_mutex;
mod raw_once;
mod raw_reentrant_mutex;
mod raw_robust_semaphore;
mod raw_rwlock;
mod raw_semaphore;
mod recover;
#[cfg(not(loom))]
mod reentrant_mutex;
#[cfg(not(loom))]
mod robust_semaphore;
#[cfg(not(loom))]
mod rwlock;
#[cfg(not(loom))]
mod semaphore;
mod slot;
mod spin;

#[cfg(not(loom))]
pub use barrier::{AllRegistered, Barrier, BarrierWaitResult, Party};
#[cfg(not(loom))]
pub use bounded_semaphore::BoundedSemaphore;
#[cfg(not(loom))]
pub use condvar::{Condvar, Data, WaitTimeout, WaitTimeoutResult};
#[cfg(not(loom))]
pub use create_error::CreateError;
#[doc(hidden)]
pub use error::Guarded;
pub use error::{Cause, LockError, LockFailure};
#[cfg(not(loom))]
pub use event::Event;
#[cfg(not(loom))]
pub use mutex::{Guard, LockResult, Mutex};
#[cfg(not(loom))]
pub use once::{Once, OnceValue};
#[doc(hidden)]
pub use patience::Patience;
#[doc(hidden)]
pub use raw_barrier::{BarrierFault, Party as RawParty, RawBarrier, Standing};
pub use raw_barrier::{BarrierInspection, BrokenBarrier};
pub use raw_condvar::CondvarInspection;
#[doc(hidden)]
pub use raw_condvar::{CondvarFault, OtherMutex, RawCondvar};
pub use raw_event::EventInspection;
#[doc(hidden)]
pub use raw_event::{EventFault, RawEvent};
pub use raw_mutex::RawInspect as Inspection;
#[cfg(loom)]
pub use raw_mutex::fault::Fault;
#[doc(hidden)]
pub use raw_mutex::{Acquired, RawLockError, RawMutex};
#[doc(hidden)]
pub use raw_once::{OnceFault, RawOnce};
#[doc(hidden)]
pub use raw_reentrant_mutex::{RawReentrantMutex, ReentrantFault};
#[doc(hidden)]
pub use raw_robust_semaphore::{RawRobustSemaphore, RobustSemaphoreFault, SemaphoreHead};
#[doc(hidden)]
pub use raw_rwlock::{RawRwLock, RwFault, RwHead};
pub use raw_semaphore::{AcquireError, ReleaseError, SemaphoreInspection};
#[doc(hidden)]
pub use raw_semaphore::{RawSemaphore, SemaphoreFault};
pub use recover::Recover;
#[cfg(not(loom))]
pub use reentrant_mutex::{ReentrantGuard, ReentrantMutex};
#[cfg(not(loom))]
pub use robust_semaphore::{RobustPermit, RobustSemaphore, RobustSemaphoreInspection};
#[cfg(not(loom))]
pub use rwlock::{RwLock, RwLockInspection, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(loom))]
pub use semaphore::{Permit, Semaphore};
pub use shm_core::ProcessId;
#[cfg(not(loom))]
pub use shm_core::{Error, Place, Region, Segment};
#[doc(hidden)]
pub use slot::Slot;

/// The examples of the README, run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
