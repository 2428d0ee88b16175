//! A point that all parties reach before any of them goes on.
//!
//! Payload, kind `BARR`, version 1:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 4160 | [`RawBarrier`] |

use std::fmt;
use std::time::{Duration, Instant};

use shm_core::{Deadline, Error, Kind, Place, ProcessId, Segment, Spec};

use crate::create_error::CreateError;
use crate::mapped::Mapped;
use crate::raw_barrier::{BarrierInspection, BrokenBarrier, Party as Raw, RawBarrier, Standing};

/// A barrier that processes share; a handle that is cheap to clone.
///
/// Each party calls [`wait`](Self::wait) and blocks until as many have as there are parties; then all go on,
/// and the next round begins. Any thread of any process may be a party.
///
/// A barrier **breaks** instead of letting the rest wait for ever: when a party is late
/// ([`wait_timeout`](Self::wait_timeout)), when somebody calls [`abort`](Self::abort), and when a party dies.
/// Then all who wait, and all who come, get [`BrokenBarrier`], until somebody calls
/// [`reset`](Self::reset).
///
/// # Peer death
/// The others look who lives at least every 100 ms while they wait, by an exact test, never by a timer; so a
/// process that is slow or stopped is not taken for dead.
/// - A party that has [registered](Self::register) and dies, wherever it is, breaks the barrier.
/// - A party that dies while it waits breaks it, unless the round completes first.
/// - **A party that never registered and dies before it waits is unknown.** Only a timeout helps the others.
///
/// A thread that ends alone, in a process that lives on, is not noticed.
///
/// # Memory ordering
/// What any party did before `wait` happens before the return of every party in the same round.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_lock::Barrier;
///
/// # let name = format!("doc-barrier-{}", std::process::id());
/// let start = Barrier::create(Place::named(&name).unlink_on_drop(true), 2)?;
///
/// // In another process:
/// # let other = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let theirs = Barrier::open(&name)?;
/// theirs.wait()?;
/// # Ok(())
/// # });
///
/// if start.wait()?.is_leader() {
///     println!("I came last");
/// }
/// # other.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Barrier {
    raw: Mapped<RawBarrier>,
    timeout: Option<Duration>,
}

/// How a wait at a barrier ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether the caller came last: one of the parties did, in each round.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// How many parties had come before, from 0: each number once in a round.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// As many processes are registered as there are parties, and all of them live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {parties} parties of the barrier are registered, and live")]
pub struct AllRegistered {
    /// How many parties there are.
    pub parties: u32,
}

impl Barrier {
    /// Bytes that a region must have for a barrier.
    pub const REGION_SIZE: usize = size_of::<RawBarrier>() + shm_core::HEADER_SIZE;
    /// The most parties there may be.
    pub const MAX_PARTIES: u32 = RawBarrier::MAX_PARTIES;

    fn spec() -> Spec {
        Spec::new(Kind(*b"BARR"), 1, size_of::<RawBarrier>() as u64)
            .label("Barrier")
            .locked()
    }

    /// Creates a barrier for `parties`.
    ///
    /// # Errors
    /// [`CreateError::Zero`], [`CreateError::TooMany`];
    /// [`CreateError::Segment`] as [`Segment::create`].
    pub fn create(place: impl Into<Place>, parties: u32) -> Result<Self, CreateError> {
        let bytes = Self::checked(parties)?;
        let init = |segment: &Segment| segment.write(RawBarrier::PARTIES, &bytes);
        let segment = Segment::create_with(place, Self::spec(), init)?;
        Ok(Self::attach(segment)?)
    }

