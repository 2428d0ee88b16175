//! Values of any kind: what they show, what they become, and what hostile bytes do.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use shm_core::Place;
use shm_dict::{
    BigInt, Codec, CodecError, ConvertError, Dict, DictError, Dynamic, Integer, KeyBytes, Kind,
    MAX_DEPTH, Postcard, Sequence, ShmKey, dynamic,
};
use shm_testing::UniqueName;

fn key_bytes(key: &Dynamic) -> Result<Vec<u8>, DictError> {
    key.with_key_bytes(|bytes| Ok(bytes.to_vec()))
}

fn encode(value: &Dynamic) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    Postcard::encode(value, &mut bytes).map(|()| bytes)
}

fn decode(bytes: &[u8]) -> Result<Dynamic, CodecError> {
    Postcard::decode(bytes)
}

/// Lists, or tuples, inside each other.
fn nested(depth: usize, wrap: fn(Sequence) -> Dynamic) -> Dynamic {
    (0..depth).fold(Dynamic::None, |inside, _| wrap(vec![inside].into()))
}

#[test]
fn a_dictionary_holds_keys_and_values_of_all_kinds() {
    let name = UniqueName::new("dynamic");
    let place = Place::named(&*name).unlink_on_drop(true);
    let dict = Dict::<Dynamic, Dynamic>::create(place, Default::default()).unwrap();
    let pairs =
        dynamic!({None: 0, true: 1, 1: "int", 1.0: "float", "1": [1, (2,)], (1, "a"): {2: 3.5}});
    let other = Dict::<Dynamic, Dynamic>::open(&*name).unwrap();
    for (key, value) in pairs.as_dict().unwrap() {
        dict.set(key, value).unwrap();
    }
    assert_eq!(other.len(), Ok(6));
    assert_eq!(Dynamic::dict(other.snapshot().unwrap()), pairs);
    assert_eq!(other.get(&1.into()).unwrap(), Some("int".into()));
    assert_eq!(other.get(&1.0.into()).unwrap(), Some("float".into()));
    assert_eq!(
        other.get(&(1, "a").into()).unwrap().unwrap().kind(),
        Kind::Dict
    );
    for no_key in [
        dynamic!([]),
        dynamic!({}),
        dynamic!((1, [])),
        dynamic!(f64::NAN),
    ] {
        assert!(matches!(
            dict.set(&no_key, &no_key),
            Err(DictError::NotAKey(_))
        ));
    }
    let deep = nested(MAX_DEPTH + 1, Dynamic::List);
    assert!(matches!(
        dict.set(&1.into(), &deep),
        Err(DictError::Codec(_))
    ));
    assert_eq!(other.get(&1.into()).unwrap(), Some("int".into()));
    other
        .modify(&1.into(), |value| {
            value.map(|value| (value, None::<u8>).into())
        })
        .unwrap();
    let swapped = dict.compare_and_swap(&1.into(), Some(&dynamic!(("int", None))), Some(&2.into()));
    assert_eq!(swapped, Ok(Ok(())));
}

