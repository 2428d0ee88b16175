//! The reentrant mutex between living processes and threads. `test_rlock` keeps the name and the
//! sense that it has in CPython's suite for multiprocessing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use shm_core::{Place, Region};
use shm_lock::{Guarded, LockError, ReentrantMutex};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

type Counter = Cell<u64>;

#[test]
fn peer() {
    peer_main(&[("adds", adds as fn(&mut Peer)), ("tries", tries)]);
}

fn tries(peer: &mut Peer) {
    let mutex = ReentrantMutex::<Counter>::open(&peer.args()[0]).unwrap();
    let said = match mutex.try_lock() {
        Ok(_) => "free",
        Err(LockError::WouldBlock) => "held",
        Err(other) => panic!("{other}"),
    };
    peer.say(said);
}

fn adds(peer: &mut Peer) {
    let mutex = ReentrantMutex::<Counter>::open(&peer.args()[0]).unwrap();
    peer.say("ready");
    peer.hear();
    for _ in 0..10_000 {
        let outer = mutex.lock().unwrap();
        let seen = outer.get();
        let inner = mutex.lock().unwrap();
        inner.set(seen + 1);
    }
    peer.say("done");
}

fn create(tag: &str) -> (UniqueName, ReentrantMutex<Counter>) {
    let name = UniqueName::new(tag);
    let mutex = ReentrantMutex::create(&*name, Cell::new(0)).unwrap();
    (name, mutex)
}

/// Three nested acquires, three releases. (A fourth release cannot be written: only the guards
/// release.)
#[test]
fn test_rlock() {
    let _watchdog = watchdog();
    let (name, lock) = create("test-rlock");
    let mut guards = vec![
        lock.lock().unwrap(),
        lock.try_lock().unwrap(),
        lock.lock_timeout(Duration::ZERO).unwrap(),
    ];
    assert_eq!(guards[0].depth(), 3);
    while let Some(guard) = guards.pop() {
        Child::spawn("tries", &[&name]).expect("held");
        drop(guard);
    }
    Child::spawn("tries", &[&name]).expect("free");
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    let lock = ReentrantMutex::create(Region::heap(4096), 7_u32).unwrap();
    let first = lock.lock().unwrap();
    let second = lock.lock().unwrap();
    drop(first);
    assert_eq!((*second, second.depth()), (7, 1));
    std::thread::scope(|s| {
        s.spawn(|| assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock))));
    });
    drop(second);
    std::thread::scope(|s| {
        s.spawn(|| assert!(lock.try_lock().is_ok()));
    });
}

#[test]
fn no_update_is_lost_between_processes() {
    let _watchdog = watchdog();
    let (name, mutex) = create("reentrant-counter");
    let mut children: Vec<Child> = (0..3).map(|_| Child::spawn("adds", &[&name])).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    children.iter_mut().for_each(|child| child.tell("go"));
    children.iter_mut().for_each(|child| child.expect("done"));
    assert_eq!(mutex.lock().unwrap().get(), 30_000);
    let idle = mutex.inspect();
    assert_eq!((idle.owner, idle.waiters, idle.deaths), (None, 0, 0));
}

#[test]
fn another_thread_waits_as_long_as_it_said() {
    let _watchdog = watchdog();
    let (_name, mutex) = create("reentrant-timeout");
    let _outer = mutex.lock().unwrap();
    let _inner = mutex.lock().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let begin = Instant::now();
            let timeout = Duration::from_millis(60);
            assert!(mutex.lock_timeout(timeout).unwrap_err().is_timeout());
            assert!(begin.elapsed() >= timeout);
            let deadline = Instant::now() + timeout;
            assert!(mutex.lock_deadline(deadline).unwrap_err().is_timeout());
            assert!(Instant::now() >= deadline);
        });
    });
}

#[test]
fn a_panic_in_a_nested_section_is_told_to_the_next_owner_alone() {
    let (_name, mutex) = create("reentrant-panic");
    let outer = mutex.lock().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let inner = mutex.lock().unwrap();
        inner.set(1);
        panic!("with the lock held twice");
    }));
    assert!(panicked.is_err());
    assert!(
        mutex.lock().is_ok(),
        "the owner knows: the panic came through it"
    );
    assert_eq!(outer.depth(), 1);
    drop(outer);
    drop(
        mutex
            .lock_or_repair(|value, _| *value.get_mut() = 5)
            .unwrap(),
    );
    assert_eq!(mutex.lock().unwrap().get(), 5);
}

#[test]
fn a_repair_has_the_data_alone() {
    let (_name, mutex) = create("reentrant-repair");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = mutex.lock().unwrap();
        panic!("with the lock held");
    }));
    assert!(panicked.is_err());
    let Err(LockError::Poisoned(recover)) = mutex.lock() else {
        panic!("not reported")
    };
    assert!(matches!(mutex.lock(), Err(LockError::Deadlock)));
    let guard = recover.repair(|value| {
        assert!(matches!(mutex.try_lock(), Err(LockError::Deadlock)));
        value.set(3);
    });
    assert_eq!(mutex.lock().unwrap().get(), 3, "settled");
    assert_eq!(guard.depth(), 1);
}

#[test]
#[should_panic(expected = "only a report that is not settled")]
fn a_guard_without_a_report_gives_no_exclusive_access() {
    let mutex = ReentrantMutex::create(Region::heap(4096), 0_u32).unwrap();
    let _other = mutex.lock().unwrap();
    *mutex.lock().unwrap().data_mut() = 1;
}

#[test]
fn it_lives_in_every_place() {
    let name = UniqueName::new("reentrant-places");
    let named = ReentrantMutex::create(&*name, 7_u16).unwrap();
    let anonymous = ReentrantMutex::create(Place::anonymous(), 9_u16).unwrap();
    let fd = anonymous.segment().inheritable_fd().unwrap();
    assert_eq!(*ReentrantMutex::<u16>::open(fd).unwrap().lock().unwrap(), 9);
    let again = ReentrantMutex::open_or_create(&*name, 1_u16).unwrap();
    assert_eq!(*again.lock().unwrap(), 7);
    let other = shm_lock::Mutex::<u16>::open(&*name)
        .unwrap_err()
        .to_string();
    assert!(other.contains("kind is RMTX"), "{other}");
    named.unlink().unwrap();
    let exact = Region::heap(ReentrantMutex::<u128>::REGION_SIZE);
    let exact = ReentrantMutex::create(exact, 5_u128).unwrap();
    assert_eq!(*exact.lock().unwrap(), 5);
}
