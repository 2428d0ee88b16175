//! Random deaths under load, with an exact account: workers on all processors, one or two killed every
//! few milliseconds, some stopped for a while; at the end every operation is accounted for.
//!
//! 200 kills a storm; `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm` for more.

mod asked;

use std::time::Duration;

use asked::{kills, limit, longest_stop};
use shm_lock::{LockFailure, Mutex, ProcessId, RobustPermit, RobustSemaphore, RwLock, Semaphore};
use shm_testing::storm::{Outcome, Storm, Worker};
use shm_testing::{Peer, UniqueName, peer_main, wait_until};
use shm_value::{AtomicArray, AtomicValue, Value};

#[test]
fn peer() {
    peer_main(&[
        ("moves between two words", moves as fn(&mut Peer)),
        ("updates a value", updates),
        ("adds to a number", adds),
        ("reads a number, then writes it", reads_then_writes),
        ("reads and writes two words", reads_and_writes),
        ("stands where its permit says", stands_where_its_permit_says),
        ("stands without a permit", stands_without_a_permit),
        ("takes a permit", takes_a_permit),
    ]);
}

/// Two stores under the lock; a repair takes back the one that has no other.
fn moves(peer: &mut Peer) {
    let mutex = Mutex::<[i64; 2]>::open(&peer.args()[0]).unwrap();
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| {
            let mut pair = mutex.lock_or_repair(|pair, _| pair[0] = -pair[1]).unwrap();
            assert_eq!(pair[0] + pair[1], 0, "torn without a report");
            pair[0] += 1;
            pair[1] -= 1;
        });
    }
}

fn updates(peer: &mut Peer) {
    let value = Value::<[u64; 4]>::open(&peer.args()[0]).unwrap();
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| {
            let seen = value.get().unwrap();
            assert_eq!(seen, [seen[0]; 4], "torn");
            value
                .update(|words| words.iter_mut().for_each(|word| *word += 1))
                .unwrap();
        });
    }
}

fn adds(peer: &mut Peer) {
    let number = AtomicValue::<u64>::open(&peer.args()[0]).unwrap();
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| number.fetch_add(1));
    }
}

/// The negative control.
fn reads_then_writes(peer: &mut Peer) {
    let number = AtomicValue::<u64>::open(&peer.args()[0]).unwrap();
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| {
            let seen = number.load();
            std::thread::yield_now();
            number.store(seen + 1);
        });
    }
}

/// As `moves`, with readers, who must never see one word without the other.
fn reads_and_writes(peer: &mut Peer) {
    let lock = RwLock::<[i64; 2]>::open(&peer.args()[0]).unwrap();
    let repair = |pair: &mut [i64; 2], _| pair[0] = -pair[1];
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        for _ in 0..3 {
            let pair = lock.read_or_repair(repair).unwrap();
            assert_eq!(pair[0] + pair[1], 0, "torn without a report");
        }
        worker.count(|| {
            let mut pair = lock.write_or_repair(repair).unwrap();
            assert_eq!(pair[0] + pair[1], 0, "torn without a report");
            pair[0] += 1;
            pair[1] -= 1;
        });
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
        worker.count(|| {
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
        worker.count(|| {
            let _permit = semaphore.acquire();
            std::thread::yield_now();
        });
    }
}

fn storm(role: &str, args: &[&str]) -> Outcome {
    let kills = kills();
    let storm = Storm::new(role, args)
        .kills(kills)
        .longest_stop(longest_stop());
    let outcome = storm
        .run()
        .unwrap_or_else(|error| panic!("{role}: {error}"));
    println!("{role}: {outcome}");
    assert!(outcome.kills >= kills);
    outcome
}

#[test]
fn a_mutex_loses_no_section_and_shows_no_half() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-mutex");
    let mutex = Mutex::create(&*name, [0_i64, 0]).unwrap();
    let outcome = storm("moves between two words", &[&name]);
    let pair = *mutex.lock_or_repair(|pair, _| pair[0] = -pair[1]).unwrap();
    assert_eq!(pair[0] + pair[1], 0);
    assert!(
        outcome.ledger.effects().contains(&(pair[0] as u64)),
        "{pair:?}: {outcome}"
    );
}

