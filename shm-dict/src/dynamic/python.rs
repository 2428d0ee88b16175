//! Comparing as Python does, which refuses much.

use std::cmp::Ordering;

use super::walk::{Step, walk};
use super::{Dynamic, compare};

impl Dynamic {
    /// Compares as Python's `<` does: numbers, also `bool`, by their value, strings with strings, byte strings with byte
    /// strings, tuples with tuples and lists with lists, item by item. `None` for all else, and for NaN: the
    /// [order](Ord) of all values has a place for these too.
    ///
    /// For [`List::sort_by`](crate::List::sort_by), to refuse what Python's `sort` does.
    ///
    /// # Examples
    /// ```
    /// use std::cmp::Ordering;
    /// use shm_dict::dynamic;
    ///
    /// assert_eq!(dynamic!((1, "a")).compare(&dynamic!((1.0, "b"))), Some(Ordering::Less));
    /// assert_eq!(dynamic!(1).compare(&dynamic!("a")), None);
    /// ```
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        // Two walks are of one length as long as their steps are equal.
        for steps in walk(self).zip(walk(other)) {
            let order = match steps {
                (Step::Leave, Step::Leave) => Ordering::Equal,
                (Step::Leave, _) => Ordering::Less,
                (_, Step::Leave) => Ordering::Greater,
                (Step::Leaf(first), Step::Leaf(second)) => leaves(first, second)?,
                (Step::Enter(first), Step::Enter(second)) => containers(first, second)?,
                _ => return None,
            };
            if order.is_ne() {
                return Some(order);
            }
        }
        Some(Ordering::Equal)
    }
}

fn containers(first: &Dynamic, second: &Dynamic) -> Option<Ordering> {
    match (first, second) {
        (Dynamic::Tuple(_), Dynamic::Tuple(_)) | (Dynamic::List(_), Dynamic::List(_)) => {
            Some(Ordering::Equal)
        }
        _ => None,
    }
}

fn leaves(first: &Dynamic, second: &Dynamic) -> Option<Ordering> {
    use Dynamic::{Bool, Bytes, Float, Int, Str};
    match (first, second) {
        (Float(float), _) | (_, Float(float)) if float.is_nan() => None,
        (Bool(first), second) => numbers(&i64::from(*first).into(), second),
        (first, Bool(second)) => numbers(first, &i64::from(*second).into()),
        (Int(_) | Float(_), _) => numbers(first, second),
        (Str(_), Str(_)) | (Bytes(_), Bytes(_)) | (Dynamic::None, Dynamic::None) => {
            Some(compare::leaves(first, second))
        }
        _ => None,
    }
}

fn numbers(first: &Dynamic, second: &Dynamic) -> Option<Ordering> {
    use Dynamic::{Bool, Float, Int};
    match (first, second) {
        (Int(first), Float(second)) => Some(first.cmp_float(*second)),
        (Float(first), Int(second)) => Some(second.cmp_float(*first).reverse()),
        (Int(_), Int(_)) | (Float(_), Float(_)) => Some(compare::leaves(first, second)),
        (_, Bool(second)) => numbers(first, &i64::from(*second).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamic;

    #[test]
    fn compares_what_python_compares() {
        let less = [
            (dynamic!(false), dynamic!(1)),
            (dynamic!(true), dynamic!(1.5)),
            (dynamic!(2), dynamic!(2.5)),
            (dynamic!("a"), dynamic!("b")),
            (dynamic!([1, 2]), dynamic!([1, 2, 3])),
            (dynamic!((1.0, 2)), dynamic!((1, 3))),
            (dynamic!([[1], 2]), dynamic!([[1.0], 3])),
            (dynamic!((None, 1)), dynamic!((None, 2))),
        ];
        for (first, second) in less {
            assert_eq!(
                first.compare(&second),
                Some(Ordering::Less),
                "{first} {second}"
            );
            assert_eq!(
                second.compare(&first),
                Some(Ordering::Greater),
                "{first} {second}"
            );
        }
        let equal = [
            (dynamic!(1), dynamic!(1.0)),
            (dynamic!(true), dynamic!(1)),
            (dynamic!(true), dynamic!(true)),
        ];
        for (first, second) in equal {
            assert_eq!(
                first.compare(&second),
                Some(Ordering::Equal),
                "{first} {second}"
            );
        }
        let none = [
            (dynamic!(1), dynamic!("1")),
            (dynamic!(None), dynamic!(1)),
            (dynamic!([1]), dynamic!((1,))),
            (dynamic!({1: 2}), dynamic!({1: 2})),
            (dynamic!(1.0), Dynamic::from(f64::NAN)),
            (dynamic!([1]), dynamic!(1)),
            (dynamic!(true), dynamic!("a")),
        ];
        for (first, second) in none {
            assert_eq!(first.compare(&second), None, "{first} {second}");
            assert_eq!(second.compare(&first), None, "{first} {second}");
        }
    }
}
