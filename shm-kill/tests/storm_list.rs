//! Random deaths in the traffic of transactions and of a list inside of a dictionary, with an exact account of every
//! transfer and of every element.
//!
//! All move money between the same few accounts, and count their transfers in the same transaction; where from and where
//! to follows from the count, so the account knows each balance. All put texts of many lengths behind the last element and
//! take the first out: what is missing at the end was taken by somebody who was killed on the way, one element each, and
//! one that was first in line then. 200 kills a storm;
//! `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm_list` for more.

mod asked;

use std::collections::BTreeSet;

use asked::{assert_bites, storm};
use shm_dict::{Bytes, Dict, DictError, List, Options, Raw};
use shm_testing::storm::{Outcome, Worker, lost_in_gaps};
use shm_testing::{Peer, UniqueName, peer_main};

type Accounts = Dict<u64, i64, Raw>;
type Texts = List<Vec<u8>, Bytes>;

const WORKERS: usize = 5;
const ACCOUNTS: u64 = 8;
/// Behind it each worker counts its transfers.
const COUNTS: u64 = 100;
/// Where the list is.
const LIST: u64 = 200;

/// What a worker records when it takes an element out; when it pushes one, the element's number.
const POPPED: u64 = 1 << 62;
/// What a push ends with that changed nothing.
const REFUSED: u64 = 1;

#[test]
fn peer() {
    let honest = |peer: &mut Peer| works(peer, transfer, pop, |_, _, _| {});
    peer_main(&[
        ("moves and pushes", honest as fn(&mut Peer)),
        ("moves in two steps", |peer| {
            works(peer, transfer_in_two_steps, pop, |_, _, _| {})
        }),
        ("pops in two steps", |peer| {
            works(peer, transfer, pop_in_two_steps, |_, _, _| {})
        }),
        ("undoes a transfer", |peer| works(peer, transfer, pop, undo)),
        ("drops an element", |peer| {
            works(peer, transfer, pop, drop_one)
        }),
    ]);
}

/// From where to where the transfer goes before which a seat made so many.
fn route(count: u64) -> [u64; 2] {
    [count % ACCOUNTS, (count / ACCOUNTS * 3 + 1) % ACCOUNTS]
}

fn transfer(accounts: &Accounts, seat: usize, count: u64) {
    let ([from, to], counter) = (route(count), COUNTS + seat as u64);
    let moved = accounts.transaction(&[&from, &to, &counter], |keys| {
        keys.modify(&from, |balance| Some(balance.unwrap_or(0) - 1))?;
        keys.modify(&to, |balance| Some(balance.unwrap_or(0) + 1))?;
        keys.modify(&counter, |before| {
            assert_eq!(before.unwrap_or(0) as u64, count, "lost");
            Some(count as i64 + 1)
        })?;
        Ok::<(), DictError>(())
    });
    moved.unwrap();
}

/// The twin that thinks that nobody dies in between.
fn transfer_in_two_steps(accounts: &Accounts, seat: usize, count: u64) {
    let [from, to] = route(count);
    accounts.fetch_add(&from, -1).unwrap();
    std::thread::yield_now();
    accounts.fetch_add(&to, 1).unwrap();
    accounts.fetch_add(&(COUNTS + seat as u64), 1).unwrap();
}

/// How many transfers a seat made, as the dictionary has it.
fn transfers_of(accounts: &Accounts, seat: usize) -> u64 {
    let count = accounts.get(&(COUNTS + seat as u64)).unwrap();
    count.unwrap_or(0) as u64
}

fn pop(list: &Texts) -> u64 {
    let text = list.pop_front().unwrap();
    text.map_or(0, |text| number_of(&text))
}

/// The twin that thinks that nobody else does the same.
fn pop_in_two_steps(list: &Texts) -> u64 {
    let text = list.first().unwrap();
    std::thread::yield_now();
    list.pop_front().unwrap();
    text.map_or(0, |text| number_of(&text))
}

