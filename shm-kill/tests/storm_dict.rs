//! Random deaths in the traffic of a dictionary, with an exact account of every change.
//!
//! All add to the same few numbers, each in a byte of its own; each stores and takes out texts under a key of its own,
//! of many lengths, and reads those of the others, in which time must not run backwards. What an operation does follows
//! from its number and its seat, so the account knows each byte and each text. 200 kills a storm;
//! `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm_dict` for more.

mod asked;

use std::collections::BTreeMap;

use asked::{assert_bites, storm};
use shm_dict::{Bytes, Dict, Options, Raw, ShardInspection};
use shm_testing::storm::{Outcome, Share, Worker};
use shm_testing::{Peer, UniqueName, peer_main};

type Texts = Dict<u64, Vec<u8>, Bytes>;
type Numbers = Dict<u64, u64, Raw>;

const WORKERS: usize = 5;
/// The numbers that all add to.
const SHARED: u64 = 8;

#[test]
fn peer() {
    peer_main(&[
        (
            "adds and stores",
            (|peer| works(peer, add, |_, _, _| {})) as fn(&mut Peer),
        ),
        ("adds in two steps", |peer| {
            works(peer, add_in_two_steps, |_, _, _| {})
        }),
        ("undoes an addition", |peer| works(peer, add, undo)),
        ("takes another's text", |peer| works(peer, add, take)),
    ]);
}

/// What a seat's operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// The seat's so many-th addition to a number.
    Add {
        key: u64,
        count: u64,
    },
    Insert,
    Set,
    Modify,
    Remove,
}

/// What the operation does before which a seat had so many `effects`.
fn operation(effects: u64) -> Operation {
    match effects % 8 {
        0..=2 => {
            let additions = additions(effects);
            let (key, count) = (additions % SHARED, additions / SHARED);
            Operation::Add { key, count }
        }
        3 | 7 => Operation::Insert,
        4 => Operation::Set,
        5 => Operation::Modify,
        _ => Operation::Remove,
    }
}

/// How many of so many operations are additions.
fn additions(effects: u64) -> u64 {
    effects / 8 * 3 + (effects % 8).min(3)
}

/// A seat's additions to a number after so many operations.
fn additions_to(key: u64, effects: u64) -> u64 {
    let additions = additions(effects);
    additions / SHARED + u64::from(key < additions % SHARED)
}

/// The number of a seat's text after so many operations.
fn own_text(seat: usize, effects: u64) -> Option<u64> {
    let changes_text = |&index: &u64| !matches!(operation(index), Operation::Add { .. });
    let last = (0..effects).rev().find(changes_text)?;
    (operation(last) != Operation::Remove).then(|| number(seat, last))
}

/// What the text of an operation is made of: newer ones have larger numbers.
fn number(seat: usize, effects: u64) -> u64 {
    key_of(seat) << 40 | (effects + 1)
}

/// Under which key a seat has its text.
fn key_of(seat: usize) -> u64 {
    seat as u64 + 1
}

type Add = fn(&Numbers, u64, u64) -> u64;

fn add(numbers: &Numbers, key: u64, by: u64) -> u64 {
    numbers.fetch_add(&key, by).unwrap()
}

/// The twin that forgot that others add too.
fn add_in_two_steps(numbers: &Numbers, key: u64, by: u64) -> u64 {
    let before = numbers.get(&key).unwrap().unwrap_or(0);
    std::thread::yield_now();
    numbers.set(&key, &before.wrapping_add(by)).unwrap();
    before
}

/// What whoever finds that its forerunner's last operation took effect does about it: nothing, but for the twins.
type Recover = fn(&Numbers, &Texts, usize);

fn undo(numbers: &Numbers, _: &Texts, other: usize) {
    let one = Share::of(other).after(1);
    numbers.fetch_add(&0, one.wrapping_neg()).unwrap();
}

fn take(_: &Numbers, texts: &Texts, other: usize) {
    texts.remove(&key_of(other)).unwrap();
}

fn works(peer: &mut Peer, add: Add, recover: Recover) {
    let numbers = Numbers::open(&peer.args()[0]).unwrap();
    let texts = Texts::open(&peer.args()[1]).unwrap();
    let mut worker = Worker::enlist(peer);
    let seat = worker.seat();
    if worker.settle(|effects| is_done(&numbers, &texts, seat, effects)) == Some(true) {
        recover(&numbers, &texts, (seat + 1) % WORKERS);
    }
    check(&numbers, &texts, seat, worker.effects()).unwrap();
    let (own, share) = (key_of(seat), Share::of(seat));
    let mut seen = BTreeMap::new();
    while worker.goes_on() {
        let effects = worker.effects();
        let text = || text(number(seat, effects));
        let assert_own = |before: Option<Vec<u8>>| {
            let before = before.map(|text| number_of(&text));
            assert_eq!(before, own_text(seat, effects), "lost");
        };
        worker.count(|| match operation(effects) {
            Operation::Add { key, count } => {
                let before = add(&numbers, key, share.step(count));
                assert!(share.is_after(before, count), "{key} lost: {before:#x}");
            }
            Operation::Insert => assert_own(texts.insert(&own, &text()).unwrap()),
            Operation::Set => texts.set(&own, &text()).unwrap(),
            Operation::Modify => {
                let modify = |before| {
                    assert_own(before);
                    Some(text())
                };
                texts.modify(&own, modify).unwrap();
            }
            Operation::Remove => assert_own(texts.pop(&own).unwrap()),
        });
        if effects % 8 == 7 {
            for key in 1..=WORKERS as u64 {
                worker.visit(|| look(&texts, key, &mut seen));
            }
        }
        if effects % 1024 == 1023 {
            worker.visit(|| texts.check().unwrap());
        }
    }
}

