//! Our dictionaries.

use std::any::Any;
use std::io;

use shm_core::Place;
use shm_dict::{Bytes, Dict, Options, Raw};

use super::map::{Count, Key, Map, number};
use crate::variants::{Site, place};
use crate::workload::{keep, nothing_to_keep};

type ByteDict = Dict<Vec<u8>, Vec<u8>, Bytes>;

/// Bytes to bytes.
pub(super) struct Shm(ByteDict);

impl Map for Shm {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(ByteDict::create(place(site), Options::new()))
    }

    fn open(site: &Site) -> io::Result<Self> {
        let dict = ByteDict::open(&site.name).map_err(io::Error::other)?;
        Ok(Self(dict))
    }

    #[inline]
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        self.0.get_into(&key[..], out).expect("it is got")
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        self.0.set(&key[..], value).expect("it is set");
    }

    fn empty(&mut self) -> io::Result<()> {
        self.0.clear().map_err(io::Error::other)
    }
}

/// As [`Shm`], of so many GiB at most; to empty it, another one is made, whose memory nobody has touched.
pub(super) struct New<const GIB: u64 = 1> {
    name: String,
    made: u64,
    shm: Option<Shm>,
}

impl<const GIB: u64> New<GIB> {
    fn next_name(&mut self) -> String {
        // The old one goes first.
        self.shm = None;
        self.made += 1;
        format!("{}-{}", self.name, self.made)
    }

    #[inline]
    fn shm(&mut self) -> &mut Shm {
        self.shm.as_mut().expect("it was emptied")
    }
}

impl<const GIB: u64> Map for New<GIB> {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self {
            name: site.name.clone(),
            made: 0,
            shm: None,
        })
    }

    #[inline]
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        self.shm().get(key, out)
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        self.shm().set(key, value);
    }

    fn empty(&mut self) -> io::Result<()> {
        let place = Place::named(self.next_name()).unlink_on_drop(true);
        let options = Options::new().max_bytes(GIB << 30);
        let dict = ByteDict::create(place, options).map_err(io::Error::other)?;
        self.shm = Some(Shm(dict));
        Ok(())
    }

    fn was_emptied(&mut self) -> io::Result<()> {
        let dict = ByteDict::open(self.next_name()).map_err(io::Error::other)?;
        self.shm = Some(Shm(dict));
        Ok(())
    }
}

/// Bytes to numbers.
pub(super) struct Numbers(Dict<Vec<u8>, u64, Raw>);

impl Map for Numbers {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Dict::<Vec<u8>, u64, Raw>::create(
            place(site),
            Options::new(),
        ))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Dict::open(&site.name).map(Self).map_err(io::Error::other)
    }

    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        self.0.get_into(&key[..], out).expect("it is got")
    }

    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        self.0.set(&key[..], &number(value)).expect("it is set");
    }

    fn empty(&mut self) -> io::Result<()> {
        self.0.clear().map_err(io::Error::other)
    }
}

impl Count for Numbers {
    #[inline]
    fn increment(&mut self, key: &Key) {
        self.0.fetch_add(&key[..], 1).expect("it is added");
    }
}
