//! `JoinableQueue`: tasks that are handed out, done, given back, prolonged, waited for; and those of the dead.

use std::time::Duration;

use shm_queue::{JoinableQueue, OnDrop, Options, QueueError};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use super::check::{Subject as _, check};
use super::{PATIENCE, number_of, small_queue, text};
use crate::segment::{A_WHILE, die, place};

pub(super) type Tasks = JoinableQueue<String>;

/// A task's time, where it has one: none runs out by itself.
const TIME: Duration = Duration::from_secs(1000);

pub(super) fn cases() -> Vec<Case> {
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
        // Two were handed out, and their time is over.
        tasks("take late ones", "three tasks with a time")
            .killed(Outcomes::switch("1' 2' 3", "1'' 2' 3")),
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

pub(super) fn commands(commands: Commands) -> Commands {
    victims(setups(commands))
        .act("do one", |name| do_one(name, PATIENCE))
        .act("do one patiently", |name| do_one(name, 10 * PATIENCE))
        .hold("task", |name, until_told| {
            let queue = Tasks::open(name).expect("the queue");
            let task = queue.get_timeout(PATIENCE).expect("it was put");
            until_told();
            task.task_done().expect("it is ours");
        })
        .check("tasks", check::<Tasks>)
        .check("tasks and the first one's time", check_time)
}

fn setups(commands: Commands) -> Commands {
    let task_queue = |commands: Commands, state, numbers: &'static [u8]| {
        commands.setup(state, |name| {
            create(name, small_queue(), numbers);
        })
    };
    let commands = task_queue(commands, "no tasks", &[]);
    let commands = task_queue(commands, "one task", &[1]);
    let commands = task_queue(commands, "three tasks", &[1, 2, 3]);
    commands
        .setup("three tasks, done when dropped", |name| {
            create(name, small_queue().on_drop(OnDrop::Acknowledge), &[1, 2, 3]);
        })
        .setup("three tasks with a time", |name| {
            create(name, small_queue().lease_time(TIME), &[1, 2, 3]);
        })
        .setup("task of the dead", |name| {
            let queue = create(name, small_queue(), &[1, 2]);
            let _task = queue.get().expect("it was put");
            die();
        })
        .setup("poisoned tasks", |name| {
            let queue = create(name, small_queue().max_deliveries(1), &[1, 2, 3]);
            let _task = queue.get().expect("it was put");
            die();
        })
        .setup("more poison than room", |name| {
            let queue = create(name, small_queue().max_deliveries(1), &[1, 2, 3]);
            let mut tasks: Vec<_> = (0..3).map(|_| queue.get().expect("it was put")).collect();
            queue.put(text(4)).expect("it has room");
            tasks.push(queue.get().expect("it was put"));
            die();
        })
}

/// A queue of tasks with these in it.
fn create(name: &str, options: Options, numbers: &[u8]) -> Tasks {
    let queue = Tasks::create(place(name), options).expect("a new queue");
    for &number in numbers {
        queue.try_put(text(number)).expect("it has room");
    }
    queue
}

fn victims(commands: Commands) -> Commands {
    let open = |name: &str| Tasks::open(name).expect("the queue");
    commands
        .victim("take", move |name| {
            let queue = open(name);
            mark_start();
            let task = queue.get();
            mark_end();
            std::mem::forget(task.expect("there is one, or will be"));
        })
        .victim("take late ones", move |name| {
            let queue = open(name);
            let late = queue.get_many(2).expect("there are three");
            for task in &late {
                task.extend(Duration::ZERO).expect("it is ours");
            }
            mark_start();
            let task = queue.get();
            mark_end();
            std::mem::forget((task.expect("there is one"), late));
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
