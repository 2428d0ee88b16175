//! Values and arrays: old or new, whole.

use std::time::Duration;

use shm_lock::LockError;
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_value::{Array, AtomicValue, Value};

use crate::segment::die;

type Words = [u64; 4];

const OLD: Words = [1; 4];
const NEW: Words = [2; 4];
/// Elements of an array, of which half a copy is neither.
const ONE: u64 = u64::from_ne_bytes([1; 8]);
const TWO: u64 = u64::from_ne_bytes([2; 8]);

pub(crate) fn cases() -> Vec<Case> {
    let switch = || Outcomes::switch("old", "new");
    let mut cases = Vec::new();
    for operation in ["set", "update", "guard"] {
        cases.push(
            Case::new(operation, "value")
                .checked_by("value")
                .killed(switch())
                .frozen("get", Outcomes::always("new"))
                .frozen_and_killed("get", switch())
                .killed_under_waiter("set again", Outcomes::always("again")),
        );
        cases.push(
            Case::new(operation, "value with a dead writer")
                .orphaned()
                .checked_by("value")
                .killed(switch())
                .killed_after(operation, Outcomes::rising(&["old", "new"]))
                .killed_under_waiter("set again", Outcomes::always("again")),
        );
    }
    cases.extend([
        Case::new("set", "value")
            .while_held("value")
            .checked_by("value")
            .killed(switch()),
        Case::new("get", "value")
            .checked_by("value")
            .killed(Outcomes::always("old"))
            .frozen("set twice", Outcomes::always("new")),
        Case::new("get", "value with a dead writer")
            .orphaned()
            .checked_by("value")
            .killed(Outcomes::always("old")),
        Case::new("discard", "value")
            .checked_by("value")
            .killed(Outcomes::always("old")),
        Case::new("fetch_add", "number")
            .checked_by("number")
            .killed(switch()),
        Case::new("store", "number")
            .checked_by("number")
            .killed(switch()),
        Case::new("fetch_update", "number")
            .checked_by("number")
            .killed(switch()),
        Case::new("array set", "array")
            .checked_by("array")
            .killed(Outcomes::phases(&["old", "died", "new"]))
            .frozen("array get", Outcomes::always("new")),
        Case::new("array guard", "array")
            .checked_by("array")
            .killed(Outcomes::phases(&["old", "died", "new"])),
        // Two elements of three, each old or new; both, when the lock was given back.
        Case::new("array range", "array")
            .checked_by("array range")
            .killed(Outcomes::phases(&["old", "died", "new"]))
            .frozen("array get", Outcomes::always("new"))
            .killed_under_waiter("array fill", Outcomes::always("filled")),
        Case::new("array range", "array")
            .while_held("array")
            .checked_by("array range")
            .killed(Outcomes::phases(&["old", "died", "new"])),
        Case::new("array range", "array")
            .while_held_by_the_doomed("array")
            .checked_by("array range")
            .killed(Outcomes::switch("died", "new")),
        Case::new("array repair", "torn array")
            .orphaned()
            .checked_by("array")
            .killed(Outcomes::switch("died", "new"))
            // Killed with the lock after the first has repaired all, the second is a dead owner again.
            .killed_after("array repair", Outcomes::any(&["died", "new"])),
    ]);
    cases
}

pub(crate) fn commands() -> Commands {
    checks(arrays(values(Commands::new())))
        .setup("value", |name| {
            drop(Value::create(name, OLD).expect("a new value"))
        })
        .setup("value with a dead writer", |name| {
            let value = Value::create(name, OLD).expect("a new value");
            let mut guard = value.lock().expect("it is free");
            *guard = [9; 4];
            die();
        })
        .setup("number", |name| {
            drop(AtomicValue::create(name, 1_u64).expect("a new number"))
        })
        .setup("array", |name| {
            drop(Array::create(name, &[ONE; 4]).expect("a new array"))
        })
        .setup("torn array", |name| {
            let array = Array::create(name, &[ONE; 4]).expect("a new array");
            let mut guard = array.lock().expect("it is free");
            guard[2] = TWO;
            die();
        })
        .hold("array", |name, until_told| {
            let array = Array::<u64>::open(name).expect("the array");
            let guard = array.lock().expect("it is free");
            until_told();
            drop(guard);
        })
        .hold("value", |name, until_told| {
            let value = Value::<Words>::open(name).expect("the value");
            let guard = value.lock().expect("it is free");
            until_told();
            guard.discard();
        })
}

