//! Values of the types of Rust.

use std::collections::{BTreeMap, HashMap};

use num_bigint::BigInt;

use super::{Dynamic, Integer, Mapping, Sequence};

/// What vectors and arrays of become lists: all that becomes a value, but for `u8`, of which they become byte strings.
///
/// # Examples
/// ```
/// use shm_dict::{Dynamic, Element};
///
/// assert_eq!(Dynamic::from(vec![1, 2]).to_string(), "[1, 2]");
/// assert_eq!(Dynamic::from(vec![1_u8, 2]).to_string(), r"b'\x01\x02'");
///
/// struct Celsius(f64);
/// impl From<Celsius> for Dynamic {
///     fn from(Celsius(degrees): Celsius) -> Self {
///         degrees.into()
///     }
/// }
/// impl Element for Celsius {}
/// assert_eq!(Dynamic::from(vec![Celsius(36.6)]).to_string(), "[36.6]");
/// ```
pub trait Element: Into<Dynamic> {}

impl Element for Dynamic {}

/// A variant holds what the type can become.
macro_rules! from {
    ($($variant:ident: $($type:ty),*;)*) => {$($(
        impl From<$type> for Dynamic {
            #[inline]
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*)*};
}
from! {
    Bool: bool;
    Int: u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, BigInt, Integer;
    Float: f32, f64;
    Str: &str, String, char;
    Bytes: &[u8], Vec<u8>;
    Dict: Mapping;
}

macro_rules! elements {
    ($($type:ty),*) => {$(impl Element for $type {})*};
}
elements!(
    bool,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    BigInt,
    Integer,
    f32,
    f64,
    &str,
    String,
    char,
    &[u8],
    Vec<u8>,
    Mapping
);

impl<const N: usize> From<[u8; N]> for Dynamic {
    fn from(bytes: [u8; N]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl<const N: usize> From<&[u8; N]> for Dynamic {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl<const N: usize> Element for [u8; N] {}
impl<const N: usize> Element for &[u8; N] {}

impl<T: Element> From<Vec<T>> for Dynamic {
    fn from(items: Vec<T>) -> Self {
        Self::list(items)
    }
}

impl<T: Element> Element for Vec<T> {}

impl<T: Element, const N: usize> From<[T; N]> for Dynamic {
    fn from(items: [T; N]) -> Self {
        Self::list(items)
    }
}

impl<T: Element, const N: usize> Element for [T; N] {}

impl<T: Into<Dynamic>> From<Option<T>> for Dynamic {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl<T: Into<Dynamic>> Element for Option<T> {}

impl<K: Into<Dynamic>, V: Into<Dynamic>, S> From<HashMap<K, V, S>> for Dynamic {
    fn from(pairs: HashMap<K, V, S>) -> Self {
        Self::dict(pairs)
    }
}

impl<K: Into<Dynamic>, V: Into<Dynamic>, S> Element for HashMap<K, V, S> {}

impl<K: Into<Dynamic>, V: Into<Dynamic>> From<BTreeMap<K, V>> for Dynamic {
    fn from(pairs: BTreeMap<K, V>) -> Self {
        Self::dict(pairs)
    }
}

impl<K: Into<Dynamic>, V: Into<Dynamic>> Element for BTreeMap<K, V> {}

macro_rules! tuples {
    ($(($($part:ident . $at:tt),*))*) => {$(
        impl<$($part: Into<Dynamic>),*> From<($($part,)*)> for Dynamic {
            fn from(parts: ($($part,)*)) -> Self {
                Self::Tuple(Sequence::from(vec![$(parts.$at.into()),*]))
            }
        }

        impl<$($part: Into<Dynamic>),*> Element for ($($part,)*) {}
    )*};
}
tuples! {
    (A.0)
    (A.0, B.1)
    (A.0, B.1, C.2)
    (A.0, B.1, C.2, D.3)
    (A.0, B.1, C.2, D.3, E.4)
    (A.0, B.1, C.2, D.3, E.4, F.5)
}
