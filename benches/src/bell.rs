//! Two peers that wake each other in turn: from a wake-up to the next.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::now;
use crate::statistics::quantile;
use crate::variants::Site;
use crate::workload::{Act, Done};

/// How one peer wakes the other, seen from its seat (0 or 1).
pub trait Bell: Sized + 'static {
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
    fn open(site: &Site, seat: usize) -> io::Result<Self>;

    /// Wakes the other.
    fn ring(&mut self);

    /// Waits until the other rings, once for each time.
    fn wait(&mut self);
}

/// Seat 0 rings and waits for the echo; an operation is there and back.
#[derive(Debug)]
pub struct PingPong<B> {
    bell: B,
    seat: usize,
    /// Not zero: seat 1 answers once more and leaves.
    last: &'static AtomicU64,
    times: Times,
}

impl<B: Bell> Act for PingPong<B> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        B::create(site)
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            bell: B::open(site, seat)?,
            seat,
            last: site.page.aside(),
            times: Times::default(),
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        if self.seat == 0 {
            self.call(stop)
        } else {
            self.echo();
            Done::default()
        }
    }
}

impl<B: Bell> PingPong<B> {
    fn call(&mut self, stop: &AtomicU32) -> Done {
        let mut began = now();
        // Relaxed: nothing is read because of it.
        while stop.load(Ordering::Relaxed) == 0 || self.times.is_empty() {
            self.bell.ring();
            self.bell.wait();
            let ended = now();
            self.times.add(ended - began);
            began = ended;
        }
        // Relaxed: the bell orders it, as it orders everything that is said by ringing.
        self.last.store(1, Ordering::Relaxed);
        self.bell.ring();
        self.bell.wait();
        self.times.done()
    }

    fn echo(&mut self) {
        loop {
            self.bell.wait();
            // Relaxed, both: as in `call`.
            let last = self.last.load(Ordering::Relaxed) != 0;
            if last {
                self.last.store(0, Ordering::Relaxed);
            }
            self.bell.ring();
            if last {
                return;
            }
        }
    }
}

/// The times of single operations in one slice.
#[derive(Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// Adds one, in nanoseconds.
    #[inline]
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds as f64);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they were; forgets them.
    #[must_use]
    pub fn done(&mut self) -> Done {
        let done = Done {
            operations: self.0.len() as u64,
            median: quantile(&self.0, 0.5) as u64,
            tail: quantile(&self.0, 0.99) as u64,
            ..Done::default()
        };
        self.0.clear();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn times_are_told_once() {
        let mut times = Times::default();
        (1..=100).for_each(|time| times.add(time));
        let done = times.done();
        assert_eq!((done.operations, done.median, done.tail), (100, 50, 99));
        assert_eq!(times.done().operations, 0);
    }
}
