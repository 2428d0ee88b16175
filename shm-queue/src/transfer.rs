//! Messages as bytes, in and out: what all queues do, whatever the type of their values.
//!
//! A small message is copied under the lock, at once into its place. A large one is claimed or leased
//! under the lock, copied outside, and then committed or finished under the lock: so an unfinished put, slow,
//! stopped or dead, never delays or hides another's, and a copy of a megabyte delays nobody.

use shm_lock::Patience;

use crate::error::QueueError;
use crate::inner::Inner;
use crate::raw::{Claim, Front, Lease, PutSide, Refused, Returned};
use crate::wait::Waiting;

impl Inner {
    // ---- putting -----------------------------------------------------------------------------

    /// Puts a message.
    #[inline]
    pub(crate) fn put(&self, bytes: &[u8], patience: Patience) -> Result<(), QueueError> {
        let len = self.check_len(bytes.len())?;
        let result = if self.raw.is_large(len) {
            self.put_large(bytes, len, patience)
        } else {
            self.put_small(bytes, len, patience)
        };
        match result {
            Ok(()) => {}
            Err(QueueError::Full) => self.put_slow(bytes, len, patience)?,
            Err(QueueError::Corrupt { .. }) => {
                // Perhaps only a cache.
                self.recover(patience)?;
                self.put_slow(bytes, len, patience)?;
            }
            Err(error) => return Err(error),
        }
        self.raw.control.not_empty.notify(1, None);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn put_slow(&self, bytes: &[u8], len: u32, patience: Patience) -> Result<(), QueueError> {
        let mut waiting = Waiting::new(self, &self.raw.control.not_full, patience);
        loop {
            let result = if self.raw.is_large(len) {
                self.put_large(bytes, len, patience)
            } else {
                self.put_small(bytes, len, patience)
            };
            match result {
                Err(QueueError::Full) if waiting.again(|| self.raw.has_room())? => {}
                Ok(()) => {
                    waiting.done(|| self.raw.has_room());
                    return Ok(());
                }
                result => return result,
            }
        }
    }

    #[inline]
    fn put_small(&self, bytes: &[u8], len: u32, patience: Patience) -> Result<(), QueueError> {
        let side = self.put_side(patience)?;
        side.put(len, |claim| self.copy_in(claim, bytes))?;
        Ok(())
    }

    fn put_large(&self, bytes: &[u8], len: u32, patience: Patience) -> Result<(), QueueError> {
        let claim = self.claim(&self.put_side(patience)?, len)?;
        self.copy_in(claim, bytes);
        self.commit(claim)
    }

    /// Takes room for a message that is written outside the lock.
    pub(crate) fn claim(&self, side: &PutSide<'_>, len: u32) -> Result<Claim, QueueError> {
        Ok(side.claim(self.owner()?, len, |start, end| self.grow(start, end))?)
    }

    /// Room for a message that is written in place, once there is any.
    pub(crate) fn reserve(&self, len: u32, patience: Patience) -> Result<Claim, QueueError> {
        let mut waiting = Waiting::new(self, &self.raw.control.not_full, patience);
        loop {
            let side = self.put_side(patience)?;
            let claim = self.claim(&side, len);
            drop(side);
            match claim {
                Err(QueueError::Full) if waiting.again(|| self.raw.has_room())? => {}
                Ok(claim) => {
                    waiting.done(|| self.raw.has_room());
                    return Ok(claim);
                }
                result => return result,
            }
        }
    }

    /// Puts what was claimed into the queue; gives it back if the queue was closed meanwhile.
    pub(crate) fn commit(&self, claim: Claim) -> Result<(), QueueError> {
        let (side, owner) = (self.put_side(Patience::Endless)?, self.owner()?);
        match side.commit(owner, claim) {
            Err(Refused::Closed) => {
                side.abandon(owner, claim)?;
                Err(QueueError::Closed)
            }
            result => Ok(result?),
        }
    }

    /// Gives back what was claimed.
    pub(crate) fn abandon(&self, claim: Claim) -> Result<(), QueueError> {
        self.put_side(Patience::Endless)?
            .abandon(self.owner()?, claim)?;
        self.raw.control.not_full.notify(1, None);
        Ok(())
    }

    // ---- getting -----------------------------------------------------------------------------

    /// Takes the first message out for good, copied into `out`.
    #[inline]
    pub(crate) fn get(&self, out: &mut Vec<u8>, patience: Patience) -> Result<(), QueueError> {
        match self.get_once(out, patience) {
            Err(QueueError::Empty) => self.get_slow(out, patience)?,
            Err(QueueError::Corrupt { .. }) => {
                // Perhaps only a cache.
                self.recover(patience)?;
                self.get_slow(out, patience)?;
            }
            result => result?,
        }
        self.tell_producers(1);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn get_slow(&self, out: &mut Vec<u8>, patience: Patience) -> Result<(), QueueError> {
        self.wait_for(patience, || self.get_once(out, patience))
    }

    /// Tries until there is something, or never will be.
    pub(crate) fn wait_for<R>(
        &self,
        patience: Patience,
        mut attempt: impl FnMut() -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        let mut waiting = Waiting::new(self, &self.raw.control.not_empty, patience);
        loop {
            match attempt() {
                Err(QueueError::Empty) if waiting.again(|| self.raw.has_messages())? => {}
                Ok(got) => {
                    waiting.done(|| self.raw.has_messages());
                    return Ok(got);
                }
                result => return result,
            }
        }
    }

    #[inline]
    fn get_once(&self, out: &mut Vec<u8>, patience: Patience) -> Result<(), QueueError> {
        let side = self.get_side(patience)?;
        let front = self.front(&side)?;
        let Front {
            index, chunk, len, ..
        } = front;
        if !self.raw.is_large(len) {
            self.copy_out(index, chunk, len, out)?;
            side.take(front)?;
            return Ok(());
        }
        if !side.may_lease() {
            return Err(QueueError::Empty);
        }
        let lease = self.lease(&side, front)?;
        drop(side);
        self.copy_out(index, chunk, len, out)?;
        self.get_side(Patience::Endless)?.finish(lease)?;
        Ok(())
    }

    /// The first message, or why there is none.
    #[inline]
    pub(crate) fn front(&self, side: &crate::raw::GetSide<'_>) -> Result<Front, QueueError> {
        if let Some(front) = side.front()? {
            return Ok(front);
        }
        if !self.raw.is_closed() {
            return Err(QueueError::Empty);
        }
        // What was put before the closing is visible now.
        side.front()?.ok_or(QueueError::Closed)
    }

    /// Takes as many small messages as there are, `most` at most, under one lock. 0 if the first is large.
    pub(crate) fn get_small(
        &self,
        most: usize,
        patience: Patience,
        mut each: impl FnMut(Vec<u8>),
    ) -> Result<usize, QueueError> {
        let side = self.get_side(patience)?;
        let mut count = 0;
        while count < most {
            let front = match self.front(&side) {
                Ok(front) => front,
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            };
            if self.raw.is_large(front.len) {
                break;
            }
            let mut bytes = Vec::new();
            self.copy_out(front.index, front.chunk, front.len, &mut bytes)?;
            side.take(front)?;
            each(bytes);
            count += 1;
        }
        Ok(count)
    }

    /// Takes out the messages that are there, at least one and at most `most`.
    pub(crate) fn get_many(
        &self,
        most: usize,
        patience: Patience,
    ) -> Result<Vec<Vec<u8>>, QueueError> {
        let mut messages = Vec::new();
        let count = self.wait_for(patience, || {
            self.get_small(most, patience, |bytes| messages.push(bytes))
        })?;
        self.tell_producers(count as u32);
        if count == 0 && most > 0 {
            // The first one is large.
            let mut bytes = Vec::new();
            self.get(&mut bytes, patience)?;
            messages.push(bytes);
        }
        Ok(messages)
    }

    /// Hands out the first message.
    pub(crate) fn lease_one(&self, patience: Patience) -> Result<Lease, QueueError> {
        let lease = match self.lease_once(patience) {
            Err(QueueError::Empty) => self.wait_for(patience, || self.lease_once(patience))?,
            Err(QueueError::Corrupt { .. }) => {
                // Perhaps only a cache.
                self.recover(patience)?;
                self.wait_for(patience, || self.lease_once(patience))?
            }
            result => result?,
        };
        // Room in the queue, though not yet in the arena.
        self.tell_producers(1);
        Ok(lease)
    }

    #[inline]
    fn lease_once(&self, patience: Patience) -> Result<Lease, QueueError> {
        let side = self.get_side(patience)?;
        let front = self.front(&side)?;
        match side.may_lease() {
            true => self.lease(&side, front),
            false => Err(QueueError::Empty),
        }
    }

    /// Gives a task back, if it still is ours.
    pub(crate) fn requeue(&self, lease: Lease) -> Result<(), QueueError> {
        match self.give_back(lease)? {
            Returned::Stale => Err(QueueError::Stale),
            _ => Ok(()),
        }
    }

    /// Ends a lease: the message is finished.
    pub(crate) fn finish(&self, lease: Lease) -> Result<(), QueueError> {
        let side = self.get_side(Patience::Endless)?;
        let were_all = !side.may_lease();
        let was_ours = side.finish(lease)?;
        drop(side);
        self.tell_producers(1);
        if were_all {
            // Somebody may wait for leave to have one.
            self.raw.control.not_empty.notify(1, None);
        }
        match was_ours {
            true => Ok(()),
            false => Err(QueueError::Stale),
        }
    }

    /// Ends a lease: the message goes back, or is put aside if it was delivered often enough.
    pub(crate) fn give_back(&self, lease: Lease) -> Result<Returned, QueueError> {
        let returned = self.get_side(Patience::Endless)?.give_back(lease)?;
        self.raw.control.not_empty.notify(1, None);
        self.tell_idle();
        Ok(returned)
    }

    /// Ends a lease: the message is put aside.
    pub(crate) fn bury(&self, lease: Lease, reason: u32) -> Result<(), QueueError> {
        self.get_side(Patience::Endless)?.bury(lease, reason)?;
        self.tell_producers(1);
        Ok(())
    }

    /// After something was taken out or finished.
    #[inline]
    pub(crate) fn tell_producers(&self, count: u32) {
        self.raw.control.not_full.notify(count, None);
        // After the fence of `notify`.
        if self.raw.control.idle.may_sleep() {
            self.tell_idle();
        }
    }

    #[cold]
    fn tell_idle(&self) {
        if self.raw.seems_idle() {
            self.raw.control.idle.notify(u32::MAX, None);
        }
    }
}
