//! The forms that several types offer alike: each operation blocking, `try_`, `_timeout`, `_deadline`.

/// Puts of a type with `fn put_with(&self, value: T, patience: Patience)`.
macro_rules! put_forms {
    () => {
        /// Puts a value; blocks while the queue is full.
        ///
        /// # Errors
        /// [`Closed`](QueueError::Closed), [`TooLarge`](QueueError::TooLarge),
        /// [`StorageFull`](QueueError::StorageFull), [`Encode`](QueueError::Encode), and what a queue says
        /// that cannot be used ([`ReadOnly`](QueueError::ReadOnly), [`Corrupt`](QueueError::Corrupt), ..). The
        /// value comes back with the error.
        ///
        /// # Peer death
        /// Killed at any instruction, this process leaves the value whole in the queue, or no trace of it.
        #[inline]
        pub fn put(&self, value: T) -> Result<(), PutError<T>> {
            self.put_with(value, Patience::Endless)
        }

        /// As [`put`](Self::put); never waits for room.
        ///
        /// # Errors
        /// [`Full`](QueueError::Full), and those of [`put`](Self::put); [`Timeout`](QueueError::Timeout) if somebody was
        /// stopped under the queue's lock for a second.
        #[inline]
        pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
            self.put_with(value, Patience::None)
        }

        /// As [`put`](Self::put); blocks for at most `timeout` (CLOCK_MONOTONIC), or longer where the queue's lock is kept by
        /// somebody who was stopped after this call was given room for a long message. Not for polling: with no time at
        /// all it gives up as soon as the lock is not free, where [`try_put`](Self::try_put) waits until it is.
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`put`](Self::put).
        pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
            self.put_with(value, timeout.into())
        }

        /// As [`put`](Self::put); blocks until `deadline` at most.
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`put`](Self::put).
        pub fn put_deadline(&self, value: T, deadline: Instant) -> Result<(), PutError<T>> {
            self.put_with(value, deadline.into())
        }
    };
}

/// Puts of several values, of a type with `fn put_many_with(&self, values, patience: Patience)`.
macro_rules! put_many_forms {
    () => {
        /// Puts values in order, those that follow each other closely under one lock; blocks while the queue
        /// is full. Others see those that were put under one lock all at once.
        ///
        /// # Errors
        /// Those of [`put`](Self::put), with the values that were taken from the iterator (64 at a time)
        /// and not put, the one that failed first. The iterator still has the others: pass `by_ref()` of one to keep
        /// them.
        pub fn put_many(
            &self,
            values: impl IntoIterator<Item = T>,
        ) -> Result<(), PutError<Vec<T>>> {
            self.put_many_with(values, Patience::Endless)
        }

        /// As [`put_many`](Self::put_many); never waits for room.
        ///
        /// # Errors
        /// [`Full`](QueueError::Full), and those of [`put_many`](Self::put_many).
        pub fn try_put_many(
            &self,
            values: impl IntoIterator<Item = T>,
        ) -> Result<(), PutError<Vec<T>>> {
            self.put_many_with(values, Patience::None)
        }

        /// As [`put_many`](Self::put_many); blocks for at most `timeout` (CLOCK_MONOTONIC) in all.
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`put_many`](Self::put_many).
        pub fn put_many_timeout(
            &self,
            values: impl IntoIterator<Item = T>,
            timeout: Duration,
        ) -> Result<(), PutError<Vec<T>>> {
            self.put_many_with(values, timeout.into())
        }

        /// As [`put_many`](Self::put_many); blocks until `deadline` at most.
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`put_many`](Self::put_many).
        pub fn put_many_deadline(
            &self,
            values: impl IntoIterator<Item = T>,
            deadline: Instant,
        ) -> Result<(), PutError<Vec<T>>> {
            self.put_many_with(values, deadline.into())
        }
    };
}

