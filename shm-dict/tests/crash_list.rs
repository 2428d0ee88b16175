//! What the death of a process leaves of lists, of containers inside of others, and of transactions: real processes,
//! killed, stopped, forked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_dict::{Bytes, Dict, DictError, List, Options, Raw, Recovery};
use shm_testing::{
    Child, Peer, UniqueName, Watchdog, eventually, in_private_tmpfs, peer_main,
    skip_unless_required, watchdog,
};

/// For what must not happen.
const WHILE: Duration = Duration::from_millis(200);

type Texts = List<Vec<u8>, Bytes>;
type Numbers = List<u64, Raw>;
type Accounts = Dict<u64, i64, Raw>;

#[test]
fn peer() {
    peer_main(&[
        ("modifies an element", modifies_an_element as fn(&mut Peer)),
        ("transacts", transacts),
        ("sorts inside", sorts_inside),
        ("transfers", transfers),
        ("pushes without pause", pushes_without_pause),
        ("reads", reads),
        ("forks in a transaction", forks_in_a_transaction),
        ("forks in a modification", forks_in_a_modification),
        ("fills the disk", fills_the_disk),
    ]);
}

fn text(word: &str) -> Vec<u8> {
    word.as_bytes().to_vec()
}

/// Stays in its closure until it hears something.
fn modifies_an_element(peer: &mut Peer) {
    let list = Texts::open(&peer.args()[0]).unwrap();
    let modified = list.modify(1, |_| {
        peer.say("inside");
        peer.hear();
        text("modified")
    });
    modified.unwrap();
    peer.say("done");
}

fn transacts(peer: &mut Peer) {
    let accounts = Accounts::open(&peer.args()[0]).unwrap();
    let all: Vec<u64> = (0..ACCOUNTS).collect();
    let all: Vec<&u64> = all.iter().collect();
    let done = accounts.transaction(&all, |keys| {
        keys.modify(&1, |balance| balance.map(|balance| balance - 30))?;
        keys.modify(&2, |balance| balance.map(|balance| balance + 30))?;
        peer.say("inside");
        peer.hear();
        Ok::<(), DictError>(())
    });
    done.unwrap();
    peer.say("done");
}

/// In a list that is in a list that is in a dictionary.
fn sorts_inside(peer: &mut Peer) {
    let dict = Accounts::open(&peer.args()[0]).unwrap();
    let mut told = false;
    let sorted = inner_list(&dict).sort_by_key(|number| {
        if !told {
            peer.say("inside");
            peer.hear();
            told = true;
        }
        *number
    });
    sorted.unwrap();
    peer.say("done");
}

/// From one account to the next, again and again.
fn transfers(peer: &mut Peer) {
    let accounts = Accounts::open(&peer.args()[0]).unwrap();
    peer.say("transferring");
    for turn in 0_u64.. {
        let (from, to) = (turn % ACCOUNTS, (turn * 7 + 1) % ACCOUNTS);
        let moved = accounts.transaction(&[&from, &to], |keys| {
            keys.modify(&from, |balance| Some(balance.unwrap_or(0) - 1))?;
            keys.modify(&to, |balance| Some(balance.unwrap_or(0) + 1))?;
            Ok::<(), DictError>(())
        });
        moved.unwrap();
    }
}

/// Numbers of its own, in order; takes out from the front what others may have put there.
fn pushes_without_pause(peer: &mut Peer) {
    let list = Numbers::open(&peer.args()[0]).unwrap();
    let own = peer.args()[1].parse::<u64>().unwrap() << 32;
    peer.say("pushing");
    for turn in 0_u64.. {
        match turn % 8 {
            3 => list.extend([own | turn, own | (turn + 1)]).unwrap(),
            4 => {}
            _ => list.push(&(own | turn)).unwrap(),
        }
        if list.len().unwrap() > 500 {
            // Unless the other has done so meanwhile.
            let cut = list.splice(..300, [0; 0]);
            assert!(matches!(
                cut,
                Ok(()) | Err(DictError::IndexOutOfRange { .. })
            ));
        }
    }
}

