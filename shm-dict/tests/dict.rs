//! What a dictionary does for its users.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::gettid;
use serde::{Deserialize, Serialize};
use shm_core::sync::AtomicU64;
use shm_core::{Place, Region};
use shm_dict::{Bytes, CreateError, Dict, DictError, List, Options, Raw};
use shm_testing::ThreadState;

fn heap(len: usize) -> Place {
    Place::region(Region::heap(len))
}

fn small() -> Options {
    Options::new().max_bytes(1 << 20).shards(4)
}

fn dict<V: Serialize + serde::de::DeserializeOwned>() -> Dict<String, V> {
    Dict::create(heap(2 << 20), small()).unwrap()
}

fn named(name: &str) -> String {
    name.to_owned()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
    price: Option<f64>,
}

#[test]
fn entries_come_and_go() {
    let dict = dict::<Order>();
    let order = Order {
        item: named("bun"),
        count: 3,
        price: Some(0.25),
    };
    assert_eq!(dict.get("a").unwrap(), None);
    assert_eq!(dict.insert(&named("a"), &order).unwrap(), None);
    assert_eq!(dict.get("a").unwrap(), Some(order.clone()));
    let other = Order {
        count: 4,
        ..order.clone()
    };
    assert_eq!(dict.insert(&named("a"), &other).unwrap(), Some(order));
    assert!(dict.contains_key("a").unwrap());
    assert_eq!(dict.len().unwrap(), 1);
    assert_eq!(dict.pop("a").unwrap(), Some(other));
    assert!(!dict.remove("a").unwrap());
    assert!(dict.is_empty().unwrap());
    dict.check().unwrap();
}

#[test]
fn many_entries_of_all_sizes() {
    let dict: Dict<u64, Vec<u8>, Bytes> =
        Dict::create(heap(40 << 20), Options::new().max_bytes(32 << 20)).unwrap();
    let value = |n: u64| vec![n as u8; (n * n % 9000) as usize];
    for n in 0..3000 {
        dict.set(&n, &value(n)).unwrap();
    }
    for n in (0..3000).step_by(3) {
        assert!(dict.remove(&n).unwrap());
    }
    for n in (0..3000).step_by(5) {
        dict.set(&n, &value(n + 1)).unwrap();
    }
    dict.check().unwrap();
    for n in 0..3000 {
        let expected = match n {
            _ if n % 5 == 0 => Some(value(n + 1)),
            _ if n % 3 == 0 => None,
            _ => Some(value(n)),
        };
        assert_eq!(dict.get(&n).unwrap(), expected, "{n}");
    }
}

