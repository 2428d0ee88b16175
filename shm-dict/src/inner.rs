//! A dictionary's segment, opened: what all handles of one attachment share.

use std::cell::RefCell;
use std::fmt;
use std::mem::offset_of;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard};

use shm_core::sync::{AtomicU32, AtomicU64, Ordering};
use shm_core::{Error, Kind, Place, Segment, Spec, fork, futex};
use shm_lock::Patience;

use crate::buffer::Row;
use crate::error::{CreateError, DictError};
use crate::inside::{self, Inside};
use crate::inspect::{Inspection, Recovery, ShardInspection, Stats};
use crate::layout::Layout;
use crate::options::{MAX_KEY, Shape};
use crate::raw::{
    self, Account, Control, Death, Found, Home, Looked, Memory, NoMemory, NotEntered, Path,
    RawDict, Rebuilt, Record, Shard, TableWord, Taken, Writer,
};

/// Rounds of looks that may be in vain. Only who may not lock, or finds the lock held each time, comes so far.
const PATIENCE: usize = 1000;

type OnRecovery = Arc<dyn Fn(&Recovery) + Send + Sync>;

/// An attachment to a dictionary.
pub(crate) struct Inner {
    pub(crate) raw: RawDict,
    pub(crate) layout: Layout,
    pub(crate) shape: Shape,
    on_recovery: Mutex<Option<OnRecovery>>,
    /// For each shard, where `popitem` goes on.
    pub(crate) fingers: Box<[AtomicU64]>,
    /// Of the process that attached; a forked child has another.
    stamp: u64,
    /// Last: everything above lies in it.
    pub(crate) segment: Segment,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("segment", &self.segment.name())
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn spec(root: raw::Kind, type_name: &str, layout: Option<&Layout>) -> Spec {
        let least = size_of::<Control>() as u64;
        let kind = match root {
            raw::Kind::Map => Kind(*b"DICT"),
            raw::Kind::List => Kind(*b"LIST"),
        };
        let spec = Spec::new(kind, 1, layout.map_or(least, |layout| layout.size))
            .of_type_named(type_name)
            .align(4096)
            .participants(64)
            .locked();
        match layout {
            Some(layout) => spec.reserve(layout.owners_at as u64),
            None => spec,
        }
    }

    pub(crate) fn create(
        place: Place,
        shape: Shape,
        type_name: &str,
    ) -> Result<Arc<Self>, CreateError> {
        let spec = Self::prepare(&shape, type_name)?;
        let init = |segment: &Segment| Self::initialise(segment, &shape);
        Ok(Self::attach(
            Segment::create_with(place, spec, init)?,
            shape.root,
        )?)
    }

    pub(crate) fn open_or_create(
        place: Place,
        shape: Shape,
        type_name: &str,
    ) -> Result<Arc<Self>, CreateError> {
        let spec = Self::prepare(&shape, type_name)?;
        let init = |segment: &Segment| Self::initialise(segment, &shape);
        let segment = Segment::open_or_create_with(place, spec, init)?;
        Ok(Self::attach(segment, shape.root)?)
    }

    pub(crate) fn open(
        place: Place,
        root: raw::Kind,
        type_name: &str,
        read_only: bool,
    ) -> Result<Arc<Self>, Error> {
        let spec = Self::spec(root, type_name, None);
        let segment = match read_only {
            true => Segment::open_read_only(place, spec)?,
            false => Segment::open(place, spec)?,
        };
        Self::attach(segment, root)
    }

    fn prepare(shape: &Shape, type_name: &str) -> Result<Spec, CreateError> {
        shape.check()?;
        let layout = Layout::new(shape).ok_or(CreateError::Option {
            option: "max_bytes",
            value: shape.max_bytes,
            least: crate::MIN_BYTES,
            most: crate::MAX_BYTES,
        })?;
        Ok(Self::spec(shape.root, type_name, Some(&layout)))
    }

    /// All zero but for the options: no shard has a table, no chunk an owner.
    fn initialise(segment: &Segment, shape: &Shape) -> Result<(), Error> {
        let control = segment.view::<Control>(0)?;
        for (word, value) in control.config.iter().zip(shape.to_words()) {
            // Relaxed: the segment's publication orders it.
            word.store(value, Ordering::Relaxed);
        }
        Ok(())
    }

