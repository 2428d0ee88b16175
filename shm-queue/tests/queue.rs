//! What a queue does, among the handles and threads of one process. Names of CPython's test suite stand where
//! a test is one of its rows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shm_core::sync::Ordering;
use shm_core::{Error, Field, Region};
use shm_queue::raw::Control;
use shm_queue::{
    ByteQueue, CreateError, DeadReason, Options, Place, Queue, QueueError, Raw, Readiness,
    SegmentHandle, WaitStrategy,
};
use shm_testing::{UniqueName, watchdog};

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(20);

fn bytes(options: impl Into<Options>) -> ByteQueue {
    ByteQueue::create(Place::anonymous(), options).unwrap()
}

#[test]
fn test_put() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 6).unwrap();
    assert_eq!(queue.is_empty(), Ok(true));
    assert_eq!(queue.is_full(), Ok(false));
    queue.put(1).unwrap();
    queue.try_put(2).unwrap();
    queue.put_timeout(3, SOON).unwrap();
    queue.put_deadline(4, Instant::now() + SOON).unwrap();
    queue.put(5).unwrap();
    assert_eq!(queue.len(), Ok(5));
    queue.put(6).unwrap();
    assert_eq!((queue.is_empty(), queue.is_full()), (Ok(false), Ok(true)));
    let refused = queue.try_put(7).unwrap_err();
    assert_eq!((refused.value, refused.error), (7, QueueError::Full));
    let late = queue.put_timeout(7, SOON).unwrap_err();
    assert_eq!((late.value, late.error), (7, QueueError::Timeout));
    let past = queue.put_deadline(7, Instant::now()).unwrap_err();
    assert_eq!(past.error, QueueError::Timeout);
    let got: Vec<_> = (0..6).map(|_| queue.get().unwrap()).collect();
    assert_eq!(got, [1, 2, 3, 4, 5, 6]);
    assert_eq!((queue.is_empty(), queue.is_full()), (Ok(true), Ok(false)));
}

#[test]
fn test_get() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 4).unwrap();
    queue.put_many([1, 2, 3, 4]).unwrap();
    assert_eq!(queue.get(), Ok(1));
    assert_eq!(queue.try_get(), Ok(2));
    assert_eq!(queue.get_timeout(SOON), Ok(3));
    assert_eq!(queue.get_deadline(Instant::now() + SOON), Ok(4));
    assert_eq!(queue.try_get(), Err(QueueError::Empty));
    assert_eq!(queue.get_timeout(SOON), Err(QueueError::Timeout));
    assert_eq!(queue.get_deadline(Instant::now()), Err(QueueError::Timeout));
}

#[test]
fn test_qsize() {
    let queue = Queue::<u32>::create(Place::anonymous(), 2).unwrap();
    assert_eq!((queue.len(), queue.capacity()), (Ok(0), 2));
    queue.put(1).unwrap();
    assert_eq!(queue.len(), Ok(1));
    queue.put(5).unwrap();
    assert_eq!(queue.len(), Ok(2));
    queue.get().unwrap();
    assert_eq!(queue.len(), Ok(1));
    queue.get().unwrap();
    assert_eq!(queue.len(), Ok(0));
}

/// What cannot be encoded is refused at once, is the caller's again, and takes no place. (CPython finds it out
/// later, in the feeder thread, which prints the error and drops the item.)
#[test]
fn test_queue_feeder_donot_stop_onexc() {
    let _watchdog = watchdog();
    let queue = Queue::<PathBuf>::create(Place::anonymous(), 1).unwrap();
    let no_text = PathBuf::from(OsStr::from_bytes(b"not UTF-8: \xff"));
    let refused = queue.put(no_text.clone()).unwrap_err();
    assert_eq!(refused.value, no_text);
    assert!(matches!(refused.error, QueueError::Encode(_)), "{refused}");
    assert_eq!(queue.len(), Ok(0));
    queue.try_put("text".into()).unwrap();
    assert_eq!(queue.is_full(), Ok(true));
    assert_eq!(queue.get(), Ok("text".into()));
}

/// A timeout is not over before its time.
#[test]
fn test_timeout() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 1).unwrap();
    let (start, timeout) = (Instant::now(), Duration::from_millis(200));
    assert_eq!(queue.get_timeout(timeout), Err(QueueError::Timeout));
    assert!(start.elapsed() >= timeout);
}

