//! Facts that the checker has to tell apart: for each a history that breaks it, the operation that gives it away,
//! and a twin as close as possible that keeps it.

#[allow(dead_code, reason = "each test file uses its part")]
mod brute_force;

use std::ops::RangeInclusive;

use LockedCounterOp::{Add, Die, Lock, TryLock, Unlock};
use QueueOp::{Get, Put, TryGet, TryPut};
use QueueRet::{Empty, Full, Got};
use RegisterOp::{AddFetch, CompareExchange, FetchAdd, Read, Swap, Write};
use RegisterRet::{Done, Mismatch, Value};
use shm_testing::linearizability::{
    Budget, History, LockedCounter, LockedCounterOp, LockedCounterRet, Map, MapAction, MapOp,
    MapRet, Model, Operation, Queue, QueueOp, QueueRet, Register, RegisterOp, RegisterRet, Verdict,
    check, check_by_key,
};

const PUT: QueueRet = QueueRet::Done;
const QUEUE: Queue = Queue { capacity: 2 };
const REGISTER: Register = Register { initial: 0 };

fn done<O, R>(process: u32, time: RangeInclusive<u64>, op: O, ret: R) -> Operation<O, R> {
    Operation::returned(process, *time.start(), op, *time.end(), ret)
}

fn killed<O, R>(process: u32, invoked: u64, op: O) -> Operation<O, R> {
    Operation::pending(process, invoked, op)
}

/// `bad` is rejected with `culprit` (process, number) as the one that cannot be explained, `good` is accepted;
/// and both verdicts are those of the definition.
#[track_caller]
fn contrast<M, const B: usize, const G: usize>(
    model: M,
    bad: [Operation<M::Op, M::Ret>; B],
    culprit: (u32, usize),
    good: [Operation<M::Op, M::Ret>; G],
) where
    M: Model,
{
    let bad = History::new(bad.into()).unwrap();
    let good = History::new(good.into()).unwrap();
    assert!(!brute_force::has_order(&model, &bad), "the bad one is good");
    assert!(brute_force::has_order(&model, &good), "the good one is bad");

    let Verdict::NotLinearizable(failure) = check(&model, &bad, Budget::default()) else {
        panic!("accepted");
    };
    println!("{failure}");
    let name = |index: usize| {
        let process = bad.operations()[index].process;
        let numbers = bad.operations()[..index].iter();
        (process, numbers.filter(|o| o.process == process).count())
    };
    let culprits: Vec<_> = failure.culprits.iter().map(|&index| name(index)).collect();
    assert_eq!(culprits, [culprit]);
    assert!(failure.exact);
    assert!(
        failure
            .to_string()
            .contains(&format!("*  P{} #{}", culprit.0, culprit.1))
    );

    let order = check(&model, &good, Budget::default()).expect_linearizable();
    assert!(brute_force::is_order_of(&model, &good, &order));
}

mod register {
    use super::*;

