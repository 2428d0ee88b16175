//! Operations through two handles of one region each, against models in ordinary memory.

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use shm_core::{Error, Region};
use shm_lock::LockError;
use shm_value::{
    Array, AtomicArray, AtomicValue, Item, SeqValue, ShareableList, Value, ValueError,
};

/// Two values, a number, a float, two arrays and a list, and what is done with them.
#[derive(Debug, Arbitrary)]
pub struct Script {
    value: [u8; 24],
    number: i64,
    float: f64,
    elements: Vec<u32>,
    items: Vec<Thing>,
    room: u8,
    steps: Vec<Step>,
}

/// One operation; `second` says through which of the two handles.
#[derive(Debug, Arbitrary)]
struct Step {
    second: bool,
    operation: Operation,
}

#[derive(Debug, Arbitrary)]
enum Operation {
    /// Drops the handle and opens another one.
    Reopen,
    Value(OnValue),
    Number(OnNumber),
    Float(OnFloat),
    Array(OnArray),
    Numbers(OnNumbers),
    SeqValue(OnSeqValue),
    List(OnList),
}

#[derive(Debug, Arbitrary)]
enum OnValue {
    Get,
    Set([u8; 24]),
    Update {
        at: u8,
        by: u8,
    },
    Commit {
        at: u8,
        to: u8,
    },
    Discard {
        at: u8,
        to: u8,
    },
    Untouched,
    /// Through both handles at once: the other one reads the last commit and gets no lock.
    Held {
        at: u8,
        to: u8,
    },
}

#[derive(Debug, Arbitrary)]
enum OnNumber {
    Load,
    Store(i64),
    Swap(i64),
    Exchange {
        expect_right: bool,
        current: i64,
        new: i64,
    },
    Add(i64),
    Subtract(i64),
    Halve,
    /// Waits for another number than this, or than the one that is there.
    Wait(Option<i64>),
}

#[derive(Debug, Arbitrary)]
enum OnFloat {
    Store(f64),
    Add(f64),
    Subtract(f64),
    Exchange {
        expect_right: bool,
        current: f64,
        new: f64,
    },
}

#[derive(Debug, Arbitrary)]
enum OnArray {
    Get(u8),
    Set(u8, u32),
    Fill {
        start: u8,
        len: u8,
        with: u32,
    },
    Rotate(u8),
    /// Through both handles at once: the other one gets nothing.
    Held {
        at: u8,
        to: u32,
    },
}

/// On the array of which each element is changed without a lock.
#[derive(Debug, Arbitrary)]
enum OnNumbers {
    Load(u8),
    Store(u8, u32),
    Swap(u8, u32),
    Add(u8, u32),
    Subtract(u8, u32),
    Exchange {
        at: u8,
        expect_right: bool,
        current: u32,
        new: u32,
    },
    Halve(u8),
}

#[derive(Debug, Arbitrary)]
enum OnSeqValue {
    Set([u8; 24]),
    Update {
        at: u8,
        by: u8,
    },
    Discard {
        at: u8,
        to: u8,
    },
    /// Through both handles at once: the other one reads the last commit and gets no lock.
    Held {
        at: u8,
        to: u8,
    },
    /// Waits for another version than this, or than the one that is there.
    Wait(Option<u64>),
}

#[derive(Debug, Arbitrary)]
enum OnList {
    Get(u8),
    Set(u8, Thing),
    /// How many there are, and where the first is.
    Find(Thing),
    /// Through both handles at once: the other one reads each item that is set and gets no lock.
    Held(Vec<(u8, Thing)>),
}

/// An [`Item`].
#[derive(Debug, Clone, Arbitrary)]
enum Thing {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
}

impl From<Thing> for Item {
    fn from(thing: Thing) -> Self {
        match thing {
            Thing::None => Self::None,
            Thing::Bool(value) => Self::Bool(value),
            Thing::Int(value) => Self::Int(value),
            Thing::Float(value) => Self::Float(value),
            Thing::Str(value) => Self::Str(value),
            Thing::Bytes(value) => Self::Bytes(value),
        }
    }
}

/// Bytes that an item needs.
fn need(item: &Item) -> usize {
    match item {
        Item::None => 0,
        Item::Bool(_) => 1,
        Item::Int(_) | Item::Float(_) => 8,
        Item::Str(text) => text.len(),
        Item::Bytes(bytes) => bytes.len(),
    }
}

