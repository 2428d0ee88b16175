//! Numbers: what is added to one is there or not.

use shm_dict::raw::Control;
use shm_dict::{Dict, Raw};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use super::{Dies as _, SHORT, acted, fix_seed, label, small_dict};
use crate::segment::place;

type Numbers = Dict<u64, u64, Raw>;

pub(super) fn cases() -> Vec<Case> {
    let add = |state| Case::new("dict fetch_add", state).checked_by("numbers");
    vec![
        add("no numbers").dies(Outcomes::switch("nothing", "1=3")),
        add("one number")
            .dies_at_every_step(Outcomes::switch("1=7", "1=10"))
            .frozen(
                "numbers add one",
                Outcomes::any(&["added; 1=11", "refused; 1=10"]),
            )
            .frozen_and_killed(
                "numbers add one",
                Outcomes::any(&["added; 1=8", "added; 1=11", "refused; 1=7", "refused; 1=10"]),
            )
            .killed_after("dict fetch_add", Outcomes::rising(&["1=7", "1=10", "1=13"])),
    ]
}

pub(super) fn commands(commands: Commands) -> Commands {
    commands
        .setup("no numbers", |name| drop(create(name)))
        .setup("one number", |name| {
            create(name).set(&1, &7).expect("it has room");
        })
        .victim("dict fetch_add", |name| {
            let numbers = Numbers::open(name).expect("a dictionary");
            mark_start();
            let result = numbers.fetch_add(&1, 3);
            mark_end();
            result.expect("there is room");
        })
        .act("numbers add one", |name| {
            let numbers = Numbers::open(name).expect("a dictionary").within(SHORT);
            acted("added", numbers.fetch_add(&1, 1))
        })
        .check("numbers", check)
}

fn create(name: &str) -> Numbers {
    let numbers = Numbers::create(place(name), small_dict(1)).expect("a new dictionary");
    let segment = numbers.segment();
    fix_seed(&segment.view::<Control>(0).expect("a dictionary").config);
    Numbers::open(name).expect("the dictionary")
}

fn check(name: &str, acted: Option<&str>) -> String {
    let reader = Numbers::open_read_only(name).expect("the dictionary");
    let before = reader.get(&1).expect("nothing is wrong");
    let numbers = Numbers::open(name).expect("the dictionary");
    assert_eq!(numbers.len(), Ok(usize::from(before.is_some())));
    assert_eq!(numbers.get(&1), Ok(before));
    numbers.check().expect("no block is lost or used twice");
    assert_eq!(numbers.fetch_add(&1, 5), Ok(before.unwrap_or_default()));
    assert_eq!(reader.get(&1), Ok(Some(before.unwrap_or_default() + 5)));
    assert_eq!(numbers.remove(&1), Ok(true));
    numbers.check().expect("no block is lost or used twice");
    numbers.unlink().expect("it is there");
    let found = before.map_or("nothing".to_owned(), |number| format!("1={number}"));
    label(acted, &found)
}
