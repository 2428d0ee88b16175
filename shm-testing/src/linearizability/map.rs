//! A map from keys to values; every operation touches one key, so the history of each key is checked alone.

use std::collections::BTreeMap;

use super::{Model, Partitioned, Words};

/// An initially empty map.
#[derive(Debug, Clone, Copy, Default)]
pub struct Map;

/// An operation on a [`Map`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapOp {
    /// The key that it touches.
    pub key: u64,
    /// What it does there.
    pub action: MapAction,
}

/// What a [`MapOp`] does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapAction {
    /// Returns [`MapRet::Value`].
    Get,
    /// Returns [`MapRet::Value`] with what was there before.
    Insert(u64),
    /// Returns [`MapRet::Value`] with what was there before.
    Remove,
    /// Adds to the value, from 0 if there is none, and wraps; returns [`MapRet::Value`] with what was there before.
    FetchAdd(u64),
    /// Returns [`MapRet::Done`] or [`MapRet::Mismatch`]; `None` stands for "no such key".
    CompareAndSwap {
        /// What has to be there.
        expected: Option<u64>,
        /// What to put there.
        new: Option<u64>,
    },
}

/// Results of a [`MapOp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapRet {
    /// It was done.
    Done,
    /// The value of the key, if it had one.
    Value(Option<u64>),
    /// Nothing was swapped: this was there instead.
    Mismatch(Option<u64>),
}

impl Model for Map {
    type State = BTreeMap<u64, u64>;
    type Op = MapOp;
    type Ret = MapRet;

    fn init(&self) -> BTreeMap<u64, u64> {
        BTreeMap::new()
    }

    fn step(
        &self,
        map: &BTreeMap<u64, u64>,
        op: &MapOp,
    ) -> impl IntoIterator<Item = (MapRet, BTreeMap<u64, u64>)> {
        let old = map.get(&op.key).copied();
        let (ret, new) = match op.action {
            MapAction::Get => (MapRet::Value(old), old),
            MapAction::Insert(value) => (MapRet::Value(old), Some(value)),
            MapAction::Remove => (MapRet::Value(old), None),
            MapAction::FetchAdd(n) => (
                MapRet::Value(old),
                Some(old.unwrap_or_default().wrapping_add(n)),
            ),
            MapAction::CompareAndSwap { expected, new } if expected == old => (MapRet::Done, new),
            MapAction::CompareAndSwap { .. } => (MapRet::Mismatch(old), old),
        };
        let mut next = map.clone();
        match new {
            Some(value) => next.insert(op.key, value),
            None => next.remove(&op.key),
        };
        Some((ret, next))
    }
}

impl Partitioned for Map {
    type Key = u64;

    fn key(&self, op: &MapOp) -> u64 {
        op.key
    }
}

/// Above the code in the first word: which of the two options of a swap hold a value.
const EXPECTED_IS_SOME: u64 = 1 << 8;
const NEW_IS_SOME: u64 = 1 << 9;
const SWAP: u64 = 4;

impl Words for MapOp {
    fn to_words(&self) -> [u64; 4] {
        match self.action {
            MapAction::Get => [0, self.key, 0, 0],
            MapAction::Insert(value) => [1, self.key, value, 0],
            MapAction::Remove => [2, self.key, 0, 0],
            MapAction::FetchAdd(n) => [3, self.key, n, 0],
            MapAction::CompareAndSwap { expected, new } => [
                SWAP | expected.map_or(0, |_| EXPECTED_IS_SOME) | new.map_or(0, |_| NEW_IS_SOME),
                self.key,
                expected.unwrap_or_default(),
                new.unwrap_or_default(),
            ],
        }
    }

    fn from_words([code, key, first, second]: [u64; 4]) -> Option<Self> {
        let action = match code {
            0 => MapAction::Get,
            1 => MapAction::Insert(first),
            2 => MapAction::Remove,
            3 => MapAction::FetchAdd(first),
            _ if code & !(EXPECTED_IS_SOME | NEW_IS_SOME) == SWAP => MapAction::CompareAndSwap {
                expected: (code & EXPECTED_IS_SOME != 0).then_some(first),
                new: (code & NEW_IS_SOME != 0).then_some(second),
            },
            _ => return None,
        };
        Some(MapOp { key, action })
    }
}

impl Words for MapRet {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            MapRet::Done => [0, 0, 0, 0],
            MapRet::Value(None) => [1, 0, 0, 0],
            MapRet::Value(Some(value)) => [1, 1, value, 0],
            MapRet::Mismatch(None) => [2, 0, 0, 0],
            MapRet::Mismatch(Some(value)) => [2, 1, value, 0],
        }
    }

    fn from_words(words: [u64; 4]) -> Option<Self> {
        Some(match words {
            [0, ..] => MapRet::Done,
            [1, 0, ..] => MapRet::Value(None),
            [1, 1, value, _] => MapRet::Value(Some(value)),
            [2, 0, ..] => MapRet::Mismatch(None),
            [2, 1, value, _] => MapRet::Mismatch(Some(value)),
            _ => return None,
        })
    }
}
