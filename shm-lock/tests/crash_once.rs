//! What the death of a process leaves of a Once.

use shm_lock::{LockFailure, Once, OnceValue};
use shm_testing::{
    Child, Peer, UniqueName, eventually, peer_main, until_thread_asleep_in_futex, watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("makes for ever", makes_for_ever as fn(&mut Peer)),
        ("makes", makes),
        ("begins and is killed", begins),
        ("forks while it makes", forks),
    ]);
}

fn open(peer: &Peer) -> OnceValue<[u64; 2]> {
    OnceValue::open(&peer.args()[0]).unwrap()
}

fn makes_for_ever(peer: &mut Peer) {
    let value = open(peer);
    let _ = value.get_or_init(|| {
        peer.say("making");
        peer.hear();
        [1, 1]
    });
}

fn makes(peer: &mut Peer) {
    let value = open(peer);
    peer.say("waiting");
    let made = *value.get_or_init(|| [2, 2]).unwrap();
    peer.say(&format!("{made:?}"));
}

/// Many short lives, each killed at a moment of the parent's choice.
fn begins(peer: &mut Peer) {
    let value = open(peer);
    peer.say("ready");
    let made = *value.get_or_init(|| [9, 9]).unwrap();
    assert_eq!(made, [9, 9]);
    peer.hear();
}

/// Forks inside both initialisers; the children come back from them with another value, and tell by their
/// exit status what they were given.
fn forks(peer: &mut Peer) {
    let value = open(peer);
    let once = Once::open(&peer.args()[1]).unwrap();
    let mut in_child = false;
    let made = value.get_or_init(|| {
        in_child = forked(|| assert_eq!(value.get(), None, "the child has made it"));
        if in_child { [666, 666] } else { [7, 7] }
    });
    if in_child {
        std::process::exit(i32::from(made != Err(LockFailure::WouldBlock)));
    }
    assert_eq!(made, Ok(&[7, 7]));
    let done = once.call_once(|| {
        in_child = forked(|| assert!(!once.is_completed(), "the child has done it"));
    });
    if in_child {
        std::process::exit(i32::from(done != Err(LockFailure::WouldBlock)));
    }
    assert_eq!(done, Ok(()));
    peer.say("made");
}

/// Forks: `true` in the child; `false` in the parent, once the child has ended well and `after` has looked.
fn forked(after: impl FnOnce()) -> bool {
    use nix::sys::wait::{WaitStatus, waitpid};
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => true,
        nix::unistd::ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            after();
            false
        }
    }
}

#[test]
fn a_forked_child_does_not_make_its_parents_value() {
    let _watchdog = watchdog();
    let (value_name, once_name) = (UniqueName::new("once-fork"), UniqueName::new("once-fork2"));
    let value = OnceValue::<[u64; 2]>::create(&*value_name).unwrap();
    let once = Once::create(&*once_name).unwrap();
    Child::spawn("forks while it makes", &[&value_name, &once_name]).expect("made");
    assert_eq!(value.get(), Some(&[7, 7]));
    assert!(once.is_completed());
}

fn asleep(name: &str) -> Child {
    let mut child = Child::spawn("makes", &[name]);
    child.expect("waiting");
    let tid = child.tid();
    until_thread_asleep_in_futex(child.pid(), tid);
    child
}

#[test]
fn the_next_one_initialises_after_a_death() {
    let _watchdog = watchdog();
    let name = UniqueName::new("once-death");
    let value = OnceValue::<[u64; 2]>::create(&*name).unwrap();
    for deaths in 1..=2 {
        let mut doomed = Child::spawn("makes for ever", &[&name]);
        doomed.expect("making");
        assert_eq!(value.get(), None);
        let owner = value.inspect().owner.map(|id| id.pid());
        assert_eq!(owner, Some(doomed.pid()));
        if deaths == 1 {
            doomed.kill();
            assert_eq!(value.get(), None, "half a value is none");
        } else {
            let mut waiter = asleep(&name);
            doomed.kill_unreaped();
            waiter.expect("[2, 2]");
        }
    }
    assert_eq!(value.get(), Some(&[2, 2]));
    assert_eq!(value.inspect().deaths, 2);
}

#[test]
fn a_killed_waiter_harms_nobody() {
    let _watchdog = watchdog();
    let name = UniqueName::new("once-waiter");
    let value = OnceValue::<[u64; 2]>::create(&*name).unwrap();
    let mut waiting = None;
    let made = value.get_or_init(|| {
        let mut doomed = asleep(&name);
        let other = asleep(&name);
        doomed.kill();
        eventually(|| value.inspect().waiters == 1);
        waiting = Some(other);
        [4, 4]
    });
    assert_eq!(made, Ok(&[4, 4]));
    waiting.expect("left asleep").expect("[4, 4]");
    let mut late = Child::spawn("makes", &[&name]);
    late.expect("waiting");
    late.expect("[4, 4]");
}

#[test]
fn a_value_is_whole_or_none_whenever_its_maker_is_killed() {
    let _watchdog = watchdog();
    let mut made = 0;
    for round in 0..40_u64 {
        let name = UniqueName::new(&format!("once-storm-{round}"));
        let value = OnceValue::<[u64; 2]>::create(&*name).unwrap();
        let mut child = Child::spawn("begins and is killed", &[&name]);
        child.expect("ready");
        std::thread::sleep(std::time::Duration::from_micros(round));
        child.kill();
        match value.get() {
            Some(seen) => {
                assert_eq!(seen, &[9, 9]);
                made += 1;
            }
            None => assert_eq!(value.get_or_init(|| [8, 8]), Ok(&[8, 8])),
        }
    }
    println!("{made} of 40 had made it");
}
