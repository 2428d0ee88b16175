//! Semaphores between living processes. The modules and tests with CPython's names keep the sense of
//! `_TestSemaphore` in its suite for multiprocessing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shm_core::{Error, Place, Region, recv_fd, send_fd};
use shm_lock::{AcquireError, BoundedSemaphore, CreateError, Mutex, ReleaseError, Semaphore};
use shm_testing::{
    Child, Peer, UniqueName, eventually, peer_main, until_thread_asleep_in_futex, watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("acquires", acquires as fn(&mut Peer)),
        ("adds", adds),
        ("releases three", releases_three),
        ("does as told", does_as_told),
        ("does as told, bounded", does_as_told_bounded),
        ("times out", times_out),
    ]);
}

fn acquires(peer: &mut Peer) {
    let semaphore = Semaphore::open(&peer.args()[0]).unwrap();
    peer.say("waiting");
    semaphore.acquire().forget();
    peer.say("acquired");
}

/// Adds to a pair of numbers that the one permit protects.
fn adds(peer: &mut Peer) {
    let semaphore = Semaphore::open(&peer.args()[0]).unwrap();
    let inside = Mutex::<[u64; 2]>::open(&peer.args()[1]).unwrap();
    peer.say("ready");
    peer.hear();
    for _ in 0..5_000 {
        let _permit = semaphore.acquire();
        let before = *inside.lock().unwrap();
        *inside.lock().unwrap() = [before[0] + 1, before[1] + 2];
    }
    peer.say("done");
}

fn releases_three(peer: &mut Peer) {
    Semaphore::open(&peer.args()[0])
        .unwrap()
        .release(3)
        .unwrap();
    peer.say("done");
}

fn does_as_told(peer: &mut Peer) {
    let semaphore = Semaphore::open(&peer.args()[0]).unwrap();
    let acquire = || {
        semaphore
            .try_acquire()
            .map(|permit| permit.forget())
            .is_ok()
    };
    let release = || semaphore.release(1).is_ok();
    obey(peer, acquire, release, || semaphore.inspect().permits);
}

fn does_as_told_bounded(peer: &mut Peer) {
    let semaphore = BoundedSemaphore::open(&peer.args()[0]).unwrap();
    let acquire = || {
        semaphore
            .try_acquire()
            .map(|permit| permit.forget())
            .is_ok()
    };
    let release = || semaphore.release(1).is_ok();
    obey(peer, acquire, release, || semaphore.inspect().permits);
}

/// Tries to acquire or to release whenever it is told, and says whether it could, and how many are free then.
fn obey(
    peer: &mut Peer,
    acquire: impl Fn() -> bool,
    release: impl Fn() -> bool,
    value: impl Fn() -> u32,
) {
    loop {
        let could = match &*peer.hear() {
            "acquire" => acquire(),
            "release" => release(),
            _ => return,
        };
        peer.say(&format!("{could} {}", value()));
    }
}

/// Waits for as many milliseconds as it is told, in vain.
fn times_out(peer: &mut Peer) {
    let semaphore = Semaphore::open(&peer.args()[0]).unwrap();
    let timeout = Duration::from_millis(peer.args()[1].parse().unwrap());
    let begin = Instant::now();
    let timed_out = semaphore.acquire_timeout(timeout).unwrap_err();
    assert_eq!(timed_out, AcquireError::Timeout);
    assert!(begin.elapsed() >= timeout);
    peer.say("timed out");
}

fn told(peer: &mut Child, what: &str, said: &str) {
    peer.tell(what);
    peer.expect(said);
}

/// Two processes: each takes a permit, neither gets a third, and each gives back.
mod cpython_test_semaphore {
    use super::*;

    #[test]
    fn test_semaphore() {
        let _watchdog = watchdog();
        let name = UniqueName::new("test-semaphore");
        let semaphore = Semaphore::create(&*name, 2).unwrap();
        let mut other = Child::spawn("does as told", &[&name]);
        let value = || semaphore.inspect().permits;
        assert_eq!(value(), 2);
        semaphore.try_acquire().unwrap().forget();
        assert_eq!(value(), 1);
        told(&mut other, "acquire", "true 0");
        assert_eq!(value(), 0);
        assert_eq!(
            semaphore.try_acquire().unwrap_err(),
            AcquireError::WouldBlock
        );
        told(&mut other, "acquire", "false 0");
        // Above the start is allowed.
        for expected in [1, 3] {
            semaphore.release(1).unwrap();
            assert_eq!(value(), expected);
            told(&mut other, "release", &format!("true {}", expected + 1));
        }
    }

