//! What the death of a process leaves of values and arrays: one test for each row of
//! docs/peer-death.md.

use std::time::Duration;

use shm_core::Region;
use shm_lock::{Cause, LockError};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};
use shm_value::{Array, AtomicValue, Value, ValueError};

#[test]
fn peer() {
    peer_main(&[
        ("changes the value", changes_the_value as fn(&mut Peer)),
        ("changes the array", changes_the_array),
        ("writes without pause", writes_without_pause),
    ]);
}

fn changes_the_value(peer: &mut Peer) {
    let value = Value::<[u64; 8]>::open(&peer.args()[0]).unwrap();
    let mut guard = value.lock().unwrap();
    *guard = [7; 8];
    peer.say("holding");
    peer.hear();
}

fn changes_the_array(peer: &mut Peer) {
    let array = Array::<u32>::open(&peer.args()[0]).unwrap();
    let mut guard = array.lock().unwrap();
    guard[0] = 7;
    peer.say("holding");
    peer.hear();
}

fn writes_without_pause(peer: &mut Peer) {
    let value = Value::<[u64; 8]>::open(&peer.args()[0]).unwrap();
    peer.say("writing");
    let mut n = 0;
    loop {
        value.set([n; 8]).unwrap();
        n += 1;
    }
}

#[test]
fn a_writer_killed_with_the_guard_leaves_the_old_value_and_a_free_lock() {
    let _watchdog = watchdog();
    let name = UniqueName::new("guard");
    let value = Value::create(&*name, [1_u64; 8]).unwrap();
    let mut writer = Child::spawn("changes the value", &[&name]);
    writer.expect("holding");
    assert_eq!(value.get(), Ok([1; 8]));
    assert!(matches!(
        value.lock_timeout(Duration::ZERO),
        Err(ValueError::Timeout)
    ));
    writer.kill_unreaped();
    assert_eq!(value.update(|v| std::mem::replace(v, [2; 8])), Ok([1; 8]));
    assert_eq!(value.get(), Ok([2; 8]));
    assert_eq!(value.inspect().deaths, 1);
}

#[test]
fn readers_see_whole_values_while_writers_are_killed() {
    let _watchdog = watchdog();
    let name = UniqueName::new("whole");
    let value = Value::create(&*name, [0_u64; 8]).unwrap();
    let reader = Value::<[u64; 8]>::open_read_only(&*name).unwrap();
    for _ in 0..5 {
        let mut writer = Child::spawn("writes without pause", &[&name]);
        writer.expect("writing");
        for _ in 0..20_000 {
            for handle in [&value, &reader] {
                let seen = handle.get().unwrap();
                assert!(seen.iter().all(|word| *word == seen[0]), "{seen:?}");
            }
        }
        writer.kill();
    }
    value.set([u64::MAX; 8]).unwrap();
    assert_eq!(reader.get(), Ok([u64::MAX; 8]));
}

#[test]
fn a_writer_killed_with_the_array_is_reported_to_the_next() {
    let _watchdog = watchdog();
    let name = UniqueName::new("array");
    let array = Array::create(&*name, &[1_u32, 2, 3]).unwrap();
    let mut writer = Child::spawn("changes the array", &[&name]);
    writer.expect("holding");
    writer.kill();
    assert_eq!(array.get(1), Err(ValueError::NeedsRepair));
    assert_eq!(
        array.set(1, 9),
        Err(ValueError::NeedsRepair),
        "nothing is hidden by a write"
    );
    let Err(LockError::OwnerDied(recover)) = array.lock() else {
        panic!("not reported")
    };
    assert_eq!(*recover, [7, 2, 3]);
    drop(recover);
    let guard = array.lock_or_repair(|elements, cause| {
        assert!(matches!(cause, Cause::OwnerDied { .. }));
        elements[0] = 1;
    });
    assert_eq!(*guard.unwrap(), [1, 2, 3]);
    assert_eq!(array.get(0), Ok(1));
}

#[test]
fn a_panic_discards_a_change_of_the_value_and_poisons_the_array() {
    let value = Value::create(Region::heap(4096), 1_u32).unwrap();
    let array = Array::create(Region::heap(4096), &[1_u32]).unwrap();
    for change in ["guard", "update", "array"] {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match change {
            "guard" => {
                *value.lock().unwrap() = 2;
                let mut guard = value.lock().unwrap();
                *guard = 3;
                panic!("with the guard");
            }
            "update" => value.update(|_| panic!("in the update")).unwrap(),
            _ => {
                let _guard = array.lock().unwrap();
                panic!("with the array");
            }
        }));
        assert!(panicked.is_err());
        assert_eq!(value.get(), Ok(2));
    }
    assert!(matches!(array.lock(), Err(LockError::Poisoned(_))));
}

#[test]
fn read_only_handles_read_and_cannot_write() {
    let (v, a, n) = (
        UniqueName::new("ro-v"),
        UniqueName::new("ro-a"),
        UniqueName::new("ro-n"),
    );
    let value = Value::create(&*v, [1_u8; 3]).unwrap();
    let array = Array::create(&*a, &[1_u16, 2]).unwrap();
    let number = AtomicValue::create(&*n, true).unwrap();
    let (ro_value, ro_array, ro_number) = (
        Value::<[u8; 3]>::open_read_only(&*v).unwrap(),
        Array::<u16>::open_read_only(&*a).unwrap(),
        AtomicValue::<bool>::open_read_only(&*n).unwrap(),
    );
    value.set([2; 3]).unwrap();
    array.set(1, 9).unwrap();
    number.store(false);
    assert_eq!(ro_value.get(), Ok([2; 3]));
    assert_eq!((ro_array.get(0), ro_array.get(1)), (Ok(1), Ok(9)));
    assert!(!ro_number.load());
    assert_eq!(ro_value.set([0; 3]), Err(ValueError::ReadOnly));
    assert!(matches!(ro_value.lock(), Err(ValueError::ReadOnly)));
    assert_eq!(ro_array.set(0, 1), Err(ValueError::ReadOnly));
    assert!(matches!(ro_array.lock(), Err(LockError::ReadOnly)));
}

#[test]
fn lengths_that_lie_are_corrupt() {
    use std::os::unix::fs::FileExt;
    let name = UniqueName::new("length");
    let array = Array::<u64>::zeroed(&*name, 4).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    for len in [5_u64, u64::MAX, u64::MAX / 8 + 2, 1 << 61] {
        file.write_all_at(&len.to_ne_bytes(), 4096 + 48).unwrap();
        let error = Array::<u64>::open(&*name).unwrap_err();
        let names_it = matches!(error, shm_core::Error::Corrupt { field: "array length", value, .. } if value == len);
        assert!(names_it, "{error}");
        assert_eq!(array.len(), 4, "a handle keeps what it checked");
    }
}

#[test]
fn an_array_of_another_length_is_told_apart() {
    let name = UniqueName::new("other-length");
    let _array = Array::<u64>::open_or_create(&*name, 4).unwrap();
    assert_eq!(Array::<u64>::open_or_create(&*name, 4).unwrap().len(), 4);
    for len in [3, 5] {
        let error = Array::<u64>::open_or_create(&*name, len).unwrap_err();
        assert!(matches!(error, shm_core::Error::Mismatch { .. }), "{error}");
    }
    let error = Array::<u64>::zeroed(shm_core::Place::anonymous(), usize::MAX).unwrap_err();
    assert!(matches!(error, shm_core::Error::TooLarge { .. }), "{error}");
}
