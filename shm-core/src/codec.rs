//! How values become bytes in a segment and come back.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Why a value did not become bytes, or bytes no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value was not encoded.
    #[error("the value cannot be encoded: {0}")]
    Encode(String),
    /// The bytes were not decoded.
    #[error("the bytes cannot be decoded: {0}")]
    Decode(String),
}

/// Encodes and decodes values.
///
/// `encode` and `decode` may run any code, as serde does. What is said to be called under locks must neither block, nor
/// fork, nor call what it is used in: there is no guard against that, for it is on the shortest paths.
pub trait Codec<T> {
    /// What a segment's type fingerprint calls it: two codecs with one name read each other's bytes.
    const NAME: &'static str;

    /// Appends the encoded value to `out`, which is empty.
    ///
    /// # Errors
    /// [`CodecError::Encode`].
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The encoded value where it is such bytes already, so that they need not be copied. Called under locks.
    #[inline]
    #[must_use]
    fn as_encoded(_value: &T) -> Option<&[u8]> {
        None
    }

    /// Whether every string of so many bytes is a value. Called under locks, and so is [`decode`](Self::decode) with
    /// bytes of a length for which this says yes.
    #[inline]
    #[must_use]
    fn is_always_a_value(_len: usize) -> bool {
        false
    }

    /// Makes a value of bytes that may be anything.
    ///
    /// # Errors
    /// [`CodecError::Decode`].
    fn decode(bytes: &[u8]) -> Result<T, CodecError>;
}

/// For all that serde knows: the postcard format, which is small, fast and specified.
#[derive(Debug, Clone, Copy)]
pub enum Postcard {}

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    const NAME: &'static str = "postcard";

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        // A writer that appends to the reused buffer.
        postcard::to_io(value, &mut *out).map_err(|error| CodecError::Encode(reason(&error)))?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, left)) => Err(CodecError::Decode(format!("{} bytes too many", left.len()))),
            Err(error) => Err(CodecError::Decode(reason(&error))),
        }
    }
}

/// For plain types: their bytes as they are. Whoever opens the segment must have the same type, which its
/// name and size say.
#[derive(Debug, Clone, Copy)]
pub enum Raw {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Codec<T> for Raw {
    const NAME: &'static str = "raw";

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    #[inline]
    fn as_encoded(value: &T) -> Option<&[u8]> {
        Some(value.as_bytes())
    }

    #[inline]
    fn is_always_a_value(len: usize) -> bool {
        len == size_of::<T>()
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        T::read_from_bytes(bytes).map_err(|_| {
            let (len, size) = (bytes.len(), size_of::<T>());
            CodecError::Decode(format!("{len} bytes for a type of {size}"))
        })
    }
}

/// For byte strings: as they are.
#[derive(Debug, Clone, Copy)]
pub enum Bytes {}

impl Codec<Vec<u8>> for Bytes {
    const NAME: &'static str = "bytes";

    #[inline]
    fn encode(value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn as_encoded(value: &Vec<u8>) -> Option<&[u8]> {
        Some(value)
    }

    #[inline]
    fn is_always_a_value(_len: usize) -> bool {
        true
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }
}

fn reason(error: &impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<C: Codec<T>, T: PartialEq + fmt::Debug>(value: T) {
        let mut bytes = Vec::new();
        C::encode(&value, &mut bytes).unwrap();
        assert!(C::as_encoded(&value).is_none_or(|encoded| encoded == bytes));
        assert_eq!(C::decode(&bytes), Ok(value));
        bytes.push(0);
        assert!(
            matches!(C::decode(&bytes), Err(CodecError::Decode(_))),
            "a byte too many"
        );
        bytes.truncate(bytes.len().saturating_sub(2));
        assert!(
            matches!(C::decode(&bytes), Err(CodecError::Decode(_))),
            "a byte too few"
        );
    }

    #[test]
    fn values_come_back_as_they_went() {
        round::<Postcard, _>(("bun".to_owned(), Some(7_u64), vec![1.5, 2.5]));
        round::<Raw, _>([1_u32, 2, 3]);
    }

    #[test]
    fn bytes_are_what_they_are() {
        let mut bytes = Vec::new();
        Bytes::encode(&vec![1, 2, 3], &mut bytes).unwrap();
        assert_eq!(Bytes::as_encoded(&vec![1, 2, 3]), Some(&bytes[..]));
        assert_eq!(Bytes::decode(&bytes), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn what_says_that_it_cannot_be_encoded_is_an_error() {
        #[derive(Debug)]
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        impl<'de> serde::Deserialize<'de> for Refuses {
            fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Ok(Self)
            }
        }
        let encoded = Postcard::encode(&Refuses, &mut Vec::new());
        assert!(matches!(encoded, Err(CodecError::Encode(_))));
    }
}
