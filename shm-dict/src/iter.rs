//! Going through a dictionary, a shard at a time.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use shm_core::codec::Codec;

use crate::dict::Types;
use crate::error::DictError;
use crate::inner::Inner;
use crate::key::ShmKey;
use crate::raw::{Path, Record};

/// A key and its value, if it has one and no container.
type Encoded = (Vec<u8>, Option<Vec<u8>>);

/// The entries of a dictionary, from [`Dict::items`](crate::Dict::items). An item is an error if its value cannot be
/// decoded, or if it is a container; the others follow.
pub struct Items<K, V, C> {
    inner: Arc<Inner>,
    path: Option<Arc<Path>>,
    /// Those to be looked at yet.
    shards: Range<usize>,
    /// What is left of the shard before.
    taken: Vec<Encoded>,
    types: Types<K, V, C>,
}

/// The keys of a dictionary, from [`Dict::keys`](crate::Dict::keys).
pub struct Keys<K, V, C>(pub(crate) Items<K, V, C>);

/// The values of a dictionary, from [`Dict::values`](crate::Dict::values).
pub struct Values<K, V, C>(pub(crate) Items<K, V, C>);

impl<K, V, C> Items<K, V, C> {
    pub(crate) fn new(inner: Arc<Inner>, path: Option<Arc<Path>>) -> Self {
        Self {
            shards: inner.shards(path.as_deref()),
            inner,
            path,
            taken: Vec::new(),
            types: PhantomData,
        }
    }

    /// The encoded key and value of the next entry.
    fn next_bytes(&mut self) -> Option<Result<Encoded, DictError>> {
        while self.taken.is_empty() {
            let shard = self.shards.next()?;
            let both = |record: Record<'_>| {
                let mut key = Vec::new();
                record.key().copy_to(&mut key);
                let value = record.value().map(|value| {
                    let mut bytes = Vec::new();
                    value.copy_to(&mut bytes);
                    bytes
                });
                (key, value)
            };
            let path = self.path.as_deref();
            if let Err(error) = self.inner.read_shard(path, shard, &mut self.taken, both) {
                self.taken.clear();
                return Some(Err(error));
            }
        }
        self.taken.pop().map(Ok)
    }
}

impl<K: ShmKey, V, C: Codec<V>> Iterator for Items<K, V, C> {
    type Item = Result<(K, V), DictError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.next_bytes()?;
        Some(entry.and_then(|(key, value)| Ok((K::from_key_bytes(&key)?, decode::<V, C>(value)?))))
    }
}

impl<K: ShmKey, V, C> Iterator for Keys<K, V, C> {
    type Item = Result<K, DictError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.0.next_bytes()?;
        Some(entry.and_then(|(key, _)| K::from_key_bytes(&key)))
    }
}

impl<K, V, C: Codec<V>> Iterator for Values<K, V, C> {
    type Item = Result<V, DictError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.0.next_bytes()?;
        Some(entry.and_then(|(_, value)| decode::<V, C>(value)))
    }
}

fn decode<V, C: Codec<V>>(value: Option<Vec<u8>>) -> Result<V, DictError> {
    let value = value.ok_or_else(|| DictError::no_value(None))?;
    Ok(C::decode(&value)?)
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl<K, V, C> fmt::Debug for $name<K, V, C> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
shown!(Items, Keys, Values);
