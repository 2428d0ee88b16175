//! The semaphores without owners: of the permits that the dead held each costs one, and nothing
//! else is lost; nobody sleeps beside a free permit.

use std::time::Duration;

use shm_lock::{AcquireError, BoundedSemaphore, ReleaseError, Semaphore};
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_testing::{Commands, wait_until};
use shm_value::AtomicValue;

use crate::segment::A_WHILE;

/// A permit is waited for so long at most by those who may give up.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    // From its taking to its giving back, a death costs the permit: it has no owner.
    let cycle = || Outcomes::phases(&["2 free", "1 free", "2 free"]);
    let case = |operation, state| Case::new(operation, state).checked_by("permits");
    let mut cases = vec![
        case("acquire", "2 permits")
            .killed(cycle())
            .frozen("take a permit", Outcomes::always("2 free"))
            .frozen_and_killed("take a permit", cycle())
            .killed_under_waiter("take a permit", cycle())
            // Each of the two victims may have died with a permit.
            .killed_after("acquire", Outcomes::any(&["2 free", "1 free", "0 free"])),
        case("try_acquire", "2 permits").killed(cycle()),
        case("acquire_timeout", "2 permits").killed(cycle()),
        // Woken for the one permit that there is, and then killed with it, or not.
        case("acquire", "0 permits")
            .while_held("a permit to come")
            .killed(Outcomes::phases(&["1 free", "0 free", "1 free"])),
        case("try_acquire in vain", "0 permits").killed(Outcomes::always("0 free")),
        case("acquire_timeout in vain", "0 permits")
            .gives_up()
            .killed(Outcomes::always("0 free")),
        case("release", "0 permits")
            .killed(Outcomes::switch("0 free", "1 free"))
            .killed_after("release", Outcomes::any(&["0 free", "1 free", "2 free"])),
        Case::new("release", "0 permits")
            .checked_by("permits after 1 who waits")
            .with_sleeper("keep a permit")
            .killed(Outcomes::switch("0 free; acquired", "1 free; acquired"))
            .frozen("release a permit", Outcomes::always("2 free; acquired"))
            .frozen_and_killed(
                "release a permit",
                Outcomes::switch("1 free; acquired", "2 free; acquired"),
            ),
        Case::new("release two", "0 permits")
            .checked_by("permits after 2 who wait")
            .with_sleeper("keep a permit")
            .with_sleeper("keep a permit")
            .killed(Outcomes::switch(
                "0 free; acquired, acquired",
                "2 free; acquired, acquired",
            )),
    ];
    let bounded = |operation, state| Case::new(operation, state).checked_by("bounded permits");
    cases.extend([
        bounded("bounded acquire", "2 bounded permits")
            .killed(cycle())
            .frozen_and_killed("take a bounded permit", cycle())
            .killed_under_waiter("take a bounded permit", cycle()),
        bounded("bounded acquire_timeout in vain", "0 bounded permits")
            .gives_up()
            .killed(Outcomes::always("0 free")),
        bounded("bounded release", "0 bounded permits")
            .killed(Outcomes::switch("0 free", "1 free")),
        // Woken for the one permit that comes, and then killed with it, or not.
        bounded("bounded acquire", "0 bounded permits")
            .while_held("a bounded permit to come")
            .killed(Outcomes::phases(&["1 free", "0 free", "1 free"])),
        Case::new("bounded release", "0 bounded permits")
            .checked_by("bounded permits after 1 who waits")
            .with_sleeper("keep a bounded permit")
            .killed(Outcomes::switch("0 free; acquired", "1 free; acquired")),
        bounded("bounded release too many", "2 bounded permits").killed(Outcomes::always("2 free")),
    ]);
    cases
}

pub(crate) fn commands() -> Commands {
    bounded(victims(Commands::new()))
        .setup("2 permits", |name| {
            drop(Semaphore::create(name, 2).expect("a new semaphore"))
        })
        .setup("0 permits", |name| {
            drop(Semaphore::create(name, 0).expect("a new semaphore"))
        })
        .hold("a permit to come", |name, until_told| {
            let semaphore = open(name);
            until_told();
            semaphore.release(1).expect("there is room");
        })
        .act("take a permit", |name| {
            drop(
                open(name)
                    .acquire_timeout(PATIENCE)
                    .expect("there are two, and one victim"),
            );
            "acquired"
        })
        .act("release a permit", |name| {
            open(name).release(1).expect("there is room");
            "released"
        })
        .act("keep a permit", |name| {
            let taken = taken(name);
            open(name).acquire().forget();
            taken.fetch_add(1);
            "acquired"
        })
        .check("permits", |name, _| check(name, 0))
        .check("permits after 1 who waits", |name, _| check(name, 1))
        .check("permits after 2 who wait", |name, _| check(name, 2))
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("acquire", |name| {
            let semaphore = open(name);
            mark_start();
            drop(semaphore.acquire());
            mark_end();
        })
        .victim("try_acquire", |name| {
            let semaphore = open(name);
            mark_start();
            drop(semaphore.try_acquire());
            mark_end();
        })
        .victim("acquire_timeout", |name| {
            let semaphore = open(name);
            mark_start();
            drop(semaphore.acquire_timeout(PATIENCE));
            mark_end();
        })
        .victim("try_acquire in vain", |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.try_acquire();
            mark_end();
            assert_eq!(result.err(), Some(AcquireError::WouldBlock));
        })
        .victim("acquire_timeout in vain", |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.acquire_timeout(A_WHILE);
            mark_end();
            assert_eq!(result.err(), Some(AcquireError::Timeout));
        })
        .victim("release", |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.release(1);
            mark_end();
            result.expect("there is room");
        })
        .victim("release two", |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.release(2);
            mark_end();
            result.expect("there is room");
        })
}