#[test]
fn several_values_go_in_every_form() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 4).unwrap();
    let deadline = || Instant::now() + SOON;
    queue.try_put_many([1]).unwrap();
    queue.put_many_timeout([2], SOON).unwrap();
    queue.put_many_deadline([3], deadline()).unwrap();
    let refused = queue.try_put_many([4, 5, 6]).unwrap_err();
    assert_eq!(
        (refused.value, refused.error),
        (vec![5, 6], QueueError::Full)
    );
    let late = queue.put_many_timeout([5], SOON).unwrap_err();
    assert_eq!((late.value, late.error), (vec![5], QueueError::Timeout));
    let receiver = queue.receiver().unwrap();
    assert_eq!(receiver.get_many(2), Ok(vec![1, 2]));
    assert_eq!(receiver.get_many_deadline(2, deadline()), Ok(vec![3, 4]));
    assert_eq!(receiver.try_get_many(2), Err(QueueError::Empty));
    let sender = queue.sender().unwrap();
    sender.put_many([5, 6]).unwrap();
    drop(sender);
    assert_eq!(
        receiver.iter().collect::<Result<Vec<_>, _>>(),
        Ok(vec![5, 6])
    );

    let queue = bytes(2);
    let late = queue.put_many_deadline(&["a", "b", "c"], deadline());
    let late = late.unwrap_err();
    assert_eq!((late.value, late.error), (2, QueueError::Timeout));
    let late = queue.try_put_many(&["c"]).unwrap_err();
    assert_eq!((late.value, late.error), (0, QueueError::Full));
    assert!(
        queue
            .reserve_deadline(1, deadline())
            .is_err_and(|e| e.is_timeout())
    );
    assert_eq!(queue.get_many_timeout(1, SOON), Ok(vec![b"a".to_vec()]));
    assert_eq!(queue.drain(), Ok(vec![b"b".to_vec()]));
    assert!(
        queue
            .recv_ref_deadline(deadline())
            .is_err_and(|e| e.is_timeout())
    );
    queue.put(b"c").unwrap();
    queue.close().unwrap();
    assert_eq!(
        queue.iter().collect::<Result<Vec<_>, _>>(),
        Ok(vec![b"c".to_vec()])
    );
}

#[test]
fn test_closed_queue_put_get_exceptions() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 4).unwrap();
    queue.put_many([1, 2]).unwrap();
    queue.close().unwrap();
    assert!(queue.is_closed());
    let refused = queue.put(3).unwrap_err();
    assert_eq!((refused.value, refused.error), (3, QueueError::Closed));
    assert_eq!(queue.iter().collect::<Result<Vec<_>, _>>(), Ok(vec![1, 2]));
    assert_eq!(queue.get(), Err(QueueError::Closed));
    assert_eq!(queue.try_get(), Err(QueueError::Closed));
}

#[test]
fn values_of_all_lengths_go_round_many_times() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(7).max_message(5000).arena_bytes(64 << 10));
    let mut seed = 1_u64;
    for _ in 0..2000 {
        let lengths: Vec<usize> = (0..5)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                (seed >> 33) as usize % 5001
            })
            .collect();
        for &len in &lengths {
            queue.put(&vec![len as u8; len]).unwrap();
        }
        for &len in &lengths {
            assert_eq!(queue.get().unwrap(), vec![len as u8; len]);
        }
    }
    let seen = queue.inspect().unwrap();
    assert_eq!((seen.len, seen.leases.len(), seen.writing), (0, 0, 0));
    assert!(seen.arena_allocated <= 256 << 10);
}

#[test]
fn borders_between_cell_and_arena_are_messages_like_others() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(4).max_message(3000));
    for len in [
        0, 1, 31, 32, 33, 223, 224, 225, 255, 256, 257, 2047, 2048, 2049, 2999, 3000,
    ] {
        let message: Vec<u8> = (0..len).map(|i| i as u8).collect();
        queue.put(&message).unwrap();
        assert_eq!(queue.get().unwrap(), message, "{len} bytes");
    }
    let too_large = QueueError::TooLarge {
        len: 3001,
        most: 3000,
    };
    assert_eq!(queue.put(&[0; 3001]), Err(too_large));
}

