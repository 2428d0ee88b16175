//! Random operations through two handles against a model; then caches and words overwritten at random.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use shm_core::Place;
use shm_queue::raw::testing::start_numbers_at;
use shm_queue::{ByteQueue, DeadReason, Options, QueueError, Received, Reservation};
use shm_testing::watchdog;

const CAPACITY: usize = 3;
const LEASES: usize = 2;
const DEAD_LETTERS: usize = 2;
const MAX_DELIVERIES: u8 = 2;
const CELLS: usize = CAPACITY + LEASES + DEAD_LETTERS;
/// Bytes that a cell holds, and a chunk.
const INLINE: usize = 224;
const CHUNK: usize = 256;
/// Longer ones are copied outside the lock, under a lease.
const SHORT: usize = 2048;
const LONGEST: usize = 2600;
/// Enough for the longest in every cell, however the chunks in use are spread.
const CHUNKS: usize = 64;

#[derive(Debug, Clone)]
enum Op {
    Put(usize),
    Get,
    Lease,
    Finish(usize),
    GiveBack(usize),
    Reserve(usize),
    Commit(usize),
    Abort(usize),
    DeadLetters,
    Recover,
    Reopen,
    Close,
    ShutDown,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        4..INLINE + 3,
        Just(INLINE),
        INLINE + 1..LONGEST + 2,
        SHORT..SHORT + 2,
        Just(LONGEST)
    ]
}

/// Operations; `ends`: also those after which no put is taken.
fn op(ends: bool) -> impl Strategy<Value = Op> {
    let held = 0..3_usize;
    prop_oneof![
        8 => len().prop_map(Op::Put),
        4 => Just(Op::Get),
        4 => Just(Op::Lease),
        3 => held.clone().prop_map(Op::Finish),
        4 => held.clone().prop_map(Op::GiveBack),
        3 => len().prop_map(Op::Reserve),
        2 => held.clone().prop_map(Op::Commit),
        1 => held.prop_map(Op::Abort),
        1 => Just(Op::DeadLetters),
        1 => Just(Op::Recover),
        1 => Just(Op::Reopen),
        1 => Just(if ends { Op::Close } else { Op::Recover }),
        1 => Just(if ends { Op::ShutDown } else { Op::Get }),
    ]
}

#[derive(Debug, Clone)]
struct Message {
    number: usize,
    text: Vec<u8>,
    deliveries: u8,
}

/// The text says which message it is of, and how long it is, at each place.
fn text(number: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (number * 31 + len * 7 + at) as u8)
        .collect()
}

fn chunks(len: usize) -> usize {
    if len > INLINE { len.div_ceil(CHUNK) } else { 0 }
}

#[derive(Default)]
struct Model {
    waiting: VecDeque<Message>,
    leased: Vec<Message>,
    reserved: Vec<Vec<u8>>,
    dead: VecDeque<Message>,
    /// Positions, and the head as producers last saw it: what was given back since does not count.
    head: isize,
    tail: isize,
    head_seen: isize,
    puts: usize,
    closed: bool,
    discards: bool,
}

impl Model {
    fn admits(&mut self) -> Result<(), QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        let writing = self.reserved.len() as isize;
        if self.tail - self.head_seen + writing >= CAPACITY as isize {
            self.head_seen = self.head;
        }
        match self.tail - self.head_seen + writing < CAPACITY as isize {
            true => Ok(()),
            false => Err(QueueError::Full),
        }
    }

    fn append(&mut self, text: Vec<u8>) {
        self.waiting.push_back(Message {
            number: self.puts,
            text,
            deliveries: 0,
        });
        self.puts += 1;
        self.tail += 1;
    }

    /// Why there is no first message, to be leased or not.
    fn first(&self, leased: bool) -> Result<(), QueueError> {
        match self.waiting.front() {
            None if self.closed => Err(QueueError::Closed),
            None => Err(QueueError::Empty),
            Some(_) if leased && self.leased.len() == LEASES => Err(QueueError::Empty),
            Some(_) => Ok(()),
        }
    }

    fn give_back(&mut self, message: Message) {
        if self.discards {
        } else if message.deliveries >= MAX_DELIVERIES {
            let at = self.dead.partition_point(|m| m.number < message.number);
            self.dead.insert(at, message);
            if self.dead.len() > DEAD_LETTERS {
                self.dead.pop_front();
            }
        } else {
            let at = self.waiting.partition_point(|m| m.number < message.number);
            self.waiting.insert(at, message);
            self.head -= 1;
        }
    }

    fn chunks(&self) -> usize {
        let messages = self.waiting.iter().chain(&self.leased).chain(&self.dead);
        let reserved = self.reserved.iter().map(Vec::len);
        messages
            .map(|message| message.text.len())
            .chain(reserved)
            .map(chunks)
            .sum()
    }
}

