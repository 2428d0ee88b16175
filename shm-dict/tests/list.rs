//! The list: what users see of it.

use shm_core::Place;
use shm_dict::{Dict, DictError, Dynamic, List, Options, Raw, dynamic};
use shm_testing::UniqueName;

fn place(name: &UniqueName) -> Place {
    Place::named(&**name).unlink_on_drop(true)
}

fn list<T>(values: impl IntoIterator<Item = T>) -> List<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let list = List::create(place(&UniqueName::new("list")), Options::new()).unwrap();
    list.extend(values).unwrap();
    list
}

/// All elements, and a proof that all blocks are accounted for.
fn all<T>(list: &List<T>) -> Vec<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    list.check().unwrap();
    list.snapshot().unwrap()
}

#[test]
fn elements_are_found_where_they_were_put() {
    let list = list(["a", "bb", "a string of more than seven bytes"].map(str::to_owned));
    assert_eq!(list.len(), Ok(3));
    assert_eq!(list.get(2).unwrap().unwrap().len(), 33);
    assert_eq!(list.get(3), Ok(None));
    list.set(0, &"longer than it was".to_owned()).unwrap();
    list.set(2, &"c".to_owned()).unwrap();
    assert_eq!(all(&list), ["longer than it was", "bb", "c"]);
    assert_eq!(list.pop().unwrap().as_deref(), Some("c"));
    assert_eq!(
        list.pop_front().unwrap().as_deref(),
        Some("longer than it was")
    );
    assert_eq!(all(&list), ["bb"]);
    list.insert(0, &"first".to_owned()).unwrap();
    list.insert(2, &"last".to_owned()).unwrap();
    list.insert(1, &"between".to_owned()).unwrap();
    assert_eq!(all(&list), ["first", "between", "bb", "last"]);
    list.remove(1).unwrap();
    assert_eq!(all(&list), ["first", "bb", "last"]);
    assert_eq!(list.position(&"bb".to_owned()), Ok(Some(1)));
    assert_eq!(list.contains(&"none".to_owned()), Ok(false));
}

#[test]
fn the_order_is_what_was_asked_for() {
    let list = list(0_u64..100);
    list.reverse().unwrap();
    assert_eq!(list.slice(..3), Ok(vec![99, 98, 97]));
    list.sort_by_key(|n| n % 10).unwrap();
    assert_eq!(list.slice(..3), Ok(vec![90, 80, 70]), "stably");
    list.sort().unwrap();
    assert_eq!(all(&list), (0..100).collect::<Vec<_>>());
    list.swap(0, 99).unwrap();
    assert_eq!(list.slice(98..=99), Ok(vec![98, 0]));
    list.splice(1..99, [7, 7]).unwrap();
    assert_eq!(all(&list), [99, 7, 7, 0]);
    list.retain(|n| *n == 7).unwrap();
    assert_eq!(all(&list), [7, 7]);
    assert_eq!(list.modify(1, |n| n + 1), Ok(8));
    assert_eq!(list.drain(), Ok(vec![7, 8]));
    assert_eq!(list.is_empty(), Ok(true));
}

#[test]
fn lists_of_any_length_are_turned_and_sorted() {
    for len in (0..10).chain([255, 256, 257, 1000]) {
        let list = list(0_u64..len);
        list.reverse().unwrap();
        assert_eq!(all(&list), (0..len).rev().collect::<Vec<_>>());
        list.sort_by_key(|n| n * 7919 % len).unwrap();
        let mut sorted: Vec<u64> = (0..len).rev().collect();
        sorted.sort_by_key(|n| n * 7919 % len);
        assert_eq!(all(&list), sorted, "stably");
        list.sort().unwrap();
        assert_eq!(all(&list), (0..len).collect::<Vec<_>>());
    }
}

#[test]
fn numbers_of_eight_bytes_are_changed_where_they_are() {
    let place = place(&UniqueName::new("list"));
    let list = List::<u64, Raw>::create(place, Options::new()).unwrap();
    list.extend(0..10).unwrap();
    let before = list.check().unwrap();
    list.set(3, &u64::MAX).unwrap();
    assert_eq!(list.get(3), Ok(Some(u64::MAX)));
    assert_eq!(list.check().unwrap(), before);
}