#[test]
fn a_getter_and_a_putter_that_sleep_are_woken() {
    let _watchdog = watchdog();
    for strategy in [
        WaitStrategy::Sleep,
        WaitStrategy::Adaptive,
        WaitStrategy::Spin,
    ] {
        let queue = Queue::<u32>::create(Place::anonymous(), 1).unwrap();
        queue.set_wait_strategy(strategy);
        let consumer = queue.clone();
        let consumer = thread::spawn(move || (0..3).map(|_| consumer.get().unwrap()).sum::<u32>());
        for value in 1..=3 {
            thread::sleep(SOON);
            queue.put(value).unwrap();
        }
        assert_eq!(consumer.join().unwrap(), 6, "{strategy:?}");
        queue.put(7).unwrap();
        let producer = queue.clone();
        let producer = thread::spawn(move || producer.put(8).unwrap());
        thread::sleep(SOON);
        assert_eq!(queue.get(), Ok(7));
        producer.join().unwrap();
        assert_eq!(queue.get(), Ok(8));
    }
}

#[test]
fn the_closing_is_heard_by_all_who_wait() {
    let _watchdog = watchdog();
    for strategy in [
        WaitStrategy::Sleep,
        WaitStrategy::Adaptive,
        WaitStrategy::Spin,
    ] {
        let [empty, full] = [0, 1].map(|_| Queue::<u32>::create(Place::anonymous(), 1).unwrap());
        full.put(1).unwrap();
        thread::scope(|s| {
            for queue in [&empty, &full] {
                queue.set_wait_strategy(strategy);
            }
            let getter = s.spawn(|| empty.get());
            let putter = s.spawn(|| full.put(2).map_err(|refused| refused.error));
            thread::sleep(SOON);
            empty.close().unwrap();
            full.close().unwrap();
            assert_eq!(getter.join().unwrap(), Err(QueueError::Closed));
            assert_eq!(putter.join().unwrap(), Err(QueueError::Closed));
        });
    }
}

#[test]
fn each_producer_keeps_its_order_and_nothing_is_lost() {
    let _watchdog = watchdog();
    const EACH: u32 = 5000;
    for (capacity, size) in [(1, 8), (3, 8), (64, 300), (256, 3000)] {
        let options = Options::new(capacity).max_message(4096);
        let queue = bytes(options.arena_bytes(64 << 10));
        let (report, reports) = mpsc::channel();
        thread::scope(|s| {
            for producer in 0..3_u32 {
                let queue = &queue;
                s.spawn(move || {
                    for number in 0..EACH {
                        let mut message = vec![producer as u8; size];
                        message[..4].copy_from_slice(&number.to_le_bytes());
                        queue.put(&message).unwrap();
                    }
                });
            }
            for _ in 0..3 {
                let (queue, report) = (&queue, report.clone());
                s.spawn(move || {
                    let mut got = Vec::new();
                    let mut message = Vec::new();
                    while got.len() < EACH as usize {
                        queue.get_into(&mut message).unwrap();
                        let number = u32::from_le_bytes(message[..4].try_into().unwrap());
                        let producer = message[4];
                        assert!(message[4..].iter().all(|&b| b == producer), "torn");
                        got.push((producer, number));
                    }
                    report.send(got).unwrap();
                });
            }
        });
        let reports: Vec<_> = reports.try_iter().collect();
        let mut all = Vec::new();
        for got in reports {
            for producer in 0..3 {
                let numbers: Vec<_> = got.iter().filter(|(p, _)| *p == producer).collect();
                assert!(numbers.is_sorted(), "the order of producer {producer}");
            }
            all.extend(got);
        }
        all.sort_unstable();
        let expected: Vec<_> = (0..3)
            .flat_map(|p| (0..EACH).map(move |n| (p, n)))
            .collect();
        assert_eq!(all, expected);
    }
}

