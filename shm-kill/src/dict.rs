//! Dictionaries: each entry is as before the operation or as after it, whole, and all memory is there.
//!
//! A value is named by its number, which says how long it is too (`value`). A check names the entries in the order
//! of their keys, `1=10 4=30`; of the keys from 100 on it says how many there are: `1=10, 6 more`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use shm_core::sync::Ordering;
use shm_core::{Place, Region};
use shm_dict::raw::{Control, Shard, class_of, record_bytes};
use shm_dict::{Bytes, Dict, DictError, Options, Raw, Recovery};
use shm_lock::Patience;
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Mode, Outcomes, mark_end, mark_start};

use crate::segment::{A_WHILE, die, place, warm_up};

type Values = Dict<u64, Vec<u8>, Bytes>;
type Numbers = Dict<u64, u64, Raw>;

/// Those wait so long whom a victim that stands still may keep waiting.
pub(crate) const SHORT: Duration = Duration::from_millis(20);
/// Sixteen chunks of 4 KiB.
pub(crate) const HEAP: u64 = 64 << 10;
pub(crate) const CHUNK_SHIFT: u32 = 12;
/// The keys that a check looks for.
const KEYS: std::ops::Range<u64> = 0..300;
/// From here on keys are counted, and all have this value.
const MORE: u64 = 100;
const OF_MORE: u8 = 20;
/// So that each victim goes the same way, and keys collide: of 1 to 12 more than eight begin in one of two buckets.
const SEED: u64 = 16;

pub(crate) fn small_dict(shards: u32) -> Options {
    Options::new().max_bytes(HEAP).shards(shards)
}

fn value(number: u8) -> Vec<u8> {
    let len = match number / 10 {
        0 => 8,
        1 => 40,
        2 => 300,
        // Two chunks.
        _ => 4080,
    };
    vec![number; len]
}

fn number_of(bytes: &[u8]) -> u8 {
    assert!(bytes == value(bytes[0]), "torn: {bytes:?}");
    bytes[0]
}

pub(crate) fn cases() -> Vec<Case> {
    [
        sets(),
        replacements(),
        removals(),
        computations(),
        whole_dicts(),
        readers(),
        after_deaths(),
        numbers(),
        controls(),
    ]
    .concat()
}

fn dict(operation: &str, state: &str) -> Case {
    Case::new(operation, state).checked_by("dict")
}

/// How a victim dies: a full run visits so many steps that every line has its turn, or all of them; for corpses
/// that nobody reaps, and for what is added behind, fewer.
trait Dies {
    fn dies(self, outcomes: Outcomes) -> Self;
    fn dies_at_every_step(self, outcomes: Outcomes) -> Self;
}

impl Dies for Case {
    fn dies(self, outcomes: Outcomes) -> Self {
        self.at_most(1000).dies_at_every_step(outcomes)
    }

    fn dies_at_every_step(self, outcomes: Outcomes) -> Self {
        self.mode(Mode::Kill, outcomes.clone())
            .at_most(150)
            .mode(Mode::KillUnreaped, outcomes)
    }
}

/// Twelve in two buckets, one of which is full and goes on in the other.
const CHAIN: &str = "1=10 2=10 3=10 4=10 5=10 6=10 7=10 8=10 9=10 10=10 11=10 12=10";
/// The same without 4, which left a tombstone.
const HOLE: &str = "1=10 2=10 3=10 5=10 6=10 7=10 8=10 9=10 10=10 11=10 12=10";
const THREE: &str = "1=10 2=10 3=10";

fn with_four(others: &str) -> String {
    format!("{others} 4=10")
}