/// Each value, in each way, until the list ends with "end".
fn reads(peer: &mut Peer) {
    let list = Texts::open_read_only(&peer.args()[0]).unwrap();
    peer.say("reading");
    loop {
        let all = list.snapshot().unwrap();
        assert!(list.get(0).unwrap().is_some());
        if all.last() == Some(&text("end")) {
            return peer.say("read the end");
        }
    }
}

const ACCOUNTS: u64 = 16;

fn options() -> Options {
    Options::new().max_bytes(1 << 20).shards(2)
}

/// Three elements of three lengths, and a list of numbers.
fn create_list(name: &UniqueName) -> Texts {
    let list = Texts::create(&**name, options()).unwrap();
    list.extend([text("first"), text("eight ch"), vec![3; 300]])
        .unwrap();
    list
}

/// A hundred in each account, and below 100 a list of a list of numbers.
fn create_accounts(name: &UniqueName) -> Accounts {
    let accounts = Accounts::create(&**name, options()).unwrap();
    for account in 0..ACCOUNTS {
        accounts.set(&account, &100).unwrap();
    }
    let outer: Numbers = accounts.child_list(&100).unwrap();
    let inner: Numbers = outer.push_list().unwrap();
    inner.extend([3, 1, 2]).unwrap();
    accounts
}

fn inner_list(accounts: &Accounts) -> Numbers {
    let outer: Numbers = accounts.child_list(&100).unwrap();
    outer.child_list(0).unwrap()
}

/// What is in all accounts at one instant.
fn balances(accounts: &Accounts) -> Vec<i64> {
    let all = accounts.lock().unwrap();
    (0..ACCOUNTS)
        .map(|account| all.get(&account).unwrap().unwrap())
        .collect()
}

fn inside(role: &str, name: &str) -> Child {
    let mut child = Child::spawn(role, &[name]);
    child.expect("inside");
    child
}

type Told = Arc<Mutex<Vec<Recovery>>>;

fn recorder() -> (Told, impl Fn(&Recovery) + Send + Sync) {
    let all = Told::default();
    let told = Arc::clone(&all);
    (all, move |recovery: &Recovery| {
        told.lock().unwrap().push(*recovery)
    })
}

// ---- killed -------------------------------------------------------------------------------------

#[test]
fn a_writer_killed_under_the_lock_of_a_list_changes_nothing() {
    let _watchdog = watchdog();
    for reaped in [true, false] {
        let name = UniqueName::new("list-killed");
        let list = create_list(&name);
        let (told, record) = recorder();
        list.on_recovery(record);
        let before = list.snapshot().unwrap();
        let mut doomed = inside("modifies an element", &name);
        let pid = doomed.pid();
        match reaped {
            true => doomed.kill(),
            false => doomed.kill_unreaped(),
        }
        assert_eq!(list.snapshot().unwrap(), before, "before any repair");
        list.push(&text("next")).unwrap();
        let told = told.lock().unwrap().clone();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].dead.map(|dead| dead.pid()), Some(pid));
        assert_eq!(told[0].entries, 3, "before the next");
        assert_eq!(list.len(), Ok(4));
        assert_eq!(list.slice(..3).unwrap(), before);
        list.check().unwrap();
    }
}

#[test]
fn who_died_in_a_transactions_function_has_changed_nothing() {
    let _watchdog = watchdog();
    let name = UniqueName::new("transaction-killed");
    let accounts = create_accounts(&name);
    let (told, record) = recorder();
    accounts.on_recovery(record);
    let mut doomed = inside("transacts", &name);
    let pid = doomed.pid();
    doomed.kill();
    assert_eq!(accounts.get(&1), Ok(Some(100)));
    accounts.repair().unwrap();
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "one for each shard: {told:?}");
    assert!(
        told.iter()
            .all(|told| told.dead.map(|dead| dead.pid()) == Some(pid))
    );
    assert_eq!(balances(&accounts), [100; ACCOUNTS as usize]);
    accounts.check().unwrap();
}

