//! Containers inside of others, and transactions: all of it is as before the operation or as after it, and all memory
//! is there.
//!
//! A check names everything, `{1=10 2={1=20} 3=[20 {}]}`; a value is named by its number, as in a list (`dict_list.rs`).

use std::collections::BTreeMap;
use std::fmt;

use shm_core::sync::{AtomicU64, Ordering};
use shm_core::{Place, Region};
use shm_dict::raw::{Control, Shard};
use shm_dict::{Bytes, Dict, DictError, Transaction};
use shm_lock::Patience;
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Mode, Outcomes, mark_end, mark_start};

use crate::dict::{
    HEAP, SHORT, acted, count_recoveries, fix_seed, label, old_or_new, seen_or_not, small_dict,
};
use crate::dict_list::{Texts, number_of, value};
use crate::segment::{die, place};

type Tree = Dict<u64, Vec<u8>, Bytes>;

/// The keys that a check looks for.
const KEYS: std::ops::Range<u64> = 1..10;

/// What is where in a tree.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Value(u8),
    Dict(BTreeMap<u64, Node>),
    List(Vec<Node>),
}

use Node::Value;

fn dict<const N: usize>(entries: [(u64, Node); N]) -> Node {
    Node::Dict(entries.into())
}

fn list<const N: usize>(items: [Node; N]) -> Node {
    Node::List(items.into())
}

impl Node {
    fn entries(&mut self) -> &mut BTreeMap<u64, Node> {
        match self {
            Self::Dict(entries) => entries,
            other => panic!("{other} is no dictionary"),
        }
    }

    fn items(&mut self) -> &mut Vec<Node> {
        match self {
            Self::List(items) => items,
            other => panic!("{other} is no list"),
        }
    }

    fn at(&mut self, key: u64) -> &mut Node {
        self.entries().get_mut(&key).expect("it is there")
    }

