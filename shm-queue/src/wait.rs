//! How a handle waits: at once asleep, after a little spinning, or spinning for good.

use shm_core::Deadline;
use shm_core::futex;
use shm_core::sync::{Ordering, spin_loop, yield_now};
use shm_lock::Patience;

use crate::error::QueueError;
use crate::inner::{Inner, deadline_of};
use crate::raw::Signal;

/// Spin hints before the first look, some hundred nanoseconds. Who looked at once would find one message or
/// room for one, and then none again: in lockstep with the other side, whose line each look takes away.
const HINTS: u32 = 16;
/// Looks before a sleep, of the adaptive strategy.
const LOOKS: u32 = 50;
/// Of these, the last ones give the processor away.
const YIELDS: u32 = 6;
/// Looks after which one who spins for good looks after the others.
const ROUND: u32 = 1 << 16;

/// How a handle waits for a message or for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitStrategy {
    /// Sleeps at once: for those who wait long and rarely.
    Sleep,
    /// Spins for a moment, looks some fifty times (one or two microseconds in all), then sleeps. With one processor it sleeps at once.
    #[default]
    Adaptive,
    /// Looks without pause, for a core of one's own; gives it away only if there is no other.
    Spin,
}

impl WaitStrategy {
    pub(crate) fn to_bits(self) -> u32 {
        match self {
            Self::Sleep => 0,
            Self::Adaptive => 1,
            Self::Spin => 2,
        }
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Sleep,
            2 => Self::Spin,
            _ => Self::Adaptive,
        }
    }
}

/// One call's waiting, from look to look.
pub(crate) struct Waiting<'a> {
    inner: &'a Inner,
    signal: &'a Signal,
    patience: Patience,
    hints: u32,
    looks: u32,
    /// Spins for good.
    pub(crate) spins: bool,
    announced: Option<u32>,
    slept: bool,
    looked: bool,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(inner: &'a Inner, signal: &'a Signal, patience: Patience) -> Self {
        // Relaxed: a setting.
        let strategy = WaitStrategy::from_bits(inner.strategy.load(Ordering::Relaxed));
        let several = futex::processors() > 1;
        let (hints, looks) = match strategy {
            WaitStrategy::Adaptive if several => (HINTS, LOOKS),
            WaitStrategy::Spin if several => (0, ROUND),
            _ => (0, 0),
        };
        Self {
            inner,
            signal,
            patience,
            hints,
            looks,
            spins: several && strategy == WaitStrategy::Spin,
            announced: None,
            slept: false,
            looked: false,
        }
    }

    /// Passes some time after an attempt that failed; `true`: try again. `news` says whether that
    /// promises anything.
    ///
    /// The last attempt before a sleep is made after it was announced: see PAIR queue-signal.
    pub(crate) fn again(&mut self, news: impl Fn() -> bool) -> Result<bool, QueueError> {
        let deadline = match self.patience {
            // It does not wait, but what the dead have is nobody's.
            Patience::None if self.looked => return Ok(false),
            Patience::None => {
                self.looked = true;
                return Ok(self.inner.look_now_and_then(self.patience));
            }
            patience => deadline_of(patience),
        };
        (0..std::mem::take(&mut self.hints)).for_each(|_| spin_loop());
        while self.looks > 0 {
            let is_round_over = self.look(deadline)?;
            if news() || is_round_over {
                return Ok(true);
            }
        }
        let Some(word) = self.announced.take() else {
            self.announced = Some(self.signal.announce(None));
            return Ok(true);
        };
        if deadline.is_some_and(Deadline::is_past) {
            return Err(QueueError::Timeout);
        }
        self.slept = true;
        let until = self.inner.until(deadline);
        let was_woken = self.signal.sleep(word, until);
        self.inner.look_after_sleep(was_woken, deadline)?;
        Ok(true)
    }

    /// Says whether a round of one who spins for good is over: then it tries again without news, since of the closing
    /// there are none.
    fn look(&mut self, deadline: Option<Deadline>) -> Result<bool, QueueError> {
        self.looks -= 1;
        let is_round_over = self.spins && self.looks == 0;
        if is_round_over {
            self.looks = ROUND;
            self.inner.look_after_others(deadline)?;
        }
        if self.spins && deadline.is_some_and(Deadline::is_past) {
            return Err(QueueError::Timeout);
        }
        if !self.spins && self.looks < YIELDS {
            yield_now();
        } else {
            spin_loop();
        }
        Ok(is_round_over)
    }

    /// At the end, whatever it is: others may sleep for what is left.
    pub(crate) fn done(&self, more: impl Fn() -> bool) {
        if self.slept {
            self.signal.pass_on(more, None);
        }
    }
}
