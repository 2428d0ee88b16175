//! The few statistics that the tables need.

/// The quantile `q` (0 to 1) by nearest rank: a value that was measured, never one in between. NaN for no values.
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The median by nearest rank: for an even number of values the lower of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The largest value; NaN for none.
#[must_use]
pub fn largest(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

/// Jain's fairness index of what each peer got: 1 if all got the same, 1/n if one got everything. 1 if nobody got anything.
///
/// Source: R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness", DEC TR-301, 1984: (sum x)^2 / (n * sum x^2).
#[must_use]
pub fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (shares.len() as f64 * squares)
    }
}

/// The quotients of two series, round by round.
#[must_use]
pub fn quotients(these: &[f64], those: &[f64]) -> Vec<f64> {
    these
        .iter()
        .zip(those)
        .map(|(this, that)| this / that)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{jain, largest, median, quantile, quotients};

    #[test]
    fn median_of_unsorted_values_is_the_middle_one() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.0);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn quantile_is_a_measured_value() {
        let tenths: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(quantile(&tenths, 0.9), 9.0);
        assert_eq!(quantile(&tenths, 0.91), 10.0);
        assert_eq!(quantile(&tenths, 0.0), 1.0);
        assert_eq!(largest(&tenths), 10.0);
    }

    #[test]
    fn no_values_have_no_median() {
        assert!(median(&[]).is_nan());
        assert!(largest(&[]).is_nan());
    }

    #[test]
    fn jain_is_one_for_equal_shares_and_one_nth_for_a_monopoly() {
        assert_eq!(jain(&[5, 5, 5, 5]), 1.0);
        assert_eq!(jain(&[20, 0, 0, 0]), 0.25);
        assert_eq!(jain(&[0, 0]), 1.0);
        assert!((jain(&[3, 1]) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn quotients_are_taken_round_by_round() {
        assert_eq!(quotients(&[6.0, 9.0], &[2.0, 3.0]), [3.0, 3.0]);
    }
}