    #[test]
    fn a_read_is_not_stale() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, Write(1), Done),
                done(1, 11..=20, Read, Value(0)),
            ],
            (1, 0),
            [
                done(0, 0..=10, Write(1), Done),
                done(1, 10..=20, Read, Value(0)),
            ],
        );
    }

    #[test]
    fn a_value_read_was_written() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, Write(1), Done),
                done(1, 5..=20, Read, Value(2)),
            ],
            (1, 0),
            [
                done(0, 0..=10, Write(2), Done),
                done(1, 5..=20, Read, Value(2)),
            ],
        );
    }

    #[test]
    fn a_value_is_not_read_before_its_write_is_invoked() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, Read, Value(1)),
                done(1, 11..=20, Write(1), Done),
            ],
            (0, 0),
            [
                done(0, 0..=12, Read, Value(1)),
                done(1, 11..=20, Write(1), Done),
            ],
        );
    }

    #[test]
    fn writes_keep_their_order_in_real_time() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, Write(1), Done),
                done(1, 20..=30, Write(2), Done),
                done(2, 40..=50, Read, Value(1)),
            ],
            (2, 0),
            [
                done(0, 0..=20, Write(1), Done),
                done(1, 20..=30, Write(2), Done),
                done(2, 40..=50, Read, Value(1)),
            ],
        );
    }

    #[test]
    fn one_process_keeps_its_order_even_within_one_tick() {
        contrast(
            REGISTER,
            [
                done(0, 5..=5, Write(1), Done),
                done(0, 5..=5, Write(2), Done),
                done(1, 6..=7, Read, Value(1)),
            ],
            (1, 0),
            [
                done(0, 5..=5, Write(1), Done),
                done(2, 5..=5, Write(2), Done),
                done(1, 6..=7, Read, Value(1)),
            ],
        );
    }

    #[test]
    fn a_new_value_does_not_give_way_to_the_old_one() {
        contrast(
            REGISTER,
            [
                done(0, 0..=100, Write(1), Done),
                done(1, 10..=20, Read, Value(1)),
                done(2, 30..=40, Read, Value(0)),
            ],
            (2, 0),
            [
                done(0, 0..=100, Write(1), Done),
                done(1, 10..=20, Read, Value(0)),
                done(2, 30..=40, Read, Value(1)),
            ],
        );
    }

    #[test]
    fn two_readers_agree_on_the_order_of_two_writes() {
        contrast(
            REGISTER,
            [
                done(0, 0..=100, Write(1), Done),
                done(1, 0..=100, Write(2), Done),
                done(2, 10..=20, Read, Value(1)),
                done(2, 30..=40, Read, Value(2)),
                done(3, 10..=20, Read, Value(2)),
                done(3, 30..=41, Read, Value(1)),
            ],
            (3, 1),
            [
                done(0, 0..=100, Write(1), Done),
                done(1, 0..=100, Write(2), Done),
                done(2, 10..=20, Read, Value(1)),
                done(2, 30..=40, Read, Value(2)),
                done(3, 10..=20, Read, Value(1)),
                done(3, 30..=41, Read, Value(2)),
            ],
        );
    }

    #[test]
    fn an_update_is_not_lost() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, AddFetch(1), Value(1)),
                done(1, 0..=10, FetchAdd(1), Value(1)),
                done(2, 20..=30, Read, Value(1)),
            ],
            (2, 0),
            [
                done(0, 0..=10, AddFetch(1), Value(1)),
                done(1, 0..=10, FetchAdd(1), Value(1)),
                done(2, 20..=30, Read, Value(2)),
            ],
        );
    }

    #[test]
    fn fetch_add_results_are_not_duplicated() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, FetchAdd(1), Value(0)),
                done(1, 0..=11, FetchAdd(1), Value(0)),
            ],
            (1, 0),
            [
                done(0, 0..=10, FetchAdd(1), Value(0)),
                done(1, 0..=11, FetchAdd(1), Value(1)),
            ],
        );
    }

    #[test]
    fn fetch_add_results_leave_no_gap() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, FetchAdd(1), Value(0)),
                done(1, 0..=11, FetchAdd(1), Value(2)),
            ],
            (1, 0),
            [
                done(0, 0..=10, FetchAdd(1), Value(0)),
                done(1, 0..=11, FetchAdd(1), Value(2)),
                done(2, 11..=12, AddFetch(1), Value(2)),
            ],
        );
    }

    #[test]
    fn add_fetch_returns_the_value_after_it() {
        contrast(
            REGISTER,
            [done(0, 0..=10, AddFetch(3), Value(0))],
            (0, 0),
            [done(0, 0..=10, AddFetch(3), Value(3))],
        );
    }

    #[test]
    fn a_swapped_out_value_is_returned_once() {
        contrast(
            REGISTER,
            [
                done(0, 0..=10, Write(7), Done),
                done(1, 20..=30, Swap(8), Value(7)),
                done(2, 20..=31, Swap(9), Value(7)),
            ],
            (2, 0),
            [
                done(0, 0..=10, Write(7), Done),
                done(1, 20..=30, Swap(8), Value(7)),
                done(2, 20..=31, Swap(9), Value(8)),
            ],
        );
    }

    #[test]
    fn a_cas_that_cannot_have_succeeded_did_not() {
        let cas = |expected, new| CompareExchange { expected, new };
        contrast(
            REGISTER,
            [
                done(0, 0..=10, Write(1), Done),
                done(1, 11..=20, cas(0, 5), Done),
            ],
            (1, 0),
            [
                done(0, 0..=10, Write(1), Done),
                done(1, 11..=20, cas(0, 5), Mismatch(1)),
            ],
        );
    }

    #[test]
    fn a_cas_does_not_fail_on_the_expected_value() {
        let cas = |expected, new| CompareExchange { expected, new };
        contrast(
            REGISTER,
            [
                done(0, 0..=10, Write(1), Done),
                done(1, 20..=30, cas(1, 5), Mismatch(0)),
            ],
            (1, 0),
            [
                done(0, 0..=20, Write(1), Done),
                done(1, 20..=30, cas(1, 5), Mismatch(0)),
            ],
        );
    }

    #[test]
    fn of_two_cas_from_one_value_one_succeeds() {
        let cas = |expected, new| CompareExchange { expected, new };
        contrast(
            REGISTER,
            [
                done(0, 0..=10, cas(0, 1), Done),
                done(1, 0..=11, cas(0, 2), Done),
            ],
            (1, 0),
            [
                done(0, 0..=10, cas(0, 1), Done),
                done(1, 0..=11, cas(0, 2), Mismatch(1)),
            ],
        );
    }

    #[test]
    fn a_pending_write_that_was_seen_stays_seen() {
        contrast(
            REGISTER,
            [
                killed(0, 0, Write(1)),
                done(1, 10..=20, Read, Value(1)),
                done(2, 30..=40, Read, Value(0)),
            ],
            (2, 0),
            [
                killed(0, 0, Write(1)),
                done(1, 10..=20, Read, Value(0)),
                done(2, 30..=40, Read, Value(1)),
            ],
        );
    }

    #[test]
    fn a_pending_write_takes_no_effect_before_it_is_invoked() {
        contrast(
            REGISTER,
            [done(1, 10..=20, Read, Value(1)), killed(0, 21, Write(1))],
            (1, 0),
            [done(1, 10..=20, Read, Value(1)), killed(0, 20, Write(1))],
        );
    }

    #[test]
    fn a_pending_write_takes_effect_once() {
        contrast(
            REGISTER,
            [
                killed(0, 0, Write(1)),
                done(1, 10..=20, Read, Value(1)),
                done(1, 30..=40, Write(2), Done),
                done(1, 50..=60, Read, Value(1)),
            ],
            (1, 2),
            [
                killed(0, 0, Write(1)),
                done(1, 10..=20, Read, Value(0)),
                done(1, 30..=40, Write(2), Done),
                done(1, 50..=60, Read, Value(1)),
            ],
        );
    }

    #[test]
    fn of_equal_pending_operations_the_one_that_could_come_first_does() {
        // That of process 0 comes after its own addition, though the clock shows one time for all.
        contrast(
            REGISTER,
            [
                done(0, 5..=5, FetchAdd(10), Value(1)),
                killed(0, 5, FetchAdd(1)),
                killed(1, 6, FetchAdd(1)),
            ],
            (0, 0),
            [
                done(0, 5..=5, FetchAdd(10), Value(1)),
                killed(0, 5, FetchAdd(1)),
                killed(1, 5, FetchAdd(1)),
            ],
        );
    }

    #[test]
    fn pending_additions_account_for_no_more_than_there_are() {
        contrast(
            REGISTER,
            [
                killed(0, 0, FetchAdd(1)),
                killed(1, 5, FetchAdd(1)),
                done(2, 10..=20, FetchAdd(1), Value(1)),
                done(2, 30..=40, Read, Value(4)),
            ],
            (2, 1),
            [
                killed(0, 0, FetchAdd(1)),
                killed(1, 5, FetchAdd(1)),
                done(2, 10..=20, FetchAdd(1), Value(1)),
                done(2, 30..=40, Read, Value(3)),
            ],
        );
    }
}

