//! What the death of a process leaves of a dictionary: real processes, killed, stopped, forked.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_dict::{Bytes, Dict, DictError, Error, Options, Place, Raw, Recovery};
use shm_testing::{
    Child, Peer, UniqueName, eventually, in_private_tmpfs, peer_main, skip_unless_required,
    until_asleep_in_futex, watchdog,
};

/// For what must not happen.
const WHILE: Duration = Duration::from_millis(200);
/// For what must.
const LONG: Duration = Duration::from_secs(15);

type Texts = Dict<u64, Vec<u8>, Bytes>;
type Numbers = Dict<u64, u64, Raw>;

#[test]
fn peer() {
    peer_main(&[
        ("modifies", modifies as fn(&mut Peer)),
        ("holds all", holds_all),
        ("waits", waits),
        ("reads", reads),
        ("forks in a modification", forks_in_a_modification),
        ("forks with the lock", forks_with_the_lock),
        ("forks and the child trims", forks_and_the_child_trims),
        ("fills the disk", fills_the_disk),
        ("adds without pause", adds_without_pause),
    ]);
}

fn texts(peer: &Peer) -> Texts {
    Texts::open(&peer.args()[0]).unwrap()
}

fn key(peer: &Peer) -> u64 {
    peer.args()[1].parse().unwrap()
}

/// Stays in its closure until it hears something.
fn modifies(peer: &mut Peer) {
    let (dict, key) = (texts(peer), key(peer));
    let modified = dict.modify(&key, |_| {
        peer.say("inside");
        peer.hear();
        Some(b"modified".to_vec())
    });
    modified.unwrap();
    peer.say("done");
}

fn holds_all(peer: &mut Peer) {
    let dict = texts(peer);
    let mut all = dict.lock().unwrap();
    all.set(&1, &b"first".to_vec()).unwrap();
    all.remove(&2).unwrap();
    peer.say("holding");
    peer.hear();
}

fn waits(peer: &mut Peer) {
    let dict = texts(peer);
    let version = dict.version();
    peer.say("waiting");
    dict.wait_for_change(version).unwrap();
    peer.say("changed");
}

/// Reads each second value until one of them is "end".
fn reads(peer: &mut Peer) {
    let dict = Texts::open_read_only(&peer.args()[0]).unwrap();
    peer.say("reading");
    while dict.get(&1).unwrap().as_deref() != Some(b"end") {}
    peer.say("read the end");
}

/// Adds one to each of eight numbers, again and again.
fn adds_without_pause(peer: &mut Peer) {
    let numbers = Numbers::open(&peer.args()[0]).unwrap();
    peer.say("adding");
    loop {
        for key in 0..8 {
            numbers.fetch_add(&key, 1).unwrap();
        }
    }
}

fn options() -> Options {
    Options::new().max_bytes(1 << 20).shards(2)
}

fn create(name: &UniqueName) -> Texts {
    let dict = Texts::create(&**name, options()).unwrap();
    for key in 1..=16 {
        dict.set(&key, &b"old".to_vec()).unwrap();
    }
    dict
}

fn inside(name: &str, key: u64) -> Child {
    let mut child = Child::spawn("modifies", &[name, &key.to_string()]);
    child.expect("inside");
    child
}

/// What the handle's repairs were told to find.
fn recoveries(dict: &Texts) -> Arc<Mutex<Vec<Recovery>>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&all);
    dict.on_recovery(move |recovery| told.lock().unwrap().push(*recovery));
    all
}

#[test]
fn a_writer_killed_under_the_lock_blocks_nobody_and_changes_nothing() {
    let _watchdog = watchdog();
    for reaped in [true, false] {
        let name = UniqueName::new("dict-killed");
        let dict = create(&name);
        let told = recoveries(&dict);
        let mut doomed = inside(&name, 1);
        let pid = doomed.pid();
        match reaped {
            true => doomed.kill(),
            false => doomed.kill_unreaped(),
        }
        assert_eq!(dict.get(&1), Ok(Some(b"old".to_vec())), "before any repair");
        dict.set(&1, &b"new".to_vec()).unwrap();
        let told = told.lock().unwrap().clone();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].dead.map(|dead| dead.pid()), Some(pid));
        assert_eq!(dict.len(), Ok(16));
        dict.check().unwrap();
        let seen = dict.inspect().shards;
        assert_eq!(seen.iter().map(|shard| shard.recoveries).sum::<u64>(), 1);
    }
}

