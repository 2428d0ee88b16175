//! Was there an order? Four processes work on one thing at the same time, some are killed in the middle,
//! and what they recorded must be explained by one after another; a killed one's last operation either way.
//!
//! Of the operations a good part overlap another process's, which is counted and asserted; a broken twin falls within as
//! many rounds as the real thing gets.
//!
//! 25 rounds for each; `SHM_HISTORIES=1000 cargo test --release -p shm-kill --test linearizability` for more.

use std::cell::Cell;
use std::fmt::Debug;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use shm_dict::{Dict, DictError, List, Options, Raw};
use shm_lock::{Guarded, LockError, LockResult, Mutex, RwLock};
use shm_queue::{PutError, Queue, QueueError};
use shm_testing::linearizability::{
    self, Budget, History, ListOp, ListRet, LockedCounter, LockedCounterOp, LockedCounterRet, Map,
    MapAction, MapOp, MapRet, Model, Operation, QueueOp, QueueRet, Recorder, Register, RegisterOp,
    RegisterRet, Verdict, Words, check, collect,
};
use shm_testing::{Child, Peer, UniqueName, Watchdog, peer_main};
use shm_value::{AtomicArray, AtomicValue, Value};

#[path = "../../shm-testing/tests/scratch/mod.rs"]
mod scratch;

use scratch::Scratch;

const PROCESSES: u64 = 4;
/// Operations of each process in a round.
const OPERATIONS: u64 = 150;
/// Of a round's operations, so many on average overlap another process's at least.
const OVERLAPPING: u64 = 100;

#[test]
fn peer() {
    peer_main(&[
        ("adds under a mutex", adds_under_a_mutex as fn(&mut Peer)),
        ("adds under no mutex", adds_under_no_mutex),
        ("uses a value", uses_a_value),
        ("uses four numbers as a value", uses_four_numbers_as_a_value),
        ("uses a number", uses_a_number),
        ("reads before it is asked", reads_before_it_is_asked),
        ("uses a reader-writer lock", uses_a_rwlock),
        ("uses a dictionary", uses_a_dict),
        ("adds to entries in two steps", adds_to_entries_in_two_steps),
        ("uses a list", uses_a_list),
        ("pops in two steps", pops_in_two_steps),
        ("uses a queue", uses_a_queue),
        ("puts a moment later", puts_a_moment_later),
    ]);
}

// ---- the processes ------------------------------------------------------------------------------

/// Records operations: `perform` does what `choose` made of a random number, and calls its second argument
/// in the middle, where the process may be told to die.
fn take_part<O: Words, R: Words>(
    peer: &mut Peer,
    choose: impl Fn(u64) -> O,
    perform: impl Fn(&O, &dyn Fn()) -> R,
) {
    let [_, dir, start, process, seed, last] = peer.args() else {
        panic!("not a round's process");
    };
    let [process, seed, last] = [process, seed, last].map(|n| n.parse::<u64>().unwrap());
    let mut recorder = Recorder::<O, R>::create(dir, process as u32, OPERATIONS as usize).unwrap();
    let start = AtomicValue::<u64>::open(start).unwrap();
    peer.say("ready");
    // Awake and on their marks: a wake-up takes longer than a round.
    while start.load() == 0 {
        std::thread::yield_now();
    }
    let mut random = seed ^ process << 32;
    for n in 0..OPERATIONS {
        random = next(random);
        let operation = choose(random);
        let pauses = next(!random);
        let middle = || {
            if n == last {
                raise(Signal::SIGKILL).unwrap();
            }
            pause_if(pauses >> 32);
        };
        recorder.record(&operation, || {
            pause_if(pauses);
            let told = perform(&operation, &middle);
            // One that has no middle.
            middle();
            told
        });
    }
    peer.say("done");
    peer.hear();
}

/// One time in eight, others come first. Where there are more processes than processors, each would do all of its
/// operations with nobody beside it.
fn pause_if(random: u64) {
    if random.is_multiple_of(8) {
        std::thread::yield_now();
    }
}

