//! The storm keeps an exact account where the workers do, and notices where they do not.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use shm_testing::storm::{Outcome, Storm, StormError, Worker};
use shm_testing::{Peer, UniqueName, Watchdog, peer_main};

/// The machine may be busy with other things.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn peer() {
    peer_main(&[
        ("adder", adder as fn(&mut Peer)),
        ("racer", racer),
        ("signer", |peer| signer(peer, false)),
        ("undoer", |peer| signer(peer, true)),
        ("keeper", keeper),
        ("hoarder", hoarder),
        ("forgetter", forgetter),
        ("abandoner", abandoner),
        ("panicker", panicker),
        ("slow panicker", slow_panicker),
        ("late failure", late_failure),
    ]);
}

fn open(peer: &Peer) -> (File, PathBuf) {
    let path = PathBuf::from(&peer.args()[0]);
    (
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap(),
        path,
    )
}

fn word(file: &File, index: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, index * 8).unwrap();
    u64::from_le_bytes(bytes)
}

fn set_word(file: &File, index: u64, value: u64) {
    file.write_all_at(&value.to_le_bytes(), index * 8).unwrap();
}

/// Holds the file's lock, which the kernel takes from the dead.
fn locked<R>(path: &PathBuf, work: impl FnOnce(&File) -> R) -> R {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let file = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .unwrap();
    work(&file)
}

/// Adds under the lock.
fn adder(peer: &mut Peer) {
    let (_, path) = open(peer);
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| locked(&path, |file| set_word(file, 0, word(file, 0) + 1)));
    }
}

/// Adds without it.
fn racer(peer: &mut Peer) {
    let (file, _) = open(peer);
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| {
            let value = word(&file, 0);
            thread::yield_now();
            set_word(&file, 0, value + 1);
        });
    }
}

/// Adds to the first word and to one of its own, at once. One who `undoes` takes back what another added, whenever
/// its forerunner's last addition took effect: the sum is then what it would be if that had not.
fn signer(peer: &mut Peer, undoes: bool) {
    let (_, path) = open(peer);
    let add = |seat: usize, by: u64| {
        locked(&path, |file| {
            let mut words = [0; 32];
            file.read_exact_at(&mut words, 0).unwrap();
            for index in [0, 1 + seat] {
                let word = &mut words[8 * index..][..8];
                let value = u64::from_le_bytes((&*word).try_into().unwrap());
                word.copy_from_slice(&value.wrapping_add(by).to_le_bytes());
            }
            // One call: a kill comes before it or after it.
            file.write_all_at(&words, 0).unwrap();
        });
    };
    let mut worker = Worker::enlist(peer);
    let seat = worker.seat();
    let own = || locked(&path, |file| word(file, 1 + seat as u64));
    let settled = worker.settle(|effects| own() == effects + 1);
    if undoes && settled == Some(true) {
        add((seat + 1) % 3, u64::MAX);
    }
    while worker.goes_on() {
        assert_eq!(own(), worker.effects(), "lost");
        worker.count(|| {
            add(seat, 1);
            if undoes {
                // So long a window between the addition and its note need not wait for a lucky hit.
                thread::sleep(Duration::from_micros(500));
            }
        });
    }
}

/// Appends fresh numbers under the lock; the count is stored last.
fn keeper(peer: &mut Peer) {
    append(peer, |file, item| {
        let count = word(file, 0);
        set_word(file, count + 1, item);
        set_word(file, 0, count + 1);
    });
}

/// Stores the count first, so that a kill leaves a hole that the next one jumps over.
fn forgetter(peer: &mut Peer) {
    append(peer, |file, item| {
        let count = word(file, 0);
        set_word(file, 0, count + 1);
        // So long a window need not wait for a lucky hit.
        thread::sleep(Duration::from_micros(500));
        set_word(file, count + 1, item);
    });
}

/// Has more to record than there is room for, before it looks whether the storm is over.
fn hoarder(peer: &mut Peer) {
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        (0..4).for_each(|_| worker.record(worker.fresh(), || 0));
    }
}

fn append(peer: &mut Peer, store: impl Fn(&File, u64)) {
    let (_, path) = open(peer);
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        let item = worker.fresh();
        worker.record(item, || {
            locked(&path, |file| store(file, item));
            0
        });
    }
}

/// Takes a lock that nobody takes from the dead: a file that exists or not.
fn abandoner(peer: &mut Peer) {
    let lock = PathBuf::from(&peer.args()[0]).with_extension("lock");
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| {
            while File::create_new(&lock).is_err() {
                thread::sleep(Duration::from_micros(100));
            }
            std::fs::remove_file(&lock).unwrap();
        });
    }
}

fn panicker(peer: &mut Peer) {
    let mut worker = Worker::enlist(peer);
    let mut count = 0;
    while worker.goes_on() {
        worker.count(|| count += 1);
        assert!(count < 3, "the worker's own words");
    }
}

/// Panics until one has come as far as to unwind, which takes long.
fn slow_panicker(peer: &mut Peer) {
    struct Slow(File);
    impl Drop for Slow {
        fn drop(&mut self) {
            set_word(&self.0, 1, 1);
            thread::sleep(Duration::from_secs(2));
        }
    }
    let (file, path) = open(peer);
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        let count = worker.count(|| {
            locked(&path, |file| {
                set_word(file, 0, word(file, 0) + 1);
                word(file, 0)
            })
        });
        if count >= 20 && word(&file, 1) == 0 {
            let _slow = Slow(file);
            panic!("the worker's own words");
        }
    }
}