    /// Bytes of keys and values.
    fn payload(&self) -> usize {
        match self {
            Value(number) => value(*number).len(),
            Self::Dict(entries) => entries.values().map(|node| 8 + node.payload()).sum(),
            Self::List(items) => items.iter().map(Self::payload).sum(),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: Vec<String>| parts.join(" ");
        match self {
            Value(number) => write!(f, "{number}"),
            Self::Dict(entries) => {
                let entries = entries.iter().map(|(key, node)| format!("{key}={node}"));
                write!(f, "{{{}}}", joined(entries.collect()))
            }
            Self::List(items) => {
                write!(
                    f,
                    "[{}]",
                    joined(items.iter().map(Node::to_string).collect())
                )
            }
        }
    }
}

// ---- operations and what they make of a tree --------------------------------------------------

type Action = Box<dyn FnOnce() -> Result<(), DictError>>;

/// What a victim gets ready and does, and what it does to a tree of numbers.
struct Operation {
    name: &'static str,
    perform: fn(Tree) -> Action,
    model: fn(&mut Node),
}

fn inner_dict(tree: &Tree) -> Tree {
    tree.child_dict(&2).expect("it is there")
}

fn inner_list(tree: &Tree) -> Texts {
    tree.child_list(&3).expect("it is there")
}

const fn operation(
    name: &'static str,
    perform: fn(Tree) -> Action,
    model: fn(&mut Node),
) -> Operation {
    Operation {
        name,
        perform,
        model,
    }
}

macro_rules! performs {
    (|$it:ident| $perform:expr) => {
        |$it| Box::new(move || $perform.map(drop))
    };
    (|$it:ident in dict| $perform:expr) => {
        |tree| {
            let $it = inner_dict(&tree);
            Box::new(move || $perform.map(drop))
        }
    };
    (|$it:ident in list| $perform:expr) => {
        |tree| {
            let $it = inner_list(&tree);
            Box::new(move || $perform.map(drop))
        }
    };
}

fn child_dict(tree: &Tree) -> Result<Tree, DictError> {
    tree.child_dict(&4)
}

fn child_list(tree: &Tree) -> Result<Texts, DictError> {
    tree.child_list(&5)
}

fn push_dict(list: &Texts) -> Result<Tree, DictError> {
    list.push_dict()
}

fn push_list(list: &Texts) -> Result<Texts, DictError> {
    list.push_list()
}

/// In any tree that has a dictionary under 2 and a list under 3.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    operation("dict tree child_dict", performs!(|it| child_dict(&it)),
        |it| drop(it.entries().insert(4, dict([])))),
    operation("dict tree child_list", performs!(|it| child_list(&it)),
        |it| drop(it.entries().insert(5, list([])))),
    operation("dict tree set inside", performs!(|it in dict| it.set(&7, &value(20))),
        |it| drop(it.at(2).entries().insert(7, Value(20)))),
    operation("dict tree remove inside", performs!(|it in dict| it.remove(&1)),
        |it| drop(it.at(2).entries().remove(&1))),
    operation("dict tree transaction inside", performs!(|it in dict| it.transaction(&[&1, &7], |keys| {
            keys.set(&1, &value(21))?;
            keys.set(&7, &value(22))
        })),
        |it| it.at(2).entries().extend([(1, Value(21)), (7, Value(22))])),
    operation("dict tree push inside", performs!(|it in list| it.push(&value(22))),
        |it| it.at(3).items().push(Value(22))),
    operation("dict tree insert inside", performs!(|it in list| it.insert(0, &value(22))),
        |it| it.at(3).items().insert(0, Value(22))),
    operation("dict tree pop_front inside", performs!(|it in list| it.pop_front()),
        |it| {
            let items = it.at(3).items();
            items.drain(..items.len().min(1));
        }),
    operation("dict tree reverse inside", performs!(|it in list| it.reverse()),
        |it| it.at(3).items().reverse()),
    operation("dict tree push_dict", performs!(|it in list| push_dict(&it)),
        |it| it.at(3).items().push(dict([]))),
    operation("dict tree push_list", performs!(|it in list| push_list(&it)),
        |it| it.at(3).items().push(list([]))),
    operation("dict tree clear inside", performs!(|it in dict| it.clear()),
        |it| it.at(2).entries().clear()),
    operation("dict tree clear list", performs!(|it in list| it.clear()),
        |it| it.at(3).items().clear()),
    operation("dict tree remove", performs!(|it| it.remove(&2)),
        |it| drop(it.entries().remove(&2))),
    operation("dict tree replace", performs!(|it| it.set(&2, &value(20))),
        |it| *it.at(2) = Value(20)),
    operation("dict tree replace a list", performs!(|it| it.set(&3, &value(4))),
        |it| *it.at(3) = Value(4)),
    operation("dict tree clear", performs!(|it| it.clear()),
        |it| it.entries().clear()),
];

/// In the deep one.
#[rustfmt::skip]
const DEEP_OPERATIONS: &[Operation] = &[
    operation("dict tree set far inside", |tree| {
            let inner: Tree = inner_dict(&tree).child_dict(&2).expect("it is there");
            Box::new(move || inner.set(&5, &value(21)))
        },
        |it| drop(it.at(2).at(2).entries().insert(5, Value(21)))),
    operation("dict tree push far inside", |tree| {
            let inner: Texts = inner_list(&tree).child_list(2).expect("it is there");
            Box::new(move || inner.push(&value(23)))
        },
        |it| it.at(3).items()[2].items().push(Value(23))),
    operation("dict tree remove an element", performs!(|it in list| it.remove(1)),
        |it| drop(it.at(3).items().remove(1))),
    operation("dict tree set an element", performs!(|it in list| it.set(2, &value(24))),
        |it| it.at(3).items()[2] = Value(24)),
    operation("dict tree splice", performs!(|it in list| it.splice(1..3, [value(25)])),
        |it| drop(it.at(3).items().splice(1..3, [Value(25)]))),
];

fn one_less(before: Option<Vec<u8>>) -> Option<Vec<u8>> {
    before.map(|before| value(number_of(&before) - 1))
}

