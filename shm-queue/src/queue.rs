//! A queue of values.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_core::codec::{Codec, Postcard};
use shm_core::fork::Origin;
use shm_core::{Error, Place, Segment};
use shm_lock::Patience;

use crate::bytes::KIND;
use crate::error::{CreateError, PutError, QueueError};
use crate::halves::{Counted, Half};
use crate::inner::Inner;
use crate::inspect::{DeadLetter, Inspection, Recovered};
use crate::macros::{
    drain_form, get_forms, get_many_forms, handle_forms, put_forms, put_many_forms,
};
use crate::options::Options;
use crate::raw::Lease;
use crate::readiness::Readiness;
use crate::transfer::Leased;
use crate::wait::WaitStrategy;

/// A bounded queue of values between any number of processes; a handle that is cheap to clone.
///
/// Values are encoded by `C`: [`Postcard`] for all that serde knows, [`Raw`](crate::Raw) for plain types.
/// A value enters the queue when `put` commits it: each producer's values come out in the order in
/// which it put them, and none waits for a put that is not finished. A long message is copied outside the queue's lock; a
/// short one under it, which takes a moment: whoever is stopped in that moment delays the others until it goes on or dies.
///
/// # Peer death
/// A process killed at any instruction leaves each value in the queue or not, whole; nobody waits for it. A value
/// that `get` has taken out is its caller's, and is lost with it: at most once. Where that is not enough, use a
/// [`JoinableQueue`](crate::JoinableQueue).
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_queue::Queue;
///
/// # let name = format!("doc-queue-{}", std::process::id());
/// let buns = Queue::<(u32, String)>::create(Place::named(&name).unlink_on_drop(true), 10)?;
/// buns.put((1, "poppy".to_owned()))?;
///
/// let buns = Queue::<(u32, String)>::open(&name)?; // in another process
/// assert_eq!(buns.get()?, (1, "poppy".to_owned()));
/// assert!(buns.try_get().is_err_and(|error| error.is_empty()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Queue<T, C = Postcard> {
    inner: Arc<Inner>,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T, C> Clone for Queue<T, C> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.inner))
    }
}

impl<T, C> Queue<T, C> {
    fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            types: PhantomData,
        }
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    handle_forms!();
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// Creates a queue of a capacity, or of [`Options`].
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(
        place: impl Into<Place>,
        options: impl Into<Options>,
    ) -> Result<Self, CreateError> {
        let shape = options.into().shape(false);
        Inner::create(place.into(), shape, KIND, &type_name::<T, C>()).map(Self::new)
    }

    /// Opens a queue that exists, with the same types.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Inner::open(place.into(), KIND, &type_name::<T, C>()).map(Self::new)
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
        Inner::open_or_create(place.into(), shape, KIND, &type_name::<T, C>()).map(Self::new)
    }

    put_forms!();
    get_forms!(T);

    #[inline]
    fn put_with(&self, value: T, patience: Patience) -> Result<(), PutError<T>> {
        put_value::<T, C>(&self.inner, value, patience)
    }

    #[inline]
    fn get_with(&self, patience: Patience) -> Result<T, QueueError> {
        get_value::<T, C>(&self.inner, patience)
    }

    put_many_forms!();
    get_many_forms!(T);
    drain_form!(T);

    fn put_many_with(
        &self,
        values: impl IntoIterator<Item = T>,
        patience: Patience,
    ) -> Result<(), PutError<Vec<T>>> {
        put_values::<T, C>(&self.inner, values, patience)
    }

    fn get_many_with(&self, most: usize, patience: Patience) -> Result<Vec<T>, QueueError> {
        get_values::<T, C>(&self.inner, most, patience)
    }

    /// The values as they come, until the queue is closed and empty.
    pub fn iter(&self) -> Iter<'_, T, C> {
        Iter { queue: self }
    }

    /// A half that puts. When the last one is gone, also by its process's death, the queue is closed.
    ///
    /// # Errors
    /// [`Closed`](QueueError::Closed), and what a queue says that cannot be used.
    pub fn sender(&self) -> Result<Sender<T, C>, QueueError> {
        Sender::new(&self.inner)
    }

    /// A half that gets.
    ///
    /// # Errors
    /// What a queue says that cannot be used.
    pub fn receiver(&self) -> Result<Receiver<T, C>, QueueError> {
        Receiver::new(&self.inner)
    }
}

