//! Channels for the threads of one process: what a queue can cost where nothing has to be shared with other processes.

use std::any::Any;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use crossbeam_queue::ArrayQueue;

use super::channel::{Channel, End};
use super::shm::{Message, capacity};
use crate::variants::Site;
use crate::workload::nothing_to_keep;

/// What the threads of this process have found in a lane; whoever comes first makes it.
fn shared<T: Clone + Send + 'static>(site: &Site, lane: usize, make: impl FnOnce() -> T) -> T {
    crate::shared::shared(&format!("{}-{lane}", site.name), make)
}

/// A message of `SIZE` bytes, by value.
impl<const SIZE: usize> Message for [u8; SIZE] {
    #[inline]
    fn stamped(stamp: u64) -> Self {
        let mut message = [7; SIZE];
        message[..8].copy_from_slice(&stamp.to_ne_bytes());
        message
    }

    #[inline]
    fn stamp(&self) -> u64 {
        u64::from_ne_bytes(*self.first_chunk().expect("a message has a stamp"))
    }
}

/// A message of `SIZE` bytes, written into a box that travels.
impl<const SIZE: usize> Message for Box<[u8; SIZE]> {
    #[inline]
    fn stamped(stamp: u64) -> Self {
        Self::new(<[u8; SIZE]>::stamped(stamp))
    }

    #[inline]
    fn stamp(&self) -> u64 {
        (**self).stamp()
    }
}

fn capacity_of<T>() -> usize {
    capacity(size_of::<T>()) as usize
}

/// `crossbeam_channel::bounded`; with `SPIN` it never sleeps.
pub(super) struct Crossbeam<T, const SPIN: bool = false>(Sender<T>, Receiver<T>);

impl<T: Message, const SPIN: bool> Channel for Crossbeam<T, SPIN> {
    fn create(_: &Site, _: usize) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site, lane: usize, _: End) -> io::Result<Self> {
        let (sender, receiver) =
            shared(
                site,
                lane,
                || crossbeam_channel::bounded(capacity_of::<T>()),
            );
        Ok(Self(sender, receiver))
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        let mut message = T::stamped(stamp);
        if SPIN {
            while let Err(TrySendError::Full(back)) = self.0.try_send(message) {
                message = back;
                std::hint::spin_loop();
            }
        } else {
            assert!(self.0.send(message).is_ok(), "it is put");
        }
    }

    #[inline]
    fn get(&mut self) -> u64 {
        if !SPIN {
            return self.1.recv().expect("it is got").stamp();
        }
        loop {
            match self.1.try_recv() {
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                message => return message.expect("it is got").stamp(),
            }
        }
    }
}

/// Looks before the processor is given away, by those that cannot sleep.
const LOOKS: u32 = 100;

/// Tries until it works: a ring that has no waiting of its own.
fn until<R>(mut attempt: impl FnMut() -> Option<R>) -> R {
    for look in 1_u32.. {
        if let Some(done) = attempt() {
            return done;
        }
        if look.is_multiple_of(LOOKS) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    unreachable!("the threads of the bench are killed long before");
}

/// `crossbeam_queue::ArrayQueue`.
pub(super) struct Array<T>(Arc<ArrayQueue<T>>);

impl<T: Message> Channel for Array<T> {
    fn create(_: &Site, _: usize) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site, lane: usize, _: End) -> io::Result<Self> {
        Ok(Self(shared(site, lane, || {
            Arc::new(ArrayQueue::new(capacity_of::<T>()))
        })))
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        let mut message = Some(T::stamped(stamp));
        until(|| match self.0.push(message.take()?) {
            Ok(()) => Some(()),
            Err(back) => {
                message = Some(back);
                None
            }
        });
    }

    #[inline]
    fn get(&mut self) -> u64 {
        until(|| self.0.pop()).stamp()
    }
}

/// The two ends of an `rtrb::RingBuffer`, each for one thread.
pub(super) enum Rtrb<T> {
    Put(rtrb::Producer<T>),
    Get(rtrb::Consumer<T>),
}

/// Both ends until they are taken.
type Both<T> = Arc<Mutex<(Option<rtrb::Producer<T>>, Option<rtrb::Consumer<T>>)>>;

impl<T: Message> Channel for Rtrb<T> {
    fn create(_: &Site, _: usize) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site, lane: usize, end: End) -> io::Result<Self> {
        let both: Both<T> = shared(site, lane, || {
            let (put, get) = rtrb::RingBuffer::new(capacity_of::<T>());
            Arc::new(Mutex::new((Some(put), Some(get))))
        });
        let mut both = both.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match end {
            End::Put => both.0.take().map(Self::Put),
            End::Get => both.1.take().map(Self::Get),
        };
        taken.ok_or_else(|| io::Error::other("each end is for one thread"))
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        let Self::Put(ring) = self else {
            panic!("the other end puts");
        };
        let mut message = Some(T::stamped(stamp));
        until(|| match ring.push(message.take()?) {
            Ok(()) => Some(()),
            Err(rtrb::PushError::Full(back)) => {
                message = Some(back);
                None
            }
        });
    }

    #[inline]
    fn get(&mut self) -> u64 {
        let Self::Get(ring) = self else {
            panic!("the other end gets");
        };
        until(|| ring.pop().ok()).stamp()
    }
}
