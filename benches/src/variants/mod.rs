//! The contenders: a file for each library, and the list of all.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Page;

mod atomic;
#[cfg(feature = "rivals")]
mod parking_lot;
mod pthread;
#[cfg(feature = "rivals")]
mod raw_sync;
mod shm;
mod std_mutex;

pub use atomic::{FetchSub, Unlocked};
#[cfg(feature = "rivals")]
pub use parking_lot::ParkingLot;
pub(crate) use pthread::check;
pub use pthread::{Pthread, PthreadRobust};
#[cfg(feature = "rivals")]
pub use raw_sync::RawSync;
#[cfg(feature = "rivals")]
pub(crate) use raw_sync::told;
pub(crate) use shm::place;
pub use shm::{ShmAtomicValue, ShmMutex, ShmValue};
pub use std_mutex::StdMutex;

/// Where one contender of one run lives: a page of the arena, and a name for those that need one.
#[derive(Clone, Debug)]
pub struct Site {
    /// The page, the same bytes in all processes of the run.
    pub page: &'static Page,
    /// A name that no other run and no other contender uses.
    pub name: String,
}

/// One way to share a counter.
pub trait Variant: Sized + 'static {
    /// Makes it. Called once, before any [`Variant::open`]; the value is kept until the run ends.
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn create(site: &Site) -> io::Result<Self>;

    /// Finds what another process made.
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn open(site: &Site) -> io::Result<Self>;

    /// Takes one from the counter.
    fn decrement(&self);

    /// Sets the counter; nobody else uses it meanwhile.
    fn set(&self, count: u64);

    /// Reads the counter; nobody else uses it meanwhile.
    fn get(&self) -> u64;

    /// The lock, for variants that have one.
    fn lock(&self) -> Option<&dyn Hold> {
        None
    }
}

/// How the lock was left by its last owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// It unlocked.
    Left,
    /// It died, and the lock says so.
    Died,
}

/// A variant with a lock; it is a [`Variant`] whose every access is made under the lock.
pub trait Lock: Sized + 'static {
    /// Makes it, as [`Variant::create`].
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn create(site: &Site) -> io::Result<Self>;

    /// Finds what another process made, as [`Variant::open`].
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn open(site: &Site) -> io::Result<Self>;

    /// Locks, runs `critical` with the counter, unlocks. What a dead owner left is taken as it is: a counter is always whole.
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R;
}

impl<L: Lock> Variant for L {
    fn create(site: &Site) -> io::Result<Self> {
        Lock::create(site)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Lock::open(site)
    }

    #[inline]
    fn decrement(&self) {
        self.with(|count, _| *count -= 1);
    }

    fn set(&self, count: u64) {
        self.with(|counter, _| *counter = count);
    }

    fn get(&self) -> u64 {
        self.with(|count, _| *count)
    }

    fn lock(&self) -> Option<&dyn Hold> {
        Some(self)
    }
}

/// [`Lock::with`] as an object, for measurements in which a call more is nothing.
pub trait Hold {
    /// Locks, runs `critical`, unlocks.
    fn hold(&self, critical: &mut dyn FnMut(Former));
}

impl<L: Lock> Hold for L {
    fn hold(&self, critical: &mut dyn FnMut(Former)) {
        self.with(|_, former| critical(former));
    }
}

/// A [`Variant`] as an object: the loop is inside, so that it is compiled for each variant.
pub trait Contender {
    /// Decrements until `stop` is not zero; how often.
    fn count(&self, stop: &AtomicU32) -> u64;
    /// [`Variant::set`].
    fn set(&self, count: u64);
    /// [`Variant::get`].
    fn get(&self) -> u64;
    /// [`Variant::lock`].
    fn lock(&self) -> Option<&dyn Hold>;
}

/// Decrements between two looks at the stop sign.
const BATCH: u64 = 16;

impl<V: Variant> Contender for V {
    fn count(&self, stop: &AtomicU32) -> u64 {
        let mut operations = 0;
        loop {
            for _ in 0..BATCH {
                self.decrement();
            }
            operations += BATCH;
            // Relaxed: nothing is read because of it. A peer that came late works once all the same.
            if stop.load(Ordering::Relaxed) != 0 {
                return operations;
            }
        }
    }

    fn set(&self, count: u64) {
        Variant::set(self, count);
    }

    fn get(&self) -> u64 {
        Variant::get(self)
    }

    fn lock(&self) -> Option<&dyn Hold> {
        Variant::lock(self)
    }
}

/// What kind of peers a variant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Processes.
    Processes,
    /// Threads of one process: a reference, not an alternative.
    Threads,
}

/// What becomes of the lock when its holder is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterKill {
    /// Nothing is ever held.
    NotHeld,
    /// The next one gets it.
    HandedOver,
    /// It stays locked for ever.
    Stuck,
    /// The threads that could wait die with it.
    AllDie,
}

impl fmt::Display for AfterKill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotHeld => "no lock",
            Self::HandedOver => "handed over",
            Self::Stuck => "stuck",
            Self::AllDie => "one process",
        })
    }
}

type Make = fn(&Site) -> io::Result<Box<dyn Contender>>;

/// A contender of the list.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name in the tables.
    pub name: &'static str,
    /// For whom it is.
    pub peers: Peers,
    /// What a killed holder leaves.
    pub after_kill: AfterKill,
    /// Whether all decrements must arrive.
    pub exact: bool,
    /// Whether it has a lock.
    pub lock: bool,
    /// [`Variant::create`].
    pub create: Make,
    /// [`Variant::open`].
    pub open: Make,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}

