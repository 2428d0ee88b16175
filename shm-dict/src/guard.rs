//! The lock of a whole mapping.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use shm_core::codec::Codec;
use shm_lock::Patience;

use crate::at::At;
use crate::buffer::{decode, grow, with_encoded};
use crate::dict::Types;
use crate::error::DictError;
use crate::inner::Inner;
use crate::inside::Inside;
use crate::key::{KeyBytes, ShmKey};
use crate::number::Number;
use crate::raw::{Path, Record, Writer};

/// The lock of a whole mapping, from [`Dict::lock`](crate::Dict::lock): no other writes as long as it lives.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_dict::Dict;
///
/// # let name = format!("doc-guard-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let seats = Dict::<u32, String>::create(place, Default::default())?;
/// let mut all = seats.lock()?;
/// if !all.contains_key(&7)? {
///     all.set(&7, &"Ada".to_owned())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DictGuard<'a, K, V, C> {
    writers: Vec<Writer<'a>>,
    inner: &'a Inner,
    path: Option<&'a Path>,
    _inside: Inside,
    types: Types<K, V, C>,
}

impl<K, V, C> fmt::Debug for DictGuard<'_, K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DictGuard")
            .field("name", &self.inner.segment.name())
            .finish_non_exhaustive()
    }
}

impl<'a, K: ShmKey, V, C: Codec<V>> DictGuard<'a, K, V, C> {
    pub(crate) fn new(
        inner: &'a Inner,
        path: Option<&'a Path>,
        patience: Patience,
    ) -> Result<Self, DictError> {
        let writers = match path {
            None => inner.writers(patience)?,
            Some(path) => vec![inner.writer(path.shard, patience)?],
        };
        for writer in &writers {
            inner.home(writer, path)?;
        }
        Ok(Self {
            writers,
            inner,
            path,
            _inside: inner.inside(),
            types: PhantomData,
        })
    }

