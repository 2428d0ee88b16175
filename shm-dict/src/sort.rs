//! Sorting by a comparison that may fail.

use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::raw::Item;

/// Two elements cannot be compared.
struct Unordered;

/// Bytes up to which a value is moved as elements are sorted; a larger one stays, and a reference is moved.
const MOVED: usize = 32;

/// The items of elements in the stable order of their values; `None` if two cannot be compared.
pub(crate) fn by<V>(
    elements: Vec<(V, Item)>,
    mut compare: impl FnMut(&V, &V) -> Option<Ordering>,
) -> Option<Vec<Item>> {
    if size_of::<V>() <= MOVED {
        sort(elements, |(a, _), (b, _)| compare(a, b)).map(items_of)
    } else {
        let elements = elements.iter().map(|(value, item)| (value, *item));
        sort(elements.collect(), |(a, _), (b, _)| compare(a, b)).map(items_of)
    }
}

fn items_of<V>(elements: Vec<(V, Item)>) -> Vec<Item> {
    elements.into_iter().map(|(_, item)| item).collect()
}

fn sort<E>(elements: Vec<E>, compare: impl FnMut(&E, &E) -> Option<Ordering>) -> Option<Vec<E>> {
    match cfg!(panic = "unwind") {
        true => sort_or_unwind(elements, compare),
        false => merge_sort(elements, compare),
    }
}

/// The standard library's sort is left in the only way there is: no panic, whose hook would tell of it, but the
/// unwinding of one.
fn sort_or_unwind<E>(
    mut elements: Vec<E>,
    mut compare: impl FnMut(&E, &E) -> Option<Ordering>,
) -> Option<Vec<E>> {
    let compare = |a: &E, b: &E| match compare(a, b) {
        Some(ordering) => ordering,
        None => resume_unwind(Box::new(Unordered)),
    };
    // Unwind safe: what is half sorted is dropped.
    match catch_unwind(AssertUnwindSafe(|| elements.sort_by(compare))) {
        Ok(()) => Some(elements),
        Err(payload) if payload.is::<Unordered>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// For programs that cannot unwind: several times slower.
fn merge_sort<E>(
    mut from: Vec<E>,
    mut compare: impl FnMut(&E, &E) -> Option<Ordering>,
) -> Option<Vec<E>> {
    let mut width = 1;
    while width < from.len() {
        let mut to = Vec::with_capacity(from.len());
        let mut rest = from.into_iter().peekable();
        while rest.peek().is_some() {
            let left: Vec<E> = rest.by_ref().take(width).collect();
            let right: Vec<E> = rest.by_ref().take(width).collect();
            merge(left, right, &mut to, &mut compare)?;
        }
        from = to;
        width *= 2;
    }
    Some(from)
}

fn merge<E>(
    left: Vec<E>,
    right: Vec<E>,
    to: &mut Vec<E>,
    compare: &mut impl FnMut(&E, &E) -> Option<Ordering>,
) -> Option<()> {
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(first), Some(second)) = (left.peek(), right.peek()) {
        match compare(first, second)? {
            Ordering::Greater => to.extend(right.next()),
            Ordering::Less | Ordering::Equal => to.extend(left.next()),
        }
    }
    to.extend(left);
    to.extend(right);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many values, each with its number.
    fn elements<V>(len: usize, value: impl Fn(u64) -> V) -> Vec<(V, Item)> {
        (0..len as u64)
            .map(|number| (value(number), Item(number)))
            .collect()
    }

    fn both_sort_stably<V: Ord + Clone>(value: impl Fn(u64) -> V) {
        for len in [0, 1, 2, 3, 7, 8, 9, 100] {
            let elements = elements(len, &value);
            let mut expected = elements.clone();
            expected.sort_by_key(|(value, _)| value.clone());
            let expected = Some(items_of(expected));
            let compare = |(a, _): &(V, Item), (b, _): &(V, Item)| Some(a.cmp(b));
            assert_eq!(
                merge_sort(elements.clone(), compare).map(items_of),
                expected
            );
            assert_eq!(by(elements, |a, b| Some(a.cmp(b))), expected);
        }
    }

    #[test]
    fn both_sort_as_the_standard_library_does() {
        both_sort_stably(|number| number * 7919 % 13);
        // Too large to be moved.
        both_sort_stably(|number| [number * 7919 % 13; MOVED]);
    }

    #[test]
    fn what_cannot_be_compared_is_not_sorted() {
        let values = [1.0, f64::NAN, 2.0];
        let elements = elements(3, |number| values[number as usize]);
        let merged = merge_sort(elements.clone(), |(a, _), (b, _)| a.partial_cmp(b));
        assert_eq!(merged, None);
        assert_eq!(by(elements, f64::partial_cmp), None);
    }

    #[test]
    fn a_panic_of_the_callers_goes_on() {
        let sort = || {
            by(elements(2, |number| number), |_, _| {
                panic!("of the caller's")
            })
        };
        let payload = catch_unwind(sort).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"of the caller's"));
    }
}
