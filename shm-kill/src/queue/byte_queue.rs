//! `ByteQueue`: put and get in each form, also in place; and two that are no operation, which must be found.

use shm_queue::{ByteQueue, QueueError};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use super::check::check;
use super::{PATIENCE, SHORT, bytes, create_bytes, message, number_of, open, small_queue};
use crate::segment::A_WHILE;

pub(super) fn cases() -> Vec<Case> {
    [puts(), gets(), in_place()].concat()
}

fn puts() -> Vec<Case> {
    let any = Outcomes::any;
    let mut cases = Vec::new();
    let puts = [
        ("put small", "1", "1 4"),
        ("put medium", "1", "1 7"),
        ("put large", "1", "1 8"),
    ];
    for (operation, one, two) in puts {
        let put = two.trim_start_matches("1 ");
        cases.extend([
            bytes(operation, "empty queue").killed(Outcomes::switch("nothing", put)),
            bytes(operation, "queue of one")
                .killed(Outcomes::switch(one, two))
                .frozen("get one", Outcomes::always(&format!("got 1; {put}")))
                .frozen(
                    "put five",
                    any(&[
                        &format!("put; 1 5 {put}"),
                        &format!("put; 1 {put} 5"),
                        &format!("refused; 1 {put}"),
                    ]),
                )
                .frozen_and_killed(
                    "put five",
                    any(&[
                        "put; 1 5",
                        &format!("put; 1 {put} 5"),
                        "refused; 1",
                        &format!("refused; 1 {put}"),
                    ]),
                )
                .killed_under_waiter(
                    "put five patiently",
                    Outcomes::rising(&["put; 1 5", &format!("put; 1 {put} 5")]),
                ),
            bytes(operation, "wrapped queue")
                .killed(Outcomes::switch("1 2", &format!("1 2 {put}"))),
            // The one who makes room takes 1 out when the victim sleeps, or before the check.
            bytes(operation, "full queue")
                .while_held("room")
                .killed(Outcomes::switch("2 3", &format!("2 3 {put}"))),
        ]);
    }
    // Of messages that are copied under one lock, the first ones.
    cases.push(
        bytes("put_many short", "queue of one")
            .killed(Outcomes::phases(&["1", "1 4", "1 4 5"]))
            .frozen("get one", Outcomes::always("got 1; 4 5"))
            .frozen_and_killed(
                "get one",
                any(&["got 1; nothing", "got 1; 4", "got 1; 4 5"]),
            ),
    );
    cases.push(
        bytes("put_many short", "empty queue")
            .at_most(200)
            .killed_under_waiter(
                "get patiently",
                Outcomes::rising(&["got nothing; nothing", "got 4; nothing", "got 4; 5"]),
            ),
    );
    let full = |operation| bytes(operation, "full queue");
    cases.push(full("try_put").killed(Outcomes::always("1 2 3")));
    cases.push(
        full("give up put")
            .gives_up()
            .killed(Outcomes::always("1 2 3")),
    );
    cases
}

