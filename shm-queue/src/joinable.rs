//! A queue of tasks: each is handed out as a lease, and is done when somebody says so.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_core::codec::{Codec, Postcard};
use shm_core::{Deadline, Error, Kind, Place, Segment, fork};
use shm_lock::Patience;

use crate::error::{CreateError, PutError, QueueError};
use crate::inner::{Inner, deadline_of};
use crate::inspect::{DeadLetter, Inspection, Recovered};
use crate::macros::{get_forms, get_many_forms, handle_forms, put_forms, put_many_forms};
use crate::options::{OnDrop, Options};
use crate::queue::{
    Sender, decode, lease_values, put_value, put_values, type_name, until_closed, with_buffer,
};
use crate::raw::Lease;
use crate::readiness::Readiness;
use crate::transfer::Leased;
use crate::wait::WaitStrategy;

const KIND: Kind = Kind(*b"JOIN");

/// A bounded queue of tasks between any number of processes; a handle that is cheap to clone.
///
/// [`get`](Self::get) hands a task out as a [`TaskGuard`]; it is finished with
/// [`task_done`](TaskGuard::task_done), and [`join`](Self::join) returns when nothing is unfinished. No counter
/// says how many are: each task itself is waiting, handed out, or finished, so nothing can drift.
///
/// # Peer death
/// A task whose consumer is killed is delivered again, first in line, to somebody else: at least once.
/// [`TaskGuard::deliveries`] says how often; past [`Options::max_deliveries`] it becomes a dead letter, so that a
/// task that kills its consumers does not kill them all. `join` hangs for nobody's death.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_queue::JoinableQueue;
///
/// # let name = format!("doc-joinable-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let buns = JoinableQueue::<u32>::create(place, 10)?;
/// buns.put_many(0..3)?;
/// let eater = JoinableQueue::<u32>::open(&name)?;
/// std::thread::spawn(move || { // or in another process
///     while let Ok(bun) = eater.get() {
///         println!("eating bun {}", *bun);
///         bun.task_done()?;
///     }
///     Ok::<(), shm_queue::QueueError>(())
/// });
/// buns.join()?; // until all is eaten
/// assert_eq!(buns.unfinished()?, 0);
/// buns.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JoinableQueue<T, C = Postcard> {
    inner: Arc<Inner>,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T, C> Clone for JoinableQueue<T, C> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.inner))
    }
}

impl<T, C> JoinableQueue<T, C> {
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

    /// How many tasks are not finished: waiting or handed out. Exact at some instant during the call.
    ///
    /// # Errors
    /// What a queue says that cannot be used.
    pub fn unfinished(&self) -> Result<usize, QueueError> {
        let (put, get) = self.inner.both_sides(Patience::Endless)?;
        let unfinished = put.unfinished()?;
        drop((get, put));
        Ok(unfinished as usize)
    }

    /// Blocks until nothing is unfinished at some instant: also if tasks put tasks, and if somebody else
    /// puts without pause. Tasks that became dead letters count as finished.
    ///
    /// # Errors
    /// What a queue says that cannot be used.
    ///
    /// # Peer death
    /// A task of a dead consumer goes to another; `join` waits for that one.
    pub fn join(&self) -> Result<(), QueueError> {
        self.join_with(Patience::Endless)
    }

    /// As [`join`](Self::join); blocks for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), QueueError> {
        self.join_with(timeout.into())
    }

    /// As [`join`](Self::join); blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`Timeout`](QueueError::Timeout), and those of [`join`](Self::join).
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), QueueError> {
        self.join_with(deadline.into())
    }

    fn join_with(&self, patience: Patience) -> Result<(), QueueError> {
        let (inner, idle) = (&self.inner, &self.inner.raw.control.idle);
        let deadline = deadline_of(patience);
        loop {
            let announced = idle.announce(None);
            // Under the put lock: nothing can be put meanwhile, so what was seen finished stays so.
            if inner.put_side(patience)?.unfinished()? == 0 {
                return Ok(());
            }
            if deadline.is_some_and(Deadline::is_past) {
                return Err(QueueError::Timeout);
            }
            let was_woken = idle.sleep(announced, inner.until(deadline));
            inner.look_after_sleep(was_woken, deadline)?;
        }
    }

    /// Finishes the task that this handle or a clone of it [detached](TaskGuard::detach) first and has not
    /// finished, as Python's `task_done` does.
    ///
    /// # Errors
    /// [`TaskDoneTooOften`](QueueError::TaskDoneTooOften) if there is none,
    /// [`Stale`](QueueError::Stale) if its time was over.
    pub fn task_done(&self) -> Result<(), QueueError> {
        match self.inner.oldest_detached() {
            Some(lease) => self.inner.finish(lease),
            None => Err(QueueError::TaskDoneTooOften),
        }
    }
}

impl<T, C: Codec<T>> JoinableQueue<T, C> {
    /// Creates a queue of a capacity, or of [`Options`].
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(
        place: impl Into<Place>,
        options: impl Into<Options>,
    ) -> Result<Self, CreateError> {
        let shape = options.into().shape(true);
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
        let shape = options.into().shape(true);
        Inner::open_or_create(place.into(), shape, KIND, &type_name::<T, C>()).map(Self::new)
    }

    put_forms!();
    get_forms!(TaskGuard<T>);

    #[inline]
    fn put_with(&self, value: T, patience: Patience) -> Result<(), PutError<T>> {
        put_value::<T, C>(&self.inner, value, patience)
    }

    put_many_forms!();
    get_many_forms!(TaskGuard<T>);

    fn put_many_with(
        &self,
        values: impl IntoIterator<Item = T>,
        patience: Patience,
    ) -> Result<(), PutError<Vec<T>>> {
        put_values::<T, C>(&self.inner, values, patience)
    }

