//! Random operations through two handles against a `HashMap`, where there is often no room; then a file system
//! that refuses memory at any moment.

mod refusing;

use std::collections::HashMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use refusing::{Refusing, raw, writer};
use shm_core::Place;
use shm_dict::raw::{CLASSES, Found, HEADER, Kind, RawDict, Refused, record_bytes, size_of_class};
use shm_dict::{Bytes, Dict, DictError, Options, Raw};
use shm_testing::watchdog;

type Key = Vec<u8>;
type Value = Vec<u8>;
type Texts = Dict<Key, Value, Bytes>;
type Model = HashMap<Key, Value>;

const KEYS: u8 = 24;
const LONGEST: usize = 20_000;

/// Few keys, of many lengths.
fn key(n: u8) -> Key {
    vec![n; [0, 1, 7, 8, 9, 200][usize::from(n) % 6] + usize::from(n > 5)]
}

fn value(number: u8, len: usize) -> Value {
    (0..len)
        .map(|at| number.wrapping_mul(31) ^ at as u8)
        .collect()
}

#[derive(Debug, Clone)]
enum Op {
    Set(u8, usize),
    Insert(u8, usize),
    Remove(u8),
    Pop(u8),
    PopItem,
    /// Appends so many bytes; 0: takes the key out.
    Modify(u8, usize),
    SetDefault(u8, usize),
    /// Whether what is expected is there.
    Swap(u8, bool, Option<usize>),
    SetIfVersion(u8, bool, usize),
    Retain(u8),
    Clear,
    Drain,
    Locked(u8, usize),
    Reopen,
}

/// Lengths about a word, half a chunk of 4 and 16 KiB, and whole chunks; and any.
fn len() -> impl Strategy<Value = usize> {
    const SIZES: &[usize] = &[0, 8, 16, 2048, 4096, 8192, 16_384];
    let border = (0..SIZES.len(), 0..80_usize).prop_map(|(at, less)| {
        // With the header and the key, just about the size; or the value alone.
        (SIZES[at] + 8).saturating_sub(less)
    });
    prop_oneof![3 => 0..40_usize, 2 => border, 1 => 0..LONGEST + 2]
}

/// The length of the longest value that has room in a block of this class, beside the key.
fn longest_in(class: usize, key: &Key) -> usize {
    size_of_class(class).saturating_sub(HEADER + key.len().next_multiple_of(8))
}

