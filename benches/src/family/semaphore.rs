//! Semaphores: take a permit and give it back.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shm_lock::{BoundedSemaphore, RobustSemaphore, Semaphore};

use super::boost;
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, check, place};
use crate::workload::{Operation, Workload, keep, nothing_to_keep};

/// Nobody else about, and no sleeper.
pub(super) fn uncontended() -> Section {
    Section {
        key: "semaphore",
        title: "A semaphore's permit taken and given back, nobody else about",
        reference: SEM_T,
        rows: rows(1),
        targets: vec![Target {
            row: SEMAPHORE,
            reference: SEM_T,
            bound: Bound::TimeAtMost(1.2),
        }],
        notes: boost(BOOST),
        after: None,
    }
}

/// Four processes for one permit.
pub(super) fn contended() -> Section {
    Section {
        key: "semaphore_contended",
        title: "A semaphore's only permit, wanted by 4 processes in a tight loop",
        reference: SEM_T,
        rows: rows(4),
        targets: vec![Target {
            row: SEMAPHORE,
            reference: SEM_T,
            bound: Bound::SpeedAtLeast(3.0),
        }],
        notes: [
            vec![
                "Within each section a word is written that no other process may be writing."
                    .into(),
            ],
            boost(BOOST),
        ]
        .concat(),
        after: None,
    }
}

const SEMAPHORE: &str = "shm Semaphore";
const SEM_T: &str = "sem_t";
const BOOST: &str = "interprocess_semaphore";

fn rows(seats: usize) -> Vec<Workload> {
    vec![
        Workload::new::<Inside<SemT>>(SEM_T, seats),
        Workload::new::<Inside<Semaphore>>(SEMAPHORE, seats),
        Workload::new::<Inside<BoundedSemaphore>>("shm BoundedSemaphore", seats),
        Workload::new::<Inside<RobustSemaphore>>("shm RobustSemaphore", seats),
    ]
}

/// A semaphore of one permit.
trait Permits: Sized + 'static {
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;
    fn open(site: &Site) -> io::Result<Self>;
    fn with(&self, section: impl FnOnce());
}

/// Sections under the permit, with a look whether another process is in one.
struct Inside<P> {
    permits: P,
    busy: &'static AtomicU64,
    faults: u64,
}

impl<P: Permits> Operation for Inside<P> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        P::create(site)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self {
            permits: P::open(site)?,
            busy: site.page.aside(),
            faults: 0,
        })
    }

    #[inline]
    fn once(&mut self) {
        let (busy, faults) = (self.busy, &mut self.faults);
        self.permits.with(|| {
            // Relaxed, all: the semaphore has to order them; that it does is what is checked.
            *faults += busy.load(Relaxed);
            busy.store(1, Relaxed);
            busy.store(0, Relaxed);
        });
    }

    fn faults(&self) -> u64 {
        self.faults
    }
}

impl Permits for Semaphore {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::create(place(site), 1))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn with(&self, section: impl FnOnce()) {
        let _permit = self.acquire();
        section();
    }
}

impl Permits for BoundedSemaphore {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::create(place(site), 1))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn with(&self, section: impl FnOnce()) {
        let _permit = self.acquire();
        section();
    }
}

impl Permits for RobustSemaphore {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        keep(Self::create(place(site), 1))
    }

    fn open(site: &Site) -> io::Result<Self> {
        Self::open(&site.name).map_err(io::Error::other)
    }

    #[inline]
    fn with(&self, section: impl FnOnce()) {
        let _permit = self.acquire().expect("a permit comes free");
        section();
    }
}

/// The C library's, in a page of the arena that the parent initialised and that is never unmapped.
struct SemT(*mut libc::sem_t);

impl Permits for SemT {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        // SAFETY: a place of the right type in a page of its own, used by nobody yet.
        match unsafe { libc::sem_init(site.page.start(), 1, 1) } {
            0 => Ok(nothing_to_keep()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(site.page.start()))
    }

    #[inline]
    fn with(&self, section: impl FnOnce()) {
        // SAFETY: initialised by the parent, mapped for ever.
        while unsafe { libc::sem_wait(self.0) } != 0 {}
        section();
        // SAFETY: as above.
        check(unsafe { libc::sem_post(self.0) }).expect("a permit is given back");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::Ordering::Relaxed;

    use super::{Inside, Operation, Permits, Site};
    use crate::arena::Arena;
    use crate::workload::nothing_to_keep;

    /// Gives everybody a permit.
    struct Generous;

    impl Permits for Generous {
        fn create(_: &Site) -> io::Result<Box<dyn std::any::Any>> {
            Ok(nothing_to_keep())
        }

        fn open(_: &Site) -> io::Result<Self> {
            Ok(Self)
        }

        fn with(&self, section: impl FnOnce()) {
            section();
        }
    }

    #[test]
    fn two_inside_are_a_fault() {
        let arena = Arena::create(1).unwrap();
        let site = Site {
            page: arena.page(0),
            name: String::new(),
        };
        let mut inside = <Inside<Generous> as Operation>::open(&site).unwrap();
        inside.once();
        assert_eq!(inside.faults(), 0);
        site.page.aside().store(1, Relaxed);
        inside.once();
        assert_eq!(inside.faults(), 1);
    }
}