    /// The tasks as they come, until the queue is closed and empty.
    pub fn iter(&self) -> impl Iterator<Item = Result<TaskGuard<T>, QueueError>> + '_ {
        std::iter::from_fn(|| until_closed(self.get()))
    }

    /// A half that puts. When the last one is gone, also by its process's death, the queue is closed.
    ///
    /// # Errors
    /// [`Closed`](QueueError::Closed), and what a queue says that cannot be used.
    pub fn sender(&self) -> Result<Sender<T, C>, QueueError> {
        Sender::new(&self.inner)
    }

    fn get_with(&self, patience: Patience) -> Result<TaskGuard<T>, QueueError> {
        let (value, leased) = with_buffer(|buffer| {
            let leased = Leased::next(&self.inner, patience, buffer)?;
            leased.decode(buffer, decode::<T, C>)
        })?;
        Ok(self.guard(value, leased.keep()))
    }

    fn get_many_with(
        &self,
        most: usize,
        patience: Patience,
    ) -> Result<Vec<TaskGuard<T>>, QueueError> {
        let tasks = lease_values::<T, C>(&self.inner, most, patience)?;
        let guard = |(value, lease)| self.guard(value, lease);
        Ok(tasks.into_iter().map(guard).collect())
    }

    fn guard(&self, value: T, lease: Lease) -> TaskGuard<T> {
        TaskGuard {
            inner: Arc::clone(&self.inner),
            lease,
            value: Some(value),
            stamp: fork::stamp(),
            panicking: std::thread::panicking(),
        }
    }
}

impl<T, C> fmt::Debug for JoinableQueue<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue")
            .field("segment", &self.inner.segment.name())
            .finish_non_exhaustive()
    }
}

/// A task that was handed out.
///
/// Dropped without [`task_done`](Self::task_done), it goes back into the queue, first in line, or counts as done,
/// as [`Options::on_drop`] says; dropped by a panic it always goes back. A forked child's copy is inert.
#[must_use = "a task that is dropped without `task_done` is delivered again"]
pub struct TaskGuard<T> {
    inner: Arc<Inner>,
    lease: Lease,
    /// Taken by `detach` alone.
    value: Option<T>,
    stamp: u64,
    panicking: bool,
}

impl<T> TaskGuard<T> {
    /// How often the task was handed out, this time included.
    #[must_use]
    pub fn deliveries(&self) -> u8 {
        self.lease.word.deliveries()
    }

    /// The task is done.
    ///
    /// # Errors
    /// [`Stale`](QueueError::Stale) if its time was over and it was taken back, or if this is a forked child, and the task
    /// its parent's.
    pub fn task_done(self) -> Result<(), QueueError> {
        let (inner, lease, stamp, _) = self.into_parts();
        match stamp == fork::stamp() {
            true => inner.finish(lease),
            false => Err(QueueError::Stale),
        }
    }

    /// Gives the task back: it is the first of the queue again, for whoever comes.
    ///
    /// # Errors
    /// [`Stale`](QueueError::Stale) if its time was over and it was taken back, or if this is a forked child, and the task
    /// its parent's.
    pub fn requeue(self) -> Result<(), QueueError> {
        let (inner, lease, stamp, _) = self.into_parts();
        match stamp == fork::stamp() {
            true => inner.requeue(lease),
            false => Err(QueueError::Stale),
        }
    }

    /// Prolongs the task's time: it runs out `time` from now. Without [`Options::lease_time`] it never does.
    ///
    /// # Errors
    /// [`Stale`](QueueError::Stale) if its time was over and it was taken back, or if this is a forked child, and the task
    /// its parent's.
    pub fn extend(&self, time: Duration) -> Result<(), QueueError> {
        if self.stamp != fork::stamp() {
            return Err(QueueError::Stale);
        }
        if self.inner.shape.lease_time == 0 {
            return Ok(());
        }
        let expiry = Deadline::after(time).as_nanoseconds();
        match self
            .inner
            .get_side(Patience::Endless)?
            .extend(self.lease, expiry)?
        {
            true => Ok(()),
            false => Err(QueueError::Stale),
        }
    }

    /// Takes the value out, for code that counts: the task stays with the handle that it came from, and that handle's
    /// [`JoinableQueue::task_done`], or a clone's, finishes the one that was detached first.
    #[must_use]
    pub fn detach(self) -> T {
        let (inner, lease, stamp, value) = self.into_parts();
        if stamp == fork::stamp() {
            inner.detach(lease);
        }
        value.expect("taken here only")
    }

    fn into_parts(mut self) -> (Arc<Inner>, Lease, u64, Option<T>) {
        let value = self.value.take();
        let (inner, lease, stamp) = (Arc::clone(&self.inner), self.lease, self.stamp);
        // What follows is not `drop`'s to decide.
        self.stamp = 0;
        (inner, lease, stamp, value)
    }
}

impl<T> Deref for TaskGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("taken when the guard ends only")
    }
}

impl<T: fmt::Debug> fmt::Debug for TaskGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGuard")
            .field("value", &self.value)
            .field("deliveries", &self.deliveries())
            .finish_non_exhaustive()
    }
}

impl<T> Drop for TaskGuard<T> {
    fn drop(&mut self) {
        if self.stamp != fork::stamp() {
            return;
        }
        let unwinding = !self.panicking && std::thread::panicking();
        // Errors have nobody to go to: what stays is delivered again when this process ends.
        let _ = match self.inner.shape.on_drop {
            OnDrop::Acknowledge if !unwinding => self.inner.finish(self.lease),
            _ => self.inner.requeue(self.lease),
        };
    }
}
