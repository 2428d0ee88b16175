//! SIGKILL for model threads: before any chosen atomic operation a thread stops for ever, and the modelled
//! kernel buries it.
//!
//! ```ignore
//! death::at_every_step(|step| {
//!     loom::model(move || {
//!         let victim = thread::spawn(|| death::run(step, || operation()));
//!         // ... survivors act; what they may see depends on `victim.join()`
//!     });
//! });
//! ```
//!
//! Every atomic operation of the facade, and every call of a futex operation, is a step; so the points
//! of death are all the points at which another thread could tell the difference. The loop over the
//! steps is outside `loom::model`, since an execution must be the same each time it is replayed.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::robust;

loom::thread_local! {
    /// Steps left; `None` = immortal.
    static COUNTDOWN: Cell<Option<usize>> = Cell::new(None);
    /// How often the thread has asked for the time.
    static CLOCK: Cell<u64> = Cell::new(0);
}

std::thread_local! {
    /// Whether any model thread was killed since [`at_every_step`] last looked. The test's own, not a
    /// model's: all threads of all executions of a model run on the thread that started it.
    static KILLED: Cell<bool> = const { Cell::new(false) };
}

/// What a killed thread unwinds with.
#[derive(Debug)]
struct Killed;

/// How a thread under [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Its operation returned.
    Finished(T),
    /// It was killed.
    Killed,
}

/// A step: the point before a shared access, at which the thread may die.
#[inline]
pub fn step() {
    let dies = COUNTDOWN.with(|countdown| match countdown.get() {
        None => false,
        Some(0) => {
            countdown.set(None);
            true
        }
        Some(left) => {
            countdown.set(Some(left - 1));
            false
        }
    });
    if dies {
        KILLED.set(true);
        // Not `panic!`: no message, no hook, no failed test.
        resume_unwind(Box::new(Killed));
    }
}

/// The model's clock: the thread's questions, from 1.
pub(crate) fn tick() -> u64 {
    CLOCK.with(|clock| {
        clock.set(clock.get() + 1);
        clock.get()
    })
}

/// Runs `operation`, killed before its step number `step` (from 0) if it comes that far; then lets
/// the kernel release what the thread held, as it does when a thread ends in any way.
///
/// What the operation borrows must outlive this call, as a mapping outlives its process's threads.
pub fn run<T>(step: usize, operation: impl FnOnce() -> T) -> Outcome<T> {
    COUNTDOWN.with(|countdown| countdown.set(Some(step)));
    let result = catch_unwind(AssertUnwindSafe(operation));
    COUNTDOWN.with(|countdown| countdown.set(None));
    match result {
        Ok(value) => {
            robust::bury();
            Outcome::Finished(value)
        }
        Err(reason) if reason.is::<Killed>() => {
            robust::bury();
            Outcome::Killed
        }
        // An assertion in the operation.
        Err(reason) => resume_unwind(reason),
    }
}

/// Calls `model` with 0, 1, 2, ... until a step is reached at which no execution killed anybody;
/// gives how many steps did. Panics if not even the first one did, since then nothing was shown.
pub fn at_every_step(mut model: impl FnMut(usize)) -> usize {
    let mut step = 0;
    loop {
        KILLED.set(false);
        model(step);
        if !KILLED.get() {
            break;
        }
        step += 1;
    }
    assert!(step > 0, "nobody was killed: the victim takes no step");
    step
}
