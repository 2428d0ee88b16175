//! A queue of values.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_core::codec::{Codec, Postcard};
use shm_core::{Error, Place, Segment};
use shm_lock::Patience;

use crate::bytes::KIND;
use crate::error::{CreateError, PutError, QueueError};
use crate::halves::{Counted, Half};
use crate::inner::Inner;
use crate::inspect::{DeadLetter, Inspection, Recovered};
use crate::macros::{get_forms, handle_forms, put_forms, put_many_form};
use crate::options::Options;
use crate::readiness::Readiness;
use crate::transfer::Leased;
use crate::wait::WaitStrategy;

/// A bounded queue of values between any number of processes; a handle that is cheap to clone.
///
/// Values are encoded by `C`: [`Postcard`] for all that serde knows, [`Raw`](crate::Raw) for plain types.
/// A value enters the queue when `put` commits it: each producer's values come out in the order in
/// which it put them, and a put that is not finished, slow, stopped or dead, delays no other.
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

    put_many_form!();

    /// Gets the values that are there, at least one and at most `most`; blocks while there is none.
    ///
    /// # Errors
    /// Those of [`get`](Self::get). A message that cannot be decoded is put aside; the error comes when
    /// it is the only one.
    pub fn get_many(&self, most: usize) -> Result<Vec<T>, QueueError> {
        self.get_many_with(most, Patience::Endless)
    }

    /// As [`get_many`](Self::get_many); never waits for a value.
    ///
    /// # Errors
    /// [`Empty`](QueueError::Empty), and those of [`get_many`](Self::get_many).
    pub fn try_get_many(&self, most: usize) -> Result<Vec<T>, QueueError> {
        self.get_many_with(most, Patience::None)
    }

    /// As [`get_many`](Self::get_many); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`get_many`](Self::get_many).
    pub fn get_many_timeout(&self, most: usize, timeout: Duration) -> Result<Vec<T>, QueueError> {
        self.get_many_with(most, timeout.into())
    }

    /// Gets all values that are there, perhaps none. Producers who do not pause may keep it busy.
    ///
    /// # Errors
    /// Those of [`get_many`](Self::get_many), but for `Closed`; what was got before is lost with it.
    pub fn drain(&self) -> Result<Vec<T>, QueueError> {
        let mut all = Vec::new();
        loop {
            match self.try_get_many(BATCH) {
                Ok(values) => all.extend(values),
                Err(QueueError::Empty | QueueError::Closed) => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }

    fn get_many_with(&self, most: usize, patience: Patience) -> Result<Vec<T>, QueueError> {
        let leases = self.inner.lease_many(most, patience)?;
        let leases: Vec<_> = leases
            .into_iter()
            .map(|lease| Leased::new(&self.inner, lease))
            .collect();
        let (mut values, mut decoded, mut failed) = (Vec::new(), Vec::new(), None);
        with_buffer(|buffer| {
            for leased in leases {
                match leased.decode(buffer, decode::<T, C>) {
                    Ok((value, lease)) => {
                        values.push(value);
                        decoded.push(lease);
                    }
                    Err(error) => failed = Some(error),
                }
            }
        });
        match failed {
            Some(error) if values.is_empty() => Err(error),
            _ => {
                self.inner.finish_many(&decoded)?;
                Ok(values)
            }
        }
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
        Ok(Sender {
            counted: Counted::new(&self.inner, Half::Sender)?,
            types: PhantomData,
        })
    }

    /// A half that gets.
    ///
    /// # Errors
    /// What a queue says that cannot be used.
    pub fn receiver(&self) -> Result<Receiver<T, C>, QueueError> {
        Ok(Receiver {
            counted: Counted::new(&self.inner, Half::Receiver)?,
            types: PhantomData,
        })
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
        match self.queue.get() {
            Err(QueueError::Closed) => None,
            got => Some(got),
        }
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
    put_forms!();

    #[inline]
    fn put_with(&self, value: T, patience: Patience) -> Result<(), PutError<T>> {
        put_value::<T, C>(self.counted.inner(), value, patience)
    }

    /// Another sender, counted as well.
    ///
    /// # Errors
    /// As [`Queue::sender`].
    pub fn try_clone(&self) -> Result<Self, QueueError> {
        Queue::<T, C>::new(Arc::clone(self.counted.inner())).sender()
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
    get_forms!(T);

    #[inline]
    fn get_with(&self, patience: Patience) -> Result<T, QueueError> {
        get_value::<T, C>(self.counted.inner(), patience)
    }

    /// Another receiver, counted as well.
    ///
    /// # Errors
    /// As [`Queue::receiver`].
    pub fn try_clone(&self) -> Result<Self, QueueError> {
        Queue::<T, C>::new(Arc::clone(self.counted.inner())).receiver()
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

/// Values that are encoded before the lock is taken for all of them.
const BATCH: usize = 64;

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
        let messages = ends.iter().map(|range| &bytes[range.clone()]);
        let put = inner.put_many(messages, patience);
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
        let (value, lease) = Leased::new(inner, lease).decode(buffer, decode::<T, C>)?;
        inner.finish(lease)?;
        Ok(value)
    })
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