#[test]
fn a_value_loses_no_update() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-value");
    let value = Value::create(&*name, [0_u64; 4]).unwrap();
    let outcome = storm("updates a value", &[&name]);
    let words = value.get().unwrap();
    assert_eq!(words, [words[0]; 4]);
    assert!(
        outcome.ledger.effects().contains(&words[0]),
        "{words:?}: {outcome}"
    );
}

#[test]
fn an_atomic_value_loses_no_addition() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-atomic");
    let number = AtomicValue::create(&*name, 0_u64).unwrap();
    let outcome = storm("adds to a number", &[&name]);
    assert!(
        outcome.ledger.effects().contains(&number.load()),
        "{number:?}: {outcome}"
    );
}

#[test]
fn a_rwlock_loses_no_section_and_shows_no_half() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-rwlock");
    let lock = RwLock::create(&*name, [0_i64, 0]).unwrap();
    let outcome = storm("reads and writes two words", &[&name]);
    let repair = |pair: &mut [i64; 2], _| pair[0] = -pair[1];
    let pair = *lock.write_or_repair(repair).unwrap();
    assert_eq!(pair[0] + pair[1], 0);
    assert!(
        outcome.ledger.effects().contains(&(pair[0] as u64)),
        "{pair:?}: {outcome}"
    );
    let inspection = lock.inspect();
    assert!(inspection.readers.is_empty() && inspection.writer.owner_tid == 0);
}

const PERMITS: u32 = 2;

#[test]
fn a_robust_semaphore_loses_no_permit_and_gives_none_twice() {
    let _watchdog = limit();
    let (name, places) = (
        UniqueName::new("storm-robust"),
        UniqueName::new("storm-places"),
    );
    let semaphore = RobustSemaphore::create(&*name, PERMITS).unwrap();
    let _places = AtomicArray::<u64>::zeroed(&*places, PERMITS as usize).unwrap();
    let outcome = storm("stands where its permit says", &[&name, &places]);
    println!("of them with a permit: {}", semaphore.inspect().deaths);
    assert_eq!(semaphore.available(), PERMITS, "{outcome}");
    let all: Vec<_> = (0..PERMITS)
        .map(|_| semaphore.try_acquire().unwrap())
        .collect();
    assert_eq!(
        semaphore.try_acquire().unwrap_err(),
        LockFailure::WouldBlock
    );
    drop(all);
    assert!(semaphore.inspect().holders.is_empty());
}

#[test]
fn control_a_permit_that_is_given_twice_is_noticed() {
    let _watchdog = limit();
    let (name, places) = (
        UniqueName::new("storm-none"),
        UniqueName::new("storm-places"),
    );
    let _places = AtomicArray::<u64>::zeroed(&*places, 1).unwrap();
    let storm = Storm::new("stands without a permit", &[&name, &places]);
    let error = storm.run().unwrap_err().to_string();
    assert!(error.contains("the same permit"), "{error}");
}

#[test]
fn control_permits_that_are_lost_are_noticed() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-permits");
    // More than kills, so that nobody ever waits for one.
    let permits = kills() as u32 + 100;
    let semaphore = Semaphore::create(&*name, permits).unwrap();
    let outcome = storm("takes a permit", &[&name]);
    let left = semaphore.inspect().permits;
    println!("{left} of {permits} permits are left");
    assert!(left < permits, "{outcome}");
}

#[test]
fn control_updates_that_are_lost_are_noticed() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-control");
    let number = AtomicValue::create(&*name, 0_u64).unwrap();
    let outcome = storm("reads a number, then writes it", &[&name]);
    assert!(
        !outcome.ledger.effects().contains(&number.load()),
        "{number:?}: {outcome}"
    );
}