fn sets() -> Vec<Case> {
    let three_and_four = with_four(THREE);
    let set = |state| dict("dict set new", state);
    vec![
        set("empty dict").dies_at_every_step(Outcomes::switch("nothing", "4=10")),
        set("dict of one")
            .dies_at_every_step(Outcomes::switch("1=10", "1=10 4=10"))
            .frozen("dict read", seen_or_not("1=10", "1=10 4=10", "1=10 4=10"))
            .frozen(
                "dict set five",
                Outcomes::any(&["set; 1=10 4=10 5=10", "refused; 1=10 4=10"]),
            )
            .frozen_and_killed(
                "dict set five",
                Outcomes::any(&[
                    "set; 1=10 5=10",
                    "set; 1=10 4=10 5=10",
                    "refused; 1=10",
                    "refused; 1=10 4=10",
                ]),
            )
            .killed_under_waiter(
                "dict set five patiently",
                Outcomes::rising(&["set; 1=10 5=10", "set; 1=10 4=10 5=10"]),
            ),
        // Whoever was not told is by the next change.
        set("dict of one")
            .with_sleeper("dict wait")
            .dies(Outcomes::switch("1=10; woken", "1=10 4=10; woken")),
        set("three in a bucket").dies(Outcomes::switch(THREE, &three_and_four)),
        set("tombstone in a chain").dies_at_every_step(Outcomes::switch(HOLE, CHAIN)),
        set("growth due")
            .dies_at_every_step(Outcomes::switch("1=10, 5 more", "1=10 4=10, 5 more"))
            .frozen(
                "dict read",
                seen_or_not("1=10, 5 more", "1=10 4=10, 5 more", "1=10 4=10, 5 more"),
            ),
        set("heap of freed blocks").dies(Outcomes::switch("1=20", "1=20 4=10")),
        dict("dict set large", "heap of freed blocks").dies(Outcomes::switch("1=20", "1=20 4=30")),
        dict("dict set refused", "full dict").dies(Outcomes::always(FULL)),
        set("cleared dict").dies(Outcomes::switch("nothing", "4=10")),
        set("two shards").dies(Outcomes::switch("1=10, 7 more", "1=10 4=10, 7 more")),
        dict("dict set large", "dict of one").dies(Outcomes::switch("1=10", "1=10 4=30")),
    ]
}

/// What a reader saw while the victim stood still, and what is there in the end: all or nothing of a change.
pub(crate) fn seen_or_not(old: &str, new: &str, end: &str) -> Outcomes {
    let [first, second] = [old, new].map(|seen| format!("{seen}; {end}"));
    match first == second {
        true => Outcomes::always(&first),
        false => Outcomes::rising(&[&first, &second]),
    }
}

/// All or nothing of a change, which in some states is none.
pub(crate) fn old_or_new(old: &str, new: &str) -> Outcomes {
    match old == new {
        true => Outcomes::always(old),
        false => Outcomes::switch(old, new),
    }
}

const FULL: &str = "1=20, 164 more";

fn replacements() -> Vec<Case> {
    vec![
        dict("dict set longer", "dict of one")
            .dies_at_every_step(Outcomes::switch("1=10", "1=20"))
            .frozen("dict read", seen_or_not("1=10", "1=20", "1=20")),
        dict("dict set longer", "three in a bucket")
            .dies(Outcomes::switch(THREE, "1=20 2=10 3=10")),
        dict("dict set longer", "tombstone in a chain")
            .dies(Outcomes::switch(HOLE, &HOLE.replacen("1=10", "1=20", 1))),
        dict("dict set longer", "growth due")
            .dies(Outcomes::switch("1=10, 5 more", "1=20, 5 more")),
        dict("dict replace refused", "full dict").dies(Outcomes::always(FULL)),
        dict("dict set in place", "dict of a word")
            .dies_at_every_step(Outcomes::switch("1=1", "1=2"))
            .frozen("dict read", seen_or_not("1=1", "1=2", "1=2")),
        dict("dict set larger", "dict of one large").dies(Outcomes::switch("1=30", "1=31")),
        dict("dict set longer", "dict of one large").dies(Outcomes::switch("1=30", "1=20")),
        dict("dict insert", "three in a bucket").dies(Outcomes::switch(THREE, "1=20 2=10 3=10")),
        dict("dict set if version", "dict of one").dies(Outcomes::switch("1=10", "1=20")),
        dict("dict compare and swap", "dict of one").dies(Outcomes::switch("1=10", "1=20")),
    ]
}

fn removals() -> Vec<Case> {
    vec![
        dict("dict remove", "dict of one")
            .dies_at_every_step(Outcomes::switch("1=10", "nothing"))
            .frozen("dict read", seen_or_not("1=10", "nothing", "nothing"))
            .frozen_and_killed(
                "dict set five",
                Outcomes::any(&[
                    "set; 1=10 5=10",
                    "set; 5=10",
                    "refused; 1=10",
                    "refused; nothing",
                ]),
            ),
        dict("dict remove", "three in a bucket").dies(Outcomes::switch(THREE, "2=10 3=10")),
        dict("dict remove four", "chain of buckets")
            .dies_at_every_step(Outcomes::switch(CHAIN, HOLE)),
        dict("dict remove", "tombstone in a chain")
            .dies(Outcomes::switch(HOLE, HOLE.trim_start_matches("1=10 "))),
        dict("dict remove", "growth due").dies(Outcomes::switch("1=10, 5 more", "5 more")),
        dict("dict remove", "full dict").dies(Outcomes::switch(FULL, "164 more")),
        dict("dict remove", "dict of one large").dies(Outcomes::switch("1=30", "nothing")),
        dict("dict pop", "three in a bucket").dies(Outcomes::switch(THREE, "2=10 3=10")),
        dict("dict popitem", "dict of one").dies(Outcomes::switch("1=10", "nothing")),
        dict("dict modify to nothing", "three in a bucket")
            .dies(Outcomes::switch(THREE, "2=10 3=10")),
        // In the order of the table.
        dict("dict retain", "three in a bucket").dies(Outcomes::phases(&[
            THREE,
            "2=10 3=10",
            "2=10",
        ])),
    ]
}

