//! A dictionary of values.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_core::codec::{Codec, Postcard};
use shm_core::sync::Ordering;
use shm_core::{Deadline, Error, Place};

use crate::at::At;
use crate::buffer::{Landing, decode, value_of, with_encoded};
use crate::entry::Entry;
use crate::error::{CreateError, DictError};
use crate::guard::DictGuard;
use crate::inner::Inner;
use crate::iter::{Items, Keys, Values};
use crate::key::{KeyBytes, ShmKey};
use crate::number::Number;
use crate::options::Options;
use crate::raw::{Kind, Map, Path, Record};

/// The types of a dictionary, which it has no values of.
pub(crate) type Types<K, V, C> = PhantomData<fn() -> (K, V, C)>;

/// A mapping that processes share; a handle that is cheap to clone.
///
/// Values are encoded by `C`: [`Postcard`] for all that serde knows, [`Raw`](crate::Raw) for plain types,
/// [`Bytes`](crate::Bytes) for byte strings. Look-ups take no lock and never wait for a writer, alive, stopped or
/// dead; only [`get_versioned`](Self::get_versioned), [`with`](Self::with), [`snapshot`](Self::snapshot) and
/// [`to_dynamic`](Dict::to_dynamic) lock as a writer does, and [`len`](Self::len) where a dead one left something to repair.
/// A writer locks one of the [shards](Options::shards) of the mapping for a moment.
///
/// Every operation on one key is one step for all others. What reads, computes and writes back is one step only
/// as [`modify`](Self::modify), [`fetch_add`](Self::fetch_add), [`entry`](Self::entry) or
/// [`compare_and_swap`](Self::compare_and_swap), or under [`lock`](Self::lock).
///
/// # Functions of the caller
/// Those that run under a lock (`modify`, `with`, `retain`, ..) get [`Reentered`](DictError::Reentered) from each
/// call on the same dictionary that looks at entries or changes some; `len`, `version` and `inspect` answer them. If one
/// panics, the panic goes on, and nothing was changed; only [`retain`](Self::retain) has done with the shards before.
///
/// # Peer death
/// A process killed at any instruction leaves each entry as it was before the operation or after it. The next
/// writer in that shard finds the lock orphaned, makes the shard's free lists and counts anew, and reports it
/// ([`on_recovery`](Self::on_recovery)); readers notice nothing. Until then a read-only attachment may count an entry too many or too
/// few.
///
/// # Waiting
/// A writer waits for as long as another holds the shard's lock: for moments, unless that process is stopped.
/// [`within`](Self::within) gives a handle that waits for so long at most.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_dict::Dict;
///
/// # let name = format!("doc-dict-{}", std::process::id());
/// let stock = Dict::<String, u32>::create(Place::named(&name).unlink_on_drop(true), Default::default())?;
/// stock.insert(&"buns".to_owned(), &10)?;
///
/// let stock = Dict::<String, u32>::open(&name)?; // in another process
/// stock.modify("buns", |buns| buns.map(|buns| buns - 1))?;
/// assert_eq!(stock.get("buns")?, Some(9));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Dict<K, V, C = Postcard> {
    pub(crate) inner: Arc<Inner>,
    /// Where it is in another container.
    pub(crate) path: Option<Arc<Path>>,
    pub(crate) timeout: Option<Duration>,
    types: Types<K, V, C>,
}

impl<K, V, C> Clone for Dict<K, V, C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            path: self.path.clone(),
            timeout: self.timeout,
            types: PhantomData,
        }
    }
}

impl<K, V, C> fmt::Debug for Dict<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict")
            .field("name", &self.inner.segment.name())
            .field("entries", &self.inner.entries(self.path()).ok())
            .finish_non_exhaustive()
    }
}

