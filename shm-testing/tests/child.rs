//! Peers: what a test sees of them, in the good and in the bad cases.

use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;

use nix::libc;
use shm_testing::{
    Child, Peer, ThreadState, peer_main, peer_main_at, threads, until_asleep_in_futex,
    until_thread_asleep_in_futex, wait_until, watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("echo", echo as fn(&mut Peer)),
        ("args", args),
        ("silent", silent),
        ("panics", panics),
        ("sleeper", sleeper),
        ("grandparent", grandparent),
        ("leaves", leaves),
    ]);
}

fn echo(peer: &mut Peer) {
    print!("noise before ");
    peer.say("ready");
    loop {
        let line = peer.hear();
        if line == "end" {
            return;
        }
        peer.say(&line);
    }
}

fn args(peer: &mut Peer) {
    peer.say(&format!("{:?}", peer.args().to_vec()));
}

fn silent(peer: &mut Peer) {
    eprintln!("reason for silence");
    peer.hear();
}

fn panics(_: &mut Peer) {
    panic!("the peer's\nown words");
}

fn sleeper(peer: &mut Peer) {
    peer.say("about to sleep");
    let word = AtomicU32::new(0);
    // SAFETY: FUTEX_WAIT reads one aligned u32 that lives through the call; it has no time limit.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, 0) };
}

fn grandparent(peer: &mut Peer) {
    let mut child = Child::spawn("echo", &[]);
    child.expect("ready");
    peer.say(&child.pid().to_string());
    peer.hear();
}

fn leaves(_: &mut Peer) {
    eprintln!("last words");
    std::process::exit(7);
}

mod elsewhere {
    use super::*;

    #[test]
    fn peer() {
        peer_main_at("elsewhere::peer", &[("greets", greets as fn(&mut Peer))]);
    }

    fn greets(peer: &mut Peer) {
        peer.say("hello from elsewhere");
    }
}

/// What a panicking closure said.
fn panic_of(body: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = catch_unwind(body).expect_err("it should have panicked");
    panic
        .downcast::<String>()
        .map_or_else(|_| "not a string".into(), |message| *message)
}

