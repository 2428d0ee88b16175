//! Random deaths in the traffic of a queue, with an exact account of every message.
//!
//! Producers, consumers and one who joins, one or two of them killed every few milliseconds, some stopped
//! for a while. Each message has a number of its own and is filled with it. 200 kills a storm;
//! `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm_queue` for more.

mod asked;

use std::collections::HashMap;
use std::time::Duration;

use asked::{kills, limit, longest_stop};
use shm_queue::{ByteQueue, JoinableQueue, Options, QueueError, Raw};
use shm_testing::storm::{Outcome, Storm, Worker};
use shm_testing::{Peer, UniqueName, peer_main};

/// How long an operation waits before its worker looks whether the storm is over.
const LOOK: Duration = Duration::from_millis(50);
const WORKERS: usize = 5;

/// In what a consumer records, beside the message's number: that it got it, and the delivery.
const GOT: u64 = 1 << 63;
const DELIVERY_SHIFT: u32 = 50;
const NUMBER: u64 = (1 << DELIVERY_SHIFT) - 1;

/// What a producer's operation ends with.
const PUT: u64 = 0;
const GAVE_UP: u64 = 1;

#[test]
fn peer() {
    peer_main(&[
        ("tasks of 64 B", task_worker::<8> as fn(&mut Peer)),
        ("tasks of 1 KiB", task_worker::<128>),
        ("tasks of 64 KiB", large_task_worker::<8192>),
        ("bytes", byte_worker),
        ("bytes, got twice", |peer| byte_worker_with(peer, true)),
    ]);
}

/// By its seat a producer, a consumer or, the last one, a joiner.
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
        let work = thread.spawn_scoped(s, || task_worker::<WORDS>(peer));
        work.expect("a thread").join().expect("no panic");
    });
}

