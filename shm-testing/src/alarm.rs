//! Signals without end, so that every blocking call is interrupted again and again.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

static SIGNALS: AtomicU64 = AtomicU64::new(0);

/// Sends SIGALRM to the thread that made it, again and again until dropped.
///
/// The handler does nothing and is installed without `SA_RESTART`, so a call that blocks returns
/// EINTR each time. It stays installed afterwards, for signals under way.
///
/// # Examples
/// ```
/// use shm_testing::Alarms;
/// use std::time::Duration;
///
/// let alarms = Alarms::every(Duration::from_millis(1));
/// // ... what blocks here is interrupted a thousand times a second ...
/// drop(alarms);
/// ```
#[derive(Debug)]
pub struct Alarms {
    _timer: Timer,
}

impl Alarms {
    /// Begins to send.
    ///
    /// # Panics
    /// When the kernel has no timer left.
    pub fn every(interval: Duration) -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(install);
        let event = SigEvent::new(SigevNotify::SigevThreadId {
            signal: Signal::SIGALRM,
            thread_id: gettid().as_raw(),
            si_value: 0,
        });
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event).expect("a timer");
        let interval = Expiration::Interval(TimeSpec::from_duration(interval));
        timer
            .set(interval, TimerSetTimeFlags::empty())
            .expect("a timer can be set");
        Self { _timer: timer }
    }

    /// How many signals this process has handled so far.
    pub fn handled() -> u64 {
        // Relaxed: a count, compared with itself.
        SIGNALS.load(Ordering::Relaxed)
    }
}

fn install() {
    let handler = SigHandler::Handler(count);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGALRM, &action) }.expect("SIGALRM can be handled");
}

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_until;
    use nix::errno::Errno;
    use nix::poll::{PollTimeout, poll};

    #[test]
    fn blocking_call_is_interrupted_until_the_drop() {
        let alarms = Alarms::every(Duration::from_millis(1));
        for _ in 0..10 {
            assert_eq!(poll(&mut [], PollTimeout::NONE), Err(Errno::EINTR));
        }
        assert!(Alarms::handled() >= 10);
        drop(alarms);
        // One may still be under way.
        let quiet = || poll(&mut [], PollTimeout::from(20_u8)) == Ok(0);
        assert!(wait_until(quiet, Duration::from_secs(20)));
    }
}
