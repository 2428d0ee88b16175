//! What producers do, under the put lock.

use core::marker::PhantomData;

use shm_core::mutants::mutant;
use shm_core::sync::Ordering;

use super::arena::chunks_for;
use super::word::{Number, Owner, State, Word};
use super::{Control, Damaged, Fault, RawQueue};

/// The put lock, held.
#[derive(Debug)]
pub struct PutSide<'a> {
    pub(super) queue: &'a RawQueue,
    /// Whether the thread was panicking already when it locked.
    panicking: bool,
    not_send: PhantomData<*const ()>,
}

/// A cell that a producer has taken: where the message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cell.
    pub index: u32,
    /// The first chunk, if the message does not fit into the cell.
    pub chunk: u32,
    /// Bytes of the message.
    pub len: u32,
}

/// Why there is no cell for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No room at present.
    Full,
    /// The queue is closed.
    Closed,
    /// The file system has no memory for the arena.
    StorageFull {
        /// Bytes that had to be allocated.
        need: u64,
        /// Bytes that were free at that moment.
        free: u64,
    },
    /// The caches do not fit together.
    Damaged(Damaged),
}

impl From<Damaged> for Refused {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// Messages that are put together: the consumers are told of them when it ends, however it does.
#[derive(Debug)]
struct Batch<'s, 'a> {
    side: &'s PutSide<'a>,
    tail: Tail,
    count: u32,
}

impl Drop for Batch<'_, '_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.side.publish(&self.tail);
        }
    }
}

/// Where the queue ends with what this side has put, before the consumers are told.
#[derive(Debug)]
struct Tail {
    position: u64,
    /// The cell of the last message that was appended.
    last: u32,
    /// Of the next message.
    number: Number,
}

impl<'a> PutSide<'a> {
    pub(super) fn new(queue: &'a RawQueue) -> Self {
        Self {
            queue,
            panicking: std::thread::panicking(),
            not_send: PhantomData,
        }
    }

    /// Puts a short message: `fill` copies it into its cell or its chunks, then it is in the queue. `grow`
    /// as for [`claim`](Self::claim).
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    #[inline]
    pub fn put(
        &self,
        len: u32,
        grow: impl FnOnce(u32, u32) -> Result<u32, Refused>,
        fill: impl FnOnce(Claim),
    ) -> Result<(), Refused> {
        self.check_open()?;
        let mut tail = self.tail();
        let claim = self.take_room(&tail, len, grow)?;
        if mutant("Queue::PublishesBeforeItIsFilled") {
            self.append(&mut tail, claim.index)?;
            self.publish(&tail);
            fill(claim);
            return Ok(());
        }
        fill(claim);
        self.append(&mut tail, claim.index)?;
        self.publish(&tail);
        Ok(())
    }

    /// Puts short messages, each with its length and what fills it, until one is refused: for
    /// [`put`](Self::put) to say why. They come into the queue together; whoever is killed meanwhile leaves the
    /// first ones of them. Says how many were put.
    #[inline]
    pub fn put_many<F: FnOnce(Claim)>(
        &self,
        messages: impl Iterator<Item = (u32, F)>,
        grow: impl Fn(u32, u32) -> Result<u32, Refused>,
    ) -> u32 {
        if self.check_open().is_err() {
            return 0;
        }
        let mut batch = Batch {
            side: self,
            tail: self.tail(),
            count: 0,
        };
        // The iterator is the caller's, and may panic.
        for (len, fill) in messages {
            let Ok(claim) = self.take_room(&batch.tail, len, &grow) else {
                break;
            };
            fill(claim);
            if self.append(&mut batch.tail, claim.index).is_err() {
                break;
            }
            batch.count += 1;
        }
        batch.count
    }