#[test]
fn who_died_in_a_list_inside_has_changed_nothing() {
    let _watchdog = watchdog();
    let name = UniqueName::new("inside-killed");
    let accounts = create_accounts(&name);
    let list = inner_list(&accounts);
    let (told, record) = recorder();
    list.on_recovery(record);
    inside("sorts inside", &name).kill();
    assert_eq!(list.snapshot().unwrap(), [3, 1, 2]);
    list.sort().unwrap();
    assert_eq!(told.lock().unwrap().len(), 1);
    assert_eq!(list.snapshot().unwrap(), [1, 2, 3]);
    accounts.check().unwrap();
}

/// A hundred processes are killed in their transfers, at whatever they do: no account has lost what another did not get.
#[test]
fn the_sum_of_all_accounts_outlives_a_hundred_deaths() {
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    let name = UniqueName::new("transfers");
    let accounts = create_accounts(&name);
    let sum = 100 * ACCOUNTS as i64;
    let mut others = [(); 2].map(|()| Child::spawn("transfers", &[&name]));
    others
        .iter_mut()
        .for_each(|other| other.expect("transferring"));
    for death in 0..100_u64 {
        let doomed = &mut others[death as usize % 2];
        // Some that are long at it, and some that have just begun.
        std::thread::sleep(Duration::from_micros(death * 37 % 1500));
        doomed.kill();
        assert_eq!(
            balances(&accounts).iter().sum::<i64>(),
            sum,
            "after {death} deaths"
        );
        *doomed = Child::spawn("transfers", &[&name]);
        doomed.expect("transferring");
    }
    others.iter_mut().for_each(Child::kill);
    let all = balances(&accounts);
    assert_eq!(all.iter().sum::<i64>(), sum);
    assert!(
        all.iter().any(|&balance| balance != 100),
        "nobody has done anything"
    );
    accounts.check().unwrap();
}

/// Also where another has to finish what the dead one had promised.
#[test]
fn each_death_in_a_transfer_is_reported_with_who_died() {
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    let name = UniqueName::new("transfers-told");
    let accounts = create_accounts(&name);
    let (told, record) = recorder();
    accounts.on_recovery(record);
    for death in 0..100_u64 {
        let mut doomed = Child::spawn("transfers", &[&name]);
        doomed.expect("transferring");
        std::thread::sleep(Duration::from_micros(death * 37 % 1500));
        let pid = doomed.pid();
        doomed.kill();
        accounts.repair().unwrap();
        let told: Vec<Recovery> = told.lock().unwrap().drain(..).collect();
        let is_named = |told: &Recovery| told.dead.map(|dead| dead.pid()) == Some(pid);
        assert!(told.iter().all(is_named), "{pid}: {told:?}");
    }
    let shards = accounts.inspect().shards;
    let recoveries: u64 = shards.iter().map(|shard| shard.recoveries).sum();
    assert!(recoveries > 0, "nobody died under a lock");
    accounts.check().unwrap();
}

#[test]
fn of_what_was_pushed_nothing_is_missing_and_nothing_is_there_twice() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-pushes");
    let list = Numbers::create(&*name, options()).unwrap();
    for round in 0..10_u64 {
        let worker = |n: u64| (2 * round + n).to_string();
        let mut workers =
            [0, 1].map(|n| Child::spawn("pushes without pause", &[&*name, &worker(n)]));
        workers
            .iter_mut()
            .for_each(|worker| worker.expect("pushing"));
        let pushes = |n: u64| list.iter().any(|it| it.unwrap() >> 32 == 2 * round + n);
        eventually(|| pushes(0) && pushes(1));
        workers.iter_mut().for_each(Child::kill);
        let all = list.snapshot().unwrap();
        for own in [0, 1].map(|n| 2 * round + n) {
            let own: Vec<u64> = all.iter().copied().filter(|it| it >> 32 == own).collect();
            let follows = |pair: &[u64]| pair[0] + 1 == pair[1];
            assert!(own.windows(2).all(follows), "{own:?}");
        }
        assert!(!all.is_empty());
        list.check().unwrap();
        assert_eq!(list.snapshot().unwrap(), all, "a repair has changed it");
    }
}