fn computations() -> Vec<Case> {
    let modify = |state| dict("dict modify", state);
    vec![
        modify("dict of one")
            .dies_at_every_step(Outcomes::switch("1=10", "1=11"))
            .frozen_and_killed(
                "dict modify",
                Outcomes::any(&[
                    "modified; 1=11",
                    "modified; 1=12",
                    "refused; 1=10",
                    "refused; 1=11",
                ]),
            )
            .frozen(
                "dict modify",
                Outcomes::any(&["modified; 1=12", "refused; 1=11"]),
            ),
        modify("dict of a word").dies(Outcomes::switch("1=1", "1=2")),
        modify("growth due").dies(Outcomes::switch("1=10, 5 more", "1=11, 5 more")),
        modify("three in a bucket").dies(Outcomes::switch(THREE, "1=11 2=10 3=10")),
        modify("tombstone in a chain")
            .dies(Outcomes::switch(HOLE, &HOLE.replacen("1=10", "1=11", 1))),
        modify("dead under the lock")
            .orphaned()
            .dies(Outcomes::switch(THREE, "1=11 2=10 3=10")),
        dict("dict modify nothing", "empty dict").dies(Outcomes::switch("nothing", "4=10")),
        dict("dict modify nothing", "growth due")
            .dies(Outcomes::switch("1=10, 5 more", "1=10 4=10, 5 more")),
        dict("dict modify nothing", "tombstone in a chain").dies(Outcomes::switch(HOLE, CHAIN)),
        dict("dict modify refused", "full dict").dies(Outcomes::always(FULL)),
        dict("dict setdefault", "dict of one").dies(Outcomes::always("1=10")),
        dict("dict setdefault", "empty dict").dies(Outcomes::switch("nothing", "1=20")),
        dict("dict entry", "dict of one").dies(Outcomes::switch("1=10", "1=20")),
        dict("dict lock and two sets", "dict of one")
            .dies_at_every_step(Outcomes::phases(&["1=10", "1=20", "1=20 4=10"]))
            .frozen_and_killed(
                "dict set five",
                Outcomes::any(&[
                    "set; 1=10 5=10",
                    "set; 1=20 4=10 5=10",
                    "refused; 1=10",
                    "refused; 1=20",
                    "refused; 1=20 4=10",
                ]),
            ),
        dict("dict lock and two sets", "two shards").dies(Outcomes::phases(&[
            "1=10, 7 more",
            "1=20, 7 more",
            "1=20 4=10, 7 more",
        ])),
        dict("dict update", "dict of one").dies(Outcomes::phases(&["1=10", "1=20", "1=20 4=10"])),
    ]
}

fn whole_dicts() -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in ["dict clear", "dict drain"] {
        cases.extend([
            dict(operation, "three in a bucket")
                .dies(Outcomes::switch(THREE, "nothing"))
                .frozen("dict read", seen_or_not(THREE, "nothing", "nothing")),
            dict(operation, "two shards")
                .dies_at_every_step(Outcomes::switch("1=10, 7 more", "nothing"))
                .frozen(
                    "dict read",
                    seen_or_not("1=10, 7 more", "nothing", "nothing"),
                )
                .frozen_and_killed(
                    "dict set five",
                    Outcomes::any(&[
                        "set; 1=10 5=10, 7 more",
                        "set; 5=10",
                        "refused; 1=10, 7 more",
                        "refused; nothing",
                    ]),
                ),
            dict(operation, "tombstone in a chain").dies(Outcomes::switch(HOLE, "nothing")),
            dict(operation, "empty dict").dies(Outcomes::always("nothing")),
            dict(operation, "dict of one").dies(Outcomes::switch("1=10", "nothing")),
            dict(operation, "growth due").dies(Outcomes::switch("1=10, 5 more", "nothing")),
        ]);
    }
    cases.extend([
        dict("dict clear", "full dict").dies(Outcomes::switch(FULL, "nothing")),
        dict("dict clear", "cleared dict").dies(Outcomes::always("nothing")),
        dict("dict trim", "heap of freed blocks").dies(Outcomes::always("1=20")),
        dict("create dict", "no dict").dies(Outcomes::switch("absent", "nothing")),
        dict("open or create dict", "no dict").dies(Outcomes::switch("absent", "nothing")),
        dict("open or create dict", "dict of one").dies(Outcomes::always("1=10")),
        dict("open dict", "dict of one").dies(Outcomes::always("1=10")),
        dict("open dict", "dead under the lock")
            .orphaned()
            .dies(Outcomes::always(THREE)),
    ]);
    cases
}