/// Whether the operation after so many took effect, by what is the seat's own.
fn is_done(numbers: &Numbers, texts: &Texts, seat: usize, effects: u64) -> bool {
    match operation(effects) {
        Operation::Add { key, count } => {
            let number = numbers.get(&key).unwrap().unwrap_or(0);
            Share::of(seat).is_after(number, count + 1)
        }
        _ => found_text(texts, seat) == own_text(seat, effects + 1),
    }
}

fn found_text(texts: &Texts, seat: usize) -> Option<u64> {
    let text = texts.get(&key_of(seat)).unwrap();
    text.map(|text| number_of(&text))
}

/// Sees that all that a seat did is there: its byte in each number, and its text.
fn check(numbers: &Numbers, texts: &Texts, seat: usize, effects: u64) -> Result<(), String> {
    for key in 0..SHARED {
        let number = numbers.get(&key).unwrap().unwrap_or(0);
        let additions = additions_to(key, effects);
        if !Share::of(seat).is_after(number, additions) {
            return Err(format!(
                "lost: {number:#x} in {key}, seat {seat} added {additions}"
            ));
        }
    }
    match (found_text(texts, seat), own_text(seat, effects)) {
        (found, own) if found == own => Ok(()),
        (found, own) => Err(format!("lost: {found:x?} of seat {seat}, not {own:x?}")),
    }
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

/// What is stored under a key is its worker's, and newer each time.
fn look(texts: &Texts, key: u64, seen: &mut BTreeMap<u64, u64>) {
    let Some(text) = texts.get(&key).unwrap() else {
        return;
    };
    let number = number_of(&text);
    assert_eq!(number >> 40, key);
    let before = seen.insert(key, number).unwrap_or(0);
    assert!(before <= number, "{number:#x} after {before:#x}");
}

/// What is wrong with the account of a storm.
fn dict_storm(role: &str) -> Result<(), String> {
    let names = ["storm-numbers", "storm-texts"].map(UniqueName::new);
    let options = Options::new().max_bytes(512 << 10).shards(4);
    let numbers = Numbers::create(&*names[0], options).unwrap();
    let texts = Texts::create(&*names[1], options).unwrap();
    let total = storm(role, &[&names[0], &names[1]], WORKERS, |outcome| {
        account(outcome, &numbers, &texts)
    })?;
    let recoveries =
        |shards: Vec<ShardInspection>| -> u64 { shards.iter().map(|shard| shard.recoveries).sum() };
    let repairs = recoveries(numbers.inspect().shards) + recoveries(texts.inspect().shards);
    assert_bites(&total, Some(repairs));
    Ok(())
}

/// Each seat's byte in each number and each seat's text are what its operations made them, and nothing else is there.
fn account(outcome: &Outcome, numbers: &Numbers, texts: &Texts) -> Result<(), String> {
    numbers.check().unwrap();
    texts.check().unwrap();
    let (mut sums, mut own_texts) = ([0; SHARED as usize], 0);
    for seat in 0..WORKERS {
        let effects = outcome.ledger.settled(seat)?;
        check(numbers, texts, seat, effects)?;
        for key in 0..SHARED {
            sums[key as usize] += Share::of(seat).after(additions_to(key, effects));
        }
        own_texts += usize::from(own_text(seat, effects).is_some());
    }
    for (key, sum) in (0..SHARED).zip(sums) {
        assert_eq!(numbers.get(&key).unwrap().unwrap_or(0), sum);
    }
    assert!(numbers.len().unwrap() as u64 <= SHARED);
    assert_eq!(texts.len().unwrap(), own_texts);
    // All memory is there, and the next chapter begins anew.
    numbers.clear().unwrap();
    texts.clear().unwrap();
    assert_eq!(numbers.check().unwrap().used_bytes, 0);
    assert_eq!(texts.check().unwrap().used_bytes, 0);
    Ok(())
}

#[test]
fn every_change_is_accounted_for() {
    dict_storm("adds and stores").unwrap();
}

fn assert_lost(role: &str) {
    let wrong = dict_storm(role).unwrap_err();
    println!("{wrong}");
    assert!(wrong.contains("lost"), "{wrong}");
}

#[test]
fn control_lost_additions_are_noticed() {
    assert_lost("adds in two steps");
}

#[test]
fn control_an_addition_that_is_undone_at_a_recovery_is_noticed() {
    assert_lost("undoes an addition");
}

#[test]
fn control_a_text_that_is_taken_at_a_recovery_is_noticed() {
    assert_lost("takes another's text");
}
