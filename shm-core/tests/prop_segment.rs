//! Names, headers and bytes at random: what is accepted is right, what is refused is typed.

use proptest::prelude::*;
use shm_core::{Error, HEADER_SIZE, Kind, MAX_NAME, Region, Segment, Spec};

/// The rule in one line, written another way than the library's.
fn may_be_a_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=MAX_NAME).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(allowed)
}

fn spec() -> Spec {
    Spec::new(Kind(*b"PROP"), 1, 512).of_type::<u64>()
}

/// A valid image of a segment, in a region of 4096 bytes.
fn image() -> (Region, Segment) {
    let region = Region::heap(4096);
    let segment = Segment::create(region.clone(), spec()).unwrap();
    (region, segment)
}

/// A valid image with some bytes of it overwritten.
fn poke(pokes: &[(usize, u8)]) -> Region {
    let (region, segment) = image();
    let header = segment.at(0, 1).unwrap().as_ptr().wrapping_sub(HEADER_SIZE);
    for (offset, byte) in pokes {
        // SAFETY: the header lies right before the payload of a segment without participants, in
        // memory of this test alone; all others access it atomically.
        unsafe { shm_core::layout::store_bytes(header.wrapping_add(*offset), byte, 1) };
    }
    region
}

proptest! {
    #[test]
    fn names_are_accepted_by_the_rule_alone(name in prop_oneof![
        "[A-Za-z0-9._-]{0,12}", "\\PC{0,6}", "[A-Za-z0-9._/-]{190,210}",
    ]) {
        let refused = matches!(Segment::open(&name, 1), Err(Error::InvalidName { .. }));
        prop_assert_eq!(refused, !may_be_a_name(&name), "{:?}", name);
    }

    #[test]
    fn damaged_headers_are_refused_or_harmless(
        pokes in prop::collection::vec((0..HEADER_SIZE, any::<u8>()), 1..8)
    ) {
        let region = poke(&pokes);
        if let Ok(segment) = Segment::open(region, spec()) {
            // Whatever it says, nothing outside of the region is touched.
            prop_assert!(segment.size() <= 4096 - HEADER_SIZE);
            // It may say now that a lock is in it.
            let allowed = |done| matches!(done, Ok(()) | Err(Error::Unsupported { .. }));
            let mut last = [0];
            prop_assert!(allowed(segment.read(segment.size() - 1, &mut last)));
            prop_assert!(allowed(segment.write(segment.size() - 1, &last)));
            prop_assert!(segment.participants().len() <= 256);
        }
    }

    #[test]
    fn the_fields_that_are_compared_cannot_change_unseen(
        offset in prop_oneof![0..32_usize, 56..68_usize, 72..80_usize, 88..112_usize],
        flip in 1..=255_u8,
    ) {
        // Flags (28..32) may say anything.
        prop_assume!(!(28..32).contains(&offset));
        let mut bytes = [0; HEADER_SIZE];
        header_of(&poke(&[]), &mut bytes);
        let region = poke(&[(offset, bytes[offset] ^ flip)]);
        prop_assert!(Segment::open(region, spec()).is_err());
    }

    #[test]
    fn bytes_come_out_as_they_went_in(writes in prop::collection::vec(
        (0..600_usize, prop::collection::vec(any::<u8>(), 0..80)), 0..20)
    ) {
        let (region, a) = image();
        let b = Segment::open(region, spec()).unwrap();
        let mut model = vec![0; 512];
        for (offset, bytes) in &writes {
            let fits = offset + bytes.len() <= model.len();
            match a.write(*offset, bytes) {
                Ok(()) => model[*offset..offset + bytes.len()].copy_from_slice(bytes),
                Err(error) => prop_assert!(error.to_string().contains("outside")),
            }
            prop_assert_eq!(a.read(*offset, &mut vec![0; bytes.len()]).is_ok(), fits);
        }
        let mut all = vec![0; 512];
        b.read(0, &mut all).unwrap();
        prop_assert_eq!(all, model);
    }
}

/// Copies the header of a segment that lives in a region: through a second one in front of it.
fn header_of(region: &Region, to: &mut [u8; HEADER_SIZE]) {
    let segment = Segment::open(region.clone(), spec()).unwrap();
    let payload = segment.at(0, 1).unwrap();
    let start = payload.as_ptr().wrapping_sub(HEADER_SIZE);
    // SAFETY: the header lies right before the payload of a segment without participants, in the
    // same region, and nobody writes it.
    unsafe { shm_core::layout::load_bytes(start, to.as_mut_ptr(), HEADER_SIZE) };
}