#[test]
fn what_is_reserved_delays_nobody_and_holds_one_place() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(2).max_message(10_000));
    let mut slow = queue.reserve(6000).unwrap();
    queue.put(b"fast").unwrap();
    assert_eq!(queue.try_put(b"third"), Err(QueueError::Full));
    assert_eq!(queue.get().unwrap(), b"fast");
    slow.fill(7);
    slow[5999] = 8;
    slow.commit().unwrap();
    let message = queue.get().unwrap();
    assert_eq!((message.len(), message[5998], message[5999]), (6000, 7, 8));

    drop(queue.reserve(10_000).unwrap());
    assert_eq!(queue.len(), Ok(0), "what was not committed never was");
    assert_eq!(queue.inspect().unwrap().arena_used, 0);
    let closed = queue.reserve(1).unwrap();
    queue.close().unwrap();
    assert_eq!(closed.commit(), Err(QueueError::Closed));
    assert_eq!(queue.try_get(), Err(QueueError::Closed));
}

#[test]
fn a_message_read_in_place_is_finished_when_it_is_dropped() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(4).max_message(10_000));
    queue.put(&[1; 9000]).unwrap();
    queue.put(&[2; 10]).unwrap();
    let first = queue.recv_ref().unwrap();
    let second = queue.try_recv_ref().unwrap();
    assert_eq!((first.len(), &*second), (9000, [2; 10].as_slice()));
    assert_eq!(queue.inspect().unwrap().leases.len(), 2);
    second.give_back().unwrap();
    drop(first);
    let again = queue.recv_ref_timeout(SOON).unwrap();
    assert_eq!((&*again, again.deliveries()), ([2; 10].as_slice(), 2));
    drop(again);
    assert!(queue.try_recv_ref().is_err_and(|error| error.is_empty()));
}

#[test]
fn a_full_arena_makes_a_put_wait_for_space_and_not_for_ever() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(100).max_message(4096).arena_bytes(8192));
    queue.put(&[1; 4096]).unwrap();
    queue.put(&[2; 4096]).unwrap();
    assert_eq!(queue.try_put(&[3; 300]), Err(QueueError::Full));
    queue.try_put(&[3; 200]).expect("it fits into its cell");
    let producer = queue.clone();
    let producer = thread::spawn(move || producer.put(&[4; 4000]));
    thread::sleep(SOON);
    assert_eq!(queue.get().unwrap(), [1; 4096]);
    producer.join().unwrap().unwrap();
    assert_eq!(queue.len(), Ok(3));
}

#[test]
fn many_are_got_under_one_lock() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(10).max_message(3000));
    for i in 0..5 {
        queue.put(&[i]).unwrap();
    }
    queue.put(&[9; 3000]).unwrap();
    assert_eq!(queue.get_many(3).unwrap(), [[0], [1], [2]]);
    assert_eq!(
        queue.get_many(10).unwrap(),
        [[3], [4]],
        "up to the long one"
    );
    assert_eq!(queue.get_many(10).unwrap(), [[9; 3000]]);
    let typed = Queue::<u64, Raw>::create(Place::anonymous(), 10).unwrap();
    typed.put_many(0..4).unwrap();
    assert_eq!(typed.get_many(10), Ok(vec![0, 1, 2, 3]));
}

#[test]
fn many_are_got_into_buffers_that_are_used_again() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(10).max_message(5000));
    let mut messages = vec![vec![7; 3], Vec::with_capacity(300), vec![6]];
    let second = messages[1].as_ptr();
    queue
        .put_many(&[vec![1], vec![2; 300], vec![3; 5000]])
        .unwrap();
    assert_eq!(queue.get_many_into(&mut messages, 0), Ok(0));
    assert_eq!(queue.get_many_into(&mut messages, 10), Ok(2));
    assert_eq!(messages, [vec![1], vec![2; 300], vec![6]]);
    assert_eq!(messages[1].as_ptr(), second);
    assert_eq!(queue.get_many_into(&mut messages, 10), Ok(1));
    assert_eq!(messages, [vec![3; 5000], vec![2; 300], vec![6]]);
    queue.put_many(&[[1], [2], [3], [4], [5]]).unwrap();
    assert_eq!(queue.get_many_into(&mut messages, 4), Ok(4));
    assert_eq!(messages, [[1], [2], [3], [4]], "one buffer more");
}