/// Nothing that looks changes anything, and a reader that stood still believes nothing that was written meanwhile.
fn readers() -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in [
        "dict get",
        "dict items",
        "dict len",
        "dict check",
        "dict with",
    ] {
        cases.push(dict(operation, "three in a bucket").dies(Outcomes::always(THREE)));
    }
    let churned = |others: &str| Outcomes::always(&format!("churned; 1=21{others}"));
    cases.extend([
        dict("dict get", "dict of one").frozen("dict churn", churned("")),
        dict("dict get", "dict of one large")
            .at_most(400)
            .frozen("dict churn", churned("")),
        dict("dict items", "dict of one medium").frozen("dict churn", churned("")),
        dict("dict get", "growth due").frozen("dict churn", churned(", 5 more")),
        dict("dict give up waiting", "dict of one")
            .gives_up()
            .dies(Outcomes::always("1=10")),
        dict("dict get", "tombstone in a chain").dies(Outcomes::always(HOLE)),
    ]);
    cases
}

/// Who follows a dead one and dies itself.
fn after_deaths() -> Vec<Case> {
    let dead = "dead under the lock";
    let orphaned = |operation| dict(operation, dead).orphaned();
    let mut cases = vec![
        orphaned("dict set new").dies(Outcomes::switch(THREE, &with_four(THREE))),
        orphaned("dict set longer").dies(Outcomes::switch(THREE, "1=20 2=10 3=10")),
        orphaned("dict remove").dies(Outcomes::switch(THREE, "2=10 3=10")),
        orphaned("dict clear").dies(Outcomes::switch(THREE, "nothing")),
        orphaned("dict get").dies(Outcomes::always(THREE)),
        orphaned("dict len")
            .dies_at_every_step(Outcomes::always(THREE))
            .frozen("dict read", Outcomes::always(&format!("{THREE}; {THREE}")))
            .frozen_and_killed(
                "dict set five",
                Outcomes::any(&[&format!("set; {THREE} 5=10"), &format!("refused; {THREE}")]),
            ),
        dict("dict len", "dead in a clearing")
            .orphaned()
            .dies(Outcomes::always("nothing")),
        dict("dict set new", "dead in a clearing")
            .orphaned()
            .dies(Outcomes::switch("nothing", "4=10")),
    ];
    // First the operation, then the repair, each killed at its steps.
    let repairs = [
        (
            "dict set new",
            "three in a bucket",
            THREE,
            "1=10 2=10 3=10 4=10",
        ),
        (
            "dict set new",
            "growth due",
            "1=10, 5 more",
            "1=10 4=10, 5 more",
        ),
        (
            "dict set longer",
            "three in a bucket",
            THREE,
            "1=20 2=10 3=10",
        ),
        ("dict remove four", "chain of buckets", CHAIN, HOLE),
        ("dict set large", "dict of one", "1=10", "1=10 4=30"),
        ("dict clear", "two shards", "1=10, 7 more", "nothing"),
    ];
    for (first, state, old, new) in repairs {
        cases.push(
            dict("dict len", state)
                .at_most(500)
                .killed_after(first, Outcomes::rising(&[old, new])),
        );
    }
    cases
}

