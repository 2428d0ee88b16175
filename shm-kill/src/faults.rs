//! Operations that tell how they went, for the driver that fails their system calls one by one.
//!
//! Each is done a second time behind the marks if the first time failed: what failed has left nothing in
//! the way, and works once the calls do.

use std::cell::Cell;
use std::error::Error;
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
use shm_dict::{Bytes, Dict, DictError, List};
use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, LockFailure, Mutex, Once, OnceValue, ReentrantMutex,
    RobustSemaphore, RwLock, Semaphore,
};
use shm_queue::{ByteQueue, JoinableQueue, PutError, Queue, QueueError};
use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};
use shm_value::{Array, AtomicArray, AtomicValue, Item, SeqValue, ShareableList, Value};

use crate::blocking::{Blocking, LASTS, NAMES, RETURNED, TIMED_OUT};

const SIZE: usize = 100;
/// What an operation tells that did what it says.
const DONE: &str = "done";

/// How the operations of shm-core and the creation of each type are spelled; the states are those of
/// `segment.rs`.
pub(crate) fn commands() -> Commands {
    let commands = growths(types(segments(Commands::new())));
    controls(waits(recoveries(commands))).check("leftover", |name, _| {
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

/// The creation, the opening and the removal of each type.
fn types(commands: Commands) -> Commands {
    macro_rules! types {
        ($commands:expr; $($name:literal: $create:expr, $open:expr;)*) => {
            $commands$(
                .trial(concat!("tell create ", $name), |name| {
                    tell_made(name, || $create(name))
                })
                .setup($name, |name| drop($create(name).expect("a new one")))
                .trial(concat!("tell open ", $name), |name| tell(|| $open(name), || ()))
                .trial(concat!("tell unlink ", $name), |name| {
                    let object = $open(name).expect("it is there");
                    tell(|| object.unlink(), || ())
                })
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
        "SeqValue": |n: &str| SeqValue::create(n, [7_u64; 4]),
            |n: &str| SeqValue::<[u64; 4]>::open(n);
        "ShareableList": |n: &str| ShareableList::create(n, &[Item::None, "item".into()]),
            |n: &str| ShareableList::open(n);
        "Queue": |n: &str| Queue::<String>::create(n, shm_queue::Options::new(3)),
            |n: &str| Queue::<String>::open(n);
        "JoinableQueue": |n: &str| JoinableQueue::<String>::create(n, shm_queue::Options::new(3)),
            |n: &str| JoinableQueue::<String>::open(n);
        "Dict": |n: &str| Blobs::create(n, small_dict()), |n: &str| Blobs::open(n);
        "List": |n: &str| List::<u64>::create(n, small_dict()), |n: &str| List::<u64>::open(n);
    }
}

type Blobs = Dict<u64, Vec<u8>, Bytes>;

fn small_dict() -> shm_dict::Options {
    shm_dict::Options::new().max_bytes(1 << 20).shards(1)
}

/// As [`tell`]; a failure is `full`, and has left everything as `look` saw it before.
fn tell_unchanged<E: Debug, S: Debug + PartialEq>(
    operation: impl Fn() -> Result<(), E>,
    full: impl Fn(&E) -> bool,
    look: impl Fn() -> S,
) -> String {
    let before = look();
    tell(
        || {
            let result = operation();
            if let Err(error) = &result {
                assert!(full(error), "{error:?}");
                assert_eq!(look(), before, "changed by what failed");
            }
            result
        },
        || (),
    )
}

/// Operations that need new memory.
fn growths(commands: Commands) -> Commands {
    let entries = |dict: &Blobs| {
        let stats = dict.check().expect("no block is lost or used twice");
        (dict.snapshot(), stats.used_bytes)
    };
    let large = || vec![2; 100_000];
    commands
        .setup("Dict of one", |name| {
            let dict = Blobs::create(name, small_dict()).expect("a new one");
            dict.set(&1, &vec![1; 40]).expect("it has room");
        })
        .trial("tell set, in new memory", move |name| {
            let dict = Blobs::open(name).expect("it is there");
            let told = tell_unchanged(
                || dict.set(&2, &large()),
                DictError::is_full,
                || entries(&dict),
            );
            assert_eq!(dict.get(&2), Ok(Some(large())));
            told
        })
        // Of which the first needs none: a control.
        .trial("tell two sets, in new memory", move |name| {
            let dict = Blobs::open(name).expect("it is there");
            tell_unchanged(
                || {
                    dict.set(&3, &vec![3; 40])
                        .and_then(|()| dict.set(&2, &large()))
                },
                DictError::is_full,
                || entries(&dict),
            )
        })
        .setup("Queue of one", |name| {
            let queue = Queue::<String>::create(name, shm_queue::Options::new(3));
            let put = queue.expect("a new one").put("1".to_owned());
            put.expect("it has room");
        })
        .trial("tell put, in new memory", |name| {
            let queue = Queue::<String>::open(name).expect("it is there");
            let large = || "2".repeat(60_000);
            let full = |refused: &PutError<String>| {
                assert_eq!(refused.value, large(), "the value comes back");
                matches!(refused.error, QueueError::StorageFull { .. })
            };
            let told = tell_unchanged(
                || queue.put(large()),
                full,
                || queue.inspect().expect("nothing stands in the way"),
            );
            assert_eq!(queue.get(), Ok("1".to_owned()));
            assert_eq!(queue.get(), Ok(large()));
            told
        })
}

/// How long somebody waits for what the dead have: some looks at whether they live.
const FOR_THE_DEAD: Duration = Duration::from_millis(500);

/// As [`tell`], for what comes by what the dead left; then nothing is lost of what `rest` looks for.
fn tell_recovery<T>(operation: impl Fn() -> Result<T, Failure>, rest: impl FnOnce()) -> String {
    let told = tell(|| operation().map(drop), || ());
    rest();
    told
}

type Failure = Box<dyn Error>;

/// Operations that meet what a dead process left, in the states of the families: they settle it first.
fn recoveries(commands: Commands) -> Commands {
    recoveries_of_locks(recoveries_of_dicts(recoveries_of_queues(commands)))
}

fn recoveries_of_queues(commands: Commands) -> Commands {
    let drained = |name: &str| {
        let queue = ByteQueue::open(name).expect("it is there");
        queue.recover().expect("nothing stands in the way");
        let rest = std::iter::from_fn(|| queue.try_get().ok());
        rest.map(|message| message[0]).collect::<Vec<_>>()
    };
    let recover = |name: &str| Ok(ByteQueue::open(name)?.recover()?);
    commands
        .trial("tell recover, of one", move |name| {
            tell_recovery(|| recover(name), || assert_eq!(drained(name), [1]))
        })
        .trial("tell recover, of three", move |name| {
            tell_recovery(|| recover(name), || assert_eq!(drained(name), [1, 2, 3]))
        })
        .trial("tell get, of three", move |name| {
            let got = Cell::new(None);
            let get = || {
                let message = ByteQueue::open(name)?.get_timeout(FOR_THE_DEAD)?;
                got.set(Some(message[0]));
                Ok(())
            };
            let rest = || {
                // It may have come before the dead were looked for.
                let mut all = drained(name);
                all.extend(got.take());
                all.sort_unstable();
                assert_eq!(all, [1, 2, 3]);
            };
            tell_recovery(get, rest)
        })
        .trial("tell put, behind one", move |name| {
            let put = || {
                let queue = ByteQueue::open(name)?;
                Ok(queue.put_timeout(&[9; 2300], FOR_THE_DEAD)?)
            };
            tell_recovery(put, || assert_eq!(drained(name), [1, 9]))
        })
        .trial("tell task, of two", |name| {
            let tasks = || JoinableQueue::<String>::open(name);
            // Dropped, it goes back.
            let get = || Ok(tasks()?.get_timeout(FOR_THE_DEAD).map(drop)?);
            let rest = || {
                let queue = tasks().expect("it is there");
                queue.recover().expect("nothing stands in the way");
                let rest = std::iter::from_fn(|| queue.try_get().ok());
                let all: Vec<_> = rest.map(|task| (task.as_bytes()[0], task)).collect();
                assert_eq!(all.iter().map(|task| task.0).collect::<Vec<_>>(), [1, 2]);
                assert!(all[0].1.deliveries() > 1, "the dead one had it first");
            };
            tell_recovery(get, rest)
        })
}

fn recoveries_of_dicts(commands: Commands) -> Commands {
    let set = |name: &str| Ok(Blobs::open(name)?.set(&9, &vec![9; 40])?);
    let numbers = |name: &str| {
        let dict = Blobs::open(name).expect("it is there");
        dict.check().expect("no block is lost or used twice");
        let entries = dict.snapshot().expect("nothing stands in the way");
        let mut numbers: Vec<_> = entries.into_iter().map(|(_, value)| value[0]).collect();
        numbers.sort_unstable();
        numbers
    };
    commands
        .trial("tell set, beside three", move |name| {
            let rest = || assert_eq!(numbers(name), [9, 10, 10, 10]);
            tell_recovery(|| set(name), rest)
        })
        .trial("tell repair, after a transaction", move |name| {
            let repair = || Ok(Blobs::open(name)?.repair()?);
            // Of both keys that it promised.
            let promised = || numbers(name).iter().filter(|&&number| number == 23).count();
            tell_recovery(repair, || assert_eq!(promised(), 2))
        })
}

fn recoveries_of_locks(commands: Commands) -> Commands {
    commands
        .trial("tell lock, and repair", |name| {
            let mend = |pair: &mut [i64; 2], _| pair[1] = pair[0];
            let lock = || {
                let mutex = Mutex::<[i64; 2]>::open(name)?;
                let pair = mutex.lock_or_repair(mend)?;
                assert_eq!(pair[0], pair[1]);
                Ok(())
            };
            tell_recovery(lock, || ())
        })
        .trial("tell write, after a reader", |name| {
            let lock = || RwLock::<[i64; 2]>::open(name);
            let write = || {
                let lock = lock()?;
                let written = lock.write_timeout(FOR_THE_DEAD).map(drop);
                Ok(written.map_err(LockFailure::from)?)
            };
            tell_recovery(write, || ())
        })
        .trial("tell acquire, of the dead", |name| {
            let semaphore = || RobustSemaphore::open(name);
            let acquire = || {
                let semaphore = semaphore()?;
                drop(semaphore.acquire_timeout(FOR_THE_DEAD)?);
                Ok(())
            };
            let rest = || {
                let semaphore = semaphore().expect("it is there");
                let both = [(); 2].map(|()| semaphore.acquire_timeout(FOR_THE_DEAD));
                assert!(both.iter().all(Result::is_ok), "both come back");
                assert_eq!(semaphore.inspect().deaths, 2);
            };
            tell_recovery(acquire, rest)
        })
        .trial("tell get_or_init, half made", |name| {
            let once = || OnceValue::<[u64; 4]>::open(name);
            let init = || {
                let once = once()?;
                let made = once.get_or_init_timeout(FOR_THE_DEAD, || [7; 4])?;
                assert_eq!(made, &[7; 4]);
                Ok(())
            };
            let rest = || assert_eq!(once().expect("it is there").get(), Some(&[7; 4]));
            tell_recovery(init, rest)
        })
        .trial("tell wait, of the dead", |name| {
            let barrier = || Barrier::open(name);
            let wait = || {
                let barrier = barrier()?;
                // By the first attempt, whose time was over.
                if barrier.is_broken() {
                    barrier.reset();
                }
                match barrier.wait_timeout(FOR_THE_DEAD) {
                    Err(broken) if broken.dead_party().is_some() => Ok(()),
                    told => Ok(told.map(drop)?),
                }
            };
            let rest = || {
                let barrier = barrier().expect("it is there");
                barrier.reset();
                std::thread::scope(|s| {
                    let other = s.spawn(|| barrier.wait());
                    barrier.wait().expect("both come");
                    other.join().expect("no panic").expect("both come");
                });
            };
            tell_recovery(wait, rest)
        })
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

/// How long a wait lasts: as many milliseconds as the environment says, or 20.
fn while_waiting() -> Duration {
    let asked = std::env::var(LASTS).map_or(20, |asked| asked.parse().expect("a number"));
    Duration::from_millis(asked)
}

fn wait(blocking: &Blocking) -> String {
    let lasts = while_waiting();
    let obstacle = blocking.obstructed();
    static BEGUN: AtomicBool = AtomicBool::new(false);
    // Not a look at whether the waiter sleeps: that would open files, which are counted.
    let releaser = spawn(move || {
        while !BEGUN.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1));
        }
        sleep(lasts);
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
    let lasts = while_waiting();
    let obstacle = blocking.obstructed();
    mark_start();
    let deadline = Instant::now() + lasts;
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
