//! Each operation in each state, and what may be there when it was killed.

use shm_testing::step_killer::{Case, Outcomes};

use super::{Dies as _, seen_or_not};

/// Twelve in two buckets, one of which is full and goes on in the other.
const CHAIN: &str = "1=10 2=10 3=10 4=10 5=10 6=10 7=10 8=10 9=10 10=10 11=10 12=10";
/// The same without 4, which left a tombstone.
const HOLE: &str = "1=10 2=10 3=10 5=10 6=10 7=10 8=10 9=10 10=10 11=10 12=10";
const THREE: &str = "1=10 2=10 3=10";
const FULL: &str = "1=20, 164 more";

pub(super) fn cases() -> Vec<Case> {
    [
        sets(),
        replacements(),
        removals(),
        computations(),
        whole_dicts(),
        readers(),
        after_deaths(),
    ]
    .concat()
}

fn dict(operation: &str, state: &str) -> Case {
    Case::new(operation, state).checked_by("dict")
}

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

/// What is done in two steps that pretend to be one: between them it is lost, or there twice.
pub(super) fn controls() -> Vec<Case> {
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