impl<K, V, C> Dict<K, V, C> {
    pub(crate) fn at(
        inner: Arc<Inner>,
        path: Option<Arc<Path>>,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            inner,
            path,
            timeout,
            types: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

pub(crate) fn type_name<K, V, C: Codec<V>>() -> String {
    let (key, value) = (std::any::type_name::<K>(), std::any::type_name::<V>());
    format!("{key} to {value} as {}", C::NAME)
}

impl<K: ShmKey, V, C: Codec<V>> Dict<K, V, C> {
    fn new(inner: Arc<Inner>) -> Self {
        Self::at(inner, None, None)
    }

    /// Creates a dictionary.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(place: impl Into<Place>, options: Options) -> Result<Self, CreateError> {
        Inner::create(place.into(), options.shape(), &type_name::<K, V, C>()).map(Self::new)
    }

    /// Opens a dictionary that exists, with the same types.
    ///
    /// # Errors
    /// As [`Segment::open`](shm_core::Segment::open).
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        Inner::open(place.into(), Kind::Map, &type_name::<K, V, C>(), false).map(Self::new)
    }

    /// As [`open`](Self::open), for reading only: the memory is mapped so, and what would write gives
    /// [`ReadOnly`](DictError::ReadOnly).
    ///
    /// # Errors
    /// As [`Segment::open_read_only`](shm_core::Segment::open_read_only).
    pub fn open_read_only(place: impl Into<Place>) -> Result<Self, Error> {
        Inner::open(place.into(), Kind::Map, &type_name::<K, V, C>(), true).map(Self::new)
    }

