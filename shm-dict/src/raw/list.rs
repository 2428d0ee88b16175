//! A list, under its shard's lock. Every change is one store: of an item, of the span, or of the root.
//!
//! At the ends and in place nothing is copied; what shifts elements or puts them in another order writes the
//! words of all elements to a new array.

use core::ops::Range;

use shm_core::sync::{AtomicU32, AtomicU64, Ordering};

use super::array::Array;
use super::table::{WIDTH, table_bytes};
use super::{
    Container, Content, Damaged, Fault, Home, Item, RawDict, Record, Refused, Shape, Span,
    TableWord, Value, Writer, record_bytes,
};

/// A list whose shard's lock is held.
#[derive(Clone, Copy, Debug)]
pub struct List<'w, 'a> {
    writer: &'w Writer<'a>,
    home: Home<'a>,
}

/// An element of a list.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    /// A short value, and its length.
    Short([u8; 8], usize),
    /// A value or a container.
    Record(Record<'a>),
}

impl RawDict {
    /// What an item leads to.
    #[inline]
    pub(super) fn element(&self, item: Item) -> Result<Element<'_>, Damaged> {
        if let Some((bytes, len)) = item.value() {
            return Ok(Element::Short(bytes, len));
        }
        let unit = item.unit().ok_or(Damaged {
            field: "item of a list",
            value: item.0,
        })?;
        self.record(unit).map(Element::Record)
    }
}

impl<'a> Element<'a> {
    /// The container, if it is one.
    #[must_use]
    pub fn container(&self) -> Option<Container<'a>> {
        match self {
            Self::Short(..) => None,
            Self::Record(record) => record.container(),
        }
    }

    /// Whether it is so long that a reader had better look again before it believes its length.
    pub(super) const fn is_long(&self) -> bool {
        match self {
            Self::Short(..) => false,
            Self::Record(record) => record.is_long(),
        }
    }

    /// Calls `short` or `long` with the value, if it is one.
    pub fn with_value<R>(
        &self,
        short: impl FnOnce(&[u8]) -> R,
        long: impl FnOnce(Value<'a>) -> R,
    ) -> Option<R> {
        match self {
            Self::Short(bytes, len) => Some(short(&bytes[..*len])),
            Self::Record(record) => record.value().map(long),
        }
    }
}

impl<'a> Writer<'a> {
    /// The list with this root, which is in the shard.
    #[must_use]
    pub const fn list<'w>(&'w self, home: Home<'a>) -> List<'w, 'a> {
        List { writer: self, home }
    }
}

