//! Random operations on lists through two handles against a `Vec`, on a tree of dictionaries and lists against a
//! tree, and transactions against a `HashMap`, where there is often no room; then a file system that refuses memory at
//! any moment.

mod refusing;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use refusing::{Refusing, raw, writer};
use shm_core::Place;
use shm_dict::raw::{Element, Kind, RawDict, Refused};
use shm_dict::{Bytes, Dict, DictError, List, Options};
use shm_testing::watchdog;

type Value = Vec<u8>;
type Values = List<Value, Bytes>;
type Texts = Dict<u8, Value, Bytes>;

const LONGEST: usize = 20_000;

fn value(number: u8, len: usize) -> Value {
    (0..len)
        .map(|at| number.wrapping_mul(31) ^ at as u8)
        .collect()
}

/// Lengths on both sides of what stands in an item, of a word, and of what blocks hold.
fn len() -> impl Strategy<Value = usize> {
    const SIZES: &[usize] = &[16, 32, 48, 128, 256, 288, 1024, 2048, 4096, 8192];
    let border = (0..SIZES.len(), 0..32_usize).prop_map(|(at, less)| {
        // With the header, just about the size.
        (SIZES[at] + 8).saturating_sub(less)
    });
    prop_oneof![6 => 0..12_usize, 3 => border, 1 => 0..LONGEST + 2]
}

fn options() -> impl Strategy<Value = Options> {
    let bytes = prop_oneof![3 => Just(16_u64 << 10), 3 => Just(64 << 10), 1 => Just(5 << 20)];
    (bytes, 0..3_u32).prop_map(|(bytes, log)| {
        let options = Options::new().max_bytes(bytes).shards(1 << log);
        options.max_value(LONGEST as u32)
    })
}

// ---- a list -------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Op {
    Push(usize),
    Extend(Vec<usize>),
    Pop,
    PopFront,
    PopAt(u8),
    Remove(u8),
    Insert(u8, usize),
    Set(u8, usize),
    /// Appends so many bytes.
    Modify(u8, usize),
    Swap(u8, u8),
    Reverse,
    Sort,
    SortByKey,
    Retain(u8),
    Splice(u8, u8, Vec<usize>),
    Slice(u8, u8),
    Position(u8),
    Clear,
    Drain,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<u8>;
    let lens = || vec(len(), 0..12);
    prop_oneof![
        8 => len().prop_map(Op::Push),
        3 => lens().prop_map(Op::Extend),
        3 => Just(Op::Pop),
        3 => Just(Op::PopFront),
        1 => at().prop_map(Op::PopAt),
        2 => at().prop_map(Op::Remove),
        2 => (at(), len()).prop_map(|(at, len)| Op::Insert(at, len)),
        // At the front, where there may be room since something was taken out.
        2 => len().prop_map(|len| Op::Insert(0, len)),
        5 => (at(), len()).prop_map(|(at, len)| Op::Set(at, len)),
        2 => (at(), 0..300_usize).prop_map(|(at, more)| Op::Modify(at, more)),
        1 => (at(), at()).prop_map(|(first, second)| Op::Swap(first, second)),
        1 => Just(Op::Reverse),
        1 => Just(Op::Sort),
        1 => Just(Op::SortByKey),
        1 => (2..5_u8).prop_map(Op::Retain),
        2 => (at(), at(), lens()).prop_map(|(from, to, lens)| Op::Splice(from, to, lens)),
        1 => (at(), at()).prop_map(|(from, to)| Op::Slice(from, to)),
        1 => at().prop_map(Op::Position),
        1 => Just(Op::Clear),
        1 => Just(Op::Drain),
        1 => Just(Op::Reopen),
    ]
}

struct Pair {
    handles: [Values; 2],
    reader: Values,
    model: Vec<Value>,
}

/// An index of a list of so many, or one more, or sometimes far behind.
fn index(at: u8, len: usize) -> usize {
    match usize::from(at) {
        250.. => usize::MAX - usize::from(at),
        at => at % (len + 2),
    }
}