mod queue {
    use super::*;

    #[test]
    fn an_item_is_delivered_once() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(1, 0..=20, Get, Got(1)),
                done(2, 0..=21, Get, Got(1)),
            ],
            (2, 0),
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 11..=12, Put(1), PUT),
                done(1, 0..=20, Get, Got(1)),
                done(2, 0..=21, Get, Got(1)),
            ],
        );
    }

    #[test]
    fn items_leave_in_the_order_of_their_puts() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(1, 40..=50, Get, Got(2)),
            ],
            (1, 0),
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(2, 0..=50, Get, Got(1)),
                done(1, 40..=50, Get, Got(2)),
            ],
        );
    }

    #[test]
    fn puts_of_two_processes_keep_their_order_in_real_time() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(1, 11..=20, Put(2), PUT),
                done(2, 30..=40, TryGet, Got(2)),
                done(2, 50..=60, TryGet, Got(1)),
            ],
            (2, 0),
            [
                done(0, 0..=11, Put(1), PUT),
                done(1, 11..=20, Put(2), PUT),
                done(2, 30..=40, TryGet, Got(2)),
                done(2, 50..=60, TryGet, Got(1)),
            ],
        );
    }

    #[test]
    fn two_consumers_agree_with_the_order_of_two_puts() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(1, 40..=50, Get, Got(2)),
                done(2, 51..=60, Get, Got(1)),
            ],
            (1, 0),
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(1, 40..=51, Get, Got(2)),
                done(2, 51..=60, Get, Got(1)),
            ],
        );
    }

    #[test]
    fn an_item_delivered_was_put() {
        contrast(
            QUEUE,
            [done(0, 0..=10, Put(1), PUT), done(1, 5..=20, Get, Got(9))],
            (1, 0),
            [done(0, 0..=10, Put(9), PUT), done(1, 5..=20, Get, Got(9))],
        );
    }

    #[test]
    fn an_item_is_not_delivered_before_its_put_is_invoked() {
        contrast(
            QUEUE,
            [done(1, 0..=10, Get, Got(1)), done(0, 11..=20, Put(1), PUT)],
            (1, 0),
            [done(1, 0..=10, Get, Got(1)), done(0, 10..=20, Put(1), PUT)],
        );
    }

    #[test]
    fn empty_is_not_reported_while_an_item_is_surely_inside() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(1, 20..=30, TryGet, Empty),
                done(2, 31..=40, Get, Got(1)),
            ],
            (1, 0),
            [
                done(0, 0..=10, Put(1), PUT),
                done(1, 20..=30, TryGet, Empty),
                done(2, 30..=40, Get, Got(1)),
            ],
        );
    }

    #[test]
    fn full_is_not_reported_while_there_is_surely_room() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(1, 40..=50, Get, Got(1)),
                done(2, 51..=60, TryPut(3), Full),
            ],
            (2, 0),
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(1, 40..=51, Get, Got(1)),
                done(2, 51..=60, TryPut(3), Full),
            ],
        );
    }

    #[test]
    fn no_more_is_accepted_than_fits() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(1, 20..=40, TryPut(3), PUT),
                done(2, 41..=50, Get, Got(1)),
            ],
            (1, 0),
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                done(1, 20..=40, TryPut(3), PUT),
                done(2, 40..=50, Get, Got(1)),
            ],
        );
    }

    #[test]
    fn a_refused_put_leaves_nothing_behind() {
        contrast(
            Queue { capacity: 1 },
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, TryPut(2), Full),
                done(1, 40..=50, Get, Got(1)),
                done(1, 60..=70, TryGet, Got(2)),
            ],
            (1, 1),
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, TryPut(2), Full),
                done(1, 40..=50, Get, Got(1)),
                done(1, 60..=70, TryGet, Empty),
            ],
        );
    }

    #[test]
    fn a_killed_get_takes_one_item_at_most() {
        contrast(
            QUEUE,
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                killed(1, 40, Get),
                done(2, 50..=60, TryGet, Empty),
            ],
            (2, 0),
            [
                done(0, 0..=10, Put(1), PUT),
                done(0, 20..=30, Put(2), PUT),
                killed(1, 40, Get),
                done(2, 50..=60, TryGet, Got(2)),
            ],
        );
    }

    #[test]
    fn a_killed_put_is_delivered_once_at_most() {
        contrast(
            QUEUE,
            [
                killed(0, 0, Put(1)),
                done(1, 10..=20, TryGet, Got(1)),
                done(2, 30..=40, TryGet, Got(1)),
            ],
            (2, 0),
            [
                killed(0, 0, Put(1)),
                done(1, 10..=20, TryGet, Empty),
                done(2, 30..=40, TryGet, Got(1)),
            ],
        );
    }

    #[test]
    fn an_item_that_was_overtaken_does_not_come_back() {
        contrast(
            QUEUE,
            [
                killed(0, 0, Put(1)),
                done(1, 10..=20, Put(2), PUT),
                done(1, 30..=40, Get, Got(1)),
                done(1, 50..=60, TryGet, Empty),
            ],
            (1, 2),
            [
                killed(0, 0, Put(1)),
                done(1, 10..=20, Put(2), PUT),
                done(1, 30..=40, Get, Got(2)),
                done(1, 50..=60, TryGet, Got(1)),
            ],
        );
    }
}

