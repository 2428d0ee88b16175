//! The dictionaries, lists and namespaces of `_TestContainers` and `TestSyncManagerTypes` and the heap of `_TestHeap` of
//! CPython's suite for multiprocessing: the same facts, under the same names, with real processes.
//!
//! A container is inside of the one that it was made in, not referred to from anywhere: so it goes with that one, none
//! is in two, and none in itself.

use std::collections::{BTreeMap, HashMap};

use shm_core::Place;
use shm_dict::{Bytes, Dict, DictError, List, Options};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

type Letters = Dict<u32, String>;

#[test]
fn peer() {
    peer_main(&[
        ("uses the dict", uses_the_dict as fn(&mut Peer)),
        ("sets letters", sets_letters),
        ("uses the list", uses_the_list),
        ("uses the namespace", uses_the_namespace),
    ]);
}

fn sets_letters(peer: &mut Peer) {
    let letters = Letters::open(&*peer.args()[0]).unwrap();
    for n in 65..70 {
        letters
            .set(&n, &char::from_u32(n).unwrap().to_string())
            .unwrap();
    }
    peer.say("done");
}

/// What the child of `TestSyncManagerTypes.test_dict` does.
fn uses_the_dict(peer: &mut Peer) {
    let dict = Dict::<String, i32>::open(&*peer.args()[0]).unwrap();
    assert_eq!(dict.len().unwrap(), 1);
    assert_eq!(dict.get("foo").unwrap(), Some(5));
    assert_eq!(dict.get("bar").unwrap(), None);
    assert_eq!(dict.setdefault(&"foo".to_owned(), 7).unwrap(), 5);
    let items: Vec<_> = dict.items().map(Result::unwrap).collect();
    assert_eq!(items, [("foo".to_owned(), 5)]);
    assert_eq!(dict.keys().map(Result::unwrap).collect::<Vec<_>>(), ["foo"]);
    assert_eq!(dict.values().map(Result::unwrap).collect::<Vec<_>>(), [5]);
    assert_eq!(dict.popitem().unwrap(), Some(("foo".to_owned(), 5)));
    dict.set("bar", &6).unwrap();
    assert_eq!(dict.pop("bar").unwrap(), Some(6));
    peer.say("done");
}

/// What the child of `TestSyncManagerTypes.test_list` does.
fn uses_the_list(peer: &mut Peer) {
    let list = List::<i32>::open(&*peer.args()[0]).unwrap();
    assert_eq!(list.get(0).unwrap(), Some(5));
    assert_eq!(list.iter().filter(|n| *n == Ok(5)).count(), 1);
    assert_eq!(list.position(&5).unwrap(), Some(0));
    list.sort().unwrap();
    list.reverse().unwrap();
    assert!(list.iter().all(|n| n.is_ok()));
    assert_eq!(list.len().unwrap(), 1);
    assert_eq!(list.pop_at(0).unwrap(), 5);
    peer.say("done");
}

/// What the child of `TestSyncManagerTypes.test_namespace` does.
fn uses_the_namespace(peer: &mut Peer) {
    let namespace = Dict::<String, i32>::open(&*peer.args()[0]).unwrap();
    assert_eq!(namespace.get("x").unwrap(), Some(0));
    assert_eq!(namespace.get("y").unwrap(), Some(1));
    peer.say("done");
}

fn all<T>(list: &List<T>) -> Vec<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    list.slice(..).unwrap()
}

