//! A child that is forked with a guard, and takes the lock itself once its parent has given it back.

use std::cell::Cell;

use shm_core::{Place, ProcessId};
use shm_lock::{Mutex, ReentrantMutex, RobustSemaphore, RwLock};
use shm_testing::{Child, Peer, fork_with, peer_main, watchdog};

#[test]
fn peer() {
    peer_main(&[
        ("mutex", mutex as fn(&mut Peer)),
        ("reentrant", reentrant),
        ("reads", reads),
        ("writes", writes),
        ("permit", permit),
    ]);
}

fn mutex(peer: &mut Peer) {
    let mutex = Mutex::create(Place::anonymous(), 0_u32).unwrap();
    fork_with(mutex.lock().unwrap(), |inherited| {
        let own = mutex.lock().unwrap();
        drop(inherited);
        assert_eq!(mutex.inspect().owner, Some(ProcessId::current()));
        drop(own);
        assert_eq!(mutex.inspect().owner, None);
    });
    peer.say("done");
}

fn reentrant(peer: &mut Peer) {
    let mutex = ReentrantMutex::create(Place::anonymous(), Cell::new(0_u32)).unwrap();
    fork_with(mutex.lock().unwrap(), |inherited| {
        let own = mutex.lock().unwrap();
        drop(inherited);
        assert_eq!(mutex.inspect().owner, Some(ProcessId::current()));
        drop(own);
        assert_eq!(mutex.inspect().owner, None);
    });
    peer.say("done");
}

fn reads(peer: &mut Peer) {
    let lock = RwLock::create(Place::anonymous(), 0_u32).unwrap();
    fork_with(lock.read().unwrap(), |inherited| {
        while !lock.inspect().readers.is_empty() {
            std::thread::yield_now();
        }
        let own = lock.read().unwrap();
        drop(inherited);
        assert_eq!(lock.inspect().readers.len(), 1);
        drop(own);
        assert_eq!(lock.inspect().readers.len(), 0);
    });
    peer.say("done");
}

fn writes(peer: &mut Peer) {
    let lock = RwLock::create(Place::anonymous(), 0_u32).unwrap();
    fork_with(lock.write().unwrap(), |inherited| {
        let own = lock.write().unwrap();
        // A read guard that is as inert.
        drop(inherited.downgrade());
        assert_eq!(lock.inspect().writer.owner, Some(ProcessId::current()));
        drop(own);
        assert_eq!(lock.inspect().writer.owner, None);
    });
    peer.say("done");
}

fn permit(peer: &mut Peer) {
    let semaphore = RobustSemaphore::create(Place::anonymous(), 1).unwrap();
    fork_with(semaphore.acquire().unwrap(), |inherited| {
        let own = semaphore.acquire().unwrap();
        drop(inherited);
        assert_eq!(semaphore.available(), 0);
        drop(own);
        assert_eq!(semaphore.available(), 1);
    });
    peer.say("done");
}

#[test]
fn a_guard_that_a_child_inherits_unlocks_nothing_that_the_child_has_locked() {
    let _watchdog = watchdog();
    for guard in ["mutex", "reentrant", "reads", "writes", "permit"] {
        Child::spawn(guard, &[]).expect("done");
    }
}