mod map {
    use super::*;

    fn get(key: u64) -> MapOp {
        let action = MapAction::Get;
        MapOp { key, action }
    }

    fn insert(key: u64, value: u64) -> MapOp {
        let action = MapAction::Insert(value);
        MapOp { key, action }
    }

    fn remove(key: u64) -> MapOp {
        let action = MapAction::Remove;
        MapOp { key, action }
    }

    fn cas(key: u64, expected: Option<u64>, new: Option<u64>) -> MapOp {
        let action = MapAction::CompareAndSwap { expected, new };
        MapOp { key, action }
    }

    const NONE: MapRet = MapRet::Value(None);

    fn was(value: u64) -> MapRet {
        MapRet::Value(Some(value))
    }

    /// As [`super::contrast`], and once more key by key.
    #[track_caller]
    fn contrast<const B: usize, const G: usize>(
        bad: [Operation<MapOp, MapRet>; B],
        culprit: (u32, usize),
        good: [Operation<MapOp, MapRet>; G],
    ) {
        super::contrast(Map, bad.clone(), culprit, good.clone());
        let bad = History::new(bad.into()).unwrap();
        let good = History::new(good.into()).unwrap();
        let Verdict::NotLinearizable(failure) = check_by_key(&Map, &bad, Budget::default()) else {
            panic!("accepted key by key");
        };
        assert!(failure.to_string().starts_with("key "), "{failure}");
        check_by_key(&Map, &good, Budget::default()).expect_linearizable();
    }

