//! A key under the lock of its shard.

use shm_core::codec::Codec;

use crate::buffer::{decode, value_of, with_encoded};
use crate::error::DictError;
use crate::inner::Inner;
use crate::number::Number;
use crate::raw::{Found, Home, Map, Record, Refused, Value, Writer};

/// A key, and where it is or would go. What is called seldom takes it by value: what nobody has a reference to need not
/// be in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a, 'w> {
    pub(crate) inner: &'a Inner,
    pub(crate) writer: &'a Writer<'w>,
    /// Other shards whose locks are held: who holds them finds room there, nobody else does.
    pub(crate) others: &'a [Writer<'w>],
    pub(crate) home: Home<'w>,
    pub(crate) hash: u64,
    pub(crate) key: &'a [u8],
    pub(crate) found: Found<'w>,
}

impl<'w> At<'_, 'w> {
    #[inline(always)]
    pub(crate) fn map(&self) -> Map<'_, 'w> {
        self.writer.map(self.home)
    }

    /// What the key has, if it is there.
    #[inline]
    pub(crate) fn record(&self) -> Option<Record<'w>> {
        match self.found {
            Found::At { record, .. } => Some(record),
            _ => None,
        }
    }

    /// The key's value, if it is there.
    #[inline(always)]
    pub(crate) fn value<V, C: Codec<V>>(&self) -> Result<Option<V>, DictError> {
        let Some(record) = self.record() else {
            return Ok(None);
        };
        if C::is_always_a_value(value_of(record)?.len()) {
            return decode::<V, C>(record).map(Some);
        }
        // It may run code of the caller's; also where an error drops the value.
        let _inside = self.inner.inside();
        let value = decode::<V, C>(record)?;
        self.writer.ensure_held()?;
        Ok(Some(value))
    }

    /// The value of the key's record, which lies in chunks of the shard whose lock is held.
    pub(crate) fn owned(self, record: Record<'w>) -> Result<Value<'w>, DictError> {
        match self.found {
            Found::At { unit, .. } if self.writer.owns(unit, record.bytes()) => value_of(record),
            _ => Err(DictError::Corrupt {
                field: "block of a record",
                value: self.hash,
            }),
        }
    }

    /// Stores an encoded value.
    #[inline(always)]
    pub(crate) fn store(&self, value: &[u8]) -> Result<(), DictError> {
        match self.map().store(self.found, self.hash, self.key, value) {
            Err(Refused::Full { needed, free }) => self.store_after_all(value, needed, free),
            result => Ok(result?),
        }
    }

    /// Stores an encoded value, for which so many bytes were needed, where it was full.
    #[cold]
    fn store_after_all(self, value: &[u8], needed: u64, free: u64) -> Result<(), DictError> {
        if !make_room(self.others)? {
            return Err(Refused::Full { needed, free }.into());
        }
        // The table may be gone, if there was nothing in it.
        let found = self.map().find(self.hash, self.key)?;
        Ok(self.map().store(found, self.hash, self.key, value)?)
    }

    /// Stores a value.
    #[inline(always)]
    pub(crate) fn encode<V, C: Codec<V>>(&self, value: &V) -> Result<(), DictError> {
        if let Some(value) = C::as_encoded(value) {
            self.inner.check_value(value)?;
            return self.store(value);
        }
        // It may run code of the caller's.
        let inside = self.inner.inside();
        with_encoded::<V, C, _>(self.inner, value, |value| {
            drop(inside);
            self.writer.ensure_held()?;
            self.store(value)
        })
    }

    /// Takes the key out; `false` if it is not there.
    pub(crate) fn remove(self) -> Result<bool, DictError> {
        Ok(self.map().remove(self.found)?)
    }

    /// Adds to the value, which counts as 0 if it is not there; gives it as it was.
    #[inline(always)]
    pub(crate) fn fetch_add<V: Number, C: Codec<V>>(&self, by: V) -> Result<V, DictError> {
        let before = self.value::<V, C>()?.unwrap_or_default();
        self.encode::<V, C>(&before.plus(by))?;
        Ok(before)
    }

    /// The value, if it is there; otherwise stores `default`.
    pub(crate) fn value_or<V, C: Codec<V>>(&self, default: &V) -> Result<Option<V>, DictError> {
        let value = self.value::<V, C>()?;
        if value.is_none() {
            self.encode::<V, C>(default)?;
        }
        Ok(value)
    }

    /// The value, if it is there; otherwise stores what `default` gives, and leaves it in `made`, as
    /// [`modify`](Self::modify) does.
    pub(crate) fn value_or_else<V, C: Codec<V>>(
        &self,
        default: &mut Option<impl FnOnce() -> V>,
        made: &mut Option<V>,
    ) -> Result<Option<V>, DictError> {
        let value = self.value::<V, C>()?;
        if value.is_some() {
            return Ok(value);
        }
        if let Some(default) = default.take() {
            let _inside = self.inner.inside();
            *made = Some(default());
        }
        self.writer.ensure_held()?;
        if let Some(made) = made {
            self.encode::<V, C>(made)?;
        }
        Ok(None)
    }

    /// Stores a value; leaves in `before` the one that was there, which the caller drops without the lock.
    pub(crate) fn replace<V, C: Codec<V>>(
        &self,
        value: &V,
        before: &mut Option<V>,
    ) -> Result<(), DictError> {
        *before = self.value::<V, C>()?;
        self.encode::<V, C>(value)
    }

    /// Takes the key out; leaves its value in `before`, as [`replace`](Self::replace) does.
    pub(crate) fn take<V, C: Codec<V>>(&self, before: &mut Option<V>) -> Result<(), DictError> {
        *before = self.value::<V, C>()?;
        self.remove().map(drop)
    }

    /// Stores what `f` makes of the value, and leaves it in `after`: both are dropped without the lock if they are not
    /// used up.
    pub(crate) fn modify<V, C: Codec<V>>(
        &self,
        f: &mut Option<impl FnOnce(Option<V>) -> Option<V>>,
        after: &mut Option<V>,
    ) -> Result<(), DictError> {
        let before = self.value::<V, C>()?;
        if let Some(f) = f.take() {
            let _inside = self.inner.inside();
            *after = f(before);
        }
        self.writer.ensure_held()?;
        match after {
            Some(value) => self.encode::<V, C>(value),
            None => self.remove().map(drop),
        }
    }
}

/// Gives the memory of shards that is of no use to them to all; says whether there may be some.
#[cold]
pub(crate) fn make_room(writers: &[Writer<'_>]) -> Result<bool, DictError> {
    for writer in writers {
        writer.drop_empty_table();
        writer.collect()?;
    }
    Ok(!writers.is_empty())
}
