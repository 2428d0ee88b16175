//! What a queue of tasks does, among the handles and threads of one process.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use shm_core::codec::{Codec, CodecError};
use shm_core::sync::Ordering;
use shm_queue::raw::Control;
use shm_queue::{DeadReason, JoinableQueue, OnDrop, Options, Place, QueueError};
use shm_testing::{UniqueName, watchdog};

const SOON: Duration = Duration::from_millis(20);

fn tasks(options: impl Into<Options>) -> JoinableQueue<u32> {
    JoinableQueue::create(Place::anonymous(), options).unwrap()
}

#[test]
fn test_task_done() {
    let _watchdog = watchdog();
    let queue = tasks(20);
    assert_eq!(queue.task_done(), Err(QueueError::TaskDoneTooOften));
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                while let Ok(task) = queue.get() {
                    let _ = task.detach();
                    queue.task_done().unwrap();
                }
            });
        }
        queue.put_many(0..10).unwrap();
        queue.join().unwrap();
        assert_eq!(queue.unfinished(), Ok(0));
        queue.put_many(0..10).unwrap();
        queue.join().unwrap();
        queue.close().unwrap();
    });
    assert_eq!(queue.task_done(), Err(QueueError::TaskDoneTooOften));
}

#[test]
fn a_task_is_unfinished_until_it_is_done() {
    let _watchdog = watchdog();
    let queue = tasks(4);
    queue.put(7).unwrap();
    assert_eq!(queue.unfinished(), Ok(1));
    let task = queue.get().unwrap();
    assert_eq!((*task, task.deliveries()), (7, 1));
    assert_eq!((queue.unfinished(), queue.len()), (Ok(1), Ok(0)));
    assert_eq!(queue.join_timeout(SOON), Err(QueueError::Timeout));
    task.task_done().unwrap();
    queue.join_timeout(SOON).unwrap();
    queue.join_deadline(Instant::now()).unwrap();
}

/// A damaged cache is made anew also where the time of a task is over.
#[test]
fn a_damaged_queue_takes_back_a_task_whose_time_is_over() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(4).lease_time(SOON));
    queue.put_many([1, 2]).unwrap();
    let damage = || {
        let control = queue.segment().view::<Control>(0).unwrap();
        control.head.store(1 << 40, Ordering::Relaxed);
    };
    let late = queue.get().unwrap();
    thread::sleep(2 * SOON);
    damage();
    queue.recover().unwrap();
    assert_eq!(late.task_done(), Err(QueueError::Stale));
    let late = queue.get().unwrap();
    assert_eq!((*late, late.deliveries()), (1, 2));
    thread::sleep(2 * SOON);
    damage();
    // Damaged, and then asleep until somebody's time is over.
    let others = queue.get_many(2).unwrap();
    let mut seen: Vec<_> = others
        .iter()
        .map(|task| (**task, task.deliveries()))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [(1, 3), (2, 1)]);
    assert_eq!(late.task_done(), Err(QueueError::Stale));
}

