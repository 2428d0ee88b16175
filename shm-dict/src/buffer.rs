//! Buffers that values are encoded into and decoded from, used again and again.

use std::cell::Cell;
use std::ops::Range;

use shm_core::codec::Codec;

use crate::error::DictError;
use crate::inner::Inner;
use crate::raw::{Element, Record, Value};

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Buffers that grew larger are not kept.
const KEPT: usize = 1 << 20;

/// Calls `f` with a buffer that is used again.
pub(crate) fn with_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Taken: `f` may come here again.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= KEPT {
        // When the thread ends there may be no place for it.
        let _ = BUFFER.try_with(|place| place.set(buffer));
    }
    result
}

/// Bytes up to which a value is copied to the stack.
const SMALL: usize = 128;

/// Where values are copied to before they are decoded: the stack, or a buffer that is used again.
#[derive(Debug)]
pub(crate) struct Landing {
    len: usize,
    small: [u8; SMALL],
    large: Vec<u8>,
}

impl Landing {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            len: 0,
            small: [0; SMALL],
            large: Vec::new(),
        }
    }

    /// Copies a value, in place of the one before.
    #[inline]
    pub(crate) fn copy(&mut self, value: Value<'_>) {
        self.len = value.len();
        if let Some(small) = self.small.get_mut(..self.len) {
            value.copy_into(small);
            return;
        }
        if self.large.capacity() == 0 {
            self.large = BUFFER.try_with(Cell::take).unwrap_or_default();
        }
        value.copy_to(&mut self.large);
    }

    /// Copies the value of a record; `false` if that has a container.
    #[inline]
    pub(crate) fn copy_of(&mut self, record: Record<'_>) -> bool {
        match record.value() {
            Some(value) => {
                self.copy(value);
                true
            }
            None => false,
        }
    }

    /// Copies an element of a list; `false` if it is a container.
    #[inline]
    pub(crate) fn copy_element(&mut self, element: Element<'_>) -> bool {
        match element {
            Element::Short(bytes, len) => {
                self.len = len;
                self.small[..8].copy_from_slice(&bytes);
                true
            }
            Element::Record(record) => self.copy_of(record),
        }
    }

    /// The value that was copied last.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.small.get(..self.len).unwrap_or(&self.large)
    }
}

impl Drop for Landing {
    #[inline]
    fn drop(&mut self) {
        let capacity = self.large.capacity();
        if capacity != 0 && capacity <= KEPT {
            // When the thread ends there may be no place for it.
            let _ = BUFFER.try_with(|buffer| buffer.set(std::mem::take(&mut self.large)));
        }
    }
}

/// The value of a record that nobody changes.
#[inline(always)]
pub(crate) fn decode<V, C: Codec<V>>(record: Record<'_>) -> Result<V, DictError> {
    // Not by `value_of`, whose result would come through memory.
    let Some(value) = record.value() else {
        return Err(DictError::no_value(record.container()));
    };
    match value.word() {
        Some(word) => Ok(C::decode(&word[..value.len()])?),
        None => decode_long::<V, C>(value),
    }
}

fn decode_long<V, C: Codec<V>>(value: Value<'_>) -> Result<V, DictError> {
    let mut landing = Landing::new();
    landing.copy(value);
    Ok(C::decode(landing.bytes())?)
}

/// The value of a record, if it is none of a container.
#[inline]
pub(crate) fn value_of(record: Record<'_>) -> Result<Value<'_>, DictError> {
    let value = record.value();
    value.ok_or_else(|| DictError::no_value(record.container()))
}

/// Calls `f` with the encoded value.
#[inline]
pub(crate) fn with_encoded<V, C: Codec<V>, R>(
    inner: &Inner,
    value: &V,
    f: impl FnOnce(&[u8]) -> Result<R, DictError>,
) -> Result<R, DictError> {
    if let Some(encoded) = C::as_encoded(value) {
        inner.check_value(encoded)?;
        return f(encoded);
    }
    with_buffer(|buffer| {
        C::encode(value, buffer)?;
        inner.check_value(buffer)?;
        f(buffer)
    })
}

/// The value of an element that nobody changes.
#[inline(always)]
pub(crate) fn decode_element<T, C: Codec<T>>(element: Element<'_>) -> Result<T, DictError> {
    match element {
        Element::Short(bytes, len) => Ok(C::decode(&bytes[..len])?),
        Element::Record(record) => decode::<T, C>(record),
    }
}

/// Encoded values, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Row {
    bytes: Vec<u8>,
    /// Where each ends, or [`NO_VALUE`].
    ends: Vec<usize>,
    /// How large each of the two may become: hostile words lead to no more than the segment has.
    most: usize,
}

