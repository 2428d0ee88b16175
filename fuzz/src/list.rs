//! Operations on lists and dictionaries inside of each other through two handles, against a tree in ordinary memory.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use shm_core::{Place, Region};
use shm_dict::{Bytes, Dict, DictError, List, Options};

use crate::input::{Few, Rest, by_a_byte};

/// What is done, where in the tree, and through which handle.
#[derive(Debug, Arbitrary)]
pub struct ListScript {
    shards: u8,
    steps: Rest<Step>,
}

#[derive(Debug, Arbitrary)]
struct Step {
    second: bool,
    /// From the outermost dictionary on.
    way: [u8; 2],
    operation: Operation,
}

by_a_byte! {
    #[derive(Debug, Clone)]
    enum Operation {
        Set(u8, u16),
        Remove(u8),
        MakeDict(u8),
        MakeList(u8),
        Modify(u8, u16),
        Clear,
        Drain,
        /// Of a dictionary, in one step.
        Together(Few<(u8, Option<u16>), 6>),
        /// All that follows but for the last three are a list's.
        Push(u16),
        Splice(u8, u8, u8, u16),
        Swap(u8, u8),
        Reverse,
        Sort,
        Retain(u8),
        Pop,
        PopFront,
        PopAt(u8),
        /// A handle to this container, to be looked at whenever all is.
        Keep,
        Reopen,
        Check,
    }
}

type Map = Dict<u8, Vec<u8>, Bytes>;
type Row = List<Vec<u8>, Bytes>;

#[derive(Debug, Clone)]
enum Handle {
    Map(Map),
    Row(Row),
}

/// What is somewhere; containers have numbers, which no other ever has.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Value(Vec<u8>),
    Map(u64, BTreeMap<u8, Node>),
    Row(u64, Vec<Node>),
}

/// Bytes of the heap, in chunks of 4096, and of the region around it.
const HEAP: u64 = 32 << 10;
const REGION: usize = 48 << 10;

/// The tree, and handles to some of its containers.
struct World {
    root: Node,
    numbers: u64,
    kept: Vec<(u64, Handle)>,
}

/// Runs a script.
///
/// # Panics
/// If an operation gives anything but what the tree says.
pub fn list_ops(script: &ListScript) {
    let region = Region::heap(REGION);
    let place = || Place::region(region.clone());
    let options = Options::new()
        .max_bytes(HEAP)
        .shards(1 << (script.shards % 2));
    let first = Map::create(place(), options).expect("room for a dictionary");
    let mut handles = [first, Map::open(place()).expect("it is there")];
    let mut world = World {
        root: Node::Map(0, BTreeMap::new()),
        numbers: 1,
        kept: Vec::new(),
    };
    let mut refusals = 0;
    for (n, step) in script.steps.0.iter().take(60).enumerate() {
        let which = usize::from(step.second);
        if matches!(step.operation, Operation::Reopen) {
            handles[which] = Map::open(place()).expect("it is there");
            continue;
        }
        match world.step(&handles[which], n as u8, step) {
            Ok(()) => {}
            Err(DictError::Full { .. }) => {
                assert!(!matches!(
                    step.operation,
                    Operation::Clear
                        | Operation::Drain
                        | Operation::Pop
                        | Operation::PopFront
                        | Operation::Keep
                        | Operation::Check
                ));
                // All of it takes long. What one changed is still there at the end.
                if refusals % 8 == 0 {
                    world.compare(&handles[1 - which]);
                }
                refusals += 1;
            }
            Err(DictError::TooDeep { .. }) => unreachable!("ways are short"),
            Err(error) => panic!("{error}"),
        }
    }
    let [map, other] = &handles;
    world.compare(other);
    map.clear().expect("nobody dies");
    world.root = Node::Map(0, BTreeMap::new());
    world.compare(other);
    let stats = other.check().expect("a dictionary in order");
    assert_eq!(
        (stats.entries, stats.used_bytes, stats.free_bytes),
        (0, 0, HEAP)
    );
}

impl World {
    fn step(&mut self, root: &Map, n: u8, step: &Step) -> Result<(), DictError> {
        let handle = Handle::Map(root.clone());
        let (handle, node) = walk(handle, &mut self.root, &step.way);
        match (&step.operation, &handle, node) {
            (Operation::Keep, _, Node::Map(number, _) | Node::Row(number, _)) => {
                self.kept.push((*number, handle));
                self.kept.truncate(8);
            }
            (Operation::Check, ..) => self.compare(root),
            (operation, Handle::Map(map), Node::Map(_, entries)) => {
                on_map(map, entries, &mut self.numbers, n, operation)?;
            }
            (operation, Handle::Row(row), Node::Row(_, elements)) => {
                on_row(row, elements, &mut self.numbers, n, operation)?;
            }
            (_, handle, node) => panic!("{handle:?} for {node:?}"),
        }
        Ok(())
    }

