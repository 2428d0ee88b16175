//! Lists, containers inside of others and transactions under loom: a reader sees elements that were there, each
//! whole, all as they were at one instant, and nothing of what has their memory now; and any writer may die at every
//! step.
//!
//! Beside each claim stands a twin, broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-dict --test loom_list`

#![cfg(loom)]

mod model;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use model::{
    Plenty, Shared, at_once, explore_less, killed_at, number, one_of_each, pair, spawn,
    spawn_victim, word,
};
use shm_core::sync::{AtomicU32, Ordering, death, explore, thread};
use shm_dict::raw::{
    Element, Fault, Found, Kind, List, Looked, NotEntered, Path, RawDict, Shape, Shard, Step, Way,
    Writer,
};
use shm_lock::Patience;

/// What a container is made as here.
const LIST: Shape = Shape {
    kind: Kind::List,
    types: 0,
};

/// A value that stands in the word of its item.
fn short(n: u8) -> [u8; 3] {
    [n; 3]
}

/// What an element says.
fn number_of(element: Element<'_>) -> u8 {
    let long = |value: shm_dict::raw::Value<'_>| {
        let mut bytes = Vec::new();
        value.copy_to(&mut bytes);
        bytes
    };
    // A container has no number; nor has what is nobody's.
    let bytes = element.with_value(<[u8]>::to_vec, long).unwrap_or_default();
    match bytes.is_empty() {
        true => 0,
        // What is torn is so only where the look was in vain.
        false if bytes.iter().any(|byte| *byte != bytes[0]) => u8::MAX,
        false => bytes[0],
    }
}

impl Shared {
    fn list(chunks: u32, fault: Option<Fault>, elements: &[&[u8]]) -> Arc<Self> {
        let shared = Self::of(Kind::List, 1, chunks, fault);
        elements.iter().for_each(|element| shared.push(element));
        shared
    }

    /// Calls `f` with the list, or with the one at the end of a way; `None` if that is gone.
    fn locked<R>(&self, path: Option<&Path>, f: impl FnOnce(&List<'_, '_>) -> R) -> Option<R> {
        let writer = self.writer(path.map_or(0, |path| path.shard));
        let home = match path {
            None => writer.home(),
            Some(path) => writer.home_at(path).expect("good words")?,
        };
        Some(f(&writer.list(home)))
    }

    fn top<R>(&self, f: impl FnOnce(&List<'_, '_>) -> R) -> R {
        self.locked(None, f).expect("the root is there")
    }

    fn push(&self, value: &[u8]) {
        self.top(|list| push(list, value));
    }

    fn put(&self, index: usize, value: &[u8]) {
        assert!(self.top(|list| list.set(index, value).expect("room")));
    }

    fn take_out(&self, index: usize) {
        assert!(self.top(|list| list.remove(index).expect("room")));
    }

    fn reverse(&self) {
        self.top(|list| list.reverse().expect("room"));
    }

    /// Looks at an element without a lock.
    fn look(&self, path: Option<&Path>, index: usize) -> Looked<u8> {
        loop {
            let looked = self.0.look_at_element(path, index, number_of);
            match looked.expect("good words") {
                Looked::Disturbed => thread::yield_now(),
                Looked::Found(u8::MAX) => panic!("a torn value"),
                looked => return looked,
            }
        }
    }

    fn at(&self, index: usize) -> Option<u8> {
        match self.look(None, index) {
            Looked::Found(number) => Some(number),
            _ => None,
        }
    }

    /// Looks at all elements without a lock.
    fn all(&self) -> Vec<u8> {
        loop {
            let all = std::cell::RefCell::new(Vec::new());
            let restart = |_, _| all.borrow_mut().clear();
            let take = |element: Element<'_>| all.borrow_mut().push(number_of(element));
            let looked = self.0.look_at_elements(None, 0..9, restart, take);
            if looked.expect("good words") == Looked::Found(()) {
                return all.into_inner();
            }
            thread::yield_now();
        }
    }