#[test]
fn what_is_not_there_is_an_error_with_its_place() {
    let list = list([1, 2, 3]);
    let error = |index| Err(DictError::IndexOutOfRange { index, len: 3 });
    assert_eq!(list.set(3, &0), error(3));
    assert_eq!(list.insert(4, &0), error(4));
    assert_eq!(list.remove(3), error(3));
    assert_eq!(
        list.pop_at(5),
        Err(DictError::IndexOutOfRange { index: 5, len: 3 })
    );
    assert_eq!(list.swap(0, 3), error(3));
    assert_eq!(list.slice(2..4).map(drop), error(4));
    #[allow(clippy::reversed_empty_ranges, reason = "what is refused")]
    let reversed = list.slice(2..1);
    assert_eq!(reversed.map(drop), error(2));
    assert_eq!(list.splice(1..7, [0]), error(7));
    assert_eq!(
        list.modify(9, |n| n),
        Err(DictError::IndexOutOfRange { index: 9, len: 3 })
    );
    assert_eq!(all(&list), [1, 2, 3]);
}

/// The length in the error is that of the list in which the element was looked for.
#[test]
fn an_element_that_is_not_there_is_none_of_so_many() {
    let list = list::<u8>([]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..20_000 {
                list.extend(0..10).unwrap();
                list.clear().unwrap();
            }
        });
        while !writer.is_finished() {
            match list.pop_at(5) {
                Ok(value) => assert!(value >= 5),
                Err(DictError::IndexOutOfRange { index, len }) => assert!(len <= index, "{len}"),
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn elements_are_counted_and_what_is_in_them_is_not() {
    let list = list((0..100).map(|n| "x".repeat(n % 12)));
    let child: List<u32> = list.push_list().unwrap();
    child.extend(0..50).unwrap();
    let dict: Dict<String, u32> = list.push_dict().unwrap();
    dict.set("a", &1).unwrap();
    assert_eq!(list.check().unwrap().entries, 102);
    assert_eq!(list.inspect().entries, 102);
    assert_eq!(list.inspect().shards[0].entries, 102);
    list.clear().unwrap();
    assert_eq!(
        (list.check().unwrap().entries, list.inspect().entries),
        (0, 0)
    );
}

#[test]
fn values_of_a_list_with_containers_are_not_taken_out_together() {
    let list = list(0..10_u32);
    let child: List<u32> = list.push_list().unwrap();
    child.push(&7).unwrap();
    let version = list.version();
    let is_wrong = |error| {
        assert!(
            matches!(error, Some(DictError::WrongKind { .. })),
            "{error:?}"
        )
    };
    is_wrong(list.retain(|value| value % 5 == 0).err());
    is_wrong(list.drain().err());
    is_wrong(list.snapshot().err());
    is_wrong(list.pop().err());
    assert_eq!((list.version(), list.len()), (version, Ok(11)));
    assert_eq!(child.snapshot(), Ok(vec![7]));
    assert_eq!(list.iter().filter(Result::is_ok).count(), 10);
    list.check().unwrap();
}

#[test]
fn what_cannot_be_compared_is_not_sorted() {
    let list = list([2.0, f64::NAN, 1.0]);
    assert_eq!(list.sort(), Err(DictError::Unordered));
    assert_eq!(list.get(0), Ok(Some(2.0)));
}

#[test]
fn a_full_list_is_as_it_was() {
    let place = place(&UniqueName::new("list"));
    let list = List::<Vec<u8>>::create(place, Options::new().max_bytes(64 << 10)).unwrap();
    let value = vec![7; 900];
    while list.push(&value).is_ok() {}
    let len = list.len().unwrap();
    let before = list.check().unwrap();
    assert!(list.push(&value).unwrap_err().is_full());
    assert!(list.extend(vec![value.clone(); 9]).unwrap_err().is_full());
    assert!(list.set(0, &vec![8; 30_000]).unwrap_err().is_full());
    list.splice(3..3, Vec::<Vec<u8>>::new()).unwrap();
    assert_eq!((list.len(), list.check()), (Ok(len), Ok(before)));
    // Room for some of the values, and not for all.
    (0..3).for_each(|_| drop(list.pop().unwrap()));
    let before = list.check().unwrap();
    assert!(list.extend(vec![value.clone(); 9]).unwrap_err().is_full());
    assert_eq!((list.len(), list.check()), (Ok(len - 3), Ok(before)));
    list.clear().unwrap();
    list.extend(vec![value; len]).unwrap();
    list.check().unwrap();
}

#[test]
fn a_container_is_changed_in_place_by_all_who_have_it() {
    let name = UniqueName::new("nested");
    let outer = Dict::<String, u32>::create(place(&name), Options::new()).unwrap();
    let other = Dict::<String, u32>::open(&*name).unwrap();
    let inner: Dict<u32, String> = outer.child_dict("inner").unwrap();
    inner.set(&1, &"one".to_owned()).unwrap();
    let list: List<u32> = inner.child_list(&2).unwrap();
    list.extend([1, 2, 3]).unwrap();
    let deep: Dict<u32, u32> = {
        let rows: List<u32> = inner.child_list(&3).unwrap();
        rows.push(&0).unwrap();
        rows.push_dict().unwrap()
    };
    deep.set(&7, &7).unwrap();

    let same: Dict<u32, String> = other.child_dict("inner").unwrap();
    assert_eq!(same.get(&1).unwrap().as_deref(), Some("one"));
    assert_eq!(same.len(), Ok(3));
    let rows: List<u32> = same.child_list(&3).unwrap();
    rows.pop_front().unwrap();
    assert_eq!(deep.get(&7), Ok(Some(7)), "it was moved");
    let same_deep: Dict<u32, u32> = rows.child_dict(0).unwrap();
    same_deep.fetch_add(&7, 1).unwrap();
    assert_eq!(deep.get(&7), Ok(Some(8)));
    outer.check().unwrap();

    let wrong = outer.get("inner").unwrap_err();
    assert!(
        matches!(
            wrong,
            DictError::WrongKind {
                expected: "a value",
                ..
            }
        ),
        "{wrong}"
    );
    let wrong = outer.child_list::<_, u32, Raw>("inner").unwrap_err();
    assert!(
        matches!(
            wrong,
            DictError::WrongKind {
                found: "a dictionary",
                ..
            }
        ),
        "{wrong}"
    );
    let wrong = outer.child_dict::<_, u8, u8, Raw>("inner").unwrap_err();
    assert!(
        matches!(
            wrong,
            DictError::WrongKind {
                found: "one of other types",
                ..
            }
        ),
        "{wrong}"
    );

    assert_eq!(outer.remove("inner"), Ok(true));
    assert_eq!(deep.get(&7), Err(DictError::Stale));
    assert_eq!(list.push(&1), Err(DictError::Stale));
    assert_eq!(inner.len(), Err(DictError::Stale));
    let again: Dict<u32, String> = other.child_dict("inner").unwrap();
    assert_eq!(again.len(), Ok(0));
    assert_eq!(
        inner.get(&1),
        Err(DictError::Stale),
        "another one is there now"
    );
    let stats = outer.check().unwrap();
    assert_eq!(stats.entries, 1);
}

#[test]
fn containers_are_inside_of_each_other_only_so_deep() {
    let name = UniqueName::new("nested");
    let outer = List::<u32>::create(place(&name), Options::new()).unwrap();
    let mut inner = outer.clone();
    let mut depth = 0;
    let error = loop {
        match inner.push_list() {
            Ok(list) => inner = list,
            Err(error) => break error,
        }
        depth += 1;
    };
    assert_eq!((depth, error), (32, DictError::TooDeep { most: 32 }));
    inner.push(&5).unwrap();
    assert_eq!(inner.get(0), Ok(Some(5)));
    outer.check().unwrap();
    outer.clear().unwrap();
    assert_eq!(inner.get(0), Err(DictError::Stale));
    assert_eq!(outer.check().unwrap().payload, 0);
}

#[test]
fn a_transaction_is_made_as_a_whole_or_not_at_all() {
    let name = UniqueName::new("transaction");
    let dict = Dict::<u32, String>::create(place(&name), Options::new()).unwrap();
    for key in 0..50 {
        dict.set(&key, &format!("the value of {key}")).unwrap();
    }
    let keys: Vec<u32> = (0..100).collect();
    let keys: Vec<&u32> = keys.iter().collect();
    let before = dict.snapshot().unwrap().len();
    let refused: Result<(), DictError> = dict.transaction(&keys, |t| {
        t.set(&1, &"another".to_owned())?;
        assert_eq!(t.get(&1)?.as_deref(), Some("another"));
        t.set(&100, &"not named".to_owned())
    });
    assert_eq!(refused, Err(DictError::NotInTransaction));
    assert_eq!(dict.get(&1).unwrap().as_deref(), Some("the value of 1"));
    dict.transaction(&keys, |t| {
        for key in 0..25 {
            assert!(t.remove(&key)?);
        }
        for key in 40..100 {
            t.set(&key, &format!("new {key}"))?;
        }
        assert_eq!(t.get(&7)?, None);
        Ok::<(), DictError>(())
    })
    .unwrap();
    assert_eq!(before, 50);
    assert_eq!(dict.len(), Ok(75));
    for key in 0..100 {
        let expected = match key {
            0..25 => None,
            25..40 => Some(format!("the value of {key}")),
            _ => Some(format!("new {key}")),
        };
        assert_eq!(dict.get(&key).unwrap(), expected);
    }
    dict.check().unwrap();
    let inside = dict.transaction(&[&1], |_| dict.get(&2)).unwrap_err();
    assert_eq!(inside, DictError::Reentered);
}

#[test]
fn a_list_of_dynamic_values_is_sorted_as_python_does() {
    let list = list([3.into(), 1.5.into(), true.into()] as [Dynamic; 3]);
    list.sort_by(Dynamic::compare).unwrap();
    assert_eq!(list.to_dynamic().unwrap().to_string(), "[True, 1.5, 3]");
    list.push(&"a".into()).unwrap();
    assert_eq!(list.sort_by(Dynamic::compare), Err(DictError::Unordered));
    list.reverse().unwrap();
    assert_eq!(
        list.to_dynamic().unwrap().to_string(),
        "['a', 3, 1.5, True]"
    );
}

#[test]
fn containers_of_dynamic_values_are_one_value() {
    let name = UniqueName::new("deep");
    let outer = Dict::<Dynamic, Dynamic>::create(place(&name), Options::new()).unwrap();
    outer.set(&0.25.into(), &Dynamic::None).unwrap();
    let rows: List<Dynamic> = outer.child_list(&Dynamic::from("rows")).unwrap();
    rows.push(&1.into()).unwrap();
    let row: Dict<Dynamic, Dynamic> = rows.push_dict().unwrap();
    row.set(&"a".into(), &dynamic!([1, (2,)])).unwrap();
    let text = "{0.25: None, 'rows': [1, {'a': [1, (2,)]}]}";
    assert_eq!(outer.to_dynamic().unwrap().to_string(), text);
    assert_eq!(
        rows.to_dynamic().unwrap().to_string(),
        &text[21..text.len() - 1]
    );
    row.child_list::<_, u32, Raw>(&Dynamic::from(7)).unwrap();
    let wrong = outer.to_dynamic().unwrap_err();
    assert!(matches!(wrong, DictError::WrongKind { .. }), "{wrong}");
}

#[test]
fn the_elements_of_what_was_removed_come_to_an_end() {
    let name = UniqueName::new("stale");
    let outer = Dict::<u32, u32>::create(place(&name), Options::new()).unwrap();
    let list: List<u32> = outer.child_list(&1).unwrap();
    list.extend([1, 2, 3]).unwrap();
    assert_eq!(list.iter().count(), 3);
    let mut elements = list.iter();
    assert_eq!(elements.next(), Some(Ok(1)));
    assert!(outer.remove(&1).unwrap());
    assert_eq!(elements.next(), Some(Err(DictError::Stale)));
    assert_eq!(elements.next(), None);
}
