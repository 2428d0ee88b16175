//! The types of Rust from values.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};

use num_bigint::BigInt;

use super::{Dynamic, Element, Integer, Kind, Mapping, Sequence};

/// Why a value did not become one of another type.
///
/// # Examples
/// ```
/// use shm_dict::{ConvertError, Kind, dynamic};
///
/// let error = String::try_from(dynamic!(1)).unwrap_err();
/// assert_eq!(error, ConvertError::WrongKind { expected: Kind::Str, found: Kind::Int });
/// assert_eq!(error.to_string(), "expected str, found int");
/// assert_eq!(u8::try_from(dynamic!(256)).unwrap_err().to_string(), "the number is none of u8");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// It is of another kind.
    #[error("expected {expected}, found {found}")]
    WrongKind {
        /// The kind that becomes such a type.
        expected: Kind,
        /// The value's kind.
        found: Kind,
    },
    /// The number is not one of the type.
    #[error("the number is none of {target}")]
    OutOfRange {
        /// The type.
        target: &'static str,
    },
    /// A tuple or a list is longer or shorter.
    #[error("expected {expected} items, found {found}")]
    WrongLength {
        /// The length of the type.
        expected: usize,
        /// The value's length.
        found: usize,
    },
}

impl From<Infallible> for ConvertError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn wrong(expected: Kind, value: &Dynamic) -> ConvertError {
    let found = value.kind();
    ConvertError::WrongKind { expected, found }
}

/// By reference, so that the value is still there if it is none.
macro_rules! copied {
    ($($type:ty: $kind:ident, $as:ident => $to:expr;)*) => {$(
        impl TryFrom<&Dynamic> for $type {
            type Error = ConvertError;

            #[inline]
            fn try_from(value: &Dynamic) -> Result<Self, ConvertError> {
                value.$as().ok_or_else(|| wrong(Kind::$kind, value)).and_then($to)
            }
        }

        impl TryFrom<Dynamic> for $type {
            type Error = ConvertError;

            #[inline]
            fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
                Self::try_from(&value)
            }
        }
    )*};
}
copied! {
    bool: Bool, as_bool => Ok;
    u8: Int, as_int => Self::try_from;
    u16: Int, as_int => Self::try_from;
    u32: Int, as_int => Self::try_from;
    u64: Int, as_int => Self::try_from;
    u128: Int, as_int => Self::try_from;
    usize: Int, as_int => Self::try_from;
    i8: Int, as_int => Self::try_from;
    i16: Int, as_int => Self::try_from;
    i32: Int, as_int => Self::try_from;
    i64: Int, as_int => Self::try_from;
    i128: Int, as_int => Self::try_from;
    isize: Int, as_int => Self::try_from;
    BigInt: Int, as_int => |value| Ok(value.to_bigint());
    f64: Float, as_f64 => Ok;
    f32: Float, as_f64 => narrow;
    char: Str, as_str => |text| text.parse().map_err(|_| length_of(1, text.chars().count()));
}

/// A float of 32 bits that is the same number.
fn narrow(float: f64) -> Result<f32, ConvertError> {
    let narrow = float as f32;
    if f64::from(narrow) == float || float.is_nan() {
        Ok(narrow)
    } else {
        Err(ConvertError::OutOfRange { target: "f32" })
    }
}

fn length_of(expected: usize, found: usize) -> ConvertError {
    ConvertError::WrongLength { expected, found }
}

macro_rules! borrowed {
    ($($type:ty: $kind:ident, $as:ident;)*) => {$(
        impl<'a> TryFrom<&'a Dynamic> for &'a $type {
            type Error = ConvertError;

            fn try_from(value: &'a Dynamic) -> Result<Self, ConvertError> {
                value.$as().ok_or_else(|| wrong(Kind::$kind, value))
            }
        }
    )*};
}
borrowed! {
    str: Str, as_str;
    [u8]: Bytes, as_bytes;
}

macro_rules! moved {
    ($($type:ty: $variant:ident;)*) => {$(
        impl TryFrom<Dynamic> for $type {
            type Error = ConvertError;

            fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
                match value {
                    Dynamic::$variant(inner) => Ok(inner),
                    other => Err(wrong(Kind::$variant, &other)),
                }
            }
        }
    )*};
}
moved! {
    Integer: Int;
    String: Str;
    Vec<u8>: Bytes;
    Mapping: Dict;
}

fn list(value: Dynamic) -> Result<Sequence, ConvertError> {
    match value {
        Dynamic::List(items) => Ok(items),
        other => Err(wrong(Kind::List, &other)),
    }
}

impl<T: Element + TryFrom<Dynamic>> TryFrom<Dynamic> for Vec<T>
where
    ConvertError: From<T::Error>,
{
    type Error = ConvertError;

    fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
        let items = list(value)?.into_iter();
        Ok(items.map(T::try_from).collect::<Result<_, _>>()?)
    }
}

impl<T: Element + TryFrom<Dynamic>, const N: usize> TryFrom<Dynamic> for [T; N]
where
    ConvertError: From<T::Error>,
{
    type Error = ConvertError;

    fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
        let items = Vec::<T>::try_from(value)?;
        Self::try_from(items).map_err(|items| length_of(N, items.len()))
    }
}

fn pairs<K: TryFrom<Dynamic>, V: TryFrom<Dynamic>, C: FromIterator<(K, V)>>(
    value: Dynamic,
) -> Result<C, ConvertError>
where
    ConvertError: From<K::Error> + From<V::Error>,
{
    let pairs = Mapping::try_from(value)?.into_iter();
    pairs
        .map(|(key, value)| Ok((K::try_from(key)?, V::try_from(value)?)))
        .collect()
}

impl<K, V, S> TryFrom<Dynamic> for HashMap<K, V, S>
where
    K: TryFrom<Dynamic> + Eq + Hash,
    V: TryFrom<Dynamic>,
    S: BuildHasher + Default,
    ConvertError: From<K::Error> + From<V::Error>,
{
    type Error = ConvertError;

    fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
        pairs(value)
    }
}

impl<K: TryFrom<Dynamic> + Ord, V: TryFrom<Dynamic>> TryFrom<Dynamic> for BTreeMap<K, V>
where
    ConvertError: From<K::Error> + From<V::Error>,
{
    type Error = ConvertError;

    fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
        pairs(value)
    }
}

// Not of `Option<Dynamic>`, which std makes.
impl<T: TryFrom<Dynamic, Error = ConvertError>> TryFrom<Dynamic> for Option<T> {
    type Error = ConvertError;

    fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
        Ok(if value.is_none() {
            None
        } else {
            Some(T::try_from(value)?)
        })
    }
}

macro_rules! tuples {
    ($($len:literal: $($part:ident)*;)*) => {$(
        impl<$($part: TryFrom<Dynamic>),*> TryFrom<Dynamic> for ($($part,)*)
        where
            $(ConvertError: From<$part::Error>),*
        {
            type Error = ConvertError;

            fn try_from(value: Dynamic) -> Result<Self, ConvertError> {
                let Dynamic::Tuple(items) = value else {
                    return Err(wrong(Kind::Tuple, &value));
                };
                if items.len() != $len {
                    return Err(length_of($len, items.len()));
                }
                let mut items = items.into_iter();
                Ok(($($part::try_from(items.next().unwrap_or_default())?,)*))
            }
        }
    )*};
}
tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
}
