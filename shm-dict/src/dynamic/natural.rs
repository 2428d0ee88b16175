//! The form of formats that people read: null, true, 1, 1.5, "text", [list], {"key": "value"}; what these have no
//! notation for is an object of one entry whose key names it.
//!
//! | value | form |
//! |---|---|
//! | integer below -2^63 or from 2^64 on | `{"$int": "18446744073709551616"}` |
//! | float that is no number | `{"$float": "nan"}`, `"inf"`, `"-inf"` |
//! | byte string | `{"$bytes": [0, 255]}` |
//! | tuple | `{"$tuple": [1, 2]}` |
//! | dict with a key that is no string, or one that begins with `$` | `{"$dict": [[0.25, null], [1, "1"]]}` |

use std::fmt;

use num_bigint::BigInt;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::serde::{In, Items, Out, less};
use super::{Dynamic, Mapping};

/// What the keys begin with that name a kind.
const MARK: char = '$';

pub(super) fn serialize<S: Serializer>(
    value: &Dynamic,
    room: usize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Dynamic::None => serializer.serialize_unit(),
        Dynamic::Bool(value) => serializer.serialize_bool(*value),
        Dynamic::Int(value) => match (value.as_i64(), u64::try_from(value)) {
            (Some(value), _) => serializer.serialize_i64(value),
            (None, Ok(value)) => serializer.serialize_u64(value),
            (None, Err(_)) => marked(serializer, "$int", &value.to_string()),
        },
        Dynamic::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
        Dynamic::Float(_) => marked(serializer, "$float", &value.to_string()),
        Dynamic::Str(value) => serializer.serialize_str(value),
        Dynamic::Bytes(value) => marked(serializer, "$bytes", value),
        Dynamic::Tuple(items) => marked(serializer, "$tuple", &Out::new(items, room)),
        Dynamic::List(items) => Out::new(items, room).serialize(serializer),
        Dynamic::Dict(pairs) if has_plain_keys(pairs) => {
            Out::new(pairs, room).serialize(serializer)
        }
        Dynamic::Dict(pairs) => marked(serializer, "$dict", &ListOfPairs { pairs, room }),
    }
}

fn has_plain_keys(pairs: &Mapping) -> bool {
    let mut keys = pairs.keys().map(Dynamic::as_str);
    keys.all(|key| key.is_some_and(|key| !key.starts_with(MARK)))
}

fn marked<S: Serializer, T: Serialize>(
    serializer: S,
    mark: &str,
    value: &T,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(mark, value)?;
    map.end()
}

/// A dict as a list of its pairs.
struct ListOfPairs<'a> {
    pairs: &'a Mapping,
    room: usize,
}

impl Serialize for ListOfPairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let room = less::<S::Error>(self.room, serde::ser::Error::custom)?;
        let pairs = self.pairs.iter();
        serializer
            .collect_seq(pairs.map(|(key, value)| (Out::new(key, room), Out::new(value, room))))
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    room: usize,
    deserializer: D,
) -> Result<Dynamic, D::Error> {
    deserializer.deserialize_any(Any { room })
}

struct Any {
    room: usize,
}

impl<'de> Visitor<'de> for Any {
    type Value = Dynamic;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of any kind")
    }

    fn visit_unit<E: Error>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::None)
    }

    fn visit_none<E: Error>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dynamic, D::Error> {
        let room = less::<D::Error>(self.room, Error::custom)?;
        In { room }.deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<Dynamic, A::Error> {
        Items { room: self.room }.visit_seq(from).map(Dynamic::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Dynamic, A::Error> {
        let room = less::<A::Error>(self.room, Error::custom)?;
        let mut pairs = Mapping::default();
        while let Some(key) = from.next_key_seed(In { room })? {
            match key.as_str().filter(|key| key.starts_with(MARK)) {
                Some(mark) if pairs.is_empty() => return unmark(mark, self.room, from),
                Some(mark) => return Err(out_of_place(mark)),
                None => pairs.insert(key, from.next_value_seed(In { room })?),
            };
        }
        Ok(Dynamic::Dict(pairs))
    }
}

fn out_of_place<E: Error>(key: &str) -> E {
    E::custom(format!(
        "the key {key:?} is out of place; a dict that has it is a list of pairs, \"$dict\""
    ))
}

/// The value of an object whose first key is `mark`.
fn unmark<'de, A: MapAccess<'de>>(
    mark: &str,
    room: usize,
    mut from: A,
) -> Result<Dynamic, A::Error> {
    let value = match mark {
        "$int" => {
            let text: String = from.next_value()?;
            text.parse::<BigInt>().map_err(Error::custom)?.into()
        }
        "$float" => {
            let text: String = from.next_value()?;
            text.parse::<f64>().map_err(Error::custom)?.into()
        }
        "$bytes" => Dynamic::Bytes(from.next_value()?),
        "$tuple" => Dynamic::Tuple(from.next_value_seed(Items { room })?),
        "$dict" => Dynamic::Dict(from.next_value_seed(PairsOfList { room })?),
        _ => return Err(out_of_place(mark)),
    };
    match from.next_key::<String>()? {
        None => Ok(value),
        Some(key) => Err(Error::custom(format!(
            "{mark:?} has no room for {key:?} beside it"
        ))),
    }
}

/// A dict from a list of pairs.
struct PairsOfList {
    room: usize,
}

impl<'de> DeserializeSeed<'de> for PairsOfList {
    type Value = Mapping;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Mapping, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PairsOfList {
    type Value = Mapping;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pairs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Mapping, A::Error> {
        let room = less::<A::Error>(self.room, Error::custom)?;
        let mut pairs = Mapping::default();
        while let Some((key, value)) = from.next_element_seed(Pair { room })? {
            pairs.insert(key, value);
        }
        Ok(pairs)
    }
}

struct Pair {
    room: usize,
}

impl<'de> DeserializeSeed<'de> for Pair {
    type Value = (Dynamic, Dynamic);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_tuple(2, self)
    }
}

impl<'de> Visitor<'de> for Pair {
    type Value = (Dynamic, Dynamic);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let room = self.room;
        let mut next = |at| {
            from.next_element_seed(In { room })?
                .ok_or_else(|| Error::invalid_length(at, &"a key and a value"))
        };
        Ok((next(0)?, next(1)?))
    }
}