fn numbers() -> Vec<Case> {
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

/// What is done in two steps that pretend to be one: between them it is lost, or there twice.
fn controls() -> Vec<Case> {
    let control = |operation, new, between| {
        dict(operation, "dict of one")
            .at_most(100)
            .killed(Outcomes::switch("1=10", new))
            .control(between)
    };
    vec![
        control("dict remove, then set", "1=20", "outcome \"nothing\""),
        control("dict set, then remove", "4=10", "outcome \"1=10 4=10\""),
    ]
}

pub(crate) fn commands() -> Commands {
    let commands = acts(setups(Commands::new()));
    let commands = reading_victims(whole_dict_victims(victims(commands)));
    commands
        .check("dict", check)
        .check("numbers", check_numbers)
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
}

// ---- states -------------------------------------------------------------------------------------

/// A new dictionary with keys whose hashes are the same each time.
fn create(name: &str, shards: u32, entries: &[(u64, u8)]) -> Values {
    let dict = Values::create(place(name), small_dict(shards)).expect("a new dictionary");
    fix_seed(
        &dict
            .segment()
            .view::<Control>(0)
            .expect("a dictionary")
            .config,
    );
    let dict = open(name);
    for &(key, number) in entries {
        dict.set(&key, &value(number)).expect("it has room");
    }
    dict
}

pub(crate) fn fix_seed(config: &[shm_core::sync::AtomicU64; 16]) {
    // Relaxed: nobody else is here.
    config[4].store(SEED, Ordering::Relaxed);
    config[5].store(SEED, Ordering::Relaxed);
}

fn open(name: &str) -> Values {
    Values::open(name).expect("the dictionary")
}

fn shard(dict: &Values, index: usize) -> &Shard {
    let at = size_of::<Control>() + index * size_of::<Shard>();
    dict.segment().view::<Shard>(at).expect("a dictionary")
}

fn more(count: u64) -> impl Iterator<Item = (u64, u8)> {
    (MORE..MORE + count).map(|key| (key, OF_MORE))
}

fn create_with_more(name: &str, shards: u32, count: u64) -> Values {
    let entries: Vec<_> = [(1, 10)].into_iter().chain(more(count)).collect();
    create(name, shards, &entries)
}

fn setups(commands: Commands) -> Commands {
    let made_of = |commands: Commands, state, entries: &'static [(u64, u8)]| {
        commands.setup(state, move |name| drop(create(name, 1, entries)))
    };
    let commands = made_of(commands, "empty dict", &[]);
    let commands = made_of(commands, "dict of one", &[(1, 10)]);
    let commands = made_of(commands, "dict of a word", &[(1, 1)]);
    let commands = made_of(commands, "dict of one medium", &[(1, 20)]);
    let commands = made_of(commands, "dict of one large", &[(1, 30)]);
    let commands = made_of(commands, "three in a bucket", &[(1, 10), (2, 10), (3, 10)]);
    setups_of_the_dead(commands)
        .setup("no dict", |_| {})
        .setup("growth due", |name| {
            let dict = create_with_more(name, 1, 5);
            assert_eq!(
                dict.inspect().shards[0].places,
                8,
                "six fill a bucket of eight"
            );
        })
        .setup("two shards", |name| {
            let dict = create_with_more(name, 2, 7);
            let is_used = |shard: &shm_dict::ShardInspection| shard.entries > 0;
            assert!(dict.inspect().shards.iter().all(is_used));
        })
        .setup("chain of buckets", |name| drop(chain(name)))
        .setup("tombstone in a chain", |name| {
            let dict = chain(name);
            assert_eq!(dict.remove(&4), Ok(true));
            let tombstones = shard(&dict, 0).tombstones.load(Ordering::Relaxed);
            assert_eq!(tombstones, 1, "its bucket was full");
        })
        .setup("full dict", |name| drop(full(name)))
        .setup("heap of freed blocks", |name| {
            let dict = full(name);
            for (key, _) in more(KEYS.end - MORE) {
                dict.remove(&key).expect("nothing stands in the way");
            }
        })
        .setup("cleared dict", |name| {
            let dict = create(name, 1, &[(1, 10), (2, 30)]);
            dict.clear().expect("nothing stands in the way");
        })
        .setup("no numbers", |name| drop(create_numbers(name)))
        .setup("one number", |name| {
            create_numbers(name).set(&1, &7).expect("it has room");
        })
}

fn create_numbers(name: &str) -> Numbers {
    let numbers = Numbers::create(place(name), small_dict(1)).expect("a new dictionary");
    let segment = numbers.segment();
    fix_seed(&segment.view::<Control>(0).expect("a dictionary").config);
    Numbers::open(name).expect("the dictionary")
}

/// See [`CHAIN`].
fn chain(name: &str) -> Values {
    let dict = create(name, 1, &[]);
    for key in 1..=12 {
        dict.set(&key, &value(10)).expect("it has room");
    }
    assert_eq!(dict.inspect().shards[0].places, 16);
    dict
}

/// No chunk is free, nor any block of those that values of 40 bytes or more need.
fn full(name: &str) -> Values {
    let dict = create(name, 1, &[(1, 20)]);
    let mut entries = more(KEYS.end - MORE);
    let stop = entries.try_for_each(|(key, number)| dict.set(&key, &value(number)));
    assert!(stop.is_err_and(|error| error.is_full()));
    dict
}