    /// Puts a list with an element under a key; gives the way to it.
    fn set_list(&self, key: u8, element: &[u8]) -> Path {
        let (writer, hash) = self.writer_for(key);
        let map = writer.top();
        let found = map.find(hash, &[key]).expect("good words");
        let id = map.put_container(found, hash, &[key], LIST).expect("room");
        let way = Way::key(hash, &[key]);
        let path = Path::join(None, writer.shard(), Step { id, way });
        let home = writer.home_at(&path).expect("good words");
        push(&writer.list(home.expect("it is there")), element);
        path
    }

    /// Puts a list with an element behind the last element; gives the way to it.
    fn push_list(&self, element: &[u8]) -> Path {
        let writer = self.writer(0);
        let list = writer.list(writer.home());
        let (item, id) = list.new_container(LIST).expect("room");
        let index = list.len().expect("good words");
        list.push(&[item]).expect("room");
        let way = Way::Element(AtomicU32::new(index as u32));
        let path = Path::join(None, 0, Step { id, way });
        let home = writer.home_at(&path).expect("good words");
        push(&writer.list(home.expect("it is there")), element);
        path
    }

    /// Changes keys together, each to this number; 0 takes it out.
    fn commit(&self, changes: &[(u8, u8)]) {
        let writers = self.writers_of(changes.iter().map(|(key, _)| *key));
        let maps: Vec<_> = writers.iter().map(Writer::top).collect();
        let (mut prepared, mut taken) = (Vec::new(), HashSet::new());
        for (key, to) in changes {
            let hash = self.0.hash(&[*key]);
            let shard = self.0.shard_of(hash);
            let map = maps.iter().zip(&writers).find(|(_, w)| w.shard() == shard);
            let (map, _) = map.expect("its lock is held");
            let is_new = !matches!(map.find(hash, &[*key]), Ok(Found::At { .. }));
            map.make_places(usize::from(is_new && *to > 0))
                .expect("room");
            let value = pair(*to);
            let value = (*to > 0).then_some(&value[..]);
            let change = map.prepare(hash, &[*key], value, &mut taken);
            prepared.extend(change.expect("room"));
        }
        self.0.commit(&prepared).expect("room");
    }

    /// The locks of these keys, in ascending order.
    fn writers_of(&self, keys: impl Iterator<Item = u8>) -> Vec<Writer<'_>> {
        let shards = keys.map(|key| self.0.shard_of(self.0.hash(&[key])));
        let mut shards: Vec<_> = shards.collect();
        shards.sort_unstable();
        shards.dedup();
        shards.into_iter().map(|shard| self.writer(shard)).collect()
    }
}

fn push(list: &List<'_, '_>, value: &[u8]) {
    let item = list.new_item(value).expect("room");
    list.push(&[item]).expect("room");
}

fn splice(list: &List<'_, '_>, range: std::ops::Range<usize>, values: &[&[u8]]) {
    let items = values
        .iter()
        .map(|value| list.new_item(value).expect("room"));
    let items: Vec<_> = items.collect();
    list.splice(range, &items).expect("room");
}

// ---- readers and writers ---------------------------------------------------------------------------

/// Two elements are put behind the last, each in a step.
fn pushing(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::list(3, fault, &[&short(1)]);
        let pushes = |shared: &Shared| {
            shared.push(&pair(2));
            shared.push(&short(3));
        };
        let (_, [third, second]) = at_once(&shared, pushes, |shared| [shared.at(2), shared.at(1)]);
        let seen = (second, third);
        let holds = matches!(seen, (None | Some(2), None) | (Some(2), Some(3)));
        assert!(holds, "never so: {seen:?}");
        assert_eq!(shared.all(), [1, 2, 3]);
        shared.check();
    });
}

#[test]
fn a_reader_sees_what_was_put_behind_the_last() {
    pushing(None);
}

#[test]
#[should_panic(expected = "good words")]
fn twin_that_publishes_the_span_first() {
    pushing(Some(Fault::PublishesTheSpanFirst));
}

#[test]
#[should_panic(expected = "good words")]
fn twin_that_publishes_a_span_relaxed() {
    pushing(Some(Fault::PublishesRelaxed));
}

