//! A queue's segment, opened: what all handles of one attachment share.

use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use shm_core::fork::PerProcess;
use shm_core::mutants::mutant;
use shm_core::sync::{AtomicU32, AtomicU64, Ordering};
use shm_core::{Deadline, Error, Kind, Place, Segment, Spec, deadline, futex, layout as bytes};
use shm_lock::{Patience, RawLockError};

use crate::error::{CreateError, QueueError};
use crate::layout::Layout;
use crate::options::Shape;
use crate::raw::{
    CHUNK, Cells, Census, Claim, Control, Front, GetSide, LINE, Lease, MAX_SLOTS, Mapped,
    NotEntered, Owner, PutSide, RawQueue, Refused,
};
use crate::wait::WaitStrategy;

/// How long a `try_` form waits for the queue's own locks, which are held for moments.
pub(crate) const MOMENT: Duration = Duration::from_secs(1);

/// Memory for the arena is allocated in steps of so many chunks (256 KiB).
const GROWTH: u32 = (256 << 10) / CHUNK as u32;

/// Binary logarithm of the nanoseconds in which the time of a lease's begin is counted: so 32 bits are enough for two years.
pub(crate) const SINCE_SHIFT: u32 = 24;

/// Whether nobody has to look for the dead again, since somebody just did.
const JUST: Duration = Duration::from_millis(50);

/// An attachment to a queue.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) raw: RawQueue,
    pub(crate) layout: Layout,
    pub(crate) shape: Shape,
    pub(crate) strategy: AtomicU32,
    /// Senders and receivers of each participant (`halves.rs`).
    pub(crate) halves: Mapped<[AtomicU64]>,
    /// Tasks that this attachment has detached from their guards, the oldest first. A forked child has none of its
    /// parent's.
    pub(crate) detached: PerProcess<VecDeque<Lease>>,
    /// Last: everything above lies in it.
    pub(crate) segment: Segment,
}

impl Inner {
    fn spec(kind: Kind, type_name: &str, layout: Option<&Layout>) -> Spec {
        let least = size_of::<Control>() as u64;
        let spec = Spec::new(kind, 1, layout.map_or(least, |layout| layout.size))
            .of_type_named(type_name)
            .align(4096)
            .participants(64)
            .locked();
        match layout {
            Some(layout) => spec.reserve(layout.arena_at as u64),
            None => spec,
        }
    }

    pub(crate) fn create(
        place: Place,
        shape: Shape,
        kind: Kind,
        type_name: &str,
    ) -> Result<Arc<Self>, CreateError> {
        let (layout, spec) = Self::prepare(&shape, kind, type_name)?;
        let init = |segment: &Segment| Self::initialise(segment, &shape, &layout);
        Ok(Self::attach(
            Segment::create_with(place, spec, init)?,
            kind,
        )?)
    }

    pub(crate) fn open_or_create(
        place: Place,
        shape: Shape,
        kind: Kind,
        type_name: &str,
    ) -> Result<Arc<Self>, CreateError> {
        let (layout, spec) = Self::prepare(&shape, kind, type_name)?;
        let init = |segment: &Segment| Self::initialise(segment, &shape, &layout);
        let segment = Segment::open_or_create_with(place, spec, init)?;
        Ok(Self::attach(segment, kind)?)
    }

    pub(crate) fn open(place: Place, kind: Kind, type_name: &str) -> Result<Arc<Self>, Error> {
        Self::attach(
            Segment::open(place, Self::spec(kind, type_name, None))?,
            kind,
        )
    }

    fn prepare(shape: &Shape, kind: Kind, type_name: &str) -> Result<(Layout, Spec), CreateError> {
        shape.check()?;
        let layout = Layout::new(shape).ok_or(CreateError::Option {
            option: "capacity",
            value: shape.capacity.into(),
            least: 1,
            most: crate::options::MAX_CAPACITY.into(),
        })?;
        let spec = Self::spec(kind, type_name, Some(&layout));
        Ok((layout, spec))
    }

