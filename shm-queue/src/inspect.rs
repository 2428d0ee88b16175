//! What is in a queue, for people and for tests.

use std::time::Duration;

use shm_core::sync::Ordering;
use shm_core::{Deadline, ProcessId, deadline};
use shm_lock::Patience;

use crate::error::QueueError;
use crate::halves::Half;
use crate::inner::{Inner, MOMENT, SINCE_SHIFT};
use crate::raw::{CHUNK, Census, Owner, State};
use crate::wait::WaitStrategy;

/// A message that is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInspection {
    /// Whose it is; `None` if that one is gone, and the lease is about to be taken back.
    pub owner: Option<ProcessId>,
    /// How often the message was handed out, this time included.
    pub deliveries: u8,
    /// How long it has been handed out, to some 30 ms.
    pub age: Duration,
    /// How long until it is taken back, where leases have a time.
    pub left: Option<Duration>,
}

/// What [`inspect`](crate::Queue::inspect) saw under the queue's locks: it fits together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Messages that wait.
    pub len: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Messages that are being written.
    pub writing: usize,
    /// Messages that are handed out.
    pub leases: Vec<LeaseInspection>,
    /// Messages that were put aside and are kept.
    pub dead_letters: usize,
    /// Bytes of the arena that are in use, what consumers gave back and nobody used again included.
    pub arena_used: u64,
    /// Bytes of the arena that have memory.
    pub arena_allocated: u64,
    /// Living senders and receivers, where there are halves.
    pub halves: (u64, u64),
    /// Threads that sleep for a message, for room, for the end of all tasks.
    pub waiters: (usize, usize, usize),
    /// Messages that ever went back into the queue by a give-back or the end of their time (not by a death).
    pub redelivered: u64,
    /// Messages that were ever put aside.
    pub buried: u64,
    /// How often the queue was made good after a death.
    pub recoveries: u32,
    /// Whether puts are refused.
    pub closed: bool,
}

/// What [`recover`](crate::Queue::recover) settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Puts of the dead that were undone: they had not happened.
    pub undone: u32,
    /// Messages of the dead that are delivered again, or are dead letters now.
    pub returned: u32,
}

/// Why a message is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// It was delivered as often as allowed, and never done.
    Deliveries,
    /// Its bytes are no value of the queue's type.
    Decode,
}

impl DeadReason {
    pub(crate) fn to_bits(self) -> u32 {
        match self {
            Self::Deliveries => 0,
            Self::Decode => 1,
        }
    }
}

/// A message that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its bytes, as they were encoded.
    pub bytes: Vec<u8>,
    /// How often it was handed out.
    pub deliveries: u8,
    /// Why it was put aside.
    pub reason: DeadReason,
}

impl Inner {
    pub(crate) fn len(&self) -> Result<usize, QueueError> {
        // One who died in a put may have left messages that are not counted yet. Whoever has the lock by now counts them.
        if self.raw.control.put.lock.is_orphaned() {
            drop(self.put_side(MOMENT.into()));
        }
        Ok(self.get_side(Patience::Endless)?.waiting() as usize)
    }

    pub(crate) fn set_strategy(&self, strategy: WaitStrategy) {
        // Relaxed: a setting.
        self.strategy.store(strategy.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn recovered(&self) -> Result<Recovered, QueueError> {
        let Census {
            undone, returned, ..
        } = self.recover(Patience::Endless)?;
        self.take_back_expired(Patience::Endless)?;
        self.close_without_senders(Patience::Endless)?;
        Ok(Recovered { undone, returned })
    }

    pub(crate) fn dead_letters(&self) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = Vec::new();
        let side = self.get_side(Patience::Endless)?;
        while let Some((letter, reason)) = side.oldest_dead()? {
            let mut bytes = Vec::new();
            match self.copy_out(letter.index, letter.chunk, letter.len, &mut bytes) {
                // What stands in the way of the next one is told to whoever comes for it.
                Err(_) if !letters.is_empty() => break,
                copied => copied?,
            }
            side.forget((letter, reason))?;
            letters.push(DeadLetter {
                bytes,
                deliveries: letter.word.deliveries(),
                reason: match reason {
                    0 => DeadReason::Deliveries,
                    _ => DeadReason::Decode,
                },
            });
        }
        drop(side);
        self.tell_producers(letters.len() as u32);
        Ok(letters)
    }

    pub(crate) fn inspect(&self) -> Result<Inspection, QueueError> {
        let (put, get) = self.both_sides(Patience::Endless)?;
        let control = &self.raw.control;
        let (mut leases, mut bytes, mut writing, mut dead_letters) = (Vec::new(), 0, 0, 0);
        let participants = self.segment.attached();
        for word in self.raw.words() {
            let (index, word) = word?;
            match word.state() {
                Some(State::Ready) => bytes += u64::from(self.raw.message_len(index)),
                Some(State::Writing) => writing += 1,
                Some(State::Dead) => dead_letters += 1,
                Some(State::Leased) => leases.push(LeaseInspection {
                    owner: holder(&participants, word.owner()),
                    deliveries: word.deliveries(),
                    age: self.age(index),
                    left: self.time_left(index),
                }),
                _ => {}
            }
        }
        // Relaxed, all: under the locks.
        let chunks = |count: u32| u64::from(count) * CHUNK as u64;
        let inspection = Inspection {
            len: get.waiting() as usize,
            bytes,
            writing,
            leases,
            dead_letters,
            arena_used: chunks(control.put.chunks.load(Ordering::Relaxed)),
            arena_allocated: chunks(control.put.allocated.load(Ordering::Relaxed)),
            halves: (self.count(Half::Sender), self.count(Half::Receiver)),
            waiters: (
                control.not_empty.waiters(),
                control.not_full.waiters(),
                control.idle.waiters(),
            ),
            redelivered: control.get.redelivered.load(Ordering::Relaxed),
            buried: control.get.buried.load(Ordering::Relaxed),
            recoveries: control.recoveries.load(Ordering::Relaxed),
            closed: self.raw.is_closed(),
        };
        drop((get, put));
        Ok(inspection)
    }

    fn age(&self, index: u32) -> Duration {
        let now = (deadline::now_roughly() >> SINCE_SHIFT) as u32;
        let since = self.raw.since(index).unwrap_or(now);
        let units = match now.wrapping_sub(since) {
            // The clock of another processor was a tick ahead.
            u32::MAX => 0,
            units => units,
        };
        Duration::from_nanos(u64::from(units) << SINCE_SHIFT)
    }

    fn time_left(&self, index: u32) -> Option<Duration> {
        let expiry = self.raw.expiry(index)?;
        Some(Deadline::from_nanoseconds(expiry).remaining())
    }
}

/// Who of the living participants it is that a word names.
pub(crate) fn holder(participants: &[(usize, u64, ProcessId)], owner: Owner) -> Option<ProcessId> {
    let mut participants = participants.iter();
    let is_it = |(slot, uses, _): &&_| *slot == owner.slot() && owner.is_use(*uses);
    participants.find(is_it).map(|(_, _, id)| *id)
}
