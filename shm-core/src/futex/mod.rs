//! Sleeping on a word of shared memory until somebody changes it.
//!
//! Three operations on a shared futex (never `PRIVATE`: the sleeper and the waker are different processes):
//! [`wait`], [`wake`], and [`waiters`], which counts without waking. Deadlines are absolute times of
//! `CLOCK_MONOTONIC`. Two forms of `wait` bound the sleep: [`wait_slice`] for every ordinary sleep, so that
//! nothing the kernel forgets can hang a process, and [`wait_briefly`] where a protocol needs the bound.
//!
//! The value is compared and the sleeper queued as one step against every [`wake`] of the same word.
//! Whoever changes the word first and wakes second therefore loses no sleeper: PAIR futex-queue is the
//! kernel's bucket lock, which orders a waker's earlier writes before the comparison of a sleeper
//! that it did not find.
//!
//! In a loom model the queue is one loom mutex around a list of sleepers with a condvar each; the value is
//! compared under that mutex. A lost wake shows as loom's "deadlock". Slices end there only when the model says
//! so, and nothing papers over a lost wake; [`wait_briefly`] ends after a yield; an ordinary wait times out only by
//! finding its deadline past before it sleeps.
//!
//! Sources: futex(2); the kernel's `Documentation/locking/robust-futexes.rst`; U. Drepper, *Futexes
//! Are Tricky*.

use core::time::Duration;

#[cfg(not(loom))]
mod linux;
#[cfg(not(loom))]
pub use linux::{
    give_way, processors, thread_is_gone, wait, wait_briefly, wait_slice, waiters, wake,
};

#[cfg(loom)]
mod model;
#[cfg(loom)]
pub(crate) use model::wake_by_kernel;
#[cfg(loom)]
pub use model::{
    end_slices, give_way, processors, thread_is_gone, wait, wait_briefly, wait_slice, waiters, wake,
};

/// The longest sleep without another look at the word.
///
/// Some kernels lose a wake-up ("case B"): whoever has released a lock and not yet woken anybody, or was
/// woken and has not yet taken it, is killed, and meanwhile a third thread has taken the lock without WAITERS.
/// The slice turns that hang into a delay.
pub const SLICE: Duration = Duration::from_millis(100);

/// Why a wait ended. No answer says anything about the word: look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Woken by a [`wake`], or without reason.
    Woken,
    /// The word did not have the expected value; the thread did not sleep.
    Changed,
    /// The deadline, the slice or the bound came first.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}