    /// Opens a dictionary, or creates it; whoever is first creates it.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn open_or_create(place: impl Into<Place>, options: Options) -> Result<Self, CreateError> {
        Inner::open_or_create(place.into(), options.shape(), &type_name::<K, V, C>()).map(Self::new)
    }

    // ---- one key -----------------------------------------------------------------------------

    /// The value of a key, copied and decoded.
    ///
    /// # Errors
    /// [`Codec`](DictError::Codec), [`NotAKey`](DictError::NotAKey), [`WrongKind`](DictError::WrongKind) if the key has a
    /// container and no value, [`Stale`](DictError::Stale) of a container that was removed, [`Busy`](DictError::Busy) if
    /// writers came in the way of each of 1000 rounds of looks, and the lock was not to be had or this attachment may
    /// only read, and what a dictionary says that cannot be used ([`Corrupt`](DictError::Corrupt), ..).
    #[inline]
    pub fn get<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        let mut landing = Landing::new();
        let found = key.with_key_bytes(|key| {
            self.inner
                .read(self.path(), key, |record| landing.copy_of(record))
        })?;
        match found {
            Some(true) => Ok(Some(C::decode(landing.bytes())?)),
            Some(false) => Err(DictError::no_value(None)),
            None => Ok(None),
        }
    }

    /// Copies the encoded value of a key into a buffer, in place of what that had; `false` if the key is not there.
    ///
    /// # Errors
    /// Those of [`get`](Self::get) but for `Codec`.
    #[inline]
    pub fn get_into<Q: KeyBytes + ?Sized>(
        &self,
        key: &Q,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        let found = key.with_key_bytes(|key| {
            self.inner.read(self.path(), key, |record| {
                record.value().map(|value| value.copy_to(buffer))
            })
        })?;
        match found {
            Some(Some(())) => Ok(true),
            Some(None) => Err(DictError::no_value(None)),
            None => Ok(false),
        }
    }

    /// Calls `f` with the encoded value of a key where it is, under the lock of its shard.
    ///
    /// # Errors
    /// [`WrongKind`](DictError::WrongKind) if the key has a container, and those of [`set`](Self::set).
    pub fn with<Q: KeyBytes + ?Sized, R>(
        &self,
        key: &Q,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, DictError>
    where
        K: Borrow<Q>,
    {
        // Dropped without the lock if it is not called.
        let mut f = Some(f);
        self.locked(key, |at| {
            let Some(record) = at.record() else {
                return Ok(None);
            };
            let value = at.owned(record)?;
            let _inside = self.inner.inside();
            // SAFETY: the lock is held by the writer of `at` until after `f`, and the record is its shard's.
            Ok(f.take().map(|f| f(unsafe { value.as_bytes() })))
        })
    }

    /// Whether a key is there, with a value or a container.
    ///
    /// # Errors
    /// Those of [`get_into`](Self::get_into) but for `WrongKind`.
    pub fn contains_key<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        key.with_key_bytes(|key| Ok(self.inner.read(self.path(), key, |_| ())?.is_some()))
    }

    /// Stores a value; gives the one that the key had.
    ///
    /// # Errors
    /// Those of [`set`](Self::set), [`Codec`](DictError::Codec) if the old value cannot be decoded, and
    /// [`WrongKind`](DictError::WrongKind) if the key has a container, which stays.
    pub fn insert(&self, key: &K, value: &V) -> Result<Option<V>, DictError> {
        let mut before = None;
        self.locked(key, |at| at.replace::<V, C>(value, &mut before))?;
        Ok(before)
    }

    /// Stores a value; a container that the key had goes.
    ///
    /// # Errors
    /// [`Full`](DictError::Full), [`KeyTooLong`](DictError::KeyTooLong), [`ValueTooLong`](DictError::ValueTooLong),
    /// [`NotAKey`](DictError::NotAKey), [`Codec`](DictError::Codec), [`Timeout`](DictError::Timeout) of a handle from
    /// [`within`](Self::within), [`Reentered`](DictError::Reentered), [`Stale`](DictError::Stale) of a container that was
    /// removed, and what a dictionary says that cannot be used ([`ReadOnly`](DictError::ReadOnly),
    /// [`Corrupt`](DictError::Corrupt), ..). Nothing was changed then.
    #[inline]
    pub fn set<Q: KeyBytes + ?Sized>(&self, key: &Q, value: &V) -> Result<(), DictError>
    where
        K: Borrow<Q>,
    {
        // Encoded before the lock is taken.
        with_encoded::<V, C, _>(&self.inner, value, |value| {
            self.locked(key, |at| at.store(value))
        })
    }

    /// Takes a key out, with its value or its container; `false` if it is not there.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    pub fn remove<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        self.locked(key, |at| at.remove())
    }

    /// Takes a key out, and gives its value.
    ///
    /// # Errors
    /// Those of [`set`](Self::set), [`Codec`](DictError::Codec) if the value cannot be decoded, and
    /// [`WrongKind`](DictError::WrongKind) if the key has a container; it stays then.
    pub fn pop<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        let mut before = None;
        self.locked(key, |at| at.take::<V, C>(&mut before))?;
        Ok(before)
    }

    /// Takes some entry out, and gives it; `None` if there are none but containers, which it leaves where they are. It goes
    /// on where the last one of this attachment was, so that to take all out is to look at each place once. The timeout of a
    /// handle from [`within`](Self::within) is for the locks of all shards together.
    ///
    /// # Errors
    /// Those of [`pop`](Self::pop) but for `WrongKind`.
    pub fn popitem(&self) -> Result<Option<(K, V)>, DictError> {
        // A timeout is for all locks together.
        let patience = self.patience();
        for shard in self.inner.shards(self.path()) {
            // Before the lock: where an error drops it, the lock is given back.
            let entry;
            let writer = self.inner.writer(shard, patience)?;
            let map = writer.map(self.inner.home(&writer, self.path())?);
            if map.count() == 0 {
                continue;
            }
            // What is damaged is found so, too.
            let is_container =
                |record: &Result<Record<'_>, _>| record.is_ok_and(|it| it.container().is_some());
            let finger = &self.inner.fingers[shard];
            // Relaxed, here and below: any place to begin at is right.
            let from = finger.load(Ordering::Relaxed) as usize;
            let mut records = map.records_from(from)?;
            let Some((slot, record)) = records.find(|(_, it)| !is_container(it)) else {
                continue;
            };
            let record = record?;
            let bytes;
            {
                let _inside = self.inner.inside();
                let key;
                (key, bytes) = self.key_of(record)?;
                entry = (key, decode::<V, C>(record)?);
            }
            writer.ensure_held()?;
            self.take_out(&map, &bytes)?;
            finger.store(slot as u64 + 1, Ordering::Relaxed);
            return Ok(Some(entry));
        }
        Ok(None)
    }

    /// The value of a key, which is stored first if the key is not there.
    ///
    /// # Errors
    /// Those of [`insert`](Self::insert).
    pub fn setdefault(&self, key: &K, default: V) -> Result<V, DictError> {
        let value = self.locked(key, |at| at.value_or::<V, C>(&default))?;
        Ok(value.unwrap_or(default))
    }

    /// The place of a key, there or not, for what is to be done in one step.
    pub fn entry<'a>(&'a self, key: &'a K) -> Entry<'a, K, V, C> {
        Entry::new(self, key)
    }

    /// Reads, computes and writes back in one step: calls `f` with the value, or `None`, under the lock of the key's
    /// shard, and stores what it gives; `None` takes the key out. Gives what was stored.
    ///
    /// # Errors
    /// Those of [`insert`](Self::insert).
    ///
    /// # Peer death
    /// Killed before the one store that commits, there was no change; after it, it is whole.
    pub fn modify<Q: KeyBytes + ?Sized>(
        &self,
        key: &Q,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        let (mut f, mut after) = (Some(f), None);
        self.locked(key, |at| at.modify::<V, C>(&mut f, &mut after))?;
        Ok(after)
    }

    /// Adds to a number, in one step; gives what it was before. A key that is not there counts as 0. Integers wrap
    /// around.
    ///
    /// # Errors
    /// Those of [`insert`](Self::insert).
    #[inline]
    pub fn fetch_add<Q: KeyBytes + ?Sized>(&self, key: &Q, by: V) -> Result<V, DictError>
    where
        K: Borrow<Q>,
        V: Number,
    {
        self.locked(key, |at| at.fetch_add::<V, C>(by))
    }

    /// Stores `new` if the key has the value `expected`, in one step; `None` stands for a key that is not there. Gives
    /// `Err` with the value that it has otherwise. Encoded values are compared.
    ///
    /// # Errors
    /// Those of [`insert`](Self::insert).
    pub fn compare_and_swap<Q: KeyBytes + ?Sized>(
        &self,
        key: &Q,
        expected: Option<&V>,
        new: Option<&V>,
    ) -> Result<Result<(), Option<V>>, DictError>
    where
        K: Borrow<Q>,
    {
        let swap = |expected: Option<&[u8]>| {
            self.locked(key, |at| {
                let is_it = match (at.record(), expected) {
                    (Some(record), Some(value)) => value_of(record)?.is(value),
                    (record, expected) => record.is_none() && expected.is_none(),
                };
                if !is_it {
                    return Ok(Err(at.value::<V, C>()?));
                }
                match new {
                    Some(value) => at.encode::<V, C>(value)?,
                    None => {
                        at.remove()?;
                    }
                }
                Ok(Ok(()))
            })
        };
        match expected {
            // Encoded before the lock is taken.
            Some(value) => with_encoded::<V, C, _>(&self.inner, value, |value| swap(Some(value))),
            None => swap(None),
        }
    }

    /// The value of a key with the number of the change that made it, which no other value of the key ever has. Takes the
    /// lock of the key's shard: a value of 8 bytes is changed where it is, and its number beside it, in two stores.
    ///
    /// # Errors
    /// Those of [`pop`](Self::pop), [`ReadOnly`](DictError::ReadOnly) among them.
    pub fn get_versioned<Q: KeyBytes + ?Sized>(
        &self,
        key: &Q,
    ) -> Result<Option<(V, u64)>, DictError>
    where
        K: Borrow<Q>,
    {
        self.locked(key, |at| {
            let version = at.record().map(|record| record.version());
            Ok(at.value::<V, C>()?.zip(version))
        })
    }

    /// Stores a value if the key still has that of the change `version`; says whether it did.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    pub fn set_if_version<Q: KeyBytes + ?Sized>(
        &self,
        key: &Q,
        value: &V,
        version: u64,
    ) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        with_encoded::<V, C, _>(&self.inner, value, |value| {
            self.locked(key, |at| {
                let is_it = at
                    .record()
                    .is_some_and(|record| record.version() == version);
                if is_it {
                    at.store(value)?;
                }
                Ok(is_it)
            })
        })
    }

    /// Calls `f` with the key under the lock of its shard.
    #[inline]
    pub(crate) fn locked<Q: KeyBytes + ?Sized, R>(
        &self,
        key: &Q,
        f: impl FnOnce(At<'_, '_>) -> Result<R, DictError>,
    ) -> Result<R, DictError> {
        key.with_key_bytes(|key| {
            let (inner, path) = (&*self.inner, self.path());
            let hash = inner.hash(key)?;
            let (hint, shard) = match path {
                None => (
                    inner.raw.approach(hash, key.len()),
                    inner.raw.shard_of(hash),
                ),
                Some(path) => (None, path.shard),
            };
            let taken = inner.take_lock(shard, self.patience())?;
            // SAFETY: just taken.
            let writer = unsafe { inner.raw.writer(shard, taken, inner) };
            let home = inner.home(&writer, path)?;
            let result = f(At {
                inner,
                writer: &writer,
                others: &[],
                home,
                hash,
                key,
                found: writer.map(home).find_at(hint, hash, key)?,
            });
            writer.end();
            result
        })
    }

    fn key_of(&self, record: Record<'_>) -> Result<(K, Vec<u8>), DictError> {
        let mut bytes = Vec::new();
        record.key().copy_to(&mut bytes);
        Ok((K::from_key_bytes(&bytes)?, bytes))
    }

    // ---- many keys ---------------------------------------------------------------------------

    /// Stores entries one after the other, each in a step of its own. The timeout of a handle from
    /// [`within`](Self::within) is for the locks of all of them together.
    ///
    /// # Errors
    /// Those of [`set`](Self::set); the entries before the one that failed are there.
    pub fn update<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a K, &'a V)>,
    ) -> Result<(), DictError>
    where
        K: 'a,
        V: 'a,
    {
        let set_next = self.setter();
        let mut entries = entries.into_iter();
        entries.try_for_each(|(key, value)| set_next(key, value))
    }

    /// As [`update`](Self::update), of entries that are given away.
    ///
    /// # Errors
    /// Those of [`update`](Self::update).
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), DictError> {
        let set_next = self.setter();
        let mut entries = entries.into_iter();
        entries.try_for_each(|(key, value)| set_next(&key, &value))
    }

    /// [`set`](Self::set), where all calls share the timeout of this handle.
    fn setter(&self) -> impl Fn(&K, &V) -> Result<(), DictError> + '_ {
        let deadline = self.timeout.map(Deadline::after);
        move |key, value| match deadline {
            None => self.set(key, value),
            Some(deadline) => self.within(deadline.remaining()).set(key, value),
        }
    }

    /// Takes all entries out, in one step, also for who is killed on the way.
    ///
    /// # Errors
    /// Those of [`remove`](Self::remove).
    pub fn clear(&self) -> Result<(), DictError> {
        self.lock()?.clear()
    }

    /// How many entries there are: the counts of all shards, in which a change that is being made at this moment
    /// counts or does not. Repairs first what the dead have left, unless attached read-only, or called by a function that
    /// the dictionary has called.
    ///
    /// # Errors
    /// What a dictionary says that cannot be used; of a container also [`Stale`](DictError::Stale), and
    /// [`Busy`](DictError::Busy) as from [`get`](Self::get).
    pub fn len(&self) -> Result<usize, DictError> {
        if !self.inner.segment.is_read_only() && !self.inner.is_inside() {
            self.repair()?;
        }
        Ok(self.inner.entries(self.path())? as usize)
    }

    /// Whether there are no entries.
    ///
    /// # Errors
    /// Those of [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, DictError> {
        Ok(self.len()? == 0)
    }

    /// The entries, in no order: each that is there all the time comes once, with a value that it had during the call.
    /// No lock is held while the caller's code runs. For all as they are at one instant:
    /// [`snapshot`](Self::snapshot).
    ///
    /// An item is [`WrongKind`](DictError::WrongKind) in the place of a container, whose key [`keys`](Self::keys) gives. It
    /// is [`Busy`](DictError::Busy) if writers replaced or removed entries of a shard during each of 1000 looks at it, and its
    /// lock was not to be had: the shard is left out then.
    #[must_use]
    pub fn items(&self) -> Items<K, V, C> {
        Items::new(Arc::clone(&self.inner), self.path.clone())
    }

    /// As [`items`](Self::items).
    #[must_use]
    pub fn iter(&self) -> Items<K, V, C> {
        self.items()
    }

    /// The keys, as [`items`](Self::items); those of containers too.
    #[must_use]
    pub fn keys(&self) -> Keys<K, V, C> {
        self.items().keys()
    }

    /// The values, as [`items`](Self::items).
    #[must_use]
    pub fn values(&self) -> Values<K, V, C> {
        self.items().values()
    }

    /// All entries as they are at one instant. Takes all locks, and so needs an attachment that may write. For what has
    /// containers: [`items`](Self::items), [`keys`](Self::keys), or
    /// [`to_dynamic`](Dict::to_dynamic), which copies them too.
    ///
    /// # Errors
    /// Those of [`pop`](Self::pop): [`WrongKind`](DictError::WrongKind) if there is any container,
    /// [`ReadOnly`](DictError::ReadOnly).
    pub fn snapshot(&self) -> Result<Vec<(K, V)>, DictError> {
        self.lock()?.items()
    }

    /// Takes all entries out in one step, and gives them. Containers cannot be given: where there are some, take the
    /// entries out with [`popitem`](Self::popitem), or all with [`clear`](Self::clear).
    ///
    /// # Errors
    /// Those of [`pop`](Self::pop), [`WrongKind`](DictError::WrongKind) if there is any container; all stay then.
    pub fn drain(&self) -> Result<Vec<(K, V)>, DictError> {
        let mut all = self.lock()?;
        let items = all.items()?;
        all.clear()?;
        Ok(items)
    }

    /// Keeps the entries of which `f` says so, and all containers, of which it is not asked. Shard by shard: `f` is called
    /// under its lock for all of its entries, then the others are taken out, each in a step of its own. If `f` panics, the
    /// shards before are done, and nothing was changed in this one. The timeout of a handle from [`within`](Self::within) is
    /// for the locks of all shards together, with the time that `f` takes.
    ///
    /// # Errors
    /// Those of [`pop`](Self::pop) but for `WrongKind`; the shards before the one that failed are done.
    pub fn retain(&self, mut f: impl FnMut(&K, &V) -> bool) -> Result<(), DictError> {
        // A timeout is for all locks together.
        let patience = self.patience();
        for shard in self.inner.shards(self.path()) {
            let writer = self.inner.writer(shard, patience)?;
            let map = writer.map(self.inner.home(&writer, self.path())?);
            let mut out = Vec::new();
            for record in map.records()? {
                let record = record?;
                if record.container().is_some() {
                    continue;
                }
                {
                    let _inside = self.inner.inside();
                    let ((key, bytes), value) = (self.key_of(record)?, decode::<V, C>(record)?);
                    if !f(&key, &value) {
                        out.push(bytes);
                    }
                }
                // Behind the drops too.
                writer.ensure_held()?;
            }
            for key in out {
                self.take_out(&map, &key)?;
            }
        }
        Ok(())
    }

    /// Takes out a key that was seen in the shard.
    fn take_out(&self, map: &Map<'_, '_>, key: &[u8]) -> Result<(), DictError> {
        let hash = self.inner.raw.hash(key);
        match map.remove(map.find(hash, key)?)? {
            true => Ok(()),
            false => Err(DictError::Corrupt {
                field: "place of a key",
                value: hash,
            }),
        }
    }

    /// Locks the whole mapping: other writers wait, readers do not. Its holder works through the guard.
    ///
    /// # Errors
    /// Those of [`remove`](Self::remove).
    ///
    /// # Peer death
    /// Killed with the guard, each operation through it that was finished stays; others go on at once.
    pub fn lock(&self) -> Result<DictGuard<'_, K, V, C>, DictError> {
        DictGuard::new(&self.inner, self.path(), self.patience())
    }

    /// As [`lock`](Self::lock); waits until `deadline` at most.
    ///
    /// # Errors
    /// [`Timeout`](DictError::Timeout), and those of [`lock`](Self::lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<DictGuard<'_, K, V, C>, DictError> {
        DictGuard::new(&self.inner, self.path(), deadline.into())
    }

    /// As [`lock`](Self::lock); waits for at most `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// [`Timeout`](DictError::Timeout), and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<DictGuard<'_, K, V, C>, DictError> {
        DictGuard::new(&self.inner, self.path(), timeout.into())
    }
}
