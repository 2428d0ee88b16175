//! The reader-writer lock between living processes and threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use shm_core::{Error, Place, Region, Segment};
use shm_lock::{Cause, CreateError, LockError, LockFailure, RwLock};
use shm_testing::{
    Child, Peer, UniqueName, eventually, peer_main, until_thread_asleep_in_futex, watchdog,
};

type Pair = [u64; 2];

#[test]
fn peer() {
    peer_main(&[
        ("reads", reads as fn(&mut Peer)),
        ("writes", writes),
        ("tries", tries),
        ("reads once", reads_once),
        ("writes once", writes_once),
    ]);
}

fn open(peer: &Peer) -> RwLock<Pair> {
    RwLock::open(&peer.args()[0]).unwrap()
}

/// Sees whole pairs only, until it sees the last.
fn reads(peer: &mut Peer) {
    let lock = open(peer);
    let last: u64 = peer.args()[1].parse().unwrap();
    peer.say("ready");
    loop {
        let pair = lock.read().unwrap();
        assert_eq!(pair[0] * 3, pair[1], "half a change");
        if pair[0] == last {
            break;
        }
    }
    peer.say("done");
}

fn writes(peer: &mut Peer) {
    let lock = open(peer);
    let rounds: u64 = peer.args()[1].parse().unwrap();
    peer.say("ready");
    for _ in 0..rounds {
        let mut pair = lock.write().unwrap();
        pair[0] += 1;
        pair[1] = pair[0] * 3;
    }
    peer.say("done");
}

fn tries(peer: &mut Peer) {
    let lock = open(peer);
    let read = match lock.try_read() {
        Ok(_) => "read",
        Err(LockFailure::WouldBlock) => "-",
        Err(other) => panic!("{other}"),
    };
    let write = match lock.try_write() {
        Ok(_) => "write",
        Err(LockError::WouldBlock) => "-",
        Err(other) => panic!("{other}"),
    };
    peer.say(&format!("{read} {write}"));
}

fn reads_once(peer: &mut Peer) {
    let lock = open(peer);
    peer.say("waiting");
    let pair = *lock.read().unwrap();
    peer.say(&format!("{pair:?}"));
}

fn writes_once(peer: &mut Peer) {
    let lock = open(peer);
    peer.say("waiting");
    *lock.write().unwrap() = [1, 3];
    peer.say("written");
}

fn create(tag: &str) -> (UniqueName, RwLock<Pair>) {
    let name = UniqueName::new(tag);
    let lock = RwLock::create(&*name, [0, 0]).unwrap();
    (name, lock)
}

fn asleep(role: &str, name: &str) -> Child {
    let mut child = Child::spawn(role, &[name]);
    child.expect("waiting");
    let tid = child.tid();
    until_thread_asleep_in_futex(child.pid(), tid);
    child
}

#[test]
fn many_read_or_one_writes() {
    let _watchdog = watchdog();
    let (name, lock) = create("many-read");
    let tries = || Child::spawn("tries", &[&name]).hear();
    assert_eq!(tries(), "read write");
    let reader = lock.read().unwrap();
    assert_eq!(tries(), "read -");
    drop(reader);
    let writer = lock.write().unwrap();
    assert_eq!(tries(), "- -");
    let reader = writer.downgrade();
    assert_eq!(tries(), "read -");
    drop(reader);
    assert_eq!(tries(), "read write");
}

#[test]
fn readers_see_whole_changes_and_no_change_is_lost() {
    let _watchdog = watchdog();
    let (name, lock) = create("whole");
    let mut readers: Vec<_> = (0..2)
        .map(|_| Child::spawn("reads", &[&name, "4000"]))
        .collect();
    let mut writers: Vec<_> = (0..2)
        .map(|_| Child::spawn("writes", &[&name, "2000"]))
        .collect();
    for child in readers.iter_mut().chain(&mut writers) {
        child.expect("ready");
    }
    for child in readers.iter_mut().chain(&mut writers) {
        child.expect("done");
    }
    assert_eq!(*lock.read().unwrap(), [4000, 12_000]);
    let idle = lock.inspect();
    assert_eq!((idle.writer.owner, idle.readers.len()), (None, 0));
    assert_eq!((idle.writer.deaths, idle.writer.waiters), (0, 0));
}

