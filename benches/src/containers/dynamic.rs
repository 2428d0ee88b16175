//! Gets of integers that may be anything else, beside those of integers.

use std::any::Any;
use std::hint::black_box;
use std::io;

use shm_dict::{Codec, Dict, Dynamic, Options, Postcard, ShmKey};

use crate::dicts::map::{KEYS, Random, below};
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, place};
use crate::workload::{Operation, Workload};

const TYPED: &str = "get i64";
const VALUES: &str = "get Dynamic, an integer";
const BOTH: &str = "get Dynamic by Dynamic, both integers";

pub(super) fn section() -> Section {
    Section {
        key: "dynamic",
        title: "Gets of integers that may be anything else",
        reference: TYPED,
        rows: vec![
            Workload::new::<Get<i64, i64>>(TYPED, 1),
            Workload::new::<Get<i64, Dynamic>>(VALUES, 1),
            Workload::new::<Get<Dynamic, Dynamic>>(BOTH, 1),
        ],
        targets: vec![Target {
            row: VALUES,
            reference: TYPED,
            bound: Bound::TimeAtMost(1.3),
        }],
        notes: vec![format!("{KEYS} integers, by `Postcard`, in no order.")],
        after: None,
    }
}

/// A get, again and again.
struct Get<K, V> {
    dict: Dict<K, V>,
    random: Random,
    faults: u64,
}

/// A number of more than one byte.
fn number(at: u64) -> i64 {
    at as i64 * 10_007 - 1_000_000
}

impl<K, V> Operation for Get<K, V>
where
    K: ShmKey + From<i64> + 'static,
    V: From<i64> + PartialEq + 'static,
    Postcard: Codec<V>,
{
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let made = Dict::<K, V>::create(place(site), Options::new());
        let dict = made.map_err(io::Error::other)?;
        let entries = (0..KEYS).map(|at| (K::from(at as i64), V::from(number(at))));
        dict.extend(entries).map_err(io::Error::other)?;
        Ok(Box::new(dict))
    }

    fn open(site: &Site) -> io::Result<Self> {
        let mut get = Self {
            dict: Dict::open(&site.name).map_err(io::Error::other)?,
            random: Random::of(0),
            faults: 0,
        };
        // So that its pages are mapped.
        for _ in 0..KEYS {
            get.once();
        }
        Ok(get)
    }

    #[inline]
    fn once(&mut self) {
        let at = below(self.random.next(), KEYS);
        let got = black_box(self.dict.get(&K::from(at as i64)).expect("it is got"));
        self.faults += u64::from(got != Some(V::from(number(at))));
    }

    fn faults(&self) -> u64 {
        self.faults
    }
}