/// The last element is taken out and another put in its place, as long as a word or longer.
fn popping_and_pushing<const N: usize>(fault: Option<Fault>, value: fn(u8) -> [u8; N]) {
    explore(move || {
        let shared = Shared::list(3, fault, &[&short(7), &value(1)]);
        let pops_and_pushes = move |shared: &Shared| {
            shared.take_out(1);
            shared.push(&value(2));
        };
        let (_, seen) = at_once(&shared, pops_and_pushes, |shared| {
            [0; 2].map(|_| shared.at(1))
        });
        let turns = seen.map(|seen| match seen {
            Some(1) => 0,
            None => 1,
            Some(2) => 2,
            other => panic!("neither old nor new: {other:?}"),
        });
        assert!(turns.is_sorted(), "it was there, and then not yet");
        assert_eq!(shared.all(), [7, 2]);
        shared.check();
    });
}

#[test]
fn a_reader_sees_no_element_before_it_is_there() {
    popping_and_pushing(None, short);
    popping_and_pushing(None, pair);
}

#[test]
#[should_panic(expected = "it was there, and then not yet")]
fn twin_that_forgets_the_cut_of_a_pop() {
    popping_and_pushing(Some(Fault::ForgetsTheCutOfAPop), short);
}

#[test]
#[should_panic(expected = "torn value")]
fn twin_that_forgets_the_cut_of_a_pop_of_a_record() {
    popping_and_pushing(Some(Fault::ForgetsTheCutOfAPop), pair);
}

/// An element is replaced twice, the second time in the block of the first or where it is.
fn setting<const N: usize>(fault: Option<Fault>, value: fn(u8) -> [u8; N]) {
    explore(move || {
        let shared = Shared::list(3, fault, &[&value(1)]);
        let sets = move |shared: &Shared| {
            shared.put(0, &value(2));
            shared.put(0, &value(3));
        };
        let (_, seen) = at_once(&shared, sets, |shared| [0; 2].map(|_| shared.at(0)));
        let seen = seen.map(|seen| seen.expect("an element that is there is found"));
        let holds = seen.is_sorted() && seen.iter().all(|seen| (1..=3).contains(seen));
        assert!(holds, "neither old nor new: {seen:?}");
        assert_eq!(shared.all(), [3]);
        shared.check();
    });
}

#[test]
fn a_reader_sees_an_element_whole_that_is_replaced() {
    setting(None, short);
    setting(None, word);
    setting(None, pair);
}

#[test]
#[should_panic(expected = "neither old nor new")]
fn twin_that_publishes_an_item_relaxed() {
    setting(Some(Fault::PublishesRelaxed), pair);
}

#[test]
#[should_panic(expected = "torn value")]
fn twin_that_forgets_the_generation() {
    setting(Some(Fault::ForgetsTheGeneration), pair);
}

#[test]
#[should_panic(expected = "torn value")]
fn twin_that_does_not_validate() {
    setting(Some(Fault::DoesNotValidate), pair);
}

/// The elements are put in another order, and the block of the old array becomes a record, or an array again.
fn arranging(fault: Option<Fault>, then: fn(&Shared)) {
    explore(move || {
        let shared = Shared::list(3, fault, &[&short(1), &short(2)]);
        let arranges = move |shared: &Shared| {
            shared.reverse();
            then(shared);
        };
        let (_, seen) = at_once(&shared, arranges, |shared| [0; 2].map(|_| shared.at(0)));
        let holds = seen.iter().all(|seen| matches!(seen, Some(1 | 2 | 9)));
        assert!(holds, "never there: {seen:?}");
        shared.check();
    });
}

/// The block of the array that was replaced has its size.
fn sets_a_long_one(shared: &Shared) {
    shared.put(1, &[9; 48]);
}

fn splices(shared: &Shared) {
    shared.top(|list| splice(list, 0..2, &[&short(9), &short(9)]));
}

#[test]
fn a_reader_sees_no_array_that_was_replaced() {
    arranging(None, sets_a_long_one);
    arranging(None, splices);
}

#[test]
#[should_panic(expected = "good words")]
fn twin_that_forgets_the_generation_of_an_array() {
    arranging(Some(Fault::ForgetsTheGeneration), sets_a_long_one);
}

