//! A bounded first-in first-out queue.

use std::collections::VecDeque;

use super::{Model, Words};

/// A queue of at most `capacity` values.
///
/// The more the values differ, the more a check can find: give each `put` a value of its own.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// How many values fit.
    pub capacity: usize,
}

/// Operations on a [`Queue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueOp {
    /// Waits for room; returns [`QueueRet::Done`].
    Put(u64),
    /// Returns [`QueueRet::Done`] or [`QueueRet::Full`]. Also the timed form, where `Full` is the expired time.
    TryPut(u64),
    /// Waits for a value; returns [`QueueRet::Got`].
    Get,
    /// Returns [`QueueRet::Got`] or [`QueueRet::Empty`]. Also the timed form, where `Empty` is the expired time.
    TryGet,
}

/// Results of a [`QueueOp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueRet {
    /// The value is in the queue.
    Done,
    /// There was no room.
    Full,
    /// The oldest value, which is in the queue no more.
    Got(u64),
    /// There was no value.
    Empty,
}

impl Model for Queue {
    type State = VecDeque<u64>;
    type Op = QueueOp;
    type Ret = QueueRet;

    fn init(&self) -> VecDeque<u64> {
        VecDeque::new()
    }

    fn step(
        &self,
        items: &VecDeque<u64>,
        op: &QueueOp,
    ) -> impl IntoIterator<Item = (QueueRet, VecDeque<u64>)> {
        match *op {
            QueueOp::Put(value) | QueueOp::TryPut(value) if items.len() < self.capacity => {
                let mut longer = items.clone();
                longer.push_back(value);
                Some((QueueRet::Done, longer))
            }
            QueueOp::Get | QueueOp::TryGet if !items.is_empty() => {
                let mut shorter = items.clone();
                let value = shorter.pop_front()?;
                Some((QueueRet::Got(value), shorter))
            }
            QueueOp::Put(_) | QueueOp::Get => None,
            QueueOp::TryPut(_) => Some((QueueRet::Full, items.clone())),
            QueueOp::TryGet => Some((QueueRet::Empty, items.clone())),
        }
    }
}

impl Words for QueueOp {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            QueueOp::Put(value) => [0, value, 0, 0],
            QueueOp::TryPut(value) => [1, value, 0, 0],
            QueueOp::Get => [2, 0, 0, 0],
            QueueOp::TryGet => [3, 0, 0, 0],
        }
    }

    fn from_words(words: [u64; 4]) -> Option<Self> {
        Some(match words {
            [0, value, ..] => QueueOp::Put(value),
            [1, value, ..] => QueueOp::TryPut(value),
            [2, ..] => QueueOp::Get,
            [3, ..] => QueueOp::TryGet,
            _ => return None,
        })
    }
}

impl Words for QueueRet {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            QueueRet::Done => [0, 0, 0, 0],
            QueueRet::Full => [1, 0, 0, 0],
            QueueRet::Got(value) => [2, value, 0, 0],
            QueueRet::Empty => [3, 0, 0, 0],
        }
    }

    fn from_words(words: [u64; 4]) -> Option<Self> {
        Some(match words {
            [0, ..] => QueueRet::Done,
            [1, ..] => QueueRet::Full,
            [2, value, ..] => QueueRet::Got(value),
            [3, ..] => QueueRet::Empty,
            _ => return None,
        })
    }
}
