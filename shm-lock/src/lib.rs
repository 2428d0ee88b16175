//! Under construction.

mod raw_mutex;

#[cfg(loom)]
pub use raw_mutex::fault::Fault;
pub use raw_mutex::{Acquired, RawInspect, RawLockError, RawMutex};