/// What whoever comes after a killed one does about it: nothing, but for the twins.
type Recover = fn(&Accounts, &Texts, After);

/// What a worker finds of its forerunner.
struct After {
    seat: usize,
    /// Whether its transfer took effect, if it was killed in one.
    transferred: Option<bool>,
    /// What it was recording when it was killed.
    recorded: Option<u64>,
}

/// Takes back the last transfer of another, in one step: the sums are as if this seat's own had not been.
fn undo(accounts: &Accounts, _: &Texts, after: After) {
    if after.transferred != Some(true) {
        return;
    }
    let counter = COUNTS + (after.seat as u64 + 1) % WORKERS as u64;
    let undone = accounts.transaction(&[&counter], |keys| {
        keys.modify(&counter, |count| Some(count.unwrap_or(0) - 1))
    });
    undone.unwrap();
}

/// An element that was pushed is lost, where the forerunner was killed in something else than a pop.
fn drop_one(_: &Accounts, list: &Texts, after: After) {
    let pushed = after.recorded.is_some_and(|recorded| recorded != POPPED);
    if pushed || after.transferred.is_some() {
        pop(list);
    }
}

type Transfer = fn(&Accounts, usize, u64);

fn works(peer: &mut Peer, transfer: Transfer, pop: fn(&Texts) -> u64, recover: Recover) {
    let accounts = Accounts::open(&peer.args()[0]).unwrap();
    let list: Texts = accounts.child_list(&LIST).unwrap();
    let mut worker = Worker::enlist(peer);
    let seat = worker.seat();
    let own = || transfers_of(&accounts, seat);
    let transferred = worker.settle(|effects| own() == effects + 1);
    assert_eq!(own(), worker.effects(), "lost");
    let recorded = worker.interrupted();
    let after = After {
        seat,
        transferred,
        recorded,
    };
    recover(&accounts, &list, after);
    for turn in 0_u64.. {
        if !worker.goes_on() {
            return;
        }
        let (number, count) = (worker.fresh(), worker.effects());
        match turn % 8 {
            0..=2 => worker.count(|| transfer(&accounts, seat, count)),
            3 | 4 => worker.record(number, || match list.push(&text(number)) {
                Ok(()) => 0,
                Err(DictError::Full { .. }) => REFUSED,
                Err(other) => panic!("{other}"),
            }),
            5 | 6 => worker.record(POPPED, || pop(&list)),
            _ => worker.visit(|| look(&list, turn)),
        }
        if turn % 1024 == 1023 {
            worker.visit(|| accounts.check().unwrap());
        }
    }
}

/// Whose number it is.
fn seat(number: u64) -> u64 {
    number >> 40
}

/// In blocks of several sizes, and in runs of chunks.
fn text(number: u64) -> Vec<u8> {
    let words = [1, 1, 5, 40, 600][(number % 5) as usize];
    number.to_le_bytes().repeat(words)
}

fn number_of(text: &[u8]) -> u64 {
    let number = u64::from_le_bytes(text[..8].try_into().unwrap());
    assert!(text == self::text(number), "torn: {text:?}");
    number
}