#[test]
fn memory_comes_back_after_fill_and_clear() {
    let mut dict = Dict::<u64, Vec<u8>, Bytes>::create(heap(2 << 20), small()).unwrap();
    let empty = dict.check().unwrap().used_bytes;
    for round in 0..5 {
        let mut stored = 0;
        loop {
            match dict.set(&stored, &vec![round; 700]) {
                Ok(()) => stored += 1,
                Err(DictError::Full { needed, free }) => {
                    assert!(needed > free, "{needed} {free}");
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(stored > 1000, "{stored} entries of 700 bytes in 1 MiB");
        assert_eq!(dict.len().unwrap(), stored as usize);
        for n in 0..stored {
            assert_eq!(dict.get(&n).unwrap().unwrap(), vec![round; 700]);
        }
        dict.check().unwrap();
        dict.clear().unwrap();
        assert_eq!(dict.check().unwrap().used_bytes, empty);
        assert_eq!(dict.len().unwrap(), 0);
    }
    assert_eq!(dict.trim(), Ok(0), "a region is the caller's");
}

#[test]
fn blocks_of_one_size_serve_another_when_there_is_no_other_room() {
    let dict = Dict::<u64, Vec<u8>, Bytes>::create(heap(2 << 20), small()).unwrap();
    let fill = |len: usize| {
        (0..)
            .take_while(|n| dict.set(n, &vec![1; len]).is_ok())
            .count()
    };
    let first = fill(100);
    (0..first as u64).for_each(|n| assert!(dict.remove(&n).unwrap()));
    let second = fill(3000);
    assert!(second > 200, "{first} of 100 bytes, then {second} of 3000");
    dict.check().unwrap();
}

/// Whatever the seed and the keys, no shard of a dictionary whose shards nobody asked for is left without memory. Where
/// keys are of one size, that is for hundreds; each size takes a chunk of its own.
#[test]
fn a_small_dictionary_takes_many_small_entries() {
    const LEAST: u64 = 16 << 10;
    let odd = (1..100).map(|step| LEAST + step * 10_429);
    let even = (2..=8).map(|log| 4096_u64 << log);
    let mut state = 1_u64;
    for bytes in odd.chain(even).chain([LEAST; 20]) {
        let mut random = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            state >> 8
        };
        let mut fit = |lengths: u64| {
            let options = Options::new().max_bytes(bytes);
            let place = heap(bytes as usize + (64 << 10));
            let dict: Dict<Vec<u8>, u64, Raw> = Dict::create(place, options).unwrap();
            let mut key = || {
                [random().to_ne_bytes(); 4].as_flattened()[..(8 + random() % lengths) as usize]
                    .to_vec()
            };
            let count = (0..1000).take_while(|_| dict.set(&key(), &7).is_ok());
            let count = count.count() as u64;
            assert_eq!(dict.check().unwrap().entries, count, "{bytes}");
            count
        };
        let (same, others) = (fit(1), fit(25));
        assert!(same >= (bytes / 64).min(1000), "{same} fit into {bytes}");
        assert!(others >= 7, "{others} of three sizes fit into {bytes}");
    }
}

#[test]
fn read_modify_write_is_one_call() {
    let dict = dict::<i64>();
    assert_eq!(
        dict.modify("n", |n| Some(n.unwrap_or(0) - 1)).unwrap(),
        Some(-1)
    );
    assert_eq!(dict.fetch_add("n", 3).unwrap(), -1);
    assert_eq!(dict.fetch_add("m", 7).unwrap(), 0);
    assert_eq!(dict.setdefault(&named("m"), 1).unwrap(), 7);
    assert_eq!(dict.setdefault(&named("k"), 1).unwrap(), 1);
    assert_eq!(dict.modify("n", |_| None).unwrap(), None);
    assert_eq!(dict.get("n").unwrap(), None);
    assert_eq!(
        dict.compare_and_swap("m", Some(&7), Some(&8)).unwrap(),
        Ok(())
    );
    assert_eq!(
        dict.compare_and_swap("m", Some(&7), None).unwrap(),
        Err(Some(8))
    );
    assert_eq!(dict.compare_and_swap("x", None, Some(&1)).unwrap(), Ok(()));
    assert_eq!(
        dict.compare_and_swap("x", None, Some(&1)).unwrap(),
        Err(Some(1))
    );
    assert_eq!(dict.compare_and_swap("x", Some(&1), None).unwrap(), Ok(()));
    let (value, version) = dict.get_versioned("m").unwrap().unwrap();
    assert_eq!(value, 8);
    assert!(dict.set_if_version("m", &9, version).unwrap());
    assert!(!dict.set_if_version("m", &10, version).unwrap());
    assert_eq!(dict.get("m").unwrap(), Some(9));
    let key = named("e");
    assert_eq!(dict.entry(&key).or_default().unwrap(), 0);
    assert_eq!(
        dict.entry(&key)
            .and_modify(|n| *n += 5)
            .or_insert(1)
            .unwrap(),
        5
    );
}

#[test]
fn a_plain_number_is_changed_where_it_is() {
    let dict: Dict<u32, u64, Raw> = Dict::create(heap(2 << 20), small()).unwrap();
    dict.set(&1, &u64::MAX).unwrap();
    let before = dict.check().unwrap();
    for _ in 0..1000 {
        dict.fetch_add(&1, 1).unwrap();
    }
    assert_eq!(dict.get(&1).unwrap(), Some(999));
    assert_eq!(dict.check().unwrap(), before);
}

#[test]
fn going_through_all() {
    let dict = dict::<u32>();
    let model: HashMap<String, u32> = (0..500).map(|n| (n.to_string(), n)).collect();
    dict.update(&model).unwrap();
    let collect = |items: Vec<(String, u32)>| items.into_iter().collect::<HashMap<_, _>>();
    let items = dict.items().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(items.len(), 500);
    assert_eq!(collect(items), model);
    assert_eq!(collect(dict.snapshot().unwrap()), model);
    assert_eq!(dict.keys().count(), 500);
    assert_eq!(dict.values().map(Result::unwrap).sum::<u32>(), 499 * 250);
    dict.retain(|_, n| n % 2 == 0).unwrap();
    assert_eq!(dict.len().unwrap(), 250);
    // No lock is held between the items.
    for item in dict.items() {
        let (key, n) = item.unwrap();
        dict.set(key.as_str(), &(n + 1)).unwrap();
    }
    assert_eq!(dict.drain().unwrap().len(), 250);
    assert!(dict.is_empty().unwrap());
    dict.extend(model.clone()).unwrap();
    let mut popped = HashMap::new();
    while let Some((key, value)) = dict.popitem().unwrap() {
        popped.insert(key, value);
    }
    assert_eq!(popped, model);
    dict.check().unwrap();
}

#[test]
fn whoever_holds_the_lock_works_through_the_guard() {
    let dict = dict::<u32>();
    dict.set("a", &1).unwrap();
    let mut all = dict.lock().unwrap();
    assert_eq!(all.get("a").unwrap(), Some(1));
    assert_eq!(all.insert(&named("b"), &2).unwrap(), None);
    assert_eq!(all.modify("b", |b| b.map(|b| b + 1)).unwrap(), Some(3));
    assert_eq!(all.len(), 2);
    assert_eq!(dict.set("c", &1), Err(DictError::Reentered));
    assert_eq!(dict.get("a"), Err(DictError::Reentered));
    let other = std::thread::scope(|scope| {
        let patient = dict.within(Duration::from_millis(20));
        let set = scope.spawn(move || patient.set("c", &1));
        let get = scope.spawn(|| dict.get("b"));
        let lock = scope.spawn(|| dict.lock_timeout(Duration::ZERO).map(drop));
        assert_eq!(lock.join().unwrap(), Err(DictError::Timeout));
        let lock = scope.spawn(|| dict.lock_deadline(Instant::now()).map(drop));
        assert_eq!(lock.join().unwrap(), Err(DictError::Timeout));
        (set.join().unwrap(), get.join().unwrap())
    });
    assert_eq!(other, (Err(DictError::Timeout), Ok(Some(3))));
    assert_eq!(all.pop("b").unwrap(), Some(3));
    assert_eq!(all.fetch_add("n", 4), Ok(0));
    assert_eq!(all.fetch_add("n", 5), Ok(4));
    assert_eq!(all.setdefault(&named("n"), 1), Ok(9));
    assert_eq!(all.setdefault(&named("d"), 8), Ok(8));
    let (mut keys, mut values) = (all.keys().unwrap(), all.values().unwrap());
    keys.sort_unstable();
    values.sort_unstable();
    assert_eq!(keys.len(), all.len());
    assert!(["d", "n"].iter().all(|key| keys.contains(&named(key))));
    assert!(values.ends_with(&[8, 9]), "{values:?}");
    all.clear().unwrap();
    assert!(all.is_empty());
    drop(all);
    assert_eq!(dict.set("c", &1), Ok(()));
}

#[test]
fn functions_that_panic_or_come_back_change_nothing() {
    let dict = dict::<u32>();
    dict.set("a", &1).unwrap();
    let inner = dict.clone();
    let mut seen = None;
    dict.modify("a", |a| {
        seen = Some((inner.set("a", &5), inner.get("b"), inner.len()));
        a
    })
    .unwrap();
    let error = DictError::Reentered;
    assert_eq!(
        seen.unwrap(),
        (Err(error.clone()), Err(error.clone()), Ok(1))
    );
    let panics = std::panic::AssertUnwindSafe(|| dict.modify("a", |_| panic!("on purpose")));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(dict.get("a").unwrap(), Some(1));
    dict.set("a", &2).unwrap();
    let with = dict.with("a", |bytes| (bytes.to_vec(), inner.remove("a")));
    assert_eq!(with.unwrap(), Some((vec![2], Err(error))));
    dict.check().unwrap();
}

#[test]
fn retain_is_done_with_the_shards_before_a_panic() {
    let dict = dict::<u32>();
    let keys = (0..40).map(|key| key.to_string());
    keys.for_each(|key| dict.set(key.as_str(), &1).unwrap());
    let mut calls = 0..39;
    let panics = || dict.retain(|_, _| calls.next().expect("on purpose") == 40);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    let seen = dict.inspect();
    let left: Vec<u64> = seen.shards.iter().map(|shard| shard.entries).collect();
    let last = left.iter().rposition(|entries| *entries > 0);
    assert_eq!(left.iter().sum::<u64>(), left[last.unwrap()], "{left:?}");
    assert!((1..40).contains(&seen.entries), "{left:?}");
    assert_eq!(dict.check().unwrap().entries, seen.entries);
}

#[test]
fn functions_under_a_lock_are_told_how_many_there_are() {
    let _watchdog = shm_testing::watchdog();
    let dict = dict::<u32>();
    dict.set("a", &1).unwrap();
    let inside = (0..16).map(|number| dict.child_list(number.to_string().as_str()));
    let lists: Vec<List<u32>> = inside.map(Result::unwrap).collect();
    let inside = (16..32).map(|number| dict.child_dict(number.to_string().as_str()));
    let dicts: Vec<Dict<u32, u32>> = inside.map(Result::unwrap).collect();
    let recoveries = || -> u64 { dict.inspect().shards.iter().map(|it| it.recoveries).sum() };
    dict.modify("a", |a| {
        for inner in &dicts {
            let inner = inner.clone();
            // The thread ends, and the lock of the shard is orphaned, unless it is the one of this function.
            let dies = move || {
                inner
                    .lock_timeout(Duration::from_millis(1))
                    .map(std::mem::forget)
            };
            let _ = std::thread::spawn(dies).join().unwrap();
        }
        let before = recoveries();
        assert_eq!((dict.len(), dict.is_empty()), (Ok(33), Ok(false)));
        assert_eq!(recoveries(), before);
        let is_empty = |list: &List<u32>| (list.len(), list.is_empty()) == (Ok(0), Ok(true));
        assert!(lists.iter().all(is_empty));
        assert!(dicts.iter().all(|inner| inner.len() == Ok(0)));
        a
    })
    .unwrap();
    let before = recoveries();
    assert_eq!(dict.len(), Ok(33));
    assert!(recoveries() > before, "who is not inside repairs");

    let list = List::<u32>::create(heap(2 << 20), small()).unwrap();
    list.extend(0..3).unwrap();
    list.modify(1, |one| {
        assert_eq!((list.len(), list.is_empty()), (Ok(3), Ok(false)));
        assert_eq!(list.get(1), Err(DictError::Reentered));
        one
    })
    .unwrap();
}

#[test]
fn what_cannot_be_is_an_error_and_changes_nothing() {
    let floats: Dict<f64, u8> = Dict::create(heap(2 << 20), small()).unwrap();
    assert!(matches!(
        floats.set(&f64::NAN, &1),
        Err(DictError::NotAKey(_))
    ));
    floats.set(&0.0, &1).unwrap();
    assert_eq!(floats.get(&-0.0).unwrap(), Some(1));

    let dict: Dict<String, Vec<u8>, Bytes> =
        Dict::create(heap(2 << 20), small().max_value(100)).unwrap();
    let long = "x".repeat(1 << 16);
    let error = DictError::KeyTooLong {
        len: 65536,
        most: 65535,
    };
    assert_eq!(dict.set(long.as_str(), &vec![]), Err(error.clone()));
    assert_eq!(dict.get(long.as_str()), Err(error));
    let error = DictError::ValueTooLong {
        len: 101,
        most: 100,
    };
    assert_eq!(dict.set("k", &vec![0; 101]), Err(error));
    dict.set(&long[1..], &vec![7; 100]).unwrap();
    assert_eq!(dict.get(&long[1..]).unwrap(), Some(vec![7; 100]));
    assert_eq!(dict.len().unwrap(), 1);

    let option = |options: Options| {
        let created = Dict::<u8, u8>::create(heap(4096), options);
        matches!(created, Err(CreateError::Option { .. }))
    };
    assert!(option(Options::new().shards(5)));
    assert!(option(Options::new().max_bytes(100)));
    let region = Dict::<u8, u8>::create(heap(4096), small());
    assert!(matches!(region, Err(CreateError::Segment(_))), "{region:?}");
}

/// Who may only read looks again, slice by slice, and does not burn the processor meanwhile.
#[test]
fn a_reader_without_rights_waits_for_a_change() {
    let name = shm_testing::UniqueName::new("dict-ro-wait");
    let place = Place::named(&*name).unlink_on_drop(true);
    let dict = Dict::<u32, u32>::create(place, Options::new()).unwrap();
    let reader = Dict::<u32, u32>::open_read_only(&*name).unwrap();
    let seen = reader.version();
    let least = Duration::from_millis(5);
    let over = reader.wait_for_change_timeout(seen, least);
    assert_eq!(over, Err(DictError::Timeout));
    let over = reader.wait_for_change_deadline(seen, Instant::now() + least);
    assert_eq!(over, Err(DictError::Timeout));
    let held = dict.lock().unwrap();
    let refused = reader.wait_for_change_timeout(seen, least);
    assert_eq!(refused, Err(DictError::Reentered), "nobody else changes it");
    drop(held);
    let over = reader.within(least).wait_for_change(seen);
    assert_eq!(over, Err(DictError::Timeout));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| reader.wait_for_change(seen));
        dict.set(&1, &1).unwrap();
        assert_ne!(waiter.join().unwrap(), Ok(seen));
    });
    assert_eq!(reader.get(&1), Ok(Some(1)));
    assert_eq!(reader.wait_for_change(seen), Ok(dict.version()));
}

