//! One clock for all processes of a run.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, the same in every process of this machine.
///
/// # Panics
///
/// If the system has no monotonic clock.
#[must_use]
pub fn now() -> u64 {
    let at = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
    let seconds = u64::try_from(at.tv_sec()).expect("the monotonic clock is not negative");
    let rest = u64::try_from(at.tv_nsec()).expect("nanoseconds are not negative");
    seconds * 1_000_000_000 + rest
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn time_does_not_run_backwards() {
        let first = now();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(now() - first >= 1_000_000);
    }
}
