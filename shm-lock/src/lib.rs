//! Locks for processes that share memory. A killed owner hands its lock over, with a report.
//!
//! [`Mutex<T>`] is a lock with the data it protects, in a segment that any process opens by name,
//! by a descriptor, or in memory of its own. Its word stands in the list that the C library keeps
//! for the kernel (the robust list): when a thread dies in whatever way, the kernel itself frees
//! what it held and wakes a waiter.
//!
//! # What is promised
//! Any process may be killed between any two instructions, and the others go on. Who gets the lock
//! next is told ([`LockError::OwnerDied`]), holds it, and repairs the data; a repairer that dies
//! leaves the same report to the next.
//!
//! # What is not
//! All processes that attach run as one user and trust each other not to attack (the list's nodes
//! are pointers in shared memory). A thread holds 2000 locks at most ([`LockError::TooManyLocks`]).
//! Signal handlers must not lock. A guard that crosses a `fork` stays the parent's.
//!
//! # Platform
//! Linux 5.14 or later, 64-bit, glibc; elsewhere locking gives [`LockError::Unsupported`].
//!
//! # Examples
//! See [`Mutex`], and `examples/` of this crate.

mod error;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod once;
mod patience;
mod raw_mutex;
mod raw_once;
mod raw_robust_semaphore;
mod raw_rwlock;
mod recover;
#[cfg(not(loom))]
mod reentrant_mutex;
#[cfg(not(loom))]
mod robust_semaphore;
#[cfg(not(loom))]
mod rwlock;
mod slot;
#[cfg(not(loom))]
mod slots_error;

#[doc(hidden)]
pub use error::Guarded;
pub use error::{Cause, LockError, LockFailure};
#[cfg(not(loom))]
pub use mutex::{Guard, LockResult, Mutex};
#[cfg(not(loom))]
pub use once::{Once, OnceValue};
#[doc(hidden)]
pub use patience::Patience;
pub use raw_mutex::RawInspect as Inspection;
#[doc(hidden)]
pub use raw_mutex::fault::Fault;
#[doc(hidden)]
pub use raw_mutex::{Acquired, RawLockError, RawMutex};
#[doc(hidden)]
pub use raw_once::{OnceFault, RawOnce};
#[doc(hidden)]
pub use raw_robust_semaphore::{RawRobustSemaphore, RobustSemaphoreFault, SemaphoreHead};
#[doc(hidden)]
pub use raw_rwlock::{RawRwLock, RwFault, RwHead};
pub use recover::Recover;
#[cfg(not(loom))]
pub use reentrant_mutex::{ReentrantGuard, ReentrantMutex};
#[cfg(not(loom))]
pub use robust_semaphore::{RobustPermit, RobustSemaphore, RobustSemaphoreInspection};
#[cfg(not(loom))]
pub use rwlock::{RwLock, RwLockInspection, RwLockReadGuard, RwLockWriteGuard};
#[doc(hidden)]
pub use slot::Slot;
#[cfg(not(loom))]
pub use slots_error::SlotsError;
