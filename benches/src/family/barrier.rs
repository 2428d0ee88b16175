//! Barriers: a round is over when all have come.

use std::any::Any;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use shm_lock::Barrier;

use crate::section::Section;
use crate::variants::{Site, check, place};
use crate::workload::{Act, Done, Workload, keep, nothing_to_keep};

pub(super) fn section() -> Section {
    Section {
        key: "barrier",
        title: "Rounds of a barrier",
        reference: "pthread_barrier, 2 processes",
        rows: vec![
            Workload::new::<Rounds<Pthread<2>>>("pthread_barrier, 2 processes", 2),
            Workload::new::<Rounds<Shm<2>>>("shm Barrier, 2 processes", 2),
            Workload::new::<Rounds<Pthread<4>>>("pthread_barrier, 4 processes", 4),
            Workload::new::<Rounds<Shm<4>>>("shm Barrier, 4 processes", 4),
        ],
        targets: Vec::new(),
        notes: vec!["An operation is a round of all.".into()],
        after: None,
    }
}

/// A barrier for a number of parties.
trait Parties: Sized + 'static {
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;
    fn open(site: &Site) -> io::Result<Self>;
    fn wait(&self);
}

/// A peer that counts the rounds, from the first slice on.
struct Rounds<P> {
    barrier: P,
    seat: usize,
    round: u64,
    /// The number of the slice's last round, written by seat 0 before it comes to that round's barrier.
    last: &'static AtomicU64,
}

impl<P: Parties> Act for Rounds<P> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        P::create(site)
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            barrier: P::open(site)?,
            seat,
            round: 0,
            last: site.page.aside(),
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let first = self.round;
        loop {
            self.round += 1;
            // Relaxed, all: the barrier orders them. One who is slow may see the last round's number a round early; it is
            // not its own then.
            if self.seat == 0 && stop.load(Relaxed) != 0 {
                self.last.store(self.round, Relaxed);
            }
            self.barrier.wait();
            if self.last.load(Relaxed) == self.round {
                break;
            }
        }
        Done {
            operations: if self.seat == 0 {
                self.round - first
            } else {
                0
            },
            ..Done::default()
        }
    }
}

struct Shm<const PARTIES: u32>(Barrier);

impl<const PARTIES: u32> Parties for Shm<PARTIES> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Barrier::create(place(site), PARTIES))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Barrier::open(&site.name)
            .map(Self)
            .map_err(io::Error::other)
    }

    fn wait(&self) {
        self.0.wait().expect("nobody dies");
    }
}

/// The C library's, in a page of the arena that the parent initialised and that is never unmapped.
struct Pthread<const PARTIES: u32>(*mut libc::pthread_barrier_t);

impl<const PARTIES: u32> Parties for Pthread<PARTIES> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a place of the right type that the call initialises.
        check(unsafe { libc::pthread_barrierattr_init(attributes) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_barrierattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: a place of the right type in a page of its own, used by nobody yet.
        check(unsafe { libc::pthread_barrier_init(site.page.start(), attributes, PARTIES) })?;
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.start()))
    }

    fn wait(&self) {
        // SAFETY: initialised by the parent, mapped for ever.
        let code = unsafe { libc::pthread_barrier_wait(self.0) };
        assert!(code == 0 || code == libc::PTHREAD_BARRIER_SERIAL_THREAD);
    }
}
