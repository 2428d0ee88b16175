//! What the peers do with a mapping.

use std::any::Any;
use std::io;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::thread;
use std::time::Duration;

use super::map::{Count, KEYS, Key, Map, Random, below, is_whole, key, number, stamp};
use crate::clock::now;
use crate::variants::Site;
use crate::workload::{Act, Done};

/// Operations between two looks at the stop sign.
const BATCH: u64 = 16;

/// Whoever comes first fills a mapping with so many values; the others wait for it. Each looks at all of them, so that
/// its pages are mapped.
fn fill<M: Map>(site: &Site, map: &mut M, value: &mut Vec<u8>, count: u64) {
    let (state, filled) = (site.page.aside(), 2);
    if state.compare_exchange(0, 1, Acquire, Acquire).is_ok() {
        for number in 0..count {
            stamp_if_long(value, number);
            map.set(&key(number), value);
        }
        state.store(filled, Release);
    }
    while state.load(Acquire) != filled {
        thread::sleep(Duration::from_millis(1));
    }
    let mut got = Vec::new();
    for number in 0..count {
        map.get(&key(number), &mut got);
    }
}

/// Counters begin with 0.
fn stamp_if_long(value: &mut [u8], number: u64) {
    if value.len() > 8 {
        stamp(value, number);
    }
}

/// Of a hundred operations on keys that are there, `WRITES` replace a value of `SIZE` bytes, the others get one.
pub(super) struct Access<M, const SIZE: usize, const WRITES: u64> {
    map: M,
    random: Random,
    value: Vec<u8>,
    got: Vec<u8>,
}

impl<M: Map, const SIZE: usize, const WRITES: u64> Act for Access<M, SIZE, WRITES> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        M::create(site)
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        let (mut map, mut value) = (M::open(site)?, vec![7; SIZE]);
        fill(site, &mut map, &mut value, KEYS);
        Ok(Self {
            map,
            random: Random::of(seat),
            value,
            got: Vec::with_capacity(SIZE),
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let mut done = Done::default();
        loop {
            for _ in 0..BATCH {
                let random = self.random.next();
                let key = key(below(random, KEYS));
                if random % 100 < WRITES {
                    stamp(&mut self.value, random);
                    self.map.set(&key, &self.value);
                } else {
                    let found = self.map.get(&key, &mut self.got);
                    done.faults += u64::from(!found || !is_whole(&self.got, SIZE));
                }
            }
            done.operations += BATCH;
            // Relaxed: nothing is read because of it.
            if stop.load(Relaxed) != 0 {
                return done;
            }
        }
    }
}

/// Where all peers of a mapping wait for each other.
struct Meeting {
    arrived: &'static AtomicU64,
    seats: u64,
    met: u64,
}

impl Meeting {
    fn new(site: &Site, seats: usize) -> Self {
        Self {
            arrived: site.page.word(),
            seats: seats as u64,
            met: 0,
        }
    }

    /// Until all are here.
    fn meet(&mut self) {
        self.met += self.seats;
        self.arrived.fetch_add(1, AcqRel);
        while self.arrived.load(Acquire) < self.met {
            thread::yield_now();
        }
    }
}

/// `COUNT` new keys into an empty mapping, again and again. Emptying it does not count.
pub(super) struct Insert<M, const SIZE: usize, const SEATS: usize, const COUNT: u64> {
    map: M,
    seat: usize,
    value: Vec<u8>,
    got: Vec<u8>,
    meeting: Meeting,
    /// Not zero: it is enough.
    enough: &'static AtomicU64,
}

impl<M: Map, const SIZE: usize, const SEATS: usize, const COUNT: u64> Act
    for Insert<M, SIZE, SEATS, COUNT>
{
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        M::create(site)
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            map: M::open(site)?,
            seat,
            value: vec![7; SIZE],
            got: Vec::with_capacity(SIZE),
            meeting: Meeting::new(site, SEATS),
            enough: site.page.aside(),
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let mut done = Done::default();
        loop {
            let began = now();
            if self.seat == 0 {
                self.map.empty().expect("it is emptied");
            }
            self.meeting.meet();
            if self.seat != 0 {
                self.map.was_emptied().expect("it is found again");
            }
            self.meeting.meet();
            done.idle += now() - began;
            for number in (self.seat as u64..COUNT).step_by(SEATS) {
                stamp(&mut self.value, number);
                self.map.set(&key(number), &self.value);
            }
            done.operations += (COUNT - self.seat as u64).div_ceil(SEATS as u64);
            self.meeting.meet();
            let ended = now();
            if self.seat == 0 {
                done.faults += self.missing();
                // Relaxed, here and below: the meeting orders it.
                self.enough.store(stop.load(Relaxed).into(), Relaxed);
            }
            self.meeting.meet();
            done.idle += now() - ended;
            if self.enough.load(Relaxed) != 0 {
                return done;
            }
        }
    }
}