fn bounded(commands: Commands) -> Commands {
    let open = open_bounded;
    commands
        .setup("2 bounded permits", |name| {
            drop(BoundedSemaphore::create(name, 2).expect("a new semaphore"))
        })
        .setup("0 bounded permits", |name| {
            let semaphore = BoundedSemaphore::create(name, 2).expect("a new semaphore");
            semaphore.acquire().forget();
            semaphore.acquire().forget();
        })
        .victim("bounded acquire", move |name| {
            let semaphore = open(name);
            mark_start();
            drop(semaphore.acquire());
            mark_end();
        })
        .victim("bounded acquire_timeout in vain", move |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.acquire_timeout(A_WHILE);
            mark_end();
            assert_eq!(result.err(), Some(AcquireError::Timeout));
        })
        .victim("bounded release", move |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.release(1);
            mark_end();
            result.expect("two are out");
        })
        .victim("bounded release too many", move |name| {
            let semaphore = open(name);
            mark_start();
            let result = semaphore.release(1);
            mark_end();
            let refused = matches!(result, Err(ReleaseError::TooManyPermits { .. }));
            assert!(refused, "none is out");
        })
        .act("take a bounded permit", move |name| {
            drop(
                open(name)
                    .acquire_timeout(PATIENCE)
                    .expect("there are two, and one victim"),
            );
            "acquired"
        })
        .act("keep a bounded permit", move |name| {
            let taken = taken(name);
            open(name).acquire().forget();
            taken.fetch_add(1);
            "acquired"
        })
        .hold("a bounded permit to come", move |name, until_told| {
            let semaphore = open(name);
            until_told();
            semaphore.release(1).expect("two are out");
        })
        .check("bounded permits", |name, _| check_bounded(name, 0))
        .check("bounded permits after 1 who waits", |name, _| {
            check_bounded(name, 1)
        })
}

/// As [`check`], for a semaphore of two permits.
fn check_bounded(name: &str, waiting: u32) -> String {
    let semaphore = open_bounded(name);
    serve(name, waiting, || semaphore.release(waiting));
    assert_eq!(semaphore.inspect().waiters, 0);
    let free = semaphore.inspect().permits;
    let held: Vec<_> = (0..free)
        .map(|_| semaphore.try_acquire().expect("it is free"))
        .collect();
    let more = semaphore.try_acquire().err();
    assert_eq!(more, Some(AcquireError::WouldBlock));
    drop(held);
    // What the dead had can be released for them, and no more than that.
    (free..2).for_each(|_| semaphore.release(1).expect("it was lost"));
    assert!(semaphore.release(1).is_err(), "all are there");
    semaphore.unlink().expect("it is there");
    format!("{free} free")
}

fn open_bounded(name: &str) -> BoundedSemaphore {
    BoundedSemaphore::open(name).expect("the semaphore")
}

fn open(name: &str) -> Semaphore {
    Semaphore::open(name).expect("the semaphore")
}

/// How many of those who waited have their permit.
fn taken(name: &str) -> AtomicValue<u32> {
    AtomicValue::open_or_create(format!("{name}.taken").as_str(), 0).expect("a number")
}

/// Gives those who wait what they wait for, and sees that each has it.
fn serve(name: &str, waiting: u32, release: impl FnOnce() -> Result<(), ReleaseError>) {
    if waiting > 0 {
        release().expect("there is room");
        let taken = taken(name);
        let all = wait_until(|| taken.load() == waiting, PATIENCE);
        assert!(all, "{} of {waiting} have a permit", taken.load());
        taken.unlink().expect("it is there");
    }
}

/// How many permits are free, when each of those who wait has one that the checker gave.
fn check(name: &str, waiting: u32) -> String {
    let semaphore = open(name);
    serve(name, waiting, || semaphore.release(waiting));
    let inspection = semaphore.inspect();
    assert_eq!(inspection.waiters, 0);
    let free = inspection.permits;
    let held: Vec<_> = (0..free)
        .map(|_| semaphore.try_acquire().expect("it is free"))
        .collect();
    let more = semaphore.try_acquire().err();
    assert_eq!(more, Some(AcquireError::WouldBlock));
    drop(held);
    semaphore.release(1).expect("there is room");
    assert_eq!(semaphore.inspect().permits, free + 1);
    drop(semaphore.acquire());
    semaphore.unlink().expect("it is there");
    format!("{free} free")
}
