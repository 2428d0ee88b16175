//! A value step by step, without recursion.

use std::cmp::Ordering;
use std::collections::btree_map;
use std::iter;
use std::slice;

use super::{Dynamic, compare};

/// A step of a walk. As they are in order, values are, item by item: what ends first is less.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// The end of the container that was entered last.
    Leave,
    /// What is no container.
    Leaf(&'a Dynamic),
    /// A container, whose items follow; those of a dict are key, value, key, value, ..
    Enter(&'a Dynamic),
}

impl Step<'_> {
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Leave, Self::Leave) => Ordering::Equal,
            (Self::Leave, _) => Ordering::Less,
            (_, Self::Leave) => Ordering::Greater,
            (Self::Leaf(first), Self::Leaf(second)) => compare::leaves(first, second),
            (Self::Leaf(first) | Self::Enter(first), Self::Leaf(second) | Self::Enter(second)) => {
                first.kind().cmp(&second.kind())
            }
        }
    }
}

/// What is still to come of a container.
#[derive(Debug)]
enum Rest<'a> {
    Items(slice::Iter<'a, Dynamic>),
    Pairs(
        btree_map::Iter<'a, Dynamic, Dynamic>,
        /// The value of the key that came last.
        Option<&'a Dynamic>,
    ),
}

impl<'a> Iterator for Rest<'a> {
    type Item = &'a Dynamic;

    fn next(&mut self) -> Option<&'a Dynamic> {
        match self {
            Self::Items(items) => items.next(),
            Self::Pairs(pairs, value) => value.take().or_else(|| {
                let (key, its) = pairs.next()?;
                *value = Some(its);
                Some(key)
            }),
        }
    }
}

/// The steps through a value.
pub(super) fn walk(value: &Dynamic) -> impl Iterator<Item = Step<'_>> {
    let mut first = Some(value);
    let mut open: Vec<Rest<'_>> = Vec::new();
    iter::from_fn(move || {
        let next = match open.last_mut() {
            Some(rest) => rest.next(),
            None => Some(first.take()?),
        };
        let Some(value) = next else {
            open.pop();
            return Some(Step::Leave);
        };
        open.push(match value {
            Dynamic::Tuple(items) | Dynamic::List(items) => Rest::Items(items.iter()),
            Dynamic::Dict(pairs) => Rest::Pairs(pairs.iter(), None),
            _ => return Some(Step::Leaf(value)),
        });
        Some(Step::Enter(value))
    })
}

impl Dynamic {
    /// So many containers are inside each other at most: 0 for what is none, 1 for a list of numbers.
    ///
    /// # Examples
    /// ```
    /// use shm_dict::dynamic;
    ///
    /// assert_eq!(dynamic!(7).depth(), 0);
    /// assert_eq!(dynamic!([7, [7, (7, 7)], [7]]).depth(), 3);
    /// ```
    #[must_use]
    pub fn depth(&self) -> usize {
        let (mut depth, mut deepest) = (0, 0);
        for step in walk(self) {
            match step {
                Step::Enter(_) => depth += 1,
                Step::Leave => depth -= 1,
                Step::Leaf(_) => {}
            }
            deepest = deepest.max(depth);
        }
        deepest
    }
}
