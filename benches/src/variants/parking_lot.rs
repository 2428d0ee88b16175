//! `parking_lot::Mutex`, a reference for threads of one process: its queue of waiters lives in process-local memory.

use std::io;

use parking_lot::Mutex;

use super::{Former, Lock, Site};

/// The one mutex of this process, in a cache line of its own.
#[repr(align(64))]
#[derive(Debug)]
struct Line(Mutex<u64>);

static SHARED: Line = Line(Mutex::new(0));

/// `parking_lot::Mutex` for the threads of one process.
#[derive(Debug)]
pub struct ParkingLot(&'static Mutex<u64>);

impl Lock for ParkingLot {
    fn create(site: &Site) -> io::Result<Self> {
        Lock::open(site)
    }

    fn open(_: &Site) -> io::Result<Self> {
        Ok(Self(&SHARED.0))
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        critical(&mut self.0.lock(), Former::Left)
    }
}
