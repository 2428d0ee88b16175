//! Readers-writer locks: read, by 1, 2 and 4 readers at a time.

use std::any::Any;
use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;

use shm_lock::{Mutex, RwLock};

use super::boost;
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, check, place};
use crate::workload::{Operation, Workload, keep, nothing_to_keep};

const MUTEX: &str = "shm Mutex, 1 process";
const RWLOCK: &str = "shm RwLock, 1 reader";

pub(super) fn section() -> Section {
    #[allow(unused_mut, reason = "only with rivals")]
    let mut rows = vec![
        Workload::new::<Locked>(MUTEX, 1),
        Workload::new::<RwLock<u64>>(RWLOCK, 1),
        Workload::new::<Pthread>("pthread_rwlock, 1 reader", 1),
        Workload::new::<RwLock<u64>>("shm RwLock, 2 readers", 2),
        Workload::new::<Pthread>("pthread_rwlock, 2 readers", 2),
        Workload::new::<RwLock<u64>>("shm RwLock, 4 readers", 4),
        Workload::new::<Pthread>("pthread_rwlock, 4 readers", 4),
    ];
    #[cfg(feature = "rivals")]
    rows.extend([
        Workload::new::<rival::RawSync>("raw_sync RwLock, 1 reader", 1),
        Workload::new::<rival::RawSync>("raw_sync RwLock, 2 readers", 2),
        Workload::new::<rival::RawSync>("raw_sync RwLock, 4 readers", 4),
        Workload::new::<rival::ParkingLot>("parking_lot RwLock, 1 thread", 1).in_threads(),
        Workload::new::<rival::ParkingLot>("parking_lot RwLock, 2 threads", 2).in_threads(),
        Workload::new::<rival::ParkingLot>("parking_lot RwLock, 4 threads", 4).in_threads(),
    ]);
    Section {
        key: "rwlock",
        title: "A shared number, read under a readers-writer lock",
        reference: MUTEX,
        rows,
        targets: vec![Target {
            row: RWLOCK,
            reference: MUTEX,
            bound: Bound::TimeAtMost(1.2),
        }],
        notes: [
            crate::variants::absent(&["raw_sync RwLock", "parking_lot RwLock (threads)"]),
            boost("interprocess_sharable_mutex and interprocess_upgradable_mutex"),
        ]
        .concat(),
        after: None,
    }
}

/// A mutex, to compare with.
struct Locked(Mutex<u64>);

impl Operation for Locked {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Mutex::create(place(site), 1_u64))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Mutex::open(&site.name).map(Self).map_err(io::Error::other)
    }

    #[inline]
    fn once(&mut self) {
        black_box(*self.0.lock().expect("nobody dies"));
    }
}

impl Operation for RwLock<u64> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::create(place(site), 1))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn once(&mut self) {
        black_box(*self.read().expect("nobody dies"));
    }
}

/// A lock and, in the same cache line, what it protects.
#[repr(C)]
struct Shared {
    lock: libc::pthread_rwlock_t,
    value: u64,
}

/// The C library's, in a page of the arena that the parent initialised and that is never unmapped.
struct Pthread(*mut Shared);

impl Operation for Pthread {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let shared: *mut Shared = site.page.start();
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a place of the right type that the call initialises.
        check(unsafe { libc::pthread_rwlockattr_init(attributes) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_rwlockattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: a place of the right type in a page of its own, used by nobody yet; attributes initialised above.
        check(unsafe { libc::pthread_rwlock_init(shared.cast(), attributes) })?;
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.start()))
    }

    #[inline]
    fn once(&mut self) {
        // SAFETY: initialised by the parent, mapped for ever; the lock is the first field.
        check(unsafe { libc::pthread_rwlock_rdlock(self.0.cast()) }).expect("nobody writes");
        // SAFETY: in bounds, only an address is computed.
        let value = unsafe { &raw const (*self.0).value };
        // SAFETY: mapped for ever, and nobody writes it; any bytes are an integer.
        black_box(unsafe { value.read_volatile() });
        // SAFETY: locked above.
        check(unsafe { libc::pthread_rwlock_unlock(self.0.cast()) }).expect("it was locked");
    }
}

#[cfg(feature = "rivals")]
mod rival {
    use std::any::Any;
    use std::hint::black_box;
    use std::io;

    use raw_sync::locks::{LockImpl, LockInit, RwLock};

    use crate::variants::{Site, told};
    use crate::workload::{Operation, nothing_to_keep};

    /// `raw_sync`'s, in a page of the arena that the parent initialised and that is never unmapped.
    pub(super) struct RawSync(Box<dyn LockImpl>);

    /// Where the value lies: behind the lock.
    const VALUE: usize = 64;
    const _: () = assert!(size_of::<libc::pthread_rwlock_t>() <= VALUE);

    impl Operation for RawSync {
        fn create(site: &Site) -> io::Result<Box<dyn Any>> {
            let memory: *mut u8 = site.page.start();
            // SAFETY: the start of a page of its own, used by nobody yet; the value lies behind the lock.
            unsafe { RwLock::new(memory, memory.wrapping_add(VALUE)) }.map_err(told)?;
            Ok(nothing_to_keep())
        }

        fn open(site: &Site) -> io::Result<Self> {
            let memory: *mut u8 = site.page.start();
            // SAFETY: initialised by the parent, mapped for ever.
            let (lock, _) = unsafe { RwLock::from_existing(memory, memory.wrapping_add(VALUE)) }
                .map_err(told)?;
            Ok(Self(lock))
        }

        #[inline]
        fn once(&mut self) {
            let guard = self.0.rlock().expect("nobody writes");
            let value: *const u64 = (*guard).cast();
            // SAFETY: eight bytes in a page that is mapped for ever, and nobody writes them; any bytes are an integer.
            black_box(unsafe { value.read_volatile() });
        }
    }

    /// The one lock of this process, in a cache line of its own.
    #[repr(align(64))]
    #[derive(Debug)]
    struct Line(parking_lot::RwLock<u64>);

    static SHARED: Line = Line(parking_lot::RwLock::new(1));

    /// `parking_lot::RwLock` for the threads of one process.
    #[derive(Debug)]
    pub(super) struct ParkingLot;

    impl Operation for ParkingLot {
        fn create(_: &Site) -> io::Result<Box<dyn Any>> {
            Ok(nothing_to_keep())
        }

        fn open(_: &Site) -> io::Result<Self> {
            Ok(Self)
        }

        #[inline]
        fn once(&mut self) {
            black_box(*SHARED.0.read());
        }
    }
}
