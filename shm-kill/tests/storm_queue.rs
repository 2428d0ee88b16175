//! Random deaths in the traffic of a queue, with an exact account of every message.
//!
//! Producers, consumers and one who joins, one or two of them killed every few milliseconds, some stopped
//! for a while. Each message has a number of its own and is filled with it. A task is done exactly once. A message that
//! is got at most once may be lost in a get that a kill interrupted, one in each, and in no other way. 200 kills a storm;
//! `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm_queue` for more.

mod asked;

use std::time::{Duration, Instant};

use asked::{assert_bites, storm};
use shm_queue::{ByteQueue, JoinableQueue, Options, QueueError, Raw};
use shm_testing::storm::{Outcome, Record, Worker, lost_in_gaps};
use shm_testing::{Peer, UniqueName, peer_main};

/// How long an operation waits before its worker looks whether the storm is over. A timeout that comes earlier is a fault.
const LOOK: Duration = Duration::from_millis(50);
const WORKERS: usize = 5;
/// Messages of so many bytes are copied under the lock.
const IN_ORDER: usize = 1 << 10;
/// Of so many interrupted gets of longer ones less than one may have lost its message, and three more.
const LOST_OF_LARGE: usize = 20;

/// In what a consumer of tasks records, beside the message's number: that it got it, and the delivery.
const GOT: u64 = 1 << 63;
const DELIVERY_SHIFT: u32 = 50;
const NUMBER: u64 = (1 << DELIVERY_SHIFT) - 1;
/// What a get of bytes ends with that got nothing.
const NOTHING: u64 = 0;

/// What a producer's operation ends with.
const PUT: u64 = 0;
const GAVE_UP: u64 = 1;

#[test]
fn peer() {
    peer_main(&[
        (
            "tasks of 64 B",
            (|peer| task_worker::<8>(peer, false)) as fn(&mut Peer),
        ),
        ("tasks of 1 KiB", |peer| task_worker::<128>(peer, false)),
        ("tasks of 64 KiB", large_task_worker::<8192>),
        ("tasks, one dropped", |peer| task_worker::<8>(peer, true)),
        ("bytes", |peer| byte_worker(peer, Twin::None)),
        ("bytes, got twice", |peer| {
            byte_worker(peer, Twin::GetsTwice)
        }),
        ("bytes, dropped by a producer", |peer| {
            byte_worker(peer, Twin::Drops)
        }),
    ]);
}

/// By its seat a producer, a consumer or, the last one, a producer who waits until all is done.
enum Part {
    Produces,
    Consumes,
    Joins,
}

fn part_of(peer: &Peer) -> Part {
    let seat: usize = peer.args().last().unwrap().parse().unwrap();
    match seat {
        _ if seat == WORKERS - 1 => Part::Joins,
        _ if seat.is_multiple_of(2) => Part::Produces,
        _ => Part::Consumes,
    }
}

type Tasks<const WORDS: usize> = JoinableQueue<[u64; WORDS], Raw>;

/// Tasks are values on the stack, in a build without optimisation many times over.
fn large_task_worker<const WORDS: usize>(peer: &mut Peer) {
    std::thread::scope(|s| {
        let thread = std::thread::Builder::new().stack_size(64 << 20);
        let work = thread.spawn_scoped(s, || task_worker::<WORDS>(peer, false));
        work.expect("a thread").join().expect("no panic");
    });
}

/// One who `drops` throws a task away where its forerunner was killed in a put.
fn task_worker<const WORDS: usize>(peer: &mut Peer, drops: bool) {
    let queue = Tasks::<WORDS>::open(&peer.args()[0]).unwrap();
    let part = part_of(peer);
    let mut worker = Worker::enlist(peer);
    if drops && worker.interrupted().is_some_and(|what| what & GOT == 0) {
        let task = queue.get_timeout(LOOK);
        let _ = task.map(|task| task.task_done());
    }
    while worker.goes_on() {
        match part {
            Part::Produces => put_task(&mut worker, &queue),
            Part::Consumes => {
                // Two at a time, so that the dead leave more than one.
                let first = || patiently(|| queue.get_timeout(LOOK));
                let tasks = worker.visit(|| [first(), queue.try_get()]);
                for task in tasks.into_iter().flatten() {
                    let number = task[0];
                    assert!(task.iter().all(|&word| word == number), "torn");
                    let delivery = u64::from(task.deliveries()) << DELIVERY_SHIFT;
                    worker.record(GOT | delivery | number, || {
                        task.task_done().unwrap();
                        0
                    });
                }
            }
            Part::Joins => {
                put_task(&mut worker, &queue);
                worker.visit(|| match queue.join_timeout(LOOK) {
                    Ok(()) | Err(QueueError::Timeout) => {}
                    Err(other) => panic!("{other}"),
                });
            }
        }
    }
}

