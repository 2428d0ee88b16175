//! Rebuilding: everything but the words is a cache, and is made anew from them after a death.
//!
//! | word of a dead owner | becomes |
//! |---|---|
//! | being written | free: the put never happened |
//! | leased, deliveries left | ready: it is delivered again, before all with later numbers |
//! | leased, no deliveries left | dead letter; the oldest go if there are more than are kept |
//!
//! Words of living owners stay as they are. Each change is one store, and a rebuilder that is killed leaves both
//! locks inconsistent, so the next one begins anew: idempotent.
//!
//! Whether an owner is alive must not be asked of a clock: it is asked of the kernel (`Segment::is_attached`).

use shm_core::mutants::mutant;
use shm_core::sync::Ordering;

use super::arena::chunks_for;
use super::word::{Number, Owner, State, Word};
use super::{Cell, Control, Damaged, Fault, GetSide, PutSide, RawQueue};

/// What a rebuild found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Messages in the queue.
    pub ready: u32,
    /// Messages handed out to the living.
    pub leased: u32,
    /// Messages that the living are writing.
    pub writing: u32,
    /// Dead letters.
    pub dead: u32,
    /// Puts of the dead that were undone.
    pub undone: u32,
    /// Leases of the dead that were taken back.
    pub returned: u32,
    /// Messages dropped since the queue was shut down at once.
    pub dropped: u32,
}

/// The caches, as they grow from the words.
#[derive(Default)]
struct Caches {
    ready: Vec<(Number, u32)>,
    free: Vec<u32>,
    census: Census,
    next_expiry: u64,
    last: Option<Number>,
    chunks: u32,
    end_of_chunks: u32,
}