fn range(from: u8, to: u8, len: usize) -> Range<usize> {
    let (from, to) = (usize::from(from) % (len + 2), usize::from(to) % (len + 2));
    from..to
}

fn is_within(range: &Range<usize>, len: usize) -> bool {
    range.start <= range.end && range.end <= len
}

impl Pair {
    fn new(options: Options) -> Self {
        let first = Values::create(Place::anonymous(), options).unwrap();
        Self {
            reader: Values::open_read_only(again(&first)).unwrap(),
            handles: [Values::open(again(&first)).unwrap(), first],
            model: Vec::new(),
        }
    }

    fn run(&mut self, ops: Vec<Op>) {
        for (n, op) in ops.into_iter().enumerate() {
            let (before, version) = (self.model.clone(), self.reader.version());
            match self.step(n, op) {
                Ok(()) => {}
                Err(DictError::Full { needed, .. }) => assert!(needed > 0),
                Err(DictError::ValueTooLong { len, most }) => {
                    assert!(len > most && most == LONGEST as u64);
                }
                Err(DictError::IndexOutOfRange { index, len }) => {
                    assert_eq!(len, self.model.len() as u64);
                    assert!(index >= len || before.len() > 1, "{index} of {len}");
                }
                Err(error) => panic!("{error}"),
            }
            if self.reader.version() == version {
                assert_eq!(self.model, before, "a change that nobody is told of");
            }
            self.compare(n);
        }
    }

    /// Runs an operation; the model has changed only if it was not refused.
    fn step(&mut self, n: usize, op: Op) -> Result<(), DictError> {
        let (list, model) = (&self.handles[n % 2], &mut self.model);
        let new = |len: &usize| value(n as u8, *len);
        let out = |index: usize, len: usize| DictError::IndexOutOfRange {
            index: index as u64,
            len: len as u64,
        };
        match op {
            Op::Push(len) => {
                list.push(&new(&len))?;
                model.push(new(&len));
            }
            Op::Extend(lens) => {
                list.extend(lens.iter().map(new))?;
                model.extend(lens.iter().map(new));
            }
            Op::Pop => assert_eq!(list.pop()?, model.pop()),
            Op::PopFront => {
                let first = (!model.is_empty()).then(|| model.remove(0));
                assert_eq!(list.pop_front()?, first);
            }
            Op::PopAt(at) => {
                let at = index(at, model.len());
                let popped = list.pop_at(at);
                if at >= model.len() {
                    assert_eq!(popped, Err(out(at, model.len())));
                } else {
                    assert_eq!(popped?, model.remove(at));
                }
            }
            Op::Remove(at) => {
                let at = index(at, model.len());
                let removed = list.remove(at);
                if at >= model.len() {
                    assert_eq!(removed, Err(out(at, model.len())));
                } else {
                    removed?;
                    model.remove(at);
                }
            }
            Op::Insert(at, len) => {
                let at = index(at, model.len());
                let inserted = list.insert(at, &new(&len));
                if at > model.len() && len <= LONGEST {
                    assert_eq!(inserted, Err(out(at, model.len())));
                } else {
                    inserted?;
                    model.insert(at, new(&len));
                }
            }
            Op::Set(at, len) => {
                let at = index(at, model.len());
                let set = list.set(at, &new(&len));
                if at >= model.len() && len <= LONGEST {
                    assert_eq!(set, Err(out(at, model.len())));
                } else {
                    set?;
                    model[at] = new(&len);
                }
            }
            Op::Modify(at, more) => {
                let at = index(at, model.len());
                let change = |mut value: Value| {
                    value.extend(new(&more));
                    value
                };
                let modified = list.modify(at, change);
                if at >= model.len() {
                    assert_eq!(modified, Err(out(at, model.len())));
                } else {
                    let modified = modified?;
                    assert_eq!(modified, change(model[at].clone()));
                    model[at] = modified;
                }
            }
            Op::Swap(first, second) => {
                let both = [first, second].map(|at| index(at, model.len()));
                let swapped = list.swap(both[0], both[1]);
                match both.iter().find(|at| **at >= model.len()) {
                    Some(at) => assert_eq!(swapped, Err(out(*at, model.len()))),
                    None => {
                        swapped?;
                        model.swap(both[0], both[1]);
                    }
                }
            }
            Op::Reverse => {
                list.reverse()?;
                model.reverse();
            }
            Op::Sort => {
                list.sort()?;
                model.sort();
            }
            Op::SortByKey => {
                list.sort_by_key(Vec::len)?;
                model.sort_by_key(Vec::len);
            }
            Op::Retain(modulus) => {
                let keeps = |value: &Value| !value.len().is_multiple_of(usize::from(modulus));
                list.retain(keeps)?;
                model.retain(keeps);
            }
            Op::Splice(from, to, lens) => {
                let range = range(from, to, model.len());
                let spliced = list.splice(range.clone(), lens.iter().map(new));
                if is_within(&range, model.len()) {
                    spliced?;
                    model.splice(range, lens.iter().map(new));
                } else if lens.iter().all(|len| *len <= LONGEST) {
                    assert!(matches!(spliced, Err(DictError::IndexOutOfRange { .. })));
                }
            }
            Op::Slice(from, to) => {
                let range = range(from, to, model.len());
                let slice = self.reader.slice(range.clone());
                match model.get(range) {
                    Some(expected) => assert_eq!(slice?, expected),
                    None => assert!(matches!(slice, Err(DictError::IndexOutOfRange { .. }))),
                }
            }
            Op::Position(at) => {
                let sought = match model.get(index(at, model.len())) {
                    Some(value) => value.clone(),
                    None => vec![0xA5; 9],
                };
                let expected = model.iter().position(|value| *value == sought);
                assert_eq!(self.reader.position(&sought)?, expected);
                assert_eq!(list.contains(&sought)?, expected.is_some());
            }
            Op::Clear => {
                list.clear()?;
                model.clear();
            }
            Op::Drain => assert_eq!(list.drain()?, std::mem::take(model)),
            Op::Reopen => {
                self.handles[n % 2] = Values::open(again(&self.handles[1 - n % 2])).unwrap()
            }
        }
        Ok(())
    }

