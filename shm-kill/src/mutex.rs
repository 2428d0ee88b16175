//! The mutex: two words that add up to zero are never torn without a report, and nobody waits for the
//! dead.

use std::time::Duration;

use shm_core::Region;
use shm_lock::{Guard, LockError, Mutex};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use crate::segment::{A_WHILE, die};

type Pair = [i64; 2];

/// A lock is waited for so long at most by those who may give up.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    // Killed before the word is taken, or outside the section: nobody is told.
    let change = || Outcomes::phases(&["old", "died", "new"]);
    let mut cases = Vec::new();
    for operation in ["lock", "try_lock", "lock_timeout"] {
        cases.push(
            Case::new(operation, "free")
                .checked_by("pair")
                .killed(change())
                .frozen("add if free", Outcomes::phases(&["both", "new", "both"]))
                // The section is closed a little before the lock is free for another.
                .frozen_and_killed(
                    "add if free",
                    Outcomes::phases(&["old", "died", "new", "both"]),
                )
                // Who waits repairs what the dead one left, and adds to it.
                .killed_under_waiter("add", Outcomes::switch("old", "both")),
        );
    }
    cases.extend([
        Case::new("lock", "free")
            .while_held("mutex")
            .checked_by("pair")
            .killed(change()),
        Case::new("lock", "free")
            .while_held_by_the_doomed("mutex")
            .checked_by("pair")
            .killed(Outcomes::switch("died", "new")),
        Case::new("try_lock", "free")
            .while_held("mutex")
            .checked_by("pair")
            .killed(Outcomes::always("old")),
        Case::new("give up", "free")
            .gives_up()
            .while_held("mutex")
            .checked_by("pair")
            .killed(Outcomes::always("old")),
        Case::new("repair", "torn pair")
            .orphaned()
            .checked_by("pair")
            .killed(Outcomes::switch("died", "new"))
            // Killed with the lock after the first has repaired all, the second is a dead owner again.
            .killed_after("repair", Outcomes::any(&["died", "new"]))
            .frozen("add if free", Outcomes::phases(&["both", "new", "both"])),
        Case::new("look", "torn pair")
            .orphaned()
            .checked_by("pair")
            .killed(Outcomes::always("died")),
        Case::new("abandon", "torn pair")
            .orphaned()
            .checked_by("pair")
            .killed(Outcomes::switch("died", "given up")),
        // Nearly all of it is the unwinder's way, private to the process.
        Case::new("panic", "free")
            .checked_by("pair")
            .at_most(2000)
            .killed(Outcomes::phases(&["old", "died", "poisoned"])),
        Case::new("lock another", "free")
            .checked_by("pair")
            .killed(Outcomes::always("died")),
    ]);
    cases
}

