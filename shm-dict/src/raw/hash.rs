//! SipHash-1-3, in one pass over a key that is whole in memory.
//!
//! Source: J.-P. Aumasson, D. J. Bernstein, *SipHash: a fast short-input PRF* (Indocrypt 2012), with one round for
//! each word and three at the end.

/// The state: four words.
struct State([u64; 4]);

impl State {
    #[inline(always)]
    const fn new([first, second]: [u64; 2]) -> Self {
        Self([
            first ^ 0x736F_6D65_7073_6575,
            second ^ 0x646F_7261_6E64_6F6D,
            first ^ 0x6C79_6765_6E65_7261,
            second ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        d = d.rotate_left(21) ^ a;
        b = b.rotate_left(17) ^ c;
        Self([a, b, c.rotate_left(32), d])
    }

    #[inline(always)]
    const fn absorb(mut self, word: u64) -> Self {
        self.0[3] ^= word;
        self = self.round();
        self.0[0] ^= word;
        self
    }

    #[inline(always)]
    const fn end(mut self) -> u64 {
        self.0[2] ^= 0xFF;
        let [a, b, c, d] = self.round().round().round().0;
        a ^ b ^ c ^ d
    }
}

/// The hash of some bytes under a seed. Inlined, so that keys of a known size are hashed in a straight line.
#[inline(always)]
pub(crate) fn hash(seed: [u64; 2], bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let first = |word, byte: &u8| word << 8 | u64::from(*byte);
    of_words(seed, words, rest.iter().rev().fold(0, first), bytes.len())
}

/// The hash of `len` bytes: whole words of them, and those that are left with zeros behind.
#[inline(always)]
pub(super) fn of_words(
    seed: [u64; 2],
    words: impl Iterator<Item = u64>,
    rest: u64,
    len: usize,
) -> u64 {
    let state = words.fold(State::new(seed), State::absorb);
    // The last word has the length modulo 256, too.
    state.absorb((len as u64) << 56 | rest).end()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::hash;

    #[test]
    fn known_bytes_have_the_known_hash() {
        // As for the authors' vectors: the seed is the bytes 0 to 15, and what is hashed the bytes 0, 1, ..
        let seed = [0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908];
        let bytes: Vec<u8> = (0..15).collect();
        let of = |len: usize| hash(seed, &bytes[..len]);
        assert_eq!(of(0), 0xABAC_0158_050F_C4DC);
        assert_eq!(of(7), 0xD392_7D98_9BB1_1140);
        assert_eq!(of(8), 0x3690_9511_8D29_9A8E);
        assert_eq!(of(15), 0xD320_D86D_2A51_9956);
    }

    proptest! {
        #[test]
        fn every_hash_is_that_of_siphasher(seed: [u64; 2], bytes: Vec<u8>) {
            let expected = SipHasher13::new_with_keys(seed[0], seed[1]).hash(&bytes);
            prop_assert_eq!(hash(seed, &bytes), expected);
        }
    }
}
