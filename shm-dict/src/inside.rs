//! Which dictionaries a thread is inside of: a function that one of them calls, or who holds its lock, must not
//! come back to it by another way, where it would wait for itself.

use std::cell::Cell;
use std::cell::RefCell;

use crate::error::DictError;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// The generations of their segments.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The thread is inside of a dictionary as long as this lives.
#[derive(Debug)]
pub(crate) struct Inside {
    dict: u64,
    not_send: std::marker::PhantomData<*const ()>,
}

impl Inside {
    pub(crate) fn enter(dict: u64) -> Self {
        // In a destructor of the thread's there may be no place for it: then nobody is warned.
        if INSIDE
            .try_with(|inside| inside.borrow_mut().push(dict))
            .is_ok()
        {
            DEPTH.set(DEPTH.get() + 1);
        }
        Self {
            dict,
            not_send: std::marker::PhantomData,
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // When the thread ends there may be nothing left to leave.
        let _ = INSIDE.try_with(|inside| {
            let mut inside = inside.borrow_mut();
            if let Some(at) = inside.iter().rposition(|dict| *dict == self.dict) {
                inside.remove(at);
                DEPTH.set(DEPTH.get() - 1);
            }
        });
    }
}

/// Refuses a thread that is inside of this dictionary.
///
/// # Errors
/// [`DictError::Reentered`].
#[inline(always)]
pub(crate) fn check(dict: u64) -> Result<(), DictError> {
    match DEPTH.get() {
        0 => Ok(()),
        _ => check_all(dict),
    }
}

#[cold]
#[inline(never)]
fn check_all(dict: u64) -> Result<(), DictError> {
    match INSIDE.try_with(|inside| inside.borrow().contains(&dict)) {
        Ok(true) => Err(DictError::Reentered),
        _ => Ok(()),
    }
}
