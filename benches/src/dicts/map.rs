//! Mappings from bytes to bytes, whatever they are made of, and what is in them.

use std::any::Any;
use std::io;

use crate::variants::Site;

/// Entries of a mapping; few in a build that is not for figures.
pub(crate) const KEYS: u64 = entries(100_000);

/// So many, or few in a build that is not for figures.
pub(crate) const fn entries(count: u64) -> u64 {
    if cfg!(debug_assertions) && count > 1000 {
        1000
    } else {
        count
    }
}

/// A key.
pub(crate) type Key = [u8; 16];

/// The key of that number. Its first bytes look random, its last ones are the number.
#[inline]
pub(crate) fn key(number: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mixed(number).to_le_bytes());
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

/// Source: the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
#[inline]
fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

/// Numbers in no order, others for each seat.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(seat: usize) -> Self {
        Self((seat as u64 + 1) << 40)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0)
    }
}

/// Some number below `end`, by the upper bits of a random one.
#[inline]
pub(crate) fn below(random: u64, end: u64) -> u64 {
    ((u128::from(random) * u128::from(end)) >> 64) as u64
}

/// Stamps a value: its first and its last bytes are the stamp.
#[inline]
pub(crate) fn stamp(value: &mut [u8], stamp: u64) {
    let last = value.len() - 8;
    value[..8].copy_from_slice(&stamp.to_le_bytes());
    value[last..].copy_from_slice(&stamp.to_le_bytes());
}

/// Whether it is a value of so many bytes, with one stamp.
#[inline]
pub(super) fn is_whole(value: &[u8], size: usize) -> bool {
    value.len() == size && value[..8] == value[size - 8..]
}

/// A mapping, seen by one peer.
pub(super) trait Map: Sized + 'static {
    /// Makes it, in the parent, if it is for processes.
    fn create(site: &Site) -> io::Result<Box<dyn Any>>;

    /// Finds it.
    fn open(site: &Site) -> io::Result<Self>;

    /// Copies the value of a key into `out`; false if the key is not there.
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool;

    /// Stores a value.
    #[allow(clippy::ptr_arg, reason = "what a typed dictionary takes")]
    fn set(&mut self, key: &Key, value: &Vec<u8>);

    /// Takes everything out. Nobody else uses it meanwhile.
    fn empty(&mut self) -> io::Result<()>;

    /// Another peer has emptied it.
    fn was_emptied(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A mapping of which the values are numbers of 8 bytes, too.
pub(super) trait Count: Map {
    /// Adds one to a key's value, which is there, in one step.
    fn increment(&mut self, key: &Key);
}

/// A counter's bytes.
#[inline]
pub(super) fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("a number has 8 bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{KEYS, Random, below, is_whole, key, stamp};

    #[test]
    fn keys_are_different_and_numbers_are_below_the_end() {
        let keys: HashSet<_> = (0..KEYS).map(key).collect();
        assert_eq!(keys.len() as u64, KEYS);
        let mut random = Random::of(1);
        let seen: HashSet<_> = (0..1000).map(|_| below(random.next(), 10)).collect();
        assert_eq!(seen, (0..10).collect());
    }

    #[test]
    fn a_torn_value_is_not_whole() {
        let mut value = vec![7; 64];
        stamp(&mut value, 3);
        assert!(is_whole(&value, 64) && !is_whole(&value[..32], 32));
        assert!(!is_whole(&value, 65) && !is_whole(&[], 64));
    }
}
