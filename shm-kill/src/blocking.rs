//! The calls that block: what each waits for, and how it ends. For those who disturb it meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Instant;

use shm_core::Place;
use shm_dict::{Dict, DictError, List};
use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, LockFailure, Mutex, Once, OnceValue, ReentrantMutex,
    RobustSemaphore, RwLock, Semaphore,
};
use shm_queue::{ByteQueue, JoinableQueue, Queue, QueueError};
use shm_value::{Array, AtomicValue, Item, SeqValue, ShareableList, Value, ValueError};

/// A call returned, and what it waited for had come.
pub(crate) const RETURNED: &str = "returned";
/// The environment's variable that says how many milliseconds a wait lasts that is stepped.
pub(crate) const LASTS: &str = "SHM_WAIT_LASTS";
/// A call returned, and what it waited for had not come.
pub(crate) const EARLY: &str = "early";
/// A call gave up at its deadline.
pub(crate) const TIMED_OUT: &str = "timed out";

/// One thing to wait for, made anew, and the ways to wait for it.
pub(crate) struct Blocking {
    /// Waits, until a deadline if there is one; tells how it ended. Keeps nothing.
    pub(crate) wait: Box<dyn Fn(Option<Instant>) -> String>,
    /// Stands in the way while its argument runs, then lets the waiter go.
    obstruct: Box<dyn Fn() -> Obstruct>,
}

type Obstruct = Box<dyn FnOnce(&dyn Fn()) + Send>;

/// A thread that stands in the way of a waiter.
pub(crate) struct Obstacle {
    go: Sender<()>,
    thread: JoinHandle<()>,
}

impl Obstacle {
    fn new(obstruct: Obstruct) -> Self {
        let (ready, is_ready): (Sender<()>, Receiver<()>) = channel();
        let (go, told) = channel();
        let thread = spawn(move || {
            obstruct(&|| {
                // Whoever would hear it may have gone on.
                let _ = ready.send(());
                let _ = told.recv();
            });
        });
        // An error: it had nothing to stay for.
        let _ = is_ready.recv();
        Self { go, thread }
    }

    /// Lets the waiter go.
    pub(crate) fn release(self) {
        let _ = self.go.send(());
        self.thread.join().expect("an obstacle does not panic");
    }
}

impl Blocking {
    pub(crate) fn new(
        wait: impl Fn(Option<Instant>) -> String + 'static,
        obstruct: impl Fn(&dyn Fn()) + Clone + Send + 'static,
    ) -> Self {
        Self {
            wait: Box::new(wait),
            obstruct: Box::new(move || Box::new(obstruct.clone())),
        }
    }

    /// Puts somebody in the way of the next wait.
    pub(crate) fn obstructed(&self) -> Obstacle {
        Obstacle::new((self.obstruct)())
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "Mutex" => mutex(),
            "ReentrantMutex" => reentrant_mutex(),
            "RwLock, to read" => rwlock_to_read(),
            "RwLock, to write" => rwlock_to_write(),
            "Semaphore" => semaphore(),
            "BoundedSemaphore" => bounded_semaphore(),
            "RobustSemaphore" => robust_semaphore(),
            "Condvar" => condvar(),
            "Event" => event(),
            "Barrier" => barrier(),
            "Once" => once(),
            "OnceValue" => once_value(),
            "AtomicValue" => atomic_value(),
            "Value" => value(),
            "Array" => array(),
            "SeqValue, to change" => seq_value(),
            "ShareableList" => shareable_list(),
            "Queue, to get" => queue_to_get(),
            "Queue, to put" => queue_to_put(),
            "ByteQueue, to reserve" => queue_to_reserve(),
            "ByteQueue, to receive" => queue_to_receive(),
            "JoinableQueue, to join" => queue_to_join(),
            "Dict, to lock" => dict_to_lock(),
            "Dict, to change" => dict_to_change(),
            "List, to change" => list_to_change(),
            other => unreachable!("{other} is not in NAMES"),
        }
    }
}

