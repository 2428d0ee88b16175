//! Beside a process that is stopped under one of a queue's locks.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, raise};
use shm_core::futex::SLICE;
use shm_queue::{ByteQueue, Place, Queue, QueueError};
use shm_testing::{Child, Peer, ThreadState, UniqueName, peer_main, watchdog};

/// For what must happen.
const LONG: Duration = Duration::from_secs(15);

#[test]
fn peer() {
    peer_main(&[
        ("stops in a batch", stops_in_a_batch as fn(&mut Peer)),
        ("reads in place", reads_in_place),
    ]);
}

fn tagged(name: &str) -> Place {
    Place::named(name).type_tag("anything")
}

/// A message whose sender stops when it comes to it, under the lock.
struct Stopping;

impl AsRef<[u8]> for Stopping {
    fn as_ref(&self) -> &[u8] {
        // This thread itself: another would let it run on for a moment.
        raise(Signal::SIGSTOP).unwrap();
        &[1]
    }
}

fn stops_in_a_batch(peer: &mut Peer) {
    let queue = ByteQueue::open(tagged(&peer.args()[0])).unwrap();
    peer.say("putting");
    queue.put_many(&[Stopping]).unwrap();
    peer.say("put");
    // It was just continued, and whoever waits to see that must not see its end.
    peer.hear();
}

fn stopped_in_a_batch(name: &str) -> Child {
    let mut stopped = Child::spawn("stops in a batch", &[name]);
    stopped.expect("putting");
    let pid = stopped.pid();
    while ThreadState::read(pid, pid).unwrap().state != 'T' {
        std::thread::yield_now();
    }
    stopped
}

fn reads_in_place(peer: &mut Peer) {
    let queue = ByteQueue::open(tagged(&peer.args()[0])).unwrap();
    let _received = queue.recv_ref().unwrap();
    peer.say("reading");
    peer.hear();
}

/// The queue is closed by whoever comes next.
#[test]
fn a_sender_that_cannot_have_the_lock_has_gone_all_the_same() {
    let _watchdog = watchdog();
    let name = UniqueName::new("gone");
    let queue = Queue::<u8>::create(tagged(&name), 8).unwrap();
    let sender = queue.sender().unwrap();
    let mut stopped = stopped_in_a_batch(&name);
    drop(sender);
    assert!(!queue.is_closed());
    stopped.cont();
    stopped.expect("put");
    assert_eq!(queue.get_timeout(LONG), Ok(1));
    assert_eq!(queue.get_timeout(LONG), Err(QueueError::Closed));
}

/// Whoever comes by where somebody died looks after it, which needs the lock; but not for longer than it has time.
#[test]
fn a_timeout_ends_the_look_for_the_dead_too() {
    let _watchdog = watchdog();
    let name = UniqueName::new("look");
    let queue = Queue::<u8>::create(tagged(&name), 8).unwrap();
    queue.put(1).unwrap();
    let mut reader = Child::spawn("reads in place", &[&name]);
    reader.expect("reading");
    let mut stopped = stopped_in_a_batch(&name);
    reader.kill();
    let sleeps = || {
        getrusage(UsageWho::RUSAGE_THREAD)
            .unwrap()
            .voluntary_context_switches()
    };
    let slept = |_| {
        // By then it is time for a look.
        std::thread::sleep(SLICE * 3 / 2);
        let before = sleeps();
        let got = queue.get_many_timeout(8, Duration::ZERO);
        assert_eq!(got, Err(QueueError::Timeout));
        sleeps() > before
    };
    // Something else may put a thread to sleep, once.
    assert!(!(0..5).all(slept), "it waited for the lock");
    stopped.cont();
    stopped.expect("put");
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(queue.get_many_timeout(8, LONG).unwrap());
    }
    assert_eq!(got, [1, 1]);
}