fn one_more(before: Option<Vec<u8>>) -> Option<Vec<u8>> {
    before.map(|before| value(number_of(&before) + 1))
}

type Keys<'a, 't> = &'a mut Transaction<'t, u64, Vec<u8>, Bytes>;

fn transfer(keys: Keys<'_, '_>) -> Result<(), DictError> {
    keys.modify(&1, one_less)?;
    keys.modify(&7, one_more)?;
    Ok(())
}

fn several(keys: Keys<'_, '_>) -> Result<(), DictError> {
    keys.set(&1, &value(20))?;
    keys.remove(&7)?;
    keys.modify(&3, one_more)?;
    keys.set(&6, &value(21))?;
    keys.set(&8, &value(10))
}

/// With a dictionary of accounts.
#[rustfmt::skip]
const TRANSACTIONS: &[Operation] = &[
    operation("dict transfer", performs!(|it| it.transaction(&[&1, &7], transfer)),
        |it| {
            *it.at(1) = one_away(it.at(1), -1);
            *it.at(7) = one_away(it.at(7), 1);
        }),
    operation("dict transaction of several", performs!(|it| it.transaction(&[&1, &3, &6, &7, &8], several)),
        |it| {
            let third = one_away(it.at(3), 1);
            it.entries().remove(&7);
            it.entries().extend([(1, Value(20)), (3, third), (6, Value(21)), (8, Value(10))]);
        }),
    operation("dict transaction of new keys", performs!(|it| it.transaction(&[&2, &8, &9], |keys| {
            [2, 8, 9].iter().try_for_each(|key| keys.set(key, &value(20)))
        })),
        |it| it.entries().extend([2, 8, 9].map(|key| (key, Value(20))))),
    operation("dict transaction of removals", performs!(|it| it.transaction(&[&1, &3, &7], |keys| {
            [1, 3, 7].iter().try_for_each(|key| keys.remove(key).map(drop))
        })),
        |it| it.entries().retain(|key, _| ![1, 3, 7].contains(key))),
    operation("dict transaction of one", performs!(|it| it.transaction(&[&1, &7], |keys| {
            keys.get(&7)?;
            keys.set(&1, &value(20))
        })),
        |it| *it.at(1) = Value(20)),
    operation("dict transaction given up", |tree| Box::new(move || {
            let refused = tree.transaction(&[&1, &7], |keys| {
                transfer(keys)?;
                Err::<(), _>(DictError::Busy)
            });
            assert_eq!(refused, Err(DictError::Busy));
            Ok(())
        }),
        |_| ()),
];

fn one_away(node: &Node, by: i8) -> Node {
    match node {
        Value(number) => Value(number.wrapping_add_signed(by)),
        other => panic!("{other} is no value"),
    }
}

fn by_name(name: &str) -> &'static Operation {
    let mut operations = [OPERATIONS, DEEP_OPERATIONS, TRANSACTIONS]
        .into_iter()
        .flatten();
    let found = operations.find(|operation| operation.name == name);
    found.expect("the name of an operation")
}

fn after(operation: &Operation, mut node: Node) -> String {
    (operation.model)(&mut node);
    node.to_string()
}

// ---- start states -------------------------------------------------------------------------------

const BARE: &str = "bare tree";
const ONE: &str = "tree of one";
const DEEP: &str = "deep tree";
const DEAD_TREE: &str = "dead under the tree's lock";
const ACCOUNTS: &str = "accounts";
const TWO_SHARDS: &str = "accounts in two shards";
const GROWTH: &str = "accounts, growth due";
const DEAD: &str = "dead in a transaction";