#[test]
fn many_are_put_under_one_lock_and_the_rest_comes_back() {
    let _watchdog = watchdog();
    let queue = bytes(Options::new(10).max_message(4096));
    let messages = [
        vec![1],
        vec![2; 1000],
        vec![3; 4096],
        vec![3],
        vec![4; 4097],
        vec![5],
    ];
    let failed = queue.put_many(&messages).unwrap_err();
    let (len, most) = (4097, 4096);
    assert_eq!(
        (failed.value, failed.error),
        (4, QueueError::TooLarge { len, most })
    );
    for message in &messages[..4] {
        assert_eq!(&queue.get().unwrap(), message);
    }
    let typed = Queue::<String>::create(Place::anonymous(), Options::new(200).max_message(8));
    let typed = typed.unwrap();
    let mut values = (0..150).map(|i| {
        if i == 100 {
            "x".repeat(8)
        } else {
            i.to_string()
        }
    });
    let failed = typed.put_many(&mut values).unwrap_err();
    assert!(matches!(
        failed.error,
        QueueError::TooLarge { len: 9, most: 8 }
    ));
    assert_eq!((failed.value.len(), failed.value[1].as_str()), (28, "101"));
    assert_eq!(
        values.next().as_deref(),
        Some("128"),
        "what no batch took is in the iterator"
    );
    assert_eq!(typed.get_many(1000).map(|got| got.len()), Ok(100));
}

#[test]
fn shutdown_at_once_drops_what_waits_and_wakes_everybody() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 1).unwrap();
    queue.put(1).unwrap();
    let producer = queue.clone();
    let producer = thread::spawn(move || producer.put(2).unwrap_err().error);
    thread::sleep(SOON);
    queue.shutdown(true).unwrap();
    assert_eq!(producer.join().unwrap(), QueueError::Closed);
    assert_eq!(queue.try_get(), Err(QueueError::Closed));
    assert_eq!(queue.len(), Ok(0));
}

#[test]
fn the_last_sender_closes() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 4).unwrap();
    let receiver = queue.receiver().unwrap();
    assert_eq!(
        receiver.try_get(),
        Err(QueueError::Empty),
        "open before the first sender"
    );
    let first = queue.sender().unwrap();
    let second = first.try_clone().unwrap();
    assert_eq!(queue.inspect().unwrap().halves, (2, 1));
    first.put(1).unwrap();
    drop(first);
    second.put(2).unwrap();
    drop(second);
    assert_eq!((receiver.get(), receiver.get()), (Ok(1), Ok(2)));
    assert_eq!(receiver.get(), Err(QueueError::Closed));
    assert_eq!(queue.sender().map(drop), Err(QueueError::Closed));
}

#[test]
fn more_participants_than_the_segment_keeps_track_of_are_refused() {
    let _watchdog = watchdog();
    let name = UniqueName::new("participants");
    let place = Place::named(&*name).participants(64);
    let queue = Queue::<u32>::create(place, 4).unwrap();
    let others: Vec<_> = (1..64)
        .map(|_| Queue::<u32>::open(&*name).unwrap())
        .collect();
    let refused = Queue::<u32>::open(&*name).unwrap_err();
    assert!(
        matches!(refused, Error::TooManyParticipants { .. }),
        "{refused}"
    );
    queue.put(1).unwrap();
    assert_eq!(others[0].get(), Ok(1));
    drop(others);
    assert_eq!(Queue::<u32>::open(&*name).unwrap().len(), Ok(0));
}

#[test]
fn a_message_that_is_no_value_is_put_aside_and_the_queue_goes_on() {
    let _watchdog = watchdog();
    let name = UniqueName::new("no-value");
    let tag = || Place::named(&*name).type_tag("anything");
    let queue = Queue::<String>::create(tag(), 65).unwrap();
    let forger = ByteQueue::open(tag()).unwrap();
    forger.put(&[3, b'a', 0xff, b'c']).unwrap();
    queue.put("good".to_owned()).unwrap();
    assert!(matches!(queue.get(), Err(QueueError::Decode(_))));
    assert_eq!(queue.get().as_deref(), Ok("good"));
    let letters = queue.dead_letters().unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].bytes, [3, b'a', 0xff, b'c']);
    assert_eq!(
        (letters[0].reason, letters[0].deliveries),
        (DeadReason::Decode, 1)
    );
    assert_eq!(queue.dead_letters(), Ok(vec![]));
    // Alone in its batch, which is the second: what was got before is not lost.
    (0..64).for_each(|_| queue.put("good".to_owned()).unwrap());
    forger.put(&[3, b'a', 0xff, b'c']).unwrap();
    assert_eq!(queue.drain().map(|good| good.len()), Ok(64));
    assert_eq!(queue.dead_letters().unwrap().len(), 1);
}

