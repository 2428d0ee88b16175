//! All elements in another order, beside a vector in the memory of one process.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shm_dict::{List, Options, Raw};

use crate::clock::now;
use crate::dicts::map::{KEYS, Random};
use crate::section::{Bound, Section, Target};
use crate::shared::shared;
use crate::variants::{Site, place};
use crate::workload::{Act, Done, Workload, nothing_to_keep};

const LIST_REVERSE: &str = "shm List reverse";
const LIST_SORT: &str = "shm List sort";
const VEC_REVERSE: &str = "Vec under a Mutex (threads) reverse";
const VEC_SORT: &str = "Vec under a Mutex (threads) sort";

pub(super) fn section() -> Section {
    let target = |row, reference| Target {
        row,
        reference,
        bound: Bound::TimeAtMost(3.0),
    };
    Section {
        key: "order",
        title: "All elements in another order",
        reference: VEC_REVERSE,
        rows: vec![
            Workload::new::<Reverse<Elements>>(LIST_REVERSE, 1),
            Workload::new::<Reverse<Shared>>(VEC_REVERSE, 1).in_threads(),
            Workload::new::<Sort<Elements>>(LIST_SORT, 1),
            Workload::new::<Sort<Shared>>(VEC_SORT, 1).in_threads(),
        ],
        targets: vec![
            target(LIST_REVERSE, VEC_REVERSE),
            target(LIST_SORT, VEC_SORT),
        ],
        notes: vec![format!(
            "{KEYS} random numbers of 8 bytes; before each sort they are put in no order, which does not count."
        )],
        after: None,
    }
}

type Elements = List<u64, Raw>;

/// Numbers in a row.
trait Row: Sized + 'static {
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;
    fn open(site: &Site) -> io::Result<Self>;
    fn fill(&self, numbers: Vec<u64>);
    fn reverse(&self);
    fn sort(&self);
    fn numbers(&self) -> Vec<u64>;
}

impl Row for Elements {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let list = Self::create(place(site), Options::new()).map_err(io::Error::other)?;
        Ok(Box::new(list))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    fn fill(&self, numbers: Vec<u64>) {
        self.splice(.., numbers).expect("they are put");
    }

    fn reverse(&self) {
        self.reverse().expect("they are turned");
    }

    fn sort(&self) {
        self.sort().expect("they are sorted");
    }

    fn numbers(&self) -> Vec<u64> {
        self.snapshot().expect("they are got")
    }
}

/// `Mutex<Vec<u64>>` of std.
struct Shared(Arc<Mutex<Vec<u64>>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row for Shared {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(shared(&site.name, Arc::default)))
    }

    fn fill(&self, numbers: Vec<u64>) {
        *self.lock() = numbers;
    }

    fn reverse(&self) {
        self.lock().reverse();
    }

    fn sort(&self) {
        self.lock().sort();
    }

    fn numbers(&self) -> Vec<u64> {
        self.lock().clone()
    }
}

fn random_numbers(random: &mut Random) -> Vec<u64> {
    (0..KEYS).map(|_| random.next()).collect()
}

/// The elements backwards.
struct Reverse<R> {
    row: R,
    numbers: Vec<u64>,
}

impl<R: Row> Act for Reverse<R> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        R::create(site)
    }

    fn open(site: &Site, _: usize) -> io::Result<Self> {
        let (row, numbers) = (R::open(site)?, random_numbers(&mut Random::of(0)));
        row.fill(numbers.clone());
        Ok(Self { row, numbers })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let mut done = Done::default();
        loop {
            self.row.reverse();
            self.row.reverse();
            self.row.reverse();
            done.operations += 3;
            self.numbers.reverse();
            // Relaxed: nothing is read because of it.
            if stop.load(Relaxed) != 0 {
                break;
            }
        }
        let ended = now();
        if done.operations.is_multiple_of(2) {
            done.faults = (self.row.numbers() != self.numbers).into();
        }
        done.idle = now() - ended;
        done
    }
}

/// The elements from the smallest to the largest.
struct Sort<R> {
    row: R,
    random: Random,
}

impl<R: Row> Act for Sort<R> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        R::create(site)
    }

    fn open(site: &Site, _: usize) -> io::Result<Self> {
        Ok(Self {
            row: R::open(site)?,
            random: Random::of(0),
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let mut done = Done::default();
        loop {
            let began = now();
            self.row.fill(random_numbers(&mut self.random));
            done.idle += now() - began;
            self.row.sort();
            done.operations += 1;
            let ended = now();
            done.faults += u64::from(!self.row.numbers().is_sorted());
            done.idle += now() - ended;
            // Relaxed: nothing is read because of it.
            if stop.load(Relaxed) != 0 {
                return done;
            }
        }
    }
}
