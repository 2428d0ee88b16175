//! How a waiter passes its time, and what it remembers meanwhile.

use shm_core::futex;
use shm_core::sync::{spin_loop, yield_now};

/// Rounds of pauses before yielding: 2, 4, ... Each look at the word takes its cache line from the owner, who
/// writes to it several times: four rounds made short contended sections twice as slow as one.
const PAUSES: u32 = 1;
/// Yields before sleeping.
const YIELDS: u32 = 10;

/// How far a waiter is with spinning.
pub(super) struct Spin {
    round: u32,
    rounds: u32,
}

impl Spin {
    pub(super) fn new() -> Self {
        // On one processor the owner runs only if we do not.
        let rounds = if futex::processors() > 1 {
            PAUSES + YIELDS
        } else {
            0
        };
        Self { round: 0, rounds }
    }

    /// Waits a little; `false` when it is time to sleep.
    pub(super) fn again(&mut self) -> bool {
        if self.round == self.rounds {
            return false;
        }
        self.round += 1;
        if self.round <= PAUSES {
            for _ in 0..1 << self.round {
                spin_loop();
            }
        } else {
            yield_now();
        }
        true
    }
}

/// What a waiter remembers from sleep to sleep.
pub(super) struct Sleep {
    /// `WAITERS` once the thread has slept: what it leaves in the word when it takes the lock.
    pub(super) queued: u32,
    /// When it first slept.
    pub(super) begin: u64,
    /// The owner whom it last slept for.
    pub(super) owner: u32,
}

impl Sleep {
    pub(super) fn new() -> Self {
        Self {
            queued: 0,
            begin: 0,
            owner: 0,
        }
    }
}