#[test]
fn test_list() {
    let _watchdog = watchdog();
    let names = [(); 3].map(|()| UniqueName::new("conformance-list"));
    let place = |n: usize| Place::named(&*names[n]).unlink_on_drop(true);
    let a = List::<i32>::create(place(0), Options::new()).unwrap();
    a.extend(0..10).unwrap();
    assert_eq!(all(&a), (0..10).collect::<Vec<_>>());

    let b = List::<i32>::create(place(1), Options::new()).unwrap();
    assert_eq!(all(&b), []);
    b.extend(0..5).unwrap();
    assert_eq!(all(&b), [0, 1, 2, 3, 4]);
    assert_eq!(b.get(2), Ok(Some(2)));
    // Where Python cuts a slice short, this says how long the list is.
    let beyond = DictError::IndexOutOfRange { index: 10, len: 5 };
    assert_eq!(b.slice(2..10), Err(beyond));
    assert_eq!(b.slice(2..), Ok(vec![2, 3, 4]));
    // b *= 2
    b.extend(all(&b)).unwrap();
    assert_eq!(all(&b), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    let longer: Vec<i32> = all(&b).into_iter().chain([5, 6]).collect();
    assert_eq!(longer, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(all(&a), (0..10).collect::<Vec<_>>());

    let e = List::<i32>::create(place(2), Options::new()).unwrap();
    for elements in [all(&a), all(&b)] {
        e.push_list::<i32, shm_dict::Postcard>()
            .unwrap()
            .extend(elements)
            .unwrap();
    }
    let inner = |n| e.child_list::<i32, shm_dict::Postcard>(n).unwrap();
    assert_eq!([all(&inner(0)), all(&inner(1))], [all(&a), all(&b)]);

    // Another handle to a list inside of another sees what is put in it.
    let f = List::<i32>::open(&*names[2]).unwrap();
    inner(0).push(&77).unwrap();
    let seen: List<i32> = f.child_list(0).unwrap();
    assert_eq!(all(&seen), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77]);
}

#[test]
fn test_list_iter() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-list-iter");
    let a = List::<i32>::create(Place::named(&*name).unlink_on_drop(true), Options::new()).unwrap();
    a.extend(0..10).unwrap();
    let mut it = a.iter();
    assert!(it.by_ref().map(Result::unwrap).eq(0..10));
    assert_eq!(it.next(), None, "exhausted");
    a.push(&10).unwrap();
    assert_eq!(it.next(), None, "it stays so");
    // Modified while it is iterated over.
    let mut it = a.iter();
    a.set(0, &100).unwrap();
    assert_eq!(it.next(), Some(Ok(100)));
}

#[test]
fn test_list_proxy_in_list() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-list-in-list");
    let place = Place::named(&*name).unlink_on_drop(true);
    let a = List::<()>::create(place, Options::new()).unwrap();
    for _ in 0..3 {
        a.push_list::<i32, shm_dict::Postcard>()
            .unwrap()
            .extend(0..3)
            .unwrap();
    }
    let inner = |n| a.child_list::<i32, shm_dict::Postcard>(n).unwrap();
    assert_eq!(
        [0, 1, 2].map(|n| all(&inner(n))),
        [(); 3].map(|()| vec![0, 1, 2])
    );

    inner(0).set(2, &55).unwrap();
    assert_eq!(all(&inner(0)), [0, 1, 55]);
    assert_eq!(
        [1, 2].map(|n| all(&inner(n))),
        [(); 2].map(|()| vec![0, 1, 2])
    );

    assert_eq!(inner(1).pop(), Ok(Some(2)));
    assert_eq!([0, 1, 2].map(|n| inner(n).len().unwrap()), [3, 2, 3]);

    // No list can be put in itself: one that is inside of it is another, and empty.
    let b = a.push_list::<i32, shm_dict::Postcard>().unwrap();
    assert_eq!((b.len(), a.len()), (Ok(0), Ok(4)));
    a.clear().unwrap();
    assert_eq!(b.len(), Err(DictError::Stale));
    assert_eq!(a.check().unwrap().payload, 0);
}

