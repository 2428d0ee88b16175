//! The barrier: who waits goes through or is told why not, and no death of a registered party hangs
//! the rest.

use std::thread;
use std::time::Duration;

use shm_lock::{Barrier, BrokenBarrier};
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_testing::{Commands, wait_until};

use crate::segment::die;

const PATIENCE: Duration = Duration::from_secs(3);
/// Parties of each barrier here.
const PARTIES: u32 = 2;

pub(crate) fn cases() -> Vec<Case> {
    let case = |operation, state| Case::new(operation, state).checked_by("barrier");
    let with_party = |operation| case(operation, "barrier").with_sleeper("party wait");
    vec![
        case("register", "barrier")
            .killed(Outcomes::switch("round 0", "round 0, a party died"))
            // The dead one's place is found and given back by the next one, killed itself.
            .killed_after(
                "register",
                Outcomes::rising(&["round 0", "round 0, a party died"]),
            ),
        case("register", "barrier of the dead")
            .orphaned()
            // All places are dead ones': the barrier breaks before one of them is free.
            .killed(Outcomes::always("round 0, a party died"))
            .frozen(
                "register and leave",
                Outcomes::always("round 0, a party died"),
            )
            .frozen_and_killed(
                "register and leave",
                Outcomes::always("round 0, a party died"),
            ),
        case("leave", "barrier").killed(Outcomes::switch("round 0, a party died", "round 0")),
        // The last to arrive, registered: from its arrival on, the round is complete for the other,
        // and the death is the next round's.
        with_party("party wait").killed(Outcomes::switch(
            "round 0, a party died; told of a death",
            "round 1, a party died; through",
        )),
        // Not registered, it is known from where it stands for its wait, until it goes.
        with_party("barrier wait").killed(Outcomes::phases(&[
            "round 0; told of a break",
            "round 0, a party died; told of a death",
            "round 1; through",
        ])),
        with_party("barrier wait_timeout").killed(Outcomes::phases(&[
            "round 0; told of a break",
            "round 0, a party died; told of a death",
            "round 1; through",
        ])),
        // The first to arrive, which sleeps; the other comes then, or finds the barrier broken.
        case("party wait", "barrier")
            .while_held("the other party")
            // Each break takes its slice of a tenth of a second.
            .at_most(300)
            .killed(Outcomes::switch(
                "round 0, a party died",
                "round 1, a party died",
            )),
        case("barrier wait in vain", "barrier").killed(Outcomes::phases(&[
            "round 0",
            "round 0, a party died",
            "round 0, broken",
        ])),
        case("abort", "barrier").killed(Outcomes::switch("round 0", "round 0, broken")),
        with_party("abort")
            .killed(Outcomes::switch(
                "round 0; told of a break",
                "round 0, broken; told of a break",
            ))
            .frozen(
                "reset",
                Outcomes::switch(
                    "round 1, broken; told of a break",
                    "round 1; told of a break",
                ),
            ),
        case("reset", "broken barrier")
            .killed(Outcomes::switch("round 0, broken", "round 1"))
            .killed_after("reset", Outcomes::rising(&["round 0, broken", "round 1"])),
        with_party("reset").killed(Outcomes::switch(
            "round 0; told of a break",
            "round 1; told of a break",
        )),
    ]
}

