//! Random deaths under load, with an exact account: workers on all processors, one or two killed every
//! few milliseconds, some stopped for a while; at the end every operation is accounted for, those that a kill
//! interrupted too: each seat has a word or a byte of its own that changes in the same step.
//!
//! 200 kills a storm; `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm` for more.

mod asked;

use std::time::Duration;

use asked::{assert_bites, kills, storm};
use shm_lock::{LockFailure, Mutex, ProcessId, RobustPermit, RobustSemaphore, RwLock, Semaphore};
use shm_testing::storm::{Outcome, Share, Worker};
use shm_testing::{Peer, UniqueName, peer_main, wait_until};
use shm_value::{AtomicArray, AtomicValue, Value};

const WORKERS: usize = 4;

#[test]
fn peer() {
    peer_main(&[
        (
            "moves between two words",
            (|peer| moves(peer, HONEST)) as fn(&mut Peer),
        ),
        ("moves, and undoes a move", |peer| moves(peer, UNDOES)),
        ("updates a value", |peer| updates(peer, HONEST)),
        ("updates, and undoes an update", |peer| {
            updates(peer, UNDOES)
        }),
        ("adds to a number", |peer| adds(peer, add, HONEST)),
        ("adds, and undoes an addition", |peer| {
            adds(peer, add, UNDOES)
        }),
        ("reads a number, then writes it", |peer| {
            adds(peer, read_then_write, HONEST)
        }),
        ("reads and writes two words", |peer| {
            reads_and_writes(peer, HONEST)
        }),
        ("writes, and undoes a change", |peer| {
            reads_and_writes(peer, UNDOES)
        }),
        ("stands where its permit says", stands_where_its_permit_says),
        ("stands without a permit", stands_without_a_permit),
        ("takes a permit", takes_a_permit),
    ]);
}

/// What the twins do: they take back a change of somebody else's.
const UNDOES: bool = true;
const HONEST: bool = false;

/// Finds out whether the forerunner's last change took effect: whether the seat's own word says one more. A twin
/// that undoes gets a seat whose word it is to take one from: only where the sum would be right again, since the
/// forerunner's took effect.
fn settle(worker: &mut Worker<'_>, own: impl FnOnce() -> u64, undoes: bool) -> Option<usize> {
    let settled = worker.settle(|effects| own() == effects + 1);
    (undoes && settled == Some(true)).then(|| (worker.seat() + 1) % WORKERS)
}

/// Two words that add up to zero, and behind them how often each seat changed them.
type Moved = [i64; 2 + WORKERS];

fn sum(words: &Moved) -> i64 {
    words[2..].iter().sum()
}

/// What the twins do to another seat's last change.
fn take_back(words: &mut Moved, seat: usize) {
    words[0] -= 1;
    words[1] += 1;
    words[2 + seat] -= 1;
}

/// What is open is no more than one change; the seat's own word says whether it counts.
fn repair(words: &mut Moved) {
    let sum = sum(words);
    let off = [words[0] - sum, -words[1] - sum];
    assert!(off.iter().all(|off| off.abs() <= 1), "lost: {words:?}");
    (words[0], words[1]) = (sum, -sum);
}

fn assert_whole(words: &Moved) {
    let sum = sum(words);
    assert_eq!(words[..2], [sum, -sum], "torn without a report");
}

/// One more change, after `effects` of this seat. Now and then others run while only half of it is there.
fn change(words: &mut Moved, seat: usize, effects: u64) {
    assert_whole(words);
    assert_eq!(words[2 + seat] as u64, effects, "lost");
    words[0] += 1;
    if effects.is_multiple_of(16) {
        std::thread::yield_now();
    }
    words[1] -= 1;
    words[2 + seat] += 1;
}

/// Several stores under the lock; a repair completes them or takes them back.
fn moves(peer: &mut Peer, undoes: bool) {
    let mutex = Mutex::<Moved>::open(&peer.args()[0]).unwrap();
    let lock = || mutex.lock_or_repair(|words, _| repair(words)).unwrap();
    let mut worker = Worker::enlist(peer);
    let seat = worker.seat();
    if let Some(other) = settle(&mut worker, || lock()[2 + seat] as u64, undoes) {
        take_back(&mut lock(), other);
    }
    while worker.goes_on() {
        let effects = worker.effects();
        worker.count(|| change(&mut lock(), seat, effects));
    }
}

