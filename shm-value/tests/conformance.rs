//! `_TestValue`, `_TestArray` and the lists of `_TestSharedMemory` of CPython's suite for multiprocessing:
//! the same facts, under the same names, with real processes.

use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};
use shm_value::{Array, AtomicValue, Item, ShareableList, Value, ValueError};

#[test]
fn peer() {
    peer_main(&[
        ("changes values", changes_values as fn(&mut Peer)),
        ("sums up", sums_up),
        ("changes raw values", changes_raw_values),
        ("changes the list", changes_the_list),
    ]);
}

fn changes_values(peer: &mut Peer) {
    let name = peer.args()[0].clone();
    Value::<i32>::open(format!("{name}-i"))
        .unwrap()
        .set(-24)
        .unwrap();
    Value::<f64>::open(format!("{name}-d"))
        .unwrap()
        .set(-3.625)
        .unwrap();
    Value::<i16>::open(format!("{name}-h"))
        .unwrap()
        .set(-232)
        .unwrap();
    Value::<i64>::open(format!("{name}-q"))
        .unwrap()
        .set(2 << 35)
        .unwrap();
    Value::<u8>::open(format!("{name}-c"))
        .unwrap()
        .set(b'y')
        .unwrap();
    peer.say("done");
}

fn changes_raw_values(peer: &mut Peer) {
    let name = peer.args()[0].clone();
    AtomicValue::<i32>::open(format!("{name}-i"))
        .unwrap()
        .store(-24);
    AtomicValue::<f64>::open(format!("{name}-d"))
        .unwrap()
        .store(-3.625);
    peer.say("done");
}

fn prefix_sums(numbers: &mut [i32]) {
    for i in 1..numbers.len() {
        numbers[i] += numbers[i - 1];
    }
}

fn sums_up(peer: &mut Peer) {
    let array = Array::<i32>::open(&peer.args()[0]).unwrap();
    prefix_sums(&mut array.lock().unwrap());
    peer.say("done");
}

/// The codes i, d, h, q, c read back; a child's writes are seen by the parent.
#[test]
fn test_value() {
    let _watchdog = watchdog();
    let name = UniqueName::new("value");
    let scope = shm_core::Scope::new();
    let place = |code| scope.place(format!("{name}-{code}"));
    let i = Value::create(place("i"), 4343_i32).unwrap();
    let d = Value::create(place("d"), 3.625_f64).unwrap();
    let h = Value::create(place("h"), -232_i16).unwrap();
    let q = Value::create(place("q"), 2_i64 << 34).unwrap();
    let c = Value::create(place("c"), b'x').unwrap();
    assert_eq!((i.get(), d.get(), h.get()), (Ok(4343), Ok(3.625), Ok(-232)));
    assert_eq!((q.get(), c.get()), (Ok(2 << 34), Ok(b'x')));
    Child::spawn("changes values", &[&name]).expect("done");
    assert_eq!((i.get(), d.get(), h.get()), (Ok(-24), Ok(-3.625), Ok(-232)));
    assert_eq!((q.get(), c.get()), (Ok(2 << 35), Ok(b'y')));
}

/// Without a lock: `AtomicValue`.
#[test]
fn test_rawvalue() {
    let _watchdog = watchdog();
    let name = UniqueName::new("rawvalue");
    let scope = shm_core::Scope::new();
    let i = AtomicValue::create(scope.place(format!("{name}-i")), 4343_i32).unwrap();
    let d = AtomicValue::create(scope.place(format!("{name}-d")), 3.625_f64).unwrap();
    Child::spawn("changes raw values", &[&name]).expect("done");
    assert_eq!((i.load(), d.load()), (-24, -3.625));
}

/// `get_lock()` is the guard: others wait while it is held; `get_obj()` is what it gives access to.
#[test]
fn test_getobj_getlock() {
    let value = Value::create(shm_core::Place::anonymous(), 5_i32).unwrap();
    let mut guard = value.lock().unwrap();
    assert!(matches!(value.try_lock(), Err(ValueError::WouldBlock)));
    assert_eq!(value.set(1), Err(ValueError::Deadlock));
    *guard += 1;
    assert_eq!(
        value.get(),
        Ok(5),
        "readers see the last commit and do not wait"
    );
    drop(guard);
    assert_eq!(value.get(), Ok(6));
}

/// len, index, slices read and assigned; prefix sums in a child equal local ones.
#[test]
fn test_array() {
    let _watchdog = watchdog();
    let name = UniqueName::new("array");
    let mut seq = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831];
    let array = Array::create(&*name, &seq).unwrap();
    assert_eq!(array.len(), seq.len());
    assert_eq!(array.get(3), Ok(seq[3]));
    assert_eq!(array.lock().unwrap()[2..7], seq[2..7]);
    let part = [1, 2, 3, 4];
    array.lock().unwrap()[4..8].copy_from_slice(&part);
    seq[4..8].copy_from_slice(&part);
    assert_eq!(*array.lock().unwrap(), seq);
    prefix_sums(&mut seq);
    Child::spawn("sums up", &[&name]).expect("done");
    assert_eq!(*array.lock().unwrap(), seq);
}