/// A key and the length of a value, which fill a block, or are a byte less or more; or any.
fn entry() -> impl Strategy<Value = (u8, usize)> {
    let border = (0..KEYS, 0..CLASSES, 0..3_usize)
        .prop_map(|(n, class, more)| (n, (longest_in(class, &key(n)) + more).saturating_sub(1)));
    prop_oneof![2 => border, 5 => (0..KEYS, len())]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    prop_oneof![
        8 => entry().prop_map(|(key, len)| Op::Set(key, len)),
        3 => entry().prop_map(|(key, len)| Op::Insert(key, len)),
        4 => key().prop_map(Op::Remove),
        1 => key().prop_map(Op::Pop),
        1 => Just(Op::PopItem),
        3 => (key(), 0..300_usize).prop_map(|(key, more)| Op::Modify(key, more)),
        1 => entry().prop_map(|(key, len)| Op::SetDefault(key, len)),
        2 => (entry(), any::<bool>(), any::<bool>())
            .prop_map(|((key, len), right, some)| Op::Swap(key, right, some.then_some(len))),
        1 => (entry(), any::<bool>()).prop_map(|((key, len), is)| Op::SetIfVersion(key, is, len)),
        1 => (2..5_u8).prop_map(Op::Retain),
        1 => Just(Op::Clear),
        1 => Just(Op::Drain),
        1 => entry().prop_map(|(key, len)| Op::Locked(key, len)),
        1 => Just(Op::Reopen),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let bytes = prop_oneof![3 => Just(16_u64 << 10), 3 => Just(64 << 10), 1 => Just(5 << 20)];
    (bytes, 0..3_u32).prop_map(|(bytes, log)| {
        let options = Options::new().max_bytes(bytes).shards(1 << log);
        options.max_value(LONGEST as u32)
    })
}

struct Pair {
    handles: [Texts; 2],
    model: Model,
    /// What each change of each key left.
    seen: HashMap<(Key, u64), Value>,
}

impl Pair {
    fn new(options: Options) -> Self {
        let first = Texts::create(Place::anonymous(), options).unwrap();
        let second = open(&first);
        Self {
            handles: [first, second],
            model: Model::new(),
            seen: HashMap::new(),
        }
    }

    fn run(&mut self, ops: Vec<Op>) {
        for (n, op) in ops.into_iter().enumerate() {
            let (before, version) = (self.model.clone(), self.handles[0].version());
            let refused = self.step(n, op).err();
            match refused {
                None => {}
                Some(DictError::Full { needed, .. }) => assert!(needed > 0),
                Some(DictError::ValueTooLong { len, most }) => {
                    assert!(len > most && most == LONGEST as u64);
                }
                Some(error) => panic!("{error}"),
            }
            let changed = self.model != before;
            assert!(!changed || refused.is_none(), "a refusal changes nothing");
            if changed || refused.is_some() {
                assert_eq!(self.handles[1].version() != version, changed);
            }
            self.compare(n);
        }
    }

    /// Runs an operation; the model has changed only if it was not refused.
    fn step(&mut self, n: usize, op: Op) -> Result<(), DictError> {
        let (dict, model) = (&self.handles[n % 2], &mut self.model);
        let new = |len| value(n as u8, len);
        match op {
            Op::Set(k, len) => {
                dict.set(&key(k), &new(len))?;
                model.insert(key(k), new(len));
            }
            Op::Insert(k, len) => {
                let before = dict.insert(&key(k), &new(len))?;
                assert_eq!(before, model.insert(key(k), new(len)));
            }
            Op::Remove(k) => assert_eq!(dict.remove(&key(k))?, model.remove(&key(k)).is_some()),
            Op::Pop(k) => assert_eq!(dict.pop(&key(k))?, model.remove(&key(k))),
            Op::PopItem => match dict.popitem()? {
                Some((key, value)) => assert_eq!(model.remove(&key), Some(value)),
                None => assert!(model.is_empty()),
            },
            Op::Modify(k, more) => {
                let change = |before: Option<Value>| {
                    let mut value = before.unwrap_or_default();
                    value.extend(new(more));
                    (more > 0).then_some(value)
                };
                let after = dict.modify(&key(k), change)?;
                assert_eq!(after, change(model.get(&key(k)).cloned()));
                match after {
                    Some(after) => model.insert(key(k), after),
                    None => model.remove(&key(k)),
                };
            }
            Op::SetDefault(k, len) => {
                let stored = dict.setdefault(&key(k), new(len))?;
                assert_eq!(&stored, model.entry(key(k)).or_insert_with(|| new(len)));
            }
            Op::Swap(k, right, len) => {
                let is = model.get(&key(k)).cloned();
                let wrong = match &is {
                    Some(value) => (value.len() > 3).then(|| value[..3].to_vec()),
                    None => Some(new(3)),
                };
                let (expected, new) = (if right { is.clone() } else { wrong }, len.map(new));
                let swapped = dict.compare_and_swap(&key(k), expected.as_ref(), new.as_ref())?;
                if expected != is {
                    assert_eq!(swapped, Err(is));
                    return Ok(());
                }
                assert_eq!(swapped, Ok(()));
                match new {
                    Some(new) => model.insert(key(k), new),
                    None => model.remove(&key(k)),
                };
            }
            Op::SetIfVersion(k, right, len) => {
                let Some((_, version)) = dict.get_versioned(&key(k))? else {
                    assert!(!model.contains_key(&key(k)));
                    return Ok(());
                };
                let expected = if right { version } else { version + 1 };
                assert_eq!(dict.set_if_version(&key(k), &new(len), expected)?, right);
                if right {
                    model.insert(key(k), new(len));
                }
            }
            Op::Retain(modulus) => {
                let keeps = |key: &Key, value: &Value| {
                    !(key.len() + value.len()).is_multiple_of(usize::from(modulus))
                };
                dict.retain(keeps)?;
                model.retain(|key, value| keeps(key, value));
            }
            Op::Clear => {
                dict.clear()?;
                model.clear();
            }
            Op::Drain => {
                let drained: Model = dict.drain()?.into_iter().collect();
                assert_eq!(drained, std::mem::take(model));
            }
            Op::Locked(k, len) => {
                let mut all = dict.lock()?;
                assert_eq!(all.len(), model.len());
                let other = self.handles[1 - n % 2].within(Duration::ZERO);
                assert!(matches!(
                    other.remove(&key(k)),
                    Err(DictError::Timeout | DictError::Reentered)
                ));
                assert_eq!(all.get(&key(k))?, model.get(&key(k)).cloned());
                all.set(&key(k), &new(len))?;
                model.insert(key(k), new(len));
            }
            Op::Reopen => self.handles[n % 2] = open(&self.handles[1 - n % 2]),
        }
        Ok(())
    }

    fn compare(&mut self, n: usize) {
        let dict = &self.handles[n % 2];
        let stats = dict.check().unwrap();
        assert_eq!(stats.entries, self.model.len() as u64);
        let bytes = self
            .model
            .iter()
            .map(|(key, value)| key.len() + value.len());
        assert_eq!(stats.payload, bytes.sum::<usize>() as u64);
        assert_eq!(dict.len(), Ok(self.model.len()));
        let all: Model = dict.items().map(Result::unwrap).collect();
        assert_eq!(all, self.model);
        let snapshot: Model = dict.snapshot().unwrap().into_iter().collect();
        assert_eq!(snapshot, self.model);
        let other = &self.handles[1 - n % 2];
        for key in (0..KEYS).map(key) {
            let is = self.model.get(&key);
            assert_eq!(other.get(&key).unwrap().as_ref(), is);
            assert_eq!(other.contains_key(&key), Ok(is.is_some()));
        }
        if let Some((key, is)) = self.model.iter().next() {
            let (value, version) = other.get_versioned(key).unwrap().unwrap();
            assert_eq!(&value, is);
            let before = self.seen.insert((key.clone(), version), value);
            assert!(
                before.is_none_or(|before| before == *is),
                "a version of two values"
            );
        }
    }

    /// All memory comes back.
    fn clear(self) {
        let [dict, other] = &self.handles;
        dict.clear().unwrap();
        let stats = other.stats().unwrap();
        assert_eq!(
            (stats.entries, stats.used_bytes, stats.free_blocks),
            (0, 0, 0)
        );
        assert_eq!(stats.free_bytes, dict.inspect().max_bytes);
    }
}

fn open(other: &Texts) -> Texts {
    let fd = other.segment().as_fd().unwrap();
    Texts::open(Place::fd(fd.try_clone_to_owned().unwrap())).unwrap()
}

#[derive(Debug, Clone)]
enum Sum {
    Add(u8, i64),
    Count(u8),
    Swap(u8, i64),
    Remove(u8),
}

fn sum() -> impl Strategy<Value = Sum> {
    let key = || 0..40_u8;
    let number = prop_oneof![-3..3_i64, Just(i64::MAX)];
    prop_oneof![
        3 => (key(), number.clone()).prop_map(|(key, by)| Sum::Add(key, by)),
        2 => key().prop_map(Sum::Count),
        1 => (key(), number).prop_map(|(key, to)| Sum::Swap(key, to)),
        2 => key().prop_map(Sum::Remove),
    ]
}

/// Each size that a block has, in chunks of 4 and of 16 KiB, with all keys: full, and a byte less and more.
#[test]
fn values_on_the_borders_of_all_sizes_are_whole() {
    let _watchdog = watchdog();
    for bytes in [1 << 20, 5 << 20] {
        let dict = Texts::create(Place::anonymous(), Options::new().max_bytes(bytes)).unwrap();
        for class in 0..CLASSES {
            let mut is_full = false;
            for more in 0..3 {
                let len = |n| (longest_in(class, &key(n)) + more).saturating_sub(1);
                for n in 0..KEYS {
                    dict.set(&key(n), &value(n, len(n))).unwrap();
                    is_full |= record_bytes(key(n).len(), len(n)) == size_of_class(class);
                }
                for n in 0..KEYS {
                    assert_eq!(
                        dict.get(&key(n)),
                        Ok(Some(value(n, len(n)))),
                        "{class} {more}"
                    );
                }
                dict.check().unwrap();
            }
            assert!(is_full, "none fills a block of class {class}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn matches_hash_map(options in options(), ops in vec(op(), 0..80)) {
        let _watchdog = watchdog();
        let mut pair = Pair::new(options);
        pair.run(ops);
        pair.clear();
    }

    /// Values of one word, which are replaced where they are; keys that come and go fill the table with tombstones.
    #[test]
    fn numbers_match_hash_map(sums in vec(sum(), 0..300)) {
        let _watchdog = watchdog();
        let options = Options::new().max_bytes(16 << 10).shards(1);
        let dict = Dict::<u8, i64, Raw>::create(Place::anonymous(), options).unwrap();
        let mut model = HashMap::<u8, i64>::new();
        for sum in sums {
            match sum {
                Sum::Add(key, by) => {
                    let before = dict.fetch_add(&key, by).unwrap();
                    let is = model.entry(key).or_default();
                    prop_assert_eq!(before, *is);
                    *is = is.wrapping_add(by);
                }
                Sum::Count(key) => {
                    let entry = dict.entry(&key).and_modify(|n| *n = n.wrapping_add(1));
                    let stored = entry.or_insert(1).unwrap();
                    let is = model.entry(key).and_modify(|n| *n = n.wrapping_add(1)).or_insert(1);
                    prop_assert_eq!(stored, *is);
                }
                Sum::Swap(key, to) => {
                    let is = model.get(&key).copied();
                    let swapped = dict.compare_and_swap(&key, is.as_ref(), Some(&to)).unwrap();
                    prop_assert_eq!(swapped, Ok(()));
                    model.insert(key, to);
                }
                Sum::Remove(key) => {
                    prop_assert_eq!(dict.pop(&key).unwrap(), model.remove(&key));
                }
            }
            prop_assert_eq!(dict.check().unwrap().entries, model.len() as u64);
        }
        let all: HashMap<_, _> = dict.snapshot().unwrap().into_iter().collect();
        prop_assert_eq!(all, model);
    }

    /// The file system refuses memory once, at any of the allocations: nothing is changed, and all goes on.
    #[test]
    fn a_refusal_of_the_file_system_changes_nothing(
        sets in vec((0..KEYS, len().prop_map(|len| len.min(6000))), 0..60),
        refused in 0..12_usize,
    ) {
        let dict = raw(Kind::Map, LONGEST);
        let memory = Refusing::after(refused);
        let mut model = Model::new();
        for (n, (k, len)) in sets.into_iter().enumerate() {
            let (key, value) = (key(k), value(n as u8, len));
            match set(&dict, &memory, &key, &value) {
                Ok(()) => {
                    model.insert(key, value);
                }
                Err(Refused::Full { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            let (writer, entries) = (writer(&dict, &memory), model.len() as u64);
            prop_assert_eq!(writer.check().map(|account| account.entries), Ok(entries));
            for (key, value) in &model {
                let found = writer.top().find(dict.hash(key), key).unwrap();
                let is = matches!(found, Found::At { record, .. } if record.value().is_some_and(|v| v.is(value)));
                prop_assert!(is, "what was stored is there");
            }
        }
    }
}

fn set(dict: &RawDict, memory: &Refusing, key: &[u8], value: &[u8]) -> Result<(), Refused> {
    let (writer, hash) = (writer(dict, memory), dict.hash(key));
    writer
        .top()
        .store(writer.top().find(hash, key)?, hash, key, value)
}
