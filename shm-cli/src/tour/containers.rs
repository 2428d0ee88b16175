//! Another process fills a dictionary of mixed keys, turns a list, and changes what is inside of a dictionary; then
//! processes that transfer money between two accounts are killed, one after the other.

use std::thread;
use std::time::Duration;

use serde::Serialize;
use shm_dict::{Dict, DictError, Dynamic, List, Options, dynamic};

use super::child::{Actor, Failure, Role, Said};
use super::children::{Act, Trouble};
use super::report::Expectation;
use super::teller::Teller;
use crate::figures::grouped;

const MIXED: &str = "mixed";
const NUMBERS: &str = "numbers";
const SETTINGS: &str = "settings";
const ACCOUNTS: &str = "accounts";
/// What is inside of the settings.
const HOSTS: &str = "hosts";
/// How many transferring processes are killed.
const DEATHS: u64 = 100;
/// What is on both accounts together.
const SUM: i64 = 1000;
/// For the first change of a process.
const PATIENCE: Duration = Duration::from_secs(20);

type Mixed = Dict<Dynamic, Dynamic>;
type Accounts = Dict<String, i64>;

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Figures {
    mixed: String,
    numbers: Vec<u32>,
    settings: String,
    transfers: Transfers,
}

/// What the killed left.
#[derive(Debug, Clone, Default, Serialize)]
struct Transfers {
    killed: u64,
    changes: u64,
    /// Deaths after which the sum was another one.
    wrong: u64,
    /// Whether `check` says so of the memory.
    checked: bool,
}

/// A child: changes what the others have made.
pub(super) fn change(actor: &Actor, names: &[String; 3]) -> Result<(), Failure> {
    let [mixed, numbers, settings] = names;
    let mixed = Mixed::open(mixed)?;
    mixed.set(&0.25.into(), &dynamic!(None))?;
    mixed.set(&1.into(), &dynamic!("1"))?;
    mixed.set(&"2".into(), &dynamic!(2))?;
    List::<u32>::open(numbers)?.reverse()?;
    let hosts: List<Dynamic> = Mixed::open(settings)?.child_list(&HOSTS.into())?;
    hosts.push(&dynamic!("beta"))?;
    actor.say(Said::Finished)
}

/// A child: transfers until it is killed.
pub(super) fn transfer(name: &str) -> Result<(), Failure> {
    let accounts = Accounts::open(name)?;
    for sum in (1..100).cycle() {
        let keys = ["Ada", "Bob"];
        accounts.transaction(&keys, |accounts| {
            accounts.modify("Ada", |balance| balance.map(|balance| balance - sum))?;
            accounts.modify("Bob", |balance| balance.map(|balance| balance + sum))?;
            Ok::<(), DictError>(())
        })?;
    }
    Ok(())
}

/// The part's second half.
pub(super) fn run(
    act: &mut Act,
    teller: &mut Teller,
) -> Result<(Figures, Vec<Expectation>), Trouble> {
    let mut figures = changed(act)?;
    teller
        .then_say(format!(
            "Another process fills a dictionary, {}, turns list(range(10)), {:?}, and appends to the \
             list inside of a dictionary: {}. In Python that append, d[\"{HOSTS}\"].append(..) on a \
             Manager().dict(), is silently lost.",
            figures.mixed, figures.numbers, figures.settings,
        ))
        .map_err(Trouble::Output)?;
    figures.transfers = killed_in_transfers(act, teller)?;
    let Transfers {
        killed,
        changes,
        wrong,
        ..
    } = figures.transfers;
    teller
        .then_say(format!(
            "Last, a process transfers money between two accounts and is killed with SIGKILL; {killed} \
             times, among {} changes. The sum was another one after {wrong} of these deaths.",
            grouped(changes as i64),
        ))
        .map_err(Trouble::Output)?;
    let expectations = expectations(&figures);
    Ok((figures, expectations))
}

