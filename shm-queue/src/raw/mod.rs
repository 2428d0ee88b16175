//! The queue without its messages' types: words, rings and locks, on the machine or in a model.
//!
//! | file | idea |
//! |---|---|
//! | `word.rs` | what has become of a message, in one word |
//! | `control.rs` | the fixed part of a queue, a line for each side |
//! | `put_side.rs` | what producers do under the put lock |
//! | `get_side.rs` | what consumers do under the get lock |
//! | `arena.rs` | chunks for the messages that do not fit into a cell |
//! | `rebuild.rs` | everything but the words is a cache, and is made anew after a death |
//! | `signal.rs` | sleep and wake |
//! | `prefetch.rs` | lines that are fetched before they are needed |
//!
//! # Invariants
//!
//! - INV-Q1: the words are the only truth. Each step of a message's life is one store of its word.
//! - INV-Q2: a word is stored under the put lock (free -> writing, free -> ready, writing -> ready, writing ->
//!   free), under the get lock (ready -> leased, ready -> free, leased -> any), or under both (rebuild).
//!   So a word has one writer at a time.
//! - INV-Q3: the ring from `head` to `tail` holds exactly the cells that are ready, redelivered ones
//!   first, then in the order of their numbers, but for those that the holder of the put lock has put and not shown yet. The stack and the freed ring from `taken` to `freed` hold
//!   exactly the free ones. The bitmap has a bit for each chunk of each cell that is not free, and of
//!   those in the freed ring.
//! - INV-Q4: whoever is killed under a lock leaves INV-Q3 perhaps broken and the lock inconsistent; the
//!   next to take it rebuilds under both locks, put lock first, before anything else.
//! - INV-Q5: of messages that are put together, or taken out for good, under one lock, each has its own store of its
//!   word, in their order, and all together one store of the positions. So the other side sees none or all of them, and
//!   a death in the middle leaves the first ones put, or taken. (Leases are stored one by one.)
//!
//! # Pairs
//!
//! - PAIR queue-tail: a producer stores `tail` with Release after the words and the ring; a consumer loads it
//!   with Acquire before it reads either.
//! - PAIR queue-head: a consumer stores `head` with Release after what it read; a producer loads it
//!   with Acquire before it counts the room.
//! - PAIR queue-freed: a consumer stores `freed` with Release after it is done with the cell; a producer
//!   loads it with Acquire before it uses the cell again.
//! - PAIR queue-overwriting: who writes where a message was fences (Release) before its bytes; who has copied a message that
//!   may have been taken back meanwhile fences (Acquire) after its bytes and looks at the word. A copy with one byte of
//!   another message finds a word that is not its lease's.
//! - PAIR mutex-word (`shm_lock`): everything else, between producers and between consumers.

mod arena;
mod control;
mod get_side;
mod prefetch;
mod put_side;
mod rebuild;
mod signal;
mod word;

use shm_core::mutants::mutant_of;
use shm_core::sync::{AtomicU32, AtomicU64, Ordering, fence};
use shm_lock::{Patience, RawLockError};

pub use arena::CHUNK;
pub use control::{Cell, Control, Limits};
pub use get_side::{Front, GetSide, Lease, Returned};
#[cfg(not(loom))]
pub(crate) use prefetch::LINE;
pub use put_side::{Claim, PutSide, Refused};
pub use rebuild::Census;
pub use signal::Signal;
pub use word::{MAX_DELIVERIES, MAX_SLOTS, Number, Owner, State, Word};

/// Ways to be wrong, for the models to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum Fault {
    NotifiesWithoutFence,
    ForgetsToWake,
    SleepsUnannounced,
    PublishesTailRelaxed,
    FreesRelaxed,
    FinishesRelaxed,
    StoresTailBeforeWord,
    KeepsTheWake,
    RecoversWithoutReturning,
    SkipsRebuild,
    OverwritesWithoutFence,
    BelievesACopyOfWhatWasTakenBack,
}

/// Whether `fault` is what the model chose, or the mutant.
#[inline(always)]
fn is_broken(chosen: Option<Fault>, fault: Fault) -> bool {
    chosen == Some(fault) || mutant_of("Queue", &fault)
}

/// A lock's data that does not fit together: a cache that somebody damaged, or bytes that were never a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What is wrong.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
}

/// Why a side was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEntered {
    /// The lock was not given.
    Lock(RawLockError),
    /// The words themselves are damaged.
    Damaged(Damaged),
}

impl From<RawLockError> for NotEntered {
    fn from(error: RawLockError) -> Self {
        Self::Lock(error)
    }
}

impl From<Damaged> for NotEntered {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// Memory of the segment for as long as the handle keeps it mapped; in a model, its own.
#[cfg(not(loom))]
pub type Mapped<T> = &'static T;
/// Memory of the segment for as long as the handle keeps it mapped; in a model, its own.
#[cfg(loom)]
pub type Mapped<T> = Box<T>;

/// The cells, one behind the other.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct Cells {
    base: *const u8,
    stride: usize,
    count: usize,
}

