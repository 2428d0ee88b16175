//! A dictionary's segment, opened: what all handles of one attachment share.

use std::fmt;
use std::mem::offset_of;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use shm_core::sync::Ordering;
use shm_core::{Error, Kind, Place, Segment, Spec, futex};
use shm_lock::Patience;

use crate::error::{CreateError, DictError};
use crate::inside::{self, Inside};
use crate::inspect::Recovery;
use crate::layout::Layout;
use crate::options::{MAX_KEY, Shape};
use crate::raw::{
    Control, Found, Looked, Memory, NoMemory, NotEntered, RawDict, Rebuilt, Record, Shard, Writer,
};

const KIND: Kind = Kind(*b"DICT");

/// Rounds of looks at a whole shard that may be in vain. Only who may not lock, or finds the lock held each time,
/// comes so far.
const PATIENCE: usize = 1000;

type OnRecovery = Arc<dyn Fn(&Recovery) + Send + Sync>;

/// An attachment to a dictionary.
pub(crate) struct Inner {
    pub(crate) raw: RawDict,
    pub(crate) layout: Layout,
    pub(crate) shape: Shape,
    on_recovery: Mutex<Option<OnRecovery>>,
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
    fn spec(type_name: &str, layout: Option<&Layout>) -> Spec {
        let least = size_of::<Control>() as u64;
        let spec = Spec::new(KIND, 1, layout.map_or(least, |layout| layout.size))
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
        Ok(Self::attach(Segment::create_with(place, spec, init)?)?)
    }

    pub(crate) fn open_or_create(
        place: Place,
        shape: Shape,
        type_name: &str,
    ) -> Result<Arc<Self>, CreateError> {
        let spec = Self::prepare(&shape, type_name)?;
        let init = |segment: &Segment| Self::initialise(segment, &shape);
        let segment = Segment::open_or_create_with(place, spec, init)?;
        Ok(Self::attach(segment)?)
    }

    pub(crate) fn open(place: Place, type_name: &str, read_only: bool) -> Result<Arc<Self>, Error> {
        let spec = Self::spec(type_name, None);
        match read_only {
            true => Self::attach(Segment::open_read_only(place, spec)?),
            false => Self::attach(Segment::open(place, spec)?),
        }
    }

