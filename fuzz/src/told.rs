//! An error says something.

use std::any::type_name;
use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

thread_local! {
    /// The variants that this input has met.
    static MET: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// To be called at the start of each input, so that each gives the same by itself.
pub(crate) fn forget() {
    MET.with_borrow_mut(Vec::clear);
}

/// Has the error's texts made: those of each variant once for each input, as they take longer than most of the calls.
///
/// # Panics
/// If there is none.
pub(crate) fn told<E: Display + Debug>(error: &E) {
    let mut hasher = DefaultHasher::new();
    (type_name::<E>(), discriminant(error)).hash(&mut hasher);
    let variant = hasher.finish();
    let is_new = MET.with_borrow_mut(|met| {
        let is_new = !met.contains(&variant);
        met.extend(is_new.then_some(variant));
        is_new
    });
    if is_new {
        assert!(!error.to_string().is_empty() && !format!("{error:?}").is_empty());
    }
}
