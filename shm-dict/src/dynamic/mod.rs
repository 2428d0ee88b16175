//! Values of any kind, as Python has them: `Dict<Dynamic, Dynamic>` holds `{0.25: None, 1: '1', '2': 2}`.
//!
//! | file | |
//! |---|---|
//! | `kind`, `integer`, `container` | what a value is made of |
//! | `walk` | a value step by step, without recursion; what follows is made of it |
//! | `compare`, `python`, `clone`, `repr`, `key` | equality, order and hash; what Python compares; copies; the text; the bytes as a key |
//! | `serde`, `tagged`, `natural` | the bytes as a value: the form of binary formats, and the one that people read |
//! | `from`, `convert`, `literal` | from and to the types of Rust |

mod clone;
mod compare;
mod container;
mod convert;
mod from;
mod integer;
mod key;
mod kind;
mod literal;
mod natural;
mod python;
mod repr;
mod serde;
mod tagged;
mod walk;

pub use container::{Mapping, Sequence};
pub use convert::ConvertError;
pub use from::Element;
pub use integer::Integer;
pub use kind::Kind;
pub use num_bigint::BigInt;

/// So many containers inside each other are stored at most. In a process there may be more.
///
/// A dictionary says [`NotAKey`](crate::DictError::NotAKey) of a deeper key, and of a deeper value
/// [`Codec`](crate::DictError::Codec). [`Dynamic::depth`] tells how deep a value is.
pub const MAX_DEPTH: usize = 64;

/// A value of any kind.
///
/// # Equality and order
/// Values are equal if they are of the same kind and equal there: `1`, `1.0` and `True` are three values, so also three
/// keys, which are one in Python. Floats have a total order: -0.0 equals 0.0, and NaN equals NaN and is the greatest. In
/// order are none, false, true, numbers by their value (an integer before a float that is as large), strings, byte
/// strings, tuples, lists, dicts.
///
/// # As a key
/// Equal keys have equal bytes. As in Python, lists and dicts are no keys, and tuples are if all in them are. NaN is
/// none. (A dict *inside* a value may have any keys.)
///
/// # As a value
/// Every value comes back as it went, unless it is deeper than [`MAX_DEPTH`]. Equal values have equal bytes, so that
/// [`compare_and_swap`](crate::Dict::compare_and_swap) works, but for the sign of zero and the bits of NaN, which are kept.
///
/// # Text
/// As Python's `repr`.
///
/// # JSON
/// In a format that people read, serde has `[list]` and `{"key": "value"}`; what has no notation there is an object of one
/// entry that names it: `{"$tuple": [1, 2]}`, `{"$dict": [[0.25, null]]}`. So a large integer or a float that is
/// not finite is a level of JSON, a tuple or a byte string two, and a dict whose keys are no plain strings three beside those of
/// its keys. `serde_json` writes any number of levels and reads 127: not what it wrote
/// of 64 tuples inside each other, or of 43 such dicts, unless its own limit is lifted (`disable_recursion_limit`).
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_dict::{Dict, Dynamic, dynamic};
///
/// # let name = format!("doc-dynamic-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let mixed = Dict::<Dynamic, Dynamic>::create(place, Default::default())?;
/// mixed.set(&dynamic!(0.25), &dynamic!(None))?;
/// mixed.set(&dynamic!(1), &dynamic!("1"))?;
/// mixed.set(&dynamic!("2"), &dynamic!([2, (3.5,), {"four": 4}]))?;
///
/// let value = mixed.get(&"2".into())?.expect("it is there");
/// assert_eq!(value.to_string(), "[2, (3.5,), {'four': 4}]");
/// match mixed.get(&1.into())? {
///     Some(Dynamic::Str(text)) => assert_eq!(text, "1"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
#[non_exhaustive]
pub enum Dynamic {
    /// Nothing.
    #[default]
    None,
    /// True or false.
    Bool(bool),
    /// An integer of any size.
    Int(Integer),
    /// A float.
    Float(f64),
    /// A string.
    Str(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A tuple.
    Tuple(Sequence),
    /// A list.
    List(Sequence),
    /// A dict, in the order of its keys.
    Dict(Mapping),
}

impl Dynamic {
    /// A byte string.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// A tuple of what can become values.
    ///
    /// # Examples
    /// ```
    /// use shm_dict::Dynamic;
    ///
    /// assert_eq!(Dynamic::tuple([1]).to_string(), "(1,)");
    /// ```
    #[must_use]
    pub fn tuple<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::Tuple(items.into_iter().map(Into::into).collect())
    }

    /// A list of what can become values.
    #[must_use]
    pub fn list<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// A dict of what can become keys and values; of equal keys the last one counts.
    ///
    /// # Examples
    /// ```
    /// use shm_dict::Dynamic;
    ///
    /// assert_eq!(Dynamic::dict([("a", 1), ("b", 2)]).to_string(), "{'a': 1, 'b': 2}");
    /// ```
    #[must_use]
    pub fn dict<K: Into<Self>, V: Into<Self>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = pairs.into_iter();
        Self::Dict(
            pairs
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    /// Of what kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::None => Kind::None,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Str(_) => Kind::Str,
            Self::Bytes(_) => Kind::Bytes,
            Self::Tuple(_) => Kind::Tuple,
            Self::List(_) => Kind::List,
            Self::Dict(_) => Kind::Dict,
        }
    }

    /// Whether it is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The bool that it is.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer that it is, if it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_int()?.as_i64()
    }

    /// The integer that it is.
    #[must_use]
    pub fn as_int(&self) -> Option<&Integer> {
        match self {
            Self::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The float that it is.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The string that it is.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(value) => Some(value),
            _ => None,
        }
    }

    /// The byte string that it is.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// What is in the tuple or list that it is.
    #[must_use]
    pub fn as_items(&self) -> Option<&Sequence> {
        match self {
            Self::Tuple(items) | Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The dict that it is.
    #[must_use]
    pub fn as_dict(&self) -> Option<&Mapping> {
        match self {
            Self::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// Whether it is a tuple, a list or a dict.
    pub(crate) fn is_container(&self) -> bool {
        matches!(self, Self::Tuple(_) | Self::List(_) | Self::Dict(_))
    }
}