#[test]
fn who_died_with_all_locks_leaves_what_was_finished() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-lock");
    let dict = create(&name);
    let told = recoveries(&dict);
    let mut doomed = Child::spawn("holds all", &[&name]);
    doomed.expect("holding");
    assert_eq!(dict.within(WHILE).set(&3, &vec![]), Err(DictError::Timeout));
    assert!(matches!(dict.lock_timeout(WHILE), Err(DictError::Timeout)));
    doomed.kill();
    assert_eq!(dict.len(), Ok(15));
    assert_eq!(told.lock().unwrap().len(), 2, "one for each shard");
    assert_eq!(dict.get(&1), Ok(Some(b"first".to_vec())));
    assert_eq!(dict.get(&2), Ok(None));
    dict.check().unwrap();
    assert_eq!(dict.lock().unwrap().len(), 15);
}

#[test]
fn a_stopped_writer_delays_writers_of_its_shard_alone() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-stopped");
    let dict = create(&name);
    let mut stopped = inside(&name, 1);
    stopped.stop();
    let short = dict.within(Duration::from_millis(5));
    let (mut set, mut refused) = (0, 0);
    for key in 1..=16 {
        assert_eq!(dict.get(&key), Ok(Some(b"old".to_vec())));
        match short.set(&key, &b"new".to_vec()) {
            Ok(()) => set += 1,
            Err(DictError::Timeout) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(set > 0 && refused > 0 && set + refused == 16);
    assert_eq!(short.set(&1, &vec![]), Err(DictError::Timeout));
    assert_eq!(short.clear(), Err(DictError::Timeout));
    assert_eq!(dict.items().count(), 16);
    assert_eq!(dict.len(), Ok(16), "nobody died");
    stopped.cont();
    stopped.tell("go on");
    stopped.expect("done");
    assert_eq!(dict.get(&1), Ok(Some(b"modified".to_vec())));
    short.set(&1, &b"new".to_vec()).unwrap();
    dict.check().unwrap();
}

/// One who reads without pause is not held up by writers that are killed, one after the other.
#[test]
fn readers_go_on_while_writers_die() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-readers");
    let dict = create(&name);
    let mut reader = Child::spawn("reads", &[&name]);
    reader.expect("reading");
    for key in [1, 2, 3, 1] {
        inside(&name, key).kill();
        dict.set(&key, &vec![7; 300]).unwrap();
    }
    dict.set(&1, &b"end".to_vec()).unwrap();
    reader.expect("read the end");
    dict.check().unwrap();
}

#[test]
fn a_killed_waiter_harms_nobody() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-waiter");
    let dict = create(&name);
    let mut waiters = [(); 2].map(|()| Child::spawn("waits", &[&name]));
    for waiter in &mut waiters {
        waiter.expect("waiting");
        until_asleep_in_futex(waiter.pid());
    }
    let [doomed, other] = &mut waiters;
    doomed.kill();
    let before = dict.version();
    dict.set(&1, &b"new".to_vec()).unwrap();
    assert_eq!(dict.version(), before + 1);
    other.expect("changed");
    dict.check().unwrap();
}

/// A writer that died is a change that nobody rings for: who waits finds it by itself, as does who repairs.
#[test]
fn who_waits_goes_on_after_a_death() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-waits");
    let dict = create(&name);
    let mut doomed = inside(&name, 1);
    let mut waiter = Child::spawn("waits", &[&name]);
    waiter.expect("waiting");
    until_asleep_in_futex(waiter.pid());
    doomed.kill();
    dict.set(&1, &b"new".to_vec()).unwrap();
    waiter.expect("changed");
}

#[test]
fn additions_are_as_many_as_were_made() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-adds");
    let numbers = Numbers::create(&*name, options()).unwrap();
    for _ in 0..10 {
        let mut adders = [(); 2].map(|()| Child::spawn("adds without pause", &[&name]));
        adders.iter_mut().for_each(|adder| adder.expect("adding"));
        let sum = || {
            (0..8)
                .filter_map(|key| numbers.get(&key).unwrap())
                .sum::<u64>()
        };
        let before = sum();
        eventually(|| sum() > before + 100);
        adders.iter_mut().for_each(Child::kill);
        assert!(numbers.len().unwrap() <= 8);
        numbers.check().unwrap();
        let all = |numbers: &Numbers| {
            (0..8)
                .map(|key| numbers.get(&key).unwrap())
                .collect::<Vec<_>>()
        };
        let (mine, reader) = (all(&numbers), Numbers::open_read_only(&*name).unwrap());
        assert_eq!(mine, all(&reader));
        // Each adds to one after the other, so that none is more than one per adder behind the one before.
        let counts: Vec<_> = mine.into_iter().map(Option::unwrap_or_default).collect();
        assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
    }
}

// ---- forks --------------------------------------------------------------------------------------

#[test]
fn a_forked_child_does_not_commit_its_parents_modification() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-fork");
    let dict = create(&name);
    Child::spawn("forks in a modification", &[&name, "1"]).expect("done");
    assert_eq!(dict.get(&1), Ok(Some(b"parent".to_vec())));
    assert_eq!(dict.len(), Ok(16));
    dict.check().unwrap();
}