/// A list is changed twice while a reader looks at all of it.
fn looking_at_all(
    fault: Option<Fault>,
    old: &'static [u8],
    changes: fn(&Shared),
    states: &'static [&'static [u8]],
) {
    explore(move || {
        let shared = Shared::list(3, fault, &[]);
        old.iter().for_each(|&n| shared.push(&word(n)));
        let (_, seen) = at_once(&shared, changes, Shared::all);
        let turn = states.iter().position(|state| *state == seen);
        assert!(turn.is_some(), "never so: {seen:?}");
        assert_eq!(Some(&&*shared.all()), states.last());
        shared.check();
    });
}

fn set_and_set(shared: &Shared) {
    shared.put(0, &word(2));
    shared.put(1, &word(2));
}

fn push_and_set(shared: &Shared) {
    shared.push(&short(3));
    shared.put(0, &word(2));
}

fn set_and_pop(shared: &Shared) {
    shared.put(0, &word(2));
    shared.take_out(1);
}

#[test]
fn a_reader_sees_all_elements_as_they_were_at_one_instant() {
    looking_at_all(None, &[1, 1], set_and_set, &[&[1, 1], &[2, 1], &[2, 2]]);
    looking_at_all(None, &[1], push_and_set, &[&[1], &[1, 3], &[2, 3]]);
    looking_at_all(None, &[1, 1], set_and_pop, &[&[1, 1], &[2, 1], &[2]]);
}

#[test]
#[should_panic(expected = "never so: [1, 2]")]
fn twin_that_does_not_compare_versions() {
    let states: &[&[u8]] = &[&[1, 1], &[2, 1], &[2, 2]];
    looking_at_all(
        Some(Fault::DoesNotCompareVersions),
        &[1, 1],
        set_and_set,
        states,
    );
}

#[test]
#[should_panic(expected = "never so: [2]")]
fn twin_that_does_not_compare_versions_of_a_push() {
    let states: &[&[u8]] = &[&[1], &[1, 3], &[2, 3]];
    looking_at_all(
        Some(Fault::DoesNotCompareVersions),
        &[1],
        push_and_set,
        states,
    );
}

// ---- containers inside of others --------------------------------------------------------------------

/// A container is taken out with all that is in it, and another one, with other elements, gets its memory, while a
/// reader has a handle to the first.
fn removing_a_parent(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 4, fault);
        let path = Arc::new(shared.set_list(1, &pair(1)));
        let of_reader = Arc::clone(&path);
        let removes = |shared: &Shared| {
            assert!(shared.remove(1));
            shared.set_list(1, &pair(2));
        };
        let looks = move |shared: &Shared| [0; 2].map(|_| shared.look(Some(&of_reader), 0));
        let (_, seen) = at_once(&shared, removes, looks);
        let holds = matches!(
            seen,
            [Looked::Found(1), Looked::Found(1) | Looked::Gone] | [Looked::Gone, Looked::Gone]
        );
        assert!(holds, "another's data: {seen:?}");
        let is = shared.look(Some(&path), 0);
        assert_eq!(is, Looked::Gone, "another's data");
        assert_eq!(shared.check(), 1);
    });
}

#[test]
fn a_reader_in_a_container_that_is_removed_sees_nothing_of_the_next() {
    removing_a_parent(None);
}

