//! Look-ups in a list without a lock.

use core::ops::Range;

use shm_core::sync::{AtomicU32, AtomicU64, Ordering, fence};

use super::array::Array;
use super::list::AHEAD;
use super::path::Path;
use super::view::{Missed, TRIES, View};
use super::{Container, Damaged, Element, Fault, Home, Item, Looked, RawDict};

impl RawDict {
    /// Looks at an element of the list at the end of a way, or of a shard's own, and takes something of it with
    /// `take`, as [`look_up`](Self::look_up) does.
    ///
    /// # Errors
    /// [`Damaged`].
    #[inline]
    pub fn look_at_element<R>(
        &self,
        path: Option<&Path>,
        index: usize,
        mut take: impl FnMut(Element<'_>) -> R,
    ) -> Result<Looked<R>, Damaged> {
        let shard = &self.shards[path.map_or(0, |path| path.shard)];
        for _ in 0..TRIES {
            let view = View::at(self, shard);
            if let Some(looked) = view.judge(view.element_at(path, index, &mut take)) {
                return looked;
            }
            shm_core::sync::spin_loop();
        }
        Ok(Looked::Disturbed)
    }

    /// Takes something of the elements of a range, as far as there are so many, as they are at one instant: `restart`
    /// is called, with how many they are and how many the list has, before everything begins anew.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn look_at_elements(
        &self,
        path: Option<&Path>,
        range: Range<usize>,
        mut restart: impl FnMut(usize, usize),
        mut take: impl FnMut(Element<'_>),
    ) -> Result<Looked<()>, Damaged> {
        let shard = &self.shards[path.map_or(0, |path| path.shard)];
        for _ in 0..TRIES {
            // PAIR dict-version: Acquire; what is read after it is at least as new as that change.
            let version = shard.version.load(Ordering::Acquire);
            let view = View::at(self, shard);
            let looked = view.judge(view.elements_in(path, &range, &mut restart, &mut take));
            // PAIR dict-version: behind the fence, whatever was read of a change shows the one before it. One change more
            // may have been seen, which is one store: there or not.
            fence(Ordering::Acquire);
            let is_now = shard.version.load(Ordering::Relaxed) == version
                || self.broken(Fault::DoesNotCompareVersions);
            if let Some(looked) = looked
                && is_now
            {
                return looked;
            }
            shm_core::sync::spin_loop();
        }
        Ok(Looked::Disturbed)
    }

    /// How many elements the list at the end of a way has, or a shard's own.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn look_at_len(&self, path: Option<&Path>) -> Result<Looked<usize>, Damaged> {
        for _ in 0..TRIES {
            let view = View::at(self, &self.shards[path.map_or(0, |path| path.shard)]);
            let home = view.home(path);
            let len = home.and_then(|home| Ok(Some(view.elements(home)?.len())));
            if let Some(looked) = view.judge(len) {
                return looked;
            }
            shm_core::sync::spin_loop();
        }
        Ok(Looked::Disturbed)
    }
}

impl<'a> View<'a> {
    fn elements(&self, home: Home<'a>) -> Result<&'a [AtomicU64], Missed> {
        let Some(array) = Array::at(self.dict, self.root(home))? else {
            return Ok(&[]);
        };
        self.ensure_valid()?;
        Ok(array.elements()?)
    }

    #[inline(always)]
    fn element_of(&self, word: &AtomicU64) -> Result<Element<'a>, Missed> {
        // PAIR dict-entry: Acquire sees the record.
        let item = Item(word.load(Ordering::Acquire));
        if item.unit().is_some() {
            self.ensure_valid()?;
        }
        let element = self.dict.element(item)?;
        if element.is_long() {
            self.ensure_valid()?;
        }
        Ok(element)
    }

    fn element_at<R>(
        &self,
        path: Option<&Path>,
        index: usize,
        take: &mut impl FnMut(Element<'_>) -> R,
    ) -> Result<Option<R>, Missed> {
        let elements = self.elements(self.home(path)?)?;
        match elements.get(index) {
            Some(word) => Ok(Some(take(self.element_of(word)?))),
            None => Ok(None),
        }
    }

    fn elements_in(
        &self,
        path: Option<&Path>,
        range: &Range<usize>,
        restart: &mut impl FnMut(usize, usize),
        take: &mut impl FnMut(Element<'_>),
    ) -> Result<Option<()>, Missed> {
        let elements = self.elements(self.home(path)?)?;
        let (len, end) = (elements.len(), range.end.min(elements.len()));
        let elements = elements.get(range.start..end).unwrap_or(&[]);
        self.ensure_valid()?;
        restart(elements.len(), len);
        let mut left = self.dict.heap.len();
        for (at, word) in elements.iter().enumerate() {
            if let Some(ahead) = elements.get(at + AHEAD) {
                // Relaxed: nothing is believed.
                self.dict.approach_item(Item(ahead.load(Ordering::Relaxed)));
            }
            let element = self.element_of(word)?;
            if let Element::Record(record) = element {
                record.count_down(0, &mut left)?;
            }
            take(element);
        }
        Ok(Some(()))
    }

    /// The container of this number, which was last seen `near`.
    pub(super) fn container_in_list(
        &self,
        home: Home<'a>,
        id: u64,
        near: &AtomicU32,
    ) -> Result<Option<Container<'a>>, Missed> {
        let elements = self.elements(home)?;
        // Relaxed, both: a hint.
        let first = near.load(Ordering::Relaxed) as usize;
        let first = (first < elements.len()).then_some(first);
        for index in first.into_iter().chain(0..elements.len()) {
            if let Element::Record(record) = self.element_of(&elements[index])?
                && let Some(container) = record.container()
                && container.id() == id
            {
                near.store(index as u32, Ordering::Relaxed);
                return Ok(Some(container));
            }
        }
        Ok(None)
    }
}
