//! A full disk, no descriptors, no permission, no directory, another namespace: each an error that
//! names it. Each in a peer of its own, which first makes itself the bad day.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, setrlimit};
use shm_core::{Error, Field, Place, Segment, Spec};
use shm_testing::{
    Child, Peer, UniqueName, in_namespaces, in_private_tmpfs, peer_main, skip_unless_required,
    watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("full", full as fn(&mut Peer)),
        ("no descriptors", no_descriptors),
        ("another user", another_user),
        ("below what is not searched", below_what_is_not_searched),
        ("below what is covered", below_what_is_covered),
        ("no directory", no_directory),
        ("another PID namespace", another_pid_namespace),
    ]);
}

/// What a peer says that may not do what its test is about, and what it would need.
const MISSING: &str = "missing: ";
const NAMESPACES: &str = "missing: root, or user namespaces";
const ROOT: &str = "missing: root";

/// Says whether the day could be made.
fn tell(peer: &mut Peer, made: bool) {
    peer.say(if made { "done" } else { NAMESPACES });
}

fn full(peer: &mut Peer) {
    let without_inodes = || {
        // The root of the file system has one.
        let _one = Segment::create("one", 64).unwrap();
        let error = Segment::create("two", 64).unwrap_err();
        assert!(matches!(error, Error::StorageFull { .. }), "{error}");
    };
    let made = in_private_tmpfs("/dev/shm", "size=64k", when_full)
        && in_private_tmpfs("/dev/shm", "nr_inodes=2", without_inodes);
    tell(peer, made);
}

fn when_full() {
    let error = Segment::create("big", 100_000).unwrap_err();
    assert!(
        matches!(error, Error::StorageFull { need, .. } if need >= 100_000),
        "{error}"
    );
    let kept = Segment::create("kept", 16_384).unwrap();
    let error = Segment::create("second", 60_000).unwrap_err();
    assert!(
        matches!(error, Error::StorageFull { free, .. } if free < 60_000),
        "{error}"
    );
    let sparse = Segment::create("sparse", Spec::bytes(1 << 20).reserve(4096)).unwrap();
    let error = sparse.allocate(0, 1 << 20).unwrap_err();
    assert!(matches!(error, Error::StorageFull { .. }), "{error}");
    kept.write(16_000, b"no SIGBUS").unwrap();
    assert_eq!(
        shm_core::list().unwrap().len(),
        2,
        "failed creations left nothing"
    );
    drop(sparse);
    shm_core::unlink("sparse").unwrap();
    Segment::create("small", 16_384).unwrap();
}

fn no_descriptors(peer: &mut Peer) {
    let name = peer.args()[0].clone();
    let first = Segment::create(&name, 64).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let mut limit = open + 20;
    loop {
        setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
        match Segment::open(&name, 64) {
            Ok(_) => limit -= 1,
            Err(Error::TooManyDescriptors { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let error = Segment::create(Place::anonymous(), 64).unwrap_err();
    assert!(matches!(error, Error::TooManyDescriptors { .. }), "{error}");
    setrlimit(Resource::RLIMIT_NOFILE, 1, limit).unwrap();
    for error in [
        shm_core::list().unwrap_err(),
        shm_core::sweep().unwrap_err(),
        Segment::open(Place::inherited(0), 64).unwrap_err(),
    ] {
        assert!(matches!(error, Error::TooManyDescriptors { .. }), "{error}");
    }
    first.write(0, b"what is attached goes on").unwrap();
    peer.say("done");
}

fn another_user(peer: &mut Peer) {
    let [private, public] = [&peer.args()[0].clone(), &peer.args()[1].clone()];
    if !nix::unistd::geteuid().is_root() {
        return peer.say(ROOT);
    }
    become_nobody();
    let error = Segment::open(private, 64).unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
    let error = Segment::open(public, 64).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ForeignOwner {
                owner: 0,
                trusted: 65_534,
                ..
            }
        ),
        "{error}"
    );
    Segment::open(Place::named(public).trust_owner(0), 64).unwrap();
    let error = shm_core::unlink(public).unwrap_err();
    assert!(matches!(error, Error::ForeignOwner { .. }), "{error}");
    peer.say("done");
}

fn become_nobody() {
    nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
}

/// In a directory of its own, whose path it may not go.
fn below_what_is_not_searched(peer: &mut Peer) {
    if !nix::unistd::geteuid().is_root() {
        return peer.say(ROOT);
    }
    let above = PathBuf::from(&peer.args()[0]);
    let below = above.join("below");
    std::fs::create_dir_all(&below).unwrap();
    std::env::set_current_dir(&below).unwrap();
    for (directory, mode) in [(&below, 0o777), (&above, 0o700)] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).unwrap();
    }
    become_nobody();
    make_and_drop_here();
    peer.say("done");
}

