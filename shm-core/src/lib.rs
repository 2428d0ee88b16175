//! Under construction.

pub mod deadline;
#[doc(hidden)]
pub mod fork;
#[doc(hidden)]
pub mod futex;
pub mod participant;
#[doc(hidden)]
pub mod robust;
#[doc(hidden)]
pub mod sync;

pub use deadline::Deadline;
pub use participant::ProcessId;
