//! A number that all add to, in which each seat finds its own additions again.

/// A seat's byte in a number of 64 bits that all seats add to.
///
/// Each addition changes the byte of its seat alone, so one step adds to the common number and signs it: whoever
/// loses somebody else's addition changes that one's byte.
///
/// # Examples
/// ```
/// use shm_testing::storm::Share;
///
/// let (first, second) = (Share::of(0), Share::of(1));
/// let mut number = 0_u64;
/// for count in 0..1000 {
///     number = number.wrapping_add(first.step(count));
///     number = number.wrapping_add(second.step(count));
/// }
/// number = number.wrapping_add(second.step(1000));
/// assert!(first.is_after(number, 1000) && second.is_after(number, 1001));
/// assert_eq!(number, first.after(1000) + second.after(1001));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    shift: u32,
}

impl Share {
    /// How many seats have a byte.
    pub const SEATS: usize = 8;

    /// The share of a seat.
    ///
    /// # Panics
    /// When it is none of the first [`SEATS`](Self::SEATS).
    pub fn of(seat: usize) -> Self {
        assert!(seat < Self::SEATS, "a byte for each seat");
        let shift = 8 * seat as u32;
        Self { shift }
    }

    /// What to add, with wrapping, after `count` additions of this seat: one, or what leads back to 0 and carries
    /// nothing to the neighbour.
    pub fn step(self, count: u64) -> u64 {
        self.after(count + 1).wrapping_sub(self.after(count))
    }

    /// What `count` additions of this seat alone make.
    pub fn after(self, count: u64) -> u64 {
        (count & 0xFF) << self.shift
    }

    /// Whether a number has `count` additions of this seat, a multiple of 256 more or less.
    pub fn is_after(self, number: u64, count: u64) -> bool {
        number & 0xFF << self.shift == self.after(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_do_not_carry() {
        for seat in 0..Share::SEATS {
            let (share, others) = (Share::of(seat), !(0xFF << (8 * seat)));
            let mut number = others;
            for count in 0..600 {
                assert!(share.is_after(number, count) && !share.is_after(number, count + 1));
                number = number.wrapping_add(share.step(count));
                assert_eq!(number & others, others, "seat {seat}, {count}");
            }
        }
    }

    #[test]
    fn a_lost_addition_changes_its_own_seats_byte() {
        let (mine, lost) = (Share::of(3), Share::of(5));
        let number = mine.after(7) + lost.after(9) - lost.after(1);
        assert!(mine.is_after(number, 7) && !lost.is_after(number, 9));
    }
}
