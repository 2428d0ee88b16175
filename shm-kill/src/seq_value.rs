//! The sequence value: old or new, whole, and nobody who reads it or waits for it is kept.

use std::time::Duration;

use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_testing::{Commands, wait_until};
use shm_value::SeqValue;

use crate::segment::die;

type Words = [u64; 4];

const OLD: Words = [1; 4];
const NEW: Words = [2; 4];
const AGAIN: Words = [3; 4];

pub(crate) fn cases() -> Vec<Case> {
    let switch = || Outcomes::switch("old", "new");
    let mut cases = Vec::new();
    for operation in ["seq set", "seq update", "seq guard"] {
        cases.extend([
            Case::new(operation, "seq")
                .checked_by("seq")
                .killed(switch())
                .frozen("seq get", Outcomes::always("new"))
                .frozen_and_killed("seq get", switch())
                .killed_under_waiter("seq set again", Outcomes::always("again")),
            Case::new(operation, "seq with a dead writer")
                .orphaned()
                .checked_by("seq")
                .killed(switch())
                .killed_after(operation, Outcomes::rising(&["old", "new"]))
                .killed_under_waiter("seq set again", Outcomes::always("again")),
        ]);
    }
    cases.extend([
        Case::new("seq set", "seq")
            .while_held("seq")
            .checked_by("seq")
            .killed(switch()),
        Case::new("seq set", "seq")
            .while_held("seq waiter")
            .checked_by("seq")
            .killed(switch()),
        Case::new("seq set", "seq")
            .checked_by("seq")
            .killed_under_waiter("seq follow", switch()),
        Case::new("seq get", "seq")
            .checked_by("seq")
            .killed(Outcomes::always("old")),
        Case::new("seq get", "seq with a dead writer")
            .orphaned()
            .checked_by("seq")
            .killed(Outcomes::always("old")),
        Case::new("seq wait", "seq")
            .while_held("seq change")
            .checked_by("seq")
            .killed(Outcomes::always("new")),
        Case::new("seq wait", "changed seq")
            .checked_by("seq")
            .killed(Outcomes::always("new")),
    ]);
    cases
}

fn open(name: &str) -> SeqValue<Words> {
    SeqValue::open(name).expect("the value")
}

pub(crate) fn commands() -> Commands {
    acts(victims(holds(Commands::new())))
        .setup("seq", |name| {
            drop(SeqValue::create(name, OLD).expect("a new value"))
        })
        .setup("changed seq", |name| {
            let value = SeqValue::create(name, OLD).expect("a new value");
            value.set(NEW).expect("nothing stands in the way");
        })
        .setup("seq with a dead writer", |name| {
            let value = SeqValue::create(name, OLD).expect("a new value");
            let mut guard = value.lock().expect("it is free");
            *guard = [9; 4];
            die();
        })
        .check("seq", |name, acted| {
            let value = open(name);
            let (seen, version) = value.get_with_version();
            let outcome = match seen {
                OLD => "old",
                NEW => "new",
                // Whoever waited wrote last, or the victim had let go and wrote before.
                AGAIN if acted == Some("set") => "again",
                other => panic!("{other:?} after {acted:?}"),
            };
            assert_eq!(value.set([5; 4]), Ok(()), "writers do not wait");
            assert_eq!(value.get_with_version(), ([5; 4], version + 1));
            let waited = value.wait_for_change_timeout(version, Duration::ZERO);
            assert_eq!(waited, Ok(([5; 4], version + 1)));
            value.unlink().expect("it is there");
            outcome
        })
}

fn holds(commands: Commands) -> Commands {
    commands
        .hold("seq", |name, until_told| {
            let value = open(name);
            let guard = value.lock().expect("it is free");
            until_told();
            guard.discard();
        })
        .hold("seq change", |name, until_told| {
            let value = open(name);
            let mut guard = value.lock().expect("it is free");
            *guard = NEW;
            until_told();
        })
        .hold("seq waiter", |name, until_told| {
            let value = open(name);
            let sleeper = std::thread::spawn({
                let value = value.clone();
                move || value.wait_for_change(0)
            });
            let asleep = || value.waiters() == 1;
            assert!(wait_until(asleep, Duration::from_secs(3)), "it sleeps");
            until_told();
            // If there was no change, it sleeps on, and ends with this process.
            if value.version() != 0 {
                let awake = || sleeper.is_finished();
                assert!(wait_until(awake, Duration::from_secs(3)), "it wakes");
            }
        })
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("seq set", |name| {
            let value = open(name);
            mark_start();
            let result = value.set(NEW);
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("seq update", |name| {
            let value = open(name);
            mark_start();
            let result = value.update(|words| words.iter_mut().for_each(|word| *word = 2));
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("seq guard", |name| {
            let value = open(name);
            mark_start();
            let mut guard = value.lock().expect("nothing stands in the way");
            *guard = NEW;
            drop(guard);
            mark_end();
        })
        .victim("seq get", |name| {
            let value = open(name);
            mark_start();
            let result = value.get();
            mark_end();
            assert_eq!(result, OLD);
        })
        .victim("seq wait", |name| {
            let value = open(name);
            mark_start();
            let result = value.wait_for_change(0);
            mark_end();
            assert_eq!(result, (NEW, 1));
        })
}

fn acts(commands: Commands) -> Commands {
    commands
        .act("seq get", |name| {
            let seen = open(name).get();
            assert!(seen == OLD || seen == NEW, "torn: {seen:?}");
            "seen"
        })
        .act("seq set again", |name| {
            let value = open(name);
            let mut guard = value
                .lock_timeout(Duration::from_secs(3))
                .expect("nobody hangs");
            *guard = AGAIN;
            "set"
        })
        // Longer than a slice, so that a change is noticed also if its writer dies before the wake.
        .act("seq follow", |name| {
            let value = open(name);
            let changed = value.wait_for_change_timeout(0, Duration::from_millis(250));
            assert_eq!(changed.is_ok(), value.version() != 0);
            "followed"
        })
}
