//! Gets from a dictionary that is inside of others, beside the same from one that is not.

use std::any::Any;
use std::hint::black_box;
use std::io;

use shm_dict::{Dict, List, Options, Raw};

use crate::dicts::map::{KEYS, Random, below};
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, place};
use crate::workload::{Operation, Workload};

const TOP: &str = "Dict get";
const ONE: &str = "get in a Dict in a Dict";
const THREE: &str = "get in a Dict in three others";
const LISTED: &str = "get in a Dict in a List in a Dict";

pub(super) fn section() -> Section {
    Section {
        key: "nested",
        title: "Gets from what is inside of others, 8 B",
        reference: TOP,
        rows: vec![
            Workload::new::<Get<0, false>>(TOP, 1),
            Workload::new::<Get<1, false>>(ONE, 1),
            Workload::new::<Get<3, false>>(THREE, 1),
            Workload::new::<Get<1, true>>(LISTED, 1),
        ],
        targets: vec![Target {
            row: ONE,
            reference: TOP,
            bound: Bound::TimeAtMost(2.0),
        }],
        notes: vec![format!(
            "{KEYS} keys that are numbers of 8 bytes, in no order, in the innermost; through a handle to it."
        )],
        after: None,
    }
}

type Numbers = Dict<u64, u64, Raw>;

/// The innermost of a dictionary with so many others around it, the last of them in a list.
fn inside<const DEPTH: u8, const LISTED: bool>(outer: Numbers) -> io::Result<Numbers> {
    let mut numbers = outer;
    for depth in 1..=DEPTH {
        numbers = match LISTED && depth == DEPTH {
            false => numbers.child_dict(&7),
            true => {
                let list: List<u64, Raw> = numbers.child_list(&7).map_err(io::Error::other)?;
                match list.is_empty().map_err(io::Error::other)? {
                    true => list.push_dict(),
                    false => list.child_dict(0),
                }
            }
        }
        .map_err(io::Error::other)?;
    }
    Ok(numbers)
}

/// A get, again and again.
struct Get<const DEPTH: u8, const LISTED: bool> {
    numbers: Numbers,
    random: Random,
    faults: u64,
}

impl<const DEPTH: u8, const LISTED: bool> Operation for Get<DEPTH, LISTED> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let outer = Numbers::create(place(site), Options::new()).map_err(io::Error::other)?;
        let numbers = inside::<DEPTH, LISTED>(outer.clone())?;
        let entries = (0..KEYS).map(|number| (number, number));
        numbers.extend(entries).map_err(io::Error::other)?;
        Ok(Box::new(outer))
    }

    fn open(site: &Site) -> io::Result<Self> {
        let outer = Numbers::open(&site.name).map_err(io::Error::other)?;
        let numbers = inside::<DEPTH, LISTED>(outer)?;
        // So that its pages are mapped.
        let is_missing = |number: &u64| numbers.get(number) != Ok(Some(*number));
        let faults = (0..KEYS).filter(is_missing).count() as u64;
        Ok(Self {
            numbers,
            random: Random::of(0),
            faults,
        })
    }

    #[inline]
    fn once(&mut self) {
        let number = below(self.random.next(), KEYS);
        let got = black_box(self.numbers.get(&number));
        self.faults += u64::from(got != Ok(Some(number)));
    }

    fn faults(&self) -> u64 {
        self.faults
    }
}
