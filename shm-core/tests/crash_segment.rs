//! What a killed process leaves of a segment: one test for each row of docs/peer-death.md.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memmap2::MmapOptions;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::WaitStatus;
use shm_core::{Error, Place, Region, Segment, recv_fd, send_fd};
use shm_testing::{Alarms, Child, Peer, UniqueName, Watchdog, peer_main, watchdog};

/// Enough for some to meet a thread in the middle of anything that it does.
const FORKS: usize = 1000;

#[test]
fn peer() {
    peer_main(&[
        (
            "stops in the middle of a creation",
            stops_in_creation as fn(&mut Peer),
        ),
        ("creates", creates),
        ("opens", opens),
        ("opens inherited", opens_inherited),
        ("opens received", opens_received),
        ("forks a child that drops", forks_a_child_that_drops),
        (
            "forks a child that takes part",
            forks_a_child_that_takes_part,
        ),
        (
            "forks while its threads make segments",
            forks_while_its_threads_make_segments,
        ),
        ("receives at its limit", receives_at_its_limit),
        ("receives under signals", receives_under_signals),
        ("forks as it creates", forks_as_it_creates),
        ("changes its directory", changes_its_directory),
        ("receives three at a time", receives_three_at_a_time),
    ]);
}

fn stops_in_creation(peer: &mut Peer) {
    let name = peer.args()[0].clone();
    Segment::create_with(&name, 4096, |_| {
        peer.say("building");
        peer.hear();
        Ok(())
    })
    .unwrap();
}

fn creates(peer: &mut Peer) {
    let place = Place::named(&peer.args()[0]).unlink_on_drop(true);
    let _segment = Segment::create(place, 4096).unwrap();
    peer.say("created");
    peer.hear();
}

fn opens(peer: &mut Peer) {
    let _segment = Segment::open(&peer.args()[0], 64).unwrap();
    peer.say("opened");
    peer.hear();
}

fn read_word(segment: &Segment) -> String {
    let mut word = [0; 5];
    segment.read(0, &mut word).unwrap();
    String::from_utf8(word.to_vec()).unwrap()
}

fn opens_inherited(peer: &mut Peer) {
    let number = peer.args()[0].parse().unwrap();
    let segment = Segment::open(Place::inherited(number), 64).unwrap();
    peer.say(&read_word(&segment));
}

fn opens_received(peer: &mut Peer) {
    let socket = UnixStream::connect(&peer.args()[0]).unwrap();
    let segment = Segment::open(recv_fd(&socket).unwrap(), 64).unwrap();
    peer.say(&read_word(&segment));
}

/// Forks, runs `child` in the child, and gives its exit code.
fn in_fork(child: impl FnOnce() -> i32) -> i32 {
    use nix::sys::wait::{WaitStatus, waitpid};
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => std::process::exit(child()),
        nix::unistd::ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        },
    }
}

fn forks_a_child_that_drops(peer: &mut Peer) {
    let place = Place::named(&peer.args()[0]).unlink_on_drop(true);
    let segment = Segment::create(place, 64).unwrap();
    let code = in_fork(|| {
        drop(segment.clone());
        // SAFETY: the child's copy of the handle, dropped in the child; the parent's stays.
        drop(unsafe { std::ptr::read(&raw const segment) });
        0
    });
    assert_eq!(code, 0);
    assert_eq!(
        segment.participants().len(),
        1,
        "the parent's slot is the parent's"
    );
    peer.say("forked");
    peer.hear();
}

fn forks_a_child_that_takes_part(peer: &mut Peer) {
    let segment = Segment::create(&peer.args()[0], 64).unwrap();
    let (parents_slot, _) = segment.participant().unwrap();
    let code = in_fork(|| {
        let (slot, _) = segment.participant().unwrap();
        i32::from(slot == parents_slot || segment.participants().len() != 2)
    });
    assert_eq!(code, 0, "the child has a slot of its own");
    assert_eq!(segment.participants().len(), 1, "the child is gone");
    peer.say("forked");
    peer.hear();
}