fn forks_in_a_modification(peer: &mut Peer) {
    let (dict, key) = (texts(peer), key(peer));
    let mut in_child = false;
    let version = dict.version();
    let modified = dict.modify(&key, |_| {
        // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                in_child = true;
                Some(b"child".to_vec())
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                assert_eq!(dict.version(), version, "the child has changed it");
                Some(b"parent".to_vec())
            }
        }
    });
    if in_child {
        assert_eq!(modified, Err(DictError::Unsupported));
        // It is its parent's lock, which it waits for as everybody does.
        let set = dict.within(WHILE).set(&key, &b"child".to_vec());
        std::process::exit(i32::from(set != Err(DictError::Timeout)));
    }
    modified.unwrap();
    peer.say("done");
}

#[test]
fn a_guard_that_a_forked_child_inherits_is_inert() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-guard");
    let dict = create(&name);
    Child::spawn("forks with the lock", &[&name]).expect("done");
    assert_eq!(dict.get(&1), Ok(Some(b"parent".to_vec())));
    assert_eq!(dict.get(&17), Ok(Some(b"child".to_vec())));
    assert_eq!(dict.len(), Ok(17));
    dict.check().unwrap();
}

/// The parent may be looking at what the child would give back.
#[test]
fn a_forked_child_gives_no_memory_back_while_its_parent_is_attached() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-trim");
    drop(create(&name));
    Child::spawn("forks and the child trims", &[&name]).expect("done");
}

fn forks_and_the_child_trims(peer: &mut Peer) {
    let mut dict = texts(peer);
    // SAFETY: as above.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // Nobody else ends it if it hangs.
            nix::unistd::alarm::set(10);
            assert_eq!(dict.trim(), Err(DictError::Busy));
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    dict.trim().unwrap();
    peer.say("done");
}

fn forks_with_the_lock(peer: &mut Peer) {
    let dict = texts(peer);
    let mut all = dict.lock().unwrap();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: as above.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let value = b"child".to_vec();
            assert_eq!(all.set(&1, &value), Err(DictError::Unsupported));
            assert_eq!(all.remove(&2), Err(DictError::Unsupported));
            assert_eq!(all.get(&2), Err(DictError::Unsupported));
            assert_eq!(all.clear(), Err(DictError::Unsupported));
            drop(all);
            // The parent has it still.
            assert_eq!(dict.within(WHILE).set(&1, &value), Err(DictError::Timeout));
            std::io::Write::write_all(&mut writer, b"x").unwrap();
            dict.within(LONG).set(&17, &value).unwrap();
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            std::io::Read::read_exact(&mut reader, &mut [0]).unwrap();
            all.set(&1, &b"parent".to_vec()).unwrap();
            assert_eq!(all.len(), 16);
            drop(all);
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    peer.say("done");
}

// ---- no room ------------------------------------------------------------------------------------

#[test]
fn a_full_disk_refuses_the_entry_and_changes_nothing() {
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
        [40, 1000, 3000, 20_000].into_iter().for_each(fill_the_disk);
    });
    peer.say(if permitted { "done" } else { "not permitted" });
}

/// The dictionary may have much more than there is.
fn fill_the_disk(len: usize) {
    let options = Options::new().max_bytes(1 << 30).shards(2);
    let dict = Texts::create("dict", options).unwrap();
    let value = |key: u64| vec![key as u8; len];
    let mut count = 0;
    while dict.set(&count, &value(count)).is_ok() {
        count += 1;
    }
    assert!(count as usize * len < 512 << 10 && count > 5, "{count} fit");
    let before = (dict.check().unwrap().entries, dict.version());
    for key in 0..count + 2 {
        let longer = vec![1; 100_000];
        let refused = dict.set(&key, &longer);
        assert!(
            matches!(refused, Err(DictError::Full { .. })),
            "{refused:?}"
        );
        let modified = dict.modify(&key, |_| Some(longer));
        assert!(
            matches!(modified, Err(DictError::Full { .. })),
            "{modified:?}"
        );
    }
    let after = (dict.check().unwrap().entries, dict.version());
    assert_eq!(before, after);
    for key in 0..count {
        assert_eq!(dict.get(&key), Ok(Some(value(key))));
    }
    // What is taken out makes room, for others too.
    for key in 0..count {
        assert_eq!(dict.remove(&key), Ok(true));
    }
    for key in 0..count * 9 / 10 {
        dict.set(&(key + 1000), &value(key)).unwrap();
    }
    dict.check().unwrap();
    dict.unlink().unwrap();
}

// ---- attaching ----------------------------------------------------------------------------------