/// What is in containers is no value of the outer dictionary: what goes by values passes by them, or refuses before
/// it changes anything.
#[test]
fn containers_stay_where_values_are_taken_out() {
    let dict = dict::<u32>();
    let name = |n: u32| format!("list {n}");
    for n in 0..20 {
        let list: List<u32> = dict.child_list(name(n).as_str()).unwrap();
        list.push(&n).unwrap();
        dict.set(format!("{n}").as_str(), &n).unwrap();
    }
    let is_wrong =
        |error: Option<DictError>| matches!(error, Some(DictError::WrongKind { .. })).then_some(());
    let version = dict.version();
    is_wrong(dict.snapshot().err()).unwrap();
    is_wrong(dict.drain().err()).unwrap();
    is_wrong(dict.pop("list 0").err()).unwrap();
    is_wrong(dict.insert(&name(0), &1).err()).unwrap();
    is_wrong(dict.lock().unwrap().values().err()).unwrap();
    assert_eq!(dict.version(), version);
    assert_eq!(
        dict.items().filter_map(|item| is_wrong(item.err())).count(),
        20
    );
    assert_eq!(dict.keys().filter(Result::is_ok).count(), 40);
    assert_eq!(dict.lock().unwrap().keys().unwrap().len(), 40);

    dict.retain(|_, value| *value % 2 == 0).unwrap();
    assert_eq!(dict.len().unwrap(), 30);
    let mut taken: Vec<u32> = std::iter::from_fn(|| dict.popitem().unwrap())
        .map(|(_, value)| value)
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..20).step_by(2).collect::<Vec<_>>());
    assert_eq!((dict.popitem(), dict.len()), (Ok(None), Ok(20)));
    for n in 0..20 {
        let list: List<u32> = dict.child_list(name(n).as_str()).unwrap();
        assert_eq!(list.snapshot(), Ok(vec![n]));
    }
    dict.check().unwrap();
}

