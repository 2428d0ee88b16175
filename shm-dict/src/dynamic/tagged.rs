//! The form of binary formats: an enum of ten variants. docs/format.md has its bytes in postcard.

use num_bigint::BigInt;
use serde::Deserialize;
use serde::de::{Deserializer, EnumAccess, Error, VariantAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;

use super::Dynamic;
use super::serde::{Items, Out, Pairs};

const NAME: &str = "Dynamic";
const VARIANTS: &[&str] = &[
    "None", "Bool", "Int", "BigInt", "Float", "Str", "Bytes", "Tuple", "List", "Dict",
];

pub(super) const NONE: u8 = Tag::None as u8;
pub(super) const BOOL: u8 = Tag::Bool as u8;
pub(super) const INT: u8 = Tag::Int as u8;
pub(super) const BIG: u8 = Tag::BigInt as u8;
pub(super) const FLOAT: u8 = Tag::Float as u8;
pub(super) const STR: u8 = Tag::Str as u8;
pub(super) const BYTES: u8 = Tag::Bytes as u8;
pub(super) const TUPLE: u8 = Tag::Tuple as u8;

#[derive(Clone, Copy, Deserialize)]
#[serde(variant_identifier)]
enum Tag {
    None,
    Bool,
    /// One that fits into an `i64`.
    Int,
    /// Another: two's complement, as few bytes as it needs, the lowest first.
    BigInt,
    Float,
    Str,
    Bytes,
    Tuple,
    List,
    Dict,
}

#[inline]
pub(super) fn serialize<S: Serializer>(
    value: &Dynamic,
    room: usize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Dynamic::None => serializer.serialize_unit_variant(NAME, Tag::None as u32, "None"),
        Dynamic::Bool(value) => variant(serializer, Tag::Bool, value),
        Dynamic::Int(value) => match value.form() {
            Ok(small) => variant(serializer, Tag::Int, &small),
            Err(big) => variant(serializer, Tag::BigInt, &Bytes(&big.to_signed_bytes_le())),
        },
        Dynamic::Float(value) => variant(serializer, Tag::Float, value),
        Dynamic::Str(value) => variant(serializer, Tag::Str, value),
        Dynamic::Bytes(value) => variant(serializer, Tag::Bytes, &Bytes(value)),
        Dynamic::Tuple(items) => variant(serializer, Tag::Tuple, &Out::new(items, room)),
        Dynamic::List(items) => variant(serializer, Tag::List, &Out::new(items, room)),
        Dynamic::Dict(pairs) => variant(serializer, Tag::Dict, &Out::new(pairs, room)),
    }
}

#[inline]
fn variant<S: Serializer, T: Serialize>(
    serializer: S,
    tag: Tag,
    value: &T,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_newtype_variant(NAME, tag as u32, VARIANTS[tag as usize], value)
}

#[inline]
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    room: usize,
    deserializer: D,
) -> Result<Dynamic, D::Error> {
    deserializer.deserialize_enum(NAME, VARIANTS, Any { room })
}

struct Any {
    room: usize,
}

impl<'de> Visitor<'de> for Any {
    type Value = Dynamic;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of any kind")
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Dynamic, A::Error> {
        let room = self.room;
        let (tag, from) = from.variant()?;
        Ok(match tag {
            Tag::None => {
                from.unit_variant()?;
                Dynamic::None
            }
            Tag::Bool => Dynamic::Bool(from.newtype_variant()?),
            Tag::Int => Dynamic::Int(from.newtype_variant::<i64>()?.into()),
            Tag::BigInt => {
                let bytes = from.newtype_variant::<ByteBuf>()?.0;
                // What fits into an `i64` becomes one: nobody writes it so, but there is one form of each number.
                Dynamic::Int(BigInt::from_signed_bytes_le(&bytes).into())
            }
            Tag::Float => Dynamic::Float(from.newtype_variant()?),
            Tag::Str => Dynamic::Str(from.newtype_variant()?),
            Tag::Bytes => Dynamic::Bytes(from.newtype_variant::<ByteBuf>()?.0),
            Tag::Tuple => Dynamic::Tuple(from.newtype_variant_seed(Items { room })?),
            Tag::List => Dynamic::List(from.newtype_variant_seed(Items { room })?),
            Tag::Dict => Dynamic::Dict(from.newtype_variant_seed(Pairs { room })?),
        })
    }
}

/// Bytes that are written at once.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Bytes that are read at once.
struct ByteBuf(Vec<u8>);

impl<'de> Deserialize<'de> for ByteBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = ByteBuf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ByteBuf, E> {
        Ok(ByteBuf(bytes.to_vec()))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<ByteBuf, E> {
        Ok(ByteBuf(bytes))
    }
}
