//! Bytes that are decoded as values of any kind.

use std::hash::{BuildHasher, RandomState};

use arbitrary::Arbitrary;
use shm_dict::{Codec, DictError, Dynamic, KeyBytes, Postcard, ShmKey};

use crate::allocation;

/// Two strings of bytes.
#[derive(Debug, Arbitrary)]
pub struct DynamicBytes {
    first: Vec<u8>,
    second: Vec<u8>,
}

/// Decodes bytes as a key and as a value.
///
/// # Panics
/// If a key's bytes are not the ones that it is decoded from, if keys are equal and their bytes are not or the other way
/// round, if a value does not encode to what decodes to the same, if equality, order, hash and copies do not agree, or if
/// something out of proportion is allocated.
pub fn dynamic_decode(bytes: &DynamicBytes) {
    let DynamicBytes { first, second } = bytes;
    // A value takes more memory than its bytes, and a vector has room for twice as many.
    let size = 64 * (first.len() + second.len());
    allocation::bounded(size, || {
        let (own, its) = (key(first), key(second));
        if let (Some(own), Some(its)) = (&own, &its) {
            assert_eq!(own == its, first == second);
        }
        if let (Some(own), Some(its)) = (value(first), value(second)) {
            pair(&own, &its);
        }
    });
}

/// The key of these bytes, if they are one's.
fn key(bytes: &[u8]) -> Option<Dynamic> {
    let key = decoded_key(bytes).ok()?;
    key.with_key_bytes(|own| {
        assert_eq!(own, bytes, "of {key}");
        Ok(())
    })
    .expect("a key");
    Some(key)
}

fn decoded_key(bytes: &[u8]) -> Result<Dynamic, DictError> {
    #[cfg(feature = "planted")]
    if let Some(key) = crate::planted::in_key(bytes) {
        return Ok(key);
    }
    Dynamic::from_key_bytes(bytes)
}

/// The value of these bytes, if they are one's.
fn value(bytes: &[u8]) -> Option<Dynamic> {
    let value: Dynamic = Postcard::decode(bytes).ok()?;
    let own = encode(&value);
    let again: Dynamic = Postcard::decode(&own).expect("a value");
    assert_eq!(again, value);
    assert_eq!(encode(&again), own, "of {value}");
    assert_eq!(value.clone(), value);
    Some(value)
}

fn encode(value: &Dynamic) -> Vec<u8> {
    let mut bytes = Vec::new();
    Postcard::encode(value, &mut bytes).expect("a value");
    bytes
}

/// What must be so of any two values.
fn pair(first: &Dynamic, second: &Dynamic) {
    let order = first.cmp(second);
    assert_eq!(second.cmp(first), order.reverse());
    assert_eq!(first == second, order.is_eq());
    let hash = RandomState::new();
    assert!(order.is_ne() || hash.hash_one(first) == hash.hash_one(second));
    let bytes_of = |key: &Dynamic| key.with_key_bytes(|bytes| Ok(bytes.to_vec()));
    if let (Ok(own), Ok(its)) = (bytes_of(first), bytes_of(second)) {
        assert_eq!(own == its, order.is_eq(), "{first} and {second}");
    }
}