#[test]
fn waiting_for_a_change() {
    let dict = dict::<u32>();
    let seen = dict.version();
    let wait = dict.wait_for_change_timeout(seen, Duration::from_millis(5));
    assert_eq!(wait, Err(DictError::Timeout));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| dict.wait_for_change(seen));
        dict.set("a", &1).unwrap();
        assert_ne!(waiter.join().unwrap(), Ok(seen));
    });
    let seen = dict.version();
    dict.fetch_add("a", 1).unwrap();
    assert_ne!(dict.wait_for_change(seen), Ok(seen));
}

#[test]
fn threads_lose_no_update() {
    const EACH: u64 = 20_000;
    let dict: Dict<u64, u64, Raw> = Dict::create(heap(2 << 20), small()).unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (dict, reads) = (&dict, Arc::clone(&reads));
            scope.spawn(move || {
                for n in 0..EACH {
                    dict.fetch_add(&(n % 10), 1).unwrap();
                    dict.set(&(1000 + thread * EACH + n), &n).unwrap();
                    dict.remove(&(1000 + thread * EACH + n)).unwrap();
                    reads.fetch_add(
                        usize::from(dict.contains_key(&(n % 10)).unwrap()),
                        Ordering::Relaxed,
                    );
                }
            });
        }
    });
    assert_eq!(reads.load(Ordering::Relaxed), 4 * EACH as usize);
    let sum: u64 = (0..10).map(|n| dict.get(&n).unwrap().unwrap()).sum();
    assert_eq!(sum, 4 * EACH);
    assert_eq!(dict.check().unwrap().entries, 10);
}

