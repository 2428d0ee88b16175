//! The dictionary under loom: a reader sees an entry whole, as it was or as it is, whatever writers do to its
//! block meanwhile; and any writer may die at every step.
//!
//! Beside each claim stands a twin, a dictionary broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-dict --test loom_dict`

#![cfg(loom)]

mod model;

use model::{
    Shared, at_once, explore_less, killed_at, one_of_each, pair, spawn, spawn_victim, word,
};
use shm_core::sync::{Ordering, death, explore, thread};
use shm_dict::raw::{Fault, Found, RawDict, Refused};

/// Keys that all begin their search in the first of two buckets.
fn neighbours(dict: &RawDict) -> impl Iterator<Item = u8> {
    (0..=255).filter(|&key| dict.hash(&[key]) & 1 == 0)
}

// ---- readers and writers ---------------------------------------------------------------------------

/// A value is replaced twice, the second time in the block of the first, while a reader looks twice.
fn replacing(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 2, fault);
        shared.set(1, &pair(1));
        let sets = |shared: &Shared| {
            shared.set(1, &pair(2));
            shared.set(1, &pair(3));
        };
        let (_, seen) = at_once(&shared, sets, |shared| [0; 2].map(|_| shared.number(1)));
        let seen = seen.map(|seen| seen.expect("a key that is there is found"));
        assert!(seen.is_sorted() && seen.iter().all(|seen| (1..=3).contains(seen)));
        assert_eq!((shared.number(1), shared.check()), (Some(3), 1));
    });
}

#[test]
fn a_reader_sees_a_value_whole_that_is_replaced() {
    replacing(None);
}

#[test]
#[should_panic(expected = "a key that is there is found")]
fn twin_that_publishes_relaxed() {
    replacing(Some(Fault::PublishesRelaxed));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_forgets_the_generation() {
    replacing(Some(Fault::ForgetsTheGeneration));
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_does_not_validate() {
    replacing(Some(Fault::DoesNotValidate));
}

/// One takes a key out, another puts its own where that was, and a reader looks for both.
fn reusing(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 2, fault);
        shared.set(1, &pair(1));
        // The other block of the chunk.
        shared.set(9, &pair(9));
        let remover = spawn(&shared, |shared| assert!(shared.remove(1)));
        let writer = spawn(&shared, |shared| {
            // In the first block, if it is free by now.
            if shared.settled(1).is_none() {
                shared.set(2, &pair(2));
            }
        });
        for _ in 0..2 {
            assert!(matches!(shared.number(1), None | Some(1)));
            thread::yield_now();
        }
        remover.join().expect("no panic");
        writer.join().expect("no panic");
        shared.check();
    });
}

#[test]
fn a_reader_sees_no_others_value() {
    reusing(None);
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_reuses_without_a_fence() {
    reusing(Some(Fault::ReusesWithoutFence));
}

/// A writer looks where its key is before it has the lock; another takes that key out meanwhile.
fn approaching(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 2, fault);
        // In the first word of the heap, where what is no entry leads to.
        shared.set(9, &word(9));
        shared.set(1, &word(1));
        let remove = |shared: &Shared| assert!(shared.remove(1));
        at_once(&shared, remove, |shared| {
            let hash = shared.0.hash(&[1]);
            let hint = shared.0.approach(hash, 1);
            let writer = shared.writer(0);
            let found = writer.top().find_at(hint, hash, &[1]);
            let is_there = matches!(found.expect("good words"), Found::At { .. });
            assert_eq!(is_there, writer.count() == 2);
        });
        assert_eq!(shared.check(), 1);
    });
}

#[test]
fn a_writer_finds_a_key_where_it_is_or_not_at_all() {
    approaching(None);
}

#[test]
#[should_panic(expected = "good words")]
fn twin_that_hints_at_nothing() {
    approaching(Some(Fault::HintsAtNothing));
}