#[test]
fn two_handles_of_one_process_wait_for_each_other() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-handles");
    let first = create(&name);
    let second = Texts::open(&*name).unwrap();
    second.set(&1, &b"second".to_vec()).unwrap();
    assert_eq!(first.get(&1), Ok(Some(b"second".to_vec())));
    let all = first.lock().unwrap();
    // This thread has the lock, by another handle.
    assert_eq!(second.set(&1, &vec![]), Err(DictError::Reentered));
    std::thread::scope(|s| {
        let other = s.spawn(|| second.within(WHILE).set(&1, &vec![]));
        assert_eq!(other.join().unwrap(), Err(DictError::Timeout));
    });
    drop(all);
    drop(first);
    second.set(&1, &b"alone".to_vec()).unwrap();
    second.check().unwrap();
}

#[test]
fn what_is_no_such_dictionary_is_refused() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-other");
    let missing = Texts::open(&*name).map(drop);
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    let dict = create(&name);
    assert!(Numbers::open(&*name).is_err(), "another type");
    assert!(Dict::<u64, Vec<u8>>::open(&*name).is_err(), "another codec");
    assert!(
        Texts::create(&*name, options()).is_err(),
        "the name is taken"
    );
    let again = Texts::open_or_create(&*name, options()).unwrap();
    assert_eq!(again.len(), Ok(16));
    drop((dict, again));

    // Its creator is gone, and somebody has made it shorter, or has written over the options.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.path())
        .unwrap();
    let len = file.metadata().unwrap().len();
    for shorter in [0, 100, 4096, 5000, len / 2, len - 1] {
        file.set_len(shorter).unwrap();
        assert!(Texts::open(&*name).is_err(), "{shorter} bytes");
        assert!(Texts::open_read_only(&*name).is_err(), "{shorter} bytes");
    }
    drop(file);
    std::fs::remove_file(name.path()).unwrap();
    drop(create(&name));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    // The payload begins with the options: the bytes, the shards, the longest value, the hash.
    let payload = len - payload_bytes();
    for (word, value) in [(0, 1_u64 << 41), (1, 3), (1, 1 << 40), (3, 99)] {
        let at = payload + 8 * word;
        let mut before = [0; 8];
        let reader = std::fs::File::open(name.path()).unwrap();
        reader.read_exact_at(&mut before, at).unwrap();
        file.write_all_at(&value.to_ne_bytes(), at).unwrap();
        let opened = Texts::open(&*name).map(drop);
        assert!(
            matches!(opened, Err(Error::Corrupt { .. })),
            "{word}: {opened:?}"
        );
        file.write_all_at(&before, at).unwrap();
    }
    Texts::open(&*name).unwrap().check().unwrap();
}

/// The size of a dictionary's payload: the control, two shards, owners of 256 chunks, and 1 MiB.
fn payload_bytes() -> u64 {
    let before_the_heap = 512 + 2 * 1152 + 4 * 256_u64;
    before_the_heap.next_multiple_of(4096) + (1 << 20)
}

/// The heap's words may be anybody's; whoever follows them is told, and does not follow further.
#[test]
fn garbage_in_the_heap_is_corrupt_and_never_a_crash() {
    let _watchdog = watchdog();
    for garbage in [u64::MAX, 0x0101_0101_0101_0101, 1 << 63 | 1, 7] {
        let name = UniqueName::new("dict-garbage");
        let dict = create(&name);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(name.path())
            .unwrap();
        let len = std::fs::metadata(name.path()).unwrap().len();
        let words = garbage.to_ne_bytes().repeat(8 << 10);
        file.write_all_at(&words, len - (1 << 20)).unwrap();
        for key in 1..=16 {
            // Whatever it is, it is an answer.
            let _ = dict.get(&key);
            let _ = dict.within(WHILE).set(&key, &vec![1; 100]);
            let _ = dict.remove(&key);
        }
        let _ = dict.items().take(1000).count();
        let _ = dict.check();
        assert_eq!(dict.clear(), Ok(()), "nothing of it is needed");
        dict.set(&1, &b"new".to_vec()).unwrap();
        dict.check().unwrap();
    }
}

#[test]
fn a_handle_outlives_the_name() {
    let _watchdog = watchdog();
    let name = UniqueName::new("dict-stale");
    let old = create(&name);
    old.unlink().unwrap();
    let place = Place::named(&*name).unlink_on_drop(true);
    let new = Texts::create(place, options()).unwrap();
    old.set(&99, &b"old".to_vec()).unwrap();
    assert_eq!(new.get(&99), Ok(None));
    assert_eq!(old.len(), Ok(17));
    drop(old);
    assert!(Texts::open(&*name).is_ok(), "the new one's name stays");
}
