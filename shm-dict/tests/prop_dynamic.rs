//! Laws of values of any kind.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use proptest::collection::vec;
use proptest::prelude::*;
use shm_dict::{BigInt, Codec, DictError, Dynamic, KeyBytes, Postcard, ShmKey};

/// Few different ones and any, so that some are equal and some nearly so.
fn leaf() -> impl Strategy<Value = Dynamic> {
    let float = prop_oneof![
        proptest::num::f64::ANY,
        Just(f64::NAN),
        (-3_i8..3).prop_map(f64::from),
        Just(-0.0),
        (0..130_i32).prop_map(|exponent| 2_f64.powi(exponent)),
    ];
    prop_oneof![
        Just(Dynamic::None),
        any::<bool>().prop_map(Into::into),
        (-3..3).prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0..130_u32, -1_i64..=1)
            .prop_map(|(exponent, by)| Dynamic::from(BigInt::from(2).pow(exponent) + by)),
        any::<i128>().prop_map(Into::into),
        float.prop_map(Into::into),
        "[a-c\"'\\$]{0,3}".prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        vec(0..3_u8, 0..3).prop_map(Into::into),
        vec(any::<u8>(), 0..100).prop_map(Into::into),
    ]
}

fn value() -> impl Strategy<Value = Dynamic> {
    leaf().prop_recursive(5, 40, 5, |inside| {
        prop_oneof![
            vec(inside.clone(), 0..5).prop_map(Dynamic::tuple),
            vec(inside.clone(), 0..5).prop_map(Dynamic::list),
            vec((inside.clone(), inside), 0..5).prop_map(Dynamic::dict),
        ]
    })
}

/// Mostly keys.
fn key() -> impl Strategy<Value = Dynamic> {
    leaf().prop_recursive(4, 20, 4, |inside| {
        prop_oneof![
            9 => vec(inside.clone(), 0..4).prop_map(Dynamic::tuple),
            1 => vec(inside, 0..4).prop_map(Dynamic::list),
        ]
    })
}

fn key_bytes(key: &Dynamic) -> Result<Vec<u8>, DictError> {
    key.with_key_bytes(|bytes| Ok(bytes.to_vec()))
}

fn encode(value: &Dynamic) -> Vec<u8> {
    let mut bytes = Vec::new();
    Postcard::encode(value, &mut bytes).unwrap();
    bytes
}

/// Whether a value has a float whose bytes are not those of all that equal it.
fn has_many_forms(value: &Dynamic) -> bool {
    match value {
        Dynamic::Float(value) => value.is_nan() || *value == 0.0,
        Dynamic::Tuple(items) | Dynamic::List(items) => items.iter().any(has_many_forms),
        Dynamic::Dict(pairs) => {
            pairs.keys().any(has_many_forms) || pairs.values().any(has_many_forms)
        }
        _ => false,
    }
}

/// All that have the same bits, which equality does not tell.
fn same(first: &Dynamic, second: &Dynamic) -> bool {
    first == second && first.to_string() == second.to_string()
}

proptest! {
    #[test]
    fn equality_order_and_hash_agree(mut values in vec(value(), 3)) {
        let hash = RandomState::new();
        for first in &values {
            prop_assert_eq!(first.cmp(first), Ordering::Equal);
            for second in &values {
                let order = first.cmp(second);
                prop_assert_eq!(second.cmp(first), order.reverse());
                prop_assert_eq!(first == second, order.is_eq());
                if order.is_eq() {
                    prop_assert_eq!(hash.hash_one(first), hash.hash_one(second));
                }
            }
        }
        values.sort();
        let transitive = values.windows(2).all(|pair| pair[0] <= pair[1]) && values[0] <= values[2];
        prop_assert!(transitive, "{:?}", values);
    }

    #[test]
    fn a_copy_is_equal(value in value()) {
        let hash = RandomState::new();
        let copy = value.clone();
        prop_assert!(same(&copy, &value));
        prop_assert_eq!(hash.hash_one(&copy), hash.hash_one(&value));
        prop_assert_eq!(copy.depth(), value.depth());
    }

    /// Numbers in the order that they have in a wider type.
    #[test]
    fn integers_and_floats_are_in_exact_order(int in any::<i64>(), by in -2_i64..=2, halves in any::<i32>()) {
        let near = int as f64;
        let exact = |float: f64| BigInt::from(2) * if float.fract() == 0.0 {
            BigInt::from(float as i128)
        } else {
            BigInt::from(float.floor() as i128)
        } + i32::from(float.fract() != 0.0);
        for float in [near, near.next_up(), near.next_down(), f64::from(halves) / 2.0] {
            let int = int.saturating_add(by);
            let expected = (BigInt::from(2) * int).cmp(&exact(float)).then(Ordering::Less);
            prop_assert_eq!(Dynamic::from(int).cmp(&float.into()), expected);
            prop_assert_eq!(Dynamic::from(float).cmp(&int.into()), expected.reverse());
        }
    }

    #[test]
    fn keys_are_equal_if_their_bytes_are(first in key(), second in key()) {
        let (own, its) = (key_bytes(&first), key_bytes(&second));
        if let (Ok(own), Ok(its)) = (&own, &its) {
            prop_assert_eq!(first == second, own == its);
        }
        for (key, bytes) in [(first, own), (second, its)] {
            let Ok(bytes) = bytes else { continue };
            let back = Dynamic::from_key_bytes(&bytes);
            prop_assert_eq!(back.as_ref(), Ok(&key));
            if !has_many_forms(&key) {
                prop_assert_eq!(bytes, encode(&key), "as a value");
            }
        }
    }

    #[test]
    fn values_come_back_from_postcard(first in value(), second in value()) {
        let bytes = encode(&first);
        let back: Dynamic = Postcard::decode(&bytes).unwrap();
        prop_assert!(same(&back, &first));
        if !has_many_forms(&first) && !has_many_forms(&second) {
            prop_assert_eq!(first == second, bytes == encode(&second));
        }
        for len in 0..bytes.len() {
            let cut: Result<Dynamic, _> = Postcard::decode(&bytes[..len]);
            prop_assert!(cut.is_err());
        }
    }

    #[test]
    fn values_come_back_from_json(value in value()) {
        let json = serde_json::to_string(&value).unwrap();
        let back: Dynamic = serde_json::from_str(&json).unwrap();
        prop_assert!(same(&back, &value), "{}", json);
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in vec(prop_oneof![0..11_u8, any::<u8>()], 0..40)) {
        if let Ok(value) = <Postcard as Codec<Dynamic>>::decode(&bytes) {
            let own = encode(&value);
            let again: Dynamic = Postcard::decode(&own).unwrap();
            prop_assert!(same(&again, &value));
            prop_assert_eq!(encode(&again), own);
        }
        if let Ok(key) = Dynamic::from_key_bytes(&bytes) {
            prop_assert_eq!(key_bytes(&key), Ok(bytes));
        }
    }

    #[test]
    fn types_of_rust_come_back(
        numbers in vec(any::<Option<i128>>(), 0..5),
        pairs in proptest::collection::btree_map(any::<String>(), (any::<bool>(), any::<f32>()), 0..5),
    ) {
        prop_assert_eq!(Vec::try_from(Dynamic::from(numbers.clone())), Ok(numbers));
        prop_assert_eq!(BTreeMap::try_from(Dynamic::from(pairs.clone())), Ok(pairs));
    }
}
