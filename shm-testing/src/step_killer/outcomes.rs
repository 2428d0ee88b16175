//! Which outcomes are right, and in which order over the steps.

/// The outcomes that a checker may name, judged in the order of the steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcomes {
    labels: Vec<String>,
    order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Each once, in this order: the first step shows the first, the last step the last.
    Phases,
    /// Never back to an earlier one; any may be missing.
    Rising,
    /// In any order.
    Any,
}

impl Outcomes {
    /// An atomic operation: `old` up to some step, `new` from there on, both seen.
    pub fn switch(old: &str, new: &str) -> Self {
        Self::phases(&[old, new])
    }

    /// The same outcome at each step.
    pub fn always(label: &str) -> Self {
        Self::phases(&[label])
    }

    /// All of `labels`, in this order; a label may come twice, as in `free, held, free`.
    ///
    /// # Panics
    /// When `labels` is empty, or the same label follows itself.
    pub fn phases(labels: &[&str]) -> Self {
        assert!(
            labels.windows(2).all(|pair| pair[0] != pair[1]),
            "a phase ends where its label does: {labels:?}"
        );
        Self::new(labels, Order::Phases)
    }

    /// Some of `labels`, never one that stands before an earlier step's.
    ///
    /// # Panics
    /// When `labels` is empty.
    pub fn rising(labels: &[&str]) -> Self {
        Self::new(labels, Order::Rising)
    }

    /// Any of `labels` at any step.
    ///
    /// # Panics
    /// When `labels` is empty.
    pub fn any(labels: &[&str]) -> Self {
        Self::new(labels, Order::Any)
    }

    fn new(labels: &[&str], order: Order) -> Self {
        assert!(!labels.is_empty(), "no outcome would be right");
        Self {
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            order,
        }
    }

    /// Whether `label` is right at some step.
    pub(crate) fn knows(&self, label: &str) -> bool {
        self.labels.iter().any(|known| known == label)
    }

    /// What is wrong with the outcomes of the steps, given in order: index and complaint.
    ///
    /// `whole` tells that no step was left out; the first and the last are always there.
    pub(crate) fn judge(&self, seen: &[&str], whole: bool) -> Vec<(usize, String)> {
        let mut wrong = Vec::new();
        // The phase in which the operation is, and what was skipped on the way there.
        let mut phase = 0;
        for (at, label) in seen.iter().enumerate() {
            let known = |phases: &[String]| phases.iter().position(|known| known == label);
            if self.order == Order::Any {
                if known(&self.labels).is_none() {
                    wrong.push((at, format!("outcome {label:?}")));
                }
                continue;
            }
            match known(&self.labels[phase..]) {
                Some(0) => {}
                Some(skipped) => {
                    if self.order == Order::Phases && at == 0 {
                        wrong.push((at, format!("the first step shows {label:?}")));
                    } else if self.order == Order::Phases && whole && skipped > 1 {
                        let missed = &self.labels[phase + 1..phase + skipped];
                        wrong.push((at, format!("{label:?} without {missed:?} before")));
                    }
                    phase += skipped;
                }
                None => match known(&self.labels) {
                    Some(_) => wrong.push((
                        at,
                        format!("back from {:?} to {label:?}", self.labels[phase]),
                    )),
                    None => wrong.push((at, format!("outcome {label:?}"))),
                },
            }
        }
        let last = self.labels.len() - 1;
        // In a sample, a label that comes back may have been seen before and after what was left out.
        let shown = !whole && seen.last() == Some(&self.labels[last].as_str());
        if self.order == Order::Phases && phase != last && !shown && !seen.is_empty() {
            let complaint = format!("the last step does not show {:?}", self.labels[last]);
            wrong.push((seen.len() - 1, complaint));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(outcomes: &Outcomes, seen: &[&str]) -> Vec<usize> {
        let wrong = outcomes.judge(seen, true);
        wrong.into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn switch_is_one_way_and_complete() {
        let switch = Outcomes::switch("old", "new");
        assert_eq!(complaints(&switch, &["old", "old", "new"]), []);
        assert_eq!(complaints(&switch, &["old", "torn", "new"]), [1]);
        assert_eq!(complaints(&switch, &["old", "new", "old", "new"]), [2]);
        assert_eq!(complaints(&switch, &["old", "old"]), [1]);
        assert_eq!(complaints(&switch, &["new", "new"]), [0]);
    }

    #[test]
    fn label_may_come_back_as_a_later_phase() {
        let cycle = Outcomes::phases(&["free", "held", "free"]);
        assert_eq!(complaints(&cycle, &["free", "held", "held", "free"]), []);
        assert_eq!(complaints(&cycle, &["free", "held", "free", "held"]), [3]);
        assert_eq!(complaints(&cycle, &["free", "held"]), [1]);
        assert_eq!(complaints(&cycle, &["free", "free"]), [1]);
    }

    #[test]
    fn skipped_phase_is_wrong_only_when_every_step_was_looked_at() {
        let phases = Outcomes::phases(&["a", "b", "c"]);
        assert_eq!(phases.judge(&["a", "c"], true).len(), 1);
        assert_eq!(phases.judge(&["a", "c"], false).len(), 0);
    }

    #[test]
    fn sample_may_miss_all_between_a_label_and_its_return() {
        let cycle = Outcomes::phases(&["free", "held", "free"]);
        assert_eq!(cycle.judge(&["free", "free"], false).len(), 0);
        assert_eq!(cycle.judge(&["free", "held"], false).len(), 1);
    }

    #[test]
    fn rising_forbids_only_the_way_back() {
        let rising = Outcomes::rising(&["0", "1", "2"]);
        assert_eq!(complaints(&rising, &["1", "1", "2"]), []);
        assert_eq!(complaints(&rising, &["0", "2", "1", "3"]), [2, 3]);
    }

    #[test]
    fn any_knows_only_strangers() {
        let any = Outcomes::any(&["a", "b"]);
        assert_eq!(complaints(&any, &["b", "a", "b", "c"]), [3]);
        assert_eq!(complaints(&Outcomes::always("a"), &["a", "b"]), [1]);
    }
}