/// A size gives zeroes, also where other bytes have been; three times.
#[test]
fn test_array_from_size() {
    let name = UniqueName::new("size");
    for _ in 0..3 {
        let array = Array::<i32>::zeroed(&*name, 10).unwrap();
        assert_eq!(*array.lock().unwrap(), [0; 10]);
        for (i, element) in array.lock().unwrap().iter_mut().enumerate() {
            *element = i as i32;
        }
        assert_eq!(*array.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        array.unlink().unwrap();
    }
}

/// As for the value: the guard is the lock and the object.
#[test]
fn test_getobj_getlock_obj() {
    let array = Array::<u8>::zeroed(shm_core::Place::anonymous(), 10).unwrap();
    let guard = array.lock().unwrap();
    assert_eq!(array.get(0), Err(ValueError::Deadlock));
    assert_eq!(guard.len(), 10);
    drop(guard);
    assert_eq!(
        array.get(10),
        Err(ValueError::OutOfRange { index: 10, len: 10 })
    );
}

fn changes_the_list(peer: &mut Peer) {
    let list = ShareableList::open(&peer.args()[0]).unwrap();
    list.set(6, 13).unwrap();
    peer.say("done");
}

/// Items of all kinds; a place changes its kind; what does not fit is refused; index and count; a copy;
/// a second handle, here in another process. And what CPython gets wrong: several bytes a character, and
/// trailing zero bytes.
#[test]
fn test_shared_memory_shareable_list_basics() {
    let _watchdog = watchdog();
    let (name, copy_name) = (UniqueName::new("list"), UniqueName::new("list-copy"));
    let items = [
        "howdy".into(),
        b"HoWdY".into(),
        (-273.154).into(),
        100.into(),
        Item::None,
        true.into(),
        42.into(),
    ];
    let list = ShareableList::create(&*name, &items).unwrap();
    assert_eq!(list.len(), 7);
    assert_eq!(list.to_vec().unwrap(), items);
    assert_eq!(list.iter().count(), 7);
    assert_eq!(list.index_of("100"), Ok(None));
    assert_eq!(list.index_of(100), Ok(Some(3)));
    assert_eq!(
        list.get(7),
        Err(ValueError::OutOfRange { index: 7, len: 7 })
    );
    assert_eq!(
        list.set(7, "no place"),
        Err(ValueError::OutOfRange { index: 7, len: 7 })
    );

    list.set(3, 42).unwrap();
    assert_eq!(list.get(3), Ok(42.into()));
    list.set(4, "some").unwrap();
    let too_long = |index, need| {
        Err(ValueError::TooLong {
            index,
            need,
            room: 8,
        })
    };
    assert_eq!(list.set(4, "far too many"), too_long(4, 12));
    assert_eq!(list.get(4), Ok("some".into()));
    list.set(0, "encod\u{e9}s").unwrap();
    assert_eq!(list.get(0), Ok("encod\u{e9}s".into()));
    assert_eq!(list.set(0, "encod\u{e9}es"), too_long(0, 9));
    assert_eq!(list.set(1, b"123456789"), too_long(1, 9));
    assert_eq!(list.get(1), Ok(b"HoWdY".into()));
    assert_eq!(list.count(42), Ok(2));
    assert_eq!(list.count(b"HoWdY"), Ok(1));
    assert_eq!(list.count(b"adios"), Ok(0));

    let copy = ShareableList::create(&*copy_name, &list.to_vec().unwrap()).unwrap();
    assert_eq!(copy.to_vec(), list.to_vec());
    copy.set(6, 77).unwrap();
    assert_eq!(list.get(6), Ok(42.into()));

    Child::spawn("changes the list", &[&name]).expect("done");
    assert_eq!(list.get(6), Ok(13.into()));

    list.set(0, "a\0b\0\0").unwrap();
    list.set(1, b"\0\0").unwrap();
    assert_eq!(list.get(0), Ok("a\0b\0\0".into()));
    assert_eq!(list.get(1), Ok(b"\0\0".into()));

    let empty = ShareableList::create(shm_core::Place::anonymous(), &[]).unwrap();
    assert!(empty.is_empty());
    assert_eq!(empty.count("any"), Ok(0));
    assert_eq!(empty.index_of(&Item::None), Ok(None));
}

/// A name is what travels; once it is gone there is nothing to open.
#[test]
fn test_shared_memory_shareable_list_pickling_dead_object() {
    let name = UniqueName::new("list-dead");
    let list = ShareableList::create(&*name, &[1.into(), 2.into()]).unwrap();
    assert_eq!(ShareableList::open(&*name).unwrap().to_vec(), list.to_vec());
    list.unlink().unwrap();
    let gone = ShareableList::open(&*name).unwrap_err();
    assert!(matches!(gone, shm_core::Error::NotFound { .. }), "{gone}");
}