/// Gets of a type with `fn get_with(&self, patience: Patience) -> Result<$got, QueueError>`.
macro_rules! get_forms {
    ($got:ty) => {
        /// Gets the first value; blocks while the queue is empty.
        ///
        /// # Errors
        /// [`Closed`](QueueError::Closed) once the queue is closed and empty,
        /// [`Decode`](QueueError::Decode) (the message is among the dead letters then),
        /// [`Stale`](QueueError::Stale) in a child that is forked in the decoding, and what a queue says that cannot be
        /// used.
        #[inline]
        pub fn get(&self) -> Result<$got, QueueError> {
            self.get_with(Patience::Endless)
        }

        /// As [`get`](Self::get); never waits for a value.
        ///
        /// # Errors
        /// [`Empty`](QueueError::Empty), and those of [`get`](Self::get); [`Timeout`](QueueError::Timeout) if somebody was
        /// stopped under the queue's lock for a second.
        #[inline]
        pub fn try_get(&self) -> Result<$got, QueueError> {
            self.get_with(Patience::None)
        }

        /// As [`get`](Self::get); blocks for at most `timeout` (CLOCK_MONOTONIC), or longer where the queue's lock is kept by
        /// somebody who was stopped after this call was given its message. Not for polling: with no time at all it gives
        /// up as soon as the lock is not free, where [`try_get`](Self::try_get) waits until it is.
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`get`](Self::get).
        pub fn get_timeout(&self, timeout: Duration) -> Result<$got, QueueError> {
            self.get_with(timeout.into())
        }

        /// As [`get`](Self::get); blocks until `deadline` at most.
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`get`](Self::get).
        pub fn get_deadline(&self, deadline: Instant) -> Result<$got, QueueError> {
            self.get_with(deadline.into())
        }
    };
}

/// Gets of several values, of a type with
/// `fn get_many_with(&self, most: usize, patience: Patience) -> Result<Vec<$got>, QueueError>`.
macro_rules! get_many_forms {
    ($got:ty) => {
        /// Gets the values that are there, at least one and at most `most`; blocks while there is none.
        ///
        /// # Errors
        /// Those of [`get`](Self::get). A message that cannot be decoded is put aside; the error comes when
        /// it is the only one.
        pub fn get_many(&self, most: usize) -> Result<Vec<$got>, QueueError> {
            self.get_many_with(most, Patience::Endless)
        }

        /// As [`get_many`](Self::get_many); never waits for a value.
        ///
        /// # Errors
        /// [`Empty`](QueueError::Empty), and those of [`get_many`](Self::get_many).
        pub fn try_get_many(&self, most: usize) -> Result<Vec<$got>, QueueError> {
            self.get_many_with(most, Patience::None)
        }

        /// As [`get_many`](Self::get_many); blocks for at most `timeout` (CLOCK_MONOTONIC).
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`get_many`](Self::get_many).
        pub fn get_many_timeout(
            &self,
            most: usize,
            timeout: Duration,
        ) -> Result<Vec<$got>, QueueError> {
            self.get_many_with(most, timeout.into())
        }

        /// As [`get_many`](Self::get_many); blocks until `deadline` at most.
        ///
        /// # Errors
        /// [`Timeout`](QueueError::Timeout), and those of [`get_many`](Self::get_many).
        pub fn get_many_deadline(
            &self,
            most: usize,
            deadline: Instant,
        ) -> Result<Vec<$got>, QueueError> {
            self.get_many_with(most, deadline.into())
        }
    };
}

