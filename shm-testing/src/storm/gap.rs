//! What may be lost with the killed: at most one item for each interrupted taking, and only one that fits there.

use std::collections::BTreeMap;

/// The numbers, one of each giver, between which an interrupted taking took something.
#[derive(Debug, Default, Clone)]
struct Gap {
    after: BTreeMap<u64, u64>,
    before: BTreeMap<u64, u64>,
}

impl Gap {
    fn fits(&self, giver: u64, item: u64) -> bool {
        self.after.get(&giver).is_none_or(|&last| last < item)
            && self.before.get(&giver).is_none_or(|&next| item < next)
    }
}

/// Sees that what is `missing` can have been lost in takings that were interrupted: each in one of its own.
///
/// `takers` are what each seat took, in order; `None` is a taking that a kill interrupted. Items of one giver (as
/// `giver` says) are taken in the order of their numbers, so what an interrupted taking took lies between what its seat
/// took before and afterwards.
///
/// # Errors
/// What cannot have been lost so, or was taken out of order, in words.
///
/// # Examples
/// ```
/// use shm_testing::storm::lost_in_gaps;
///
/// let takers = [vec![Some(1), Some(4)], vec![Some(2), None, Some(5)]];
/// assert_eq!(lost_in_gaps(&takers, &[3], |_| 0), Ok(()));
/// assert!(lost_in_gaps(&takers, &[6], |_| 0).unwrap_err().contains("0x6 is lost"));
/// assert!(lost_in_gaps(&takers, &[3, 4], |_| 0).is_err());
/// ```
pub fn lost_in_gaps(
    takers: &[Vec<Option<u64>>],
    missing: &[u64],
    giver: impl Fn(u64) -> u64,
) -> Result<(), String> {
    let mut gaps = Vec::new();
    for taken in takers {
        gaps.extend(gaps_of(taken, &giver)?);
    }
    let fitting = missing.iter().map(|&item| {
        let fits = |&gap: &usize| gaps[gap].fits(giver(item), item);
        (0..gaps.len()).filter(fits).collect()
    });
    let fitting: Vec<Vec<usize>> = fitting.collect();
    let mut lost_in = vec![None; gaps.len()];
    for (index, item) in missing.iter().enumerate() {
        if !place(index, &fitting, &mut lost_in, &mut vec![false; gaps.len()]) {
            let (all, of) = (missing.len(), gaps.len());
            return Err(format!(
                "{item:#x} is lost, and in no interrupted taking: {all} are missing, {of} were interrupted"
            ));
        }
    }
    Ok(())
}

fn gaps_of(taken: &[Option<u64>], giver: impl Fn(u64) -> u64) -> Result<Vec<Gap>, String> {
    let (mut gaps, mut last) = (Vec::new(), BTreeMap::new());
    for item in taken {
        let Some(item) = *item else {
            let after = last.clone();
            gaps.push(Gap {
                after,
                ..Gap::default()
            });
            continue;
        };
        if let Some(before) = last.insert(giver(item), item)
            && before >= item
        {
            return Err(format!("{item:#x} after {before:#x}"));
        }
    }
    let (mut behind, mut next) = (gaps.iter_mut().rev(), BTreeMap::new());
    for item in taken.iter().rev() {
        match *item {
            Some(item) => drop(next.insert(giver(item), item)),
            None => behind.next().expect("as many as before").before = next.clone(),
        }
    }
    Ok(gaps)
}

/// Finds a gap for an item, and others for those who give theirs up for it (Kuhn's matching).
fn place(
    item: usize,
    fitting: &[Vec<usize>],
    lost_in: &mut [Option<usize>],
    asked: &mut [bool],
) -> bool {
    for &gap in &fitting[item] {
        if std::mem::replace(&mut asked[gap], true) {
            continue;
        }
        if lost_in[gap].is_none_or(|other| place(other, fitting, lost_in, asked)) {
            lost_in[gap] = Some(item);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(takers: &[Vec<Option<u64>>], missing: &[u64]) -> Result<(), String> {
        lost_in_gaps(takers, missing, |item| item / 100)
    }

    #[test]
    fn each_giver_has_an_order_of_its_own() {
        let takers = [vec![Some(1), Some(201), None, Some(202), Some(5)]];
        assert_eq!(lost(&takers, &[3]), Ok(()));
        assert_eq!(lost(&takers, &[101]), Ok(()));
        assert!(lost(&takers, &[200]).is_err());
        assert!(lost(&takers, &[203]).is_err());
    }

    #[test]
    fn one_gap_has_room_for_one() {
        let takers = [vec![Some(1), None, Some(4)]];
        assert!(lost(&takers, &[2, 3]).is_err());
        let takers = [vec![Some(1), None, None, Some(4)]];
        assert_eq!(lost(&takers, &[2, 3]), Ok(()));
    }

    #[test]
    fn the_first_gives_its_gap_up_for_one_that_fits_nowhere_else() {
        let takers = [vec![None, Some(3), None]];
        assert_eq!(lost(&takers, &[1, 4]), Ok(()));
        let takers = [vec![None, Some(104), None, Some(105)]];
        assert_eq!(lost(&takers, &[1, 103]), Ok(()));
    }

    #[test]
    fn order_is_seen_to() {
        assert_eq!(
            lost(&[vec![Some(2), None, Some(2)]], &[]).unwrap_err(),
            "0x2 after 0x2"
        );
    }
}