/// In a directory over which another file system lies.
fn below_what_is_covered(peer: &mut Peer) {
    let above = &peer.args()[0];
    std::fs::create_dir(above).unwrap();
    std::env::set_current_dir(above).unwrap();
    let made = in_private_tmpfs(above, "size=64k", make_and_drop_here);
    tell(peer, made);
}

fn make_and_drop_here() {
    let segment = Segment::create(Place::file("here").unlink_on_drop(true), 64).unwrap();
    Segment::open(Place::file("here"), 64).unwrap();
    drop(segment);
    assert!(!Path::new("here").exists());
}

fn no_directory(peer: &mut Peer) {
    tell(
        peer,
        in_private_tmpfs("/dev", "size=64k", without_directory),
    );
}

fn without_directory() {
    let missing = |result: Result<Segment, Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::DirectoryMissing { .. }), "{error}");
    };
    missing(Segment::create("x", 64));
    missing(Segment::open("x", 64));
    missing(Segment::open_or_create("x", 64));
    assert!(matches!(
        shm_core::list(),
        Err(Error::DirectoryMissing { .. })
    ));
    Segment::create(Place::anonymous(), 64).unwrap();
}

fn another_pid_namespace(peer: &mut Peer) {
    let name = peer.args()[0].clone();
    let made = in_namespaces(CloneFlags::CLONE_NEWPID, || {
        // The next child is the first process of the new namespace; /proc still shows the old one, so
        // the kernel's own link tells which namespace it is.
        // SAFETY: there is no other thread.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                let error = Segment::open(&name, 64).unwrap_err();
                let field = Field::PidNamespace;
                let right = matches!(error, Error::Mismatch { field: found, .. } if found == field);
                eprintln!("{error}");
                std::process::exit(i32::from(!right));
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
            }
        }
    });
    tell(peer, made);
}

/// Runs a bad day, where the machine permits to make it.
fn run(role: &str, args: &[&str]) {
    let _watchdog = watchdog();
    let mut child = Child::spawn(role, args);
    let said = child.hear();
    match said.strip_prefix(MISSING) {
        Some(missing) => skip_unless_required(missing),
        None => assert_eq!(said, "done"),
    }
}

#[test]
fn a_full_dev_shm_is_storage_full_and_never_sigbus() {
    run("full", &[]);
}

#[test]
fn exhausted_descriptors_are_named() {
    run("no descriptors", &[&UniqueName::new("fds")]);
}

#[test]
fn other_users_are_kept_out_unless_trusted() {
    let (private, public) = (UniqueName::new("private"), UniqueName::new("public"));
    let _private = Segment::create(&*private, 64).unwrap();
    let _public = Segment::create(Place::named(&*public).mode(0o666), 64).unwrap();
    run("another user", &[&private, &public]);
}

#[test]
fn a_relative_path_is_used_as_it_is_where_the_absolute_one_is_barred() {
    run_in_a_directory("below what is not searched");
}

#[test]
fn a_relative_path_is_used_as_it_is_where_the_absolute_one_leads_elsewhere() {
    run_in_a_directory("below what is covered");
}

/// Runs a bad day that has a directory, which goes afterwards.
fn run_in_a_directory(role: &str) {
    let above = std::env::temp_dir().join(&*UniqueName::new("directory"));
    let run = || run(role, &[&above.to_string_lossy()]);
    let result = std::panic::catch_unwind(run);
    let _ = std::fs::remove_dir_all(&above);
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_missing_dev_shm_is_named() {
    run("no directory", &[]);
}

#[test]
fn another_pid_namespace_is_refused() {
    let name = UniqueName::new("pidns");
    let _segment = Segment::create(&*name, 64).unwrap();
    run("another PID namespace", &[&name]);
}