fn put_task<const WORDS: usize>(worker: &mut Worker<'_>, queue: &Tasks<WORDS>) {
    let number = worker.fresh();
    worker.record(number, || {
        ended(patiently(|| {
            let put = queue.put_timeout([number; WORDS], LOOK);
            put.map_err(|refused| refused.error)
        }))
    });
}

/// Sees that what waits for so long as [`LOOK`] does not give up before.
fn patiently<R>(wait: impl FnOnce() -> Result<R, QueueError>) -> Result<R, QueueError> {
    let begun = Instant::now();
    let result = wait();
    if let Err(QueueError::Timeout) = result {
        assert!(begun.elapsed() >= LOOK, "gave up too early");
    }
    result
}

fn ended(put: Result<(), QueueError>) -> u64 {
    match put {
        Ok(()) => PUT,
        Err(QueueError::Timeout) => GAVE_UP,
        Err(other) => panic!("{other}"),
    }
}

/// What is wrong with a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    None,
    /// Now and then it says that it got a message again.
    GetsTwice,
    /// As a producer it throws a message away where its forerunner was killed in a put.
    Drops,
}

/// Puts and gets, and writes and reads in place, in turns.
fn byte_worker(peer: &mut Peer, twin: Twin) {
    let queue = ByteQueue::open(&peer.args()[0]).unwrap();
    let len: usize = peer.args()[1].parse().unwrap();
    let produces = matches!(part_of(peer), Part::Produces);
    let mut worker = Worker::enlist(peer);
    if twin == Twin::Drops && produces && worker.interrupted().is_some() {
        let _ = queue.get_timeout(LOOK);
    }
    while worker.goes_on() {
        let number = worker.fresh();
        if produces {
            worker.record(number, || ended(patiently(|| put(&queue, number, len))));
            continue;
        }
        let mut message = None;
        worker.record(GOT, || {
            message = get(&queue);
            message.as_deref().map_or(NOTHING, number_of)
        });
        // Only now: what is recorded late is more often lost.
        let Some(message) = message else { continue };
        let whole = message.chunks_exact(8).all(|word| word == &message[..8]);
        assert!(whole && message.len() == len, "torn");
        if twin == Twin::GetsTwice && number_of(&message) % 1000 == 7 {
            worker.record(GOT, || number_of(&message));
        }
    }
}

fn put(queue: &ByteQueue, number: u64, len: usize) -> Result<(), QueueError> {
    if number.is_multiple_of(4) {
        let mut room = queue.reserve_timeout(len, LOOK)?;
        fill(&mut room, number);
        return room.commit();
    }
    let mut message = vec![0; len];
    fill(&mut message, number);
    queue.put_timeout(&message, LOOK)
}

fn get(queue: &ByteQueue) -> Option<Vec<u8>> {
    match patiently(|| queue.get_timeout(LOOK)) {
        Ok(message) => Some(message),
        Err(QueueError::Timeout) => None,
        Err(other) => panic!("{other}"),
    }
}

fn number_of(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[..8].try_into().unwrap())
}

fn fill(message: &mut [u8], number: u64) {
    for word in message.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_le_bytes());
    }
}

/// What is known of a message, from one of those who had to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// `None`: its producer was killed on the way.
    Put(Option<u64>),
    Got {
        delivery: u64,
        ended: bool,
    },
    Left,
}

/// All of one message.
#[derive(Debug)]
struct Account<'a>(&'a [(u64, Event)]);

impl Account<'_> {
    fn count(&self, is: impl Fn(Event) -> bool) -> usize {
        self.0.iter().filter(|(_, event)| is(*event)).count()
    }

    /// `None`: nobody began to put it.
    fn put(&self) -> Option<Option<u64>> {
        self.0.iter().find_map(|(_, event)| match event {
            Event::Put(result) => Some(*result),
            _ => None,
        })
    }

    fn left(&self) -> usize {
        self.count(|event| event == Event::Left)
    }

    fn got(&self, with: bool) -> usize {
        self.count(|event| matches!(event, Event::Got { ended, .. } if ended == with))
    }

    fn deliveries(&self) -> Vec<u64> {
        let delivery = |(_, event): &(u64, Event)| match event {
            Event::Got { delivery, .. } => Some(*delivery),
            _ => None,
        };
        let mut deliveries: Vec<u64> = self.0.iter().filter_map(delivery).collect();
        deliveries.sort_unstable();
        deliveries
    }
}

