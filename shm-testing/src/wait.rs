//! Waiting for a fact, never for a time.

use std::thread;
use std::time::{Duration, Instant};

use crate::procfs::{self, ThreadState};

/// How long the waits without a stated limit look on before they give up.
const LIMIT: Duration = Duration::from_secs(20);

/// Polls `fact` until it holds; `false` when it does not within `limit`.
///
/// The last look is taken after the limit, so that a stall of the machine is not a failure of the
/// fact.
#[must_use = "a fact that did not come about is a failure"]
pub fn wait_until(mut fact: impl FnMut() -> bool, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(50);
    loop {
        let last = Instant::now() >= end;
        if fact() {
            return true;
        }
        if last {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(2));
    }
}

/// Returns when `fact` holds: for what is so but for moments, such as that somebody sleeps, between two slices of a sleep.
///
/// # Panics
/// When it does not within 20 s.
#[track_caller]
pub fn eventually(fact: impl FnMut() -> bool) {
    assert!(wait_until(fact, LIMIT), "not within {LIMIT:?}");
}

/// Returns when some thread of process `pid` sleeps on a shared futex.
///
/// Private futexes do not count (see [`ThreadState::asleep_in_shared_futex`]), so the threads of
/// libtest and of std do not deceive it.
///
/// # Panics
/// When none does within 20 s; the message lists what the threads do instead.
#[track_caller]
pub fn until_asleep_in_futex(pid: u32) {
    let asleep = || {
        procfs::threads(pid)
            .iter()
            .any(ThreadState::asleep_in_shared_futex)
    };
    if !wait_until(asleep, LIMIT) {
        panic!(
            "no thread of process {pid} sleeps on a shared futex:\n{}",
            list(pid)
        );
    }
}

/// Returns when thread `tid` of process `pid` sleeps on a shared futex.
///
/// # Panics
/// When it does not within 20 s; the message lists what the threads do instead.
#[track_caller]
pub fn until_thread_asleep_in_futex(pid: u32, tid: u32) {
    let asleep = || ThreadState::read(pid, tid).is_some_and(|t| t.asleep_in_shared_futex());
    if !wait_until(asleep, LIMIT) {
        panic!(
            "thread {tid} does not sleep on a shared futex:\n{}",
            list(pid)
        );
    }
}

/// The threads of `pid`, one a line.
fn list(pid: u32) -> String {
    let threads = procfs::threads(pid);
    if threads.is_empty() {
        return format!("  process {pid} is gone");
    }
    threads.iter().map(|t| format!("  {t}\n")).collect()
}
