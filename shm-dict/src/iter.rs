//! Going through a dictionary, a shard at a time.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use shm_core::codec::Codec;

use crate::buffer::{Cursor, Row};
use crate::dict::Types;
use crate::error::DictError;
use crate::inner::Inner;
use crate::key::ShmKey;
use crate::raw::{Path, Record};

/// The entries of a dictionary, from [`Dict::items`](crate::Dict::items). An item is an error if its value cannot be
/// decoded, or if it is a container; the others follow.
pub struct Items<K, V, C> {
    inner: Arc<Inner>,
    path: Option<Arc<Path>>,
    /// Those to be looked at yet.
    shards: Range<usize>,
    /// Whether keys are asked for, and whether values are.
    parts: [bool; 2],
    /// What was asked for of the shard before.
    row: Row,
    /// How far it was given.
    cursor: Cursor,
    types: Types<K, V, C>,
}

/// The keys of a dictionary, from [`Dict::keys`](crate::Dict::keys).
pub struct Keys<K, V, C>(Items<K, V, C>);

/// The values of a dictionary, from [`Dict::values`](crate::Dict::values).
pub struct Values<K, V, C>(Items<K, V, C>);

impl<K, V, C> Items<K, V, C> {
    pub(crate) fn new(inner: Arc<Inner>, path: Option<Arc<Path>>) -> Self {
        Self {
            shards: inner.shards(path.as_deref()),
            inner,
            path,
            parts: [true; 2],
            row: Row::default(),
            cursor: Cursor::default(),
            types: PhantomData,
        }
    }

    /// Without the values.
    pub(crate) fn keys(self) -> Keys<K, V, C> {
        Keys(Self {
            parts: [true, false],
            ..self
        })
    }

    /// Without the keys.
    pub(crate) fn values(self) -> Values<K, V, C> {
        Values(Self {
            parts: [false, true],
            ..self
        })
    }

    /// Sees to it that there is an entry in the row; `None` at the end.
    fn fill(&mut self) -> Option<Result<(), DictError>> {
        while self.row.is_at_end(&self.cursor) {
            let shard = self.shards.next()?;
            let [keys, values] = self.parts;
            let push = |row: &mut Row, record: Record<'_>| {
                if keys {
                    row.push_value(Some(record.key()));
                }
                if values {
                    row.push_value(record.value());
                }
            };
            let path = self.path.as_deref();
            let filled = self.inner.read_shard(path, shard, &mut self.row, push);
            self.cursor = Cursor::default();
            if let Err(error) = filled {
                self.row = Row::default();
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }
}

impl<K: ShmKey, V, C> Items<K, V, C> {
    fn key(&mut self) -> Result<K, DictError> {
        let key = self.row.next(&mut self.cursor).flatten();
        K::from_key_bytes(key.unwrap_or_default())
    }
}

impl<K, V, C: Codec<V>> Items<K, V, C> {
    fn value(&mut self) -> Result<V, DictError> {
        let value = self.row.next(&mut self.cursor).flatten();
        let value = value.ok_or_else(|| DictError::no_value(None))?;
        Ok(C::decode(value)?)
    }
}

impl<K: ShmKey, V, C: Codec<V>> Iterator for Items<K, V, C> {
    type Item = Result<(K, V), DictError>;

    fn next(&mut self) -> Option<Self::Item> {
        let filled = self.fill()?;
        Some(filled.and_then(|()| {
            // Both are passed by, also where one of them is none.
            let (key, value) = (self.key(), self.value());
            Ok((key?, value?))
        }))
    }
}

impl<K: ShmKey, V, C> Iterator for Keys<K, V, C> {
    type Item = Result<K, DictError>;

    fn next(&mut self) -> Option<Self::Item> {
        let filled = self.0.fill()?;
        Some(filled.and_then(|()| self.0.key()))
    }
}

impl<K, V, C: Codec<V>> Iterator for Values<K, V, C> {
    type Item = Result<V, DictError>;

    fn next(&mut self) -> Option<Self::Item> {
        let filled = self.0.fill()?;
        Some(filled.and_then(|()| self.0.value()))
    }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use shm_core::sync::Ordering;
    use shm_core::{Place, Region};
    use shm_lock::Patience;

    use crate::raw::{Entry, Found, TableWord};
    use crate::{Bytes, Dict, Options};

    /// Places that lead to the one empty record.
    const PLACES: usize = 33_000;

    /// Half of its heap is a table, and most of its places lead to the same record.
    fn hostile() -> Dict<String, Vec<u8>, Bytes> {
        let options = Options::new().max_bytes(1 << 20).shards(1);
        let dict = Dict::create(Place::region(Region::heap(2 << 20)), options).unwrap();
        dict.set("", &Vec::new()).unwrap();
        let raw = &dict.inner.raw;
        let writer = dict.inner.writer(0, Patience::Endless).unwrap();
        let hash = raw.hash(b"");
        let Found::At { unit, .. } = writer.top().find(hash, b"").unwrap() else {
            panic!("it was just stored");
        };
        let half = raw.heap.len() / 2;
        for word in &raw.heap[half..half + PLACES] {
            word.store(Entry::new(hash, unit).0, Ordering::Relaxed);
        }
        let table = TableWord::new(0, (half / 8).ilog2(), half as u64 / 2).unwrap();
        raw.shards[0].table.store(table.0, Ordering::Release);
        drop(writer);
        dict
    }

    #[test]
    fn whatever_a_table_leads_to_takes_no_more_memory_than_the_segment_has() {
        let dict = hostile();
        let size = dict.segment().size();
        let mut items = dict.items();
        assert_eq!(items.next(), Some(Ok((String::new(), Vec::new()))));
        let (bytes, ends) = items.row.room();
        assert!(bytes <= size && ends <= size, "{bytes} and {ends} bytes");
        assert_eq!(items.map(Result::unwrap).count(), PLACES - 1);
        let (keys, values) = (dict.keys(), dict.values());
        assert_eq!(keys.map(Result::unwrap).count(), PLACES);
        assert_eq!(values.map(Result::unwrap).count(), PLACES);
        let all = dict.lock().unwrap().items().unwrap();
        assert_eq!(all.len(), PLACES);
        assert!(all.capacity() <= PLACES + PLACES / 4, "{}", all.capacity());
    }

    #[test]
    fn keys_are_copied_without_the_values() {
        let place = Place::region(Region::heap(2 << 20));
        let dict = Dict::<u8, Vec<u8>, Bytes>::create(place, Options::new().max_bytes(1 << 20));
        let dict = dict.unwrap();
        dict.set(&1, &vec![2; 100_000]).unwrap();
        let mut keys = dict.keys();
        assert_eq!(keys.next(), Some(Ok(1)));
        assert!(keys.0.row.room().0 < 100, "{:?}", keys.0.row.room());
        assert_eq!(keys.next(), None);
    }
}