/// What there is in the beginning; what the dead had promised is done.
fn state(name: &str) -> Node {
    // Of two shards 7, 8, and 9 are in the second.
    let accounts = [(1, Value(15)), (3, Value(22)), (7, Value(15))];
    match name {
        BARE => dict([(2, dict([])), (3, list([]))]),
        ONE => dict([
            (1, Value(10)),
            (2, dict([(1, Value(20))])),
            (3, list([Value(20)])),
        ]),
        DEEP | DEAD_TREE => dict([
            (1, Value(10)),
            (
                2,
                dict([
                    (1, Value(20)),
                    (2, dict([(1, Value(11)), (3, list([Value(30)]))])),
                    (
                        3,
                        list([list([Value(2), Value(21)]), dict([(1, Value(12))])]),
                    ),
                ]),
            ),
            (
                3,
                list([
                    Value(20),
                    dict([(1, Value(10)), (2, dict([(1, Value(20))]))]),
                    list([Value(1)]),
                ]),
            ),
        ]),
        ACCOUNTS | TWO_SHARDS => dict(accounts),
        GROWTH => {
            let mut node = dict(accounts);
            node.entries().extend([4, 5, 6].map(|key| (key, Value(20))));
            node
        }
        DEAD => {
            let mut node = dict(accounts);
            node.entries()
                .extend(LAST_WORDS.map(|key| (key, Value(23))));
            node
        }
        other => panic!("{other} is no state"),
    }
}

/// The intent of a shard whose part another has written down.
const ELSEWHERE: u64 = 1 << 63;

/// The keys that the dead were about to put in, one into each shard.
const LAST_WORDS: [u64; 2] = [4, 9];

// ---- cases --------------------------------------------------------------------------------------

pub(crate) fn cases() -> Vec<Case> {
    [
        trees(),
        transactions(),
        dead_transactions(),
        repairs(),
        controls(),
    ]
    .concat()
}

fn tree(operation: &str, state: &str) -> Case {
    // Of a transaction readers may see a part before the repair.
    match operation == "dict tree transaction inside" {
        true => accounts(operation, state),
        false => Case::new(operation, state).checked_by("dict tree"),
    }
}

fn accounts(operation: &str, state: &str) -> Case {
    Case::new(operation, state).checked_by("dict accounts")
}

fn switch(operation: &Operation, start: &str) -> Outcomes {
    let old = state(start);
    old_or_new(&old.to_string(), &after(operation, old))
}

fn trees() -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in OPERATIONS {
        for start in [BARE, ONE, DEEP] {
            let case = tree(operation.name, start).at_most(80);
            cases.push(case.mode(Mode::Kill, switch(operation, start)));
        }
        let orphaned = tree(operation.name, DEAD_TREE).orphaned().at_most(80);
        cases.push(orphaned.mode(Mode::Kill, switch(operation, DEAD_TREE)));
    }
    for operation in DEEP_OPERATIONS {
        let case = tree(operation.name, DEEP).at_most(80);
        cases.push(case.mode(Mode::Kill, switch(operation, DEEP)));
    }
    // A transaction is no one store: who reads meanwhile may see a part of it.
    let atomic = OPERATIONS
        .iter()
        .filter(|operation| operation.name != "dict tree transaction inside");
    for operation in atomic.chain(DEEP_OPERATIONS) {
        let (old, new) = (state(DEEP).to_string(), after(operation, state(DEEP)));
        let case = tree(operation.name, DEEP).at_most(30);
        cases.push(case.frozen("dict tree read", seen_or_not(&old, &new, &new)));
    }
    // All that is below is given back, one after the other.
    for name in [
        "dict tree remove",
        "dict tree clear list",
        "dict tree set far inside",
    ] {
        let outcomes = switch(by_name(name), DEEP);
        let case = tree(name, DEEP).mode(Mode::Kill, outcomes.clone());
        cases.push(case.at_most(60).mode(Mode::KillUnreaped, outcomes));
    }
    cases
}