fn setups_of_the_dead(commands: Commands) -> Commands {
    commands
        .setup("dead under the lock", |name| {
            let dict = create(name, 1, &[(1, 10), (2, 10), (3, 10)]);
            let shard = shard(&dict, 0);
            // SAFETY: the dictionary stays mapped until this process ends; no signal handler.
            unsafe { shard.lock.acquire(Patience::Endless) }.expect("it is free");
            // Of what is written under this lock and never believed again.
            for cache in [&shard.count, &shard.tombstones, &shard.freed] {
                cache.store(7777, Ordering::Relaxed);
            }
            for class in shard.classes.iter() {
                class.free.store(77, Ordering::Relaxed);
                class.bump.store(77, Ordering::Relaxed);
            }
            die();
        })
        .setup("dead in a clearing", |name| {
            let dict = create(name, 1, &[(1, 10), (2, 10), (3, 10)]);
            // SAFETY: as above.
            unsafe { shard(&dict, 0).lock.acquire(Patience::Endless) }.expect("it is free");
            let control = dict.segment().view::<Control>(0).expect("a dictionary");
            control.epoch.fetch_add(1, Ordering::Release);
            die();
        })
}

// ---- others -------------------------------------------------------------------------------------

pub(crate) fn acted<T>(done: &str, result: Result<T, DictError>) -> String {
    match result {
        Ok(_) => done.to_owned(),
        Err(DictError::Timeout) => "refused".to_owned(),
        Err(other) => panic!("{other}"),
    }
}

fn acts(commands: Commands) -> Commands {
    let set_five =
        |name: &str, patience| acted("set", open(name).within(patience).set(&5, &value(10)));
    commands
        .act("dict read", |name| {
            let dict = Values::open_read_only(name).expect("the dictionary");
            describe(&entries(&dict))
        })
        .act("dict set five", move |name| set_five(name, SHORT))
        .act("dict set five patiently", move |name| {
            set_five(name, 500 * SHORT)
        })
        .act("dict wait", |name| {
            let dict = open(name);
            let changed = dict.wait_for_change(dict.version());
            changed.expect("nothing stands in the way");
            "woken"
        })
        .act("dict modify", |name| {
            let dict = open(name).within(SHORT);
            acted("modified", dict.modify(&1, next_value))
        })
        // What a reader may be copying is cut off, given out again, and written over.
        .act("dict churn", |name| {
            let dict = open(name);
            for round in 0..4 {
                for number in [10, 20, 30, 21] {
                    dict.set(&1, &value(number)).expect("it has room");
                    dict.set(&50, &value(number + 5)).expect("it has room");
                    dict.set(&51, &value(number + 6)).expect("it has room");
                }
                for key in 60..60 + 4 * round {
                    dict.set(&key, &value(17)).expect("it has room");
                }
                for key in 50..80 {
                    dict.remove(&key).expect("nothing stands in the way");
                }
            }
            "churned"
        })
}

fn next_value(value_before: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let number = number_of(&value_before.expect("it is there"));
    Some(value(number + 1))
}

// ---- victims ------------------------------------------------------------------------------------

fn victims(commands: Commands) -> Commands {
    macro_rules! victims {
        ($commands:expr; $($operation:literal: |$dict:ident| $perform:expr;)*) => {
            $commands$(.victim($operation, |name| {
                let $dict = open(name);
                mark_start();
                let result = $perform;
                mark_end();
                let _ = result.expect("nothing stands in the way");
            }))*
        };
    }
    victims! { commands;
        "dict set new": |dict| dict.set(&4, &value(10));
        "dict set large": |dict| dict.set(&4, &value(30));
        "dict set longer": |dict| dict.set(&1, &value(20));
        "dict set in place": |dict| dict.set(&1, &value(2));
        "dict set larger": |dict| dict.set(&1, &value(31));
        "dict insert": |dict| dict.insert(&1, &value(20));
        "dict compare and swap": |dict| {
            dict.compare_and_swap(&1, Some(&value(10)), Some(&value(20)))
        };
        "dict remove": |dict| dict.remove(&1);
        "dict remove four": |dict| dict.remove(&4);
        "dict pop": |dict| dict.pop(&1);
        "dict popitem": |dict| dict.popitem();
        "dict modify": |dict| dict.modify(&1, next_value);
        "dict modify nothing": |dict| dict.modify(&4, |before| {
            assert_eq!(before, None);
            Some(value(10))
        });
        "dict modify to nothing": |dict| dict.modify(&1, |_| None);
        "dict retain": |dict| dict.retain(|key, _| *key == 2);
        "dict setdefault": |dict| dict.setdefault(&1, value(20));
        "dict entry": |dict| {
            dict.entry(&1).and_modify(|it| *it = value(20)).or_insert(value(10))
        };
        "dict update": |dict| dict.update([(&1, &value(20)), (&4, &value(10))]);
        "dict remove, then set": |dict| {
            dict.remove(&1).and_then(|_| dict.set(&1, &value(20)))
        };
        "dict set, then remove": |dict| {
            dict.set(&4, &value(10)).and_then(|()| dict.remove(&1))
        };
        "dict len": |dict| dict.len();
        "dict check": |dict| dict.check();
        "dict with": |dict| dict.with(&1, |bytes| bytes.len());
        "dict clear": |dict| dict.clear();
        "dict drain": |dict| dict.drain();
    }
}

