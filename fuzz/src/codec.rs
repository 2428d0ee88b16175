//! Bytes that are decoded as keys and values.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use shm_dict::{Bytes, Codec, DictError, KeyBytes, Postcard, Raw, ShmKey};

use crate::allocation;

/// Two strings of bytes.
#[derive(Debug, Arbitrary)]
pub struct Encoded {
    first: Vec<u8>,
    second: Vec<u8>,
}

/// Decodes bytes as everything.
///
/// # Panics
/// If bytes decode to what does not encode to a value that decodes to the same, if equal keys have different bytes or
/// different keys the same ones, or if something is allocated that is out of proportion to the bytes.
pub fn codec_decode(encoded: &Encoded) {
    // An element of a vector takes more memory than its bytes.
    let size = 64 * (encoded.first.len() + encoded.second.len());
    allocation::bounded(size, || {
        values(&encoded.first);
        let Encoded { first, second } = encoded;
        keys::<u8>(first, second);
        keys::<i128>(first, second);
        keys::<f64>(first, second);
        keys::<bool>(first, second);
        keys::<char>(first, second);
        keys::<String>(first, second);
        keys::<Vec<u8>>(first, second);
        keys::<[u16; 3]>(first, second);
        keys::<[String; 2]>(first, second);
        keys::<(u8, String)>(first, second);
        keys::<(f32, (bool, Vec<u8>), char)>(first, second);
    });
}

fn values(bytes: &[u8]) {
    again::<Vec<String>, Postcard>(bytes);
    again::<BTreeMap<String, Option<Vec<u64>>>, Postcard>(bytes);
    again::<(i64, char, bool, Result<u8, String>), Postcard>(bytes);
    again::<u64, Raw>(bytes);
    again::<[u16; 5], Raw>(bytes);
    again::<Vec<u8>, Bytes>(bytes);
}

/// What was decoded is encoded, and decodes to the same.
fn again<T: PartialEq + std::fmt::Debug, C: Codec<T>>(bytes: &[u8]) {
    let Ok(value) = C::decode(bytes) else { return };
    let mut encoded = Vec::new();
    C::encode(&value, &mut encoded).expect("a value");
    #[cfg(feature = "planted")]
    crate::planted::in_encoded(&mut encoded);
    assert_eq!(C::decode(&encoded).as_ref(), Ok(&value));
}

fn bytes_of(key: &impl KeyBytes) -> Result<Vec<u8>, DictError> {
    key.with_key_bytes(|bytes| Ok(bytes.to_vec()))
}

/// The key of these bytes, if they are one's, and its own bytes.
fn key<K: ShmKey + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<(K, Vec<u8>)> {
    let key = K::from_key_bytes(bytes).ok()?;
    // NaN is none.
    let own = bytes_of(&key).ok()?;
    assert!(K::SIZE.is_none_or(|size| own.len() == size));
    assert_eq!(K::from_key_bytes(&own).as_ref(), Ok(&key));
    Some((key, own))
}

/// Keys are equal if and only if their bytes are.
fn keys<K: ShmKey + PartialEq + std::fmt::Debug>(first: &[u8], second: &[u8]) {
    if let (Some((first, own)), Some((second, its))) = (key::<K>(first), key::<K>(second)) {
        assert_eq!(first == second, own == its);
    }
}