    fn attach(segment: Segment, root: raw::Kind) -> Result<Arc<Self>, Error> {
        let control = segment.view::<Control>(0)?;
        // Read once, and checked, before anything is believed.
        let words = std::array::from_fn(|i| control.config[i].load(Ordering::Relaxed));
        let corrupt = |field, value| Error::Corrupt {
            segment: segment.name().to_owned(),
            field,
            value,
        };
        let shape = Shape::from_words(words, root).ok_or_else(|| corrupt("options", words[3]))?;
        let layout = Layout::new(&shape).ok_or_else(|| corrupt("options", words[0]))?;
        if layout.size > segment.size() as u64 {
            return Err(corrupt("size of the parts", layout.size));
        }
        let raw = RawDict {
            control: lasting(control),
            shards: lasting(segment.view_slice(layout.shards_at, shape.shards as usize)?),
            owners: lasting(segment.view_slice(layout.owners_at, layout.limits.chunks as usize)?),
            heap: lasting(segment.view_slice(layout.heap_at, layout.heap_len() / 8)?),
            limits: layout.limits,
            run_hint: AtomicU32::new(0),
        };
        for shard in 0..shape.shards as usize {
            let shard = layout.shards_at + shard * size_of::<Shard>();
            segment.watch_lock(shard + offset_of!(Shard, lock));
        }
        Ok(Arc::new(Self {
            raw,
            layout,
            shape,
            on_recovery: Mutex::default(),
            fingers: (0..shape.shards).map(|_| AtomicU64::new(0)).collect(),
            stamp: fork::stamp(),
            segment,
        }))
    }

    // ---- looking up --------------------------------------------------------------------------

    /// Refuses keys that cannot be.
    #[inline(always)]
    pub(crate) fn hash(&self, key: &[u8]) -> Result<u64, DictError> {
        if key.len() > MAX_KEY as usize {
            return Err(DictError::KeyTooLong {
                len: key.len() as u64,
                most: MAX_KEY.into(),
            });
        }
        Ok(self.raw.hash(key))
    }