fn values(commands: Commands) -> Commands {
    let open = |name: &str| Value::<Words>::open(name).expect("the value");
    let number = |name: &str| AtomicValue::<u64>::open(name).expect("the number");
    commands
        .victim("set", move |name| {
            let value = open(name);
            mark_start();
            let result = value.set(NEW);
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("update", move |name| {
            let value = open(name);
            mark_start();
            let result = value.update(|words| words.iter_mut().for_each(|word| *word = 2));
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("guard", move |name| {
            let value = open(name);
            mark_start();
            let mut guard = value.lock().expect("nothing stands in the way");
            *guard = NEW;
            drop(guard);
            mark_end();
        })
        .victim("discard", move |name| {
            let value = open(name);
            mark_start();
            let mut guard = value.lock().expect("nothing stands in the way");
            *guard = NEW;
            guard.discard();
            mark_end();
        })
        .victim("get", move |name| {
            let value = open(name);
            mark_start();
            let result = value.get();
            mark_end();
            let seen = result.expect("readers do not wait");
            assert!(seen == [seen[0]; 4], "torn: {seen:?}");
        })
        .victim("fetch_add", move |name| {
            let number = number(name);
            mark_start();
            number.fetch_add(1);
            mark_end();
        })
        .victim("store", move |name| {
            let number = number(name);
            mark_start();
            number.store(2);
            mark_end();
        })
        .victim("fetch_update", move |name| {
            let number = number(name);
            mark_start();
            let result = number.fetch_update(|n| n.checked_add(1));
            mark_end();
            assert_eq!(result, Ok(1));
        })
        .act("get", move |name| {
            let seen = open(name).get().expect("readers do not wait");
            assert!(seen == OLD || seen == NEW, "torn: {seen:?}");
            "seen"
        })
        .act("set twice", move |name| {
            // The second one goes into the slot that a frozen reader may be copying.
            let value = open(name);
            value.set([3; 4]).expect("nothing stands in the way");
            value.set(NEW).expect("nothing stands in the way");
            "set twice"
        })
        .act("set again", move |name| {
            let value = open(name);
            let mut guard = value
                .lock_timeout(Duration::from_secs(3))
                .expect("nobody hangs");
            *guard = [3; 4];
            "set"
        })
}

fn arrays(commands: Commands) -> Commands {
    let open = |name: &str| Array::<u64>::open(name).expect("the array");
    commands
        .victim("array set", move |name| {
            let array = open(name);
            mark_start();
            let result = array.set(2, TWO);
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("array guard", move |name| {
            let array = open(name);
            mark_start();
            let mut guard = array.lock().expect("nothing stands in the way");
            guard[2] = TWO;
            drop(guard);
            mark_end();
        })
        .victim("array range", move |name| {
            let array = open(name);
            mark_start();
            if let Ok(mut guard) = array.lock_or_repair(|elements, _| elements.fill(ONE)) {
                guard[1..3].copy_from_slice(&[TWO, TWO]);
            }
            mark_end();
        })
        .victim("array repair", move |name| {
            let array = open(name);
            mark_start();
            let guard = array.lock_or_repair(|elements, _| elements[2] = TWO);
            drop(guard);
            mark_end();
        })
        .act("array fill", move |name| {
            let array = open(name);
            match array.lock_timeout(Duration::from_secs(3)) {
                Ok(mut guard) => guard.fill(7),
                Err(LockError::OwnerDied(recover)) => drop(recover.repair(|all| all.fill(7))),
                Err(other) => panic!("{other}"),
            }
            "filled"
        })
        .act("array get", move |name| {
            let array = open(name);
            match array.try_lock() {
                Ok(guard) => assert!(guard[2] == ONE || guard[2] == TWO),
                Err(LockError::WouldBlock) => {}
                Err(other) => panic!("{other}"),
            }
            "seen"
        })
}

fn checks(commands: Commands) -> Commands {
    commands
        .check("value", |name, acted| {
            let value = Value::<Words>::open(name).expect("the value");
            let seen = value.get().expect("readers do not wait");
            assert_eq!(
                value.update(|words| *words = [5; 4]),
                Ok(()),
                "writers do not wait"
            );
            assert_eq!(value.get(), Ok([5; 4]));
            value.unlink().expect("it is there");
            let again = acted == Some("set");
            match seen {
                OLD if !again => "old".to_owned(),
                NEW if !again => "new".to_owned(),
                // Whoever waited wrote last, or the victim had let go and wrote before.
                [3, 3, 3, 3] if again => "again".to_owned(),
                other => panic!("{other:?} after {acted:?}"),
            }
        })
        .check("number", |name, _| {
            let number = AtomicValue::<u64>::open(name).expect("the number");
            let outcome = match number.load() {
                1 => "old",
                2 => "new",
                other => panic!("{other}"),
            };
            number.unlink().expect("it is there");
            outcome
        })
        .check("array range", |name, _| {
            let array = Array::<u64>::open(name).expect("the array");
            let (died, seen) = match array.lock() {
                Ok(guard) => (false, guard.to_vec()),
                Err(LockError::OwnerDied(recover)) => (true, recover.accept().to_vec()),
                Err(other) => panic!("{other}"),
            };
            array.set(0, 7).expect("it can be used");
            assert_eq!(array.get(0), Ok(7));
            array.unlink().expect("it is there");
            match (died, &seen[..]) {
                (true, [ONE, ONE | TWO, ONE | TWO, ONE]) => "died",
                (false, [ONE, ONE, ONE, ONE]) => "old",
                (false, [ONE, TWO, TWO, ONE]) => "new",
                (false, [7, 7, 7, 7]) => "filled",
                torn => panic!("{torn:?}"),
            }
        })
        .check("array", |name, _| {
            let array = Array::<u64>::open(name).expect("the array");
            let (told, seen) = match array.lock() {
                Ok(guard) => (false, guard.to_vec()),
                Err(LockError::OwnerDied(recover)) => (true, recover.accept().to_vec()),
                Err(other) => panic!("{other}"),
            };
            assert!(
                seen == [ONE; 4] || seen == [ONE, ONE, TWO, ONE],
                "{seen:x?}"
            );
            array.set(0, 7).expect("it can be used");
            assert_eq!(array.get(0), Ok(7));
            array.unlink().expect("it is there");
            match (told, seen[2]) {
                (true, _) => "died",
                (false, ONE) => "old",
                (false, _) => "new",
            }
        })
}