#[test]
#[should_panic(expected = "another's data")]
fn twin_that_forgets_the_number() {
    removing_a_parent(Some(Fault::ForgetsTheNumber));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_forgets_the_generation_of_a_container() {
    removing_a_parent(Some(Fault::ForgetsTheGeneration));
}

/// Likewise of a list that is an element; and before that, another element is put before it.
#[test]
fn a_reader_in_an_element_follows_it_until_it_is_removed() {
    explore(|| {
        let shared = Shared::of(Kind::List, 1, 4, None);
        let path = Arc::new(shared.push_list(&pair(1)));
        let of_reader = Arc::clone(&path);
        let moves = |shared: &Shared| {
            shared.top(|list| splice(list, 0..0, &[&short(7)]));
            shared.take_out(1);
            shared.push_list(&pair(2));
        };
        let looks = move |shared: &Shared| shared.look(Some(&of_reader), 0);
        let (_, seen) = at_once(&shared, moves, looks);
        assert!(matches!(seen, Looked::Found(1) | Looked::Gone), "{seen:?}");
        assert_eq!(shared.look(Some(&path), 0), Looked::Gone);
        shared.check();
    });
}

/// One puts elements in a container that another takes out: they are there until it goes, or not at all.
#[test]
fn a_writer_in_a_container_that_is_removed_is_told() {
    explore(|| {
        let shared = Shared::new(1, 4, None);
        let path = Arc::new(shared.set_list(1, &pair(1)));
        let [of_writer, of_reader] = [Arc::clone(&path), Arc::clone(&path)];
        let remover = spawn(&shared, |shared| assert!(shared.remove(1)));
        let pushes = move |shared: &Shared| {
            let pushed = shared.locked(Some(&of_writer), |list| push(list, &short(2)));
            pushed.is_some()
        };
        let looks = move |shared: &Shared| shared.look(Some(&of_reader), 1);
        let (pushed, seen) = at_once(&shared, pushes, looks);
        remover.join().expect("no panic");
        match seen {
            Looked::Found(2) => assert!(pushed, "what was never there"),
            Looked::Absent | Looked::Gone => {}
            other => panic!("another's data: {other:?}"),
        }
        assert_eq!(shared.look(Some(&path), 0), Looked::Gone);
        assert_eq!(shared.check(), 0);
    });
}

// ---- death -----------------------------------------------------------------------------------------

/// A writer of a list is killed at each step of what it does behind the first element, while another one replaces
/// that: the rest is as it was or as it was to be, and the caches are in order.
fn dying(fault: Option<Fault>, change: fn(&Shared), [old, new]: [&'static [u8]; 2]) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::list(4, fault, &[&pair(8)]);
            old[1..].iter().for_each(|&n| shared.push(&pair(n)));
            let replaces = |shared: &Shared| shared.put(0, &pair(9));
            let (finished, ()) = at_once(&shared, killed_at(step, change), replaces);
            let is = shared.all();
            assert!(
                is == new || (is == old && !finished),
                "neither old nor new: {is:?}"
            );
            shared.check();
            assert_eq!(shared.all(), is, "a rebuild changes nothing");
        });
    });
}

#[test]
fn a_writer_dies_at_every_step_of_a_push() {
    dying(None, |shared| shared.push(&pair(2)), [&[9, 1], &[9, 1, 2]]);
}

#[test]
fn a_writer_dies_at_every_step_of_a_pop() {
    dying(None, |shared| shared.take_out(1), [&[9, 1], &[9]]);
}

#[test]
fn a_writer_dies_at_every_step_of_a_replacement() {
    dying(None, |shared| shared.put(1, &pair(2)), [&[9, 1], &[9, 2]]);
}

#[test]
fn a_writer_dies_at_every_step_of_a_splice() {
    let change: fn(&Shared) = |shared| {
        shared.top(|list| splice(list, 1..2, &[&pair(2), &short(3)]));
    };
    dying(None, change, [&[9, 1, 4], &[9, 2, 3, 4]]);
}

#[test]
#[should_panic(expected = "caches in order")]
fn twin_that_skips_the_rebuild() {
    let change: fn(&Shared) = |shared| shared.put(1, &pair(2));
    dying(Some(Fault::SkipsRebuild), change, [&[9, 1], &[9, 2]]);
}

/// A writer is killed at each step of making a list with an element.
#[test]
fn a_writer_dies_at_every_step_of_making_a_container() {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(1, 5, None);
            shared.set(3, &word(3));
            let makes = |shared: &Shared| drop(shared.set_list(1, &pair(1)));
            let sets = |shared: &Shared| shared.set(2, &word(2));
            let (finished, ()) = at_once(&shared, killed_at(step, makes), sets);
            let entries = shared.check();
            assert!(entries == 3 || (entries == 2 && !finished));
            assert_eq!(shared.number(2), Some(2), "another's change is lost");
            if entries == 3 {
                assert!(shared.remove(1));
            }
            assert_eq!(shared.check(), 2);
        });
    });
}

