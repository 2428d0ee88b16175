//! A way for messages from end to end, whatever it is made of.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::bell::Bell;
use crate::variants::Site;
use crate::workload::{Act, Done};

/// Which end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Put,
    Get,
}

/// A bounded channel of messages, each of which carries a stamp. A site has room for two of them: lanes 0 and 1.
pub(super) trait Channel: Sized + 'static {
    fn create(site: &Site, lane: usize) -> io::Result<Box<dyn Any>>;
    fn open(site: &Site, lane: usize, end: End) -> io::Result<Self>;

    /// Puts a message; waits while there is no room.
    fn put(&mut self, stamp: u64);

    /// Gets a message; waits while there is none.
    fn get(&mut self) -> u64;

    /// Puts messages with these stamps.
    fn put_many(&mut self, stamps: Range<u64>) {
        stamps.for_each(|stamp| self.put(stamp));
    }

    /// Gets one or more messages, at most [`BATCH`].
    fn get_many(&mut self, stamps: &mut Vec<u64>) {
        let stamp = self.get();
        stamps.push(stamp);
    }
}

/// Messages put and got at a time, where several are.
pub(super) const BATCH: usize = 16;

/// The stamp of a producer's last message.
const LAST: u64 = u64::MAX;

/// Where the producer's seat stands in a stamp; below it stands a serial number.
const SEAT_SHIFT: u32 = 56;

/// Seats below `SIDE` put, as many others get.
pub(super) struct Stream<C, const SIDE: usize, const MANY: bool> {
    channel: C,
    seat: usize,
    /// A producer's next stamp.
    next: u64,
    /// The last stamp that a consumer got from each producer.
    seen: [u64; SIDE],
    got: Vec<u64>,
}

impl<C: Channel, const SIDE: usize, const MANY: bool> Act for Stream<C, SIDE, MANY> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        C::create(site, 0)
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        let end = if seat < SIDE { End::Put } else { End::Get };
        Ok(Self {
            channel: C::open(site, 0, end)?,
            seat,
            next: ((seat as u64) << SEAT_SHIFT) + 1,
            seen: std::array::from_fn(|producer| (producer as u64) << SEAT_SHIFT),
            got: Vec::new(),
        })
    }

    fn act(&mut self, stop: &AtomicU32) -> Done {
        if self.seat < SIDE {
            self.produce(stop)
        } else {
            self.consume()
        }
    }
}

impl<C: Channel, const SIDE: usize, const MANY: bool> Stream<C, SIDE, MANY> {
    fn produce(&mut self, stop: &AtomicU32) -> Done {
        let first = self.next;
        // Relaxed: nothing is read because of it.
        while stop.load(Relaxed) == 0 || self.next == first {
            if MANY {
                let end = self.next + BATCH as u64;
                self.channel.put_many(self.next..end);
                self.next = end;
            } else {
                self.channel.put(self.next);
                self.next += 1;
            }
        }
        self.channel.put(LAST);
        Done {
            balance: (self.next - first).cast_signed(),
            ..Done::default()
        }
    }

    /// Until one producer's last message: as many consumers as producers, so each has one to wait for.
    fn consume(&mut self) -> Done {
        let mut done = Done::default();
        if !MANY {
            loop {
                match self.channel.get() {
                    LAST => break,
                    stamp => self.count(stamp, &mut done),
                }
            }
        }
        let mut lasts = u32::from(!MANY);
        while lasts == 0 {
            let mut got = std::mem::take(&mut self.got);
            self.channel.get_many(&mut got);
            for stamp in got.drain(..) {
                match stamp {
                    LAST => lasts += 1,
                    stamp => self.count(stamp, &mut done),
                }
            }
            self.got = got;
        }
        for _ in 1..lasts {
            self.channel.put(LAST);
        }
        done
    }

    /// Each producer's messages come in order, and all of them if there is one consumer.
    #[inline]
    fn count(&mut self, stamp: u64, done: &mut Done) {
        done.operations += 1;
        done.balance -= 1;
        let Some(seen) = self.seen.get_mut((stamp >> SEAT_SHIFT) as usize) else {
            done.faults += 1;
            return;
        };
        let right = if SIDE == 1 {
            stamp == *seen + 1
        } else {
            stamp > *seen
        };
        done.faults += u64::from(!right);
        *seen = stamp;
    }
}

/// A message is the bell.
pub(super) struct Lanes<C> {
    out: C,
    back: C,
}

impl<C: Channel> Bell for Lanes<C> {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        Ok(Box::new([C::create(site, 0)?, C::create(site, 1)?]))
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            out: C::open(site, seat, End::Put)?,
            back: C::open(site, 1 - seat, End::Get)?,
        })
    }

    #[inline]
    fn ring(&mut self) {
        self.out.put(1);
    }

    #[inline]
    fn wait(&mut self) {
        self.back.get();
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::collections::VecDeque;
    use std::io;

    use super::{Act, Channel, End, LAST, Site, Stream};
    use crate::arena::Arena;
    use crate::workload::{Done, nothing_to_keep};

    struct Scripted(VecDeque<u64>);

    impl Channel for Scripted {
        fn create(_: &Site, _: usize) -> io::Result<Box<dyn Any>> {
            Ok(nothing_to_keep())
        }
        fn open(_: &Site, _: usize, _: End) -> io::Result<Self> {
            Ok(Self(VecDeque::new()))
        }
        fn put(&mut self, stamp: u64) {
            self.0.push_back(stamp);
        }
        fn get(&mut self) -> u64 {
            self.0.pop_front().unwrap()
        }
    }

    fn consumed(stamps: &[u64]) -> Done {
        let arena = Arena::create(1).unwrap();
        let site = Site {
            page: arena.page(0),
            name: String::new(),
        };
        let mut stream = Stream::<Scripted, 1, true>::open(&site, 1).unwrap();
        stream.channel.0.extend(stamps);
        stream.channel.0.push_back(LAST);
        stream.consume()
    }

    #[test]
    fn messages_out_of_order_missing_or_twice_are_faults() {
        assert_eq!(consumed(&[1, 2, 3]).faults, 0);
        assert_eq!(consumed(&[1, 2, 3]).balance, -3);
        assert_eq!(consumed(&[2, 3]).faults, 1, "the first is missing");
        assert_eq!(consumed(&[1, 1, 2]).faults, 1, "twice");
        assert!(consumed(&[2, 1]).faults > 0, "out of order");
        assert_eq!(consumed(&[7 << 56]).faults, 1, "from nobody");
    }
}