    #[test]
    fn a_removed_key_is_gone() {
        contrast(
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(0, 20..=30, remove(1), was(5)),
                done(1, 31..=40, get(1), was(5)),
            ],
            (1, 0),
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(0, 20..=30, remove(1), was(5)),
                done(1, 30..=40, get(1), was(5)),
            ],
        );
    }

    #[test]
    fn a_value_is_removed_once() {
        contrast(
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(0, 20..=30, remove(1), was(5)),
                done(1, 20..=31, remove(1), was(5)),
            ],
            (1, 0),
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(0, 20..=30, remove(1), was(5)),
                done(1, 20..=31, remove(1), NONE),
            ],
        );
    }

    #[test]
    fn an_insert_returns_what_it_replaced() {
        contrast(
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(1, 11..=20, insert(1, 6), NONE),
            ],
            (1, 0),
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(1, 11..=20, insert(1, 6), was(5)),
            ],
        );
    }

    #[test]
    fn a_key_does_not_answer_for_another() {
        contrast(
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(0, 20..=30, insert(2, 6), NONE),
                done(1, 40..=50, get(1), was(6)),
                done(1, 60..=70, get(2), was(6)),
            ],
            (1, 0),
            [
                done(0, 0..=10, insert(1, 5), NONE),
                done(0, 20..=30, insert(2, 6), NONE),
                done(1, 40..=50, get(1), was(5)),
                done(1, 60..=70, get(2), was(6)),
            ],
        );
    }

    #[test]
    fn of_two_swaps_from_nothing_one_succeeds() {
        contrast(
            [
                done(0, 0..=10, cas(1, None, Some(5)), MapRet::Done),
                done(1, 0..=11, cas(1, None, Some(6)), MapRet::Done),
            ],
            (1, 0),
            [
                done(0, 0..=10, cas(1, None, Some(5)), MapRet::Done),
                done(1, 0..=11, cas(1, None, Some(6)), MapRet::Mismatch(Some(5))),
            ],
        );
    }

    #[test]
    fn a_killed_remove_that_was_seen_stays_seen() {
        contrast(
            [
                done(0, 0..=10, insert(1, 5), NONE),
                killed(0, 20, remove(1)),
                done(1, 30..=40, get(1), NONE),
                done(1, 50..=60, get(1), was(5)),
            ],
            (1, 1),
            [
                done(0, 0..=10, insert(1, 5), NONE),
                killed(0, 20, remove(1)),
                done(1, 30..=40, get(1), was(5)),
                done(1, 50..=60, get(1), NONE),
            ],
        );
    }
}

mod locked_counter {
    use super::*;
    use LockedCounterRet::{Acquired, Done, OwnerDied, Value, WouldBlock};

