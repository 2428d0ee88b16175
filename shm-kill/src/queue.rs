//! Queues: each message is there or not, whole, once, in its place; and what the dead held goes to others.
//!
//! A message is named by its number: small below 6, 7 of a size that is copied into the arena under the lock,
//! all others so long that they are copied outside it. A check takes out all that is left and
//! names it in order: `1' 2 4; dead 3` says that 1 was handed out once before, and that 3 is a dead letter.

use std::time::Duration;

use shm_core::Segment;
use shm_core::sync::Ordering;
use shm_lock::Patience;
use shm_queue::raw::Control;
use shm_queue::{
    ByteQueue, DeadLetter, Inspection, JoinableQueue, OnDrop, Options, Queue, QueueError,
};
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_testing::{Commands, wait_until};
use shm_value::AtomicValue;

use crate::segment::{A_WHILE, die, place, warm_up};

type Message = Vec<u8>;
type Values = Queue<String>;
type Tasks = JoinableQueue<String>;

/// Those wait so long who must get something, or find out that they will not.
const PATIENCE: Duration = Duration::from_millis(400);
/// Those wait so long whom a victim that stands still may keep waiting.
const SHORT: Duration = Duration::from_millis(20);
/// A task's time, where it has one: none runs out in a test.
const TIME: Duration = Duration::from_secs(1000);

fn small_queue() -> Options {
    Options::new(3)
        .leases(4)
        .dead_letters(2)
        .max_message(3000)
        .arena_bytes(12 << 10)
}

fn message(number: u8) -> Message {
    let len = match number {
        0..=5 => 40,
        7 => 300,
        _ => 2300,
    };
    vec![number; len]
}

/// The same as a value: of a type that is encoded as a whole, not element by element.
fn text(number: u8) -> String {
    to_text(message(number))
}

fn to_text(message: Message) -> String {
    String::from_utf8(message).expect("numbers below 128")
}

fn number_of(bytes: &[u8]) -> u8 {
    assert!(bytes == message(bytes[0]), "torn: {bytes:?}");
    bytes[0]
}

pub(crate) fn cases() -> Vec<Case> {
    [
        puts(),
        gets(),
        in_place(),
        after_deaths(),
        wakes(),
        whole_queues(),
        values(),
        tasks(),
        controls(),
    ]
    .concat()
}

