//! Values as keys: their bytes are those as a value, in the form that postcard makes of them, where -0.0 is 0.0.

use shm_core::codec::{Codec, Postcard};
use shm_core::mutants::mutant;

use super::walk::{Step, walk};
use super::{Dynamic, Integer, MAX_DEPTH, tagged};
use crate::error::DictError;
use crate::key::{KeyBytes, ShmKey};

impl KeyBytes for Dynamic {
    #[inline]
    fn with_key_bytes<R>(
        &self,
        f: impl FnOnce(&[u8]) -> Result<R, DictError>,
    ) -> Result<R, DictError> {
        let mut bytes = Bytes::new();
        if self.is_container() {
            tuple(self, &mut bytes)?;
        } else {
            leaf(self, &mut bytes)?;
        }
        f(bytes.all())
    }
}

impl ShmKey for Dynamic {
    const SIZE: Option<usize> = None;

    fn from_key_bytes(bytes: &[u8]) -> Result<Self, DictError> {
        let no_key = DictError::NotAKey("the stored bytes are none of this type");
        let Ok(key) = <Postcard as Codec<Self>>::decode(bytes) else {
            return Err(no_key);
        };
        // There is one form of each key.
        if key.with_key_bytes(|own| Ok(own == bytes))? || mutant("Dynamic::BelievesAnyForm") {
            Ok(key)
        } else {
            Err(no_key)
        }
    }
}

fn tuple(value: &Dynamic, bytes: &mut Bytes) -> Result<(), DictError> {
    let mut depth = 0;
    for step in walk(value) {
        match step {
            Step::Leaf(value) => leaf(value, bytes)?,
            Step::Enter(Dynamic::Tuple(items)) if depth < MAX_DEPTH => {
                depth += 1;
                bytes.push(&[tagged::TUPLE]);
                bytes.push_varint(items.len() as u64);
            }
            Step::Enter(Dynamic::Tuple(_)) => {
                return Err(DictError::NotAKey("tuples too deep inside each other"));
            }
            Step::Enter(_) => return Err(DictError::NotAKey("lists and dicts are none")),
            Step::Leave => depth -= 1,
        }
    }
    Ok(())
}

#[inline]
fn leaf(value: &Dynamic, bytes: &mut Bytes) -> Result<(), DictError> {
    match value {
        Dynamic::Bool(value) => bytes.push(&[tagged::BOOL, u8::from(*value)]),
        Dynamic::Int(value) => integer(value, bytes),
        Dynamic::Float(value) => {
            if value.is_nan() {
                return Err(DictError::NotAKey("NaN equals nothing"));
            }
            bytes.push(&[tagged::FLOAT]);
            // Adding zero makes 0.0 of -0.0.
            bytes.push(&(value + 0.0).to_le_bytes());
        }
        Dynamic::Str(value) => bytes.push_string(tagged::STR, value.as_bytes()),
        Dynamic::Bytes(value) => bytes.push_string(tagged::BYTES, value),
        Dynamic::None | Dynamic::Tuple(_) | Dynamic::List(_) | Dynamic::Dict(_) => {
            bytes.push(&[tagged::NONE]);
        }
    }
    Ok(())
}

fn integer(value: &Integer, bytes: &mut Bytes) {
    match value.form() {
        Ok(small) => {
            bytes.push(&[tagged::INT]);
            bytes.push_varint((small << 1 ^ small >> 63) as u64);
        }
        Err(big) => bytes.push_string(tagged::BIG, &big.to_signed_bytes_le()),
    }
}

/// Bytes that are collected: as long as they are few, without an allocation.
struct Bytes {
    few: [u8; Self::FEW],
    len: usize,
    /// All, if they are more.
    many: Vec<u8>,
}

impl Bytes {
    const FEW: usize = 64;

    #[inline]
    fn new() -> Self {
        Self {
            few: [0; Self::FEW],
            len: 0,
            many: Vec::new(),
        }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.few.get_mut(self.len..end) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                if self.len <= Self::FEW {
                    self.many.extend_from_slice(&self.few[..self.len]);
                }
                self.many.extend_from_slice(bytes);
            }
        }
        self.len = end;
    }

    /// Seven bits in each byte, the lowest first; the highest bit of all but the last byte is set.
    fn push_varint(&mut self, mut value: u64) {
        let mut bytes = [0; 10];
        let mut len = 0;
        while value >= 0x80 {
            bytes[len] = value as u8 | 0x80;
            value >>= 7;
            len += 1;
        }
        bytes[len] = value as u8;
        self.push(&bytes[..=len]);
    }

    fn push_string(&mut self, tag: u8, string: &[u8]) {
        self.push(&[tag]);
        self.push_varint(string.len() as u64);
        self.push(string);
    }

    fn all(&self) -> &[u8] {
        self.few.get(..self.len).unwrap_or(&self.many)
    }
}