/// Each child makes a segment, whatever a thread of its parent was in the middle of.
fn forks_while_its_threads_make_segments(peer: &mut Peer) {
    let over = AtomicBool::new(false);
    let region = Region::heap(4096);
    let make = || {
        drop(Segment::create(Place::anonymous(), 64).unwrap());
        // A thread of the parent's may have been at work in it.
        let in_region = Segment::open_or_create(region.clone(), 64);
        assert!(matches!(in_region, Ok(_) | Err(Error::Unsupported { .. })));
    };
    // From here on the region has a segment.
    make();
    std::thread::scope(|s| {
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                make();
            }
        });
        for _ in 0..FORKS {
            let child = || {
                // Nobody else ends it if it hangs.
                nix::unistd::alarm::set(10);
                make();
                0
            };
            // A child that was killed by its alarm panics here, and the scope must end.
            let code = std::panic::catch_unwind(AssertUnwindSafe(|| in_fork(child)));
            if code.unwrap_or(1) != 0 {
                over.store(true, Ordering::Relaxed);
                panic!("a child hung, or failed");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    peer.say("forked");
}

/// Each signal would begin the socket's timeout anew.
#[test]
fn a_read_timeout_holds_under_signals() {
    let _watchdog = watchdog();
    Child::spawn("receives under signals", &[]).expect("timed out");
}

fn receives_under_signals(peer: &mut Peer) {
    let (_here, there) = UnixStream::pair().unwrap();
    there
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let alarms = Alarms::every(Duration::from_millis(1));
    let error = recv_fd(&there).unwrap_err();
    drop(alarms);
    let Error::System { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock);
    assert!(Alarms::handled() > 0);
    peer.say("timed out");
}

fn receives_at_its_limit(peer: &mut Peer) {
    let segment = Segment::create(Place::anonymous(), 64).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    send_fd(&here, &segment).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let open = descriptors();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    let error = recv_fd(&there).unwrap_err();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(matches!(error, Error::TooManyDescriptors { .. }), "{error}");
    assert_eq!(descriptors(), open);
    // One of three fits.
    send_three(&here, &segment);
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, next as u64 + 1, hard).unwrap();
    let error = recv_fd(&there).unwrap_err();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(matches!(error, Error::TooManyDescriptors { .. }), "{error}");
    assert_eq!(descriptors(), open);
    send_fd(&here, &segment).unwrap();
    Segment::open(recv_fd(&there).unwrap(), 64).unwrap();
    peer.say("received");
}

/// As `send_fd`, but for the number.
fn send_three(socket: &UnixStream, segment: &Segment) {
    let greeting = [std::io::IoSlice::new(b"shm-fd\x00\x01")];
    let three = [segment.as_fd().unwrap().as_raw_fd(); 3];
    let rights = [ControlMessage::ScmRights(&three)];
    let flags = MsgFlags::empty();
    sendmsg::<()>(socket.as_raw_fd(), &greeting, &rights, flags, None).unwrap();
}

/// Of a parent that is still making a segment its child publishes nothing, and gives nothing back.
fn forks_as_it_creates(peer: &mut Peer) {
    let name = peer.args()[0].clone();
    // Memory that the child shares.
    let file = Segment::create(Place::anonymous(), 8192).unwrap();
    let mut map = MmapOptions::new();
    map.offset(4096).len(8192);
    let mut at = 0;
    for fails in [false, true] {
        let named = || Place::named(&name).unlink_on_drop(true);
        let unseen = || matches!(Segment::open(named(), 64), Err(Error::NotFound { .. }));
        forks_in_init(named(), unseen, fails);

        // SAFETY: nobody else uses these bytes; the file does not shrink.
        let mapped = unsafe { map.map_mut(file.as_fd().unwrap().as_raw_fd()) }.unwrap();
        let start = NonNull::new(mapped.as_ptr().cast_mut()).unwrap();
        // SAFETY: mapped as long as what the region keeps.
        let region = unsafe { Region::new(start, 8192, mapped) };
        let region = region.part(at, 4096).unwrap();
        let claimed = || {
            let second = Segment::create(region.clone(), 64);
            matches!(
                second,
                Err(Error::NotReady {
                    creator: Some(_),
                    ..
                })
            )
        };
        forks_in_init(region.clone().into(), claimed, fails);
        at += 4096;
    }
    peer.say("made");
}

