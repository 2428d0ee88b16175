//! One 64-bit word: the model of atomic values and counters.

use super::{Model, Words};

/// A word that is read, written and modified atomically; arithmetic wraps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Register {
    /// The value before the first operation.
    pub initial: u64,
}

/// Operations on a [`Register`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOp {
    /// Returns [`RegisterRet::Value`].
    Read,
    /// Returns [`RegisterRet::Done`].
    Write(u64),
    /// Returns [`RegisterRet::Value`] with the value before it.
    Swap(u64),
    /// Returns [`RegisterRet::Value`] with the value before it.
    FetchAdd(u64),
    /// Returns [`RegisterRet::Value`] with the value after it.
    AddFetch(u64),
    /// Returns [`RegisterRet::Done`] or [`RegisterRet::Mismatch`].
    CompareExchange {
        /// The value that has to be there.
        expected: u64,
        /// The value to put there.
        new: u64,
    },
}

/// Results of a [`RegisterOp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterRet {
    /// It was done.
    Done,
    /// The value seen.
    Value(u64),
    /// Nothing was exchanged: this other value was there.
    Mismatch(u64),
}

impl Model for Register {
    type State = u64;
    type Op = RegisterOp;
    type Ret = RegisterRet;

    fn init(&self) -> u64 {
        self.initial
    }

    fn step(&self, &old: &u64, op: &RegisterOp) -> impl IntoIterator<Item = (RegisterRet, u64)> {
        Some(match *op {
            RegisterOp::Read => (RegisterRet::Value(old), old),
            RegisterOp::Write(new) => (RegisterRet::Done, new),
            RegisterOp::Swap(new) => (RegisterRet::Value(old), new),
            RegisterOp::FetchAdd(n) => (RegisterRet::Value(old), old.wrapping_add(n)),
            RegisterOp::AddFetch(n) => {
                let new = old.wrapping_add(n);
                (RegisterRet::Value(new), new)
            }
            RegisterOp::CompareExchange { expected, new } if expected == old => {
                (RegisterRet::Done, new)
            }
            RegisterOp::CompareExchange { .. } => (RegisterRet::Mismatch(old), old),
        })
    }
}

impl Words for RegisterOp {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            RegisterOp::Read => [0, 0, 0, 0],
            RegisterOp::Write(value) => [1, value, 0, 0],
            RegisterOp::Swap(value) => [2, value, 0, 0],
            RegisterOp::FetchAdd(n) => [3, n, 0, 0],
            RegisterOp::AddFetch(n) => [4, n, 0, 0],
            RegisterOp::CompareExchange { expected, new } => [5, expected, new, 0],
        }
    }

    fn from_words(words: [u64; 4]) -> Option<Self> {
        Some(match words {
            [0, ..] => RegisterOp::Read,
            [1, value, ..] => RegisterOp::Write(value),
            [2, value, ..] => RegisterOp::Swap(value),
            [3, n, ..] => RegisterOp::FetchAdd(n),
            [4, n, ..] => RegisterOp::AddFetch(n),
            [5, expected, new, _] => RegisterOp::CompareExchange { expected, new },
            _ => return None,
        })
    }
}

impl Words for RegisterRet {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            RegisterRet::Done => [0, 0, 0, 0],
            RegisterRet::Value(value) => [1, value, 0, 0],
            RegisterRet::Mismatch(value) => [2, value, 0, 0],
        }
    }

    fn from_words(words: [u64; 4]) -> Option<Self> {
        Some(match words {
            [0, ..] => RegisterRet::Done,
            [1, value, ..] => RegisterRet::Value(value),
            [2, value, ..] => RegisterRet::Mismatch(value),
            _ => return None,
        })
    }
}