#[test]
fn readers_of_a_list_go_on_while_writers_die() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-readers");
    let list = create_list(&name);
    let mut reader = Child::spawn("reads", &[&name]);
    reader.expect("reading");
    for len in [300, 7, 40, 3000] {
        inside("modifies an element", &name).kill();
        list.set(1, &vec![7; len]).unwrap();
        list.reverse().unwrap();
    }
    list.push(&text("end")).unwrap();
    reader.expect("read the end");
    list.check().unwrap();
}

// ---- stopped ------------------------------------------------------------------------------------

#[test]
fn a_stopped_writer_of_a_list_delays_writers_alone() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-stopped");
    let list = create_list(&name);
    let before = list.snapshot().unwrap();
    let mut stopped = inside("modifies an element", &name);
    stopped.stop();
    let short = list.within(Duration::from_millis(5));
    assert_eq!(list.snapshot().unwrap(), before);
    assert_eq!(list.get(1).unwrap().as_ref(), before.get(1));
    assert_eq!(list.len(), Ok(3));
    assert_eq!(short.push(&text("no")), Err(DictError::Timeout));
    assert_eq!(short.pop(), Err(DictError::Timeout));
    assert_eq!(short.sort(), Err(DictError::Timeout));
    assert_eq!(short.clear(), Err(DictError::Timeout));
    stopped.cont();
    stopped.tell("go on");
    stopped.expect("done");
    assert_eq!(list.get(1), Ok(Some(text("modified"))));
    short.push(&text("yes")).unwrap();
    list.check().unwrap();
}

#[test]
fn what_is_inside_can_be_read_while_its_writer_is_stopped() {
    let _watchdog = watchdog();
    let name = UniqueName::new("inside-stopped");
    let accounts = create_accounts(&name);
    let mut stopped = inside("sorts inside", &name);
    stopped.stop();
    let list = inner_list(&accounts);
    assert_eq!(list.snapshot().unwrap(), [3, 1, 2]);
    assert_eq!(list.get(2), Ok(Some(2)));
    let short = list.within(Duration::from_millis(5));
    assert_eq!(short.push(&4), Err(DictError::Timeout));
    let short = accounts.within(Duration::from_millis(5));
    let all: Vec<u64> = (0..ACCOUNTS).collect();
    let all: Vec<&u64> = all.iter().collect();
    let refused = short.transaction(&all, |_| -> Result<(), DictError> {
        unreachable!("locked")
    });
    assert_eq!(refused, Err(DictError::Timeout));
    stopped.cont();
    stopped.tell("go on");
    stopped.expect("done");
    assert_eq!(list.snapshot().unwrap(), [1, 2, 3]);
    accounts.check().unwrap();
}

// ---- forks --------------------------------------------------------------------------------------

#[test]
fn a_forked_child_does_not_commit_its_parents_transaction() {
    let _watchdog = watchdog();
    let name = UniqueName::new("transaction-fork");
    let accounts = create_accounts(&name);
    Child::spawn("forks in a transaction", &[&name]).expect("done");
    let mut expected = [100; ACCOUNTS as usize];
    (expected[1], expected[2]) = (70, 130);
    assert_eq!(balances(&accounts), expected);
    accounts.check().unwrap();
}

fn forks_in_a_transaction(peer: &mut Peer) {
    let accounts = Accounts::open(&peer.args()[0]).unwrap();
    let mut in_child = false;
    let version = accounts.version();
    let done = accounts.transaction(&[&1, &2], |keys| {
        keys.set(&1, &70)?;
        // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                in_child = true;
                assert_eq!(keys.get(&2), Err(DictError::Unsupported));
                keys.set(&2, &0)
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                assert_eq!(accounts.version(), version, "the child has changed it");
                keys.set(&2, &130)
            }
        }
    });
    if in_child {
        assert_eq!(done, Err(DictError::Unsupported));
        // They are its parent's locks, for which it waits as everybody does.
        let set = accounts.within(WHILE).set(&1, &0);
        std::process::exit(i32::from(set != Err(DictError::Timeout)));
    }
    done.unwrap();
    peer.say("done");
}

