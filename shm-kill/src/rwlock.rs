//! The reader-writer lock: a writer's death in its section is told to readers and writers until
//! somebody repairs, a reader's to nobody, and either's lock is free.

use std::time::Duration;

use shm_lock::{LockError, LockFailure, RwLock, RwLockReadGuard, RwLockWriteGuard};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use crate::segment::{A_WHILE, die};

type Pair = [i64; 2];

const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    [writers(), readers()].concat()
}

fn case(operation: &str, state: &str) -> Case {
    Case::new(operation, state).checked_by("rw pair")
}

fn writers() -> Vec<Case> {
    let change = || Outcomes::phases(&["old", "died", "new"]);
    let mut cases = Vec::new();
    for operation in ["write", "downgrade"] {
        cases.push(
            case(operation, "rwlock")
                .killed(change())
                .frozen("write if free", Outcomes::rising(&["both", "new", "both"]))
                .frozen("read if free", Outcomes::always("new"))
                // The section is closed a little before the lock is free for another.
                .frozen_and_killed(
                    "write if free",
                    Outcomes::phases(&["old", "died", "new", "both"]),
                )
                .killed_under_waiter("rw write", Outcomes::switch("old", "both"))
                // Who waits to read is told of the death, and leaves the repair to the checker.
                .killed_under_waiter("rw read", change()),
        );
    }
    cases.extend([
        case("try_write", "rwlock").killed(change()),
        case("write_timeout", "rwlock").killed(change()),
        // The lock of one slot: otherwise the way depends on which one the reader has.
        case("write", "rwlock for one")
            .while_held("a reader")
            .killed(change()),
        case("write", "rwlock for one")
            .while_held_by_the_doomed("a reader")
            .killed(change()),
        case("write", "rwlock")
            .while_held("a writer")
            .killed(change()),
        case("write", "rwlock")
            .while_held_by_the_doomed("a writer")
            .killed(Outcomes::switch("died", "new")),
        case("try_write in vain", "rwlock for one")
            .while_held("a reader")
            .killed(Outcomes::always("old")),
        case("write_timeout in vain", "rwlock for one")
            .gives_up()
            .while_held("a reader")
            .killed(Outcomes::always("old")),
        case("write_timeout in vain", "rwlock")
            .gives_up()
            .while_held("a writer")
            .killed(Outcomes::always("old")),
        case("write", "rwlock with a dead reader")
            .orphaned()
            .killed(change())
            .killed_after("write", Outcomes::any(&["old", "died", "new", "twice"])),
        case("write", "torn rwlock")
            .orphaned()
            .killed(Outcomes::switch("died", "new"))
            // The first may have repaired and changed it before the second does so again.
            .killed_after("write", Outcomes::any(&["died", "new", "twice"]))
            .frozen("read if free", Outcomes::always("new"))
            // The other repairs, makes the victim's change good, and adds its own; then comes the victim.
            .frozen("write if free", Outcomes::phases(&["twice", "new", "both"]))
            // The other finds what the victim found, or its death, or its change.
            .killed_under_waiter("rw write", Outcomes::phases(&["both", "old", "both"])),
    ]);
    cases
}

fn readers() -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in ["read", "read twice"] {
        cases.push(
            case(operation, "rwlock")
                .killed(Outcomes::always("old"))
                .frozen("read if free", Outcomes::always("old"))
                .frozen("write if free", Outcomes::always("old"))
                .killed_under_waiter("rw write", Outcomes::always("old")),
        );
    }
    cases.extend([
        case("try_read", "rwlock").killed(Outcomes::always("old")),
        case("read_timeout", "rwlock").killed(Outcomes::always("old")),
        case("read", "rwlock")
            .while_held("a writer")
            .killed(Outcomes::always("old")),
        // The reader finds the lock free when the writer dies, and is told.
        case("read told", "rwlock")
            .while_held_by_the_doomed("a writer")
            .killed(Outcomes::always("died")),
        // No room for another reader, who goes round the slots in turns.
        // It sleeps for a millisecond at each slot in turn: too short to be killed in.
        case("read_timeout in vain", "rwlock for one")
            .while_held("a reader")
            .killed(Outcomes::always("old")),
        case("read_timeout in vain", "rwlock")
            .gives_up()
            .while_held("a writer")
            .killed(Outcomes::always("old")),
        case("read", "rwlock with a dead reader")
            .orphaned()
            .killed(Outcomes::always("old"))
            .killed_after("read", Outcomes::always("old")),
        case("read told", "torn rwlock for one")
            .orphaned()
            .killed(Outcomes::always("died")),
        // One slot: which one a reader takes first depends on the thread's id, and so would its way.
        case("read_or_repair", "torn rwlock for one")
            .orphaned()
            .killed(Outcomes::switch("died", "new"))
            .killed_after("read_or_repair", Outcomes::rising(&["died", "new"])),
    ]);
    cases
}

