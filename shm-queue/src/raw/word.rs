//! The one word that says what has become of a message: state, owner, deliveries, number.
//!
//! | bits | field |
//! |---:|---|
//! | 0..3 | state: 0 free, 1 being written, 2 ready, 3 leased, 4 dead letter |
//! | 3..19 | owner, while being written or leased: participant slot (10 bits), use of that slot (6 bits) |
//! | 19..27 | deliveries: how often it was handed out, at most 255 |
//! | 27..64 | number in the order of the puts, wrapping; compared as serial numbers are (RFC 1982) |
//!
//! Everything that decides is in one word, so each step of a message's life is one store: whoever is killed
//! leaves it before that step or after it.

use core::fmt;

const OWNER_SHIFT: u32 = 3;
const DELIVERIES_SHIFT: u32 = 19;
const NUMBER_SHIFT: u32 = 27;
const STATE_MASK: u64 = 7;
const OWNER_MASK: u64 = 0xffff;
const DELIVERIES_MASK: u64 = 0xff;
const SLOT_BITS: u32 = 10;

/// Participants that an owner can name.
pub const MAX_SLOTS: usize = 1 << SLOT_BITS;
/// Deliveries that can be counted.
pub const MAX_DELIVERIES: u8 = u8::MAX;

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No message.
    Free,
    /// Claimed by a producer that copies into it.
    Writing,
    /// In the queue.
    Ready,
    /// Handed out, and not yet acknowledged.
    Leased,
    /// Put aside: delivered too often, or not decodable.
    Dead,
}

/// Who writes or leases: one attachment of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u16);

impl Owner {
    /// The owner behind a participant slot and the count of its uses; `None` if the slot is beyond
    /// what a word can name.
    #[must_use]
    pub fn new(slot: usize, uses: u64) -> Option<Self> {
        (slot < MAX_SLOTS).then_some(Self(slot as u16 | ((uses & 0x3f) as u16) << SLOT_BITS))
    }

    /// Index of the participant slot.
    #[must_use]
    pub fn slot(self) -> usize {
        usize::from(self.0) & (MAX_SLOTS - 1)
    }

    /// Whether a slot's count of uses is the one that this owner stands for.
    #[must_use]
    pub fn is_use(self, uses: u64) -> bool {
        uses & 0x3f == u64::from(self.0 >> SLOT_BITS)
    }
}

/// A message's number among the puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(u64);

impl Number {
    const BITS: u32 = 64 - NUMBER_SHIFT;

    /// The number of the lowest bits of `bits`.
    #[must_use]
    pub fn new(bits: u64) -> Self {
        Self(bits & (u64::MAX >> NUMBER_SHIFT))
    }

    /// As it is stored.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// How far it is behind `base`; negative if it came before. Right as long as the two are less than
    /// half of all numbers apart.
    #[must_use]
    pub fn since(self, base: Self) -> i64 {
        let apart = self.0.wrapping_sub(base.0) << (64 - Self::BITS);
        apart as i64 >> (64 - Self::BITS)
    }

    /// Whether it was put before `other`.
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        self.since(other) < 0
    }
}

/// The word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(u64);

impl Word {
    /// No message.
    pub const FREE: Self = Self(0);

    /// Claimed by a producer.
    #[must_use]
    pub fn writing(owner: Owner) -> Self {
        Self(1 | u64::from(owner.0) << OWNER_SHIFT)
    }

    /// In the queue, for the first time.
    #[must_use]
    pub fn ready(number: Number) -> Self {
        Self(2 | number.0 << NUMBER_SHIFT)
    }

    /// Handed out to `owner`, once more.
    #[must_use]
    pub fn leased_to(self, owner: Owner) -> Self {
        let deliveries = u64::from(self.deliveries().saturating_add(1));
        Self(
            3 | u64::from(owner.0) << OWNER_SHIFT
                | deliveries << DELIVERIES_SHIFT
                | self.number().0 << NUMBER_SHIFT,
        )
    }