#[test]
fn readers_see_whole_values() {
    let dict: Dict<u8, [u64; 20], Raw> = Dict::create(heap(2 << 20), small().shards(1)).unwrap();
    dict.set(&1, &[0; 20]).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..100_000 {
                dict.set(&1, &[n; 20]).unwrap();
                dict.set(&2, &[n; 20]).unwrap();
                dict.remove(&2).unwrap();
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let value = dict.get(&1).unwrap().expect("it is there all the time");
            assert_eq!(value, [value[0]; 20]);
            assert!(value[0] >= last);
            last = value[0];
        }
    });
}

#[test]
fn a_reader_without_rights_reads() {
    let name = shm_testing::UniqueName::new("dict-ro");
    let place = Place::named(&*name).unlink_on_drop(true);
    let dict = Dict::<u32, u32>::create(place, Options::new()).unwrap();
    dict.set(&1, &2).unwrap();
    let reader = Dict::<u32, u32>::open_read_only(&*name).unwrap();
    assert_eq!(reader.get(&1).unwrap(), Some(2));
    assert_eq!(reader.len().unwrap(), 1);
    assert_eq!(reader.items().count(), 1);
    assert_eq!(reader.set(&1, &3), Err(DictError::ReadOnly));
    assert!(Dict::<u32, u64>::open(&*name).is_err(), "another type");
    let other = Dict::<u32, u32>::open(&*name).unwrap();
    let mut first = dict;
    assert_eq!(first.trim(), Err(DictError::Busy), "others are attached");
    drop(other);
    for n in 0..10_000 {
        first.set(&n, &n).unwrap();
    }
    first.clear().unwrap();
    assert!(first.trim().unwrap() > 100_000);
    first.set(&1, &2).unwrap();
    assert_eq!(first.check().unwrap().entries, 1);
}

/// A long value must not lead what is allocated after it away from the gaps before it.
#[test]
fn blocks_go_into_the_gaps_that_runs_have_left() {
    const CHUNK: usize = 4096;
    let dict: Dict<u64, Vec<u8>, Bytes> =
        Dict::create(heap(1 << 20), Options::new().max_bytes(64 << 10).shards(1)).unwrap();
    let run = |chunks: usize| vec![7; chunks * CHUNK - 64];
    dict.set(&1, &run(2)).unwrap();
    dict.set(&2, &vec![1; 100]).unwrap();
    dict.remove(&1).unwrap();
    dict.set(&3, &run(3)).unwrap();
    dict.set(&4, &vec![2; 300]).unwrap();
    // Of 16 chunks the table has one, 2 another, the gap is of two, 3 has three.
    dict.set(&5, &run(9)).unwrap();
    dict.check().unwrap();
}

/// A value of up to eight bytes is replaced where it is: a reader takes it in one load, whatever its length.
#[test]
fn short_values_are_whole() {
    for len in 1..=9 {
        let dict: Dict<u8, Vec<u8>, Bytes> = Dict::create(heap(2 << 20), small()).unwrap();
        let values = [vec![0xAA; len], vec![0x55; len]];
        dict.set(&1, &values[0]).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..100_000 {
                    dict.set(&1, &values[n % 2]).unwrap();
                }
            });
            let mut buffer = Vec::new();
            while !writer.is_finished() {
                let value = dict.get(&1).unwrap().unwrap();
                assert!(values.contains(&value), "{value:?}");
                assert!(dict.get_into(&1, &mut buffer).unwrap());
                assert!(values.contains(&buffer), "{buffer:?}");
            }
        });
    }
}

#[test]
fn encoded_numbers_are_whole() {
    let dict: Dict<u8, u64> = Dict::create(heap(2 << 20), small()).unwrap();
    let numbers = [32_767, 32_768];
    dict.set(&1, &numbers[0]).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..200_000 {
                dict.set(&1, &numbers[n % 2]).unwrap();
            }
        });
        while !writer.is_finished() {
            let number = dict.get(&1).unwrap().unwrap();
            assert!(numbers.contains(&number), "{number}");
        }
    });
}

/// A list of free blocks that leads anywhere is damage, also behind all chunks.
#[test]
fn a_damaged_free_list_is_noticed() {
    let name = shm_testing::UniqueName::new("dict-list");
    let options = Options::new().max_bytes(1 << 20).shards(1);
    let place = Place::named(&*name).unlink_on_drop(true);
    let dict = Dict::<u64, Vec<u8>, Bytes>::create(place, options).unwrap();
    dict.set(&1, &vec![9; 20]).unwrap();
    // The free list of blocks of 32 bytes: class 1 of the first shard, behind its lines and the control block.
    let list = dict
        .segment()
        .view::<shm_core::sync::AtomicU64>(512 + 192 + 16);
    list.unwrap()
        .store((1 << 44 | 0xFFFF_FEFE) + 1, Ordering::Relaxed);
    let set = dict.set(&2, &vec![]);
    assert!(matches!(set, Err(DictError::Corrupt { .. })), "{set:?}");
}

