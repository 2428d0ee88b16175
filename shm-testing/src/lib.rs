//! Instruments for tests whose subject is a *process*: what it leaves behind when it dies, and what
//! the others then see.
//!
//! | for | use |
//! |---|---|
//! | a second process in an integration test | [`peer_main`], [`Child`] |
//! | a test that may hang | [`watchdog`] |
//! | a name in `/dev/shm` that goes away again | [`UniqueName`] |
//! | waiting for a fact instead of a time | [`wait_until`], [`until_asleep_in_futex`] |
//! | killing at every instruction | [`step_killer`], [`Commands`] |
//! | judging what several processes saw | [`linearizability`] |
//!
//! The crate is not published and is a dev-dependency only.

mod child;
mod command;
mod limit;
pub mod linearizability;
mod peer;
mod procfs;
mod spawn;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod step_killer;
mod unique_name;
mod victim;
mod wait;
mod watchdog;
mod wire;

pub use child::{Child, ExpectError};
pub use peer::{Peer, Role, peer_main, peer_main_at};
pub use procfs::{ThreadState, threads};
pub use unique_name::UniqueName;
pub use victim::Commands;
pub use wait::{until_asleep_in_futex, until_thread_asleep_in_futex, wait_until};
pub use watchdog::{Watchdog, watchdog};
