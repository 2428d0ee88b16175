//! Operations on a dictionary through two handles, against a model in ordinary memory.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use shm_core::{Place, Region};
use shm_dict::{Bytes, Dict, DictError, Options};

use crate::input::{Rest, by_a_byte};

/// What is done, and through which handle.
#[derive(Debug, Arbitrary)]
pub struct DictScript {
    shards: u8,
    steps: Rest<(bool, Operation)>,
}

by_a_byte! {
    #[derive(Debug)]
    enum Operation {
        Set(u8, u16),
        /// So many keys from the first on, [`MOST`] at most.
        Fill(u8, u8, u8),
        Insert(u8, u16),
        Remove(u8),
        /// So many keys from the first on, each of so many.
        Thin(u8, u8, u8),
        Append(u8, u16),
        SetDefault(u8, u16),
        Swap(u8, bool, Option<u16>),
        SetIfVersion(u8, bool, u16),
        PopItem,
        Retain(u8),
        Clear,
        Locked(u8, u16),
        Reopen,
        Check,
    }
}

type Texts = Dict<Vec<u8>, Vec<u8>, Bytes>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const LONGEST: usize = 12_000;
const MOST: u8 = 40;
/// Bytes of the heap, in chunks of 4096, and of the region around it.
const HEAP: u64 = 32 << 10;
const REGION: usize = 48 << 10;

/// A value of its own for each step: most are short, some fill blocks, few take chunks of their own.
fn new(n: u8, len: u16) -> Vec<u8> {
    let most = match len % 16 {
        0 => LONGEST + 2,
        4 | 8 | 12 => 1500,
        _ => 24,
    };
    vec![n; usize::from(len) % most]
}

fn key(n: u8) -> Vec<u8> {
    vec![n; usize::from(n) % 19]
}