#[test]
fn the_text_is_pythons_repr() {
    // What Python 3 shows of each.
    let cases = [
        (
            dynamic!({0.25: None, 1: "1", "2": 2}),
            "{0.25: None, 1: '1', '2': 2}",
        ),
        (
            dynamic!([true, false, (), (1,), (1, 2), [], {}]),
            "[True, False, (), (1,), (1, 2), [], {}]",
        ),
        (
            dynamic!({(1, (2,)): {"a": [{}]}}),
            "{(1, (2,)): {'a': [{}]}}",
        ),
        (
            (i128::MIN).into(),
            "-170141183460469231731687303715884105728",
        ),
        (0.0.into(), "0.0"),
        ((-0.0).into(), "-0.0"),
        (1e16.into(), "1e+16"),
        (9_999_999_999_999_998.0.into(), "9999999999999998.0"),
        (1e15.into(), "1000000000000000.0"),
        (0.0001.into(), "0.0001"),
        (0.000_012_34.into(), "1.234e-05"),
        (5e-324.into(), "5e-324"),
        (f64::MAX.into(), "1.7976931348623157e+308"),
        (0.1_f32.into(), "0.10000000149011612"),
        // Two are equally near.
        (
            (2_020_000_000_000_000.0 + 0.25).into(),
            "2020000000000000.2",
        ),
        (
            (2_020_000_000_000_000.0 + 0.75).into(),
            "2020000000000000.8",
        ),
        (f64::NAN.into(), "nan"),
        (f64::NEG_INFINITY.into(), "-inf"),
        ("naïve €😀".into(), "'naïve €😀'"),
        ("it's".into(), "\"it's\""),
        ("say \"it's\"".into(), "'say \"it\\'s\"'"),
        ("\\\n\r\t\0\x1b\x7f".into(), r"'\\\n\r\t\x00\x1b\x7f'"),
        // No-break space, soft hyphen, an accent alone, a line separator, one of nobody's, a tag.
        (
            "\u{a0}\u{ad}e\u{301}\u{2028}\u{e000}\u{e0001}".into(),
            "'\\xa0\\xade\u{301}\\u2028\\ue000\\U000e0001'",
        ),
        (b"a'\"\\\n\x00\xff".into(), r#"b'a\'"\\\n\x00\xff'"#),
        (b"'".into(), "b\"'\""),
    ];
    for (value, expected) in cases {
        assert_eq!(value.to_string(), expected);
        assert_eq!(format!("{value:?}"), expected);
    }
}

#[test]
fn values_of_different_kinds_are_different() {
    let kinds = [
        dynamic!(None),
        false.into(),
        true.into(),
        0.into(),
        1.into(),
        1.0.into(),
        2.into(),
        f64::NAN.into(),
        "".into(),
        "1".into(),
        b"1".into(),
        dynamic!(()),
        dynamic!((1,)),
        dynamic!((1, 0)),
        dynamic!((1.0,)),
        dynamic!([]),
        dynamic!([1]),
        dynamic!({}),
        dynamic!({1: 1}),
        dynamic!({1: 1, 2: 2}),
    ];
    for (at, value) in kinds.iter().enumerate() {
        for (its, other) in kinds.iter().enumerate() {
            assert_eq!(value.cmp(other), at.cmp(&its), "{value} and {other}");
        }
    }
}

#[test]
fn integers_and_floats_are_in_exact_order() {
    let two = |exponent: u32| BigInt::from(2).pow(exponent);
    // Each less than the next.
    let numbers: Vec<Dynamic> = vec![
        f64::NEG_INFINITY.into(),
        (-two(2000)).into(),
        f64::MIN.into(),
        (-two(64)).into(),
        (-(2_f64.powi(64))).into(),
        (-two(63) - 1_i64).into(),
        i64::MIN.into(),
        (-(2_f64.powi(63))).into(),
        (i64::MIN + 1).into(),
        (-1).into(),
        (-0.5).into(),
        0.into(),
        0.0.into(),
        f64::MIN_POSITIVE.into(),
        ((1_i64 << 53) - 1).into(),
        (2_f64.powi(53)).into(),
        ((1_i64 << 53) + 1).into(),
        i64::MAX.into(),
        two(63).into(),
        (2_f64.powi(63)).into(),
        u64::MAX.into(),
        u128::MAX.into(),
        (2_f64.powi(128)).into(),
        (two(128) + 1_i64).into(),
        f64::MAX.into(),
        two(1024).into(),
        f64::INFINITY.into(),
        f64::NAN.into(),
    ];
    for (at, number) in numbers.iter().enumerate() {
        for (its, other) in numbers.iter().enumerate() {
            assert_eq!(number.cmp(other), at.cmp(&its), "{number} and {other}");
        }
    }
    let end = 2_f64.powi(63).into();
    assert_eq!(dynamic!(i64::MAX).compare(&end), Some(Ordering::Less));
    assert_eq!(dynamic!(two(63)).compare(&end), Some(Ordering::Equal));
}

#[test]
fn zero_is_one_value_and_so_is_nan() {
    let hash = RandomState::new();
    for (first, second) in [(0.0, -0.0), (f64::NAN, -f64::NAN)] {
        let (first, second) = (Dynamic::from(first), Dynamic::from(second));
        assert_eq!(first, second);
        assert_eq!(hash.hash_one(&first), hash.hash_one(&second));
    }
    assert_eq!(key_bytes(&0.0.into()), key_bytes(&(-0.0).into()));
    let stored = decode(&encode(&(-0.0).into()).unwrap()).unwrap();
    assert_eq!(
        stored.as_f64().map(f64::to_bits),
        Some((-0.0_f64).to_bits())
    );
}

#[test]
fn types_of_rust_become_values_and_come_back() {
    fn round<T>(value: T, expected: &str)
    where
        T: Into<Dynamic> + TryFrom<Dynamic> + Clone + PartialEq + std::fmt::Debug,
        T::Error: std::fmt::Debug,
    {
        let dynamic: Dynamic = value.clone().into();
        assert_eq!(dynamic.to_string(), expected);
        assert_eq!(T::try_from(dynamic).unwrap(), value);
    }
    round(true, "True");
    round(u8::MAX, "255");
    round(i64::MIN, "-9223372036854775808");
    round(u64::MAX, "18446744073709551615");
    round(u128::MAX, "340282366920938463463374607431768211455");
    round(BigInt::from(7), "7");
    round(Integer::from(-7), "-7");
    round(0.5_f32, "0.5");
    round('ß', "'ß'");
    round("text".to_owned(), "'text'");
    round(vec![1_u8, 2], r"b'\x01\x02'");
    round(vec![vec![1_u8], vec![]], r"[b'\x01', b'']");
    round([1_u16, 2], "[1, 2]");
    round(Some(vec![Some(1), None]), "[1, None]");
    round(None::<String>, "None");
    round((1, "a".to_owned(), Some(2.0)), "(1, 'a', 2.0)");
    round((1, 2, 3, 4, 5, (6,)), "(1, 2, 3, 4, 5, (6,))");
    round(vec![("a".to_owned(), 1)], "[('a', 1)]");
    round(HashMap::from([(1, vec![true])]), "{1: [True]}");
    round(
        BTreeMap::from([
            ("b".to_owned(), dynamic!([1, None])),
            ("a".to_owned(), 1.5.into()),
        ]),
        "{'a': 1.5, 'b': [1, None]}",
    );
    round(vec![dynamic!(1), dynamic!("a")], "[1, 'a']");
}

#[test]
fn what_is_of_another_type_says_what_it_is() {
    let wrong = |expected, found| Err(ConvertError::WrongKind { expected, found });
    assert_eq!(
        bool::try_from(dynamic!(1)),
        wrong(Kind::Bool, Kind::Int).map(|()| true)
    );
    assert_eq!(
        f64::try_from(&dynamic!(1)),
        wrong(Kind::Float, Kind::Int).map(|()| 0.0)
    );
    assert_eq!(
        <&str>::try_from(&dynamic!(None)),
        wrong(Kind::Str, Kind::None).map(|()| "")
    );
    assert_eq!(
        Vec::<u8>::try_from(dynamic!([1])),
        wrong(Kind::Bytes, Kind::List).map(|()| vec![])
    );
    assert_eq!(
        Vec::<i32>::try_from(dynamic!((1,))),
        wrong(Kind::List, Kind::Tuple).map(|()| vec![])
    );
    assert_eq!(
        Vec::<i32>::try_from(dynamic!([1, "2"])),
        wrong(Kind::Int, Kind::Str).map(|()| vec![])
    );
    assert_eq!(
        Option::<i32>::try_from(dynamic!({})),
        wrong(Kind::Int, Kind::Dict).map(|()| None)
    );
    for (error, text) in [
        (
            i8::try_from(dynamic!(128)).unwrap_err(),
            "the number is none of i8",
        ),
        (
            u128::try_from(dynamic!(-1)).unwrap_err(),
            "the number is none of u128",
        ),
        (
            f32::try_from(dynamic!(0.1)).unwrap_err(),
            "the number is none of f32",
        ),
        (
            <(u8, u8)>::try_from(dynamic!((1,))).unwrap_err(),
            "expected 2 items, found 1",
        ),
        (
            <[u16; 1]>::try_from(dynamic!([1, 2])).unwrap_err(),
            "expected 1 items, found 2",
        ),
        (
            char::try_from(dynamic!("ab")).unwrap_err(),
            "expected 1 items, found 2",
        ),
        (
            HashMap::<u8, u8>::try_from(dynamic!([])).unwrap_err(),
            "expected dict, found list",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn literals_are_what_is_written() {
    let (x, text) = (5, String::from("text"));
    let value = dynamic!([
        -1, x + 1, text.len(), if x > 3 { "more" } else { "less" }, None, (x), (x,), ((x), [x]),
        {"a": -1, -2: {}, x: vec![1], (x, 1): None, text.as_str(): (1 + 1), "t": (), "l": [None,],},
    ]);
    assert_eq!(
        value.to_string(),
        "[-1, 6, 4, 'more', None, 5, (5,), (5, [5]), \
         {-2: {}, 5: [1], 'a': -1, 'l': [None], 't': (), 'text': 2, (5, 1): None}]"
    );
    assert_eq!(dynamic!(None), Dynamic::None);
    assert_eq!(
        dynamic!((None, None,)),
        Dynamic::tuple([Dynamic::None, Dynamic::None])
    );
    assert_eq!(dynamic!([value.clone()]), Dynamic::list([value]));
}

#[test]
fn a_value_of_any_depth_is_handled_without_recursion() {
    const DEPTH: usize = 100_000;
    for wrap in [Dynamic::List as fn(Sequence) -> Dynamic, Dynamic::Tuple] {
        let deep = nested(DEPTH, wrap);
        assert_eq!(deep.depth(), DEPTH);
        let copy = deep.clone();
        assert_eq!(copy, deep);
        assert!(deep > nested(DEPTH - 1, wrap));
        let hash = RandomState::new();
        assert_eq!(hash.hash_one(&copy), hash.hash_one(&deep));
        assert!(deep.to_string().len() > 2 * DEPTH);
        assert!(encode(&deep).is_err());
        assert!(serde_json::to_string(&deep).is_err());
        assert!(matches!(key_bytes(&deep), Err(DictError::NotAKey(_))));
    }
    // Values of dicts and, what nobody would do, keys.
    drop((0..DEPTH).fold(Dynamic::None, |inside, _| dynamic!({1: inside})));
    drop((0..DEPTH).fold(Dynamic::None, |inside, _| dynamic!({inside: 1})));
}

#[test]
fn what_is_deeper_than_the_limit_is_neither_written_nor_read() {
    let most = nested(MAX_DEPTH, Dynamic::Tuple);
    let bytes = encode(&most).unwrap();
    assert_eq!(decode(&bytes).unwrap(), most);
    assert_eq!(
        Dynamic::from_key_bytes(&key_bytes(&most).unwrap()),
        Ok(most)
    );
    // A tuple of one item around it.
    let deeper = [&[7, 1], &bytes[..]].concat();
    assert!(decode(&deeper).is_err());
    assert!(matches!(
        Dynamic::from_key_bytes(&deeper),
        Err(DictError::NotAKey(_))
    ));
    assert!(encode(&nested(MAX_DEPTH + 1, Dynamic::List)).is_err());

    let json = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(serde_json::from_str::<Dynamic>(&json(MAX_DEPTH)).is_ok());
    let error = serde_json::from_str::<Dynamic>(&json(MAX_DEPTH + 1)).unwrap_err();
    assert!(
        error.to_string().contains("more than 64 containers"),
        "{error}"
    );
    let error = serde_json::to_string(&nested(MAX_DEPTH + 1, Dynamic::List)).unwrap_err();
    assert!(
        error.to_string().contains("more than 64 containers"),
        "{error}"
    );
}

#[test]
fn serde_json_reads_127_levels() {
    let comes_back = |value: Dynamic| {
        let json = serde_json::to_string(&value).unwrap();
        match serde_json::from_str::<Dynamic>(&json) {
            Ok(read) => read == value,
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("recursion limit"), "{error}");
                false
            }
        }
    };
    let dicts = |depth| (0..depth).fold(Dynamic::None, |inside, _| dynamic!({1: inside}));
    assert!(comes_back(nested(63, Dynamic::Tuple)));
    assert!(!comes_back(nested(64, Dynamic::Tuple)));
    assert!(comes_back(dicts(42)));
    assert!(!comes_back(dicts(43)));
}

#[test]
fn the_deepest_value_needs_little_stack() {
    let bytes = [7, 1].repeat(100_000);
    let most = [&[8, 1].repeat(MAX_DEPTH)[..], &[0]].concat();
    let reads = move || {
        assert!(decode(&bytes).is_err());
        assert!(matches!(
            Dynamic::from_key_bytes(&bytes),
            Err(DictError::NotAKey(_))
        ));
        encode(&decode(&most).unwrap()).unwrap() == most
    };
    let thread = std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(reads)
        .unwrap();
    assert!(thread.join().unwrap());
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let cases: [(Dynamic, &[u8]); 14] = [
        (dynamic!(None), &[0]),
        (dynamic!(true), &[1, 1]),
        (dynamic!(-1), &[2, 1]),
        (dynamic!(64), &[2, 128, 1]),
        (
            dynamic!(i64::MIN),
            &[2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        ),
        (dynamic!(1_u64 << 63), &[3, 9, 0, 0, 0, 0, 0, 0, 0, 128, 0]),
        (dynamic!(0.5), &[4, 0, 0, 0, 0, 0, 0, 0xE0, 0x3F]),
        (dynamic!("ß"), &[5, 2, 0xC3, 0x9F]),
        (dynamic!(b"\x00"), &[6, 1, 0]),
        (dynamic!(()), &[7, 0]),
        (dynamic!((1, (None,))), &[7, 2, 2, 2, 7, 1, 0]),
        (
            dynamic!("a".repeat(200)),
            &[&[5, 200, 1], [b'a'; 200].as_slice()].concat(),
        ),
        (dynamic!([1]), &[8, 1, 2, 2]),
        (dynamic!({2: 3, 1: 2}), &[9, 2, 2, 2, 2, 4, 2, 4, 2, 6]),
    ];
    for (value, bytes) in cases {
        assert_eq!(encode(&value).as_deref(), Ok(bytes), "{value}");
        assert_eq!(decode(bytes), Ok(value.clone()));
        let is_key = !matches!(value.kind(), Kind::List | Kind::Dict);
        assert_eq!(
            key_bytes(&value).ok().as_deref(),
            is_key.then_some(bytes),
            "{value}"
        );
    }
}

#[test]
fn a_key_has_one_string_of_bytes() {
    let no_keys: &[(&str, &[u8])] = &[
        ("nothing", &[]),
        ("no kind", &[10]),
        ("a byte too many", &[0, 0]),
        ("a byte too few", &[5, 2, b'a']),
        ("no bool", &[1, 2]),
        ("a longer integer", &[2, 0x82, 0]),
        ("a longer kind", &[0x82, 0, 2]),
        ("a large one that is small", &[3, 1, 5]),
        (
            "a large one with a zero too many",
            &[3, 10, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0],
        ),
        ("-0.0", &[4, 0, 0, 0, 0, 0, 0, 0, 0x80]),
        ("NaN", &[4, 0, 0, 0, 0, 0, 0, 0xF8, 0x7F]),
        ("no text", &[5, 1, 0xFF]),
        ("a list", &[8, 0]),
        ("a dict", &[9, 0]),
        ("a list in a tuple", &[7, 1, 8, 0]),
        (
            "a length of nothing",
            &[5, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
        ),
        (
            "so many items of nothing",
            &[7, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
        ),
    ];
    for (what, bytes) in no_keys {
        let key = Dynamic::from_key_bytes(bytes);
        assert!(matches!(key, Err(DictError::NotAKey(_))), "{what}: {key:?}");
    }
    assert_eq!(decode(&[3, 1, 5]), Ok(5.into()), "one form in memory");
}

#[test]
fn json_is_natural() {
    let cases = [
        (
            dynamic!({"a": [1, -1.5, true, None, "x"], "b": {}}),
            r#"{"a":[1,-1.5,true,null,"x"],"b":{}}"#,
        ),
        (
            dynamic!([u64::MAX, i64::MIN, 1.0]),
            "[18446744073709551615,-9223372036854775808,1.0]",
        ),
        (
            dynamic!(u128::from(u64::MAX) + 1),
            r#"{"$int":"18446744073709551616"}"#,
        ),
        (
            dynamic!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
            r#"[{"$float":"nan"},{"$float":"inf"},{"$float":"-inf"}]"#,
        ),
        (dynamic!(b"\x00\xff"), r#"{"$bytes":[0,255]}"#),
        (dynamic!((1, ())), r#"{"$tuple":[1,{"$tuple":[]}]}"#),
        (
            dynamic!({0.25: None, 1: "1"}),
            r#"{"$dict":[[0.25,null],[1,"1"]]}"#,
        ),
        (dynamic!({"$int": "1"}), r#"{"$dict":[["$int","1"]]}"#),
    ];
    for (value, json) in cases {
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
        assert_eq!(serde_json::from_str::<Dynamic>(json).unwrap(), value);
    }
    for (json, why) in [
        (r#"{"$int":"x"}"#, "invalid digit"),
        (r#"{"$int":1}"#, "invalid type"),
        (r#"{"$set":[1]}"#, "out of place"),
        (r#"{"a":1,"$int":"1"}"#, "out of place"),
        (r#"{"$int":"1","a":1}"#, "no room"),
        (r#"{"$dict":[[1]]}"#, "invalid length 1"),
        (r#"{"$dict":[[1,2,3]]}"#, "trailing"),
        (r#"{"$bytes":[256]}"#, "invalid value"),
    ] {
        let error = serde_json::from_str::<Dynamic>(json)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{json}: {error}");
    }
    assert_eq!(
        serde_json::from_str::<Dynamic>(r#"{"a":1,"a":2}"#).unwrap(),
        dynamic!({"a": 2})
    );
}