/// A check wants each block used once, or free once.
#[test]
fn a_check_finds_every_lie_of_a_free_list() {
    let options = Options::new().max_bytes(1 << 20).shards(1);
    let dict = Dict::<u64, Vec<u8>, Bytes>::create(heap(2 << 20), options).unwrap();
    for key in 0..4 {
        dict.set(&key, &vec![9; 20]).unwrap();
    }
    dict.remove(&1).unwrap();
    dict.remove(&2).unwrap();
    assert_eq!(dict.check().unwrap().free_blocks, 2);
    let segment = dict.segment();
    let word = |at: usize| segment.view::<shm_core::sync::AtomicU64>(at).unwrap();
    // The first free blocks by class, in pairs with the bumps, behind the first shard's lines; the heap is in units
    // of 16 bytes.
    let classes = |class: usize| word(512 + 192 + class * 16);
    let class = (0..56)
        .find(|class| classes(*class).load(Ordering::Relaxed) != 0)
        .unwrap();
    let list = classes(class);
    let first = list.load(Ordering::Relaxed);
    let heap_at = 4096;
    let link = word(heap_at + (first as usize - 1) * 16);
    let second = link.load(Ordering::Relaxed);
    let apart = first.abs_diff(second);
    let live = first.max(second) + apart;
    let damaged = |field: &str| match dict.check() {
        Err(DictError::Corrupt { field: named, .. }) => assert_eq!(named, field),
        other => panic!("{field}: {other:?}"),
    };
    for lie in [first, live, second + 1, 1 << 40] {
        link.store(lie, Ordering::Relaxed);
        damaged("free list");
        link.store(second, Ordering::Relaxed);
        dict.check().unwrap();
    }
    // The list of another class.
    list.store(0, Ordering::Relaxed);
    classes(class + 1).store(first, Ordering::Relaxed);
    damaged("free list");
    classes(class + 1).store(0, Ordering::Relaxed);
    // Lost.
    list.store(second, Ordering::Relaxed);
    damaged("uses of a block");
    list.store(first, Ordering::Relaxed);
    dict.check().unwrap();
}

/// What was never given out begins at a block of its own size, or nowhere.
#[test]
fn a_check_finds_every_lie_of_a_bump() {
    let options = Options::new().max_bytes(1 << 20).shards(2);
    let dict = Dict::<u64, Vec<u8>, Bytes>::create(heap(2 << 20), options).unwrap();
    // Fewer than fill a chunk, in each shard; their tables have sizes of their own.
    for key in 0..60 {
        dict.set(&key, &vec![9; 20]).unwrap();
    }
    let segment = dict.segment();
    let word = |at: usize| segment.view::<shm_core::sync::AtomicU64>(at).unwrap();
    // Behind the first free blocks, as above; a shard has 1152 bytes.
    let bump = |shard: usize, class: usize| word(512 + shard * 1152 + 192 + class * 16 + 8);
    let read = |shard, class| bump(shard, class).load(Ordering::Relaxed);
    let used: Vec<usize> = (0..56).filter(|class| read(0, *class) != 0).collect();
    let is_elsewhere = |class: &usize| read(0, *class) != 0 && read(1, *class) != 0;
    let class = (0..56).find(is_elsewhere).unwrap();
    let (true_one, of_other_shard) = (read(0, class), read(1, class));
    let other = *used.iter().find(|other| **other != class).unwrap();
    let unused = (0..56).find(|class| !used.contains(class)).unwrap();
    let of_other_class = read(0, other);
    let tell = |class: usize, lie: u64| {
        let before = read(0, class);
        bump(0, class).store(lie, Ordering::Relaxed);
        let checked = dict.check();
        bump(0, class).store(before, Ordering::Relaxed);
        assert!(
            matches!(checked, Err(DictError::Corrupt { .. })),
            "{lie} for class {class}: {checked:?}"
        );
        dict.check().unwrap();
    };
    for lie in [
        of_other_shard,
        of_other_class,
        true_one + 1,
        1 << 16,
        1 << 40,
    ] {
        tell(class, lie);
    }
    // Of a class that has no chunks, nothing else would tell.
    for lie in [true_one, of_other_shard, 1 << 16, 1 << 40] {
        tell(unused, lie);
        tell(55, lie);
    }
    // All was given out, it says.
    tell(class, 0);
}