/// Fails after all is done.
fn late_failure(peer: &mut Peer) {
    let mut worker = Worker::enlist(peer);
    while worker.goes_on() {
        worker.count(|| thread::sleep(Duration::from_micros(100)));
    }
    std::process::abort();
}

/// Runs a storm of 60 kills over a file of words, and reads what it left: the first, and so many
/// more as the first says.
fn storm(
    role: &str,
    change: impl FnOnce(Storm) -> Storm,
) -> Result<(Outcome, u64, Vec<u64>), StormError> {
    let name = UniqueName::new("storm-data");
    let file = File::create_new(name.path()).unwrap();
    file.set_len(64 << 20).unwrap();
    let path = name.path().to_string_lossy().into_owned();
    let storm = Storm::new(role, &[&path])
        .kills(60)
        .longest_stop(Duration::from_millis(50));
    let outcome = change(storm).run();
    let _ = std::fs::remove_file(name.path().with_extension("lock"));
    let outcome = outcome?;
    println!("{role}: {outcome}");
    let file = File::open(name.path()).unwrap();
    let first = word(&file, 0);
    let items = (1..=first.min(1 << 20))
        .map(|index| word(&file, index))
        .collect();
    Ok((outcome, first, items))
}

#[test]
fn additions_under_the_lock_are_all_there() {
    let _watchdog = Watchdog::new(LIMIT);
    let (outcome, value, _) = storm("adder", |storm| storm).unwrap();
    assert!(
        outcome.ledger.effects().contains(&value),
        "{value}: {outcome}"
    );
    assert!(outcome.kills >= 60 && value > 0);
    // No more can be in doubt than were killed.
    assert!(outcome.ledger.pending() <= outcome.kills as u64);
}

#[test]
fn settled_additions_leave_no_doubt() {
    let _watchdog = Watchdog::new(LIMIT);
    let (outcome, value, _) = storm("signer", |storm| storm.workers(3)).unwrap();
    assert_eq!(outcome.ledger.effects(), value..=value, "{outcome}");
    assert!(outcome.ledger.pending() > 0);
    let of_seats = (0..3).map(|seat| outcome.ledger.settled(seat).unwrap());
    assert_eq!(of_seats.sum::<u64>(), value);
}

#[test]
fn an_addition_that_is_lost_while_another_took_effect_is_noticed() {
    let _watchdog = Watchdog::new(LIMIT);
    let outcome = storm("undoer", |storm| storm.workers(3)).map(|(outcome, ..)| outcome);
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("lost"), "{error}");
}

#[test]
fn lost_additions_are_noticed() {
    let _watchdog = Watchdog::new(LIMIT);
    let (outcome, value, _) = storm("racer", |storm| storm).unwrap();
    assert!(
        !outcome.ledger.effects().contains(&value),
        "{value}: {outcome}"
    );
}

#[test]
fn every_item_is_there_once() {
    let _watchdog = Watchdog::new(LIMIT);
    let (outcome, _, items) = storm("keeper", |storm| storm).unwrap();
    assert_eq!(outcome.ledger.account_for(items), Ok(()), "{outcome}");
    assert!(outcome.ledger.records().count() > 0);
}

#[test]
fn hole_left_by_a_kill_is_noticed() {
    let _watchdog = Watchdog::new(LIMIT);
    let (outcome, _, items) = storm("forgetter", |storm| storm).unwrap();
    let account = outcome.ledger.account_for(items);
    assert!(
        account.as_ref().is_err_and(|what| what.contains("0x0")),
        "{account:?}: {outcome}"
    );
}

#[test]
fn lock_that_dies_with_its_owner_is_a_stall() {
    let _watchdog = Watchdog::new(LIMIT);
    let patience = |storm: Storm| storm.kills(2000).patience(Duration::from_secs(2));
    let error = storm("abandoner", patience).unwrap_err();
    assert!(matches!(error, StormError::Stalled { .. }), "{error}");
}

#[test]
fn panic_of_a_worker_ends_the_storm_with_its_words() {
    let _watchdog = Watchdog::new(LIMIT);
    let error = storm("panicker", |storm| storm).unwrap_err();
    assert!(
        error.to_string().contains("the worker's own words"),
        "{error}"
    );
}

#[test]
fn panic_is_heard_of_though_its_worker_is_killed() {
    let _watchdog = Watchdog::new(LIMIT);
    let error = storm("slow panicker", |storm| storm).unwrap_err();
    let is_panic = matches!(error, StormError::Panicked { .. });
    assert!(
        is_panic && error.to_string().contains("the worker's own words"),
        "{error}"
    );
}

#[test]
fn failure_after_the_end_ends_the_storm_badly() {
    let _watchdog = Watchdog::new(LIMIT);
    let error = storm("late failure", |storm| storm).unwrap_err();
    assert!(matches!(error, StormError::Worker { .. }), "{error}");
}

#[test]
fn storm_ends_before_a_seat_is_full() {
    let _watchdog = Watchdog::new(LIMIT);
    let change = |storm: Storm| storm.records(1000).workers(2).kills(1_000_000);
    let (outcome, _, items) = storm("keeper", change).unwrap();
    let recorded = |seat| outcome.ledger.records_of(seat).count();
    assert!((750..=1000).contains(&recorded(0).max(recorded(1))));
    assert!(outcome.kills < 1_000_000);
    outcome.ledger.account_for(items).unwrap();
}

#[test]
fn full_seat_is_a_failure() {
    let _watchdog = Watchdog::new(LIMIT);
    let error = storm("hoarder", |storm| storm.records(3).workers(2)).unwrap_err();
    assert!(
        matches!(error, StormError::Full { records: 3, .. }),
        "{error}"
    );
}
