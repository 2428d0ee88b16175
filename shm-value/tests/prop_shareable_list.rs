//! Random operations through two handles of a shareable list against `Vec`.

use proptest::prelude::*;
use shm_core::Region;
use shm_value::{Item, ShareableList, ValueError};

#[derive(Debug, Clone)]
enum Op {
    Get(usize),
    Set(usize, Item),
    SetTwo(usize, usize, Item),
    Find(Item),
    Reopen,
}

fn item() -> impl Strategy<Value = Item> {
    let text = prop_oneof!["\\PC{0,12}", "[a-c\0]{0,20}"];
    prop_oneof![
        Just(Item::None),
        any::<bool>().prop_map(Item::Bool),
        prop_oneof![any::<i64>(), -3..3_i64].prop_map(Item::Int),
        // No NaN: it would not be equal to itself.
        any::<i32>().prop_map(|n| Item::Float(f64::from(n) / 3.0)),
        text.prop_map(Item::Str),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Item::Bytes),
    ]
}

fn op(len: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..len + 2).prop_map(Op::Get),
        (0..len + 2, item()).prop_map(|(at, item)| Op::Set(at, item)),
        (0..len + 2, 0..len + 2, item()).prop_map(|(a, b, item)| Op::SetTwo(a, b, item)),
        item().prop_map(Op::Find),
        Just(Op::Reopen),
    ]
}

fn bytes(item: &Item) -> usize {
    match item {
        Item::None => 0,
        Item::Bool(_) => 1,
        Item::Int(_) | Item::Float(_) => 8,
        Item::Str(text) => text.len(),
        Item::Bytes(bytes) => bytes.len(),
    }
}

/// The items, and how many bytes each has room for.
struct Model {
    items: Vec<Item>,
    rooms: Vec<usize>,
}

impl Model {
    fn set(&mut self, index: usize, item: &Item) -> Result<(), ValueError> {
        let len = self.items.len();
        let room = *self
            .rooms
            .get(index)
            .ok_or(ValueError::OutOfRange { index, len })?;
        let need = bytes(item);
        if need > room {
            return Err(ValueError::TooLong { index, need, room });
        }
        self.items[index] = item.clone();
        Ok(())
    }
}

proptest! {
    #[test]
    fn matches_vec((start, least, ops) in (0..8_usize).prop_flat_map(|len| (
        prop::collection::vec(item(), len),
        0..20_usize,
        prop::collection::vec(op(len), 0..60),
    ))) {
        let region = Region::heap(ShareableList::region_size(&start, least));
        let first = ShareableList::create_with_room(region.clone(), &start, least).unwrap();
        let mut second = ShareableList::open(region.clone()).unwrap();
        let room = |item: &Item| bytes(item).max(least).max(8).next_multiple_of(8);
        let mut model = Model { rooms: start.iter().map(room).collect(), items: start };
        for (n, op) in ops.into_iter().enumerate() {
            let list = if n % 2 == 0 { &first } else { &second };
            let len = model.items.len();
            match op {
                Op::Get(index) => {
                    let expected = model.items.get(index).cloned();
                    let expected = expected.ok_or(ValueError::OutOfRange { index, len });
                    prop_assert_eq!(list.get(index), expected);
                    prop_assert_eq!(list.room(index), model.rooms.get(index).copied());
                }
                Op::Set(index, item) => {
                    let expected = model.set(index, &item);
                    prop_assert_eq!(list.set(index, &item), expected);
                }
                Op::SetTwo(one, other, item) => {
                    let guard = list.lock().unwrap();
                    for index in [one, other] {
                        let expected = model.set(index, &item);
                        prop_assert_eq!(guard.set(index, &item), expected);
                    }
                    prop_assert_eq!(&guard.to_vec().unwrap(), &model.items);
                }
                Op::Find(item) => {
                    let index = model.items.iter().position(|other| *other == item);
                    prop_assert_eq!(list.index_of(&item), Ok(index));
                    let count = model.items.iter().filter(|other| **other == item).count();
                    prop_assert_eq!(list.count(&item), Ok(count));
                }
                Op::Reopen => second = ShareableList::open(region.clone()).unwrap(),
            }
            prop_assert_eq!(&first.to_vec().unwrap(), &model.items);
            prop_assert_eq!(second.len(), model.items.len());
        }
    }
}