fn whole_dict_victims(commands: Commands) -> Commands {
    commands
        .victim("dict set refused", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.set(&4, &value(20));
            mark_end();
            assert!(result.is_err_and(|error| error.is_full()));
        })
        .victim("dict replace refused", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.set(&1, &value(21));
            mark_end();
            assert!(result.is_err_and(|error| error.is_full()));
        })
        .victim("dict modify refused", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.modify(&1, next_value);
            mark_end();
            assert!(result.is_err_and(|error| error.is_full()));
        })
        .victim("dict set if version", |name| {
            let dict = open(name);
            let seen = dict.get_versioned(&1).expect("nothing stands in the way");
            let (_, version) = seen.expect("it is there");
            mark_start();
            let result = dict.set_if_version(&1, &value(20), version);
            mark_end();
            assert_eq!(result, Ok(true));
        })
        .victim("dict lock and two sets", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.lock().and_then(|mut all| {
                all.set(&1, &value(20))?;
                all.set(&4, &value(10))
            });
            mark_end();
            result.expect("there is room");
        })
        .victim("dict trim", |name| {
            let mut dict = open(name);
            mark_start();
            let result = dict.trim();
            mark_end();
            assert!(result.expect("nobody else is attached") > 0);
        })
        .victim("create dict", |name| {
            warm_up();
            mark_start();
            let result = Values::create(place(name), small_dict(1));
            mark_end();
            result.expect("a new dictionary");
        })
        .victim("open or create dict", |name| {
            warm_up();
            mark_start();
            let result = Values::open_or_create(place(name), small_dict(1));
            mark_end();
            result.expect("one of the two");
        })
        .victim("open dict", |name| {
            warm_up();
            mark_start();
            let result = Values::open(name);
            mark_end();
            result.expect("it is there");
        })
}

fn reading_victims(commands: Commands) -> Commands {
    commands
        .victim("dict get", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.get(&1);
            mark_end();
            number_of(&result.expect("nothing is wrong").expect("it is there"));
        })
        .victim("dict items", |name| {
            let dict = open(name);
            mark_start();
            let result: Result<Vec<_>, _> = dict.items().collect();
            mark_end();
            let items = result.expect("nothing is wrong");
            assert!(items.iter().any(|(key, _)| *key == 1));
            let whole = |(_, value): &(u64, Vec<u8>)| number_of(value) > 0;
            assert!(items.iter().all(whole));
        })
        .victim("dict give up waiting", |name| {
            let dict = open(name);
            let version = dict.version();
            mark_start();
            let result = dict.wait_for_change_timeout(version, A_WHILE);
            mark_end();
            assert_eq!(result, Err(DictError::Timeout));
        })
}

// ---- checks -------------------------------------------------------------------------------------

type Entries = BTreeMap<u64, u8>;

/// All entries, by key and by going through them.
fn entries(dict: &Values) -> Entries {
    let number = |key| {
        let value = dict.get(&key).expect("nothing is wrong");
        value.map(|value| (key, number_of(&value)))
    };
    KEYS.filter_map(number).collect()
}

fn items(dict: &Values) -> Entries {
    let items = dict.items().map(|item| item.expect("nothing is wrong"));
    items.map(|(key, value)| (key, number_of(&value))).collect()
}

fn describe(entries: &Entries) -> String {
    let few = entries
        .range(..MORE)
        .map(|(key, number)| format!("{key}={number}"));
    let few = few.collect::<Vec<_>>().join(" ");
    let more = entries.range(MORE..).count() as u64;
    for key in MORE..MORE + more {
        assert_eq!(entries.get(&key), Some(&OF_MORE), "{key}, {entries:?}");
    }
    match (few.is_empty(), more) {
        (true, 0) => "nothing".to_owned(),
        (false, 0) => few,
        (true, more) => format!("{more} more"),
        (false, more) => format!("{few}, {more} more"),
    }
}

pub(crate) fn label(acted: Option<&str>, found: &str) -> String {
    acted.map_or_else(|| found.to_owned(), |acted| format!("{acted}; {found}"))
}