/// What there is to wait for.
pub(crate) const NAMES: [&str; 25] = [
    "Mutex",
    "ReentrantMutex",
    "RwLock, to read",
    "RwLock, to write",
    "Semaphore",
    "BoundedSemaphore",
    "RobustSemaphore",
    "Condvar",
    "Event",
    "Barrier",
    "Once",
    "OnceValue",
    "AtomicValue",
    "Value",
    "Array",
    "SeqValue, to change",
    "ShareableList",
    "Queue, to get",
    "Queue, to put",
    "ByteQueue, to reserve",
    "ByteQueue, to receive",
    "JoinableQueue, to join",
    "Dict, to lock",
    "Dict, to change",
    "List, to change",
];

/// What a lock gave.
fn locked<G, E: Into<LockFailure>>(result: Result<G, E>) -> String {
    match result.map_err(E::into) {
        Ok(_) => RETURNED.to_owned(),
        Err(LockFailure::Timeout) => TIMED_OUT.to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

fn came(came: bool) -> String {
    (if came { RETURNED } else { EARLY }).to_owned()
}

fn mutex() -> Blocking {
    let mutex = Mutex::create(Place::anonymous(), 0_u64).expect("a mutex");
    let other = mutex.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => locked(mutex.lock_deadline(deadline)),
        None => locked(mutex.lock()),
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.lock().expect("free");
        stay();
    })
}

fn reentrant_mutex() -> Blocking {
    let mutex = ReentrantMutex::create(Place::anonymous(), 0_u64).expect("a mutex");
    let other = mutex.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => locked(mutex.lock_deadline(deadline)),
        None => locked(mutex.lock()),
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.lock().expect("free");
        stay();
    })
}

fn rwlock_to_read() -> Blocking {
    let lock = RwLock::create_for(Place::anonymous(), 0_u64, 2).expect("a lock");
    let other = lock.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => locked(lock.read_deadline(deadline)),
        None => locked(lock.read()),
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.write().expect("free");
        stay();
    })
}

fn rwlock_to_write() -> Blocking {
    let lock = RwLock::create_for(Place::anonymous(), 0_u64, 2).expect("a lock");
    let other = lock.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => locked(lock.write_deadline(deadline)),
        None => locked(lock.write()),
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.read().expect("free");
        stay();
    })
}

fn semaphore() -> Blocking {
    let semaphore = Semaphore::create(Place::anonymous(), 0).expect("a semaphore");
    let other = semaphore.clone();
    let wait = move |deadline: Option<Instant>| {
        match deadline {
            Some(deadline) => match semaphore.acquire_deadline(deadline) {
                Ok(permit) => permit.forget(),
                Err(_) => return TIMED_OUT.to_owned(),
            },
            None => semaphore.acquire().forget(),
        }
        RETURNED.to_owned()
    };
    Blocking::new(wait, move |stay| {
        // That of a waiter who gave up.
        while let Ok(left) = other.try_acquire() {
            left.forget();
        }
        stay();
        other.release(1).expect("room for one");
    })
}

fn bounded_semaphore() -> Blocking {
    let semaphore = BoundedSemaphore::create(Place::anonymous(), 1).expect("a semaphore");
    let other = semaphore.clone();
    let wait = move |deadline: Option<Instant>| {
        match deadline {
            Some(deadline) if semaphore.acquire_deadline(deadline).is_err() => TIMED_OUT,
            Some(_) => RETURNED,
            None => {
                drop(semaphore.acquire());
                RETURNED
            }
        }
        .to_owned()
    };
    Blocking::new(wait, move |stay| {
        let _permit = other.acquire();
        stay();
    })
}

fn robust_semaphore() -> Blocking {
    let semaphore = RobustSemaphore::create(Place::anonymous(), 1).expect("a semaphore");
    let other = semaphore.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => locked(semaphore.acquire_deadline(deadline)),
        None => locked(semaphore.acquire()),
    };
    Blocking::new(wait, move |stay| {
        let _permit = other.acquire().expect("there is one");
        stay();
    })
}

