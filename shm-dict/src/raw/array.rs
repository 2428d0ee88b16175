//! The places of a list: a word for each element, in a row, behind a word that says which of them there are.
//!
//! ```text
//! block: a table's, of 8 << log words    root: a table word
//! span:  63..32 elements | 31..0 places before the first
//! item:  63 set: the value is here, 58..56 its bytes, 55..0 they    62 set: 47..0 a record without a key / 16
//! ```
//!
//! So the first or the last element goes with one store of the span, and one that is short takes a word.

use shm_core::sync::{AtomicU64, Ordering};

use super::{Damaged, RawDict, TableWord, Writer};

const HERE: u64 = 1 << 63;
const RECORD: u64 = 1 << 62;
const UNIT_MASK: u64 = (1 << 48) - 1;
/// The longest value that has its place in the word of an item, in bytes.
const SHORT: usize = 7;

/// Binary logarithm of the buckets of the largest array: so that places are counted in 32 bits.
pub(super) const MAX_LOG: u32 = 28;

/// An element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Item(pub u64);

/// Which places of an array have elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Places before the first.
    pub start: u32,
    /// Elements.
    pub len: u32,
}

impl Item {
    /// A value that is short enough to stand here.
    #[must_use]
    pub fn short(value: &[u8]) -> Option<Self> {
        if value.len() > SHORT {
            return None;
        }
        let mut bytes = [0; 8];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self(
            HERE | (value.len() as u64) << 56 | u64::from_le_bytes(bytes),
        ))
    }

    /// A record.
    #[must_use]
    pub const fn record(unit: u64) -> Self {
        Self(RECORD | unit & UNIT_MASK)
    }

    /// The record's block, if it is one.
    #[must_use]
    pub const fn unit(self) -> Option<u64> {
        match self.0 >> 62 {
            1 => Some(self.0 & UNIT_MASK),
            _ => None,
        }
    }

    /// The value that stands here, and its length.
    #[must_use]
    pub const fn value(self) -> Option<([u8; 8], usize)> {
        let len = (self.0 >> 56 & 0x7F) as usize;
        match self.0 >> 63 {
            1 if len <= SHORT => Some(((self.0 & ((1 << 56) - 1)).to_le_bytes(), len)),
            _ => None,
        }
    }
}

impl Span {
    const fn of(word: u64) -> Self {
        let (start, len) = (word as u32, (word >> 32) as u32);
        Self { start, len }
    }

    pub(super) const fn word(self) -> u64 {
        (self.len as u64) << 32 | self.start as u64
    }
}

/// The places of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Array<'a> {
    span: &'a AtomicU64,
    pub(super) places: &'a [AtomicU64],
}

impl<'a> Array<'a> {
    /// The array that a root leads to.
    #[inline]
    pub(super) fn at(dict: &'a RawDict, root: TableWord) -> Result<Option<Self>, Damaged> {
        let Some((unit, log)) = root.table() else {
            return Ok(None);
        };
        if log > MAX_LOG {
            return Err(Damaged {
                field: "array",
                value: root.0,
            });
        }
        let words = dict.table(unit, log)?.slots;
        Ok(words
            .split_first()
            .map(|(span, places)| Self { span, places }))
    }

    /// Which places have elements; read once, and checked.
    #[inline]
    pub(super) fn span(&self) -> Result<Span, Damaged> {
        // PAIR dict-span: Acquire sees the items.
        let word = self.span.load(Ordering::Acquire);
        let span = Span::of(word);
        match u64::from(span.start) + u64::from(span.len) <= self.places.len() as u64 {
            true => Ok(span),
            false => Err(Damaged {
                field: "span of a list",
                value: word,
            }),
        }
    }

    /// Says which places have elements: the store that is the change.
    pub(super) fn set_span(&self, writer: &Writer<'_>, span: Span) {
        // PAIR dict-span: Release publishes the items.
        writer.publish(self.span, span.word());
    }

    /// The words of the elements.
    pub(super) fn elements(&self) -> Result<&'a [AtomicU64], Damaged> {
        let Span { start, len } = self.span()?;
        Ok(&self.places[start as usize..][..len as usize])
    }

    /// The elements, under the shard's lock.
    pub(super) fn items(&self) -> Result<impl Iterator<Item = Item> + use<'a>, Damaged> {
        let elements = self.elements()?.iter();
        // Relaxed: the shard's lock.
        Ok(elements.map(|word| Item(word.load(Ordering::Relaxed))))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_item_says_what_it_was_made_of() {
        for len in 0..=SHORT {
            let value = [0xFF; SHORT];
            let (bytes, found) = Item::short(&value[..len]).unwrap().value().unwrap();
            assert_eq!((&bytes[..found], found), (&value[..len], len));
        }
        assert_eq!(Item::short(&[0; 8]), None);
        let item = Item::record(UNIT_MASK);
        assert_eq!((item.unit(), item.value()), (Some(UNIT_MASK), None));
        assert_eq!((Item(0).unit(), Item(0).value()), (None, None));
        assert_eq!(Item(u64::MAX).value(), None, "a length of 127");
    }

    #[test]
    fn a_span_says_what_it_was_made_of() {
        let span = Span { start: 7, len: 9 };
        assert_eq!(Span::of(span.word()), span);
    }
}