    fn compare(&self, n: usize) {
        let stats = self.handles[n % 2].check().unwrap();
        let bytes: usize = self.model.iter().map(Vec::len).sum();
        assert_eq!(stats.payload, bytes as u64);
        let other = &self.handles[1 - n % 2];
        assert_eq!(other.snapshot().as_ref(), Ok(&self.model));
        for list in [other, &self.reader] {
            assert_eq!(list.len(), Ok(self.model.len()));
            let each: Vec<Value> = list.iter().map(Result::unwrap).collect();
            assert_eq!(each, self.model);
        }
        assert_eq!(self.reader.snapshot().as_ref(), Ok(&self.model));
        assert_eq!(self.reader.push(&Value::new()), Err(DictError::ReadOnly));
    }

    /// All memory comes back.
    fn clear(self) {
        let [list, other] = self.handles;
        other.clear().unwrap();
        drop((other, self.reader));
        let mut list = list;
        list.trim().unwrap();
        let stats = list.stats().unwrap();
        assert_eq!(
            (stats.payload, stats.used_bytes, stats.free_blocks),
            (0, 0, 0)
        );
        assert_eq!(stats.free_bytes, list.inspect().max_bytes);
    }
}

fn again(list: &Values) -> Place {
    let fd = list.segment().as_fd().unwrap();
    Place::fd(fd.try_clone_to_owned().unwrap())
}

// ---- a tree -------------------------------------------------------------------------------------

/// What is in a container of the model.
#[derive(Debug, Clone)]
enum Node {
    Value(Value),
    /// A number that no other container ever has.
    Map(usize, BTreeMap<u8, Node>),
    List(usize, Vec<Node>),
}

impl Node {
    fn number(&self) -> Option<usize> {
        match self {
            Self::Value(_) => None,
            Self::Map(number, _) | Self::List(number, _) => Some(*number),
        }
    }

