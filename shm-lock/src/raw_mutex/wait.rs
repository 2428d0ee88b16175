//! How a waiter passes its time, and what it remembers meanwhile.

use shm_core::futex;
use shm_core::sync::yield_now;

/// Yields before sleeping.
const YIELDS: u32 = 10;

/// How often a waiter still yields the processor before it sleeps.
///
/// No pauses before: each look at the word takes its cache line from the owner, who writes to that line
/// several times, and a yield is the pause that looks least often. Against four rounds of pauses
/// (2, 4, 8, 16) and then yields, it halved the time of short contended sections; against one round
/// it was never slower, with gaps between the sections and on busy processors too.
pub(super) struct Patience {
    yields: u32,
}

impl Patience {
    pub(super) fn new() -> Self {
        // On one processor the owner runs only if we do not: sleep, and be woken when it is done.
        let yields = if futex::processors() > 1 { YIELDS } else { 0 };
        Self { yields }
    }

    /// Waits a little; `false` when it is time to sleep.
    pub(super) fn wait(&mut self) -> bool {
        if self.yields == 0 {
            return false;
        }
        self.yields -= 1;
        yield_now();
        true
    }
}

/// What a waiter remembers from sleep to sleep.
pub(super) struct Sleep {
    /// `WAITERS` once the thread has slept: what it leaves in the word when it takes the lock.
    pub(super) queued: u32,
    /// When it first slept.
    pub(super) begin: u64,
    /// When it last looked whether the owner exists, or began.
    pub(super) looked: u64,
    /// The owner whom it last slept for.
    pub(super) owner: u32,
}

impl Sleep {
    pub(super) fn new() -> Self {
        Self {
            queued: 0,
            begin: 0,
            looked: 0,
            owner: 0,
        }
    }
}