    fn added(before: u64) -> LockedCounterRet {
        LockedCounterRet::Added {
            before,
            owner_died: false,
        }
    }

    fn repaired(before: u64) -> LockedCounterRet {
        LockedCounterRet::Added {
            before,
            owner_died: true,
        }
    }

    fn read(by: u32) -> LockedCounterOp {
        LockedCounterOp::Read(by)
    }

    fn write(by: u32, value: u64) -> LockedCounterOp {
        LockedCounterOp::Write(by, value)
    }

    #[test]
    fn two_sections_do_not_see_the_same_counter() {
        contrast(
            LockedCounter,
            [
                done(0, 0..=10, Add(1), added(0)),
                done(1, 0..=11, Add(1), added(0)),
            ],
            (1, 0),
            [
                done(0, 0..=10, Add(1), added(0)),
                done(1, 0..=11, Add(1), added(1)),
            ],
        );
    }

    #[test]
    fn two_processes_do_not_hold_the_lock_at_once() {
        contrast(
            LockedCounter,
            [
                done(0, 0..=10, Lock(0), Acquired),
                done(1, 20..=30, Lock(1), Acquired),
                done(0, 31..=40, Unlock(0), Done),
            ],
            (1, 0),
            [
                done(0, 0..=10, Lock(0), Acquired),
                done(1, 20..=31, Lock(1), Acquired),
                done(0, 31..=40, Unlock(0), Done),
            ],
        );
    }

    #[test]
    fn try_lock_does_not_refuse_a_lock_that_is_surely_free() {
        contrast(
            LockedCounter,
            [
                done(0, 0..=10, Lock(0), Acquired),
                done(0, 20..=30, Unlock(0), Done),
                done(1, 31..=40, TryLock(1), WouldBlock),
            ],
            (1, 0),
            [
                done(0, 0..=10, Lock(0), Acquired),
                done(0, 20..=30, Unlock(0), Done),
                done(1, 30..=40, TryLock(1), WouldBlock),
            ],
        );
    }

    #[test]
    fn what_was_written_under_the_lock_is_read_under_it() {
        contrast(
            LockedCounter,
            [
                done(0, 0..=10, Lock(0), Acquired),
                done(0, 20..=30, write(0, 7), Done),
                done(0, 40..=50, Unlock(0), Done),
                done(1, 20..=60, Lock(1), Acquired),
                done(1, 61..=70, read(1), Value(0)),
            ],
            (1, 1),
            [
                done(0, 0..=10, Lock(0), Acquired),
                done(0, 20..=30, write(0, 7), Done),
                done(0, 40..=50, Unlock(0), Done),
                done(1, 20..=60, Lock(1), Acquired),
                done(1, 61..=70, read(1), Value(7)),
            ],
        );
    }

    #[test]
    fn an_owner_that_lives_is_not_reported_dead() {
        contrast(
            LockedCounter,
            [
                done(0, 0..=10, Lock(0), Acquired),
                done(0, 20..=30, Unlock(0), Done),
                done(1, 20..=40, Lock(1), OwnerDied),
            ],
            (1, 0),
            [
                done(0, 0..=10, Lock(0), Acquired),
                killed(0, 20, Die(0)),
                done(1, 20..=40, Lock(1), OwnerDied),
            ],
        );
    }

    #[test]
    fn a_section_that_goes_on_is_not_taken_for_a_dead_one() {
        contrast(
            LockedCounter,
            [
                done(0, 0..=100, Add(1), added(0)),
                done(1, 10..=20, Add(1), repaired(0)),
            ],
            (1, 0),
            [killed(0, 0, Add(1)), done(1, 10..=20, Add(1), repaired(0))],
        );
    }

    #[test]
    fn an_owner_that_died_is_reported() {
        contrast(
            LockedCounter,
            [
                done(0, 0..=10, Lock(0), Acquired),
                killed(0, 20, write(0, 7)),
                killed(0, 20, Die(0)),
                done(1, 30..=40, Lock(1), Acquired),
            ],
            (1, 0),
            [
                done(0, 0..=10, Lock(0), Acquired),
                killed(0, 20, Unlock(0)),
                killed(0, 20, Die(0)),
                done(1, 30..=40, Lock(1), Acquired),
            ],
        );
    }