/// As `moves`, with readers, who must never see one word without the others.
fn reads_and_writes(peer: &mut Peer, undoes: bool) {
    let locked = RwLock::<Moved>::open(&peer.args()[0]).unwrap();
    let read = || locked.read_or_repair(|words, _| repair(words)).unwrap();
    let write = || locked.write_or_repair(|words, _| repair(words)).unwrap();
    let mut worker = Worker::enlist(peer);
    let seat = worker.seat();
    if let Some(other) = settle(&mut worker, || read()[2 + seat] as u64, undoes) {
        take_back(&mut write(), other);
    }
    while worker.goes_on() {
        for _ in 0..3 {
            worker.visit(|| assert_whole(&read()));
        }
        let effects = worker.effects();
        worker.count(|| change(&mut write(), seat, effects));
    }
}

/// All updates, and behind them those of each seat.
type Updates = [u64; 1 + WORKERS];

/// Those of the seats together. One that had none yet, and lost one to a twin, has less than nothing.
fn of_seats(updates: &Updates) -> u64 {
    updates[1..].iter().copied().fold(0, u64::wrapping_add)
}

fn updates(peer: &mut Peer, undoes: bool) {
    let value = Value::<Updates>::open(&peer.args()[0]).unwrap();
    let add = |seat: usize, by: i64| {
        let add = |words: &mut Updates| {
            for index in [0, 1 + seat] {
                words[index] = words[index].wrapping_add_signed(by);
            }
        };
        value.update(add).unwrap();
    };
    let mut worker = Worker::enlist(peer);
    let seat = worker.seat();
    if let Some(other) = settle(&mut worker, || value.get().unwrap()[1 + seat], undoes) {
        add(other, -1);
    }
    while worker.goes_on() {
        let effects = worker.effects();
        worker.count(|| {
            let seen = value.get().unwrap();
            assert_eq!(seen[0], of_seats(&seen), "torn");
            assert_eq!(seen[1 + seat], effects, "lost");
            add(seat, 1);
        });
    }
}

type Add = fn(&AtomicValue<u64>, u64) -> u64;

fn add(number: &AtomicValue<u64>, by: u64) -> u64 {
    number.fetch_add(by)
}

/// The twin that thinks that nobody else adds.
fn read_then_write(number: &AtomicValue<u64>, by: u64) -> u64 {
    let seen = number.load();
    std::thread::yield_now();
    number.store(seen.wrapping_add(by));
    seen
}

/// One instruction adds to the common number, in the seat's own byte.
fn adds(peer: &mut Peer, add: Add, undoes: bool) {
    let number = AtomicValue::<u64>::open(&peer.args()[0]).unwrap();
    let mut worker = Worker::enlist(peer);
    let seat = worker.seat();
    let share = Share::of(seat);
    let settled = worker.settle(|effects| share.is_after(number.load(), effects + 1));
    if undoes && settled == Some(true) {
        number.fetch_sub(Share::of((seat + 1) % WORKERS).after(1));
    }
    while worker.goes_on() {
        let effects = worker.effects();
        let before = worker.count(|| add(&number, share.step(effects)));
        assert!(share.is_after(before, effects), "lost: {before:#x}");
    }
}

/// With a permit, stands in the place of the permit's number; nobody who lives may stand there.
fn stands_where_its_permit_says(peer: &mut Peer) {
    let semaphore = RobustSemaphore::open(&peer.args()[0]).unwrap();
    let acquire = || {
        let permit = semaphore.acquire().unwrap();
        (permit.index(), permit.dead_holder(), Some(permit))
    };
    stand(peer, acquire);
}

/// The negative control: a permit that everybody has.
fn stands_without_a_permit(peer: &mut Peer) {
    stand(peer, || (0, None, None));
}

