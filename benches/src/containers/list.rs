//! Single operations on a list, beside the same on a dictionary.

use std::any::Any;
use std::hint::black_box;
use std::io;

use shm_dict::{Dict, List, Options, Raw};

use super::python;
use crate::dicts::map::{KEYS, Random, below, stamp};
use crate::section::{After, Bound, Section, Target};
use crate::variants::{Site, place};
use crate::workload::{Operation, Workload};

const DICT_GET: &str = "shm Dict get";
const DICT_SET: &str = "shm Dict set";
const DICT_PAIR: &str = "shm Dict insert a key, remove it";
pub(super) const LIST_GET: &str = "shm List get";
const LIST_SET: &str = "shm List set";
pub(super) const LIST_PAIR: &str = "shm List push, pop";

const GET: u8 = 0;
const SET: u8 = 1;
/// In at the end, and out again.
const PAIR: u8 = 2;

pub(super) fn section<const SIZE: usize>() -> Section {
    let target = |row, reference| Target {
        row,
        reference,
        bound: Bound::TimeAtMost(2.0),
    };
    Section {
        key: if SIZE == 8 { "list_8" } else { "list_64" },
        title: if SIZE == 8 {
            "A list beside a dictionary, 8 B"
        } else {
            "A list beside a dictionary, 64 B"
        },
        reference: DICT_GET,
        rows: vec![
            Workload::new::<On<Elements<SIZE>, SIZE, GET>>(LIST_GET, 1),
            Workload::new::<On<Entries<SIZE>, SIZE, GET>>(DICT_GET, 1),
            Workload::new::<On<Elements<SIZE>, SIZE, SET>>(LIST_SET, 1),
            Workload::new::<On<Entries<SIZE>, SIZE, SET>>(DICT_SET, 1),
            Workload::new::<On<Elements<SIZE>, SIZE, PAIR>>(LIST_PAIR, 1),
            Workload::new::<On<Entries<SIZE>, SIZE, PAIR>>(DICT_PAIR, 1),
        ],
        targets: vec![
            target(LIST_GET, DICT_GET),
            target(LIST_SET, DICT_SET),
            target(LIST_PAIR, DICT_PAIR),
        ],
        notes: vec![format!(
            "{KEYS} elements, or as many keys that are numbers of 8 bytes, in no order; values by `Raw`. What comes in and goes out again is one operation."
        )],
        after: (SIZE == 64).then_some(python::lines as After),
    }
}

type Entries<const SIZE: usize> = Dict<u64, [u8; SIZE], Raw>;
type Elements<const SIZE: usize> = List<[u8; SIZE], Raw>;

/// Values by number, from 0 on.
trait Numbered<const SIZE: usize>: Sized + 'static {
    /// Makes it, with so many values.
    fn make(site: &Site, values: &[[u8; SIZE]]) -> io::Result<Self>;
    fn find(site: &Site) -> io::Result<Self>;
    fn get(&self, number: u64) -> Option<[u8; SIZE]>;
    fn set(&self, number: u64, value: &[u8; SIZE]);
    /// Puts one behind all others, and takes it out again.
    fn put_and_take(&self, value: &[u8; SIZE]) -> bool;
}

impl<const SIZE: usize> Numbered<SIZE> for Entries<SIZE> {
    fn make(site: &Site, values: &[[u8; SIZE]]) -> io::Result<Self> {
        let dict = Self::create(place(site), Options::new()).map_err(io::Error::other)?;
        let entries = (0..).zip(values.iter().copied());
        dict.extend(entries).map_err(io::Error::other)?;
        Ok(dict)
    }

    fn find(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn get(&self, number: u64) -> Option<[u8; SIZE]> {
        self.get(&number).expect("it is got")
    }

    #[inline]
    fn set(&self, number: u64, value: &[u8; SIZE]) {
        self.set(&number, value).expect("it is set");
    }

    #[inline]
    fn put_and_take(&self, value: &[u8; SIZE]) -> bool {
        self.set(&KEYS, value).expect("it is set");
        self.remove(&KEYS).expect("it is removed")
    }
}

impl<const SIZE: usize> Numbered<SIZE> for Elements<SIZE> {
    fn make(site: &Site, values: &[[u8; SIZE]]) -> io::Result<Self> {
        let list = Self::create(place(site), Options::new()).map_err(io::Error::other)?;
        list.extend(values).map_err(io::Error::other)?;
        Ok(list)
    }

    fn find(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn get(&self, number: u64) -> Option<[u8; SIZE]> {
        self.get(number as usize).expect("it is got")
    }

    #[inline]
    fn set(&self, number: u64, value: &[u8; SIZE]) {
        self.set(number as usize, value).expect("it is set");
    }

    #[inline]
    fn put_and_take(&self, value: &[u8; SIZE]) -> bool {
        self.push(value).expect("it is pushed");
        self.pop().expect("it is popped").is_some()
    }
}

/// One operation, again and again.
struct On<T, const SIZE: usize, const WHICH: u8> {
    values: T,
    random: Random,
    value: [u8; SIZE],
    faults: u64,
}

impl<T: Numbered<SIZE>, const SIZE: usize, const WHICH: u8> Operation for On<T, SIZE, WHICH> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let mut values = vec![[0; SIZE]; KEYS as usize];
        for (number, value) in (0..).zip(&mut values) {
            stamp(value, number);
        }
        Ok(Box::new(T::make(site, &values)?))
    }

    fn open(site: &Site) -> io::Result<Self> {
        let values = T::find(site)?;
        // So that its pages are mapped.
        let faults = (0..KEYS).filter(|number| values.get(*number).is_none());
        Ok(Self {
            faults: faults.count() as u64,
            values,
            random: Random::of(0),
            value: [7; SIZE],
        })
    }

    #[inline]
    fn once(&mut self) {
        let number = below(self.random.next(), KEYS);
        let is_well = match WHICH {
            GET => {
                let value = black_box(self.values.get(number));
                value.is_some_and(|value| value[..8] == number.to_le_bytes())
            }
            SET => {
                stamp(&mut self.value, number);
                self.values.set(number, &self.value);
                true
            }
            _ => self.values.put_and_take(&self.value),
        };
        self.faults += u64::from(!is_well);
    }

    fn faults(&self) -> u64 {
        self.faults
    }
}
