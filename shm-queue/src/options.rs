//! What a queue is created with.

use std::time::Duration;

use crate::error::CreateError;
use crate::layout::MAX_INLINE;

/// The most messages, leases and dead letters that a queue can have, each.
pub const MAX_CAPACITY: u32 = 1 << 22;
/// The longest message that a queue can be made for, in bytes.
pub const MAX_MESSAGE: u64 = 1 << 31;
/// The largest arena, in bytes.
pub const MAX_ARENA: u64 = 1 << 39;

/// What becomes of a task whose guard is dropped without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDrop {
    /// It goes back into the queue, first in line.
    #[default]
    Requeue,
    /// It counts as done.
    Acknowledge,
}

/// Options for creating a queue; whoever opens it takes them from the queue.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_queue::{Options, Queue};
///
/// # let name = format!("doc-options-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let options = Options::new(100).max_message(1 << 20).arena_bytes(16 << 20);
/// let frames = Queue::<Vec<u8>>::create(place, options)?;
/// assert_eq!(frames.capacity(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "options do nothing until a queue is created with them"]
pub struct Options {
    capacity: u32,
    max_message: u64,
    arena_bytes: Option<u64>,
    leases: Option<u32>,
    dead_letters: u32,
    max_deliveries: u8,
    lease_time: Option<Duration>,
    on_drop: OnDrop,
}

impl Options {
    /// A queue of at most `capacity` messages (handed-out ones not counted), each of at most 64 KiB.
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity,
            max_message: 64 << 10,
            arena_bytes: None,
            leases: None,
            dead_letters: 16,
            max_deliveries: 0,
            lease_time: None,
            on_drop: OnDrop::default(),
        }
    }

    /// The longest encoded message, in bytes (65,536 unless told).
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// Room for messages of more than 224 bytes, in bytes; shorter ones need none. Memory is allocated as
    /// it is used. Unless told: 1 KiB for each message of the capacity, and at least four of the longest.
    pub fn arena_bytes(mut self, bytes: u64) -> Self {
        self.arena_bytes = Some(bytes);
        self
    }

    /// How many messages may be handed out at a time (unless told: 256 from a `Queue`, where only those
    /// count that are being copied or read in place; 1024 from a `JoinableQueue`). Who wants one more
    /// waits.
    pub fn leases(mut self, count: u32) -> Self {
        self.leases = Some(count);
        self
    }

    /// How many dead letters are kept (16 unless told); one more makes the oldest go.
    pub fn dead_letters(mut self, count: u32) -> Self {
        self.dead_letters = count;
        self
    }

    /// After so many deliveries that did not end with `task_done`, a task becomes a dead letter
    /// (unless told, or 0: never).
    pub fn max_deliveries(mut self, deliveries: u8) -> Self {
        self.max_deliveries = deliveries;
        self
    }

    /// A task that is not done so long after it was handed out (CLOCK_MONOTONIC) is delivered again, even if
    /// its consumer lives (unless told, or 0: never). For a `JoinableQueue`. Longer than it takes to copy and decode what
    /// one get gets (with `get_many` as many as it asks for, whose times all begin at once): whoever is still copying a
    /// task when its time is over does not get it, and what is decoded later than that may be another's by then.
    pub fn lease_time(mut self, time: Duration) -> Self {
        self.lease_time = Some(time);
        self
    }

    /// What becomes of a task whose guard is dropped without a word. For a `JoinableQueue`.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    pub(crate) fn shape(self, joinable: bool) -> Shape {
        let arena = u64::from(self.capacity) * 1024;
        let least = self.max_message.saturating_mul(4);
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Shape {
            capacity: self.capacity,
            leases: self.leases.unwrap_or(if joinable { 1024 } else { 256 }),
            dead_letters: self.dead_letters,
            max_deliveries: self.max_deliveries,
            max_message: self.max_message,
            arena_bytes: self.arena_bytes.unwrap_or(arena.max(least)),
            // What is read in place from a plain queue must not be taken back.
            lease_time: self.lease_time.filter(|_| joinable).map_or(0, nanoseconds),
            on_drop: self.on_drop,
        }
    }
}

impl From<u32> for Options {
    fn from(capacity: u32) -> Self {
        Self::new(capacity)
    }
}

/// The options with nothing left open, as they stand in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) capacity: u32,
    pub(crate) leases: u32,
    pub(crate) dead_letters: u32,
    pub(crate) max_deliveries: u8,
    pub(crate) max_message: u64,
    pub(crate) arena_bytes: u64,
    /// Nanoseconds; 0: leases do not run out.
    pub(crate) lease_time: u64,
    pub(crate) on_drop: OnDrop,
}

#[cfg(test)]
impl Default for Shape {
    fn default() -> Self {
        Options::new(10).shape(false)
    }
}

impl Shape {
    pub(crate) fn check(&self) -> Result<(), CreateError> {
        let within = |option, value: u64, least: u64, most: u64| match value {
            _ if (least..=most).contains(&value) => Ok(()),
            _ => Err(CreateError::Option {
                option,
                value,
                least,
                most,
            }),
        };
        let most = u64::from(MAX_CAPACITY);
        within("capacity", self.capacity.into(), 1, most)?;
        within("leases", self.leases.into(), 1, most)?;
        within("dead_letters", self.dead_letters.into(), 0, most)?;
        within("max_message", self.max_message, 1, MAX_MESSAGE)?;
        let least = match self.max_message > MAX_INLINE {
            true => self.max_message,
            false => 0,
        };
        within("arena_bytes", self.arena_bytes, least, MAX_ARENA)
    }

    /// The words that stand in the queue.
    pub(crate) fn to_words(self) -> [u64; 8] {
        [
            self.capacity.into(),
            self.leases.into(),
            self.dead_letters.into(),
            self.max_deliveries.into(),
            self.max_message,
            self.arena_bytes,
            self.lease_time,
            u64::from(self.on_drop == OnDrop::Acknowledge),
        ]
    }

    /// The shape behind the words of a queue; `None` if they are none.
    pub(crate) fn from_words(words: [u64; 8]) -> Option<Self> {
        Some(Self {
            capacity: words[0].try_into().ok()?,
            leases: words[1].try_into().ok()?,
            dead_letters: words[2].try_into().ok()?,
            max_deliveries: words[3].try_into().ok()?,
            max_message: words[4],
            arena_bytes: words[5],
            lease_time: words[6],
            on_drop: match words[7] {
                0 => OnDrop::Requeue,
                1 => OnDrop::Acknowledge,
                _ => return None,
            },
        })
    }
}
