//! A list of values.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use shm_core::codec::{Codec, Postcard};
use shm_core::{Error, Place};

use crate::buffer::{Landing, Row, decode_element, with_encoded};
use crate::error::{CreateError, DictError};
use crate::inner::Inner;
use crate::options::Options;
use crate::raw::{self, Element, Item, Kind, Looked, Path, Refused, Writer};
use crate::sort;

/// Values in a row that processes share; a handle that is cheap to clone.
///
/// It is as [`Dict`](crate::Dict) in all that is not said here: look-ups take no lock, each operation is one step for
/// all others and for who is killed, values are encoded by `C`.
///
/// # What an operation costs
/// The first and the last element are taken out, the last is put in, and any is read or replaced without looking at
/// the others. What shifts elements or puts them in another order (`insert`, `remove`, `splice`, `swap`, `reverse`, the
/// sorts) writes 8 bytes for each element of the list, and needs room for them. A value that is encoded in 7 bytes
/// or less takes no memory but that.
///
/// # Peer death
/// A process killed at any instruction leaves the list as it was before the operation or after it. The next writer
/// finds the lock orphaned and makes the free lists anew; readers notice nothing.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_dict::List;
///
/// # let name = format!("doc-list-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let numbers = List::<u32>::create(place, Default::default())?;
/// numbers.extend(0..10)?;
///
/// let numbers = List::<u32>::open(&name)?; // in another process
/// numbers.reverse()?;
/// assert_eq!(numbers.slice(..3)?, [9, 8, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct List<T, C = Postcard> {
    pub(crate) inner: Arc<Inner>,
    /// Where it is in another container.
    pub(crate) path: Option<Arc<Path>>,
    pub(crate) timeout: Option<Duration>,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T, C> Clone for List<T, C> {
    fn clone(&self) -> Self {
        Self::at(Arc::clone(&self.inner), self.path.clone(), self.timeout)
    }
}

impl<T, C> fmt::Debug for List<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List")
            .field("name", &self.inner.segment.name())
            .finish_non_exhaustive()
    }
}

pub(crate) fn type_name<T, C: Codec<T>>() -> String {
    format!("{} as {}", std::any::type_name::<T>(), C::NAME)
}

/// A list under its lock.
type Locked<'w, 'a> = raw::List<'w, 'a>;

impl<T, C> List<T, C> {
    pub(crate) fn at(
        inner: Arc<Inner>,
        path: Option<Arc<Path>>,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            inner,
            path,
            timeout,
            types: PhantomData,
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(crate) fn shard(&self) -> usize {
        self.path().map_or(0, |path| path.shard)
    }

    /// Calls `f` under the lock.
    pub(crate) fn locked<R>(
        &self,
        f: impl FnOnce(&Locked<'_, '_>) -> Result<R, DictError>,
    ) -> Result<R, DictError> {
        let writer = self.writer()?;
        f(&self.list(&writer)?)
    }

    /// The lock.
    fn writer(&self) -> Result<Writer<'_>, DictError> {
        self.inner.writer(self.shard(), self.patience())
    }

    fn list<'w, 'a>(&self, writer: &'w Writer<'a>) -> Result<Locked<'w, 'a>, DictError> {
        Ok(writer.list(self.inner.home(writer, self.path())?))
    }