#[allow(clippy::len_without_is_empty, reason = "nobody asks")]
impl<'a> List<'_, 'a> {
    fn array(&self) -> Result<Option<Array<'a>>, Damaged> {
        Array::at(self.writer.dict, self.home.table_word())
    }

    fn elements(&self) -> Result<&'a [AtomicU64], Damaged> {
        match self.array()? {
            Some(array) => array.elements(),
            None => Ok(&[]),
        }
    }

    /// Elements.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn len(&self) -> Result<usize, Damaged> {
        Ok(self.elements()?.len())
    }

    /// An element, if there are so many.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn get(&self, index: usize) -> Result<Option<Element<'a>>, Damaged> {
        match self.elements()?.get(index) {
            Some(word) => {
                // Relaxed: the shard's lock, as everywhere in this file where nothing else is said.
                let item = Item(word.load(Ordering::Relaxed));
                self.writer.dict.element(item).map(Some)
            }
            None => Ok(None),
        }
    }

    /// A copy of the elements' words.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn items(&self) -> Result<Vec<Item>, Damaged> {
        Ok(items_of(self.elements()?))
    }

    /// What an item leads to.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn element(&self, item: Item) -> Result<Element<'a>, Damaged> {
        self.writer.dict.element(item)
    }

    /// The container of this number, which was last seen `near`.
    pub(super) fn container(
        &self,
        id: u64,
        near: &AtomicU32,
    ) -> Result<Option<Container<'a>>, Damaged> {
        let elements = self.elements()?;
        let is_it = |index: usize| -> Result<Option<Container<'a>>, Damaged> {
            let item = Item(elements[index].load(Ordering::Relaxed));
            if item.unit().is_none() {
                return Ok(None);
            }
            let container = self.writer.dict.element(item)?.container();
            Ok(container.filter(|container| container.id() == id))
        };
        let first = near.load(Ordering::Relaxed) as usize;
        let first = (first < elements.len()).then_some(first);
        for index in first.into_iter().chain(0..elements.len()) {
            if let Some(container) = is_it(index)? {
                near.store(index as u32, Ordering::Relaxed);
                return Ok(Some(container));
            }
        }
        Ok(None)
    }

    // ---- new elements ------------------------------------------------------------------------

    /// An item for a value, which nothing leads to yet. What is not published is to be given back with
    /// [`abandon`](Self::abandon).
    ///
    /// # Errors
    /// [`Refused`].
    pub fn new_item(&self, value: &[u8]) -> Result<Item, Refused> {
        match Item::short(value) {
            Some(item) => Ok(item),
            None => self.new_record(Content::value(value)),
        }
    }

    /// An item for an empty container, likewise, and its number.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn new_container(&self, shape: Shape) -> Result<(Item, u64), Refused> {
        let (id, bytes) = self.writer.new_container(shape, self.home)?;
        Ok((self.new_record(Content::container(&bytes))?, id))
    }

    fn new_record(&self, content: Content<'_>) -> Result<Item, Refused> {
        let (writer, version) = (self.writer, self.writer.next_version());
        let unit = writer.allocate_pinned(record_bytes(0, content.bytes.len()))?;
        writer.dict.write_record(unit, &[], content, version)?;
        Ok(Item::record(unit))
    }

    /// Gives back the items that were made and not published.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn abandon(&self) -> Result<(), Damaged> {
        self.writer.free_pinned()
    }

    // ---- changes -----------------------------------------------------------------------------

    /// Stores a value in the place of an element; `false` if there are not so many.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn set(&self, index: usize, value: &[u8]) -> Result<bool, Refused> {
        let Some(word) = self.elements()?.get(index) else {
            return Ok(false);
        };
        let old = Item(word.load(Ordering::Relaxed));
        if let Element::Record(record) = self.writer.dict.element(old)?
            && record.has_room_for(value)
            && Item::short(value).is_none()
        {
            let version = self.writer.next_version();
            record.replace_word(value, version);
            self.writer.has_changed(version);
            return Ok(true);
        }
        let new = self.new_item(value)?;
        self.writer.publish(word, new.0);
        self.has_changed();
        if old.unit().is_some() {
            self.writer.cut_off();
            self.writer.free_items([old].into_iter())?;
        }
        Ok(true)
    }

    /// Puts items behind the last element, all in one step.
    ///
    /// # Errors
    /// [`Refused`]; the items are not published then.
    pub fn push(&self, items: &[Item]) -> Result<(), Refused> {
        if items.is_empty() {
            return Ok(());
        }
        let array = match self.array()? {
            Some(array) if has_room(&array, items.len())? => array,
            _ => return self.splice(self.len()?..self.len()?, items),
        };
        let span = array.span()?;
        let (behind, len) = (span.start + span.len, span.len + items.len() as u32);
        let longer = Span { len, ..span };
        if self.writer.dict.broken(Fault::PublishesTheSpanFirst) {
            array.set_span(self.writer, longer);
        }
        for (word, item) in array.places[behind as usize..].iter().zip(items) {
            // PAIR dict-entry: Release publishes the record.
            self.writer.publish(word, item.0);
        }
        array.set_span(self.writer, longer);
        self.has_changed();
        Ok(())
    }

    /// Takes the first or the last element out, by one store.
    fn pop(&self, array: Array<'a>, index: usize) -> Result<(), Damaged> {
        let Span { start, len } = array.span()?;
        let old = Item(array.places[start as usize + index].load(Ordering::Relaxed));
        let start = if index == 0 { start + 1 } else { start };
        let len = len - 1;
        array.set_span(self.writer, Span { start, len });
        self.has_changed();
        // Also where nothing is freed: the place may be written again before its word is an element's.
        if !self.writer.dict.broken(Fault::ForgetsTheCutOfAPop) {
            self.writer.cut_off();
        }
        self.writer.free_items([old].into_iter())
    }

    /// Takes an element out; `false` if there are not so many.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn remove(&self, index: usize) -> Result<bool, Refused> {
        let len = self.len()?;
        match self.array()? {
            Some(array) if index < len && (index == 0 || index == len - 1) => {
                self.pop(array, index)?;
            }
            _ if index < len => self.splice(index..index + 1, &[])?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Puts items in the place of the elements of a range, which there is, in one step.
    ///
    /// # Errors
    /// [`Refused`]; the items are not published then.
    pub fn splice(&self, range: Range<usize>, with: &[Item]) -> Result<(), Refused> {
        let is_nothing = range.is_empty() && with.is_empty();
        if is_nothing || (range == (0..0) && self.push_before(with)?) {
            return Ok(());
        }
        let mut items = self.items()?;
        let out: Vec<Item> = items.splice(range, with.iter().copied()).collect();
        self.keep(&items, out)
    }

    /// Puts items before the first element, if there is room.
    fn push_before(&self, items: &[Item]) -> Result<bool, Damaged> {
        let Some(array) = self.array()? else {
            return Ok(false);
        };
        let Span { start, len } = array.span()?;
        let Some(first) = (start as usize).checked_sub(items.len()) else {
            return Ok(false);
        };
        for (word, item) in array.places[first..].iter().zip(items) {
            self.writer.publish(word, item.0);
        }
        let (start, len) = (first as u32, len + items.len() as u32);
        array.set_span(self.writer, Span { start, len });
        self.has_changed();
        Ok(true)
    }

    /// Puts the same elements in another order, in one step.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn arrange(&self, items: &[Item]) -> Result<(), Refused> {
        debug_assert_eq!(items.len(), self.len()?);
        self.replace(items)
    }

    /// Keeps some elements and takes the others out, in one step.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn keep(&self, items: &[Item], out: Vec<Item>) -> Result<(), Refused> {
        self.replace(items)?;
        Ok(self.writer.free_items(out.into_iter())?)
    }

    /// Takes all elements out, in one step.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn clear(&self) -> Result<(), Damaged> {
        let items = self.items()?;
        let old = self.home.table_word();
        if old.table().is_none() {
            return Ok(());
        }
        self.publish_root(TableWord::none(self.home.epoch));
        self.writer.free_block_of(old)?;
        self.writer.free_items(items.into_iter())
    }

    /// Writes a new array with these items, and publishes it by one store.
    fn replace(&self, items: &[Item]) -> Result<(), Refused> {
        let old = self.home.table_word();
        let log = log_for(items.len()).ok_or(Refused::TooLong)?;
        let unit = self.writer.allocate(table_bytes(log))?;
        let root = TableWord::new(self.home.epoch, log, unit).ok_or(Damaged {
            field: "array",
            value: unit,
        })?;
        let array = Array::at(self.writer.dict, root)?.ok_or(Damaged {
            field: "array",
            value: root.0,
        })?;
        write(array.places, items);
        let (start, len) = (0, items.len() as u32);
        array.set_span(self.writer, Span { start, len });
        self.publish_root(root);
        Ok(self.writer.free_block_of(old)?)
    }

    fn publish_root(&self, root: TableWord) {
        self.writer.publish(self.home.root, root.0);
        self.has_changed();
        self.writer.cut_off();
    }

    /// Something was published, and with it all that was made for it.
    fn has_changed(&self) {
        self.writer.has_changed(self.writer.next_version());
        self.writer.unpin();
    }
}

