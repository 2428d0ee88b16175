//! Atomic arrays between processes, and waiting for an atomic value.

use std::time::{Duration, Instant};

use shm_core::{Error, Place, Region};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};
use shm_value::{AtomicArray, AtomicValue, ValueError};

#[test]
fn peer() {
    peer_main(&[
        ("adds", adds as fn(&mut Peer)),
        ("waits", waits),
        ("waits read-only", waits_read_only),
        ("passes the ball", passes_the_ball),
    ]);
}

fn adds(peer: &mut Peer) {
    let array = AtomicArray::<u64>::open(&peer.args()[0]).unwrap();
    peer.say("ready");
    peer.hear();
    for round in 0..30_000 {
        array.element(round % array.len()).unwrap().fetch_add(1);
    }
    peer.say("done");
}

fn waits(peer: &mut Peer) {
    let value = AtomicValue::<u32>::open(&peer.args()[0]).unwrap();
    peer.say("waiting");
    peer.say(&value.wait(0).to_string());
}

fn waits_read_only(peer: &mut Peer) {
    let value = AtomicValue::<u32>::open_read_only(&*peer.args()[0]).unwrap();
    peer.say("waiting");
    peer.say(&value.wait(0).to_string());
}

fn passes_the_ball(peer: &mut Peer) {
    let value = AtomicValue::<u32>::open(&peer.args()[0]).unwrap();
    for round in 0..300 {
        assert_eq!(value.wait(2 * round), 2 * round + 1);
        value.store(2 * round + 2);
        value.notify_one();
    }
    peer.say("done");
}

#[test]
fn no_update_of_any_element_is_lost() {
    let _watchdog = watchdog();
    let name = UniqueName::new("atomic-array");
    let array = AtomicArray::<u64>::zeroed(&*name, 5).unwrap();
    let mut children: Vec<_> = (0..3).map(|_| Child::spawn("adds", &[&name])).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    children.iter_mut().for_each(|child| child.tell("go"));
    children.iter_mut().for_each(|child| child.expect("done"));
    assert_eq!(array.to_vec(), [18_000; 5]);
}

#[test]
fn every_operation_works_on_its_element_alone() {
    let array = AtomicArray::create(Place::anonymous(), &[1.5_f32, -2.0, 0.25]).unwrap();
    let middle = array.element(1).unwrap();
    assert_eq!(middle.swap(3.0), -2.0);
    assert_eq!(middle.compare_exchange(4.0, 5.0), Err(3.0));
    assert_eq!(middle.compare_exchange(3.0, 5.0), Ok(3.0));
    assert_eq!(middle.fetch_add(0.5), 5.0);
    assert_eq!(middle.fetch_sub(1.5), 5.5);
    assert_eq!(middle.fetch_update(|seen| Some(seen * 2.0)), Ok(4.0));
    assert_eq!(middle.fetch_update(|_| None), Err(8.0));
    array.store(2, 7.0).unwrap();
    assert_eq!(array.to_vec(), [1.5, 8.0, 7.0]);
    for element in array.elements() {
        element.store(0.0);
    }
    assert!(array.iter().all(|element| element == 0.0));
    let out = ValueError::OutOfRange { index: 3, len: 3 };
    assert_eq!(array.load(3), Err(out));
    assert_eq!(array.store(3, 0.0), Err(out));
    assert!(array.element(usize::MAX).is_err());
}

#[test]
fn it_lives_in_every_place_and_is_opened_as_what_it_is() {
    let name = UniqueName::new("atar-places");
    let array = AtomicArray::create(&*name, &[true, false, true]).unwrap();
    let reader = AtomicArray::<bool>::open_read_only(&*name).unwrap();
    array.store(1, true).unwrap();
    assert_eq!(reader.to_vec(), [true; 3]);
    assert!(AtomicArray::<u8>::open(&*name).is_err());
    assert!(AtomicArray::<bool>::open_or_create(&*name, 3).is_ok());
    let other = AtomicArray::<bool>::open_or_create(&*name, 4).unwrap_err();
    assert!(matches!(other, Error::Mismatch { .. }), "{other}");
    for wrong in [4_u64, 1 << 61, u64::MAX] {
        array.segment().write(0, &wrong.to_ne_bytes()).unwrap();
        let error = AtomicArray::<bool>::open(&*name).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{wrong}: {error}");
    }
    array.unlink().unwrap();
    let exact = Region::heap(AtomicArray::<i64>::region_size(7).unwrap());
    let exact = AtomicArray::<i64>::zeroed(exact, 7).unwrap();
    assert_eq!(exact.to_vec(), [0; 7]);
    assert!(
        AtomicArray::<i64>::zeroed(Place::anonymous(), 0)
            .unwrap()
            .is_empty()
    );
    assert_eq!(AtomicArray::<i64>::region_size(usize::MAX), None);
}

#[test]
fn a_waiter_sees_the_change_it_is_told_of() {
    let _watchdog = watchdog();
    let name = UniqueName::new("wait");
    let value = AtomicValue::create(&*name, 0_u32).unwrap();
    let mut waiting: Vec<_> = ["waits", "waits read-only", "waits"]
        .into_iter()
        .map(|role| Child::spawn(role, &[&name]))
        .collect();
    waiting.iter_mut().for_each(|child| child.expect("waiting"));
    let limit = Duration::from_secs(20);
    assert!(shm_testing::wait_until(|| value.waiters() == 3, limit));
    value.store(7);
    value.notify_all();
    waiting.iter_mut().for_each(|child| child.expect("7"));
    assert_eq!(value.notify_all(), 0, "nobody is left");
    assert!(!value.notify_one());
}

#[test]
fn a_ball_goes_to_and_fro() {
    let _watchdog = watchdog();
    let name = UniqueName::new("ball");
    let value = AtomicValue::create(&*name, 0_u32).unwrap();
    let mut peer = Child::spawn("passes the ball", &[&name]);
    for round in 0..300 {
        value.store(2 * round + 1);
        value.notify_one();
        assert_eq!(value.wait(2 * round + 1), 2 * round + 2);
    }
    peer.expect("done");
}

#[test]
fn a_wait_that_times_out_is_not_early() {
    let value = AtomicValue::create(Region::heap(4096), f64::NAN).unwrap();
    let timeout = Duration::from_millis(40);
    let begin = Instant::now();
    let none = value.wait_timeout(f64::NAN, timeout);
    assert!(none.unwrap_err().is_timeout(), "a NaN is itself");
    assert!(begin.elapsed() >= timeout);
    let deadline = Instant::now() + timeout;
    assert!(value.wait_deadline(f64::NAN, deadline).is_err());
    assert!(Instant::now() >= deadline);
    assert!(value.wait_timeout(0.0, Duration::ZERO).unwrap().is_nan());
}