#[test]
fn a_forked_child_does_not_commit_its_parents_change_of_a_list() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-fork");
    let list = create_list(&name);
    Child::spawn("forks in a modification", &[&name]).expect("done");
    let words = ["parent", "parent", "parent"].map(text);
    assert_eq!(list.snapshot().unwrap(), words);
    list.check().unwrap();
}

fn forks_in_a_modification(peer: &mut Peer) {
    let list = Texts::open(&peer.args()[0]).unwrap();
    for index in 0..3 {
        let mut in_child = false;
        let modified = list.modify(index, |_| {
            // SAFETY: as above.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    in_child = true;
                    text("child")
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                    text("parent")
                }
            }
        });
        if in_child {
            assert_eq!(modified, Err(DictError::Unsupported));
            let pushed = list.within(WHILE).push(&text("child"));
            std::process::exit(i32::from(pushed != Err(DictError::Timeout)));
        }
        modified.unwrap();
    }
    peer.say("done");
}

// ---- panics -------------------------------------------------------------------------------------

fn panics<R>(f: impl FnOnce() -> R) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err(), "it came back");
}

#[test]
fn functions_that_panic_change_nothing() {
    let _watchdog = watchdog();
    let (name, other) = (UniqueName::new("list-panic"), UniqueName::new("panic"));
    let list = create_list(&name);
    let before = list.snapshot().unwrap();
    panics(|| list.modify(1, |_| panic!("in modify")));
    let mut calls = 0..2;
    panics(|| list.retain(|_| calls.next().expect("in retain") == 7));
    let mut calls = 0..2;
    panics(|| list.sort_by_key(|_| calls.next().expect("in sort_by_key")));
    panics(|| list.sort_by(|_, _| panic!("in sort_by")));
    assert_eq!(list.snapshot().unwrap(), before);
    list.within(WHILE).push(&text("next")).unwrap();
    list.check().unwrap();

    let accounts = create_accounts(&other);
    let inner = inner_list(&accounts);
    panics(|| inner.modify(0, |_| panic!("in modify")));
    panics(|| {
        accounts.transaction(&[&1, &2], |keys| -> Result<(), DictError> {
            keys.set(&1, &0)?;
            keys.remove(&2)?;
            panic!("in a transaction");
        })
    });
    assert_eq!(balances(&accounts), [100; ACCOUNTS as usize]);
    accounts.within(WHILE).set(&1, &100).unwrap();
    inner.within(WHILE).push(&4).unwrap();
    assert_eq!(
        accounts
            .inspect()
            .shards
            .iter()
            .map(|it| it.recoveries)
            .sum::<u64>(),
        0
    );
    accounts.check().unwrap();
}

// ---- read-only ----------------------------------------------------------------------------------

#[test]
fn a_read_only_attachment_reads_also_right_after_a_death() {
    let _watchdog = watchdog();
    let name = UniqueName::new("read-only");
    let accounts = create_accounts(&name);
    let reader = Accounts::open_read_only(&*name).unwrap();
    for role in ["sorts inside", "transacts"] {
        reads_and_does_not_write(&reader);
        inside(role, &name).kill();
        reads_and_does_not_write(&reader);
        reads_and_does_not_write(&Accounts::open_read_only(&*name).unwrap());
    }
    inner_list(&accounts).reverse().unwrap();
    assert_eq!(inner_list(&reader).snapshot().unwrap(), [2, 1, 3]);
    accounts.check().unwrap();
}

