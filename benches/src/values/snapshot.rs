//! Values of several words, read whole, without a writer and beside one.

use std::any::Any;
use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

use shm_value::SeqValue;

use super::access::{FETCH_SUB, FetchSub};
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, check, place};
use crate::workload::{Act, Done, Workload, keep, nothing_to_keep};

const SEQ_64: &str = "shm SeqValue get, 64 B";

pub(super) fn alone() -> Section {
    Section {
        key: "snapshot",
        title: "A value read whole by one process, no writer",
        reference: FETCH_SUB,
        rows: rows(1),
        targets: vec![Target {
            row: SEQ_64,
            reference: FETCH_SUB,
            bound: Bound::TimeAtMost(3.0),
        }],
        notes: vec![
            "All words of a value are equal; a reader that sees two that differ is a fault.".into(),
        ],
        after: None,
    }
}

pub(super) fn beside_a_writer() -> Section {
    Section {
        key: "snapshot_written",
        title: "A value read whole by one process, while another writes it without a pause",
        reference: FETCH_SUB,
        rows: rows(2),
        targets: Vec::new(),
        notes: vec![
            "Operations are reads; the fetch_sub of the reference is made by one process, alone."
                .into(),
        ],
        after: None,
    }
}

fn rows(seats: usize) -> Vec<Workload> {
    vec![
        Workload::new::<FetchSub>(FETCH_SUB, 1),
        Workload::new::<Reading<SeqValue<[u64; 1]>, 1>>("shm SeqValue get, 8 B", seats),
        Workload::new::<Reading<SeqValue<[u64; 8]>, 8>>(SEQ_64, seats),
        Workload::new::<Reading<SeqValue<[u64; 128]>, 128>>("shm SeqValue get, 1 KiB", seats),
        Workload::new::<Reading<Pthread, 8>>("pthread_rwlock and copy, 64 B", seats),
        Workload::new::<Reading<Pthread, 128>>("pthread_rwlock and copy, 1 KiB", seats),
        Workload::new::<Reading<Std, 8>>("std RwLock and copy (threads), 64 B", seats).in_threads(),
        Workload::new::<Reading<Std, 128>>("std RwLock and copy (threads), 1 KiB", seats)
            .in_threads(),
    ]
}

/// A value of so many words, read and written whole.
trait Whole<const WORDS: usize>: Sized + 'static {
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;
    fn open(site: &Site) -> io::Result<Self>;
    fn read(&self) -> [u64; WORDS];
    fn write(&self, value: [u64; WORDS]);
}

/// Seat 0 reads; seat 1, if there is one, writes.
struct Reading<V, const WORDS: usize> {
    value: V,
    writes: bool,
}

impl<V: Whole<WORDS>, const WORDS: usize> Act for Reading<V, WORDS> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        V::create(site)
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            value: V::open(site)?,
            writes: seat == 1,
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let mut done = Done::default();
        // Relaxed, both: nothing is read because of it.
        if self.writes {
            let mut number = 0;
            while stop.load(Relaxed) == 0 {
                number += 1;
                self.value.write([number; WORDS]);
            }
            return done;
        }
        while stop.load(Relaxed) == 0 || done.operations == 0 {
            for _ in 0..16 {
                let seen = black_box(self.value.read());
                done.faults += u64::from(seen[0] != seen[WORDS - 1] || seen[WORDS / 2] != seen[0]);
            }
            done.operations += 16;
        }
        done
    }
}

impl<const WORDS: usize> Whole<WORDS> for SeqValue<[u64; WORDS]> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::create(place(site), [0; WORDS]))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn read(&self) -> [u64; WORDS] {
        self.get()
    }

    #[inline]
    fn write(&self, value: [u64; WORDS]) {
        self.set(value).expect("nobody dies");
    }
}

/// The C library's lock, and what it protects behind it, in a page that the parent initialised and that is never unmapped.
struct Pthread(*mut libc::pthread_rwlock_t);

