//! Instruments for tests whose subject is a *process*: what it leaves behind when it dies, and what
//! the others then see.
//!
//! | for | use |
//! |---|---|
//! | a second process in an integration test | [`peer_main`], [`Child`] |
//! | a test that may hang | [`watchdog`] |
//! | the examples of a crate | [`run_examples`] |
//! | a name in `/dev/shm` that goes away again | [`UniqueName`] |
//! | waiting for a fact instead of a time | [`wait_until`], [`eventually`], [`until_asleep_in_futex`] |
//! | death at every instruction of an operation | [`step_killer`] |
//! | random deaths under load, with an exact account | [`storm`] |
//! | a judgement on what several processes saw | [`linearizability`] |
//! | a failure of every system call of an operation | [`faults`] |
//! | a signal into every blocking call | [`Alarms`] |
//! | a full disk or another namespace, where that is permitted | [`in_private_tmpfs`], [`in_namespaces`] |
//!
//! The step killer and the fault driver work on *victims*: sub-commands of an ordinary program,
//! declared by [`Commands`], which a person can run as well.
//!
//! Linux on x86-64 only: [`step_killer`] reads its registers, [`ThreadState`] its system calls'
//! numbers. The crate is not published, and a dev-dependency only.

#[cfg(not(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_pointer_width = "64"
)))]
compile_error!("shm-testing knows the registers and system calls of Linux on x86-64 only");

mod alarm;
mod child;
mod command;
mod examples;
pub mod faults;
mod fork;
mod limit;
pub mod linearizability;
mod peer;
mod privileges;
mod procfs;
mod spawn;
pub mod step_killer;
pub mod storm;
mod unique_name;
mod victim;
mod wait;
mod watchdog;
mod wire;

pub use alarm::Alarms;
pub use child::{Child, ExpectError};
pub use examples::run_examples;
pub use fork::fork_with;
pub use peer::{Peer, Role, peer_main, peer_main_at};
pub use privileges::{in_namespaces, in_private_tmpfs, skip_unless_required};
pub use procfs::{ThreadState, threads};
pub use unique_name::UniqueName;
pub use victim::Commands;
pub use wait::{eventually, until_asleep_in_futex, until_thread_asleep_in_futex, wait_until};
pub use watchdog::{Watchdog, watchdog};