/// All that is there, of a type with [`get_many_forms`].
macro_rules! drain_form {
    ($got:ty) => {
        /// Gets all values that are there, perhaps none. Producers who do not pause may keep it busy.
        ///
        /// # Errors
        /// Those of [`get_many`](Self::get_many), but for `Closed`, and only if nothing was got.
        pub fn drain(&self) -> Result<Vec<$got>, QueueError> {
            let (mut all, mut failed, origin) = (Vec::new(), None, Origin::here());
            loop {
                match self.try_get_many(BATCH) {
                    // A child that the codec has forked: they are its parent's.
                    Err(error) if !origin.is_here() => return Err(error),
                    Ok(values) => all.extend(values),
                    Err(QueueError::Empty | QueueError::Closed) => break,
                    // They are among the dead letters now, and there may be others behind them.
                    Err(error @ QueueError::Decode(_)) => failed = Some(error),
                    // What stands in the way of the others is told to whoever comes for them.
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            match failed {
                Some(error) if all.is_empty() => Err(error),
                _ => Ok(all),
            }
        }
    };
}

/// What every handle of a queue tells and does. For a type with `fn inner(&self) -> &Arc<Inner>`.
macro_rules! handle_forms {
    () => {
        /// How many messages wait: exact at some instant during the call. Handed-out ones do not count.
        ///
        /// # Errors
        /// What a queue says that cannot be used.
        pub fn len(&self) -> Result<usize, QueueError> {
            self.inner().len()
        }

        /// Whether no message waits.
        ///
        /// # Errors
        /// Those of [`len`](Self::len).
        pub fn is_empty(&self) -> Result<bool, QueueError> {
            Ok(self.len()? == 0)
        }

        /// Whether as many messages wait as the capacity allows.
        ///
        /// # Errors
        /// Those of [`len`](Self::len).
        pub fn is_full(&self) -> Result<bool, QueueError> {
            Ok(self.len()? >= self.capacity())
        }

        /// How many messages may wait.
        #[must_use]
        pub fn capacity(&self) -> usize {
            self.inner().shape.capacity as usize
        }

        /// Refuses all puts from now on; gets go on until nothing is left, then say
        /// [`Closed`](QueueError::Closed).
        ///
        /// As long as another process has messages handed out (tasks, `recv_ref`), they may come back, by its death too:
        /// until they are finished a get waits, and a `try_` form says [`Empty`](QueueError::Empty). Not in a process that
        /// has some itself: it is told `Closed`, or two might wait for each other. That is all that is seen: whoever
        /// waits for the end of a closed queue must not be waited for, in another queue or in another way, by the process
        /// that has the last message.
        ///
        /// # Errors
        /// What a queue says that cannot be used.
        pub fn close(&self) -> Result<(), QueueError> {
            self.inner().close()
        }

        /// As [`close`](Self::close); with `immediate`, also drops what waits in the queue.
        ///
        /// # Errors
        /// Those of [`close`](Self::close).
        pub fn shutdown(&self, immediate: bool) -> Result<(), QueueError> {
            match immediate {
                true => self.inner().close_and_discard(),
                false => self.inner().close(),
            }
        }

        /// Whether puts are refused.
        #[must_use]
        pub fn is_closed(&self) -> bool {
            self.inner().raw.is_closed()
        }

        /// How this handle, its clones and what is made of them wait from now on.
        pub fn set_wait_strategy(&self, strategy: WaitStrategy) {
            self.inner().set_strategy(strategy);
        }

        /// A descriptor for epoll, readable while there may be a message. Starts a thread in this process that
        /// waits for it.
        ///
        /// # Errors
        /// [`System`](QueueError::System): out of descriptors or threads.
        pub fn readiness(&self) -> Result<Readiness, QueueError> {
            Readiness::new(self.inner()).map_err(|error| QueueError::System(error.to_string()))
        }

        /// What is in the queue, who has what, and how many wait: for people.
        ///
        /// # Errors
        /// What a queue says that cannot be used.
        pub fn inspect(&self) -> Result<Inspection, QueueError> {
            self.inner().inspect()
        }

        /// Settles what dead processes left, which otherwise whoever waits does within its slice (100 ms):
        /// what they held goes to others, and the queue closes if the last sender was theirs.
        ///
        /// # Errors
        /// What a queue says that cannot be used.
        pub fn recover(&self) -> Result<Recovered, QueueError> {
            self.inner().recovered()
        }

        /// Takes out the messages that were put aside, the oldest first: delivered too often, or not decodable.
        ///
        /// # Errors
        /// What a queue says that cannot be used.
        pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, QueueError> {
            self.inner().dead_letters()
        }

        /// Removes the name, as [`Segment::unlink`](shm_core::Segment::unlink).
        ///
        /// # Errors
        /// As [`Segment::unlink`](shm_core::Segment::unlink).
        pub fn unlink(&self) -> Result<(), Error> {
            self.inner().segment.unlink()
        }

        /// The segment it lives in.
        #[must_use]
        pub fn segment(&self) -> &Segment {
            &self.inner().segment
        }
    };
}

pub(crate) use {drain_form, get_forms, get_many_forms, handle_forms, put_forms, put_many_forms};