    /// All is as the tree says, and what was taken out is stale.
    fn compare(&self, root: &Map) {
        root.check().expect("a dictionary in order");
        same(&Handle::Map(root.clone()), &self.root);
        for (number, handle) in &self.kept {
            match (find(&self.root, *number), handle) {
                (Some(node), handle) => same(handle, node),
                (None, Handle::Map(map)) => assert_eq!(map.get(&0), Err(DictError::Stale)),
                (None, Handle::Row(row)) => assert_eq!(row.len(), Err(DictError::Stale)),
            }
        }
    }
}

/// Goes on to one of the containers that are in this one, for each part of the way.
fn walk<'n>(handle: Handle, node: &'n mut Node, way: &[u8]) -> (Handle, &'n mut Node) {
    let Some((&which, rest)) = way.split_first() else {
        return (handle, node);
    };
    let inside: Vec<usize> = match node {
        Node::Value(_) => unreachable!("a way leads to containers"),
        Node::Map(_, entries) => {
            let inside = entries.iter().filter(|(_, node)| !node.is_value());
            inside.map(|(key, _)| usize::from(*key)).collect()
        }
        Node::Row(_, elements) => {
            let inside = elements.iter().enumerate();
            inside
                .filter(|(_, node)| !node.is_value())
                .map(|(at, _)| at)
                .collect()
        }
    };
    if inside.is_empty() || which.is_multiple_of(4) {
        return (handle, node);
    }
    let at = inside[usize::from(which) % inside.len()];
    let next = match node {
        Node::Map(_, entries) => entries.get_mut(&(at as u8)),
        Node::Row(_, elements) => elements.get_mut(at),
        Node::Value(_) => None,
    };
    let next = next.expect("it was just seen");
    let handle = child(&handle, at, next);
    walk(handle, next, rest)
}

/// A handle to the container that is there.
fn child(handle: &Handle, at: usize, node: &Node) -> Handle {
    let is_map = matches!(node, Node::Map(..));
    match (handle, is_map) {
        (Handle::Map(map), true) => {
            let found = map.find_child_dict(&(at as u8)).expect("a dictionary");
            Handle::Map(found.expect("it is there"))
        }
        (Handle::Map(map), false) => Handle::Row(map.child_list(&(at as u8)).expect("a list")),
        (Handle::Row(row), true) => Handle::Map(row.child_dict(at).expect("a dictionary")),
        (Handle::Row(row), false) => Handle::Row(row.child_list(at).expect("a list")),
    }
}

fn find(node: &Node, number: u64) -> Option<&Node> {
    match node {
        Node::Value(_) => None,
        Node::Map(own, _) | Node::Row(own, _) if *own == number => Some(node),
        Node::Map(_, entries) => entries.values().find_map(|node| find(node, number)),
        Node::Row(_, elements) => elements.iter().find_map(|node| find(node, number)),
    }
}

fn same(handle: &Handle, node: &Node) {
    match (handle, node) {
        (Handle::Map(map), Node::Map(_, entries)) => {
            assert_eq!(map.len(), Ok(entries.len()));
            for (key, node) in entries {
                match node {
                    Node::Value(value) => {
                        assert_eq!(map.get(key).as_ref(), Ok(&Some(value.clone())))
                    }
                    node => same(&child(handle, usize::from(*key), node), node),
                }
            }
        }
        (Handle::Row(row), Node::Row(_, elements)) => {
            assert_eq!(row.len(), Ok(elements.len()));
            assert_eq!(row.get(elements.len()), Ok(None));
            let values: Option<Vec<Vec<u8>>> = elements.iter().map(Node::value).collect();
            assert_eq!(row.snapshot().ok(), values);
            for (at, node) in elements.iter().enumerate() {
                match node {
                    Node::Value(value) => {
                        assert_eq!(row.get(at).as_ref(), Ok(&Some(value.clone())))
                    }
                    node => same(&child(handle, at, node), node),
                }
            }
        }
        (handle, node) => panic!("{handle:?} for {node:?}"),
    }
}

impl Node {
    fn is_value(&self) -> bool {
        matches!(self, Self::Value(_))
    }

    fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Value(value) => Some(value.clone()),
            _ => None,
        }
    }
}

