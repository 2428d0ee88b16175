//! What a [`ShareableList`](crate::ShareableList) holds: an item, and its bytes.
//!
//! | kind | item | bytes |
//! |---:|---|---|
//! | 0 | none | none |
//! | 1 | bool | one: 0 or 1 |
//! | 2 | integer | eight: an `i64` |
//! | 3 | float | eight: an `f64` |
//! | 4 | string | its UTF-8 |
//! | 5 | bytes | themselves |

/// An item of a [`ShareableList`](crate::ShareableList), out of shared memory.
///
/// Items are equal if they are of the same kind and equal there: `1`, `1.0` and `true` are three
/// different items.
///
/// # Examples
/// ```
/// use shm_value::{Item, ItemRef};
///
/// let item = Item::from("naïve");
/// assert_eq!(item.as_ref(), ItemRef::Str("naïve"));
/// assert_ne!(Item::from(1), Item::from(true));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// A string.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// An [`Item`] that is borrowed: what is written to a list, or compared with what is in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ItemRef<'a> {
    /// Nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// A string.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl Item {
    /// The item, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> ItemRef<'_> {
        match self {
            Self::None => ItemRef::None,
            Self::Bool(value) => ItemRef::Bool(*value),
            Self::Int(value) => ItemRef::Int(*value),
            Self::Float(value) => ItemRef::Float(*value),
            Self::Str(value) => ItemRef::Str(value),
            Self::Bytes(value) => ItemRef::Bytes(value),
        }
    }

    /// The item of a kind and its bytes; `None` if there is no such item.
    pub(crate) fn decode(kind: u8, bytes: Vec<u8>) -> Option<Self> {
        let word = || <[u8; 8]>::try_from(&*bytes).ok();
        Some(match kind {
            0 if bytes.is_empty() => Self::None,
            1 if bytes == [0] => Self::Bool(false),
            1 if bytes == [1] => Self::Bool(true),
            2 => Self::Int(i64::from_ne_bytes(word()?)),
            3 => Self::Float(f64::from_ne_bytes(word()?)),
            4 => Self::Str(String::from_utf8(bytes).ok()?),
            5 => Self::Bytes(bytes),
            _ => return None,
        })
    }
}

impl<'a> ItemRef<'a> {
    /// The item, as one of its own.
    #[must_use]
    pub fn to_item(self) -> Item {
        match self {
            Self::None => Item::None,
            Self::Bool(value) => Item::Bool(value),
            Self::Int(value) => Item::Int(value),
            Self::Float(value) => Item::Float(value),
            Self::Str(value) => Item::Str(value.to_owned()),
            Self::Bytes(value) => Item::Bytes(value.to_vec()),
        }
    }

    /// Its kind and its bytes, which are put into `word` if they are not there yet.
    pub(crate) fn encode(self, word: &'a mut [u8; 8]) -> (u8, &'a [u8]) {
        match self {
            Self::None => (0, &[]),
            Self::Bool(value) => (1, if value { &[1] } else { &[0] }),
            Self::Int(value) => {
                *word = value.to_ne_bytes();
                (2, word)
            }
            Self::Float(value) => {
                *word = value.to_ne_bytes();
                (3, word)
            }
            Self::Str(value) => (4, value.as_bytes()),
            Self::Bytes(value) => (5, value),
        }
    }
}

impl<'a> From<&'a Item> for ItemRef<'a> {
    fn from(item: &'a Item) -> Self {
        item.as_ref()
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for Item {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

macro_rules! from_borrowed {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl<'a> From<$type> for ItemRef<'a> {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from!(bool => Bool, i32 => Int, u32 => Int, i64 => Int, f32 => Float, f64 => Float);
from!(&str => Str, String => Str, &[u8] => Bytes, Vec<u8> => Bytes);
from_borrowed!(bool => Bool, i32 => Int, u32 => Int, i64 => Int, f32 => Float, f64 => Float);
from_borrowed!(&'a str => Str, &'a [u8] => Bytes);

impl<const N: usize> From<&[u8; N]> for Item {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for ItemRef<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Bytes(value)
    }
}
