//! Random deaths in the traffic of transactions and of a list inside of a dictionary, with an exact account of every
//! transfer and of every element.
//!
//! All move money between the same few accounts, and count their transfers in the same transaction; all put texts of
//! many lengths behind the last element and take the first out. 200 kills a storm;
//! `SHM_STORM_KILLS=10000 cargo test --release -p shm-kill --test storm_list` for more.

mod asked;

use std::collections::BTreeSet;
use std::time::Duration;

use asked::{kills, limit, longest_stop};
use shm_dict::{Bytes, Dict, DictError, List, Options, Raw};
use shm_testing::storm::{Record, Storm, Worker};
use shm_testing::{Peer, UniqueName, peer_main};

type Accounts = Dict<u64, i64, Raw>;
type Texts = List<Vec<u8>, Bytes>;

const WORKERS: usize = 5;
const ACCOUNTS: u64 = 8;
/// Behind it each worker counts its transfers.
const COUNTS: u64 = 100;
/// Where the list is.
const LIST: u64 = 200;

/// In what a worker records: a transfer, with whose it is and from where to where, or a number taken out.
const MOVED: u64 = 1 << 63;
const POPPED: u64 = 1 << 62;
/// What a push ends with that changed nothing.
const REFUSED: u64 = 1;

#[test]
fn peer() {
    peer_main(&[
        (
            "moves and pushes",
            (|peer| works(peer, transfer, pop)) as fn(&mut Peer),
        ),
        ("moves in two steps", |peer| {
            works(peer, transfer_in_two_steps, pop)
        }),
        ("pops in two steps", |peer| {
            works(peer, transfer, pop_in_two_steps)
        }),
    ]);
}

fn transfer(accounts: &Accounts, [from, to]: [u64; 2], count: u64) {
    let moved = accounts.transaction(&[&from, &to, &count], |keys| {
        keys.modify(&from, |balance| Some(balance.unwrap_or(0) - 1))?;
        keys.modify(&to, |balance| Some(balance.unwrap_or(0) + 1))?;
        keys.modify(&count, |count| Some(count.unwrap_or(0) + 1))?;
        Ok::<(), DictError>(())
    });
    moved.unwrap();
}

