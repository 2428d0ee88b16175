//! Waiting under a mutex for what another process does to its data.
//!
//! Payload, kind `COND`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 16 | [`RawCondvar`] |

use std::fmt;
use std::time::{Duration, Instant};

use shm_core::{Deadline, Error, Kind, Place, Segment, Spec};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::error::LockError;
use crate::mapped::Mapped;
use crate::mutex::{Guard, LockResult};
use crate::raw_condvar::{CondvarInspection, RawCondvar};

/// What a wait with a limit returns: the guard, and whether the time was over.
pub type WaitTimeout<'a, T> = (Guard<'a, T>, WaitTimeoutResult);

/// Whether a wait ended because its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult {
    timed_out: bool,
}

impl WaitTimeoutResult {
    /// Whether the time was over. The condition may hold all the same by now.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }
}

/// A condition variable that processes share, for a [`Mutex`](crate::Mutex); a handle that is cheap to clone.
///
/// A notification lets exactly as many return as it says, among those who waited when it came. A wait may
/// also end without one, though rarely: after a peer was killed, and when somebody misuses the condition
/// variable with another mutex. So ask in a loop, or use [`wait_while`](Self::wait_while).
///
/// Notifying never waits for anybody, needs no lock, and without waiters is one load. To be sure to be
/// heard, change the data under the mutex, and notify while it is held or afterwards.
///
/// # Peer death
/// - A waiter killed in its sleep harms nobody.
/// - One killed when it was woken, before it has the mutex, leaves its signal: another waiter takes it
///   within 100 ms (the bound of each sleep). No signal is lost to the dead.
/// - One killed later held the mutex: the next to lock it gets [`LockError::OwnerDied`]; a waiter gets it
///   from `wait`. Who repairs should [`notify_all`](Self::notify_all), since the dead may have been about to.
/// - A notifier killed inside `notify` has notified or has not; if it could not wake any more, sleepers find
///   out within 100 ms.
///
/// # Memory ordering
/// The mutex orders the data; a notification adds nothing to it.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::{Condvar, LockFailure, Mutex};
///
/// # let name = format!("doc-condvar-{}", std::process::id());
/// # let place = |what: &str| Place::named(format!("{name}-{what}")).unlink_on_drop(true);
/// let jobs = Mutex::create(place("jobs"), 0_u32)?;
/// let more = Condvar::create(place("more"))?;
///
/// // In another process, which has opened both:
/// # let (theirs, signal) = (jobs.clone(), more.clone());
/// # let other = std::thread::spawn(move || {
/// *theirs.lock().unwrap() += 1;
/// signal.notify_one();
/// # });
///
/// let guard = jobs.lock_or_repair(|_, cause| eprintln!("{cause}"))?;
/// let mut left = more.wait_while(guard, |jobs| *jobs == 0).map_err(LockFailure::from)?;
/// *left -= 1;
/// # other.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Condvar {
    raw: Mapped<RawCondvar>,
}

impl Condvar {
    /// Bytes that a region must have for a condition variable.
    pub const REGION_SIZE: usize = size_of::<RawCondvar>() + shm_core::HEADER_SIZE;

    fn spec() -> Spec {
        Spec::new(Kind(*b"COND"), 1, size_of::<RawCondvar>() as u64)
            .label("Condvar")
            .locked()
    }