    /// What `look` gives without a lock, or `locked` under it.
    pub(crate) fn looked<R>(
        &self,
        look: impl FnMut() -> Result<Looked<R>, DictError>,
        mut locked: impl FnMut(&Locked<'_, '_>) -> Result<Option<R>, DictError>,
    ) -> Result<Option<R>, DictError> {
        let locked = |writer: &Writer<'_>| {
            let home = self.inner.home(writer, self.path())?;
            locked(&writer.list(home))
        };
        self.inner.look_or_lock(self.shard(), look, locked)
    }

    /// Calls `f` with items for the values, which it publishes.
    fn put(
        &self,
        list: &Locked<'_, '_>,
        values: &Row,
        f: impl FnOnce(&[Item]) -> Result<(), Refused>,
    ) -> Result<(), DictError> {
        let items = values.iter().flatten().map(|value| list.new_item(value));
        let items: Result<Vec<Item>, Refused> = items.collect();
        Ok(f(&items?)?)
    }

    /// How many elements there are.
    ///
    /// # Errors
    /// [`Stale`](DictError::Stale), [`Busy`](DictError::Busy) if writers came in the way of each of 1000 rounds of looks
    /// and the lock was not to be had, and what a list says that cannot be used.
    pub fn len(&self) -> Result<usize, DictError> {
        self.inner.elements(self.path())
    }

    /// Whether there are no elements.
    ///
    /// # Errors
    /// Those of [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, DictError> {
        Ok(self.len()? == 0)
    }

    /// Takes an element out, value or container.
    ///
    /// # Errors
    /// [`IndexOutOfRange`](DictError::IndexOutOfRange), and those of [`swap`](Self::swap).
    pub fn remove(&self, index: usize) -> Result<(), DictError> {
        self.locked(|list| match list.remove(index)? {
            true => Ok(()),
            false => Err(no_element(index, list)),
        })
    }

    /// Takes all elements out.
    ///
    /// # Errors
    /// Those of [`swap`](Self::swap), but for `Full`.
    pub fn clear(&self) -> Result<(), DictError> {
        self.locked(|list| Ok(list.clear()?))
    }

    /// Exchanges two elements.
    ///
    /// # Errors
    /// [`IndexOutOfRange`](DictError::IndexOutOfRange), [`Full`](DictError::Full), [`Stale`](DictError::Stale),
    /// [`Timeout`](DictError::Timeout) of a handle from [`within`](Self::within),
    /// [`Reentered`](DictError::Reentered), and what a list says that cannot be used ([`ReadOnly`](DictError::ReadOnly),
    /// [`Corrupt`](DictError::Corrupt), ..). Nothing was changed then.
    pub fn swap(&self, first: usize, second: usize) -> Result<(), DictError> {
        self.locked(|list| {
            let mut items = list.items()?;
            for index in [first, second] {
                if index >= items.len() {
                    return Err(range_error(index, items.len()));
                }
            }
            items.swap(first, second);
            Ok(list.replace(&items)?)
        })
    }

    /// Puts the elements in the opposite order.
    ///
    /// # Errors
    /// Those of [`swap`](Self::swap).
    pub fn reverse(&self) -> Result<(), DictError> {
        self.locked(|list| Ok(list.reverse()?))
    }
}