fn transactions() -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in TRANSACTIONS {
        for start in [ACCOUNTS, TWO_SHARDS, GROWTH] {
            let case = accounts(operation.name, start).at_most(150);
            cases.push(case.mode(Mode::Kill, switch(operation, start)));
        }
    }
    let (old, new) = (
        state(TWO_SHARDS),
        after(by_name("dict transfer"), state(TWO_SHARDS)),
    );
    let old = old.to_string();
    let both = |seen: &str, end: &str| format!("{seen}; {end}");
    cases.push(
        accounts("dict transfer", TWO_SHARDS)
            .mode(Mode::Kill, Outcomes::switch(&old, &new))
            .at_most(100)
            .mode(Mode::KillUnreaped, Outcomes::switch(&old, &new))
            .at_most(200)
            // Under locks nobody sees a half.
            .frozen(
                "dict tree snapshot",
                Outcomes::any(&[&both(&old, &new), &both(&new, &new), &both("refused", &new)]),
            )
            .frozen_and_killed(
                "dict tree snapshot",
                Outcomes::any(&[
                    &both(&old, &old),
                    &both(&new, &new),
                    &both("refused", &old),
                    &both("refused", &new),
                ]),
            )
            .killed_under_waiter(
                "dict tree snapshot patiently",
                Outcomes::rising(&[&both(&old, &old), &both(&new, &new)]),
            ),
    );
    cases
}

/// The killed one's first step is to finish what another had promised.
fn dead_transactions() -> Vec<Case> {
    let orphaned = |operation| accounts(operation, DEAD).orphaned();
    let done = Outcomes::always(&state(DEAD).to_string());
    let mut cases = vec![
        orphaned("dict tree repair").mode(Mode::Kill, done.clone()),
        orphaned("dict tree check")
            .at_most(30)
            .mode(Mode::Kill, done),
    ];
    for operation in TRANSACTIONS {
        let case = orphaned(operation.name).at_most(150);
        cases.push(case.mode(Mode::Kill, switch(operation, DEAD)));
    }
    cases
}

/// First the operation, then the repair, each killed at its steps.
fn repairs() -> Vec<Case> {
    let mut cases = Vec::new();
    for (first, start, check) in [
        ("dict tree set inside", DEEP, "dict tree"),
        ("dict tree remove", DEEP, "dict tree"),
        ("dict tree push_dict", DEEP, "dict tree"),
        ("dict tree splice", DEEP, "dict tree"),
        ("dict transaction of several", TWO_SHARDS, "dict accounts"),
        ("dict transaction of new keys", GROWTH, "dict accounts"),
    ] {
        let (old, new) = (
            state(start).to_string(),
            after(by_name(first), state(start)),
        );
        let case = Case::new("dict tree repair", start)
            .checked_by(check)
            .at_most(200);
        cases.push(case.killed_after(first, Outcomes::rising(&[&old, &new])));
    }
    let transfer = by_name("dict transfer");
    let mut node = state(TWO_SHARDS);
    let mut outcomes = vec![node.to_string()];
    for _ in 0..2 {
        (transfer.model)(&mut node);
        outcomes.push(node.to_string());
    }
    let outcomes: Vec<&str> = outcomes.iter().map(String::as_str).collect();
    let twice = accounts("dict transfer", TWO_SHARDS).at_most(400);
    cases.push(twice.killed_after("dict transfer", Outcomes::rising(&outcomes)));
    cases
}

/// What is done in two steps that pretend to be one.
fn controls() -> Vec<Case> {
    let outcomes = switch(by_name("dict transfer"), TWO_SHARDS);
    let control = accounts("dict transfer in two steps", TWO_SHARDS).at_most(100);
    let between = "outcome \"{1=14 3=22 7=15}\"";
    vec![control.mode(Mode::Kill, outcomes).control(between)]
}

pub(crate) fn commands() -> Commands {
    acts(victims(setups(Commands::new())))
        .check("dict tree", |name, acted| check(name, acted, false))
        .check("dict accounts", |name, acted| check(name, acted, true))
}

fn setups(commands: Commands) -> Commands {
    let made = |commands: Commands, state, shards| {
        commands.setup(state, move |name| drop(create(name, shards, state)))
    };
    let commands = [BARE, ONE, DEEP, ACCOUNTS, GROWTH]
        .into_iter()
        .fold(commands, |commands, state| made(commands, state, 1));
    made(commands, TWO_SHARDS, 2)
        .setup(DEAD_TREE, |name| {
            let tree = create(name, 1, DEAD_TREE);
            let shard = lock(&tree, 0);
            // Of what is written under this lock and never believed again.
            for cache in [&shard.count, &shard.tombstones, &shard.freed] {
                cache.store(7777, Ordering::Relaxed);
            }
            for class in shard.classes.iter() {
                class.free.store(77, Ordering::Relaxed);
                class.bump.store(77, Ordering::Relaxed);
            }
            die();
        })
        .setup(DEAD, die_in_a_transaction)
}

