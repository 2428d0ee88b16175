//! How many kills a storm is asked for, and what follows from it.

use std::time::Duration;

use shm_testing::Watchdog;

/// 200, or what `SHM_STORM_KILLS` says.
pub(crate) fn kills() -> usize {
    std::env::var("SHM_STORM_KILLS").map_or(200, |kills| kills.parse().unwrap())
}

/// Stops of seconds where there is time for them.
pub(crate) fn longest_stop() -> Duration {
    Duration::from_millis(if kills() < 1000 { 50 } else { 2000 })
}

pub(crate) fn limit() -> Watchdog {
    Watchdog::new(Duration::from_secs(600 + kills() as u64))
}
