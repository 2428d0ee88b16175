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
use crate::raw::{Container, Home, Kind, MAX_DEPTH, Writer};

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
        let (mut entries, mut left) = (Vec::new(), words_of(&self.inner));
        for writer in &writers {
            let home = self.inner.home(writer, path)?;
            let mut copy = Copy::of(writer, &mut left);
            entries.append(&mut copy.entries(home)?);
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
        let mut left = words_of(&self.inner);
        let elements = Copy::of(&writer, &mut left).elements(home)?;
        Ok(Dynamic::list(elements))
    }
}

const CYCLE: DictError = DictError::Corrupt {
    field: "containers inside of each other",
    value: 0,
};

/// Words of a heap: in a sound one, each is met once.
fn words_of(inner: &Inner) -> usize {
    inner.raw.heap.len()
}

/// A copy that is being made, and what it may still meet: a damaged heap must not keep anybody for ever.
struct Copy<'w, 'a> {
    writer: &'w Writer<'a>,
    words: &'w mut usize,
    depth: u32,
}

impl<'w, 'a> Copy<'w, 'a> {
    fn of(writer: &'w Writer<'a>, words: &'w mut usize) -> Self {
        Self {
            writer,
            words,
            depth: MAX_DEPTH,
        }
    }

    fn meet(&mut self, words: usize) -> Result<(), DictError> {
        *self.words = self.words.checked_sub(words).ok_or(CYCLE)?;
        Ok(())
    }

    fn entries(&mut self, home: Home<'a>) -> Result<Vec<(Dynamic, Dynamic)>, DictError> {
        let (mut key, mut entries) = (Vec::new(), Vec::new());
        let map = self.writer.map(home);
        self.meet(map.places() as usize)?;
        for record in map.records()? {
            let record = record?;
            self.meet(record.bytes() / 8)?;
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
        let words = list.elements()?;
        self.meet(words.len())?;
        let mut elements = Vec::new();
        list.each(words, |_, element| {
            self.meet(element.words())?;
            elements.push(match element.container() {
                Some(container) => self.container(container)?,
                None => decode_element::<Dynamic, Postcard>(element)?,
            });
            Ok::<_, DictError>(())
        })?;
        Ok(elements)
    }

    fn container(&mut self, container: Container<'a>) -> Result<Dynamic, DictError> {
        self.depth = self.depth.checked_sub(1).ok_or(CYCLE)?;
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
