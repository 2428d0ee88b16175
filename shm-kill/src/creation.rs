//! The making of each type: its name is there, whole, with what it was made with, or not at all; and the opening
//! of each, which leaves it as it is.
//!
//! `segment.rs` visits every step of making and opening a segment; these are samples of the way of each type.
//! Queues and dictionaries are in files of their own.

use std::cell::Cell;

use shm_core::{Error, Place};
use shm_dict::{List, Options};
use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, Mutex, Once, OnceValue, ReentrantMutex,
    RobustSemaphore, RwLock, Semaphore,
};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_value::{Array, AtomicArray, AtomicValue, Item, SeqValue, ShareableList, Value};

use crate::segment::warm_up;

const TYPES: [&str; 18] = [
    "mutex",
    "reentrant mutex",
    "rwlock",
    "semaphore",
    "bounded semaphore",
    "robust semaphore",
    "condvar",
    "event",
    "barrier",
    "once",
    "once value",
    "value",
    "number",
    "array",
    "atomic array",
    "seq",
    "shareable list",
    "list",
];

pub(crate) fn cases() -> Vec<Case> {
    let both = |name| {
        let create = format!("create {name}");
        let made = Case::new(&create, "nothing")
            .at_most(400)
            .killed(Outcomes::switch("absent", "present"));
        let opened = Case::new(&format!("open {name}"), &format!("made {name}"))
            .checked_by(&create)
            .at_most(200)
            .killed(Outcomes::always("present"));
        [made, opened]
    };
    TYPES.into_iter().flat_map(both).collect()
}

pub(crate) fn commands() -> Commands {
    lists(values(others(locks(Commands::new()))))
}

fn locks(commands: Commands) -> Commands {
    let commands = making(
        commands,
        "mutex",
        |name| Mutex::create(name, [5_i64, -5]).expect("a new mutex"),
        Mutex::open,
        |mutex| {
            assert_eq!(*mutex.lock().expect("it is free"), [5, -5]);
            mutex.unlink()
        },
    );
    let commands = making(
        commands,
        "reentrant mutex",
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
        "rwlock",
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
        "semaphore",
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
        "bounded semaphore",
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
        "robust semaphore",
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
        "condvar",
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
        "event",
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
        "barrier",
        |name| Barrier::create(name, 1).expect("a new barrier"),
        Barrier::open,
        |barrier| {
            assert!(barrier.wait().expect("it is whole").is_leader());
            barrier.unlink()
        },
    );
    let commands = making(
        commands,
        "once",
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
        "once value",
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
        "value",
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
        "number",
        |name| AtomicValue::create(name, 1_u64).expect("a new number"),
        AtomicValue::open,
        |number| {
            assert_eq!(number.fetch_add(1), 1);
            number.unlink()
        },
    );
    let commands = making(
        commands,
        "array",
        |name| Array::create(name, &[1_u64, 2, 3]).expect("a new array"),
        Array::open,
        |array| {
            assert_eq!(array.lock().expect("it is free")[..], [1, 2, 3]);
            array.unlink()
        },
    );
    making(
        commands,
        "atomic array",
        |name| AtomicArray::create(name, &[1_u64, 2, 3]).expect("a new array"),
        AtomicArray::open,
        |array| {
            assert_eq!(array.to_vec(), [1, 2, 3]);
            array.unlink()
        },
    )
}

fn lists(commands: Commands) -> Commands {
    let commands = making(
        commands,
        "seq",
        |name| SeqValue::create(name, [1_u64; 4]).expect("a new value"),
        SeqValue::open,
        |value| {
            assert_eq!(value.get_with_version(), ([1; 4], 0));
            value.set([2; 4]).expect("it is free");
            assert_eq!(value.get_with_version(), ([2; 4], 1));
            value.unlink()
        },
    );
    let commands = making(
        commands,
        "shareable list",
        |name| {
            let items = [Item::None, "an item".into(), 7.into()];
            ShareableList::create(name, &items).expect("a new list")
        },
        ShareableList::open,
        |list| {
            let items = [Item::None, "an item".into(), 7.into()];
            assert_eq!(list.to_vec(), Ok(items.to_vec()));
            list.set(1, "other").expect("it is free");
            assert_eq!(list.get(1), Ok("other".into()));
            list.unlink()
        },
    );
    making(
        commands,
        "list",
        |name| {
            let options = Options::new().max_bytes(64 << 10);
            List::<u64>::create(name, options).expect("a new list")
        },
        List::open,
        |list| {
            assert_eq!(list.len(), Ok(0));
            list.extend([1, 2]).expect("it has room");
            assert_eq!(list.snapshot(), Ok(vec![1, 2]));
            list.check().expect("no block is lost or used twice");
            list.unlink()
        },
    )
}

/// The victim makes it, or opens what was made; the checker makes it itself where it is absent, uses it and takes
/// the name away.
fn making<T: 'static>(
    commands: Commands,
    name: &'static str,
    make: impl Fn(&str) -> T + Copy + 'static,
    open: impl Fn(Place) -> Result<T, Error> + Copy + 'static,
    use_up: impl Fn(&T) -> Result<(), Error> + 'static,
) -> Commands {
    let leak = |word: &str| -> &'static str { format!("{word} {name}").leak() };
    commands
        .victim(leak("create"), move |name| {
            warm_up();
            mark_start();
            let made = make(name);
            mark_end();
            drop(made);
        })
        .setup(leak("made"), move |name| drop(make(name)))
        .victim(leak("open"), move |name| {
            warm_up();
            mark_start();
            let opened = open(Place::named(name));
            mark_end();
            opened.expect("it is there");
        })
        .check(leak("create"), move |name, _| {
            let (object, outcome) = match open(Place::named(name)) {
                Ok(object) => (object, "present"),
                Err(Error::NotFound { .. }) => (make(name), "absent"),
                Err(other) => panic!("{other}"),
            };
            use_up(&object).expect("it is there");
            outcome
        })
}
