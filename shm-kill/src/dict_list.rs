//! Lists: each has its elements as before the operation or as after it, in their order, and all memory is there.
//!
//! An element is named by its number, which says how long it is too (`value`). A check names them one after the other,
//! `1 20 2`; of those that are [`OF_MORE`] at the end it says how many there are: `20, 6 more`.

use shm_core::sync::Ordering;
use shm_core::{Place, Region};
use shm_dict::raw::{Control, Shard, record_bytes};
use shm_dict::{Bytes, DictError, List};
use shm_lock::Patience;
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Mode, Outcomes, mark_end, mark_start};

use crate::dict::{
    HEAP, SHORT, acted, chunks_of, count_recoveries, label, old_or_new, seen_or_not, small_dict,
};
use crate::segment::{die, place};

pub(crate) type Texts = List<Vec<u8>, Bytes>;

const OF_MORE: u8 = 35;

/// In the word of the element, in one that is changed in place, in records of two sizes.
pub(crate) fn value(number: u8) -> Vec<u8> {
    let len = match number / 10 {
        0 => 4,
        1 => 8,
        2 => 40,
        _ => 300,
    };
    vec![number; len]
}

pub(crate) fn number_of(bytes: &[u8]) -> u8 {
    assert!(bytes == value(bytes[0]), "torn: {bytes:?}");
    bytes[0]
}

// ---- operations and what they make of a list --------------------------------------------------

/// What a victim does, and what it does to a vector of numbers.
struct Operation {
    name: &'static str,
    /// Elements that it needs.
    least: usize,
    perform: fn(&Texts) -> Result<(), DictError>,
    model: fn(&mut Vec<u8>),
}

const fn operation(
    name: &'static str,
    least: usize,
    perform: fn(&Texts) -> Result<(), DictError>,
    model: fn(&mut Vec<u8>),
) -> Operation {
    Operation {
        name,
        least,
        perform,
        model,
    }
}

fn one_more(before: Vec<u8>) -> Vec<u8> {
    value(number_of(&before) + 1)
}

#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    operation("dict list push short", 0, |it| it.push(&value(4)), |it| it.push(4)),
    operation("dict list push", 0, |it| it.push(&value(22)), |it| it.push(22)),
    operation("dict list pop", 0, |it| it.pop().map(drop), |it| it.truncate(it.len().saturating_sub(1))),
    operation("dict list pop_front", 0, |it| it.pop_front().map(drop), |it| drop(it.drain(..it.len().min(1)))),
    operation("dict list set short", 1, |it| it.set(0, &value(5)), |it| it[0] = 5),
    operation("dict list set record", 2, |it| it.set(1, &value(23)), |it| it[1] = 23),
    operation("dict list set in place", 5, |it| it.set(4, &value(11)), |it| it[4] = 11),
    operation("dict list modify", 1, |it| it.modify(0, one_more).map(drop), |it| it[0] += 1),
    operation("dict list insert in front", 0, |it| it.insert(0, &value(24)), |it| it.insert(0, 24)),
    operation("dict list insert", 2, |it| it.insert(1, &value(24)), |it| it.insert(1, 24)),
    operation("dict list remove", 3, |it| it.remove(1), |it| drop(it.drain(1..2))),
    operation("dict list extend", 0, |it| it.extend([6, 25, 12].map(value)), |it| it.extend([6, 25, 12])),
    operation("dict list splice", 3, |it| it.splice(1..3, [value(26)]), |it| drop(it.splice(1..3, [26]))),
    operation("dict list swap", 3, |it| it.swap(0, 2), |it| it.swap(0, 2)),
    operation("dict list reverse", 0, |it| it.reverse(), |it| it.reverse()),
    operation("dict list sort_by_key", 0, |it| it.sort_by_key(|value| value[0]), |it| it.sort()),
    operation("dict list retain", 0, |it| it.retain(|value| value[0] % 2 == 1), |it| it.retain(|it| it % 2 == 1)),
    operation("dict list drain", 0, |it| it.drain().map(drop), |it| it.clear()),
    operation("dict list clear", 0, |it| it.clear(), |it| it.clear()),
];

fn by_name(name: &str) -> &'static Operation {
    let mut operations = OPERATIONS.iter();
    let found = operations.find(|operation| operation.name == name);
    found.expect("the name of an operation")
}

/// Start states of a few elements; the last has no place for one more behind them.
const STATES: [(&str, &[u8]); 4] = [
    ("empty list", &[]),
    ("list of one", &[20]),
    ("list of five", SEVERAL),
    ("full array", &[1, 20, 2, 30, 10, 3, 21]),
];
const SEVERAL: &[u8] = &[1, 20, 2, 30, 10];
/// As [`SEVERAL`], with two places before the first.
const POPPED: &str = "list of five, two popped before";
/// As [`SEVERAL`].
const DEAD: &str = "dead under the list's lock";