fn gets() -> Vec<Case> {
    let any = Outcomes::any;
    let large = || Outcomes::phases(&["6", "6'", "nothing"]);
    vec![
        bytes("get bytes", "queue of one")
            .killed(Outcomes::switch("1", "nothing"))
            .killed_under_waiter(
                "get patiently",
                Outcomes::rising(&["got 1; nothing", "got nothing; nothing"]),
            ),
        bytes("get bytes", "full queue")
            .killed(Outcomes::switch("1 2 3", "2 3"))
            .frozen("put five", any(&["refused; 2 3", "put; 2 3 5"]))
            .frozen(
                "get one",
                any(&["got 1; 3", "got 2; 3", "got nothing; 2 3"]),
            )
            .frozen_and_killed(
                "get one",
                any(&[
                    "got 1; 2 3",
                    "got 2; 3",
                    "got nothing; 1 2 3",
                    "got nothing; 2 3",
                ]),
            ),
        bytes("get bytes", "wrapped queue").killed(Outcomes::switch("1 2", "2")),
        bytes("get bytes", "queue of one medium").killed(Outcomes::switch("7", "nothing")),
        bytes("get bytes", "queue of one large")
            .killed(large())
            .frozen("rebuild", any(&["rebuilt; nothing", "locked; nothing"]))
            .killed_under_waiter(
                "get patiently",
                Outcomes::rising(&["got 6; nothing", "got nothing; nothing"]),
            ),
        bytes("get bytes", "empty queue")
            .while_held("message")
            .killed(Outcomes::switch("5", "nothing")),
        bytes("get_many", "full queue").killed(Outcomes::phases(&["1 2 3", "2 3", "3", "nothing"])),
        bytes("get_many", "queue of one large").killed(large()),
        bytes("give up get", "empty queue")
            .gives_up()
            .killed(Outcomes::always("nothing")),
    ]
}

fn in_place() -> Vec<Case> {
    let any = Outcomes::any;
    vec![
        bytes("reserve and commit", "queue of one")
            .killed(Outcomes::switch("1", "1 8"))
            .frozen("get one", Outcomes::always("got 1; 8"))
            .frozen("rebuild", any(&["rebuilt; 1 8", "locked; 1 8"])),
        bytes("reserve and drop", "queue of one").killed(Outcomes::always("1")),
        bytes("recv_ref and drop", "queue of one")
            .killed(Outcomes::phases(&["1", "1'", "nothing"])),
        bytes("recv_ref and drop", "full queue")
            .killed(Outcomes::phases(&["1 2 3", "1' 2 3", "2 3"]))
            .frozen(
                "get one",
                any(&["got 1; 3", "got 2; 3", "got nothing; 2 3"]),
            ),
        bytes("recv_ref", "queue of one")
            .killed(Outcomes::switch("1", "1'"))
            .killed_under_waiter("get patiently", Outcomes::always("got 1; nothing")),
        bytes("give_back", "full queue")
            .killed(Outcomes::always("1' 2 3"))
            .frozen("put five", any(&["put; 1' 2 3 5", "refused; 1' 2 3"])),
        bytes("give_back", "wrapped queue").killed(Outcomes::always("1' 2")),
    ]
}

pub(super) fn commands(commands: Commands) -> Commands {
    victims(acts(setups(commands))).check("byte queue", check::<ByteQueue>)
}

fn setups(commands: Commands) -> Commands {
    let byte_queue = |commands: Commands, state, numbers: &'static [u8]| {
        commands.setup(state, |name| {
            create_bytes(name, small_queue(), numbers);
        })
    };
    let commands = byte_queue(commands, "empty queue", &[]);
    let commands = byte_queue(commands, "queue of one", &[1]);
    let commands = byte_queue(commands, "queue of one medium", &[7]);
    let commands = byte_queue(commands, "queue of one large", &[6]);
    let commands = byte_queue(commands, "full queue", &[1, 2, 3]);
    commands.setup("wrapped queue", |name| {
        let queue = create_bytes(name, small_queue(), &[]);
        // Nine cells, so rings of 16: the two lie on both sides of the end.
        for _ in 0..15 {
            queue.put(&message(5)).expect("it has room");
            queue.get().expect("it was put");
        }
        for number in [1, 2] {
            queue.put(&message(number)).expect("it has room");
        }
    })
}

