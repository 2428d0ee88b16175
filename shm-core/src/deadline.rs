//! When a wait ends: an absolute time of `CLOCK_MONOTONIC`, computed once at the edge.
//!
//! A relative timeout that is handed on is counted anew at every retry; a wall-clock deadline jumps
//! when somebody sets the clock. Neither can happen to a [`Deadline`]: the public call turns a
//! `Duration` or an `Instant` into one, and every sleep below, however often it is retried, uses it.
//!
//! In a loom model time is a count of the questions a thread has asked; see [`now`].

use std::time::{Duration, Instant};

/// An absolute time of `CLOCK_MONOTONIC`, in nanoseconds since boot.
///
/// # Examples
///
/// ```
/// use shm_core::Deadline;
/// use std::time::Duration;
///
/// let deadline = Deadline::after(Duration::from_secs(3600));
/// assert!(!deadline.is_past());
/// assert!(deadline.remaining() <= Duration::from_secs(3600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// The deadline `timeout` from now; one too far to express is centuries away and never comes.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(now().saturating_add(nanoseconds(timeout)))
    }

    /// The deadline at `instant`. (`Instant` is `CLOCK_MONOTONIC` here, but hides its count; hence
    /// the way over the time that is left. One in the past becomes the present.)
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self::after(instant.saturating_duration_since(Instant::now()))
    }

    /// The deadline at this count of nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn as_nanoseconds(self) -> u64 {
        self.0
    }

    /// Whichever comes first: `deadline`, or the end of a sleep of `slice` that begins now.
    #[must_use]
    pub fn earliest(deadline: Option<Self>, slice: Duration) -> Self {
        let slice = Self::after(slice);
        deadline.map_or(slice, |deadline| deadline.min(slice))
    }

    /// Whether the deadline has come.
    #[must_use]
    pub fn is_past(self) -> bool {
        now() >= self.0
    }

    /// The time that is left; zero once the deadline has come.
    #[must_use]
    pub fn remaining(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now()))
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Self::at(instant)
    }
}

/// A duration in nanoseconds, saturating: 584 years are as good as for ever.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Now, in nanoseconds of `CLOCK_MONOTONIC`.
#[cfg(not(loom))]
#[must_use]
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

#[cfg(not(loom))]
#[inline]
fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY:
    // - `time` is a live, aligned local, written by the call alone;
    // - any two integers are a `timespec`. The call cannot fail for these clocks and a valid pointer.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Now, as of the kernel's last tick (at most 10 ms ago): a quarter of the price of [`now`].
#[cfg(not(loom))]
#[doc(hidden)]
#[must_use]
pub fn now_roughly() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// Now: how often this model thread has asked. So `Deadline::from_nanoseconds(n)` has come at the
/// n-th question, and a model tries every `n`, as it does with deaths.
#[cfg(loom)]
#[must_use]
pub fn now() -> u64 {
    crate::sync::death::tick()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_duration_too_long_to_count_saturates() {
        let never = Deadline::after(Duration::MAX);
        assert_eq!(never.as_nanoseconds(), u64::MAX);
        assert!(!never.is_past());
    }

    #[test]
    fn an_instant_in_the_past_has_come() {
        let past = Instant::now()
            .checked_sub(Duration::from_millis(1))
            .expect("the machine has been up for a millisecond");
        assert!(Deadline::at(past).is_past());
        assert_eq!(Deadline::at(past).remaining(), Duration::ZERO);
    }

    #[test]
    fn an_instant_ahead_keeps_its_distance() {
        let deadline = Deadline::at(Instant::now() + Duration::from_secs(7200));
        let left = deadline.remaining();
        assert!(left <= Duration::from_secs(7200), "{left:?}");
        assert!(left > Duration::from_secs(3600), "{left:?}");
    }

    #[test]
    fn the_earliest_is_the_nearer_of_deadline_and_slice() {
        let near = Deadline::after(Duration::from_secs(3600));
        let far = Duration::from_secs(7200);
        assert_eq!(Deadline::earliest(Some(near), far), near);
        assert!(Deadline::earliest(Some(near), Duration::ZERO) < near);
        assert!(!Deadline::earliest(None, far).is_past());
    }
}
