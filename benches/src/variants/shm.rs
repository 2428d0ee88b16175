//! The shm family's own: `Mutex`, `Value`, `AtomicValue`.

use std::io;

use shm_core::Place;
use shm_lock::{LockError, Mutex};
use shm_value::{AtomicValue, Value};

use super::{Former, Lock, Site, Variant};

pub(crate) fn place(site: &Site) -> Place {
    Place::named(&site.name).unlink_on_drop(true)
}

/// `shm_lock::Mutex<u64>`.
#[derive(Debug)]
pub struct ShmMutex(Mutex<u64>);

impl Lock for ShmMutex {
    fn create(site: &Site) -> io::Result<Self> {
        Mutex::create(place(site), 0)
            .map(Self)
            .map_err(io::Error::other)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Mutex::open(&site.name).map(Self).map_err(io::Error::other)
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        match self.0.lock() {
            Ok(mut count) => critical(&mut count, Former::Left),
            Err(LockError::OwnerDied(recover)) => critical(&mut recover.accept(), Former::Died),
            Err(error) => panic!("shm Mutex: {error}"),
        }
    }
}

/// `shm_value::Value<u64>`: a dead writer leaves the old value, and nobody is told.
#[derive(Debug)]
pub struct ShmValue(Value<u64>);

impl Lock for ShmValue {
    fn create(site: &Site) -> io::Result<Self> {
        Value::create(place(site), 0)
            .map(Self)
            .map_err(io::Error::other)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Value::open(&site.name).map(Self).map_err(io::Error::other)
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        self.0
            .update(|count| critical(count, Former::Left))
            .expect("shm Value locks")
    }
}

/// `shm_value::AtomicValue<u64>`.
#[derive(Debug)]
pub struct ShmAtomicValue(AtomicValue<u64>);

impl Variant for ShmAtomicValue {
    fn create(site: &Site) -> io::Result<Self> {
        AtomicValue::create(place(site), 0)
            .map(Self)
            .map_err(io::Error::other)
    }

    fn open(site: &Site) -> io::Result<Self> {
        AtomicValue::open(&site.name)
            .map(Self)
            .map_err(io::Error::other)
    }

    #[inline]
    fn decrement(&self) {
        self.0.fetch_sub(1);
    }

    fn set(&self, count: u64) {
        self.0.store(count);
    }

    fn get(&self) -> u64 {
        self.0.load()
    }
}
