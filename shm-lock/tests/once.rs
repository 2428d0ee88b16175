//! Once and OnceValue between living processes and threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_core::{Place, Region};
use shm_lock::{LockFailure, Once, OnceValue};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

#[test]
fn peer() {
    peer_main(&[("makes", makes as fn(&mut Peer))]);
}

/// Makes the value out of its own process id, unless another was first.
fn makes(peer: &mut Peer) {
    let value = OnceValue::<[u64; 64]>::open_or_create(&*peer.args()[0]).unwrap();
    peer.say("ready");
    peer.hear();
    let me = u64::from(std::process::id());
    let made = value.get_or_init(|| [me; 64]).unwrap();
    assert!(made.iter().all(|&word| word == made[0]), "half a value");
    peer.say(&made[0].to_string());
}

#[test]
fn one_process_makes_the_value_and_all_see_it() {
    let _watchdog = watchdog();
    for round in 0..5 {
        let name = UniqueName::new(&format!("once-{round}"));
        let mut children: Vec<_> = (0..4).map(|_| Child::spawn("makes", &[&name])).collect();
        children.iter_mut().for_each(|child| child.expect("ready"));
        children.iter_mut().for_each(|child| child.tell("go"));
        let made: Vec<_> = children.iter_mut().map(Child::hear).collect();
        assert!(made.iter().all(|pid| *pid == made[0]), "{made:?}");
        assert!(
            children
                .iter()
                .any(|child| child.pid().to_string() == made[0])
        );
        let value = OnceValue::<[u64; 64]>::open(&*name).unwrap();
        assert_eq!(value.get().unwrap()[63].to_string(), made[0]);
        value.unlink().unwrap();
    }
}

#[test]
fn threads_run_it_once_and_wait_for_it() {
    let once = Once::create(Region::heap(Once::REGION_SIZE)).unwrap();
    let runs = AtomicU32::new(0);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                once.call_once(|| {
                    std::thread::sleep(Duration::from_millis(5));
                    runs.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
                assert_eq!(runs.load(Ordering::Relaxed), 1, "not finished");
            });
        }
    });
    assert!(once.is_completed());
}

#[test]
fn a_panicking_initialiser_leaves_it_to_the_next() {
    let value = OnceValue::<u32>::create(Place::anonymous()).unwrap();
    for _ in 0..2 {
        let init = || value.get_or_init(|| panic!("half-way")).map(|_| ());
        assert!(catch_unwind(AssertUnwindSafe(init)).is_err());
        assert_eq!(value.get(), None);
    }
    assert_eq!(value.get_or_try_init(|| Err("no")).unwrap(), Err("no"));
    assert_eq!(value.get(), None);
    assert_eq!(value.get_or_init(|| 3), Ok(&3));
    assert_eq!(value.get_or_init(|| unreachable!("made")), Ok(&3));
}

#[test]
fn an_initialiser_that_asks_for_itself_is_a_deadlock() {
    let value = OnceValue::<u32>::create(Place::anonymous()).unwrap();
    let made = value.get_or_init(|| {
        assert_eq!(value.get_or_init(|| 1), Err(LockFailure::Deadlock));
        2
    });
    assert_eq!(made, Ok(&2));
}

#[test]
fn who_waits_for_another_waits_as_long_as_it_said() {
    let _watchdog = watchdog();
    let once = Once::create(Place::anonymous()).unwrap();
    once.call_once(|| {
        std::thread::scope(|s| {
            s.spawn(|| {
                let none = || unreachable!("another is at it");
                assert_eq!(once.try_call_once(none), Err(LockFailure::WouldBlock));
                let begin = Instant::now();
                let timeout = Duration::from_millis(50);
                let timed_out = once.call_once_timeout(timeout, none);
                assert!(timed_out.unwrap_err().is_timeout());
                assert!(begin.elapsed() >= timeout);
                let deadline = Instant::now() + timeout;
                let timed_out = once.call_once_deadline(deadline, none);
                assert!(timed_out.unwrap_err().is_timeout());
                assert!(Instant::now() >= deadline);
                let owner = once.inspect().owner.map(|id| id.pid());
                assert_eq!(owner, Some(std::process::id()));
            });
        });
    })
    .unwrap();
    assert!(once.is_completed());
    assert_eq!(once.try_call_once(|| unreachable!("done")), Ok(()));
}

#[test]
fn an_initialiser_that_may_fail_is_waited_for_as_long_as_was_said() {
    let _watchdog = watchdog();
    let once = OnceValue::<u32>::create(Place::anonymous()).unwrap();
    let timeout = Duration::from_millis(50);
    let failed = once.get_or_try_init_timeout(timeout, || Err("no"));
    assert_eq!(failed, Ok(Err("no")), "left to the next");
    let init = || {
        std::thread::scope(|s| {
            s.spawn(|| {
                let none = || -> Result<u32, ()> { unreachable!("another is at it") };
                let timed_out = once.get_or_try_init_timeout(timeout, none);
                assert!(timed_out.unwrap_err().is_timeout());
                let timed_out = once.get_or_try_init_deadline(Instant::now(), none);
                assert!(timed_out.unwrap_err().is_timeout());
            });
        });
        Ok::<_, ()>(7)
    };
    assert_eq!(
        once.get_or_try_init_deadline(Instant::now(), init),
        Ok(Ok(&7))
    );
}

#[test]
fn a_read_only_attachment_reads_and_does_not_make() {
    let name = UniqueName::new("once-read-only");
    let value = OnceValue::<u64>::create(&*name).unwrap();
    let reader = OnceValue::<u64>::open_read_only(&*name).unwrap();
    assert_eq!(reader.get(), None);
    assert_eq!(reader.get_or_init(|| 1), Err(LockFailure::ReadOnly));
    value.get_or_init(|| 5).unwrap();
    assert_eq!(reader.get(), Some(&5));
    assert_eq!(reader.get_or_init(|| 1), Ok(&5));
}

#[test]
fn it_lives_in_every_place() {
    let name = UniqueName::new("once-places");
    let named = OnceValue::<u16>::create(&*name).unwrap();
    assert_eq!(named.get_or_init(|| 7), Ok(&7));
    let again = OnceValue::<u16>::open_or_create(&*name).unwrap();
    assert_eq!(again.get(), Some(&7));
    assert!(OnceValue::<i16>::open(&*name).is_err());
    assert!(Once::open(&*name).is_err());
    named.unlink().unwrap();
    let anonymous = Once::create(Place::anonymous()).unwrap();
    anonymous.call_once(|| ()).unwrap();
    let fd = anonymous.segment().inheritable_fd().unwrap();
    assert!(Once::open(fd).unwrap().is_completed());
    let exact = Region::heap(OnceValue::<u128>::REGION_SIZE);
    let exact = OnceValue::<u128>::create(exact).unwrap();
    assert_eq!(exact.get_or_init(|| 5), Ok(&5));
}