/// What a permit says: where to stand, and from whom it came; and the permit itself.
type Stand<'a> = (usize, Option<ProcessId>, Option<RobustPermit<'a>>);

fn stand<'a>(peer: &mut Peer, acquire: impl Fn() -> Stand<'a>) {
    let places = AtomicArray::<u64>::open(&peer.args()[1]).unwrap();
    let me = ProcessId::current();
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.visit(|| {
            let (index, dead_holder, _permit) = acquire();
            let place = places.element(index).unwrap();
            let other = ProcessId::from_bits(place.swap(me.to_bits()));
            if let Some(other) = other.filter(|_| other != dead_holder) {
                // Its thread is gone for certain, the rest of its process perhaps not quite.
                let is_dead = || !other.is_alive().unwrap();
                let is_dead = wait_until(is_dead, Duration::from_secs(1));
                assert!(is_dead, "{other} has the same permit");
            }
            std::thread::yield_now();
            assert_eq!(
                place.swap(0),
                me.to_bits(),
                "somebody else had the same permit"
            );
        });
    }
}

/// The negative control: a permit that dies with its holder.
fn takes_a_permit(peer: &mut Peer) {
    let semaphore = Semaphore::open(&peer.args()[0]).unwrap();
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.visit(|| {
            let _permit = semaphore.acquire();
            std::thread::yield_now();
        });
    }
}

/// Whether each seat's word, as `own` gives it, says what the ledger says; exactly, for all that was open is settled.
fn each_seat(outcome: &Outcome, own: impl Fn(usize) -> u64) -> Result<(), String> {
    for seat in 0..WORKERS {
        let (effects, own) = (outcome.ledger.settled(seat)?, own(seat));
        if own != effects {
            return Err(format!("seat {seat} has {own}, and did {effects}: lost"));
        }
    }
    Ok(())
}

/// Sees to the words, and leaves them as they were at first.
fn all_moved(words: &mut Moved, outcome: &Outcome) -> Result<(), String> {
    assert_whole(words);
    each_seat(outcome, |seat| words[2 + seat] as u64)?;
    *words = [0; 2 + WORKERS];
    Ok(())
}

/// What is wrong with the account of a storm.
fn mutex_storm(role: &str) -> Result<(), String> {
    let name = UniqueName::new("storm-mutex");
    let mutex = Mutex::create(&*name, [0; 2 + WORKERS]).unwrap();
    let total = storm(role, &[&name], WORKERS, |outcome| {
        let mut words = mutex.lock_or_repair(|words, _| repair(words)).unwrap();
        all_moved(&mut words, outcome)
    })?;
    assert_bites(&total, Some(mutex.inspect().deaths.into()));
    Ok(())
}

#[test]
fn a_mutex_loses_no_section_and_shows_no_half() {
    mutex_storm("moves between two words").unwrap();
}

#[test]
fn control_a_lost_section_is_noticed() {
    assert_lost(mutex_storm("moves, and undoes a move"));
}

fn assert_lost<T: std::fmt::Debug>(found: Result<T, String>) {
    let wrong = found.unwrap_err();
    println!("{wrong}");
    assert!(wrong.contains("lost"), "{wrong}");
}

fn value_storm(role: &str) -> Result<(), String> {
    let name = UniqueName::new("storm-value");
    let value = Value::<Updates>::create(&*name, [0; 1 + WORKERS]).unwrap();
    let total = storm(role, &[&name], WORKERS, |outcome| {
        let words = value.get().unwrap();
        assert_eq!(words[0], of_seats(&words));
        each_seat(outcome, |seat| words[1 + seat])?;
        value.set([0; 1 + WORKERS]).unwrap();
        Ok(())
    })?;
    assert_bites(&total, Some(value.inspect().deaths.into()));
    Ok(())
}

#[test]
fn a_value_loses_no_update() {
    value_storm("updates a value").unwrap();
}

#[test]
fn control_a_lost_update_is_noticed() {
    assert_lost(value_storm("updates, and undoes an update"));
}

