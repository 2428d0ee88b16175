//! Under construction.

mod raw_mutex;

#[doc(hidden)]
pub use raw_mutex::fault::Fault;
pub use raw_mutex::{Acquired, RawInspect, RawLockError, RawMutex};
