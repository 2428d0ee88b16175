//! A queue of byte strings: what the typed queues stand on, and messages without a copy.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_core::fork::{self, Origin};
use shm_core::mutants::mutant;
use shm_core::{Error, Kind, Place, Segment};
use shm_lock::Patience;

use crate::error::{CreateError, PutError, QueueError};
use crate::inner::Inner;
use crate::inspect::{DeadLetter, Inspection, Recovered};
use crate::macros::{drain_form, get_forms, get_many_forms, handle_forms};
use crate::options::Options;
use crate::queue::{BATCH, until_closed};
use crate::raw::{Claim, Lease};
use crate::readiness::Readiness;
use crate::transfer::Leased;
use crate::wait::WaitStrategy;

pub(crate) const KIND: Kind = Kind(*b"QUEU");

/// A bounded queue of byte strings between any number of processes; a handle that is cheap to clone.
///
/// [`put`](Self::put) and [`get`](Self::get) copy; [`reserve`](Self::reserve) and
/// [`recv_ref`](Self::recv_ref) work in place.
///
/// # Peer death
/// A process killed at any instruction leaves each message in the queue or not, whole; nobody waits for it.
/// A message that a plain `get` has taken out is its caller's, and is lost with it; one that is read in place
/// is delivered again.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_queue::ByteQueue;
///
/// # let name = format!("doc-bytes-{}", std::process::id());
/// let lines = ByteQueue::create(Place::named(&name).unlink_on_drop(true), 100)?;
/// lines.put(b"first")?;
/// let mut second = lines.reserve(6)?;
/// second.copy_from_slice(b"second"); // written where it will be read
/// second.commit()?;
///
/// let peer = ByteQueue::open(&name)?; // in another process
/// assert_eq!(peer.get()?, b"first");
/// assert_eq!(&*peer.recv_ref()?, b"second");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ByteQueue {
    inner: Arc<Inner>,
}

impl ByteQueue {
    const TYPE: &'static str = "bytes";

    /// Creates a queue of a capacity, or of [`Options`].
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(
        place: impl Into<Place>,
        options: impl Into<Options>,
    ) -> Result<Self, CreateError> {
        let shape = options.into().shape(false);
        let inner = Inner::create(place.into(), shape, KIND, Self::TYPE)?;
        Ok(Self { inner })
    }