fn task_worker<const WORDS: usize>(peer: &mut Peer) {
    let queue = Tasks::<WORDS>::open(&peer.args()[0]).unwrap();
    let part = part_of(peer);
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        match part {
            Part::Produces => {
                let number = worker.fresh();
                pace(number);
                worker.record(number, || {
                    let put = queue.put_timeout([number; WORDS], LOOK);
                    ended(put.map_err(|refused| refused.error))
                });
            }
            Part::Consumes => {
                // Two at a time, so that the dead leave more than one.
                let tasks = [queue.get_timeout(LOOK), queue.try_get()];
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
                worker.count(|| match queue.join_timeout(LOOK) {
                    Ok(()) | Err(QueueError::Timeout) => {}
                    Err(other) => panic!("{other}"),
                });
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// So that the ledger is not full before the storm is over, and consumers sleep now and then.
fn pace(number: u64) {
    if number.is_multiple_of(64) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ended(put: Result<(), QueueError>) -> u64 {
    match put {
        Ok(()) => PUT,
        Err(QueueError::Timeout) => GAVE_UP,
        Err(other) => panic!("{other}"),
    }
}

fn byte_worker(peer: &mut Peer) {
    byte_worker_with(peer, false);
}

/// Puts and gets, and writes and reads in place, in turns.
fn byte_worker_with(peer: &mut Peer, gets_twice: bool) {
    let queue = ByteQueue::open(&peer.args()[0]).unwrap();
    let len: usize = peer.args()[1].parse().unwrap();
    let part = part_of(peer);
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        if let Part::Produces = part {
            let number = worker.fresh();
            pace(number);
            worker.record(number, || match number % 4 {
                0 => ended(queue.reserve_timeout(len, LOOK).and_then(|mut room| {
                    fill(&mut room, number);
                    room.commit()
                })),
                _ => {
                    let mut message = vec![0; len];
                    fill(&mut message, number);
                    ended(queue.put_timeout(&message, LOOK))
                }
            });
        } else if let Ok(message) = queue.get_timeout(LOOK) {
            let number = u64::from_le_bytes(message[..8].try_into().unwrap());
            let whole = message.chunks_exact(8).all(|word| word == &message[..8]);
            assert!(whole && message.len() == len, "torn");
            worker.record(GOT | number, || 0);
            if gets_twice && number % 1000 == 7 {
                worker.record(GOT | number, || 0);
            }
        }
    }
}

fn fill(message: &mut [u8], number: u64) {
    for word in message.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_le_bytes());
    }
}

/// Everything that is known of a message.
#[derive(Debug, Default)]
struct Account {
    /// `None`: nobody began to put it. `Some(None)`: its producer was killed on the way.
    put: Option<Option<u64>>,
    /// For each time that somebody got it: the delivery, and whether its end was recorded.
    got: Vec<(u64, bool)>,
    left: usize,
}

/// The account of each message; those that are `left` in the queue included.
fn accounts(outcome: &Outcome, left: &[u64]) -> HashMap<u64, Account> {
    let mut accounts: HashMap<u64, Account> = HashMap::new();
    for record in outcome.ledger.records() {
        let account = accounts.entry(record.begun & NUMBER).or_default();
        match record.begun & GOT {
            0 => account.put = Some(record.result),
            _ => {
                let delivery = (record.begun & !GOT) >> DELIVERY_SHIFT;
                account.got.push((delivery, record.result.is_some()));
            }
        }
    }
    for number in left {
        accounts.entry(*number).or_default().left += 1;
    }
    accounts
}

fn storm(role: &str, args: &[&str]) -> Outcome {
    let kills = kills();
    let outcome = Storm::new(role, args)
        .workers(WORKERS)
        .kills(kills)
        .longest_stop(longest_stop())
        .records(1 << 21)
        .run()
        .unwrap_or_else(|error| panic!("{role}: {error}"));
    println!("{role}: {outcome}");
    assert!(outcome.kills >= kills);
    outcome
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
fn tasks<const WORDS: usize>(role: &str) {
    let _watchdog = limit();
    let name = UniqueName::new("storm-tasks");
    let queue = Tasks::<WORDS>::create(&*name, options(WORDS * 8)).unwrap();
    let outcome = storm(role, &[&name]);
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
    let mut again = 0;
    for (number, account) in accounts(&outcome, &left) {
        let done = account.got.iter().filter(|(_, done)| *done).count();
        let killed = account.got.len() - done;
        let wrong = match account.put {
            None => true,
            Some(Some(GAVE_UP)) => !account.got.is_empty() || account.left > 0,
            // A worker killed in `task_done` may have done it.
            Some(Some(_)) => done + account.left > 1 || done + account.left + killed == 0,
            Some(None) => done + account.left > 1,
        };
        assert!(!wrong, "{number:#x}: {account:?}, {outcome}");
        let mut deliveries: Vec<_> = account.got.iter().map(|(delivery, _)| *delivery).collect();
        deliveries.sort_unstable();
        deliveries.dedup();
        assert_eq!(
            deliveries.len(),
            account.got.len(),
            "{number:#x}: {account:?}"
        );
        again += usize::from(deliveries.last() > Some(&1));
    }
    println!("{role}: {again} delivered again, {} left", left.len());
    fill_up(|| queue.try_put([1; WORDS]).is_ok());
}

fn fill_up(put: impl Fn() -> bool) {
    let put = (0..100).take_while(|_| put()).count();
    assert_eq!(put, 16, "all of the capacity");
}

/// What is wrong with the account of a queue of bytes: each message whose put returned is got once or still
/// there, except for one at most for each worker that was killed; and the small ones of a producer in order.
fn bytes(role: &str, len: usize) -> Result<(), String> {
    let _watchdog = limit();
    let name = UniqueName::new("storm-bytes");
    let queue = ByteQueue::create(&*name, options(len)).unwrap();
    let outcome = storm(role, &[&name, &len.to_string()]);
    queue.recover().unwrap();
    let mut left = Vec::new();
    while let Ok(message) = queue.try_get() {
        left.push(u64::from_le_bytes(message[..8].try_into().unwrap()));
    }
    queue.recover().unwrap();
    let seen = queue.inspect().unwrap();
    assert_eq!(
        (seen.writing, seen.leases.len(), seen.arena_used),
        (0, 0, 0)
    );
    fill_up(|| queue.try_put(&vec![0; len]).is_ok());
    let mut lost = 0;
    for (number, account) in accounts(&outcome, &left) {
        let seen = account.got.len() + account.left;
        let wrong = match account.put {
            None => true,
            Some(Some(GAVE_UP)) => seen > 0,
            _ => seen > 1,
        };
        if wrong {
            return Err(format!("{number:#x}: {account:?}, {outcome}"));
        }
        lost += usize::from(account.put == Some(Some(PUT)) && seen == 0);
    }
    println!(
        "{role}, {len} bytes: {lost} lost with their consumers, {} left",
        left.len()
    );
    if lost > outcome.kills {
        return Err(format!("{lost} lost, {outcome}"));
    }
    match len {
        64 => in_order(&outcome),
        _ => Ok(()),
    }
}

/// What a seat got of a producer's came in the order of its puts.
fn in_order(outcome: &Outcome) -> Result<(), String> {
    let mut last = HashMap::new();
    for record in outcome.ledger.records() {
        let number = record.begun & NUMBER;
        if record.begun & GOT == 0 {
            continue;
        }
        if let Some(before) = last.insert((record.seat, number >> 40), number)
            && before >= number
        {
            return Err(format!("{number:#x} after {before:#x}, {outcome}"));
        }
    }
    Ok(())
}

#[test]
fn small_tasks_are_done_once_each() {
    tasks::<8>("tasks of 64 B");
}

#[test]
fn tasks_in_the_arena_are_done_once_each() {
    tasks::<128>("tasks of 1 KiB");
}

#[test]
fn large_tasks_are_done_once_each() {
    tasks::<8192>("tasks of 64 KiB");
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
    assert!(bytes("bytes, got twice", 64).is_err());
}
