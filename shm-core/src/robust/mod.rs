//! The robust list of the calling thread: what makes the kernel release a dead thread's locks.
//!
//! Each thread has registered one list head with the kernel (the C library did so when it started the
//! thread, and there can be only one). When the thread ends, in whatever way, or the process calls
//! `exec`, the kernel walks the list and then the one *pending* entry, and at each lock word that holds the
//! thread's id writes `OWNER_DIED`, keeps `WAITERS`, clears the id and wakes one waiter. Our locks link
//! themselves into the C library's own list, between whatever `pthread` robust mutexes the thread holds:
//! replacing the head, as set_robust_list(2) would, would silently disable those.
//!
//! ```text
//! head (in the C library's thread descriptor)     node (in each lock)
//!  0  8 list          first node, or the head       -32 4 word   futex: TID | WAITERS | OWNER_DIED
//!  8  8 futex_offset  -32 with glibc                 -8 8 prev   address of the previous `next` (or of the head)
//! 16  8 pending       node being worked on, or 0      0 8 next   address of the next node, or of the head
//! ```
//!
//! Bit 0 of an address in `list`, `next` and `prev` marks a priority-inheriting pthread mutex; our
//! own nodes never have it, our neighbours may.
//!
//! Locking is [`Thread::begin`], the change of the word, [`Thread::push`], [`Thread::end`]; unlocking is
//! [`Thread::begin_unlock`], [`Thread::remove`], the change of the word, [`Thread::end`].
//!
//! - INV-R1: whenever the thread's id stands in a word, the word's node is in the list or pending.
//!   (Leaving a held lock pending would save two stores. But glibc empties a forked child's list and leaves
//!   its pending entry: the child of a first process of a PID namespace that is the first in a namespace of its
//!   own has its parent's id, and its end would release the parent's lock.)
//! - INV-R2: at every instruction the chain from the head over `next` is whole: a node's `next` is
//!   written before the node is linked, and unlinking is one store.
//! - INV-R3: only the thread that holds a lock writes that lock's node, and only the neighbours' links
//!   besides; nobody else reads them. What another process left there is overwritten by `push`.
//! - INV-R4: at most [`LIMIT`] nodes of ours are in the list: the kernel gives up after 2048 entries,
//!   in which the pthread robust mutexes count too.
//!
//! The reader of all this is the kernel, on behalf of this very thread, after its last instruction. So
//! program order is all that is needed: compiler fences, no processor fences.
//!
//! Sources: the kernel's `Documentation/locking/robust-futexes.rst` and `robust-futex-ABI.rst`,
//! `kernel/futex/core.c` (`exit_robust_list`, `handle_futex_death`); glibc's `nptl/descr.h`
//! (`ENQUEUE_MUTEX`, `DEQUEUE_MUTEX`).

use thiserror::Error;

#[cfg(not(loom))]
mod linux;
#[cfg(not(loom))]
pub use linux::{Node, Thread, current, thread};

#[cfg(loom)]
mod model;
#[cfg(loom)]
pub use model::{Kernel, Node, Thread, bury, current, thread};

/// The part of a lock word that holds the owner's thread id.
pub const TID_MASK: u32 = 0x3fff_ffff;
/// Set by the kernel in the word of a lock whose owner ended while it held it.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// Set by a thread before it sleeps on the word.
pub const WAITERS: u32 = 0x8000_0000;

/// The most locks of this family that one thread may hold at a time (INV-R4).
pub const LIMIT: u32 = 2000;

/// Where a lock's word is, seen from its node, with the only C library supported.
pub const WORD_OFFSET: isize = -32;

/// The thread's robust list cannot be used.
///
/// The C library registered none, one with another layout (musl), or the system call is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "this thread's robust list cannot be used: the C library registered none, or of another layout"
)]
pub struct Unsupported;

/// The thread holds [`LIMIT`] locks; the kernel would not release more of them at its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "this thread already holds {LIMIT} locks, and the kernel would not release more at its death"
)]
pub struct TooManyLocks;
