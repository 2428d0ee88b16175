//! Random operations through two handles against `Vec`, and every atomic type against its own
//! arithmetic.

use proptest::prelude::*;
use shm_core::Region;
use shm_value::{Array, AtomicValue, ValueError};

#[derive(Debug, Clone)]
enum Op {
    Get(usize),
    Set(usize, u32),
    Fill(std::ops::Range<usize>, u32),
    Reverse,
    Reopen,
}

fn op(len: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..len + 2).prop_map(Op::Get),
        (0..len + 2, any::<u32>()).prop_map(|(i, v)| Op::Set(i, v)),
        (0..=len, 0..=len, any::<u32>()).prop_map(|(a, b, v)| Op::Fill(a.min(b)..a.max(b), v)),
        Just(Op::Reverse),
        Just(Op::Reopen),
    ]
}

proptest! {
    #[test]
    fn matches_vec((start, ops) in (0..40_usize).prop_flat_map(|len| (
        prop::collection::vec(any::<u32>(), len),
        prop::collection::vec(op(len), 0..60),
    ))) {
        let region = Region::heap(Array::<u32>::region_size(start.len()).unwrap());
        let first = Array::create(region.clone(), &start).unwrap();
        let mut second = Array::<u32>::open(region.clone()).unwrap();
        let mut model = start;
        for (n, op) in ops.into_iter().enumerate() {
            let array = if n % 2 == 0 { &first } else { &second };
            let beyond = |index| Err(ValueError::OutOfRange { index, len: model.len() });
            match op {
                Op::Get(i) => {
                    let expected = model.get(i).copied().map_or_else(|| beyond(i), Ok);
                    prop_assert_eq!(array.get(i), expected);
                }
                Op::Set(i, v) => {
                    let result = array.set(i, v);
                    match model.get_mut(i) {
                        Some(element) => { *element = v; prop_assert_eq!(result, Ok(())) }
                        None => prop_assert!(result.is_err()),
                    }
                }
                Op::Fill(range, v) => {
                    array.lock().unwrap()[range.clone()].fill(v);
                    model[range].fill(v);
                }
                Op::Reverse => { array.lock().unwrap().reverse(); model.reverse() }
                Op::Reopen => second = Array::open(region.clone()).unwrap(),
            }
            prop_assert_eq!(&*second.lock().unwrap(), &model[..]);
        }
    }

    #[test]
    fn atomic_integers_wrap_as_their_type(start: i16, by: i16, other: i16) {
        let number = AtomicValue::create(Region::heap(512), start).unwrap();
        prop_assert_eq!(number.fetch_add(by), start);
        prop_assert_eq!(number.fetch_sub(other), start.wrapping_add(by));
        let now = start.wrapping_add(by).wrapping_sub(other);
        prop_assert_eq!(number.compare_exchange(now, by), Ok(now));
        prop_assert_eq!(number.swap(other), by);
        prop_assert_eq!(number.compare_exchange(other.wrapping_add(1), by), Err(other));
    }

    #[test]
    fn atomic_floats_add_as_floats(start: f64, by: f64) {
        let number = AtomicValue::create(Region::heap(512), start).unwrap();
        number.fetch_add(by);
        prop_assert_eq!(number.load().to_bits(), (start + by).to_bits());
        number.fetch_sub(by);
        prop_assert_eq!(number.load().to_bits(), (start + by - by).to_bits());
    }
}
