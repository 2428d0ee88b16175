//! Sorting by a comparison that may fail.

use std::cmp::Ordering;

/// Sorts stably, by merging; `None` if two elements cannot be compared, and then in some order.
pub(crate) fn sort<T>(
    mut from: Vec<T>,
    mut compare: impl FnMut(&T, &T) -> Option<Ordering>,
) -> Option<Vec<T>> {
    let mut width = 1;
    while width < from.len() {
        let mut to = Vec::with_capacity(from.len());
        let mut rest = from.into_iter().peekable();
        while rest.peek().is_some() {
            let left: Vec<T> = rest.by_ref().take(width).collect();
            let right: Vec<T> = rest.by_ref().take(width).collect();
            merge(left, right, &mut to, &mut compare)?;
        }
        from = to;
        width *= 2;
    }
    Some(from)
}

fn merge<T>(
    left: Vec<T>,
    right: Vec<T>,
    to: &mut Vec<T>,
    compare: &mut impl FnMut(&T, &T) -> Option<Ordering>,
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

    #[test]
    fn sorts_as_the_standard_library_does() {
        for len in [0, 1, 2, 3, 7, 8, 9, 100] {
            let values: Vec<(u32, u32)> = (0..len).map(|i| (i * 7919 % 13, i)).collect();
            let mut expected = values.clone();
            expected.sort_by_key(|value| value.0);
            let sorted = sort(values, |a, b| Some(a.0.cmp(&b.0)));
            assert_eq!(sorted, Some(expected), "stably");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not_sorted() {
        assert_eq!(sort(vec![1.0, f64::NAN, 2.0], f64::partial_cmp), None);
    }
}