/// No element is there twice; now and then all change their places, but those of one seat stay in their order.
fn look(list: &Texts, turn: u64) {
    let texts = list.snapshot().unwrap();
    let numbers: BTreeSet<u64> = texts.iter().map(|text| number_of(text)).collect();
    assert_eq!(numbers.len(), texts.len());
    if turn % 128 == 7 {
        match list.sort_by_key(|text| number_of(text)) {
            Ok(()) | Err(DictError::Full { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// What is wrong with the account of a storm.
fn list_storm(role: &str) -> Result<(), String> {
    let name = UniqueName::new("storm-accounts");
    let options = Options::new().max_bytes(512 << 10).shards(4);
    let accounts = Accounts::create(&*name, options).unwrap();
    let total = storm(role, &[&name], WORKERS, |outcome| {
        let list: Texts = accounts.child_list(&LIST).unwrap();
        accounts.repair().unwrap();
        accounts.check().unwrap();
        transfers(outcome, &accounts)?;
        elements(outcome, &list)?;
        // All memory is there, and the next chapter begins anew.
        accounts.clear().unwrap();
        assert_eq!(accounts.check().unwrap().used_bytes, 0);
        Ok(())
    })?;
    let shards = accounts.inspect().shards;
    let repairs = shards.iter().map(|shard| shard.recoveries).sum();
    assert_bites(&total, Some(repairs));
    Ok(())
}

/// Each worker made as many transfers as the ledger says, and each account has what they moved there and not away again.
fn transfers(outcome: &Outcome, accounts: &Accounts) -> Result<(), String> {
    let mut balances = [0; ACCOUNTS as usize];
    for seat in 0..WORKERS {
        let (made, found) = (outcome.ledger.settled(seat)?, transfers_of(accounts, seat));
        if found != made {
            return Err(format!("lost: seat {seat} has {found}, and made {made}"));
        }
        for count in 0..made {
            let [from, to] = route(count);
            balances[from as usize] -= 1;
            balances[to as usize] += 1;
        }
    }
    for (account, balance) in (0..ACCOUNTS).zip(balances) {
        let found = accounts.get(&account).unwrap().unwrap_or(0);
        if found != balance {
            return Err(format!("lost: {account} has {found}, not {balance}"));
        }
    }
    Ok(())
}

/// What was pushed is there, or was taken out by one of the workers, or by one that was killed with it.
fn elements(outcome: &Outcome, list: &Texts) -> Result<(), String> {
    let ledger = &outcome.ledger;
    let pops = |seat| {
        let pops = ledger.records_of(seat);
        pops.filter(|record| record.begun == POPPED && record.result != Some(0))
            .map(|record| record.result)
    };
    let takers: Vec<Vec<Option<u64>>> = (0..WORKERS).map(|seat| pops(seat).collect()).collect();
    let left = list.snapshot().unwrap();
    let left = left.iter().map(|text| number_of(text));
    let mut found: Vec<u64> = takers
        .iter()
        .flatten()
        .copied()
        .flatten()
        .chain(left)
        .collect();
    found.sort_unstable();
    if let Some(twice) = found.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("{:#x} is there twice", twice[0]));
    }
    let pushed = |result: fn(Option<u64>) -> bool| {
        let pushes = ledger.records().filter(|record| record.begun != POPPED);
        let pushes = pushes.filter(move |push| result(push.result));
        let mut pushes: Vec<u64> = pushes.map(|push| push.begun).collect();
        pushes.sort_unstable();
        pushes
    };
    let (begun, ended) = (
        pushed(|result| result != Some(REFUSED)),
        pushed(|result| result == Some(0)),
    );
    if let Some(number) = found
        .iter()
        .find(|number| begun.binary_search(number).is_err())
    {
        return Err(format!("{number:#x} was not pushed"));
    }
    let is_missing = |number: &u64| found.binary_search(number).is_err();
    let missing: Vec<u64> = ended.into_iter().filter(is_missing).collect();
    lost_in_gaps(&takers, &missing, seat)
}

#[test]
fn every_transfer_and_every_element_is_accounted_for() {
    list_storm("moves and pushes").unwrap();
}

fn assert_noticed(role: &str, words: &[&str]) {
    let wrong = list_storm(role).unwrap_err();
    println!("{wrong}");
    assert!(words.iter().any(|word| wrong.contains(word)), "{wrong}");
}

#[test]
fn control_lost_money_is_noticed() {
    assert_noticed("moves in two steps", &["lost"]);
}

#[test]
fn control_a_transfer_that_is_undone_at_a_recovery_is_noticed() {
    assert_noticed("undoes a transfer", &["lost"]);
}

#[test]
fn control_an_element_that_is_dropped_at_a_recovery_is_noticed() {
    assert_noticed("drops an element", &["lost"]);
}

#[test]
fn control_elements_that_are_taken_twice_are_noticed() {
    assert_noticed("pops in two steps", &["twice", "lost", " after "]);
}
