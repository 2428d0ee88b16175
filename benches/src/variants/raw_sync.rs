//! `raw_sync`'s mutex in a `shared_memory` segment: what users of those crates have today.

use std::{fmt, io};

use raw_sync::locks::{LockImpl, LockInit, Mutex};
use shared_memory::{Shmem, ShmemConf};

use super::{Former, Lock, Site};

/// Where the counter lies: behind the mutex, in the same cache line.
const COUNTER: usize = 40;
const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= COUNTER);

/// A `raw_sync` mutex and a counter in a segment of their own.
pub struct RawSync {
    lock: Box<dyn LockImpl>,
    /// Keeps the mapping; the creator's removes the name when it is dropped.
    _segment: Shmem,
}

impl Lock for RawSync {
    fn create(site: &Site) -> io::Result<Self> {
        let segment = ShmemConf::new()
            .size(4096)
            .os_id(&site.name)
            .create()
            .map_err(io::Error::other)?;
        let memory = segment.as_ptr();
        // SAFETY: 40 bytes for the mutex and 8 for the counter, at the start of a page that stays mapped as long as the lock.
        let (lock, _) =
            unsafe { Mutex::new(memory, memory.wrapping_add(COUNTER)) }.map_err(told)?;
        Ok(Self {
            lock,
            _segment: segment,
        })
    }

    fn open(site: &Site) -> io::Result<Self> {
        let segment = ShmemConf::new()
            .os_id(&site.name)
            .open()
            .map_err(io::Error::other)?;
        let memory = segment.as_ptr();
        // SAFETY: as in `create`; the run creates every contender before it starts the processes that open it.
        let (lock, _) =
            unsafe { Mutex::from_existing(memory, memory.wrapping_add(COUNTER)) }.map_err(told)?;
        Ok(Self {
            lock,
            _segment: segment,
        })
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        let guard = self.lock.lock().expect("raw_sync locks");
        let counter: *mut u64 = guard.cast();
        // SAFETY:
        // - in bounds, aligned, mapped: 8 bytes at offset 40 of a page that `_segment` keeps;
        // - no other reader or writer: all access is under the lock, which the guard holds until the end of this function;
        // - any bytes are an integer.
        critical(unsafe { &mut *counter }, Former::Left)
    }
}

/// The library's error as one of ours.
pub(crate) fn told(error: Box<dyn std::error::Error>) -> io::Error {
    io::Error::other(error.to_string())
}

impl fmt::Debug for RawSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawSync")
    }
}