fn create(name: &str, shards: u32, start: &str) -> Tree {
    let tree = Tree::create(place(name), small_dict(shards)).expect("a new dictionary");
    fix_seed(
        &tree
            .segment()
            .view::<Control>(0)
            .expect("a dictionary")
            .config,
    );
    let tree = open(name);
    fill_dict(&tree, &state(start));
    let is_used = |shard: &shm_dict::ShardInspection| shard.entries > 0;
    assert!(
        tree.inspect().shards.iter().all(is_used),
        "each shard is to have something"
    );
    tree
}

fn open(name: &str) -> Tree {
    Tree::open(name).expect("the dictionary")
}

fn fill_dict(to: &Tree, node: &Node) {
    let room = "it has room";
    for (key, node) in node.clone().entries() {
        match node {
            Value(number) => to.set(key, &value(*number)).expect(room),
            Node::Dict(_) => fill_dict(&to.child_dict(key).expect(room), node),
            Node::List(_) => fill_list(&to.child_list(key).expect(room), node),
        }
    }
}

fn fill_list(to: &Texts, node: &Node) {
    let room = "it has room";
    for node in node.clone().items() {
        match node {
            Value(number) => to.push(&value(*number)).expect(room),
            Node::Dict(_) => fill_dict(&to.push_dict().expect(room), node),
            Node::List(_) => fill_list(&to.push_list().expect(room), node),
        }
    }
}

/// A shard, whose lock is ours from now on.
fn lock(tree: &Tree, index: usize) -> &Shard {
    let at = size_of::<Control>() + index * size_of::<Shard>();
    let shard = tree.segment().view::<Shard>(at).expect("a dictionary");
    // SAFETY: the dictionary stays mapped until this process ends; no signal handler.
    unsafe { shard.lock.acquire(Patience::Endless) }.expect("it is free");
    shard
}

/// Leaves an intent of which nothing was stored yet: makes the change, and takes it back.
fn die_in_a_transaction(name: &str) {
    let tree = create(name, 2, TWO_SHARDS);
    // So that the tables have places.
    for key in LAST_WORDS {
        tree.set(&key, &value(23)).expect("it has room");
        tree.remove(&key).expect("it is there");
    }
    let [first, second] = &LAST_WORDS;
    let promise = tree.transaction(&[first, second], |keys| {
        keys.set(first, &value(23))?;
        keys.set(second, &value(23))
    });
    promise.expect("it has room");
    let shards = [lock(&tree, 0), lock(&tree, 1)];
    let heap_at = tree.segment().size() - HEAP as usize;
    let heap = tree
        .segment()
        .view_slice::<AtomicU64>(heap_at, HEAP as usize / 8);
    let heap = heap.expect("a dictionary");
    // The last block of its size that was given back; its first word is a link now.
    let freed = |shard: &&Shard| -> Vec<u64> {
        let free = shard
            .classes
            .iter()
            .map(|class| class.free.load(Ordering::Relaxed));
        free.filter_map(|unit| unit.checked_sub(1)).collect()
    };
    let is_intent = |unit: &u64| {
        let place = |word: usize| heap[*unit as usize * 2 + word].load(Ordering::Relaxed);
        // One in each shard.
        place(2) >> 48 != place(4) >> 48 && place(2) >> 48 < 2 && place(4) >> 48 < 2
    };
    let found = shards.iter().find_map(|shard| {
        let unit = freed(shard).into_iter().find(is_intent)?;
        Some((shard, unit))
    });
    let (shard, unit) = found.expect("the block of the intent");
    let words = &heap[unit as usize * 2..];
    words[0].store(2, Ordering::Relaxed);
    for place in [2, 4] {
        let place = words[place].load(Ordering::Relaxed) & ((1 << 48) - 1);
        // As it was: empty.
        heap[place as usize].store(0, Ordering::Relaxed);
    }
    for other in &shards {
        other.intent.store(ELSEWHERE, Ordering::Release);
    }
    shard.intent.store(unit + 1, Ordering::Release);
    die();
}

