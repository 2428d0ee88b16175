//! The reentrant mutex: as the mutex, however deep; the depth dies with its owner.

use std::cell::Cell;
use std::time::Duration;

use shm_lock::{LockError, ReentrantGuard, ReentrantMutex};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use crate::segment::{A_WHILE, die};

type Pair = [Cell<i64>; 2];

const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    let change = || Outcomes::phases(&["old", "died", "new"]);
    let case = |operation, state| Case::new(operation, state).checked_by("reentrant pair");
    vec![
        case("lock twice", "reentrant")
            .killed(change())
            .frozen(
                "reentrant add if free",
                Outcomes::rising(&["both", "new", "both"]),
            )
            // The other is before the victim, finds the lock held, or is after it.
            .frozen_and_killed(
                "reentrant add if free",
                Outcomes::rising(&["old", "died", "new", "both"]),
            )
            .killed_under_waiter("reentrant add", Outcomes::switch("old", "both")),
        case("lock once", "reentrant").killed(change()),
        case("lock twice in time", "reentrant").killed(change()),
        case("lock twice", "reentrant")
            .while_held("reentrant")
            .killed(change()),
        // Told of the dead holder, the victim repairs; until then the report waits.
        case("lock twice", "reentrant")
            .while_held_by_the_doomed("reentrant")
            .killed(Outcomes::switch("died", "new")),
        case("reentrant try_lock", "reentrant")
            .while_held("reentrant")
            .killed(Outcomes::always("old")),
        case("reentrant give up", "reentrant")
            .while_held("reentrant")
            .gives_up()
            .killed(Outcomes::always("old")),
        case("lock twice", "torn reentrant")
            .orphaned()
            .killed(Outcomes::switch("died", "new"))
            // The first may have repaired and changed it before the second does so again.
            .killed_after("lock twice", Outcomes::any(&["died", "new", "twice"])),
        case("lock unsettled", "torn reentrant")
            .orphaned()
            .killed(Outcomes::always("died")),
    ]
}

pub(crate) fn commands() -> Commands {
    victims(Commands::new())
        .setup("reentrant", |name| drop(create(name)))
        .setup("torn reentrant", |name| {
            let mutex = create(name);
            let outer = mutex.lock().expect("it is new");
            let inner = mutex.lock().expect("it is held by this thread");
            assert_eq!(inner.depth(), 2);
            outer[0].set(1);
            die();
        })
        .hold("reentrant", |name, until_told| {
            let mutex = open(name);
            let outer = mutex.lock().expect("it is free");
            let inner = mutex.lock().expect("it is held by this thread");
            until_told();
            drop((inner, outer));
        })
        .act("reentrant add if free", |name| {
            let mutex = open(name);
            match mutex.try_lock() {
                Ok(pair) => add(&pair, 10),
                Err(LockError::WouldBlock) => "held",
                Err(other) => panic!("{other}"),
            }
        })
        .act("reentrant add", |name| {
            let mutex = open(name);
            match mutex.lock_timeout(PATIENCE) {
                Ok(pair) => add(&pair, 10),
                Err(LockError::OwnerDied(recover)) => add(&recover.repair(mend), 10),
                Err(other) => panic!("{other}"),
            }
        })
        .check("reentrant pair", check)
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("lock once", |name| {
            let mutex = open(name);
            mark_start();
            if let Ok(pair) = mutex.lock() {
                change(&pair);
            }
            mark_end();
        })
        .victim("lock twice", |name| {
            let mutex = open(name);
            mark_start();
            if let Ok(outer) = mutex.lock_or_repair(|pair, _| *pair = Pair::default()) {
                outer[0].set(outer[0].get() + 1);
                let inner = mutex.lock().expect("it is held by this thread");
                inner[1].set(-inner[0].get());
                drop(inner);
                drop(outer);
            }
            mark_end();
        })
        .victim("lock twice in time", |name| {
            let mutex = open(name);
            mark_start();
            if let Ok(outer) = mutex.lock_timeout(PATIENCE) {
                let inner = mutex.lock_timeout(PATIENCE);
                change(&inner.expect("it is held by this thread"));
                drop(outer);
            }
            mark_end();
        })
        .victim("reentrant try_lock", |name| {
            let mutex = open(name);
            mark_start();
            let result = mutex.try_lock();
            mark_end();
            assert!(matches!(result, Err(LockError::WouldBlock)), "it is held");
        })
        .victim("reentrant give up", |name| {
            let mutex = open(name);
            mark_start();
            let result = mutex.lock_timeout(A_WHILE);
            mark_end();
            assert!(matches!(result, Err(LockError::Timeout)), "it is held");
        })
        .victim("lock unsettled", |name| {
            let mutex = open(name);
            mark_start();
            let report = mutex.lock();
            let refused = matches!(mutex.lock(), Err(LockError::Deadlock));
            drop(report);
            mark_end();
            assert!(refused, "the report is not settled");
        })
}

fn create(name: &str) -> ReentrantMutex<Pair> {
    ReentrantMutex::create(name, Pair::default()).expect("a new mutex")
}

fn open(name: &str) -> ReentrantMutex<Pair> {
    ReentrantMutex::open(name).expect("the mutex")
}

/// Two stores, between which the pair is torn.
fn change(pair: &ReentrantGuard<'_, Pair>) {
    pair[0].set(pair[0].get() + 1);
    std::hint::black_box(pair);
    pair[1].set(pair[1].get() - 1);
}

fn mend(pair: &mut Pair) {
    pair[1].set(-pair[0].get());
}

fn add(pair: &ReentrantGuard<'_, Pair>, by: i64) -> &'static str {
    pair[0].set(pair[0].get() + by);
    pair[1].set(pair[1].get() - by);
    "added"
}

/// What the mutex holds, by whom, and whether it can be used again, to the same depth.
fn check(name: &str, acted: Option<&str>) -> &'static str {
    let mutex = open(name);
    let (died, guard) = match mutex.lock_timeout(PATIENCE) {
        Ok(guard) => (false, guard),
        Err(LockError::OwnerDied(recover)) => (true, recover.repair(mend)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(guard.depth(), 1, "the depth is the dead one's");
    let pair = [guard[0].get(), guard[1].get()];
    drop(guard);
    assert_eq!(mutex.inspect().owner_tid, 0, "one guard was one lock");
    assert_eq!(pair[0] + pair[1], 0, "torn without a report: {pair:?}");
    let added = i64::from(acted == Some("added")) * 10;
    let victims = pair[0] - added;
    assert!((0..=2).contains(&victims), "{pair:?} after {acted:?}");
    let again = [(); 3].map(|()| mutex.lock().expect("repaired, or never broken"));
    assert_eq!(again[0].depth(), 3);
    drop(again);
    assert_eq!(mutex.inspect().owner_tid, 0);
    mutex.unlink().expect("it is there");
    match (died, victims) {
        (true, _) => "died",
        (false, 0) => "old",
        (false, 2) => "twice",
        (false, _) if added == 0 => "new",
        (false, _) => "both",
    }
}
