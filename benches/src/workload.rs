//! What the peers of a [`Section`](crate::section::Section) do: a workload for each row of its table.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::variants::{Peers, Site};

/// What a peer did in one slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Operations that count.
    pub operations: u64,
    /// What it put in less what it took out; over all peers of a slice it must be zero.
    pub balance: i64,
    /// How often it saw something that must not be.
    pub faults: u64,
    /// Nanoseconds in which it prepared what comes next, or looked at what came out, which do not count.
    pub idle: u64,
    /// Median of its single operations, in nanoseconds, if it timed them.
    pub median: u64,
    /// Their 99th percentile.
    pub tail: u64,
}

/// A peer's part of a workload.
pub trait Act: Sized + 'static {
    /// Makes what the peers share. Called once, in the parent, before its peers are started; the value is kept until they
    /// have ended.
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;

    /// Finds what the parent made, for the peer in that seat (from 0).
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn open(site: &Site, seat: usize) -> io::Result<Self>;

    /// Works until `stop` is not zero, and then until all is as it was before.
    fn act(&mut self, stop: &AtomicU32) -> Done;
}

/// One operation, which each peer does again and again; nobody waits for another's.
pub trait Operation: Sized + 'static {
    /// As [`Act::create`].
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;

    /// As [`Act::open`].
    ///
    /// # Errors
    ///
    /// What the library or the system says.
    fn open(site: &Site) -> io::Result<Self>;

    /// Does it once.
    fn once(&mut self);

    /// How often something was seen that must not be.
    fn faults(&self) -> u64 {
        0
    }
}

/// Operations between two looks at the stop sign.
const BATCH: u64 = 16;

impl<O: Operation> Act for O {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        <O as Operation>::create(site)
    }

    fn open(site: &Site, _: usize) -> io::Result<Self> {
        <O as Operation>::open(site)
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let mut operations = 0;
        loop {
            for _ in 0..BATCH {
                self.once();
            }
            operations += BATCH;
            // Relaxed: nothing is read because of it. A peer that came late works once all the same.
            if stop.load(Ordering::Relaxed) != 0 {
                break;
            }
        }
        Done {
            operations,
            faults: self.faults(),
            ..Done::default()
        }
    }
}

/// An [`Act`] as an object.
pub trait Player {
    /// [`Act::act`].
    fn play(&mut self, stop: &AtomicU32) -> Done;
}

impl<A: Act> Player for A {
    fn play(&mut self, stop: &AtomicU32) -> Done {
        self.act(stop)
    }
}

type Create = fn(&Site) -> io::Result<Box<dyn Any>>;
type Open = fn(&Site, usize) -> io::Result<Box<dyn Player>>;

/// A row: what is done, by how many, and where.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name in the table and in targets.
    pub name: &'static str,
    /// By processes or by threads.
    pub peers: Peers,
    /// By how many.
    pub seats: usize,
    /// Whether all share one processor; else they go round-robin.
    pub together: bool,
    /// [`Act::create`].
    pub create: Create,
    /// [`Act::open`].
    pub open: Open,
}

impl Workload {
    /// A workload of so many processes.
    #[must_use]
    pub fn new<A: Act>(name: &'static str, seats: usize) -> Self {
        Self {
            name,
            peers: Peers::Processes,
            seats,
            together: false,
            create: A::create,
            open: |site, seat| Ok(Box::new(A::open(site, seat)?)),
        }
    }

    /// By threads of one process.
    #[must_use]
    pub fn in_threads(self) -> Self {
        Self {
            peers: Peers::Threads,
            ..self
        }
    }

    /// All on one processor.
    #[must_use]
    pub fn on_one_core(self) -> Self {
        Self {
            together: true,
            ..self
        }
    }
}

/// What lives in the arena alone needs nobody to keep it.
#[must_use]
pub fn nothing_to_keep() -> Box<dyn Any> {
    Box::new(())
}

/// What the parent keeps of a library's `create`.
///
/// # Errors
///
/// The library's, as one of ours.
pub fn keep<T: 'static>(
    made: Result<T, impl std::error::Error + Send + Sync + 'static>,
) -> io::Result<Box<dyn Any>> {
    Ok(Box::new(made.map_err(io::Error::other)?))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;
    use std::time::Duration;

    use crate::arena::Arena;
    use crate::suite::Suite;
    use crate::variants::Site;
    use crate::workload::Done;

    /// All workloads of all suites, by threads of this process: they find each other, lose nothing, and end.
    #[test]
    fn workloads_balance_and_end() {
        for suite in Suite::ALL {
            for section in suite.sections() {
                let arena = Arena::create(section.rows.len()).unwrap();
                for (number, row) in section.rows.iter().enumerate() {
                    let site = Site {
                        page: arena.page(number),
                        name: format!(
                            "shm-bench-test.{}.{suite}.{}.{number}",
                            std::process::id(),
                            section.key
                        ),
                    };
                    let _keep = (row.create)(&site).unwrap();
                    let (site, stop) = (&site, &AtomicU32::new(0));
                    let done: Vec<Done> = thread::scope(|scope| {
                        let play =
                            |seat| scope.spawn(move || (row.open)(site, seat).unwrap().play(stop));
                        let peers: Vec<_> = (0..row.seats).map(play).collect();
                        thread::sleep(Duration::from_millis(3));
                        stop.store(1, std::sync::atomic::Ordering::Relaxed);
                        peers.into_iter().map(|peer| peer.join().unwrap()).collect()
                    });
                    let what = format!("{suite} {} {}: {done:?}", section.key, row.name);
                    assert!(done.iter().any(|done| done.operations > 0), "{what}");
                    assert_eq!(
                        done.iter().map(|done| done.balance).sum::<i64>(),
                        0,
                        "{what}"
                    );
                    assert!(done.iter().all(|done| done.faults == 0), "{what}");
                }
            }
        }
    }
}