fn forks_in_init(place: Place, is_being_made: impl Fn() -> bool, child_fails: bool) {
    let in_child = Cell::new(false);
    let made = Segment::create_with(place, 64, |segment| {
        // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                // Nobody else ends it if it hangs.
                nix::unistd::alarm::set(10);
                in_child.set(true);
                let segment = segment.name().to_owned();
                match child_fails {
                    true => Err(Error::ZeroSize { segment }),
                    false => Ok(()),
                }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let ended = nix::sys::wait::waitpid(child, None).unwrap();
                assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
                assert!(is_being_made(), "the child ended it");
                Ok(())
            }
        }
    });
    if in_child.get() {
        std::process::exit(i32::from(made.is_ok()));
    }
    drop(made.unwrap());
}

#[test]
fn a_child_that_is_forked_in_a_creation_leaves_it_to_its_parent() {
    let _watchdog = watchdog();
    let name = UniqueName::new("fork-create");
    Child::spawn("forks as it creates", &[&name]).expect("made");
}

/// The name goes wherever the process is by then.
#[test]
fn a_file_of_a_relative_path_goes_with_its_owner_from_another_directory() {
    let _watchdog = watchdog();
    let name = UniqueName::new("relative");
    Child::spawn("changes its directory", &[&name]).expect("gone");
    assert!(!name.path().exists());
}

fn changes_its_directory(peer: &mut Peer) {
    std::env::set_current_dir("/dev/shm").unwrap();
    let place = Place::file(&peer.args()[0]).unlink_on_drop(true);
    let segment = Segment::create(place, 64).unwrap();
    std::env::set_current_dir("/").unwrap();
    drop(segment);
    peer.say("gone");
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_child_forked_while_another_thread_makes_a_segment_makes_one() {
    let _watchdog = Watchdog::new(Duration::from_secs(150));
    let mut peer = Child::spawn("forks while its threads make segments", &[]);
    peer.expect_within("forked", Duration::from_secs(120));
}

#[test]
fn one_descriptor_too_many_is_said_to_be_that() {
    let _watchdog = watchdog();
    Child::spawn("receives at its limit", &[]).expect("received");
}

#[test]
fn a_creator_killed_before_publication_leaves_nothing() {
    let _watchdog = watchdog();
    let name = UniqueName::new("half");
    let mut child = Child::spawn("stops in the middle of a creation", &[&name]);
    child.expect("building");
    assert!(
        matches!(Segment::open(&*name, 1), Err(Error::NotFound { .. })),
        "not seen half-made"
    );
    child.kill();
    assert!(!Path::new("/dev/shm").join(&*name).exists());
    Segment::create(&*name, 64).unwrap();
}

#[test]
fn the_name_of_a_killed_owner_is_reclaimed_by_whoever_meets_it() {
    let _watchdog = watchdog();
    for meet in ["create", "list", "sweep"] {
        let name = UniqueName::new(meet);
        let mut child = Child::spawn("creates", &[&name]);
        child.expect("created");
        assert!(matches!(
            Segment::create(&*name, 64),
            Err(Error::AlreadyExists { .. })
        ));
        assert!(
            !shm_core::sweep().unwrap().contains(&name.to_string()),
            "its owner lives"
        );
        child.kill_unreaped();
        match meet {
            "create" => drop(Segment::create(&*name, 64).unwrap()),
            "list" => assert!(
                !shm_core::list()
                    .unwrap()
                    .iter()
                    .any(|info| info.name == *name)
            ),
            _ => {
                // Another test's sweep may have been first.
                shm_core::sweep().unwrap();
            }
        }
        let exists = Path::new("/dev/shm").join(&*name).exists();
        assert_eq!(exists, meet == "create", "{meet}");
    }
}

#[test]
fn a_name_is_swept_under_its_inodes_lock_alone() {
    let _watchdog = watchdog();
    let name = UniqueName::new("lock");
    let path = Path::new("/dev/shm").join(&*name);
    let mut child = Child::spawn("creates", &[&name]);
    child.expect("created");
    // As one who attaches, between its look at the name and its entry in the table.
    let attaching = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusive).unwrap();
    child.kill_unreaped();
    let swept = shm_core::sweep().unwrap();
    assert!(path.exists() && !swept.contains(&name.to_string()));
    drop(attaching);
    // Another test's sweep may have been first.
    shm_core::sweep().unwrap();
    assert!(!path.exists());
}

