//! The sections of the bench `value`, a file for each.

use crate::section::Section;

mod access;
mod snapshot;

/// All of them, in the order of the tables.
#[must_use]
pub fn sections() -> Vec<Section> {
    vec![
        access::section(),
        snapshot::alone(),
        snapshot::beside_a_writer(),
    ]
}