/// A writer is killed at each step of taking a list out with all that is in it, while somebody has a handle to it.
#[test]
fn a_writer_dies_at_every_step_of_removing_a_parent() {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(1, 6, None);
            let path = Arc::new(shared.set_list(1, &pair(1)));
            let of_reader = Arc::clone(&path);
            let removes = |shared: &Shared| assert!(shared.remove(1));
            let looks = move |shared: &Shared| shared.look(Some(&of_reader), 0);
            let (finished, seen) = at_once(&shared, killed_at(step, removes), looks);
            assert!(matches!(seen, Looked::Found(1) | Looked::Gone), "{seen:?}");
            let entries = shared.check();
            let is = match entries {
                0 => Looked::Gone,
                _ => Looked::Found(1),
            };
            assert!(entries == 0 || !finished);
            assert!(seen == Looked::Found(1) || entries == 0, "it came back");
            assert_eq!(shared.look(Some(&path), 0), is);
        });
    });
}

// ---- transactions ----------------------------------------------------------------------------------

/// Two keys of two shards, each with the number 1, and a third of the second shard.
fn accounts(fault: Option<Fault>) -> (Arc<Shared>, [u8; 3]) {
    let shared = Shared::new(2, 6, fault);
    let [first, second] = one_of_each(&shared.0);
    let is_there = |key: &u8| shared.0.shard_of(shared.0.hash(&[*key])) == 1;
    let third = (second + 1..=255).find(is_there).expect("many keys");
    shared.set(first, &pair(1));
    shared.set(second, &pair(1));
    (shared, [first, second, third])
}

/// Whether all of a transaction is there, which sets the first key to 2 and takes the second out.
fn is_whole(shared: &Shared, [first, second, _]: [u8; 3]) -> bool {
    match [shared.number(first), shared.number(second)] {
        [Some(2), None] => true,
        [Some(1), Some(1)] => false,
        seen => panic!("half of it is there: {seen:?}"),
    }
}

/// A transaction over two shards is killed at each step; another one writes to a third key in one of them.
fn dying_in_a_transaction(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let (shared, keys @ [first, second, third]) = accounts(fault);
            let victim = spawn_victim(&shared, step, move |shared| {
                shared.commit(&[(first, 2), (second, 0)]);
            });
            let finished = victim.join().expect("no panic");
            shared.set(third, &pair(3));
            let whole = is_whole(&shared, keys);
            assert!(whole || !finished);
            assert_eq!(shared.check(), if whole { 2 } else { 3 });
            assert_eq!(is_whole(&shared, keys), whole, "a rebuild changes nothing");
            assert_eq!(shared.settled(third), Some(3));
        });
    });
}

#[test]
fn a_transaction_is_there_as_a_whole_wherever_its_writer_dies() {
    dying_in_a_transaction(None);
}

#[test]
#[should_panic(expected = "half of it is there")]
fn twin_that_skips_intents() {
    dying_in_a_transaction(Some(Fault::SkipsIntents));
}

#[test]
#[should_panic(expected = "caches in order")]
fn twin_that_rebuilds_despite_intents() {
    dying_in_a_transaction(Some(Fault::RebuildsDespiteIntents));
}

#[test]
#[should_panic(expected = "half of it is there")]
fn twin_that_takes_the_intent_back_first() {
    dying_in_a_transaction(Some(Fault::TakesTheIntentBackFirst));
}

/// Calls `model` with 0, 1, 2, ... until it says that it has what it sought; gives that number.
fn first_step(model: impl Fn(usize) -> bool + Clone + Send + Sync + 'static) -> usize {
    let seeks = |step: &usize| {
        let (step, found) = (*step, Arc::new(Mutex::new(false)));
        let (model, of_model) = (model.clone(), Arc::clone(&found));
        explore_less(move || *of_model.lock().expect("no panic") |= model(step));
        *found.lock().expect("no panic")
    };
    (0..).find(seeks).expect("there is always a next step")
}

/// The first step of a transaction at which its death leaves an intent.
fn step_with_an_intent() -> usize {
    first_step(|step| {
        let (shared, _) = killed_transaction(None, step);
        let has_intent = |shard: &Shard| shard.intent.load(Ordering::Relaxed) != 0;
        shared.0.shards.iter().any(has_intent)
    })
}

