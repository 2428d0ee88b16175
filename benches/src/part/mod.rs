//! The four tables, a file for each.

use serde_json::{Value, json};

use crate::options::Part;
use crate::table::Table;

pub mod fairness;
pub mod handover;
pub mod lock;
pub mod segment;

/// What a part found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which part.
    pub part: Part,
    /// For people.
    pub table: Table,
    /// The same for programs, a row for each variant.
    pub rows: Vec<Value>,
    /// What was wrong: a lock that lost an update, a robust lock that was not handed over. Never a matter of time.
    pub failures: Vec<String>,
}

impl Report {
    /// The same for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "rows": self.rows, "notes": self.table.notes(), "failures": self.failures })
    }
}

/// The numbers from 0 to `count`, starting with another one in each round, so that no variant always follows the same one.
pub(crate) fn rotated(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |at| (at + round) % count)
}

/// A figure for programs; JSON has no NaN.
pub(crate) fn number(value: f64) -> Value {
    if value.is_finite() {
        json!((value * 1000.0).round() / 1000.0)
    } else {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{number, rotated};

    #[test]
    fn each_round_starts_with_another_and_leaves_none_out() {
        assert_eq!(rotated(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(rotated(3, 4).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(rotated(0, 1).count(), 0);
    }

    #[test]
    fn numbers_are_finite_in_json() {
        assert_eq!(number(1.23456), json!(1.235));
        assert_eq!(number(f64::NAN), Value::Null);
    }
}
