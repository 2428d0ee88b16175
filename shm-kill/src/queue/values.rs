//! `Queue`: messages that are encoded, and the halves whose numbers close it.

use shm_queue::{Queue, QueueError};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use super::check::{Subject as _, check};
use super::dead::locks_are_free;
use super::{PATIENCE, small_queue, text};
use crate::segment::place;

pub(super) type Values = Queue<String>;

pub(super) fn cases() -> Vec<Case> {
    let values = |operation: &str, state: &str| Case::new(operation, state).checked_by("values");
    vec![
        // Most of its steps encode.
        values("put_many", "one value")
            .at_most(2000)
            .killed(Outcomes::phases(&["1", "1 4", "1 4 8"])),
        values("get value", "three values").killed(Outcomes::switch("1 2 3", "2 3")),
        values("get_many values", "three values")
            .killed(Outcomes::phases(&["1 2 3", "2 3", "3", "nothing"])),
        values("drain values", "three values")
            .at_most(2000)
            .killed(Outcomes::phases(&["1 2 3", "2 3", "3", "nothing"])),
        Case::new("make sender", "one value")
            .checked_by("senders")
            .killed(Outcomes::switch("open 1", "closed 1")),
        // It is counted as long as its process lives, and once.
        values("make receiver", "one value")
            .killed(Outcomes::always("1"))
            .frozen(
                "count receivers",
                Outcomes::phases(&["counted 0; 1", "locked; 1", "counted 1; 1"]),
            )
            .frozen_and_killed(
                "count receivers",
                Outcomes::phases(&["counted 0; 1", "locked; 1", "counted 1; 1"]),
            ),
        // Dropped or killed, it is gone.
        Case::new("drop sender", "one value")
            .at_most(2000)
            .checked_by("settled senders")
            .killed(Outcomes::always("closed 1")),
    ]
}

pub(super) fn commands(commands: Commands) -> Commands {
    victims(setups(commands))
        .act("count receivers", |name| {
            let queue = Values::open(name).expect("the queue");
            match locks_are_free(queue.segment()) {
                true => format!("counted {}", queue.look().halves.1),
                false => "locked".to_owned(),
            }
        })
        .check("values", check::<Values>)
        .check("senders", |name, _| {
            check_senders(&Values::open(name).expect("the queue"))
        })
        .check("settled senders", |name, _| {
            let queue = Values::open(name).expect("the queue");
            queue.recover().expect("nothing stands in the way");
            check_senders(&queue)
        })
}

fn setups(commands: Commands) -> Commands {
    let value_queue = |commands: Commands, state, numbers: &'static [u8]| {
        commands.setup(state, |name| {
            let queue = Values::create(place(name), small_queue()).expect("a new queue");
            let values = numbers.iter().map(|&number| text(number));
            queue.put_many(values).expect("it has room");
        })
    };
    let commands = value_queue(commands, "one value", &[1]);
    value_queue(commands, "three values", &[1, 2, 3])
}

fn victims(commands: Commands) -> Commands {
    let open = |name: &str| Values::open(name).expect("the queue");
    commands
        .victim("put_many", move |name| {
            let (queue, values) = (open(name), [text(4), text(8)]);
            mark_start();
            let result = queue.put_many(values);
            mark_end();
            result.expect("there is room");
        })
        .victim("get value", move |name| {
            let queue = open(name);
            mark_start();
            let result = queue.get();
            mark_end();
            assert_eq!(result, Ok(text(1)));
        })
        .victim("get_many values", move |name| {
            let queue = open(name);
            mark_start();
            let result = queue.get_many(10);
            mark_end();
            assert_eq!(result.map(|values| values.len()), Ok(3));
        })
        .victim("drain values", move |name| {
            let queue = open(name);
            mark_start();
            let result = queue.drain();
            mark_end();
            assert_eq!(result.map(|values| values.len()), Ok(3));
        })
        .victim("make receiver", move |name| {
            let queue = open(name);
            mark_start();
            let receiver = queue.receiver();
            mark_end();
            std::mem::forget(receiver.expect("nothing stands in the way"));
        })
        .victim("make sender", move |name| {
            let queue = open(name);
            mark_start();
            let sender = queue.sender();
            mark_end();
            std::mem::forget(sender.expect("it is open"));
        })
        .victim("drop sender", move |name| {
            let queue = open(name);
            let sender = queue.sender().expect("it is open");
            mark_start();
            drop(sender);
            mark_end();
        })
}

/// Whether the queue of one value closes after it.
fn check_senders(queue: &Values) -> &'static str {
    assert_eq!(queue.get_timeout(PATIENCE), Ok(text(1)));
    let state = match queue.get_timeout(PATIENCE) {
        Err(QueueError::Closed) => "closed 1",
        Err(QueueError::Timeout) => "open 1",
        other => panic!("{other:?}"),
    };
    queue.unlink().expect("it is there");
    state
}
