//! Operations that tell how they went, for the driver that fails their system calls one by one.
//!
//! Each is done a second time behind the marks if the first time failed: what failed has left nothing in
//! the way, and works once the calls do.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use shm_core::{Place, Segment, Spec, recv_fd, send_fd};
use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, Mutex, Once, OnceValue, ReentrantMutex,
    RobustSemaphore, RwLock, Semaphore,
};
use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};
use shm_value::{Array, AtomicArray, AtomicValue, Value};

use crate::blocking::{Blocking, NAMES, RETURNED, TIMED_OUT};

const SIZE: usize = 100;
/// What an operation tells that did what it says.
const DONE: &str = "done";

/// How the operations of shm-core and the creation of each type are spelled; the states are those of
/// `segment.rs`.
pub(crate) fn commands() -> Commands {
    controls(waits(types(segments(Commands::new())))).check("leftover", |name, _| {
        // Whoever sweeps at the same time sweeps for all: between two looks it may be gone.
        match fs::remove_file(path(name)) {
            Ok(()) => "present",
            Err(error) if error.kind() == ErrorKind::NotFound => "absent",
            Err(error) => panic!("{error}"),
        }
    })
}

fn path(name: &str) -> PathBuf {
    Path::new(shm_core::DIRECTORY).join(name)
}

/// Performs an operation between the marks, and tells what came of it. After a failure it is done
/// again, and `undo` takes that back.
fn tell<T, E: Debug>(operation: impl Fn() -> Result<T, E>, undo: impl FnOnce()) -> String {
    mark_start();
    let result = operation();
    mark_end();
    let Err(error) = result else {
        return DONE.to_owned();
    };
    if let Err(again) = operation() {
        panic!("after {error:?}: {again:?}");
    }
    undo();
    format!("refused: {error:?}")
}

/// As [`tell`], for what makes the name.
fn tell_made<T, E: Debug>(name: &str, operation: impl Fn() -> Result<T, E>) -> String {
    tell(operation, || {
        fs::remove_file(path(name)).expect("it was made")
    })
}

fn segments(commands: Commands) -> Commands {
    let nothing = || {};
    commands
        .trial("tell create", |name| {
            tell_made(name, || Segment::create(name, SIZE))
        })
        .trial("tell create, all reserved", |name| {
            let place = || Place::named(name).reserve_all();
            tell_made(name, || Segment::create(place(), 1 << 20))
        })
        .trial("tell create, at a path", |name| {
            tell_made(name, || Segment::create(Place::file(path(name)), SIZE))
        })
        .trial("tell create, without a name", move |_| {
            tell(|| Segment::create(Place::anonymous(), SIZE), nothing)
        })
        .trial("tell open_or_create", |name| {
            tell_made(name, || Segment::open_or_create(name, SIZE))
        })
        .trial("tell open_or_create, what is there", move |name| {
            tell(|| Segment::open_or_create(name, SIZE), nothing)
        })
        .trial("tell open", move |name| {
            tell(|| Segment::open(name, SIZE), nothing)
        })
        .trial("tell open_read_only", move |name| {
            tell(|| Segment::open_read_only(name, SIZE), nothing)
        })
        .trial("tell unlink", move |name| {
            tell(|| shm_core::unlink(name), nothing)
        })
        .trial("tell sweep", move |_| tell(shm_core::sweep, nothing))
        .trial("tell list", move |_| tell(shm_core::list, nothing))
        .trial("tell drop", |name| {
            let place = Place::named(name).unlink_on_drop(true);
            let segment = Segment::create(place, SIZE).expect("a new segment");
            mark_start();
            drop(segment);
            mark_end();
            // A drop has nobody to tell an error; whoever meets the name takes it away.
            drop(Segment::create(name, SIZE).expect("the name is free, or becomes so"));
            fs::remove_file(path(name)).expect("it was made");
            DONE
        })
        .trial("tell allocate", move |name| {
            let segment = Segment::open(name, SIZE).expect("it exists");
            tell(|| segment.allocate(0, 1 << 20), nothing)
        })
        .trial("tell inheritable_fd", move |name| {
            let segment = Segment::open(name, SIZE).expect("it exists");
            tell(|| segment.inheritable_fd(), nothing)
        })
        .trial("tell send_fd", move |name| {
            let segment = Segment::open(name, SIZE).expect("it exists");
            let (here, _there) = UnixStream::pair().expect("two sockets");
            tell(|| send_fd(&here, &segment), nothing)
        })
        .trial("tell recv_fd", move |name| {
            let segment = Segment::open(name, SIZE).expect("it exists");
            let (here, there) = UnixStream::pair().expect("two sockets");
            for _ in 0..2 {
                send_fd(&here, &segment).expect("room for two messages");
            }
            tell(|| recv_fd(&there), nothing)
        })
        .trial("tell open, by inherited descriptor", move |name| {
            let segment = Segment::open(name, SIZE).expect("it exists");
            let inherited = segment.inheritable_fd().expect("a descriptor");
            let place = || Place::inherited(inherited.as_raw_fd());
            tell(|| Segment::open(place(), SIZE), nothing)
        })
        .setup("sparse segment", |name| {
            let spec = Spec::bytes(1 << 20).reserve(4096);
            drop(Segment::create(name, spec).expect("a new segment"));
        })
}