fn condvar() -> Blocking {
    let mutex = Mutex::create(Place::anonymous(), 0_u64).expect("a mutex");
    let condvar = Condvar::create(Place::anonymous()).expect("a condition variable");
    let (other, notifier) = (mutex.clone(), condvar.clone());
    let wait = move |deadline: Option<Instant>| {
        let mut guard = match mutex.lock() {
            Ok(guard) => guard,
            Err(error) => return format!("{error:?}"),
        };
        if *guard != 0 {
            return RETURNED.to_owned();
        }
        let waited = match deadline {
            Some(deadline) => condvar.wait_deadline(guard, deadline),
            // Not `wait_while`, which would hide a wait that returns unasked.
            None => match condvar.wait(guard) {
                Ok(locked) => {
                    guard = locked;
                    return came(*guard != 0);
                }
                Err(error) => return format!("{error:?}"),
            },
        };
        match waited {
            Ok((_, result)) if result.timed_out() => TIMED_OUT.to_owned(),
            Ok((guard, _)) => came(*guard != 0),
            Err(error) => format!("{error:?}"),
        }
    };
    Blocking::new(wait, move |stay| {
        *other.lock().expect("free") = 0;
        stay();
        *other.lock().expect("free") = 1;
        notifier.notify_one();
    })
}

fn event() -> Blocking {
    let event = Event::create(Place::anonymous()).expect("an event");
    let other = event.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) if !event.wait_deadline(deadline) => TIMED_OUT.to_owned(),
        Some(_) => came(event.is_set()),
        None => {
            event.wait();
            came(event.is_set())
        }
    };
    Blocking::new(wait, move |stay| {
        other.clear();
        stay();
        other.set();
    })
}

fn barrier() -> Blocking {
    let barrier = Barrier::create(Place::anonymous(), 2).expect("a barrier");
    let other = barrier.clone();
    let wait = move |deadline: Option<Instant>| {
        let waited = match deadline {
            Some(deadline) => barrier.wait_deadline(deadline),
            None => barrier.wait(),
        };
        match waited {
            Ok(_) => RETURNED.to_owned(),
            Err(broken) if broken.timed_out() => TIMED_OUT.to_owned(),
            Err(broken) => format!("{broken}"),
        }
    };
    Blocking::new(wait, move |stay| {
        other.reset();
        stay();
        // Broken, if the other party gave up.
        let _ = other.wait();
    })
}

fn once() -> Blocking {
    let once = Once::create(Place::anonymous()).expect("a once");
    let other = once.clone();
    let wait = move |deadline: Option<Instant>| {
        let mut called = false;
        let call = || called = true;
        let done = match deadline {
            Some(deadline) => once.call_once_deadline(deadline, call),
            None => once.call_once(call),
        };
        match done {
            Ok(()) => came(!called),
            Err(LockFailure::Timeout) => TIMED_OUT.to_owned(),
            Err(other) => format!("{other:?}"),
        }
    };
    Blocking::new(wait, move |stay| {
        other.call_once(stay).expect("nobody else is at it");
    })
}

fn once_value() -> Blocking {
    let once = OnceValue::<u64>::create(Place::anonymous()).expect("a once");
    let other = once.clone();
    let wait = move |deadline: Option<Instant>| {
        let got = match deadline {
            Some(deadline) => once.get_or_init_deadline(deadline, || 0),
            None => once.get_or_init(|| 0),
        };
        match got {
            Ok(made) => came(*made == 7),
            Err(LockFailure::Timeout) => TIMED_OUT.to_owned(),
            Err(other) => format!("{other:?}"),
        }
    };
    Blocking::new(wait, move |stay| {
        let made = other.get_or_init(|| {
            stay();
            7
        });
        made.expect("it is there, or this thread makes it");
    })
}

fn atomic_value() -> Blocking {
    let number = AtomicValue::create(Place::anonymous(), 0_u64).expect("a number");
    let other = number.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => match number.wait_deadline(0, deadline) {
            Ok(new) => came(new == 1),
            Err(ValueError::Timeout) => TIMED_OUT.to_owned(),
            Err(other) => format!("{other:?}"),
        },
        None => came(number.wait(0) == 1),
    };
    Blocking::new(wait, move |stay| {
        other.store(0);
        stay();
        other.store(1);
        other.notify_all();
    })
}

