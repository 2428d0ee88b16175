//! What the fuzz targets run. Each target is one call of a function here.
//!
//! | target | input | oracle |
//! |---|---|---|
//! | `segment_image` | bytes that become a segment, or the payload behind a header that is in order | [`Attack`]'s |
//! | `segment_pokes` | an [`Attack`]: changes to a segment that was in order, before and between its uses | every call gives `Ok` or a typed error: no panic, no fault (AddressSanitizer), no hang (`-timeout`), no allocation larger than the segment, no descriptor left open |
//! | `value_ops` | a [`Script`] of operations through two handles | a model in ordinary memory says what each gives |
//! | `queue_ops` | a [`QueueScript`] of operations on a byte queue and a queue of tasks, through two handles each | a model in ordinary memory says what each gives |
//! | `queue_image` | a [`QueueAttack`]: a queue that was in order, or any bytes behind its header, with changes | as `segment_pokes` |
//!
//! What is hostile here are bytes, not a process: nothing changes while a call is under way, and a
//! lock's list links are left alone while this thread holds it, since processes that share a lock
//! trust each other that far.

mod allocation;
mod backing;
mod image;
mod pokes;
mod probe;
mod queue;
mod queue_image;
mod script;

#[cfg(feature = "planted")]
mod planted;

pub use image::segment_image;
pub use pokes::{Attack, segment_pokes};
pub use queue::{QueueScript, queue_ops};
pub use queue_image::{QueueAttack, queue_image};
pub use script::{Script, value_ops};