impl<T, C> fmt::Debug for Queue<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("segment", &self.inner.segment.name())
            .finish_non_exhaustive()
    }
}

/// The values of a queue as they come.
#[derive(Debug)]
pub struct Iter<'a, T, C> {
    queue: &'a Queue<T, C>,
}

impl<T, C: Codec<T>> Iterator for Iter<'_, T, C> {
    type Item = Result<T, QueueError>;

    fn next(&mut self) -> Option<Self::Item> {
        until_closed(self.queue.get())
    }
}

/// An iterator's next one.
pub(crate) fn until_closed<T>(got: Result<T, QueueError>) -> Option<Result<T, QueueError>> {
    match got {
        Err(QueueError::Closed) => None,
        got => Some(got),
    }
}

impl<'a, T, C: Codec<T>> IntoIterator for &'a Queue<T, C> {
    type Item = Result<T, QueueError>;
    type IntoIter = Iter<'a, T, C>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The putting half of a queue. Counted: when the last one is gone, in whichever process and in
/// whichever way, the queue is closed.
///
/// A forked child's copy is not counted; it makes its own from a queue that it has opened.
#[derive(Debug)]
pub struct Sender<T, C = Postcard> {
    counted: Counted,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T, C: Codec<T>> Sender<T, C> {
    pub(crate) fn new(inner: &Arc<Inner>) -> Result<Self, QueueError> {
        Ok(Self {
            counted: Counted::new(inner, Half::Sender)?,
            types: PhantomData,
        })
    }

    put_forms!();
    put_many_forms!();

    #[inline]
    fn put_with(&self, value: T, patience: Patience) -> Result<(), PutError<T>> {
        put_value::<T, C>(self.counted.inner(), value, patience)
    }

    fn put_many_with(
        &self,
        values: impl IntoIterator<Item = T>,
        patience: Patience,
    ) -> Result<(), PutError<Vec<T>>> {
        put_values::<T, C>(self.counted.inner(), values, patience)
    }

    /// Another sender, counted as well.
    ///
    /// # Errors
    /// As [`Queue::sender`].
    pub fn try_clone(&self) -> Result<Self, QueueError> {
        Self::new(self.counted.inner())
    }
}

/// The getting half of a queue. Counted for [`inspect`](Queue::inspect) alone: a queue without receivers
/// keeps what it has for the next one.
#[derive(Debug)]
pub struct Receiver<T, C = Postcard> {
    counted: Counted,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T, C: Codec<T>> Receiver<T, C> {
    fn new(inner: &Arc<Inner>) -> Result<Self, QueueError> {
        Ok(Self {
            counted: Counted::new(inner, Half::Receiver)?,
            types: PhantomData,
        })
    }

    get_forms!(T);
    get_many_forms!(T);
    drain_form!(T);

    #[inline]
    fn get_with(&self, patience: Patience) -> Result<T, QueueError> {
        get_value::<T, C>(self.counted.inner(), patience)
    }

    fn get_many_with(&self, most: usize, patience: Patience) -> Result<Vec<T>, QueueError> {
        get_values::<T, C>(self.counted.inner(), most, patience)
    }

    /// The values as they come, until the queue is closed and empty.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, QueueError>> + '_ {
        std::iter::from_fn(|| until_closed(self.get()))
    }

