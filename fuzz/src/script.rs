//! Operations through two handles of one region each, against models in ordinary memory.

use std::fmt::Debug;
use std::ops::Index;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use shm_core::Region;
use shm_lock::LockError;
use shm_value::{
    Array, AtomicArray, AtomicValue, Item, SeqValue, ShareableList, Value, ValueError,
};

use crate::backing::Memory;
use crate::input::{Rest, by_a_byte};

/// Two values, a number, a float, two arrays and a list, and what is done with them.
#[derive(Debug, Arbitrary)]
pub struct Script {
    value: [u8; 24],
    number: i64,
    float: f64,
    elements: Vec<u32>,
    items: Vec<Thing>,
    room: u8,
    steps: Rest<Step>,
}

/// One operation; `second` says through which of the two handles.
#[derive(Debug, Arbitrary)]
struct Step {
    second: bool,
    operation: Operation,
}

by_a_byte! {
    #[derive(Debug)]
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
}

by_a_byte! {
    #[derive(Debug)]
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
}

by_a_byte! {
    #[derive(Debug)]
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
}

by_a_byte! {
    #[derive(Debug)]
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
}

by_a_byte! {
    #[derive(Debug)]
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
}

by_a_byte! {
    /// On the array of which each element is changed without a lock.
    #[derive(Debug)]
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
}

by_a_byte! {
    #[derive(Debug)]
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
}

by_a_byte! {
    #[derive(Debug)]
    enum OnList {
        Get(u8),
        Set(u8, Thing),
        /// How many there are, and where the first is.
        Find(Thing),
        /// Through both handles at once: the other one reads each item that is set and gets no lock.
        Held(Vec<(u8, Thing)>),
    }
}

