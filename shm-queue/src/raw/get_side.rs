//! What consumers do, under the get lock.

use core::cmp::Reverse;
use core::marker::PhantomData;

use shm_core::mutants::mutant;
use shm_core::sync::{Ordering, prefetch_to_write};

use super::word::{Number, Owner, State, Word};
use super::{Cell, Control, Damaged, Fault, RawQueue};

/// The get lock, held.
#[derive(Debug)]
pub struct GetSide<'a> {
    pub(super) queue: &'a RawQueue,
    /// Whether the thread was panicking already when it locked.
    panicking: bool,
    not_send: PhantomData<*const ()>,
}

/// The first message of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its cell.
    pub index: u32,
    /// Its first chunk, if it does not fit into the cell.
    pub chunk: u32,
    /// Its bytes.
    pub len: u32,
    position: u64,
    word: Word,
}

/// Where the queue begins behind what this side has taken out, before the producers are told.
#[derive(Debug)]
struct Head {
    position: u64,
    /// Position behind the last cell that was given back.
    freed: u64,
}

/// A message that was handed out. The word tells this delivery from every other; from the 255th on, from those to another
/// attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its cell.
    pub index: u32,
    /// Its first chunk, if it does not fit into the cell.
    pub chunk: u32,
    /// Its bytes.
    pub len: u32,
    /// Its word.
    pub word: Word,
}

/// What became of a message that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It is the first of the queue again.
    Ready,
    /// It was delivered as often as allowed, and is a dead letter.
    Dead,
    /// The queue was shut down at once, and takes nothing back.
    Dropped,
    /// The lease was not the caller's any more.
    Stale,
}

impl<'a> GetSide<'a> {
    pub(super) fn new(queue: &'a RawQueue) -> Self {
        Self {
            queue,
            panicking: std::thread::panicking(),
            not_send: PhantomData,
        }
    }

    /// The first message; `None` if there is none.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline]
    pub fn front(&self) -> Result<Option<Front>, Damaged> {
        let head = self.head().position;
        self.front_at(head, self.tail(head, 1))
    }

    /// The message at `head`; `None` if that is `tail`.
    #[inline]
    fn front_at(&self, head: u64, tail: u64) -> Result<Option<Front>, Damaged> {
        if head == tail {
            return Ok(None);
        }
        let front = self.at_place(head)?;
        self.queue.prefetch_ready(head, tail, front.len);
        if front.word.state() != Some(State::Ready) {
            return Err(Damaged {
                field: "state of a message",
                value: front.word.to_bits(),
            });
        }
        Ok(Some(front))
    }

    /// The position behind the last message, as this side last saw it; as it is, if not so many were seen.
    #[inline]
    fn tail(&self, head: u64, wanted: u64) -> u64 {
        let (queue, seen) = (self.queue, &self.queue.control.get.tail_seen);
        // Relaxed, both: written under this lock.
        let tail = seen.load(Ordering::Relaxed);
        if tail.wrapping_sub(head) >= wanted {
            return tail;
        }
        // PAIR queue-tail: Acquire.
        let tail = queue.control.shown.tail.load(Ordering::Acquire);
        seen.store(tail, Ordering::Relaxed);
        tail
    }

    #[inline]
    fn head(&self) -> Head {
        let control = &self.queue.control;
        // Relaxed, both: written under this lock.
        Head {
            position: control.head.load(Ordering::Relaxed),
            freed: control.freed.load(Ordering::Relaxed),
        }
    }

    /// The message behind this one, unchecked: a hint. `None` if there is none that this side knows of.
    #[inline]
    pub fn second(&self, front: Front) -> Option<Front> {
        let second = front.position.wrapping_add(1);
        // Relaxed: written under this lock.
        if second == self.queue.control.get.tail_seen.load(Ordering::Relaxed) {
            return None;
        }
        self.at_place(second).ok()
    }

