//! The event: set or not, and nobody sleeps who should have been woken.

use std::time::Duration;

use shm_lock::Event;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_testing::{Commands, wait_until};

use crate::segment::A_WHILE;

const PATIENCE: Duration = Duration::from_secs(3);
const BRIEFLY: Duration = Duration::from_millis(1);

pub(crate) fn cases() -> Vec<Case> {
    let case = |operation, state| Case::new(operation, state).checked_by("event");
    vec![
        case("event set", "clear event")
            .killed(Outcomes::switch("clear", "set"))
            .killed_after("event set", Outcomes::rising(&["clear", "set"]))
            .frozen("event clear", Outcomes::switch("set", "clear"))
            .killed_under_waiter("event set", Outcomes::always("set")),
        case("event set", "clear event")
            .with_sleeper("event wait")
            .killed(Outcomes::switch("clear; woken", "set; woken"))
            // Set and cleared again: who slept was woken all the same.
            .frozen(
                "event clear",
                Outcomes::switch("set; woken", "clear; woken"),
            ),
        case("event set", "clear event")
            .with_sleeper("event wait")
            .with_sleeper("event wait")
            .killed(Outcomes::switch("clear; woken, woken", "set; woken, woken")),
        case("event set", "set event").killed(Outcomes::always("set")),
        case("event clear", "set event")
            .killed(Outcomes::switch("set", "clear"))
            .frozen("event set", Outcomes::switch("clear", "set")),
        case("event wait", "set event").killed(Outcomes::always("set")),
        case("event wait", "clear event")
            .while_held("an event to be set")
            .killed(Outcomes::always("set")),
        case("event wait", "clear event")
            .while_held("an event to be set")
            .with_sleeper("event wait")
            .killed(Outcomes::always("set; woken")),
        case("event wait in vain", "clear event")
            .gives_up()
            .killed(Outcomes::always("clear")),
    ]
}

pub(crate) fn commands() -> Commands {
    Commands::new()
        .setup("clear event", |name| {
            drop(Event::create(name).expect("a new event"))
        })
        .setup("set event", |name| {
            Event::create(name).expect("a new event").set()
        })
        .hold("an event to be set", |name, until_told| {
            let event = open(name);
            until_told();
            event.set();
        })
        .victim("event set", |name| {
            let event = open(name);
            mark_start();
            event.set();
            mark_end();
        })
        .victim("event clear", |name| {
            let event = open(name);
            mark_start();
            event.clear();
            mark_end();
        })
        .victim("event wait", |name| {
            let event = open(name);
            mark_start();
            event.wait();
            mark_end();
        })
        .victim("event wait in vain", |name| {
            let event = open(name);
            mark_start();
            let was_set = event.wait_timeout(A_WHILE);
            mark_end();
            assert!(!was_set);
        })
        .act("event set", |name| {
            open(name).set();
            "set"
        })
        .act("event clear", |name| {
            open(name).clear();
            "cleared"
        })
        .act("event wait", |name| {
            open(name).wait();
            "woken"
        })
        .check("event", |name, _| {
            let event = open(name);
            let was_set = event.is_set();
            let sets = event.inspect().sets;
            event.set();
            let more = u32::from(!was_set);
            assert_eq!(event.inspect().sets, sets + more, "counted once");
            assert!(event.wait_timeout(Duration::ZERO), "it is set");
            event.clear();
            assert!(!event.wait_timeout(BRIEFLY), "it is clear");
            // Who slept was set free, though the event is clear again.
            let awake = wait_until(|| event.inspect().waiters == 0, PATIENCE);
            assert!(awake, "{:?}", event.inspect());
            event.unlink().expect("it is there");
            if was_set { "set" } else { "clear" }
        })
}

fn open(name: &str) -> Event {
    Event::open(name).expect("the event")
}
