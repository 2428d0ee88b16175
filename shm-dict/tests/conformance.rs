//! The dictionaries of `_TestContainers` and `TestSyncManagerTypes` and the heap of `_TestHeap` of CPython's suite
//! for multiprocessing: the same facts, under the same names, with real processes.

use std::collections::{BTreeMap, HashMap};

use shm_core::Place;
use shm_dict::{Bytes, Dict, Options};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

type Letters = Dict<u32, String>;

#[test]
fn peer() {
    peer_main(&[
        ("uses the dict", uses_the_dict as fn(&mut Peer)),
        ("sets letters", sets_letters),
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