/// The table becomes too small, and its block becomes a record.
fn growing(fault: Option<Fault>) {
    explore_less(move || {
        let shared = Shared::new(1, 5, fault);
        (1..=6).for_each(|key| shared.set(key, &word(key)));
        let grows = |shared: &Shared| {
            shared.set(7, &word(7));
            shared.set(8, &[8; 40]);
        };
        let (_, seen) = at_once(&shared, grows, |shared| {
            [3, 8].map(|key| shared.number(key))
        });
        assert_eq!(seen[0], Some(3), "a key that is there is found");
        assert!(matches!(seen[1], None | Some(8)));
        assert_eq!(shared.check(), 8);
    });
}

#[test]
fn a_key_is_found_while_the_table_grows() {
    growing(None);
}

#[test]
#[should_panic(expected = "a key that is there is found")]
fn twin_that_forgets_the_generation_of_a_table() {
    growing(Some(Fault::ForgetsTheGeneration));
}

/// Nine keys want the first bucket, which has eight places; one of these goes, and the ninth is looked for.
fn in_a_chain(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 5, fault);
        let keys: Vec<_> = neighbours(&shared.0).take(10).collect();
        for &key in &keys[..9] {
            shared.set(key, &word(key));
        }
        let (first, last, new) = (keys[0], keys[8], keys[9]);
        let changes = move |shared: &Shared| {
            assert!(shared.remove(first));
            shared.set(new, &word(new));
        };
        let (_, seen) = at_once(&shared, changes, move |shared| shared.number(last));
        assert_eq!(seen, Some(last), "a key that is there is found");
        assert_eq!(shared.settled(new), Some(new));
        assert_eq!(shared.check(), 9);
    });
}

#[test]
fn a_key_is_found_while_others_of_its_chain_come_and_go() {
    in_a_chain(None);
}

#[test]
#[should_panic(expected = "a key that is there is found")]
fn twin_that_empties_inside_a_chain() {
    in_a_chain(Some(Fault::EmptiesInsideAChain));
}

/// All is taken out in one step, and something new is put in where the old was.
fn clearing(fault: Option<Fault>) {
    explore_less(move || {
        let shared = Shared::new(2, 4, fault);
        let [first, second] = one_of_each(&shared.0);
        shared.set(first, &pair(1));
        shared.set(second, &pair(1));
        let clears = move |shared: &Shared| {
            shared.clear();
            shared.set(second, &pair(2));
        };
        let looks = move |shared: &Shared| [first, second].map(|key| shared.number(key));
        let (_, seen) = at_once(&shared, clears, looks);
        let holds = matches!(seen, [Some(1), _] | [None, None | Some(2)]);
        assert!(holds, "half of it is there: {seen:?}");
        assert_eq!(shared.check(), 1);
    });
}

#[test]
fn a_reader_sees_all_or_nothing_of_what_is_cleared() {
    clearing(None);
}

#[test]
#[should_panic(expected = "half of it is there")]
fn twin_that_clears_shard_by_shard() {
    clearing(Some(Fault::ClearsShardByShard));
}

/// All is taken out in one step, and something new is put in, while somebody counts.
fn counting(fault: Option<Fault>) {
    explore_less(move || {
        let shared = Shared::new(2, 4, fault);
        let of = |shard, key| shared.0.shard_of(shared.0.hash(&[key])) == shard;
        for shard in 0..2 {
            let keys = (0..=255).filter(|&key| of(shard, key));
            keys.take(2).for_each(|key| shared.set(key, &word(key)));
        }
        let clears = |shared: &Shared| {
            shared.clear();
            shared.set(1, &word(1));
        };
        let (_, seen) = at_once(&shared, clears, |shared| [0; 2].map(|_| shared.0.entries()));
        let holds = matches!(seen, [4, 0 | 1 | 4] | [0, 0 | 1] | [1, 1]);
        assert!(holds, "half of it is counted: {seen:?}");
        assert_eq!((shared.0.entries(), shared.check()), (1, 1));
    });
}

#[test]
fn who_counts_sees_all_or_nothing_of_what_is_cleared() {
    counting(None);
}

#[test]
#[should_panic(expected = "half of it is counted")]
fn twin_that_counts_what_is_cleared_shard_by_shard() {
    counting(Some(Fault::ClearsShardByShard));
}

// ---- two writers -----------------------------------------------------------------------------------