    /// Another receiver, counted as well.
    ///
    /// # Errors
    /// As [`Queue::receiver`].
    pub fn try_clone(&self) -> Result<Self, QueueError> {
        Self::new(self.counted.inner())
    }
}

/// What a segment's type fingerprint is made of.
pub(crate) fn type_name<T, C: Codec<T>>() -> String {
    format!("{} as {}", std::any::type_name::<T>(), C::NAME)
}

pub(crate) fn encode<T, C: Codec<T>>(value: &T, out: &mut Vec<u8>) -> Result<(), QueueError> {
    Ok(C::encode(value, out)?)
}

#[inline]
pub(crate) fn decode<T, C: Codec<T>>(bytes: &[u8]) -> Result<T, QueueError> {
    Ok(C::decode(bytes)?)
}

pub(crate) fn put_value<T, C: Codec<T>>(
    inner: &Inner,
    value: T,
    patience: Patience,
) -> Result<(), PutError<T>> {
    with_buffer(|buffer| {
        let put = encode::<T, C>(&value, buffer).and_then(|()| inner.put(buffer, patience));
        put.map_err(|error| PutError { value, error })
    })
}

/// Values that are encoded before the lock is taken for all of them, and those that are drained at a time.
pub(crate) const BATCH: usize = 64;

/// Puts values in order, a batch at a time; those of a batch that were not put come back.
pub(crate) fn put_values<T, C: Codec<T>>(
    inner: &Inner,
    values: impl IntoIterator<Item = T>,
    patience: Patience,
) -> Result<(), PutError<Vec<T>>> {
    let mut values = values.into_iter();
    loop {
        let mut batch: Vec<T> = values.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(());
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut failed = None;
        for value in &batch {
            let start = bytes.len();
            let encoded = with_buffer(|buffer| {
                encode::<T, C>(value, buffer)?;
                bytes.extend_from_slice(buffer);
                Ok(())
            });
            if let Err(error) = encoded {
                failed = Some((ends.len(), error));
                break;
            }
            ends.push(start..bytes.len());
        }
        let put = inner.put_many(ends.len(), |n| &bytes[ends[n].clone()], patience);
        if let Some((count, error)) = put.err().or(failed) {
            let value = batch.split_off(count);
            return Err(PutError { value, error });
        }
    }
}

/// A message that cannot be decoded is put aside; so it is handed out first, and finished when
/// it is decoded, unless it is sure to be.
fn get_value<T, C: Codec<T>>(inner: &Inner, patience: Patience) -> Result<T, QueueError> {
    with_buffer(|buffer| {
        let sure = |len| C::is_always_a_value(len as usize);
        let Some(lease) = inner.get_or_lease(buffer, patience, sure)? else {
            return decode::<T, C>(buffer);
        };
        let leased = Leased::new(inner, lease).copied(buffer)?;
        let leased = leased.ok_or(QueueError::Stale)?;
        let (value, leased) = leased.decode(buffer, decode::<T, C>)?;
        inner.finish(leased.keep())?;
        Ok(value)
    })
}

fn get_values<T, C: Codec<T>>(
    inner: &Inner,
    most: usize,
    patience: Patience,
) -> Result<Vec<T>, QueueError> {
    let (values, leases): (Vec<T>, Vec<Lease>) = lease_values::<T, C>(inner, most, patience)?
        .into_iter()
        .unzip();
    inner.finish_many(&leases)?;
    Ok(values)
}

/// Those that are there, handed out and decoded, at least one unless `most` is 0. What cannot be decoded is put aside; an
/// error if that is all.
pub(crate) fn lease_values<T, C: Codec<T>>(
    inner: &Inner,
    most: usize,
    patience: Patience,
) -> Result<Vec<(T, Lease)>, QueueError> {
    loop {
        let leases = inner.lease_many(most, patience)?;
        let values = decode_leases::<T, C>(inner, leases)?;
        if most == 0 || !values.is_empty() {
            return Ok(values);
        }
        // All were taken back before they were decoded.
        Leased::another(patience)?;
    }
}

/// Those of these messages that can be decoded and were not taken back meanwhile; an error if one cannot be decoded and
/// there is no other.
fn decode_leases<T, C: Codec<T>>(
    inner: &Inner,
    leases: Vec<Lease>,
) -> Result<Vec<(T, Lease)>, QueueError> {
    let leases: Vec<_> = leases
        .into_iter()
        .map(|lease| Leased::new(inner, lease))
        .collect();
    let (mut values, mut failed) = (Vec::new(), None);
    with_buffer(|buffer| {
        for leased in leases {
            if !leased.is_ours() {
                // A child that the codec has forked; its parent may give their bytes to others by now.
                failed = Some(QueueError::Stale);
                break;
            }
            match leased.copied(buffer) {
                Ok(Some(leased)) => match leased.decode(buffer, decode::<T, C>) {
                    Ok(decoded) => values.push(decoded),
                    Err(error) => failed = Some(error),
                },
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
    });
    values.retain(|(_, leased)| leased.is_ours());
    if let Some(error) = failed.filter(|_| values.is_empty()) {
        return Err(error);
    }
    let keep = |(value, leased): (T, Leased<'_>)| (value, leased.keep());
    Ok(values.into_iter().map(keep).collect())
}

/// Lends out the thread's buffer. Whoever asks for it meanwhile (a value that puts values as it is
/// encoded) has a new one.
pub(crate) fn with_buffer<R>(use_it: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    /// A buffer that has grown beyond this is not kept.
    const KEPT: usize = 1 << 20;
    std::thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    buffer.clear();
    let result = use_it(&mut buffer);
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    result
}
