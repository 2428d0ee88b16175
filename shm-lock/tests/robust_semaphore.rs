//! The robust semaphore between living processes and threads. The first tests keep the names and the
//! sense of `_TestSemaphore` in CPython's suite for multiprocessing, as far as they apply: permits
//! belong to their holders here.

use std::time::{Duration, Instant};

use shm_core::{Error, Place, Region};
use shm_lock::{CreateError, LockFailure, RobustSemaphore};
use shm_testing::{
    Child, Peer, UniqueName, eventually, peer_main, until_thread_asleep_in_futex, watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("passes", passes as fn(&mut Peer)),
        ("waits", waits),
        ("times out", times_out),
    ]);
}

/// Passes in and out, and counts who is inside by the permits' own numbers.
fn passes(peer: &mut Peer) {
    let semaphore = RobustSemaphore::open(&peer.args()[0]).unwrap();
    let places = shm_core::Segment::open(&*peer.args()[1], 3 * 8).unwrap();
    peer.say("ready");
    for _ in 0..3_000 {
        let permit = semaphore.acquire().unwrap();
        let mut seen = [0; 8];
        let at = permit.index() * 8;
        places.read(at, &mut seen).unwrap();
        assert_eq!(seen, [0; 8], "somebody else has this permit");
        places.write(at, &[1; 8]).unwrap();
        places.write(at, &[0; 8]).unwrap();
    }
    peer.say("done");
}

fn waits(peer: &mut Peer) {
    let semaphore = RobustSemaphore::open(&peer.args()[0]).unwrap();
    peer.say("waiting");
    let _permit = semaphore.acquire().unwrap();
    peer.say("acquired");
    peer.hear();
}

/// Waits for 150 ms in vain.
fn times_out(peer: &mut Peer) {
    let semaphore = RobustSemaphore::open(&peer.args()[0]).unwrap();
    let (begin, timeout) = (Instant::now(), Duration::from_millis(150));
    let timed_out = semaphore.acquire_timeout(timeout).unwrap_err();
    assert_eq!(timed_out, LockFailure::Timeout);
    assert!(begin.elapsed() >= timeout);
    peer.say("timed out");
}

/// Value 2: two processes acquire, a third time nobody does. (Releasing above the start cannot be written.)
#[test]
fn test_semaphore() {
    let _watchdog = watchdog();
    let name = UniqueName::new("test-semaphore");
    let semaphore = RobustSemaphore::create(&*name, 2).unwrap();
    assert_eq!((semaphore.permits(), semaphore.available()), (2, 2));
    let first = semaphore.acquire().unwrap();
    assert_eq!(semaphore.available(), 1);
    let mut other = Child::spawn("waits", &[&name]);
    other.expect("waiting");
    other.expect("acquired");
    assert_eq!(semaphore.available(), 0);
    assert_eq!(
        semaphore.try_acquire().unwrap_err(),
        LockFailure::WouldBlock
    );
    drop(first);
    assert_eq!(semaphore.available(), 1);
    let second = semaphore.try_acquire().unwrap();
    Child::spawn("times out", &[&name]).expect("timed out");
    drop(second);
    other.tell("end");
    assert!(other.wait().success());
    assert_eq!(semaphore.available(), 2);
}

/// A timeout is not early.
#[test]
fn test_timeout() {
    let _watchdog = watchdog();
    let semaphore = RobustSemaphore::create(Region::heap(4096), 1).unwrap();
    let _permit = semaphore.acquire().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let begin = Instant::now();
            let timeout = Duration::from_millis(60);
            assert!(semaphore.acquire_timeout(timeout).unwrap_err().is_timeout());
            assert!(begin.elapsed() >= timeout);
            let deadline = Instant::now() + timeout;
            assert!(
                semaphore
                    .acquire_deadline(deadline)
                    .unwrap_err()
                    .is_timeout()
            );
            assert!(Instant::now() >= deadline);
            assert!(semaphore.acquire_deadline(begin).unwrap_err().is_timeout());
        });
    });
}