/// Whether two items have the same bytes: a NaN does not equal itself.
fn same(a: &Item, b: &Item) -> bool {
    match (a, b) {
        (Item::Float(a), Item::Float(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

impl OnNumbers {
    fn index(&self) -> usize {
        match *self {
            Self::Load(at)
            | Self::Store(at, _)
            | Self::Swap(at, _)
            | Self::Add(at, _)
            | Self::Subtract(at, _)
            | Self::Exchange { at, .. }
            | Self::Halve(at) => usize::from(at),
        }
    }
}

/// Two handles to each, and the models.
struct Pair {
    regions: [Region; 7],
    value: [Value<[u8; 24]>; 2],
    number: [AtomicValue<i64>; 2],
    float: [AtomicValue<f64>; 2],
    array: [Array<u32>; 2],
    numbers: [AtomicArray<u32>; 2],
    seq_value: [SeqValue<[u8; 24]>; 2],
    list: [ShareableList; 2],
    model: Model,
}

struct Model {
    value: [u8; 24],
    number: i64,
    float: f64,
    elements: Vec<u32>,
    numbers: Vec<u32>,
    seq_value: ([u8; 24], u64),
    items: Vec<Item>,
    rooms: Vec<usize>,
}

/// Runs a script.
///
/// # Panics
/// If an operation gives anything but what the model says.
pub fn value_ops(script: &Script) {
    let mut pair = Pair::new(script).expect("heap regions are large enough");
    for step in script.steps.iter().take(200) {
        pair.run(usize::from(step.second), &step.operation);
        pair.compare();
    }
}

impl Pair {
    fn new(script: &Script) -> Result<Self, Error> {
        let elements = script.elements[..script.elements.len().min(64)].to_vec();
        let items: Vec<Item> = script
            .items
            .iter()
            .take(8)
            .cloned()
            .map(Item::from)
            .collect();
        let room = usize::from(script.room);
        let sizes = [
            Value::<[u8; 24]>::REGION_SIZE,
            AtomicValue::<i64>::REGION_SIZE,
            AtomicValue::<f64>::REGION_SIZE,
            Array::<u32>::region_size(elements.len()).unwrap_or(usize::MAX),
            AtomicArray::<u32>::region_size(elements.len()).unwrap_or(usize::MAX),
            SeqValue::<[u8; 24]>::REGION_SIZE,
            ShareableList::region_size(&items, room),
        ];
        let whole = Region::heap(sizes.iter().map(|size| size.next_multiple_of(64)).sum());
        let mut end = 0;
        let regions = sizes.map(|size| {
            let start = end;
            end += size.next_multiple_of(64);
            whole.part(start, size).expect("it holds all")
        });
        let [value, number, float, array, numbers, seq_value, list] = &regions;
        Ok(Self {
            value: [
                Value::create(value.clone(), script.value)?,
                Value::open(value.clone())?,
            ],
            number: [
                AtomicValue::create(number.clone(), script.number)?,
                AtomicValue::open(number.clone())?,
            ],
            float: [
                AtomicValue::create(float.clone(), script.float)?,
                AtomicValue::open(float.clone())?,
            ],
            array: [
                Array::create(array.clone(), &elements)?,
                Array::open(array.clone())?,
            ],
            numbers: [
                AtomicArray::create(numbers.clone(), &elements)?,
                AtomicArray::open(numbers.clone())?,
            ],
            seq_value: [
                SeqValue::create(seq_value.clone(), script.value)?,
                SeqValue::open(seq_value.clone())?,
            ],
            list: [
                ShareableList::create_with_room(list.clone(), &items, room)?,
                ShareableList::open(list.clone())?,
            ],
            model: Model {
                value: script.value,
                number: script.number,
                float: script.float,
                numbers: elements.clone(),
                elements,
                seq_value: (script.value, 0),
                rooms: items
                    .iter()
                    .map(|item| need(item).max(room).max(8).next_multiple_of(8))
                    .collect(),
                items,
            },
            regions,
        })
    }

    fn run(&mut self, which: usize, operation: &Operation) {
        match operation {
            Operation::Reopen => self.reopen(which).expect("what was created is there"),
            Operation::Value(operation) => self.on_value(which, operation),
            Operation::Number(operation) => self.on_number(which, operation),
            Operation::Float(operation) => self.on_float(which, operation),
            Operation::Array(operation) => self.on_array(which, operation),
            Operation::Numbers(operation) => self.on_numbers(which, operation),
            Operation::SeqValue(operation) => self.on_seq_value(which, operation),
            Operation::List(operation) => self.on_list(which, operation),
        }
    }

    fn reopen(&mut self, which: usize) -> Result<(), Error> {
        let [value, number, float, array, numbers, seq_value, list] = self.regions.clone();
        self.value[which] = Value::open(value)?;
        self.number[which] = AtomicValue::open(number)?;
        self.float[which] = AtomicValue::open(float)?;
        self.array[which] = Array::open(array)?;
        self.numbers[which] = AtomicArray::open(numbers)?;
        self.seq_value[which] = SeqValue::open(seq_value)?;
        self.list[which] = ShareableList::open(list)?;
        Ok(())
    }

    fn on_value(&mut self, which: usize, operation: &OnValue) {
        let (value, other, model) = (
            &self.value[which],
            &self.value[1 - which],
            &mut self.model.value,
        );
        match *operation {
            OnValue::Get => assert_eq!(value.get(), Ok(*model)),
            OnValue::Set(bytes) => {
                assert_eq!(value.set(bytes), Ok(()));
                *model = bytes;
            }
            OnValue::Update { at, by } => {
                let at = usize::from(at) % 24;
                let old = value.update(|bytes| {
                    let old = bytes[at];
                    bytes[at] = old.wrapping_add(by);
                    old
                });
                assert_eq!(old, Ok(model[at]));
                model[at] = model[at].wrapping_add(by);
            }
            OnValue::Commit { at, to } => {
                let at = usize::from(at) % 24;
                value.lock().expect("free")[at] = to;
                model[at] = to;
            }
            OnValue::Discard { at, to } => {
                let mut guard = value.try_lock().expect("free");
                guard[usize::from(at) % 24] = to;
                #[cfg(feature = "planted")]
                if !crate::planted::discards(other) {
                    return;
                }
                guard.discard();
            }
            OnValue::Untouched => drop(value.lock_timeout(Duration::ZERO).expect("free")),
            OnValue::Held { at, to } => {
                let at = usize::from(at) % 24;
                let mut guard = value.lock().expect("free");
                assert_eq!(*guard, *model);
                guard[at] = to;
                assert_eq!(other.get(), Ok(*model), "a change that is not committed");
                assert_eq!(other.try_lock().err(), Some(ValueError::WouldBlock));
                assert_eq!(
                    other.lock_deadline(Instant::now()).err(),
                    Some(ValueError::Deadlock)
                );
                assert_eq!(other.set(*model), Err(ValueError::Deadlock));
                drop(guard);
                model[at] = to;
            }
        }
    }

    fn on_number(&mut self, which: usize, operation: &OnNumber) {
        let (number, model) = (&self.number[which], &mut self.model.number);
        let old = *model;
        match *operation {
            OnNumber::Load => assert_eq!(number.load(), old),
            OnNumber::Store(new) => {
                number.store(new);
                *model = new;
            }
            OnNumber::Swap(new) => {
                assert_eq!(number.swap(new), old);
                *model = new;
            }
            OnNumber::Exchange {
                expect_right,
                current,
                new,
            } => {
                let current = if expect_right { old } else { current };
                let result = number.compare_exchange(current, new);
                assert_eq!(result, if current == old { Ok(old) } else { Err(old) });
                *model = if current == old { new } else { old };
            }
            OnNumber::Add(by) => {
                assert_eq!(number.fetch_add(by), old);
                *model = old.wrapping_add(by);
            }
            OnNumber::Subtract(by) => {
                assert_eq!(number.fetch_sub(by), old);
                *model = old.wrapping_sub(by);
            }
            OnNumber::Halve => {
                let half = |n: i64| (n % 2 == 0).then_some(n / 2);
                let result = number.fetch_update(half);
                assert_eq!(result, half(old).map(|_| old).ok_or(old));
                *model = half(old).unwrap_or(old);
            }
            OnNumber::Wait(other_than) => {
                let other_than = other_than.unwrap_or(old);
                let result = number.wait_deadline(other_than, Instant::now());
                let changed = (other_than != old).then_some(old);
                assert_eq!(result, changed.ok_or(ValueError::Timeout));
                assert_eq!(number.notify_all(), 0);
            }
        }
    }

    fn on_float(&mut self, which: usize, operation: &OnFloat) {
        let (float, model) = (&self.float[which], &mut self.model.float);
        let old = *model;
        match *operation {
            OnFloat::Store(new) => {
                float.store(new);
                *model = new;
            }
            OnFloat::Add(by) => {
                assert_eq!(float.fetch_add(by).to_bits(), old.to_bits());
                *model = old + by;
            }
            OnFloat::Subtract(by) => {
                assert_eq!(float.fetch_sub(by).to_bits(), old.to_bits());
                *model = old - by;
            }
            OnFloat::Exchange {
                expect_right,
                current,
                new,
            } => {
                let current = if expect_right { old } else { current };
                let same = current.to_bits() == old.to_bits();
                let result = float.compare_exchange(current, new);
                assert_eq!(result.is_ok(), same);
                *model = if same { new } else { old };
            }
        }
    }

    fn on_array(&mut self, which: usize, operation: &OnArray) {
        let (array, other, model) = (
            &self.array[which],
            &self.array[1 - which],
            &mut self.model.elements,
        );
        let out_of_range = |index| ValueError::OutOfRange {
            index,
            len: array.len(),
        };
        match *operation {
            OnArray::Get(index) => {
                let index = usize::from(index);
                let expected = model.get(index).copied().ok_or(out_of_range(index));
                assert_eq!(array.get(index), expected);
            }
            OnArray::Set(index, to) => {
                let index = usize::from(index);
                let expected = model.get_mut(index).map(|element| *element = to);
                assert_eq!(array.set(index, to), expected.ok_or(out_of_range(index)));
            }
            OnArray::Fill { start, len, with } => {
                let start = usize::from(start).min(model.len());
                let end = (start + usize::from(len)).min(model.len());
                array.lock().expect("free")[start..end].fill(with);
                model[start..end].fill(with);
            }
            OnArray::Rotate(by) => {
                let by = usize::from(by).min(model.len());
                array.try_lock().expect("free").rotate_left(by);
                model.rotate_left(by);
            }
            OnArray::Held { at, to } => {
                let mut guard = array.lock_timeout(Duration::ZERO).expect("free");
                assert!(matches!(other.try_lock(), Err(LockError::WouldBlock)));
                let late = other.lock_deadline(Instant::now());
                assert!(matches!(late, Err(LockError::Deadlock)));
                if let Some(element) = guard.get_mut(usize::from(at)) {
                    *element = to;
                    assert_eq!(other.get(usize::from(at)), Err(ValueError::Deadlock));
                    model[usize::from(at)] = to;
                }
            }
        }
    }

    fn on_numbers(&mut self, which: usize, operation: &OnNumbers) {
        let (array, model) = (&self.numbers[which], &mut self.model.numbers);
        let (index, len) = (operation.index(), model.len());
        let Some(model) = model.get_mut(index) else {
            let out_of_range = ValueError::OutOfRange { index, len };
            assert_eq!(array.element(index).err(), Some(out_of_range));
            return;
        };
        let element = array.element(index).expect("it is in range");
        let old = *model;
        match *operation {
            OnNumbers::Load(_) => assert_eq!(array.load(index), Ok(old)),
            OnNumbers::Store(_, new) => {
                assert_eq!(array.store(index, new), Ok(()));
                *model = new;
            }
            OnNumbers::Swap(_, new) => {
                assert_eq!(element.swap(new), old);
                *model = new;
            }
            OnNumbers::Add(_, by) => {
                assert_eq!(element.fetch_add(by), old);
                *model = old.wrapping_add(by);
            }
            OnNumbers::Subtract(_, by) => {
                assert_eq!(element.fetch_sub(by), old);
                *model = old.wrapping_sub(by);
            }
            OnNumbers::Exchange {
                expect_right,
                current,
                new,
                ..
            } => {
                let current = if expect_right { old } else { current };
                let result = element.compare_exchange(current, new);
                assert_eq!(result, if current == old { Ok(old) } else { Err(old) });
                *model = if current == old { new } else { old };
            }
            OnNumbers::Halve(_) => {
                let half = |n: u32| n.is_multiple_of(2).then_some(n / 2);
                let result = element.fetch_update(half);
                assert_eq!(result, half(old).map(|_| old).ok_or(old));
                *model = half(old).unwrap_or(old);
            }
        }
    }

    fn on_seq_value(&mut self, which: usize, operation: &OnSeqValue) {
        let (value, other) = (&self.seq_value[which], &self.seq_value[1 - which]);
        let (model, version) = &mut self.model.seq_value;
        match *operation {
            OnSeqValue::Set(bytes) => {
                assert_eq!(value.set(bytes), Ok(()));
                (*model, *version) = (bytes, *version + 1);
            }
            OnSeqValue::Update { at, by } => {
                let change = |bytes: &mut [u8; 24]| {
                    let byte = &mut bytes[usize::from(at) % 24];
                    std::mem::replace(byte, byte.wrapping_add(by))
                };
                assert_eq!(value.update(change), Ok(change(model)));
                *version += 1;
            }
            OnSeqValue::Discard { at, to } => {
                let mut guard = value.lock_timeout(Duration::ZERO).expect("free");
                guard[usize::from(at) % 24] = to;
                guard.discard();
            }
            OnSeqValue::Held { at, to } => {
                let mut guard = value.try_lock().expect("free");
                assert_eq!(*guard, *model);
                guard[usize::from(at) % 24] = to;
                assert_eq!(other.get_with_version(), (*model, *version));
                assert_eq!(other.try_lock().err(), Some(ValueError::WouldBlock));
                let late = other.lock_deadline(Instant::now());
                assert_eq!(late.err(), Some(ValueError::Deadlock));
                assert_eq!(other.set(*model), Err(ValueError::Deadlock));
                drop(guard);
                model[usize::from(at) % 24] = to;
                *version += 1;
            }
            OnSeqValue::Wait(since) => {
                let since = since.unwrap_or(*version);
                let result = value.wait_for_change_deadline(since, Instant::now());
                let changed = (since != *version).then_some((*model, *version));
                assert_eq!(result, changed.ok_or(ValueError::Timeout));
            }
        }
    }

    fn on_list(&mut self, which: usize, operation: &OnList) {
        let (list, other) = (&self.list[which], &self.list[1 - which]);
        let Model { items, rooms, .. } = &mut self.model;
        let len = items.len();
        match operation {
            OnList::Get(index) => {
                let index = usize::from(*index);
                match (list.get(index), items.get(index)) {
                    (Ok(item), Some(model)) => assert!(same(&item, model), "{item:?} {model:?}"),
                    (item, _) => assert_eq!(item, Err(ValueError::OutOfRange { index, len })),
                }
            }
            OnList::Set(index, to) => {
                let (index, to) = (usize::from(*index), Item::from(to.clone()));
                let expected = set(items, rooms, index, &to);
                assert_eq!(list.set(index, &to), expected);
            }
            OnList::Find(thing) => {
                let item = &Item::from(thing.clone());
                let first = items.iter().position(|model| model == item);
                let count = items.iter().filter(|model| *model == item).count();
                assert_eq!(list.index_of(item), Ok(first));
                assert_eq!(list.count(item), Ok(count));
            }
            OnList::Held(changes) => {
                let guard = list.try_lock().expect("free");
                assert_eq!(other.try_lock().err(), Some(ValueError::WouldBlock));
                let late = other.lock_deadline(Instant::now());
                assert_eq!(late.err(), Some(ValueError::Deadlock));
                for (index, to) in changes.iter().take(8) {
                    let (index, to) = (usize::from(*index), Item::from(to.clone()));
                    let expected = set(items, rooms, index, &to);
                    assert_eq!(guard.set(index, &to), expected);
                    if let Some(model) = items.get(index) {
                        assert!(other.get(index).is_ok_and(|item| same(&item, model)));
                        assert_eq!(other.set(index, &to), Err(ValueError::Deadlock));
                    }
                }
            }
        }
    }

    /// Both handles show what the models say.
    fn compare(&mut self) {
        for which in 0..2 {
            assert_eq!(self.value[which].get(), Ok(self.model.value));
            assert_eq!(self.number[which].load(), self.model.number);
            let float = self.float[which].load();
            if float.is_nan() && self.model.float.is_nan() {
                // The bits of a NaN that a sum makes are not defined; from here on they are.
                self.model.float = float;
            }
            assert_eq!(float.to_bits(), self.model.float.to_bits());
            assert!(
                self.numbers[which]
                    .iter()
                    .eq(self.model.numbers.iter().copied())
            );
            assert_eq!(self.array[which].len(), self.model.elements.len());
            assert_eq!(
                *self.array[which].lock().expect("free"),
                self.model.elements[..]
            );
            let seen = self.seq_value[which].get_with_version();
            assert_eq!(seen, self.model.seq_value);
            let list = &self.list[which];
            assert_eq!(list.len(), self.model.items.len());
            for (index, model) in self.model.items.iter().enumerate() {
                assert_eq!(list.room(index), Some(self.model.rooms[index]));
                let item = list.get(index).expect("an item");
                assert!(same(&item, model), "{index}: {item:?} {model:?}");
            }
        }
    }
}

/// Sets an item of the model of a list.
fn set(items: &mut [Item], rooms: &[usize], index: usize, to: &Item) -> Result<(), ValueError> {
    let len = items.len();
    let model = items
        .get_mut(index)
        .ok_or(ValueError::OutOfRange { index, len })?;
    let (need, room) = (need(to), rooms[index]);
    if need > room {
        return Err(ValueError::TooLong { index, need, room });
    }
    *model = to.clone();
    #[cfg(feature = "planted")]
    {
        *model = crate::planted::in_set(model.clone());
    }
    Ok(())
}