/// Names all entries, and sees that readers had them before the repair, and that no memory is lost.
fn check(name: &str, acted: Option<&str>) -> String {
    let before = match Values::open_read_only(name) {
        Ok(reader) => entries(&reader),
        Err(shm_core::Error::NotFound { .. }) => return "absent".to_owned(),
        Err(other) => panic!("{other}"),
    };
    let dict = open(name);
    let (repaired, told) = count_recoveries(true);
    dict.on_recovery(told);
    assert_eq!(dict.len(), Ok(before.len()));
    assert_eq!(entries(&dict), before, "a repair has changed it");
    assert_eq!(items(&dict), before);
    let repaired = repaired.load(Ordering::Relaxed) > 0;
    all_memory_is_known(&dict, &before, repaired);
    use_again(name, &dict, &before);
    all_memory_is_usable(&dict);
    dict.unlink().expect("it is there");
    label(acted, &describe(&before))
}

/// How often a repair was reported, and what is to be told of each. Who died is known, unless a dead one was told, and
/// had given the lock back to take it among others.
pub(crate) fn count_recoveries(
    is_known: bool,
) -> (Arc<AtomicUsize>, impl Fn(&Recovery) + Send + Sync) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let told = move |recovery: &Recovery| {
        assert!(recovery.dead.is_some() || !is_known, "{recovery:?}");
        counted.fetch_add(1, Ordering::Relaxed);
    };
    (count, told)
}

/// Each block is an entry's, a table's, or free; and behind a repair no chunk is held for nothing.
fn all_memory_is_known(dict: &Values, entries: &Entries, repaired: bool) {
    let stats = dict.check().expect("no block is lost or used twice");
    let payload = entries
        .values()
        .map(|&number| 8 + value(number).len() as u64);
    assert_eq!(stats.entries, entries.len() as u64);
    assert_eq!(stats.payload, payload.sum::<u64>());
    assert_eq!(stats.used_bytes + stats.free_bytes, HEAP);
    let shards = dict.inspect().shards;
    if repaired && shards.len() == 1 && entries.len() <= 12 {
        let table = 8 * shards[0].places as usize;
        let held = chunks_for(entries, table) << CHUNK_SHIFT;
        assert_eq!(stats.used_bytes, held, "{entries:?}");
    }
}

/// The chunks that a table and a few entries lie in.
fn chunks_for(entries: &Entries, table: usize) -> u64 {
    let records = entries
        .values()
        .map(|&number| record_bytes(8, value(number).len()));
    chunks_of(records.chain((table > 0).then_some(table)))
}

/// The chunks that a few blocks of so many bytes lie in: one for each size, and runs.
pub(crate) fn chunks_of(blocks: impl IntoIterator<Item = usize>) -> u64 {
    let (mut classes, mut runs) = (std::collections::BTreeSet::new(), 0);
    for bytes in blocks {
        match class_of(bytes, CHUNK_SHIFT) {
            Some(class) => {
                classes.insert(class);
            }
            None => runs += bytes.div_ceil(1 << CHUNK_SHIFT) as u64,
        }
    }
    classes.len() as u64 + runs
}

/// Every operation works, and in the end everything is as it was.
fn use_again(name: &str, dict: &Values, before: &Entries) {
    match dict.set(&50, &value(10)) {
        Ok(()) => {
            assert_eq!(dict.modify(&50, next_value), Ok(Some(value(11))));
            assert_eq!(dict.get(&50), Ok(Some(value(11))));
            let reader = Values::open_read_only(name).expect("the dictionary");
            assert_eq!(reader.get(&50), Ok(Some(value(11))));
            assert_eq!(dict.pop(&50), Ok(Some(value(11))));
        }
        Err(error) => assert!(error.is_full() && before.len() > 100, "{error}"),
    }
    dict.check().expect("no block is lost or used twice");
    assert_eq!(entries(dict), *before);
    let reader = Values::open_read_only(name).expect("the dictionary");
    assert_eq!(items(&reader), *before);
}

/// Emptied, it has room for as much as a new one.
fn all_memory_is_usable(dict: &Values) {
    dict.clear().expect("nothing stands in the way");
    let stats = dict.check().expect("no block is lost or used twice");
    assert_eq!((stats.entries, stats.used_bytes), (0, 0), "{stats:?}");
    let shards = dict.inspect().shards.len() as u32;
    let place = Place::region(Region::heap(2 * HEAP as usize));
    let fresh = Values::create(place, small_dict(shards)).expect("a new dictionary");
    let large = |dict: &Values| {
        let all = |key: &u64| dict.set(key, &value(30)).is_ok();
        (0..100).take_while(all).count()
    };
    // One chunk is the table's, another that of shorter ones before it.
    let (room, expected) = (large(dict), large(&fresh));
    assert_eq!((room, expected), (7, 7), "of two chunks each");
    dict.check().expect("no block is lost or used twice");
}

fn check_numbers(name: &str, acted: Option<&str>) -> String {
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