/// All events, those of a message together; those that are `left` in the queue included.
fn events(
    outcome: &Outcome,
    left: &[u64],
    event_of: fn(Record) -> Option<(u64, Event)>,
) -> Vec<(u64, Event)> {
    let mut events: Vec<(u64, Event)> = outcome.ledger.records().filter_map(event_of).collect();
    events.extend(left.iter().map(|number| (*number, Event::Left)));
    events.sort_unstable_by_key(|(number, _)| *number);
    events
}

fn by_message(events: &[(u64, Event)]) -> impl Iterator<Item = (u64, Account<'_>)> {
    let messages = events.chunk_by(|one, other| one.0 == other.0);
    messages.map(|events| (events[0].0, Account(events)))
}

fn options(len: usize) -> Options {
    Options::new(16)
        .leases(16)
        .max_message(len as u64)
        // What comes back from the dead may be more than the capacity, and in pieces.
        .arena_bytes(64 * len as u64)
}

/// Each task whose put returned is done exactly once, or still there; and each time that it was got
/// has a delivery of its own.
fn tasks<const WORDS: usize>(role: &str) -> Result<(), String> {
    let name = UniqueName::new("storm-tasks");
    let queue = Tasks::<WORDS>::create(&*name, options(WORDS * 8)).unwrap();
    let mut again = 0;
    let total = storm(role, &[&name], WORKERS, |outcome| {
        queue.recover().unwrap();
        let mut left = Vec::new();
        while let Ok(task) = queue.try_get() {
            left.push(task[0]);
            task.task_done().unwrap();
        }
        queue.join_timeout(Duration::ZERO).unwrap();
        queue.recover().unwrap();
        let seen = queue.inspect().unwrap();
        assert_eq!(
            (seen.writing, seen.leases.len(), seen.arena_used),
            (0, 0, 0)
        );
        for (number, account) in by_message(&events(outcome, &left, task_event)) {
            again += usize::from(done_once(number, &account)?);
        }
        fill_up(|| queue.try_put([1; WORDS]).is_ok());
        while let Ok(task) = queue.try_get() {
            task.task_done().unwrap();
        }
        Ok(())
    })?;
    println!("    {again} delivered again");
    assert_bites(&total, Some(queue.inspect().unwrap().recoveries.into()));
    Ok(())
}

fn task_event(record: Record) -> Option<(u64, Event)> {
    let event = match record.begun & GOT {
        0 => Event::Put(record.result),
        _ => Event::Got {
            delivery: (record.begun & !GOT) >> DELIVERY_SHIFT,
            ended: record.result.is_some(),
        },
    };
    Some((record.begun & NUMBER, event))
}

/// Whether a task was delivered more than once.
fn done_once(number: u64, account: &Account<'_>) -> Result<bool, String> {
    let (done, killed, left) = (account.got(true), account.got(false), account.left());
    let wrong = match account.put() {
        None => true,
        Some(Some(GAVE_UP)) => done + killed + left > 0,
        // A worker killed in `task_done` may have done it.
        Some(Some(_)) => done + left > 1 || done + left + killed == 0,
        Some(None) => done + left > 1,
    };
    let mut deliveries = account.deliveries();
    deliveries.dedup();
    match wrong || deliveries.len() != done + killed {
        true => Err(format!("{number:#x} is lost or done twice: {account:?}")),
        false => Ok(deliveries.last() > Some(&1)),
    }
}

fn fill_up(put: impl Fn() -> bool) {
    let put = (0..100).take_while(|_| put()).count();
    assert_eq!(put, 16, "all of the capacity");
}

/// What is wrong with the account of a queue of bytes: each message whose put returned is got once or still
/// there, except for one at most for each get that a kill interrupted; and the small ones of a producer in order.
fn bytes(role: &str, len: usize) -> Result<(), String> {
    let name = UniqueName::new("storm-bytes");
    let queue = ByteQueue::create(&*name, options(len)).unwrap();
    let (mut lost, mut interrupted) = (0, 0);
    let total = storm(role, &[&name, &len.to_string()], WORKERS, |outcome| {
        queue.recover().unwrap();
        let mut left = Vec::new();
        while let Ok(message) = queue.try_get() {
            left.push(number_of(&message));
        }
        queue.recover().unwrap();
        let seen = queue.inspect().unwrap();
        assert_eq!(
            (seen.writing, seen.leases.len(), seen.arena_used),
            (0, 0, 0)
        );
        let missing = missing(outcome, &left)?;
        lost += missing.len();
        interrupted += see_to_the_lost(outcome, &missing, len)?;
        fill_up(|| queue.try_put(&vec![0; len]).is_ok());
        while queue.try_get().is_ok() {}
        Ok(())
    })?;
    println!("    {len} bytes: {lost} lost in {interrupted} interrupted gets");
    assert_bites(&total, Some(queue.inspect().unwrap().recoveries.into()));
    Ok(())
}

