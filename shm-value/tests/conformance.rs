//! `_TestValue`, `_TestArray`, `_TestSharedCTypes` and the lists of `_TestSharedMemory` of CPython's suite for
//! multiprocessing: the same facts, under the same names, with real processes.
//!
//! | there | here |
//! |---|---|
//! | `lock=False`, `RawValue`, `RawArray` | types without a lock to hold: `AtomicValue`, `AtomicArray`, and `SeqValue` for a structure |
//! | `get_lock()`, `get_obj()` | the guard is both |
//! | `lock=` another lock, or something that is none | the lock lies beside the value, which no other can replace |
//! | an array of `c` with a `value` | an array of bytes, of which a zero ends the string |
//! | a pickled list, or a pickled memory | the handle of its segment, through serde |

use shm_core::{Field, Scope, SegmentHandle};
use shm_lock::LockError;
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};
use shm_value::{
    Array, AtomicArray, AtomicValue, Item, SeqValue, ShareableList, Value, ValueError,
};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

#[test]
fn peer() {
    peer_main(&[
        ("changes values", changes_values as fn(&mut Peer)),
        ("changes raw values", changes_raw_values),
        ("asks for a value", asks_for_a_value),
        ("sums up", sums_up),
        ("sums up without a lock", sums_up_without_a_lock),
        ("fills", fills),
        ("asks for an array", asks_for_an_array),
        ("doubles", doubles),
        ("doubles without a lock", doubles_without_a_lock),
        ("zeroes", zeroes),
        ("changes the list", changes_the_list),
        ("opens a handle", opens_a_handle),
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
    AtomicValue::<i16>::open(format!("{name}-h"))
        .unwrap()
        .store(232);
    AtomicValue::<i64>::open(format!("{name}-q"))
        .unwrap()
        .store(2 << 35);
    AtomicValue::<u8>::open(format!("{name}-c"))
        .unwrap()
        .store(b'y');
    peer.say("done");
}

/// Says whether the lock is to be had, and what the value is meanwhile.
fn asks_for_a_value(peer: &mut Peer) {
    let value = Value::<i32>::open(&peer.args()[0]).unwrap();
    let lock = match value.try_lock() {
        Ok(_) => "free",
        Err(ValueError::WouldBlock) => "held",
        Err(other) => panic!("{other}"),
    };
    peer.say(&format!("{lock} {}", value.get().unwrap()));
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

fn sums_up_without_a_lock(peer: &mut Peer) {
    let array = AtomicArray::<i32>::open(&peer.args()[0]).unwrap();
    for i in 1..array.len() {
        let before = array.load(i - 1).unwrap();
        array.element(i).unwrap().fetch_add(before);
    }
    peer.say("done");
}

fn fills(peer: &mut Peer) {
    let array = Array::<i32>::open(&peer.args()[0]).unwrap();
    for (i, element) in array.lock().unwrap().iter_mut().enumerate() {
        *element = i as i32;
    }
    peer.say("done");
}

/// Says whether the lock of the array is to be had.
fn asks_for_an_array(peer: &mut Peer) {
    let array = Array::<u8>::open(&peer.args()[0]).unwrap();
    peer.say(match array.try_lock() {
        Ok(_) => "free",
        Err(LockError::WouldBlock) => "held",
        Err(other) => panic!("{other}"),
    });
}

/// The codes i, d, h, q, c read back; a child's writes are seen by the parent.
#[test]
fn test_value() {
    let _watchdog = watchdog();
    let name = UniqueName::new("value");
    let scope = Scope::new();
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
    let scope = Scope::new();
    let place = |code| scope.place(format!("{name}-{code}"));
    let i = AtomicValue::create(place("i"), 4343_i32).unwrap();
    let d = AtomicValue::create(place("d"), 3.625_f64).unwrap();
    let h = AtomicValue::create(place("h"), -232_i16).unwrap();
    let q = AtomicValue::create(place("q"), 2_i64 << 34).unwrap();
    let c = AtomicValue::create(place("c"), b'x').unwrap();
    assert_eq!((i.load(), d.load(), h.load()), (4343, 3.625, -232));
    assert_eq!((q.load(), c.load()), (2 << 34, b'x'));
    Child::spawn("changes raw values", &[&name]).expect("done");
    assert_eq!((i.load(), d.load(), h.load()), (-24, -3.625, 232));
    assert_eq!((q.load(), c.load()), (2 << 35, b'y'));
}

/// `get_lock()` is the guard: others wait while it is held; `get_obj()` is what it gives access to.
#[test]
fn test_getobj_getlock() {
    let _watchdog = watchdog();
    let name = UniqueName::new("getlock");
    let value = Value::create(&*name, 5_i32).unwrap();
    let mut guard = value.lock().unwrap();
    assert!(matches!(value.try_lock(), Err(ValueError::WouldBlock)));
    assert_eq!(value.set(1), Err(ValueError::Deadlock));
    *guard += 1;
    // Readers see the last commit and do not wait.
    assert_eq!(value.get(), Ok(5));
    Child::spawn("asks for a value", &[&name]).expect("held 5");
    drop(guard);
    assert_eq!(value.get(), Ok(6));
    Child::spawn("asks for a value", &[&name]).expect("free 6");
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

/// Without a lock: `AtomicArray`, whose slices are as many single elements.
#[test]
fn test_rawarray() {
    let _watchdog = watchdog();
    let name = UniqueName::new("rawarray");
    let mut seq = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831];
    let array = AtomicArray::create(&*name, &seq).unwrap();
    assert_eq!(array.len(), seq.len());
    assert_eq!(array.load(3), Ok(seq[3]));
    assert!(array.iter().skip(2).take(5).eq(seq[2..7].iter().copied()));
    for (index, part) in (4..8).zip([1, 2, 3, 4]) {
        array.store(index, part).unwrap();
        seq[index] = part;
    }
    assert_eq!(array.to_vec(), seq);
    prefix_sums(&mut seq);
    Child::spawn("sums up without a lock", &[&name]).expect("done");
    assert_eq!(array.to_vec(), seq);
}

/// A size gives zeroes, also where other bytes have been; three times.
#[test]
fn test_array_from_size() {
    let _watchdog = watchdog();
    let name = UniqueName::new("size");
    for _ in 0..3 {
        let array = Array::<i32>::zeroed(&*name, 10).unwrap();
        assert_eq!(array.len(), 10);
        assert_eq!(*array.lock().unwrap(), [0; 10]);
        Child::spawn("fills", &[&name]).expect("done");
        assert_eq!(*array.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        array.unlink().unwrap();
    }
}

/// As for the value: the guard is the lock and the object.
#[test]
fn test_getobj_getlock_obj() {
    let _watchdog = watchdog();
    let name = UniqueName::new("getlock-obj");
    let array = Array::<u8>::zeroed(&*name, 10).unwrap();
    let guard = array.lock().unwrap();
    assert_eq!(array.get(0), Err(ValueError::Deadlock));
    assert_eq!(guard.len(), 10);
    Child::spawn("asks for an array", &[&name]).expect("held");
    drop(guard);
    Child::spawn("asks for an array", &[&name]).expect("free");
    assert_eq!(
        array.get(10),
        Err(ValueError::OutOfRange { index: 10, len: 10 })
    );
}

/// CPython's structure of an int, a double and a long long, here without padding.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
struct Mixed {
    x: i64,
    y: f64,
    z: i64,
}

/// Twice what stands before the first zero.
fn double_string(string: &mut [u8]) {
    let len = string.iter().position(|byte| *byte == 0).unwrap();
    string.copy_within(..len, len);
}

fn doubles(peer: &mut Peer) {
    let name = |part| format!("{}-{part}", peer.args()[0]);
    let x = Value::<i32>::open(name("x")).unwrap();
    x.update(|x| *x *= 2).unwrap();
    let y = Value::<f64>::open(name("y")).unwrap();
    y.update(|y| *y *= 2.0).unwrap();
    let z = Value::<i64>::open(name("z")).unwrap();
    z.update(|z| *z *= 2).unwrap();
    let mixed = Value::<Mixed>::open(name("mixed")).unwrap();
    let twice = |mixed: &mut Mixed| (mixed.x, mixed.y) = (mixed.x * 2, mixed.y * 2.0);
    mixed.update(twice).unwrap();
    let array = Array::<f64>::open(name("array")).unwrap();
    array.lock().unwrap().iter_mut().for_each(|n| *n *= 2.0);
    let string = Array::<u8>::open(name("string")).unwrap();
    double_string(&mut string.lock().unwrap());
    peer.say("done");
}

fn doubles_without_a_lock(peer: &mut Peer) {
    let name = |part| format!("{}-{part}", peer.args()[0]);
    let x = AtomicValue::<i32>::open(name("x")).unwrap();
    x.store(x.load() * 2);
    let y = AtomicValue::<f64>::open(name("y")).unwrap();
    y.store(y.load() * 2.0);
    let z = AtomicValue::<i64>::open(name("z")).unwrap();
    z.store(z.load() * 2);
    let mixed = SeqValue::<Mixed>::open(name("mixed")).unwrap();
    let Mixed { x, y, z } = mixed.get();
    mixed
        .set(Mixed {
            x: x * 2,
            y: y * 2.0,
            z,
        })
        .unwrap();
    let array = AtomicArray::<f64>::open(name("array")).unwrap();
    array.elements().for_each(|n| n.store(n.load() * 2.0));
    let string = AtomicArray::<u8>::open(name("string")).unwrap();
    let mut bytes = string.to_vec();
    double_string(&mut bytes);
    let places = string.elements().zip(bytes);
    places.for_each(|(place, byte)| place.store(byte));
    peer.say("done");
}

const HELLO: &[u8; 20] = b"hello\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const HELLO_TWICE: &[u8; 20] = b"hellohello\0\0\0\0\0\0\0\0\0\0";
const MIXED: Mixed = Mixed { x: 3, y: 2.0, z: 0 };
const MIXED_TWICE: Mixed = Mixed { x: 6, y: 4.0, z: 0 };

/// Numbers, a structure, an array of doubles and a string, without locks; a child doubles them all.
#[test]
fn test_sharedctypes() {
    let _watchdog = watchdog();
    let name = UniqueName::new("sharedctypes");
    let scope = Scope::new();
    let place = |part| scope.place(format!("{name}-{part}"));
    let x = AtomicValue::create(place("x"), 7_i32).unwrap();
    let y = AtomicValue::create(place("y"), 1.0_f64 / 3.0).unwrap();
    let z = AtomicValue::create(place("z"), 1_i64 << 33).unwrap();
    let mixed = SeqValue::create(place("mixed"), MIXED).unwrap();
    let numbers: Vec<f64> = (0..10).map(f64::from).collect();
    let array = AtomicArray::create(place("array"), &numbers).unwrap();
    let string = AtomicArray::create(place("string"), HELLO).unwrap();
    Child::spawn("doubles without a lock", &[&name]).expect("done");
    assert_eq!((x.load(), y.load(), z.load()), (14, 2.0 / 3.0, 1 << 34));
    assert_eq!(mixed.get(), MIXED_TWICE);
    assert!(array.iter().eq(numbers.iter().map(|n| n * 2.0)));
    assert_eq!(string.to_vec(), HELLO_TWICE);
}

/// The same with locks.
#[test]
fn test_synchronize() {
    let _watchdog = watchdog();
    let name = UniqueName::new("synchronize");
    let scope = Scope::new();
    let place = |part| scope.place(format!("{name}-{part}"));
    let x = Value::create(place("x"), 7_i32).unwrap();
    let y = Value::create(place("y"), 1.0_f64 / 3.0).unwrap();
    let z = Value::create(place("z"), 1_i64 << 33).unwrap();
    let mixed = Value::create(place("mixed"), MIXED).unwrap();
    let numbers: Vec<f64> = (0..10).map(f64::from).collect();
    let array = Array::create(place("array"), &numbers).unwrap();
    let string = Array::create(place("string"), HELLO).unwrap();
    Child::spawn("doubles", &[&name]).expect("done");
    assert_eq!((x.get(), y.get()), (Ok(14), Ok(2.0 / 3.0)));
    assert_eq!((z.get(), mixed.get()), (Ok(1 << 34), Ok(MIXED_TWICE)));
    let doubled = numbers.iter().map(|n| n * 2.0);
    assert!(array.lock().unwrap().iter().copied().eq(doubled));
    assert_eq!(*string.lock().unwrap(), *HELLO_TWICE);
}

fn zeroes(peer: &mut Peer) {
    let mixed = Value::<Mixed>::open(&peer.args()[0]).unwrap();
    mixed.set(Mixed { x: 0, y: 0.0, z: 0 }).unwrap();
    peer.say("done");
}

/// A copy is independent: what was got of a value, and a value that was made of it.
#[test]
fn test_copy() {
    let _watchdog = watchdog();
    let (name, copy_name) = (UniqueName::new("copy-from"), UniqueName::new("copy-to"));
    let start = Mixed {
        x: 2,
        y: 5.0,
        z: 1 << 33,
    };
    let mixed = Value::create(&*name, start).unwrap();
    let copy = mixed.get().unwrap();
    let shared_copy = Value::create(&*copy_name, copy).unwrap();
    Child::spawn("zeroes", &[&name]).expect("done");
    assert_eq!(mixed.get(), Ok(Mixed { x: 0, y: 0.0, z: 0 }));
    assert_eq!((copy, shared_copy.get()), (start, Ok(start)));
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

/// Opens the list of a handle that came as text; changes it if there is still one.
fn opens_a_handle(peer: &mut Peer) {
    let handle: SegmentHandle = serde_json::from_str(&peer.args()[0]).unwrap();
    let list = match ShareableList::open(&handle) {
        Ok(list) => list,
        Err(shm_core::Error::NotFound { .. }) => return peer.say("not found"),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(list.get(9), Ok(9.into()));
    list.set(4, "changed").unwrap();
    peer.say("changed");
    peer.hear();
    assert_eq!(list.get(3), Ok("newvalue".into()));
    peer.say("seen");
}

fn handle_of(list: &ShareableList) -> String {
    serde_json::to_string(&list.segment().handle().unwrap()).unwrap()
}

/// A handle travels as text, however long the list is; both ends have the same list.
#[test]
fn test_shared_memory_shareable_list_pickling() {
    let _watchdog = watchdog();
    let (name, longer) = (UniqueName::new("pickled"), UniqueName::new("pickled-long"));
    let items: Vec<Item> = (0..400).map(Item::from).collect();
    let list = ShareableList::create(&*name, &items[..10]).unwrap();
    let mut child = Child::spawn("opens a handle", &[&handle_of(&list)]);
    child.expect("changed");
    assert_eq!(list.get(4), Ok("changed".into()));
    list.set(3, "newvalue").unwrap();
    child.tell("look");
    child.expect("seen");
    let list = ShareableList::create(&*longer, &items).unwrap();
    assert!(
        handle_of(&list).len() < items.len(),
        "a name, not the items"
    );
}

/// Once the list is gone, its handle opens nothing, nor another list of that name.
#[test]
fn test_shared_memory_shareable_list_pickling_dead_object() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-dead");
    let list = ShareableList::create(&*name, &[1.into(), 2.into()]).unwrap();
    let text = handle_of(&list);
    list.unlink().unwrap();
    drop(list);
    Child::spawn("opens a handle", &[&text]).expect("not found");
    let _another = ShareableList::create(&*name, &[1.into(), 2.into()]).unwrap();
    let handle: SegmentHandle = serde_json::from_str(&text).unwrap();
    let other = ShareableList::open(&handle).unwrap_err();
    assert!(
        matches!(other, shm_core::Error::Mismatch { field, .. } if field == Field::Generation),
        "{other}"
    );
}