/// splitmix64.
fn next(state: u64) -> u64 {
    let mixed = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

fn add(random: u64) -> LockedCounterOp {
    LockedCounterOp::Add(random % 100 + 1)
}

/// The lock, and whether its last owner died; its data is taken as it is.
fn accept<G: Guarded>(result: LockResult<G>) -> (G, bool) {
    match result {
        Ok(guard) => (guard, false),
        Err(LockError::OwnerDied(recover)) => (recover.accept(), true),
        Err(other) => panic!("{other}"),
    }
}

fn adds_under_a_mutex(peer: &mut Peer) {
    let counter = Mutex::<u64>::open(&peer.args()[0]).unwrap();
    take_part(peer, add, |&op, middle| {
        let LockedCounterOp::Add(n) = op else {
            unreachable!("only additions are chosen")
        };
        let (mut guard, owner_died) = accept(counter.lock());
        let before = *guard;
        if n % 2 == 0 {
            middle();
        }
        *guard = before + n;
        middle();
        LockedCounterRet::Added { before, owner_died }
    });
}

/// The twin that forgot the lock.
fn adds_under_no_mutex(peer: &mut Peer) {
    let counter = AtomicValue::<u64>::open(&peer.args()[0]).unwrap();
    take_part(peer, add, |&op, middle| {
        let LockedCounterOp::Add(n) = op else {
            unreachable!("only additions are chosen")
        };
        let before = counter.load();
        std::thread::yield_now();
        middle();
        counter.store(before + n);
        let owner_died = false;
        LockedCounterRet::Added { before, owner_died }
    });
}

/// Reads, writes and read-modify-writes; what is written is hardly written twice.
fn access(random: u64) -> RegisterOp {
    match random % 4 {
        0 | 1 => RegisterOp::Read,
        2 => RegisterOp::Write(random >> 16),
        _ => RegisterOp::AddFetch(random >> 48),
    }
}

/// What a reader saw of four words that belong together; one that is never written if they do not.
fn whole(words: [u64; 4]) -> RegisterRet {
    let same = words.iter().all(|&word| word == words[0]);
    RegisterRet::Value(if same { words[0] } else { u64::MAX })
}

fn uses_a_value(peer: &mut Peer) {
    let value = Value::<[u64; 4]>::open(&peer.args()[0]).unwrap();
    take_part(peer, access, |&op, middle| match op {
        RegisterOp::Read => whole(value.get().unwrap()),
        RegisterOp::Write(new) => {
            let mut guard = value.lock().unwrap();
            *guard = [new; 4];
            middle();
            drop(guard);
            RegisterRet::Done
        }
        RegisterOp::AddFetch(n) => {
            let changed = value.update(|words| {
                for word in &mut *words {
                    *word = word.wrapping_add(n);
                    middle();
                }
                *words
            });
            whole(changed.unwrap())
        }
        _ => unreachable!("these three are chosen"),
    });
}

/// The twin whose readers see halves.
fn uses_four_numbers_as_a_value(peer: &mut Peer) {
    let words = AtomicArray::<u64>::open(&peer.args()[0]).unwrap();
    let all = || [0, 1, 2, 3].map(|index| words.load(index).unwrap());
    let access = |random: u64| match random % 4 {
        0 | 1 => RegisterOp::Read,
        _ => RegisterOp::Write(random >> 16),
    };
    take_part(peer, access, |&op, middle| match op {
        RegisterOp::Write(new) => {
            for word in words.elements() {
                word.store(new);
                middle();
                std::thread::yield_now();
            }
            RegisterRet::Done
        }
        _ => whole(all()),
    });
}

fn on_a_number(random: u64) -> RegisterOp {
    let new = random >> 16;
    match random % 8 {
        0 | 1 => RegisterOp::Read,
        2 => RegisterOp::Write(new),
        3 => RegisterOp::Swap(new),
        4 => RegisterOp::Write(1),
        5 => RegisterOp::CompareExchange { expected: 1, new },
        _ => RegisterOp::FetchAdd(random >> 48),
    }
}

fn perform(number: &AtomicValue<u64>, op: RegisterOp) -> RegisterRet {
    match op {
        RegisterOp::Read => RegisterRet::Value(number.load()),
        RegisterOp::Write(new) => {
            number.store(new);
            RegisterRet::Done
        }
        RegisterOp::Swap(new) => RegisterRet::Value(number.swap(new)),
        RegisterOp::FetchAdd(n) => RegisterRet::Value(number.fetch_add(n)),
        RegisterOp::AddFetch(n) => RegisterRet::Value(number.fetch_add(n).wrapping_add(n)),
        RegisterOp::CompareExchange { expected, new } => {
            match number.compare_exchange(expected, new) {
                Ok(_) => RegisterRet::Done,
                Err(seen) => RegisterRet::Mismatch(seen),
            }
        }
    }
}

fn uses_a_number(peer: &mut Peer) {
    let number = AtomicValue::<u64>::open(&peer.args()[0]).unwrap();
    take_part(peer, on_a_number, |&op, _| perform(&number, op));
}

/// The twin that answers with what it read a while ago.
fn reads_before_it_is_asked(peer: &mut Peer) {
    let number = AtomicValue::<u64>::open(&peer.args()[0]).unwrap();
    let cached = Cell::new(0);
    take_part(peer, on_a_number, |&op, _| {
        let told = match op {
            RegisterOp::Read => RegisterRet::Value(cached.get()),
            other => perform(&number, other),
        };
        cached.set(number.load());
        told
    });
}

/// Two words under the lock; a repair makes the second what the first is.
fn uses_a_rwlock(peer: &mut Peer) {
    let lock = RwLock::<[u64; 2]>::open(&peer.args()[0]).unwrap();
    let repair = |words: &mut [u64; 2], _| words[1] = words[0];
    take_part(peer, access, |&op, middle| {
        if op == RegisterOp::Read {
            let guard = lock.read_or_repair(repair).unwrap();
            middle();
            let [first, second] = *guard;
            return whole([first, first, second, second]);
        }
        let mut guard = lock.write_or_repair(repair).unwrap();
        let (new, told) = match op {
            RegisterOp::Write(new) => (new, RegisterRet::Done),
            RegisterOp::AddFetch(n) => {
                let new = guard[0].wrapping_add(n);
                (new, RegisterRet::Value(new))
            }
            _ => unreachable!("these three are chosen"),
        };
        guard[0] = new;
        middle();
        guard[1] = new;
        told
    });
}

type Entries = Dict<u64, u64, Raw>;

fn on_entries(random: u64) -> MapOp {
    let new = random >> 16 | 1;
    let action = match random % 8 {
        0 | 1 => MapAction::Get,
        2 => MapAction::Insert(new),
        3 => MapAction::Insert(1),
        4 => MapAction::Remove,
        5 => MapAction::CompareAndSwap {
            expected: Some(1),
            new: Some(new),
        },
        6 => MapAction::CompareAndSwap {
            expected: None,
            new: Some(new),
        },
        _ => MapAction::FetchAdd(random >> 48),
    };
    let key = random >> 8 & 3;
    MapOp { key, action }
}

fn on_dict(dict: &Entries, op: &MapOp, middle: &dyn Fn()) -> MapRet {
    let key = &op.key;
    match op.action {
        MapAction::Get => MapRet::Value(dict.get(key).unwrap()),
        MapAction::Insert(value) => MapRet::Value(dict.insert(key, &value).unwrap()),
        MapAction::Remove => MapRet::Value(dict.pop(key).unwrap()),
        MapAction::FetchAdd(n) => {
            let mut before = None;
            let added = dict.modify(key, |value| {
                before = value;
                middle();
                Some(value.unwrap_or(0).wrapping_add(n))
            });
            added.unwrap();
            MapRet::Value(before)
        }
        MapAction::CompareAndSwap { expected, new } => {
            let swapped = dict.compare_and_swap(key, expected.as_ref(), new.as_ref());
            match swapped.unwrap() {
                Ok(()) => MapRet::Done,
                Err(seen) => MapRet::Mismatch(seen),
            }
        }
    }
}

/// Look-ups without a lock among them; one shard, so that tables are shared.
fn uses_a_dict(peer: &mut Peer) {
    let dict = Entries::open(&peer.args()[0]).unwrap();
    take_part(peer, on_entries, |op, middle| on_dict(&dict, op, middle));
}

/// The twin that takes two steps for one.
fn adds_to_entries_in_two_steps(peer: &mut Peer) {
    let dict = Entries::open(&peer.args()[0]).unwrap();
    take_part(peer, on_entries, |op, middle| match op.action {
        MapAction::FetchAdd(n) => {
            let before = dict.get(&op.key).unwrap();
            std::thread::yield_now();
            let after = before.unwrap_or(0).wrapping_add(n);
            dict.set(&op.key, &after).unwrap();
            MapRet::Value(before)
        }
        _ => on_dict(&dict, op, middle),
    });
}

/// Numbers of few bytes stand in their places, longer ones in records. More is taken out than put in: of a short list
/// each change is soon seen, and the search for an order stays short as well.
fn on_elements(random: u64) -> ListOp {
    let (new, index) = (random >> 16 >> (random >> 8 & 32), random >> 12 & 3);
    match random % 16 {
        0 | 1 => ListOp::Push(new),
        2 => ListOp::PushFront(new),
        3 | 4 => ListOp::Pop,
        5 | 6 => ListOp::PopFront,
        7..=9 => ListOp::Get(index),
        10 | 11 => ListOp::Set(index, new),
        12 | 13 => ListOp::Add(index, random >> 40),
        14 => ListOp::Reverse,
        _ => ListOp::Len,
    }
}

/// What was put in the place of an element; nothing if there is none.
fn put(result: Result<u64, DictError>) -> ListRet {
    match result {
        Ok(value) => ListRet::Value(Some(value)),
        Err(DictError::IndexOutOfRange { .. }) => ListRet::Value(None),
        Err(other) => panic!("{other}"),
    }
}

fn on_list(list: &List<u64>, op: ListOp, middle: &dyn Fn()) -> ListRet {
    let done = |result: Result<(), DictError>| {
        result.unwrap();
        ListRet::Done
    };
    match op {
        ListOp::Push(value) => done(list.push(&value)),
        ListOp::Pop => ListRet::Value(list.pop().unwrap()),
        ListOp::PopFront => ListRet::Value(list.pop_front().unwrap()),
        ListOp::PushFront(value) => done(list.insert(0, &value)),
        ListOp::Get(index) => ListRet::Value(list.get(index as usize).unwrap()),
        ListOp::Set(index, value) => put(list.set(index as usize, &value).map(|()| value)),
        ListOp::Add(index, n) => put(list.modify(index as usize, |value| {
            middle();
            value.wrapping_add(n)
        })),
        ListOp::Reverse => done(list.reverse()),
        ListOp::Len => ListRet::Len(list.len().unwrap() as u64),
    }
}

fn uses_a_list(peer: &mut Peer) {
    let list = List::open(&peer.args()[0]).unwrap();
    take_part(peer, on_elements, |&op, middle| on_list(&list, op, middle));
}

/// The twin that looks first and takes out then.
fn pops_in_two_steps(peer: &mut Peer) {
    let list = List::open(&peer.args()[0]).unwrap();
    take_part(peer, on_elements, |&op, middle| match op {
        ListOp::PopFront => {
            let first = list.first().unwrap();
            std::thread::yield_now();
            let _ = list.pop_front().unwrap();
            ListRet::Value(first)
        }
        op => on_list(&list, op, middle),
    });
}

/// Numbers as they are: each `get` takes its message in one step. One that had to be decoded first would go back to the
/// front if its getter died meanwhile, and others may have passed it by then.
type Messages = Queue<u64, Raw>;

/// Small, so that it is full and empty often.
const MESSAGES: u32 = 3;

/// No message is put twice. None that waits without an end: all four would wait for each other.
fn on_messages(random: u64) -> QueueOp {
    match random % 2 {
        0 => QueueOp::TryPut(random >> 1),
        _ => QueueOp::TryGet,
    }
}

/// What a form that waits for a moment says, or one that does not. That a moment is over says nothing of the queue, whose
/// lock another may have held all the time.
fn ask<R>(
    waits: bool,
    timed: impl Fn(Duration) -> Result<R, QueueError>,
    tried: impl Fn() -> Result<R, QueueError>,
) -> Option<R> {
    let mut answer = match waits {
        true => timed(Duration::from_micros(200)),
        false => tried(),
    };
    loop {
        match answer {
            Ok(answer) => return Some(answer),
            Err(QueueError::Full | QueueError::Empty) => return None,
            Err(QueueError::Timeout) => answer = tried(),
            Err(other) => panic!("{other}"),
        }
    }
}

fn on_queue(queue: &Messages, op: QueueOp, waits: bool) -> QueueRet {
    match op {
        QueueOp::TryPut(message) => {
            let why = |refused: PutError<u64>| refused.error;
            let timed = |moment| queue.put_timeout(message, moment).map_err(why);
            let put = ask(waits, timed, || queue.try_put(message).map_err(why));
            put.map_or(QueueRet::Full, |()| QueueRet::Done)
        }
        QueueOp::TryGet => {
            let got = ask(
                waits,
                |moment| queue.get_timeout(moment),
                || queue.try_get(),
            );
            got.map_or(QueueRet::Empty, QueueRet::Got)
        }
        _ => unreachable!("these two are chosen"),
    }
}

fn uses_a_queue(peer: &mut Peer) {
    let queue = Messages::open(&peer.args()[0]).unwrap();
    let waits = Cell::new(false);
    take_part(peer, on_messages, |&op, _| {
        waits.set(!waits.get());
        on_queue(&queue, op, waits.get())
    });
}

/// The twin that says that it has put what stands in a buffer of its own, as if a thread fed the queue from there.
fn puts_a_moment_later(peer: &mut Peer) {
    let queue = Messages::open(&peer.args()[0]).unwrap();
    let buffer = Cell::new(None);
    take_part(peer, on_messages, |&op, _| {
        if let Some(message) = buffer.take() {
            on_queue(&queue, QueueOp::TryPut(message), false);
        }
        match op {
            QueueOp::TryPut(message) => {
                buffer.set(Some(message));
                QueueRet::Done
            }
            op => on_queue(&queue, op, false),
        }
    });
}

fn create_queue(name: &str) -> Messages {
    Messages::create(name, shm_queue::Options::new(MESSAGES)).unwrap()
}

fn create_list(name: &str) -> List<u64> {
    List::create(name, Options::new().max_bytes(64 << 10)).unwrap()
}

fn create_entries(name: &str) -> Entries {
    Entries::create(name, Options::new().max_bytes(64 << 10).shards(1)).unwrap()
}

// ---- the rounds ---------------------------------------------------------------------------------

/// Lets four processes work on `name`; in two rounds of three one of them dies in an operation of its choice,
/// and one is killed whatever it does.
fn round<M: Model>(role: &str, name: &str, model: &M, seed: u64) -> Round
where
    M::Op: Words + Debug,
    M::Ret: Words + Debug,
{
    let dir = Scratch::new(name);
    let dir_name = dir.to_str().expect("a path in UTF-8");
    let start_name = UniqueName::new("start");
    let start = AtomicValue::<u64>::create(&*start_name, 0).unwrap();
    let chance = next(seed);
    let kills = kills(seed);
    let last = |process: u64| match (process, kills) {
        (0, true) => chance % (OPERATIONS / 2),
        _ => OPERATIONS,
    };
    let spawn = |process: u64| {
        let args = [process, seed, last(process)].map(|n| n.to_string());
        Child::spawn(
            role,
            &[name, dir_name, &start_name, &args[0], &args[1], &args[2]],
        )
    };
    let mut children: Vec<Child> = (0..PROCESSES).map(spawn).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    start.store(1);
    if kills {
        let until = Instant::now() + Duration::from_micros(chance >> 32 & 0xFF);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        children.remove(1).kill();
        let status = children.remove(0).wait();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}");
    }
    for mut child in children {
        child.expect("done");
        child.tell("go home");
        assert!(child.wait().success());
    }
    let history = collect::<M::Op, M::Ret>(&dir).unwrap();
    Round {
        verdict: check(model, &history, Budget::default()),
        pending: history.pending().count(),
        overlapping: overlapping(&history),
    }
}

