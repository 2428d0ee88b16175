//! A key under the lock of its shard.

use shm_core::codec::Codec;

use crate::buffer::{decode, with_encoded};
use crate::error::DictError;
use crate::inner::Inner;
use crate::raw::{Found, Record, Writer};

/// A key, and where it is or would go.
#[derive(Debug)]
pub(crate) struct At<'a, 'w> {
    pub(crate) inner: &'a Inner,
    pub(crate) writer: &'a Writer<'w>,
    pub(crate) hash: u64,
    pub(crate) key: &'a [u8],
    pub(crate) found: Found<'w>,
}

impl<'w> At<'_, 'w> {
    /// What the key has, if it is there.
    #[inline]
    pub(crate) fn record(&self) -> Option<Record<'w>> {
        match self.found {
            Found::At { record, .. } => Some(record),
            _ => None,
        }
    }

    /// The key's value, if it is there.
    #[inline]
    pub(crate) fn value<V, C: Codec<V>>(&self) -> Result<Option<V>, DictError> {
        self.record().map(decode::<V, C>).transpose()
    }

    /// Stores an encoded value.
    #[inline]
    pub(crate) fn store(&self, value: &[u8]) -> Result<(), DictError> {
        Ok(self.writer.store(self.found, self.hash, self.key, value)?)
    }

    /// Stores a value.
    #[inline]
    pub(crate) fn encode<V, C: Codec<V>>(&self, value: &V) -> Result<(), DictError> {
        with_encoded::<V, C, _>(self.inner, value, |value| self.store(value))
    }

    /// Takes the key out; `false` if it is not there.
    pub(crate) fn remove(&self) -> Result<bool, DictError> {
        Ok(self.writer.remove(self.found)?)
    }

    /// Stores what `f` makes of the value, and gives it.
    pub(crate) fn modify<V, C: Codec<V>>(
        &self,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, DictError> {
        let before = self.value::<V, C>()?;
        let after = {
            let _inside = self.inner.inside();
            f(before)
        };
        self.writer.ensure_held()?;
        match &after {
            Some(value) => self.encode::<V, C>(value)?,
            None => {
                self.remove()?;
            }
        }
        Ok(after)
    }
}