impl<T, C: Codec<T>> List<T, C> {
    /// Creates a list. It has one shard, whatever the options say.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(place: impl Into<Place>, options: Options) -> Result<Self, CreateError> {
        let inner = Inner::create(place.into(), options.list_shape(), &type_name::<T, C>())?;
        Ok(Self::at(inner, None, None))
    }

    /// Opens a list that exists, with the same type.
    ///
    /// # Errors
    /// As [`Segment::open`](shm_core::Segment::open).
    pub fn open(place: impl Into<Place>) -> Result<Self, Error> {
        let inner = Inner::open(place.into(), Kind::List, &type_name::<T, C>(), false)?;
        Ok(Self::at(inner, None, None))
    }

    /// As [`open`](Self::open), for reading only: the memory is mapped so, and what would write gives
    /// [`ReadOnly`](DictError::ReadOnly).
    ///
    /// # Errors
    /// As [`Segment::open_read_only`](shm_core::Segment::open_read_only).
    pub fn open_read_only(place: impl Into<Place>) -> Result<Self, Error> {
        let inner = Inner::open(place.into(), Kind::List, &type_name::<T, C>(), true)?;
        Ok(Self::at(inner, None, None))
    }

    /// Opens a list, or creates it; whoever is first creates it.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn open_or_create(place: impl Into<Place>, options: Options) -> Result<Self, CreateError> {
        let (shape, name) = (options.list_shape(), type_name::<T, C>());
        Ok(Self::at(
            Inner::open_or_create(place.into(), shape, &name)?,
            None,
            None,
        ))
    }

    // ---- one element -------------------------------------------------------------------------

    /// An element, copied and decoded; `None` if there are not so many.
    ///
    /// # Errors
    /// [`Codec`](DictError::Codec), [`WrongKind`](DictError::WrongKind) of a container,
    /// [`Reentered`](DictError::Reentered), and those of [`len`](Self::len).
    pub fn get(&self, index: usize) -> Result<Option<T>, DictError> {
        let landing = RefCell::new(Landing::new());
        let look = || {
            let take = |element: Element<'_>| landing.borrow_mut().copy_element(element);
            Ok(self.inner.raw.look_at_element(self.path(), index, take)?)
        };
        let locked = |list: &Locked<'_, '_>| {
            let element = list.get(index)?;
            Ok(element.map(|element| landing.borrow_mut().copy_element(element)))
        };
        match self.looked(look, locked)? {
            Some(true) => Ok(Some(C::decode(landing.into_inner().bytes())?)),
            Some(false) => Err(DictError::no_value(None)),
            None => Ok(None),
        }
    }

    /// The first element.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn first(&self) -> Result<Option<T>, DictError> {
        self.get(0)
    }

    /// Stores a value in the place of an element.
    ///
    /// # Errors
    /// [`ValueTooLong`](DictError::ValueTooLong), [`Codec`](DictError::Codec), and those of [`swap`](Self::swap).
    pub fn set(&self, index: usize, value: &T) -> Result<(), DictError> {
        with_encoded::<T, C, _>(&self.inner, value, |value| {
            self.locked(|list| set(list, index, value))
        })
    }

    /// Reads, computes and writes back in one step: stores what `f` makes of an element, and gives it.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    ///
    /// # Peer death
    /// Killed before the one store that commits, there was no change; after it, it is whole.
    pub fn modify(&self, index: usize, f: impl FnOnce(T) -> T) -> Result<T, DictError> {
        // Before the lock: where an error drops it, the lock is given back.
        let value;
        let writer = self.writer()?;
        let list = self.list(&writer)?;
        let element = list.get(index)?.ok_or_else(|| no_element(index, &list))?;
        let row = {
            let _inside = self.inner.inside();
            value = f(decode_element::<T, C>(element)?);
            Row::of::<T, C>(&self.inner, [&value])?
        };
        writer.ensure_held()?;
        row.iter()
            .flatten()
            .try_for_each(|bytes| set(&list, index, bytes))?;
        Ok(value)
    }

    /// Puts a value behind the last element.
    ///
    /// # Errors
    /// [`TooLong`](DictError::TooLong), and those of [`set`](Self::set) but for `IndexOutOfRange`.
    pub fn push(&self, value: &T) -> Result<(), DictError> {
        with_encoded::<T, C, _>(&self.inner, value, |value| {
            self.locked(|list| {
                let item = list.new_item(value)?;
                Ok(list.push(&[item])?)
            })
        })
    }

    /// Takes the last element out, and gives it.
    ///
    /// # Errors
    /// [`Codec`](DictError::Codec) if it cannot be decoded, [`WrongKind`](DictError::WrongKind) if it is a container; it
    /// stays then. And those of [`clear`](Self::clear).
    pub fn pop(&self) -> Result<Option<T>, DictError> {
        self.take_out(|len| len.checked_sub(1))
    }

    /// Takes the first element out, and gives it.
    ///
    /// # Errors
    /// Those of [`pop`](Self::pop).
    pub fn pop_front(&self) -> Result<Option<T>, DictError> {
        self.take_out(|len| (len > 0).then_some(0))
    }

    /// Takes an element out, and gives it.
    ///
    /// # Errors
    /// [`IndexOutOfRange`](DictError::IndexOutOfRange), and those of [`pop`](Self::pop) and [`swap`](Self::swap).
    pub fn pop_at(&self, index: usize) -> Result<T, DictError> {
        let mut len = 0;
        let value = self.take_out(|elements| {
            len = elements;
            (index < len).then_some(index)
        })?;
        value.ok_or_else(|| range_error(index, len))
    }

    fn take_out(&self, index: impl FnOnce(usize) -> Option<usize>) -> Result<Option<T>, DictError> {
        // As in `modify`.
        let value;
        let writer = self.writer()?;
        let list = self.list(&writer)?;
        let Some(index) = index(list.len()?) else {
            return Ok(None);
        };
        let element = list.get(index)?.ok_or_else(|| no_element(index, &list))?;
        {
            let _inside = self.inner.inside();
            value = decode_element::<T, C>(element)?;
        }
        writer.ensure_held()?;
        list.remove(index)?;
        Ok(Some(value))
    }

    /// Puts a value before an element, or behind the last.
    ///
    /// # Errors
    /// Those of [`push`](Self::push), and [`IndexOutOfRange`](DictError::IndexOutOfRange).
    pub fn insert(&self, index: usize, value: &T) -> Result<(), DictError> {
        self.splice(index..index, [value])
    }

    // ---- many elements -----------------------------------------------------------------------

    /// Puts values behind the last element, all in one step.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    pub fn extend(
        &self,
        values: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<(), DictError> {
        let row = Row::of::<T, C>(&self.inner, values)?;
        self.locked(|list| self.put(list, &row, |items| list.push(items)))
    }

    /// Puts values in the place of the elements of a range, in one step; there may be more or fewer of them.
    ///
    /// # Errors
    /// Those of [`insert`](Self::insert).
    pub fn splice(
        &self,
        range: impl RangeBounds<usize>,
        values: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<(), DictError> {
        let row = Row::of::<T, C>(&self.inner, values)?;
        // Asked before the lock is taken.
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.locked(|list| {
            let range = within(&range, list.len()?)?;
            self.put(list, &row, |items| list.splice(range, items).map(drop))
        })
    }

    /// The elements of a range as they are at one instant.
    ///
    /// # Errors
    /// [`IndexOutOfRange`](DictError::IndexOutOfRange), and those of [`get`](Self::get); [`Busy`](DictError::Busy) also if
    /// writers changed the list during each of the looks.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>, DictError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(_) | Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Excluded(end) => *end,
            Bound::Included(_) | Bound::Unbounded => usize::MAX,
        };
        let (row, len) = self.row(start..end)?;
        let range = within(&range, len)?;
        row.decode_range::<T, C>(range.start - start..range.end - start)
    }

    /// All elements as they are at one instant.
    ///
    /// # Errors
    /// Those of [`slice`](Self::slice) but for `IndexOutOfRange`.
    pub fn snapshot(&self) -> Result<Vec<T>, DictError> {
        self.row(0..usize::MAX)?.0.decode::<T, C>()
    }

    /// The encoded elements of a range, as far as there are so many, and how many elements the list has.
    fn row(&self, range: Range<usize>) -> Result<(Row, usize), DictError> {
        let (row, total) = (RefCell::new(Row::default()), Cell::new(0));
        let most = self.inner.segment.size();
        let look = || {
            let restart = |more: usize, len: usize| {
                row.borrow_mut().restart(more, most);
                total.set(len);
            };
            let take = |element: Element<'_>| row.borrow_mut().push_element(element);
            let path = self.path();
            Ok(self
                .inner
                .raw
                .look_at_elements(path, range.clone(), restart, take)?)
        };
        let locked = |list: &Locked<'_, '_>| {
            let mut row = row.borrow_mut();
            let elements = list.elements()?;
            total.set(elements.len());
            let elements = elements.get(range.start..range.end.min(elements.len()));
            let elements = elements.unwrap_or_default();
            row.restart(elements.len(), most);
            list.each(elements, |_, element| {
                row.push_element(element);
                Ok::<_, DictError>(())
            })?;
            Ok(Some(()))
        };
        self.looked(look, locked)?;
        Ok((row.into_inner(), total.get()))
    }

    /// The elements, one after the other as they are when their turn comes, until there are no more; what comes to the list
    /// later is not seen then. No lock is held meanwhile. For all as they are at one instant: [`snapshot`](Self::snapshot).
    #[must_use]
    pub fn iter(&self) -> Elements<T, C> {
        Elements {
            list: self.clone(),
            next: Some(0),
        }
    }

    /// Where the first element is that equals a value, as encoded.
    ///
    /// # Errors
    /// Those of [`slice`](Self::slice) but for `IndexOutOfRange`.
    pub fn position(&self, value: &T) -> Result<Option<usize>, DictError> {
        let (row, _) = self.row(0..usize::MAX)?;
        with_encoded::<T, C, _>(&self.inner, value, |value| {
            Ok(row.iter().position(|element| element == Some(value)))
        })
    }

    /// Whether some element equals a value, as encoded.
    ///
    /// # Errors
    /// Those of [`position`](Self::position).
    pub fn contains(&self, value: &T) -> Result<bool, DictError> {
        Ok(self.position(value)?.is_some())
    }

    /// Takes all elements out in one step, and gives them.
    ///
    /// # Errors
    /// Those of [`pop`](Self::pop).
    pub fn drain(&self) -> Result<Vec<T>, DictError> {
        let elements;
        let writer = self.writer()?;
        let list = self.list(&writer)?;
        elements = self.decoded(&list)?;
        writer.ensure_held()?;
        list.clear()?;
        drop(writer);
        Ok(elements.into_iter().map(|(value, _)| value).collect())
    }

    /// Keeps the elements of which `f` says so, in one step.
    ///
    /// # Errors
    /// Those of [`pop_at`](Self::pop_at) but for `IndexOutOfRange`: [`WrongKind`](DictError::WrongKind) if any element is a
    /// container.
    pub fn retain(&self, mut f: impl FnMut(&T) -> bool) -> Result<(), DictError> {
        let writer = self.writer()?;
        let list = self.list(&writer)?;
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        {
            let _inside = self.inner.inside();
            for (value, item) in self.decoded(&list)? {
                match f(&value) {
                    true => kept.push(item),
                    false => out.push(item),
                }
            }
        }
        writer.ensure_held()?;
        match out.is_empty() {
            true => Ok(()),
            false => Ok(list.keep(&kept, out)?),
        }
    }

    /// Sorts by keys, in one step: stably, that is, equal ones stay in their order.
    ///
    /// # Errors
    /// Those of [`pop_at`](Self::pop_at) but for `IndexOutOfRange`.
    ///
    /// # Panics
    /// As [`sort_by`](Self::sort_by).
    pub fn sort_by_key<K: Ord>(&self, mut key: impl FnMut(&T) -> K) -> Result<(), DictError> {
        self.arrange(|elements| {
            let elements = elements.into_iter();
            let keys = elements.map(|(value, item)| (key(&value), item)).collect();
            sort::by(keys, |a, b| Some(a.cmp(b)))
        })
    }

    /// Sorts, in one step and stably, by a comparison that gives `None` for what cannot be compared:
    /// [`Dynamic::compare`](crate::Dynamic::compare) for values that Python would sort.
    ///
    /// # Errors
    /// [`Unordered`](DictError::Unordered), and those of [`sort_by_key`](Self::sort_by_key).
    ///
    /// # Panics
    /// It may, as [`slice::sort_by`], if the comparison is no order; nothing was changed then.
    pub fn sort_by(
        &self,
        compare: impl FnMut(&T, &T) -> Option<Ordering>,
    ) -> Result<(), DictError> {
        self.arrange(|elements| sort::by(elements, compare))
    }

    /// Sorts, in one step and stably.
    ///
    /// # Errors
    /// Those of [`sort_by`](Self::sort_by).
    ///
    /// # Panics
    /// As [`sort_by`](Self::sort_by).
    pub fn sort(&self) -> Result<(), DictError>
    where
        T: PartialOrd,
    {
        self.sort_by(T::partial_cmp)
    }

    /// Puts the elements in the order in which `order` gives their items.
    fn arrange(
        &self,
        order: impl FnOnce(Vec<(T, Item)>) -> Option<Vec<Item>>,
    ) -> Result<(), DictError> {
        let writer = self.writer()?;
        let list = self.list(&writer)?;
        let items = {
            let _inside = self.inner.inside();
            let elements = self.decoded(&list)?;
            order(elements).ok_or(DictError::Unordered)?
        };
        writer.ensure_held()?;
        Ok(list.replace(&items)?)
    }

    /// The elements and their items.
    fn decoded(&self, list: &Locked<'_, '_>) -> Result<Vec<(T, Item)>, DictError> {
        let _inside = self.inner.inside();
        let words = list.elements()?;
        // There may be fewer than the words say that somebody else wrote.
        let room = self.inner.segment.size() / size_of::<(T, Item)>();
        let mut elements = Vec::with_capacity(words.len().min(room));
        list.each(words, |item, element| {
            elements.push((decode_element::<T, C>(element)?, item));
            Ok::<_, DictError>(())
        })?;
        Ok(elements)
    }
}

