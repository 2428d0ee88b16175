//! A lock that came with a report: look, repair, go on.

use std::fmt;
use std::ops::Deref;

use crate::error::{Cause, Guarded};

/// A held lock whose last owner did not finish.
///
/// Dropping it unlocks and leaves the report to the next one.
#[must_use = "dropping it leaves the repair to the next owner"]
pub struct Recover<G: Guarded> {
    guard: G,
    cause: Cause,
}

impl<G: Guarded> Recover<G> {
    pub(crate) fn new(guard: G, cause: Cause) -> Self {
        Self { guard, cause }
    }

    /// What happened to the last owner.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Repairs the data and goes on with the lock held. If `repair` panics, or this process dies in
    /// it, the next owner gets the report again.
    pub fn repair(mut self, repair: impl FnOnce(&mut G::Data)) -> G {
        repair(self.guard.data_mut());
        self.accept()
    }

    /// Goes on with the lock held: the caller knows that the data is whole.
    pub fn accept(mut self) -> G {
        self.guard.mark_consistent();
        self.guard
    }

    /// Gives the data up: this and every later attempt to lock says
    /// [`NotRecoverable`](crate::LockError::NotRecoverable).
    pub fn abandon(mut self) {
        self.guard.mark_not_recoverable();
    }
}

impl<G: Guarded> Deref for Recover<G> {
    type Target = G::Data;

    fn deref(&self) -> &G::Data {
        self.guard.data()
    }
}

impl<G: Guarded> fmt::Debug for Recover<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recover")
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}
