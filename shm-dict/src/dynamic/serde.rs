//! Values as serde sees them: [`natural`] for formats that people read, [`tagged`] for others. Both go at most
//! [`MAX_DEPTH`] containers deep, in both directions, and take no more memory than what they read.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use shm_core::mutants::mutant;
use std::fmt;

use super::{Dynamic, MAX_DEPTH, Mapping, Sequence, natural, tagged};

impl Serialize for Dynamic {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Out::new(self, MAX_DEPTH).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Dynamic {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        In { room: MAX_DEPTH }.deserialize(deserializer)
    }
}

/// Something that is written, with the number of containers that it may still have inside each other.
pub(super) struct Out<'a, T> {
    pub(super) it: &'a T,
    pub(super) room: usize,
}

impl<'a, T> Out<'a, T> {
    pub(super) fn new(it: &'a T, room: usize) -> Self {
        Self { it, room }
    }
}

impl Serialize for Out<'_, Dynamic> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            natural::serialize(self.it, self.room, serializer)
        } else {
            tagged::serialize(self.it, self.room, serializer)
        }
    }
}

impl Serialize for Out<'_, Sequence> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let room = less::<S::Error>(self.room, serde::ser::Error::custom)?;
        serializer.collect_seq(self.it.iter().map(|item| Out::new(item, room)))
    }
}

impl Serialize for Out<'_, Mapping> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let room = less::<S::Error>(self.room, serde::ser::Error::custom)?;
        let pairs = self.it.iter();
        serializer
            .collect_map(pairs.map(|(key, value)| (Out::new(key, room), Out::new(value, room))))
    }
}

/// A value that is read, with the number of containers that it may have inside each other.
pub(super) struct In {
    pub(super) room: usize,
}

impl<'de> DeserializeSeed<'de> for In {
    type Value = Dynamic;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dynamic, D::Error> {
        if deserializer.is_human_readable() {
            natural::deserialize(self.room, deserializer)
        } else {
            tagged::deserialize(self.room, deserializer)
        }
    }
}

/// What is in a tuple or a list.
pub(super) struct Items {
    pub(super) room: usize,
}

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Sequence;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Sequence, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Sequence;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Sequence, A::Error> {
        let room = less::<A::Error>(self.room, serde::de::Error::custom)?;
        // Without room for as many as are announced: that number is whatever somebody wrote.
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(In { room })? {
            items.push(item);
        }
        Ok(items.into())
    }
}

/// What is in a dict.
pub(super) struct Pairs {
    pub(super) room: usize,
}

impl<'de> DeserializeSeed<'de> for Pairs {
    type Value = Mapping;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Mapping, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pairs {
    type Value = Mapping;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Mapping, A::Error> {
        let room = less::<A::Error>(self.room, serde::de::Error::custom)?;
        let mut pairs = Mapping::default();
        while let Some((key, value)) = from.next_entry_seed(In { room }, In { room })? {
            pairs.insert(key, value);
        }
        Ok(pairs)
    }
}

/// The room inside of one more container.
pub(super) fn less<E>(room: usize, error: fn(String) -> E) -> Result<usize, E> {
    if mutant("Dynamic::NestsWithoutLimit") {
        return Ok(room.saturating_sub(1));
    }
    room.checked_sub(1).ok_or_else(|| {
        error(format!(
            "more than {MAX_DEPTH} containers inside each other"
        ))
    })
}
