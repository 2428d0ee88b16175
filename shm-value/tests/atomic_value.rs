//! Waiting for a number, and telling those who wait.

use std::time::Duration;

use shm_testing::{wait_until, watchdog};
use shm_value::{AtomicValue, Region};

#[test]
fn a_notification_wakes_all_who_wait() {
    let _watchdog = watchdog();
    let number = AtomicValue::create(Region::heap(4096), 0_u32).unwrap();
    std::thread::scope(|s| {
        let waiters: Vec<_> = (0..2).map(|_| s.spawn(|| number.wait(0))).collect();
        // Each looks, finds the number as it was, and sleeps again; so one day both sleep at once.
        let both = wait_until(|| number.notify_all() == 2, Duration::from_secs(10));
        number.store(1);
        number.notify_all();
        assert!(
            waiters
                .into_iter()
                .all(|waiter| waiter.join().unwrap() == 1)
        );
        assert!(both, "nobody was woken");
    });
    assert_eq!(number.notify_all(), 0, "nobody is left");
    assert!(!number.notify_one());
}