/// The messages whose put returned and that nobody has.
fn missing(outcome: &Outcome, left: &[u64]) -> Result<Vec<u64>, String> {
    let mut missing = Vec::new();
    for (number, account) in by_message(&events(outcome, left, message_event)) {
        let seen = account.got(true) + account.left();
        let wrong = match account.put() {
            None => true,
            Some(Some(GAVE_UP)) => seen > 0,
            _ => seen > 1,
        };
        if wrong {
            return Err(format!("{number:#x}: {account:?}"));
        }
        if account.put() == Some(Some(PUT)) && seen == 0 {
            missing.push(number);
        }
    }
    Ok(missing)
}

fn message_event(record: Record) -> Option<(u64, Event)> {
    match (record.begun, record.result) {
        (GOT, None | Some(NOTHING)) => None,
        (GOT, Some(number)) => Some((
            number,
            Event::Got {
                delivery: 1,
                ended: true,
            },
        )),
        (number, result) => Some((number, Event::Put(result))),
    }
}

/// Sees that what is missing was lost in gets that a kill interrupted; gives how many there were. A large one may be got
/// out of order, after its first consumer was killed while it copied: then their number counts alone. To copy takes most of
/// the time of such a get, and until that is over nothing is lost: so they are few (`LOST_OF_LARGE`).
fn see_to_the_lost(outcome: &Outcome, missing: &[u64], len: usize) -> Result<usize, String> {
    let gets = |seat| {
        let gets = outcome.ledger.records_of(seat);
        gets.filter(|record| record.begun == GOT && record.result != Some(NOTHING))
            .map(|record| record.result)
    };
    let gets: Vec<Vec<Option<u64>>> = (0..WORKERS).map(|seat| gets(seat).collect()).collect();
    let interrupted = gets.iter().flatten().filter(|got| got.is_none()).count();
    if len <= IN_ORDER {
        lost_in_gaps(&gets, missing, |number| number >> 40)?;
        return Ok(interrupted);
    }
    match missing.len() <= interrupted / LOST_OF_LARGE + 3 {
        true => Ok(interrupted),
        false => Err(format!(
            "{} lost in {interrupted} interrupted gets",
            missing.len()
        )),
    }
}

#[test]
fn small_tasks_are_done_once_each() {
    tasks::<8>("tasks of 64 B").unwrap();
}

#[test]
fn tasks_in_the_arena_are_done_once_each() {
    tasks::<128>("tasks of 1 KiB").unwrap();
}

#[test]
fn large_tasks_are_done_once_each() {
    tasks::<8192>("tasks of 64 KiB").unwrap();
}

#[test]
fn small_messages_are_lost_with_their_consumers_alone() {
    bytes("bytes", 64).unwrap();
}

#[test]
fn messages_in_the_arena_are_lost_with_their_consumers_alone() {
    bytes("bytes", 1 << 10).unwrap();
}

#[test]
fn large_messages_are_lost_with_their_consumers_alone() {
    bytes("bytes", 64 << 10).unwrap();
}

#[test]
fn control_a_message_that_is_got_twice_is_noticed() {
    let wrong = bytes("bytes, got twice", 64).unwrap_err();
    println!("{wrong}");
    assert!(wrong.matches("Got").count() == 2, "{wrong}");
}

#[test]
fn control_a_message_that_is_lost_with_a_producer_is_noticed() {
    for len in [64, 1 << 10, 64 << 10] {
        let wrong = bytes("bytes, dropped by a producer", len).unwrap_err();
        println!("{wrong}");
        assert!(wrong.contains("lost"), "{wrong}");
    }
}

#[test]
fn control_a_task_that_is_dropped_is_noticed() {
    let wrong = tasks::<8>("tasks, one dropped").unwrap_err();
    println!("{wrong}");
    assert!(wrong.contains("lost"), "{wrong}");
}
