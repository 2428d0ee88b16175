//! Two keys changed in one step, beside the same in two.

use std::any::Any;
use std::io;

use shm_dict::{Dict, DictError, Options, Raw};

use crate::dicts::map::{KEYS, Random, below};
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, place};
use crate::workload::{Operation, Workload};

const SETS: &str = "two sets";
const LOCKED: &str = "two sets under lock";
const TRANSACTION: &str = "transaction of two keys";

pub(super) fn section() -> Section {
    Section {
        key: "transaction",
        title: "Store two numbers of a dictionary",
        reference: SETS,
        rows: vec![
            Workload::new::<Store<0>>(SETS, 1),
            Workload::new::<Store<1>>(TRANSACTION, 1),
            Workload::new::<Store<2>>(LOCKED, 1),
        ],
        targets: vec![Target {
            row: TRANSACTION,
            reference: SETS,
            bound: Bound::TimeAtMost(8.0),
        }],
        notes: vec![format!(
            "{KEYS} keys that are numbers of 8 bytes, in no order; 16 shards. Of these, the transaction alone is one step for who is killed in it; `lock` takes the locks of all shards."
        )],
        after: None,
    }
}

/// Two keys' values, again and again.
struct Store<const HOW: u8> {
    numbers: Dict<u64, u64, Raw>,
    random: Random,
    last: [u64; 2],
    written: u64,
}

impl<const HOW: u8> Store<HOW> {
    fn store(&self, keys: [u64; 2], value: u64) -> Result<(), DictError> {
        let numbers = &self.numbers;
        match HOW {
            0 => keys.iter().try_for_each(|key| numbers.set(key, &value)),
            1 => numbers.transaction(&[&keys[0], &keys[1]], |numbers| {
                keys.iter().try_for_each(|key| numbers.set(key, &value))
            }),
            _ => {
                let mut numbers = numbers.lock()?;
                keys.iter().try_for_each(|key| numbers.set(key, &value))
            }
        }
    }
}

impl<const HOW: u8> Operation for Store<HOW> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let made = Dict::<u64, u64, Raw>::create(place(site), Options::new());
        let numbers = made.map_err(io::Error::other)?;
        let entries = (0..KEYS).map(|number| (number, 0));
        numbers.extend(entries).map_err(io::Error::other)?;
        Ok(Box::new(numbers))
    }

    fn open(site: &Site) -> io::Result<Self> {
        let numbers = Dict::open(&site.name).map_err(io::Error::other)?;
        let mut store = Self {
            numbers,
            random: Random::of(0),
            last: [0; 2],
            written: 0,
        };
        // So that its pages are mapped.
        for _ in 0..KEYS {
            store.once();
        }
        Ok(store)
    }

    #[inline]
    fn once(&mut self) {
        self.last = [(); 2].map(|()| below(self.random.next(), KEYS));
        self.written += 1;
        self.store(self.last, self.written)
            .expect("they are stored");
    }

    fn faults(&self) -> u64 {
        let is_there = |key: &u64| self.numbers.get(key) == Ok(Some(self.written));
        u64::from(!self.last.iter().all(is_there))
    }
}
