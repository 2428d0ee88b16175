//! A flag that processes wait for.
//!
//! Payload, kind `EVNT`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 8 | [`RawEvent`] |

use std::fmt;
use std::time::{Duration, Instant};

use shm_core::{Error, Kind, Place, Segment, Spec};

use crate::mapped::Mapped;
use crate::patience::Patience;
use crate::raw_event::{EventInspection, RawEvent};

/// A flag that processes share, set by one and waited for by any number; a handle that is cheap to clone.
///
/// Everybody who waits when it is set goes on, also those whose turn to look comes only after the next
/// [`clear`](Self::clear): a set that is cleared at once is not missed by those who were there.
/// Setting never waits for a waiter, living, stopped or dead.
///
/// # Peer death
/// A killed waiter harms nobody. A setter killed inside `set` has set it or has not; if it has and could not
/// wake any more, the sleepers see it within 100 ms.
///
/// # Memory ordering
/// What comes before `set` happens before the return of every `wait`, and of every `is_set` that says
/// `true`, that saw it; also if it was set already.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::Event;
///
/// # let name = format!("doc-event-{}", std::process::id());
/// let ready = Event::create(Place::named(&name).unlink_on_drop(true))?;
///
/// // In every other process:
/// let theirs = Event::open(&name)?;
/// assert!(!theirs.wait_timeout(std::time::Duration::from_millis(1)));
///
/// ready.set();
/// theirs.wait();
/// # Ok::<(), shm_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Event {
    raw: Mapped<RawEvent>,
}

impl Event {
    /// Bytes that a region must have for an event.
    pub const REGION_SIZE: usize = size_of::<RawEvent>() + shm_core::HEADER_SIZE;

    fn spec() -> Spec {
        Spec::new(Kind(*b"EVNT"), 1, size_of::<RawEvent>() as u64)
            .label("Event")
            .locked()
    }

    /// Creates an event that is not set.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::create(place, Self::spec())?)
    }

    /// Opens an event that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec())?)
    }

    /// Opens an event, or creates it; whoever is first creates it.
    ///
    /// # Errors
    /// As [`Segment::open_or_create`].
    pub fn open_or_create(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open_or_create(place, Self::spec())?)
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        Ok(Self {
            raw: Mapped::new(segment, 0)?,
        })
    }

    /// Sets it and wakes all who wait; never blocks.
    ///
    /// Async-signal-safe: atomic operations on one word, and at most one system call that cannot fail. A
    /// signal handler may call it on a handle that lives in a static.
    pub fn set(&self) {
        self.raw.set();
    }

    /// Clears it: whoever comes now waits for the next set. Who was waiting when it was last set goes
    /// on all the same.
    pub fn clear(&self) {
        self.raw.clear();
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// As [`wait_timeout`](Self::wait_timeout) for no time at all: whether it is set. Never blocks.
    ///
    /// The same as [`is_set`](Self::is_set), under the name that stands beside the other waits.
    #[must_use]
    pub fn try_wait(&self) -> bool {
        self.raw.wait(Patience::None)
    }

    /// Blocks until it is set.
    pub fn wait(&self) {
        self.raw.wait(Patience::Endless);
    }

    /// Blocks until it is set, for at most `timeout` (CLOCK_MONOTONIC); whether it was.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.raw.wait(timeout.into())
    }

    /// Blocks until it is set, until `deadline` at most; whether it was.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.raw.wait(deadline.into())
    }

    /// Whether it is set, how often it was, and how many wait: for people; it may be over when it is
    /// read.
    #[must_use]
    pub fn inspect(&self) -> EventInspection {
        self.raw.inspect()
    }

    /// Removes the name, as [`Segment::unlink`].
    ///
    /// # Errors
    /// As [`Segment::unlink`].
    pub fn unlink(&self) -> Result<(), Error> {
        self.segment().unlink()
    }

    /// The segment it lives in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        self.raw.segment()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_set() { "set" } else { "unset" };
        f.debug_struct("Event")
            .field("segment", &self.segment().name())
            .field("state", &format_args!("{state}"))
            .finish()
    }
}