    #[test]
    fn test_bounded_semaphore() {
        let _watchdog = watchdog();
        let name = UniqueName::new("test-bounded");
        let semaphore = BoundedSemaphore::create(&*name, 2).unwrap();
        let mut other = Child::spawn("does as told, bounded", &[&name]);
        let value = || semaphore.inspect().permits;
        semaphore.acquire().forget();
        told(&mut other, "acquire", "true 0");
        assert!(semaphore.try_acquire().is_err());
        told(&mut other, "acquire", "false 0");
        semaphore.release(2).unwrap();
        assert_eq!(value(), 2);
        let refused = semaphore.release(1).unwrap_err();
        let expected = ReleaseError::TooManyPermits {
            released: 1,
            permits: 2,
            max: 2,
        };
        assert_eq!(refused, expected);
        told(&mut other, "release", "false 2");
        semaphore.acquire().forget();
        assert!(semaphore.release(2).is_err(), "all or nothing");
        assert_eq!(value(), 1);
        told(&mut other, "release", "true 2");
    }

    #[test]
    fn test_timeout() {
        let _watchdog = watchdog();
        let name = UniqueName::new("test-timeout");
        let semaphore = Semaphore::create(&*name, 0).unwrap();
        let begin = Instant::now();
        assert!(semaphore.try_acquire().is_err());
        let timeout = Duration::from_millis(150);
        let timed_out = semaphore.acquire_timeout(timeout).unwrap_err();
        assert_eq!(timed_out, AcquireError::Timeout);
        assert!(begin.elapsed() >= timeout);
        let deadline = Instant::now() + timeout;
        assert!(semaphore.acquire_deadline(deadline).is_err());
        assert!(Instant::now() >= deadline);
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_err());
        Child::spawn("times out", &[&name, "150"]).expect("timed out");

        // A permit that another process gives while this one waits.
        let mut other = Child::spawn("releases three", &[&name]);
        semaphore.acquire_timeout(Duration::MAX).unwrap().forget();
        other.expect("done");
        let late = semaphore.acquire_timeout(Duration::ZERO);
        assert!(late.is_ok(), "a permit that is there needs no time");
    }
}

#[test]
fn one_permit_excludes_processes() {
    let _watchdog = watchdog();
    let (name, data) = (UniqueName::new("exclude"), UniqueName::new("data"));
    let _semaphore = Semaphore::create(&*name, 1).unwrap();
    let pair = Mutex::create(&*data, [0_u64; 2]).unwrap();
    let mut peers: Vec<_> = (0..4)
        .map(|_| Child::spawn("adds", &[&name, &data]))
        .collect();
    peers.iter_mut().for_each(|peer| peer.expect("ready"));
    peers.iter_mut().for_each(|peer| peer.tell("go"));
    peers.iter_mut().for_each(|peer| peer.expect("done"));
    assert_eq!(*pair.lock().unwrap(), [20_000, 40_000]);
}

#[test]
fn one_release_of_three_wakes_three_processes() {
    let _watchdog = watchdog();
    let name = UniqueName::new("three");
    let semaphore = Semaphore::create(&*name, 0).unwrap();
    let mut peers: Vec<_> = (0..4).map(|_| Child::spawn("acquires", &[&name])).collect();
    for peer in &mut peers {
        peer.expect("waiting");
        let tid = peer.tid();
        until_thread_asleep_in_futex(peer.pid(), tid);
    }
    eventually(|| semaphore.inspect().waiters == 4);
    Child::spawn("releases three", &[&name]).expect("done");
    let mut without = || {
        peers.retain_mut(|peer| {
            peer.try_expect("acquired", Duration::from_millis(300))
                .is_err()
        });
        peers.len()
    };
    eventually(|| without() <= 1);
    assert_eq!(without(), 1);
    assert_eq!(semaphore.inspect().permits, 0);
}

#[test]
fn no_more_than_the_permits_are_inside_at_once() {
    let _watchdog = watchdog();
    let semaphore = Semaphore::create(Region::heap(4096), 3).unwrap();
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let _permit = semaphore.acquire();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::hint::spin_loop();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert_eq!(semaphore.inspect().permits, 3);
}

