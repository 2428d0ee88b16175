//! A signal every millisecond through the calls of `blocking.rs`: none returns before what it waits for has
//! come, none fails, and none gives up before its deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::spawn;
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};
use shm_testing::{Alarms, Watchdog, wait_until, watchdog};

#[allow(dead_code, reason = "some of it is for the faults alone")]
#[path = "../src/blocking.rs"]
mod blocking;

use blocking::{Blocking, NAMES, RETURNED, TIMED_OUT};

/// More than two slices of sleep, each of 100 ms.
const SIGNALS: u64 = 250;

/// Waits under signals until it is let go; what was wrong.
fn returns_when_let_go(blocking: &Blocking) -> Result<(), String> {
    let obstacle = blocking.obstructed();
    let let_go = Arc::new(AtomicBool::new(false));
    let releaser = spawn({
        let (let_go, before) = (Arc::clone(&let_go), Alarms::handled());
        move || {
            let many = || Alarms::handled() >= before + SIGNALS;
            let came = wait_until(many, Duration::from_secs(60));
            let_go.store(true, Ordering::SeqCst);
            obstacle.release();
            came
        }
    });
    let alarms = Alarms::every(Duration::from_millis(1));
    let told = (blocking.wait)(None);
    let early = !let_go.load(Ordering::SeqCst);
    // The signals go on until the releaser has counted them.
    let signalled = wait_until(|| releaser.is_finished(), Duration::from_secs(80));
    drop(alarms);
    assert!(signalled && releaser.join().unwrap(), "no signals came");
    match (told.as_str(), early) {
        (RETURNED, false) => Ok(()),
        (_, true) => Err(format!("{told}, before it was let go")),
        _ => Err(told),
    }
}

/// Waits under signals for what does not come; what was wrong.
fn gives_up_at_its_deadline(blocking: &Blocking, time: Duration) -> Result<(), String> {
    let obstacle = blocking.obstructed();
    let before = Alarms::handled();
    let alarms = Alarms::every(Duration::from_millis(1));
    let deadline = Instant::now() + time;
    let told = (blocking.wait)(Some(deadline));
    let early = Instant::now() < deadline;
    let signalled = Alarms::handled() > before;
    drop(alarms);
    obstacle.release();
    match (told.as_str(), early) {
        (TIMED_OUT, false) if signalled => Ok(()),
        (_, true) => Err(format!("{told}, before the deadline")),
        _ => Err(format!("{told}; signals: {signalled}")),
    }
}

#[test]
fn every_wait_outlasts_the_signals() {
    // Ten seconds where nothing else runs.
    let _watchdog = Watchdog::new(Duration::from_secs(600));
    for name in NAMES {
        // Anew for each: what is made once is not waited for again.
        let given_up = gives_up_at_its_deadline(&Blocking::named(name), Duration::from_millis(150));
        assert_eq!(given_up, Ok(()), "{name}");
        let returned = returns_when_let_go(&Blocking::named(name));
        assert_eq!(returned, Ok(()), "{name}");
    }
}

#[test]
fn control_a_wait_that_returns_with_the_signal_is_noticed() {
    let _watchdog = watchdog();
    let wait = |deadline: Option<Instant>| {
        let _ = poll(&mut [], PollTimeout::NONE);
        deadline.map_or(RETURNED, |_| TIMED_OUT).to_owned()
    };
    let rash = Blocking::new(wait, |stay| stay());
    let early = |result: Result<(), String>| result.unwrap_err().contains("before");
    assert!(early(returns_when_let_go(&rash)));
    assert!(early(gives_up_at_its_deadline(
        &rash,
        Duration::from_secs(3600)
    )));
}
