//! The sizes that blocks have: steps of 16 bytes up to 256, then eight to each doubling up to 8 KiB.
//! What is larger, or would fill more than half of a chunk, takes whole chunks.

/// How many sizes there are.
pub const CLASSES: usize = 56;

/// The bytes of a block of a class.
#[inline]
#[must_use]
pub const fn size_of_class(class: usize) -> usize {
    if class < 8 {
        return (class + 1) * 16;
    }
    let (doubling, step) = ((class - 8) / 8, (class - 8) % 8 + 1);
    (128 << doubling) + (16 << doubling) * step
}

/// The class of the smallest blocks that hold so many bytes, in chunks of `1 << chunk_shift`.
#[inline]
#[must_use]
pub const fn class_of(bytes: usize, chunk_shift: u32) -> Option<usize> {
    if bytes <= 128 {
        return Some(bytes.saturating_sub(1) / 16);
    }
    if bytes > 8192 || bytes > (1 << chunk_shift) / 2 {
        return None;
    }
    let doubling = (bytes - 1).ilog2() - 7;
    let step = (bytes - (128 << doubling)).div_ceil(16 << doubling);
    Some(8 + 8 * doubling as usize + step - 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_length_is_the_smallest_that_holds_it() {
        for bytes in 1..=8192 {
            let class = class_of(bytes, 14).unwrap();
            assert!(size_of_class(class) >= bytes, "{bytes}");
            assert!(class == 0 || size_of_class(class - 1) < bytes, "{bytes}");
        }
        assert_eq!(size_of_class(CLASSES - 1), 8192);
    }

    #[test]
    fn what_fills_more_than_half_of_a_chunk_has_no_class() {
        assert_eq!(class_of(8193, 20), None);
        assert_eq!(class_of(2049, 12), None);
        assert!(class_of(2048, 12).is_some());
    }
}
