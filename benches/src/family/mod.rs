//! The sections of the bench `lock_family`, a file for each.

use crate::section::Section;

mod barrier;
mod other;
mod rwlock;
mod semaphore;
mod wakeup;

/// All of them, in the order of the tables.
#[must_use]
pub fn sections() -> Vec<Section> {
    vec![
        semaphore::uncontended(),
        semaphore::contended(),
        rwlock::section(),
        wakeup::one_core(),
        wakeup::two_cores(),
        barrier::section(),
        other::section(),
    ]
}