    fn initialise(segment: &Segment, shape: &Shape, layout: &Layout) -> Result<(), Error> {
        let control = segment.view::<Control>(0)?;
        for (word, value) in control.config.iter().zip(shape.to_words()) {
            // Relaxed: the segment's publication orders it.
            word.store(value, Ordering::Relaxed);
        }
        Self::map(segment, layout)?.initialise();
        Ok(())
    }

    /// The parts of a queue in a segment.
    fn map(segment: &Segment, layout: &Layout) -> Result<RawQueue, Error> {
        let cells = layout.stride * layout.cells as usize;
        let base = segment.at(layout.cells_at, cells)?;
        Ok(RawQueue {
            control: lasting(segment.view(0)?),
            ring: lasting(segment.view_slice(layout.ring_at, layout.ring_len)?),
            freed: lasting(segment.view_slice(layout.freed_at, layout.ring_len)?),
            stack: lasting(segment.view_slice(layout.stack_at, layout.cells as usize)?),
            bitmap: lasting(segment.view_slice(layout.bitmap_at, layout.bitmap_len)?),
            // SAFETY: `at` checked all of them; the payload is aligned to 4096, `cells_at` to 128, the
            // stride is a multiple of 64; who has the queue keeps the segment (`Inner`).
            cells: unsafe { Cells::new(base.as_ptr(), layout.stride, layout.cells as usize) },
            limits: layout.limits,
        })
    }

    fn attach(segment: Segment, kind: Kind) -> Result<Arc<Self>, Error> {
        let control = segment.view::<Control>(0)?;
        // Read once, and checked, before anything is believed.
        let words = std::array::from_fn(|i| control.config[i].load(Ordering::Relaxed));
        let corrupt = |field, value| Error::Corrupt {
            segment: segment.name().to_owned(),
            field,
            value,
        };
        let shape = Shape::from_words(words).ok_or_else(|| corrupt("options", words[7]))?;
        // What is read in place must not be taken back: see `Received`.
        if kind == crate::bytes::KIND && shape.lease_time != 0 {
            return Err(corrupt("lease time of a plain queue", shape.lease_time));
        }
        let layout = Layout::new(&shape).ok_or_else(|| corrupt("options", words[0]))?;
        if layout.size > segment.size() as u64 {
            return Err(corrupt("size of the parts", layout.size));
        }
        let raw = Self::map(&segment, &layout)?;
        let halves = lasting(segment.view_slice(layout.halves_at, MAX_SLOTS)?);
        segment.watch_lock(std::mem::offset_of!(Control, put));
        segment.watch_lock(std::mem::offset_of!(Control, get));
        let inner = Arc::new(Self {
            raw,
            layout,
            shape,
            strategy: AtomicU32::new(WaitStrategy::default().to_bits()),
            halves,
            detached: PerProcess::default(),
            segment,
        });
        // Errors are for the first operation to report.
        if inner.has_messages_of_a_predecessor() {
            let _ = inner.recover(MOMENT.into());
        }
        Ok(inner)
    }

    /// Who we are in the words.
    pub(crate) fn owner(&self) -> Result<Owner, QueueError> {
        let (slot, uses) = self.segment.participant()?;
        Owner::new(slot, uses).ok_or(QueueError::TooManyParticipants)
    }

