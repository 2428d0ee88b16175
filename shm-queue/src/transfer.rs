//! Messages as bytes, in and out: what all queues do, whatever the type of their values.
//!
//! A short message is copied under the lock, at once into its place. A long one is claimed or leased
//! under the lock, copied outside, and then committed or finished under the lock: so an unfinished put, slow,
//! stopped or dead, never delays or hides another's, and a copy of a megabyte delays nobody. Who is stopped under the lock,
//! which is held for as long as short messages take, delays those who want it too.

use std::ptr::NonNull;

use shm_core::ProcessId;
use shm_core::fork::Origin;
use shm_core::sync::Ordering;
use shm_lock::Patience;

use crate::error::QueueError;
use crate::inner::{Inner, MOMENT};
use crate::inspect::{DeadReason, holder};
use crate::raw::{Claim, Control, Front, Lease, PutSide, Refused, Returned, State};
use crate::wait::Waiting;

/// A lease that nobody has taken charge of yet: what fails or panics until then gives it back. A forked child's copy is
/// inert.
pub(crate) struct Leased<'a> {
    inner: &'a Inner,
    lease: Lease,
    origin: Origin,
}

impl<'a> Leased<'a> {
    pub(crate) fn new(inner: &'a Inner, lease: Lease) -> Self {
        Self {
            inner,
            lease,
            origin: Origin::here(),
        }
    }

    /// Whether it is the calling process's. A codec is the user's code, and may fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.origin.is_here()
    }

    /// The lease, for the caller to end.
    pub(crate) fn keep(self) -> Lease {
        std::mem::ManuallyDrop::new(self).lease
    }

    /// Where the message lies.
    pub(crate) fn bytes(&self) -> Result<NonNull<[u8]>, QueueError> {
        let Lease {
            index, chunk, len, ..
        } = self.lease;
        let bytes = self.inner.message(index, chunk, len)?;
        Ok(NonNull::slice_from_raw_parts(bytes, len as usize))
    }

    /// Copies the message out.
    pub(crate) fn copy_out(&self, out: &mut Vec<u8>) -> Result<(), QueueError> {
        let Lease {
            index, chunk, len, ..
        } = self.lease;
        self.inner.copy_out(index, chunk, len, out)
    }

    /// Leases the first message and copies it out; the next one, if that was taken back meanwhile, since its time was over.
    pub(crate) fn next(
        inner: &'a Inner,
        patience: Patience,
        out: &mut Vec<u8>,
    ) -> Result<Self, QueueError> {
        loop {
            let leased = Self::new(inner, inner.lease_one(patience)?);
            if let Some(leased) = leased.copied(out)? {
                return Ok(leased);
            }
            Self::another(patience)?;
        }
    }

    /// Whether there is time for another message, after one that was taken back.
    pub(crate) fn another(patience: Patience) -> Result<(), QueueError> {
        match patience {
            Patience::Until(deadline) if deadline.is_past() => Err(QueueError::Timeout),
            _ => Ok(()),
        }
    }

    /// Copies the message out; `None` if it was taken back meanwhile. One that cannot be copied is put aside.
    pub(crate) fn copied(self, out: &mut Vec<u8>) -> Result<Option<Self>, QueueError> {
        let copied = self.copy_out(out);
        if self.inner.may_be_taken_back() && !self.inner.raw.is_leased_still(self.lease)? {
            self.keep();
            return Ok(None);
        }
        match copied {
            Ok(()) => Ok(Some(self)),
            Err(error) => Err(self.put_aside(error)),
        }
    }

    /// Decodes the message, which was copied. One that cannot be decoded is put aside.
    pub(crate) fn decode<T>(
        self,
        bytes: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, QueueError>,
    ) -> Result<(T, Self), QueueError> {
        match decode(bytes) {
            _ if !self.is_ours() => Err(QueueError::Stale),
            Ok(value) => Ok((value, self)),
            Err(error) => Err(self.put_aside(error)),
        }
    }

    /// Puts the message aside, unless somebody else has it by now; gives the reason, or why it could not be done.
    fn put_aside(self, error: QueueError) -> QueueError {
        if !self.is_ours() {
            return QueueError::Stale;
        }
        match self.inner.bury(self.lease, DeadReason::Decode.to_bits()) {
            Ok(()) => {
                self.keep();
                error
            }
            Err(error) => error,
        }
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = self.inner.give_back(self.lease, Patience::Endless);
        }
    }
}

