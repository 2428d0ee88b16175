//! A list of values.

use super::{Model, Words};

/// An initially empty list.
///
/// The more the values differ, the more a check can find.
#[derive(Debug, Clone, Copy, Default)]
pub struct List;

/// Operations on a [`List`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListOp {
    /// Puts a value behind the last; returns [`ListRet::Done`].
    Push(u64),
    /// Takes the last out; returns [`ListRet::Value`].
    Pop,
    /// Takes the first out; returns [`ListRet::Value`].
    PopFront,
    /// Puts a value before the first; returns [`ListRet::Done`].
    PushFront(u64),
    /// Returns [`ListRet::Value`].
    Get(u64),
    /// Puts the second in the place of the first; returns [`ListRet::Value`] with what was put there, or with nothing if
    /// there is no such element.
    Set(u64, u64),
    /// Adds the second to the element at the first, and wraps; returns as [`ListOp::Set`].
    Add(u64, u64),
    /// Puts all in the opposite order; returns [`ListRet::Done`].
    Reverse,
    /// Returns [`ListRet::Len`].
    Len,
}

/// Results of a [`ListOp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListRet {
    /// It was done.
    Done,
    /// A value, if it was there.
    Value(Option<u64>),
    /// How many there are.
    Len(u64),
}

impl Model for List {
    type State = Vec<u64>;
    type Op = ListOp;
    type Ret = ListRet;

    fn init(&self) -> Vec<u64> {
        Vec::new()
    }

    fn step(&self, list: &Vec<u64>, op: &ListOp) -> impl IntoIterator<Item = (ListRet, Vec<u64>)> {
        let mut list = list.clone();
        let put = |place: Option<&mut u64>, new: &dyn Fn(u64) -> u64| {
            ListRet::Value(place.map(|place| {
                *place = new(*place);
                *place
            }))
        };
        let ret = match *op {
            ListOp::Push(value) => {
                list.push(value);
                ListRet::Done
            }
            ListOp::Pop => ListRet::Value(list.pop()),
            ListOp::PopFront => ListRet::Value((!list.is_empty()).then(|| list.remove(0))),
            ListOp::PushFront(value) => {
                list.insert(0, value);
                ListRet::Done
            }
            ListOp::Get(index) => ListRet::Value(list.get(index as usize).copied()),
            ListOp::Set(index, value) => put(list.get_mut(index as usize), &|_| value),
            ListOp::Add(index, n) => put(list.get_mut(index as usize), &|old| old.wrapping_add(n)),
            ListOp::Reverse => {
                list.reverse();
                ListRet::Done
            }
            ListOp::Len => ListRet::Len(list.len() as u64),
        };
        Some((ret, list))
    }
}

impl Words for ListOp {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            ListOp::Push(value) => [0, value, 0, 0],
            ListOp::Pop => [1, 0, 0, 0],
            ListOp::PopFront => [2, 0, 0, 0],
            ListOp::PushFront(value) => [3, value, 0, 0],
            ListOp::Get(index) => [4, index, 0, 0],
            ListOp::Set(index, value) => [5, index, value, 0],
            ListOp::Add(index, n) => [6, index, n, 0],
            ListOp::Reverse => [7, 0, 0, 0],
            ListOp::Len => [8, 0, 0, 0],
        }
    }

    fn from_words([code, first, second, _]: [u64; 4]) -> Option<Self> {
        Some(match code {
            0 => ListOp::Push(first),
            1 => ListOp::Pop,
            2 => ListOp::PopFront,
            3 => ListOp::PushFront(first),
            4 => ListOp::Get(first),
            5 => ListOp::Set(first, second),
            6 => ListOp::Add(first, second),
            7 => ListOp::Reverse,
            8 => ListOp::Len,
            _ => return None,
        })
    }
}

impl Words for ListRet {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            ListRet::Done => [0, 0, 0, 0],
            ListRet::Value(None) => [1, 0, 0, 0],
            ListRet::Value(Some(value)) => [1, 1, value, 0],
            ListRet::Len(len) => [2, len, 0, 0],
        }
    }

    fn from_words(words: [u64; 4]) -> Option<Self> {
        Some(match words {
            [0, ..] => ListRet::Done,
            [1, 0, ..] => ListRet::Value(None),
            [1, 1, value, _] => ListRet::Value(Some(value)),
            [2, len, ..] => ListRet::Len(len),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linearizability::{Budget, History, Operation, check};

    fn is_linearizable(operations: Vec<Operation<ListOp, ListRet>>) -> bool {
        let history = History::new(operations).unwrap();
        check(&List, &history, Budget::default()).is_linearizable()
    }

    fn pushes() -> [Operation<ListOp, ListRet>; 2] {
        [7, 8].map(|value| {
            let at = value * 10;
            Operation::returned(0, at, ListOp::Push(value), at + 1, ListRet::Done)
        })
    }

    fn later(process: u32, at: u64, op: ListOp, ret: ListRet) -> Operation<ListOp, ListRet> {
        Operation::returned(process, at, op, at + 1, ret)
    }

    #[test]
    fn both_ends_are_where_they_are() {
        let mut history = pushes().to_vec();
        history.push(later(1, 200, ListOp::PopFront, ListRet::Value(Some(7))));
        history.push(later(1, 210, ListOp::Pop, ListRet::Value(Some(8))));
        history.push(later(1, 220, ListOp::Pop, ListRet::Value(None)));
        assert!(is_linearizable(history));
    }

    #[test]
    fn what_was_popped_twice_has_no_order() {
        let mut history = pushes().to_vec();
        history.push(Operation::returned(
            1,
            200,
            ListOp::Pop,
            300,
            ListRet::Value(Some(8)),
        ));
        history.push(Operation::returned(
            2,
            200,
            ListOp::Pop,
            300,
            ListRet::Value(Some(8)),
        ));
        assert!(!is_linearizable(history));
    }

    #[test]
    fn a_length_that_never_was_has_no_order() {
        let mut history = pushes().to_vec();
        // Reversed all the while: two elements before and after.
        history.push(Operation::returned(
            1,
            200,
            ListOp::Reverse,
            300,
            ListRet::Done,
        ));
        history.push(Operation::returned(
            2,
            210,
            ListOp::Len,
            220,
            ListRet::Len(0),
        ));
        assert!(!is_linearizable(history));
    }

    #[test]
    fn words_say_what_they_were_made_of() {
        for op in [
            ListOp::Push(5),
            ListOp::Pop,
            ListOp::PopFront,
            ListOp::PushFront(5),
            ListOp::Get(3),
            ListOp::Set(3, 5),
            ListOp::Add(3, 5),
            ListOp::Reverse,
            ListOp::Len,
        ] {
            assert_eq!(ListOp::from_words(op.to_words()), Some(op));
        }
        let values = [ListRet::Value(None), ListRet::Value(Some(0))];
        for ret in [ListRet::Done, ListRet::Len(2)].into_iter().chain(values) {
            assert_eq!(ListRet::from_words(ret.to_words()), Some(ret));
        }
    }
}
