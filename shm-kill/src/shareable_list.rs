//! The shareable list: each item old or new, whole.

use std::time::Duration;

use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_value::{Item, ShareableList};

use crate::segment::die;

const OLD: &str = "an old item";
const NEW: &[u8; 14] = b"some new bytes";
const AGAIN: i64 = 3;

pub(crate) fn cases() -> Vec<Case> {
    let switch = || Outcomes::switch("old", "new");
    vec![
        Case::new("list set", "list")
            .checked_by("list")
            .killed(switch())
            .frozen("list get", Outcomes::always("new"))
            .frozen_and_killed("list get", switch())
            .killed_under_waiter("list set again", Outcomes::always("again")),
        Case::new("list set", "list")
            .while_held("list")
            .checked_by("list")
            .killed(switch()),
        Case::new("list set", "list with a dead writer")
            .orphaned()
            .checked_by("list")
            .killed(switch())
            .killed_after("list set", Outcomes::rising(&["old", "new"]))
            .killed_under_waiter("list set again", Outcomes::always("again")),
        Case::new("list get", "list with a dead writer")
            .orphaned()
            .checked_by("list")
            .killed(Outcomes::always("old")),
    ]
}

fn open(name: &str) -> ShareableList {
    ShareableList::open(name).expect("the list")
}

fn create(name: &str) -> ShareableList {
    ShareableList::create(name, &[Item::None, OLD.into(), 7.into()]).expect("a new list")
}

pub(crate) fn commands() -> Commands {
    Commands::new()
        .setup("list", |name| drop(create(name)))
        .setup("list with a dead writer", |name| {
            let list = create(name);
            let _guard = list.lock().expect("it is free");
            die();
        })
        .hold("list", |name, until_told| {
            let list = open(name);
            let guard = list.lock().expect("it is free");
            until_told();
            drop(guard);
        })
        .victim("list set", |name| {
            let list = open(name);
            mark_start();
            let result = list.set(1, NEW);
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("list get", |name| {
            let list = open(name);
            mark_start();
            let result = list.get(1);
            mark_end();
            assert_eq!(result, Ok(OLD.into()));
        })
        .act("list get", |name| {
            let seen = open(name).get(1).expect("readers do not wait");
            assert!(seen == OLD.into() || seen == NEW.into(), "torn: {seen:?}");
            "seen"
        })
        .act("list set again", |name| {
            let list = open(name);
            let guard = list
                .lock_timeout(Duration::from_secs(3))
                .expect("nobody hangs");
            guard.set(1, AGAIN).expect("it fits");
            "set"
        })
        .check("list", |name, acted| {
            let list = open(name);
            let seen = list.get(1).expect("readers do not wait");
            let outcome = match &seen {
                Item::Str(text) if text == OLD => "old",
                Item::Bytes(bytes) if bytes == NEW => "new",
                // Whoever waited wrote last, or the victim had let go and wrote before.
                Item::Int(AGAIN) if acted == Some("set") => "again",
                other => panic!("{other:?} after {acted:?}"),
            };
            assert_eq!(list.get(0), Ok(Item::None), "its neighbours");
            assert_eq!(list.get(2), Ok(7.into()), "its neighbours");
            list.set(1, "usable").expect("writers do not wait");
            assert_eq!(list.get(1), Ok("usable".into()));
            list.unlink().expect("it is there");
            outcome
        })
}
