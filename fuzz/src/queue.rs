//! Operations on queues through two handles each, against models in ordinary memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use shm_core::{Place, Region};
use shm_queue::{ByteQueue, JoinableQueue, Options, QueueError, Received, Reservation, TaskGuard};

use crate::input::{Rest, by_a_byte};

const CAPACITY: usize = 3;
const LEASES: usize = 2;
/// A longer message is copied out under a lease.
const SHORT: usize = 2048;
const LONGEST: usize = 2500;

/// What is done, and through which handle.
#[derive(Debug, Arbitrary)]
pub struct QueueScript {
    tasks: bool,
    steps: Rest<(bool, Operation)>,
}

by_a_byte! {
    #[derive(Debug)]
    enum Operation {
        Put(u16),
        Get,
        Lease,
        Finish(u8),
        GiveBack(u8),
        Reserve(u16),
        Commit(u8),
        Abort(u8),
        Recover,
        Reopen,
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    number: u32,
    text: Vec<u8>,
}

/// What is where. Positions are counted as the queue does, since producers know the head as they last saw it.
#[derive(Default)]
struct Model {
    waiting: VecDeque<Message>,
    leased: Vec<Message>,
    reserved: Vec<Vec<u8>>,
    head: isize,
    tail: isize,
    head_seen: isize,
    puts: u32,
}

impl Model {
    fn admits(&mut self, len: usize) -> Result<(), QueueError> {
        if len > LONGEST {
            let (len, most) = (len as u64, LONGEST as u64);
            return Err(QueueError::TooLarge { len, most });
        }
        let room =
            |m: &Self| m.tail - m.head_seen + (m.reserved.len() as isize) < CAPACITY as isize;
        if !room(self) {
            self.head_seen = self.head;
        }
        if room(self) {
            Ok(())
        } else {
            Err(QueueError::Full)
        }
    }

    fn append(&mut self, text: Vec<u8>) {
        let number = self.puts;
        self.waiting.push_back(Message { number, text });
        self.puts += 1;
        self.tail += 1;
    }

    fn first(&mut self, leased: bool) -> Result<Message, QueueError> {
        let large = |message: &Message| message.text.len() > SHORT;
        let leased = leased || self.waiting.front().is_some_and(large);
        if leased && self.leased.len() == LEASES {
            return Err(QueueError::Empty);
        }
        let first = self.waiting.pop_front().ok_or(QueueError::Empty)?;
        self.head += 1;
        Ok(first)
    }

    fn give_back(&mut self, message: Message) {
        let at = self.waiting.partition_point(|m| m.number < message.number);
        self.waiting.insert(at, message);
        self.head -= 1;
    }
}

/// Most messages are short.
fn length(len: u16, longest: usize) -> usize {
    let most = match len % 4 {
        0 => longest + 1,
        _ => 24,
    };
    usize::from(len) % most
}

fn options() -> Options {
    Options::new(CAPACITY as u32)
        .leases(LEASES as u32)
        .dead_letters(1)
        .max_message(LONGEST as u64)
        // Room for all, however the chunks in use are spread.
        .arena_bytes(160 << 8)
}

/// Large enough for either queue.
const REGION: usize = 64 << 10;

/// Runs a script.
///
/// # Panics
/// If an operation gives anything but what the model says.
pub fn queue_ops(script: &QueueScript) {
    let region = Region::heap(REGION);
    if script.tasks {
        tasks(script, &region);
    } else {
        bytes(script, &region);
    }
}

fn bytes(script: &QueueScript, region: &Region) {
    let place = || Place::region(region.clone());
    let first = ByteQueue::create(place(), options()).expect("room for a queue");
    let mut handles = [first, ByteQueue::open(place()).expect("it is there")];
    let mut leases: Vec<Received> = Vec::new();
    let mut reservations: Vec<Reservation> = Vec::new();
    let mut model = Model::default();
    for (second, operation) in script.steps.0.iter().take(100) {
        let which = usize::from(*second);
        let queue = &handles[which];
        match *operation {
            Operation::Put(len) => {
                let text = vec![model.puts as u8; length(len, LONGEST + 1)];
                let expected = model.admits(text.len());
                assert_eq!(queue.try_put(&text), expected);
                if expected.is_ok() {
                    model.append(text);
                }
            }
            Operation::Get => {
                let expected = model.first(false).map(|message| message.text);
                #[cfg(feature = "planted")]
                let expected = crate::planted::in_get(expected);
                assert_eq!(queue.get_deadline(Instant::now()).map_err(empty), expected);
            }
            Operation::Lease => match (queue.try_recv_ref(), model.first(true)) {
                (Ok(got), Ok(message)) => {
                    assert_eq!(*got, *message.text);
                    leases.push(got);
                    model.leased.push(message);
                }
                (got, expected) => assert_eq!(got.err(), expected.err()),
            },
            Operation::Finish(at) if !leases.is_empty() => {
                let at = usize::from(at) % leases.len();
                drop(leases.remove(at));
                model.leased.remove(at);
            }
            Operation::GiveBack(at) if !leases.is_empty() => {
                let at = usize::from(at) % leases.len();
                assert_eq!(leases.remove(at).give_back(), Ok(()));
                let message = model.leased.remove(at);
                model.give_back(message);
            }
            Operation::Reserve(len) => {
                let text = vec![len as u8; length(len, LONGEST + 1)];
                match (queue.try_reserve(text.len()), model.admits(text.len())) {
                    (Ok(mut got), Ok(())) => {
                        got.copy_from_slice(&text);
                        reservations.push(got);
                        model.reserved.push(text);
                    }
                    (got, expected) => assert_eq!(got.err(), expected.err()),
                }
            }
            Operation::Commit(at) if !reservations.is_empty() => {
                let at = usize::from(at) % reservations.len();
                assert_eq!(reservations.remove(at).commit(), Ok(()));
                let text = model.reserved.remove(at);
                model.append(text);
            }
            Operation::Abort(at) if !reservations.is_empty() => {
                let at = usize::from(at) % reservations.len();
                drop(reservations.remove(at));
                model.reserved.remove(at);
            }
            Operation::Recover => {
                let recovered = queue.recover().expect("words in order");
                assert_eq!((recovered.undone, recovered.returned), (0, 0));
                model.head_seen = model.head;
            }
            Operation::Reopen => handles[which] = ByteQueue::open(place()).expect("it is there"),
            _ => {}
        }
        assert_eq!(handles[0].len(), Ok(model.waiting.len()));
    }
    let seen = handles[1].inspect().expect("words in order");
    assert_eq!(seen.leases.len(), model.leased.len());
    assert_eq!(seen.writing, model.reserved.len());
    let rest = model.waiting.len();
    for _ in 0..rest {
        let expected = model.first(false).map(|message| message.text);
        assert_eq!(handles[0].try_get(), expected);
    }
    assert_eq!(handles[1].try_get(), Err(QueueError::Empty));
}

/// A wait that ends at once found nothing.
fn empty(error: QueueError) -> QueueError {
    match error {
        QueueError::Timeout => QueueError::Empty,
        error => error,
    }
}

fn tasks(script: &QueueScript, region: &Region) {
    let place = || Place::region(region.clone());
    let first = JoinableQueue::<Vec<u8>>::create(place(), options()).expect("room for a queue");
    let mut handles = [first, JoinableQueue::open(place()).expect("it is there")];
    let mut guards: Vec<TaskGuard<Vec<u8>>> = Vec::new();
    let mut model = Model::default();
    for (second, operation) in script.steps.0.iter().take(100) {
        let which = usize::from(*second);
        let queue = &handles[which];
        match *operation {
            Operation::Put(len) | Operation::Reserve(len) => {
                let text = vec![model.puts as u8; length(len, LONGEST - 2)];
                // The length of the text goes before it.
                let expected = model.admits(text.len() + 1 + usize::from(text.len() > 127));
                let put = queue.try_put(text.clone()).map_err(|refused| refused.error);
                assert_eq!(put, expected);
                if put.is_ok() {
                    model.append(text);
                }
            }
            Operation::Get | Operation::Lease => match (queue.try_get(), model.first(true)) {
                (Ok(got), Ok(message)) => {
                    assert_eq!(*got, message.text);
                    guards.push(got);
                    model.leased.push(message);
                }
                (got, expected) => assert_eq!(got.err(), expected.err()),
            },
            Operation::Finish(at) | Operation::Commit(at) if !guards.is_empty() => {
                let at = usize::from(at) % guards.len();
                assert_eq!(guards.remove(at).task_done(), Ok(()));
                model.leased.remove(at);
            }
            Operation::GiveBack(at) | Operation::Abort(at) if !guards.is_empty() => {
                let at = usize::from(at) % guards.len();
                assert_eq!(guards.remove(at).requeue(), Ok(()));
                let message = model.leased.remove(at);
                model.give_back(message);
            }
            Operation::Recover => {
                queue.recover().expect("words in order");
                model.head_seen = model.head;
            }
            Operation::Reopen => {
                handles[which] = JoinableQueue::open(place()).expect("it is there")
            }
            _ => {}
        }
        let unfinished = model.waiting.len() + model.leased.len();
        assert_eq!(handles[0].unfinished(), Ok(unfinished));
        let joined = handles[1].join_timeout(Duration::ZERO);
        assert_eq!(joined.is_ok(), unfinished == 0);
    }
}
