//! A shard's lock, held: how changes are published, and what readers are told.

use core::cell::RefCell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use shm_core::futex;
use shm_core::sync::{AtomicU64, Ordering, fence};

use super::{
    CONTAINER, Damaged, Fault, Home, Kind, MAX_DEPTH, Memory, NotEntered, RawDict, Refused, Shape,
    Shard, TableWord,
};

/// A shard's lock, held.
#[derive(Debug)]
pub struct Writer<'a> {
    pub(super) dict: &'a RawDict,
    pub(super) index: usize,
    pub(super) shard: &'a Shard,
    pub(super) memory: &'a dyn Memory,
    /// The shard's, when it was locked.
    version: u64,
    /// Whether the model's thread was panicking already when it locked.
    #[cfg(loom)]
    panicking: bool,
    /// Blocks that nothing leads to yet, and how many bytes were asked for.
    pub(super) pins: RefCell<Vec<(u64, usize)>>,
    not_send: PhantomData<*const ()>,
}

impl<'a> Writer<'a> {
    #[inline(always)]
    pub(super) fn new(
        dict: &'a RawDict,
        index: usize,
        version: u64,
        memory: &'a dyn Memory,
    ) -> Self {
        Self {
            dict,
            index,
            shard: &dict.shards[index],
            memory,
            version,
            #[cfg(loom)]
            panicking: std::thread::panicking(),
            pins: RefCell::new(Vec::new()),
            not_send: PhantomData,
        }
    }

    /// The shard's number.
    #[must_use]
    pub const fn shard(&self) -> usize {
        self.index
    }

    /// Entries of the shard.
    #[must_use]
    pub fn count(&self) -> u64 {
        // Relaxed: the shard's lock, as everywhere in this file where nothing else is said.
        self.shard.count.load(Ordering::Relaxed)
    }

    /// Refuses a child that was forked since the lock was taken: it is its parent's. For after the caller's
    /// functions.
    ///
    /// # Errors
    /// [`NotEntered::NotMine`].
    #[inline(always)]
    pub fn ensure_held(&self) -> Result<(), NotEntered> {
        match self.shard.lock.is_held_by_me() {
            true => Ok(()),
            false => Err(NotEntered::NotMine),
        }
    }

    #[inline(always)]
    pub(super) fn epoch(&self) -> u64 {
        // Relaxed: who changes it holds this lock too.
        self.dict.control.epoch.load(Ordering::Relaxed)
    }

    /// Forgets all records of the shard, after the epoch was raised under the locks of all shards.
    ///
    /// # Errors
    /// [`Damaged`].
    pub(super) fn begin_epoch(&self) -> Result<(), Damaged> {
        self.rebuild(None).map(drop)
    }

    /// Lets the table of a shard without entries go. Nobody else looks at it meanwhile but readers.
    pub fn drop_empty_table(&self) {
        let is_map = self.dict.limits.root == Kind::Map;
        if is_map && self.count() == 0 && self.home().table_word().table().is_some() {
            let none = TableWord::none(self.epoch());
            // PAIR dict-entry: Release, as for any table.
            self.shard.table.store(none.0, Ordering::Release);
            self.shard.tombstones.store(0, Ordering::Relaxed);
            self.cut_off();
        }
    }

    /// The number and the bytes of a new container inside of another.
    pub(super) fn new_container(
        &self,
        shape: Shape,
        inside: Home<'_>,
    ) -> Result<(u64, [u8; CONTAINER * 8]), Refused> {
        let depth = inside.depth() + 1;
        if depth > MAX_DEPTH {
            return Err(Refused::TooDeep);
        }
        // Relaxed: a number that only has to be another one each time. Who is killed with it leaves a gap.
        let id = self.dict.control.containers.fetch_add(1, Ordering::Relaxed);
        Ok((id, shape.bytes(id, depth)))
    }

    // ---- what readers see --------------------------------------------------------------------

    /// The store that is the change.
    #[inline]
    pub(super) fn publish(&self, slot: &AtomicU64, word: u64) {
        let order = match self.dict.broken(Fault::PublishesRelaxed) {
            true => Ordering::Relaxed,
            // PAIR dict-entry: Release publishes the record.
            false => Ordering::Release,
        };
        slot.store(word, order);
    }

    /// After the store that cut something off: who is reading it will notice, whatever is written there next.
    #[inline]
    pub(super) fn cut_off(&self) {
        if self.dict.broken(Fault::ForgetsTheGeneration) {
            return;
        }
        let generation = self.shard.generation.load(Ordering::Relaxed);
        self.shard
            .generation
            .store(generation.wrapping_add(1), Ordering::Release);
        // PAIR dict-generation: Release; what follows is written behind it.
        fence(Ordering::Release);
    }

    /// The number of the change that is about to be made.
    #[inline(always)]
    pub(super) fn next_version(&self) -> u64 {
        self.shard.version.load(Ordering::Relaxed).wrapping_add(1)
    }

    /// Tells that a change was made.
    #[inline(always)]
    pub(super) fn has_changed(&self, version: u64) {
        // PAIR dict-version: Release; who sees it sees the change.
        self.shard.version.store(version, Ordering::Release);
    }

    /// Has the next change ring.
    pub fn watch(&self) {
        self.shard.watched.store(1, Ordering::Relaxed);
    }

    /// For a version that was skipped, or a change made otherwise.
    pub(super) fn set_version(&self, version: u64) {
        self.has_changed(version);
    }

    /// As if it was dropped, which is a call.
    #[inline(always)]
    pub fn end(self) {
        let mut writer = ManuallyDrop::new(self);
        writer.leave();
        drop(core::mem::take(writer.pins.get_mut()));
    }

    /// Gives the lock back, and tells who waits for a change if there was one.
    #[inline(always)]
    fn leave(&mut self) {
        #[cfg(loom)]
        if !self.panicking && std::thread::panicking() {
            // A model thread that was killed: its kernel releases the lock.
            return;
        }
        // User code runs before anything is changed; so a panic leaves nothing half done but blocks.
        if !self.pins.get_mut().is_empty() {
            // Damaged words are found again by who comes next.
            let _ = self.free_pinned();
        }
        let changed = self.shard.version.load(Ordering::Relaxed) != self.version;
        let watched = changed && self.shard.watched.load(Ordering::Relaxed) != 0;
        // In a forked child it is the parent who tells.
        let watched = watched && self.ensure_held().is_ok();
        if watched {
            self.shard.watched.store(0, Ordering::Relaxed);
            // PAIR dict-bell: who waits compares the bell as it was before it asked to be told.
            self.dict.control.bell.fetch_add(1, Ordering::Release);
        }
        // SAFETY: made when this thread had taken the lock, and not `Send`.
        unsafe { self.shard.lock.unlock() };
        if watched {
            futex::wake(&self.dict.control.bell, u32::MAX);
        }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