// ---- victims and others ------------------------------------------------------------------------

fn victims(commands: Commands) -> Commands {
    let all = [OPERATIONS, DEEP_OPERATIONS, TRANSACTIONS];
    let commands = all
        .into_iter()
        .flatten()
        .fold(commands, |commands, operation| {
            commands.victim(operation.name, |name| {
                let action = (operation.perform)(open(name));
                mark_start();
                let result = action();
                mark_end();
                result.expect("nothing stands in the way");
            })
        });
    let commands = commands.victim("dict tree repair", |name| {
        let tree = open(name);
        mark_start();
        let result = tree.repair();
        mark_end();
        result.expect("nothing stands in the way");
    });
    let commands = commands.victim("dict tree check", |name| {
        let tree = open(name);
        mark_start();
        let result = tree.check();
        mark_end();
        result.expect("nothing is wrong");
    });
    commands.victim("dict transfer in two steps", |name| {
        let tree = open(name);
        mark_start();
        let result = tree
            .modify(&1, one_less)
            .and_then(|_| tree.modify(&7, one_more));
        mark_end();
        result.expect("nothing stands in the way");
    })
}

fn acts(commands: Commands) -> Commands {
    let snapshot = |name: &str, patience| {
        let tree = open(name).within(patience);
        match tree.snapshot() {
            Ok(items) => {
                let numbers = items
                    .iter()
                    .map(|(key, value)| (*key, Value(number_of(value))));
                Node::Dict(numbers.collect()).to_string()
            }
            refused => acted("", refused),
        }
    };
    commands
        .act("dict tree read", |name| {
            let tree = Tree::open_read_only(name).expect("the dictionary");
            read_dict(&tree).to_string()
        })
        .act("dict tree snapshot", move |name| snapshot(name, SHORT))
        .act("dict tree snapshot patiently", move |name| {
            snapshot(name, 500 * SHORT)
        })
}

// ---- checks -------------------------------------------------------------------------------------

/// All that is in a dictionary; no lock is taken.
fn read_dict(dict: &Tree) -> Node {
    let child = |key| match dict.find_child_dict::<_, u64, Vec<u8>, Bytes>(&key) {
        Ok(child) => read_dict(&child.expect("it is there")),
        Err(DictError::WrongKind { .. }) => {
            let child: Result<Option<Texts>, _> = dict.find_child_list(&key);
            read_list(&child.expect("a list").expect("it is there"))
        }
        Err(other) => panic!("{other}"),
    };
    let node = |key| match dict.get(&key) {
        Ok(value) => value.map(|value| (key, Value(number_of(&value)))),
        Err(DictError::WrongKind { .. }) => Some((key, child(key))),
        Err(other) => panic!("{other}"),
    };
    Node::Dict(KEYS.filter_map(node).collect())
}

/// Likewise of a list.
fn read_list(list: &Texts) -> Node {
    let child = |index| match list.child_dict::<u64, Vec<u8>, Bytes>(index) {
        Ok(child) => read_dict(&child),
        Err(DictError::WrongKind { .. }) => {
            read_list(&list.child_list(index).expect("one of the two"))
        }
        Err(other) => panic!("{other}"),
    };
    let node = |index| match list.get(index) {
        Ok(value) => Value(number_of(&value.expect("it is there"))),
        Err(DictError::WrongKind { .. }) => child(index),
        Err(other) => panic!("{other}"),
    };
    Node::List(
        (0..list.len().expect("nothing is wrong"))
            .map(node)
            .collect(),
    )
}

