//! How values become bytes and come back.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::QueueError;

/// Encodes and decodes the values of a queue.
pub trait Codec<T> {
    /// What a segment's type fingerprint calls it: two codecs with one name read each other's bytes.
    const NAME: &'static str;

    /// Appends the encoded value to `out`, which is empty.
    ///
    /// # Errors
    /// [`QueueError::Encode`].
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), QueueError>;

    /// Whether every message of so many bytes is a value. It is then taken out before it is decoded, under
    /// one lock; any other is handed out, decoded and then finished, so that one that is no value is put
    /// aside and not lost.
    #[inline]
    #[must_use]
    fn is_always_a_value(_len: usize) -> bool {
        false
    }

    /// Makes a value of bytes that may be anything.
    ///
    /// # Errors
    /// [`QueueError::Decode`].
    fn decode(bytes: &[u8]) -> Result<T, QueueError>;
}

/// For all that serde knows: the postcard format, which is small, fast and specified.
#[derive(Debug, Clone, Copy)]
pub enum Postcard {}

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    const NAME: &'static str = "postcard";

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), QueueError> {
        // A writer that appends to the reused buffer.
        postcard::to_io(value, &mut *out).map_err(|error| QueueError::Encode(reason(&error)))?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<T, QueueError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, left)) => Err(QueueError::Decode(format!("{} bytes too many", left.len()))),
            Err(error) => Err(QueueError::Decode(reason(&error))),
        }
    }
}

/// For plain types: their bytes as they are. Whoever opens the queue must have the same type, which its
/// name and size say.
#[derive(Debug, Clone, Copy)]
pub enum Raw {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Codec<T> for Raw {
    const NAME: &'static str = "raw";

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), QueueError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    #[inline]
    fn is_always_a_value(len: usize) -> bool {
        len == size_of::<T>()
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T, QueueError> {
        T::read_from_bytes(bytes).map_err(|_| {
            let (len, size) = (bytes.len(), size_of::<T>());
            QueueError::Decode(format!("{len} bytes for a type of {size}"))
        })
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
        assert_eq!(C::decode(&bytes), Ok(value));
        bytes.push(0);
        assert!(
            matches!(C::decode(&bytes), Err(QueueError::Decode(_))),
            "a byte too many"
        );
        bytes.truncate(bytes.len().saturating_sub(2));
        assert!(
            matches!(C::decode(&bytes), Err(QueueError::Decode(_))),
            "a byte too few"
        );
    }

    #[test]
    fn values_come_back_as_they_went() {
        round::<Postcard, _>(("bun".to_owned(), Some(7_u64), vec![1.5, 2.5]));
        round::<Raw, _>([1_u32, 2, 3]);
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
        assert!(matches!(encoded, Err(QueueError::Encode(_))));
    }
}