struct Pair {
    handles: [ByteQueue; 2],
    leases: Vec<Received>,
    reservations: Vec<Reservation>,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let options = Options::new(CAPACITY as u32)
            .leases(LEASES as u32)
            .dead_letters(DEAD_LETTERS as u32)
            .max_deliveries(MAX_DELIVERIES)
            .max_message(LONGEST as u64)
            .arena_bytes((CHUNKS * CHUNK) as u64);
        let first = ByteQueue::create(Place::anonymous(), options).unwrap();
        start_numbers_at(first.segment(), u64::MAX - 3);
        let second = open(&first);
        Self {
            handles: [first, second],
            leases: Vec::new(),
            reservations: Vec::new(),
            model: Model::default(),
        }
    }

    fn run(&mut self, ops: Vec<Op>) {
        for (n, op) in ops.into_iter().enumerate() {
            let recovers = matches!(op, Op::Recover | Op::ShutDown);
            self.step(n % 2, op);
            self.compare(recovers);
        }
    }

    fn step(&mut self, which: usize, op: Op) {
        let (queue, model) = (&self.handles[which], &mut self.model);
        let too_large = |len: usize| {
            let (len, most) = (len as u64, LONGEST as u64);
            (len > most).then_some(QueueError::TooLarge { len, most })
        };
        match op {
            Op::Put(len) => {
                let text = text(model.puts, len);
                let expected = too_large(len).map_or_else(|| model.admits(), Err);
                assert_eq!(queue.try_put(&text), expected);
                if expected.is_ok() {
                    model.append(text);
                }
            }
            Op::Get => {
                let large = |message: &Message| message.text.len() > SHORT;
                let expected = model.first(model.waiting.front().is_some_and(large));
                let got = queue.try_get();
                let expected = expected.map(|()| model.waiting.pop_front().unwrap().text);
                model.head += isize::from(expected.is_ok());
                assert_eq!(got, expected);
            }
            Op::Lease => {
                let expected = model.first(true);
                let got = queue.try_recv_ref();
                assert_eq!(got.as_ref().map(drop), expected.as_ref().map(drop));
                if let Ok(got) = got {
                    let mut message = model.waiting.pop_front().unwrap();
                    message.deliveries += 1;
                    assert_eq!(
                        (&*got, got.deliveries()),
                        (&*message.text, message.deliveries)
                    );
                    model.head += 1;
                    model.leased.push(message);
                    self.leases.push(got);
                }
            }
            Op::Finish(at) if at < self.leases.len() => {
                drop(self.leases.remove(at));
                model.leased.remove(at);
            }
            Op::GiveBack(at) if at < self.leases.len() => {
                self.leases.remove(at).give_back().unwrap();
                let message = model.leased.remove(at);
                model.give_back(message);
            }
            Op::Reserve(len) => {
                let expected = too_large(len).map_or_else(|| model.admits(), Err);
                let got = queue.try_reserve(len);
                assert_eq!(got.as_ref().map(drop), expected.as_ref().map(drop));
                if let Ok(mut got) = got {
                    let text = text(model.puts + 100, len);
                    got.copy_from_slice(&text);
                    model.reserved.push(text);
                    self.reservations.push(got);
                }
            }
            Op::Commit(at) if at < self.reservations.len() => {
                let text = model.reserved.remove(at);
                let expected = if model.closed {
                    Err(QueueError::Closed)
                } else {
                    model.append(text);
                    Ok(())
                };
                assert_eq!(self.reservations.remove(at).commit(), expected);
            }
            Op::Abort(at) if at < self.reservations.len() => {
                drop(self.reservations.remove(at));
                model.reserved.remove(at);
            }
            Op::DeadLetters => {
                let letters = queue.dead_letters().unwrap();
                for letter in &letters {
                    assert_eq!(letter.reason, DeadReason::Deliveries);
                    assert_eq!(letter.deliveries, MAX_DELIVERIES);
                }
                let texts = letters.into_iter().map(|letter| letter.bytes);
                assert!(texts.eq(model.dead.drain(..).map(|message| message.text)));
            }
            Op::Recover => {
                let recovered = queue.recover().unwrap();
                assert_eq!((recovered.undone, recovered.returned), (0, 0));
                model.head_seen = model.head;
            }
            Op::Reopen => {
                let other = open(&self.handles[1 - which]);
                self.handles[which] = other;
            }
            Op::Close => {
                queue.close().unwrap();
                model.closed = true;
            }
            Op::ShutDown => {
                queue.shutdown(true).unwrap();
                (model.closed, model.discards) = (true, true);
                model.waiting.clear();
                (model.head, model.head_seen) = (model.tail, model.tail);
            }
            _ => {}
        }
    }

    fn compare(&self, recovered: bool) {
        let model = &self.model;
        for queue in &self.handles {
            let seen = queue.inspect().unwrap();
            assert_eq!(seen.len, model.waiting.len());
            assert_eq!(seen.leases.len(), model.leased.len());
            assert_eq!(seen.writing, model.reserved.len());
            assert_eq!(seen.dead_letters, model.dead.len());
            assert_eq!(seen.closed, model.closed);
            let live = (model.chunks() * CHUNK) as u64;
            // What consumers gave back stays in use until a producer wants it, or a rebuild.
            assert!(seen.arena_used >= live);
            assert!(!recovered || seen.arena_used == live);
            assert!(seen.arena_used <= (CHUNKS * CHUNK) as u64);
            assert!(seen.len + seen.writing <= CAPACITY + LEASES);
        }
    }

    fn file(&self) -> File {
        let fd = self.handles[0].segment().as_fd().unwrap();
        File::from(fd.try_clone_to_owned().unwrap())
    }

    /// Writes into the queue's payload, as nobody of the family does.
    fn poke(&self, offset: usize, bytes: &[u8]) {
        let file = self.file();
        let mut payload = [0; 8];
        file.read_exact_at(&mut payload, 40).unwrap();
        let at = u64::from_ne_bytes(payload) + offset as u64;
        file.write_all_at(bytes, at).unwrap();
    }

    /// All that is in it is what the model has, in order, and all capacity can be used.
    fn drain(mut self) {
        while !self.leases.is_empty() {
            self.step(0, Op::Finish(0));
        }
        while !self.reservations.is_empty() {
            self.step(0, Op::Abort(0));
        }
        while !self.model.waiting.is_empty() {
            self.step(0, Op::Get);
        }
        self.step(0, Op::DeadLetters);
        for _ in 0..CAPACITY {
            self.step(1, Op::Put(LONGEST));
        }
        assert_eq!(self.handles[0].len(), Ok(CAPACITY));
        self.step(1, Op::Put(LONGEST));
        for _ in 0..CAPACITY {
            self.step(0, Op::Get);
        }
        self.compare(false);
    }
}

