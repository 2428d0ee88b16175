//! `shm ls`, `shm rm` and `shm gc`: what they show, what they refuse, and their exit codes.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;
use shm_core::{Place, Segment};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

use common::{err, out, run};

#[test]
fn peer() {
    peer_main(&[("creator", creator as fn(&mut Peer))]);
}

/// Creates a segment that should go with it, and waits for its death.
fn creator(peer: &mut Peer) {
    let place = Place::named(&peer.args()[0]).unlink_on_drop(true);
    let _segment = Segment::create(place, 4096).unwrap();
    peer.say("created");
    peer.hear();
}

fn listed(name: &str) -> Option<Value> {
    let output = run(&["ls", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let Value::Array(rows) = serde_json::from_slice(&output.stdout).unwrap() else {
        panic!("not an array: {}", out(&output));
    };
    rows.into_iter().find(|row| row["name"] == name)
}

#[test]
fn ls_shows_what_exists_and_who_uses_it() {
    let _watchdog = watchdog();
    let name = UniqueName::new("cli-ls");
    let segment = Segment::create(Place::named(&*name).mode(0o640), 5000).unwrap();
    let row = listed(&name).expect("it is listed");
    let me = std::process::id();
    assert_eq!(row["kind"], "BYTE");
    assert!(row["size"].as_u64().unwrap() >= 5000);
    assert_eq!(row["mode"], "0640");
    assert_eq!(row["creator"]["pid"], me);
    assert_eq!(row["creator"]["alive"], true);
    assert_eq!(row["attached"], Value::from(vec![me]));
    assert_eq!(row["unlink_on_drop"], false);
    assert_eq!(row["generation"], format!("{:016x}", segment.generation()));

    let table = run(&["ls"]);
    assert_eq!(table.status.code(), Some(0));
    let lines: Vec<_> = out(&table).lines().collect();
    assert!(lines[0].starts_with("NAME") && !out(&table).contains('\u{1b}'));
    let line = lines.iter().find(|line| line.starts_with(&*name));
    assert!(
        line.is_some_and(|line| line.ends_with(&format!("  {me}"))),
        "{lines:#?}"
    );
    segment.unlink().unwrap();
    assert_eq!(listed(&name), None);
}

#[test]
fn rm_refuses_while_somebody_is_attached_unless_forced() {
    let _watchdog = watchdog();
    let name = UniqueName::new("cli-rm");
    let segment = Segment::create(&*name, 4096).unwrap();
    let refused = run(&["rm", &name]);
    assert_eq!(refused.status.code(), Some(1));
    let me = std::process::id().to_string();
    assert!(
        err(&refused).contains(&me) && err(&refused).contains("--force"),
        "{}",
        err(&refused)
    );
    assert!(name.path().exists());

    let forced = run(&["rm", "--force", &name]);
    assert_eq!(forced.status.code(), Some(0), "{}", err(&forced));
    assert_eq!(out(&forced), format!("removed {name}\n"));
    assert!(!name.path().exists());
    segment.write(0, b"the memory lives on").unwrap();
}

#[test]
fn rm_removes_what_nobody_uses() {
    let _watchdog = watchdog();
    let name = UniqueName::new("cli-rm-unused");
    drop(Segment::create(&*name, 4096).unwrap());
    let output = run(&["rm", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(!name.path().exists());
}

#[test]
fn rm_goes_on_after_a_failure_and_tells_kinds_of_failure_apart() {
    let _watchdog = watchdog();
    let (missing, foreign) = (
        UniqueName::new("cli-missing"),
        UniqueName::new("cli-foreign"),
    );
    let unused = UniqueName::new("cli-unused");
    fs::write(foreign.path(), b"somebody else's file").unwrap();
    drop(Segment::create(&*unused, 4096).unwrap());
    for (name, code, said) in [
        (&*missing, 3, "does not exist"),
        (&*foreign, 4, "is not a segment"),
        ("../etc/passwd", 2, "is not a segment name"),
    ] {
        let output = run(&["rm", name]);
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
        assert!(
            err(&output).contains(name) && err(&output).contains(said),
            "{}",
            err(&output)
        );
    }
    let output = run(&["rm", &missing, &foreign, &unused]);
    assert_eq!(output.status.code(), Some(3), "the first failure's");
    assert_eq!(out(&output), format!("removed {unused}\n"));
    assert_eq!(err(&output).lines().count(), 2);
    assert!(foreign.path().exists() && !unused.path().exists());
}

#[test]
fn rm_without_a_name_is_a_usage_error() {
    let _watchdog = watchdog();
    assert_eq!(run(&["rm"]).status.code(), Some(2));
    assert_eq!(run(&["frobnicate"]).status.code(), Some(2));
}

#[test]
fn rm_of_another_users_segment_is_a_permission_error() {
    let _watchdog = watchdog();
    let name = UniqueName::new("cli-forbidden");
    drop(Segment::create(&*name, 4096).unwrap());
    let output = if nix::unistd::geteuid().is_root() {
        // Nothing is forbidden to root, so somebody else tries, with a copy that anybody may run.
        let copy = std::env::temp_dir().join(format!("{name}-shm"));
        fs::copy(env!("CARGO_BIN_EXE_shm"), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&copy).args(["rm", &name]).uid(65_534).output();
        fs::remove_file(&copy).unwrap();
        output.unwrap()
    } else {
        fs::set_permissions(name.path(), fs::Permissions::from_mode(0o000)).unwrap();
        run(&["rm", &name])
    };
    assert_eq!(output.status.code(), Some(5), "{}", err(&output));
    assert!(err(&output).contains(&*name), "{}", err(&output));
    assert!(name.path().exists());
}

#[test]
fn gc_removes_what_a_dead_creator_left_and_nothing_of_the_living() {
    let _watchdog = watchdog();
    let (dead, living) = (
        UniqueName::new("cli-gc-dead"),
        UniqueName::new("cli-gc-living"),
    );
    let place = Place::named(&*living).unlink_on_drop(true);
    let _segment = Segment::create(place, 4096).unwrap();
    let mut creator = Child::spawn("creator", &[&dead]);
    creator.expect("created");
    assert!(run(&["gc"]).status.success());
    assert!(dead.path().exists(), "its creator lives");
    creator.kill();
    let output = run(&["gc"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    // A sweep of another test may have been faster; then this one has nothing to say about it.
    assert!(
        !dead.path().exists() && living.path().exists(),
        "{}",
        out(&output)
    );
    assert_eq!(listed(&dead), None);
}

#[test]
fn rm_of_a_dead_creators_name_removes_it() {
    let _watchdog = watchdog();
    let name = UniqueName::new("cli-rm-dead");
    let mut creator = Child::spawn("creator", &[&name]);
    creator.expect("created");
    creator.kill();
    let output = run(&["rm", &name]);
    // A sweep of another test may have been faster.
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{}",
        err(&output)
    );
    assert!(!name.path().exists());
}

#[test]
fn help_lists_the_exit_codes_of_every_command() {
    let _watchdog = watchdog();
    for args in [
        &["--help"][..],
        &["tour", "--help"],
        &["ls", "--help"],
        &["gc", "--help"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("\n  3  no such segment"), "{args:?}");
        assert!(!out(&output).contains("tour-child"), "hidden");
    }
}