#[cfg(not(loom))]
impl Cells {
    /// The cells in the memory at `base`.
    ///
    /// # Safety
    /// `count` cells, `stride` bytes apart and aligned to 32 bytes, stay mapped at `base` as long as
    /// the result is used.
    #[must_use]
    pub unsafe fn new(base: *const u8, stride: usize, count: usize) -> Self {
        Self {
            base,
            stride,
            count,
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&Cell> {
        if index >= self.count {
            return None;
        }
        // SAFETY: below `count`, so in bounds by the promise of `new`.
        let cell = unsafe { self.base.add(index * self.stride) }.cast::<Cell>();
        // SAFETY:
        // - in bounds, aligned, mapped: the promise of `new`;
        // - other writers: all fields are atomics; any bytes are a value.
        Some(unsafe { &*cell })
    }
}

#[cfg(loom)]
type Cells = Box<[Cell]>;

#[cfg(not(loom))]
// SAFETY: the pointer leads to atomics in a mapping that the owner of the queue keeps.
unsafe impl Send for Cells {}
#[cfg(not(loom))]
// SAFETY: as for Send.
unsafe impl Sync for Cells {}

/// A queue's memory, with a private copy of its limits.
#[derive(Debug)]
pub struct RawQueue {
    /// The fixed part.
    pub control: Mapped<Control>,
    /// Cell numbers in the order of the queue.
    pub ring: Mapped<[AtomicU32]>,
    /// Cell numbers that consumers gave back.
    pub freed: Mapped<[AtomicU32]>,
    /// Cell numbers that producers may take.
    pub stack: Mapped<[AtomicU32]>,
    /// A bit for each chunk of the arena that is in use.
    pub bitmap: Mapped<[AtomicU64]>,
    /// The messages.
    pub cells: Cells,
    /// Checked when the queue was opened, and not read from the segment again.
    pub limits: Limits,
    /// What a model does wrong.
    #[cfg(loom)]
    pub fault: Option<Fault>,
}

impl RawQueue {
    #[cfg(loom)]
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    #[cfg(not(loom))]
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "a model's queue has faults")]
    pub(crate) const fn fault(&self) -> Option<Fault> {
        None
    }

    #[inline(always)]
    pub(crate) fn broken(&self, fault: Fault) -> bool {
        is_broken(self.fault(), fault)
    }

    #[inline]
    fn cell(&self, index: u32) -> Result<&Cell, Damaged> {
        let damaged = || Damaged {
            field: "cell number",
            value: u64::from(index),
        };
        self.cells.get(index as usize).ok_or_else(damaged)
    }

    /// Where a position of a ring lies in it.
    #[inline]
    fn at(&self, position: u64) -> usize {
        (position & (self.ring.len() as u64 - 1)) as usize
    }

    /// Makes a new queue of zeroed memory: nothing is in it, all cells are free.
    pub fn initialise(&self) {
        for (index, place) in self.stack.iter().enumerate() {
            // Relaxed: nobody else is here yet. The lowest number on top.
            place.store((self.stack.len() - 1 - index) as u32, Ordering::Relaxed);
        }
        // Relaxed: as above.
        self.control
            .put
            .stack
            .store(self.stack.len() as u32, Ordering::Relaxed);
    }

