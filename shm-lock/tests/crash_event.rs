//! What the death of a process leaves of an event: one test for each row of docs/peer-death.md.

use std::time::Duration;

use shm_lock::Event;
use shm_testing::{Child, Peer, UniqueName, peer_main, until_thread_asleep_in_futex, watchdog};

#[test]
fn peer() {
    peer_main(&[("waits", waits as fn(&mut Peer)), ("toggles", toggles)]);
}

fn waits(peer: &mut Peer) {
    let event = Event::open(&peer.args()[0]).unwrap();
    peer.say("waiting");
    event.wait();
    peer.say("through");
    peer.hear();
}

/// Sets and clears until it is killed.
fn toggles(peer: &mut Peer) {
    let event = Event::open(&peer.args()[0]).unwrap();
    peer.say("toggling");
    loop {
        event.set();
        event.clear();
    }
}

fn asleep(name: &str) -> Child {
    let mut waiter = Child::spawn("waits", &[name]);
    waiter.expect("waiting");
    let tid = waiter.tid();
    until_thread_asleep_in_futex(waiter.pid(), tid);
    waiter
}

#[test]
fn killed_and_stopped_waiters_hold_nobody_up() {
    let _watchdog = watchdog();
    let name = UniqueName::new("waiters");
    let event = Event::create(&*name).unwrap();
    let mut doomed = asleep(&name);
    let mut stopped = asleep(&name);
    let mut other = asleep(&name);
    doomed.kill();
    stopped.stop();
    // Neither hangs the setter, as it would hang a pthread condition variable.
    for _ in 0..100 {
        event.set();
        event.clear();
    }
    other.expect("through");
    // Its turn to look comes now, and the last set was cleared long ago.
    stopped.cont();
    stopped.expect("through");
    assert_eq!(event.inspect().waiters, 0);
}

#[test]
fn a_setter_killed_anywhere_leaves_an_event_that_works() {
    let _watchdog = watchdog();
    for _ in 0..20 {
        let name = UniqueName::new("setter");
        let event = Event::create(&*name).unwrap();
        let mut waiter = asleep(&name);
        let mut setter = Child::spawn("toggles", &[&name]);
        setter.expect("toggling");
        setter.kill();
        // It has set it at least once, or died on the way to that.
        if event.inspect().sets == 0 {
            event.set();
        }
        waiter.expect("through");
        event.clear();
        assert!(!event.wait_timeout(Duration::ZERO));
        event.set();
        assert!(event.wait_timeout(Duration::ZERO));
    }
}