#[test]
fn no_permit_is_held_twice() {
    let _watchdog = watchdog();
    let name = UniqueName::new("permits");
    let places = UniqueName::new("places");
    let semaphore = RobustSemaphore::create(&*name, 3).unwrap();
    let _places = shm_core::Segment::create(&*places, 3 * 8).unwrap();
    let mut children: Vec<_> = (0..5)
        .map(|_| Child::spawn("passes", &[&name, &places]))
        .collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    children.iter_mut().for_each(|child| child.expect("done"));
    assert_eq!(semaphore.available(), 3);
    let idle = semaphore.inspect();
    assert_eq!((idle.waiters, idle.deaths, idle.holders.len()), (0, 0, 0));
}

#[test]
fn each_permit_given_back_lets_one_in() {
    let _watchdog = watchdog();
    let name = UniqueName::new("line");
    let semaphore = RobustSemaphore::create(&*name, 2).unwrap();
    let mut permits = vec![semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
    let mut waiting: Vec<_> = (0..2).map(|_| Child::spawn("waits", &[&name])).collect();
    for child in &mut waiting {
        child.expect("waiting");
        let tid = child.tid();
        until_thread_asleep_in_futex(child.pid(), tid);
    }
    eventually(|| semaphore.inspect().waiters == 2);
    let seen = semaphore.inspect();
    assert_eq!(seen.holders.len(), 2);
    let me = std::process::id();
    let mine = |holder: &shm_lock::Inspection| holder.owner.is_some_and(|id| id.pid() == me);
    assert!(seen.holders.iter().all(mine));
    let nobody_for_this =
        |holder: &shm_lock::Inspection| (holder.since, holder.waiters) == (None, 0);
    assert!(seen.holders.iter().all(nobody_for_this));
    permits.pop();
    assert!(shm_testing::wait_until(
        || semaphore.inspect().waiters == 1,
        Duration::from_secs(20)
    ));
    permits.pop();
    waiting
        .iter_mut()
        .for_each(|child| child.expect("acquired"));
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn a_thread_with_all_permits_does_not_wait_for_itself() {
    let semaphore = RobustSemaphore::create(Region::heap(4096), 2).unwrap();
    let _permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
    assert_eq!(semaphore.acquire().unwrap_err(), LockFailure::Deadlock);
    assert_eq!(
        semaphore.try_acquire().unwrap_err(),
        LockFailure::WouldBlock
    );
}

#[test]
fn a_number_of_permits_is_checked() {
    let of = |permits| RobustSemaphore::create(Place::anonymous(), permits);
    assert!(matches!(of(0), Err(CreateError::Zero)));
    let most = RobustSemaphore::MAX_PERMITS;
    assert!(matches!(of(most + 1), Err(CreateError::TooMany { .. })));
    let largest = of(most).unwrap();
    let permits: Vec<_> = (0..most).map(|_| largest.acquire().unwrap()).collect();
    assert_eq!(largest.available(), 0);
    drop(permits);
    assert_eq!(largest.available(), most);
    for wrong in [0_u32, most + 1, u32::MAX] {
        let fd = largest.segment().inheritable_fd().unwrap();
        let file = std::fs::File::from(fd.try_clone().unwrap());
        std::os::unix::fs::FileExt::write_all_at(&file, &wrong.to_ne_bytes(), 4096 + 60).unwrap();
        let error = RobustSemaphore::open(fd).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{wrong}: {error}");
    }
}

#[test]
fn it_lives_in_every_place() {
    let name = UniqueName::new("rsem-places");
    let named = RobustSemaphore::create(&*name, 7).unwrap();
    let anonymous = RobustSemaphore::create(Place::anonymous(), 9).unwrap();
    let fd = anonymous.segment().inheritable_fd().unwrap();
    assert_eq!(RobustSemaphore::open(fd).unwrap().permits(), 9);
    let again = RobustSemaphore::open_or_create(&*name, 1).unwrap();
    assert_eq!(again.permits(), 7, "the first one said how many");
    let other = shm_lock::Mutex::<u8>::open(&*name).unwrap_err().to_string();
    assert!(other.contains("kind is RSEM"), "{other}");
    named.unlink().unwrap();
    let exact = Region::heap(RobustSemaphore::region_size(5));
    let exact = RobustSemaphore::create(exact, 5).unwrap();
    assert_eq!(exact.available(), 5);
}