    /// The message at a position between head and tail.
    #[inline]
    fn at_place(&self, position: u64) -> Result<Front, Damaged> {
        let queue = self.queue;
        // Relaxed, all: ordered by the tail.
        let index = queue.ring[queue.at(position)].load(Ordering::Relaxed);
        let cell = queue.cell(index)?;
        // Its word is read and then written: the line is to come once.
        prefetch_to_write(cell);
        Ok(Front {
            index,
            position,
            word: Word::from_bits(cell.word.load(Ordering::Relaxed)),
            chunk: cell.chunk.load(Ordering::Relaxed),
            len: cell.len.load(Ordering::Relaxed),
        })
    }

    /// Takes the first message out for good, after it was copied.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline]
    pub fn take(&self, front: Front) -> Result<(), Damaged> {
        let mut head = self.head();
        self.take_out(&mut head, front)?;
        self.publish(&head);
        Ok(())
    }

    /// Takes out for good the messages that are there, `most` at most, until `copy` copies one no more.
    /// Producers see their room all at once; whoever is killed meanwhile has taken the first ones of them. Says how
    /// many were taken.
    ///
    /// # Errors
    /// What `copy` says of the first message, or [`Damaged`].
    #[inline]
    pub fn take_many<E: From<Damaged>>(
        &self,
        most: usize,
        mut copy: impl FnMut(usize, Front) -> Result<bool, E>,
    ) -> Result<usize, E> {
        let mut head = self.head();
        let tail = self.tail(head.position, most as u64);
        let (mut count, mut result) = (0, Ok(true));
        while count < most {
            result = self.take_next(&mut head, tail, |front| copy(count, front));
            match result {
                Ok(true) => count += 1,
                Ok(false) | Err(_) => break,
            }
        }
        if count > 0 {
            self.publish(&head);
        }
        match result {
            // What stands in the way of the next one is told to whoever comes for it.
            Err(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    /// Takes out the message at `head`, if there is one and it was copied.
    #[inline]
    fn take_next<E: From<Damaged>>(
        &self,
        head: &mut Head,
        tail: u64,
        copy: impl FnOnce(Front) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let Some(front) = self.front_at(head.position, tail)? else {
            return Ok(false);
        };
        let copied = copy(front)?;
        if copied {
            self.take_out(head, front)?;
        }
        Ok(copied)
    }

    /// Takes out the message at `head`, but for [`publish`](Self::publish). From here on it is gone.
    #[inline]
    fn take_out(&self, head: &mut Head, front: Front) -> Result<(), Damaged> {
        let cell = self.queue.cell(front.index)?;
        // PAIR queue-finished: Release.
        cell.word.store(Word::FREE.to_bits(), Ordering::Release);
        self.add_freed(head, front.index);
        head.position = head.position.wrapping_add(1);
        Ok(())
    }

    /// Shows producers the room of all that was taken out.
    #[inline]
    fn publish(&self, head: &Head) {
        self.publish_freed(head);
        // PAIR queue-head: Release.
        self.queue
            .control
            .head
            .store(head.position, Ordering::Release);
    }

    /// How many messages are handed out.
    #[inline]
    pub fn leased(&self) -> u32 {
        // Relaxed: under the lock.
        self.queue.control.get.leased.load(Ordering::Relaxed)
    }

    /// Whether one message more may be handed out.
    #[inline]
    pub fn may_lease(&self) -> bool {
        self.leased() < self.queue.limits.leases
    }

    /// Hands the first message out, until `expiry` (nanoseconds of CLOCK_MONOTONIC; 0: until it is given back).
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn lease(&self, front: Front, owner: Owner, expiry: u64) -> Result<Lease, Damaged> {
        let cell = self.queue.cell(front.index)?;
        let word = front.word.leased_to(owner);
        // Relaxed, all: read under a lock.
        cell.expiry.store(expiry, Ordering::Relaxed);
        cell.word.store(word.to_bits(), Ordering::Relaxed);
        self.expire_no_later_than(expiry);
        self.count_leased(1);
        self.advance();
        let Front {
            index, chunk, len, ..
        } = front;
        Ok(Lease {
            index,
            chunk,
            len,
            word,
        })
    }

    /// Notes when it was handed out: see [`Cell::since`].
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn note_since(&self, lease: Lease, since: u32) -> Result<(), Damaged> {
        // Relaxed: for people.
        let cell = self.queue.cell(lease.index)?;
        cell.since.store(since, Ordering::Relaxed);
        Ok(())
    }

    /// Ends a lease: the message is finished. `false` if it was not the caller's any more.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline]
    pub fn finish(&self, lease: Lease) -> Result<bool, Damaged> {
        let Some(cell) = self.leased_cell(lease)? else {
            return Ok(false);
        };
        let release = match self.queue.broken(Fault::FinishesRelaxed) {
            true => Ordering::Relaxed,
            // PAIR queue-finished: Release.
            false => Ordering::Release,
        };
        cell.word.store(Word::FREE.to_bits(), release);
        self.count_leased(-1);
        self.give(lease.index);
        Ok(true)
    }

    /// Ends a lease: the message is the first of those with later numbers again, or a dead letter.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn give_back(&self, lease: Lease) -> Result<Returned, Damaged> {
        let Some(cell) = self.leased_cell(lease)? else {
            return Ok(Returned::Stale);
        };
        // Relaxed: written under this lock, or both.
        if self.queue.control.state.load(Ordering::Relaxed) & Control::DISCARDED != 0 {
            self.finish(lease)?;
            return Ok(Returned::Dropped);
        }
        let most = self.queue.limits.max_deliveries;
        if most != 0 && lease.word.deliveries() >= most {
            self.bury(lease, 0)?;
            return Ok(Returned::Dead);
        }
        // First the caches: if they turn out to be damaged, nothing was decided.
        self.insert(lease)?;
        // Relaxed: read under a lock.
        cell.word
            .store(lease.word.returned().to_bits(), Ordering::Relaxed);
        self.count_leased(-1);
        let redelivered = &self.queue.control.get.redelivered;
        redelivered.store(
            redelivered.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        Ok(Returned::Ready)
    }

    /// Ends a lease: the message is put aside for `reason`. `false` if it was not the caller's any more.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn bury(&self, lease: Lease, reason: u32) -> Result<bool, Damaged> {
        let Some(cell) = self.leased_cell(lease)? else {
            return Ok(false);
        };
        let get = &self.queue.control.get;
        // Relaxed, all: read under a lock.
        let buried = get.buried.load(Ordering::Relaxed);
        get.buried.store(buried.wrapping_add(1), Ordering::Relaxed);
        if self.queue.limits.dead_letters == 0 {
            return self.finish(lease);
        }
        cell.reason.store(reason, Ordering::Relaxed);
        // PAIR queue-finished: Release.
        cell.word
            .store(lease.word.dead().to_bits(), Ordering::Release);
        self.count_leased(-1);
        let dead = get.dead.load(Ordering::Relaxed).saturating_add(1);
        get.dead.store(dead, Ordering::Relaxed);
        let most = self.queue.limits.dead_letters;
        if dead > most
            && let Some(oldest) = self.oldest_dead()?
            // Counted just now: a wrong count costs no letter.
            && get.dead.load(Ordering::Relaxed) > most
        {
            self.forget(oldest)?;
        }
        Ok(true)
    }

    /// The dead letter that was put first, with its reason; `None` if there is none. Counts them anew.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn oldest_dead(&self) -> Result<Option<(Lease, u32)>, Damaged> {
        // Relaxed, all: under the lock.
        let (mut oldest, mut count): (Option<(Lease, u32)>, u32) = (None, 0);
        for index in 0..self.queue.cells.len() as u32 {
            let cell = self.queue.cell(index)?;
            let word = Word::from_bits(cell.word.load(Ordering::Relaxed));
            let is_older = |(seen, _): (Lease, u32)| word.number().is_before(seen.word.number());
            if word.state() != Some(State::Dead) {
                continue;
            }
            count += 1;
            if oldest.is_none_or(is_older) {
                let (chunk, len) = (&cell.chunk, &cell.len);
                let letter = Lease {
                    index,
                    chunk: chunk.load(Ordering::Relaxed),
                    len: len.load(Ordering::Relaxed),
                    word,
                };
                oldest = Some((letter, cell.reason.load(Ordering::Relaxed)));
            }
        }
        self.queue.control.get.dead.store(count, Ordering::Relaxed);
        Ok(oldest)
    }

    /// Frees a dead letter.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn forget(&self, (letter, _): (Lease, u32)) -> Result<(), Damaged> {
        let cell = self.queue.cell(letter.index)?;
        // Relaxed, all: read under a lock.
        cell.word.store(Word::FREE.to_bits(), Ordering::Relaxed);
        let dead = &self.queue.control.get.dead;
        let less = dead.load(Ordering::Relaxed).saturating_sub(1);
        dead.store(less, Ordering::Relaxed);
        self.give(letter.index);
        Ok(())
    }