fn set(list: &Locked<'_, '_>, index: usize, value: &[u8]) -> Result<(), DictError> {
    match list.set(index, value)? {
        true => Ok(()),
        false => Err(no_element(index, list)),
    }
}

fn no_element(index: usize, list: &Locked<'_, '_>) -> DictError {
    match list.len() {
        Ok(len) => range_error(index, len),
        Err(damaged) => damaged.into(),
    }
}

pub(crate) fn range_error(index: usize, len: usize) -> DictError {
    DictError::IndexOutOfRange {
        index: index as u64,
        len: len as u64,
    }
}

/// The range of a list of so many elements.
fn within(range: &impl RangeBounds<usize>, len: usize) -> Result<Range<usize>, DictError> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => len,
    };
    match start <= end && end <= len {
        true => Ok(start..end),
        false => Err(range_error(start.max(end), len)),
    }
}

/// The elements of a list, from [`List::iter`]. An item is an error if it cannot be decoded, or is a container; the
/// others follow. Any other error is the last item.
#[derive(Debug)]
pub struct Elements<T, C> {
    list: List<T, C>,
    next: Option<usize>,
}

impl<T, C: Codec<T>> std::iter::FusedIterator for Elements<T, C> {}

impl<T, C: Codec<T>> Iterator for Elements<T, C> {
    type Item = Result<T, DictError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next?;
        let element = self.list.get(next).transpose();
        self.next = match &element {
            Some(Ok(_) | Err(DictError::Codec(_) | DictError::WrongKind { .. })) => Some(next + 1),
            // At the end it stays there; any other error would be the same for all that follow.
            Some(Err(_)) | None => None,
        };
        element
    }
}
