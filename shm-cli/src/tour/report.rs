//! What was found: figures and expectations, and the exit code they make.

use std::time::Duration;

use serde::Serialize;

use super::{Part, bakery, counter, death, dict, permits, tickets, value};
use crate::exit;

/// Everything that a tour found; `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether every expectation holds.
    pub(super) ok: bool,
    pub(super) processors: usize,
    pub(super) parts: Vec<PartReport>,
    /// The tour's names that are still in /dev/shm.
    pub(super) left_behind: Vec<String>,
}

/// What one part found.
#[derive(Debug, Serialize)]
pub(super) struct PartReport {
    pub(super) part: Part,
    pub(super) ok: bool,
    pub(super) seconds: f64,
    /// `None` if it did not run to its end.
    pub(super) figures: Option<Figures>,
    pub(super) expectations: Vec<Expectation>,
}

/// The figures of a part.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Figures {
    Counter(counter::Figures),
    Tickets(tickets::Figures),
    Value(value::Figures),
    Death(death::Figures),
    Permits(permits::Figures),
    Bakery(bakery::Figures),
    Dict(dict::Figures),
}

/// Something that must be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Expectation {
    pub(super) ok: bool,
    pub(super) expectation: String,
    /// What was the case.
    pub(super) found: String,
}

impl Expectation {
    pub(super) fn new(expectation: impl Into<String>, ok: bool, found: impl ToString) -> Self {
        let (expectation, found) = (expectation.into(), found.to_string());
        Self {
            ok,
            expectation,
            found,
        }
    }
}

impl PartReport {
    pub(super) fn new(
        part: Part,
        time: Duration,
        figures: Option<Figures>,
        expectations: Vec<Expectation>,
    ) -> Self {
        Self {
            part,
            // A part that expects nothing has shown nothing.
            ok: !expectations.is_empty() && expectations.iter().all(|expected| expected.ok),
            seconds: time.as_secs_f64(),
            figures,
            expectations,
        }
    }
}

impl Report {
    pub(super) fn new(processors: usize, parts: Vec<PartReport>, left_behind: Vec<String>) -> Self {
        Self {
            ok: !parts.is_empty() && left_behind.is_empty() && parts.iter().all(|part| part.ok),
            processors,
            parts,
            left_behind,
        }
    }

    /// 0 if every expectation holds.
    pub(super) fn exit_code(&self) -> u8 {
        if self.ok { 0 } else { exit::CONFLICT }
    }

    /// How many expectations there were: those of the parts, and that nothing is left.
    pub(super) fn expected(&self) -> usize {
        1 + self
            .parts
            .iter()
            .map(|part| part.expectations.len())
            .sum::<usize>()
    }

    /// What failed, one line each.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for part in &self.parts {
            let failed = part.expectations.iter().filter(|expected| !expected.ok);
            failures.extend(failed.map(
                |Expectation {
                     expectation, found, ..
                 }| {
                    format!("{}: {expectation}; but: {found}", part.part.name())
                },
            ));
            if part.expectations.is_empty() {
                failures.push(format!("{}: nothing was looked at", part.part.name()));
            }
        }
        if !self.left_behind.is_empty() {
            let names = self.left_behind.join(", ");
            failures.push(format!("nothing is left in /dev/shm; but: {names}"));
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(part: Part, oks: &[bool]) -> PartReport {
        let expectations = oks
            .iter()
            .enumerate()
            .map(|(at, &ok)| Expectation::new(format!("fact {at}"), ok, "a figure"))
            .collect();
        PartReport::new(part, Duration::from_millis(1500), None, expectations)
    }

    fn report(parts: Vec<PartReport>) -> Report {
        Report::new(2, parts, Vec::new())
    }

    #[test]
    fn all_expectations_met_is_success() {
        let report = report(vec![
            part(Part::Counter, &[true, true]),
            part(Part::Death, &[true]),
        ]);
        assert!(report.ok);
        assert_eq!(report.exit_code(), 0);
        assert_eq!(report.expected(), 4);
        assert_eq!(report.failures(), Vec::<String>::new());
    }

    #[test]
    fn one_failed_expectation_of_any_part_fails_the_tour_and_is_named() {
        let report = report(vec![
            part(Part::Counter, &[true]),
            part(Part::Tickets, &[true, false, true]),
        ]);
        assert!(!report.ok && report.parts[0].ok && !report.parts[1].ok);
        assert_eq!(report.exit_code(), 1);
        assert_eq!(report.failures(), ["tickets: fact 1; but: a figure"]);
    }

    #[test]
    fn a_name_left_behind_fails_the_tour() {
        let left = vec!["shm-tour-1-value-number".to_owned()];
        let report = Report::new(2, vec![part(Part::Value, &[true])], left);
        assert_eq!(report.exit_code(), 1);
        let failures = report.failures();
        assert_eq!(failures.len(), 1);
        assert!(failures[0].ends_with("shm-tour-1-value-number"));
    }

    #[test]
    fn a_part_or_a_tour_that_looked_at_nothing_fails() {
        assert_eq!(report(Vec::new()).exit_code(), 1);
        let empty = report(vec![part(Part::Value, &[])]);
        assert_eq!(empty.exit_code(), 1);
        assert_eq!(empty.failures(), ["value: nothing was looked at"]);
    }

    #[test]
    fn json_has_ok_at_every_level() {
        let report = report(vec![part(Part::Tickets, &[true, false])]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["parts"][0]["part"], "tickets");
        assert_eq!(json["parts"][0]["ok"], false);
        assert_eq!(json["parts"][0]["seconds"], 1.5);
        assert_eq!(json["parts"][0]["expectations"][0]["ok"], true);
        assert_eq!(json["parts"][0]["expectations"][1]["ok"], false);
        assert_eq!(json["parts"][0]["expectations"][1]["expectation"], "fact 1");
    }
}
