//! How much processor time the checker takes for windows of 4 processes with 8 operations each, all of them busy all the time.
//!
//! `cargo run --release -p shm-testing --example check_windows -- 100000`
//!
//! `good` windows are those of a sequential execution, stretched to intervals that overlap; in `killed` ones two of the
//! processes were killed in an operation; in `bad` ones one operation's result is that of another.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use shm_testing::linearizability::{
    Budget, History, LockedCounter, LockedCounterOp, Map, MapAction, MapOp, Model, Operation,
    Queue, QueueOp, Register, RegisterOp, Verdict, check, check_by_key,
};

const PROCESSES: u32 = 4;
const OPERATIONS: u32 = 8;
const TICK: u64 = 10;
/// How far an interval reaches on each side of its instant, at most.
const REACH: u64 = 4 * TICK;

/// The same numbers on every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Killed,
    Bad,
}

type Window<M> = History<<M as Model>::Op, <M as Model>::Ret>;

/// A sequential execution of operations that can happen, each stretched to an interval around its instant.
fn window<M: Model>(
    model: &M,
    kind: Kind,
    random: &mut Random,
    op: impl Fn(&mut Random) -> M::Op,
) -> Window<M>
where
    M::Ret: Clone,
{
    // Whose turn it is: a shuffle, so that all are busy from the beginning to the end.
    let mut turns: Vec<u32> = (0..OPERATIONS).flat_map(|_| 0..PROCESSES).collect();
    for index in (1..turns.len()).rev() {
        turns.swap(index, random.below(index as u64 + 1) as usize);
    }
    let instant = |index: usize| (index as u64 + 1) * TICK + REACH;
    let mut state = model.init();
    let mut operations: Vec<Operation<M::Op, M::Ret>> = Vec::new();
    let mut free_from = [0; PROCESSES as usize];
    for (index, &process) in turns.iter().enumerate() {
        let (op, ret, next) = loop {
            let op = op(random);
            let outcome = model.step(&state, &op).into_iter().next();
            if let Some((ret, next)) = outcome {
                break (op, ret, next);
            }
        };
        state = next;
        let next_turn = (index + 1..turns.len()).find(|&later| turns[later] == process);
        let free_from = &mut free_from[process as usize];
        let invoked = (instant(index) - random.below(REACH)).max(*free_from);
        let returned = (instant(index) + random.below(REACH))
            .min(next_turn.map_or(u64::MAX, |turn| instant(turn) - 1));
        *free_from = returned + 1;
        operations.push(Operation::returned(process, invoked, op, returned, ret));
    }
    match kind {
        Kind::Good => {}
        Kind::Killed => {
            for process in [0, 1] {
                let last = operations.iter().rposition(|o| o.process == process);
                operations[last.expect("each has its turns")].end = None;
            }
        }
        Kind::Bad => {
            let [to, from] = [(); 2].map(|()| random.below(operations.len() as u64) as usize);
            let other = operations[from].end.clone().map(|end| end.ret);
            if let (Some(end), Some(ret)) = (&mut operations[to].end, other) {
                end.ret = ret;
            }
        }
    }
    History::new(operations).expect("processes are sequential")
}

fn measure<M: Model<Ret: Clone>>(
    name: &str,
    count: usize,
    model: &M,
    op: impl Fn(&mut Random) -> M::Op,
    check: impl Fn(&M, &Window<M>, Budget) -> Verdict,
) {
    for kind in [Kind::Good, Kind::Killed, Kind::Bad] {
        let mut random = Random(1);
        let mut spent = Duration::ZERO;
        let mut longest = Duration::ZERO;
        let [mut rejected, mut undecided] = [0, 0];
        for _ in 0..count {
            let history = window(model, kind, &mut random, &op);
            let start = processor_time();
            let verdict = check(model, &history, Budget::default());
            let took = processor_time() - start;
            spent += took;
            longest = longest.max(took);
            match verdict {
                Verdict::Linearizable { .. } => {}
                Verdict::NotLinearizable(failure) if kind != Kind::Bad => panic!("{failure}"),
                Verdict::NotLinearizable(_) => rejected += 1,
                Verdict::Undecided { .. } => undecided += 1,
            }
        }
        let kind = format!("{kind:?}").to_lowercase();
        println!(
            "{name:<16} {kind:<7} {count:>8} windows {:>8.2} s {:>8.1} us each, longest {:>8.2} ms, {rejected} rejected, {undecided} undecided",
            spent.as_secs_f64(),
            spent.as_secs_f64() * 1e6 / count as f64,
            longest.as_secs_f64() * 1e3,
        );
    }
}

/// Of this thread: the same on a busy machine.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    Duration::from(time)
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .map_or(10_000, |count| count.parse().expect("a number of windows"));
    measure("register", count, &Register::default(), register_op, check);
    let counter = |_: &mut Random| RegisterOp::FetchAdd(1);
    measure("counter", count, &Register::default(), counter, check);
    let section = |_: &mut Random| LockedCounterOp::Add(1);
    measure("locked counter", count, &LockedCounter, section, check);
    measure("queue of 8", count, &Queue { capacity: 8 }, queue_op, check);
    measure("map", count, &Map, map_op, check);
    measure("map by key", count, &Map, map_op, check_by_key);
}

fn register_op(random: &mut Random) -> RegisterOp {
    let value = random.below(4);
    match random.below(4) {
        0 => RegisterOp::Read,
        1 => RegisterOp::Write(value),
        2 => RegisterOp::FetchAdd(1),
        _ => RegisterOp::CompareExchange {
            expected: value,
            new: random.below(4),
        },
    }
}

fn queue_op(random: &mut Random) -> QueueOp {
    let value = random.below(1 << 60);
    match random.below(4) {
        0 => QueueOp::Put(value),
        1 => QueueOp::TryPut(value),
        2 => QueueOp::Get,
        _ => QueueOp::TryGet,
    }
}

fn map_op(random: &mut Random) -> MapOp {
    let value = random.below(1 << 60);
    let action = match random.below(4) {
        0 => MapAction::Get,
        1 => MapAction::Insert(value),
        2 => MapAction::Remove,
        _ => MapAction::FetchAdd(value),
    };
    MapOp {
        key: random.below(4),
        action,
    }
}