fn after(operation: &Operation, numbers: &[u8]) -> String {
    let mut numbers = numbers.to_vec();
    (operation.model)(&mut numbers);
    describe(&numbers)
}

// ---- cases --------------------------------------------------------------------------------------

pub(crate) fn cases() -> Vec<Case> {
    [
        every_state(),
        closely(),
        full_lists(),
        readers(),
        repairs(),
        controls(),
    ]
    .concat()
}

fn list(operation: &str, state: &str) -> Case {
    Case::new(operation, state).checked_by("dict list")
}

/// Each operation in each state that it can work in; others look at it while it stands still.
fn every_state() -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in OPERATIONS {
        let switch = |numbers: &[u8]| old_or_new(&describe(numbers), &after(operation, numbers));
        let able = STATES.iter().filter(|(_, it)| it.len() >= operation.least);
        for (state, numbers) in able {
            let case = list(operation.name, state).at_most(120);
            cases.push(case.mode(Mode::Kill, switch(numbers)));
        }
        let new = after(operation, SEVERAL);
        let five = list(operation.name, "list of five").at_most(40);
        cases.push(five.frozen(
            "dict list read",
            seen_or_not(&describe(SEVERAL), &new, &new),
        ));
        let orphaned = list(operation.name, DEAD).orphaned().at_most(120);
        cases.push(orphaned.mode(Mode::Kill, switch(SEVERAL)));
    }
    cases
}

/// One of each way to commit, at every step: the word of an element, the span, the root; in place.
fn closely() -> Vec<Case> {
    let mut cases = Vec::new();
    let five = describe(SEVERAL);
    for (name, state) in [
        ("dict list push", "list of five"),
        ("dict list pop", "list of five"),
        ("dict list set record", "list of five"),
        ("dict list set in place", "list of five"),
        ("dict list remove", "list of five"),
        ("dict list insert in front", POPPED),
    ] {
        let new = after(by_name(name), SEVERAL);
        let [set, set_new] = [&five, &new].map(|found| format!("pushed; {found} 7"));
        let [refused, refused_new] = [&five, &new].map(|found| format!("refused; {found}"));
        cases.push(
            list(name, state)
                .mode(Mode::Kill, Outcomes::switch(&five, &new))
                .at_most(60)
                .mode(Mode::KillUnreaped, Outcomes::switch(&five, &new))
                // Before the lock is taken, under it, and behind it.
                .frozen_and_killed(
                    "dict list push seven",
                    Outcomes::any(&[&set, &set_new, &refused, &refused_new]),
                ),
        );
    }
    cases
}

/// As many as there is room for: fifteen chunks of twelve, and one of arrays.
const FULL: &str = "20, 168 more";

fn full_lists() -> Vec<Case> {
    let full = |operation| list(operation, "full list").at_most(120);
    vec![
        full("dict list push refused").mode(Mode::Kill, Outcomes::always(FULL)),
        full("dict list pop").mode(Mode::Kill, Outcomes::switch(FULL, "20, 167 more")),
        full("dict list clear")
            .at_most(40)
            .mode(Mode::Kill, Outcomes::switch(FULL, "nothing")),
        // Whole chunks are to be found first.
        list("dict list push", "list of freed blocks")
            .at_most(200)
            .mode(Mode::Kill, Outcomes::switch("20", "20 22")),
    ]
}

fn readers() -> Vec<Case> {
    let five = describe(SEVERAL);
    let mut cases = Vec::new();
    for operation in [
        "dict list get",
        "dict list len",
        "dict list snapshot",
        "dict list check",
    ] {
        let case = list(operation, "list of five").at_most(60);
        cases.push(case.mode(Mode::Kill, Outcomes::always(&five)));
    }
    for operation in ["dict list get", "dict list snapshot"] {
        let case = list(operation, "list of five").at_most(200);
        let churned = Outcomes::always(&format!("churned; {five}"));
        cases.push(case.frozen("dict list churn", churned));
    }
    cases
}

/// First the operation, then the repair, each killed at its steps.
fn repairs() -> Vec<Case> {
    let five = describe(SEVERAL);
    let orphaned = list("dict list repair", DEAD).orphaned();
    let mut cases = vec![orphaned.mode(Mode::Kill, Outcomes::always(&five))];
    for first in [
        "dict list push",
        "dict list pop",
        "dict list set record",
        "dict list splice",
        "dict list clear",
    ] {
        let outcomes = Outcomes::rising(&[&five, &after(by_name(first), SEVERAL)]);
        let case = list("dict list repair", "list of five").at_most(200);
        cases.push(case.killed_after(first, outcomes));
    }
    cases
}

