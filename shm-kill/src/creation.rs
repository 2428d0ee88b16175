//! The making of each type: its name is there, whole, with what it was made with, or not at all.
//!
//! `segment.rs` visits every step of making a segment; these are samples of the way of each type.

use std::cell::Cell;

use shm_core::{Error, Place};
use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, Mutex, Once, OnceValue, ReentrantMutex,
    RobustSemaphore, RwLock, Semaphore,
};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_value::{Array, AtomicArray, AtomicValue, Value};

use crate::segment::warm_up;

const TYPES: [&str; 15] = [
    "create mutex",
    "create reentrant mutex",
    "create rwlock",
    "create semaphore",
    "create bounded semaphore",
    "create robust semaphore",
    "create condvar",
    "create event",
    "create barrier",
    "create once",
    "create once value",
    "create value",
    "create number",
    "create array",
    "create atomic array",
];

pub(crate) fn cases() -> Vec<Case> {
    let case = |operation| {
        Case::new(operation, "nothing")
            .at_most(400)
            .killed(Outcomes::switch("absent", "present"))
    };
    TYPES.map(case).into()
}

pub(crate) fn commands() -> Commands {
    values(others(locks(Commands::new())))
}

fn locks(commands: Commands) -> Commands {
    let commands = making(
        commands,
        "create mutex",
        |name| Mutex::create(name, [5_i64, -5]).expect("a new mutex"),
        Mutex::open,
        |mutex| {
            assert_eq!(*mutex.lock().expect("it is free"), [5, -5]);
            mutex.unlink()
        },
    );
    let commands = making(
        commands,
        "create reentrant mutex",
        |name| ReentrantMutex::create(name, Cell::new(5_i64)).expect("a new mutex"),
        ReentrantMutex::open,
        |mutex| {
            let guard = mutex.lock().expect("it is free");
            assert_eq!((guard.get(), guard.depth()), (5, 1));
            drop(guard);
            mutex.unlink()
        },
    );
    making(
        commands,
        "create rwlock",
        |name| RwLock::create_for(name, [5_i64, -5], 3).expect("a new lock"),
        RwLock::open,
        |lock| {
            assert_eq!(*lock.read().expect("it is free"), [5, -5]);
            assert_eq!(*lock.write().expect("it is free"), [5, -5]);
            assert_eq!(lock.inspect().slots, 3);
            lock.unlink()
        },
    )
}

fn others(commands: Commands) -> Commands {
    let commands = making(
        commands,
        "create semaphore",
        |name| Semaphore::create(name, 2).expect("a new semaphore"),
        Semaphore::open,
        |semaphore| {
            assert_eq!(semaphore.inspect().permits, 2);
            drop(semaphore.acquire());
            semaphore.unlink()
        },
    );
    let commands = making(
        commands,
        "create bounded semaphore",
        |name| BoundedSemaphore::create(name, 2).expect("a new semaphore"),
        BoundedSemaphore::open,
        |semaphore| {
            assert!(semaphore.release(1).is_err(), "all are there");
            drop(semaphore.acquire());
            semaphore.unlink()
        },
    );
    let commands = making(
        commands,
        "create robust semaphore",
        |name| RobustSemaphore::create(name, 2).expect("a new semaphore"),
        RobustSemaphore::open,
        |semaphore| {
            assert_eq!((semaphore.permits(), semaphore.available()), (2, 2));
            drop(semaphore.acquire().expect("it is free"));
            semaphore.unlink()
        },
    );
    let commands = making(
        commands,
        "create condvar",
        |name| Condvar::create(name).expect("a new condition variable"),
        Condvar::open,
        |condvar| {
            condvar.notify_all();
            assert_eq!(condvar.inspect().counted, 0);
            condvar.unlink()
        },
    );
    let commands = making(
        commands,
        "create event",
        |name| Event::create(name).expect("a new event"),
        Event::open,
        |event| {
            assert!(!event.is_set());
            event.set();
            event.wait();
            event.unlink()
        },
    );
    let commands = making(
        commands,
        "create barrier",
        |name| Barrier::create(name, 1).expect("a new barrier"),
        Barrier::open,
        |barrier| {
            assert!(barrier.wait().expect("it is whole").is_leader());
            barrier.unlink()
        },
    );
    let commands = making(
        commands,
        "create once",
        |name| Once::create(name).expect("a new one"),
        Once::open,
        |once| {
            assert!(!once.is_completed());
            once.call_once(|| ()).expect("nobody is at it");
            once.unlink()
        },
    );
    making(
        commands,
        "create once value",
        |name| OnceValue::<u64>::create(name).expect("a new one"),
        OnceValue::open,
        |once| {
            assert_eq!(once.get(), None);
            assert_eq!(once.get_or_init(|| 7), Ok(&7));
            once.unlink()
        },
    )
}

fn values(commands: Commands) -> Commands {
    let commands = making(
        commands,
        "create value",
        |name| Value::create(name, [1_u64; 4]).expect("a new value"),
        Value::open,
        |value| {
            assert_eq!(value.get(), Ok([1; 4]));
            value.set([2; 4]).expect("it is free");
            value.unlink()
        },
    );
    let commands = making(
        commands,
        "create number",
        |name| AtomicValue::create(name, 1_u64).expect("a new number"),
        AtomicValue::open,
        |number| {
            assert_eq!(number.fetch_add(1), 1);
            number.unlink()
        },
    );
    let commands = making(
        commands,
        "create array",
        |name| Array::create(name, &[1_u64, 2, 3]).expect("a new array"),
        Array::open,
        |array| {
            assert_eq!(array.lock().expect("it is free")[..], [1, 2, 3]);
            array.unlink()
        },
    );
    making(
        commands,
        "create atomic array",
        |name| AtomicArray::create(name, &[1_u64, 2, 3]).expect("a new array"),
        AtomicArray::open,
        |array| {
            assert_eq!(array.to_vec(), [1, 2, 3]);
            array.unlink()
        },
    )
}

/// The victim makes it; the checker makes it itself where the victim has not, uses it and takes the name away.
fn making<T: 'static>(
    commands: Commands,
    operation: &'static str,
    make: impl Fn(&str) -> T + Copy + 'static,
    open: impl Fn(Place) -> Result<T, Error> + 'static,
    use_up: impl Fn(&T) -> Result<(), Error> + 'static,
) -> Commands {
    commands
        .victim(operation, move |name| {
            warm_up();
            mark_start();
            let made = make(name);
            mark_end();
            drop(made);
        })
        .check(operation, move |name, _| {
            let (object, outcome) = match open(Place::named(name)) {
                Ok(object) => (object, "present"),
                Err(Error::NotFound { .. }) => (make(name), "absent"),
                Err(other) => panic!("{other}"),
            };
            use_up(&object).expect("it is there");
            outcome
        })
}
