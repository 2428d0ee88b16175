//! The kernel's queue of sleepers, modelled.

use core::cell::Cell;
use core::ptr;
use core::time::Duration;
use std::rc::Rc;

use loom::sync::{Condvar, Mutex};

use super::Wait;
use crate::Deadline;
use crate::sync::{AtomicU32, Ordering, death, yield_now};

/// One who sleeps: on which word, and how to wake it.
struct Sleeper {
    word: *const AtomicU32,
    sliced: bool,
    bell: Rc<Bell>,
}

struct Bell {
    rung: Cell<Option<Wait>>,
    condvar: Condvar,
}

impl Bell {
    fn ring(&self, reason: Wait) {
        self.rung.set(Some(reason));
        self.condvar.notify_one();
    }
}

loom::lazy_static! {
    /// The bucket: sleepers in the order in which they came.
    static ref QUEUE: Mutex<Vec<Sleeper>> = Mutex::new(Vec::new());
}

/// Sleeps until woken, while `*word == expected`.
///
/// With a deadline: `TimedOut` if it is past when the thread would fall asleep; one that is asleep
/// stays so until woken. That loses no behaviour: a sleeper that times out before it is woken
/// leaves no other trace than one that never slept.
#[must_use]
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Wait {
    sleep(word, expected, deadline, false)
}

fn sleep(word: &AtomicU32, expected: u32, deadline: Option<Deadline>, sliced: bool) -> Wait {
    death::step();
    if deadline.is_some_and(Deadline::is_past) {
        yield_now();
        return Wait::TimedOut;
    }
    let mut queue = QUEUE.lock().expect("nobody dies in the kernel");
    // Relaxed: PAIR futex-queue, the mutex orders this with the wakes.
    if word.kernel().load(Ordering::Relaxed) != expected {
        return Wait::Changed;
    }
    let bell = Rc::new(Bell {
        rung: Cell::new(None),
        condvar: Condvar::new(),
    });
    queue.push(Sleeper {
        word: ptr::from_ref(word),
        sliced,
        bell: Rc::clone(&bell),
    });
    loop {
        if let Some(reason) = bell.rung.get() {
            return reason;
        }
        queue = bell.condvar.wait(queue).expect("nobody dies in the kernel");
    }
}

/// As [`wait`]: a slice ends only when the model calls [`end_slices`], so a lost wake shows.
#[must_use]
pub fn wait_slice(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Wait {
    sleep(word, expected, deadline, true)
}

/// Lets time pass: every slice that somebody sleeps through now is over.
pub fn end_slices() {
    let mut queue = QUEUE.lock().expect("nobody dies in the kernel");
    queue.retain(|sleeper| {
        if sleeper.sliced {
            sleeper.bell.ring(Wait::TimedOut);
        }
        !sleeper.sliced
    });
}

/// Lets others run once, then is past its bound. A wait that ends early is one of the waits that may be.
#[must_use]
pub fn wait_briefly(word: &AtomicU32, expected: u32, _: Option<Deadline>, _: Duration) -> Wait {
    death::step();
    yield_now();
    if word.kernel().load(Ordering::Relaxed) == expected {
        Wait::TimedOut
    } else {
        Wait::Changed
    }
}

/// Wakes up to `count` sleepers, the longest sleeping first; gives how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    death::step();
    wake_by_kernel(word, count)
}

/// As [`wake`], by somebody who cannot be killed.
pub(crate) fn wake_by_kernel(word: &AtomicU32, count: u32) -> usize {
    let mut queue = QUEUE.lock().expect("nobody dies in the kernel");
    let mut woken = 0;
    while woken < count as usize {
        let Some(at) = queue.iter().position(|sleeper| ptr::eq(sleeper.word, word)) else {
            break;
        };
        queue.remove(at).bell.ring(Wait::Woken);
        woken += 1;
    }
    woken
}

/// How many threads sleep on `word`.
#[must_use]
pub fn waiters(word: &AtomicU32) -> usize {
    let queue = QUEUE.lock().expect("nobody dies in the kernel");
    queue
        .iter()
        .filter(|sleeper| ptr::eq(sleeper.word, word))
        .count()
}

/// Nothing: loom's yield would take schedules out of the model.
pub fn give_way() {}

/// One: the model explores schedules itself, and spinning would only multiply them.
#[must_use]
pub fn processors() -> usize {
    1
}

/// Never: the rescue of what the kernel forgot is off in the model.
#[must_use]
pub fn thread_is_gone(_: u32) -> bool {
    false
}