    /// The container with this number, in here or here.
    fn find(&mut self, number: usize) -> Option<&mut Self> {
        if self.number() == Some(number) {
            return Some(self);
        }
        match self {
            Self::Value(_) => None,
            Self::Map(_, entries) => entries.values_mut().find_map(|node| node.find(number)),
            Self::List(_, elements) => elements.iter_mut().find_map(|node| node.find(number)),
        }
    }
}

#[derive(Debug, Clone)]
enum Handle {
    Map(Texts),
    List(Values),
}

impl Handle {
    fn len(&self) -> Result<usize, DictError> {
        match self {
            Self::Map(dict) => dict.len(),
            Self::List(list) => list.len(),
        }
    }

    /// That it leads to nothing any more, whatever is done with it.
    fn is_stale(&self) {
        let value = value(0, 3);
        let stale = match self {
            Self::Map(dict) => [
                dict.get(&0).map(drop),
                dict.set(&0, &value),
                dict.remove(&0).map(drop),
                dict.snapshot().map(drop),
                dict.child_dict::<u8, u8, u8, shm_dict::Raw>(&0).map(drop),
                dict.clear(),
            ],
            Self::List(list) => [
                list.get(0).map(drop),
                list.set(0, &value),
                list.pop().map(drop),
                list.snapshot().map(drop),
                list.push_dict::<u8, u8, shm_dict::Raw>().map(drop),
                list.clear(),
            ],
        };
        assert!(
            stale.iter().all(|it| *it == Err(DictError::Stale)),
            "{stale:?}"
        );
        assert_eq!(self.len(), Err(DictError::Stale));
    }
}

/// What to do with a container: some of it fits only one kind.
#[derive(Debug, Clone)]
enum Grow {
    Set(u8, usize),
    Remove(u8),
    MakeDict(u8),
    MakeList(u8),
    Insert(u8, usize),
    Reverse,
    Clear,
}

fn grow() -> impl Strategy<Value = (u8, Grow)> {
    let key = || 0..6_u8;
    let grow = prop_oneof![
        3 => (key(), len()).prop_map(|(key, len)| Grow::Set(key, len)),
        3 => key().prop_map(Grow::Remove),
        4 => key().prop_map(Grow::MakeDict),
        4 => key().prop_map(Grow::MakeList),
        1 => (key(), len()).prop_map(|(key, len)| Grow::Insert(key, len)),
        1 => Just(Grow::Reverse),
        1 => Just(Grow::Clear),
    ];
    (any::<u8>(), grow)
}

struct Tree {
    root: Texts,
    model: Node,
    handles: Vec<(usize, Handle)>,
    made: usize,
}

impl Tree {
    fn new(options: Options) -> Self {
        let root = Texts::create(Place::anonymous(), options).unwrap();
        Self {
            handles: vec![(0, Handle::Map(root.clone()))],
            root,
            model: Node::Map(0, BTreeMap::new()),
            made: 1,
        }
    }