#[test]
fn a_task_put_by_a_task_is_waited_for() {
    let _watchdog = watchdog();
    let queue = tasks(1);
    let worker = queue.clone();
    let worker = thread::spawn(move || {
        let mut seen = Vec::new();
        while let Ok(task) = worker.get() {
            seen.push(*task);
            if *task < 5 {
                // A queue of one: the task itself holds no place of it.
                worker.put(*task + 1).unwrap();
            }
            task.task_done().unwrap();
        }
        seen
    });
    queue.put(0).unwrap();
    queue.join().unwrap();
    queue.close().unwrap();
    assert_eq!(worker.join().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn join_returns_although_another_producer_never_pauses() {
    let _watchdog = watchdog();
    let queue = tasks(1);
    let (producer, consumer) = (queue.clone(), queue.clone());
    let producer = thread::spawn(move || while producer.put(1).is_ok() {});
    let consumer = thread::spawn(move || {
        while let Ok(task) = consumer.get() {
            task.task_done().unwrap();
        }
    });
    queue.join().unwrap();
    queue.shutdown(true).unwrap();
    producer.join().unwrap();
    consumer.join().unwrap();
}

#[test]
fn a_task_that_is_given_back_is_first_in_line_and_counted() {
    let _watchdog = watchdog();
    let queue = tasks(4);
    queue.put_many([1, 2, 3, 4]).unwrap();
    let (first, second) = (queue.get().unwrap(), queue.get().unwrap());
    second.requeue().unwrap();
    drop(first);
    let order: Vec<_> = (0..4)
        .map(|_| {
            let task = queue.get().unwrap();
            let seen = (*task, task.deliveries());
            task.task_done().unwrap();
            seen
        })
        .collect();
    assert_eq!(order, [(1, 2), (2, 2), (3, 1), (4, 1)]);
    assert_eq!(queue.inspect().unwrap().redelivered, 2);
}

#[test]
fn a_guard_that_is_dropped_does_what_was_chosen_and_a_panic_always_gives_back() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(4).on_drop(OnDrop::Acknowledge));
    queue.put_many([1, 2]).unwrap();
    drop(queue.get().unwrap());
    assert_eq!(queue.unfinished(), Ok(1));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _task = queue.get().unwrap();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    let task = queue.try_get().unwrap();
    assert_eq!((*task, task.deliveries()), (2, 2));
}

#[test]
fn a_task_delivered_too_often_is_a_dead_letter_and_nobody_waits_for_it() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(4).max_deliveries(3).dead_letters(2));
    queue.put_many([1, 2, 3]).unwrap();
    for _ in 0..3 * 3 {
        drop(queue.try_get().unwrap());
    }
    assert!(queue.try_get().is_err_and(|error| error.is_empty()));
    queue.join_timeout(SOON).expect("nothing is unfinished");
    let letters = queue.dead_letters().unwrap();
    let seen: Vec<_> = letters
        .iter()
        .map(|l| (l.bytes[0], l.deliveries, l.reason))
        .collect();
    let why = DeadReason::Deliveries;
    assert_eq!(seen, [(2, 3, why), (3, 3, why)], "the oldest of three went");
    let seen = queue.inspect().unwrap();
    assert_eq!((seen.buried, seen.dead_letters), (3, 0));
    queue.put_many([4, 5, 6, 7]).unwrap();
    assert_eq!(queue.is_full(), Ok(true));
}

#[test]
fn a_task_whose_time_is_over_goes_to_somebody_else() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(4).lease_time(Duration::from_millis(50)));
    queue.put(1).unwrap();
    let stuck = queue.get().unwrap();
    let again = queue.get().unwrap();
    assert_eq!((*again, again.deliveries()), (1, 2));
    assert_eq!(stuck.task_done(), Err(QueueError::Stale));
    again.extend(Duration::from_secs(60)).unwrap();
    thread::sleep(Duration::from_millis(60));
    assert_eq!(queue.get_timeout(SOON).map(drop), Err(QueueError::Timeout));
    again.task_done().unwrap();
    queue.join_timeout(SOON).unwrap();
}

#[test]
fn tasks_whose_time_is_over_come_again_in_their_order() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(100).lease_time(Duration::from_millis(50)));
    queue.put_many(0..60).unwrap();
    let first: Vec<_> = queue.get_many(20).unwrap();
    // Into the cells of the first ones, so that cells are in another order than tasks.
    first.into_iter().for_each(|task| task.task_done().unwrap());
    queue.put_many(60..90).unwrap();
    let stuck = queue.get_many(60).unwrap();
    thread::sleep(Duration::from_millis(60));
    let again: Vec<_> = queue.get_many(70).unwrap();
    let values: Vec<_> = again.iter().map(|task| **task).collect();
    assert_eq!(values, (20..90).collect::<Vec<_>>());
    drop(stuck);
}

