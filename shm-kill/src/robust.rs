//! The robust semaphore: whoever dies, wherever, all permits are there again, and whoever gets one
//! of the dead's is told.

use std::time::Duration;

use shm_lock::{LockFailure, RobustSemaphore};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use crate::segment::{A_WHILE, die};

const PATIENCE: Duration = Duration::from_secs(3);
/// Permits of each semaphore here; so many are there after every death.
const ALL: u32 = 2;

pub(crate) fn cases() -> Vec<Case> {
    let cycle = || Outcomes::phases(&["0 of the dead", "1 of the dead", "0 of the dead"]);
    let case = |operation, state| Case::new(operation, state).checked_by("robust permits");
    vec![
        case("robust acquire", "robust permits")
            .killed(cycle())
            // The other permit, or the victim's own.
            .frozen("take a robust permit", Outcomes::always("0 of the dead"))
            .frozen_and_killed("take a robust permit", cycle())
            .killed_under_waiter(
                "take both robust permits",
                Outcomes::always("0 of the dead"),
            ),
        case("robust try_acquire", "robust permits").killed(cycle()),
        case("robust acquire_timeout", "robust permits").killed(cycle()),
        // The holder gives both back; the victim takes one of them.
        case("robust acquire", "robust permits")
            .while_held("both robust permits")
            .killed(cycle()),
        // The dead holder's two, one of which the victim takes and gives back; killed in between
        // it is a dead holder itself.
        case("robust acquire", "robust permits")
            .while_held_by_the_doomed("both robust permits")
            .killed(Outcomes::switch("2 of the dead", "1 of the dead")),
        case("robust try_acquire in vain", "robust permits")
            .while_held("both robust permits")
            .killed(Outcomes::always("0 of the dead")),
        case("robust acquire_timeout in vain", "robust permits")
            .gives_up()
            .while_held("both robust permits")
            .killed(Outcomes::always("0 of the dead")),
        case("robust acquire", "robust permits of the dead")
            .orphaned()
            .killed(Outcomes::switch("2 of the dead", "1 of the dead"))
            // Where one is free and one a dead one's, which is taken depends on the thread's id.
            .killed_after(
                "robust acquire",
                Outcomes::any(&["2 of the dead", "1 of the dead", "0 of the dead"]),
            )
            .frozen(
                "take a robust permit",
                Outcomes::any(&["1 of the dead", "0 of the dead"]),
            ),
        // The victim has both and gives one back; somebody waits for it, or for the dead's.
        case("robust release", "robust permits")
            .killed(Outcomes::switch("2 of the dead", "1 of the dead"))
            .frozen(
                "take a robust permit if free",
                Outcomes::always("0 of the dead"),
            )
            .killed_under_waiter(
                "take both robust permits",
                Outcomes::always("0 of the dead"),
            ),
    ]
}

pub(crate) fn commands() -> Commands {
    victims(Commands::new())
        .setup("robust permits", |name| {
            drop(RobustSemaphore::create(name, ALL).expect("a new semaphore"))
        })
        .setup("robust permits of the dead", |name| {
            let semaphore = RobustSemaphore::create(name, ALL).expect("a new semaphore");
            let _first = semaphore.acquire();
            let _second = semaphore.acquire();
            die();
        })
        .hold("both robust permits", |name, until_told| {
            let semaphore = open(name);
            let both = (semaphore.acquire(), semaphore.acquire());
            until_told();
            drop(both);
        })
        .act("take a robust permit", |name| {
            drop(
                open(name)
                    .acquire_timeout(PATIENCE)
                    .expect("one comes back"),
            );
            "acquired"
        })
        .act("take both robust permits", |name| {
            let semaphore = open(name);
            let both = [(); 2].map(|()| semaphore.acquire_timeout(PATIENCE));
            assert!(both.iter().all(Result::is_ok), "both come back");
            "acquired"
        })
        .act("take a robust permit if free", |name| {
            match open(name).try_acquire() {
                Ok(_) => "acquired",
                Err(LockFailure::WouldBlock) => "none",
                Err(other) => panic!("{other}"),
            }
        })
        .check("robust permits", check)
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("robust acquire", |name| {
            let semaphore = open(name);
            mark_start();
            drop(semaphore.acquire());
            mark_end();
        })
        .victim("robust try_acquire", |name| {
            let semaphore = open(name);
            mark_start();
            drop(semaphore.try_acquire());
            mark_end();
        })
        .victim("robust acquire_timeout", |name| {
            let semaphore = open(name);
            mark_start();
            drop(semaphore.acquire_timeout(PATIENCE));
            mark_end();
        })
        .victim("robust try_acquire in vain", |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.try_acquire();
            mark_end();
            assert_eq!(result.err(), Some(LockFailure::WouldBlock));
        })
        .victim("robust acquire_timeout in vain", |name| {
            let semaphore = open(name);
            mark_start();
            // Less than a slice: at the end of one it would look who lives, by a way that is never the same.
            let result = semaphore.acquire_timeout(A_WHILE * 2 / 5);
            mark_end();
            assert_eq!(result.err(), Some(LockFailure::Timeout));
        })
        .victim("robust release", |name| {
            let semaphore = open(name);
            let first = semaphore.acquire();
            let _second = semaphore.acquire();
            mark_start();
            drop(first);
            mark_end();
        })
}

fn open(name: &str) -> RobustSemaphore {
    RobustSemaphore::open(name).expect("the semaphore")
}

/// All permits are there; how many come from the dead.
fn check(name: &str, _: Option<&str>) -> String {
    let semaphore = open(name);
    assert_eq!(semaphore.available(), ALL, "nobody has one");
    let before = semaphore.inspect().deaths;
    let held: Vec<_> = (0..ALL)
        .map(|_| semaphore.try_acquire().expect("it is free"))
        .collect();
    assert_eq!(semaphore.try_acquire().err(), Some(LockFailure::WouldBlock));
    let dead = held
        .iter()
        .filter(|permit| permit.dead_holder().is_some())
        .count();
    let inspection = semaphore.inspect();
    assert_eq!(inspection.deaths - before, dead as u32);
    assert_eq!((inspection.holders.len(), inspection.waiters), (2, 0));
    drop(held);
    let again: Vec<_> = (0..ALL)
        .map(|_| semaphore.acquire().expect("it is free"))
        .collect();
    assert!(again.iter().all(|permit| permit.dead_holder().is_none()));
    drop(again);
    semaphore.unlink().expect("it is there");
    format!("{dead} of the dead")
}