    fn prepare(shape: &Shape, type_name: &str) -> Result<Spec, CreateError> {
        shape.check()?;
        let layout = Layout::new(shape).ok_or(CreateError::Option {
            option: "max_bytes",
            value: shape.max_bytes,
            least: crate::MIN_BYTES,
            most: crate::MAX_BYTES,
        })?;
        Ok(Self::spec(type_name, Some(&layout)))
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

    fn attach(segment: Segment) -> Result<Arc<Self>, Error> {
        let control = segment.view::<Control>(0)?;
        // Read once, and checked, before anything is believed.
        let words = std::array::from_fn(|i| control.config[i].load(Ordering::Relaxed));
        let corrupt = |field, value| Error::Corrupt {
            segment: segment.name().to_owned(),
            field,
            value,
        };
        let shape = Shape::from_words(words).ok_or_else(|| corrupt("options", words[3]))?;
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
    /// last is what counts.
    #[inline]
    pub(crate) fn read<R>(
        &self,
        key: &[u8],
        mut take: impl FnMut(Record<'_>) -> R,
    ) -> Result<Option<R>, DictError> {
        inside::check(self.segment.generation())?;
        let hash = self.hash(key)?;
        loop {
            match self.raw.look_up(hash, key, &mut take)? {
                Looked::Found(taken) => return Ok(Some(taken)),
                Looked::Absent => return Ok(None),
                Looked::Disturbed => {
                    if let Some(result) = self.read_locked(hash, key, &mut take) {
                        return result;
                    }
                }
            }
        }
    }

    /// For a reader that writers have disturbed many times: under the lock, if nobody has it at the moment.
    #[cold]
    fn read_locked<R>(
        &self,
        hash: u64,
        key: &[u8],
        take: &mut impl FnMut(Record<'_>) -> R,
    ) -> Option<Result<Option<R>, DictError>> {
        let writer = match self.writer(self.raw.shard_of(hash), Patience::None) {
            Ok(writer) => writer,
            // Somebody is at work, or we may not: so we look on.
            Err(DictError::Timeout | DictError::ReadOnly) => return None,
            Err(error) => return Some(Err(error)),
        };
        Some(match writer.find(hash, key) {
            Ok(Found::At { record, .. }) => Ok(Some(take(record))),
            Ok(_) => Ok(None),
            Err(damaged) => Err(damaged.into()),
        })
    }

    /// Takes something of each record of a shard, without a lock unless writers disturb it many times.
    pub(crate) fn read_shard<T>(
        &self,
        shard: usize,
        taken: &mut Vec<T>,
        take: impl Fn(Record<'_>) -> T,
    ) -> Result<(), DictError> {
        inside::check(self.segment.generation())?;
        for _ in 0..PATIENCE {
            let out = std::cell::RefCell::new(&mut *taken);
            let restart = || out.borrow_mut().clear();
            if self
                .raw
                .look_at_all(shard, restart, |record| out.borrow_mut().push(take(record)))?
            {
                return Ok(());
            }
            match self.writer(shard, Patience::None) {
                Ok(writer) => {
                    taken.clear();
                    for record in writer.records()? {
                        taken.push(take(record?));
                    }
                    return Ok(());
                }
                Err(DictError::Timeout | DictError::ReadOnly) => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        Err(DictError::Busy)
    }

    // ---- under the lock ----------------------------------------------------------------------

    /// A shard's lock.
    #[inline(always)]
    pub(crate) fn writer(&self, shard: usize, patience: Patience) -> Result<Writer<'_>, DictError> {
        if self.segment.is_read_only() {
            return Err(DictError::ReadOnly);
        }
        inside::check(self.segment.generation())?;
        // SAFETY: the writer borrows `self`, whose segment keeps the lock mapped where it is, and keeps its
        // memory if a writer is forgotten (`watch_lock`). Not from a signal handler: the crate says so.
        match unsafe { self.raw.enter(shard, patience, self) } {
            Ok((writer, None)) => Ok(writer),
            Ok((writer, Some(rebuilt))) => {
                self.report(&rebuilt);
                writer.ensure_held()?;
                Ok(writer)
            }
            Err(NotEntered::Damaged(damaged)) => Err(damaged.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// The lock of the shard that has a key, the key's hash, and the key or the place for it.
    #[inline(always)]
    pub(crate) fn writer_for(
        &self,
        key: &[u8],
        patience: Patience,
    ) -> Result<(Writer<'_>, u64, Found<'_>), DictError> {
        let hash = self.hash(key)?;
        let hint = self.raw.approach(hash);
        let writer = self.writer(self.raw.shard_of(hash), patience)?;
        let found = writer.find_at(hint, hash, key)?;
        Ok((writer, hash, found))
    }

    /// All locks, in ascending order.
    pub(crate) fn writers(&self, patience: Patience) -> Result<Vec<Writer<'_>>, DictError> {
        (0..self.raw.shards.len())
            .map(|shard| self.writer(shard, patience))
            .collect()
    }

    pub(crate) fn check_value(&self, value: &[u8]) -> Result<(), DictError> {
        let most = u64::from(self.shape.max_value);
        match value.len() as u64 {
            len if len > most => Err(DictError::ValueTooLong { len, most }),
            _ => Ok(()),
        }
    }

    /// Marks the thread as inside of this dictionary, before a function of the caller's is called.
    pub(crate) fn inside(&self) -> Inside {
        Inside::enter(self.segment.generation())
    }

    // ---- the dead ----------------------------------------------------------------------------

    pub(crate) fn set_on_recovery(&self, on_recovery: OnRecovery) {
        let mut place = self
            .on_recovery
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(on_recovery);
    }

    /// Tells the caller's function what was found; the shard's lock is held, and everything in order.
    #[cold]
    fn report(&self, rebuilt: &Rebuilt) {
        let on_recovery = self
            .on_recovery
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(on_recovery) = on_recovery {
            let _inside = self.inside();
            on_recovery(&Recovery::new(rebuilt));
        }
    }

    /// Gives the memory of free chunks back to the file system; says how many bytes. Nobody else is attached.
    pub(crate) fn trim(&self, patience: Patience) -> Result<u64, DictError> {
        let writers = self.writers(patience)?;
        writers.iter().for_each(Writer::drop_empty_table);
        writers.iter().try_for_each(Writer::collect)?;
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

    /// Sleeps until the version is another one; says which.
    pub(crate) fn wait_for_change(&self, seen: u64, patience: Patience) -> Result<u64, DictError> {
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
                    // Who is at work now may not ring for us; a slice's end finds what it did.
                    Err(DictError::Timeout) => {}
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