/// What a round showed.
struct Round {
    verdict: Verdict,
    /// Operations in which a process died.
    pending: usize,
    overlapping: usize,
}

/// How many operations ended that another process's were under way with: those alone can be in the wrong order.
fn overlapping<O, R>(history: &History<O, R>) -> usize {
    let ended: Vec<_> = history
        .operations()
        .iter()
        .filter_map(|one| Some((one.process, one.invoked..one.end.as_ref()?.at)))
        .collect();
    let overlaps = |(process, times): &&(u32, Range<u64>)| {
        ended.iter().any(|(other, theirs)| {
            other != process && theirs.start < times.end && times.start < theirs.end
        })
    };
    ended.iter().filter(overlaps).count()
}

/// Whether processes die in this round.
fn kills(seed: u64) -> bool {
    !seed.is_multiple_of(3)
}

fn rounds() -> u64 {
    std::env::var("SHM_HISTORIES").map_or(25, |rounds| rounds.parse().unwrap())
}

/// All rounds of the real thing have an order. `create` makes it anew.
fn is_linearizable<M: Model, T>(role: &str, model: &M, create: impl Fn(&str) -> T)
where
    M::Op: Words + Debug,
    M::Ret: Words + Debug,
{
    let _watchdog = Watchdog::new(Duration::from_secs(600));
    let (mut all_pending, mut all_overlapping) = (0, 0);
    for seed in 0..rounds() {
        let name = UniqueName::new("linear");
        let _thing = create(&name);
        let shown = round(role, &name, model, seed);
        assert!(
            shown.verdict.is_linearizable(),
            "{role}, round {seed}: {:?}",
            shown.verdict
        );
        all_pending += shown.pending;
        all_overlapping += shown.overlapping;
    }
    let deaths = (0..rounds()).filter(|&seed| kills(seed)).count();
    assert!(
        all_pending >= deaths,
        "each of {deaths} died in an operation"
    );
    println!(
        "{role}: {} rounds, {all_pending} pending operations, {all_overlapping} that overlap",
        rounds()
    );
    assert!(
        all_overlapping as u64 >= rounds() * OVERLAPPING,
        "{all_overlapping} operations overlapped another process's"
    );
}