impl Inner {
    // ---- putting -----------------------------------------------------------------------------

    /// Puts a message.
    #[inline]
    pub(crate) fn put(&self, bytes: &[u8], patience: Patience) -> Result<(), QueueError> {
        let len = self.check_len(bytes.len())?;
        let others_write = match self.put_once(bytes, len, patience) {
            Err(error) => self.put_slow(error, bytes, len, patience)?,
            Ok(others_write) => others_write,
        };
        self.raw.control.not_empty.notify(1, None);
        self.look_if(others_write, patience);
        Ok(())
    }

    /// Goes on after a first attempt that failed.
    #[cold]
    #[inline(never)]
    fn put_slow(
        &self,
        first: QueueError,
        bytes: &[u8],
        len: u32,
        patience: Patience,
    ) -> Result<bool, QueueError> {
        let mut result = Err(first);
        if let Err(QueueError::Corrupt { .. }) = result {
            // Perhaps only a cache.
            self.recover(patience)?;
            result = self.put_once(bytes, len, patience);
        }
        let mut waiting = Waiting::new(self, &self.raw.control.not_full, patience);
        loop {
            match result {
                Err(QueueError::Full) if waiting.again(|| self.raw.has_room())? => {
                    result = self.put_once(bytes, len, patience);
                }
                result => {
                    waiting.done(|| self.raw.has_room());
                    return result;
                }
            }
        }
    }

    /// Says whether others were writing meanwhile.
    #[inline]
    fn put_once(&self, bytes: &[u8], len: u32, patience: Patience) -> Result<bool, QueueError> {
        if self.raw.is_long(len) {
            return self.put_long(bytes, len, patience);
        }
        let side = self.put_side(patience)?;
        let grow = |start, end| self.grow(start, end);
        side.put(len, grow, |claim| self.copy_in(claim, bytes))?;
        Ok(side.is_written_to())
    }