fn value() -> Blocking {
    let value = Value::create(Place::anonymous(), 0_u64).expect("a value");
    let other = value.clone();
    let wait = move |deadline: Option<Instant>| {
        let result = match deadline {
            Some(deadline) => value.lock_deadline(deadline).map(drop),
            None => value.update(|number| *number += 1),
        };
        match result {
            Ok(()) => RETURNED.to_owned(),
            Err(ValueError::Timeout) => TIMED_OUT.to_owned(),
            Err(other) => format!("{other:?}"),
        }
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.lock().expect("free");
        stay();
    })
}

fn array() -> Blocking {
    let array = Array::create(Place::anonymous(), &[0_u32; 4]).expect("an array");
    let other = array.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => locked(array.lock_deadline(deadline)),
        None => locked(array.lock()),
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.lock().expect("free");
        stay();
    })
}

fn seq_value() -> Blocking {
    let value = SeqValue::create(Place::anonymous(), 0_u64).expect("a value");
    let other = value.clone();
    let wait = move |deadline: Option<Instant>| {
        let (number, version) = value.get_with_version();
        if number != 0 {
            return RETURNED.to_owned();
        }
        match deadline {
            Some(deadline) => match value.wait_for_change_deadline(version, deadline) {
                Ok((number, _)) => came(number != 0),
                Err(ValueError::Timeout) => TIMED_OUT.to_owned(),
                Err(other) => format!("{other:?}"),
            },
            None => came(value.wait_for_change(version).0 != 0),
        }
    };
    Blocking::new(wait, move |stay| {
        other.set(0).expect("free");
        stay();
        other.set(1).expect("free");
    })
}

fn shareable_list() -> Blocking {
    let list = ShareableList::create(Place::anonymous(), &[Item::None]).expect("a list");
    let other = list.clone();
    let wait = move |deadline: Option<Instant>| {
        let guard = match deadline {
            Some(deadline) => list.lock_deadline(deadline),
            None => list.lock(),
        };
        match guard {
            Ok(_) => RETURNED.to_owned(),
            Err(ValueError::Timeout) => TIMED_OUT.to_owned(),
            Err(other) => format!("{other:?}"),
        }
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.lock().expect("free");
        stay();
    })
}

/// What a queue gave.
fn queued<T>(result: Result<T, QueueError>) -> String {
    match result {
        Ok(_) => RETURNED.to_owned(),
        Err(QueueError::Timeout) => TIMED_OUT.to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

fn queue_to_get() -> Blocking {
    let options = shm_queue::Options::new(1);
    let queue = Queue::<u64>::create(Place::anonymous(), options).expect("a queue");
    let other = queue.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => queued(queue.get_deadline(deadline)),
        None => queued(queue.get()),
    };
    Blocking::new(wait, move |stay| {
        // That of a waiter who gave up.
        let _ = other.try_get();
        stay();
        other.put(1).expect("room for one");
    })
}

fn queue_to_put() -> Blocking {
    let options = shm_queue::Options::new(1);
    let queue = Queue::<u64>::create(Place::anonymous(), options).expect("a queue");
    let other = queue.clone();
    let wait = move |deadline: Option<Instant>| {
        let put = match deadline {
            Some(deadline) => queue.put_deadline(1, deadline),
            None => queue.put(1),
        };
        queued(put.map_err(|refused| refused.error))
    };
    Blocking::new(wait, move |stay| {
        // Full, unless a waiter has filled it.
        let _ = other.try_put(0);
        stay();
        other.get().expect("there is one");
    })
}

fn queue_to_reserve() -> Blocking {
    let options = shm_queue::Options::new(1);
    let queue = ByteQueue::create(Place::anonymous(), options).expect("a queue");
    let other = queue.clone();
    // What it reserves it gives back.
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => queued(queue.reserve_deadline(8, deadline)),
        None => queued(queue.reserve(8)),
    };
    Blocking::new(wait, move |stay| {
        other.put(&[0; 8]).expect("room for one");
        stay();
        other.get().expect("there is one");
    })
}