    /// Takes a cell, and chunks if it needs any, for a message that is copied outside the lock. `grow`
    /// gives memory to the chunks up to the one it is told, exclusively.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn claim(
        &self,
        owner: Owner,
        len: u32,
        grow: impl FnOnce(u32, u32) -> Result<u32, Refused>,
    ) -> Result<Claim, Refused> {
        self.check_open()?;
        let claim = self.take_room(&self.tail(), len, grow)?;
        let (cell, put) = (self.queue.cell(claim.index)?, &self.queue.control.put);
        // Relaxed: under the lock.
        let writing = put.writing.load(Ordering::Relaxed);
        put.writing
            .store(writing.wrapping_add(1), Ordering::Relaxed);
        // From here on the chunks are the owner's. Relaxed: read under a lock.
        cell.word
            .store(Word::writing(owner).to_bits(), Ordering::Relaxed);
        Ok(claim)
    }

    /// A free cell, and chunks if the message needs any; its word says nothing of it yet.
    #[inline]
    fn take_room(
        &self,
        tail: &Tail,
        len: u32,
        grow: impl FnOnce(u32, u32) -> Result<u32, Refused>,
    ) -> Result<Claim, Refused> {
        self.check_room(tail.position)?;
        let queue = self.queue;
        let chunk = match queue.is_large(len) {
            true => self.find_chunks(len, grow)?,
            false => 0,
        };
        let index = self.pop(len)?;
        let cell = queue.cell(index)?;
        // Relaxed, both: published by the word and the tail, or read under a lock.
        cell.len.store(len, Ordering::Relaxed);
        cell.chunk.store(chunk, Ordering::Relaxed);
        if queue.is_large(len) {
            queue.set_run(chunk, chunks_for(len), true);
        }
        Ok(Claim { index, chunk, len })
    }

    /// Puts a claimed cell, now filled, into the queue.
    ///
    /// # Errors
    /// [`Refused::Closed`]; the claim stands then. [`Refused::Damaged`] if it is not the owner's.
    pub fn commit(&self, owner: Owner, claim: Claim) -> Result<(), Refused> {
        self.check_open()?;
        self.check_claim(owner, claim)?;
        self.one_less_writing();
        let mut tail = self.tail();
        self.append(&mut tail, claim.index)?;
        self.publish(&tail);
        Ok(())
    }

    /// Gives a claimed cell back.
    ///
    /// # Errors
    /// [`Damaged`] if it is not the owner's.
    pub fn abandon(&self, owner: Owner, claim: Claim) -> Result<(), Damaged> {
        let cell = self.check_claim(owner, claim)?;
        // Relaxed: read under a lock.
        cell.word.store(Word::FREE.to_bits(), Ordering::Relaxed);
        self.one_less_writing();
        if self.queue.is_large(claim.len) {
            self.queue
                .set_run(claim.chunk, chunks_for(claim.len), false);
        }
        self.push(claim.index);
        Ok(())
    }

    /// Refuses all further puts.
    pub fn close(&self, discard: bool) {
        let discarded = if discard { Control::DISCARDED } else { 0 };
        // PAIR queue-closed: Release, after all puts that came before.
        self.queue
            .control
            .state
            .fetch_or(Control::CLOSED | discarded, Ordering::Release);
    }

    /// How many messages are not finished: in the queue or handed out. Since no message can be put
    /// meanwhile, nothing is unfinished at the end of the call if this is 0.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn unfinished(&self) -> Result<u32, Damaged> {
        let mut count = 0;
        for index in 0..self.queue.cells.len() as u32 {
            // PAIR queue-finished: Acquire, as the consumer's Release; who has joined sees what was done.
            let bits = self.queue.cell(index)?.word.load(Ordering::Acquire);
            let state = Word::from_bits(bits).state();
            let leased = state == Some(State::Leased) && !mutant("Queue::JoinsBesideLeases");
            count += u32::from(state == Some(State::Ready) || leased);
        }
        Ok(count)
    }

    #[inline]
    fn check_open(&self) -> Result<(), Refused> {
        // Relaxed: written under this lock.
        match self.queue.control.state.load(Ordering::Relaxed) & Control::CLOSED {
            0 => Ok(()),
            _ => Err(Refused::Closed),
        }
    }

    /// Whether one more may wait in the queue. A message that was given back counts only once the
    /// producers have used up the room that they knew of.
    #[inline]
    fn check_room(&self, tail: u64) -> Result<(), Refused> {
        let (queue, put) = (self.queue, &self.queue.control.put);
        // Relaxed, all but the second look at `head`: under the lock.
        let writing = u64::from(put.writing.load(Ordering::Relaxed));
        let capacity = u64::from(queue.limits.capacity);
        let waiting = |head: u64| tail.wrapping_sub(head).wrapping_add(writing);
        if waiting(put.head_seen.load(Ordering::Relaxed)) < capacity {
            return Ok(());
        }
        // PAIR queue-head: Acquire.
        let head = queue.control.head.load(Ordering::Acquire);
        put.head_seen.store(head, Ordering::Relaxed);
        match waiting(head) {
            waiting if waiting < capacity => Ok(()),
            waiting if waiting <= queue.cells.len() as u64 => Err(Refused::Full),
            waiting => Err(Refused::Damaged(Damaged {
                field: "number of messages",
                value: waiting,
            })),
        }
    }

    fn find_chunks(
        &self,
        len: u32,
        grow: impl FnOnce(u32, u32) -> Result<u32, Refused>,
    ) -> Result<u32, Refused> {
        let (queue, count) = (self.queue, chunks_for(len));
        if queue.is_long(len) {
            // The same warm memory goes round: what consumers gave back comes before new chunks.
            self.take_freed()?;
        }
        let first = match queue.find_run(count) {
            Some(first) => first,
            None => {
                self.take_freed()?;
                queue.find_run(count).ok_or_else(|| {
                    self.starve();
                    Refused::Full
                })?
            }
        };
        // Relaxed: under the lock.
        queue.control.put.starved.store(0, Ordering::Relaxed);
        let allocated = &queue.control.put.allocated;
        // Relaxed: under the lock.
        let before = allocated.load(Ordering::Relaxed);
        if first + count > before {
            allocated.store(grow(before, first + count)?, Ordering::Relaxed);
        }
        Ok(first)
    }

    /// There is room in the queue, but not in the arena: from now on, and now, all who wait for room are
    /// woken, since another's message may fit. Until one that needs chunks has them.
    #[cold]
    fn starve(&self) {
        let (queue, starved) = (self.queue, &self.queue.control.put.starved);
        // Relaxed, both: written under the lock.
        if starved.load(Ordering::Relaxed) == 0 {
            starved.store(1, Ordering::Relaxed);
            // Perhaps this one was woken for all of them.
            queue.control.not_full.announce(queue.fault());
            queue.control.not_full.notify(u32::MAX, queue.fault());
        }
    }

    /// A free cell, for a message of `len` bytes.
    #[inline]
    fn pop(&self, len: u32) -> Result<u32, Refused> {
        let (queue, stack) = (self.queue, &self.queue.control.put.stack);
        // Relaxed, all: under the lock.
        if stack.load(Ordering::Relaxed) == 0 {
            self.take_freed()?;
        }
        let top = stack
            .load(Ordering::Relaxed)
            .checked_sub(1)
            .ok_or(Refused::Full)?;
        let index = queue.stack.get(top as usize).ok_or(Damaged {
            field: "free cells",
            value: u64::from(top),
        })?;
        let index = index.load(Ordering::Relaxed);
        queue.prefetch_stacked(top, len);
        // Somebody may be reading a cell that is not free, in place.
        let word = Word::from_bits(queue.cell(index)?.word.load(Ordering::Relaxed));
        if word != Word::FREE {
            return Err(Refused::Damaged(Damaged {
                field: "state of a free cell",
                value: word.to_bits(),
            }));
        }
        stack.store(top, Ordering::Relaxed);
        Ok(index)
    }

    fn push(&self, index: u32) {
        let stack = &self.queue.control.put.stack;
        // Relaxed, all: under the lock.
        let top = stack.load(Ordering::Relaxed);
        if let Some(place) = self.queue.stack.get(top as usize) {
            place.store(index, Ordering::Relaxed);
            stack.store(top + 1, Ordering::Relaxed);
        }
    }

    /// Takes all cells that consumers have given back.
    #[cold]
    fn take_freed(&self) -> Result<(), Damaged> {
        let (queue, put) = (self.queue, &self.queue.control.put);
        // Relaxed: under the lock.
        let mut taken = put.taken.load(Ordering::Relaxed);
        let acquire = match queue.broken(Fault::FreesRelaxed) {
            true => Ordering::Relaxed,
            // PAIR queue-freed: Acquire.
            false => Ordering::Acquire,
        };
        let freed = queue.control.freed.load(acquire);
        if freed.wrapping_sub(taken) > queue.freed.len() as u64 {
            return Err(Damaged {
                field: "freed",
                value: freed,
            });
        }
        while taken != freed {
            // Relaxed, all: ordered by `freed`.
            let index = queue.freed[queue.at(taken)].load(Ordering::Relaxed);
            let cell = queue.cell(index)?;
            // Without an arena there is nothing to see in the cell, whose line is far away.
            let len = match queue.limits.chunks {
                0 => 0,
                _ => cell.len.load(Ordering::Relaxed),
            };
            if queue.is_large(len) {
                let chunk = cell.chunk.load(Ordering::Relaxed);
                queue.set_run(chunk, chunks_for(len), false);
            }
            self.push(index);
            taken = taken.wrapping_add(1);
            put.taken.store(taken, Ordering::Relaxed);
        }
        Ok(())
    }

    fn check_claim(&self, owner: Owner, claim: Claim) -> Result<&super::Cell, Damaged> {
        let cell = self.queue.cell(claim.index)?;
        // Relaxed: under the lock.
        let word = Word::from_bits(cell.word.load(Ordering::Relaxed));
        match word == Word::writing(owner) {
            true => Ok(cell),
            false => Err(Damaged {
                field: "claim",
                value: word.to_bits(),
            }),
        }
    }

    /// Whether messages are being written outside the lock.
    #[inline]
    pub fn is_written_to(&self) -> bool {
        // Relaxed: under the lock.
        self.queue.control.put.writing.load(Ordering::Relaxed) != 0
    }

    fn one_less_writing(&self) {
        let writing = &self.queue.control.put.writing;
        // Relaxed: under the lock.
        let less = writing.load(Ordering::Relaxed).saturating_sub(1);
        writing.store(less, Ordering::Relaxed);
    }

    #[inline]
    fn tail(&self) -> Tail {
        let control = &self.queue.control;
        // Relaxed, all: under the lock.
        Tail {
            position: control.shown.tail.load(Ordering::Relaxed),
            last: control.shown.last.load(Ordering::Relaxed),
            number: Number::new(control.put.number.load(Ordering::Relaxed)),
        }
    }

    /// Makes a cell the last message of the queue, but for [`publish`](Self::publish). From here on it
    /// outlives its producer.
    #[inline]
    fn append(&self, tail: &mut Tail, index: u32) -> Result<(), Damaged> {
        let queue = self.queue;
        let cell = queue.cell(index)?;
        // Relaxed: ordered by the tail.
        queue.ring[queue.at(tail.position)].store(index, Ordering::Relaxed);
        queue.prefetch_ring(tail.position);
        let number = tail.number;
        *tail = Tail {
            position: tail.position.wrapping_add(1),
            last: index,
            number: number.next(),
        };
        if queue.broken(Fault::StoresTailBeforeWord) {
            self.publish(tail);
        }
        // Release: whoever rebuilds after a death here finds the message whole.
        cell.word
            .store(Word::ready(number).to_bits(), Ordering::Release);
        Ok(())
    }

    /// Shows consumers all that was appended.
    #[inline]
    fn publish(&self, tail: &Tail) {
        let control = &self.queue.control;
        let publish = match self.queue.broken(Fault::PublishesTailRelaxed) {
            true => Ordering::Relaxed,
            // PAIR queue-tail: Release.
            false => Ordering::Release,
        };
        // Relaxed, both: under the lock; a hint.
        control
            .put
            .number
            .store(tail.number.get(), Ordering::Relaxed);
        control.shown.last.store(tail.last, Ordering::Relaxed);
        control.shown.tail.store(tail.position, publish);
    }
}

impl Drop for PutSide<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.panicking && std::thread::panicking() {
            if cfg!(loom) {
                // A model thread that was killed: its kernel releases the lock.
                return;
            }
            self.queue.control.put.lock.mark_poisoned();
        }
        // SAFETY: made when this thread had taken the lock, and not `Send`.
        unsafe { self.queue.control.put.lock.unlock() };
    }
}