#[test]
fn a_waiting_writer_holds_new_readers_back_and_is_served_before_them() {
    let _watchdog = watchdog();
    let (name, lock) = create("no-starvation");
    let reader = lock.read().unwrap();
    let mut writer = asleep("writes once", &name);
    let mut late = asleep("reads once", &name);
    eventually(|| lock.inspect().writer.waiters == 1);
    let seen = lock.inspect();
    assert_eq!(seen.writer.owner.map(|id| id.pid()), Some(writer.pid()));
    assert_eq!(seen.readers.len(), 1);
    std::thread::scope(|s| {
        s.spawn(|| assert!(matches!(lock.try_read(), Err(LockFailure::WouldBlock))));
    });
    drop(reader);
    writer.expect("written");
    late.expect("[1, 3]");
}

#[test]
fn readers_in_turns_do_not_starve_a_writer() {
    let _watchdog = watchdog();
    let (_name, lock) = create("in-turns");
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|s| {
        let lock = &lock;
        for _ in 0..3 {
            s.spawn(move || {
                // Overlapping reads: without a gate there would always be one.
                while lock.read().unwrap()[0] < 20 {
                    let _guard = lock.read().unwrap();
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
        }
        s.spawn(move || {
            for _ in 0..20 {
                lock.write_timeout(Duration::from_secs(20)).unwrap()[0] += 1;
            }
            drop(stop);
        });
        assert!(stopped.recv().is_err());
    });
}

#[test]
fn a_nested_read_goes_through_though_a_writer_waits() {
    let _watchdog = watchdog();
    let (name, lock) = create("nested");
    let outer = lock.read().unwrap();
    let mut writer = asleep("writes once", &name);
    let inner = lock.try_read().expect("never waits");
    let third = lock.read().expect("never waits");
    assert_eq!(lock.inspect().readers.len(), 1, "all in one slot");
    drop(outer);
    drop(third);
    // More than two slices of sleep: one that finds the slot free by itself would be heard of.
    let waiting = writer.try_expect("written", Duration::from_millis(250));
    assert!(waiting.is_err(), "one guard is left");
    assert_eq!(*inner, [0, 0]);
    drop(inner);
    writer.expect("written");
}

#[test]
fn what_would_wait_for_itself_is_a_deadlock() {
    let _watchdog = watchdog();
    let (name, lock) = create("deadlock");
    let reader = lock.read().unwrap();
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    let limit = Duration::from_secs(9);
    assert!(matches!(
        lock.write_timeout(limit),
        Err(LockError::Deadlock)
    ));
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    drop(reader);
    assert_eq!(Child::spawn("tries", &[&name]).hear(), "read write");
    let writer = lock.write().unwrap();
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    assert!(matches!(lock.read(), Err(LockFailure::Deadlock)));
    assert!(matches!(lock.try_read(), Err(LockFailure::WouldBlock)));
    drop(writer);
    assert_eq!(Child::spawn("tries", &[&name]).hear(), "read write");
}

/// A writer that waits for the reader is no reason to wait for that writer.
#[test]
fn a_reader_that_would_write_is_told_also_while_a_writer_waits_for_it() {
    let _watchdog = watchdog();
    let (name, lock) = create("upgrade");
    let reader = lock.read().unwrap();
    let mut writer = Child::spawn("writes once", &[&name]);
    writer.expect("waiting");
    let tid = writer.tid();
    until_thread_asleep_in_futex(writer.pid(), tid);
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    drop(reader);
    writer.expect("written");
    drop(lock.write().unwrap());
}

#[test]
fn one_reader_more_than_slots_waits_for_any_of_them() {
    let _watchdog = watchdog();
    let name = UniqueName::new("slots");
    let lock = RwLock::create_for(&*name, [0_u64, 0], 2).unwrap();
    assert_eq!(lock.inspect().slots, 2);
    std::thread::scope(|s| {
        let reading = |leave: std::sync::mpsc::Receiver<()>| {
            let (said, inside) = channel();
            let lock = &lock;
            s.spawn(move || {
                let _guard = lock.read().unwrap();
                said.send(()).unwrap();
                let _ = leave.recv();
            });
            inside.recv().unwrap();
        };
        let (first, leave) = channel();
        reading(leave);
        let (second, leave) = channel();
        reading(leave);
        assert!(matches!(lock.try_read(), Err(LockFailure::WouldBlock)));
        let timeout = Duration::from_millis(30);
        let begin = Instant::now();
        assert!(lock.read_timeout(timeout).unwrap_err().is_timeout());
        assert!(begin.elapsed() >= timeout);
        let mut third = asleep("reads once", &name);
        drop(second); // whichever it is: the other one stays
        third.expect("[0, 0]");
        drop(first);
    });
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_number_of_slots_is_checked() {
    let of = |slots| RwLock::create_for(Place::anonymous(), 0_u8, slots);
    assert!(matches!(of(0), Err(CreateError::Zero)));
    let most = RwLock::<u8>::MAX_READERS;
    assert!(matches!(
        of(most + 1),
        Err(CreateError::TooMany { count, max }) if (count, max) == (most + 1, most)
    ));
    let largest = of(most).unwrap();
    *largest.write().expect("within the limit of a thread") = 1;
    let again = RwLock::<u8>::open(largest.segment().inheritable_fd().unwrap()).unwrap();
    assert_eq!(again.inspect().slots, most as usize);
    assert_eq!(*again.read().unwrap(), 1);
}

#[test]
fn a_number_of_slots_that_cannot_be_is_corrupt() {
    let name = UniqueName::new("corrupt-slots");
    let _lock = RwLock::create(&*name, 0_u32).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    for wrong in [0_u32, 65, 1025, u32::MAX] {
        std::os::unix::fs::FileExt::write_all_at(&file, &wrong.to_ne_bytes(), 4096 + 60).unwrap();
        let error = RwLock::<u32>::open(&*name).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{wrong}: {error}");
    }
}

#[test]
fn a_panic_of_a_writer_poisons_and_of_a_reader_does_not() {
    let (_name, lock) = create("poison");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.read().unwrap();
        panic!("reading");
    }));
    assert!(panicked.is_err());
    assert!(lock.read().is_ok());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        lock.write().unwrap()[0] = 1;
        let mut guard = lock.write().unwrap();
        guard[0] = 2;
        panic!("writing");
    }));
    assert!(panicked.is_err());
    let refused = lock.read().unwrap_err();
    assert_eq!(refused, LockFailure::NeedsRepair(Cause::Panicked));
    assert!(matches!(lock.write(), Err(LockError::Poisoned(recover)) if recover[0] == 2));
    assert!(lock.read().is_err(), "a look repairs nothing");
    let reader = lock.read_or_repair(|pair, _| *pair = [5, 15]).unwrap();
    assert_eq!(*reader, [5, 15]);
    assert_eq!(*lock.read().unwrap(), [5, 15]);
}