impl Pthread {
    fn bytes<const WORDS: usize>(&self) -> *mut [u64; WORDS] {
        const { assert!(size_of::<libc::pthread_rwlock_t>() <= 64 && WORDS <= 128) };
        self.0.wrapping_byte_add(64).cast()
    }

    fn unlock(&self) {
        // SAFETY: initialised by the parent, mapped for ever, locked by this thread.
        check(unsafe { libc::pthread_rwlock_unlock(self.0) }).expect("it was locked");
    }
}

impl<const WORDS: usize> Whole<WORDS> for Pthread {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a place of the right type that the call initialises.
        check(unsafe { libc::pthread_rwlockattr_init(attributes) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_rwlockattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: a place of the right type in a page of its own, used by nobody yet; attributes initialised above.
        check(unsafe { libc::pthread_rwlock_init(site.page.start(), attributes) })?;
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.start()))
    }

    #[inline]
    fn read(&self) -> [u64; WORDS] {
        // SAFETY: initialised by the parent, mapped for ever.
        check(unsafe { libc::pthread_rwlock_rdlock(self.0) }).expect("it locks");
        // SAFETY: in bounds of the page (64 + 1024 bytes), aligned; no writer while we hold the lock; any bytes are integers.
        let value = unsafe { self.bytes().read_volatile() };
        self.unlock();
        value
    }

    #[inline]
    fn write(&self, value: [u64; WORDS]) {
        // SAFETY: initialised by the parent, mapped for ever.
        check(unsafe { libc::pthread_rwlock_wrlock(self.0) }).expect("it locks");
        // SAFETY: in bounds of the page, aligned; nobody else reads or writes while we hold the lock.
        unsafe { self.bytes().write_volatile(value) };
        self.unlock();
    }
}

/// `std::sync::RwLock` for the threads of one process.
struct Std(&'static RwLock<[u64; 128]>);

impl<const WORDS: usize> Whole<WORDS> for Std {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(_: &Site) -> io::Result<Self> {
        // One for each size: the words of a value are equal only if all of them are written.
        static SHARED: [RwLock<[u64; 128]>; 2] = [const { RwLock::new([0; 128]) }; 2];
        Ok(Self(&SHARED[usize::from(WORDS == 128)]))
    }

    #[inline]
    fn read(&self) -> [u64; WORDS] {
        let value = self.0.read().unwrap_or_else(PoisonError::into_inner);
        *value.first_chunk().expect("128 words are enough")
    }

    #[inline]
    fn write(&self, value: [u64; WORDS]) {
        let mut shared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        shared[..WORDS].copy_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::io;
    use std::sync::atomic::AtomicU32;

    use super::{Act, Reading, Site, Whole};
    use crate::arena::Arena;
    use crate::workload::nothing_to_keep;

    struct Torn;

    impl Whole<8> for Torn {
        fn create(_: &Site) -> io::Result<Box<dyn Any>> {
            Ok(nothing_to_keep())
        }
        fn open(_: &Site) -> io::Result<Self> {
            Ok(Self)
        }
        fn read(&self) -> [u64; 8] {
            [1, 1, 1, 1, 2, 2, 2, 2]
        }
        fn write(&self, _: [u64; 8]) {}
    }

    #[test]
    fn torn_value_is_a_fault() {
        let arena = Arena::create(1).unwrap();
        let site = Site {
            page: arena.page(0),
            name: String::new(),
        };
        let mut reading = Reading::<Torn, 8>::open(&site, 0).unwrap();
        let stop = AtomicU32::new(0);
        let done = std::thread::scope(|scope| {
            let reader = scope.spawn(|| reading.act(&stop));
            std::thread::sleep(std::time::Duration::from_millis(1));
            stop.store(1, std::sync::atomic::Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(done.operations > 0 && done.faults == done.operations);
    }
}