pub(crate) fn commands() -> Commands {
    others(reading(writing(Commands::new())))
        .setup("rwlock", |name| drop(create(name, 3)))
        .setup("rwlock for one", |name| drop(create(name, 1)))
        .setup("rwlock with a dead reader", |name| {
            let lock = create(name, 1);
            let _reader = lock.read().expect("it is new");
            let _again = lock.read().expect("this thread reads");
            die();
        })
        .setup("torn rwlock", |name| tear(&create(name, 3)))
        .setup("torn rwlock for one", |name| tear(&create(name, 1)))
        .check("rw pair", check)
}

fn writing(commands: Commands) -> Commands {
    commands
        .victim("write", |name| {
            let lock = open(name);
            mark_start();
            if let Ok(pair) = lock.write_or_repair(|pair, _| *pair = [0, 0]) {
                drop(change(pair));
            }
            mark_end();
        })
        .victim("try_write", |name| {
            let lock = open(name);
            mark_start();
            if let Ok(pair) = lock.try_write() {
                drop(change(pair));
            }
            mark_end();
        })
        .victim("write_timeout", |name| {
            let lock = open(name);
            mark_start();
            if let Ok(pair) = lock.write_timeout(PATIENCE) {
                drop(change(pair));
            }
            mark_end();
        })
        .victim("downgrade", |name| {
            let lock = open(name);
            mark_start();
            if let Ok(pair) = lock.write() {
                let pair = change(pair).downgrade();
                std::hint::black_box(&*pair);
            }
            mark_end();
        })
        .victim("try_write in vain", |name| {
            let lock = open(name);
            mark_start();
            let result = lock.try_write();
            mark_end();
            assert!(matches!(result, Err(LockError::WouldBlock)), "it is held");
        })
        .victim("write_timeout in vain", |name| {
            let lock = open(name);
            mark_start();
            let result = lock.write_timeout(A_WHILE);
            mark_end();
            assert!(matches!(result, Err(LockError::Timeout)), "it is held");
        })
}

fn reading(commands: Commands) -> Commands {
    commands
        .victim("read", |name| {
            let lock = open(name);
            mark_start();
            let seen = lock.read().map(look);
            mark_end();
            whole(seen);
        })
        .victim("try_read", |name| {
            let lock = open(name);
            mark_start();
            let seen = lock.try_read().map(look);
            mark_end();
            assert!(seen.is_ok_and(|seen| seen[0] + seen[1] == 0));
        })
        .victim("read_timeout", |name| {
            let lock = open(name);
            mark_start();
            let seen = lock.read_timeout(PATIENCE).map(look);
            mark_end();
            whole(seen);
        })
        .victim("read twice", |name| {
            let lock = open(name);
            mark_start();
            let outer = lock.read();
            let seen = lock.read().map(look);
            drop(outer);
            mark_end();
            whole(seen);
        })
        .victim("read told", |name| {
            let lock = open(name);
            mark_start();
            let told = lock.read().map(look);
            mark_end();
            assert!(matches!(told, Err(LockFailure::NeedsRepair(_))), "{told:?}");
        })
        .victim("read_or_repair", |name| {
            let lock = open(name);
            mark_start();
            let seen = lock.read_or_repair(|pair, _| *pair = [1, -1]).map(look);
            mark_end();
            whole(seen);
        })
        .victim("read_timeout in vain", |name| {
            let lock = open(name);
            mark_start();
            let result = lock.read_timeout(A_WHILE).map(look);
            mark_end();
            assert_eq!(result, Err(LockFailure::Timeout), "it is held");
        })
}

