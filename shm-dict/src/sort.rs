//! Sorting by a comparison that may fail.

use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Two elements cannot be compared.
struct Unordered;

/// The stable order of so many elements, by their numbers; `None` if two cannot be compared. Numbers are of 32 bits, as
/// those of a list's elements are.
pub(crate) fn order(
    len: usize,
    mut compare: impl FnMut(usize, usize) -> Option<Ordering>,
) -> Option<Vec<u32>> {
    let numbers = (0..len as u32).collect();
    let compare = |a: &u32, b: &u32| compare(*a as usize, *b as usize);
    match cfg!(panic = "unwind") {
        true => sort_or_unwind(numbers, compare),
        false => merge_sort(numbers, compare),
    }
}

/// The standard library's sort is left in the only way there is: no panic, whose hook would tell of it, but the
/// unwinding of one.
fn sort_or_unwind(
    mut numbers: Vec<u32>,
    mut compare: impl FnMut(&u32, &u32) -> Option<Ordering>,
) -> Option<Vec<u32>> {
    let compare = |a: &u32, b: &u32| match compare(a, b) {
        Some(ordering) => ordering,
        None => resume_unwind(Box::new(Unordered)),
    };
    // Unwind safe: what is half sorted is dropped.
    match catch_unwind(AssertUnwindSafe(|| numbers.sort_by(compare))) {
        Ok(()) => Some(numbers),
        Err(payload) if payload.is::<Unordered>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// For programs that cannot unwind: several times slower.
fn merge_sort(
    mut from: Vec<u32>,
    mut compare: impl FnMut(&u32, &u32) -> Option<Ordering>,
) -> Option<Vec<u32>> {
    let mut width = 1;
    while width < from.len() {
        let mut to = Vec::with_capacity(from.len());
        let mut rest = from.into_iter().peekable();
        while rest.peek().is_some() {
            let left: Vec<u32> = rest.by_ref().take(width).collect();
            let right: Vec<u32> = rest.by_ref().take(width).collect();
            merge(left, right, &mut to, &mut compare)?;
        }
        from = to;
        width *= 2;
    }
    Some(from)
}

fn merge(
    left: Vec<u32>,
    right: Vec<u32>,
    to: &mut Vec<u32>,
    compare: &mut impl FnMut(&u32, &u32) -> Option<Ordering>,
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

    fn numbers(len: usize) -> Vec<u32> {
        (0..len as u32).collect()
    }

    #[test]
    fn both_sort_as_the_standard_library_does() {
        for len in [0, 1, 2, 3, 7, 8, 9, 100] {
            let key = |number: &u32| number * 7919 % 13;
            let mut expected = numbers(len);
            expected.sort_by_key(key);
            let compare = |a: &u32, b: &u32| Some(key(a).cmp(&key(b)));
            let sorted = order(len, |a, b| compare(&(a as u32), &(b as u32)));
            assert_eq!(sorted.as_ref(), Some(&expected));
            let merged = merge_sort(numbers(len), compare);
            assert_eq!(merged, Some(expected), "stably");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not_sorted() {
        let values = [1.0, f64::NAN, 2.0];
        let compare = |a: usize, b: usize| values[a].partial_cmp(&values[b]);
        assert_eq!(order(3, compare), None);
        let merged = merge_sort(numbers(3), |a, b| compare(*a as usize, *b as usize));
        assert_eq!(merged, None);
    }

    #[test]
    fn a_panic_of_the_callers_goes_on() {
        let payload = catch_unwind(|| order(2, |_, _| panic!("of the caller's"))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"of the caller's"));
    }
}
