//! futex(2).

use core::ptr;
use core::time::Duration;
use std::io;

use super::{SLICE, Wait};
use crate::Deadline;
use crate::mutants::mutant;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// Sleeps until woken, while `*word == expected`, at most until `deadline`.
///
/// `FUTEX_WAIT_BITSET` with an absolute `CLOCK_MONOTONIC` time.
#[must_use]
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Wait {
    let time = deadline.map(|deadline| {
        let nanoseconds = deadline.as_nanoseconds();
        libc::timespec {
            // Both fit: 2^64 ns are 2^35 s, and the rest is below 10^9.
            tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
        }
    });
    let time: *const libc::timespec = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let operation = match mutant("Futex::WaitsByTheWallClock") {
        true => libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME,
        false => libc::FUTEX_WAIT_BITSET,
    };
    // SAFETY:
    // - `word` is borrowed, so it stays mapped during the call, and is aligned; the kernel only reads it;
    // - `time` is null or a live local.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation,
            expected,
            time,
            ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if result == 0 {
        return Wait::Woken;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Wait::Changed,
        Some(libc::ETIMEDOUT) => Wait::TimedOut,
        // EINTR; nothing else can come from a mapped, aligned word and a valid time.
        _ => Wait::Interrupted,
    }
}

/// As [`wait`], at most for one [`SLICE`]: `TimedOut` means the slice or the deadline.
#[must_use]
pub fn wait_slice(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Wait {
    wait(word, expected, Some(Deadline::earliest(deadline, SLICE)))
}

/// As [`wait`], at most for `bound`, by which the caller's protocol lives.
#[must_use]
pub fn wait_briefly(
    word: &AtomicU32,
    expected: u32,
    deadline: Option<Deadline>,
    bound: Duration,
) -> Wait {
    wait(word, expected, Some(Deadline::earliest(deadline, bound)))
}

/// Wakes up to `count` sleepers, the longest sleeping first; gives how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    let count = if mutant("Futex::WakesOne") { 1 } else { count };
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // SAFETY: `FUTEX_WAKE` uses the address as a key and writes nothing.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    usize::try_from(woken).unwrap_or(0)
}

/// How many threads, of all processes, sleep on `word` now; wakes none. Killed sleepers do not count.
///
/// `FUTEX_CMP_REQUEUE` of nobody-to-wake and everybody-to-move, from the word onto itself: the
/// result is the number moved. The compare may fail while the word changes; after a few attempts
/// the answer is the last resort, 0.
#[must_use]
pub fn waiters(word: &AtomicU32) -> usize {
    const ATTEMPTS: usize = 16;
    for _ in 0..ATTEMPTS {
        // Relaxed: only compared again by the kernel.
        let seen = word.load(Ordering::Relaxed);
        // SAFETY: both addresses are the borrowed word, which the kernel reads; the requeue moves
        // sleepers to where they are.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_CMP_REQUEUE,
                0,
                i32::MAX as libc::c_long,
                word.as_ptr(),
                seen,
            )
        };
        if let Ok(moved) = usize::try_from(moved) {
            return moved;
        }
    }
    0
}

/// Lets the thread that was just woken run, if it is queued for this processor.
pub fn give_way() {
    std::thread::yield_now();
}

/// How many processors are online: with one, spinning only keeps the owner from running.
#[must_use]
pub fn processors() -> usize {
    // Not a `OnceLock`: a fork while another thread fills it would leave it locked in the child.
    // Not `available_parallelism`: the owner may run where this process may not.
    static PROCESSORS: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: a number on its own, which all threads compute alike.
    match PROCESSORS.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: reads a number; touches no memory of ours.
            let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
            let online = usize::try_from(online).unwrap_or(1).max(1);
            PROCESSORS.store(online, Ordering::Relaxed);
            online
        }
        known => known,
    }
}

/// Whether no thread in this PID namespace has the id `tid` at this moment.
#[must_use]
pub fn thread_is_gone(tid: u32) -> bool {
    let Ok(tid) = i32::try_from(tid) else {
        return true;
    };
    // SAFETY: signal 0 is never delivered; the call only looks the id up.
    let answer = unsafe { libc::kill(tid, 0) };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, None), Wait::Changed);
    }

    #[test]
    fn a_wait_lasts_until_its_deadline() {
        let word = AtomicU32::new(0);
        let begin = Instant::now();
        let deadline = Deadline::after(Duration::from_millis(20));
        while wait(&word, 0, Some(deadline)) != Wait::TimedOut {}
        assert!(begin.elapsed() >= Duration::from_millis(20));
        assert_eq!(wait(&word, 0, Some(deadline)), Wait::TimedOut);
    }

    #[test]
    fn a_slice_ends_without_a_deadline() {
        let word = AtomicU32::new(0);
        let begin = Instant::now();
        while wait_slice(&word, 0, None) != Wait::TimedOut {}
        assert!(begin.elapsed() >= SLICE);
    }

    #[test]
    fn waiters_counts_all_and_wakes_none() {
        let word = Arc::new(AtomicU32::new(7));
        assert_eq!(waiters(&word), 0);
        let sleepers: Vec<_> = (0..3)
            .map(|_| {
                let word = Arc::clone(&word);
                thread::spawn(move || {
                    while word.load(Ordering::Acquire) == 7 {
                        let _ = wait(&word, 7, None);
                    }
                })
            })
            .collect();
        while waiters(&word) != 3 {
            thread::yield_now();
        }
        // Counting again and again leaves them asleep.
        for _ in 0..100 {
            assert_eq!(waiters(&word), 3);
        }
        word.store(8, Ordering::Release);
        assert_eq!(wake(&word, u32::MAX), 3);
        for sleeper in sleepers {
            sleeper.join().expect("no panic");
        }
        assert_eq!(waiters(&word), 0);
    }

    #[test]
    fn the_own_thread_is_not_gone_and_an_impossible_one_is() {
        // SAFETY: gives a number.
        let tid = unsafe { libc::gettid() };
        assert!(!thread_is_gone(tid.unsigned_abs()));
        assert!(thread_is_gone(0x3fff_ffff));
        assert!(processors() >= 1);
    }
}