    #[test]
    fn a_death_is_reported_once() {
        contrast(
            LockedCounter,
            [
                killed(0, 0, Add(1)),
                done(1, 10..=20, Add(1), repaired(1)),
                done(1, 30..=40, Add(1), repaired(2)),
            ],
            (1, 1),
            [
                killed(0, 0, Add(1)),
                done(1, 10..=20, Add(1), repaired(1)),
                done(1, 30..=40, Add(1), added(2)),
            ],
        );
    }

    #[test]
    fn a_killed_section_that_was_repaired_without_effect_has_none_later() {
        contrast(
            LockedCounter,
            [
                killed(0, 0, Add(1)),
                done(1, 10..=20, Add(10), repaired(0)),
                done(1, 30..=40, Add(10), added(11)),
            ],
            (1, 1),
            [
                killed(0, 0, Add(1)),
                done(1, 10..=20, Add(10), added(0)),
                done(1, 30..=40, Add(10), repaired(11)),
            ],
        );
    }

    #[test]
    fn the_dead_do_not_hold_the_lock() {
        contrast(
            LockedCounter,
            [
                killed(0, 0, Lock(0)),
                done(0, 10..=20, Die(0), Done),
                done(1, 21..=30, TryLock(1), WouldBlock),
            ],
            (1, 0),
            [
                killed(0, 0, Lock(0)),
                done(0, 10..=20, Die(0), Done),
                done(1, 20..=30, TryLock(1), WouldBlock),
                done(1, 31..=40, TryLock(1), OwnerDied),
            ],
        );
    }
}

mod report {
    use super::*;

    #[test]
    fn a_failure_shows_the_prefix_the_culprit_and_the_intervals() {
        let history = History::new(vec![
            done(0, 100..=110, Put(1), PUT),
            done(0, 120..=190, Put(2), PUT),
            killed(1, 130, Get),
            done(2, 140..=150, TryGet, Got(1)),
            done(2, 160..=170, TryGet, Got(9)),
            done(2, 200..=210, TryGet, Empty),
        ])
        .unwrap();
        let Verdict::NotLinearizable(failure) = check(&QUEUE, &history, Budget::default()) else {
            panic!("accepted");
        };
        assert_eq!(
            (failure.prefix.as_slice(), failure.culprits.as_slice()),
            (&[0, 3][..], &[4][..])
        );
        assert_eq!(failure.unordered, [1, 2, 4]);
        let report = failure.to_string();
        let (_, report) = report.split_once('\n').unwrap();
        assert_eq!(
            report,
            "
the longest prefix that has an order, and the state after each operation:
     1. P0 #0  Put(1) -> Done    [1]
     2. P2 #0  TryGet -> Got(1)    []

but no order also explains
     *  P2 #1  TryGet -> Got(9)
        (after the order above the answer would be Empty)

in time (* not explained, ? not in the order, > pending):
    ||           P0 #0  Put(1) -> Done
  ?   |-----|    P0 #1  Put(2) -> Done
  ?    |------>  P1 #0  Get pending
        ||       P2 #0  TryGet -> Got(1)
  *       ||     P2 #1  TryGet -> Got(9)
"
        );
    }

    #[test]
    fn a_failure_without_any_prefix_says_so() {
        let history = History::new(vec![done(0, 0..=10, Get, Got(1))]).unwrap();
        let Verdict::NotLinearizable(failure) = check(&QUEUE, &history, Budget::default()) else {
            panic!("accepted");
        };
        let report = failure.to_string();
        assert!(
            report.contains("no operation can be put in order"),
            "{report}"
        );
        assert!(report.contains("it could not happen"), "{report}");
    }

    #[test]
    fn a_key_that_fails_is_named() {
        let action = MapAction::Get;
        let history = History::new(vec![done(
            0,
            0..=10,
            MapOp { key: 77, action },
            MapRet::Value(Some(1)),
        )])
        .unwrap();
        let Verdict::NotLinearizable(failure) = check_by_key(&Map, &history, Budget::default())
        else {
            panic!("accepted");
        };
        assert!(failure.to_string().starts_with("key 77: not linearizable"));
    }
}

mod budget {
    use super::*;

    /// Many writes at once, and a read of what was never written.
    fn hard(writes: u32) -> History<RegisterOp, RegisterRet> {
        let mut operations: Vec<_> = (0..writes)
            .map(|process| done(process, 0..=100, Write(process.into()), Done))
            .collect();
        operations.push(done(writes, 0..=100, Read, Value(1_000)));
        History::new(operations).unwrap()
    }

