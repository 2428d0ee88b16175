//! Random histories: those of a real sequential execution are accepted, and on small ones of any kind the checker says
//! what the definition says.

mod brute_force;

use std::cell::Cell;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shm_testing::linearizability::{
    Budget, History, LockedCounter, LockedCounterOp, LockedCounterRet, Map, MapAction, MapOp,
    MapRet, Model, Operation, Queue, QueueOp, QueueRet, Register, RegisterOp, RegisterRet, Return,
    Verdict, check, check_by_key,
};

const QUEUE: Queue = Queue { capacity: 2 };

/// Time between the instants at which two operations take effect.
const TICK: u64 = 10;

/// One step of a sequential execution, to be stretched to an interval.
#[derive(Debug, Clone)]
struct Step<O> {
    process: u32,
    op: O,
    /// How long before its instant it is invoked, and how long after it it returns; as far as its process allows.
    before: u64,
    after: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Returns,
    /// Killed after it took effect, in one of the ways that the model knows.
    KilledAfter(prop::sample::Index),
    KilledBefore,
}

fn steps<S: Strategy>(
    op: S,
    processes: u32,
    count: impl Into<prop::collection::SizeRange>,
    returns_to_kills: u32,
) -> impl Strategy<Value = Vec<Step<S::Value>>>
where
    S::Value: Clone,
{
    let fate = prop_oneof![
        2 * returns_to_kills => Just(Fate::Returns),
        1 => any::<prop::sample::Index>().prop_map(Fate::KilledAfter),
        1 => Just(Fate::KilledBefore),
    ];
    let width = 0..5 * TICK;
    let step = (0..processes, op, width.clone(), width, fate).prop_map(
        |(process, op, before, after, fate)| Step {
            process,
            op,
            before,
            after,
            fate,
        },
    );
    prop::collection::vec(step, count)
}

/// Runs the steps one after another and stretches each to an interval around its instant.
///
/// A step that cannot happen where it stands (it would block) becomes a pending one without effect.
fn execute<M: Model>(model: &M, steps: Vec<Step<M::Op>>) -> Vec<Operation<M::Op, M::Ret>> {
    let mut state = model.init();
    let mut operations = Vec::new();
    let instant = |index: usize| (index as u64 + 60) * TICK;
    let next_of_process: Vec<u64> = (0..steps.len())
        .map(|index| {
            (index + 1..steps.len())
                .find(|&later| steps[later].process == steps[index].process)
                .map_or(u64::MAX, instant)
        })
        .collect();
    let mut free_from = [0; 8];
    for (index, step) in steps.into_iter().enumerate() {
        let free_from = &mut free_from[step.process as usize];
        let invoked = (instant(index) - step.before).max(*free_from);
        let returned = (instant(index) + step.after).min(next_of_process[index]);
        let end = match step.fate {
            Fate::Returns => model.step(&state, &step.op).into_iter().next(),
            Fate::KilledBefore => None,
            Fate::KilledAfter(which) => {
                let outcomes: Vec<_> = model.crash(&state, &step.op).into_iter().collect();
                if !outcomes.is_empty() {
                    state = which.get(&outcomes).clone();
                }
                None
            }
        };
        operations.push(match end {
            Some((ret, next)) => {
                state = next;
                *free_from = returned;
                Operation::returned(step.process, invoked, step.op, returned, ret)
            }
            None => {
                *free_from = invoked;
                Operation::pending(step.process, invoked, step.op)
            }
        });
    }
    operations
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

fn is_accepted<M: Model>(model: &M, operations: Vec<Operation<M::Op, M::Ret>>) -> bool {
    let history = History::new(operations).unwrap();
    let order = check(model, &history, Budget::default()).expect_linearizable();
    brute_force::is_order_of(model, &history, &order)
}

/// What a clock shows that ticks less often.
fn coarsen<O, R>(operations: &mut [Operation<O, R>], grain: u64) {
    for operation in operations {
        operation.invoked /= grain;
        if let Some(end) = &mut operation.end {
            end.at /= grain;
        }
    }
}

/// A sequential execution is accepted, whatever the clock's grain, and the order given for it is one.
fn executions_are_accepted<M>(model: M, op: impl Strategy<Value = M::Op>)
where
    M: Model<Op: Clone, Ret: Clone>,
{
    let strategy = (steps(op, 6, 0..50, 12), 1..=3 * TICK);
    runner(400)
        .run(&strategy, |(steps, grain)| {
            let mut operations = execute(&model, steps);
            prop_assert!(is_accepted(&model, operations.clone()));
            coarsen(&mut operations, grain);
            prop_assert!(is_accepted(&model, operations));
            Ok(())
        })
        .unwrap();
}

/// A change to a history, which may or may not leave it linearizable.
#[derive(Debug, Clone)]
enum Change<R> {
    Answer(R),
    InvokeLater(u64),
    ReturnEarlier(u64),
}

fn changes<S: Strategy>(
    ret: S,
) -> impl Strategy<Value = Vec<(prop::sample::Index, Change<S::Value>)>>
where
    S::Value: Clone,
{
    let change = prop_oneof![
        2 => ret.prop_map(Change::Answer),
        1 => (0..5 * TICK).prop_map(Change::InvokeLater),
        1 => (0..5 * TICK).prop_map(Change::ReturnEarlier),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), change), 0..4)
}

