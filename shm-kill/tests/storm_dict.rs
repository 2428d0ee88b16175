//! Random deaths in the traffic of a dictionary, with an exact account of every change.
//!
//! All add to the same few numbers; each stores and takes out texts under a key of its own, of many lengths, and
//! reads those of the others, in which time must not run backwards. 200 kills a storm;
//! `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm_dict` for more.

mod asked;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use asked::{kills, limit, longest_stop};
use shm_dict::{Bytes, Dict, DictError, Options, Raw};
use shm_testing::storm::{Record, Storm, Worker};
use shm_testing::{Peer, UniqueName, peer_main};

type Texts = Dict<u64, Vec<u8>, Bytes>;
type Numbers = Dict<u64, u64, Raw>;

const WORKERS: usize = 5;
/// The numbers that all add to.
const SHARED: u64 = 8;

/// In what a worker records, beside the number of what it stores or the key that it adds to.
const ADDED: u64 = 1 << 63;
const REMOVED: u64 = 1 << 62;
const NUMBER: u64 = REMOVED - 1;
/// What an operation ends with that changed nothing.
const REFUSED: u64 = 1;

#[test]
fn peer() {
    peer_main(&[
        (
            "adds and stores",
            (|peer| works(peer, add)) as fn(&mut Peer),
        ),
        ("adds in two steps", |peer| works(peer, add_in_two_steps)),
    ]);
}

fn add(numbers: &Numbers, key: u64) {
    numbers.fetch_add(&key, 1).unwrap();
}

/// The twin that forgot that others add too.
fn add_in_two_steps(numbers: &Numbers, key: u64) {
    let before = numbers.get(&key).unwrap().unwrap_or(0);
    std::thread::yield_now();
    numbers.set(&key, &(before + 1)).unwrap();
}

fn works(peer: &mut Peer, add: fn(&Numbers, u64)) {
    let numbers = Numbers::open(&peer.args()[0]).unwrap();
    let texts = Texts::open(&peer.args()[1]).unwrap();
    let mut seen = BTreeMap::new();
    let mut worker = Worker::enlist(peer);
    for turn in 0_u64.. {
        if !worker.goes_on() {
            return;
        }
        let number = worker.fresh();
        let own = seat(number);
        match turn % 8 {
            0..=2 => {
                let key = turn / 8 % SHARED;
                worker.record(ADDED | key, || {
                    add(&numbers, key);
                    0
                });
            }
            3 | 4 => worker.record(number, || ended(texts.set(&own, &text(number)))),
            5 => worker.record(number, || ended(texts.modify(&own, |_| Some(text(number))))),
            6 => {
                for key in 1..=WORKERS as u64 {
                    worker.count(|| look(&texts, key, &mut seen));
                }
            }
            _ => worker.record(REMOVED | number, || ended(texts.remove(&own))),
        }
        // So that the ledger is not full before the storm is over.
        if turn.is_multiple_of(1024) {
            worker.count(|| texts.check().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whose number it is.
fn seat(number: u64) -> u64 {
    number >> 40
}

/// In place, in blocks of several sizes, and in runs of chunks.
fn text(number: u64) -> Vec<u8> {
    let words = [1, 1, 5, 40, 600][(number % 5) as usize];
    number.to_le_bytes().repeat(words)
}

fn number_of(text: &[u8]) -> u64 {
    let number = u64::from_le_bytes(text[..8].try_into().unwrap());
    assert!(text == self::text(number), "torn: {text:?}");
    number
}

fn ended<T>(result: Result<T, DictError>) -> u64 {
    match result {
        Ok(_) => 0,
        Err(DictError::Full { .. }) => REFUSED,
        Err(other) => panic!("{other}"),
    }
}

/// What is stored under a key is its worker's, and newer each time.
fn look(texts: &Texts, key: u64, seen: &mut BTreeMap<u64, u64>) {
    let Some(text) = texts.get(&key).unwrap() else {
        return;
    };
    let number = number_of(&text);
    assert_eq!(seat(number), key);
    let before = seen.insert(key, number).unwrap_or(0);
    assert!(before <= number, "{number:#x} after {before:#x}");
}

/// What is wrong with the account of a storm.
fn storm(role: &str) -> Result<(), String> {
    let _watchdog = limit();
    let names = ["storm-numbers", "storm-texts"].map(UniqueName::new);
    let options = Options::new().max_bytes(512 << 10).shards(4);
    let numbers = Numbers::create(&*names[0], options).unwrap();
    let texts = Texts::create(&*names[1], options).unwrap();
    let kills = kills();
    let outcome = Storm::new(role, &[&names[0], &names[1]])
        .workers(WORKERS)
        .kills(kills)
        .longest_stop(longest_stop())
        .records(1 << 22)
        .run()
        .map_err(|error| error.to_string())?;
    println!("{role}: {outcome}");
    assert!(outcome.kills >= kills);
    assert!(numbers.len().unwrap() as u64 <= SHARED);
    assert!(texts.len().unwrap() <= WORKERS);
    let recoveries = |shards: Vec<shm_dict::ShardInspection>| -> u64 {
        shards.iter().map(|shard| shard.recoveries).sum()
    };
    println!(
        "{role}: {} and {} repairs",
        recoveries(numbers.inspect().shards),
        recoveries(texts.inspect().shards)
    );
    numbers.check().unwrap();
    texts.check().unwrap();
    let records = outcome.ledger.records();
    sums(&records, &numbers)
        .and_then(|()| last_ones(&records, &texts))
        .map_err(|wrong| format!("{wrong}, {outcome}"))?;
    // All memory is there.
    texts.clear().unwrap();
    assert_eq!(texts.check().unwrap().used_bytes, 0);
    Ok(())
}

/// Each number is as many as were added; those that a kill interrupted may count.
fn sums(records: &[Record], numbers: &Numbers) -> Result<(), String> {
    for key in 0..SHARED {
        let added = || records.iter().filter(|record| record.begun == ADDED | key);
        let ended = added().filter(|record| record.result.is_some());
        let (least, most) = (ended.count() as u64, added().count() as u64);
        let sum = numbers.get(&key).unwrap().unwrap_or(0);
        if !(least..=most).contains(&sum) {
            return Err(format!("{key}: {sum}, not in {least}..={most}"));
        }
    }
    Ok(())
}

/// Each worker's key has what was stored last, or what the killed were about to store.
fn last_ones(records: &[Record], texts: &Texts) -> Result<(), String> {
    for key in 1..=WORKERS as u64 {
        let mut possible = BTreeSet::from([None]);
        for record in records {
            let is_own = record.begun & ADDED == 0 && seat(record.begun & NUMBER) == key;
            if !is_own || record.result == Some(REFUSED) {
                continue;
            }
            if record.result.is_some() {
                possible.clear();
            }
            possible.insert((record.begun & REMOVED == 0).then_some(record.begun));
        }
        let found = texts.get(&key).unwrap().map(|text| number_of(&text));
        if !possible.contains(&found) {
            return Err(format!("{key}: {found:?}, not in {possible:?}"));
        }
    }
    Ok(())
}

#[test]
fn every_change_is_accounted_for() {
    storm("adds and stores").unwrap();
}

#[test]
fn control_lost_additions_are_noticed() {
    let wrong = storm("adds in two steps").unwrap_err();
    assert!(wrong.contains("not in"), "{wrong}");
}