fn bytes(operation: &str, state: &str) -> Case {
    Case::new(operation, state).checked_by("byte queue")
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

/// What the dead left in the locks, and outside of them.
fn after_deaths() -> Vec<Case> {
    let any = Outcomes::any;
    let mut cases = Vec::new();
    for state in ["dead in put lock", "dead in get lock"] {
        cases.extend([
            bytes("put small", state)
                .orphaned()
                .killed(Outcomes::switch("1", "1 4")),
            bytes("put large", state)
                .orphaned()
                .killed(Outcomes::switch("1", "1 8")),
            bytes("get bytes", state)
                .orphaned()
                .killed(Outcomes::switch("1", "nothing")),
            bytes("recover", state)
                .orphaned()
                .killed(Outcomes::always("1"))
                .frozen("get one", any(&["got 1; nothing", "got nothing; 1"])),
        ]);
    }
    let left = "1' 2' 3";
    cases.extend([
        bytes("put small", "dead with leases")
            .orphaned()
            .killed(Outcomes::switch(left, "1' 2' 3 4")),
        bytes("get bytes", "dead with leases")
            .orphaned()
            .killed(Outcomes::switch(left, "1' 2'")),
        bytes("open queue", "dead with leases")
            .orphaned()
            .killed(Outcomes::always(left)),
        bytes("recover", "dead with leases")
            .orphaned()
            .killed(Outcomes::always(left))
            .frozen(
                "get one",
                any(&["got 1; 2' 3", "got 3; 1' 2'", "got nothing; 1' 2' 3"]),
            )
            .frozen_and_killed(
                "get one",
                any(&["got 1; 2' 3", "got 3; 1' 2'", "got nothing; 1' 2' 3"]),
            ),
        bytes("get two", "dead with leases")
            .orphaned()
            .killed(Outcomes::phases(&[left, "1' 2'", "2'"])),
    ]);
    cases
}

/// Who slept for a message has the victim's, or else the checker's; who slept for room has put.
fn wakes() -> Vec<Case> {
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

fn whole_queues() -> Vec<Case> {
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

fn values() -> Vec<Case> {
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

fn tasks() -> Vec<Case> {
    let tasks = |operation: &str, state: &str| Case::new(operation, state).checked_by("tasks");
    let done = || Outcomes::switch("1' 2 3", "2 3");
    vec![
        tasks("take", "three tasks").killed(Outcomes::switch("1 2 3", "1' 2 3")),
        tasks("take", "one task")
            .killed_under_waiter("do one patiently", Outcomes::always("did 1; nothing")),
        tasks("take", "task of the dead")
            .orphaned()
            .killed(Outcomes::switch("1' 2", "1' 2'"))
            .at_most(200)
            .frozen(
                "do one",
                // Only who finds nothing else, or has looked for long, takes what a dead one had.
                Outcomes::any(&["did 2; 1''", "did nothing; 1' 2'", "did 1; 2'"]),
            )
            .frozen_and_killed(
                "do one",
                Outcomes::any(&[
                    "did 2; 1'",
                    "did nothing; 1' 2",
                    "did nothing; 1' 2'",
                    "did 1; 2'",
                ]),
            ),
        tasks("task_done", "three tasks")
            .killed(done())
            .frozen("do one", Outcomes::any(&["did 2; 3", "did nothing; 2 3"])),
        tasks("task_done after detach", "three tasks").killed(done()),
        tasks("requeue", "three tasks")
            .killed(Outcomes::always("1' 2 3"))
            .frozen(
                "do one",
                Outcomes::any(&["did 2; 1' 3", "did 1; 2 3", "did nothing; 1' 2 3"]),
            ),
        tasks("drop task", "three tasks").killed(Outcomes::always("1' 2 3")),
        tasks("drop task", "three tasks, done when dropped").killed(done()),
        Case::new("extend", "three tasks with a time")
            .checked_by("tasks and the first one's time")
            .killed(Outcomes::phases(&[
                "short; 1' 2 3",
                "taken back; 1' 2 3",
                "long; 1' 2 3",
            ]))
            .at_most(100)
            .frozen(
                "do one",
                Outcomes::phases(&[
                    "did 2; long; 1' 3",
                    "did nothing; long; 1' 2 3",
                    "did 2; long; 1' 3",
                ]),
            ),
        tasks("join", "no tasks").killed(Outcomes::always("nothing")),
        tasks("join", "one task")
            .while_held("task")
            .killed(Outcomes::always("nothing")),
        tasks("give up join", "three tasks")
            .gives_up()
            .killed(Outcomes::always("1 2 3")),
        tasks("recover tasks", "poisoned tasks")
            .orphaned()
            .killed(Outcomes::always("2 3; dead 1")),
        tasks("recover tasks", "more poison than room")
            .orphaned()
            .killed(Outcomes::always("nothing; dead 3 4")),
    ]
}

/// One message goes to the end in two steps that pretend to be one: between them it is lost, or there twice.
fn controls() -> Vec<Case> {
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

pub(crate) fn commands() -> Commands {
    let commands = acts(setups(Commands::new()));
    let commands = byte_victims(commands);
    let commands = task_victims(value_victims(commands));
    commands
        .check("byte queue", check::<ByteQueue>)
        .check("values", check::<Values>)
        .check("tasks", check::<Tasks>)
        .check("byte queue of one who gets", check_getter)
        .check("byte queue of one who puts", check_putter)
        .check("tasks and the first one's time", check_time)
        .check("senders", |name, _| {
            check_senders(&Values::open(name).expect("the queue"))
        })
        .check("settled senders", |name, _| {
            let queue = Values::open(name).expect("the queue");
            queue.recover().expect("nothing stands in the way");
            check_senders(&queue)
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

fn create_bytes(name: &str, options: Options, numbers: &[u8]) -> ByteQueue {
    let queue = ByteQueue::create(place(name), options).expect("a new queue");
    for &number in numbers {
        queue.try_put(&message(number)).expect("it has room");
    }
    queue
}

fn create_tasks(name: &str, options: Options, numbers: &[u8]) -> Tasks {
    let queue = Tasks::create(place(name), options).expect("a new queue");
    for &number in numbers {
        queue.try_put(text(number)).expect("it has room");
    }
    queue
}

fn setups(commands: Commands) -> Commands {
    let byte_queue = |commands: Commands, state, numbers: &'static [u8]| {
        commands.setup(state, |name| {
            create_bytes(name, small_queue(), numbers);
        })
    };
    let value_queue = |commands: Commands, state, numbers: &'static [u8]| {
        commands.setup(state, |name| {
            let queue = Values::create(place(name), small_queue()).expect("a new queue");
            let values = numbers.iter().map(|&number| text(number));
            queue.put_many(values).expect("it has room");
        })
    };
    let task_queue = |commands: Commands, state, numbers: &'static [u8]| {
        commands.setup(state, |name| {
            create_tasks(name, small_queue(), numbers);
        })
    };
    let commands = byte_queue(commands, "empty queue", &[]);
    let commands = byte_queue(commands, "queue of one", &[1]);
    let commands = byte_queue(commands, "queue of one medium", &[7]);
    let commands = byte_queue(commands, "queue of one large", &[6]);
    let commands = byte_queue(commands, "full queue", &[1, 2, 3]);
    let commands = value_queue(commands, "one value", &[1]);
    let commands = value_queue(commands, "three values", &[1, 2, 3]);
    let commands = task_queue(commands, "no tasks", &[]);
    let commands = task_queue(commands, "one task", &[1]);
    let commands = task_queue(commands, "three tasks", &[1, 2, 3]);
    setups_of_the_dead(commands)
        .setup("no queue", |_| {})
        .setup("three tasks, done when dropped", |name| {
            create_tasks(name, small_queue().on_drop(OnDrop::Acknowledge), &[1, 2, 3]);
        })
        .setup("three tasks with a time", |name| {
            create_tasks(name, small_queue().lease_time(TIME), &[1, 2, 3]);
        })
        .setup("wrapped queue", |name| {
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
        .setup("dead letters", |name| {
            let queue = create_bytes(name, small_queue().max_deliveries(1), &[1, 2]);
            for _ in 0..2 {
                let received = queue.recv_ref().expect("it was put");
                received.give_back().expect("it is ours");
            }
        })
}

fn setups_of_the_dead(commands: Commands) -> Commands {
    commands
        .setup("dead in put lock", |name| {
            let queue = create_bytes(name, small_queue(), &[1]);
            let control = queue.segment().view::<Control>(0).expect("a queue");
            let put = &control.put;
            // SAFETY: the queue stays mapped until this process ends; no signal handler.
            unsafe { put.lock.acquire(Patience::Endless) }.expect("it is free");
            // Of what is written under this lock and never believed again.
            for cache in [
                &put.stack,
                &put.writing,
                &put.lowest,
                &put.chunks,
                &put.allocated,
            ] {
                cache.store(7777, Ordering::Relaxed);
            }
            for cache in [&put.head_seen, &put.taken] {
                cache.store(u64::MAX / 3, Ordering::Relaxed);
            }
            die();
        })
        .setup("dead in get lock", |name| {
            let queue = create_bytes(name, small_queue(), &[1]);
            let control = queue.segment().view::<Control>(0).expect("a queue");
            let get = &control.get;
            // SAFETY: as above.
            unsafe { get.lock.acquire(Patience::Endless) }.expect("it is free");
            for cache in [&get.leased, &get.dead] {
                cache.store(7777, Ordering::Relaxed);
            }
            for cache in [&get.tail_seen, &get.next_expiry] {
                cache.store(u64::MAX / 3, Ordering::Relaxed);
            }
            die();
        })
        .setup("dead with leases", |name| {
            let queue = create_bytes(name, small_queue(), &[1, 2, 3]);
            let _first = queue.recv_ref().expect("it was put");
            let _second = queue.recv_ref().expect("it was put");
            let _reservation = queue.try_reserve(2300).expect("there is room");
            die();
        })
        .setup("task of the dead", |name| {
            let queue = create_tasks(name, small_queue(), &[1, 2]);
            let _task = queue.get().expect("it was put");
            die();
        })
        .setup("poisoned tasks", |name| {
            let queue = create_tasks(name, small_queue().max_deliveries(1), &[1, 2, 3]);
            let _task = queue.get().expect("it was put");
            die();
        })
        .setup("more poison than room", |name| {
            let queue = create_tasks(name, small_queue().max_deliveries(1), &[1, 2, 3]);
            let mut tasks: Vec<_> = (0..3).map(|_| queue.get().expect("it was put")).collect();
            queue.put(text(4)).expect("it has room");
            tasks.push(queue.get().expect("it was put"));
            die();
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
        .act("rebuild", |name| {
            let queue = open(name);
            match locks_are_free(queue.segment()) {
                true => queue.recover().map_or("failed", |_| "rebuilt"),
                false => "locked",
            }
        })
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
        .act("count receivers", |name| {
            let queue = Values::open(name).expect("the queue");
            match locks_are_free(queue.segment()) {
                true => format!("counted {}", queue.look().halves.1),
                false => "locked".to_owned(),
            }
        })
        .act("do one", |name| do_one(name, PATIENCE))
        .act("do one patiently", |name| do_one(name, 10 * PATIENCE))
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
        .hold("task", |name, until_told| {
            let queue = Tasks::open(name).expect("the queue");
            let task = queue.get_timeout(PATIENCE).expect("it was put");
            until_told();
            task.task_done().expect("it is ours");
        })
}

fn do_one(name: &str, patience: Duration) -> String {
    let queue = Tasks::open(name).expect("the queue");
    match queue.get_timeout(patience) {
        Ok(task) => {
            let number = number_of(task.as_bytes());
            task.task_done().expect("it is ours");
            format!("did {number}")
        }
        Err(QueueError::Timeout) => "did nothing".to_owned(),
        Err(other) => panic!("{other}"),
    }
}

/// Whether a `recover`, which takes both locks, would not wait for a victim that stands still.
fn locks_are_free(segment: &Segment) -> bool {
    let control = segment.view::<Control>(0).expect("a queue");
    [&control.put.lock, &control.get.lock].iter().all(|lock| {
        // SAFETY: the queue stays mapped while this process has it; no signal handler.
        let is_free = unsafe { lock.acquire(Patience::None) }.is_ok();
        if is_free {
            // SAFETY: just taken.
            unsafe { lock.unlock() };
        }
        is_free
    })
}

fn open(name: &str) -> ByteQueue {
    ByteQueue::open(name).expect("the queue")
}

fn byte_victims(commands: Commands) -> Commands {
    in_place_victims(whole_queue_victims(commands))
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
        .victim("get two", |name| {
            let (queue, mut bytes) = (open(name), Vec::with_capacity(1000));
            mark_start();
            let first = queue.get_into(&mut bytes);
            let second = queue.recover().and_then(|_| queue.get_into(&mut bytes));
            mark_end();
            first.and(second).expect("there were three");
            assert_eq!(number_of(&bytes), 1, "the oldest");
        })
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

fn whole_queue_victims(commands: Commands) -> Commands {
    commands
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
        .victim("recover", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.recover();
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

fn value_victims(commands: Commands) -> Commands {
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

fn task_victims(commands: Commands) -> Commands {
    let open = |name: &str| Tasks::open(name).expect("the queue");
    commands
        .victim("take", move |name| {
            let queue = open(name);
            mark_start();
            let task = queue.get();
            mark_end();
            std::mem::forget(task.expect("there is one, or will be"));
        })
        .victim("task_done", move |name| {
            let queue = open(name);
            let task = queue.get().expect("there is one");
            mark_start();
            let result = task.task_done();
            mark_end();
            result.expect("it is ours");
        })
        .victim("task_done after detach", move |name| {
            let queue = open(name);
            let _value = queue.get().expect("there is one").detach();
            mark_start();
            let result = queue.task_done();
            mark_end();
            result.expect("it is ours");
        })
        .victim("requeue", move |name| {
            let queue = open(name);
            let task = queue.get().expect("there is one");
            mark_start();
            let result = task.requeue();
            mark_end();
            result.expect("it is ours");
        })
        .victim("extend", move |name| {
            let queue = open(name);
            let task = queue.get().expect("there is one");
            mark_start();
            let result = task.extend(10 * TIME);
            mark_end();
            result.expect("it is ours");
            std::mem::forget(task);
        })
        .victim("drop task", move |name| {
            let queue = open(name);
            let task = queue.get().expect("there is one");
            mark_start();
            drop(task);
            mark_end();
        })
        .victim("join", move |name| {
            let queue = open(name);
            mark_start();
            let result = queue.join();
            mark_end();
            result.expect("nothing stands in the way");
        })
        .victim("give up join", move |name| {
            let queue = open(name);
            mark_start();
            let result = queue.join_timeout(A_WHILE);
            mark_end();
            assert_eq!(result, Err(QueueError::Timeout));
        })
        .victim("recover tasks", move |name| {
            let queue = open(name);
            mark_start();
            let result = queue.recover();
            mark_end();
            result.expect("nothing stands in the way");
        })
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

/// Whether the first task's time was prolonged, unless a repair has taken the task back.
fn check_time(name: &str, acted: Option<&str>) -> String {
    let queue = Tasks::open(name).expect("the queue");
    let time = match queue.look().leases[..] {
        [] => "taken back",
        [lease] if lease.left > Some(2 * TIME) => "long",
        [lease] if lease.left.is_some() => "short",
        ref other => panic!("{other:?}"),
    };
    let label = check::<Tasks>(name, None);
    match acted {
        Some(acted) => format!("{acted}; {time}; {label}"),
        None => format!("{time}; {label}"),
    }
}

/// What a check needs of a queue, whichever it is.
trait Subject: Sized {
    fn attach(name: &str) -> Result<Self, shm_core::Error>;
    /// The first message, and how often it was handed out before, where that can be told.
    fn take(&self) -> Result<(Message, u8), QueueError>;
    fn give(&self, message: Message) -> Result<(), QueueError>;
    fn settle(&self);
    fn look(&self) -> Inspection;
    fn letters(&self) -> Vec<DeadLetter>;
    fn room(&self) -> usize;
    fn remove(&self);
}

macro_rules! subject {
    ($queue:ty, $take:expr, $give:expr) => {
        impl Subject for $queue {
            fn attach(name: &str) -> Result<Self, shm_core::Error> {
                Self::open(name)
            }

            fn take(&self) -> Result<(Message, u8), QueueError> {
                let take: fn(&Self) -> Result<(Message, u8), QueueError> = $take;
                take(self)
            }

            fn give(&self, message: Message) -> Result<(), QueueError> {
                let give: fn(&Self, Message) -> Result<(), QueueError> = $give;
                give(self, message)
            }

            fn settle(&self) {
                self.recover().expect("nothing stands in the way");
            }

            fn look(&self) -> Inspection {
                self.inspect().expect("nothing stands in the way")
            }

            fn letters(&self) -> Vec<DeadLetter> {
                self.dead_letters().expect("nothing stands in the way")
            }

            fn room(&self) -> usize {
                self.capacity()
            }

            fn remove(&self) {
                self.unlink().expect("it is there");
            }
        }
    };
}

subject!(
    ByteQueue,
    |queue| queue
        .try_recv_ref()
        .map(|received| (received.to_vec(), received.deliveries() - 1)),
    |queue, message| queue.try_put(&message)
);
subject!(
    Values,
    |queue| queue.try_get().map(|value| (value.into_bytes(), 0)),
    |queue, message| queue
        .try_put(to_text(message))
        .map_err(|refused| refused.error)
);
subject!(
    Tasks,
    |queue| {
        let task = queue.try_get()?;
        let (value, before) = (task.as_bytes().to_vec(), task.deliveries() - 1);
        task.task_done().map(|()| (value, before))
    },
    |queue, message| queue
        .try_put(to_text(message))
        .map_err(|refused| refused.error)
);

/// Names all that is in the queue, and sees that nothing of it is lost to use.
fn check<S: Subject>(name: &str, acted: Option<&str>) -> String {
    let queue = match S::attach(name) {
        Ok(queue) => queue,
        Err(shm_core::Error::NotFound { .. }) => return "absent".to_owned(),
        Err(other) => panic!("{other}"),
    };
    queue.settle();
    let seen = queue.look();
    assert!(seen.writing == 0 && seen.leases.is_empty(), "{seen:?}");
    let left = drain(&queue);
    assert_eq!(left.len(), seen.len, "{left:?}");
    let letters = queue.letters();
    assert_eq!(letters.len(), seen.dead_letters);
    all_is_usable(&queue, seen.closed);
    queue.remove();
    let mut label = acted.map_or(String::new(), |acted| format!("{acted}; "));
    if seen.closed {
        label += "closed ";
    }
    label += &match left.is_empty() {
        true => "nothing".to_owned(),
        false => left.join(" "),
    };
    if !letters.is_empty() {
        let numbers = letters
            .iter()
            .map(|letter| letter_number(&letter.bytes).to_string());
        label += &format!("; dead {}", numbers.collect::<Vec<_>>().join(" "));
    }
    label
}

/// An encoded value begins with its length.
fn letter_number(bytes: &[u8]) -> u8 {
    let last = *bytes.last().expect("not empty");
    assert!(bytes.ends_with(&message(last)), "torn: {bytes:?}");
    last
}

fn drain<S: Subject>(queue: &S) -> Vec<String> {
    let mut left = Vec::new();
    loop {
        match queue.take() {
            Ok((bytes, before)) => {
                let number = number_of(&bytes);
                left.push(format!("{number}{}", "'".repeat(before.into())));
            }
            Err(QueueError::Empty | QueueError::Closed) => return left,
            Err(other) => panic!("{other}"),
        }
    }
}

/// The empty queue takes as many messages as it was made for, small and large, and gives all of them.
fn all_is_usable<S: Subject>(queue: &S, closed: bool) {
    queue.settle();
    let seen = queue.look();
    assert_eq!(
        (seen.len, seen.dead_letters, seen.arena_used),
        (0, 0, 0),
        "{seen:?}"
    );
    if closed {
        assert_eq!(queue.give(message(1)), Err(QueueError::Closed));
        return;
    }
    for number in [2, 8, 7, 3] {
        for _ in 0..queue.room() {
            queue.give(message(number)).expect("all of its room");
        }
        assert_eq!(queue.give(message(1)), Err(QueueError::Full));
        let all = vec![number.to_string(); queue.room()];
        assert_eq!(drain(queue), all);
    }
}