    /// Prolongs a lease. `false` if it was not the caller's any more.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn extend(&self, lease: Lease, expiry: u64) -> Result<bool, Damaged> {
        let Some(cell) = self.leased_cell(lease)? else {
            return Ok(false);
        };
        // Relaxed: read under a lock.
        cell.expiry.store(expiry, Ordering::Relaxed);
        self.expire_no_later_than(expiry);
        Ok(true)
    }

    /// Takes back all leases that have run out at `now`; says how many.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn take_back_expired(&self, now: u64) -> Result<u32, Damaged> {
        let get = &self.queue.control.get;
        // Relaxed, all: under the lock.
        let next = get.next_expiry.load(Ordering::Relaxed);
        if next == 0 || now < next {
            return Ok(0);
        }
        get.next_expiry.store(0, Ordering::Relaxed);
        let mut expired = Vec::new();
        for index in 0..self.queue.cells.len() as u32 {
            let cell = self.queue.cell(index)?;
            let word = Word::from_bits(cell.word.load(Ordering::Relaxed));
            let expiry = cell.expiry.load(Ordering::Relaxed);
            if word.state() != Some(State::Leased) || expiry == 0 {
                continue;
            }
            if now < expiry {
                self.expire_no_later_than(expiry);
                continue;
            }
            expired.push(Lease {
                index,
                chunk: cell.chunk.load(Ordering::Relaxed),
                len: cell.len.load(Ordering::Relaxed),
                word,
            });
        }
        // The last one first: then none has to make room for the next.
        let number = |lease: &Lease| lease.word.number();
        let base = expired.first().map_or(Number::new(0), number);
        expired.sort_by_key(|lease| Reverse(number(lease).since(base)));
        for lease in &expired {
            self.give_back(*lease)?;
        }
        Ok(expired.len() as u32)
    }

    /// When the first lease runs out; 0: none does.
    pub fn next_expiry(&self) -> u64 {
        // Relaxed: under the lock.
        self.queue.control.get.next_expiry.load(Ordering::Relaxed)
    }

    /// How many messages wait. Exact at the instant at which it looks at the tail.
    pub fn waiting(&self) -> u64 {
        // PAIR queue-tail: Acquire. Relaxed: written under this lock.
        let tail = self.queue.control.shown.tail.load(Ordering::Acquire);
        tail.wrapping_sub(self.queue.control.head.load(Ordering::Relaxed))
    }

    /// The cell of a lease that is still the caller's.
    #[inline]
    fn leased_cell(&self, lease: Lease) -> Result<Option<&'a Cell>, Damaged> {
        let cell = self.queue.cell(lease.index)?;
        // Relaxed: under the lock.
        let word = Word::from_bits(cell.word.load(Ordering::Relaxed));
        let same = word == lease.word || mutant("Queue::BelievesStaleLeases");
        let mine = same && word.state() == Some(State::Leased);
        Ok(mine.then_some(cell))
    }

    /// Gives a free cell to the producers.
    #[inline]
    fn give(&self, index: u32) {
        let mut head = self.head();
        self.add_freed(&mut head, index);
        self.publish_freed(&head);
    }

    /// Gives a free cell to the producers, but for [`publish_freed`](Self::publish_freed).
    #[inline]
    fn add_freed(&self, head: &mut Head, index: u32) {
        let queue = self.queue;
        // Relaxed: ordered by `freed`. The ring is as long as the other one.
        queue.freed[queue.at(head.freed)].store(index, Ordering::Relaxed);
        queue.prefetch_freed(head.freed);
        head.freed = head.freed.wrapping_add(1);
    }

    #[inline]
    fn publish_freed(&self, head: &Head) {
        let release = match self.queue.broken(Fault::FreesRelaxed) {
            true => Ordering::Relaxed,
            // PAIR queue-freed: Release.
            false => Ordering::Release,
        };
        self.queue.control.freed.store(head.freed, release);
    }

    #[inline]
    fn advance(&self) {
        // Relaxed: written under this lock.
        let head = self.queue.control.head.load(Ordering::Relaxed);
        // PAIR queue-head: Release.
        self.queue
            .control
            .head
            .store(head.wrapping_add(1), Ordering::Release);
    }

    /// Puts a message before all that have later numbers.
    fn insert(&self, lease: Lease) -> Result<(), Damaged> {
        let queue = self.queue;
        // Relaxed: written under this lock.
        let head = queue.control.head.load(Ordering::Relaxed);
        // PAIR queue-tail: Acquire.
        let tail = queue.control.shown.tail.load(Ordering::Acquire);
        if tail.wrapping_sub(head) >= queue.ring.len() as u64 {
            return Err(Damaged {
                field: "tail",
                value: tail,
            });
        }
        let mut place = head.wrapping_sub(1);
        while place.wrapping_add(1) != tail {
            // Relaxed, all: ordered by the tail.
            let index = queue.ring[queue.at(place.wrapping_add(1))].load(Ordering::Relaxed);
            let word = Word::from_bits(queue.cell(index)?.word.load(Ordering::Relaxed));
            let is_before = word.number().is_before(lease.word.number());
            if !is_before && !mutant("Queue::GivesBackLast") {
                break;
            }
            queue.ring[queue.at(place)].store(index, Ordering::Relaxed);
            place = place.wrapping_add(1);
        }
        queue.ring[queue.at(place)].store(lease.index, Ordering::Relaxed);
        // PAIR queue-head: Release.
        queue
            .control
            .head
            .store(head.wrapping_sub(1), Ordering::Release);
        Ok(())
    }

    fn count_leased(&self, change: i32) {
        let leased = &self.queue.control.get.leased;
        // Relaxed: written under this lock.
        let count = leased.load(Ordering::Relaxed);
        leased.store(count.saturating_add_signed(change), Ordering::Relaxed);
    }

    fn expire_no_later_than(&self, expiry: u64) {
        let next_expiry = &self.queue.control.get.next_expiry;
        // Relaxed: under the lock.
        let next = next_expiry.load(Ordering::Relaxed);
        if expiry != 0 && (next == 0 || expiry < next) {
            next_expiry.store(expiry, Ordering::Relaxed);
        }
    }
}

impl Drop for GetSide<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.panicking && std::thread::panicking() {
            if cfg!(loom) {
                // A model thread that was killed: its kernel releases the lock.
                return;
            }
            self.queue.control.get.lock.mark_poisoned();
        }
        // SAFETY: made when this thread had taken the lock, and not `Send`.
        unsafe { self.queue.control.get.lock.unlock() };
    }
}
