//! A whole queue: made, opened, closed, shut down, and relieved of its dead letters.

use shm_queue::ByteQueue;
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use super::{bytes, create_bytes, open, small_queue};
use crate::segment::{place, warm_up};

pub(super) fn cases() -> Vec<Case> {
    let made = || Outcomes::switch("absent", "nothing");
    // Most of their steps are those of segments.
    let whole = |operation: &str, state: &str| bytes(operation, state).at_most(2000);
    vec![
        bytes("close", "full queue").killed(Outcomes::switch("1 2 3", "closed 1 2 3")),
        bytes("shutdown", "full queue").killed(Outcomes::switch("1 2 3", "closed nothing")),
        bytes("shutdown", "queue of one large").killed(Outcomes::switch("6", "closed nothing")),
        bytes("dead_letters", "dead letters").killed(Outcomes::phases(&[
            "nothing; dead 1 2",
            "nothing; dead 2",
            "nothing",
        ])),
        whole("create queue", "no queue").killed(made()),
        whole("open or create queue", "no queue").killed(made()),
        whole("open or create queue", "queue of one").killed(Outcomes::always("1")),
        whole("open queue", "queue of one").killed(Outcomes::always("1")),
    ]
}

pub(super) fn commands(commands: Commands) -> Commands {
    commands
        .setup("no queue", |_| {})
        .setup("dead letters", |name| {
            let queue = create_bytes(name, small_queue().max_deliveries(1), &[1, 2]);
            for _ in 0..2 {
                let received = queue.recv_ref().expect("it was put");
                received.give_back().expect("it is ours");
            }
        })
        .victim("close", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.close();
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("shutdown", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.shutdown(true);
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("dead_letters", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.dead_letters();
            mark_end();
            assert_eq!(result.expect("nothing stands in the way").len(), 2);
        })
        .victim("create queue", |name| {
            warm_up();
            mark_start();
            let result = ByteQueue::create(place(name), small_queue());
            mark_end();
            result.expect("a new queue");
        })
        .victim("open or create queue", |name| {
            warm_up();
            mark_start();
            let result = ByteQueue::open_or_create(place(name), small_queue());
            mark_end();
            result.expect("one of the two");
        })
        .victim("open queue", |name| {
            warm_up();
            mark_start();
            let result = ByteQueue::open(name);
            mark_end();
            result.expect("it is there");
        })
}
