//! Everything that asks the operating system, apart from the futex and the robust list.

pub(crate) mod file;
pub(crate) mod identity;
pub(crate) mod liveness;
