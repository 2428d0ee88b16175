//! Containers of dynamic values as one value, with all that is in them.

use crate::Postcard;
use crate::buffer::{decode, decode_element};
use crate::child::{dict_shape, id_of, list_shape};
use crate::dict::Dict;
use crate::dynamic::Dynamic;
use crate::error::DictError;
use crate::inner::Inner;
use crate::key::ShmKey;
use crate::list::List;
use crate::raw::{CONTAINER, Container, Home, Kind, MAX_DEPTH, Writer};

impl Dict<Dynamic, Dynamic> {
    /// A copy of all entries as they are at one instant, with the containers in it: dictionaries and lists of dynamic
    /// values. Takes the locks.
    ///
    /// # Errors
    /// [`WrongKind`](DictError::WrongKind) if there are containers of other types, and those of
    /// [`snapshot`](Self::snapshot).
    ///
    /// # Examples
    /// ```
    /// use shm_core::Place;
    /// use shm_dict::{Dict, Dynamic, List};
    ///
    /// # let name = format!("doc-deep-{}", std::process::id());
    /// let place = Place::named(&name).unlink_on_drop(true);
    /// let outer = Dict::<Dynamic, Dynamic>::create(place, Default::default())?;
    /// let inner: List<Dynamic> = outer.child_list(&Dynamic::from("inner"))?;
    /// inner.extend([Dynamic::from(1), 2.5.into()])?;
    /// assert_eq!(outer.to_dynamic()?.to_string(), "{'inner': [1, 2.5]}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_dynamic(&self) -> Result<Dynamic, DictError> {
        let (path, patience) = (self.path(), self.patience());
        let writers = match path {
            None => self.inner.writers(patience)?,
            Some(path) => vec![self.inner.writer(path.shard, patience)?],
        };
        let mut entries = Vec::new();
        for writer in &writers {
            let home = self.inner.home(writer, path)?;
            entries.append(&mut Copy::of(&self.inner, writer).entries(home)?);
        }
        Ok(Dynamic::dict(entries))
    }
}

impl List<Dynamic> {
    /// A copy of all elements as they are at one instant, with the containers in it, as
    /// [`Dict::to_dynamic`] makes it.
    ///
    /// # Errors
    /// Those of [`Dict::to_dynamic`].
    pub fn to_dynamic(&self) -> Result<Dynamic, DictError> {
        let writer = self.inner.writer(self.shard(), self.patience())?;
        let home = self.inner.home(&writer, self.path())?;
        Ok(Dynamic::list(
            Copy::of(&self.inner, &writer).elements(home)?,
        ))
    }
}

/// A copy that is being made, and what it may still take: a damaged heap must not keep anybody for ever.
struct Copy<'w, 'a> {
    writer: &'w Writer<'a>,
    containers: usize,
    depth: u32,
}

impl<'w, 'a> Copy<'w, 'a> {
    fn of(inner: &Inner, writer: &'w Writer<'a>) -> Self {
        Self {
            writer,
            // Each takes a record.
            containers: inner.layout.heap_len() / (8 * CONTAINER),
            depth: MAX_DEPTH,
        }
    }

    fn entries(&mut self, home: Home<'a>) -> Result<Vec<(Dynamic, Dynamic)>, DictError> {
        let (mut key, mut entries) = (Vec::new(), Vec::new());
        for record in self.writer.map(home).records()? {
            let record = record?;
            record.key().copy_to(&mut key);
            let value = match record.container() {
                Some(container) => self.container(container)?,
                None => decode::<Dynamic, Postcard>(record)?,
            };
            entries.push((Dynamic::from_key_bytes(&key)?, value));
        }
        Ok(entries)
    }

    fn elements(&mut self, home: Home<'a>) -> Result<Vec<Dynamic>, DictError> {
        let list = self.writer.list(home);
        let mut elements = Vec::new();
        for item in list.items()? {
            let element = list.element(item)?;
            elements.push(match element.container() {
                Some(container) => self.container(container)?,
                None => decode_element::<Dynamic, Postcard>(element)?,
            });
        }
        Ok(elements)
    }

    fn container(&mut self, container: Container<'a>) -> Result<Dynamic, DictError> {
        let corrupt = DictError::Corrupt {
            field: "containers inside of others",
            value: container.id(),
        };
        self.containers = self.containers.checked_sub(1).ok_or(corrupt.clone())?;
        self.depth = self.depth.checked_sub(1).ok_or(corrupt)?;
        let home = container.home()?;
        let value = match container.shape()?.kind {
            Kind::Map => {
                id_of(Some(container), dict_shape::<Dynamic, Dynamic, Postcard>())?;
                Dynamic::dict(self.entries(home)?)
            }
            Kind::List => {
                id_of(Some(container), list_shape::<Dynamic, Postcard>())?;
                Dynamic::list(self.elements(home)?)
            }
        };
        self.depth += 1;
        Ok(value)
    }
}
