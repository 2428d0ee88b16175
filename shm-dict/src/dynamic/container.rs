//! What containers keep their values in: standard collections that are dropped without recursion, so that no depth
//! overflows the stack.

use std::collections::BTreeMap;
use std::mem;
use std::ops::{Deref, DerefMut};

use super::Dynamic;

macro_rules! container {
    ($(#[$doc:meta])* $name:ident($inner:ty) of $item:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl Deref for $name {
            type Target = $inner;

            #[inline]
            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        impl DerefMut for $name {
            #[inline]
            fn deref_mut(&mut self) -> &mut $inner {
                &mut self.0
            }
        }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }

        impl From<$name> for $inner {
            fn from(mut container: $name) -> Self {
                mem::take(&mut container.0)
            }
        }

        impl FromIterator<$item> for $name {
            fn from_iter<I: IntoIterator<Item = $item>>(items: I) -> Self {
                Self(items.into_iter().collect())
            }
        }

        impl IntoIterator for $name {
            type Item = $item;
            type IntoIter = <$inner as IntoIterator>::IntoIter;

            fn into_iter(self) -> Self::IntoIter {
                <$inner>::from(self).into_iter()
            }
        }

        impl<'a> IntoIterator for &'a $name {
            type Item = <&'a $inner as IntoIterator>::Item;
            type IntoIter = <&'a $inner as IntoIterator>::IntoIter;

            fn into_iter(self) -> Self::IntoIter {
                self.0.iter()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                let mut nested = Vec::new();
                self.take_nested(&mut nested);
                // What is dropped here has no container inside any more.
                while let Some(mut value) = nested.pop() {
                    match &mut value {
                        Dynamic::Tuple(items) | Dynamic::List(items) => items.take_nested(&mut nested),
                        Dynamic::Dict(pairs) => pairs.take_nested(&mut nested),
                        _ => {}
                    }
                }
            }
        }
    };
}

container! {
    /// What is in a tuple or a list: a vector.
    ///
    /// # Examples
    /// ```
    /// use shm_dict::{Dynamic, dynamic};
    ///
    /// let Dynamic::List(mut items) = dynamic!([1, "two"]) else { unreachable!() };
    /// items.push(dynamic!(3.0));
    /// assert_eq!(items.len(), 3);
    /// assert_eq!(Dynamic::Tuple(items).to_string(), "(1, 'two', 3.0)");
    /// ```
    Sequence(Vec<Dynamic>) of Dynamic
}

container! {
    /// What is in a dict: a map in the order of the keys.
    ///
    /// # Examples
    /// ```
    /// use shm_dict::{Dynamic, dynamic};
    ///
    /// let Dynamic::Dict(mut pairs) = dynamic!({"a": 1}) else { unreachable!() };
    /// pairs.insert("b".into(), 2.into());
    /// assert_eq!(pairs.get(&"a".into()), Some(&1.into()));
    /// assert_eq!(Dynamic::Dict(pairs).to_string(), "{'a': 1, 'b': 2}");
    /// ```
    Mapping(BTreeMap<Dynamic, Dynamic>) of (Dynamic, Dynamic)
}

impl Sequence {
    /// Moves the containers that are in it out.
    fn take_nested(&mut self, into: &mut Vec<Dynamic>) {
        into.extend(
            self.0
                .iter_mut()
                .filter(|item| item.is_container())
                .map(mem::take),
        );
    }
}

impl Mapping {
    /// Moves the containers that are in it out, if there are any.
    fn take_nested(&mut self, into: &mut Vec<Dynamic>) {
        if self
            .0
            .iter()
            .any(|(key, value)| key.is_container() || value.is_container())
        {
            let all = mem::take(&mut self.0).into_iter();
            into.extend(
                all.flat_map(|(key, value)| [key, value])
                    .filter(Dynamic::is_container),
            );
        }
    }
}