pub(crate) fn commands() -> Commands {
    victims(Commands::new())
        .setup("barrier", |name| drop(create(name)))
        .setup("broken barrier", |name| create(name).abort())
        .setup("barrier of the dead", |name| {
            let barrier = create(name);
            let _parties = [(); 2].map(|()| barrier.register().expect("there is a place"));
            die();
        })
        .hold("the other party", |name, until_told| {
            let barrier = open(name);
            until_told();
            let told = told(barrier.wait_timeout(PATIENCE).map(drop));
            assert!(told == "through" || told == "told of a death", "{told}");
        })
        .act("party wait", |name| {
            let barrier = open(name);
            let mut party = barrier.register().expect("there is a place");
            told(party.wait_timeout(PATIENCE).map(drop))
        })
        .act("register and leave", |name| match open(name).register() {
            Ok(party) => {
                drop(party);
                "registered"
            }
            Err(broken) => {
                assert!(!broken.to_string().is_empty());
                "refused"
            }
        })
        .act("reset", |name| {
            open(name).reset();
            "reset"
        })
        .check("barrier", |name, _| check(name))
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("register", |name| {
            let barrier = open(name);
            mark_start();
            let party = barrier.register();
            mark_end();
            party.expect("there is a place");
        })
        .victim("leave", |name| {
            let barrier = open(name);
            let party = barrier.register().expect("there is a place");
            mark_start();
            drop(party);
            mark_end();
        })
        .victim("party wait", |name| {
            let barrier = open(name);
            let mut party = barrier.register().expect("there is a place");
            mark_start();
            let result = party.wait();
            mark_end();
            result.expect("both come");
        })
        .victim("barrier wait", |name| {
            let barrier = open(name);
            mark_start();
            let result = barrier.wait();
            mark_end();
            result.expect("both come");
        })
        .victim("barrier wait_timeout", |name| {
            let barrier = open(name);
            mark_start();
            let result = barrier.wait_timeout(PATIENCE);
            mark_end();
            result.expect("both come");
        })
        .victim("barrier wait in vain", |name| {
            let barrier = open(name);
            mark_start();
            // No time at all: whether it slept before would depend on the speed of the steps.
            let result = barrier.wait_timeout(Duration::ZERO);
            mark_end();
            assert!(result.is_err_and(|broken| broken.timed_out()));
        })
        .victim("abort", |name| {
            let barrier = open(name);
            mark_start();
            barrier.abort();
            mark_end();
        })
        .victim("reset", |name| {
            let barrier = open(name);
            mark_start();
            barrier.reset();
            mark_end();
        })
}

fn create(name: &str) -> Barrier {
    Barrier::create(name, PARTIES).expect("a new barrier")
}

fn open(name: &str) -> Barrier {
    Barrier::open(name).expect("the barrier")
}

/// What one who waited heard.
fn told(result: Result<(), BrokenBarrier>) -> &'static str {
    match result {
        Ok(()) => "through",
        Err(broken) if broken.timed_out() => "nobody came",
        Err(broken) if broken.dead_party().is_some() => "told of a death",
        Err(_) => "told of a break",
    }
}

/// In which round it is, and whether it is broken, or a party is found dead as soon as somebody
/// looks. Then nobody waits any more, and a round is complete.
fn check(name: &str) -> String {
    let barrier = open(name);
    let found = barrier.inspect();
    let broken = found.broken && !is_broken_by_a_death(&barrier);
    look_who_lives(&barrier);
    let died = !broken && barrier.is_broken();
    assert!(!died || is_broken_by_a_death(&barrier), "{barrier:?}");
    // Whoever still waits is told, and gone before the next round.
    barrier.abort();
    let gone = || barrier.inspect().registered.is_empty();
    assert!(wait_until(gone, PATIENCE), "{barrier:?}");
    barrier.reset();
    let after = barrier.inspect();
    assert_eq!((after.waiting, after.broken), (0, false));
    thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait_timeout(PATIENCE));
        let mine = barrier.wait_timeout(PATIENCE).expect("both come");
        let other = other.join().expect("no panic").expect("both come");
        assert_ne!(mine.is_leader(), other.is_leader());
    });
    barrier.unlink().expect("it is there");
    let state = match (broken, died) {
        (true, _) => ", broken",
        (false, true) => ", a party died",
        (false, false) => "",
    };
    format!("round {}{state}", found.rounds)
}

/// Of a broken one: whether who comes is told of a death.
fn is_broken_by_a_death(barrier: &Barrier) -> bool {
    let told = barrier.wait_timeout(PATIENCE);
    told.is_err_and(|broken| broken.dead_party().is_some())
}

/// Takes all the places that are free: who then finds none looks who lives.
fn look_who_lives(barrier: &Barrier) {
    let places: Vec<_> = std::iter::from_fn(|| barrier.register().ok()).collect();
    assert!(places.len() <= PARTIES as usize);
}
