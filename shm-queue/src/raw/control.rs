//! The fixed part of a queue: a group of lines for each side, so that neither writes to the other's.

use shm_core::sync::{AtomicU32, AtomicU64};
use shm_lock::RawMutex;

use super::signal::Signal;

/// What a queue was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages that may wait in the queue.
    pub capacity: u32,
    /// Messages that may be handed out at a time.
    pub leases: u32,
    /// Dead letters that are kept.
    pub dead_letters: u32,
    /// Deliveries after which a message becomes a dead letter; 0: never.
    pub max_deliveries: u8,
    /// Bytes that a cell itself can hold.
    pub inline: u32,
    /// Chunks of the arena.
    pub chunks: u32,
}

/// Keeps neighbours apart by two lines: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Apart<T>(pub T);

impl<T> core::ops::Deref for Apart<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What producers write, under the put lock.
#[derive(Debug)]
#[repr(C)]
pub struct Producers {
    /// The put lock.
    pub lock: RawMutex,
    /// Number of the next put.
    pub number: AtomicU64,
    /// `head`, as a producer last saw it.
    pub head_seen: AtomicU64,
    /// The freed ring is emptied up to here.
    pub taken: AtomicU64,
    /// Cells on the stack.
    pub stack: AtomicU32,
    /// Cells that are being written outside the lock.
    pub writing: AtomicU32,
    /// No chunk below this one is free.
    pub lowest: AtomicU32,
    /// Chunks that are in use.
    pub chunks: AtomicU32,
    /// Chunks from the start of the arena that have memory.
    pub allocated: AtomicU32,
    /// Not 0: a producer found room in the queue, but too few chunks.
    pub starved: AtomicU32,
}

/// What consumers write, under the get lock.
#[derive(Debug)]
#[repr(C)]
pub struct Consumers {
    /// The get lock.
    pub lock: RawMutex,
    /// `tail`, as a consumer last saw it.
    pub tail_seen: AtomicU64,
    /// When the first lease runs out, in nanoseconds of CLOCK_MONOTONIC; 0: none does.
    pub next_expiry: AtomicU64,
    /// Messages that are handed out.
    pub leased: AtomicU32,
    /// Messages that are put aside.
    pub dead: AtomicU32,
    /// For people: messages that went back into the queue.
    pub redelivered: AtomicU64,
    /// For people: messages that were put aside, ever.
    pub buried: AtomicU64,
}

/// What producers publish to consumers.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Shown {
    /// Position behind the last message.
    pub tail: AtomicU64,
    /// The cell of the last message: a hint, for consumers that wait for the first one.
    pub last: AtomicU32,
}

/// What consumers publish to producers.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Given {
    /// Position of the first message.
    pub head: AtomicU64,
    /// Position behind the last cell that was given back.
    pub freed: AtomicU64,
}

/// The fixed part.
///
/// | offset | field |
/// |---:|---|
/// | 0 | `config`: what the queue was created with |
/// | 64 | `looked` |
/// | 120 | `state`: closed, discarded, had senders |
/// | 124 | `recoveries` |
/// | 128 | `Producers` |
/// | 256 | `Shown` |
/// | 384 | `Consumers` |
/// | 512 | `Given` |
/// | 640, 768, 896 | signals: a message, room, idle |
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Control {
    /// Written before the queue is published; read once by each who opens it.
    pub config: [AtomicU64; 8],
    /// When somebody last looked for the dead, in nanoseconds of CLOCK_MONOTONIC. A hint.
    pub looked: AtomicU64,
    reserved: [AtomicU64; 6],
    /// [`CLOSED`](Self::CLOSED), [`DISCARDED`](Self::DISCARDED), [`HAD_SENDERS`](Self::HAD_SENDERS).
    pub state: AtomicU32,
    /// For people: how often the caches were made anew.
    pub recoveries: AtomicU32,
    /// The producers' lines.
    pub put: Apart<Producers>,
    /// The line that waiting consumers look at.
    pub shown: Apart<Shown>,
    /// The consumers' lines.
    pub get: Apart<Consumers>,
    given: Apart<Given>,
    /// There is a message, or no more will come.
    pub not_empty: Apart<Signal>,
    /// There is room, or none is needed any more.
    pub not_full: Apart<Signal>,
    /// Nothing is unfinished.
    pub idle: Apart<Signal>,
}

impl Control {
    /// In `state`: puts are refused.
    pub const CLOSED: u32 = 1 << 0;
    /// In `state`: what was in the queue when it was closed is dropped.
    pub const DISCARDED: u32 = 1 << 1;
    /// In `state`: there was a sender; when none is left, the queue closes.
    pub const HAD_SENDERS: u32 = 1 << 2;
}

impl core::ops::Deref for Control {
    type Target = Given;

    #[inline]
    fn deref(&self) -> &Given {
        &self.given
    }
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Control>() == 1024);
    assert!(offset_of!(Control, state) == 120 && offset_of!(Control, put) == 128);
    assert!(offset_of!(Control, shown) == 256 && offset_of!(Control, get) == 384);
    assert!(offset_of!(Control, given) == 512 && offset_of!(Control, not_empty) == 640);
    assert!(offset_of!(Control, not_full) == 768 && offset_of!(Control, idle) == 896);
    assert!(size_of::<Cell>() == 32);
};

#[cfg(not(loom))]
// SAFETY: every field is made of atomics; the lock's links are followed by their writer alone.
unsafe impl shm_core::Shared for Control {}

#[cfg(loom)]
impl Default for Control {
    fn default() -> Self {
        let lock = RawMutex::new;
        Self {
            config: Default::default(),
            looked: AtomicU64::new(0),
            reserved: Default::default(),
            state: AtomicU32::new(0),
            recoveries: AtomicU32::new(0),
            put: Apart(Producers {
                lock: lock(),
                number: AtomicU64::new(0),
                head_seen: AtomicU64::new(0),
                taken: AtomicU64::new(0),
                stack: AtomicU32::new(0),
                writing: AtomicU32::new(0),
                lowest: AtomicU32::new(0),
                chunks: AtomicU32::new(0),
                allocated: AtomicU32::new(0),
                starved: AtomicU32::new(0),
            }),
            shown: Apart::default(),
            get: Apart(Consumers {
                lock: lock(),
                tail_seen: AtomicU64::new(0),
                next_expiry: AtomicU64::new(0),
                leased: AtomicU32::new(0),
                dead: AtomicU32::new(0),
                redelivered: AtomicU64::new(0),
                buried: AtomicU64::new(0),
            }),
            given: Apart::default(),
            not_empty: Apart::default(),
            not_full: Apart::default(),
            idle: Apart::default(),
        }
    }
}

/// The head of a message; what fits into the cell lies behind it.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct Cell {
    /// [`Word`](super::Word): the only truth.
    pub word: AtomicU64,
    /// When the lease runs out, in nanoseconds of CLOCK_MONOTONIC; 0: never.
    pub expiry: AtomicU64,
    /// Bytes of the message.
    pub len: AtomicU32,
    /// First chunk of the message, if it does not fit into the cell.
    pub chunk: AtomicU32,
    /// Why it is a dead letter.
    pub reason: AtomicU32,
    /// When it was handed out last, in units of 2^24 ns (17 ms) of CLOCK_MONOTONIC: for people.
    pub since: AtomicU32,
}