impl Entry {
    const fn counter<V: Variant>(name: &'static str) -> Self {
        Self {
            name,
            peers: Peers::Processes,
            after_kill: AfterKill::NotHeld,
            exact: true,
            lock: false,
            create: |site| Ok(Box::new(V::create(site)?)),
            open: |site| Ok(Box::new(V::open(site)?)),
        }
    }

    const fn locked<L: Lock>(name: &'static str, after_kill: AfterKill) -> Self {
        Self {
            lock: true,
            after_kill,
            ..Self::counter::<L>(name)
        }
    }

    const fn for_threads(self) -> Self {
        Self {
            peers: Peers::Threads,
            ..self
        }
    }

    const fn inexact(self) -> Self {
        Self {
            exact: false,
            ..self
        }
    }
}

/// The name of the variant that all ratios "to the atomic" are taken to.
pub const ATOMIC: &str = "atomic fetch_sub";

/// The name of the variant that all ratios "to robust" are taken to.
pub const ROBUST: &str = "pthread robust";

/// All contenders of this build, in the order of the tables.
pub const ALL: &[Entry] = &[
    Entry::counter::<Unlocked>("unlocked").inexact(),
    Entry::counter::<FetchSub>(ATOMIC),
    Entry::counter::<ShmAtomicValue>("shm AtomicValue"),
    Entry::locked::<ShmMutex>("shm Mutex", AfterKill::HandedOver),
    Entry::locked::<ShmValue>("shm Value", AfterKill::HandedOver),
    Entry::locked::<Pthread>("pthread", AfterKill::Stuck),
    Entry::locked::<PthreadRobust>(ROBUST, AfterKill::HandedOver),
    #[cfg(feature = "rivals")]
    Entry::locked::<RawSync>("raw_sync", AfterKill::Stuck),
    Entry::locked::<StdMutex>("std Mutex (threads)", AfterKill::AllDie).for_threads(),
    #[cfg(feature = "rivals")]
    Entry::locked::<ParkingLot>("parking_lot (threads)", AfterKill::AllDie).for_threads(),
];

/// A line for each of these rivals if this build leaves them out.
#[must_use]
pub fn absent(rivals: &[&str]) -> Vec<String> {
    if cfg!(feature = "rivals") {
        return Vec::new();
    }
    let line = |rival| format!("absent: {rival}; `--features rivals` brings it in");
    rivals.iter().map(line).collect()
}

/// A line for each of these rivals, which no build has, and why.
#[must_use]
pub fn without_code(rivals: &[(&str, &str)]) -> Vec<String> {
    let line = |(rival, why): &(&str, &str)| format!("absent: {rival}; no code for it: {why}");
    rivals.iter().map(line).collect()
}

/// Why a rival in C++ is for [`without_code`].
pub const FOREIGN: &str = "it is C++, and these benches are Rust and Python";

/// The mutexes of boost for [`without_code`].
pub const BOOST: (&str, &str) = (
    "boost::interprocess, interprocess_mutex and its robust kind",
    FOREIGN,
);

/// The mutex of `raw_sync` for [`absent`].
pub const RAW_SYNC: &str = "raw_sync 0.1 in a shared_memory 0.12 segment";

/// The mutex of `parking_lot` for [`absent`].
pub const PARKING_LOT: &str = "parking_lot (threads)";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::thread;
    use std::time::Duration;

    use super::{ALL, ATOMIC, Contender, Former, Peers, ROBUST, Site};
    use crate::arena::Arena;

    fn sites(arena: &Arena) -> Vec<Site> {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let run = RUN.fetch_add(1, Relaxed);
        let name = |at| format!("shm-bench-test.{}.{run}.{at}", std::process::id());
        (0..ALL.len())
            .map(|at| Site {
                page: arena.page(at),
                name: name(at),
            })
            .collect()
    }

    #[test]
    fn names_are_unique_and_the_references_are_among_them() {
        let names: HashSet<&str> = ALL.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.contains(ATOMIC) && names.contains(ROBUST));
    }

    #[test]
    fn exact_variants_lose_nothing_among_two_threads() {
        let arena = Arena::create(ALL.len()).unwrap();
        for (entry, site) in ALL
            .iter()
            .zip(sites(&arena))
            .filter(|(entry, _)| entry.exact)
        {
            let made = (entry.create)(&site).unwrap();
            made.set(1 << 40);
            let stop = AtomicU32::new(0);
            let work = || (entry.open)(&site).unwrap().count(&stop);
            let done: u64 = thread::scope(|scope| {
                let peers = [scope.spawn(work), scope.spawn(work)];
                thread::sleep(Duration::from_millis(20));
                stop.store(1, Relaxed);
                peers.map(|peer| peer.join().unwrap()).iter().sum()
            });
            assert!(done > 0, "{}", entry.name);
            assert_eq!(made.get(), (1 << 40) - done, "{}", entry.name);
        }
    }

    #[test]
    fn locks_hold_and_tell_how_they_were_left() {
        let arena = Arena::create(ALL.len()).unwrap();
        for (entry, site) in ALL
            .iter()
            .zip(sites(&arena))
            .filter(|(entry, _)| entry.peers == Peers::Processes)
        {
            let made: Box<dyn Contender> = (entry.create)(&site).unwrap();
            assert_eq!(made.lock().is_some(), entry.lock, "{}", entry.name);
            let mut seen = None;
            if let Some(lock) = made.lock() {
                lock.hold(&mut |former| seen = Some(former));
                assert_eq!(seen, Some(Former::Left), "{}", entry.name);
            }
        }
    }
}