    /// Opens a barrier that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Self::attach(Segment::open(place, Self::spec())?)
    }

    /// Opens a barrier, or creates it for `parties`; whoever is first creates it.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn open_or_create(place: impl Into<Place>, parties: u32) -> Result<Self, CreateError> {
        let bytes = Self::checked(parties)?;
        let init = |segment: &Segment| segment.write(RawBarrier::PARTIES, &bytes);
        let segment = Segment::open_or_create_with(place, Self::spec(), init)?;
        Ok(Self::attach(segment)?)
    }

    fn checked(parties: u32) -> Result<[u8; 4], CreateError> {
        let parties = CreateError::check(parties, Self::MAX_PARTIES)?;
        Ok(parties.to_ne_bytes())
    }

    fn attach(segment: Segment) -> Result<Self, Error> {
        let raw = Mapped::<RawBarrier>::new(segment, 0)?;
        let parties = raw.parties_found();
        if !(1..=Self::MAX_PARTIES).contains(&parties) {
            return Err(Error::Corrupt {
                segment: raw.segment().name().to_owned(),
                field: "number of parties",
                value: u64::from(parties),
            });
        }
        Ok(Self { raw, timeout: None })
    }

    /// The same barrier, by a handle whose [`wait`](Self::wait) lasts for at most `timeout`.
    #[must_use]
    pub fn with_default_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Registers this process as a party, wherever it is in its work: if it dies, the barrier breaks.
    ///
    /// A process with several threads registers each of them. A registered party waits by
    /// [`Party::wait`].
    ///
    /// # Errors
    /// [`AllRegistered`].
    pub fn register(&self) -> Result<Party, AllRegistered> {
        let standing = self.raw.register(ProcessId::current(), is_alive);
        match standing {
            Some(standing) => Ok(Party {
                barrier: self.clone(),
                standing,
            }),
            None => Err(AllRegistered {
                parties: self.parties(),
            }),
        }
    }

    /// Blocks until all parties have come; for at most the default timeout, if the handle has one.
    ///
    /// # Errors
    /// [`BrokenBarrier`].
    pub fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        let deadline = self.timeout.map(Deadline::after);
        self.wait_as(Raw::Passing(ProcessId::current()), deadline)
    }

    /// Blocks until all parties have come, for at most `timeout` (CLOCK_MONOTONIC). If they have not,
    /// the barrier breaks for all.
    ///
    /// With [`Duration::ZERO`] nobody is waited for: the last party passes, any other one breaks the
    /// barrier. That is why there is no `try_wait`: to come is to be counted, and a count that went back would
    /// let others pass who have not all come.
    ///
    /// # Errors
    /// [`BrokenBarrier`]; [`timed_out`](BrokenBarrier::timed_out) for the party whose time was over.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        let deadline = Some(Deadline::after(timeout));
        self.wait_as(Raw::Passing(ProcessId::current()), deadline)
    }

    /// As [`wait_timeout`](Self::wait_timeout), until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWaitResult, BrokenBarrier> {
        let deadline = Some(Deadline::at(deadline));
        self.wait_as(Raw::Passing(ProcessId::current()), deadline)
    }

    fn wait_as(
        &self,
        party: Raw,
        deadline: Option<Deadline>,
    ) -> Result<BarrierWaitResult, BrokenBarrier> {
        let index = self.raw.wait(party, deadline, is_alive)?;
        Ok(BarrierWaitResult {
            index,
            is_leader: index + 1 == self.parties(),
        })
    }

    /// Breaks the barrier; never blocks. Nothing happens if it is broken.
    pub fn abort(&self) {
        self.raw.abort();
    }

    /// Begins a new round; never blocks. Who waits gets [`BrokenBarrier`]; a broken barrier is whole
    /// again. Nothing happens if it is whole and nobody waits.
    pub fn reset(&self) {
        self.raw.reset();
    }

    /// How many parties there are.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.raw.parties()
    }

    /// How many wait at this moment.
    #[must_use]
    pub fn n_waiting(&self) -> u32 {
        self.raw.waiting()
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.raw.is_broken()
    }

    /// Who has registered and how many wait: for people; it may be over when it is read.
    #[must_use]
    pub fn inspect(&self) -> BarrierInspection {
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

/// Whether a party may still come; a doubt counts as life.
fn is_alive(process: ProcessId) -> bool {
    process.is_alive().unwrap_or(true)
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("segment", &self.segment().name())
            .field("state", &self.inspect())
            .finish()
    }
}

/// A party that has registered: its death breaks the barrier. Dropping it ends that, and breaks nothing.
///
/// Its copy in a forked child is not registered; there it waits as [`Barrier::wait`] does.
#[derive(Debug)]
pub struct Party {
    barrier: Barrier,
    standing: Standing,
}

impl Party {
    /// The barrier.
    #[must_use]
    pub fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// As [`Barrier::wait`]. One wait at a time: hence `&mut`.
    ///
    /// # Errors
    /// [`BrokenBarrier`].
    pub fn wait(&mut self) -> Result<BarrierWaitResult, BrokenBarrier> {
        let deadline = self.barrier.timeout.map(Deadline::after);
        self.barrier.wait_as(self.who(), deadline)
    }

    /// As [`Barrier::wait_timeout`].
    ///
    /// # Errors
    /// As [`Barrier::wait_timeout`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        let deadline = Some(Deadline::after(timeout));
        self.barrier.wait_as(self.who(), deadline)
    }

    /// As [`Barrier::wait_deadline`].
    ///
    /// # Errors
    /// As [`Barrier::wait_deadline`].
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<BarrierWaitResult, BrokenBarrier> {
        let deadline = Some(Deadline::at(deadline));
        self.barrier.wait_as(self.who(), deadline)
    }

    fn who(&self) -> Raw {
        match ProcessId::current() {
            me if me == self.standing.process() => Raw::Registered(self.standing),
            child => Raw::Passing(child),
        }
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        if ProcessId::current() == self.standing.process() {
            self.barrier.raw.leave(self.standing);
        }
    }
}