by_a_byte! {
    /// An [`Item`].
    #[derive(Debug, Clone)]
    enum Thing {
        None,
        Bool(bool),
        Int(i64),
        Float(f64),
        Str(String),
        Bytes(Vec<u8>),
    }
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

/// Two handles of a type, and the memory that both are attached to; nothing before the first use. Its end is the end
/// of an allocation, where AddressSanitizer watches.
struct Two<T> {
    region: Option<Region>,
    handles: Vec<T>,
}

impl<T> Default for Two<T> {
    fn default() -> Self {
        let (region, handles) = (None, Vec::new());
        Self { region, handles }
    }
}

impl<T> Index<usize> for Two<T> {
    type Output = T;

    fn index(&self, which: usize) -> &T {
        &self.handles[which]
    }
}

impl<T> Two<T> {
    /// Creates it in so many bytes, if this is its first use.
    fn make<E: Debug>(
        &mut self,
        size: usize,
        create: impl FnOnce(Region) -> Result<T, E>,
        open: impl FnOnce(Region) -> Result<T, E>,
    ) {
        if self.region.is_none() {
            let region = Memory::zeroed(size).region();
            let first = create(region.clone()).expect("its region is large enough");
            let second = open(region.clone()).expect("what was created is there");
            self.handles = vec![first, second];
            self.region = Some(region);
        }
    }

    /// Drops a handle and opens another one.
    fn reopen<E: Debug>(&mut self, which: usize, open: impl FnOnce(Region) -> Result<T, E>) {
        if let Some(region) = &self.region {
            self.handles[which] = open(region.clone()).expect("what was created is there");
        }
    }
}

/// Two handles to each that was used, and the models.
struct Pair {
    value: Two<Value<[u8; 24]>>,
    number: Two<AtomicValue<i64>>,
    float: Two<AtomicValue<f64>>,
    array: Two<Array<u32>>,
    numbers: Two<AtomicArray<u32>>,
    seq_value: Two<SeqValue<[u8; 24]>>,
    list: Two<ShareableList>,
    model: Model,
    room: usize,
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
    let mut pair = Pair::new(script);
    for step in script.steps.0.iter().take(200) {
        let which = usize::from(step.second);
        match &step.operation {
            Operation::Reopen => pair.reopen(which),
            Operation::Value(operation) => {
                pair.on_value(which, operation);
                pair.compare_value();
            }
            Operation::Number(operation) => {
                pair.on_number(which, operation);
                pair.compare_number();
            }
            Operation::Float(operation) => {
                pair.on_float(which, operation);
                pair.compare_float();
            }
            Operation::Array(operation) => {
                pair.on_array(which, operation);
                pair.compare_array();
            }
            Operation::Numbers(operation) => {
                pair.on_numbers(which, operation);
                pair.compare_numbers();
            }
            Operation::SeqValue(operation) => {
                pair.on_seq_value(which, operation);
                pair.compare_seq_value();
            }
            Operation::List(operation) => {
                pair.on_list(which, operation);
                pair.compare_list();
            }
        }
    }
    // Nothing has changed what another operation is about.
    pair.compare();
}

impl Pair {
    fn new(script: &Script) -> Self {
        let elements = script.elements[..script.elements.len().min(64)].to_vec();
        let items: Vec<Item> = script
            .items
            .iter()
            .take(8)
            .cloned()
            .map(Item::from)
            .collect();
        let room = usize::from(script.room);
        Self {
            value: Two::default(),
            number: Two::default(),
            float: Two::default(),
            array: Two::default(),
            numbers: Two::default(),
            seq_value: Two::default(),
            list: Two::default(),
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
            room,
        }
    }

    fn reopen(&mut self, which: usize) {
        self.value.reopen(which, Value::open);
        self.number.reopen(which, AtomicValue::open);
        self.float.reopen(which, AtomicValue::open);
        self.array.reopen(which, Array::open);
        self.numbers.reopen(which, AtomicArray::open);
        self.seq_value.reopen(which, SeqValue::open);
        self.list.reopen(which, ShareableList::open);
        self.compare();
    }

    fn on_value(&mut self, which: usize, operation: &OnValue) {
        let first = self.model.value;
        let size = Value::<[u8; 24]>::REGION_SIZE;
        let create = |region| Value::create(region, first);
        self.value.make(size, create, Value::open);
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
        let first = self.model.number;
        let size = AtomicValue::<i64>::REGION_SIZE;
        let create = |region| AtomicValue::create(region, first);
        self.number.make(size, create, AtomicValue::open);
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
        let first = self.model.float;
        let size = AtomicValue::<f64>::REGION_SIZE;
        let create = |region| AtomicValue::create(region, first);
        self.float.make(size, create, AtomicValue::open);
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
        let first = &self.model.elements;
        let size = Array::<u32>::region_size(first.len()).expect("a short array");
        let create = |region| Array::create(region, first);
        self.array.make(size, create, Array::open);
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
        let first = &self.model.numbers;
        let size = AtomicArray::<u32>::region_size(first.len()).expect("a short array");
        let create = |region| AtomicArray::create(region, first);
        self.numbers.make(size, create, AtomicArray::open);
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
        let first = self.model.seq_value.0;
        let size = SeqValue::<[u8; 24]>::REGION_SIZE;
        let create = |region| SeqValue::create(region, first);
        self.seq_value.make(size, create, SeqValue::open);
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
        let (first, room) = (&self.model.items, self.room);
        let size = ShareableList::region_size(first, room);
        let create = |region| ShareableList::create_with_room(region, first, room);
        self.list.make(size, create, ShareableList::open);
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

    /// Both handles of each show what the models say.
    fn compare(&mut self) {
        self.compare_value();
        self.compare_number();
        self.compare_float();
        self.compare_array();
        self.compare_numbers();
        self.compare_seq_value();
        self.compare_list();
    }

    fn compare_value(&self) {
        for value in &self.value.handles {
            assert_eq!(value.get(), Ok(self.model.value));
        }
    }

    fn compare_number(&self) {
        for number in &self.number.handles {
            assert_eq!(number.load(), self.model.number);
        }
    }

    fn compare_float(&mut self) {
        for float in &self.float.handles {
            let float = float.load();
            if float.is_nan() && self.model.float.is_nan() {
                // The bits of a NaN that a sum makes are not defined; from here on they are.
                self.model.float = float;
            }
            assert_eq!(float.to_bits(), self.model.float.to_bits());
        }
    }

    fn compare_array(&self) {
        for array in &self.array.handles {
            assert_eq!(array.len(), self.model.elements.len());
            assert_eq!(*array.lock().expect("free"), self.model.elements[..]);
        }
    }

    fn compare_numbers(&self) {
        for array in &self.numbers.handles {
            assert!(array.iter().eq(self.model.numbers.iter().copied()));
        }
    }

    fn compare_seq_value(&self) {
        for value in &self.seq_value.handles {
            assert_eq!(value.get_with_version(), self.model.seq_value);
        }
    }

    fn compare_list(&self) {
        for list in &self.list.handles {
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