/// The twin that thinks that nobody dies in between.
fn transfer_in_two_steps(accounts: &Accounts, [from, to]: [u64; 2], count: u64) {
    accounts.fetch_add(&from, -1).unwrap();
    std::thread::yield_now();
    accounts.fetch_add(&to, 1).unwrap();
    accounts.fetch_add(&count, 1).unwrap();
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

type Transfer = fn(&Accounts, [u64; 2], u64);

fn works(peer: &mut Peer, transfer: Transfer, pop: fn(&Texts) -> u64) {
    let accounts = Accounts::open(&peer.args()[0]).unwrap();
    let list: Texts = accounts.child_list(&LIST).unwrap();
    let mut worker = Worker::enlist(peer);
    for turn in 0_u64.. {
        if !worker.goes_on() {
            return;
        }
        let number = worker.fresh();
        match turn % 8 {
            0..=2 => {
                let [from, to] = [turn % ACCOUNTS, (turn / 8 * 3 + 1) % ACCOUNTS];
                let begun = MOVED | seat(number) << 16 | from << 8 | to;
                worker.record(begun, || {
                    transfer(&accounts, [from, to], COUNTS + seat(number));
                    0
                });
            }
            3 | 4 => worker.record(number, || match list.push(&text(number)) {
                Ok(()) => 0,
                Err(DictError::Full { .. }) => REFUSED,
                Err(other) => panic!("{other}"),
            }),
            5 | 6 => worker.record(POPPED, || pop(&list)),
            _ => worker.count(|| look(&list, turn)),
        }
        // So that the ledger is not full before the storm is over.
        if turn.is_multiple_of(1024) {
            worker.count(|| accounts.check().unwrap());
            std::thread::sleep(Duration::from_millis(1));
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

/// No element is there twice; now and then all change their places.
fn look(list: &Texts, turn: u64) {
    let texts = list.snapshot().unwrap();
    let numbers: BTreeSet<u64> = texts.iter().map(|text| number_of(text)).collect();
    assert_eq!(numbers.len(), texts.len());
    if turn % 128 == 7 {
        match list.reverse() {
            Ok(()) | Err(DictError::Full { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// What is wrong with the account of a storm.
fn storm(role: &str) -> Result<(), String> {
    let _watchdog = limit();
    let name = UniqueName::new("storm-accounts");
    let options = Options::new().max_bytes(512 << 10).shards(4);
    let accounts = Accounts::create(&*name, options).unwrap();
    let list: Texts = accounts.child_list(&LIST).unwrap();
    let kills = kills();
    let outcome = Storm::new(role, &[&name])
        .workers(WORKERS)
        .kills(kills)
        .longest_stop(longest_stop())
        .records(1 << 22)
        .run()
        .map_err(|error| error.to_string())?;
    println!("{role}: {outcome}");
    assert!(outcome.kills >= kills);
    accounts.repair().unwrap();
    let shards = accounts.inspect().shards;
    let repairs: u64 = shards.iter().map(|shard| shard.recoveries).sum();
    println!("{role}: {repairs} repairs");
    accounts.check().unwrap();
    let records = outcome.ledger.records();
    transfers(&records, &accounts)
        .and_then(|()| elements(&records, &list))
        .map_err(|wrong| format!("{wrong}, {outcome}"))?;
    // All memory is there.
    accounts.clear().unwrap();
    assert_eq!(accounts.check().unwrap().used_bytes, 0);
    Ok(())
}

/// Nothing was lost on the way, and each worker has as many transfers as ended; those that a kill interrupted may count.
fn transfers(records: &[Record], accounts: &Accounts) -> Result<(), String> {
    let value = |key| accounts.get(&key).unwrap().unwrap_or(0);
    let sum: i64 = (0..ACCOUNTS).map(value).sum();
    if sum != 0 {
        return Err(format!("the sum is {sum}"));
    }
    for seat in 1..=WORKERS as u64 {
        let is_own =
            |record: &&Record| record.begun & MOVED != 0 && (record.begun & !MOVED) >> 16 == seat;
        let moved = || records.iter().filter(is_own);
        let ended = moved().filter(|record| record.result.is_some());
        let range = ended.count() as i64..=moved().count() as i64;
        let count = value(COUNTS + seat);
        if !range.contains(&count) {
            return Err(format!("{seat}: {count}, not in {range:?}"));
        }
    }
    balances(records, value)
}

/// Each account has what was moved there and not away again.
fn balances(records: &[Record], value: impl Fn(u64) -> i64) -> Result<(), String> {
    for account in 0..ACCOUNTS {
        let (mut least, mut most) = (0, 0);
        for record in records.iter().filter(|record| record.begun & MOVED != 0) {
            let [from, to] = [record.begun >> 8 & 0xFF, record.begun & 0xFF];
            // From itself to itself is no change: the transaction sees what it stored.
            let change = i64::from(to == account) - i64::from(from == account);
            match record.result {
                Some(_) => (least, most) = (least + change, most + change),
                None => (least, most) = (least + change.min(0), most + change.max(0)),
            }
        }
        let balance = value(account);
        if !(least..=most).contains(&balance) {
            return Err(format!("{account}: {balance}, not in {least}..={most}"));
        }
    }
    Ok(())
}

/// What was pushed is there, or was taken out by one of the workers, or by one that was killed with it.
fn elements(records: &[Record], list: &Texts) -> Result<(), String> {
    let (pops, pushes): (Vec<&Record>, Vec<&Record>) = records
        .iter()
        .filter(|record| record.begun & MOVED == 0)
        .partition(|record| record.begun == POPPED);
    let lost = pops.iter().filter(|pop| pop.result.is_none()).count();
    let popped = pops
        .iter()
        .filter_map(|pop| pop.result.filter(|number| *number != 0));
    let texts = list.snapshot().unwrap();
    let mut found = BTreeSet::new();
    for number in popped.chain(texts.iter().map(|text| number_of(text))) {
        if !found.insert(number) {
            return Err(format!("{number:#x} is there twice"));
        }
    }
    let refused = |push: &&&Record| push.result != Some(REFUSED);
    let begun: BTreeSet<u64> = pushes
        .iter()
        .filter(refused)
        .map(|push| push.begun)
        .collect();
    if let Some(number) = found.difference(&begun).next() {
        return Err(format!("{number:#x} was not pushed"));
    }
    let ended = pushes.iter().filter(|push| push.result == Some(0));
    let missing = ended.filter(|push| !found.contains(&push.begun)).count();
    match missing <= lost {
        true => Ok(()),
        false => Err(format!("{missing} are missing, {lost} may be")),
    }
}

#[test]
fn every_transfer_and_every_element_is_accounted_for() {
    storm("moves and pushes").unwrap();
}

#[test]
fn control_lost_money_is_noticed() {
    let wrong = storm("moves in two steps").unwrap_err();
    assert!(
        wrong.contains("the sum is") || wrong.contains("not in"),
        "{wrong}"
    );
}

#[test]
fn control_elements_that_are_taken_twice_are_noticed() {
    let wrong = storm("pops in two steps").unwrap_err();
    assert!(
        wrong.contains("twice") || wrong.contains("missing"),
        "{wrong}"
    );
}