#[test]
fn a_value_that_panics_as_it_is_decoded_goes_back() {
    use serde::{Deserialize, Serialize};
    #[derive(Debug, PartialEq, Serialize)]
    struct Bomb(u8);
    impl<'de> Deserialize<'de> for Bomb {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            match u8::deserialize(d)? {
                0 => std::panic::resume_unwind(Box::new(())),
                n => Ok(Self(n)),
            }
        }
    }
    let queue = Queue::<Bomb>::create(Place::anonymous(), 4).unwrap();
    queue.put_many([Bomb(1), Bomb(0), Bomb(2)]).unwrap();
    let get = |most| {
        let get = std::panic::AssertUnwindSafe(|| queue.get_many(most));
        std::panic::catch_unwind(get).ok()
    };
    let left = || {
        let seen = queue.inspect().unwrap();
        (seen.len, seen.leases.len(), seen.writing)
    };
    assert_eq!(get(2), None, "the second of two");
    assert_eq!(left(), (3, 0, 0));
    assert_eq!(get(1), Some(Ok(vec![Bomb(1)])));
    assert_eq!(get(2), None, "the first of two");
    assert_eq!(left(), (2, 0, 0));
    assert_eq!(get(1), None, "it is the first still");
}

#[test]
fn impossible_options_are_refused_by_name() {
    let refused = |options: Options| match ByteQueue::create(Place::anonymous(), options) {
        Err(CreateError::Option { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Options::new(0)), "capacity");
    assert_eq!(refused(Options::new(u32::MAX)), "capacity");
    assert_eq!(refused(Options::new(1).max_message(0)), "max_message");
    assert_eq!(refused(Options::new(1).leases(0)), "leases");
    let small = Options::new(1).max_message(1 << 20).arena_bytes(1000);
    assert_eq!(refused(small), "arena_bytes");
    assert_eq!(
        refused(Options::new(1).max_message(225).arena_bytes(0)),
        "arena_bytes"
    );
    let short = Options::new(1).max_message(224).arena_bytes(0);
    let queue = ByteQueue::create(Place::anonymous(), short).unwrap();
    queue.put(&[7; 224]).unwrap();
    assert_eq!(queue.get().unwrap(), [7; 224]);
}

#[test]
fn a_queue_of_another_type_or_codec_is_not_opened() {
    let name = UniqueName::new("types");
    let queue = Queue::<u32>::create(&*name, 4).unwrap();
    let is_mismatch = |error| {
        let field = Field::TypeTag;
        matches!(error, Error::Mismatch { field: f, .. } if f == field)
    };
    assert!(is_mismatch(Queue::<u64>::open(&*name).unwrap_err()));
    assert!(is_mismatch(Queue::<u32, Raw>::open(&*name).unwrap_err()));
    assert!(is_mismatch(ByteQueue::open(&*name).unwrap_err()));
    Queue::<u32>::open(&*name).unwrap().put(5).unwrap();
    assert_eq!(queue.get(), Ok(5));
}

/// What is read in place would be taken back while it is read.
#[test]
fn a_plain_queue_with_a_lease_time_is_refused() {
    let name = UniqueName::new("lease-time");
    let queue = ByteQueue::create(&*name, 4).unwrap();
    let control = queue.segment().view::<Control>(0).unwrap();
    control.config[6].store(1, Ordering::Relaxed);
    let refused = ByteQueue::open(&*name).unwrap_err();
    let field = "lease time of a plain queue";
    assert!(
        matches!(refused, Error::Corrupt { field: f, value: 1, .. } if f == field),
        "{refused}"
    );
}

#[test]
fn a_queue_lives_in_a_callers_region() {
    let region = Region::heap(1 << 20);
    let options = Options::new(4).max_message(1000).leases(4);
    let queue = ByteQueue::create(region, options).unwrap();
    queue.put(&[5; 1000]).unwrap();
    assert_eq!(queue.get().unwrap(), [5; 1000]);
}

#[test]
fn a_value_that_puts_values_as_it_is_encoded_does_not_upset_the_buffer() {
    use serde::{Deserialize, Serialize};
    std::thread_local! {
        static INNER: Queue<Vec<u8>> = Queue::create(Place::anonymous(), 4).unwrap();
    }
    #[derive(Deserialize)]
    struct Nested;
    impl Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            INNER.with(|inner| inner.put(vec![9; 100]).unwrap());
            s.serialize_unit_struct("Nested")
        }
    }
    let queue = Queue::<(u8, Nested, u8)>::create(Place::anonymous(), 4).unwrap();
    queue.put((1, Nested, 2)).unwrap();
    let (first, _, last) = queue.get().unwrap();
    assert_eq!((first, last), (1, 2));
    assert_eq!(INNER.with(Queue::get), Ok(vec![9; 100]));
}

