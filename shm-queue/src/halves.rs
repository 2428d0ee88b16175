//! Senders and receivers, counted, so that the last sender's end closes the queue.
//!
//! One word for each participant slot, written by that participant alone:
//!
//! | bits | field |
//! |---:|---|
//! | 0..24 | senders |
//! | 24..48 | receivers |
//! | 48..64 | use of the slot, lowest bits; the counts of another use are nobody's |
//!
//! Peer death: the word stays and is nobody's, since its participant is not alive. Whoever sleeps looks for
//! that in each slice and closes the queue, if it had senders and has none.

use std::sync::Arc;

use shm_core::fork;
use shm_core::mutants::mutant;
use shm_core::sync::{AtomicU64, Ordering};
use shm_lock::Patience;

use crate::error::QueueError;
use crate::inner::{Inner, MOMENT};
use crate::raw::{Control, PutSide};

const COUNT: u64 = (1 << 24) - 1;
const USE_SHIFT: u32 = 48;

/// Which half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Sender,
    Receiver,
}

impl Half {
    /// Where its count begins.
    fn shift(self) -> u32 {
        match self {
            Self::Sender => 0,
            Self::Receiver => 24,
        }
    }
}

/// A half that is counted as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted {
    inner: Arc<Inner>,
    half: Half,
    /// The process that is counted: a forked child's copy is not.
    stamp: u64,
}

impl Counted {
    /// Counts one half more.
    pub(crate) fn new(inner: &Arc<Inner>, half: Half) -> Result<Self, QueueError> {
        let (slot, uses) = inner.segment.participant()?;
        let word = inner
            .halves
            .get(slot)
            .ok_or(QueueError::TooManyParticipants)?;
        let side = inner.put_side(Patience::Endless)?;
        if half == Half::Sender {
            if inner.raw.is_closed() {
                return Err(QueueError::Closed);
            }
            // Relaxed: under the put lock.
            let state = &inner.raw.control.state;
            state.fetch_or(Control::HAD_SENDERS, Ordering::Relaxed);
        }
        let one_more = |counts: u64| match counts >> USE_SHIFT == uses & 0xffff {
            true => counts.wrapping_add(1 << half.shift()),
            false => ((uses & 0xffff) << USE_SHIFT) + (1 << half.shift()),
        };
        // Relaxed: whoever closes counts under the put lock, as this is. Another thread's half may end meanwhile.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |counts| {
            Some(one_more(counts))
        });
        drop(side);
        Ok(Self {
            inner: Arc::clone(inner),
            half,
            stamp: fork::stamp(),
        })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    fn end(&self) -> Result<(), QueueError> {
        let (slot, _) = self.inner.segment.participant()?;
        if let Some(word) = self.inner.halves.get(slot) {
            // Relaxed: whoever closes takes the put lock before, under which the last of our puts was.
            word.fetch_sub(1 << self.half.shift(), Ordering::Relaxed);
        }
        match self.half {
            // If somebody is stopped under the lock, the next who looks after others closes.
            Half::Sender => self.inner.close_without_senders(MOMENT.into()),
            Half::Receiver => Ok(()),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.stamp == fork::stamp() {
            // Errors have nobody to go to.
            let _ = self.end();
        }
    }
}

impl Inner {
    /// Halves of living participants.
    pub(crate) fn count(&self, half: Half) -> u64 {
        let counted = |(slot, word): (usize, &AtomicU64)| {
            // Relaxed: exact under the put lock, else a hint.
            let counts = word.load(Ordering::Relaxed);
            let count = (counts >> half.shift()) & COUNT;
            let is_use = |uses: u64| uses & 0xffff == counts >> USE_SHIFT;
            match count != 0 && self.segment.is_attached(slot, is_use) {
                true => count,
                false => 0,
            }
        };
        self.halves.iter().enumerate().map(counted).sum()
    }

    /// Closes a queue that had senders and has none.
    pub(crate) fn close_without_senders(&self, patience: Patience) -> Result<(), QueueError> {
        let is_due = || {
            // Relaxed: a hint, or under the put lock.
            let state = self.raw.control.state.load(Ordering::Relaxed);
            let open_with_senders = state & (Control::HAD_SENDERS | Control::CLOSED);
            open_with_senders == Control::HAD_SENDERS && self.count(Half::Sender) == 0
        };
        if is_due() {
            let side = self.put_side(patience)?;
            if is_due() {
                self.close_under(side, false);
            }
        }
        Ok(())
    }

    /// Refuses further puts, and tells everybody.
    pub(crate) fn close(&self) -> Result<(), QueueError> {
        self.close_under(self.put_side(Patience::Endless)?, false);
        Ok(())
    }

    /// Refuses further puts and drops what is in the queue, and tells everybody.
    pub(crate) fn close_and_discard(&self) -> Result<(), QueueError> {
        let (put, get) = self.both_sides(Patience::Endless)?;
        put.close(true);
        put.rebuild(&get, |owner| {
            let is_use = |uses| owner.is_use(uses);
            self.segment.is_attached(owner.slot(), is_use)
        })?;
        Ok(())
    }

    fn close_under(&self, side: PutSide<'_>, discard: bool) {
        side.close(discard);
        drop(side);
        let control = &self.raw.control;
        for signal in [&control.not_empty, &control.not_full, &control.idle] {
            if mutant("Queue::CloseWakesNobody") {
                break;
            }
            signal.notify(u32::MAX, None);
        }
    }
}
