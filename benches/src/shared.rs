//! What the threads of one process share, found under a name.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What the threads of this process have found under a name; whoever comes first makes it.
///
/// # Panics
///
/// If the name belongs to another type.
#[must_use]
pub fn shared<T: Clone + Send + 'static>(name: &str, make: impl FnOnce() -> T) -> T {
    static ALL: Mutex<Option<HashMap<String, Box<dyn Any + Send>>>> = Mutex::new(None);
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = all
        .get_or_insert_default()
        .entry(name.to_owned())
        .or_insert_with(|| Box::new(make()));
    let found = entry.downcast_ref::<T>();
    found.expect("a name belongs to one contender").clone()
}

#[cfg(test)]
mod tests {
    use super::shared;

    #[test]
    fn whoever_comes_first_makes_it() {
        assert_eq!(shared("shared-test", || 1), 1);
        assert_eq!(shared("shared-test", || 2), 1);
        assert_eq!(shared("shared-test-other", || 2), 2);
    }
}