    #[test]
    fn a_search_beyond_the_budget_is_undecided() {
        let history = hard(12);
        let verdict = check(&REGISTER, &history, Budget { states: 1_000 });
        assert!(matches!(verdict, Verdict::Undecided { states } if states >= 1_000));
        assert!(!verdict.is_linearizable());
        assert!(matches!(
            check(&REGISTER, &history, Budget::default()),
            Verdict::NotLinearizable(_)
        ));
    }

    #[test]
    #[should_panic(expected = "undecided")]
    fn an_undecided_verdict_is_no_pass() {
        check(&REGISTER, &hard(12), Budget { states: 10 }).expect_linearizable();
    }

    #[test]
    #[should_panic(expected = "but no order also explains\n     *  P12 #0  Read -> Value(1000)")]
    fn a_failed_check_panics_with_the_report() {
        check(&REGISTER, &hard(12), Budget::default()).expect_linearizable();
    }

    #[test]
    fn the_budget_is_for_all_keys_together() {
        let operations: Vec<_> = (0..10)
            .map(|key| {
                let action = MapAction::Insert(1);
                done(0, key..=key, MapOp { key, action }, MapRet::Value(None))
            })
            .collect();
        let history = History::new(operations).unwrap();
        let verdict = check_by_key(&Map, &history, Budget { states: 10 });
        assert!(matches!(verdict, Verdict::Undecided { .. }));
        assert!(check_by_key(&Map, &history, Budget { states: 20 }).is_linearizable());
    }

    #[test]
    fn a_key_that_fails_decides_even_if_another_is_undecided() {
        let write = |process, value| {
            let action = MapAction::CompareAndSwap {
                expected: Some(999),
                new: Some(value),
            };
            done(process, 0..=100, MapOp { key: 1, action }, MapRet::Done)
        };
        let mut operations: Vec<_> = (0..12)
            .map(|process| write(process, process.into()))
            .collect();
        let action = MapAction::Get;
        operations.push(done(
            20,
            0..=100,
            MapOp { key: 0, action },
            MapRet::Value(Some(1)),
        ));
        let history = History::new(operations).unwrap();
        assert!(matches!(
            check_by_key(&Map, &history, Budget { states: 4 }),
            Verdict::NotLinearizable(_)
        ));
    }
}

mod size {
    use super::*;

    #[test]
    fn forty_equal_pending_operations_do_not_explode() {
        let mut operations: Vec<_> = (0..40)
            .map(|process| killed(process, process.into(), FetchAdd(1)))
            .collect();
        operations.push(done(40, 100..=110, FetchAdd(1), Value(17)));
        operations.push(done(40, 120..=130, Read, Value(41)));
        let good = History::new(operations.clone()).unwrap();
        check(&REGISTER, &good, Budget { states: 10_000 }).expect_linearizable();

        operations.push(done(40, 140..=150, Read, Value(42)));
        let bad = History::new(operations).unwrap();
        assert!(matches!(
            check(&REGISTER, &bad, Budget { states: 10_000 }),
            Verdict::NotLinearizable(_)
        ));
    }

    #[test]
    fn a_long_history_is_checked_without_recursion_and_its_end_is_found() {
        let length = 100_000;
        let mut operations: Vec<_> = (0..length)
            .flat_map(|step| {
                let time = step * 10;
                [
                    done(0, time..=time + 5, FetchAdd(1), Value(2 * step)),
                    done(1, time..=time + 9, FetchAdd(1), Value(2 * step + 1)),
                ]
            })
            .collect();
        // One operation runs all the time, so that what is in order is never a plain prefix.
        operations.push(done(2, 0..=length * 10, FetchAdd(1), Value(2 * length)));
        let good = History::new(operations.clone()).unwrap();
        check(&REGISTER, &good, Budget::default()).expect_linearizable();

        operations.push(done(3, length * 10 + 1..=length * 10 + 2, Read, Value(0)));
        let bad = History::new(operations).unwrap();
        let Verdict::NotLinearizable(failure) = check(&REGISTER, &bad, Budget::default()) else {
            panic!("accepted");
        };
        assert_eq!(failure.prefix.len() as u64, 2 * length + 1);
        assert_eq!(failure.culprits, [bad.operations().len() - 1]);
        assert!(
            failure.to_string().len() < 20_000,
            "the report is for people"
        );
    }
}