    /// Opens a queue that exists.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        let inner = Inner::open(place.into(), KIND, Self::TYPE)?;
        Ok(Self { inner })
    }

    /// Opens a queue, or creates it; whoever is first creates it.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn open_or_create(
        place: impl Into<Place>,
        options: impl Into<Options>,
    ) -> Result<Self, CreateError> {
        let shape = options.into().shape(false);
        let inner = Inner::open_or_create(place.into(), shape, KIND, Self::TYPE)?;
        Ok(Self { inner })
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Puts a message; blocks while the queue is full.
    ///
    /// # Errors
    /// [`Closed`](QueueError::Closed), [`TooLarge`](QueueError::TooLarge),
    /// [`StorageFull`](QueueError::StorageFull), and what a queue says that cannot be used.
    #[inline]
    pub fn put(&self, message: &[u8]) -> Result<(), QueueError> {
        self.inner.put(message, Patience::Endless)
    }

    /// As [`put`](Self::put); never waits for room.
    ///
    /// # Errors
    /// [`Full`](QueueError::Full), and those of [`put`](Self::put).
    #[inline]
    pub fn try_put(&self, message: &[u8]) -> Result<(), QueueError> {
        self.inner.put(message, Patience::None)
    }

    /// As [`put`](Self::put); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`put`](Self::put).
    pub fn put_timeout(&self, message: &[u8], timeout: Duration) -> Result<(), QueueError> {
        self.inner.put(message, timeout.into())
    }

    /// As [`put`](Self::put); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`put`](Self::put).
    pub fn put_deadline(&self, message: &[u8], deadline: Instant) -> Result<(), QueueError> {
        self.inner.put(message, deadline.into())
    }

    /// Puts messages in order, short ones that follow each other under one lock; blocks while the queue is
    /// full. Others see those that were put under one lock all at once. `as_ref` is called under it: it must not fork, and
    /// delays others for as long as it takes.
    ///
    /// # Errors
    /// Those of [`put`](Self::put), with the number of messages that were put.
    pub fn put_many(&self, messages: &[impl AsRef<[u8]>]) -> Result<(), PutError<usize>> {
        self.put_many_with(messages, Patience::Endless)
    }

    /// As [`put_many`](Self::put_many); never waits for room.
    ///
    /// # Errors
    /// [`Full`](QueueError::Full), and those of [`put_many`](Self::put_many).
    pub fn try_put_many(&self, messages: &[impl AsRef<[u8]>]) -> Result<(), PutError<usize>> {
        self.put_many_with(messages, Patience::None)
    }

    /// As [`put_many`](Self::put_many); blocks for at most `timeout` (CLOCK_MONOTONIC) in all.
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`put_many`](Self::put_many).
    pub fn put_many_timeout(
        &self,
        messages: &[impl AsRef<[u8]>],
        timeout: Duration,
    ) -> Result<(), PutError<usize>> {
        self.put_many_with(messages, timeout.into())
    }

    /// As [`put_many`](Self::put_many); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`put_many`](Self::put_many).
    pub fn put_many_deadline(
        &self,
        messages: &[impl AsRef<[u8]>],
        deadline: Instant,
    ) -> Result<(), PutError<usize>> {
        self.put_many_with(messages, deadline.into())
    }

    fn put_many_with(
        &self,
        messages: &[impl AsRef<[u8]>],
        patience: Patience,
    ) -> Result<(), PutError<usize>> {
        self.inner
            .put_many(messages.len(), |n| messages[n].as_ref(), patience)
            .map_err(|(value, error)| PutError { value, error })
    }

    get_forms!(Vec<u8>);
    get_many_forms!(Vec<u8>);
    drain_form!(Vec<u8>);

    fn get_with(&self, patience: Patience) -> Result<Vec<u8>, QueueError> {
        let mut message = Vec::new();
        self.inner.get(&mut message, patience)?;
        Ok(message)
    }

    /// As [`get`](Self::get), into a buffer that is used again; what it had is replaced.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    #[inline]
    pub fn get_into(&self, message: &mut Vec<u8>) -> Result<(), QueueError> {
        self.inner.get(message, Patience::Endless)
    }

    fn get_many_with(&self, most: usize, patience: Patience) -> Result<Vec<Vec<u8>>, QueueError> {
        let mut messages = Vec::new();
        let count = self.inner.get_many(&mut messages, most, patience)?;
        // The buffer of one that could not be copied is there, too.
        messages.truncate(count);
        Ok(messages)
    }

    /// The messages as they come, until the queue is closed and empty.
    pub fn iter(&self) -> impl Iterator<Item = Result<Vec<u8>, QueueError>> + '_ {
        std::iter::from_fn(|| until_closed(self.get()))
    }

    /// As [`get_many`](Self::get_many), into buffers that are used again: says how many messages were got, which
    /// replace what the first so many buffers had. Further buffers stay as they are; missing ones are added.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// use shm_queue::{ByteQueue, Place};
    ///
    /// # let name = format!("doc-many-into-{}", std::process::id());
    /// let queue = ByteQueue::create(Place::named(&name).unlink_on_drop(true), 10)?;
    /// queue.put_many(&["rye", "spelt"])?;
    ///
    /// let mut messages = Vec::new();
    /// let count = queue.get_many_into(&mut messages, 16)?;
    /// assert_eq!(messages[..count], [b"rye".to_vec(), b"spelt".to_vec()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many_into(
        &self,
        messages: &mut Vec<Vec<u8>>,
        most: usize,
    ) -> Result<usize, QueueError> {
        self.inner.get_many(messages, most, Patience::Endless)
    }

    /// Room for a message of `len` bytes, to be written in place; blocks while there is none.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    pub fn reserve(&self, len: usize) -> Result<Reservation, QueueError> {
        self.reserve_with(len, Patience::Endless)
    }

    /// As [`reserve`](Self::reserve); never waits for room.
    ///
    /// # Errors
    /// [`Full`](QueueError::Full), and those of [`put`](Self::put).
    pub fn try_reserve(&self, len: usize) -> Result<Reservation, QueueError> {
        self.reserve_with(len, Patience::None)
    }

    /// As [`reserve`](Self::reserve); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`put`](Self::put).
    pub fn reserve_timeout(
        &self,
        len: usize,
        timeout: Duration,
    ) -> Result<Reservation, QueueError> {
        self.reserve_with(len, timeout.into())
    }

    /// As [`reserve`](Self::reserve); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`put`](Self::put).
    pub fn reserve_deadline(
        &self,
        len: usize,
        deadline: Instant,
    ) -> Result<Reservation, QueueError> {
        self.reserve_with(len, deadline.into())
    }

    fn reserve_with(&self, len: usize, patience: Patience) -> Result<Reservation, QueueError> {
        let claim = self.inner.reserve(self.inner.check_len(len)?, patience)?;
        let mut reservation = Reservation {
            inner: Arc::clone(&self.inner),
            claim,
            bytes: NonNull::slice_from_raw_parts(NonNull::dangling(), 0),
            stamp: fork::stamp(),
            done: false,
        };
        // If the claim leads outside, the reservation gives it back.
        let bytes = self.inner.message(claim.index, claim.chunk, claim.len)?;
        reservation.bytes = NonNull::slice_from_raw_parts(bytes, len);
        Ok(reservation)
    }

    /// The first message, to be read in place; blocks while there is none. It is finished when
    /// what this gives is dropped, and delivered again if this process dies before.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn recv_ref(&self) -> Result<Received, QueueError> {
        self.recv_with(Patience::Endless)
    }

    /// As [`recv_ref`](Self::recv_ref); never waits for a message.
    ///
    /// # Errors
    /// [`Empty`](QueueError::Empty), and those of [`get`](Self::get).
    pub fn try_recv_ref(&self) -> Result<Received, QueueError> {
        self.recv_with(Patience::None)
    }

    /// As [`recv_ref`](Self::recv_ref); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`get`](Self::get).
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<Received, QueueError> {
        self.recv_with(timeout.into())
    }

    /// As [`recv_ref`](Self::recv_ref); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`get`](Self::get).
    pub fn recv_ref_deadline(&self, deadline: Instant) -> Result<Received, QueueError> {
        self.recv_with(deadline.into())
    }

    fn recv_with(&self, patience: Patience) -> Result<Received, QueueError> {
        let leased = Leased::new(&self.inner, self.inner.lease_one(patience)?);
        let bytes = leased.bytes()?;
        Ok(Received {
            inner: Arc::clone(&self.inner),
            lease: leased.keep(),
            bytes,
            stamp: fork::stamp(),
        })
    }

    handle_forms!();
}

