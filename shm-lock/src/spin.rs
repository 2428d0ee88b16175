//! How a waiter passes the time before it sleeps, where the word it looks at is not written by its
//! owner meanwhile: pauses, doubling, then yields. (The raw mutex only yields; see its `wait.rs`.)

use shm_core::futex;
use shm_core::sync::{spin_loop, yield_now};

/// Pauses before yielding: 2, 4, 8, 16.
const PAUSES: u32 = 4;
/// Yields before sleeping.
const YIELDS: u32 = 6;

/// How far a waiter is with spinning.
pub(crate) struct Spin {
    round: u32,
    rounds: u32,
}

impl Spin {
    pub(crate) fn new() -> Self {
        // On one processor the other side runs only if we do not.
        let several = futex::processors() > 1;
        let rounds = if several { PAUSES + YIELDS } else { 0 };
        Self { round: 0, rounds }
    }

    /// Waits a little; `false` when it is time to sleep.
    pub(crate) fn again(&mut self) -> bool {
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