    /// Takes something of a key's record, without a lock; `take` may be called several times, and what it gave
    /// last is what counts. `Busy` as from [`look_or_lock`](Self::look_or_lock).
    #[inline]
    pub(crate) fn read<R>(
        &self,
        path: Option<&Path>,
        key: &[u8],
        mut take: impl FnMut(Record<'_>) -> R,
    ) -> Result<Option<R>, DictError> {
        inside::check(self.segment.generation())?;
        let hash = self.hash(key)?;
        for _ in 0..PATIENCE {
            match self.raw.look_up(path, hash, key, &mut take)? {
                Looked::Found(taken) => return Ok(Some(taken)),
                Looked::Absent => return Ok(None),
                Looked::Gone => return Err(DictError::Stale),
                Looked::Disturbed => {
                    if let Some(result) = self.read_locked(path, hash, key, &mut take) {
                        return result;
                    }
                }
            }
        }
        Err(DictError::Busy)
    }

    /// For a reader that writers have disturbed many times: under the lock, if nobody has it at the moment; otherwise
    /// gives way to others.
    #[cold]
    fn read_locked<R>(
        &self,
        path: Option<&Path>,
        hash: u64,
        key: &[u8],
        take: &mut impl FnMut(Record<'_>) -> R,
    ) -> Option<Result<Option<R>, DictError>> {
        let shard = path.map_or_else(|| self.raw.shard_of(hash), |path| path.shard);
        let result = self.with_lock_if_free(shard, |writer| {
            match writer.map(self.home(writer, path)?).find(hash, key)? {
                Found::At { record, .. } => Ok(Some(take(record))),
                _ => Ok(None),
            }
        });
        if result.is_none() {
            std::thread::yield_now();
        }
        result
    }

    /// Calls `f` under a shard's lock; `None` if somebody has it at the moment, or we may not, or cannot.
    #[cold]
    pub(crate) fn with_lock_if_free<R>(
        &self,
        shard: usize,
        f: impl FnOnce(&Writer<'_>) -> Result<R, DictError>,
    ) -> Option<Result<R, DictError>> {
        match self.writer(shard, Patience::None) {
            Ok(writer) => Some(f(&writer)),
            Err(
                DictError::Timeout
                | DictError::ReadOnly
                | DictError::Reentered
                | DictError::TooManyLocks
                | DictError::Unsupported,
            ) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Tries `look`, which takes no lock, and then `f` under the lock, until one of them gives something; `Busy` after
    /// many times.
    pub(crate) fn look_or_lock<R>(
        &self,
        shard: usize,
        look: impl FnMut() -> Result<Looked<R>, DictError>,
        f: impl FnMut(&Writer<'_>) -> Result<Option<R>, DictError>,
    ) -> Result<Option<R>, DictError> {
        inside::check(self.segment.generation())?;
        self.count_or_lock(shard, look, f)
    }

    /// As [`look_or_lock`](Self::look_or_lock), for counts, which who is inside is told, too: they are right whenever a
    /// function of the caller's runs.
    fn count_or_lock<R>(
        &self,
        shard: usize,
        mut look: impl FnMut() -> Result<Looked<R>, DictError>,
        mut f: impl FnMut(&Writer<'_>) -> Result<Option<R>, DictError>,
    ) -> Result<Option<R>, DictError> {
        for _ in 0..PATIENCE {
            match look()? {
                Looked::Found(found) => return Ok(Some(found)),
                Looked::Absent => return Ok(None),
                Looked::Gone => return Err(DictError::Stale),
                Looked::Disturbed => {}
            }
            if let Some(result) = self.with_lock_if_free(shard, &mut f) {
                return result;
            }
            std::thread::yield_now();
        }
        Err(DictError::Busy)
    }

    /// Copies something of each record of a mapping in a shard to a row, without a lock unless writers disturb it many times.
    pub(crate) fn read_shard(
        &self,
        path: Option<&Path>,
        shard: usize,
        row: &mut Row,
        push: impl Fn(&mut Row, Record<'_>),
    ) -> Result<(), DictError> {
        let (row, most) = (RefCell::new(row), self.segment.size());
        let look = || {
            let restart = || row.borrow_mut().restart(0, most);
            let take = |record: Record<'_>| push(&mut row.borrow_mut(), record);
            Ok(self.raw.look_at_all(path, shard, restart, take)?)
        };
        let locked = |writer: &Writer<'_>| {
            let mut row = row.borrow_mut();
            row.restart(0, most);
            for record in writer.map(self.home(writer, path)?).records()? {
                push(&mut row, record?);
            }
            Ok(Some(()))
        };
        self.look_or_lock(shard, look, locked).map(drop)
    }

    /// How many entries a mapping has, by its own counts.
    pub(crate) fn entries(&self, path: Option<&Path>) -> Result<u64, DictError> {
        let Some(path) = path else {
            return Ok(self.raw.entries());
        };
        let look = || Ok(self.raw.look_at_count(path)?);
        let locked = |writer: &Writer<'_>| Ok(Some(self.home(writer, Some(path))?.entries()));
        let entries = self.count_or_lock(path.shard, look, locked)?;
        Ok(entries.unwrap_or(0))
    }

    /// How many elements a list has.
    pub(crate) fn elements(&self, path: Option<&Path>) -> Result<usize, DictError> {
        let look = || Ok(self.raw.look_at_len(path)?);
        let locked = |writer: &Writer<'_>| Ok(Some(writer.list(self.home(writer, path)?).len()?));
        let shard = path.map_or(0, |path| path.shard);
        Ok(self.count_or_lock(shard, look, locked)?.unwrap_or(0))
    }

    /// The shards that a mapping is in.
    pub(crate) fn shards(&self, path: Option<&Path>) -> Range<usize> {
        match path {
            None => 0..self.raw.shards.len(),
            Some(path) => path.shard..path.shard + 1,
        }
    }

    /// The root at the end of a way.
    #[inline(always)]
    pub(crate) fn home<'a>(
        &self,
        writer: &Writer<'a>,
        path: Option<&Path>,
    ) -> Result<Home<'a>, DictError> {
        match path {
            None => Ok(writer.home()),
            Some(path) => writer.home_at(path)?.ok_or(DictError::Stale),
        }
    }

    // ---- under the lock ----------------------------------------------------------------------

    /// A shard's lock.
    #[inline(always)]
    pub(crate) fn writer(&self, shard: usize, patience: Patience) -> Result<Writer<'_>, DictError> {
        let taken = self.take_lock(shard, patience)?;
        // SAFETY: just taken.
        Ok(unsafe { self.raw.writer(shard, taken, self) })
    }

    /// As [`writer`](Self::writer), but for the writer, of which one is made at once.
    #[inline(always)]
    pub(crate) fn take_lock(&self, shard: usize, patience: Patience) -> Result<Taken, DictError> {
        if self.segment.is_read_only() {
            return Err(DictError::ReadOnly);
        }
        inside::check(self.segment.generation())?;
        // SAFETY: the writer borrows `self`, whose segment keeps the lock mapped where it is, and keeps its
        // memory if a writer is forgotten (`watch_lock`). Not from a signal handler: the crate says so.
        match unsafe { self.raw.take_lock(shard, patience, self) } {
            Ok((taken, None)) => Ok(taken),
            Ok((taken, Some(rebuilt))) => self.reported(shard, taken, &rebuilt),
            Err(NotEntered::Unfinished(death)) => self.take_lock_after_all(shard, patience, death),
            Err(error) => Err(error.into()),
        }
    }

    /// Reports what was found under a lock that was taken; gives it back where that fails.
    #[cold]
    #[inline(never)]
    fn reported(&self, shard: usize, taken: Taken, rebuilt: &Rebuilt) -> Result<Taken, DictError> {
        // SAFETY: just taken; this one is forgotten before the caller makes its own, or gives the lock back.
        let writer = unsafe { self.raw.writer(shard, taken, self) };
        self.report(rebuilt);
        // What is told of it may have forked.
        writer.ensure_held()?;
        // The lock stays with the caller.
        std::mem::forget(writer);
        Ok(taken)
    }

    /// As [`take_lock`](Self::take_lock), after what the dead have left unfinished in several shards.
    #[cold]
    #[inline(never)]
    fn take_lock_after_all(
        &self,
        shard: usize,
        patience: Patience,
        death: Death,
    ) -> Result<Taken, DictError> {
        drop(self.all_writers(patience, Some(death))?);
        self.take_lock(shard, patience)
    }

    /// All locks, in ascending order; what the dead have left is finished.
    pub(crate) fn writers(&self, patience: Patience) -> Result<Vec<Writer<'_>>, DictError> {
        self.all_writers(patience, None)
    }

    fn all_writers(
        &self,
        patience: Patience,
        known: Option<Death>,
    ) -> Result<Vec<Writer<'_>>, DictError> {
        if self.segment.is_read_only() {
            return Err(DictError::ReadOnly);
        }
        inside::check(self.segment.generation())?;
        // SAFETY: as in `writer`.
        let (writers, rebuilt) = unsafe { self.raw.enter_all(patience, self, known) }?;
        rebuilt.iter().for_each(|rebuilt| self.report(rebuilt));
        if !rebuilt.is_empty() {
            writers.iter().try_for_each(Writer::ensure_held)?;
        }
        Ok(writers)
    }

    /// Some of the locks, in ascending order.
    pub(crate) fn writers_of(
        &self,
        shards: &[usize],
        patience: Patience,
    ) -> Result<Vec<Writer<'_>>, DictError> {
        if self.segment.is_read_only() {
            return Err(DictError::ReadOnly);
        }
        inside::check(self.segment.generation())?;
        let enter = |shard: &usize| {
            // SAFETY: as in `writer`.
            let (writer, rebuilt) = unsafe { self.raw.enter(*shard, patience, self) }?;
            if let Some(rebuilt) = rebuilt {
                self.report(&rebuilt);
                writer.ensure_held()?;
            }
            Ok(writer)
        };
        loop {
            match shards.iter().map(enter).collect() {
                Ok(writers) => return Ok(writers),
                // The locks are given back first.
                Err(NotEntered::Unfinished(death)) => {
                    drop(self.all_writers(patience, Some(death))?);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes everything out of a mapping, by one store; `writers` are those of its shards.
    pub(crate) fn clear(
        &self,
        writers: &[Writer<'_>],
        path: Option<&Path>,
    ) -> Result<(), DictError> {
        match path {
            None => Ok(self.raw.clear(writers)?),
            Some(_) => {
                let homes = writers
                    .iter()
                    .map(|writer| (writer, self.home(writer, path)));
                for (writer, home) in homes {
                    writer.map(home?).clear()?;
                }
                Ok(())
            }
        }
    }

    pub(crate) fn check_value(&self, value: &[u8]) -> Result<(), DictError> {
        let most = u64::from(self.shape.max_value);
        match value.len() as u64 {
            len if len > most => Err(DictError::ValueTooLong { len, most }),
            _ => Ok(()),
        }
    }

    /// Whether the thread is inside of this dictionary.
    pub(crate) fn is_inside(&self) -> bool {
        inside::check(self.segment.generation()).is_err()
    }

    /// Marks the thread as inside of this dictionary, before a function of the caller's is called.
    pub(crate) fn inside(&self) -> Inside {
        Inside::enter(self.segment.generation())
    }

    // ---- the dead ----------------------------------------------------------------------------

    pub(crate) fn set_on_recovery(&self, on_recovery: OnRecovery) {
        let before = self
            .on_recovery()
            .and_then(|mut place| place.replace(on_recovery));
        // It may call this again, as it is dropped.
        drop(before);
    }

    /// The place of the caller's function. In a forked child, a thread that the child does not have may hold it for ever:
    /// `None` then.
    fn on_recovery(&self) -> Option<MutexGuard<'_, Option<OnRecovery>>> {
        fork::lock_inherited(&self.on_recovery, self.stamp)
    }

    /// Tells the caller's function what was found; the shard's lock is held, and everything in order.
    #[cold]
    fn report(&self, rebuilt: &Rebuilt) {
        // Also if this one is the last to have the function, and drops it.
        let _inside = self.inside();
        let on_recovery = self.on_recovery().and_then(|place| place.clone());
        if let Some(on_recovery) = on_recovery {
            on_recovery(&Recovery::new(rebuilt));
        }
    }

    /// Gives the memory of free chunks back to the file system; says how many bytes. Nobody else is attached.
    pub(crate) fn trim(&self, patience: Patience) -> Result<u64, DictError> {
        let writers = self.writers(patience)?;
        writers.iter().for_each(Writer::drop_empty_table);
        writers.iter().try_for_each(Writer::collect)?;
        if self.segment.as_fd().is_err() {
            // Nothing is given back of a region of the caller's.
            return Ok(0);
        }
        let shift = self.layout.limits.chunk_shift;
        let mut bytes = 0;
        for (first, count) in self.raw.unback_free() {
            let len = (count as usize) << shift;
            self.segment
                .discard(self.layout.heap_at + ((first as usize) << shift), len)?;
            bytes += len as u64;
        }
        Ok(bytes)
    }

    /// Repairs what dead writers left.
    pub(crate) fn repair(&self, patience: Patience) -> Result<(), DictError> {
        for (index, shard) in self.raw.shards.iter().enumerate() {
            if shard.lock.is_orphaned() {
                drop(self.writer(index, patience)?);
            }
        }
        Ok(())
    }

    /// Proves that everything is in its place.
    pub(crate) fn check(&self, patience: Patience) -> Result<Stats, DictError> {
        let writers = self.writers(patience)?;
        self.raw.check_owners()?;
        let mut account = Account::default();
        for writer in &writers {
            account += writer.check()?;
        }
        Ok(Stats {
            entries: account.entries,
            payload: account.payload,
            used_bytes: account.chunks << self.layout.limits.chunk_shift,
            free_blocks: account.free_blocks,
            free_bytes: self.raw.free_bytes(),
        })
    }

    pub(crate) fn inspect(&self) -> Inspection {
        let raw = &self.raw;
        // Relaxed: a number for people.
        let epoch = raw.control.epoch.load(Ordering::Relaxed);
        let entries = |shard: &Shard| match self.shape.root {
            raw::Kind::Map => shard.entries(epoch),
            // It has no count of its own.
            raw::Kind::List => self.elements(None).unwrap_or(0) as u64,
        };
        let shards = raw.shards.iter().map(|shard| {
            let lock = shard.lock.inspect();
            // Relaxed, all: numbers for people.
            let table = TableWord(shard.table.load(Ordering::Relaxed)).table();
            ShardInspection {
                entries: entries(shard),
                places: table
                    .and_then(|(_, log)| 8_u64.checked_shl(log))
                    .unwrap_or(0),
                owner: lock.owner,
                waiters: lock.waiters,
                recoveries: shard.recoveries.load(Ordering::Relaxed),
            }
        });
        let max_bytes = self.layout.heap_len() as u64;
        let shards: Vec<ShardInspection> = shards.collect();
        Inspection {
            entries: shards
                .iter()
                .map(|shard| shard.entries)
                .fold(0, u64::wrapping_add),
            used_bytes: max_bytes - raw.free_bytes(),
            max_bytes,
            shards,
        }
    }

    /// Sleeps until the version is another one; says which.
    pub(crate) fn wait_for_change(&self, seen: u64, patience: Patience) -> Result<u64, DictError> {
        // While this thread has the lock, nobody changes anything.
        inside::check(self.segment.generation())?;
        let deadline = match patience {
            Patience::Until(deadline) => Some(deadline),
            Patience::None | Patience::Endless => None,
        };
        loop {
            // PAIR dict-bell: as it is before we ask to be told.
            let bell = self.raw.control.bell.load(Ordering::Acquire);
            for shard in 0..self.raw.shards.len() {
                match self.writer(shard, Patience::None) {
                    Ok(writer) => writer.watch(),
                    // Who is at work now may not ring for us, and who may only read asks nobody to: a slice's end
                    // finds what was done.
                    Err(DictError::Timeout | DictError::ReadOnly) => {}
                    Err(error) => return Err(error),
                }
            }
            let version = self.raw.version();
            if version != seen {
                return Ok(version);
            }
            if deadline.is_some_and(|deadline| deadline.is_past()) {
                return Err(DictError::Timeout);
            }
            let _ = futex::wait_slice(&self.raw.control.bell, bell, deadline);
        }
    }
}

impl Memory for Inner {
    fn repaired(&self, rebuilt: &Rebuilt) {
        self.report(rebuilt);
    }

    fn back_owners(&self, first: u32, end: u32) -> Result<(), NoMemory> {
        let offset = self.layout.owners_at + 4 * first as usize;
        self.allocate(offset, 4 * (end - first) as usize)
    }

    fn back_chunks(&self, first: u32, count: u32) -> Result<(), NoMemory> {
        let shift = self.layout.limits.chunk_shift;
        let offset = self.layout.heap_at + ((first as usize) << shift);
        let len = (count as usize) << shift;
        self.allocate(offset, len)?;
        self.segment.prefault(offset, len);
        Ok(())
    }
}

impl Inner {
    fn allocate(&self, offset: usize, len: usize) -> Result<(), NoMemory> {
        self.segment
            .allocate(offset, len)
            .map_err(|error| match error {
                Error::StorageFull { free, .. } => NoMemory {
                    needed: len as u64,
                    free,
                },
                _ => NoMemory {
                    needed: len as u64,
                    free: 0,
                },
            })
    }
}

/// Forgets that a view borrows the segment.
fn lasting<T: ?Sized>(view: &T) -> &'static T {
    // SAFETY: the view lies in the segment, which stays mapped as long as a handle lives (INV-S1), and
    // `Inner` keeps one beside what is made of this, and hands out neither for longer than itself.
    unsafe { &*ptr::from_ref(view) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use nix::sys::prctl;
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use shm_testing::{UniqueName, watchdog};

    use super::*;
    use crate::Options;

    fn create(name: &UniqueName) -> Arc<Inner> {
        let place = Place::named(&**name).unlink_on_drop(true);
        let options = Options::new().max_bytes(256 << 10).shards(1);
        Inner::create(place, options.shape(), "test").unwrap()
    }

    #[test]
    fn a_reader_that_may_not_lock_and_is_always_disturbed_is_told_so() {
        let _watchdog = watchdog();
        let name = UniqueName::new("dict-disturbed");
        let inner = create(&name);
        let writer = inner.writer(0, Patience::Endless).unwrap();
        let hash = inner.raw.hash(b"key");
        let map = writer.top();
        let found = map.find(hash, b"key").unwrap();
        map.store(found, hash, b"key", b"value").unwrap();
        drop(writer);
        let reader = Inner::open(Place::named(&*name), raw::Kind::Map, "test", true).unwrap();
        let mut looks = 0;
        let disturbed = reader.read(None, b"key", |_| {
            looks += 1;
            inner.raw.shards[0]
                .generation
                .fetch_add(1, Ordering::Release);
        });
        assert_eq!(disturbed, Err(DictError::Busy));
        assert!(looks >= PATIENCE, "{looks} looks");
        assert_eq!(reader.read(None, b"key", |_| ()), Ok(Some(())));
    }

    #[test]
    fn a_child_waits_for_no_thread_that_it_does_not_have() {
        let _watchdog = watchdog();
        let name = UniqueName::new("dict-forked");
        let inner = create(&name);
        inner.set_on_recovery(Arc::new(|_| ()));
        // As another thread has it that reports, or sets a function, at this moment.
        let held = inner.on_recovery();
        // SAFETY: the child comes to its end without a return.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // Not for ever, whatever happens.
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                inner.report(&Rebuilt::default());
                inner.set_on_recovery(Arc::new(|_| ()));
                std::process::abort();
            }
            ForkResult::Parent { child } => {
                let ended = waitpid(child, None).unwrap();
                assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGABRT, _)));
            }
        }
        drop(held);
    }
}
