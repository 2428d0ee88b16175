//! What was found: a row for each case and mode, and the sums.

use std::fmt::{self, Write};
use std::time::Duration;

use super::source::Place;

/// One violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The step, for two kills both: `12 > 57`; `asleep` if in the next instruction's call.
    pub step: String,
    /// What is wrong.
    pub what: String,
    /// The instruction executed last before the disturbance.
    pub after: Place,
    /// The instruction that was not executed any more.
    pub before: Place,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.what)?;
        write!(f, "\n      after  {}", self.after)?;
        write!(f, "\n      before {}", self.before)
    }
}

/// What one mode of one case showed.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which case of the run.
    pub(super) case: usize,
    /// The operation whose victims were disturbed.
    pub operation: String,
    /// The state it started from.
    pub state: String,
    /// What was done to the victims.
    pub mode: String,
    /// Whether this belongs to a negative control, and what its violation is to say.
    pub control: Option<String>,
    /// Instructions of the operation; of the longest one where there were several starts.
    pub steps: usize,
    /// Points visited.
    pub points: usize,
    /// Whether every step was visited.
    pub whole: bool,
    /// Points that the victim reached only by single steps, or beside the recorded way.
    pub diverged: usize,
    /// Of the points visited, those that the victim reached only beside the recorded way.
    pub aside: usize,
    /// Points of which nothing is known, since the victim never came so far again.
    pub missed: usize,
    /// Victims that were at no end of their way when their time was over, and were followed by others.
    pub hung: usize,
    /// The outcomes in the order of the steps, in short.
    pub outcomes: String,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Row {
    /// Points visited in a second.
    pub fn rate(&self) -> f64 {
        self.points as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Of a negative control: whether its own fault was found.
    fn shows_its_fault(&self) -> bool {
        let Some(fault) = &self.control else {
            return false;
        };
        self.violations
            .iter()
            .any(|violation| violation.what.contains(fault.as_str()))
    }

    /// `97`, or `a sample of 20`.
    fn points_in_words(&self) -> String {
        match self.whole {
            true => self.points.to_string(),
            false => format!("a sample of {}", self.points),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} | {} | {} | {} steps, {} points",
            self.operation,
            self.state,
            self.mode,
            self.steps,
            self.points_in_words()
        )?;
        if self.diverged > 0 {
            write!(f, ", {} diverged", self.diverged)?;
        }
        for (count, what) in [
            (self.aside, "beside"),
            (self.missed, "missed"),
            (self.hung, "hung"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        write!(
            f,
            " | {} violations | {:.1} s, {:.0}/s",
            self.violations.len(),
            self.elapsed.as_secs_f64(),
            self.rate()
        )?;
        if self.control.is_some() {
            write!(f, " | control")?;
        }
        write!(f, "\n    {}", self.outcomes)?;
        for violation in &self.violations {
            write!(f, "\n    {violation}")?;
        }
        Ok(())
    }
}

/// All rows of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of the cases.
    pub rows: Vec<Row>,
}

impl Report {
    /// Points visited, those of the negative controls left out.
    pub fn points(&self) -> usize {
        self.real().map(|row| row.points).sum()
    }

    /// Violations, those of the negative controls left out.
    pub fn violations(&self) -> usize {
        self.real().map(|row| row.violations.len()).sum()
    }

    /// Negative controls: how many were caught, of how many.
    pub fn controls(&self) -> (usize, usize) {
        let mut all: Vec<usize> = self
            .rows
            .iter()
            .filter(|row| row.control.is_some())
            .map(|row| row.case)
            .collect();
        all.dedup();
        let caught = |case: &&usize| {
            let mut rows = self.rows.iter().filter(|row| row.case == **case);
            rows.any(Row::shows_its_fault)
        };
        (all.iter().filter(caught).count(), all.len())
    }

    /// Points that were chosen and never reached, those of the negative controls left out.
    pub fn missed(&self) -> usize {
        self.real().map(|row| row.missed).sum()
    }

    /// Points that were reached only beside the recorded way, those of the negative controls left out.
    pub fn aside(&self) -> usize {
        self.real().map(|row| row.aside).sum()
    }

    /// Victims that hung on their way, those of the negative controls left out.
    pub fn hung(&self) -> usize {
        self.real().map(|row| row.hung).sum()
    }

    /// Whether each row looked at something, there is no violation, and every control was caught.
    pub fn is_good(&self) -> bool {
        let (caught, controls) = self.controls();
        let seen = !self.rows.is_empty() && self.real().all(|row| row.points > 0);
        seen && self.violations() == 0 && caught == controls
    }

    /// `points=N violations=V controls_caught=C/M`
    pub fn summary(&self) -> String {
        let (caught, controls) = self.controls();
        format!(
            "points={} violations={} controls_caught={caught}/{controls}",
            self.points(),
            self.violations()
        )
    }

    /// A Markdown table, a line for each row.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "| operation | start state | mode | steps | points | violations | outcomes |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let control = if row.control.is_some() {
                " (control)"
            } else {
                ""
            };
            let _ = writeln!(
                table,
                "| {}{control} | {} | {} | {} | {} | {} | {} |",
                row.operation,
                row.state,
                row.mode,
                row.steps,
                row.points_in_words(),
                row.violations.len(),
                row.outcomes
            );
        }
        table
    }

    /// Takes over the rows of another run; the cases of the two stay apart.
    pub fn append(&mut self, other: Report) {
        let offset = self.rows.iter().map(|row| row.case + 1).max().unwrap_or(0);
        self.rows.extend(other.rows.into_iter().map(|mut row| {
            row.case += offset;
            row
        }));
    }

    fn real(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.control.is_none())
    }
}