fn open(other: &ByteQueue) -> ByteQueue {
    let fd = other.segment().as_fd().unwrap();
    ByteQueue::open(Place::fd(fd.try_clone_to_owned().unwrap())).unwrap()
}

/// Everything in a queue that a rebuild makes anew: docs/format.md, "Queues".
const CACHES: &[(usize, usize)] = &[
    (64, 8),    // looked
    (184, 8),   // head_seen
    (192, 8),   // taken
    (200, 4),   // stack
    (204, 4),   // writing
    (208, 4),   // lowest
    (212, 4),   // chunks
    (216, 4),   // allocated
    (256, 8),   // tail
    (264, 4),   // last
    (432, 8),   // tail_seen
    (440, 8),   // next_expiry
    (448, 4),   // leased
    (452, 4),   // dead
    (512, 8),   // head
    (520, 8),   // freed
    (9216, 32), // ring
    (9344, 32), // freed ring
    (9472, 28), // stack
    (9600, 8),  // bitmap
];
const CELLS_AT: usize = 9728;
const STRIDE: usize = 256;

/// A number that could be right, or any.
fn number() -> impl Strategy<Value = u64> {
    let packed = |pair: (u32, u32)| u64::from(pair.0) | u64::from(pair.1) << 32;
    prop_oneof![
        0..12_u64,
        (0..9_u32, 0..9_u32).prop_map(packed),
        any::<u64>(),
        Just(u64::MAX)
    ]
}

fn damage() -> impl Strategy<Value = Vec<(usize, [u8; 8])>> {
    let at = (0..CACHES.len(), 0..8_usize).prop_map(|(field, word)| {
        let (at, len) = CACHES[field];
        let step = if len == 4 { 4 } else { 8 };
        (at + word * step % len, len)
    });
    vec((at, number()), 1..12).prop_map(|pokes| {
        let bytes = |((at, _), number): ((usize, usize), u64)| (at, number.to_ne_bytes());
        pokes.into_iter().map(bytes).collect()
    })
}