/// What is done in two steps that pretend to be one: between them it is lost.
fn controls() -> Vec<Case> {
    let outcomes = Outcomes::switch(&describe(SEVERAL), "1 23 2 30 10");
    let control = list("dict list remove, then insert", "list of five").at_most(100);
    let between = "outcome \"1 2 30 10\"";
    vec![control.mode(Mode::Kill, outcomes).control(between)]
}

pub(crate) fn commands() -> Commands {
    let commands = acts(setups(Commands::new()));
    reading_victims(victims(commands)).check("dict list", check)
}

// ---- states -------------------------------------------------------------------------------------

fn create(name: &str, numbers: &[u8]) -> Texts {
    let list = Texts::create(place(name), small_dict(1)).expect("a new list");
    for &number in numbers {
        list.push(&value(number)).expect("it has room");
    }
    list
}

fn open(name: &str) -> Texts {
    Texts::open(name).expect("the list")
}

fn setups(commands: Commands) -> Commands {
    STATES
        .iter()
        .fold(commands, |commands, (state, numbers)| {
            commands.setup(state, |name| drop(create(name, numbers)))
        })
        .setup(POPPED, |name| {
            let list = create(name, &[9, 29]);
            let rest = SEVERAL.iter().map(|&number| value(number));
            list.extend(rest).expect("it has room");
            for number in [9, 29] {
                assert_eq!(list.pop_front(), Ok(Some(value(number))));
            }
        })
        .setup("full list", |name| drop(full(name)))
        .setup("list of freed blocks", |name| {
            let list = full(name);
            while list.len().expect("nothing is wrong") > 1 {
                list.pop().expect("nothing stands in the way");
            }
        })
        .setup(DEAD, |name| {
            let list = create(name, SEVERAL);
            let at = size_of::<Control>();
            let shard = list.segment().view::<Shard>(at).expect("a list");
            // SAFETY: the list stays mapped until this process ends; no signal handler.
            unsafe { shard.lock.acquire(Patience::Endless) }.expect("it is free");
            // Of what is written under this lock and never believed again.
            shard.freed.store(7777, Ordering::Relaxed);
            for class in shard.classes.iter() {
                class.free.store(77, Ordering::Relaxed);
                class.bump.store(77, Ordering::Relaxed);
            }
            die();
        })
}

/// No chunk is free, nor any block of those that values of 300 bytes need.
fn full(name: &str) -> Texts {
    let list = create(name, &[20]);
    let mut pushes = std::iter::repeat_with(|| list.push(&value(OF_MORE)));
    let stop = pushes.try_for_each(|pushed| pushed);
    assert!(stop.is_err_and(|error| error.is_full()));
    list
}

// ---- others -------------------------------------------------------------------------------------

fn acts(commands: Commands) -> Commands {
    commands
        .act("dict list read", |name| {
            let list = Texts::open_read_only(name).expect("the list");
            describe(&numbers(&list))
        })
        .act("dict list push seven", |name| {
            acted("pushed", open(name).within(SHORT).push(&value(7)))
        })
        // What a reader may be copying is cut off, given out again, and written over.
        .act("dict list churn", |name| {
            let list = open(name);
            let before = list.snapshot().expect("nothing is wrong");
            for number in [27, 9, 36, 12] {
                list.set(0, &value(number)).expect("it has room");
                list.extend([28, 37, 8, 29].map(value))
                    .expect("it has room");
                list.reverse().expect("it has room");
                list.pop_front().expect("nothing stands in the way");
                list.push(&value(number)).expect("it has room");
            }
            list.splice(.., before).expect("it has room");
            "churned"
        })
}

// ---- victims ------------------------------------------------------------------------------------

fn victims(commands: Commands) -> Commands {
    OPERATIONS.iter().fold(commands, |commands, operation| {
        commands.victim(operation.name, |name| {
            let list = open(name);
            mark_start();
            let result = (operation.perform)(&list);
            mark_end();
            result.expect("nothing stands in the way");
        })
    })
}

fn reading_victims(commands: Commands) -> Commands {
    macro_rules! victims {
        ($commands:expr; $($operation:literal: |$list:ident| $perform:expr;)*) => {
            $commands$(.victim($operation, |name| {
                let $list = open(name);
                mark_start();
                let result = $perform;
                mark_end();
                let _ = result.expect("nothing stands in the way");
            }))*
        };
    }
    let commands = commands.victim("dict list push refused", |name| {
        let list = open(name);
        mark_start();
        let result = list.push(&value(OF_MORE));
        mark_end();
        assert!(result.is_err_and(|error| error.is_full()));
    });
    victims! { commands;
        "dict list get": |list| list.get(1).map(|value| number_of(&value.expect("it is there")));
        "dict list len": |list| list.len();
        "dict list snapshot": |list| {
            list.snapshot().map(|all| all.iter().map(|value| number_of(value)).max())
        };
        "dict list check": |list| list.check();
        "dict list repair": |list| list.repair();
        "dict list remove, then insert": |list| {
            list.remove(1).and_then(|()| list.insert(1, &value(23)))
        };
    }
}