    fn alive(&self) -> impl Fn(Owner) -> bool + '_ {
        |owner| {
            self.segment.is_attached(owner.slot(), |uses| {
                owner.is_use(uses) || mutant("Queue::TakesTheSlotsNextUserForTheDead")
            })
        }
    }

    // ---- the locks ---------------------------------------------------------------------------

    /// The put lock. A `try_` form waits for a moment: nobody holds it for longer but who was stopped.
    #[inline]
    pub(crate) fn put_side(&self, patience: Patience) -> Result<PutSide<'_>, QueueError> {
        self.check_writable()?;
        // SAFETY: the guard borrows `self`, whose segment keeps the lock mapped where it is, and keeps its
        // memory if a guard is forgotten (`watch_lock`). Not from a signal handler: the crate says so.
        match unsafe { self.raw.enter_put(patience, self.alive()) } {
            Err(NotEntered::Lock(RawLockError::WouldBlock)) => {
                // SAFETY: as above.
                Ok(unsafe { self.raw.enter_put(MOMENT.into(), self.alive()) }?)
            }
            entered => Ok(entered?),
        }
    }

    /// The get lock, as [`put_side`](Self::put_side).
    #[inline]
    pub(crate) fn get_side(&self, patience: Patience) -> Result<GetSide<'_>, QueueError> {
        self.check_writable()?;
        // SAFETY: as in `put_side`.
        match unsafe { self.raw.enter_get(patience, self.alive()) } {
            Err(NotEntered::Lock(RawLockError::WouldBlock)) => {
                // SAFETY: as in `put_side`.
                Ok(unsafe { self.raw.enter_get(MOMENT.into(), self.alive()) }?)
            }
            entered => Ok(entered?),
        }
    }

    /// Both locks, the put lock first.
    pub(crate) fn both_sides(
        &self,
        patience: Patience,
    ) -> Result<(PutSide<'_>, GetSide<'_>), QueueError> {
        self.check_writable()?;
        // SAFETY: as in `put_side`.
        Ok(unsafe { self.raw.enter_both(patience, self.alive()) }?)
    }

    fn check_writable(&self) -> Result<(), QueueError> {
        match self.segment.is_read_only() {
            true => Err(QueueError::ReadOnly),
            false => Ok(()),
        }
    }

    // ---- the dead ----------------------------------------------------------------------------

    /// Settles what the dead have left, and makes all caches anew.
    pub(crate) fn recover(&self, patience: Patience) -> Result<Census, QueueError> {
        let dead = self.segment.dead_participants();
        let (put, get) = self.both_sides(patience)?;
        let census = put.rebuild(&get, self.alive())?;
        drop((get, put));
        for (slot, id) in dead {
            self.segment.bury(slot, id);
        }
        Ok(census)
    }

    /// After a sleep, whatever has ended it: what wakes a sleeper again and again, a signal or
    /// news for others, may let no slice end.
    pub(crate) fn look_after_sleep(
        &self,
        was_woken: bool,
        deadline: Option<Deadline>,
    ) -> Result<(), QueueError> {
        let early = was_woken && !self.is_slice_over();
        match early || was_woken && mutant("Queue::LooksWhereNothingHappensAlone") {
            true => Ok(()),
            false => self.look_after_others(deadline),
        }
    }

    /// After a sleep in which nothing happened: somebody may have died, or kept a task for too long.
    /// Takes until `deadline` at most; what stands in the way now is left for another time.
    #[cold]
    pub(crate) fn look_after_others(&self, deadline: Option<Deadline>) -> Result<(), QueueError> {
        let until = Deadline::earliest(deadline, MOMENT);
        match self.look_until(Patience::Until(until)) {
            Err(QueueError::Timeout) => Ok(()),
            result => result,
        }
    }

    fn look_until(&self, patience: Patience) -> Result<(), QueueError> {
        self.take_back_expired(patience)?;
        if !self.is_my_turn(deadline::now(), JUST) {
            return Ok(());
        }
        if self.is_left_by_the_dead() {
            self.recover(patience)?;
        }
        self.close_without_senders(patience)
    }

    /// Takes back the tasks whose time is over.
    pub(crate) fn take_back_expired(&self, patience: Patience) -> Result<(), QueueError> {
        if self.next_expiry().is_some_and(Deadline::is_past) {
            let now = deadline::now();
            let taken_back = self.mended(patience, || {
                Ok(self.get_side(patience)?.take_back_expired(now)?)
            })?;
            // Some of them may be dead letters now.
            self.tell_consumers(true, taken_back as usize);
            self.tell_producers(taken_back);
        }
        Ok(())
    }

    /// What `attempt` gives; a second time if something is damaged, which may be only a cache.
    pub(crate) fn mended<R>(
        &self,
        patience: Patience,
        attempt: impl Fn() -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        match attempt() {
            Err(QueueError::Corrupt { .. }) => {
                self.recover(patience)?;
                attempt()
            }
            result => result,
        }
    }

    /// Whether there are dead participants, a lock of somebody who died in it (who only puts, takes out or looks need
    /// not be a participant), or a message of one who is a participant no more, whose slot may have another user by now.
    fn is_left_by_the_dead(&self) -> bool {
        let control = &self.raw.control;
        let locks = [&control.put.lock, &control.get.lock];
        locks.iter().any(|lock| lock.is_orphaned())
            || !self.segment.dead_participants().is_empty()
            || self.has_messages_of_nobody()
    }

    /// Whether a message is handed out to, or written by, somebody who is no participant any more.
    fn has_messages_of_nobody(&self) -> bool {
        let (put, get) = (&self.raw.control.put, &self.raw.control.get);
        // Relaxed, both: hints.
        if put.writing.load(Ordering::Relaxed) == 0 && get.leased.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut owners: Vec<Owner> = Vec::new();
        for owner in self.owners() {
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        let is_alive = self.alive();
        // Looked at without a lock: one who went just now may have finished before. Then there is nothing to settle,
        // which does no harm.
        owners.into_iter().any(|owner| !is_alive(owner))
    }

    /// Whether somebody left a message who had our participant slot before. Of a use of a slot the words have the lowest
    /// bits alone: nothing is to outlast so many.
    fn has_messages_of_a_predecessor(&self) -> bool {
        let mine = |me: Owner| {
            self.owners()
                .any(|owner| owner.slot() == me.slot() && owner != me)
        };
        self.owner().is_ok_and(mine)
    }

    /// Whose messages are being written or handed out, looked at without a lock.
    fn owners(&self) -> impl Iterator<Item = Owner> + '_ {
        self.raw.words().filter_map(|word| {
            let word = word.ok()?.1;
            word.is_owned().then(|| word.owner())
        })
    }

    /// Whether nobody has looked for the dead for a slice.
    fn is_slice_over(&self) -> bool {
        // Relaxed: a hint.
        let last = self.raw.control.looked.load(Ordering::Relaxed);
        u128::from(deadline::now_roughly().abs_diff(last)) >= futex::SLICE.as_nanos()
    }

    /// Whether nobody has looked for the dead within `interval`; then it is the caller's turn, and
    /// not another's.
    fn is_my_turn(&self, now: u64, interval: Duration) -> bool {
        let looked = &self.raw.control.looked;
        // Relaxed, both: a hint. One who dies in its turn leaves it to the next.
        let last = looked.load(Ordering::Relaxed);
        let is_due = u128::from(now.abs_diff(last)) >= interval.as_nanos();
        is_due
            && looked
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// For those who never sleep, since there always is something, or since they only try: looks after
    /// others if nobody has for a slice. Says whether it did.
    pub(crate) fn look_now_and_then(&self, patience: Patience) -> bool {
        let is_due = self.is_my_turn(deadline::now_roughly(), futex::SLICE);
        if is_due {
            self.look_aside(deadline_of(patience));
        }
        is_due
    }

    /// As [`look_now_and_then`](Self::look_now_and_then), if others have messages handed out, or write some. Where there
    /// always is something to do, nobody else would see that they died.
    #[inline]
    pub(crate) fn look_if(&self, others_have_some: bool, patience: Patience) {
        if others_have_some {
            self.look_now_and_then(patience);
        }
    }

    /// Takes a slice at most, and not longer than until `deadline`.
    #[cold]
    #[inline(never)]
    fn look_aside(&self, deadline: Option<Deadline>) {
        let patience = Patience::Until(Deadline::earliest(deadline, futex::SLICE));
        // The caller has what it came for, or not. Errors are for the next operation to report.
        let _ = self.take_back_expired(patience);
        if self.is_left_by_the_dead() {
            let _ = self.recover(patience);
        }
        let _ = self.close_without_senders(patience);
    }

    // ---- bytes -------------------------------------------------------------------------------

    /// The message's length, if the queue takes it.
    #[inline]
    pub(crate) fn check_len(&self, len: usize) -> Result<u32, QueueError> {
        let most = self.shape.max_message;
        match u32::try_from(len) {
            Ok(len) if u64::from(len) <= most => Ok(len),
            _ => Err(QueueError::TooLarge {
                len: len as u64,
                most,
            }),
        }
    }

    /// Copies a message into the cell or the chunks of a claim.
    #[inline]
    pub(crate) fn copy_in(&self, claim: Claim, from: &[u8]) {
        let at = self.layout.bytes_at(claim.index, claim.chunk, claim.len);
        debug_assert_eq!(from.len(), claim.len as usize);
        // A claim that leads outside is for the commit to refuse.
        let Ok(to) = self.segment.at(at, from.len()) else {
            return;
        };
        if self.may_be_taken_back() {
            self.raw.before_overwriting();
        }
        if self.raw.is_large(claim.len) && !self.may_be_taken_back() {
            // SAFETY:
            // - in bounds: `at` checked it; mapped and writable as long as the segment;
            // - no other writer or reader: the word says that the chunks are ours, or the put lock does.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
        } else {
            // SAFETY: as above; the cell is ours by the put lock or its word. Who still reads what was there, reads
            // word by word, and believes none of it.
            unsafe { bytes::store_bytes(to.as_ptr(), from.as_ptr(), from.len()) };
        }
    }

    /// Fetches the chunks of the message behind this one, while this one is copied: where
    /// messages lie in the arena, which the side's own prefetching does not reach. A function apart, so that the
    /// path of short messages stays short.
    #[inline(never)]
    pub(crate) fn prefetch_second(&self, side: &GetSide<'_>, first: Front) {
        if let Some(Front { chunk, len, .. }) = side.second(first)
            && self.raw.is_large(len)
            && !self.raw.is_long(len)
        {
            let start = self.layout.bytes_at(0, chunk, len);
            let lines = (start..start + len as usize).step_by(LINE);
            lines.for_each(|at| self.segment.prefetch_to_write(at));
        }
    }

    /// Copies a message out.
    #[inline]
    pub(crate) fn copy_out(
        &self,
        index: u32,
        chunk: u32,
        len: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), QueueError> {
        let from = self.message(index, chunk, len)?;
        out.clear();
        out.reserve(len as usize);
        let to = out.as_mut_ptr();
        if self.raw.is_large(len) && !self.may_be_taken_back() {
            // SAFETY:
            // - in bounds: `message` checked it; mapped as long as the segment; `out` has room;
            // - no other writer: the message is leased to us, or ready and we hold the get lock; any bytes are `u8`s.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, len as usize) };
        } else {
            // SAFETY: as above; the message is ready and we hold the get lock, or it is leased to us. If it is taken back
            // meanwhile, other writers store word by word too, and `Leased::copied` believes none of it.
            unsafe { bytes::load_bytes(from.as_ptr(), to, len as usize) };
        }
        // SAFETY: so many bytes were just written.
        unsafe { out.set_len(len as usize) };
        Ok(())
    }

    /// Where a message lies, checked.
    #[inline]
    pub(crate) fn message(
        &self,
        index: u32,
        chunk: u32,
        len: u32,
    ) -> Result<ptr::NonNull<u8>, QueueError> {
        let corrupt = |_| QueueError::Corrupt {
            field: "length of a message",
            value: len.into(),
        };
        self.check_len(len as usize).map_err(|_| corrupt(()))?;
        let at = self.layout.bytes_at(index, chunk, len);
        self.segment.at(at, len as usize).map_err(|_| corrupt(()))
    }

    /// Gives memory to the arena, at least up to chunk `end`; says up to which.
    pub(crate) fn grow(&self, start: u32, end: u32) -> Result<u32, Refused> {
        let ahead = end
            .max(start.saturating_add(GROWTH))
            .min(self.layout.limits.chunks);
        // Where there is little left, what is needed.
        self.allocate(start, ahead)
            .or_else(|_| self.allocate(start, end))
    }

    fn allocate(&self, start: u32, end: u32) -> Result<u32, Refused> {
        let offset = self.layout.arena_at + start as usize * CHUNK;
        let len = (end.saturating_sub(start)) as usize * CHUNK;
        match self.segment.allocate(offset, len) {
            Ok(()) => Ok(end),
            Err(Error::StorageFull { need, free, .. }) => Err(Refused::StorageFull { need, free }),
            Err(_) => Err(Refused::StorageFull {
                need: len as u64,
                free: 0,
            }),
        }
    }

    /// Whether somebody else may have a message before its holder is done with it.
    #[inline]
    pub(crate) fn may_be_taken_back(&self) -> bool {
        self.shape.lease_time != 0
    }

    /// The time at which a lease given now runs out; 0: never.
    pub(crate) fn expiry(&self) -> u64 {
        match self.shape.lease_time {
            0 => 0,
            time => deadline::now().saturating_add(time).max(1),
        }
    }

    /// When the first lease runs out, as a hint.
    fn next_expiry(&self) -> Option<Deadline> {
        // Relaxed: a hint.
        match self.raw.control.get.next_expiry.load(Ordering::Relaxed) {
            0 => None,
            next => Some(Deadline::from_nanoseconds(next)),
        }
    }

    /// How long to sleep at most: until the caller's deadline, or until a lease runs out.
    pub(crate) fn until(&self, deadline: Option<Deadline>) -> Option<Deadline> {
        match (deadline, self.next_expiry()) {
            (Some(deadline), Some(expiry)) => Some(deadline.min(expiry)),
            (deadline, expiry) => deadline.or(expiry),
        }
    }

    /// Hands the first message out.
    pub(crate) fn lease(&self, side: &GetSide<'_>, front: Front) -> Result<Lease, QueueError> {
        let lease = side.lease(front, self.owner()?, self.expiry())?;
        side.note_since(lease, (deadline::now_roughly() >> SINCE_SHIFT) as u32)?;
        Ok(lease)
    }

    // ---- detached tasks ----------------------------------------------------------------------

    pub(crate) fn detach(&self, lease: Lease) {
        self.detached.lock().push_back(lease);
    }

    pub(crate) fn oldest_detached(&self) -> Option<Lease> {
        self.detached.lock().pop_front()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left here who could finish these. Errors have nobody to go to: the others find what stays, once
        // this process is no participant any more (`has_messages_of_nobody`).
        let detached = std::mem::take(&mut *self.detached.lock());
        let patience = MOMENT.into();
        // The last one first: then none has to make room for the next.
        for lease in detached.into_iter().rev() {
            let _ = self.give_back(lease, patience);
        }
    }
}

/// Forgets that a view borrows the segment.
fn lasting<T: ?Sized>(view: &T) -> Mapped<T> {
    // SAFETY: the view lies in the segment, which stays mapped as long as a handle lives (INV-S1), and
    // `Inner` keeps one beside what is made of this, and hands out neither for longer than itself.
    unsafe { &*ptr::from_ref(view) }
}

/// The end of a sleep: the caller's deadline.
pub(crate) fn deadline_of(patience: Patience) -> Option<Deadline> {
    match patience {
        Patience::Until(deadline) => Some(deadline),
        Patience::None | Patience::Endless => None,
    }
}
