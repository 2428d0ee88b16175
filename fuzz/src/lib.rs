//! What the fuzz targets run. Each target is one call of a function here.
//!
//! | target | input | oracle |
//! |---|---|---|
//! | `segment_image` | bytes that become a segment, or the payload behind a header that is in order | [`Attack`]'s |
//! | `segment_pokes` | an [`Attack`]: changes to a segment that was in order, before and between its uses | every call gives `Ok` or a typed error: no panic, no fault (AddressSanitizer), no hang (`-timeout`), no allocation larger than the segment (than 16 KiB, if that is smaller), no descriptor left open |
//! | `value_ops` | a [`Script`] of operations through two handles | a model in ordinary memory says what each gives |
//! | `queue_ops` | a [`QueueScript`] of operations on a byte queue and a queue of tasks, through two handles each | a model in ordinary memory says what each gives |
//! | `queue_image` | a [`QueueAttack`]: a queue that was in order, or any bytes behind its header, with changes | as `segment_pokes` |
//! | `dict_ops` | a [`DictScript`] of operations through two handles | a model in ordinary memory says what each gives |
//! | `dict_image` | a [`DictAttack`]: a dictionary or a list, with others in it, that was in order, or any bytes behind its header, with changes | as `segment_pokes`; what gives all elements decoded may allocate 64 bytes for each 8 of the segment |
//! | `list_ops` | a [`ListScript`] of operations on lists and dictionaries inside of each other, and of transactions, through two handles | a tree in ordinary memory says what each gives |
//! | `codec_decode` | any bytes as keys and values ([`Encoded`]) | what decodes is encoded to what decodes to the same; keys are equal if and only if their bytes are; no allocation larger than 64 times the bytes (than 16 KiB, if that is smaller) |
//! | `dynamic_decode` | any bytes as keys and values of any kind ([`DynamicBytes`]) | as `codec_decode`; a key has one string of bytes; equality, order, hash and copies agree |
//!
//! What is hostile here are bytes, not a process: nothing changes while a call is under way, and a
//! lock's list links are left alone while this thread holds it, since processes that share a lock
//! trust each other that far.

mod allocation;
mod backing;
mod codec;
mod descriptors;
mod dict;
mod dict_image;
mod dynamic;
mod image;
mod input;
mod list;
mod pokes;
mod probe;
mod queue;
mod queue_image;
mod script;
mod told;

#[cfg(feature = "planted")]
mod planted;

pub use codec::{Encoded, codec_decode};
pub use dict::{DictScript, dict_ops};
pub use dict_image::{DictAttack, dict_image};
pub use dynamic::{DynamicBytes, dynamic_decode};
pub use image::segment_image;
pub use list::{ListScript, list_ops};
pub use pokes::{Attack, segment_pokes};
pub use queue::{QueueScript, queue_ops};
pub use queue_image::{QueueAttack, queue_image};
pub use script::{Script, value_ops};