fn queue_to_receive() -> Blocking {
    let options = shm_queue::Options::new(1);
    let queue = ByteQueue::create(Place::anonymous(), options).expect("a queue");
    let other = queue.clone();
    let wait = move |deadline: Option<Instant>| match deadline {
        Some(deadline) => queued(queue.recv_ref_deadline(deadline)),
        None => queued(queue.recv_ref()),
    };
    Blocking::new(wait, move |stay| {
        // That of a waiter who gave up.
        let _ = other.try_get();
        stay();
        other.put(&[1; 8]).expect("room for one");
    })
}

fn queue_to_join() -> Blocking {
    let options = shm_queue::Options::new(1);
    let queue = JoinableQueue::<u64>::create(Place::anonymous(), options).expect("a queue");
    let other = queue.clone();
    let wait = move |deadline: Option<Instant>| {
        let joined = match deadline {
            Some(deadline) => queue.join_deadline(deadline),
            None => queue.join(),
        };
        match joined {
            Ok(()) => came(queue.unfinished() == Ok(0)),
            failed => queued(failed),
        }
    };
    Blocking::new(wait, move |stay| {
        other.put(1).expect("room for one");
        let task = other.get().expect("there is one");
        stay();
        task.task_done().expect("it is ours");
    })
}

fn dict() -> Dict<u64, u64> {
    let options = shm_dict::Options::new().max_bytes(64 << 10).shards(1);
    Dict::create(Place::anonymous(), options).expect("a dictionary")
}

/// What a dictionary gave.
fn entered<T>(result: Result<T, DictError>) -> Result<T, String> {
    result.map_err(|error| match error {
        DictError::Timeout => TIMED_OUT.to_owned(),
        other => format!("{other:?}"),
    })
}

fn dict_to_lock() -> Blocking {
    let dict = dict();
    let other = dict.clone();
    let wait = move |deadline: Option<Instant>| {
        let guard = match deadline {
            Some(deadline) => dict.lock_timeout(deadline.saturating_duration_since(Instant::now())),
            None => dict.lock(),
        };
        entered(guard).map_or_else(|told| told, |_| RETURNED.to_owned())
    };
    Blocking::new(wait, move |stay| {
        let _guard = other.lock().expect("free");
        stay();
    })
}

fn dict_to_change() -> Blocking {
    let dict = dict();
    let other = dict.clone();
    let wait = move |deadline: Option<Instant>| {
        let version = dict.version();
        let is_changed = || dict.get(&1) == Ok(Some(1));
        if is_changed() {
            return RETURNED.to_owned();
        }
        let changed = match deadline {
            Some(deadline) => dict.wait_for_change_deadline(version, deadline),
            None => dict.wait_for_change(version),
        };
        entered(changed).map_or_else(|told| told, |_| came(is_changed()))
    };
    Blocking::new(wait, move |stay| {
        other.set(&1, &0).expect("there is room");
        stay();
        other.set(&1, &1).expect("there is room");
    })
}

fn list_to_change() -> Blocking {
    let options = shm_dict::Options::new().max_bytes(64 << 10);
    let list = List::<u64>::create(Place::anonymous(), options).expect("a list");
    list.push(&0).expect("there is room");
    let other = list.clone();
    let wait = move |deadline: Option<Instant>| {
        let version = list.version();
        let is_changed = || list.get(0) == Ok(Some(1));
        if is_changed() {
            return RETURNED.to_owned();
        }
        let changed = match deadline {
            Some(deadline) => list.wait_for_change_deadline(version, deadline),
            None => list.wait_for_change(version),
        };
        entered(changed).map_or_else(|told| told, |_| came(is_changed()))
    };
    Blocking::new(wait, move |stay| {
        other.set(0, &0).expect("it is there");
        stay();
        other.set(0, &1).expect("it is there");
    })
}