    /// Takes the put lock; rebuilds first if somebody died under it.
    ///
    /// # Errors
    /// [`NotEntered`].
    ///
    /// # Safety
    /// As [`shm_lock::RawMutex::lock`], for the put lock and the get lock.
    #[inline]
    pub unsafe fn enter_put(
        &self,
        patience: Patience,
        alive: impl Fn(Owner) -> bool,
    ) -> Result<PutSide<'_>, NotEntered> {
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.control.put.lock.acquire(patience) }?;
        let side = PutSide::new(self);
        if !acquired.is_clean() && !self.broken(Fault::SkipsRebuild) {
            // SAFETY: the caller's promise.
            let (get, _) = unsafe { self.lock_get(patience) }?;
            side.rebuild(&get, alive)?;
        }
        Ok(side)
    }

    /// Takes the get lock; rebuilds first if somebody died under it.
    ///
    /// # Errors
    /// [`NotEntered`].
    ///
    /// # Safety
    /// As [`shm_lock::RawMutex::lock`], for the put lock and the get lock.
    #[inline]
    pub unsafe fn enter_get(
        &self,
        patience: Patience,
        alive: impl Fn(Owner) -> bool,
    ) -> Result<GetSide<'_>, NotEntered> {
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.control.get.lock.acquire(patience) }?;
        let side = GetSide::new(self);
        if acquired.is_clean() || self.broken(Fault::SkipsRebuild) {
            return Ok(side);
        }
        // The put lock comes first. What is given back here stays inconsistent.
        drop(side);
        // SAFETY: the caller's promise.
        let (_put, get) = unsafe { self.enter_both(patience, alive) }?;
        Ok(get)
    }

    /// Takes both locks, and rebuilds if somebody died under one of them.
    ///
    /// # Errors
    /// [`NotEntered`].
    ///
    /// # Safety
    /// As [`shm_lock::RawMutex::lock`], for both locks.
    pub unsafe fn enter_both(
        &self,
        patience: Patience,
        alive: impl Fn(Owner) -> bool,
    ) -> Result<(PutSide<'_>, GetSide<'_>), NotEntered> {
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.control.put.lock.acquire(patience) }?;
        let put = PutSide::new(self);
        // SAFETY: the caller's promise.
        let (get, clean) = unsafe { self.lock_get(patience) }?;
        let clean = acquired.is_clean() && clean;
        if !clean && !self.broken(Fault::SkipsRebuild) {
            put.rebuild(&get, alive)?;
        }
        Ok((put, get))
    }

    /// # Safety
    /// As [`shm_lock::RawMutex::lock`], for the get lock.
    unsafe fn lock_get(&self, patience: Patience) -> Result<(GetSide<'_>, bool), RawLockError> {
        // SAFETY: the caller's promise.
        let acquired = unsafe { self.control.get.lock.acquire(patience) }?;
        Ok((GetSide::new(self), acquired.is_clean()))
    }

    // ---- without a lock: the bytes of leases that may be taken back ---------------------------

    /// Before the bytes of a claim are written: somebody may still be copying what was there before.
    #[inline]
    pub fn before_overwriting(&self) {
        if !self.broken(Fault::OverwritesWithoutFence) {
            // PAIR queue-overwriting: Release.
            fence(Ordering::Release);
        }
    }

    /// After the bytes of a lease were copied: whether the message was its holder's all the time, and so every byte of
    /// the copy is the message's.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn is_leased_still(&self, lease: Lease) -> Result<bool, Damaged> {
        // PAIR queue-overwriting: Acquire.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence. A number is not put twice, so the word does not come back.
        let word = self.cell(lease.index)?.word.load(Ordering::Relaxed);
        Ok(word == lease.word.to_bits() || self.broken(Fault::BelievesACopyOfWhatWasTakenBack))
    }

    // ---- without a lock: hints ---------------------------------------------------------------

    /// Where the messages seem to begin, and how many they seem to be.
    #[inline]
    fn seen(&self) -> (u64, u64) {
        // Relaxed, both: hints, or after the fence of PAIR queue-signal.
        let head = self.control.head.load(Ordering::Relaxed);
        let tail = self.control.shown.tail.load(Ordering::Relaxed);
        (head, tail.wrapping_sub(head))
    }

    /// Whether there seems to be a message.
    #[inline]
    pub fn has_messages(&self) -> bool {
        self.seen().1 != 0
    }

    /// As [`has_messages`](Self::has_messages), for one who spins until the first comes: if it is there, it is fetched.
    #[inline]
    pub fn has_first(&self) -> bool {
        let (head, waiting) = self.seen();
        if waiting == 1 {
            self.prefetch_only(head);
        }
        waiting != 0
    }

    /// Whether there seems to be room for one more.
    #[inline]
    pub fn has_room(&self) -> bool {
        let waiting = self.seen().1;
        // Relaxed: a hint.
        let writing = u64::from(self.control.put.writing.load(Ordering::Relaxed));
        waiting.wrapping_add(writing) < u64::from(self.limits.capacity)
    }

    /// Wakes up to `count` producers, after so many messages went. If one of them lacks chunks, it wakes
    /// all: the one that was woken may find too few for its message, while another's would fit.
    #[inline]
    pub fn notify_producers(&self, count: u32) {
        let so_many = || match self.control.put.starved.load(Ordering::Relaxed) {
            // Relaxed: behind the fence of PAIR queue-signal. Who sets it later wakes all itself.
            0 => count,
            _ => u32::MAX,
        };
        self.control.not_full.notify_so_many(so_many, self.fault());
    }

    /// Whether nothing seems to be unfinished.
    #[inline]
    pub fn seems_idle(&self) -> bool {
        // Relaxed: as in `has_messages`.
        !self.has_messages() && self.control.get.leased.load(Ordering::Relaxed) == 0
    }

    /// Whether puts are refused: [`Control::CLOSED`].
    #[inline]
    pub fn is_closed(&self) -> bool {
        // PAIR queue-closed: Acquire; whoever sees it sees all puts that came before.
        self.control.state.load(Ordering::Acquire) & Control::CLOSED != 0
    }
}

/// What tests need and nobody else.
#[cfg(not(loom))]
pub mod testing {
    use super::{Control, Number, Ordering};

    /// Has the next put of a queue that nobody uses at the moment take this number.
    ///
    /// # Panics
    /// If the segment has no queue in it.
    pub fn start_numbers_at(queue: &shm_core::Segment, number: u64) {
        let control = queue.view::<Control>(0).expect("a queue");
        // Relaxed: nobody uses it.
        let number = Number::new(number).get();
        control.put.number.store(number, Ordering::Relaxed);
    }
}