/// Whether so many items can go behind the last.
fn has_room(array: &Array<'_>, items: usize) -> Result<bool, Damaged> {
    let Span { start, len } = array.span()?;
    Ok(array.places.len() - start as usize - len as usize >= items)
}

/// Binary logarithm of the buckets of an array for so many elements, and a quarter more; `None` if there are too many.
fn log_for(len: usize) -> Option<u32> {
    let words = u32::try_from(len).ok()? as usize + len / 4 + 2;
    let log = words.div_ceil(WIDTH).next_power_of_two().ilog2();
    // So that places are counted in 32 bits.
    (log <= 28).then_some(log)
}

#[cfg(not(loom))]
fn items_of(words: &[AtomicU64]) -> Vec<Item> {
    let mut items = vec![Item(0); words.len()];
    // SAFETY:
    // - in bounds: as many words as items; mapped as long as the dictionary; aligned;
    // - writers, in any process, store whole words, and the shard's lock is held; any word is an item.
    unsafe {
        shm_core::layout::load_words(
            words.as_ptr().cast(),
            items.as_mut_ptr().cast(),
            words.len() * 8,
        );
    };
    items
}

#[cfg(loom)]
fn items_of(words: &[AtomicU64]) -> Vec<Item> {
    words
        .iter()
        .map(|word| Item(word.load(Ordering::Relaxed)))
        .collect()
}

#[cfg(not(loom))]
fn write(places: &[AtomicU64], items: &[Item]) {
    assert!(items.len() <= places.len());
    let to = places.as_ptr().cast::<u8>().cast_mut();
    // SAFETY:
    // - in bounds, as was just seen; mapped and writable as long as the dictionary; aligned;
    // - no other writer: nothing leads to the block, and the shard's lock is held.
    unsafe { shm_core::layout::store_words(to, items.as_ptr().cast(), items.len() * 8) };
}

#[cfg(loom)]
fn write(places: &[AtomicU64], items: &[Item]) {
    for (word, item) in places.iter().zip(items) {
        // Relaxed: the root's store publishes them.
        word.store(item.0, Ordering::Relaxed);
    }
}
