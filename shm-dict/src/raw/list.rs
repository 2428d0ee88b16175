//! A list, under its shard's lock. Every change is one store: of an item, of the span, or of the root.
//!
//! At the ends and in place nothing is copied; what shifts elements or puts them in another order writes the
//! words of all elements to a new array.

use core::ops::Range;

use shm_core::sync::{AtomicU32, AtomicU64, Ordering};

use super::array::{Array, MAX_LOG};
use super::table::{WIDTH, table_bytes};
use super::{
    Container, Content, Damaged, Fault, Home, Item, RawDict, Record, Refused, Shape, Span,
    TableWord, Value, Writer, record_bytes,
};

/// So many elements before its turn a record is asked for.
pub(super) const AHEAD: usize = 12;

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
    #[inline(always)]
    pub(super) fn element(&self, item: Item) -> Result<Element<'_>, Damaged> {
        match item.value() {
            Some((bytes, len)) => Ok(Element::Short(bytes, len)),
            None => self.record_of(item).map(Element::Record),
        }
    }

    /// The record of an item that is none of a short value.
    #[inline(always)]
    fn record_of(&self, item: Item) -> Result<Record<'_>, Damaged> {
        let unit = item.unit().ok_or(Damaged {
            field: "item of a list",
            value: item.0,
        })?;
        self.record(unit)
    }
}

impl RawDict {
    /// Asks for the line of an item's record, which is going to be looked at.
    #[inline]
    pub(super) fn approach_item(&self, item: Item) {
        let word = item.unit().and_then(|unit| self.word(unit).ok());
        if let Some(word) = word {
            shm_core::sync::prefetch_to_read(word);
        }
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

    /// Words of its record.
    #[must_use]
    pub const fn words(&self) -> usize {
        match self {
            Self::Short(..) => 0,
            Self::Record(record) => record.bytes() / 8,
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

    /// The array, if there is one, and which of its places have elements: read once.
    fn places(&self) -> Result<Option<(Array<'a>, Span)>, Damaged> {
        match self.array()? {
            Some(array) => Ok(Some((array, array.span()?))),
            None => Ok(None),
        }
    }

    /// The elements' words.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn elements(&self) -> Result<&'a [AtomicU64], Damaged> {
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

    /// Calls `f` with each of some elements, of as many words as the heap has at most.
    ///
    /// # Errors
    /// [`Damaged`], and those of `f`.
    #[inline]
    pub fn each<E: From<Damaged>>(
        &self,
        elements: &[AtomicU64],
        mut f: impl FnMut(Item, Element<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let dict = self.writer.dict;
        let mut left = dict.heap.len();
        for (at, word) in elements.iter().enumerate() {
            if let Some(ahead) = elements.get(at + AHEAD) {
                dict.approach_item(Item(ahead.load(Ordering::Relaxed)));
            }
            let item = Item(word.load(Ordering::Relaxed));
            // Not by `element`, whose result would come through memory.
            let element = match item.value() {
                Some((bytes, len)) => Element::Short(bytes, len),
                None => {
                    let record = dict.record_of(item)?;
                    record.count_down(0, &mut left)?;
                    Element::Record(record)
                }
            };
            f(item, element)?;
        }
        Ok(())
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

    /// An item for a value, which nothing leads to yet. What is not published is given back with the
    /// lock, or before by [`abandon`](Self::abandon).
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
        let (array, span) = match self.places()? {
            Some((array, span)) if has_room(&array, span, items.len()) => (array, span),
            _ => {
                let mut all = self.items()?;
                all.extend_from_slice(items);
                return self.replace(&all);
            }
        };
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
    fn pop(&self, array: Array<'a>, span: Span, index: usize) -> Result<(), Damaged> {
        let Span { start, len } = span;
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
        match self.places()? {
            Some((_, span)) if index >= span.len as usize => Ok(false),
            Some((array, span)) if index == 0 || index + 1 == span.len as usize => {
                self.pop(array, span, index)?;
                Ok(true)
            }
            Some(_) => self.splice(index..index + 1, &[]),
            None => Ok(false),
        }
    }

    /// Puts items in the place of the elements of a range, in one step; `false` if there are not so many.
    ///
    /// # Errors
    /// [`Refused`]; the items are not published then.
    pub fn splice(&self, range: Range<usize>, with: &[Item]) -> Result<bool, Refused> {
        if range == (0..0) && self.push_before(with)? {
            return Ok(true);
        }
        let mut items = self.items()?;
        if items.get(range.clone()).is_none() {
            return Ok(false);
        }
        if range.is_empty() && with.is_empty() {
            return Ok(true);
        }
        let out: Vec<Item> = items.splice(range, with.iter().copied()).collect();
        self.keep(&items, out)?;
        Ok(true)
    }

    /// Puts items before the first element, if there is room.
    fn push_before(&self, items: &[Item]) -> Result<bool, Damaged> {
        let Some((array, Span { start, len })) = self.places()? else {
            return Ok(false);
        };
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

    /// Puts the elements in the opposite order, in one step.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn reverse(&self) -> Result<(), Refused> {
        let elements = self.elements()?;
        // Four at a time: the compiler does not unroll what is atomic.
        let (first, fours) = elements.as_rchunks::<4>();
        self.rewrite(elements.len(), |places| {
            let turn = |to: &[AtomicU64], from: &[AtomicU64]| {
                for (to, from) in to.iter().zip(from.iter().rev()) {
                    // Relaxed: the root's store publishes them.
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            };
            let (to_fours, _) = places.as_chunks::<4>();
            for (to, from) in to_fours.iter().zip(fours.iter().rev()) {
                turn(to, from);
            }
            turn(&places[fours.len() * 4..], first);
        })
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

    /// Writes a new array with these items, and publishes it: the list's own in another order, or what is to stay of
    /// them and new ones.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn replace(&self, items: &[Item]) -> Result<(), Refused> {
        self.rewrite(items.len(), |places| write(places, items))
    }

    /// Has a new array of so many elements written, and publishes it by one store.
    fn rewrite(&self, len: usize, write: impl FnOnce(&[AtomicU64])) -> Result<(), Refused> {
        let old = self.home.table_word();
        let log = log_for(len).ok_or(Refused::TooLong)?;
        let unit = self.writer.allocate(table_bytes(log))?;
        let root = TableWord::new(self.home.epoch, log, unit).ok_or(Damaged {
            field: "array",
            value: unit,
        })?;
        let array = Array::at(self.writer.dict, root)?.ok_or(Damaged {
            field: "array",
            value: root.0,
        })?;
        write(array.places);
        let (start, len) = (0, len as u32);
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
fn has_room(array: &Array<'_>, Span { start, len }: Span, items: usize) -> bool {
    array.places.len() - start as usize - len as usize >= items
}

/// Binary logarithm of the buckets of an array for so many elements, and a quarter more; `None` if there are too many.
fn log_for(len: usize) -> Option<u32> {
    let words = u32::try_from(len).ok()? as usize + len / 4 + 2;
    let log = words.div_ceil(WIDTH).next_power_of_two().ilog2();
    (log <= MAX_LOG).then_some(log)
}

fn items_of(words: &[AtomicU64]) -> Vec<Item> {
    let mut items = vec![Item(0); words.len()];
    load(words, &mut items);
    items
}

#[cfg(not(loom))]
fn load(words: &[AtomicU64], items: &mut [Item]) {
    assert_eq!(words.len(), items.len());
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
}

#[cfg(loom)]
fn load(words: &[AtomicU64], items: &mut [Item]) {
    for (item, word) in items.iter_mut().zip(words) {
        item.0 = word.load(Ordering::Relaxed);
    }
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
