//! What the death of a process leaves of a sequence value: one test for each row of docs/peer-death.md.

use std::time::Duration;

use shm_testing::{Child, Peer, UniqueName, peer_main, until_asleep_in_futex, watchdog};
use shm_value::{SeqValue, ValueError};

type Words = [u64; 8];

#[test]
fn peer() {
    peer_main(&[
        ("holds the guard", holds_the_guard as fn(&mut Peer)),
        ("writes without pause", writes_without_pause),
        ("forks in an update", forks_in_an_update),
        ("waits", waits),
        ("reads", reads),
    ]);
}

fn open(peer: &Peer) -> SeqValue<Words> {
    SeqValue::open(&peer.args()[0]).unwrap()
}

fn holds_the_guard(peer: &mut Peer) {
    let value = open(peer);
    let mut guard = value.lock().unwrap();
    *guard = [7; 8];
    peer.say("holding");
    peer.hear();
}

fn writes_without_pause(peer: &mut Peer) {
    let value = open(peer);
    peer.say("writing");
    loop {
        value
            .update(|words| words.iter_mut().for_each(|word| *word += 1))
            .unwrap();
    }
}

fn forks_in_an_update(peer: &mut Peer) {
    use nix::sys::wait::{WaitStatus, waitpid};
    let value = open(peer);
    let mut in_child = false;
    let updated = value.update(|words| {
        // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                in_child = true;
                *words = [666; 8];
            }
            nix::unistd::ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                assert_eq!(value.version(), 0, "the child has committed");
                *words = [2; 8];
            }
        }
    });
    if in_child {
        std::process::exit(0);
    }
    updated.unwrap();
    peer.say("updated");
}

fn waits(peer: &mut Peer) {
    let value = open(peer);
    peer.say("waiting");
    let (words, version) = value.wait_for_change(0);
    peer.say(&format!("{} at {version}", words[0]));
}

fn reads(peer: &mut Peer) {
    let value = SeqValue::<Words>::open_read_only(&peer.args()[0]).unwrap();
    peer.say("reading");
    let mut last = 0;
    loop {
        let (words, version) = value.get_with_version();
        assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
        assert!(version >= last, "time runs backwards");
        if words[0] == u64::MAX {
            break;
        }
        last = version;
    }
    peer.say("whole");
}

#[test]
fn a_writer_killed_with_the_guard_leaves_the_old_value_and_a_free_lock() {
    let _watchdog = watchdog();
    let name = UniqueName::new("seq-guard");
    let value = SeqValue::create(&*name, [1_u64; 8]).unwrap();
    let mut writer = Child::spawn("holds the guard", &[&name]);
    writer.expect("holding");
    assert!(matches!(value.try_lock(), Err(ValueError::WouldBlock)));
    let waited = value.lock_timeout(Duration::from_millis(1));
    assert!(matches!(waited, Err(ValueError::Timeout)));
    writer.stop();
    assert_eq!(value.get(), [1; 8], "readers do not wait for the stopped");
    writer.kill_unreaped();
    assert_eq!(value.get_with_version(), ([1; 8], 0));
    let old = value.update(|words| std::mem::replace(words, [2; 8]));
    assert_eq!(old, Ok([1; 8]));
    assert_eq!(value.get_with_version(), ([2; 8], 1));
    assert_eq!(value.inspect().deaths, 1);
}

/// Readers in processes of their own, attached read-only, never see half a change, while one writer after
/// the other is killed in the middle of it.
#[test]
fn readers_see_whole_values_while_writers_are_killed() {
    let _watchdog = watchdog();
    let name = UniqueName::new("seq-whole");
    let value = SeqValue::create(&*name, [0_u64; 8]).unwrap();
    let mut readers = [(); 2].map(|()| Child::spawn("reads", &[&name]));
    for reader in &mut readers {
        reader.expect("reading");
    }
    for _ in 0..10 {
        let mut writer = Child::spawn("writes without pause", &[&name]);
        writer.expect("writing");
        let begin = value.version();
        while value.version() < begin + 1000 {
            let (words, version) = value.get_with_version();
            // Each commit adds one to each word: nothing is lost, whoever died.
            assert_eq!(words, [version; 8]);
        }
        writer.kill();
        let (words, version) = value.get_with_version();
        assert_eq!(words, [version; 8]);
    }
    value.set([u64::MAX; 8]).unwrap();
    for reader in &mut readers {
        reader.expect("whole");
    }
}

#[test]
fn a_forked_child_does_not_commit_its_parents_update() {
    let _watchdog = watchdog();
    let name = UniqueName::new("seq-fork");
    let value = SeqValue::create(&*name, [1_u64; 8]).unwrap();
    Child::spawn("forks in an update", &[&name]).expect("updated");
    assert_eq!(value.get_with_version(), ([2; 8], 1));
}

#[test]
fn a_killed_waiter_harms_nobody() {
    let _watchdog = watchdog();
    let name = UniqueName::new("seq-waiter");
    let value = SeqValue::create(&*name, [0_u64; 8]).unwrap();
    let mut waiters = [(); 2].map(|()| Child::spawn("waits", &[&name]));
    for waiter in &mut waiters {
        waiter.expect("waiting");
        until_asleep_in_futex(waiter.pid());
    }
    let [doomed, other] = &mut waiters;
    doomed.kill();
    value.set([5; 8]).unwrap();
    other.expect("5 at 1");
    value.set([6; 8]).unwrap();
    assert_eq!(value.version(), 2);
}

/// What a writer leaves that was killed between its commit and the wake: planted, since the moment is short.
#[test]
fn a_change_without_a_wake_is_noticed_all_the_same() {
    use std::os::unix::fs::FileExt;
    let _watchdog = watchdog();
    let name = UniqueName::new("seq-silent");
    let _value = SeqValue::create(&*name, [0_u64; 8]).unwrap();
    let mut waiter = Child::spawn("waits", &[&name]);
    waiter.expect("waiting");
    until_asleep_in_futex(waiter.pid());
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    file.write_all_at(&9_u64.to_ne_bytes(), 4096 + 72 + 64)
        .unwrap();
    file.write_all_at(&1_u64.to_ne_bytes(), 4096 + 64).unwrap();
    waiter.expect("9 at 1");
}
