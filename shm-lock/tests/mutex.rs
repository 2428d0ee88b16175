//! The mutex between living processes and threads. The first tests keep the names and the sense of
//! `_TestLock` in CPython's suite for multiprocessing.

use shm_core::{Place, Region};
use shm_lock::{LockError, Mutex};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

#[test]
fn peer() {
    peer_main(&[("adds", adds as fn(&mut Peer)), ("tries", tries)]);
}

fn adds(peer: &mut Peer) {
    let mutex = Mutex::<[u64; 2]>::open(&peer.args()[0]).unwrap();
    peer.say("ready");
    peer.hear();
    for _ in 0..20_000 {
        let mut pair = mutex.lock().unwrap();
        pair[0] += 1;
        pair[1] = pair[0] * 3;
    }
    peer.say("done");
}

fn tries(peer: &mut Peer) {
    let mutex = Mutex::<u32>::open(&peer.args()[0]).unwrap();
    peer.say(if mutex.try_lock().is_ok() {
        "free"
    } else {
        "held"
    });
}

/// acquire -> True; second acquire(False) -> False; release. (To release what is not held cannot be
/// written here: only the guard releases.)
#[test]
fn test_lock() {
    let _watchdog = watchdog();
    let name = UniqueName::new("test-lock");
    let lock = Mutex::create(&*name, 0_u32).unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    assert!(
        matches!(lock.lock(), Err(LockError::Deadlock)),
        "would wait for itself"
    );
    Child::spawn("tries", &[&name]).expect("held");
    drop(guard);
    Child::spawn("tries", &[&name]).expect("free");
}

/// Usable as a guard: the scope ends, the lock is free.
#[test]
fn test_lock_context() {
    let _watchdog = watchdog();
    let name = UniqueName::new("lock-context");
    let lock = Mutex::create(&*name, 0_u32).unwrap();
    {
        let mut guard = lock.lock().unwrap();
        *guard += 1;
        Child::spawn("tries", &[&name]).expect("held");
    }
    Child::spawn("tries", &[&name]).expect("free");
    assert_eq!(*lock.try_lock().unwrap(), 1);
}

#[test]
fn no_update_is_lost_between_processes() {
    let _watchdog = watchdog();
    let name = UniqueName::new("counter");
    let mutex = Mutex::create(&*name, [0_u64, 0]).unwrap();
    let mut children: Vec<Child> = (0..4).map(|_| Child::spawn("adds", &[&name])).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    children.iter_mut().for_each(|child| child.tell("go"));
    children.iter_mut().for_each(|child| child.expect("done"));
    assert_eq!(*mutex.lock().unwrap(), [80_000, 240_000]);
    let idle = mutex.inspect();
    assert_eq!((idle.owner, idle.waiters, idle.deaths), (None, 0, 0));
}

#[test]
fn no_update_is_lost_between_threads_and_handles() {
    let region = Region::heap(4096);
    let mutex = Mutex::create(region.clone(), 0_u64).unwrap();
    std::thread::scope(|s| {
        for _ in 0..4 {
            let handle = Mutex::<u64>::open(region.clone()).unwrap();
            s.spawn(move || (0..10_000).for_each(|_| *handle.lock().unwrap() += 1));
        }
    });
    assert_eq!(*mutex.lock().unwrap(), 40_000);
}

#[test]
fn a_panic_poisons_and_a_repair_cures() {
    let mutex = Mutex::create(Region::heap(4096), 1_u32).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut value = mutex.lock().unwrap();
        *value = 2;
        panic!("with the lock held");
    }));
    assert!(panicked.is_err());
    assert!(matches!(mutex.lock(), Err(LockError::Poisoned(recover)) if *recover == 2));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(mutex.lock_or_repair(|_, _| panic!("in the repair")));
    }));
    assert!(again.is_err());
    drop(mutex.lock_or_repair(|value, _| *value = 3).unwrap());
    assert_eq!(*mutex.lock().unwrap(), 3);
}

#[test]
fn a_guard_dropped_by_a_panic_that_began_before_it_does_not_poison() {
    struct LocksWhileUnwinding<'a>(&'a Mutex<u32>);
    impl Drop for LocksWhileUnwinding<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::create(Region::heap(4096), 0_u32).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _locks = LocksWhileUnwinding(&mutex);
        panic!("unrelated");
    }));
    assert!(panicked.is_err());
    assert_eq!(*mutex.lock().unwrap(), 1);
}

#[test]
fn it_lives_in_every_place() {
    let name = UniqueName::new("places");
    let path = std::env::temp_dir().join(&*name);
    let named = Mutex::create(&*name, 7_u16).unwrap();
    let file = Mutex::create(Place::file(&path), 8_u16).unwrap();
    let anonymous = Mutex::create(Place::anonymous(), 9_u16).unwrap();
    let fd = anonymous.segment().inheritable_fd().unwrap();
    assert_eq!(*Mutex::<u16>::open(&*name).unwrap().lock().unwrap(), 7);
    assert_eq!(
        *Mutex::<u16>::open(Place::file(&path))
            .unwrap()
            .lock()
            .unwrap(),
        8
    );
    assert_eq!(*Mutex::<u16>::open(fd).unwrap().lock().unwrap(), 9);
    assert_eq!(
        *Mutex::open_or_create(&*name, 1_u16)
            .unwrap()
            .lock()
            .unwrap(),
        7
    );
    named.unlink().unwrap();
    file.unlink().unwrap();
    let exact = Region::heap(Mutex::<u128>::REGION_SIZE);
    assert_eq!(*Mutex::create(exact, 5_u128).unwrap().lock().unwrap(), 5);
}

#[test]
fn types_of_high_alignment_are_placed_well_or_refused() {
    #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, Debug, PartialEq)]
    #[repr(C, align(256))]
    struct Wide([u8; 256]);
    let mutex = Mutex::create(Place::anonymous(), Wide([3; 256])).unwrap();
    assert_eq!(*mutex.lock().unwrap(), Wide([3; 256]));
    assert_eq!(std::ptr::from_ref(&*mutex.lock().unwrap()).addr() % 256, 0);
    let region = Region::heap(8192).part(64, 4096).unwrap();
    let error = Mutex::create(region, Wide([3; 256])).unwrap_err();
    assert!(
        matches!(error, shm_core::Error::Misaligned { align: 256, .. }),
        "{error}"
    );
}

#[test]
fn plain_writes_do_not_reach_a_lock_and_its_data() {
    let name = UniqueName::new("plain");
    let mutex = Mutex::create(&*name, 1_u64).unwrap();
    let guard = mutex.lock().unwrap();
    for offset in [0, 24, 48] {
        assert!(mutex.segment().write(offset, &[0x41; 8]).is_err());
    }
    assert_eq!(*guard, 1);
}
