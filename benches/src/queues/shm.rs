//! Our queues.

use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;

use shm_queue::{ByteQueue, Codec, JoinableQueue, Options, Postcard, Queue, Raw, WaitStrategy};

use super::channel::{BATCH, Channel, End};
use crate::variants::{Site, place};
use crate::workload::keep;

/// Messages that may wait, of each size: 256, or as many as take 4 MiB.
pub(super) const fn capacity(size: usize) -> u32 {
    if size <= 1024 {
        256
    } else {
        (4 << 20) / size as u32
    }
}

/// How a handle waits, for a type to say.
pub(super) trait Waits: 'static {
    const HOW: WaitStrategy;
}

/// As a handle does unless told.
pub(super) enum Adaptive {}
/// At once asleep.
pub(super) enum Sleep {}
/// Never asleep.
pub(super) enum Spin {}

impl Waits for Adaptive {
    const HOW: WaitStrategy = WaitStrategy::Adaptive;
}
impl Waits for Sleep {
    const HOW: WaitStrategy = WaitStrategy::Sleep;
}
impl Waits for Spin {
    const HOW: WaitStrategy = WaitStrategy::Spin;
}

fn named(site: &Site, lane: usize) -> Site {
    Site {
        page: site.page,
        name: format!("{}-{lane}", site.name),
    }
}

/// `ByteQueue`, with messages of `SIZE` bytes.
pub(super) struct Bytes<const SIZE: usize, W = Adaptive> {
    queue: ByteQueue,
    messages: Vec<[u8; SIZE]>,
    got: Vec<u8>,
    several: Vec<Vec<u8>>,
    waits: PhantomData<W>,
}

fn stamp(message: &[u8]) -> u64 {
    let first = message.first_chunk().expect("a message has a stamp");
    u64::from_ne_bytes(*first)
}

impl<const SIZE: usize, W: Waits> Channel for Bytes<SIZE, W> {
    fn create(site: &Site, lane: usize) -> io::Result<Box<dyn Any>> {
        let (size, capacity) = (SIZE as u64, capacity(SIZE));
        let options = Options::new(capacity)
            .max_message(size)
            .arena_bytes(2 * size * u64::from(capacity));
        keep(ByteQueue::create(place(&named(site, lane)), options))
    }

    fn open(site: &Site, lane: usize, _: End) -> io::Result<Self> {
        let queue = ByteQueue::open(&named(site, lane).name).map_err(io::Error::other)?;
        queue.set_wait_strategy(W::HOW);
        Ok(Self {
            queue,
            messages: vec![[7; SIZE]; BATCH],
            got: Vec::with_capacity(SIZE),
            several: Vec::new(),
            waits: PhantomData,
        })
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        self.messages[0][..8].copy_from_slice(&stamp.to_ne_bytes());
        self.queue.put(&self.messages[0]).expect("it is put");
    }

    #[inline]
    fn get(&mut self) -> u64 {
        self.queue.get_into(&mut self.got).expect("it is got");
        assert_eq!(self.got.len(), SIZE);
        stamp(&self.got)
    }

    #[inline]
    fn put_many(&mut self, stamps: Range<u64>) {
        let messages = &mut self.messages[..(stamps.end - stamps.start) as usize];
        for (message, stamp) in messages.iter_mut().zip(stamps) {
            message[..8].copy_from_slice(&stamp.to_ne_bytes());
        }
        self.queue.put_many(messages).expect("they are put");
    }

    #[inline]
    fn get_many(&mut self, stamps: &mut Vec<u64>) {
        let count = self.queue.get_many_into(&mut self.several, BATCH);
        let got = &self.several[..count.expect("they are got")];
        stamps.extend(got.iter().map(|message| stamp(message)));
    }
}

/// What travels in typed queues.
pub(super) trait Message: Send + 'static {
    fn stamped(stamp: u64) -> Self;
    fn stamp(&self) -> u64;
}

impl Message for u64 {
    #[inline]
    fn stamped(stamp: u64) -> Self {
        stamp
    }

    #[inline]
    fn stamp(&self) -> u64 {
        *self
    }
}

/// A small structure, for a codec to encode.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Order {
    number: u64,
    item: [u8; 16],
    grams: f64,
    urgent: bool,
}

impl Message for Order {
    #[inline]
    fn stamped(number: u64) -> Self {
        Self {
            number,
            item: *b"rye, dark, large",
            grams: 1500.0,
            urgent: true,
        }
    }

    #[inline]
    fn stamp(&self) -> u64 {
        self.number
    }
}

/// `Queue<T, C>`.
pub(super) struct Typed<T, C = Raw>(Queue<T, C>);

/// The queue of structures.
pub(super) type Orders = Typed<Order, Postcard>;

impl<T: Message, C: Codec<T> + 'static> Channel for Typed<T, C> {
    fn create(site: &Site, lane: usize) -> io::Result<Box<dyn Any>> {
        keep(Queue::<T, C>::create(
            place(&named(site, lane)),
            capacity(64),
        ))
    }

    fn open(site: &Site, lane: usize, _: End) -> io::Result<Self> {
        let queue = Queue::open(&named(site, lane).name);
        queue.map(Self).map_err(io::Error::other)
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        let put = self.0.put(T::stamped(stamp));
        assert!(put.is_ok(), "it is put");
    }

    #[inline]
    fn get(&mut self) -> u64 {
        self.0.get().expect("it is got").stamp()
    }
}

/// `JoinableQueue<u64, Raw>`: each message is a task, and is done.
pub(super) struct Tasks(JoinableQueue<u64, Raw>);

impl Channel for Tasks {
    fn create(site: &Site, lane: usize) -> io::Result<Box<dyn Any>> {
        keep(JoinableQueue::<u64, Raw>::create(
            place(&named(site, lane)),
            capacity(64),
        ))
    }

    fn open(site: &Site, lane: usize, _: End) -> io::Result<Self> {
        let queue = JoinableQueue::open(&named(site, lane).name);
        queue.map(Self).map_err(io::Error::other)
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        self.0.put(stamp).expect("it is put");
    }

    #[inline]
    fn get(&mut self) -> u64 {
        let task = self.0.get().expect("it is got");
        let stamp = *task;
        task.task_done().expect("it is done");
        stamp
    }
}
