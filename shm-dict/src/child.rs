//! Containers inside of others: how a handle comes by its way.

use std::borrow::Borrow;
use std::cell::Cell;
use std::sync::Arc;

use shm_core::codec::Codec;
use shm_core::sync::AtomicU32;

use crate::dict::{self, Dict};
use crate::error::DictError;
use crate::key::{KeyBytes, ShmKey};
use crate::list::{self, List};
use crate::raw::{self, Container, Element, Found, Kind, Path, Record, Shape, Step, Way};

/// What is expected of a container, or made.
fn shape_of(kind: Kind, type_name: &str) -> Shape {
    Shape {
        kind,
        types: raw::hash([0; 2], type_name.as_bytes()),
    }
}

pub(crate) fn dict_shape<K, V, C: Codec<V>>() -> Shape {
    shape_of(Kind::Map, &dict::type_name::<K, V, C>())
}

pub(crate) fn list_shape<T, C: Codec<T>>() -> Shape {
    shape_of(Kind::List, &list::type_name::<T, C>())
}

/// The number of a container, if it is what is expected.
pub(crate) fn id_of(container: Option<Container<'_>>, expected: Shape) -> Result<u64, DictError> {
    let name = |kind| match kind {
        Kind::Map => "a dictionary",
        Kind::List => "a list",
    };
    let wrong = |found| DictError::WrongKind {
        expected: name(expected.kind),
        found,
    };
    let container = container.ok_or(wrong("a value"))?;
    match container.shape()? {
        found if found == expected => Ok(container.id()),
        found if found.kind == expected.kind => Err(wrong("one of other types")),
        found => Err(wrong(name(found.kind))),
    }
}

impl<K: ShmKey, V, C: Codec<V>> Dict<K, V, C> {
    /// The dictionary under a key, which is made if the key is not there. It is changed in place, through any handle to
    /// it, and goes with its key: then handles to it and to what is in it give [`Stale`](DictError::Stale).
    ///
    /// All that is in a container is in the shard of the key that leads there from the outermost one, under its
    /// lock. Operations that are said to be about the segment are about the whole.
    ///
    /// What works with the values of the outer dictionary passes by a container: [`get`](Self::get) and
    /// [`pop`](Self::pop) of its key and an item of [`items`](Self::items) are [`WrongKind`](DictError::WrongKind);
    /// [`popitem`](Self::popitem) and [`retain`](Self::retain) leave it where it is; [`snapshot`](Self::snapshot) and
    /// [`drain`](Self::drain) refuse. It is seen by [`contains_key`](Self::contains_key), [`keys`](Self::keys),
    /// [`len`](Self::len) and [`to_dynamic`](Dict::to_dynamic), and goes with [`remove`](Self::remove),
    /// [`set`](Self::set) and [`clear`](Self::clear).
    ///
    /// # Errors
    /// [`WrongKind`](DictError::WrongKind) if there is something else, [`TooDeep`](DictError::TooDeep),
    /// [`Busy`](DictError::Busy) as from [`get`](Self::get), and those of [`set`](Self::set).
    ///
    /// # Examples
    /// ```
    /// use shm_core::Place;
    /// use shm_dict::{Dict, List};
    ///
    /// # let name = format!("doc-child-{}", std::process::id());
    /// let place = Place::named(&name).unlink_on_drop(true);
    /// let settings = Dict::<String, u32>::create(place, Default::default())?;
    /// settings.set("retries", &3)?;
    /// let colours: Dict<String, String> = settings.child_dict("colours")?;
    /// colours.set("sky", &"blue".to_owned())?;
    /// let hosts: List<String> = settings.child_list("hosts")?;
    /// hosts.push(&"alpha".to_owned())?;
    ///
    /// let again: List<String> = settings.child_list("hosts")?;
    /// assert_eq!(again.get(0)?.as_deref(), Some("alpha"));
    /// settings.remove("hosts")?;
    /// assert!(hosts.get(0).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn child_dict<Q, K2, V2, C2>(&self, key: &Q) -> Result<Dict<K2, V2, C2>, DictError>
    where
        Q: KeyBytes + ?Sized,
        K: Borrow<Q>,
        K2: ShmKey,
        C2: Codec<V2>,
    {
        let path = self.child(key, dict_shape::<K2, V2, C2>())?;
        Ok(Dict::at(Arc::clone(&self.inner), Some(path), self.timeout))
    }

    /// As [`child_dict`](Self::child_dict), of a list.
    ///
    /// # Errors
    /// Those of [`child_dict`](Self::child_dict).
    pub fn child_list<Q, T, C2>(&self, key: &Q) -> Result<List<T, C2>, DictError>
    where
        Q: KeyBytes + ?Sized,
        K: Borrow<Q>,
        C2: Codec<T>,
    {
        let path = self.child(key, list_shape::<T, C2>())?;
        Ok(List::at(Arc::clone(&self.inner), Some(path), self.timeout))
    }

    /// The dictionary under a key, if the key is there.
    ///
    /// # Errors
    /// Those of [`child_dict`](Self::child_dict) and of [`get`](Self::get).
    pub fn find_child_dict<Q, K2, V2, C2>(
        &self,
        key: &Q,
    ) -> Result<Option<Dict<K2, V2, C2>>, DictError>
    where
        Q: KeyBytes + ?Sized,
        K: Borrow<Q>,
        K2: ShmKey,
        C2: Codec<V2>,
    {
        let path = self.find_child(key, dict_shape::<K2, V2, C2>())?;
        Ok(path.map(|path| Dict::at(Arc::clone(&self.inner), Some(path), self.timeout)))
    }

