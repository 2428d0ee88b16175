//! What is done once: by the victim or by the next one, whole, and never twice to its end.

use std::time::Duration;

use shm_lock::{LockFailure, Once, OnceValue};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use crate::segment::die;

type Words = [u64; 4];

const PATIENCE: Duration = Duration::from_secs(3);
const VICTIMS: Words = [2; 4];
const OTHERS: Words = [3; 4];

pub(crate) fn cases() -> Vec<Case> {
    let made = || Outcomes::switch("not made", "the victim's");
    let case = |operation, state| Case::new(operation, state).checked_by("once value");
    vec![
        case("get_or_init", "once value")
            .killed(made())
            // Before the lock is taken and after the value is made; in between, it is the victim's.
            .frozen(
                "make if free",
                Outcomes::switch("another's", "the victim's"),
            )
            .frozen_and_killed(
                "make if free",
                Outcomes::phases(&["another's", "not made", "the victim's"]),
            )
            .killed_under_waiter("make", Outcomes::switch("another's", "the victim's"))
            .killed_after(
                "get_or_init",
                Outcomes::rising(&["not made", "the victim's"]),
            ),
        case("try_get_or_init", "once value").killed(made()),
        case("get_or_init_timeout", "once value").killed(made()),
        case("get_or_init", "once value half made")
            .orphaned()
            .killed(made())
            .frozen(
                "make if free",
                Outcomes::switch("another's", "the victim's"),
            )
            .killed_under_waiter("make", Outcomes::switch("another's", "the victim's"))
            .killed_after(
                "get_or_init",
                Outcomes::rising(&["not made", "the victim's"]),
            ),
        case("get_or_init", "once value")
            .while_held("one who makes it")
            .killed(Outcomes::always("another's")),
        case("get_or_init", "once value")
            .while_held_by_the_doomed("one who makes it")
            .killed(made()),
        case("try_get_or_init in vain", "once value")
            .while_held("one who makes it")
            .killed(Outcomes::always("another's")),
        case("get_or_init", "once value made").killed(Outcomes::always("another's")),
        case("once get", "once value half made")
            .orphaned()
            .killed(Outcomes::always("not made")),
        case("init fails", "once value").killed(Outcomes::always("not made")),
        Case::new("call_once", "once")
            .checked_by("once")
            .killed(Outcomes::switch("not done", "done"))
            .killed_after("call_once", Outcomes::rising(&["not done", "done"])),
    ]
}

pub(crate) fn commands() -> Commands {
    victims(Commands::new())
        .setup("once", |name| drop(Once::create(name).expect("a new once")))
        .setup("once value", |name| drop(create(name)))
        .setup("once value made", |name| {
            let once = create(name);
            assert_eq!(once.get_or_init(|| OTHERS), Ok(&OTHERS));
        })
        .setup("once value half made", |name| {
            let _ = create(name).get_or_init(|| die());
        })
        .hold("one who makes it", |name, until_told| {
            let once = open(name);
            let made = once.get_or_init(|| {
                until_told();
                OTHERS
            });
            assert_eq!(made, Ok(&OTHERS));
        })
        .act("make if free", |name| {
            match open(name).try_get_or_init(|| OTHERS) {
                Ok(&OTHERS) => "made",
                Ok(&VICTIMS) => "found",
                Err(LockFailure::WouldBlock) => "held",
                other => panic!("{other:?}"),
            }
        })
        .act("make", |name| {
            match open(name).get_or_init_timeout(PATIENCE, || OTHERS) {
                Ok(&OTHERS) => "made",
                Ok(&VICTIMS) => "found",
                other => panic!("{other:?}"),
            }
        })
        .check("once value", |name, acted| {
            let once = open(name);
            let outcome = match once.get() {
                None => "not made",
                Some(&VICTIMS) => "the victim's",
                Some(&OTHERS) => "another's",
                Some(torn) => panic!("{torn:?}"),
            };
            assert!(acted != Some("made") || outcome == "another's");
            assert!(acted != Some("found") || outcome == "the victim's");
            let now = once.get().copied().unwrap_or([5; 4]);
            let made = once.get_or_init_timeout(PATIENCE, || [5; 4]);
            assert_eq!(made, Ok(&now));
            let again = once.get_or_init(|| panic!("it is made"));
            assert_eq!(again, Ok(&now));
            once.unlink().expect("it is there");
            outcome
        })
        .check("once", |name, _| {
            let once = Once::open(name).expect("the once");
            let done = once.is_completed();
            let mut runs = 0;
            for _ in 0..2 {
                let called = once.call_once_timeout(PATIENCE, || runs += 1);
                called.expect("nobody is at it");
            }
            assert_eq!(runs, u32::from(!done));
            once.unlink().expect("it is there");
            if done { "done" } else { "not done" }
        })
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("get_or_init", |name| {
            let once = open(name);
            mark_start();
            let made = once.get_or_init(|| VICTIMS).map(drop);
            mark_end();
            made.expect("nothing stands in the way");
        })
        .victim("try_get_or_init", |name| {
            let once = open(name);
            mark_start();
            let made = once.try_get_or_init(|| VICTIMS).map(drop);
            mark_end();
            made.expect("nobody is at it");
        })
        .victim("get_or_init_timeout", |name| {
            let once = open(name);
            mark_start();
            let made = once.get_or_init_timeout(PATIENCE, || VICTIMS).map(drop);
            mark_end();
            made.expect("nothing stands in the way");
        })
        .victim("try_get_or_init in vain", |name| {
            let once = open(name);
            mark_start();
            let made = once.try_get_or_init(|| VICTIMS).map(drop);
            mark_end();
            assert_eq!(made, Err(LockFailure::WouldBlock));
        })
        .victim("once get", |name| {
            let once = open(name);
            mark_start();
            let made = once.get().is_some();
            mark_end();
            assert!(!made);
        })
        .victim("init fails", |name| {
            let once = open(name);
            mark_start();
            let failed = once
                .get_or_try_init(|| Err("on purpose"))
                .map(|made| made.is_err());
            mark_end();
            assert_eq!(failed, Ok(true));
        })
        .victim("call_once", |name| {
            let once = Once::open(name).expect("the once");
            mark_start();
            let called = once.call_once(|| ());
            mark_end();
            called.expect("nobody is at it");
        })
}

fn create(name: &str) -> OnceValue<Words> {
    OnceValue::create(name).expect("a new once value")
}

fn open(name: &str) -> OnceValue<Words> {
    OnceValue::open(name).expect("the once value")
}