/// A value of its own for each step; most are short.
fn new(n: u8, len: u16) -> Vec<u8> {
    let len = match len % 4 {
        0 => usize::from(len) % 1500,
        _ => usize::from(len) % 24,
    };
    vec![n; len]
}

fn next(numbers: &mut u64) -> u64 {
    *numbers += 1;
    *numbers
}

/// A container that was asked for where something is: there is that kind, or nothing.
fn made<T>(made: Result<T, DictError>, is_it: Option<bool>) -> Result<(), DictError> {
    match (made, is_it) {
        (Ok(_), Some(true) | None) => Ok(()),
        (Err(DictError::WrongKind { .. }), Some(false)) => Ok(()),
        (Err(error @ DictError::Full { .. }), None) => Err(error),
        (made, is_it) => panic!("{:?} where {is_it:?}", made.err()),
    }
}

fn on_map(
    map: &Map,
    entries: &mut BTreeMap<u8, Node>,
    numbers: &mut u64,
    n: u8,
    operation: &Operation,
) -> Result<(), DictError> {
    match operation.clone() {
        Operation::Set(key, len) => {
            map.set(&key, &new(n, len))?;
            entries.insert(key, Node::Value(new(n, len)));
        }
        Operation::Remove(key) => {
            assert_eq!(map.remove(&key)?, entries.remove(&key).is_some());
        }
        Operation::MakeDict(key) => {
            let is_it = entries.get(&key).map(|node| matches!(node, Node::Map(..)));
            made(map.child_dict::<_, u8, Vec<u8>, Bytes>(&key), is_it)?;
            let node = || Node::Map(next(numbers), BTreeMap::new());
            entries.entry(key).or_insert_with(node);
        }
        Operation::MakeList(key) => {
            let is_it = entries.get(&key).map(|node| matches!(node, Node::Row(..)));
            made(map.child_list::<_, Vec<u8>, Bytes>(&key), is_it)?;
            let node = || Node::Row(next(numbers), Vec::new());
            entries.entry(key).or_insert_with(node);
        }
        Operation::Modify(key, len) => {
            let is_container = entries.get(&key).is_some_and(|node| !node.is_value());
            let change = |value: Option<Vec<u8>>| {
                let longer = [value.unwrap_or_default(), new(n, len)].concat();
                (longer.len() < 4000 && len > 0).then_some(longer)
            };
            match map.modify(&key, change) {
                Err(DictError::WrongKind { .. }) => assert!(is_container),
                stored => {
                    let stored = stored?;
                    assert_eq!(
                        stored,
                        change(entries.remove(&key).as_ref().and_then(Node::value))
                    );
                    entries.extend(stored.map(|value| (key, Node::Value(value))));
                }
            }
        }
        Operation::Clear => {
            map.clear()?;
            entries.clear();
        }
        Operation::Drain => {
            let values = entries
                .iter()
                .map(|(key, node)| Some((*key, node.value()?)));
            let values: Option<BTreeMap<u8, Vec<u8>>> = values.collect();
            match map.drain() {
                Err(DictError::WrongKind { .. }) => assert_eq!(values, None),
                drained => {
                    assert_eq!(Some(drained?.into_iter().collect()), values);
                    entries.clear();
                }
            }
        }
        Operation::Together(Few(changes)) => {
            let keys: Vec<&u8> = changes.iter().map(|(key, _)| key).collect();
            map.transaction(&keys, |keys| {
                changes.iter().try_for_each(|(key, len)| match len {
                    Some(len) => keys.set(key, &new(n, *len)),
                    None => keys.remove(key).map(drop),
                })
            })?;
            for (key, len) in &changes {
                match len {
                    Some(len) => entries.insert(*key, Node::Value(new(n, *len))),
                    None => entries.remove(key),
                };
            }
        }
        _ => {}
    }
    Ok(())
}

/// What a call with an index gives: an error if there is no such element.
fn indexed<T>(result: Result<T, DictError>, is_there: bool) -> Result<Option<T>, DictError> {
    match result {
        Err(DictError::IndexOutOfRange { .. }) => {
            assert!(!is_there);
            Ok(None)
        }
        result => {
            assert!(is_there || result.is_err());
            result.map(Some)
        }
    }
}

/// Likewise one that wants a value there; a container stays.
fn valued<T>(
    result: Result<T, DictError>,
    elements: &[Node],
    index: usize,
) -> Result<Option<T>, DictError> {
    let is_container = elements.get(index).is_some_and(|node| !node.is_value());
    match result {
        Err(DictError::WrongKind { .. }) if is_container => Ok(None),
        result => {
            assert!(!is_container || result.is_err());
            indexed(result, index < elements.len())
        }
    }
}

