//! What is left of the family, each by one process: the mutex that its owner may lock again, and the look whether
//! something was done.

use std::any::Any;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};

use shm_lock::{Mutex, Once, ReentrantMutex};

use super::boost;
use crate::section::Section;
use crate::variants::{Site, place};
use crate::workload::{Operation, Workload, keep, nothing_to_keep};

const LOAD: &str = "atomic load";

pub(super) fn section() -> Section {
    Section {
        key: "other",
        title: "One process: the reentrant mutex, and the look whether something was done",
        reference: LOAD,
        rows: vec![
            Workload::new::<Load>(LOAD, 1),
            Workload::new::<Completed>("shm Once::is_completed", 1),
            Workload::new::<Plain>("shm Mutex lock and unlock", 1),
            Workload::new::<Outer>("shm ReentrantMutex lock and unlock", 1),
            Workload::new::<Nested>("shm ReentrantMutex again by its owner", 1),
        ],
        targets: Vec::new(),
        notes: boost("interprocess_recursive_mutex"),
        after: None,
    }
}

struct Load(&'static AtomicU64);

impl Operation for Load {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.word()))
    }

    #[inline]
    fn once(&mut self) {
        // Acquire: what a look whether something was done needs; here it has no pair.
        black_box(self.0.load(Acquire));
    }
}

struct Completed(Once);

impl Operation for Completed {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let once = Once::create(place(site)).map_err(io::Error::other)?;
        once.call_once(|| ()).map_err(io::Error::other)?;
        Ok(Box::new(once))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Once::open(&site.name).map(Self).map_err(io::Error::other)
    }

    #[inline]
    fn once(&mut self) {
        assert!(black_box(self.0.is_completed()));
    }
}

struct Plain(Mutex<u64>);

impl Operation for Plain {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Mutex::create(place(site), 0_u64))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Mutex::open(&site.name).map(Self).map_err(io::Error::other)
    }

    #[inline]
    fn once(&mut self) {
        black_box(*self.0.lock().expect("nobody dies"));
    }
}

struct Outer(ReentrantMutex<u64>);

impl Operation for Outer {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(ReentrantMutex::create(place(site), 0_u64))
    }

    fn open(site: &Site) -> io::Result<Self> {
        ReentrantMutex::open(&site.name)
            .map(Self)
            .map_err(io::Error::other)
    }

    #[inline]
    fn once(&mut self) {
        black_box(*self.0.lock().expect("nobody dies"));
    }
}

/// Locked for as long as the process works with it; the operation locks it a second time.
struct Nested(ReentrantMutex<u64>);

impl Operation for Nested {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        Outer::create(site)
    }

    fn open(site: &Site) -> io::Result<Self> {
        let mutex = Outer::open(site)?.0;
        std::mem::forget(
            mutex
                .lock()
                .map_err(|error| io::Error::other(error.to_string()))?,
        );
        Ok(Self(mutex))
    }

    #[inline]
    fn once(&mut self) {
        let guard = self.0.lock().expect("nobody dies");
        debug_assert!(guard.depth() > 1);
        black_box(*guard);
    }
}