/// Some round of a broken twin has none, of as many as the real thing gets.
fn is_found_out<M: Model, T>(role: &str, model: &M, create: impl Fn(&str) -> T)
where
    M::Op: Words + Debug,
    M::Ret: Words + Debug,
{
    let _watchdog = Watchdog::new(Duration::from_secs(600));
    let is_caught = |seed| {
        let name = UniqueName::new("linear-twin");
        let _thing = create(&name);
        let shown = round(role, &name, model, seed);
        matches!(shown.verdict, Verdict::NotLinearizable(_))
    };
    let caught = (0..rounds()).find(|&seed| is_caught(seed));
    println!("{role}: caught in round {caught:?}");
    assert!(caught.is_some(), "{role}: in no round of {}", rounds());
}

#[test]
fn control_operations_one_after_another_do_not_overlap() {
    let times = |times: [(u32, u64, u64); 3]| {
        let operation = |(process, from, to)| Operation::returned(process, from, (), to, ());
        overlapping(&History::new(times.map(operation).to_vec()).unwrap())
    };
    assert_eq!(times([(0, 0, 10), (1, 10, 20), (0, 20, 30)]), 0);
    assert_eq!(times([(0, 0, 10), (1, 9, 20), (0, 20, 30)]), 2);
}

#[test]
fn a_counter_under_a_mutex() {
    is_linearizable("adds under a mutex", &LockedCounter, |name| {
        Mutex::create(name, 0_u64).unwrap()
    });
}