#[test]
fn detached_tasks_go_back_in_their_order() {
    let _watchdog = watchdog();
    let name = UniqueName::new("order");
    let queue = JoinableQueue::<u32>::create(&*name, 8).unwrap();
    queue.put_many(0..6).unwrap();
    let other = JoinableQueue::<u32>::open(&*name).unwrap();
    for task in other.get_many(4).unwrap() {
        let _ = task.detach();
    }
    drop(other);
    let again = queue.get_many(6).unwrap();
    let values: Vec<_> = again.iter().map(|task| **task).collect();
    assert_eq!(values, [0, 1, 2, 3, 4, 5]);
}

/// A codec that does something else once, in the middle of a decoding.
struct Interrupted;

std::thread_local! {
    static MEANWHILE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

impl Codec<u32> for Interrupted {
    const NAME: &'static str = "interrupted";

    fn encode(value: &u32, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend(value.to_le_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<u32, CodecError> {
        if let Some(meanwhile) = MEANWHILE.take() {
            meanwhile();
        }
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }
}

/// What has another message's bytes by the time that it is copied is not handed out.
#[test]
fn a_task_that_is_taken_back_before_it_is_decoded_is_skipped() {
    let _watchdog = watchdog();
    let options = Options::new(2).lease_time(SOON).leases(2);
    let queue = JoinableQueue::<u32, Interrupted>::create(Place::anonymous(), options).unwrap();
    queue.put_many([1, 2]).unwrap();
    let other = queue.clone();
    MEANWHILE.set(Some(Box::new(move || {
        thread::sleep(2 * SOON);
        for expected in [1, 2] {
            let task = other.get().unwrap();
            assert_eq!(*task, expected);
            task.task_done().unwrap();
        }
        // All four cells, whichever they begin with.
        for round in [[3, 4], [5, 6]] {
            other.put_many(round).unwrap();
            if round == [3, 4] {
                other
                    .get_many(2)
                    .unwrap()
                    .into_iter()
                    .for_each(|task| task.task_done().unwrap());
            }
        }
    })));
    let tasks = queue.get_many(2).unwrap();
    assert_eq!(tasks.iter().map(|task| **task).collect::<Vec<_>>(), [1]);
    for task in tasks {
        assert_eq!(task.task_done(), Err(QueueError::Stale));
    }
    let left = queue.get_many(4).unwrap();
    assert_eq!(left.iter().map(|task| **task).collect::<Vec<_>>(), [5, 6]);
    left.into_iter().for_each(|task| task.task_done().unwrap());
    queue.join_timeout(SOON).unwrap();
}

#[test]
fn a_panic_while_a_task_of_others_is_decoded_gives_nothing_back() {
    let _watchdog = watchdog();
    let options = Options::new(2).lease_time(SOON);
    let queue = JoinableQueue::<u32, Interrupted>::create(Place::anonymous(), options).unwrap();
    queue.put(1).unwrap();
    let other = queue.clone();
    let finish = move || {
        thread::sleep(2 * SOON);
        other.get().unwrap().task_done().unwrap();
        other.put(2).unwrap();
        panic!("this one fails as well");
    };
    MEANWHILE.set(Some(Box::new(finish)));
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.get()));
    assert!(failed.is_err());
    let task = queue.get().unwrap();
    assert_eq!(
        (*task, task.deliveries()),
        (2, 1),
        "the other was not touched"
    );
    task.task_done().unwrap();
    queue.join_timeout(SOON).unwrap();
}

/// Nobody sleeps, since there always is something: somebody looks all the same.
#[test]
fn a_busy_queue_takes_back_a_task_whose_time_is_over() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(4).lease_time(Duration::from_millis(50)));
    queue.put_many([1, 2]).unwrap();
    let _stuck = queue.get().unwrap();
    let again = (3..).find_map(|next| {
        queue.put(next).unwrap();
        let task = queue.get().unwrap();
        let is_it = *task == 1;
        let deliveries = task.deliveries();
        task.task_done().unwrap();
        is_it.then_some(deliveries)
    });
    assert_eq!(again, Some(2));
}

#[test]
fn one_who_only_tries_takes_back_a_task_whose_time_is_over() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(4).lease_time(Duration::from_millis(50)));
    queue.put(1).unwrap();
    let _stuck = queue.get().unwrap();
    let again = loop {
        match queue.try_get() {
            Ok(task) => break task,
            Err(error) => assert!(error.is_empty(), "{error}"),
        }
    };
    assert_eq!((*again, again.deliveries()), (1, 2));
    again.task_done().unwrap();
}