    /// Calls `f` with the key.
    fn at<R>(
        &self,
        key: &(impl KeyBytes + ?Sized),
        f: impl FnOnce(At<'_, '_>) -> Result<R, DictError>,
    ) -> Result<R, DictError> {
        key.with_key_bytes(|key| {
            let hash = self.inner.hash(key)?;
            // The only one, of a container.
            let shard = self.inner.raw.shard_of(hash) & (self.writers.len() - 1);
            let writer = &self.writers[shard];
            writer.ensure_held()?;
            let home = self.inner.home(writer, self.path)?;
            f(At {
                inner: self.inner,
                writer,
                others: &self.writers,
                home,
                hash,
                key,
                found: writer.map(home).find(hash, key)?,
            })
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As [`Dict::get`](crate::Dict::get).
    pub fn get<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        self.at(key, |at| at.value::<V, C>())
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As [`Dict::contains_key`](crate::Dict::contains_key).
    pub fn contains_key<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        self.at(key, |at| Ok(at.record().is_some()))
    }

    /// Stores a value; gives the one that the key had.
    ///
    /// # Errors
    /// As [`Dict::insert`](crate::Dict::insert).
    pub fn insert(&mut self, key: &K, value: &V) -> Result<Option<V>, DictError> {
        let mut before = None;
        self.at(key, |at| at.replace::<V, C>(value, &mut before))?;
        Ok(before)
    }

    /// Stores a value.
    ///
    /// # Errors
    /// As [`Dict::set`](crate::Dict::set).
    pub fn set<Q: KeyBytes + ?Sized>(&mut self, key: &Q, value: &V) -> Result<(), DictError>
    where
        K: Borrow<Q>,
    {
        with_encoded::<V, C, _>(self.inner, value, |value| {
            self.at(key, |at| at.store(value))
        })
    }

    /// Takes a key out; `false` if it is not there.
    ///
    /// # Errors
    /// As [`Dict::remove`](crate::Dict::remove).
    pub fn remove<Q: KeyBytes + ?Sized>(&mut self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        self.at(key, |at| at.remove())
    }

    /// Takes a key out, and gives its value.
    ///
    /// # Errors
    /// As [`Dict::pop`](crate::Dict::pop).
    pub fn pop<Q: KeyBytes + ?Sized>(&mut self, key: &Q) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        let mut before = None;
        self.at(key, |at| at.take::<V, C>(&mut before))?;
        Ok(before)
    }

    /// Reads, computes and writes back.
    ///
    /// # Errors
    /// As [`Dict::modify`](crate::Dict::modify).
    pub fn modify<Q: KeyBytes + ?Sized>(
        &mut self,
        key: &Q,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        let (mut f, mut after) = (Some(f), None);
        self.at(key, |at| at.modify::<V, C>(&mut f, &mut after))?;
        Ok(after)
    }

    /// Adds to a number; gives what it was before.
    ///
    /// # Errors
    /// As [`Dict::fetch_add`](crate::Dict::fetch_add).
    pub fn fetch_add<Q: KeyBytes + ?Sized>(&mut self, key: &Q, by: V) -> Result<V, DictError>
    where
        K: Borrow<Q>,
        V: Number,
    {
        self.at(key, |at| at.fetch_add::<V, C>(by))
    }

    /// The value of a key, which is stored first if the key is not there.
    ///
    /// # Errors
    /// As [`Dict::setdefault`](crate::Dict::setdefault).
    pub fn setdefault(&mut self, key: &K, default: V) -> Result<V, DictError> {
        let value = self.at(key, |at| at.value_or::<V, C>(&default))?;
        Ok(value.unwrap_or(default))
    }

    /// How many entries there are: exact.
    #[must_use]
    pub fn len(&self) -> usize {
        let homes = self
            .writers
            .iter()
            .map(|writer| self.inner.home(writer, self.path));
        // What was there when it was locked is there.
        let counts = homes.map(|home| home.map_or(0, |home| home.entries()));
        counts.fold(0, u64::wrapping_add) as usize
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries.
    ///
    /// # Errors
    /// As [`Dict::snapshot`](crate::Dict::snapshot).
    pub fn items(&self) -> Result<Vec<(K, V)>, DictError> {
        let mut key = Vec::new();
        self.records(|record| Ok((key_of(record, &mut key)?, decode::<V, C>(record)?)))
    }

    /// All keys; those of containers too.
    ///
    /// # Errors
    /// As [`items`](Self::items) but for `WrongKind`.
    pub fn keys(&self) -> Result<Vec<K>, DictError> {
        let mut key = Vec::new();
        self.records(|record| key_of(record, &mut key))
    }

    /// All values.
    ///
    /// # Errors
    /// As [`items`](Self::items).
    pub fn values(&self) -> Result<Vec<V>, DictError> {
        self.records(decode::<V, C>)
    }

    /// What `take` makes of each record.
    fn records<R>(
        &self,
        mut take: impl FnMut(Record<'_>) -> Result<R, DictError>,
    ) -> Result<Vec<R>, DictError> {
        let (mut taken, most) = (Vec::new(), self.inner.segment.size());
        for writer in &self.writers {
            writer.ensure_held()?;
            let map = writer.map(self.inner.home(writer, self.path)?);
            for record in map.records()? {
                // Not for more than there may be, of words that somebody else wrote.
                grow(&mut taken, 1, most / size_of::<R>().max(1));
                taken.push(take(record?)?);
            }
        }
        Ok(taken)
    }

    /// Takes all entries out, in one step.
    ///
    /// # Errors
    /// As [`Dict::clear`](crate::Dict::clear).
    pub fn clear(&mut self) -> Result<(), DictError> {
        self.writers.iter().try_for_each(Writer::ensure_held)?;
        self.inner.clear(&self.writers, self.path)
    }
}

/// The key of a record, by way of a buffer.
fn key_of<K: ShmKey>(record: Record<'_>, buffer: &mut Vec<u8>) -> Result<K, DictError> {
    record.key().copy_to(buffer);
    K::from_key_bytes(buffer)
}
