//! Everything that asks the operating system, apart from the futex and the robust list.

#[cfg(not(loom))]
pub(crate) mod file;
#[cfg(not(loom))]
pub(crate) mod identity;
pub(crate) mod liveness;
#[cfg(not(loom))]
pub(crate) mod socket;