#[test]
fn test_dict_proxy_nested() {
    type Counts = Dict<String, i32>;
    let _watchdog = watchdog();
    let names = [(); 2].map(|()| UniqueName::new("conformance-nested"));
    let place = |n: usize| Place::named(&*names[n]).unlink_on_drop(true);
    let d = Dict::<String, ()>::create(place(0), Options::new()).unwrap();
    let of = |name: &str| -> Counts { d.child_dict(name).unwrap() };
    let (pets, supplies) = (of("pets"), of("supplies"));
    pets.set("ferrets", &2).unwrap();
    pets.set("hamsters", &4).unwrap();
    supplies.set("water", &10).unwrap();
    supplies.set("feed", &3).unwrap();
    assert_eq!(of("supplies").get("water"), Ok(Some(10)));

    of("supplies").set("blankets", &5).unwrap();
    assert_eq!(supplies.get("blankets"), Ok(Some(5)));
    of("supplies").set("water", &7).unwrap();
    assert_eq!(supplies.get("water"), Ok(Some(7)));

    drop((pets, supplies));
    assert_eq!(of("pets").get("ferrets"), Ok(Some(2)));
    of("supplies").set("blankets", &11).unwrap();
    assert_eq!(of("supplies").get("blankets"), Ok(Some(11)));

    let (pets, supplies) = (of("pets"), of("supplies"));
    supplies.set("water", &7).unwrap();
    assert_eq!(of("supplies").get("water"), Ok(Some(7)));
    // Where in Python the inner ones live on, they go with the outer one.
    d.clear().unwrap();
    assert_eq!(d.len(), Ok(0));
    assert_eq!(supplies.get("water"), Err(DictError::Stale));
    assert_eq!(pets.set("hamsters", &4), Err(DictError::Stale));

    let outer = List::<Vec<i32>>::create(place(1), Options::new()).unwrap();
    outer.push(&vec![88, 99]).unwrap();
    let l: List<()> = outer.push_list().unwrap();
    let pets: Counts = l.push_dict().unwrap();
    let supplies: Counts = l.push_dict().unwrap();
    supplies.set("feed", &3).unwrap();
    let first = || -> Counts { l.child_dict(0).unwrap() };
    first().set("marmots", &1).unwrap();
    assert_eq!(pets.get("marmots"), Ok(Some(1)));
    drop((pets, supplies));
    assert_eq!(first().get("marmots"), Ok(Some(1)));

    assert_eq!(
        outer.get(0),
        Ok(Some(vec![88, 99])),
        "a value, not a list that is shared"
    );
    let last: List<()> = outer.child_list(outer.len().unwrap() - 1).unwrap();
    let last: Counts = last.child_dict(last.len().unwrap() - 1).unwrap();
    assert_eq!(last.get("feed"), Ok(Some(3)));
}

#[test]
fn test_namespace() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-namespace");
    let place = Place::named(&*name).unlink_on_drop(true);
    let n = Dict::<String, String>::create(place, Options::new()).unwrap();
    for (name, value) in [("name", "Bob"), ("job", "Builder"), ("_hidden", "hidden")] {
        n.set(name, &value.to_owned()).unwrap();
    }
    let get = |name: &str| n.get(name).unwrap();
    assert_eq!(
        (get("name").as_deref(), get("job").as_deref()),
        (Some("Bob"), Some("Builder"))
    );
    assert_eq!(n.remove("job"), Ok(true));
    // What to show is for who shows it.
    let shown = n
        .items()
        .map(Result::unwrap)
        .filter(|(name, _)| !name.starts_with('_'));
    assert!(shown.eq([("name".to_owned(), "Bob".to_owned())]));
    assert_eq!(n.contains_key("name"), Ok(true));
    assert_eq!(n.contains_key("job"), Ok(false));
}

#[test]
fn test_sync_manager_types_list() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-types-list");
    let place = Place::named(&*name).unlink_on_drop(true);
    let list = List::<i32>::create(place, Options::new()).unwrap();
    list.push(&5).unwrap();
    let mut child = Child::spawn("uses the list", &[&name]);
    child.expect("done");
    assert!(child.wait().success());
    assert_eq!(list.len(), Ok(0));
}

#[test]
fn test_sync_manager_types_namespace() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-types-namespace");
    let place = Place::named(&*name).unlink_on_drop(true);
    let namespace = Dict::<String, i32>::create(place, Options::new()).unwrap();
    namespace.set("x", &0).unwrap();
    namespace.set("y", &1).unwrap();
    let mut child = Child::spawn("uses the namespace", &[&name]);
    child.expect("done");
    assert!(child.wait().success());
}