    /// Of a random one of the containers that were ever made; says whether it is there still.
    fn step(&mut self, n: usize, (at, grow): (u8, Grow)) -> Result<(), DictError> {
        let (number, handle) = self.handles[usize::from(at) % self.handles.len()].clone();
        let Some(node) = self.model.find(number) else {
            handle.is_stale();
            return Ok(());
        };
        let new = |len: usize| value(n as u8, len);
        let made = match (handle, node) {
            (Handle::Map(dict), Node::Map(_, entries)) => match grow {
                Grow::Set(key, len) | Grow::Insert(key, len) => {
                    dict.set(&key, &new(len))?;
                    entries.insert(key, Node::Value(new(len)));
                    None
                }
                Grow::Remove(key) => {
                    assert_eq!(dict.remove(&key)?, entries.remove(&key).is_some());
                    None
                }
                Grow::Clear | Grow::Reverse => {
                    dict.clear()?;
                    entries.clear();
                    None
                }
                Grow::MakeDict(key) => {
                    let child = dict.child_dict(&key);
                    match entries.get(&key) {
                        Some(Node::Map(number, _)) => Some((*number, Handle::Map(child?))),
                        Some(_) => return is_wrong_kind(child),
                        None => {
                            let child = child?;
                            entries.insert(key, Node::Map(self.made, BTreeMap::new()));
                            Some((self.made, Handle::Map(child)))
                        }
                    }
                }
                Grow::MakeList(key) => {
                    let child = dict.child_list(&key);
                    match entries.get(&key) {
                        Some(Node::List(number, _)) => Some((*number, Handle::List(child?))),
                        Some(_) => return is_wrong_kind(child),
                        None => {
                            let child = child?;
                            entries.insert(key, Node::List(self.made, Vec::new()));
                            Some((self.made, Handle::List(child)))
                        }
                    }
                }
            },
            (Handle::List(list), Node::List(_, elements)) => match grow {
                Grow::Set(at, len) if usize::from(at) < elements.len() => {
                    list.set(at.into(), &new(len))?;
                    elements[usize::from(at)] = Node::Value(new(len));
                    None
                }
                Grow::Set(_, len) => {
                    list.push(&new(len))?;
                    elements.push(Node::Value(new(len)));
                    None
                }
                Grow::Insert(at, len) => {
                    let at = usize::from(at).min(elements.len());
                    list.insert(at, &new(len))?;
                    elements.insert(at, Node::Value(new(len)));
                    None
                }
                Grow::Remove(at) if usize::from(at) < elements.len() => {
                    list.remove(at.into())?;
                    elements.remove(at.into());
                    None
                }
                Grow::Remove(_) => None,
                Grow::Reverse => {
                    list.reverse()?;
                    elements.reverse();
                    None
                }
                Grow::Clear => {
                    list.clear()?;
                    elements.clear();
                    None
                }
                Grow::MakeDict(at) => match elements.get(usize::from(at)) {
                    Some(Node::Map(number, _)) => {
                        Some((*number, Handle::Map(list.child_dict(at.into())?)))
                    }
                    Some(_) => {
                        return is_wrong_kind(list.child_dict::<u8, Value, Bytes>(at.into()));
                    }
                    None => {
                        let child = list.push_dict()?;
                        elements.push(Node::Map(self.made, BTreeMap::new()));
                        Some((self.made, Handle::Map(child)))
                    }
                },
                Grow::MakeList(at) => match elements.get(usize::from(at)) {
                    Some(Node::List(number, _)) => {
                        Some((*number, Handle::List(list.child_list(at.into())?)))
                    }
                    Some(_) => return is_wrong_kind(list.child_list::<Value, Bytes>(at.into())),
                    None => {
                        let child = list.push_list()?;
                        elements.push(Node::List(self.made, Vec::new()));
                        Some((self.made, Handle::List(child)))
                    }
                },
            },
            (handle, node) => panic!("{handle:?} of {node:?}"),
        };
        if let Some((number, handle)) = made {
            self.made = self.made.max(number + 1);
            self.handles.push((number, handle));
        }
        Ok(())
    }

    fn compare(&mut self) {
        let stats = self.root.check().unwrap();
        let Node::Map(_, entries) = &self.model else {
            panic!("the root is a mapping")
        };
        assert_eq!(stats.entries, entries.len() as u64);
        let root = Texts::open_read_only(Place::fd(
            self.root
                .segment()
                .as_fd()
                .unwrap()
                .try_clone_to_owned()
                .unwrap(),
        ));
        compare_map(&root.unwrap(), entries);
        for (number, handle) in &self.handles {
            let expected = match self.model.find(*number) {
                Some(Node::Map(_, entries)) => Ok(entries.len()),
                Some(Node::List(_, elements)) => Ok(elements.len()),
                _ => Err(DictError::Stale),
            };
            assert_eq!(handle.len(), expected);
        }
    }

    fn clear(mut self) {
        self.root.clear().unwrap();
        self.handles
            .drain(1..)
            .for_each(|(_, handle)| handle.is_stale());
        let stats = self.root.stats().unwrap();
        assert_eq!(
            (stats.payload, stats.used_bytes, stats.free_blocks),
            (0, 0, 0)
        );
    }
}

