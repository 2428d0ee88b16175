//! The sections of the bench `lock_family`, a file for each.

use crate::section::Section;
use crate::variants::{FOREIGN, without_code};

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

/// A line for what `boost::interprocess` has of this kind, and no build of these benches.
fn boost(kind: &str) -> Vec<String> {
    without_code(&[(&format!("boost::interprocess, {kind}"), FOREIGN)])
}

#[cfg(test)]
mod tests {
    use super::sections;

    #[test]
    fn boost_is_named_where_it_has_something_of_the_kind() {
        for section in sections() {
            let named = |note: &String| note.starts_with("absent: boost::interprocess");
            let expected = section.key != "barrier";
            assert_eq!(section.notes.iter().any(named), expected, "{}", section.key);
        }
    }
}