#[test]
fn test_dict() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-dict");
    let place = Place::named(&*name).unlink_on_drop(true);
    let letters = Letters::create(place, Options::new()).unwrap();
    let mut child = Child::spawn("sets letters", &[&name]);
    child.expect("done");
    assert!(child.wait().success());
    let expected: BTreeMap<u32, String> = (65..70)
        .map(|n| (n, char::from_u32(n).unwrap().to_string()))
        .collect();
    let copy: BTreeMap<_, _> = letters.snapshot().unwrap().into_iter().collect();
    assert_eq!(copy, expected);
    let mut keys: Vec<u32> = letters.keys().map(Result::unwrap).collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(expected.keys().copied()));
    let mut values: Vec<String> = letters.values().map(Result::unwrap).collect();
    values.sort_unstable();
    assert!(values.iter().eq(expected.values()));
    let items: BTreeMap<_, _> = letters.items().map(Result::unwrap).collect();
    assert_eq!(items, expected);
}

#[test]
fn test_dict_iter() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-iter");
    let place = Place::named(&*name).unlink_on_drop(true);
    let letters = Letters::create(place, Options::new()).unwrap();
    for n in 65..70 {
        letters.set(&n, &"x".to_owned()).unwrap();
    }
    let mut keys = letters.keys();
    assert_eq!(
        keys.by_ref().map(Result::unwrap).sum::<u32>(),
        65 + 66 + 67 + 68 + 69
    );
    assert!(keys.next().is_none(), "exhausted, it stays empty");
    // Where Python raises RuntimeError, a change of the size is allowed: what is there all the time comes once.
    let mut seen = Vec::new();
    for key in letters.keys() {
        let key = key.unwrap();
        letters.set(&(1000 + key), &"new".to_owned()).unwrap();
        seen.push(key);
    }
    for n in 65..70 {
        assert_eq!(seen.iter().filter(|key| **key == n).count(), 1, "{n}");
    }
}

#[test]
fn test_sync_manager_types_dict() {
    let _watchdog = watchdog();
    let name = UniqueName::new("conformance-types");
    let place = Place::named(&*name).unlink_on_drop(true);
    let dict = Dict::<String, i32>::create(place, Options::new()).unwrap();
    dict.set("foo", &5).unwrap();
    let mut child = Child::spawn("uses the dict", &[&name]);
    child.expect("done");
    assert!(child.wait().success());
    assert!(dict.is_empty().unwrap());
}

/// 5,000 random allocations and releases: blocks never overlap, and in the end all are free.
#[test]
fn test_heap() {
    let name = UniqueName::new("conformance-heap");
    let place = Place::named(&*name).unlink_on_drop(true);
    let heap = Dict::<u64, Vec<u8>, Bytes>::create(place, Options::new()).unwrap();
    let empty = heap.stats().unwrap().used_bytes;
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut blocks: HashMap<u64, Vec<u8>> = HashMap::new();
    for n in 0..5000 {
        // About as `random.lognormvariate` there: many small ones, few large.
        let len = next() % (1 << (next() % 15));
        let block = vec![n as u8; len as usize];
        heap.set(&n, &block).unwrap();
        blocks.insert(n, block);
        if blocks.len() > 100 {
            let victim = *blocks.keys().nth((next() % 100) as usize).unwrap();
            assert_eq!(heap.pop(&victim).unwrap(), blocks.remove(&victim));
        }
        if n % 500 == 0 {
            assert_eq!(heap.check().unwrap().entries, blocks.len() as u64);
        }
    }
    for (key, block) in &blocks {
        assert_eq!(heap.get(key).unwrap().as_ref(), Some(block));
        heap.remove(key).unwrap();
    }
    heap.check().unwrap();
    heap.clear().unwrap();
    assert_eq!(heap.stats().unwrap().used_bytes, empty);
}