#[test]
fn a_timeout_is_not_early_and_leaves_the_lock_as_it_was() {
    let _watchdog = watchdog();
    let (name, lock) = create("rw-timeout");
    let timeout = Duration::from_millis(50);
    let waits = || {
        let begin = Instant::now();
        assert!(lock.write_timeout(timeout).unwrap_err().is_timeout());
        assert!(begin.elapsed() >= timeout);
        let deadline = Instant::now() + timeout;
        assert!(lock.write_deadline(deadline).unwrap_err().is_timeout());
        assert!(Instant::now() >= deadline);
    };
    let reader = lock.read().unwrap();
    std::thread::scope(|s| {
        s.spawn(waits);
    });
    // The writer that gave up left no slot behind and holds nobody back.
    assert_eq!(Child::spawn("tries", &[&name]).hear(), "read -");
    drop(reader);
    let writer = lock.write().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let begin = Instant::now();
            assert!(lock.read_timeout(timeout).unwrap_err().is_timeout());
            assert!(lock.read_deadline(begin).unwrap_err().is_timeout());
            assert!(begin.elapsed() >= timeout);
        });
    });
    drop(writer);
    assert_eq!(Child::spawn("tries", &[&name]).hear(), "read write");
}

#[test]
fn it_lives_in_every_place() {
    let name = UniqueName::new("rw-places");
    let named = RwLock::create(&*name, 7_u16).unwrap();
    let anonymous = RwLock::create(Place::anonymous(), 9_u16).unwrap();
    let fd = anonymous.segment().inheritable_fd().unwrap();
    assert_eq!(*RwLock::<u16>::open(fd).unwrap().read().unwrap(), 9);
    let again = RwLock::open_or_create(&*name, 1_u16).unwrap();
    assert_eq!(*again.read().unwrap(), 7);
    assert!(RwLock::<i16>::open(&*name).is_err());
    assert!(
        Segment::open(&*name, 1)
            .unwrap_err()
            .to_string()
            .contains("kind is RWLK")
    );
    named.unlink().unwrap();
    let exact = Region::heap(RwLock::<u128>::REGION_SIZE);
    let exact = RwLock::create(exact, 5_u128).unwrap();
    assert_eq!(*exact.read().unwrap(), 5);
    let small = Region::heap(RwLock::<u8>::region_size(3));
    let small = RwLock::create_for(small, 6_u8, 3).unwrap();
    assert_eq!(*small.read().unwrap(), 6);
}