impl PutSide<'_> {
    /// Makes all caches anew, and declares both locks' data good.
    ///
    /// # Errors
    /// [`Damaged`] if the words themselves cannot be; then both locks' data is declared bad.
    pub fn rebuild(
        &self,
        get: &GetSide<'_>,
        alive: impl Fn(Owner) -> bool,
    ) -> Result<Census, Damaged> {
        let queue = self.queue;
        let census = self.rebuild_caches(alive).inspect_err(|_| {
            queue.control.put.lock.mark_poisoned();
            get.queue.control.get.lock.mark_poisoned();
        })?;
        let recoveries = &queue.control.recoveries;
        recoveries.store(
            recoveries.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        get.queue.control.get.lock.mark_consistent();
        queue.control.put.lock.mark_consistent();
        for signal in [
            &queue.control.not_empty,
            &queue.control.not_full,
            &queue.control.idle,
        ] {
            signal.notify(u32::MAX, queue.fault());
        }
        Ok(census)
    }

    fn rebuild_caches(&self, alive: impl Fn(Owner) -> bool) -> Result<Census, Damaged> {
        let queue = self.queue;
        queue
            .bitmap
            .iter()
            // Relaxed, all in this file: under both locks.
            .for_each(|word| word.store(0, Ordering::Relaxed));
        let mut caches = Caches::default();
        let mut known: Vec<(Owner, bool)> = Vec::new();
        let mut is_alive = |owner: Owner| match known.iter().find(|(seen, _)| *seen == owner) {
            Some(&(_, alive)) => alive,
            None => {
                let alive = alive(owner);
                known.push((owner, alive));
                alive
            }
        };
        let mut letters = Vec::new();
        for index in 0..queue.cells.len() as u32 {
            let word = self.settle(index, &mut caches.census, &mut is_alive)?;
            if word.state() == Some(State::Dead) {
                letters.push((word.number(), index));
            }
        }
        self.forget_oldest(letters)?;
        for index in 0..queue.cells.len() as u32 {
            self.note(index, &mut caches)?;
        }
        self.write_caches(&mut caches);
        Ok(caches.census)
    }

    /// Decides one word.
    fn settle(
        &self,
        index: u32,
        census: &mut Census,
        is_alive: &mut impl FnMut(Owner) -> bool,
    ) -> Result<Word, Damaged> {
        let cell = self.queue.cell(index)?;
        let seen = Word::from_bits(cell.word.load(Ordering::Relaxed));
        let state = seen.state().ok_or(Damaged {
            field: "state of a message",
            value: seen.to_bits(),
        })?;
        let word = self.decide(seen, state, census, is_alive);
        if word != seen {
            if word.state() == Some(State::Dead) {
                let buried = &self.queue.control.get.buried;
                let count = buried.load(Ordering::Relaxed).wrapping_add(1);
                buried.store(count, Ordering::Relaxed);
                cell.reason.store(0, Ordering::Relaxed);
            }
            cell.word.store(word.to_bits(), Ordering::Relaxed);
        }
        Ok(word)
    }

    /// Frees the dead letters beyond those that are kept, so that their cells do not lack.
    fn forget_oldest(&self, mut letters: Vec<(Number, u32)>) -> Result<(), Damaged> {
        let kept = self.queue.limits.dead_letters as usize;
        let Some(&(base, _)) = letters.first().filter(|_| letters.len() > kept) else {
            return Ok(());
        };
        letters.sort_by_key(|(number, _)| number.since(base));
        for &(_, index) in &letters[..letters.len() - kept] {
            let word = &self.queue.cell(index)?.word;
            word.store(Word::FREE.to_bits(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Notes what follows from a word that is decided.
    fn note(&self, index: u32, caches: &mut Caches) -> Result<(), Damaged> {
        let cell = self.queue.cell(index)?;
        let word = Word::from_bits(cell.word.load(Ordering::Relaxed));
        let census = &mut caches.census;
        match word.state() {
            None | Some(State::Free) => {
                caches.free.push(index);
                return Ok(());
            }
            Some(State::Writing) => census.writing += 1,
            Some(State::Ready) => {
                census.ready += 1;
                caches.ready.push((word.number(), index));
            }
            Some(State::Leased) => {
                census.leased += 1;
                let expiry = cell.expiry.load(Ordering::Relaxed);
                if expiry != 0 && (caches.next_expiry == 0 || expiry < caches.next_expiry) {
                    caches.next_expiry = expiry;
                }
            }
            Some(State::Dead) => census.dead += 1,
        }
        if word.state() != Some(State::Writing)
            && caches.last.is_none_or(|last| last.is_before(word.number()))
        {
            caches.last = Some(word.number());
        }
        self.settle_chunks(cell, caches)
    }

    fn decide(
        &self,
        seen: Word,
        state: State,
        census: &mut Census,
        is_alive: &mut impl FnMut(Owner) -> bool,
    ) -> Word {
        let queue = self.queue;
        let discarded = queue.control.state.load(Ordering::Relaxed) & Control::DISCARDED != 0;
        match state {
            State::Writing
                if !is_alive(seen.owner()) && !mutant("Queue::KeepsTheRoomOfTheDead") =>
            {
                census.undone += 1;
                Word::FREE
            }
            State::Ready if discarded => {
                census.dropped += 1;
                Word::FREE
            }
            State::Leased if !is_alive(seen.owner()) => {
                census.returned += 1;
                let most = queue.limits.max_deliveries;
                if discarded {
                    Word::FREE
                } else if queue.broken(Fault::RecoversWithoutReturning) {
                    seen
                } else if most != 0
                    && seen.deliveries() >= most
                    && !mutant("Queue::DeliversWhatKills")
                {
                    seen.dead()
                } else {
                    seen.returned()
                }
            }
            _ => seen,
        }
    }

    fn settle_chunks(&self, cell: &Cell, caches: &mut Caches) -> Result<(), Damaged> {
        let queue = self.queue;
        let len = cell.len.load(Ordering::Relaxed);
        if !queue.is_large(len) {
            return Ok(());
        }
        let (first, count) = (cell.chunk.load(Ordering::Relaxed), chunks_for(len));
        let end = first
            .checked_add(count)
            .filter(|&end| end <= queue.limits.chunks);
        let Some(end) = end else {
            return Err(Damaged {
                field: "length of a message",
                value: u64::from(len),
            });
        };
        if queue.any_used(first, count) {
            return Err(Damaged {
                field: "chunk of a message",
                value: u64::from(first),
            });
        }
        queue.set_run(first, count, true);
        caches.chunks += count;
        caches.end_of_chunks = caches.end_of_chunks.max(end);
        Ok(())
    }

    fn write_caches(&self, caches: &mut Caches) {
        let queue = self.queue;
        let (put, get) = (&queue.control.put, &queue.control.get);
        let base = caches.last.unwrap_or(Number::new(0));
        caches.ready.sort_by_key(|(number, _)| number.since(base));
        let head = queue.control.head.load(Ordering::Relaxed);
        for (place, (_, index)) in (0..).zip(&caches.ready) {
            queue.ring[queue.at(head.wrapping_add(place))].store(*index, Ordering::Relaxed);
        }
        for (place, index) in queue.stack.iter().zip(caches.free.iter().rev()) {
            place.store(*index, Ordering::Relaxed);
        }
        let tail = head.wrapping_add(caches.ready.len() as u64);
        let freed = queue.control.freed.load(Ordering::Relaxed);
        let number = Number::new(put.number.load(Ordering::Relaxed));
        let number = match caches.last {
            Some(last) if !last.is_before(number) => last.next(),
            _ => number,
        };
        put.number.store(number.get(), Ordering::Relaxed);
        put.head_seen.store(head, Ordering::Relaxed);
        put.taken.store(freed, Ordering::Relaxed);
        put.stack.store(caches.free.len() as u32, Ordering::Relaxed);
        put.writing.store(caches.census.writing, Ordering::Relaxed);
        put.lowest.store(0, Ordering::Relaxed);
        put.starved.store(0, Ordering::Relaxed);
        put.chunks.store(caches.chunks, Ordering::Relaxed);
        put.allocated.store(caches.end_of_chunks, Ordering::Relaxed);
        get.tail_seen.store(tail, Ordering::Relaxed);
        get.next_expiry.store(caches.next_expiry, Ordering::Relaxed);
        get.leased.store(caches.census.leased, Ordering::Relaxed);
        get.dead.store(caches.census.dead, Ordering::Relaxed);
        // PAIR queue-tail: Release, for those who look without a lock.
        queue.control.shown.tail.store(tail, Ordering::Release);
    }
}

impl RawQueue {
    /// When a cell's lease runs out, in nanoseconds of CLOCK_MONOTONIC; `None`: never.
    pub fn expiry(&self, index: u32) -> Option<u64> {
        let cell = self.cell(index).ok()?;
        Some(cell.expiry.load(Ordering::Relaxed)).filter(|&expiry| expiry != 0)
    }

    /// When a cell was handed out last: see [`Cell::since`](super::Cell::since).
    pub fn since(&self, index: u32) -> Option<u32> {
        // Relaxed: for people.
        Some(self.cell(index).ok()?.since.load(Ordering::Relaxed))
    }

    /// Bytes of the message in a cell. Call it under both locks, for one that waits.
    pub fn message_len(&self, index: u32) -> u32 {
        // Relaxed: ordered by the tail.
        self.cell(index)
            .map_or(0, |cell| cell.len.load(Ordering::Relaxed))
    }

    /// The states of all cells. Call it under both locks for numbers that fit together.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn words(&self) -> impl Iterator<Item = Result<(u32, Word), Damaged>> + '_ {
        (0..self.cells.len() as u32).map(|index| {
            let cell = self.cell(index)?;
            Ok((index, Word::from_bits(cell.word.load(Ordering::Relaxed))))
        })
    }
}