impl<M: Map, const SIZE: usize, const SEATS: usize, const COUNT: u64>
    Insert<M, SIZE, SEATS, COUNT>
{
    /// Looks at some of the keys.
    fn missing(&mut self) -> u64 {
        let is_wrong = |number: u64, map: &mut M, got: &mut Vec<u8>| {
            let found = map.get(&key(number), got);
            !found || !is_whole(got, SIZE) || got[..8] != number.to_le_bytes()
        };
        let some = (0..COUNT).step_by(29);
        some.filter(|&number| is_wrong(number, &mut self.map, &mut self.got))
            .count() as u64
    }
}

/// Adds one to numbers that are there, of which there are `COUNT`. What is lost makes the bench fail.
pub(super) struct Update<M, const SEATS: usize, const COUNT: u64> {
    map: M,
    seat: usize,
    random: Random,
    got: Vec<u8>,
    meeting: Meeting,
    /// What all numbers were together, as seat 0 last saw them.
    sum: u64,
}

impl<M: Count, const SEATS: usize, const COUNT: u64> Act for Update<M, SEATS, COUNT> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        M::create(site)
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        let mut map = M::open(site)?;
        fill(site, &mut map, &mut vec![0; 8], COUNT);
        Ok(Self {
            map,
            seat,
            random: Random::of(seat),
            got: Vec::new(),
            meeting: Meeting::new(site, SEATS),
            sum: 0,
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        let mut done = Done::default();
        // Relaxed: nothing is read because of it.
        while stop.load(Relaxed) == 0 || done.operations == 0 {
            for _ in 0..BATCH {
                let key: Key = key(below(self.random.next(), COUNT));
                self.map.increment(&key);
            }
            done.operations += BATCH;
        }
        done.balance = done.operations.cast_signed();
        let ended = now();
        self.meeting.meet();
        if self.seat == 0 {
            let sum = self.sum();
            done.balance -= sum.wrapping_sub(self.sum).cast_signed();
            self.sum = sum;
        }
        done.idle = now() - ended;
        done
    }
}

impl<M: Count, const SEATS: usize, const COUNT: u64> Update<M, SEATS, COUNT> {
    fn sum(&mut self) -> u64 {
        let value = |at: u64| {
            assert!(self.map.get(&key(at), &mut self.got), "the key is there");
            number(&self.got)
        };
        (0..COUNT).map(value).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::collections::HashMap;
    use std::io;
    use std::sync::atomic::AtomicU32;

    use super::super::map::{Count, Key, Map};
    use super::{Access, Act, Insert, Site};
    use crate::arena::Arena;
    use crate::workload::{Done, nothing_to_keep};

    /// A mapping that loses every third change, and gives the first half of a value with the second of another.
    #[derive(Default)]
    struct Bad {
        map: HashMap<Key, Vec<u8>>,
        changes: u64,
    }

    impl Map for Bad {
        fn create(_: &Site) -> io::Result<Box<dyn Any>> {
            Ok(nothing_to_keep())
        }
        fn open(_: &Site) -> io::Result<Self> {
            Ok(Self::default())
        }
        fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
            out.clear();
            out.extend(self.map.get(key).into_iter().flatten());
            if let [_, .., last] = out.as_mut_slice() {
                *last ^= u8::from(self.map.len() == 1);
            }
            !out.is_empty()
        }
        fn set(&mut self, key: &Key, value: &Vec<u8>) {
            self.changes += 1;
            if !self.changes.is_multiple_of(3) {
                self.map.insert(*key, value.clone());
            }
        }
        fn empty(&mut self) -> io::Result<()> {
            self.map.clear();
            Ok(())
        }
    }

    impl Count for Bad {
        fn increment(&mut self, key: &Key) {
            let number = self.map.entry(*key).or_insert(vec![0; 8]);
            self.changes += 1;
            number[0] += u8::from(!self.changes.is_multiple_of(3));
        }
    }

    fn done<A: Act>() -> Done {
        let arena = Arena::create(1).unwrap();
        let site = Site {
            page: arena.page(0),
            name: String::new(),
        };
        let mut act = A::open(&site, 0).unwrap();
        act.act(&AtomicU32::new(1))
    }

    #[test]
    fn what_is_missing_torn_or_lost_is_found_out() {
        assert!(done::<Access<Bad, 64, 0>>().faults > 0, "missing");
        assert!(done::<Insert<Bad, 64, 1, 1000>>().faults > 0, "missing");
        assert!(done::<Insert<Bad, 64, 1, 1>>().faults > 0, "torn");
    }

    #[test]
    fn good_mapping_has_no_faults() {
        use super::super::in_process::Std;
        assert_eq!(done::<Access<Std<false>, 64, 5>>().faults, 0);
    }
}
