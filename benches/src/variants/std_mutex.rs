//! `std::sync::Mutex`, a reference for threads of one process: it cannot be shared by processes.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::{Former, Lock, Site};

/// The one mutex of this process, in a cache line of its own.
#[repr(align(64))]
#[derive(Debug)]
struct Line(Mutex<u64>);

static SHARED: Line = Line(Mutex::new(0));

/// `std::sync::Mutex` for the threads of one process.
#[derive(Debug)]
pub struct StdMutex(&'static Mutex<u64>);

impl Lock for StdMutex {
    fn create(site: &Site) -> io::Result<Self> {
        Lock::open(site)
    }

    fn open(_: &Site) -> io::Result<Self> {
        Ok(Self(&SHARED.0))
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        critical(
            &mut self.0.lock().unwrap_or_else(PoisonError::into_inner),
            Former::Left,
        )
    }
}