pub(crate) fn commands() -> Commands {
    victims(Commands::new())
        .setup("free", |name| {
            drop(Mutex::<Pair>::create(name, [0, 0]).expect("a new mutex"))
        })
        .setup("torn pair", |name| {
            let mutex = Mutex::<Pair>::create(name, [0, 0]).expect("a new mutex");
            let mut pair = mutex.lock().expect("it is new");
            pair[0] += 1;
            die();
        })
        .hold("mutex", |name, until_told| {
            let mutex = open(name);
            let _pair = mutex.lock().expect("it is free");
            until_told();
        })
        .act("add if free", |name| match open(name).try_lock() {
            Ok(pair) => add(pair, 10),
            Err(LockError::OwnerDied(recover)) => add(recover.repair(mend), 10),
            Err(LockError::WouldBlock) => "held",
            Err(other) => panic!("{other}"),
        })
        .act("add", |name| {
            let mutex = open(name);
            match mutex.lock_timeout(PATIENCE) {
                Ok(pair) => add(pair, 10),
                Err(LockError::OwnerDied(recover)) => add(recover.repair(mend), 10),
                Err(other) => panic!("{other}"),
            }
        })
        .check("pair", check_pair)
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("lock", |name| {
            let mutex = open(name);
            mark_start();
            if let Ok(pair) = mutex.lock_or_repair(|pair, _| mend(pair)) {
                change(pair);
            }
            mark_end();
        })
        .victim("lock another", |name| {
            let mutex = open(name);
            let another = Mutex::create(Region::heap(4096), 0_u64).expect("a new mutex");
            let pair = mutex.lock().expect("it is free");
            mark_start();
            drop(another.lock());
            mark_end();
            // Dies with the first one, at each step and at the end.
            std::mem::forget(pair);
        })
        .victim("try_lock", |name| {
            let mutex = open(name);
            mark_start();
            if let Ok(pair) = mutex.try_lock() {
                change(pair);
            }
            mark_end();
        })
        .victim("lock_timeout", |name| {
            let mutex = open(name);
            mark_start();
            if let Ok(pair) = mutex.lock_timeout(PATIENCE) {
                change(pair);
            }
            mark_end();
        })
        .victim("give up", |name| {
            let mutex = open(name);
            mark_start();
            let result = mutex.lock_timeout(A_WHILE);
            mark_end();
            assert!(matches!(result, Err(LockError::Timeout)), "it is held");
        })
        .victim("repair", |name| {
            let mutex = open(name);
            mark_start();
            let pair = mutex.lock_or_repair(|pair, _| *pair = [1, -1]);
            drop(pair);
            mark_end();
        })
        .victim("look", |name| {
            let mutex = open(name);
            mark_start();
            drop(mutex.lock());
            mark_end();
        })
        .victim("abandon", |name| {
            let mutex = open(name);
            mark_start();
            if let Err(LockError::OwnerDied(recover)) = mutex.lock() {
                recover.abandon();
            }
            mark_end();
        })
        .victim("panic", |name| {
            let mutex = open(name);
            mark_start();
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut pair = mutex.lock().expect("it is free");
                pair[0] += 1;
                // Not `panic!`: the hook's way to the terminal is no business of the mutex.
                std::panic::resume_unwind(Box::new(()));
            }));
            mark_end();
            assert!(panicked.is_err());
        })
}

fn open(name: &str) -> Mutex<Pair> {
    Mutex::open(name).expect("the mutex")
}

/// Two stores, between which the pair is torn.
fn change(mut pair: Guard<'_, Pair>) {
    pair[0] += 1;
    std::hint::black_box(&mut pair);
    pair[1] -= 1;
}

fn mend(pair: &mut Pair) {
    pair[1] = -pair[0];
}

fn add(mut pair: Guard<'_, Pair>, by: i64) -> &'static str {
    pair[0] += by;
    pair[1] -= by;
    "added"
}

/// What the mutex holds, by whom, and whether it can be used again.
fn check_pair(name: &str, acted: Option<&str>) -> String {
    let mutex = open(name);
    let (told, pair) = match mutex.lock_timeout(PATIENCE) {
        Ok(pair) => (None, *pair),
        Err(LockError::OwnerDied(recover)) => (Some("died"), *recover.repair(mend)),
        Err(LockError::Poisoned(recover)) => (Some("poisoned"), *recover.repair(mend)),
        Err(LockError::NotRecoverable) => {
            mutex.unlink().expect("it is there");
            return "given up".to_owned();
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(pair[0] + pair[1], 0, "torn without a report: {pair:?}");
    let added = i64::from(acted == Some("added")) * 10;
    let victims = pair[0] - added;
    assert!(victims == 0 || victims == 1, "{pair:?} after {acted:?}");
    let mut again = mutex.lock().expect("repaired, or never broken");
    *again = [3, -3];
    drop(again);
    assert_eq!(mutex.inspect().owner_tid, 0);
    mutex.unlink().expect("it is there");
    match (told, victims, added) {
        (Some(told), _, _) => told.to_owned(),
        (None, 0, _) => "old".to_owned(),
        (None, _, 0) => "new".to_owned(),
        (None, _, _) => "both".to_owned(),
    }
}
