//! The place of a key, there or not.

use shm_core::codec::Codec;

use crate::at::At;
use crate::dict::Dict;
use crate::error::DictError;
use crate::key::ShmKey;

/// What is done to a value that is there.
type Change<'a, V> = Box<dyn FnOnce(&mut V) + 'a>;

/// The place of a key in a dictionary, from [`Dict::entry`]. Nothing happens until one of the `or_` methods, which
/// does all of it in one step.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_dict::Dict;
///
/// # let name = format!("doc-entry-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let words = Dict::<String, u64>::create(place, Default::default())?;
/// for word in ["to", "be", "or", "not", "to", "be"] {
///     words.entry(&word.to_owned()).and_modify(|count| *count += 1).or_insert(1)?;
/// }
/// assert_eq!(words.get("be")?, Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an entry does nothing until one of its `or_` methods is called"]
pub struct Entry<'a, K, V, C> {
    dict: &'a Dict<K, V, C>,
    key: &'a K,
    modify: Option<Change<'a, V>>,
}

impl<K, V, C> std::fmt::Debug for Entry<'_, K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("dict", self.dict)
            .finish_non_exhaustive()
    }
}

impl<'a, K: ShmKey, V, C: Codec<V>> Entry<'a, K, V, C> {
    pub(crate) fn new(dict: &'a Dict<K, V, C>, key: &'a K) -> Self {
        Self {
            dict,
            key,
            modify: None,
        }
    }

    /// If the key is there, `f` changes its value. One such function counts, the last.
    pub fn and_modify(self, f: impl FnOnce(&mut V) + 'a) -> Self {
        Self {
            modify: Some(Box::new(f)),
            ..self
        }
    }

    /// If the key is not there, stores `default`; gives the value that there is then.
    ///
    /// # Errors
    /// Those of [`Dict::modify`].
    pub fn or_insert(self, default: V) -> Result<V, DictError> {
        self.or_insert_with(|| default)
    }

    /// If the key is not there, stores what `default` gives; gives the value that there is then. A key that is there, and has
    /// nothing done to it, is only read.
    ///
    /// # Errors
    /// Those of [`Dict::modify`].
    pub fn or_insert_with(self, default: impl FnOnce() -> V) -> Result<V, DictError> {
        let stored = match self.modify {
            Some(modify) => self.dict.modify(self.key, |value| match value {
                Some(mut value) => {
                    modify(&mut value);
                    Some(value)
                }
                None => Some(default()),
            })?,
            None => {
                let (mut default, mut made) = (Some(default), None);
                let or_else = |at: At<'_, '_>| at.value_or_else::<V, C>(&mut default, &mut made);
                self.dict.locked(self.key, or_else)?.or(made)
            }
        };
        // There is one by now.
        stored.ok_or(DictError::Corrupt {
            field: "entry",
            value: 0,
        })
    }

    /// If the key is not there, stores the type's default value; gives the value that there is then.
    ///
    /// # Errors
    /// Those of [`Dict::modify`].
    pub fn or_default(self) -> Result<V, DictError>
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}