#[test]
fn numbers_that_wrap_keep_the_order() {
    let _watchdog = watchdog();
    let name = UniqueName::new("wrap");
    let queue = Queue::<u32>::create(&*name, 8).unwrap();
    shm_queue::raw::testing::start_numbers_at(queue.segment(), u64::MAX - 3);
    for round in 0..10 {
        queue.put_many([round, round + 100, round + 200]).unwrap();
        queue.recover().unwrap();
        let got = [queue.get(), queue.get(), queue.get()];
        assert_eq!(got, [Ok(round), Ok(round + 100), Ok(round + 200)]);
    }
}

#[test]
fn all_that_is_there_is_drained() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 100).unwrap();
    assert_eq!(queue.drain(), Ok(vec![]));
    assert_eq!(queue.try_get_many(5), Err(QueueError::Empty));
    assert_eq!(queue.get_many_timeout(5, SOON), Err(QueueError::Timeout));
    queue.put_many(0..100).unwrap();
    assert_eq!(queue.try_get_many(2), Ok(vec![0, 1]));
    queue.close().unwrap();
    assert_eq!(queue.drain(), Ok((2..100).collect()));
    assert_eq!(queue.try_get_many(0), Ok(vec![]));
    assert_eq!(queue.try_get_many(1), Err(QueueError::Closed));
}

/// What cannot be decoded does not stand in the way of what is behind it.
#[test]
fn all_is_drained_that_can_be_decoded() {
    let _watchdog = watchdog();
    let name = UniqueName::new("undecodable");
    let tag = || Place::named(&*name).type_tag("anything");
    let queue = Queue::<bool>::create(tag(), 300).unwrap();
    let forger = ByteQueue::open(tag()).unwrap();
    let forge = |count| forger.put_many(&vec![[2]; count]).unwrap();
    forge(70);
    queue.put_many([true; 100]).unwrap();
    forge(70);
    queue.put(true).unwrap();
    assert_eq!(queue.drain(), Ok(vec![true; 101]));
    forge(1);
    assert!(matches!(queue.drain(), Err(QueueError::Decode(_))));
    assert_eq!(queue.drain(), Ok(vec![]));
}

#[test]
fn a_queues_handle_travels_through_another_queue() {
    let (name, post) = (UniqueName::new("travels"), UniqueName::new("post"));
    let queue = Queue::<u32>::create(&*name, 4).unwrap();
    let handles = Queue::<SegmentHandle>::create(&*post, 4).unwrap();
    handles.put(queue.segment().handle().unwrap()).unwrap();
    let handle = Queue::<SegmentHandle>::open(&*post).unwrap().get().unwrap();
    Queue::<u32>::open(&handle).unwrap().put(7).unwrap();
    assert_eq!(queue.get(), Ok(7));
    queue.unlink().unwrap();
    let _other = Queue::<u32>::create(&*name, 4).unwrap();
    assert!(
        Queue::<u32>::open(&handle).is_err(),
        "the name is another's by now"
    );
}

/// Whether the descriptor becomes readable within the time.
fn is_readable(readiness: &Readiness, time: Duration) -> bool {
    use std::os::fd::AsFd;
    let mut set = [PollFd::new(readiness.as_fd(), PollFlags::POLLIN)];
    poll(&mut set, PollTimeout::try_from(time).unwrap()).unwrap() == 1
}