/// The creation, and the opening, of each type.
fn types(commands: Commands) -> Commands {
    macro_rules! types {
        ($commands:expr; $($name:literal: $create:expr, $open:expr;)*) => {
            $commands$(
                .trial(concat!("tell create ", $name), |name| {
                    tell_made(name, || $create(name))
                })
                .setup($name, |name| drop($create(name).expect("a new one")))
                .trial(concat!("tell open ", $name), |name| tell(|| $open(name), || ()))
            )*
        };
    }
    types! { commands;
        "Mutex": |n: &str| Mutex::create(n, 7_u64), |n: &str| Mutex::<u64>::open(n);
        "ReentrantMutex": |n: &str| ReentrantMutex::create(n, 7_u64),
            |n: &str| ReentrantMutex::<u64>::open(n);
        "RwLock": |n: &str| RwLock::create(n, 7_u64), |n: &str| RwLock::<u64>::open(n);
        "Semaphore": |n: &str| Semaphore::create(n, 2), |n: &str| Semaphore::open(n);
        "BoundedSemaphore": |n: &str| BoundedSemaphore::create(n, 2),
            |n: &str| BoundedSemaphore::open(n);
        "RobustSemaphore": |n: &str| RobustSemaphore::create(n, 2),
            |n: &str| RobustSemaphore::open(n);
        "Condvar": |n: &str| Condvar::create(n), |n: &str| Condvar::open(n);
        "Event": |n: &str| Event::create(n), |n: &str| Event::open(n);
        "Barrier": |n: &str| Barrier::create(n, 2), |n: &str| Barrier::open(n);
        "Once": |n: &str| Once::create(n), |n: &str| Once::open_read_only(n);
        "OnceValue": |n: &str| OnceValue::<u64>::create(n), |n: &str| OnceValue::<u64>::open(n);
        "Value": |n: &str| Value::create(n, [7_u64; 4]),
            |n: &str| Value::<[u64; 4]>::open_read_only(n);
        "AtomicValue": |n: &str| AtomicValue::create(n, 7_u64), |n: &str| AtomicValue::<u64>::open(n);
        "Array": |n: &str| Array::create(n, &[7_u32; 8]), |n: &str| Array::<u32>::open(n);
        "AtomicArray": |n: &str| AtomicArray::create(n, &[7_u32; 8]),
            |n: &str| AtomicArray::<u32>::open(n);
    }
}

/// Each call that blocks, until what it waits for comes and until its time is over.
fn waits(commands: Commands) -> Commands {
    NAMES.into_iter().fold(commands, |commands, name| {
        let until: &str = format!("wait for {name}").leak();
        let timed: &str = format!("wait in vain for {name}").leak();
        commands
            .trial(until, move |_| wait(&Blocking::named(name)))
            .trial(timed, move |_| wait_in_vain(&Blocking::named(name)))
    })
}

fn wait(blocking: &Blocking) -> String {
    let obstacle = blocking.obstructed();
    static BEGUN: AtomicBool = AtomicBool::new(false);
    // Not a look at whether the waiter sleeps: that would open files, which are counted.
    let releaser = spawn(move || {
        while !BEGUN.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(20));
        obstacle.release();
    });
    mark_start();
    // Relaxed: says nothing but that the wait begins.
    BEGUN.store(true, Ordering::Relaxed);
    let told = (blocking.wait)(None);
    mark_end();
    releaser.join().expect("the releaser does not panic");
    wait_again(blocking);
    told
}

fn wait_in_vain(blocking: &Blocking) -> String {
    let obstacle = blocking.obstructed();
    mark_start();
    let deadline = Instant::now() + Duration::from_millis(20);
    let told = (blocking.wait)(Some(deadline));
    mark_end();
    assert!(told != TIMED_OUT || Instant::now() >= deadline, "too early");
    obstacle.release();
    wait_again(blocking);
    told
}

/// Nothing is held that was not given, and the same call works.
fn wait_again(blocking: &Blocking) {
    let obstacle = blocking.obstructed();
    let releaser = spawn(move || obstacle.release());
    assert_eq!((blocking.wait)(None), RETURNED);
    releaser.join().expect("the releaser does not panic");
}

/// Operations that do one thing wrong, which must be noticed.
fn controls(commands: Commands) -> Commands {
    commands
        // It goes on without its file, which it leaves.
        .trial("tell create, and leave a file", |name| {
            mark_start();
            let file = File::create_new(path(name)).and_then(|file| file.set_len(4096));
            mark_end();
            match file {
                Ok(()) => DONE.to_owned(),
                Err(error) => format!("refused: {error:?}"),
            }
        })
        .trial("tell create, and leave a descriptor", |_| {
            mark_start();
            let file = File::open("/dev/null").map(ManuallyDrop::new);
            let second = File::open("/dev/null").map(drop);
            if let (Ok(file), Ok(())) = (file, &second) {
                drop(ManuallyDrop::into_inner(file));
            }
            mark_end();
            match second {
                Ok(()) => DONE.to_owned(),
                Err(error) => format!("refused: {error:?}"),
            }
        })
        // A lock that is interrupted, and says so.
        .trial("tell lock, once", |name| {
            let file = File::create_new(path(name)).expect("a file");
            fs::remove_file(path(name)).expect("it was made");
            mark_start();
            let locked = Flock::lock(file, FlockArg::LockExclusive);
            mark_end();
            match locked {
                Ok(_) => DONE.to_owned(),
                Err((_, errno)) => format!("refused: {errno:?}"),
            }
        })
}
