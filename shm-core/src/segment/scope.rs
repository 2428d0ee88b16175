//! Names that end with a scope.

use std::sync::Arc;

use super::{Place, Segment};
use crate::error::Error;
use crate::fork::PerProcess;

/// A scope for segments: what is created in its places is unlinked when it ends.
///
/// In a forked child it is inert. If the process dies, the names go as with
/// [`Place::unlink_on_drop`].
///
/// # Examples
/// ```
/// use shm_core::{Scope, Segment};
///
/// # let name = format!("doc-scope-{}", std::process::id());
/// let scope = Scope::new();
/// let frames = Segment::create(scope.place(&name), 4096)?;
/// drop(scope);
/// assert!(Segment::open(&name, 4096).is_err(), "the name is gone");
/// frames.write(0, b"the memory is not")?;
/// # Ok::<(), shm_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Scope {
    members: Members,
    stamp: u64,
}

/// The segments of a scope, shared with its places.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members(Arc<PerProcess<Vec<Segment>>>);

impl Members {
    pub(super) fn add(&self, segment: &Segment) {
        self.0.lock().push(segment.clone());
    }

    fn take(&self) -> Vec<Segment> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl Scope {
    /// An empty scope.
    #[must_use]
    pub fn new() -> Self {
        Self {
            members: Members::default(),
            stamp: crate::fork::stamp(),
        }
    }

    /// A place whose segment ends with this scope.
    pub fn place(&self, place: impl Into<Place>) -> Place {
        let mut place = place.into().unlink_on_drop(true);
        place.scope = Some(self.members.clone());
        place
    }

    /// Unlinks everything now, and says what did not go.
    ///
    /// # Errors
    /// The first error of an [`unlink`](Segment::unlink); a name that is gone already is none.
    pub fn close(self) -> Result<(), Error> {
        self.unlink_all()
    }

    fn unlink_all(&self) -> Result<(), Error> {
        if self.stamp != crate::fork::stamp() {
            return Ok(());
        }
        let mut first = Ok(());
        for segment in self.members.take() {
            match segment.unlink() {
                Err(Error::NotFound { .. } | Error::Replaced { .. } | Error::NotNamed { .. }) => {}
                other => first = first.and(other),
            }
        }
        first
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Errors have nobody to go to; `sweep` finds what stayed.
        let _ = self.unlink_all();
    }
}
