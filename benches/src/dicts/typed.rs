//! Values instead of bytes, got by one process.

use std::any::Any;
use std::hint::black_box;
use std::io;

use serde::{Deserialize, Serialize};
use shm_dict::{Bytes, Codec, Dict, Postcard, Raw};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::map::{KEYS, Random, below, key};
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, place};
use crate::workload::{Operation, Workload, keep};

const BYTES: &str = "bytes into a buffer";
const POSTCARD: &str = "struct, Postcard";
const RAW: &str = "struct, Raw";

pub(super) fn section() -> Section {
    let target = |row, most| Target {
        row,
        reference: BYTES,
        bound: Bound::TimeAtMost(most),
    };
    Section {
        key: "typed",
        title: "Get a value of five fields, 32 B",
        reference: BYTES,
        rows: vec![
            Workload::new::<GetBytes>(BYTES, 1),
            Workload::new::<Get<Raw>>(RAW, 1),
            Workload::new::<Get<Postcard>>(POSTCARD, 1),
        ],
        targets: vec![target(POSTCARD, 2.0), target(RAW, 1.1)],
        notes: vec![format!("{KEYS} keys of 16 bytes.")],
        after: None,
    }
}

/// A small structure, for a codec to encode.
#[derive(
    Clone, Debug, PartialEq, Serialize, Deserialize, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
struct Order {
    number: u64,
    customer: u64,
    grams: f64,
    item: u32,
    pieces: u32,
}

impl Order {
    fn new(number: u64) -> Self {
        Self {
            number,
            customer: number * 7 + 1_000_000,
            grams: 1500.0,
            item: number as u32 % 50,
            pieces: 3,
        }
    }
}

/// The values as a codec encodes them.
struct Get<C> {
    dict: Dict<Vec<u8>, Order, C>,
    random: Random,
    faults: u64,
}

impl<C: Codec<Order> + 'static> Operation for Get<C> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let made = Dict::<Vec<u8>, Order, C>::create(place(site), Default::default());
        let dict = made.map_err(io::Error::other)?;
        for number in 0..KEYS {
            dict.set(&key(number)[..], &Order::new(number))
                .map_err(io::Error::other)?;
        }
        Ok(Box::new(dict))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self {
            dict: Dict::open(&site.name).map_err(io::Error::other)?,
            random: Random::of(0),
            faults: 0,
        })
    }

    #[inline]
    fn once(&mut self) {
        let number = below(self.random.next(), KEYS);
        let order = self.dict.get(&key(number)[..]).expect("it is got");
        let is_it = black_box(order).is_some_and(|order| order.number == number);
        self.faults += u64::from(!is_it);
    }

    fn faults(&self) -> u64 {
        self.faults
    }
}

/// As many bytes, not decoded.
struct GetBytes {
    dict: Dict<Vec<u8>, Vec<u8>, Bytes>,
    random: Random,
    got: Vec<u8>,
    faults: u64,
}

impl Operation for GetBytes {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let made = Dict::<Vec<u8>, Vec<u8>, Bytes>::create(place(site), Default::default());
        if let Ok(dict) = &made {
            for number in 0..KEYS {
                let value = Order::new(number).as_bytes().to_vec();
                dict.set(&key(number)[..], &value)
                    .map_err(io::Error::other)?;
            }
        }
        keep(made)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self {
            dict: Dict::open(&site.name).map_err(io::Error::other)?,
            random: Random::of(0),
            got: Vec::new(),
            faults: 0,
        })
    }

    #[inline]
    fn once(&mut self) {
        let number = below(self.random.next(), KEYS);
        let found = self.dict.get_into(&key(number)[..], &mut self.got);
        let is_it = found.expect("it is got") && self.got.starts_with(&number.to_le_bytes());
        self.faults += u64::from(!is_it);
        black_box(&self.got);
    }

    fn faults(&self) -> u64 {
        self.faults
    }
}