#[test]
fn a_descriptor_is_readable_while_there_is_a_message() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 4).unwrap();
    let readiness = queue.readiness().unwrap();
    assert!(!is_readable(&readiness, SOON));
    queue.put(1).unwrap();
    assert!(is_readable(&readiness, LONG));
    readiness.rearm();
    assert!(is_readable(&readiness, LONG), "it is there still");
    assert_eq!(queue.try_get(), Ok(1));
    readiness.rearm();
    assert!(!is_readable(&readiness, SOON));
    queue.put_many([2, 3]).unwrap();
    assert!(is_readable(&readiness, LONG));
    queue.get_many(2).unwrap();
    readiness.rearm();
    queue.close().unwrap();
    assert!(
        is_readable(&readiness, LONG),
        "that no more will come is news"
    );
}

#[test]
fn dropping_a_descriptor_ends_its_thread() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 4).unwrap();
    for ready in [false, true] {
        let readiness = queue.readiness().unwrap();
        if ready {
            queue.put(1).unwrap();
            assert!(is_readable(&readiness, LONG));
        }
        // It joins the thread.
        drop(readiness);
    }
}

/// A message that panics instead of being one, if it is 0.
struct Faulty(u8);

impl AsRef<[u8]> for Faulty {
    fn as_ref(&self) -> &[u8] {
        assert!(self.0 != 0, "no message");
        std::slice::from_ref(&self.0)
    }
}

fn put_until_it_panics(queue: &ByteQueue, numbers: [u8; 3]) {
    let put = std::panic::AssertUnwindSafe(|| queue.put_many(&numbers.map(Faulty)));
    std::panic::catch_unwind(put).unwrap_err();
}

#[test]
fn what_was_put_before_a_panic_in_a_batch_is_got() {
    let _watchdog = watchdog();
    let name = UniqueName::new("faulty");
    let queue = ByteQueue::create(&*name, 8).unwrap();
    put_until_it_panics(&queue, [1, 2, 0]);
    assert_eq!(queue.len(), Ok(2));
    queue.put(&[3]).unwrap();

    // The same while another panic is on its way.
    struct Puts<'a>(&'a ByteQueue);
    impl Drop for Puts<'_> {
        fn drop(&mut self) {
            put_until_it_panics(self.0, [4, 5, 0]);
        }
    }
    let unwinds = std::panic::AssertUnwindSafe(|| {
        let _puts = Puts(&queue);
        panic!("on its way");
    });
    std::panic::catch_unwind(unwinds).unwrap_err();
    queue.put(&[6]).unwrap();
    let got: Vec<_> = (0..6).map(|_| queue.try_get().unwrap()).collect();
    assert_eq!(got, [1, 2, 3, 4, 5, 6].map(|number| vec![number]));
    assert!(queue.is_empty().unwrap());
    // All of its room is there.
    (0..8).for_each(|_| queue.try_put(&[7]).unwrap());
}

#[test]
fn a_message_that_cannot_be_copied_is_none_of_those_that_were_got() {
    const SECOND: &[u8] = b"thirteen-byte";
    let _watchdog = watchdog();
    let name = UniqueName::new("one-damaged");
    let place = Place::named(&*name).unlink_on_drop(true);
    let queue = ByteQueue::create(place, Options::new(4).max_message(100)).unwrap();
    queue
        .put_many(&[b"first".as_slice(), SECOND, b"last"])
        .unwrap();

    let mut files = std::fs::read_dir("/dev/shm").unwrap().flatten();
    let path = files
        .find(|file| file.file_name().to_string_lossy().contains(&*name))
        .unwrap()
        .path();
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(SECOND.len())
        .position(|bytes| bytes == SECOND);
    // The length stands 16 bytes before the message (docs/format.md, "Queues").
    let len_at = at.unwrap() as u64 - 16;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &1000_u32.to_ne_bytes(), len_at).unwrap();

    assert_eq!(queue.get_many(10).unwrap(), [b"first"]);
    let next = queue.get_many(10);
    assert!(matches!(next, Err(QueueError::Corrupt { .. })), "{next:?}");
}