fn acts(commands: Commands) -> Commands {
    let get = |name: &str, patience| match open(name).get_timeout(patience) {
        Ok(bytes) => format!("got {}", number_of(&bytes)),
        Err(QueueError::Timeout) => "got nothing".to_owned(),
        Err(other) => panic!("{other}"),
    };
    let put = |name: &str, patience| match open(name).put_timeout(&message(5), patience) {
        Ok(()) => "put",
        Err(QueueError::Timeout) => "refused",
        Err(other) => panic!("{other}"),
    };
    commands
        .act("get one", move |name| get(name, SHORT))
        .act("get patiently", move |name| {
            loop {
                let got = get(name, PATIENCE);
                // As long as there is something, it was too early to give up: the victim stood still for long.
                let seen = open(name).inspect().expect("a queue");
                if got != "got nothing" || seen.len + seen.leases.len() == 0 {
                    return got;
                }
            }
        })
        .act("put five", move |name| put(name, SHORT))
        .act("put five patiently", move |name| put(name, 10 * PATIENCE))
        .hold("room", |name, until_told| {
            until_told();
            let bytes = open(name).get_timeout(10 * PATIENCE).expect("it is full");
            assert_eq!(number_of(&bytes), 1);
        })
        .hold("message", |name, until_told| {
            until_told();
            let queue = open(name);
            queue
                .put_timeout(&message(5), 10 * PATIENCE)
                .expect("it is empty");
        })
}

fn victims(commands: Commands) -> Commands {
    in_place_victims(commands)
        .victim("put small", |name| {
            let (queue, message) = (open(name), message(4));
            mark_start();
            let result = queue.put(&message);
            mark_end();
            result.expect("there is room, or will be");
        })
        .victim("put_many short", |name| {
            let (queue, messages) = (open(name), [message(4), message(5)]);
            mark_start();
            let result = queue.put_many(&messages);
            mark_end();
            result.expect("there is room");
        })
        .victim("put medium", |name| {
            let (queue, message) = (open(name), message(7));
            mark_start();
            let result = queue.put(&message);
            mark_end();
            result.expect("there is room, or will be");
        })
        .victim("put large", |name| {
            let (queue, message) = (open(name), message(8));
            mark_start();
            let result = queue.put(&message);
            mark_end();
            result.expect("there is room, or will be");
        })
        .victim("try_put", |name| {
            let (queue, message) = (open(name), message(4));
            mark_start();
            let result = queue.try_put(&message);
            mark_end();
            assert_eq!(result, Err(QueueError::Full));
        })
        .victim("give up put", |name| {
            let (queue, message) = (open(name), message(4));
            mark_start();
            let result = queue.put_timeout(&message, A_WHILE);
            mark_end();
            assert_eq!(result, Err(QueueError::Timeout));
        })
        .victim("get bytes", |name| {
            let (queue, mut bytes) = (open(name), Vec::with_capacity(1000));
            mark_start();
            let result = queue.get_into(&mut bytes);
            mark_end();
            result.expect("there is one, or will be");
            number_of(&bytes);
        })
        .victim("get_many", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.get_many(10);
            mark_end();
            assert!(!result.expect("there are some").is_empty());
        })
        .victim("give up get", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.get_timeout(A_WHILE);
            mark_end();
            assert_eq!(result, Err(QueueError::Timeout));
        })
}

fn in_place_victims(commands: Commands) -> Commands {
    commands
        .victim("reserve and commit", |name| {
            let queue = open(name);
            mark_start();
            let mut reservation = queue.reserve(2300).expect("there is room");
            reservation.fill(8);
            let result = reservation.commit();
            mark_end();
            result.expect("it is open");
        })
        .victim("reserve and drop", |name| {
            let queue = open(name);
            mark_start();
            drop(queue.reserve(2300).expect("there is room"));
            mark_end();
        })
        .victim("recv_ref and drop", |name| {
            let queue = open(name);
            mark_start();
            drop(queue.recv_ref().expect("there is one"));
            mark_end();
        })
        .victim("recv_ref", |name| {
            let queue = open(name);
            mark_start();
            let received = queue.recv_ref();
            mark_end();
            drop(received.expect("there is one"));
        })
        .victim("give_back", |name| {
            let queue = open(name);
            let received = queue.recv_ref().expect("there is one");
            mark_start();
            let result = received.give_back();
            mark_end();
            result.expect("it is ours");
        })
}
