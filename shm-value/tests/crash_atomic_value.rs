//! What the death of a process leaves to those who wait for an atomic value.

use std::time::Duration;

use shm_testing::{Child, Peer, UniqueName, peer_main, wait_until, watchdog};
use shm_value::AtomicValue;

#[test]
fn peer() {
    peer_main(&[
        ("changes without a word", changes as fn(&mut Peer)),
        ("waits", waits),
    ]);
}

fn changes(peer: &mut Peer) {
    let value = AtomicValue::<u32>::open(&peer.args()[0]).unwrap();
    value.store(9);
    peer.say("changed");
    peer.hear();
    value.notify_all();
}

fn waits(peer: &mut Peer) {
    let value = AtomicValue::<u32>::open(&peer.args()[0]).unwrap();
    peer.say("waiting");
    peer.say(&value.wait(0).to_string());
}

fn waiting(name: &str) -> Child {
    let mut child = Child::spawn("waits", &[name]);
    child.expect("waiting");
    child
}

#[test]
fn a_notifier_killed_before_its_notification_delays_and_does_not_hang() {
    let _watchdog = watchdog();
    let name = UniqueName::new("silent");
    let value = AtomicValue::create(&*name, 0_u32).unwrap();
    let mut waiter = waiting(&name);
    assert!(wait_until(|| value.waiters() == 1, Duration::from_secs(20)));
    let mut doomed = Child::spawn("changes without a word", &[&name]);
    doomed.expect("changed");
    doomed.kill();
    waiter.expect("9");
}

#[test]
fn a_killed_waiter_harms_nobody() {
    let _watchdog = watchdog();
    let name = UniqueName::new("killed-waiter");
    let value = AtomicValue::create(&*name, 0_u32).unwrap();
    let mut doomed = waiting(&name);
    let mut other = waiting(&name);
    assert!(wait_until(|| value.waiters() == 2, Duration::from_secs(20)));
    doomed.kill();
    // Between two slices of its sleep the other one is not counted either.
    assert!(wait_until(|| value.waiters() == 1, Duration::from_secs(20)));
    value.store(5);
    value.notify_one();
    other.expect("5");
}