fn apply<O, R>(operation: &mut Operation<O, R>, change: Change<R>) {
    let Some(end) = &mut operation.end else {
        return;
    };
    match change {
        Change::Answer(ret) => end.ret = ret,
        Change::InvokeLater(by) => operation.invoked = (operation.invoked + by).min(end.at),
        Change::ReturnEarlier(by) => end.at = (end.at - by.min(end.at)).max(operation.invoked),
    }
}

/// On small histories, good and bad, the verdict is that of the definition; an order is one, and a prefix the longest.
fn verdicts_agree<M, S, R>(model: M, op: S, ret: R)
where
    M: Model<Op: Clone, Ret: Clone>,
    S: Strategy<Value = M::Op>,
    R: Strategy<Value = M::Ret>,
{
    let cases = 1_500;
    let rejected = Cell::new(0);
    runner(cases)
        .run(
            &(steps(op, 4, 1..8, 3), changes(ret), grain()),
            |(steps, changes, grain)| {
                let mut operations = execute(&model, steps);
                for (index, change) in changes {
                    apply(index.get_mut(&mut operations), change);
                }
                coarsen(&mut operations, grain);
                let history = History::new(operations).unwrap();
                let expected = brute_force::has_order(&model, &history);
                match check(&model, &history, Budget::default()) {
                    Verdict::Linearizable { order } => {
                        prop_assert!(expected, "accepted a bad one");
                        prop_assert!(brute_force::is_order_of(&model, &history, &order));
                    }
                    Verdict::NotLinearizable(failure) => {
                        prop_assert!(!expected, "rejected a good one: {failure}");
                        prop_assert!(failure.exact);
                        rejected.set(rejected.get() + 1);
                    }
                    Verdict::Undecided { .. } => prop_assert!(false, "undecided"),
                }
                Ok(())
            },
        )
        .unwrap();
    let rejected = rejected.get();
    println!("{rejected} of {cases} rejected");
    assert!(
        (cases / 10..cases * 9 / 10).contains(&rejected),
        "{rejected} of {cases} rejected: the histories are too much alike"
    );
}

/// What was known at the time `until`: later returns have not happened.
fn at<O: Clone, R: Clone>(history: &History<O, R>, until: u64) -> History<O, R> {
    let operations = history.operations().iter();
    let seen = operations
        .filter(|operation| operation.invoked <= until)
        .map(|operation| Operation {
            end: operation.end.clone().filter(|end| end.at <= until),
            ..operation.clone()
        });
    History::new(seen.collect()).unwrap()
}

/// Where a history is rejected, the prefix before the culprit is good, and the culprit ends it.
///
/// For models where a death leaves what a return would have left.
fn prefixes_are_longest<M, S, R>(model: M, op: S, ret: R)
where
    M: Model<Op: Clone, Ret: Clone>,
    S: Strategy<Value = M::Op>,
    R: Strategy<Value = M::Ret>,
{
    let rejected = Cell::new(0);
    runner(1_000)
        .run(
            &(steps(op, 4, 1..8, 3), changes(ret), grain()),
            |(steps, changes, grain)| {
                let mut operations = execute(&model, steps);
                for (index, change) in changes {
                    apply(index.get_mut(&mut operations), change);
                }
                coarsen(&mut operations, grain);
                let history = History::new(operations).unwrap();
                let Verdict::NotLinearizable(failure) = check(&model, &history, Budget::default())
                else {
                    return Ok(());
                };
                rejected.set(rejected.get() + 1);
                let Some(Return { at: end, .. }) = history.operations()[failure.culprits[0]].end
                else {
                    panic!("a culprit returned");
                };
                prop_assert!(brute_force::has_order(&model, &at(&history, end - 1)));
                prop_assert!(!brute_force::has_order(&model, &at(&history, end)));
                for (index, operation) in history.operations().iter().enumerate() {
                    let listed =
                        failure.prefix.contains(&index) || failure.unordered.contains(&index);
                    prop_assert_eq!(listed, operation.invoked <= end);
                    let ended_before = operation.end.as_ref().is_some_and(|other| other.at < end);
                    prop_assert!(!ended_before || failure.prefix.contains(&index));
                }
                Ok(())
            },
        )
        .unwrap();
    assert!(rejected.get() > 100, "{} rejected", rejected.get());
}

/// Mostly the clock as it is; now and then one on which much happens at once.
fn grain() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(1), 2 => 1..=3 * TICK]
}

fn small() -> impl Strategy<Value = u64> + Clone {
    0..4_u64
}

fn register_op() -> impl Strategy<Value = RegisterOp> {
    prop_oneof![
        Just(RegisterOp::Read),
        small().prop_map(RegisterOp::Write),
        small().prop_map(RegisterOp::Swap),
        (1..3_u64).prop_map(RegisterOp::FetchAdd),
        (1..3_u64).prop_map(RegisterOp::AddFetch),
        (small(), small())
            .prop_map(|(expected, new)| RegisterOp::CompareExchange { expected, new }),
    ]
}

