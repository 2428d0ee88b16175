//! Shared memory segments for processes of one machine, and what every primitive on them needs.
//!
//! A [`Segment`] is memory that several processes map: by a name, by a descriptor that one hands
//! to another, by a file, or in a [`Region`] that the caller mapped already. Its header says what
//! lives in it, and [`Segment::open`] checks all of it before anybody uses a byte.
//!
//! # What is promised
//! Any process may be killed between any two instructions. A segment is published whole or not at
//! all; a participant that dies is known by an exact test ([`ProcessId::is_alive`]) and its slot is
//! taken by the next one; a name that should have gone with its creator goes as soon as somebody
//! meets it ([`sweep`], [`list`]). The memory of a segment is allocated when it is created, so that
//! a full disk is an error ([`Error::StorageFull`]), not a SIGBUS later.
//!
//! # What is not
//! The processes that attach run as one user and trust each other not to attack: whoever may write
//! to a segment may also truncate its file. A segment does not survive a reboot
//! ([`Error::OtherBoot`]) and is not shared between PID namespaces ([`Field::PidNamespace`]).
//!
//! # Invariants
//! INV-S1: the memory behind a handle stays mapped as long as any clone of the handle lives.
//!
//! # Platform
//! Linux 5.14 or later, 64-bit, glibc (the lock words follow its robust list).
//!
//! # Examples
//! ```
//! use shm_core::{Place, Segment};
//!
//! # let name = format!("doc-core-{}", std::process::id());
//! let place = Place::named(&name).unlink_on_drop(true);
//! let segment = Segment::create(place, 1024)?;
//! segment.write(0, b"for whoever opens it")?;
//! # Ok::<(), shm_core::Error>(())
//! ```

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the shm family needs Linux on a 64-bit machine: futexes, robust lists, memfd");

#[cfg(feature = "codec")]
pub mod codec;
#[doc(hidden)]
pub mod deadline;
mod error;
#[doc(hidden)]
pub mod fork;
#[doc(hidden)]
pub mod futex;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod layout;
#[doc(hidden)]
pub mod mutants;
mod participant;
#[cfg(loom)]
#[path = "segment/placement.rs"]
pub mod placement;
#[doc(hidden)]
pub mod robust;
#[cfg(not(loom))]
mod segment;
#[doc(hidden)]
pub mod sync;
mod sys;

pub use deadline::Deadline;
pub use error::{Error, Field, MAX_NAME, NameProblem};
pub use participant::ProcessId;
#[cfg(not(loom))]
pub use segment::{
    DIRECTORY, FORMAT_VERSION, HEADER_SIZE, Kind, MAGIC, Place, Region, Scope, Segment,
    SegmentHandle, SegmentInfo, Spec, list, recv_fd, send_fd, sweep, unlink,
};
#[cfg(not(loom))]
#[doc(hidden)]
pub use segment::{Shared, placement};

/// The examples of the README, run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