#[test]
fn a_value() {
    is_linearizable("uses a value", &Register::default(), |name| {
        Value::create(name, [0_u64; 4]).unwrap()
    });
}

#[test]
fn an_atomic_value() {
    is_linearizable("uses a number", &Register::default(), |name| {
        AtomicValue::create(name, 0_u64).unwrap()
    });
}

#[test]
fn words_under_a_rwlock() {
    is_linearizable("uses a reader-writer lock", &Register::default(), |name| {
        RwLock::create(name, [0_u64; 2]).unwrap()
    });
}

#[test]
fn a_dictionary() {
    is_linearizable("uses a dictionary", &Map, create_entries);
}

#[test]
fn control_additions_to_entries_in_two_steps_are_found_out() {
    is_found_out("adds to entries in two steps", &Map, create_entries);
}

#[test]
fn a_list() {
    is_linearizable("uses a list", &linearizability::List, create_list);
}

#[test]
fn control_elements_popped_in_two_steps_are_found_out() {
    is_found_out("pops in two steps", &linearizability::List, create_list);
}

fn messages() -> linearizability::Queue {
    let capacity = MESSAGES as usize;
    linearizability::Queue { capacity }
}

#[test]
fn a_queue() {
    is_linearizable("uses a queue", &messages(), create_queue);
}

#[test]
fn control_messages_put_a_moment_later_are_found_out() {
    is_found_out("puts a moment later", &messages(), create_queue);
}

#[test]
fn control_a_counter_without_a_lock_is_found_out() {
    is_found_out("adds under no mutex", &LockedCounter, |name| {
        AtomicValue::create(name, 0_u64).unwrap()
    });
}

#[test]
fn control_a_torn_value_is_found_out() {
    is_found_out(
        "uses four numbers as a value",
        &Register::default(),
        |name| AtomicArray::create(name, &[0_u64; 4]).unwrap(),
    );
}

#[test]
fn control_a_stale_read_is_found_out() {
    is_found_out("reads before it is asked", &Register::default(), |name| {
        AtomicValue::create(name, 0_u64).unwrap()
    });
}