#[test]
fn the_name_of_a_killed_owner_stays_while_another_process_lives_in_it() {
    let _watchdog = watchdog();
    let name = UniqueName::new("guest");
    let mut owner = Child::spawn("creates", &[&name]);
    owner.expect("created");
    let mut guest = Child::spawn("opens", &[&name]);
    guest.expect("opened");
    owner.kill();
    shm_core::sweep().unwrap();
    assert!(matches!(
        Segment::create(&*name, 64),
        Err(Error::AlreadyExists { .. })
    ));
    let info = shm_core::list()
        .unwrap()
        .into_iter()
        .find(|info| info.name == *name)
        .unwrap();
    assert_eq!(
        info.participants
            .iter()
            .map(|id| id.pid())
            .collect::<Vec<_>>(),
        [guest.pid()]
    );
    guest.kill();
    Segment::create(&*name, 64).unwrap();
}

#[test]
fn the_slot_of_a_killed_participant_is_taken_again() {
    let _watchdog = watchdog();
    let name = UniqueName::new("slot");
    let segment = Segment::create(Place::named(&*name).participants(2), 64).unwrap();
    let mut child = Child::spawn("opens", &[&name]);
    child.expect("opened");
    assert!(matches!(
        Segment::open(&*name, 64),
        Err(Error::TooManyParticipants { .. })
    ));
    child.kill_unreaped();
    Segment::open(&*name, 64).unwrap();
    assert_eq!(segment.participants().len(), 1);
}

#[test]
fn a_forked_child_leaves_the_name_and_the_slot_to_its_parent() {
    let _watchdog = watchdog();
    let name = UniqueName::new("fork");
    let mut child = Child::spawn("forks a child that drops", &[&name]);
    child.expect("forked");
    Segment::open(&*name, 64).unwrap();
    let other = UniqueName::new("fork-slot");
    Child::spawn("forks a child that takes part", &[&other]).expect("forked");
}

#[test]
fn descriptors_reach_other_processes_by_inheritance_and_over_a_socket() {
    let _watchdog = watchdog();
    let segment = Segment::create(Place::anonymous(), 64).unwrap();
    segment.write(0, b"hello").unwrap();
    let fd = segment.inheritable_fd().unwrap();
    Child::spawn("opens inherited", &[&fd.as_raw_fd().to_string()]).expect("hello");

    let name = UniqueName::new("socket");
    let path = Path::new("/dev/shm").join(&*name);
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = Child::spawn("opens received", &[path.to_str().unwrap()]);
    let (socket, _) = listener.accept().unwrap();
    send_fd(&socket, &segment).unwrap();
    child.expect("hello");
}

#[test]
fn a_message_that_is_no_descriptor_is_told_apart() {
    use std::io::Write;
    let (mut here, there) = UnixStream::pair().unwrap();
    here.write_all(b"12345678").unwrap();
    assert!(matches!(recv_fd(&there), Err(Error::NotASegment { .. })));
    drop(here);
    assert!(matches!(recv_fd(&there), Err(Error::NotASegment { .. })));
}

/// In a process of its own, where nobody else opens and closes any.
#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let _watchdog = watchdog();
    Child::spawn("receives three at a time", &[]).expect("closed");
}

fn receives_three_at_a_time(peer: &mut Peer) {
    let segment = Segment::create(Place::anonymous(), 64).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let open = descriptors();
    for _ in 0..10 {
        send_three(&here, &segment);
        let error = recv_fd(&there).unwrap_err();
        assert!(matches!(error, Error::NotASegment { .. }), "{error}");
    }
    assert_eq!(descriptors(), open);
    peer.say("closed");
}

/// Several sweep and create what nobody has any more; whoever is second is not told that it exists.
#[test]
fn a_creator_beside_a_sweeper_gets_the_name() {
    let _watchdog = watchdog();
    for round in 0..1000 {
        let name = UniqueName::new("beside");
        let place = || Place::named(&*name).unlink_on_drop(true);
        std::mem::forget(Segment::create(place(), 64).unwrap());
        // As if its process had died: nobody is in the participant table.
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(std::path::Path::new("/dev/shm").join(&*name))
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8], 256).unwrap();
        std::thread::scope(|s| {
            s.spawn(shm_core::sweep);
            let created = Segment::create(place(), 64);
            assert!(created.is_ok(), "round {round}: {created:?}");
        });
    }
}