fn on_row(
    row: &Row,
    elements: &mut Vec<Node>,
    numbers: &mut u64,
    n: u8,
    operation: &Operation,
) -> Result<(), DictError> {
    let len = elements.len();
    // One too far at most.
    let within = |index: u8| usize::from(index) % (len + 1);
    let values = |elements: &[Node]| elements.iter().map(Node::value).collect::<Option<Vec<_>>>();
    match operation.clone() {
        Operation::Set(index, bytes) => {
            let index = within(index);
            if indexed(row.set(index, &new(n, bytes)), index < len)?.is_some() {
                elements[index] = Node::Value(new(n, bytes));
            }
        }
        Operation::Remove(index) => {
            let index = within(index);
            if indexed(row.remove(index), index < len)?.is_some() {
                elements.remove(index);
            }
        }
        Operation::MakeDict(_) => {
            row.push_dict::<u8, Vec<u8>, Bytes>()?;
            elements.push(Node::Map(next(numbers), BTreeMap::new()));
        }
        Operation::MakeList(_) => {
            row.push_list::<Vec<u8>, Bytes>()?;
            elements.push(Node::Row(next(numbers), Vec::new()));
        }
        Operation::Modify(index, bytes) => {
            let index = within(index);
            let change = |value: Vec<u8>| match value.len() < 4000 {
                true => [value, new(n, bytes)].concat(),
                false => new(n, bytes),
            };
            if let Some(stored) = valued(row.modify(index, change), elements, index)? {
                let value = elements[index].value().expect("a value");
                assert_eq!(stored, change(value));
                elements[index] = Node::Value(stored);
            }
        }
        Operation::Clear => {
            row.clear()?;
            elements.clear();
        }
        Operation::Drain => match row.drain() {
            Err(DictError::WrongKind { .. }) => assert_eq!(values(elements), None),
            drained => {
                assert_eq!(Some(drained?), values(elements));
                elements.clear();
            }
        },
        Operation::Push(bytes) => {
            row.push(&new(n, bytes))?;
            elements.push(Node::Value(new(n, bytes)));
        }
        Operation::Splice(start, out, count, bytes) => {
            let start = within(start);
            let end = (start + usize::from(out) % 8).min(len);
            let with = vec![new(n, bytes); usize::from(count) % 40];
            row.splice(start..end, &with)?;
            elements.splice(start..end, with.into_iter().map(Node::Value));
        }
        Operation::Swap(first, second) => {
            let (first, second) = (within(first), within(second));
            if indexed(row.swap(first, second), first.max(second) < len)?.is_some() {
                elements.swap(first, second);
            }
        }
        Operation::Reverse => {
            row.reverse()?;
            elements.reverse();
        }
        Operation::Sort => match row.sort() {
            Err(DictError::WrongKind { .. }) => assert_eq!(values(elements), None),
            sorted => {
                sorted?;
                elements.sort_by_key(Node::value);
            }
        },
        Operation::Retain(modulus) => {
            let keeps = |value: &Vec<u8>| !value.len().is_multiple_of(usize::from(modulus) + 1);
            match row.retain(keeps) {
                Err(DictError::WrongKind { .. }) => assert_eq!(values(elements), None),
                retained => {
                    retained?;
                    elements.retain(|node| node.value().is_some_and(|value| keeps(&value)));
                }
            }
        }
        Operation::Pop => pop(row.pop(), elements, |len| len - 1)?,
        Operation::PopFront => pop(row.pop_front(), elements, |_| 0)?,
        Operation::PopAt(index) => {
            let index = within(index);
            if let Some(value) = valued(row.pop_at(index), elements, index)? {
                assert_eq!(Node::Value(value), elements.remove(index));
            }
        }
        _ => {}
    }
    Ok(())
}

fn pop(
    popped: Result<Option<Vec<u8>>, DictError>,
    elements: &mut Vec<Node>,
    index: impl FnOnce(usize) -> usize,
) -> Result<(), DictError> {
    if elements.is_empty() {
        assert_eq!(popped, Ok(None));
        return Ok(());
    }
    let index = index(elements.len());
    match popped {
        Err(DictError::WrongKind { .. }) => assert!(!elements[index].is_value()),
        popped => {
            let expected = elements.remove(index).value();
            #[cfg(feature = "planted")]
            let expected = crate::planted::in_end(expected);
            assert_eq!(popped?, expected);
        }
    }
    Ok(())
}