    /// Puts so many messages in order; short ones that follow each other under one lock. Says how many were put
    /// before the error.
    pub(crate) fn put_many<'a>(
        &self,
        count: usize,
        message: impl Fn(usize) -> &'a [u8],
        patience: Patience,
    ) -> Result<(), (usize, QueueError)> {
        let mut done = 0;
        while done < count {
            let short = self
                .put_short_ones((done..count).map(&message), patience)
                .map_err(|error| (done, error))?;
            done += short;
            if short == 0 {
                // A long one, or there is no room at present.
                self.put(message(done), patience)
                    .map_err(|error| (done, error))?;
                done += 1;
            }
        }
        Ok(())
    }

    /// Puts the short messages at the beginning of `messages` for which there is room.
    fn put_short_ones<'a>(
        &self,
        messages: impl Iterator<Item = &'a [u8]>,
        patience: Patience,
    ) -> Result<usize, QueueError> {
        let short = messages.map_while(|bytes| {
            let len = self.check_len(bytes.len()).ok()?;
            (!self.raw.is_long(len)).then_some((len, |claim| self.copy_in(claim, bytes)))
        });
        let side = self.put_side(patience)?;
        let count = side.put_many(short, |start, end| self.grow(start, end));
        let others_write = side.is_written_to();
        drop(side);
        self.raw.control.not_empty.notify(count, None);
        self.look_if(others_write, patience);
        Ok(count as usize)
    }

    fn put_long(&self, bytes: &[u8], len: u32, patience: Patience) -> Result<bool, QueueError> {
        let side = self.put_side(patience)?;
        let others_write = side.is_written_to();
        let claim = self.claim(&side, len)?;
        drop(side);
        self.copy_in(claim, bytes);
        self.commit(claim)?;
        Ok(others_write)
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
            let others_write = side.is_written_to();
            let claim = self.claim(&side, len);
            drop(side);
            match claim {
                Err(QueueError::Full) if waiting.again(|| self.raw.has_room())? => {}
                result => {
                    waiting.done(|| self.raw.has_room());
                    self.look_if(others_write, patience);
                    return result;
                }
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
        self.raw.notify_producers(1);
        Ok(())
    }

    // ---- getting -----------------------------------------------------------------------------

    /// Takes the first message out for good, copied into `out`.
    #[inline]
    pub(crate) fn get(&self, out: &mut Vec<u8>, patience: Patience) -> Result<(), QueueError> {
        let Some(lease) = self.get_or_lease(out, patience, |_| true)? else {
            return Ok(());
        };
        let leased = Leased::new(self, lease);
        leased.copy_out(out)?;
        self.end_leases(&[leased.keep()])?;
        self.tell_producers(1);
        Ok(())
    }

    /// As [`get`](Self::get), if the message is short and one of so many bytes is `sure` to be decoded. If
    /// not, nothing is copied, and the message is handed out.
    #[inline]
    pub(crate) fn get_or_lease(
        &self,
        out: &mut Vec<u8>,
        patience: Patience,
        sure: impl Fn(u32) -> bool,
    ) -> Result<Option<Lease>, QueueError> {
        let (lease, others_have_some) = match self.get_once(out, patience, &sure) {
            Err(error) => self.get_slow(error, out, patience, &sure)?,
            Ok(got) => got,
        };
        // Room in the queue; of a lease, not yet in the arena.
        self.tell_producers(1);
        if !self.may_be_taken_back() {
            self.look_if(others_have_some, patience);
        }
        Ok(lease)
    }

    /// Goes on after a first attempt that failed.
    #[cold]
    #[inline(never)]
    fn get_slow(
        &self,
        first: QueueError,
        out: &mut Vec<u8>,
        patience: Patience,
        sure: &dyn Fn(u32) -> bool,
    ) -> Result<(Option<Lease>, bool), QueueError> {
        self.wait_on(Err(first), patience, || self.get_once(out, patience, sure))
    }

    /// Tries until there is something, or never will be.
    pub(crate) fn wait_for<R>(
        &self,
        patience: Patience,
        mut attempt: impl FnMut() -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        self.wait_on(attempt(), patience, attempt)
    }

    /// As [`wait_for`](Self::wait_for), after a first attempt.
    fn wait_on<R>(
        &self,
        mut result: Result<R, QueueError>,
        patience: Patience,
        mut attempt: impl FnMut() -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        if let Err(QueueError::Corrupt { .. }) = result {
            // Perhaps only a cache.
            self.recover(patience)?;
            result = attempt();
        }
        let mut waiting = Waiting::new(self, &self.raw.control.not_empty, patience);
        let spins = waiting.spins;
        let news = || match spins {
            // In a stream more will come, and to ask for the first at once would slow the producer.
            false => self.raw.has_messages(),
            true => self.raw.has_first(),
        };
        loop {
            match result {
                Err(QueueError::Empty) if waiting.again(news)? => {
                    result = attempt();
                }
                result => {
                    // Of the end of a closed queue all are to hear, one from the other.
                    waiting.done(|| self.raw.has_messages() || self.raw.is_closed());
                    return result;
                }
            }
        }
    }

    /// The lease, if the message was not copied; and whether others have messages handed out.
    #[inline]
    fn get_once(
        &self,
        out: &mut Vec<u8>,
        patience: Patience,
        sure: impl Fn(u32) -> bool,
    ) -> Result<(Option<Lease>, bool), QueueError> {
        let side = self.get_side(patience)?;
        let front = self.front(&side)?;
        if !self.raw.is_long(front.len) && sure(front.len) {
            if self.raw.is_large(front.len) {
                self.prefetch_second(&side, front);
            }
            self.copy_out(front.index, front.chunk, front.len, out)?;
            side.take(front)?;
            return Ok((None, side.leased() > 0));
        }
        match side.may_lease() {
            true => Ok((Some(self.lease(&side, front)?), side.leased() > 1)),
            false => Err(QueueError::Empty),
        }
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
        match side.front()? {
            Some(front) => Ok(front),
            None if self.may_come_back()? => Err(QueueError::Empty),
            None => Err(QueueError::Closed),
        }
    }

    /// Whether a getter would hear neither of a message nor of the end.
    pub(crate) fn is_empty_for_now(&self) -> bool {
        let side = self.get_side(MOMENT.into());
        let front = side.and_then(|side| self.front(&side));
        matches!(front, Err(QueueError::Empty | QueueError::Timeout))
    }

    /// Whether a task that another process has may come back to the closed queue: then somebody is to be there. Not
    /// for a process that has one itself, or two might wait for each other. Under the get lock.
    #[cold]
    fn may_come_back(&self) -> Result<bool, QueueError> {
        let control = &self.raw.control;
        // Relaxed, both: written under this lock.
        let is_discarded = control.state.load(Ordering::Relaxed) & Control::DISCARDED != 0;
        if is_discarded || control.get.leased.load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        let (participants, me) = (self.segment.attached(), ProcessId::current());
        let mut is_another_s = false;
        for word in self.raw.words() {
            let (_, word) = word?;
            if word.state() == Some(State::Leased) {
                if holder(&participants, word.owner()) == Some(me) {
                    return Ok(false);
                }
                is_another_s = true;
            }
        }
        Ok(is_another_s)
    }

    /// Takes as many short messages as there are, `most` at most, into the first of these buffers, under one lock.
    /// 0 if the first one is long. Says also whether others have messages handed out.
    fn get_some(
        &self,
        buffers: &mut Vec<Vec<u8>>,
        most: usize,
        patience: Patience,
    ) -> Result<(usize, bool), QueueError> {
        let side = self.get_side(patience)?;
        let others_have_some = side.leased() > 0;
        let count = side.take_many(most, |count, front| {
            if self.raw.is_long(front.len) {
                return Ok(false);
            }
            if self.raw.is_large(front.len) {
                self.prefetch_second(&side, front);
            }
            self.copy_out(front.index, front.chunk, front.len, nth(buffers, count))?;
            Ok::<_, QueueError>(true)
        })?;
        if count == 0 && most > 0 {
            // There is none, or it is long.
            self.front(&side)?;
        }
        Ok((count, others_have_some))
    }

    /// Takes out the messages that are there, at least one and at most `most`, into the first of these
    /// buffers; says how many.
    pub(crate) fn get_many(
        &self,
        buffers: &mut Vec<Vec<u8>>,
        most: usize,
        patience: Patience,
    ) -> Result<usize, QueueError> {
        let (count, others_have_some) =
            self.wait_for(patience, || self.get_some(buffers, most, patience))?;
        self.tell_producers(count as u32);
        self.look_if(others_have_some, patience);
        if count > 0 || most == 0 {
            return Ok(count);
        }
        // The first one is long.
        self.get(nth(buffers, 0), patience)?;
        Ok(1)
    }

    /// Hands out the messages that are there, at least one and at most `most`.
    pub(crate) fn lease_many(
        &self,
        most: usize,
        patience: Patience,
    ) -> Result<Vec<Lease>, QueueError> {
        let mut leases = Vec::new();
        if most > 0 {
            self.look_before_leasing(patience);
            self.wait_for(patience, || self.lease_some(&mut leases, most, patience))?;
        }
        self.tell_producers(leases.len() as u32);
        Ok(leases)
    }

    /// As [`look_if`](Self::look_if), before something is handed out whose time runs from then on.
    fn look_before_leasing(&self, patience: Patience) {
        // Relaxed: a hint.
        let leased = self.raw.control.get.leased.load(Ordering::Relaxed);
        self.look_if(leased > 0, patience);
    }

    fn lease_some(
        &self,
        leases: &mut Vec<Lease>,
        most: usize,
        patience: Patience,
    ) -> Result<(), QueueError> {
        let side = self.get_side(patience)?;
        while leases.len() < most {
            match self.front(&side) {
                Ok(front) if side.may_lease() => leases.push(self.lease(&side, front)?),
                _ if !leases.is_empty() => break,
                Ok(_) => return Err(QueueError::Empty),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands out the first message.
    #[inline]
    pub(crate) fn lease_one(&self, patience: Patience) -> Result<Lease, QueueError> {
        if self.may_be_taken_back() {
            self.look_before_leasing(patience);
        }
        let leased = self.get_or_lease(&mut Vec::new(), patience, |_| false)?;
        Ok(leased.expect("nothing was sure"))
    }

    /// Gives a task back, if it still is ours.
    pub(crate) fn requeue(&self, lease: Lease) -> Result<(), QueueError> {
        match self.give_back(lease, Patience::Endless)? {
            Returned::Stale => Err(QueueError::Stale),
            _ => Ok(()),
        }
    }

    /// Ends a lease: the message is finished.
    pub(crate) fn finish(&self, lease: Lease) -> Result<(), QueueError> {
        self.finish_many(&[lease])
    }

    /// Ends leases: the messages are finished. `Stale` if one was not ours any more.
    pub(crate) fn finish_many(&self, leases: &[Lease]) -> Result<(), QueueError> {
        let were_ours = self.end_leases(leases)?;
        self.tell_producers(leases.len() as u32);
        match were_ours {
            true => Ok(()),
            false => Err(QueueError::Stale),
        }
    }

    /// The part of it that consumers see. Says whether all were ours still.
    fn end_leases(&self, leases: &[Lease]) -> Result<bool, QueueError> {
        let side = self.get_side(Patience::Endless)?;
        let were_all = !side.may_lease();
        let mut were_ours = true;
        for lease in leases {
            were_ours &= side.finish(*lease)?;
        }
        drop(side);
        self.tell_consumers(were_all, leases.len());
        Ok(were_ours)
    }

    /// After leases ended. If all were given out until then, somebody may wait for leave to have one; in a closed queue,
    /// for the end of the last.
    #[inline]
    pub(crate) fn tell_consumers(&self, were_all: bool, count: usize) {
        let (not_empty, get) = (&self.raw.control.not_empty, &self.raw.control.get);
        // Relaxed: a hint; who gives one out meanwhile comes by here as well.
        if get.leased.load(Ordering::Relaxed) == 0 && self.raw.is_closed() {
            not_empty.notify(u32::MAX, None);
        } else if were_all {
            not_empty.notify(count as u32, None);
        }
    }

    /// Ends a lease: the message goes back, or is put aside if it was delivered often enough.
    pub(crate) fn give_back(
        &self,
        lease: Lease,
        patience: Patience,
    ) -> Result<Returned, QueueError> {
        let returned = self.mended(patience, || {
            Ok(self.get_side(patience)?.give_back(lease)?)
        })?;
        // There is a message more, or leave to have one.
        match returned {
            Returned::Ready => self.raw.control.not_empty.notify(1, None),
            _ => {
                self.tell_consumers(true, 1);
                self.tell_producers(1);
            }
        }
        Ok(returned)
    }

    /// Ends a lease: the message is put aside.
    pub(crate) fn bury(&self, lease: Lease, reason: u32) -> Result<(), QueueError> {
        let side = self.get_side(Patience::Endless)?;
        let were_all = !side.may_lease();
        side.bury(lease, reason)?;
        drop(side);
        self.tell_consumers(were_all, 1);
        self.tell_producers(1);
        Ok(())
    }

    /// After something was taken out or finished.
    #[inline]
    pub(crate) fn tell_producers(&self, count: u32) {
        self.raw.notify_producers(count);
        // After the fence of that.
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

/// The buffer in that place, at most one behind the last.
fn nth(buffers: &mut Vec<Vec<u8>>, place: usize) -> &mut Vec<u8> {
    if buffers.len() == place {
        buffers.push(Vec::new());
    }
    &mut buffers[place]
}
