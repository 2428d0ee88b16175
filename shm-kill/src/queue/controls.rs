//! One message goes to the end in two steps that pretend to be one: between them it is lost, or there twice.

use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use super::{bytes, message, open};

pub(super) fn cases() -> Vec<Case> {
    let control = |operation, between| {
        bytes(operation, "wrapped queue")
            .killed(Outcomes::switch("1 2", "2 1"))
            .control(between)
    };
    vec![
        control("get, then put", "outcome \"2\""),
        control("put, then get", "outcome \"1 2 1\""),
    ]
}

pub(super) fn commands(commands: Commands) -> Commands {
    commands
        .victim("get, then put", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.get().and_then(|first| queue.put(&first));
            mark_end();
            result.expect("there is one, and room");
        })
        .victim("put, then get", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.put(&message(1)).and_then(|()| queue.get());
            mark_end();
            result.expect("there is one, and room");
        })
}
