//! Who sleeps for a message, for room or for the end of all tasks is woken, whoever died.

use shm_queue::{ByteQueue, QueueError};
use shm_testing::step_killer::{Case, Outcomes};
use shm_testing::{Commands, wait_until};
use shm_value::AtomicValue;

use super::check::{Subject as _, check};
use super::tasks::Tasks;
use super::{PATIENCE, message, number_of, open};

/// Who slept for a message has the victim's, or else the checker's; who slept for room has put.
pub(super) fn cases() -> Vec<Case> {
    let for_a_message = |operation| {
        Case::new(operation, "empty queue")
            .checked_by("byte queue of one who gets")
            .with_sleeper("get and say")
    };
    let for_room = |operation| {
        Case::new(operation, "full queue")
            .checked_by("byte queue of one who puts")
            .with_sleeper("put and say")
    };
    let put = |number| Outcomes::switch("nothing; got 5", &format!("5; got {number}"));
    let got = || Outcomes::switch("took 1; 2 3 5; put", "took 2; 3 5; put");
    vec![
        for_a_message("put small").killed(put(4)),
        // Most of their steps are those of rows without a sleeper.
        for_a_message("put large").at_most(1000).killed(put(8)),
        for_a_message("reserve and commit")
            .at_most(1000)
            .killed(put(8)),
        for_a_message("close").killed(Outcomes::switch(
            "nothing; got 5",
            "closed nothing; got no more",
        )),
        for_room("get bytes").killed(got()),
        for_room("recv_ref and drop").killed(Outcomes::phases(&[
            "took 1; 2 3 5; put",
            "took 1'; 2 3 5; put",
            "took 2; 3 5; put",
        ])),
        Case::new("task_done", "one task")
            .checked_by("tasks")
            .with_sleeper("join and say")
            .killed(Outcomes::switch("1'; joined", "nothing; joined")),
    ]
}

pub(super) fn commands(commands: Commands) -> Commands {
    commands
        .act("get and say", |name| {
            let served = served(name);
            let got = open(name).get();
            served.fetch_add(1);
            match got {
                Ok(bytes) => format!("got {}", number_of(&bytes)),
                Err(QueueError::Closed) => "got no more".to_owned(),
                Err(other) => panic!("{other}"),
            }
        })
        .act("put and say", |name| {
            let served = served(name);
            open(name).put(&message(5)).expect("it is open");
            served.fetch_add(1);
            "put"
        })
        .act("join and say", |name| {
            let queue = Tasks::open(name).expect("the queue");
            queue.join().expect("nothing stands in the way");
            "joined"
        })
        .check("byte queue of one who gets", check_getter)
        .check("byte queue of one who puts", check_putter)
}

/// How many of those who slept have what they slept for.
fn served(name: &str) -> AtomicValue<u32> {
    AtomicValue::open_or_create(format!("{name}.served").as_str(), 0).expect("a number")
}

fn wait_until_served(name: &str) {
    let served = served(name);
    let is_served = || served.load() == 1;
    assert!(wait_until(is_served, 8 * PATIENCE), "one sleeps on");
    served.unlink().expect("it is there");
}

/// Puts a message for the one who sleeps, in case that the victim has not.
fn check_getter(name: &str, _: Option<&str>) -> String {
    match open(name).put_timeout(&message(5), PATIENCE) {
        Ok(()) | Err(QueueError::Closed) => {}
        Err(other) => panic!("{other}"),
    }
    wait_until_served(name);
    check::<ByteQueue>(name, None)
}

/// Makes room for the one who sleeps, in case that the victim has not.
fn check_putter(name: &str, _: Option<&str>) -> String {
    let queue = open(name);
    // What the dead held comes first again.
    queue.settle();
    let (bytes, before) = {
        let received = queue.recv_ref_timeout(PATIENCE).expect("it was full");
        (received.to_vec(), received.deliveries() - 1)
    };
    let took = format!("took {}{}", number_of(&bytes), "'".repeat(before.into()));
    wait_until_served(name);
    check::<ByteQueue>(name, Some(&took))
}
