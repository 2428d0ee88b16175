//! Random deaths under load, with an exact account: workers on all processors, one or two killed every
//! few milliseconds, some stopped for a while; at the end every operation is accounted for.
//!
//! 200 kills a storm; `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm` for more.

use std::time::Duration;

use shm_lock::Mutex;
use shm_testing::storm::{Outcome, Storm, Worker};
use shm_testing::{Peer, UniqueName, Watchdog, peer_main};
use shm_value::{AtomicValue, Value};

#[test]
fn peer() {
    peer_main(&[
        ("moves between two words", moves as fn(&mut Peer)),
        ("updates a value", updates),
        ("adds to a number", adds),
        ("reads a number, then writes it", reads_then_writes),
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

fn storm(role: &str, name: &str) -> Outcome {
    let kills = std::env::var("SHM_STORM_KILLS").map_or(200, |kills| kills.parse().unwrap());
    let storm = Storm::new(role, &[name])
        .kills(kills)
        .longest_stop(Duration::from_millis(50));
    let outcome = storm
        .run()
        .unwrap_or_else(|error| panic!("{role}: {error}"));
    println!("{role}: {outcome}");
    assert!(outcome.kills >= kills);
    outcome
}

fn limit() -> Watchdog {
    Watchdog::new(Duration::from_secs(600))
}

#[test]
fn a_mutex_loses_no_section_and_shows_no_half() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-mutex");
    let mutex = Mutex::create(&*name, [0_i64, 0]).unwrap();
    let outcome = storm("moves between two words", &name);
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
    let outcome = storm("updates a value", &name);
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
    let outcome = storm("adds to a number", &name);
    assert!(
        outcome.ledger.effects().contains(&number.load()),
        "{number:?}: {outcome}"
    );
}

#[test]
fn control_updates_that_are_lost_are_noticed() {
    let _watchdog = limit();
    let name = UniqueName::new("storm-control");
    let number = AtomicValue::create(&*name, 0_u64).unwrap();
    let outcome = storm("reads a number, then writes it", &name);
    assert!(
        !outcome.ledger.effects().contains(&number.load()),
        "{number:?}: {outcome}"
    );
}
