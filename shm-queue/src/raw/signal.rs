//! Sleep and wake: a futex word whose lowest bit says that somebody may sleep.
//!
//! | bits | meaning |
//! |---:|---|
//! | 0 | somebody may sleep; taken away by whoever wakes |
//! | 1..32 | number of wakes, wrapping |
//!
//! The bit, and not a count of sleepers: between a wake and the moment when the woken one runs, a count would send
//! every further notification into the kernel. Who was woken puts the bit back, since others may sleep, and
//! passes the wake on if there is more to do.
//!
//! PAIR queue-signal: a notifier stores its news, fences (SeqCst), looks at the bit; a sleeper sets the bit,
//! fences (SeqCst), looks for news. One of the two sees the other.
//! PAIR futex-queue (`shm_core::futex`): the word changes before the wake, and is compared when falling asleep.
//! Peer death: a notifier killed between its news and the wake, or a sleeper killed after it was woken,
//! costs the others one slice (100 ms): every sleep ends with a look.

use shm_core::Deadline;
use shm_core::futex::{self, Wait};
use shm_core::sync::{AtomicU32, Ordering, fence};

use super::{Fault, is_broken};

const MAY_SLEEP: u32 = 1;
const ONE_WAKE: u32 = 2;

/// One reason to wait.
#[derive(Debug)]
pub struct Signal {
    word: AtomicU32,
}

impl Default for Signal {
    fn default() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }
}

impl Signal {
    /// Wakes up to `count` sleepers, after something was stored that they wait for. No system call if
    /// nobody sleeps.
    #[inline]
    pub fn notify(&self, count: u32, fault: Option<Fault>) {
        self.notify_so_many(|| count, fault);
    }

    /// As [`notify`](Self::notify); how many is asked when somebody may sleep, behind the fence.
    #[inline]
    pub fn notify_so_many(&self, count: impl FnOnce() -> u32, fault: Option<Fault>) {
        if !is_broken(fault, Fault::NotifiesWithoutFence) {
            // PAIR queue-signal.
            fence(Ordering::SeqCst);
        }
        // Relaxed: ordered by the fence.
        let word = self.word.load(Ordering::Relaxed);
        if word & MAY_SLEEP != 0 && !is_broken(fault, Fault::ForgetsToWake) {
            self.wake(word, count());
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self, mut word: u32, count: u32) {
        while word & MAY_SLEEP != 0 && count > 0 {
            let woken = (word & !MAY_SLEEP).wrapping_add(ONE_WAKE);
            // Relaxed: publishes nothing of its own.
            match self
                .word
                .compare_exchange(word, woken, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    futex::wake(&self.word, count);
                    return;
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Announces a sleeper; then look once more, then [`sleep`](Self::sleep) on what this gave.
    pub fn announce(&self, fault: Option<Fault>) -> u32 {
        if is_broken(fault, Fault::SleepsUnannounced) {
            // Relaxed: wrong on purpose.
            return self.word.load(Ordering::Relaxed);
        }
        // Relaxed: ordered by the fence.
        let word = self.word.fetch_or(MAY_SLEEP, Ordering::Relaxed) | MAY_SLEEP;
        // PAIR queue-signal.
        fence(Ordering::SeqCst);
        word
    }

    /// Sleeps until a wake, the deadline or the end of a slice; says whether it was woken.
    pub fn sleep(&self, announced: u32, deadline: Option<Deadline>) -> bool {
        futex::wait_slice(&self.word, announced, deadline) != Wait::TimedOut
    }

    /// For one who has slept and goes on: others may sleep still, and there may be `more` for them.
    pub fn pass_on(&self, more: impl FnOnce() -> bool, fault: Option<Fault>) {
        if is_broken(fault, Fault::KeepsTheWake) {
            return;
        }
        // What woke this one took the bit away.
        self.announce(fault);
        if more() {
            self.notify(1, fault);
        }
    }

    /// Whether somebody may sleep.
    #[inline]
    pub fn may_sleep(&self) -> bool {
        // Relaxed: the caller has fenced.
        self.word.load(Ordering::Relaxed) & MAY_SLEEP != 0
    }

    /// How many sleep. Makes one system call.
    #[must_use]
    pub fn waiters(&self) -> usize {
        futex::waiters(&self.word)
    }

    /// Ends the slice of every sleeper, which the model's kernel does not do by itself.
    #[cfg(loom)]
    pub fn end_slices(&self) {
        futex::wake(&self.word, u32::MAX);
    }
}
