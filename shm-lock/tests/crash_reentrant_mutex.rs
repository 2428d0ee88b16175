//! What the death of a process leaves of a reentrant mutex.

use std::cell::Cell;

use shm_lock::{Cause, LockError, ReentrantMutex};
use shm_testing::{Child, Peer, UniqueName, peer_main, until_thread_asleep_in_futex, watchdog};

#[test]
fn peer() {
    peer_main(&[
        ("holds three times", holds as fn(&mut Peer)),
        ("forks with the lock", forks),
        ("forks with a report", forks_with_a_report),
        ("waits", waits),
    ]);
}

fn open(peer: &Peer) -> ReentrantMutex<Cell<u32>> {
    ReentrantMutex::open(&peer.args()[0]).unwrap()
}

fn holds(peer: &mut Peer) {
    let mutex = open(peer);
    let guards: Vec<_> = (0..3).map(|_| mutex.lock().unwrap()).collect();
    guards[0].set(guards[0].get() + 1);
    peer.say("holding");
    peer.hear();
}

fn waits(peer: &mut Peer) {
    let mutex = open(peer);
    peer.say("waiting");
    let Err(LockError::OwnerDied(recover)) = mutex.lock() else {
        panic!("not reported")
    };
    let guard = recover.accept();
    assert_eq!(guard.depth(), 1);
    drop(guard);
    peer.say("got it and gave it back");
    peer.hear();
}

fn forks(peer: &mut Peer) {
    let mutex = open(peer);
    let outer = mutex.lock().unwrap();
    let inner = mutex.lock().unwrap();
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = matches!(mutex.try_lock(), Err(LockError::WouldBlock));
            drop(inner);
            drop(outer);
            let still = matches!(mutex.try_lock(), Err(LockError::WouldBlock));
            std::process::exit(i32::from(!(refused && still)));
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            let fine = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
            assert!(fine, "{status:?}");
        }
    }
    assert_eq!(outer.depth(), 2, "the child's guards counted nothing");
    drop(inner);
    assert_eq!(mutex.lock().unwrap().depth(), 2);
    drop(outer);
    assert_eq!(mutex.inspect().owner, None);
    peer.say("done");
}

/// The child settles its copy of a report; the parent's is to be settled still.
fn forks_with_a_report(peer: &mut Peer) {
    let mutex = open(peer);
    let Err(LockError::OwnerDied(recover)) = mutex.lock() else {
        panic!("not reported")
    };
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            // Nobody else ends it if it hangs.
            nix::unistd::alarm::set(10);
            drop(recover.accept());
            std::process::exit(0);
        }
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
        }
    }
    assert!(matches!(mutex.lock(), Err(LockError::Deadlock)));
    let guard = recover.accept();
    assert_eq!(mutex.lock().unwrap().depth(), 2);
    drop(guard);
    peer.say("done");
}

#[test]
fn the_depth_dies_with_its_owner() {
    let _watchdog = watchdog();
    let name = UniqueName::new("reentrant-depth");
    let mutex = ReentrantMutex::create(&*name, Cell::new(0_u32)).unwrap();
    for deaths in 1..=3 {
        let mut holder = Child::spawn("holds three times", &[&name]);
        holder.expect("holding");
        let mut waiter = Child::spawn("waits", &[&name]);
        waiter.expect("waiting");
        let tid = waiter.tid();
        until_thread_asleep_in_futex(waiter.pid(), tid);
        holder.kill();
        waiter.expect("got it and gave it back");
        let guard = mutex.try_lock().expect("one guard was one lock");
        assert_eq!((guard.get(), mutex.inspect().deaths), (deaths, deaths));
    }
}

#[test]
fn a_death_is_reported_once_and_settled_once() {
    let _watchdog = watchdog();
    let name = UniqueName::new("reentrant-report");
    let mutex = ReentrantMutex::create(&*name, Cell::new(0_u32)).unwrap();
    let mut holder = Child::spawn("holds three times", &[&name]);
    holder.expect("holding");
    holder.kill();
    for process in [Some(holder.pid()), None] {
        let Err(LockError::OwnerDied(recover)) = mutex.lock() else {
            panic!("not reported")
        };
        let Cause::OwnerDied {
            process: said,
            deaths: 1,
        } = recover.cause()
        else {
            panic!("{:?}", recover.cause())
        };
        assert_eq!(said.map(|id| id.pid()), process);
    }
    let guard = mutex
        .lock_or_repair(|value, _| *value.get_mut() = 8)
        .unwrap();
    assert_eq!((guard.get(), mutex.lock().unwrap().get()), (8, 8));
}

#[test]
fn a_forked_child_settles_no_report() {
    let _watchdog = watchdog();
    let name = UniqueName::new("reentrant-fork-report");
    let _mutex = ReentrantMutex::create(&*name, Cell::new(0_u32)).unwrap();
    let mut holder = Child::spawn("holds three times", &[&name]);
    holder.expect("holding");
    holder.kill();
    Child::spawn("forks with a report", &[&name]).expect("done");
}

#[test]
fn a_forked_child_is_not_the_owner() {
    let _watchdog = watchdog();
    let name = UniqueName::new("reentrant-fork");
    let _mutex = ReentrantMutex::create(&*name, Cell::new(0_u32)).unwrap();
    Child::spawn("forks with the lock", &[&name]).expect("done");
}