fn is_wrong_kind<H>(handle: Result<H, DictError>) -> Result<(), DictError> {
    match handle {
        Err(DictError::WrongKind { .. }) => Ok(()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("another kind of container is there"),
    }
}

fn compare_map(dict: &Texts, entries: &BTreeMap<u8, Node>) {
    assert_eq!(dict.len(), Ok(entries.len()));
    for key in 0..6 {
        match entries.get(&key) {
            None => assert_eq!(dict.get(&key), Ok(None)),
            Some(Node::Value(value)) => assert_eq!(dict.get(&key).unwrap().as_ref(), Some(value)),
            Some(Node::Map(_, entries)) => {
                compare_map(&dict.find_child_dict(&key).unwrap().unwrap(), entries);
            }
            Some(Node::List(_, elements)) => {
                compare_list(&dict.find_child_list(&key).unwrap().unwrap(), elements);
            }
        }
    }
}

fn compare_list(list: &Values, elements: &[Node]) {
    assert_eq!(list.len(), Ok(elements.len()));
    for (index, node) in elements.iter().enumerate() {
        match node {
            Node::Value(value) => assert_eq!(list.get(index).unwrap().as_ref(), Some(value)),
            Node::Map(_, entries) => compare_map(&list.child_dict(index).unwrap(), entries),
            Node::List(_, elements) => compare_list(&list.child_list(index).unwrap(), elements),
        }
    }
}

// ---- transactions -------------------------------------------------------------------------------

/// What a transaction does with its keys, one after the other; and whether it is given up in the end.
type Together = (Vec<(u8, Change)>, bool);

#[derive(Debug, Clone)]
enum Change {
    Get,
    Set(usize),
    Append(usize),
    Remove,
}

fn together() -> impl Strategy<Value = Together> {
    let change = prop_oneof![
        1 => Just(Change::Get),
        5 => len().prop_map(Change::Set),
        2 => (0..300_usize).prop_map(Change::Append),
        3 => Just(Change::Remove),
    ];
    (vec((0..40_u8, change), 0..24), prop::bool::weighted(0.1))
}

#[derive(Debug, PartialEq)]
enum Ended {
    GivenUp,
    Refused(DictError),
}

impl From<DictError> for Ended {
    fn from(error: DictError) -> Self {
        Self::Refused(error)
    }
}

fn run_together(
    dict: &Texts,
    model: &mut HashMap<u8, Value>,
    n: usize,
    (changes, is_given_up): Together,
) {
    let keys: Vec<&u8> = changes.iter().map(|(key, _)| key).collect();
    let mut after = model.clone();
    let ended = dict.transaction(&keys, |t| {
        for (key, change) in &changes {
            assert_eq!(t.get(key)?.as_ref(), after.get(key));
            assert_eq!(t.contains_key(key)?, after.contains_key(key));
            match change {
                Change::Get => {}
                Change::Set(len) => {
                    t.set(key, &value(n as u8, *len))?;
                    after.insert(*key, value(n as u8, *len));
                }
                Change::Append(more) => {
                    let change = |before: Option<Value>| {
                        let mut value = before.unwrap_or_default();
                        value.resize(value.len() + more, n as u8);
                        (*more > 0).then_some(value)
                    };
                    match t.modify(key, change)? {
                        Some(value) => after.insert(*key, value),
                        None => after.remove(key),
                    };
                }
                Change::Remove => assert_eq!(t.remove(key)?, after.remove(key).is_some()),
            }
        }
        match is_given_up {
            true => Err(Ended::GivenUp),
            false => Ok(()),
        }
    });
    match ended {
        Ok(()) => *model = after,
        Err(Ended::GivenUp) => assert!(is_given_up),
        Err(Ended::Refused(DictError::Full { .. } | DictError::ValueTooLong { .. })) => {}
        Err(Ended::Refused(error)) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn matches_vec(options in options(), ops in vec(op(), 0..80)) {
        let _watchdog = watchdog();
        let mut pair = Pair::new(options);
        pair.run(ops);
        pair.clear();
    }

    /// Handles to what was taken out, at any depth, lead to nothing; all others lead to what they led to.
    #[test]
    fn matches_a_tree(options in options(), steps in vec(grow(), 0..60)) {
        let _watchdog = watchdog();
        let mut tree = Tree::new(options);
        for (n, step) in steps.into_iter().enumerate() {
            match tree.step(n, step) {
                Ok(()) | Err(DictError::Full { .. } | DictError::ValueTooLong { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            tree.compare();
        }
        tree.clear();
    }

    #[test]
    fn transactions_match_hash_map(options in options(), all in vec(together(), 0..30)) {
        let _watchdog = watchdog();
        let dict = Texts::create(Place::anonymous(), options).unwrap();
        let inner = dict.child_dict(&255).unwrap();
        let mut models = [HashMap::new(), HashMap::new()];
        for (n, together) in all.into_iter().enumerate() {
            // In the shards of the keys, or in the one shard of a container.
            let changed = if n % 2 == 0 { &dict } else { &inner };
            run_together(changed, &mut models[n % 2], n, together);
            let stats = dict.check().unwrap();
            prop_assert_eq!(stats.entries, models[0].len() as u64 + 1);
            for key in 0..40 {
                let is = changed.get(&key).unwrap();
                prop_assert_eq!(is.as_ref(), models[n % 2].get(&key));
            }
        }
        let all: HashMap<_, _> = inner.snapshot().unwrap().into_iter().collect();
        prop_assert_eq!(&all, &models[1]);
        dict.remove(&255).unwrap();
        let all: HashMap<_, _> = dict.snapshot().unwrap().into_iter().collect();
        prop_assert_eq!(&all, &models[0]);
    }

    /// The file system refuses memory once, at any of the allocations: nothing is changed, and all goes on.
    #[test]
    fn a_refusal_of_the_file_system_changes_nothing(
        steps in vec((0..4_u8, any::<u8>(), vec(len().prop_map(|len| len.min(6000)), 0..4)), 0..60),
        refused in 0..12_usize,
    ) {
        let dict = raw(Kind::List, LONGEST);
        let memory = Refusing::after(refused);
        let mut model = Vec::new();
        for (n, (what, at, lens)) in steps.into_iter().enumerate() {
            let values: Vec<Value> = lens.iter().map(|len| value(n as u8, *len)).collect();
            match change(&dict, &memory, &mut model, (what, at), &values) {
                Ok(()) | Err(Refused::Full { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            let writer = writer(&dict, &memory);
            writer.check().unwrap();
            let list = writer.list(writer.home());
            prop_assert_eq!(list.len(), Ok(model.len()));
            for (index, value) in model.iter().enumerate() {
                let element = list.get(index).unwrap().unwrap();
                prop_assert!(is(element, value), "what was stored is there");
            }
        }
    }
}

/// Puts values behind the last or anywhere, replaces one, or puts all in the opposite order.
fn change(
    dict: &RawDict,
    memory: &Refusing,
    model: &mut Vec<Value>,
    (what, at): (u8, u8),
    values: &[Value],
) -> Result<(), Refused> {
    let writer = writer(dict, memory);
    let list = writer.list(writer.home());
    let at = usize::from(at) % (model.len() + 1);
    if what == 0 {
        let Some(value) = values.first() else {
            return Ok(());
        };
        if list.set(at, value)? {
            model[at] = value.clone();
        }
        return Ok(());
    }
    if what == 1 {
        let mut items = list.items()?;
        items.reverse();
        list.replace(&items)?;
        model.reverse();
        return Ok(());
    }
    let items: Result<Vec<_>, _> = values.iter().map(|value| list.new_item(value)).collect();
    let range = if what == 2 {
        model.len()..model.len()
    } else {
        at..model.len().min(at + 1)
    };
    let result = items.and_then(|items| match what {
        2 => list.push(&items),
        _ => list
            .splice(range.clone(), &items)
            .map(|there| assert!(there)),
    });
    if result.is_err() {
        list.abandon()?;
    } else {
        model.splice(range, values.iter().cloned());
    }
    result
}

fn is(element: Element<'_>, value: &[u8]) -> bool {
    let is = element.with_value(|short| short == value, |long| long.is(value));
    is == Some(true)
}
