//! What the death of a process leaves of a semaphore: one test for each row of docs/peer-death.md.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::unistd::gettid;
use shm_core::futex;
use shm_lock::{AcquireError, BoundedSemaphore, Semaphore};
use shm_testing::{
    Child, Peer, ThreadState, UniqueName, Watchdog, eventually, peer_main,
    until_thread_asleep_in_futex, watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("holds", holds as fn(&mut Peer)),
        ("waits", waits),
        ("churns", churns),
        ("forks with a permit", forks_with_a_permit),
    ]);
}

fn open(peer: &Peer) -> BoundedSemaphore {
    BoundedSemaphore::open(&peer.args()[0]).unwrap()
}

fn holds(peer: &mut Peer) {
    let semaphore = open(peer);
    let _permit = semaphore.acquire();
    peer.say("holding");
    peer.hear();
}

fn waits(peer: &mut Peer) {
    let semaphore = open(peer);
    peer.say("waiting");
    semaphore.acquire().forget();
    peer.say("acquired");
}

/// Takes two permits and gives them back, until it is killed.
fn churns(peer: &mut Peer) {
    let semaphore = Semaphore::open(&peer.args()[0]).unwrap();
    peer.say("churning");
    loop {
        let _permit = semaphore.acquire();
    }
}

fn forks_with_a_permit(peer: &mut Peer) {
    let semaphore = open(peer);
    let permit = semaphore.acquire();
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            drop(permit);
            std::process::exit(i32::from(semaphore.inspect().permits != 0));
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            let exited = nix::sys::wait::WaitStatus::Exited(child, 0);
            assert_eq!(status, exited, "the child gave its parent's permit back");
        }
    }
    drop(permit);
    assert_eq!(semaphore.inspect().permits, 1);
    peer.say("done");
}

fn asleep(name: &str) -> Child {
    let mut waiter = Child::spawn("waits", &[name]);
    waiter.expect("waiting");
    let tid = waiter.tid();
    until_thread_asleep_in_futex(waiter.pid(), tid);
    waiter
}

#[test]
fn the_permit_of_a_killed_holder_is_lost_until_it_is_released_for_it() {
    let _watchdog = watchdog();
    let name = UniqueName::new("lost");
    let semaphore = BoundedSemaphore::create(&*name, 1).unwrap();
    let mut holder = Child::spawn("holds", &[&name]);
    holder.expect("holding");
    holder.kill();
    let timeout = Duration::from_millis(250);
    let none = semaphore.acquire_timeout(timeout).unwrap_err();
    assert_eq!(none, AcquireError::Timeout);
    semaphore.release(1).unwrap();
    assert!(semaphore.try_acquire().is_ok());
    assert!(semaphore.release(1).is_err(), "there was one");
}

#[test]
fn a_killed_waiter_harms_nobody() {
    let _watchdog = watchdog();
    let name = UniqueName::new("waiter");
    let semaphore = BoundedSemaphore::create(&*name, 1).unwrap();
    let permit = semaphore.acquire();
    let mut doomed = asleep(&name);
    let mut other = asleep(&name);
    doomed.kill();
    // The dead are not counted.
    eventually(|| semaphore.inspect().waiters == 1);
    drop(permit);
    other.expect("acquired");
}

#[test]
fn a_stopped_waiter_keeps_no_permit_from_another() {
    let _watchdog = watchdog();
    let name = UniqueName::new("woken");
    let semaphore = BoundedSemaphore::create(&*name, 1).unwrap();
    let permit = semaphore.acquire();
    let mut first = asleep(&name);
    let mut second = asleep(&name);
    first.stop();
    drop(permit);
    second.expect("acquired");
    first.kill();
}

/// The word on which waiters of a semaphore sleep, where `acquire` does so.
fn word_of(acquire: impl FnOnce() + Send, release: impl FnOnce()) -> *mut u32 {
    thread::scope(|s| {
        let (tell, hear) = mpsc::channel();
        s.spawn(move || {
            tell.send(gettid().as_raw().unsigned_abs()).unwrap();
            acquire();
        });
        let tid = hear.recv().unwrap();
        // Between two slices it is awake for a moment.
        let word = loop {
            let waiter = ThreadState::read(std::process::id(), tid).unwrap();
            if waiter.asleep_in_shared_futex() {
                break waiter.syscall.unwrap().1[0];
            }
        };
        release();
        word as *mut u32
    })
}

/// One who was woken and does nothing with it is as good as one killed when it was woken.
#[test]
fn a_wake_spent_on_the_dead_reaches_another_within_a_slice() {
    let _watchdog = watchdog();
    let name = UniqueName::new("woken");
    let semaphore = BoundedSemaphore::create(&*name, 1).unwrap();
    let permit = semaphore.acquire();
    let word = word_of(|| drop(semaphore.acquire()), || drop(permit));
    // SAFETY:
    // - in bounds, aligned, mapped: a futex of the semaphore, for as long as that lives;
    // - no other writer but through atomics, as for all futexes;
    // - any bytes are a value of an atomic integer.
    let word = unsafe { AtomicU32::from_ptr(word) };
    let permit = semaphore.acquire();
    thread::scope(|s| {
        // The first in line.
        let value = word.load(Ordering::Relaxed);
        let decoy = s.spawn(move || futex::wait(word, value, None));
        while futex::waiters(word) == 0 {
            thread::yield_now();
        }
        let mut other = asleep(&name);
        drop(permit);
        assert_eq!(decoy.join().unwrap(), futex::Wait::Woken);
        other.expect("acquired");
    });
}

#[test]
fn a_forked_childs_permit_is_inert() {
    let _watchdog = watchdog();
    let name = UniqueName::new("fork");
    let _semaphore = BoundedSemaphore::create(&*name, 1).unwrap();
    Child::spawn("forks with a permit", &[&name]).expect("done");
}

/// Processes are killed while they take and give: each costs at most the one permit it held, the others
/// go on, and in the end the sum is right.
#[test]
fn a_kill_storm_costs_at_most_a_permit_each() {
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    let name = UniqueName::new("storm");
    let semaphore = Semaphore::create(&*name, 2).unwrap();
    let mut lost = 0;
    for round in 0..40 {
        let mut peers: Vec<_> = (0..3).map(|_| Child::spawn("churns", &[&name])).collect();
        peers.iter_mut().for_each(|peer| peer.expect("churning"));
        std::thread::sleep(Duration::from_micros(137 * (round % 7)));
        peers.iter_mut().for_each(Child::kill);
        let left = semaphore.inspect().permits;
        assert!(left <= 2, "more permits than there were");
        lost += 2 - left;
        if left < 2 {
            semaphore.release(2 - left).unwrap();
        }
    }
    assert_eq!(semaphore.inspect().permits, 2);
    assert!(lost <= 80);
    let (one, two) = (semaphore.acquire(), semaphore.acquire());
    assert!(semaphore.try_acquire().is_err());
    drop((one, two));
}