/// Two shards take chunks, of which there are enough, or one too few.
fn taking_chunks(chunks: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(2, chunks, fault);
        let [first, second] = one_of_each(&shared.0);
        let other = spawn(&shared, move |shared| shared.try_set(first, &word(1)));
        let mine = shared.try_set(second, &word(2));
        let other = other.join().expect("no panic");
        let stored = [&mine, &other].map(Result::is_ok);
        let refused = |result| matches!(result, Ok(()) | Err(Refused::Full { .. }));
        assert!(refused(mine) && refused(other));
        assert!(chunks < 4 || stored == [true, true], "there is room");
        assert!(stored != [false, false], "there is room for one");
        let entries = stored.iter().filter(|stored| **stored).count();
        assert_eq!(shared.check(), entries as u64);
        assert_eq!(shared.settled(second), stored[0].then_some(2));
        assert_eq!(shared.settled(first), stored[1].then_some(1));
    });
}

#[test]
fn a_chunk_is_taken_by_one() {
    taking_chunks(4, None);
    taking_chunks(3, None);
}

#[test]
#[should_panic(expected = "caches in order")]
fn twin_that_takes_without_a_swap() {
    taking_chunks(4, Some(Fault::TakesWithoutSwap));
}

/// A shard gives a chunk back, and another takes it, while somebody still reads there.
fn passing_chunks_on(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(2, 4, fault);
        let [first, second] = one_of_each(&shared.0);
        shared.set(first, &pair(1));
        shared.set(second, &word(2));
        let giver = spawn(&shared, move |shared| {
            assert!(shared.remove(first));
            let (writer, _) = shared.writer_for(first);
            writer.collect().expect("good words");
        });
        // Of no chunk's class: it needs a whole one.
        let taker = spawn(&shared, move |shared| {
            shared.try_set(second, &pair(3)).is_ok()
        });
        for _ in 0..2 {
            assert!(matches!(shared.number(first), None | Some(1)));
            thread::yield_now();
        }
        giver.join().expect("no panic");
        let stored = taker.join().expect("no panic");
        assert_eq!(shared.settled(second), Some(if stored { 3 } else { 2 }));
        assert_eq!(shared.check(), 1);
    });
}

#[test]
fn a_reader_sees_nothing_of_who_has_its_chunk_now() {
    passing_chunks_on(None);
}

#[test]
#[should_panic(expected = "a torn value")]
fn twin_that_takes_a_chunk_without_a_fence() {
    passing_chunks_on(Some(Fault::ReusesWithoutFence));
}

// ---- death -----------------------------------------------------------------------------------------

/// A writer is killed at each step of what it does with key 1, while another stores key 2: the first is as it
/// was or as it was to be, the second is there, and the caches are in order.
fn dying(
    fault: Option<Fault>,
    (old, new): (Option<u8>, Option<u8>),
    prepare: fn(&Shared),
    change: fn(&Shared),
) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(1, 6, fault);
            prepare(&shared);
            let before = shared.check();
            let another = |shared: &Shared| shared.set(2, &pair(2));
            let (finished, ()) = at_once(&shared, killed_at(step, change), another);
            let is = shared.settled(1);
            assert!(is == new || (is == old && !finished), "neither old nor new");
            assert_eq!(shared.number(1), is, "who reads sees the same");
            assert_eq!(shared.settled(2), Some(2), "another's change is lost");
            let (added, taken) = (is.is_some(), old.is_some());
            assert_eq!(
                shared.check() + u64::from(taken),
                before + 1 + u64::from(added)
            );
        });
    });
}

#[test]
fn a_writer_dies_at_every_step_of_the_first_insertion() {
    dying(
        None,
        (None, Some(1)),
        |_| (),
        |shared| shared.set(1, &pair(1)),
    );
}

fn has_one(shared: &Shared) {
    shared.set(1, &pair(1));
}

fn replaces(shared: &Shared) {
    shared.set(1, &pair(2));
}

#[test]
fn a_writer_dies_at_every_step_of_a_replacement() {
    dying(None, (Some(1), Some(2)), has_one, replaces);
}

#[test]
fn a_writer_dies_at_every_step_of_a_replacement_in_place() {
    let prepare: fn(&Shared) = |shared| shared.set(1, &word(1));
    dying(None, (Some(1), Some(2)), prepare, |shared| {
        shared.set(1, &word(2))
    });
}

