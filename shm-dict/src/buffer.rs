//! Buffers that values are encoded into and decoded from, used again and again.

use std::cell::Cell;

use shm_core::codec::Codec;

use crate::error::DictError;
use crate::inner::Inner;
use crate::raw::Record;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Buffers that grew larger are not kept.
const KEPT: usize = 1 << 20;

/// Calls `f` with a buffer that is used again.
pub(crate) fn with_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Taken: `f` may come here again.
    let mut buffer = BUFFER.take();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    result
}

/// The value of a record that nobody changes.
#[inline]
pub(crate) fn decode<V, C: Codec<V>>(record: Record<'_>) -> Result<V, DictError> {
    let value = record.value();
    if let Some(word) = value.word() {
        return Ok(C::decode(&word[..value.len()])?);
    }
    with_buffer(|buffer| {
        value.copy_to(buffer);
        Ok(C::decode(buffer)?)
    })
}

/// Calls `f` with the encoded value.
#[inline]
pub(crate) fn with_encoded<V, C: Codec<V>, R>(
    inner: &Inner,
    value: &V,
    f: impl FnOnce(&[u8]) -> Result<R, DictError>,
) -> Result<R, DictError> {
    with_buffer(|buffer| {
        C::encode(value, buffer)?;
        inner.check_value(buffer)?;
        f(buffer)
    })
}