    /// The list under a key, if the key is there.
    ///
    /// # Errors
    /// Those of [`find_child_dict`](Self::find_child_dict).
    pub fn find_child_list<Q, T, C2>(&self, key: &Q) -> Result<Option<List<T, C2>>, DictError>
    where
        Q: KeyBytes + ?Sized,
        K: Borrow<Q>,
        C2: Codec<T>,
    {
        let path = self.find_child(key, list_shape::<T, C2>())?;
        Ok(path.map(|path| List::at(Arc::clone(&self.inner), Some(path), self.timeout)))
    }

    fn child<Q: KeyBytes + ?Sized>(&self, key: &Q, shape: Shape) -> Result<Arc<Path>, DictError>
    where
        K: Borrow<Q>,
    {
        if let Some(path) = self.find_child(key, shape)? {
            return Ok(path);
        }
        self.locked(key, |at| {
            let id = match at.found {
                Found::At { record, .. } => id_of(record.container(), shape)?,
                found => at.map().put_container(found, at.hash, at.key, shape)?,
            };
            Ok(self.way_to(at.hash, at.key, id))
        })
    }

    fn find_child<Q: KeyBytes + ?Sized>(
        &self,
        key: &Q,
        shape: Shape,
    ) -> Result<Option<Arc<Path>>, DictError>
    where
        K: Borrow<Q>,
    {
        key.with_key_bytes(|key| {
            let id = |record: Record<'_>| id_of(record.container(), shape);
            let Some(id) = self.inner.read(self.path(), key, id)? else {
                return Ok(None);
            };
            Ok(Some(self.way_to(self.inner.hash(key)?, key, id?)))
        })
    }

    fn way_to(&self, hash: u64, key: &[u8], id: u64) -> Arc<Path> {
        let shard = match self.path() {
            Some(path) => path.shard,
            None => self.inner.raw.shard_of(hash),
        };
        let way = Way::key(hash, key);
        Arc::new(Path::join(self.path(), shard, Step { id, way }))
    }
}

impl<T, C: Codec<T>> List<T, C> {
    /// The dictionary that is an element; see [`Dict::child_dict`]. Its handle follows it wherever in the list it goes.
    ///
    /// # Errors
    /// [`IndexOutOfRange`](DictError::IndexOutOfRange), [`WrongKind`](DictError::WrongKind), and those of
    /// [`get`](Self::get).
    pub fn child_dict<K2, V2, C2>(&self, index: usize) -> Result<Dict<K2, V2, C2>, DictError>
    where
        K2: ShmKey,
        C2: Codec<V2>,
    {
        let path = self.child(index, dict_shape::<K2, V2, C2>())?;
        Ok(Dict::at(Arc::clone(&self.inner), Some(path), self.timeout))
    }

    /// The list that is an element; likewise.
    ///
    /// # Errors
    /// Those of [`child_dict`](Self::child_dict).
    pub fn child_list<T2, C2>(&self, index: usize) -> Result<List<T2, C2>, DictError>
    where
        C2: Codec<T2>,
    {
        let path = self.child(index, list_shape::<T2, C2>())?;
        Ok(List::at(Arc::clone(&self.inner), Some(path), self.timeout))
    }

    /// Puts an empty dictionary behind the last element.
    ///
    /// # Errors
    /// [`TooDeep`](DictError::TooDeep), and those of [`push`](Self::push).
    pub fn push_dict<K2, V2, C2>(&self) -> Result<Dict<K2, V2, C2>, DictError>
    where
        K2: ShmKey,
        C2: Codec<V2>,
    {
        let path = self.push_child(dict_shape::<K2, V2, C2>())?;
        Ok(Dict::at(Arc::clone(&self.inner), Some(path), self.timeout))
    }

    /// Puts an empty list behind the last element.
    ///
    /// # Errors
    /// Those of [`push_dict`](Self::push_dict).
    pub fn push_list<T2, C2>(&self) -> Result<List<T2, C2>, DictError>
    where
        C2: Codec<T2>,
    {
        let path = self.push_child(list_shape::<T2, C2>())?;
        Ok(List::at(Arc::clone(&self.inner), Some(path), self.timeout))
    }

    fn child(&self, index: usize, shape: Shape) -> Result<Arc<Path>, DictError> {
        let (id, len) = (Cell::new(None), Cell::new(0));
        let id_in = |element: Element<'_>| id_of(element.container(), shape);
        let range = index..index.saturating_add(1);
        let look = || {
            let restart = |_, elements| {
                id.set(None);
                len.set(elements);
            };
            let take = |element: Element<'_>| id.set(Some(id_in(element)));
            let (raw, path) = (&self.inner.raw, self.path());
            Ok(raw.look_at_elements(path, range.clone(), restart, take)?)
        };
        self.looked(look, |list| {
            id.set(list.get(index)?.map(id_in));
            len.set(list.len()?);
            Ok(Some(()))
        })?;
        let id = id.into_inner();
        let id = id.ok_or_else(|| list::range_error(index, len.get()))??;
        Ok(self.way_to(index, id))
    }

    fn push_child(&self, shape: Shape) -> Result<Arc<Path>, DictError> {
        self.locked(|list| {
            let (item, id) = list.new_container(shape)?;
            let index = list.len()?;
            list.push(&[item])?;
            Ok(self.way_to(index, id))
        })
    }

    fn way_to(&self, index: usize, id: u64) -> Arc<Path> {
        let shard = self.path().map_or(0, |path| path.shard);
        let way = Way::Element(AtomicU32::new(index as u32));
        Arc::new(Path::join(self.path(), shard, Step { id, way }))
    }
}