fn register_ret() -> impl Strategy<Value = RegisterRet> {
    prop_oneof![
        Just(RegisterRet::Done),
        small().prop_map(RegisterRet::Value),
        small().prop_map(RegisterRet::Mismatch),
    ]
}

fn queue_op() -> impl Strategy<Value = QueueOp> {
    prop_oneof![
        small().prop_map(QueueOp::Put),
        small().prop_map(QueueOp::TryPut),
        Just(QueueOp::Get),
        Just(QueueOp::TryGet),
    ]
}

fn queue_ret() -> impl Strategy<Value = QueueRet> {
    prop_oneof![
        1 => Just(QueueRet::Done),
        1 => Just(QueueRet::Full),
        3 => small().prop_map(QueueRet::Got),
        1 => Just(QueueRet::Empty),
    ]
}

fn map_op() -> impl Strategy<Value = MapOp> {
    let some = || prop::option::of(small());
    let action = prop_oneof![
        Just(MapAction::Get),
        small().prop_map(MapAction::Insert),
        Just(MapAction::Remove),
        (1..3_u64).prop_map(MapAction::FetchAdd),
        (some(), some()).prop_map(|(expected, new)| MapAction::CompareAndSwap { expected, new }),
    ];
    (0..2_u64, action).prop_map(|(key, action)| MapOp { key, action })
}

fn map_ret() -> impl Strategy<Value = MapRet> {
    prop_oneof![
        1 => Just(MapRet::Done),
        3 => prop::option::of(small()).prop_map(MapRet::Value),
        1 => prop::option::of(small()).prop_map(MapRet::Mismatch),
    ]
}

fn locked_counter_op() -> impl Strategy<Value = LockedCounterOp> {
    let by = || 0..2_u32;
    prop_oneof![
        (1..3_u64).prop_map(LockedCounterOp::Add),
        by().prop_map(LockedCounterOp::Lock),
        by().prop_map(LockedCounterOp::TryLock),
        by().prop_map(LockedCounterOp::Read),
        (by(), small()).prop_map(|(by, value)| LockedCounterOp::Write(by, value)),
        by().prop_map(LockedCounterOp::Unlock),
        by().prop_map(LockedCounterOp::Die),
    ]
}

fn locked_counter_ret() -> impl Strategy<Value = LockedCounterRet> {
    prop_oneof![
        (small(), any::<bool>())
            .prop_map(|(before, owner_died)| LockedCounterRet::Added { before, owner_died }),
        Just(LockedCounterRet::Acquired),
        Just(LockedCounterRet::OwnerDied),
        Just(LockedCounterRet::WouldBlock),
        small().prop_map(LockedCounterRet::Value),
        Just(LockedCounterRet::Done),
    ]
}

#[test]
fn executions_on_a_register_are_accepted() {
    executions_are_accepted(Register::default(), register_op());
}

#[test]
fn executions_on_a_queue_are_accepted() {
    executions_are_accepted(QUEUE, queue_op());
}

#[test]
fn executions_on_a_map_are_accepted() {
    executions_are_accepted(Map, map_op());
}

#[test]
fn executions_on_a_locked_counter_are_accepted() {
    executions_are_accepted(LockedCounter, locked_counter_op());
}

#[test]
fn verdicts_on_a_register_agree_with_the_definition() {
    verdicts_agree(Register::default(), register_op(), register_ret());
}

#[test]
fn verdicts_on_a_queue_agree_with_the_definition() {
    verdicts_agree(QUEUE, queue_op(), queue_ret());
}

#[test]
fn verdicts_on_a_map_agree_with_the_definition() {
    verdicts_agree(Map, map_op(), map_ret());
}

#[test]
fn verdicts_on_a_locked_counter_agree_with_the_definition() {
    verdicts_agree(LockedCounter, locked_counter_op(), locked_counter_ret());
}

#[test]
fn prefixes_of_a_register_are_longest() {
    prefixes_are_longest(Register::default(), register_op(), register_ret());
}

#[test]
fn prefixes_of_a_queue_are_longest() {
    prefixes_are_longest(QUEUE, queue_op(), queue_ret());
}

#[test]
fn a_map_key_by_key_is_the_map_as_a_whole() {
    runner(1_000)
        .run(
            &(steps(map_op(), 5, 1..25, 6), changes(map_ret())),
            |(steps, changes)| {
                let mut operations = execute(&Map, steps);
                for (index, change) in changes {
                    apply(index.get_mut(&mut operations), change);
                }
                let history = History::new(operations).unwrap();
                let whole = check(&Map, &history, Budget::default());
                let by_key = check_by_key(&Map, &history, Budget::default());
                prop_assert_eq!(
                    matches!(whole, Verdict::Linearizable { .. }),
                    matches!(by_key, Verdict::Linearizable { .. })
                );
                prop_assert_eq!(
                    matches!(whole, Verdict::NotLinearizable(_)),
                    matches!(by_key, Verdict::NotLinearizable(_))
                );
                Ok(())
            },
        )
        .unwrap();
}