/// Nothing that leads to a run of chunks makes it free, also not the list of a class that is larger than a chunk.
#[test]
fn a_check_finds_a_lost_run_of_chunks() {
    let options = Options::new().max_bytes(64 << 10).shards(1);
    let dict = Dict::<u64, Vec<u8>, Bytes>::create(heap(2 << 20), options).unwrap();
    let segment = dict.segment();
    // Behind the control block and one shard.
    let owners: &[shm_core::sync::AtomicU32] = segment.view_slice(512 + 1152, 16).unwrap();
    let read = || owners.iter().map(|owner| owner.load(Ordering::Relaxed));
    dict.set(&1, &vec![9; 8100]).unwrap();
    let with: Vec<u32> = read().collect();
    dict.remove(&1).unwrap();
    let differs = |(before, now): (&u32, u32)| *before != now;
    let first = with.iter().zip(read()).position(differs).unwrap();
    for (owner, before) in owners.iter().zip(&with) {
        owner.store(*before, Ordering::Relaxed);
    }
    let corrupt = |name: &str| match dict.check() {
        Err(DictError::Corrupt { field, .. }) => assert_eq!(field, name),
        other => panic!("{name}: {other:?}"),
    };
    corrupt("run of chunks");
    let word = |at: usize| segment.view::<shm_core::sync::AtomicU64>(at).unwrap();
    // Behind the first page, chunks of 4096 bytes, which are 256 units; the last class is of blocks of 8192.
    word((1 + first) * 4096).store(0, Ordering::Relaxed);
    word(512 + 192 + 55 * 16).store(first as u64 * 256 + 1, Ordering::Relaxed);
    corrupt("free list");
}

/// Calls the dictionary while one of its values is decoded.
enum Nested {}

thread_local! {
    static CALLED: std::cell::RefCell<Option<Dict<u32, u32, Nested>>> =
        const { std::cell::RefCell::new(None) };
}

impl shm_dict::Codec<u32> for Nested {
    const NAME: &'static str = "nested";