fn reads_and_does_not_write(reader: &Accounts) {
    let list = inner_list(reader);
    assert_eq!(list.snapshot().unwrap(), [3, 1, 2]);
    assert_eq!(list.slice(1..).unwrap(), [1, 2]);
    assert_eq!((list.len(), list.get(0)), (Ok(3), Ok(Some(3))));
    assert_eq!(reader.get(&2), Ok(Some(100)));
    assert_eq!(list.push(&4), Err(DictError::ReadOnly));
    assert_eq!(list.clear(), Err(DictError::ReadOnly));
    assert_eq!(list.sort(), Err(DictError::ReadOnly));
    assert_eq!(
        list.push_list::<u64, Raw>().map(drop),
        Err(DictError::ReadOnly)
    );
    let made = reader.child_list::<_, u64, Raw>(&200).map(drop);
    assert_eq!(made, Err(DictError::ReadOnly));
    let done = reader.transaction(&[&1, &2], |keys| keys.set(&1, &0));
    assert_eq!(done, Err(DictError::ReadOnly));
}

// ---- no room ------------------------------------------------------------------------------------

#[test]
fn a_full_disk_refuses_the_change_and_changes_nothing() {
    let _watchdog = watchdog();
    let mut peer = Child::spawn("fills the disk", &[]);
    let said = peer.hear();
    match said.as_str() {
        "not permitted" => skip_unless_required("root, or user namespaces"),
        said => assert_eq!(said, "done"),
    }
}

fn fills_the_disk(peer: &mut Peer) {
    let permitted = in_private_tmpfs("/dev/shm", "size=512k", || {
        [5, 40, 1000, 20_000].into_iter().for_each(fill_the_disk);
        transact_on_a_full_disk();
    });
    peer.say(if permitted { "done" } else { "not permitted" });
}

/// The list may have much more than there is.
fn fill_the_disk(len: usize) {
    let list = Texts::create("list", Options::new().max_bytes(1 << 30)).unwrap();
    let value = |number: usize| vec![number as u8; len];
    let mut count = 0;
    while list.push(&value(count)).is_ok() {
        count += 1;
    }
    assert!(count * len < 512 << 10 && count > 5, "{count} fit");
    let (before, version) = (list.check().unwrap(), list.version());
    assert_eq!(before.entries, count as u64);
    let longer = vec![1; 300_000];
    let many = || std::iter::repeat_n(longer.clone(), 3);
    for refused in [
        list.push(&longer),
        list.set(count / 2, &longer),
        list.insert(0, &longer),
        list.extend(many()),
        list.splice(1..3, many()),
        list.modify(1, |_| longer.clone()).map(drop),
    ] {
        assert!(
            matches!(refused, Err(DictError::Full { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(list.check().unwrap().entries, before.entries);
    assert_eq!(
        (list.check().unwrap().payload, list.version()),
        (before.payload, version)
    );
    assert_eq!(
        list.snapshot().unwrap(),
        (0..count).map(value).collect::<Vec<_>>()
    );
    // What is taken out makes room.
    for number in (count / 2..count).rev() {
        assert_eq!(list.pop(), Ok(Some(value(number))));
    }
    list.reverse().unwrap();
    for number in 0..count / 4 {
        list.push(&value(number)).unwrap();
    }
    list.check().unwrap();
    list.unlink().unwrap();
}

fn transact_on_a_full_disk() {
    type Values = Dict<u64, Vec<u8>, Bytes>;
    let dict = Values::create("dict", Options::new().max_bytes(1 << 30).shards(2)).unwrap();
    let mut count = 0;
    while dict.set(&count, &vec![1; 1000]).is_ok() {
        count += 1;
    }
    let (before, version) = (dict.check().unwrap(), dict.version());
    let refused = dict.transaction(&[&0, &1, &2], |keys| {
        keys.remove(&0)?;
        keys.set(&1, &vec![2; 20])?;
        keys.set(&2, &vec![2; 300_000])
    });
    assert!(
        matches!(refused, Err(DictError::Full { .. })),
        "{refused:?}"
    );
    let after = dict.check().unwrap();
    assert_eq!(
        (after.entries, after.payload),
        (before.entries, before.payload)
    );
    assert_eq!(dict.version(), version);
    assert_eq!(dict.get(&1), Ok(Some(vec![1; 1000])));
    dict.unlink().unwrap();
}
