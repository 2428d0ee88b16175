//! Single accesses by one process: what each type costs when nobody else is about.

use std::any::Any;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shm_value::{Array, AtomicArray, AtomicValue, Item, ShareableList, Value};

use crate::section::Section;
use crate::variants::{Site, place};
use crate::workload::{Operation, Workload, keep, nothing_to_keep};

pub(super) const FETCH_SUB: &str = "atomic fetch_sub";

pub(super) fn section() -> Section {
    Section {
        key: "access",
        title: "One process, a number at a time",
        reference: FETCH_SUB,
        rows: vec![
            Workload::new::<FetchSub>(FETCH_SUB, 1),
            Workload::new::<On<AtomicValue<u64>, 0>>("shm AtomicValue load", 1),
            Workload::new::<On<AtomicValue<u64>, 1>>("shm AtomicValue fetch_sub", 1),
            Workload::new::<On<Value<u64>, 0>>("shm Value get", 1),
            Workload::new::<On<Value<u64>, 1>>("shm Value set", 1),
            Workload::new::<On<Value<u64>, 2>>("shm Value update", 1),
            Workload::new::<On<Array<u64>, 0>>("shm Array get", 1),
            Workload::new::<On<Array<u64>, 1>>("shm Array set", 1),
            Workload::new::<On<AtomicArray<u64>, 0>>("shm AtomicArray load", 1),
            Workload::new::<On<AtomicArray<u64>, 1>>("shm AtomicArray store", 1),
            Workload::new::<On<AtomicArray<u64>, 2>>("shm AtomicArray fetch_sub", 1),
            Workload::new::<On<ShareableList, 0>>("shm ShareableList get an integer", 1),
            Workload::new::<On<ShareableList, 1>>("shm ShareableList get a string", 1),
        ],
        targets: Vec::new(),
        notes: vec![
            "Arrays have 64 elements; the string has 11 bytes, and is copied into a String.".into(),
        ],
        after: None,
    }
}

/// The reference: one read-modify-write.
pub(super) struct FetchSub(&'static AtomicU64);

impl Operation for FetchSub {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.word()))
    }

    #[inline]
    fn once(&mut self) {
        // Relaxed: only the count matters.
        black_box(self.0.fetch_sub(1, Relaxed));
    }
}

/// A type with some accesses, by number.
trait Accesses: Sized + 'static {
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;
    fn open(site: &Site) -> io::Result<Self>;
    fn access<const WHICH: u8>(&self, at: usize);
}

/// One access, again and again, to one element after the other.
struct On<T, const WHICH: u8> {
    value: T,
    at: usize,
}

/// Elements of arrays and lists.
const LEN: usize = 64;

impl<T: Accesses, const WHICH: u8> Operation for On<T, WHICH> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        T::create(site)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self {
            value: T::open(site)?,
            at: 0,
        })
    }

    #[inline]
    fn once(&mut self) {
        self.at = (self.at + 1) % LEN;
        black_box(&self.value).access::<WHICH>(self.at);
    }
}

impl Accesses for AtomicValue<u64> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::create(place(site), 0))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn access<const WHICH: u8>(&self, _: usize) {
        black_box(match WHICH {
            0 => self.load(),
            _ => self.fetch_sub(1),
        });
    }
}

impl Accesses for Value<u64> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::create(place(site), 0))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn access<const WHICH: u8>(&self, at: usize) {
        let done = match WHICH {
            0 => self.get().map(|value| _ = black_box(value)),
            1 => self.set(at as u64),
            _ => self.update(|value| *value = value.wrapping_sub(1)),
        };
        done.expect("nobody dies");
    }
}

impl Accesses for Array<u64> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::zeroed(place(site), LEN))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn access<const WHICH: u8>(&self, at: usize) {
        let done = match WHICH {
            0 => self.get(at).map(|value| _ = black_box(value)),
            _ => self.set(at, at as u64),
        };
        done.expect("the element is there");
    }
}

impl Accesses for AtomicArray<u64> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::zeroed(place(site), LEN))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn access<const WHICH: u8>(&self, at: usize) {
        let done = match WHICH {
            0 => self.load(at).map(|value| _ = black_box(value)),
            1 => self.store(at, at as u64),
            _ => self
                .element(at)
                .map(|element| _ = black_box(element.fetch_sub(1))),
        };
        done.expect("the element is there");
    }
}

impl Accesses for ShareableList {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let number = (0..LEN).map(|at| Item::from(at as i64));
        let string = (0..LEN).map(|_| Item::from("sourdough 7"));
        keep(Self::create(
            place(site),
            &number.chain(string).collect::<Vec<_>>(),
        ))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn access<const WHICH: u8>(&self, at: usize) {
        let at = at + LEN * usize::from(WHICH);
        black_box(self.get(at).expect("the item is there"));
    }
}
