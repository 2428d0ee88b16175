//! Which steps are looked at, and in which order, so that a part of them is a good sample.

use std::collections::HashSet;

/// How many of a row's steps are looked at. The first and the last always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Every step.
    All,
    /// One in so many.
    Every(usize),
    /// At most so many.
    Points(usize),
}

impl Sampling {
    /// How many of `all` steps.
    pub(super) fn take(self, all: usize) -> usize {
        match self {
            Self::All => all,
            Self::Every(n) => all.div_ceil(n.max(1)),
            Self::Points(n) => n.min(all),
        }
        .max(2.min(all))
    }

    /// How many of `all` starts, in a row that has one for each step of a first victim. They are
    /// chosen before the steps in them.
    pub(super) fn starts(self, all: usize) -> usize {
        match self {
            // Each start costs a recording: four points or so make it worth while.
            Self::Points(n) => (n / 4).max(2).min(all),
            Self::Every(n) => Self::Every(n.saturating_mul(4)).take(all),
            Self::All => all,
        }
    }

    /// At most so many steps, if a number is given.
    pub(super) fn at_most(self, most: Option<usize>) -> Self {
        match (self, most) {
            (Self::All, Some(most)) => Self::Points(most),
            (Self::Points(n), Some(most)) => Self::Points(n.min(most)),
            (other, _) => other,
        }
    }

    /// The share for one of `parts` rows that together make up one.
    pub(super) fn share(self, parts: usize) -> Self {
        match self {
            Self::Points(n) => Self::Points(n.div_ceil(parts.max(1))),
            other => other,
        }
    }
}

/// How many steps of the [`order`] it takes to be at each instruction once.
pub(super) fn instructions(pcs: &[u64]) -> usize {
    let distinct: HashSet<u64> = pcs.iter().copied().collect();
    // The last step may be at an address of others, and is among the first.
    (distinct.len() + 1).min(pcs.len())
}

/// All steps of a trace: both ends, then those at addresses not seen before, then the rest; within
/// each group spread evenly, however early one stops. `turn` says at which of a group it begins.
pub(super) fn order(pcs: &[u64], turn: usize) -> Vec<usize> {
    let (ends, [fresh, again]) = groups(pcs);
    [ends, turned(fresh, turn), turned(again, turn)].concat()
}

/// As [`order`] without the ends, and round from the last of the rest to the first: for the starts of a row which
/// together look at all, each from another turn on.
pub(super) fn order_within(pcs: &[u64], turn: usize) -> Vec<usize> {
    let (ends, within) = groups(pcs);
    match within.concat() {
        none if none.is_empty() => ends,
        within => turned(within, turn),
    }
}

/// Both ends; what lies between: steps at addresses not seen before, and the rest, each spread evenly.
fn groups(pcs: &[u64]) -> (Vec<usize>, [Vec<usize>; 2]) {
    let last = pcs.len() - 1;
    let mut seen = HashSet::from([pcs[0], pcs[last]]);
    let (fresh, again): (Vec<_>, Vec<_>) = (1..last).partition(|&k| seen.insert(pcs[k]));
    let mut ends = vec![0, last];
    ends.dedup();
    (ends, [spread(fresh), spread(again)])
}

fn turned(mut steps: Vec<usize>, turn: usize) -> Vec<usize> {
    if !steps.is_empty() {
        let turn = turn % steps.len();
        steps.rotate_left(turn);
    }
    steps
}

/// Orders by multiples of the golden ratio: each next one falls into the widest gap.
pub(super) fn spread(mut steps: Vec<usize>) -> Vec<usize> {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let count = steps.len() as u64;
    let rank = |index: u64| index.wrapping_mul(GOLDEN);
    let mut ranked: Vec<u64> = (0..count).collect();
    ranked.sort_by_key(|&index| rank(index));
    // ranked[i] = at which turn the i-th in size has its turn; inverted by sorting on it.
    let mut turns: Vec<(u64, usize)> = ranked.into_iter().zip(steps.drain(..)).collect();
    turns.sort_unstable();
    turns.into_iter().map(|(_, step)| step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_names_each_step_once_ends_first() {
        let pcs: Vec<u64> = (0..50).map(|k| k % 20).collect();
        let mut order = order(&pcs, 77);
        assert_eq!(order[..2], [0, 49]);
        // Addresses 1..=19, but for the last step's, come before any that is seen again.
        assert!(order[2..20].iter().all(|k| (1..20).contains(k)));
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn so_many_steps_are_at_each_instruction() {
        for pcs in [
            vec![1, 2, 1, 2, 3, 3, 1],
            vec![1, 2, 3],
            vec![1],
            vec![1, 1],
        ] {
            let visited = &order(&pcs, 3)[..instructions(&pcs)];
            assert!(pcs.iter().all(|pc| visited.iter().any(|k| pcs[*k] == *pc)));
        }
        assert_eq!(instructions(&[1, 1, 1, 1, 2, 2, 1]), 3);
    }

    #[test]
    fn order_of_an_empty_operation_is_its_only_step() {
        assert_eq!(order(&[7], 1), [0]);
        assert_eq!(order(&[7, 8], 1), [0, 1]);
        assert_eq!(order_within(&[7, 8], 1), [0, 1]);
    }

    #[test]
    fn starts_that_take_turns_look_at_all_that_is_within() {
        let pcs: Vec<u64> = (0..50).map(|k| k % 20).collect();
        let parts = (0..12).map(|start| order_within(&pcs, 5 + 4 * start)[..4].to_vec());
        let mut seen: Vec<_> = parts.collect::<Vec<_>>().concat();
        seen.sort_unstable();
        assert_eq!(seen, (1..49).collect::<Vec<_>>());
    }

    #[test]
    fn beginning_of_a_spread_leaves_no_wide_gap() {
        let mut first: Vec<_> = spread((0..1000).collect())[..50].to_vec();
        first.sort_unstable();
        let gaps = first.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() < 60);
    }

    #[test]
    fn sample_keeps_both_ends() {
        assert_eq!(Sampling::Every(100).take(50), 2);
        assert_eq!(Sampling::Points(0).take(50), 2);
        assert_eq!(Sampling::All.take(50), 50);
        assert_eq!(Sampling::Points(10).take(1), 1);
        assert_eq!(Sampling::Points(20).starts(50), 5);
        assert_eq!(Sampling::Points(400).starts(50), 50);
        assert_eq!(Sampling::All.at_most(Some(10)).take(50), 10);
        assert_eq!(Sampling::All.at_most(None).take(50), 50);
        assert_eq!(Sampling::Points(5).at_most(Some(10)).take(50), 5);
    }
}