#[test]
fn impossible_counts_are_refused() {
    let region = || Region::heap(4096);
    let most = Semaphore::MAX_PERMITS;
    assert!(matches!(
        Semaphore::create(region(), most + 1),
        Err(CreateError::TooMany { .. })
    ));
    assert!(matches!(
        BoundedSemaphore::create(region(), 0),
        Err(CreateError::Zero)
    ));
    assert!(matches!(
        BoundedSemaphore::create(region(), u32::MAX),
        Err(CreateError::TooMany { .. })
    ));
    let full = Semaphore::create(region(), most).unwrap();
    assert!(matches!(
        full.release(1),
        Err(ReleaseError::TooManyPermits { .. })
    ));
    assert!(matches!(
        full.release(u32::MAX),
        Err(ReleaseError::TooManyPermits { .. })
    ));
    assert_eq!(full.release(0), Err(ReleaseError::ZeroPermits));
    assert_eq!(full.inspect().permits, most);
    drop(full.acquire());
    assert_eq!(full.inspect().permits, most);
}

#[test]
fn it_lives_by_name_without_a_name_and_in_a_region() {
    let name = UniqueName::new("places");
    let named = Semaphore::open_or_create(&*name, 5).unwrap();
    let again = Semaphore::open_or_create(&*name, 7).unwrap();
    assert_eq!(again.inspect().permits, 5, "the first one's permits");
    named.acquire().forget();
    assert_eq!(again.inspect().permits, 4);
    assert!(format!("{again:?}").contains("permits: 4"), "{again:?}");
    assert!(BoundedSemaphore::open(&*name).is_err(), "another kind");
    named.unlink().unwrap();
    assert!(Semaphore::open(&*name).is_err());

    let anonymous = BoundedSemaphore::create(Place::anonymous(), 1).unwrap();
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    send_fd(&here, anonymous.segment()).unwrap();
    let handed_over = BoundedSemaphore::open(recv_fd(&there).unwrap()).unwrap();
    let permit = anonymous.acquire();
    assert!(handed_over.try_acquire().is_err());
    drop(permit);
    assert!(handed_over.try_acquire().is_ok());

    let region = Region::heap(Semaphore::REGION_SIZE);
    let placed = Semaphore::create(region.clone(), 1).unwrap();
    let _permit = placed.acquire();
    assert!(Semaphore::open(region).unwrap().try_acquire().is_err());
}

#[test]
fn a_permit_may_end_in_another_thread() {
    let semaphore = BoundedSemaphore::create(Region::heap(4096), 1).unwrap();
    let permit = semaphore.acquire();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(permit));
    });
    assert!(semaphore.try_acquire().is_ok());
}

/// The file of a semaphore, whose word and maximum begin its second page.
fn bytes_of(name: &UniqueName) -> File {
    OpenOptions::new().write(true).open(name.path()).unwrap()
}

#[test]
fn permits_that_cannot_be_are_corrupt() {
    let name = UniqueName::new("corrupt-permits");
    let _semaphore = BoundedSemaphore::create(&*name, 2).unwrap();
    let file = bytes_of(&name);
    for (free, max) in [(3_u32, 2_u32), (1, 0), (1, 1 << 31), (u32::MAX, u32::MAX)] {
        file.write_all_at(&free.to_ne_bytes(), 4096).unwrap();
        file.write_all_at(&max.to_ne_bytes(), 4100).unwrap();
        let error = BoundedSemaphore::open(&*name).unwrap_err();
        assert!(
            matches!(error, Error::Corrupt { .. }),
            "{free} of {max}: {error}"
        );
    }
    let name = UniqueName::new("corrupt-permits");
    let semaphore = Semaphore::create(&*name, 2).unwrap();
    bytes_of(&name).write_all_at(&[0; 4], 4100).unwrap();
    assert!(matches!(
        Semaphore::open(&*name),
        Err(Error::Corrupt { .. })
    ));
    assert_eq!(semaphore.inspect().permits, 2);
}

/// Bytes that change after the handle was made: the count stays within its bits, and nothing panics.
#[test]
fn a_release_never_carries_into_the_bit_of_the_waiters() {
    let name = UniqueName::new("carry");
    let semaphore = Semaphore::create(&*name, 0).unwrap();
    bytes_of(&name).write_all_at(&[0xFF; 8], 4096).unwrap();
    assert!(matches!(
        semaphore.release(1),
        Err(ReleaseError::TooManyPermits { max, .. }) if max == Semaphore::MAX_PERMITS
    ));
    assert_eq!(semaphore.inspect().permits, Semaphore::MAX_PERMITS);
}