// ---- checks -------------------------------------------------------------------------------------

/// All elements, each and as a whole.
fn numbers(list: &Texts) -> Vec<u8> {
    let all = list.snapshot().expect("nothing is wrong");
    assert_eq!(list.len(), Ok(all.len()));
    for (index, value) in all.iter().enumerate() {
        assert_eq!(list.get(index), Ok(Some(value.clone())));
    }
    assert_eq!(list.get(all.len()), Ok(None));
    all.iter().map(|value| number_of(value)).collect()
}

pub(crate) fn describe(numbers: &[u8]) -> String {
    let more = numbers
        .iter()
        .rev()
        .take_while(|it| **it == OF_MORE)
        .count();
    let few: Vec<String> = numbers[..numbers.len() - more]
        .iter()
        .map(u8::to_string)
        .collect();
    let few = match few.is_empty() {
        true => "nothing".to_owned(),
        false => few.join(" "),
    };
    match more {
        0 => few,
        more => format!("{few}, {more} more"),
    }
}

/// Names all elements, and sees that readers had them before the repair, and that no memory is lost.
fn check(name: &str, acted: Option<&str>) -> String {
    let reader = Texts::open_read_only(name).expect("the list");
    let before = numbers(&reader);
    assert_eq!(reader.pop(), Err(DictError::ReadOnly));
    let list = open(name);
    let (repaired, told) = count_recoveries(true);
    list.on_recovery(told);
    list.repair().expect("nothing stands in the way");
    assert_eq!(numbers(&list), before, "a repair has changed it");
    all_memory_is_known(&list, &before, repaired.load(Ordering::Relaxed) > 0);
    use_again(&list, &before);
    assert_eq!(numbers(&reader), before);
    all_memory_is_usable(&list);
    list.unlink().expect("it is there");
    label(acted, &describe(&before))
}

/// Each block is an element's, the array's, or free; and behind a repair no chunk is held for nothing.
fn all_memory_is_known(list: &Texts, numbers: &[u8], repaired: bool) {
    let stats = list.check().expect("no block is lost or used twice");
    let lens = || numbers.iter().map(|&number| value(number).len());
    assert_eq!(stats.payload, lens().sum::<usize>() as u64);
    assert_eq!(stats.used_bytes + stats.free_bytes, HEAP);
    if repaired && numbers.len() < 20 {
        let array = 8 * list.inspect().shards[0].places as usize;
        let records = lens()
            .filter(|&len| len > 7)
            .map(|len| record_bytes(0, len));
        let held = chunks_of(records.chain((array > 0).then_some(array))) << 12;
        assert_eq!(stats.used_bytes, held, "{numbers:?}");
    }
}

/// Every operation works, and in the end everything is as it was.
fn use_again(list: &Texts, before: &[u8]) {
    if before.len() > 100 {
        match list.push(&value(OF_MORE)) {
            Ok(()) => assert_eq!(list.pop(), Ok(Some(value(OF_MORE)))),
            Err(error) => assert!(error.is_full(), "{error}"),
        }
    } else {
        list.extend([38, 28].map(value)).expect("there is room");
        list.insert(0, &value(8)).expect("there is room");
        assert_eq!(list.modify(0, one_more), Ok(value(9)));
        list.swap(0, before.len() + 1).expect("there is room");
        list.set(0, &value(18)).expect("there is room");
        assert_eq!(list.get(before.len() + 1), Ok(Some(value(9))));
        assert_eq!(list.pop_front(), Ok(Some(value(18))));
        assert_eq!(list.pop(), Ok(Some(value(28))));
        list.remove(before.len()).expect("it is there");
    }
    list.check().expect("no block is lost or used twice");
    assert_eq!(numbers(list), before);
}

/// Emptied, it has room for as much as a new one.
fn all_memory_is_usable(list: &Texts) {
    list.clear().expect("nothing stands in the way");
    let stats = list.check().expect("no block is lost or used twice");
    assert_eq!(stats.payload, 0);
    let place = Place::region(Region::heap(2 * HEAP as usize));
    let fresh = Texts::create(place, small_dict(1)).expect("a new list");
    let large = |list: &Texts| {
        let push = |_: &usize| list.push(&vec![1; 4080]).is_ok();
        (0..100).take_while(push).count()
    };
    // One chunk is the array's.
    assert_eq!((large(list), large(&fresh)), (15, 15), "of a chunk each");
    list.check().expect("no block is lost or used twice");
}
