//! Several keys changed together.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;

use shm_core::codec::Codec;

use crate::at::make_room;
use crate::buffer::{decode, with_encoded};
use crate::dict::{Dict, Types};
use crate::error::DictError;
use crate::inner::Inner;
use crate::key::{KeyBytes, ShmKey};
use crate::raw::{Change, Found, Map, Refused, Writer};

/// What is to become of a key.
#[derive(Debug)]
enum Plan {
    Keep,
    Set(Vec<u8>),
    Remove,
}

/// One of the keys.
#[derive(Debug)]
struct Named {
    key: Vec<u8>,
    hash: u64,
    /// Its shard's, among the maps.
    map: usize,
    plan: Plan,
}

/// Several keys of a dictionary, from [`Dict::transaction`]: what is stored here is seen here, and by all others when
/// the transaction is over.
pub struct Transaction<'t, K, V, C> {
    inner: &'t Inner,
    maps: &'t [Map<'t, 't>],
    writers: &'t [Writer<'t>],
    keys: Vec<Named>,
    types: Types<K, V, C>,
}

impl<K, V, C> fmt::Debug for Transaction<'_, K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl<K: ShmKey, V, C: Codec<V>> Dict<K, V, C> {
    /// Changes several keys together or not at all: calls `f`, which works with these keys through what it is given, under
    /// the locks of their shards; then all that it stored is there at once. If it gives an error, nothing was
    /// changed.
    ///
    /// Others that write to these shards wait meanwhile. A [`get`](Self::get) may see the transaction half done, while it
    /// is being written or after a death in it, until the next writer in one of these shards; [`snapshot`](Self::snapshot),
    /// [`lock`](Self::lock) and other transactions never do.
    ///
    /// # Errors
    /// What `f` gives; [`NotInTransaction`](DictError::NotInTransaction) from calls with other keys than these; those of
    /// [`set`](Self::set). To write it down takes 16 bytes for each key that is changed.
    ///
    /// # Peer death
    /// Killed before the one store that commits, nothing was changed. After it, whoever finds one of the locks orphaned
    /// finishes it first, under all locks.
    ///
    /// # Examples
    /// ```
    /// use shm_core::Place;
    /// use shm_dict::{Dict, DictError};
    ///
    /// # let name = format!("doc-transaction-{}", std::process::id());
    /// let place = Place::named(&name).unlink_on_drop(true);
    /// let accounts = Dict::<String, i64>::create(place, Default::default())?;
    /// accounts.set("Ada", &100)?;
    /// accounts.set("Bob", &0)?;
    /// accounts.transaction(&["Ada", "Bob"], |keys| {
    ///     keys.modify("Ada", |balance| balance.map(|balance| balance - 30))?;
    ///     keys.modify("Bob", |balance| balance.map(|balance| balance + 30))?;
    ///     Ok::<(), DictError>(())
    /// })?;
    /// assert_eq!((accounts.get("Ada")?, accounts.get("Bob")?), (Some(70), Some(30)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transaction<Q, R, E>(
        &self,
        keys: &[&Q],
        f: impl FnOnce(&mut Transaction<'_, K, V, C>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        Q: KeyBytes + ?Sized,
        K: Borrow<Q>,
        E: From<DictError>,
    {
        // An error is made the caller's without the locks.
        self.transact(keys, f)?
    }

    fn transact<Q, R, E>(
        &self,
        keys: &[&Q],
        f: impl FnOnce(&mut Transaction<'_, K, V, C>) -> Result<R, E>,
    ) -> Result<Result<R, E>, DictError>
    where
        Q: KeyBytes + ?Sized,
        K: Borrow<Q>,
    {
        let inner = &*self.inner;
        let mut keys = named(inner, keys)?;
        let shard = |named: &Named| match self.path() {
            Some(path) => path.shard,
            None => inner.raw.shard_of(named.hash),
        };
        let mut shards: Vec<usize> = keys.iter().map(shard).collect();
        shards.sort_unstable();
        shards.dedup();
        // Before the locks: where an error drops it, they are given back.
        let result;
        let writers = inner.writers_of(&shards, self.patience())?;
        let mut maps = Vec::new();
        for writer in &writers {
            maps.push(writer.map(inner.home(writer, self.path())?));
        }
        for named in &mut keys {
            named.map = shards.partition_point(|other| *other < shard(named));
        }
        let mut transaction = Transaction {
            inner,
            maps: &maps,
            writers: &writers,
            keys,
            types: std::marker::PhantomData,
        };
        result = {
            let _inside = inner.inside();
            f(&mut transaction)
        };
        if result.is_ok() {
            transaction.commit()?;
        }
        Ok(result)
    }
}

/// Each key once.
fn named<Q: KeyBytes + ?Sized>(inner: &Inner, keys: &[&Q]) -> Result<Vec<Named>, DictError> {
    let named = |key: &&Q| {
        key.with_key_bytes(|key| {
            Ok(Named {
                key: key.to_vec(),
                hash: inner.hash(key)?,
                map: 0,
                plan: Plan::Keep,
            })
        })
    };
    let mut keys: Vec<Named> = keys.iter().map(named).collect::<Result<_, _>>()?;
    keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    keys.dedup_by(|a, b| a.key == b.key);
    Ok(keys)
}

impl<K: ShmKey, V, C: Codec<V>> Transaction<'_, K, V, C> {
    /// The index of a key.
    fn index<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<usize, DictError> {
        key.with_key_bytes(|key| {
            let found = self.keys.binary_search_by(|named| (*named.key).cmp(key));
            found.map_err(|_| DictError::NotInTransaction)
        })
    }

    /// Where a key is in the dictionary.
    fn found(&self, named: &Named) -> Result<Found<'_>, DictError> {
        self.writers[named.map].ensure_held()?;
        Ok(self.maps[named.map].find(named.hash, &named.key)?)
    }

    /// The value of a key, as it is to be.
    ///
    /// # Errors
    /// [`NotInTransaction`](DictError::NotInTransaction), and those of [`Dict::get`].
    pub fn get<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        let named = &self.keys[self.index(key)?];
        match (&named.plan, self.found(named)?) {
            (Plan::Set(value), _) => Ok(Some(C::decode(value)?)),
            (Plan::Keep, Found::At { record, .. }) => decode::<V, C>(record).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether a key is to be there.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), but for `Codec`.
    pub fn contains_key<Q: KeyBytes + ?Sized>(&self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        let named = &self.keys[self.index(key)?];
        Ok(match &named.plan {
            Plan::Set(_) => true,
            Plan::Keep => matches!(self.found(named)?, Found::At { .. }),
            Plan::Remove => false,
        })
    }

    /// Stores a value.
    ///
    /// # Errors
    /// [`NotInTransaction`](DictError::NotInTransaction), [`ValueTooLong`](DictError::ValueTooLong),
    /// [`Codec`](DictError::Codec).
    pub fn set<Q: KeyBytes + ?Sized>(&mut self, key: &Q, value: &V) -> Result<(), DictError>
    where
        K: Borrow<Q>,
    {
        let index = self.index(key)?;
        let value = with_encoded::<V, C, _>(self.inner, value, |value| Ok(value.to_vec()))?;
        self.keys[index].plan = Plan::Set(value);
        Ok(())
    }

    /// Takes a key out; `false` if it is not there.
    ///
    /// # Errors
    /// Those of [`contains_key`](Self::contains_key).
    pub fn remove<Q: KeyBytes + ?Sized>(&mut self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        let was_there = self.contains_key(key)?;
        let index = self.index(key)?;
        self.keys[index].plan = Plan::Remove;
        Ok(was_there)
    }

    /// Stores what `f` makes of a value, or of none; `None` takes the key out. Gives what was stored.
    ///
    /// # Errors
    /// Those of [`get`](Self::get) and [`set`](Self::set).
    pub fn modify<Q: KeyBytes + ?Sized>(
        &mut self,
        key: &Q,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        let value = f(self.get(key)?);
        match &value {
            Some(value) => self.set(key, value)?,
            None => {
                self.remove(key)?;
            }
        }
        Ok(value)
    }

    /// Makes all changes, in one step.
    fn commit(self) -> Result<(), DictError> {
        self.writers.iter().try_for_each(Writer::ensure_held)?;
        match self.try_commit() {
            Err(Refused::Full { .. }) if make_room(self.writers)? => Ok(self.try_commit()?),
            result => Ok(result?),
        }
    }

    fn try_commit(&self) -> Result<(), Refused> {
        self.make_places()?;
        let changes = self.prepare();
        let result = changes.and_then(|changes| self.inner.raw.commit(&changes));
        if result.is_err() {
            self.maps.iter().try_for_each(Map::abandon)?;
        }
        result
    }

    /// Sees to it that the tables have places for the keys that are new.
    fn make_places(&self) -> Result<(), Refused> {
        let mut new_keys = vec![0; self.maps.len()];
        for named in &self.keys {
            let found = self.maps[named.map].find(named.hash, &named.key)?;
            let is_new = !matches!(found, Found::At { .. });
            new_keys[named.map] += usize::from(is_new && matches!(named.plan, Plan::Set(_)));
        }
        let mut maps = self.maps.iter().zip(new_keys);
        maps.try_for_each(|(map, new_keys)| map.make_places(new_keys))
    }

    fn prepare(&self) -> Result<Vec<Change<'_, '_>>, Refused> {
        let (mut changes, mut taken) = (Vec::new(), HashSet::new());
        for named in &self.keys {
            let value = match &named.plan {
                Plan::Keep => continue,
                Plan::Set(value) => Some(&**value),
                Plan::Remove => None,
            };
            let map = &self.maps[named.map];
            changes.extend(map.prepare(named.hash, &named.key, value, &mut taken)?);
        }
        Ok(changes)
    }
}