fn atomic_storm(role: &str) -> Result<(), String> {
    let name = UniqueName::new("storm-atomic");
    let number = AtomicValue::create(&*name, 0_u64).unwrap();
    let total = storm(role, &[&name], WORKERS, |outcome| {
        let mut all = 0;
        for seat in 0..WORKERS {
            all += Share::of(seat).after(outcome.ledger.settled(seat)?);
        }
        match number.swap(0) {
            number if number == all => Ok(()),
            number => Err(format!("lost: {number:#x}, not {all:#x}")),
        }
    })?;
    // One instruction leaves nothing to repair.
    assert_bites(&total, None);
    Ok(())
}

#[test]
fn an_atomic_value_loses_no_addition() {
    atomic_storm("adds to a number").unwrap();
}

#[test]
fn control_a_lost_addition_is_noticed() {
    assert_lost(atomic_storm("adds, and undoes an addition"));
}

#[test]
fn control_updates_that_are_lost_are_noticed() {
    assert_lost(atomic_storm("reads a number, then writes it"));
}

fn rwlock_storm(role: &str) -> Result<(), String> {
    let name = UniqueName::new("storm-rwlock");
    let lock = RwLock::<Moved>::create(&*name, [0; 2 + WORKERS]).unwrap();
    let total = storm(role, &[&name], WORKERS, |outcome| {
        let mut words = lock.write_or_repair(|words, _| repair(words)).unwrap();
        all_moved(&mut words, outcome)?;
        drop(words);
        let inspection = lock.inspect();
        assert!(inspection.readers.is_empty() && inspection.writer.owner_tid == 0);
        Ok(())
    })?;
    assert_bites(&total, Some(lock.inspect().writer.deaths.into()));
    Ok(())
}

#[test]
fn a_rwlock_loses_no_section_and_shows_no_half() {
    rwlock_storm("reads and writes two words").unwrap();
}

#[test]
fn control_a_lost_change_is_noticed() {
    assert_lost(rwlock_storm("writes, and undoes a change"));
}

const PERMITS: u32 = 2;

#[test]
fn a_robust_semaphore_loses_no_permit_and_gives_none_twice() {
    let (name, places) = (
        UniqueName::new("storm-robust"),
        UniqueName::new("storm-places"),
    );
    let semaphore = RobustSemaphore::create(&*name, PERMITS).unwrap();
    let _places = AtomicArray::<u64>::zeroed(&*places, PERMITS as usize).unwrap();
    let role = "stands where its permit says";
    let total = storm(role, &[&name, &places], WORKERS, |_| {
        match semaphore.available() {
            PERMITS => {}
            left => return Err(format!("{left} of {PERMITS} permits")),
        }
        let all: Vec<_> = (0..PERMITS)
            .map(|_| semaphore.try_acquire().unwrap())
            .collect();
        let another = semaphore.try_acquire().unwrap_err();
        assert_eq!(another, LockFailure::WouldBlock);
        drop(all);
        assert!(semaphore.inspect().holders.is_empty());
        Ok(())
    });
    assert_bites(&total.unwrap(), Some(semaphore.inspect().deaths.into()));
}

#[test]
fn control_a_permit_that_is_given_twice_is_noticed() {
    let (name, places) = (
        UniqueName::new("storm-none"),
        UniqueName::new("storm-places"),
    );
    let _places = AtomicArray::<u64>::zeroed(&*places, 1).unwrap();
    let role = "stands without a permit";
    let error = storm(role, &[&name, &places], WORKERS, |_| Ok(())).unwrap_err();
    assert!(error.contains("the same permit"), "{error}");
}

#[test]
fn control_permits_that_are_lost_are_noticed() {
    let name = UniqueName::new("storm-permits");
    // More than kills, so that nobody ever waits for one.
    let permits = kills() as u32 + 100;
    let semaphore = Semaphore::create(&*name, permits).unwrap();
    let account = |_: &Outcome| match semaphore.inspect().permits {
        left if left == permits => Ok(()),
        left => Err(format!("{left} of {permits} permits")),
    };
    let wrong = storm("takes a permit", &[&name], WORKERS, account).unwrap_err();
    assert!(wrong.contains("permits"), "{wrong}");
}
