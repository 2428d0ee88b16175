//! The only place that knows whether an algorithm runs on the machine or in a loom model.
//!
//! Algorithms import atomics, cells, fences, hints and threads from here and compile unchanged both ways.
//! The switch is a plain `cfg(loom)`: `cfg(test)` does not reach the library of another crate, so an
//! `all(test, loom)` switch would quietly test the real atomics.
//!
//! | item | machine | model |
//! |---|---|---|
//! | `Atomic*`, `Ordering`, `fence` | `core::sync::atomic` | loom, the same ordering, after `death::step` |
//! | `compiler_fence` | `core::sync::atomic` | nothing: it orders a thread with the kernel that buries it, and the model's kernel acts in program order |
//! | `UnsafeCell` | `with`, `with_mut` over `core::cell::UnsafeCell` | loom's, which reports concurrent access |
//! | `spin_loop`, `yield_now` | hint, `sched_yield` | loom's yield |
//! | `prefetch_to_write` | hint | nothing |
//! | `thread` | `std::thread` | `loom::thread` |
//!
//! No ordering is softened or strengthened on the way. Only the model has `death`, which kills a
//! model thread before any chosen atomic operation.

#[cfg(not(loom))]
mod real;
#[cfg(not(loom))]
pub use real::*;

#[cfg(loom)]
pub mod death;
#[cfg(loom)]
mod model;
#[cfg(loom)]
pub use model::*;