/// Four bytes of a field of four.
fn width(at: usize) -> usize {
    let small = CACHES.iter().any(|&(start, len)| start == at && len == 4);
    // The stack's last word has no second half.
    if small || at == 9472 + 24 { 4 } else { 8 }
}

/// Uses everything once, waiting for nothing; gives what it got.
fn use_all(queue: &ByteQueue, small: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut got = Vec::new();
    if let Ok(received) = queue.try_recv_ref() {
        let _ = received.give_back();
    }
    let put = queue.try_put(small).is_ok();
    let _ = queue.try_put(&[7; LONGEST]);
    got.extend(queue.try_get());
    if let Ok(received) = queue.try_recv_ref() {
        let _ = received.give_back();
    }
    if let Ok(reservation) = queue.try_reserve(LONGEST) {
        let _ = reservation.commit();
    }
    drop(queue.try_reserve(5));
    if let Ok(received) = queue.try_recv_ref() {
        got.push(received.to_vec());
    }
    got.extend(queue.get_deadline(Instant::now()));
    let _ = queue.put_deadline(&[7; INLINE + 1], Instant::now());
    let (_, _) = (queue.len(), queue.inspect());
    got.extend(queue.dead_letters().into_iter().flatten().map(|l| l.bytes));
    (got, put)
}

/// A damaged cache heals, or the operation is refused: no small message is lost, torn or doubled.
fn meet_damaged_caches(
    lens: Vec<usize>,
    damage: Vec<(usize, [u8; 8])>,
) -> Result<(), TestCaseError> {
    let pair = Pair::new();
    let queue = &pair.handles[0];
    let mut texts = BTreeSet::new();
    for (number, len) in lens.into_iter().enumerate() {
        let text = text(number, len);
        if texts.insert(text.clone()) && queue.try_put(&text).is_err() {
            texts.remove(&text);
        }
    }
    for (at, bytes) in damage {
        pair.poke(at, &bytes[..width(at)]);
    }
    let mine = [255; INLINE];
    let (mut got, put) = use_all(queue, &mine);
    if put {
        texts.insert(mine.to_vec());
    }
    queue.recover().unwrap();
    got.extend(std::iter::from_fn(|| queue.try_get().ok()));
    got.extend(queue.dead_letters().unwrap().into_iter().map(|l| l.bytes));
    got.retain(|text| text.len() <= INLINE);
    prop_assert_eq!(got.len(), texts.len(), "lost or doubled");
    prop_assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), texts);
    Ok(())
}

/// Two dead letters are counted that are none, and one of three messages becomes one.
#[test]
fn a_wrong_count_of_dead_letters_costs_none() {
    let _watchdog = watchdog();
    let damage = [(9216, 1_u64), (452, 2)].map(|(at, number)| (at, number.to_ne_bytes()));
    meet_damaged_caches(vec![1, 1, 1], damage.to_vec()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn matches_the_model(ops in vec(op(true), 0..80)) {
        let _watchdog = watchdog();
        let mut pair = Pair::new();
        pair.run(ops);
    }

    #[test]
    fn recover_makes_all_caches_anew(ops in vec(op(false), 0..40), damage in damage()) {
        let _watchdog = watchdog();
        let mut pair = Pair::new();
        pair.run(ops);
        for (at, bytes) in damage {
            pair.poke(at, &bytes[..width(at)]);
        }
        pair.step(0, Op::Recover);
        pair.compare(true);
        pair.drain();
    }

    #[test]
    fn operations_meet_damaged_caches(lens in vec(1..INLINE, 0..5), damage in damage()) {
        let _watchdog = watchdog();
        meet_damaged_caches(lens, damage)?;
    }

    /// Words and heads of messages that nobody wrote: refused, or a queue.
    #[test]
    fn operations_meet_any_words(
        ops in vec(op(false), 0..20),
        damage in vec((0..CELLS, 0..4_usize, number()), 1..10),
    ) {
        let _watchdog = watchdog();
        let mut pair = Pair::new();
        pair.run(ops);
        for (cell, field, number) in damage {
            pair.poke(CELLS_AT + cell * STRIDE + field * 8, &number.to_ne_bytes());
        }
        for queue in &pair.handles {
            use_all(queue, b"small");
        }
        // What says that it is a queue is one: no more than it has cells come out.
        if pair.handles[0].recover().is_ok() {
            let queue = &pair.handles[1];
            let count = std::iter::from_fn(|| queue.try_get().ok()).take(100).count();
            prop_assert!(count <= CELLS, "{} messages", count);
        }
    }
}
