//! A counter without a lock: the two limits between which all locks lie.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Site, Variant};

/// A load, then a store: what "no lock" means, with the race left in. Both are atomic accesses, so the program is defined and the
/// compiler folds nothing away; what another process did between the two is lost.
#[derive(Debug)]
pub struct Unlocked(&'static AtomicU64);

impl Variant for Unlocked {
    fn create(site: &Site) -> io::Result<Self> {
        Self::open(site)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.word()))
    }

    #[inline]
    fn decrement(&self) {
        // Relaxed: the race is the point.
        self.0.store(self.0.load(Relaxed) - 1, Relaxed);
    }

    fn set(&self, count: u64) {
        // Relaxed: nobody else uses the counter; the answer on the control page publishes it.
        self.0.store(count, Relaxed);
    }

    fn get(&self) -> u64 {
        // Relaxed: nobody else uses the counter; the order on the control page published it.
        self.0.load(Relaxed)
    }
}

/// One atomic read-modify-write: the least that an exact shared counter can cost.
#[derive(Debug)]
pub struct FetchSub(&'static AtomicU64);

impl Variant for FetchSub {
    fn create(site: &Site) -> io::Result<Self> {
        Self::open(site)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.word()))
    }

    #[inline]
    fn decrement(&self) {
        // Relaxed: only the count matters, no other memory hangs on it.
        self.0.fetch_sub(1, Relaxed);
    }

    fn set(&self, count: u64) {
        // Relaxed: as in `Unlocked::set`.
        self.0.store(count, Relaxed);
    }

    fn get(&self) -> u64 {
        // Relaxed: as in `Unlocked::get`.
        self.0.load(Relaxed)
    }
}