#[test]
fn a_writer_dies_at_every_step_of_a_removal() {
    dying(None, (Some(1), None), has_one, |shared| {
        assert!(shared.remove(1))
    });
}

#[test]
fn a_writer_dies_at_every_step_of_growth() {
    let prepare: fn(&Shared) = |shared| (3..=8).for_each(|key| shared.set(key, &word(key)));
    dying(None, (None, Some(1)), prepare, |shared| {
        shared.set(1, &word(1))
    });
}

#[test]
fn a_writer_dies_at_every_step_of_a_collection() {
    let prepare: fn(&Shared) = |shared| {
        shared.set(1, &pair(1));
        (3..=5).for_each(|key| shared.set(key, &word(key)));
        (3..=5).for_each(|key| assert!(shared.remove(key)));
    };
    let collects: fn(&Shared) = |shared| shared.writer(0).collect().expect("good words");
    dying(None, (Some(1), Some(1)), prepare, collects);
}

#[test]
#[should_panic(expected = "caches in order")]
fn twin_that_skips_the_rebuild() {
    dying(
        Some(Fault::SkipsRebuild),
        (Some(1), Some(2)),
        has_one,
        replaces,
    );
}

/// Who clears is killed at each step, while a reader looks: all is there, or nothing is.
#[test]
fn a_writer_dies_at_every_step_of_clearing() {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(2, 4, None);
            let keys @ [first, _] = one_of_each(&shared.0);
            keys.iter().for_each(|&key| shared.set(key, &pair(1)));
            let looks = move |shared: &Shared| keys.map(|key| shared.number(key));
            let (finished, seen) = at_once(&shared, killed_at(step, Shared::clear), looks);
            assert!(
                matches!(seen, [Some(1), _] | [None, None]),
                "half of it is there: {seen:?}"
            );
            let entries = shared.check();
            assert!(
                entries == 0 || (entries == 2 && !finished),
                "half of it is there"
            );
            let seen = keys.map(|key| shared.number(key));
            assert_eq!(seen, [(entries == 2).then_some(1); 2]);
            shared.set(first, &pair(2));
            assert_eq!(shared.settled(first), Some(2));
        });
    });
}

/// A writer dies, the next one makes the free lists anew, through blocks that a reader may still look at.
#[test]
fn a_reader_meets_a_death_and_the_rebuild() {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(1, 2, None);
            shared.set(1, &pair(1));
            let victim = spawn_victim(&shared, step, replaces);
            let comes = |shared: &Shared| drop(shared.writer(0));
            let (_, seen) = at_once(&shared, comes, |shared| [0; 2].map(|_| shared.number(1)));
            victim.join().expect("no panic");
            let seen = seen.map(|seen| seen.expect("a key that is there is found"));
            assert!(seen.is_sorted() && seen.iter().all(|seen| (1..=2).contains(seen)));
            assert_eq!(shared.check(), 1);
        });
    });
}

/// Two come after a death that left all caches in disorder, and the first is killed at each step of the rebuild.
fn recovering(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(1, 3, fault);
            shared.set(1, &pair(1));
            shared.set(3, &word(3));
            let writer = shared.writer(0);
            let shard = &shared.0.shards[0];
            shard.lock.mark_poisoned();
            shard.count.store(77, Ordering::Relaxed);
            shard.tombstones.store(7, Ordering::Relaxed);
            for class in shard.classes.iter().take(3) {
                class.free.store(1, Ordering::Relaxed);
                class.bump.store(u64::MAX, Ordering::Relaxed);
            }
            drop(writer);
            let comes = killed_at(step, |shared| drop(shared.writer(0)));
            at_once(&shared, comes, |shared| shared.set(2, &pair(2)));
            assert_eq!(shared.check(), 3);
            assert_eq!(
                [1, 2, 3].map(|key| shared.settled(key)),
                [1, 2, 3].map(Some)
            );
        });
    });
}

#[test]
fn two_recover_and_one_of_them_dies() {
    recovering(None);
}

#[test]
#[should_panic(expected = "room")]
fn twin_that_leaves_the_caches_in_disorder() {
    recovering(Some(Fault::SkipsRebuild));
}