/// How far a row was read.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    index: usize,
    /// Where the next value starts.
    start: usize,
}

/// Makes room for `more`, and for as many again as there are, but no more than `most`; beyond that, for a quarter of them.
pub(crate) fn grow<T>(all: &mut Vec<T>, more: usize, most: usize) {
    let (used, room) = (all.len(), all.capacity());
    if more > room - used {
        let ample = match used + more <= most {
            true => room.saturating_mul(2).min(most),
            false => used + used / 4,
        };
        all.reserve_exact(ample.max(used + more) - used);
    }
}

/// A container is there.
const NO_VALUE: usize = usize::MAX;

impl Row {
    /// The encoded values.
    pub(crate) fn of<T, C: Codec<T>>(
        inner: &Inner,
        values: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<Self, DictError> {
        let mut row = Self::default();
        for value in values {
            with_encoded::<T, C, _>(inner, value.borrow(), |value| {
                row.push(value);
                Ok(())
            })?;
        }
        Ok(row)
    }

    fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    /// Copies an element behind the others.
    pub(crate) fn push_element(&mut self, element: Element<'_>) {
        match element {
            Element::Short(short, len) => {
                grow(&mut self.bytes, len, self.most);
                self.bytes.extend_from_slice(&short[..len]);
                self.push_end(self.bytes.len());
            }
            Element::Record(record) => self.push_value(record.value()),
        }
    }

    /// Copies a value behind the others, or notes that there is none.
    pub(crate) fn push_value(&mut self, value: Option<Value<'_>>) {
        let Some(value) = value else {
            return self.push_end(NO_VALUE);
        };
        grow(&mut self.bytes, value.len(), self.most);
        value.append_to(&mut self.bytes);
        self.push_end(self.bytes.len());
    }

    fn push_end(&mut self, end: usize) {
        grow(&mut self.ends, 1, self.most / size_of::<usize>());
        self.ends.push(end);
    }

    /// Forgets all; `count` at least are going to come, from a segment of `most` bytes.
    pub(crate) fn restart(&mut self, count: usize, most: usize) {
        self.most = most;
        self.bytes.clear();
        self.ends.clear();
        self.ends
            .reserve_exact(count.min(most / size_of::<usize>()));
    }

    /// The values, or nothing for a container.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || self.next(&mut cursor))
    }

    /// What is next, a value or nothing for a container.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Option<Option<&[u8]>> {
        let end = *self.ends.get(cursor.index)?;
        cursor.index += 1;
        if end == NO_VALUE {
            return Some(None);
        }
        let value = &self.bytes[cursor.start..end];
        cursor.start = end;
        Some(Some(value))
    }

    /// The bytes that it takes: for the values, and for where they end.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn room(&self) -> (usize, usize) {
        let ends = self.ends.capacity() * size_of::<usize>();
        (self.bytes.capacity(), ends)
    }

    /// Whether all were read.
    pub(crate) fn is_at_end(&self, cursor: &Cursor) -> bool {
        cursor.index == self.ends.len()
    }

    /// The values, decoded.
    pub(crate) fn decode<T, C: Codec<T>>(&self) -> Result<Vec<T>, DictError> {
        self.decode_range::<T, C>(0..self.ends.len())
    }

    /// Some of the values, which there are, decoded.
    pub(crate) fn decode_range<T, C: Codec<T>>(
        &self,
        range: Range<usize>,
    ) -> Result<Vec<T>, DictError> {
        let decode = |value: Option<&[u8]>| {
            let value = value.ok_or_else(|| DictError::no_value(None))?;
            Ok(C::decode(value)?)
        };
        let values = self.iter().skip(range.start).take(range.len());
        values.map(decode).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_more_than_the_most_takes_no_more_room_and_what_is_grows_by_parts() {
        let most = 1000;
        let (mut all, mut moves) = (Vec::new(), 0);
        for byte in 0..2 * most {
            let room = all.capacity();
            grow(&mut all, 1, most);
            moves += usize::from(all.capacity() != room);
            all.push(byte as u8);
            assert!(all.len() > most || all.capacity() <= most, "{}", all.len());
        }
        assert!(
            all.capacity() <= 2 * most + most / 2 && moves < 20,
            "{moves}"
        );
    }
}
