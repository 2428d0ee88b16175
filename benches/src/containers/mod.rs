//! The sections of the bench `containers`: lists beside dictionaries, order, what is inside of others, transactions.

use crate::section::Section;

mod dynamic;
mod list;
mod nested;
mod order;
mod python;
mod transaction;

/// All of them, in the order of the tables.
#[must_use]
pub fn sections() -> Vec<Section> {
    vec![
        list::section::<8>(),
        list::section::<64>(),
        order::section(),
        nested::section(),
        transaction::section(),
        dynamic::section(),
    ]
}