    /// Creates a condition variable that nobody waits for.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::create(place, Self::spec())?)
    }

    /// Opens a condition variable that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec())?)
    }

    /// Opens a condition variable, or creates it; whoever is first creates it.
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

    /// Unlocks, blocks until notified, and locks again; unlocking and falling asleep are one step for
    /// whoever notifies after having locked the mutex.
    ///
    /// # Errors
    /// [`LockError::OtherMutex`] with the guard, if somebody waits with another mutex; otherwise what
    /// locking again gives: [`LockError::OwnerDied`], [`LockError::Poisoned`],
    /// [`LockError::NotRecoverable`], [`LockError::TooManyLocks`], [`LockError::Unsupported`].
    pub fn wait<'a, T: Data>(&self, guard: Guard<'a, T>) -> LockResult<Guard<'a, T>> {
        Ok(self.wait_until(guard, None)?.0)
    }

    /// As [`wait`](Self::wait), again and again while `condition` holds; does not wait if it does not.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T: Data>(
        &self,
        mut guard: Guard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<Guard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), for at most `timeout` (CLOCK_MONOTONIC); the lock is taken again in
    /// either case, however long that takes.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); that the time is over is no error.
    pub fn wait_timeout<'a, T: Data>(
        &self,
        guard: Guard<'a, T>,
        timeout: Duration,
    ) -> Result<WaitTimeout<'a, T>, LockError<Guard<'a, T>>> {
        self.wait_until(guard, Some(Deadline::after(timeout)))
    }

    /// As [`wait_timeout`](Self::wait_timeout), until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_deadline<'a, T: Data>(
        &self,
        guard: Guard<'a, T>,
        deadline: Instant,
    ) -> Result<WaitTimeout<'a, T>, LockError<Guard<'a, T>>> {
        self.wait_until(guard, Some(Deadline::at(deadline)))
    }

    /// As [`wait_while`](Self::wait_while), for at most `timeout` in all. Timed out means that the condition
    /// held to the last.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_timeout_while<'a, T: Data>(
        &self,
        guard: Guard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<WaitTimeout<'a, T>, LockError<Guard<'a, T>>> {
        self.wait_while_until(guard, Deadline::after(timeout), condition)
    }

    /// As [`wait_timeout_while`](Self::wait_timeout_while), until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_deadline_while<'a, T: Data>(
        &self,
        guard: Guard<'a, T>,
        deadline: Instant,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<WaitTimeout<'a, T>, LockError<Guard<'a, T>>> {
        self.wait_while_until(guard, Deadline::at(deadline), condition)
    }

    fn wait_while_until<'a, T: Data>(
        &self,
        mut guard: Guard<'a, T>,
        deadline: Deadline,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<WaitTimeout<'a, T>, LockError<Guard<'a, T>>> {
        loop {
            let timed_out = deadline.is_past();
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult { timed_out: false }));
            }
            if timed_out {
                return Ok((guard, WaitTimeoutResult { timed_out }));
            }
            guard = self.wait_until(guard, Some(deadline))?.0;
        }
    }

    fn wait_until<'a, T: Data>(
        &self,
        guard: Guard<'a, T>,
        deadline: Option<Deadline>,
    ) -> Result<WaitTimeout<'a, T>, LockError<Guard<'a, T>>> {
        let mutex = Guard::mutex_of(&guard);
        // The mutex is the only one in its segment, so the generation names it.
        let generation = mutex.segment().generation();
        let (locked, notified) = self
            .raw
            .wait(generation, deadline, guard, || mutex.lock())
            .map_err(LockError::OtherMutex)?;
        let timed_out = !notified;
        Ok((locked?, WaitTimeoutResult { timed_out }))
    }

    /// Lets one of those who wait return; never blocks.
    pub fn notify_one(&self) {
        self.raw.notify(1);
    }

    /// Lets `count` of those who wait return, or all if they are fewer; never blocks.
    pub fn notify_n(&self, count: usize) {
        self.raw.notify(count);
    }

    /// Lets all who wait return; never blocks.
    pub fn notify_all(&self) {
        self.raw.notify(usize::MAX);
    }

    /// How many wait: for people; it may be over when it is read.
    #[must_use]
    pub fn inspect(&self) -> CondvarInspection {
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

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar")
            .field("segment", &self.segment().name())
            .field("state", &self.inspect())
            .finish()
    }
}

/// What a mutex may protect: the bounds of [`Mutex::create`](crate::Mutex::create) in one word.
pub trait Data: FromBytes + IntoBytes + KnownLayout + Send + 'static {}

impl<T: FromBytes + IntoBytes + KnownLayout + Send + 'static> Data for T {}