    /// In the queue again.
    #[must_use]
    pub fn returned(self) -> Self {
        self.without_owner(2)
    }

    /// Put aside.
    #[must_use]
    pub fn dead(self) -> Self {
        self.without_owner(4)
    }

    fn without_owner(self, state: u64) -> Self {
        Self(self.0 & !(STATE_MASK | OWNER_MASK << OWNER_SHIFT) | state)
    }

    /// As it is stored.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The word of these bits, whatever they are.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// What has become of the message; `None` for bits that nobody of this family writes.
    #[must_use]
    pub fn state(self) -> Option<State> {
        match self.0 & STATE_MASK {
            0 if self.0 == 0 => Some(State::Free),
            1 => Some(State::Writing),
            2 => Some(State::Ready),
            3 => Some(State::Leased),
            4 => Some(State::Dead),
            _ => None,
        }
    }

    /// Whether it is somebody's: being written or leased.
    #[must_use]
    pub fn is_owned(self) -> bool {
        matches!(self.state(), Some(State::Writing | State::Leased))
    }

    /// Whose it is, if anybody's.
    #[must_use]
    pub fn owner(self) -> Owner {
        Owner((self.0 >> OWNER_SHIFT & OWNER_MASK) as u16)
    }

    /// How often it was handed out.
    #[must_use]
    pub fn deliveries(self) -> u8 {
        (self.0 >> DELIVERIES_SHIFT & DELIVERIES_MASK) as u8
    }

    /// Its place in the order of the puts.
    #[must_use]
    pub fn number(self) -> Number {
        Number::new(self.0 >> NUMBER_SHIFT)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Word")
            .field("state", &self.state())
            .field("owner", &self.owner())
            .field("deliveries", &self.deliveries())
            .field("number", &self.number().0)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_through_its_life_and_keeps_its_number() {
        let owner = Owner::new(1023, 0x1ff).unwrap();
        assert_eq!(owner.slot(), 1023);
        assert!(owner.is_use(0x3f) && owner.is_use(0x1ff) && !owner.is_use(0x3e));
        let writing = Word::writing(owner);
        assert_eq!(
            (writing.state(), writing.owner()),
            (Some(State::Writing), owner)
        );
        let ready = Word::ready(Number::new(u64::MAX));
        assert_eq!((ready.state(), ready.deliveries()), (Some(State::Ready), 0));
        let leased = ready.leased_to(owner);
        assert_eq!(
            (leased.state(), leased.owner()),
            (Some(State::Leased), owner)
        );
        assert_eq!((leased.deliveries(), leased.number()), (1, ready.number()));
        let again = leased.returned().leased_to(owner);
        assert_eq!((again.deliveries(), again.number()), (2, ready.number()));
        let dead = again.dead();
        assert_eq!((dead.state(), dead.deliveries()), (Some(State::Dead), 2));
        assert_eq!(dead.owner().slot(), 0);
    }

    #[test]
    fn deliveries_stop_at_the_most_that_can_be_counted() {
        let owner = Owner::new(0, 0).unwrap();
        let mut word = Word::ready(Number::new(7));
        for _ in 0..300 {
            word = word.leased_to(owner).returned();
        }
        assert_eq!((word.deliveries(), word.number().get()), (255, 7));
    }

    #[test]
    fn numbers_are_compared_across_the_wrap() {
        let last = Number::new(u64::MAX);
        let first = last.next();
        assert_eq!(first.get(), 0);
        assert!(last.is_before(first) && !first.is_before(last));
        assert_eq!(first.since(last), 1);
        assert_eq!(last.since(first), -1);
    }

    #[test]
    fn bits_that_nobody_writes_are_no_state() {
        for bits in [5, 6, 7, 8, 1 << 63] {
            assert_eq!(Word::from_bits(bits).state(), None, "{bits:#x}");
        }
        assert_eq!(Owner::new(1024, 0), None);
    }
}
