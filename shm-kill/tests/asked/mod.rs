//! How many kills a storm is asked for, and what follows from it.

use std::time::Duration;

use shm_testing::Watchdog;
use shm_testing::storm::{Outcome, Storm, Total};

/// Kills with a ledger of their own.
const CHAPTER: usize = 500;

/// Of so many kills at least one hits a worker within an operation.
const BITES: u64 = 10;
const LONG_STORM_BITES: u64 = 4;

/// 200, or what `SHM_STORM_KILLS` says.
pub(crate) fn kills() -> usize {
    std::env::var("SHM_STORM_KILLS").map_or(200, |kills| kills.parse().unwrap())
}

fn is_long() -> bool {
    kills() >= 1000
}

/// Runs a storm of peers in `role` in chapters, after each of which `account` must find everything there that the
/// chapter's ledger has, and nothing else, and leaves the structures empty for the next one.
pub(crate) fn storm(
    role: &str,
    args: &[&str],
    workers: usize,
    mut account: impl FnMut(&Outcome) -> Result<(), String>,
) -> Result<Total, String> {
    let _watchdog = Watchdog::new(Duration::from_secs(600 + kills() as u64));
    // Stops of seconds where there is time for them.
    let longest_stop = Duration::from_millis(if is_long() { 2000 } else { 50 });
    let mut total = Total::default();
    while total.kills < kills() {
        let chapter = Storm::new(role, args)
            .workers(workers)
            .kills(CHAPTER.min(kills() - total.kills))
            .longest_stop(longest_stop);
        let outcome = chapter
            .run()
            .map_err(|error| format!("after {total}: {error}"))?;
        account(&outcome).map_err(|wrong| format!("after {total}: {wrong}, {outcome}"))?;
        total.add(&outcome);
    }
    println!("{role}: {total}");
    Ok(total)
}

/// Sees that the storm killed workers within their operations, and that the structure had something to repair, if it
/// counts that.
pub(crate) fn assert_bites(total: &Total, repairs: Option<u64>) {
    let one_of = if is_long() { LONG_STORM_BITES } else { BITES };
    assert!(total.pending * one_of >= total.kills as u64, "{total}");
    if let Some(repairs) = repairs {
        println!("    {repairs} repairs");
        assert!(repairs > 0, "{total}");
    }
}
