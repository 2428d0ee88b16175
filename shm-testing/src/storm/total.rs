//! A long storm is a row of shorter ones.

use std::fmt;
use std::time::Duration;

use super::Outcome;

/// The sums over storms in a row, each with a ledger of its own.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Total {
    /// How many storms.
    pub chapters: usize,
    /// Workers killed.
    pub kills: usize,
    /// How many of these died together with another.
    pub in_pairs: usize,
    /// How many of these were killed while stopped.
    pub while_stopped: usize,
    /// Workers stopped for a while.
    pub stops: usize,
    /// Operations ended, as their workers told.
    pub ended: u64,
    /// Operations in which their worker was killed.
    pub pending: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Total {
    /// Adds a storm.
    pub fn add(&mut self, outcome: &Outcome) {
        self.chapters += 1;
        self.kills += outcome.kills;
        self.in_pairs += outcome.in_pairs;
        self.while_stopped += outcome.while_stopped;
        self.stops += outcome.stops;
        self.ended += outcome.ledger.ended();
        self.pending += outcome.ledger.pending();
        self.elapsed += outcome.elapsed;
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "chapters={} kills={} in_pairs={} while_stopped={} stops={} ended={} pending={} in {:.1} s",
            self.chapters,
            self.kills,
            self.in_pairs,
            self.while_stopped,
            self.stops,
            self.ended,
            self.pending,
            self.elapsed.as_secs_f64()
        )
    }
}