    fn encode(value: &u32, out: &mut Vec<u8>) -> Result<(), shm_dict::CodecError> {
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<u32, shm_dict::CodecError> {
        CALLED.with_borrow(|dict| {
            for key in 10..40 {
                let set = dict.as_ref().map(|dict| dict.set(&key, &1));
                assert!(matches!(set, None | Some(Err(DictError::Reentered))));
            }
        });
        Ok(u32::from_le_bytes(bytes.try_into().unwrap()))
    }
}

#[test]
fn a_codec_that_comes_back_under_the_lock_is_refused() {
    let dict: Dict<u32, u32, Nested> = Dict::create(heap(2 << 20), small()).unwrap();
    dict.set(&1, &5).unwrap();
    CALLED.with_borrow_mut(|called| *called = Some(dict.clone()));
    assert_eq!(dict.pop(&1).unwrap(), Some(5));
    CALLED.with_borrow_mut(|called| *called = None);
    assert_eq!(dict.check().unwrap().entries, 0);
}

/// What a dead writer emptied is room for others, before anybody has come to its shard.
#[test]
fn room_of_an_orphaned_shard_is_found() {
    let options = Options::new().max_bytes(256 << 10).shards(2);
    let dict: Dict<u32, Vec<u8>, Bytes> = Dict::create(heap(2 << 20), options).unwrap();
    let keys_of = |shard: usize, count: usize| -> Vec<u32> {
        let is_there = |key: &u32| {
            dict.clear().unwrap();
            dict.set(key, &vec![]).unwrap();
            dict.inspect().shards[shard].entries == 1
        };
        (0..).filter(is_there).take(count).collect()
    };
    let (first, second) = (keys_of(0, 400), keys_of(1, 40));
    dict.clear().unwrap();
    let stored = first
        .iter()
        .take_while(|key| dict.set(*key, &vec![1; 900]).is_ok());
    assert!(stored.count() > 200);
    let (dead, keys) = (dict.clone(), first.clone());
    let died = std::thread::spawn(move || {
        let mut all = dead.lock().unwrap();
        keys.iter().for_each(|key| drop(all.pop(key).unwrap()));
        // The thread ends, and its locks are orphaned.
        std::mem::forget(all);
    });
    died.join().unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    dict.on_recovery(move |_| {
        tell.fetch_add(1, Ordering::Relaxed);
    });
    for key in &second {
        dict.set(key, &vec![2; 3000]).unwrap();
    }
    assert_eq!(told.load(Ordering::Relaxed), 2, "both shards' repairs");
    dict.check().unwrap();
}

#[test]
fn who_holds_all_locks_finds_the_room_of_all_shards() {
    let options = Options::new().max_bytes(256 << 10).shards(4);
    let dict = Dict::<u32, Vec<u8>, Bytes>::create(heap(1 << 20), options).unwrap();
    let value = vec![1; 1500];
    let keys = (0..)
        .take_while(|key| dict.set(key, &value).is_ok())
        .count() as u32;
    // Blocks of a size that nobody needs again.
    let out = (0..keys).filter(|key| key % 8 != 0);
    out.for_each(|key| assert!(dict.remove(&key).unwrap()));
    let mut all = dict.lock().unwrap();
    // All in a few chunks of one shard would not be enough.
    let short = vec![2; 700];
    for key in 0..keys {
        all.set(&(1000 + key), &short).unwrap();
    }
    drop(all);
    let keys: Vec<u32> = (1000..1000 + keys).collect();
    let keys: Vec<&u32> = keys.iter().collect();
    dict.transaction(&keys, |t| {
        keys.iter().try_for_each(|key| t.remove(*key).map(drop))?;
        Ok::<(), DictError>(())
    })
    .unwrap();
    dict.check().unwrap();
}

#[test]
fn who_holds_all_locks_finds_the_room_of_tables_without_entries() {
    for key in 0..60 {
        let options = Options::new().max_bytes(64 << 10).shards(2);
        let dict = Dict::<u64, Vec<u8>, Bytes>::create(heap(1 << 20), options).unwrap();
        (0..100).for_each(|key| dict.set(&key, &vec![1; 100]).unwrap());
        (0..100).for_each(|key| assert!(dict.remove(&key).unwrap()));
        let result = dict.lock().unwrap().set(&key, &vec![7; 44 << 10]);
        let is_full = matches!(result, Err(DictError::Full { .. }));
        assert!(result.is_ok() || is_full, "{result:?}");
        dict.check().unwrap();
    }
}

#[test]
fn a_buffer_grows_to_the_value_and_not_to_its_own_double() {
    let dict = Dict::<u32, Vec<u8>, Bytes>::create(heap(2 << 20), small()).unwrap();
    dict.set(&1, &vec![7; 50_000]).unwrap();
    let mut buffer = Vec::with_capacity(40_000);
    assert!(dict.get_into(&1, &mut buffer).unwrap());
    assert_eq!(buffer, [7; 50_000]);
    assert!(buffer.capacity() < 60_000, "{}", buffer.capacity());
}

#[test]
fn what_a_clear_has_cut_off_is_not_counted() {
    let dict = dict::<u32>();
    (0..100).for_each(|n| dict.set(&n.to_string(), &n).unwrap());
    assert_eq!(dict.len(), Ok(100));
    // The store that clears; whoever is killed behind it leaves tables and counts as they were.
    let epoch = dict.segment().view::<AtomicU64>(128).unwrap();
    epoch.fetch_add(1, Ordering::Release);
    assert_eq!(dict.get("1"), Ok(None));
    assert_eq!((dict.len(), dict.is_empty()), (Ok(0), Ok(true)));
    assert_eq!(dict.inspect().entries, 0);
}

#[test]
fn an_entry_that_is_there_is_not_written() {
    let options = Options::new().max_bytes(64 << 10).shards(1);
    let dict: Dict<u32, String> = Dict::create(heap(1 << 20), options).unwrap();
    let long = "x".repeat(100);
    let keys = (0..).take_while(|key| dict.set(key, &long).is_ok());
    assert!(keys.count() > 100);
    let version = dict.version();
    let never = || panic!("there is a value");
    assert_eq!(dict.entry(&7).or_insert_with(never).unwrap(), long);
    let other = "y".repeat(100);
    assert_eq!(dict.entry(&7).or_insert(other).unwrap(), long);
    assert_eq!(dict.version(), version);
    dict.remove(&8).unwrap();
    let changed = dict
        .entry(&7)
        .and_modify(|text| text.make_ascii_uppercase());
    assert_eq!(changed.or_default(), Ok(long.to_uppercase()));
    let other = || "z".repeat(100);
    assert_eq!(dict.entry(&8).or_insert_with(other), Ok(other()));
    dict.clear().unwrap();
    let reentered = || dict.get(&1).unwrap_err().to_string();
    let told = dict.entry(&8).or_insert_with(reentered).unwrap();
    assert_eq!(told, DictError::Reentered.to_string());
}

#[test]
fn popitem_goes_on_where_it_was() {
    let options = Options::new().max_bytes(1 << 20).shards(1);
    let dict: Dict<u32, u32> = Dict::create(heap(2 << 20), options).unwrap();
    // No more than a bucket has places for: each key is in its own.
    (0..8).for_each(|key| dict.set(&key, &0).unwrap());
    let pops = (0..8).map(|_| {
        let (key, value) = dict.popitem().unwrap().unwrap();
        dict.set(&key, &(value + 1)).unwrap();
        key
    });
    let mut keys: Vec<u32> = pops.collect();
    keys.sort_unstable();
    assert_eq!(keys, Vec::from_iter(0..8), "each comes once");
    let drained = std::iter::from_fn(|| dict.popitem().unwrap());
    assert_eq!(drained.map(|(_, value)| value).sum::<u32>(), 8);
    assert_eq!(dict.popitem(), Ok(None));
}

#[test]
fn who_waits_for_a_change_with_a_handle_of_little_patience_is_told_the_time() {
    let dict = dict::<u32>();
    let patient = dict.within(Duration::from_millis(20));
    let waited = patient.wait_for_change(patient.version());
    assert_eq!(waited, Err(DictError::Timeout));
}

#[test]
fn the_entries_of_an_extend_share_its_timeout() {
    let dict = Dict::<u32, u32>::create(Place::anonymous(), small()).unwrap();
    let time = Duration::from_millis(50);
    let (locked, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let (process, caller) = (std::process::id(), gettid().as_raw().cast_unsigned());
    let sleeps = || {
        ThreadState::read(process, caller)
            .unwrap()
            .asleep_in_shared_futex()
    };
    std::thread::scope(|s| {
        let hold = || {
            let _guard = dict.lock().unwrap();
            locked.store(true, Ordering::Relaxed);
            while !ended.load(Ordering::Relaxed) && !sleeps() {
                std::thread::yield_now();
            }
        };
        let late = |entry: &(u32, u32)| {
            if entry.0 == 2 {
                std::thread::sleep(time);
                s.spawn(hold);
                while !locked.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let result = dict
            .within(time)
            .extend([(1, 1), (2, 2)].into_iter().inspect(late));
        ended.store(true, Ordering::Relaxed);
        assert_eq!(result, Err(DictError::Timeout));
    });
    assert_eq!((dict.len(), dict.get(&1)), (Ok(1), Ok(Some(1))));
}