/// A transaction that is killed at a step.
fn killed_transaction(fault: Option<Fault>, step: usize) -> (Arc<Shared>, [u8; 3]) {
    let (shared, keys @ [first, second, _]) = accounts(fault);
    let victim = spawn_victim(&shared, step, move |shared| {
        shared.commit(&[(first, 2), (second, 0)]);
    });
    assert!(!victim.join().expect("no panic"), "it has an intent");
    (shared, keys)
}

/// A transaction dies when one of its words is stored and the other is not; who finishes it is killed at each step; a
/// third one comes.
fn dying_in_the_recovery(fault: Option<Fault>) {
    let first_death = first_step(|step| {
        let (shared, [first, second, _]) = killed_transaction(None, step);
        [shared.number(first), shared.number(second)] == [Some(2), Some(1)]
    });
    let steps = first_step(move |step| {
        let (shared, keys @ [_, _, third]) = killed_transaction(fault, first_death);
        let victim = spawn_victim(&shared, step, |shared| drop(shared.writer(1)));
        let finished = victim.join().expect("no panic");
        shared.set(third, &pair(3));
        assert!(is_whole(&shared, keys), "it was declared");
        assert_eq!(shared.check(), 2);
        assert_eq!(shared.settled(third), Some(3));
        finished
    });
    assert!(steps > 0, "nobody was killed: the victim takes no step");
}

#[test]
fn a_transaction_is_finished_wherever_the_one_dies_who_finishes_it() {
    dying_in_the_recovery(None);
}

#[test]
#[should_panic(expected = "half of it is there")]
fn twin_that_skips_intents_of_the_dead() {
    dying_in_the_recovery(Some(Fault::SkipsIntents));
}

/// Who finds the shard cannot repair it alone, and gives its lock back: who died in it is told all the same.
#[test]
fn who_died_in_a_transaction_is_told() {
    let step = step_with_an_intent();
    explore(move || {
        let (shared, _) = killed_transaction(None, step);
        // SAFETY: the dictionary outlives all threads of the model.
        let Err(NotEntered::Unfinished(orphan)) =
            (unsafe { shared.0.enter(1, Patience::Endless, &Plenty) })
        else {
            panic!("it cannot be entered alone")
        };
        // SAFETY: likewise.
        let entered = unsafe { shared.0.enter_all(Patience::Endless, &Plenty, Some(orphan)) };
        let (_, rebuilt) = entered.expect("good words");
        assert_eq!(rebuilt.len(), 2);
        assert!(rebuilt.iter().all(|rebuilt| rebuilt.dead.is_some()));
    });
}

/// Two transactions name the same keys in opposite order, and somebody looks at both under the locks.
#[test]
fn transactions_that_cross_come_one_after_the_other() {
    explore(|| {
        let (shared, [first, second, _]) = accounts(None);
        let one = spawn(&shared, move |shared| {
            shared.commit(&[(first, 2), (second, 2)])
        });
        let other = move |shared: &Shared| shared.commit(&[(second, 3), (first, 3)]);
        let looks = move |shared: &Shared| {
            let writers = shared.writers();
            [first, second].map(|key| settled(&shared.0, &writers, key))
        };
        let ((), seen) = at_once(&shared, other, looks);
        one.join().expect("no panic");
        assert_eq!(seen[0], seen[1], "half of it is there");
        let is = [shared.number(first), shared.number(second)];
        assert!(
            matches!(is, [Some(2), Some(2)] | [Some(3), Some(3)]),
            "{is:?}"
        );
        assert_eq!(shared.check(), 2);
    });
}

fn settled(dict: &RawDict, writers: &[Writer<'_>], key: u8) -> Option<u8> {
    let hash = dict.hash(&[key]);
    match writers[dict.shard_of(hash)].top().find(hash, &[key]) {
        Ok(Found::At { record, .. }) => {
            let mut value = Vec::new();
            record.value()?.copy_to(&mut value);
            Some(number(&value))
        }
        _ => None,
    }
}