/// Names everything, and sees that readers had it before the repair, unless that had a transaction to finish, and that
/// no memory is lost.
fn check(name: &str, acted: Option<&str>, is_promised: bool) -> String {
    let reader = Tree::open_read_only(name).expect("the dictionary");
    let seen = read_dict(&reader);
    let tree = open(name);
    let (repaired, told) = count_recoveries(!is_promised);
    tree.on_recovery(told);
    tree.repair().expect("nothing stands in the way");
    let before = read_dict(&tree);
    let is_finished = is_promised && repaired.load(Ordering::Relaxed) > 0;
    assert!(
        is_finished || before == seen,
        "a repair has changed it: {seen}"
    );
    let stats = tree.check().expect("no block is lost or used twice");
    assert_eq!(stats.payload, before.payload() as u64);
    assert_eq!(stats.used_bytes + stats.free_bytes, HEAP);
    assert_eq!(tree.len(), Ok(before.clone().entries().len()));
    use_dict(&tree, &before);
    use_containers(&tree);
    tree.check().expect("no block is lost or used twice");
    assert_eq!(
        (read_dict(&tree), read_dict(&reader)),
        (before.clone(), before.clone())
    );
    all_memory_is_usable(&tree);
    tree.unlink().expect("it is there");
    label(acted, &before.to_string())
}

/// Every dictionary and every list works, and in the end everything is as it was.
fn use_dict(dict: &Tree, node: &Node) {
    dict.set(&50, &value(28)).expect("there is room");
    let moved = dict.transaction(&[&50, &51], |keys| {
        keys.set(&51, &value(29))?;
        keys.remove(&50)
    });
    assert_eq!(moved, Ok(true));
    assert_eq!(dict.pop(&51), Ok(Some(value(29))));
    for (key, node) in node.clone().entries() {
        match node {
            Value(_) => {}
            Node::Dict(_) => use_dict(&dict.child_dict(key).expect("it is there"), node),
            Node::List(_) => use_list(&dict.child_list(key).expect("it is there"), node),
        }
    }
}

fn use_list(list: &Texts, node: &Node) {
    list.extend([28, 8].map(value)).expect("there is room");
    list.insert(0, &value(18)).expect("there is room");
    assert_eq!(list.pop(), Ok(Some(value(8))));
    assert_eq!(list.pop(), Ok(Some(value(28))));
    assert_eq!(list.pop_front(), Ok(Some(value(18))));
    for (index, node) in node.clone().items().iter().enumerate() {
        match node {
            Value(_) => {}
            Node::Dict(_) => use_dict(&list.child_dict(index).expect("it is there"), node),
            Node::List(_) => use_list(&list.child_list(index).expect("it is there"), node),
        }
    }
}

/// New ones are made, and gone with what they are in.
fn use_containers(tree: &Tree) {
    let inner: Tree = tree.child_dict(&50).expect("there is room");
    let list: Texts = inner.child_list(&1).expect("there is room");
    list.push(&value(20)).expect("there is room");
    let last: Tree = list.push_dict().expect("there is room");
    last.set(&1, &value(30)).expect("there is room");
    assert_eq!(last.get(&1), Ok(Some(value(30))));
    assert_eq!(tree.remove(&50), Ok(true));
    assert_eq!(last.get(&1), Err(DictError::Stale));
}

/// Emptied, it has room for as much as a new one.
fn all_memory_is_usable(tree: &Tree) {
    tree.clear().expect("nothing stands in the way");
    let stats = tree.check().expect("no block is lost or used twice");
    assert_eq!((stats.entries, stats.used_bytes), (0, 0), "{stats:?}");
    let shards = tree.inspect().shards.len() as u32;
    let place = Place::region(Region::heap(2 * HEAP as usize));
    let fresh = Tree::create(place, small_dict(shards)).expect("a new dictionary");
    let large = |tree: &Tree| {
        let set = |key: &u64| tree.set(key, &vec![1; 4080]).is_ok();
        (0..100).take_while(set).count()
    };
    // One chunk is the table's.
    assert_eq!((large(tree), large(&fresh)), (7, 7), "of two chunks each");
    tree.check().expect("no block is lost or used twice");
}