/// Runs a script.
///
/// # Panics
/// If an operation gives anything but what the model says.
pub fn dict_ops(script: &DictScript) {
    let region = Region::heap(REGION);
    let place = || Place::region(region.clone());
    let options = Options::new()
        .max_bytes(HEAP)
        .shards(1 << (script.shards % 3))
        .max_value(LONGEST as u32);
    let first = Texts::create(place(), options).expect("room for a dictionary");
    let mut handles = [first, Texts::open(place()).expect("it is there")];
    let mut model = Model::new();
    let mut refusals = 0;
    for (n, (second, operation)) in script.steps.0.iter().take(100).enumerate() {
        let which = usize::from(*second);
        if matches!(operation, Operation::Reopen) {
            handles[which] = Texts::open(place()).expect("it is there");
            continue;
        }
        match step(&handles[which], &mut model, n as u8, operation) {
            Ok(()) => {}
            Err(DictError::Full { .. }) => {
                assert!(!matches!(
                    operation,
                    Operation::Clear
                        | Operation::Remove(_)
                        | Operation::Thin(..)
                        | Operation::PopItem
                        | Operation::Retain(_)
                        | Operation::Check
                ));
                // All of it takes long. What one changed is still there at the end.
                if refusals % 8 == 0 {
                    assert_eq!(all(&handles[which]), model, "a refusal changes nothing");
                }
                refusals += 1;
            }
            Err(DictError::ValueTooLong { len, .. }) => assert!(len > LONGEST as u64),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(handles[0].len(), Ok(model.len()));
    }
    let [dict, other] = &handles;
    assert_eq!(check(dict), model.len() as u64);
    for (key, value) in &model {
        assert_eq!(other.get(key).as_ref(), Ok(&Some(value.clone())));
    }
    assert_eq!(all(other), model);
    let all: Model = dict.drain().expect("all of it").into_iter().collect();
    assert_eq!(all, model);
    let stats = other.check().expect("a dictionary in order");
    assert_eq!(
        (stats.entries, stats.used_bytes, stats.free_bytes),
        (0, 0, HEAP)
    );
}

fn all(dict: &Texts) -> Model {
    dict.items().map(|item| item.expect("an item")).collect()
}

fn check(dict: &Texts) -> u64 {
    dict.check().expect("a dictionary in order").entries
}

fn step(dict: &Texts, model: &mut Model, n: u8, operation: &Operation) -> Result<(), DictError> {
    let new = |len: u16| new(n, len);
    match *operation {
        Operation::Set(k, len) => {
            let (key, value) = (key(k), new(len));
            dict.set(&key, &value)?;
            model.insert(key, value);
        }
        Operation::Fill(from, count, len) => {
            for k in (0..count % (MOST + 1)).map(|k| from.wrapping_add(k)) {
                let (key, value) = (key(k), new(len.into()));
                dict.set(&key, &value)?;
                model.insert(key, value);
            }
        }
        Operation::Insert(k, len) => {
            let old = dict.insert(&key(k), &new(len))?;
            assert_eq!(old, model.insert(key(k), new(len)));
        }
        Operation::Remove(k) => {
            let expected = model.remove(&key(k));
            #[cfg(feature = "planted")]
            let expected = crate::planted::in_pop(expected);
            assert_eq!(dict.pop(&key(k))?, expected);
        }
        Operation::Thin(from, count, each) => {
            let step = usize::from(each % 8) + 1;
            let count = count % (MOST + 1);
            for k in (0..count).step_by(step).map(|k| from.wrapping_add(k)) {
                let key = key(k);
                assert_eq!(dict.remove(&key)?, model.remove(&key).is_some());
            }
        }
        Operation::Append(k, len) => {
            let append = |old: Option<Vec<u8>>| {
                let mut value = old.unwrap_or_default();
                value.extend(new(len));
                (len > 0).then_some(value)
            };
            let stored = dict.modify(&key(k), append)?;
            assert_eq!(stored, append(model.get(&key(k)).cloned()));
            match stored {
                Some(value) => model.insert(key(k), value),
                None => model.remove(&key(k)),
            };
        }
        Operation::SetDefault(k, len) => {
            let value = dict.setdefault(&key(k), new(len))?;
            assert_eq!(&value, model.entry(key(k)).or_insert_with(|| new(len)));
        }
        Operation::Swap(k, right, len) => {
            let is = model.get(&key(k)).cloned();
            let expected = if right { is.clone() } else { Some(vec![n; 3]) };
            let swapped =
                dict.compare_and_swap(&key(k), expected.as_ref(), len.map(new).as_ref())?;
            if expected != is {
                assert_eq!(swapped, Err(is));
                return Ok(());
            }
            assert_eq!(swapped, Ok(()));
            match len.map(new) {
                Some(value) => model.insert(key(k), value),
                None => model.remove(&key(k)),
            };
        }
        Operation::SetIfVersion(k, right, len) => {
            let Some((value, version)) = dict.get_versioned(&key(k))? else {
                assert!(!model.contains_key(&key(k)));
                return Ok(());
            };
            assert_eq!(Some(&value), model.get(&key(k)));
            let seen = version + u64::from(!right);
            assert_eq!(dict.set_if_version(&key(k), &new(len), seen)?, right);
            if right {
                model.insert(key(k), new(len));
            }
        }
        Operation::PopItem => match dict.popitem()? {
            Some((key, value)) => assert_eq!(model.remove(&key), Some(value)),
            None => assert!(model.is_empty()),
        },
        Operation::Retain(modulus) => {
            let keeps = |key: &Vec<u8>, value: &Vec<u8>| {
                !(key.len() + value.len()).is_multiple_of(usize::from(modulus) + 1)
            };
            dict.retain(keeps)?;
            model.retain(|key, value| keeps(key, value));
        }
        Operation::Clear => {
            dict.clear()?;
            model.clear();
            let stats = dict.check().expect("a dictionary in order");
            assert_eq!((stats.used_bytes, stats.free_bytes), (0, HEAP));
        }
        Operation::Locked(k, len) => {
            let mut all = dict.lock()?;
            assert_eq!(all.len(), model.len());
            assert_eq!(all.get(&key(k))?.as_ref(), model.get(&key(k)));
            assert_eq!(dict.get(&key(k)), Err(DictError::Reentered));
            all.set(&key(k), &new(len))?;
            model.insert(key(k), new(len));
        }
        Operation::Reopen | Operation::Check => assert_eq!(check(dict), model.len() as u64),
    }
    Ok(())
}