fn state_of(pid: u32) -> Option<char> {
    ThreadState::read(pid, pid).map(|thread| thread.state)
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn lines_go_both_ways() {
    let _watchdog = watchdog();
    let mut child = Child::spawn("echo", &[]);
    child.expect("ready");
    for line in ["go", "", "two\nlines", "back\\slash", "\u{fc}n\u{ef}"] {
        child.tell(line);
        child.expect(line);
    }
    child.tell("end");
    assert!(child.wait().success());
}

#[test]
fn arguments_arrive() {
    let _watchdog = watchdog();
    for args in [&[][..], &[""], &["a b", "", "c\nd"]] {
        assert_eq!(Child::spawn("args", args).hear(), format!("{args:?}"));
    }
}

#[test]
fn peer_test_in_a_module_is_reached_by_its_path() {
    let _watchdog = watchdog();
    Child::spawn_at("elsewhere::peer", "greets", &[]).expect("hello from elsewhere");
}

#[test]
fn silent_peer_fails_with_its_standard_error() {
    let _watchdog = watchdog();
    let mut child = Child::spawn("silent", &[]);
    let limit = Duration::from_millis(500);
    let error = child.try_expect("ready", limit).unwrap_err().to_string();
    assert!(error.contains("silent for"), "{error}");
    assert!(error.contains("expected \"ready\""), "{error}");
    // It may take longer than the limit above until the peer writes.
    let quoted = || {
        let error = child
            .try_expect("ready", Duration::from_millis(1))
            .unwrap_err();
        error.to_string().contains("reason for silence")
    };
    assert!(wait_until(quoted, Duration::from_secs(20)));
}

#[test]
fn panic_of_the_peer_fails_expect_with_its_message() {
    let _watchdog = watchdog();
    let message = panic_of(|| Child::spawn("panics", &[]).expect("ready"));
    assert!(
        message.contains("panicked: the peer's\nown words"),
        "{message}"
    );
}

#[test]
fn early_end_fails_expect_with_the_status() {
    let _watchdog = watchdog();
    let message = panic_of(|| Child::spawn("leaves", &[]).expect("ready"));
    assert!(message.contains("exit status: 7"), "{message}");
    assert!(message.contains("last words"), "{message}");
}

#[test]
fn other_line_fails_expect() {
    let _watchdog = watchdog();
    let message = panic_of(|| Child::spawn("echo", &[]).expect("steady"));
    assert!(
        message.contains("said \"ready\", not \"steady\""),
        "{message}"
    );
}

#[test]
fn unknown_role_fails_expect() {
    let _watchdog = watchdog();
    let message = panic_of(|| Child::spawn("nobody", &[]).expect("ready"));
    assert!(message.contains("no role \"nobody\""), "{message}");
}

#[test]
fn unknown_peer_test_fails_expect() {
    let _watchdog = watchdog();
    let message = panic_of(|| Child::spawn_at("nowhere::peer", "echo", &[]).expect("ready"));
    assert!(message.contains("ended: exit status: 0"), "{message}");
}

#[test]
fn killed_peer_is_reaped() {
    let _watchdog = watchdog();
    let mut child = Child::spawn("echo", &[]);
    child.expect("ready");
    child.kill();
    assert!(!exists(child.pid()));
}

#[test]
fn unreaped_peer_is_a_zombie() {
    let _watchdog = watchdog();
    let mut child = Child::spawn("echo", &[]);
    child.expect("ready");
    child.kill_unreaped();
    assert_eq!(state_of(child.pid()), Some('Z'));
    assert!(!child.wait().success());
    assert!(!exists(child.pid()));
}

#[test]
fn kill_of_a_peer_that_left_by_itself_panics() {
    let _watchdog = watchdog();
    let message = panic_of(|| {
        let mut child = Child::spawn("leaves", &[]);
        child.wait();
        child.kill();
    });
    assert!(message.contains("had ended before the kill"), "{message}");
}

#[test]
fn stopped_peer_goes_on_when_continued() {
    let _watchdog = watchdog();
    let mut child = Child::spawn("echo", &[]);
    child.expect("ready");
    child.stop();
    assert!(
        threads(child.pid())
            .iter()
            .all(|thread| thread.state == 'T')
    );
    child.tell("still there");
    child.cont();
    child.expect("still there");
    child.stop();
    assert_eq!(state_of(child.pid()), Some('T'));
    child.cont();
}

#[test]
fn stop_of_a_peer_that_left_by_itself_panics() {
    let _watchdog = watchdog();
    let message = panic_of(|| {
        let mut child = Child::spawn("leaves", &[]);
        assert!(wait_until(
            || state_of(child.pid()) == Some('Z'),
            Duration::from_secs(20)
        ));
        child.stop();
    });
    assert!(message.contains("ended: Exited"), "{message}");
}

#[test]
fn drop_kills_and_reaps() {
    let _watchdog = watchdog();
    let mut child = Child::spawn("echo", &[]);
    child.expect("ready");
    let pid = child.pid();
    drop(child);
    assert!(!exists(pid));
}

#[test]
fn child_outlives_the_thread_that_spawned_it() {
    let _watchdog = watchdog();
    let mut child = thread::spawn(|| Child::spawn("echo", &[])).join().unwrap();
    child.expect("ready");
    child.tell("alive");
    child.expect("alive");
}

#[test]
fn child_dies_with_its_killed_parent() {
    let _watchdog = watchdog();
    let mut parent = Child::spawn("grandparent", &[]);
    let grandchild: u32 = parent.hear().parse().unwrap();
    assert!(exists(grandchild));
    parent.kill();
    let gone = || matches!(state_of(grandchild), None | Some('Z'));
    assert!(wait_until(gone, Duration::from_secs(20)));
}

#[test]
fn sleeper_in_a_shared_futex_is_seen() {
    let _watchdog = watchdog();
    let mut child = Child::spawn("sleeper", &[]);
    child.expect("about to sleep");
    until_asleep_in_futex(child.pid());
    let tid = child.tid();
    until_thread_asleep_in_futex(child.pid(), tid);
}

#[test]
fn waits_on_private_futexes_are_not_taken_for_shared_ones() {
    let _watchdog = watchdog();
    // Its first thread, libtest's, waits for the role's thread on a private futex.
    let mut child = Child::spawn("echo", &[]);
    child.expect("ready");
    assert_ne!(child.tid(), child.pid());
    let first = || ThreadState::read(child.pid(), child.pid());
    let blocked = || first().is_some_and(|t| t.state == 'S' && t.syscall.is_some());
    assert!(wait_until(blocked, Duration::from_secs(20)));
    assert!(
        !first().unwrap().asleep_in_shared_futex(),
        "{}",
        first().unwrap()
    );
}

#[test]
fn fact_that_never_comes_is_given_up() {
    assert!(!wait_until(|| false, Duration::from_millis(20)));
}
