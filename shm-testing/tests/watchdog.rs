//! The watchdog and the unique names: what they do in time, and when time is out.

use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs, thread};

use shm_testing::{Child, Peer, UniqueName, Watchdog, peer_main, threads, wait_until, watchdog};

/// Names the test that is to misbehave in a process of its own.
const MISBEHAVE: &str = "SHM_TESTING_MISBEHAVE";

#[test]
fn peer() {
    peer_main(&[("waits", waits as fn(&mut Peer))]);
}

fn waits(peer: &mut Peer) {
    peer.say(&std::process::id().to_string());
    peer.hear();
}

/// Runs one test of this binary again, as a process of its own, with leave to misbehave.
fn run_alone(test: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1", "-q"])
        .env(MISBEHAVE, "1")
        .output()
        .unwrap()
}

fn left_behind(tag: &str) -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(tag))
        .collect()
}

#[test]
fn hanging_test_is_aborted_and_named() {
    if env::var_os(MISBEHAVE).is_some() {
        let name = UniqueName::new("hanging-test");
        fs::write(name.path(), b"left").unwrap();
        // Of a segment that is being made, or of one of several.
        fs::write(format!("/dev/shm/.{}.001", &*name), b"left").unwrap();
        let mut child = Child::spawn("waits", &[]);
        eprintln!("child={}", child.hear());
        let _watchdog = Watchdog::new(Duration::from_millis(300));
        thread::sleep(Duration::from_secs(60));
    }
    let _watchdog = watchdog();
    let output = run_alone("hanging_test_is_aborted_and_named");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(nix::libc::SIGABRT), "{said}");
    assert!(
        said.contains("hanging_test_is_aborted_and_named did not end within"),
        "{said}"
    );
    assert!(said.contains("\"watchdog\""), "{said}");
    assert_eq!(left_behind("hanging-test"), [""; 0]);
    // Two processes stand in the report: the test and its peer. The peer is gone as well, or a corpse that whoever has
    // inherited it does not bury.
    let pids: Vec<u32> = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("process ")?.parse().ok())
        .collect();
    assert_eq!(pids.len(), 2, "{said}");
    let gone = || threads(pids[1]).iter().all(|thread| thread.state == 'Z');
    assert!(wait_until(gone, Duration::from_secs(20)));
}

#[test]
fn watchdog_dropped_in_time_is_silent() {
    drop(Watchdog::new(Duration::from_secs(3600)));
    if env::var_os(MISBEHAVE).is_some() {
        {
            let _watchdog = Watchdog::new(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_millis(200));
        return;
    }
    let _watchdog = watchdog();
    assert!(
        run_alone("watchdog_dropped_in_time_is_silent")
            .status
            .success()
    );
}

#[test]
fn names_differ_and_keep_to_the_alphabet() {
    let names: Vec<_> = (0..100).map(|_| UniqueName::new("Tag_1.x-y")).collect();
    let mut texts: Vec<&str> = names.iter().map(|name| &**name).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 100);
    for text in texts {
        assert!(text.starts_with("Tag_1.x-y-") && text.len() <= 200);
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        );
    }
}

#[test]
fn name_is_removed_when_dropped_and_when_panicking() {
    let name = UniqueName::new("dropped");
    fs::write(name.path(), b"left").unwrap();
    let path = name.path();
    drop(name);
    assert!(!path.exists());

    let panicked = catch_unwind(|| {
        let name = UniqueName::new("panicking");
        fs::write(name.path(), b"left").unwrap();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    assert_eq!(
        left_behind(&format!("panicking-{}", std::process::id())),
        [""; 0]
    );
}

#[test]
fn tag_outside_the_alphabet_is_refused() {
    for tag in ["", "a/b", "-a", ".a", "a b", "\u{e4}"] {
        assert!(catch_unwind(|| UniqueName::new(tag)).is_err(), "{tag:?}");
    }
}