fn others(commands: Commands) -> Commands {
    commands
        .hold("a reader", |name, until_told| {
            let lock = open(name);
            let reader = lock.read().expect("it is free");
            until_told();
            drop(reader);
        })
        .hold("a writer", |name, until_told| {
            let lock = open(name);
            let writer = lock.write().expect("it is free");
            until_told();
            drop(writer);
        })
        .act("write if free", |name| {
            let lock = open(name);
            match lock.try_write() {
                Ok(pair) => add(pair),
                Err(LockError::OwnerDied(recover)) => add(recover.repair(mend)),
                Err(LockError::WouldBlock) => "held",
                Err(other) => panic!("{other}"),
            }
        })
        .act("rw write", |name| {
            let lock = open(name);
            match lock.write_timeout(PATIENCE) {
                Ok(pair) => add(pair),
                Err(LockError::OwnerDied(recover)) => add(recover.repair(mend)),
                Err(other) => panic!("{other}"),
            }
        })
        .act("read if free", |name| {
            match open(name).try_read().map(look) {
                Err(LockFailure::WouldBlock) => "held",
                Err(LockFailure::NeedsRepair(_)) => "told",
                seen => whole(seen),
            }
        })
        .act("rw read", |name| {
            match open(name).read_timeout(PATIENCE).map(look) {
                Err(LockFailure::NeedsRepair(_)) => "told",
                seen => whole(seen),
            }
        })
}

fn create(name: &str, readers: u32) -> RwLock<Pair> {
    RwLock::create_for(name, [0, 0], readers).expect("a new lock")
}

/// Dies in the middle of a change.
fn tear(lock: &RwLock<Pair>) {
    let mut pair = lock.write().expect("it is new");
    pair[0] = 1;
    die();
}

fn open(name: &str) -> RwLock<Pair> {
    RwLock::open(name).expect("the lock")
}

/// Two stores, between which the pair is torn.
fn change(mut pair: RwLockWriteGuard<'_, Pair>) -> RwLockWriteGuard<'_, Pair> {
    pair[0] += 1;
    std::hint::black_box(&mut pair);
    pair[1] -= 1;
    pair
}

fn mend(pair: &mut Pair) {
    pair[1] = -pair[0];
}

fn add(mut pair: RwLockWriteGuard<'_, Pair>) -> &'static str {
    pair[0] += 10;
    pair[1] -= 10;
    "added"
}

fn look(pair: RwLockReadGuard<'_, Pair>) -> Pair {
    *pair
}

#[track_caller]
fn whole(seen: Result<Pair, LockFailure>) -> &'static str {
    let seen = seen.expect("it is free in time");
    assert_eq!(seen[0] + seen[1], 0, "torn: {seen:?}");
    "read"
}

/// What the lock holds, whether readers and writers are told the same, and whether it can be used
/// again by all of them.
fn check(name: &str, acted: Option<&str>) -> &'static str {
    let lock = open(name);
    let read = lock.read_timeout(PATIENCE).map(look);
    let (died, pair) = match lock.write_timeout(PATIENCE) {
        Ok(pair) => (false, *pair),
        Err(LockError::OwnerDied(recover)) => (true, *recover.repair(mend)),
        Err(other) => panic!("{other}"),
    };
    match read {
        Ok(seen) => assert_eq!((died, seen), (false, pair), "a reader was not told"),
        Err(LockFailure::NeedsRepair(_)) => assert!(died, "a writer was not told"),
        Err(other) => panic!("{other}"),
    }
    assert_eq!(pair[0] + pair[1], 0, "torn without a report: {pair:?}");
    let (victims, added) = (pair[0] % 10, pair[0] / 10);
    assert!(victims <= 2 && added <= 1, "{pair:?} after {acted:?}");
    if acted.is_some() {
        assert_eq!(added == 1, acted == Some("added"), "{pair:?}");
    }
    whole(lock.read().map(look));
    *lock.write().expect("repaired, or never broken") = [3, -3];
    let readers = (lock.read(), lock.read());
    assert!(readers.0.is_ok() && readers.1.is_ok());
    drop(readers);
    let inspection = lock.inspect();
    assert_eq!(
        (inspection.writer.owner_tid, inspection.readers.len()),
        (0, 0)
    );
    lock.unlink().expect("it is there");
    match (died, victims, added) {
        (true, _, _) => "died",
        (false, 0, _) => "old",
        (false, 2, _) => "twice",
        (false, _, 0) => "new",
        (false, _, _) => "both",
    }
}