/// What is seen of another process's changes, through handles from before.
fn changed(act: &mut Act) -> Result<Figures, Trouble> {
    let mixed = act.create(MIXED, |place| Mixed::create(place, Options::new()))?;
    let numbers = act.create(NUMBERS, |place| List::<u32>::create(place, Options::new()))?;
    numbers.extend(0..10)?;
    let settings = act.create(SETTINGS, |place| Mixed::create(place, Options::new()))?;
    let hosts: List<Dynamic> = settings.child_list(&HOSTS.into())?;
    hosts.push(&dynamic!("alpha"))?;

    let names = [MIXED, NUMBERS, SETTINGS].map(|what| act.name(what));
    act.start(&Role::Change { names })?;
    match act.hear()? {
        (_, Said::Finished) => {}
        other => return Err(act.unexpected(other)),
    }
    Ok(Figures {
        mixed: mixed.to_dynamic()?.to_string(),
        numbers: numbers.snapshot()?,
        settings: settings.to_dynamic()?.to_string(),
        transfers: Transfers::default(),
    })
}

fn killed_in_transfers(act: &mut Act, teller: &mut Teller) -> Result<Transfers, Trouble> {
    let accounts = act.create(ACCOUNTS, |place| Accounts::create(place, Options::new()))?;
    accounts.extend([("Ada".to_owned(), SUM), ("Bob".to_owned(), 0)])?;
    let mut transfers = Transfers::default();
    let first = accounts.version();
    for death in 0..DEATHS {
        let seen = accounts.version();
        let name = act.name(ACCOUNTS);
        let child = act.start(&Role::Transfer { name })?;
        accounts.wait_for_change_timeout(seen, PATIENCE)?;
        thread::sleep(Duration::from_micros(death % 10 * 37));
        act.kill(child)?;
        let balances = accounts.snapshot()?;
        let sum: i64 = balances.iter().map(|(_, balance)| balance).sum();
        transfers.wrong += u64::from(sum != SUM);
        transfers.killed += 1;
        if teller.wants_progress() {
            let text = format!("{} of {DEATHS} processes killed", transfers.killed);
            teller.progress(&text).map_err(Trouble::Output)?;
        }
    }
    transfers.changes = accounts.version() - first;
    transfers.checked = accounts.check().is_ok_and(|stats| stats.entries == 2);
    Ok(transfers)
}

fn expectations(figures: &Figures) -> Vec<Expectation> {
    let transfers = &figures.transfers;
    vec![
        Expectation::new(
            "a dictionary of mixed keys is what another process made of it",
            figures.mixed == "{0.25: None, 1: '1', '2': 2}",
            figures.mixed.clone(),
        ),
        Expectation::new(
            "a list is in the opposite order when another process turned it",
            figures.numbers.iter().rev().copied().eq(0..10),
            format!("{:?}", figures.numbers),
        ),
        Expectation::new(
            "a change inside of a dictionary is seen by all",
            figures.settings == "{'hosts': ['alpha', 'beta']}",
            figures.settings.clone(),
        ),
        Expectation::new(
            "whenever a transferring process is killed, the sum is as it was",
            transfers.killed == DEATHS && transfers.wrong == 0 && transfers.checked,
            format!("{transfers:?}"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(change: impl FnOnce(&mut Figures)) -> Vec<bool> {
        let mut figures = Figures {
            mixed: "{0.25: None, 1: '1', '2': 2}".to_owned(),
            numbers: (0..10).rev().collect(),
            settings: "{'hosts': ['alpha', 'beta']}".to_owned(),
            transfers: Transfers {
                killed: DEATHS,
                changes: 7,
                wrong: 0,
                checked: true,
            },
        };
        change(&mut figures);
        expectations(&figures).iter().map(|e| e.ok).collect()
    }

    #[test]
    fn each_thing_that_can_go_wrong_fails_its_expectation() {
        assert_eq!(verdicts(|_| {}), [true; 4]);
        let lost = |f: &mut Figures| f.mixed = "{}".to_owned();
        assert_eq!(verdicts(lost), [false, true, true, true]);
        let same = |f: &mut Figures| f.numbers.reverse();
        assert_eq!(verdicts(same), [true, false, true, true]);
        let lost = |f: &mut Figures| f.settings = "{'hosts': ['alpha']}".to_owned();
        assert_eq!(verdicts(lost), [true, true, false, true]);
        let unchecked = |f: &mut Figures| f.transfers.checked = false;
        assert_eq!(verdicts(unchecked), [true, true, true, false]);
        assert_eq!(
            verdicts(|f| f.transfers.wrong = 1),
            [true, true, true, false]
        );
        assert_eq!(
            verdicts(|f| f.transfers.killed = 9),
            [true, true, true, false]
        );
    }
}