#[test]
fn inspection_tells_how_much_waits_and_how_long_a_task_has_been_out() {
    let _watchdog = watchdog();
    let queue = tasks(4);
    // Of one byte and of two.
    queue.put_many([1, 300]).unwrap();
    let seen = queue.inspect().unwrap();
    assert_eq!((seen.len, seen.bytes), (2, 3));
    let _old = queue.get().unwrap();
    thread::sleep(Duration::from_millis(200));
    let _new = queue.get().unwrap();
    let mut ages: Vec<_> = queue
        .inspect()
        .unwrap()
        .leases
        .iter()
        .map(|l| l.age)
        .collect();
    ages.sort_unstable();
    let (least, tick) = (Duration::from_millis(200), Duration::from_millis(30));
    assert!(ages[1] >= ages[0] + least - tick, "{ages:?}");
    assert!(ages[1] < Duration::from_secs(3600), "{ages:?}");
}

#[test]
fn tasks_are_got_several_at_a_time() {
    let _watchdog = watchdog();
    let queue = tasks(8);
    let sender = queue.sender().unwrap();
    sender.put_many([1, 2, 3]).unwrap();
    let got = queue.get_many(2).unwrap();
    let values: Vec<_> = got.iter().map(|task| (**task, task.deliveries())).collect();
    assert_eq!(values, [(1, 1), (2, 1)]);
    // Dropped, they are the first again.
    drop(got);
    assert_eq!(queue.unfinished(), Ok(3));
    let got = queue.try_get_many(8).unwrap();
    let mut values: Vec<_> = got.iter().map(|task| (**task, task.deliveries())).collect();
    values.sort_unstable();
    assert_eq!(values, [(1, 2), (2, 2), (3, 1)]);
    let none = queue.get_many_timeout(8, SOON).map(drop);
    assert_eq!(none, Err(QueueError::Timeout));
    for task in got {
        task.task_done().unwrap();
    }
    queue.join().unwrap();
    drop(sender);
    assert_eq!(queue.get_many(8).map(drop), Err(QueueError::Closed));
}

#[test]
fn one_task_more_than_may_be_handed_out_waits() {
    let _watchdog = watchdog();
    let queue = tasks(Options::new(4).leases(2));
    queue.put_many([1, 2, 3]).unwrap();
    let (first, _second) = (queue.get().unwrap(), queue.get().unwrap());
    assert!(queue.try_get().is_err_and(|error| error.is_empty()));
    let waiter = queue.clone();
    let waiter = thread::spawn(move || *waiter.get().unwrap());
    thread::sleep(SOON);
    first.task_done().unwrap();
    assert_eq!(waiter.join().unwrap(), 3);
}

#[test]
fn detached_tasks_go_back_with_the_last_handle() {
    let _watchdog = watchdog();
    let name = shm_testing::UniqueName::new("detached");
    let queue = JoinableQueue::<u32>::create(&*name, 4).unwrap();
    queue.put(1).unwrap();
    let other = JoinableQueue::<u32>::open(&*name).unwrap();
    assert_eq!(other.get().unwrap().detach(), 1);
    assert_eq!(
        queue.task_done(),
        Err(QueueError::TaskDoneTooOften),
        "another handle's"
    );
    drop(other);
    let task = queue.try_get().unwrap();
    assert_eq!((*task, task.deliveries()), (1, 2));
    task.task_done().unwrap();
}

#[test]
fn shutdown_at_once_lets_join_return_when_what_is_handed_out_is_done() {
    let _watchdog = watchdog();
    let queue = tasks(4);
    queue.put_many([1, 2, 3]).unwrap();
    let task = queue.get().unwrap();
    queue.shutdown(true).unwrap();
    assert_eq!(queue.unfinished(), Ok(1));
    drop(task);
    queue
        .join_timeout(SOON)
        .expect("a task that is given back to a queue that was shut down is dropped");
}