impl fmt::Debug for ByteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteQueue")
            .field("segment", &self.inner.segment.name())
            .finish_non_exhaustive()
    }
}

/// Room in a queue, to be written in place. It holds one place of the capacity, and delays no other put.
///
/// Dropped without [`commit`](Self::commit), it is given back. Its bytes are whatever was there before.
#[must_use = "dropping a reservation gives it back"]
pub struct Reservation {
    inner: Arc<Inner>,
    claim: Claim,
    bytes: NonNull<[u8]>,
    /// The process whose it is: a forked child's copy is inert.
    stamp: u64,
    done: bool,
}

// SAFETY: the bytes are this reservation's alone, whichever thread has it; `inner` keeps them mapped.
unsafe impl Send for Reservation {}
// SAFETY: as for Send; `&self` only reads.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Puts the message into the queue, now.
    ///
    /// # Errors
    /// [`Closed`](QueueError::Closed) if the queue was closed meanwhile; the message is dropped then.
    /// [`Stale`](QueueError::Stale) in a forked child: the message is its parent's.
    pub fn commit(mut self) -> Result<(), QueueError> {
        self.done = true;
        if self.stamp != fork::stamp() {
            return Err(QueueError::Stale);
        }
        self.inner.commit(self.claim)?;
        self.inner.raw.control.not_empty.notify(1, None);
        Ok(())
    }
}

impl Deref for Reservation {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY:
        // - in bounds: `message` checked it; mapped as long as `inner`;
        // - no other writer: the word of the cell says that it is ours; any bytes are `u8`s.
        unsafe { self.bytes.as_ref() }
    }
}

impl DerefMut for Reservation {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; nobody reads it before the commit.
        unsafe { self.bytes.as_mut() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.done && self.stamp == fork::stamp() {
            // Errors have nobody to go to. What stayed goes with this process.
            let _ = self.inner.abandon(self.claim);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("len", &self.claim.len)
            .finish_non_exhaustive()
    }
}

/// A message that is read in place; dropping it finishes it.
#[must_use = "dropping a received message finishes it"]
pub struct Received {
    inner: Arc<Inner>,
    lease: Lease,
    bytes: NonNull<[u8]>,
    /// The process whose it is: a forked child's copy is inert.
    stamp: u64,
}

// SAFETY: nobody writes the bytes while the lease stands; `inner` keeps them mapped.
unsafe impl Send for Received {}
// SAFETY: as for Send; `&self` only reads.
unsafe impl Sync for Received {}

impl Received {
    /// How often the message was handed out, this time included.
    #[must_use]
    pub fn deliveries(&self) -> u8 {
        self.lease.word.deliveries()
    }

    /// Gives the message back: it is the first of the queue again.
    ///
    /// # Errors
    /// What a queue says that cannot be used.
    pub fn give_back(self) -> Result<(), QueueError> {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: read once, from a value that is not dropped.
        let inner = unsafe { std::ptr::read(&raw const this.inner) };
        if this.stamp == fork::stamp() {
            inner.give_back(this.lease, Patience::Endless)?;
        }
        Ok(())
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY:
        // - in bounds: `message` checked it; mapped as long as `inner`;
        // - no other writer: the message is leased to us, and such a lease has no time; any bytes are `u8`s.
        unsafe { self.bytes.as_ref() }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.stamp == fork::stamp() || mutant("Queue::ForkedChildAcknowledges") {
            // Errors have nobody to go to. What stayed is delivered again when this process ends.
            let _ = self.inner.finish(self.lease);
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("len", &self.lease.len)
            .field("deliveries", &self.deliveries())
            .finish_non_exhaustive()
    }
}
