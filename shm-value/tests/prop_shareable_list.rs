//! Random operations through two handles of a shareable list against `Vec`; and lists with random words in
//! them.

use std::fs::File;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use shm_core::{Error, Place, Region};
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

/// A word that somebody may have written over another.
fn poke() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..200_u64,
        (0..8_u64, 0..64_u64).prop_map(|(kind, len)| kind | len << 8),
        Just(u64::MAX),
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

    /// Whatever stands where lengths, versions and items should: `open` refuses it, or every item can be
    /// read and written, or is said to be corrupt.
    #[test]
    fn no_word_leads_astray(
        start in prop::collection::vec(item(), 1..6),
        pokes in prop::collection::vec((6..40_u64, poke()), 1..6),
        early: bool,
    ) {
        let place = Place::anonymous().participants(2);
        let list = ShareableList::create(place, &start).unwrap();
        let fd = list.segment().as_fd().unwrap().try_clone_to_owned().unwrap();
        let file = File::from(fd.try_clone().unwrap());
        let payload = file.metadata().unwrap().len() - list.segment().size() as u64;
        let poke = || for (word, value) in &pokes {
            // Behind the lock, and within the file.
            let at = payload + word * 8 % (list.segment().size() as u64 - 48) / 8 * 8;
            let at = at.max(payload + 48);
            file.write_all_at(&value.to_ne_bytes(), at).unwrap();
        };
        if !early {
            poke();
        }
        let other = match ShareableList::open(Place::fd(fd)) {
            Ok(other) => other,
            Err(error) => {
                prop_assert!(matches!(error, Error::Corrupt { .. }), "{}", error);
                return Ok(());
            }
        };
        if early {
            poke();
        }
        for index in 0..other.len() {
            let seen = other.get(index);
            let corrupt = Err(ValueError::Corrupt { index });
            prop_assert!(seen.is_ok() || seen == corrupt && early, "{:?}", seen);
            prop_assert_eq!(other.set(index, true), Ok(()));
            prop_assert_eq!(other.get(index), Ok(Item::Bool(true)));
        }
    }
}
