//! Atomic numbers: an array of them, each old or new; and who waits for one to change.

use std::time::Duration;

use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_value::{AtomicArray, AtomicValue, ValueError};

use crate::segment::A_WHILE;

const PATIENCE: Duration = Duration::from_secs(3);
/// The operations on one element that make 2 of 1.
const CHANGES: [&str; 5] = [
    "element store",
    "element swap",
    "element compare_exchange",
    "element fetch_update",
    "element fetch_add",
];

pub(crate) fn cases() -> Vec<Case> {
    let switch = || Outcomes::switch("old", "new");
    let element = |operation: &str| Case::new(operation, "atomic array").checked_by("atomic array");
    let number = |operation| Case::new(operation, "number to change").checked_by("changed number");
    let mut cases: Vec<_> = CHANGES
        .map(|operation| element(operation).killed(switch()))
        .into();
    cases.extend([
        // The other's addition is never lost: the number is not read and written in two.
        element("element fetch_add").frozen("add to element", Outcomes::always("new and more")),
        element("element fetch_update").frozen("add to element", Outcomes::always("new and more")),
        element("atomic array load").killed(Outcomes::always("old")),
        // Three stores: an element at a time, in order.
        element("store all").killed(Outcomes::phases(&["old", "1 of 3", "2 of 3", "new"])),
        number("change and notify_all")
            .with_sleeper("wait for a change")
            .with_sleeper("wait for a change")
            .killed(Outcomes::switch(
                "old; changed, changed",
                "new; changed, changed",
            )),
        number("change and notify_one")
            .with_sleeper("wait for a change")
            .killed(Outcomes::switch("old; changed", "new; changed")),
        number("wait for a change")
            .while_held("a change to come")
            .killed(Outcomes::always("new")),
        number("wait in vain")
            .gives_up()
            .killed(Outcomes::always("old")),
    ]);
    cases
}

pub(crate) fn commands() -> Commands {
    waiting(elements(Commands::new()))
}

fn elements(commands: Commands) -> Commands {
    let open = |name: &str| AtomicArray::<u64>::open(name).expect("the array");
    let change = |operation: &str, array: &AtomicArray<u64>| {
        let element = array.element(1).expect("it is in range");
        match operation {
            "element store" => element.store(2),
            "element swap" => drop(element.swap(2)),
            "element compare_exchange" => drop(element.compare_exchange(1, 2)),
            "element fetch_update" => drop(element.fetch_update(|n| n.checked_add(1))),
            _ => drop(element.fetch_add(1)),
        }
    };
    CHANGES
        .into_iter()
        .fold(commands, |commands, operation| {
            commands.victim(operation, move |name| {
                let array = open(name);
                mark_start();
                change(operation, &array);
                mark_end();
            })
        })
        .setup("atomic array", |name| {
            drop(AtomicArray::create(name, &[1_u64, 1, 1]).expect("a new array"))
        })
        .victim("atomic array load", move |name| {
            let array = open(name);
            mark_start();
            let seen = array.load(1);
            mark_end();
            assert_eq!(seen, Ok(1));
        })
        .victim("store all", move |name| {
            let array = open(name);
            mark_start();
            array.elements().for_each(|element| element.store(2));
            mark_end();
        })
        .act("add to element", move |name| {
            open(name).element(1).expect("it is in range").fetch_add(10);
            "added"
        })
        .check("atomic array", move |name, acted| {
            let array = open(name);
            let seen = array.to_vec();
            assert_eq!(array.element(1).expect("it is in range").swap(7), seen[1]);
            assert_eq!(array.load(1), Ok(7));
            array.unlink().expect("it is there");
            match (&seen[..], acted) {
                ([1, 1, 1], None) => "old",
                ([2, 1, 1], None) => "1 of 3",
                ([2, 2, 1], None) => "2 of 3",
                ([1, 2, 1] | [2, 2, 2], None) => "new",
                ([1, 12, 1], Some("added")) => "new and more",
                (torn, acted) => panic!("{torn:?} after {acted:?}"),
            }
        })
}

fn waiting(commands: Commands) -> Commands {
    let open = |name: &str| AtomicValue::<u64>::open(name).expect("the number");
    commands
        .setup("number to change", |name| {
            drop(AtomicValue::create(name, 1_u64).expect("a new number"))
        })
        .hold("a change to come", move |name, until_told| {
            let number = open(name);
            until_told();
            number.store(2);
            number.notify_all();
        })
        .victim("change and notify_all", move |name| {
            let number = open(name);
            mark_start();
            number.store(2);
            number.notify_all();
            mark_end();
        })
        .victim("change and notify_one", move |name| {
            let number = open(name);
            mark_start();
            number.store(2);
            number.notify_one();
            mark_end();
        })
        .victim("wait for a change", move |name| {
            let number = open(name);
            mark_start();
            let seen = number.wait(1);
            mark_end();
            assert_eq!(seen, 2);
        })
        .victim("wait in vain", move |name| {
            let number = open(name);
            mark_start();
            let seen = number.wait_timeout(1, A_WHILE);
            mark_end();
            assert_eq!(seen, Err(ValueError::Timeout));
        })
        .act("wait for a change", move |name| {
            let seen = open(name).wait_timeout(1, PATIENCE);
            assert_eq!(seen, Ok(2));
            "changed"
        })
        .check("changed number", move |name, _| {
            let number = open(name);
            let outcome = match number.load() {
                1 => "old",
                2 => "new",
                other => panic!("{other}"),
            };
            number.store(2);
            number.notify_all();
            assert_eq!(number.wait(1), 2);
            number.unlink().expect("it is there");
            outcome
        })
}
