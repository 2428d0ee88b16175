//! Segments: a name is there whole or not at all, and what a dead owner left can be taken away.

use std::fs::OpenOptions;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use shm_core::{Error, Place, Region, Segment};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Mode, Outcomes, mark_end, mark_start};

const SIZE: usize = 100;

/// After so long a victim gives up: longer than it takes to be stepped to its sleep.
pub(crate) const A_WHILE: Duration = Duration::from_millis(200);

/// A name for an object that keeps track of few processes, as there are: one more is one round more of the loops
/// that look for the dead.
pub(crate) fn place(name: &str) -> Place {
    Place::named(name).participants(16)
}

/// Operation and start state of each case, with the outcomes in the order of the steps.
pub(crate) fn cases() -> Vec<Case> {
    let made = || Outcomes::switch("absent", "present");
    let gone = || Outcomes::switch("present", "absent");
    let left = || Outcomes::any(&["left", "absent"]);
    vec![
        name("create", "nothing", made()).frozen("create", both()),
        name("open_or_create", "nothing", made()).frozen("create", both()),
        name("open_or_create", "segment", Outcomes::always("present")),
        name("open", "segment", Outcomes::always("present")),
        name("open", "temporary", Outcomes::always("left")),
        name("open_read_only", "segment", Outcomes::always("present")),
        name("unlink", "segment", gone()).frozen("unlink", Outcomes::always("absent")),
        name("drop", "nothing", Outcomes::switch("left", "absent"))
            .checked_by("name after an act")
            .frozen(
                "unlink, then create",
                Outcomes::phases(&["made; present", "waits; absent", "made; present"]),
            ),
        // Every victim sweeps for all: a point visited meanwhile may find its work done.
        name("sweep", "left", left())
            .orphaned()
            .set_up_anew()
            .frozen("sweep", Outcomes::any(&["swept; absent", "waits; absent"]))
            // What is made anew stays, whoever sweeps.
            .checked_by("name after an act")
            .frozen("create", Outcomes::any(&["made; present", "busy; absent"])),
        name(
            "create",
            "left",
            Outcomes::phases(&["left", "absent", "present"]),
        )
        .orphaned()
        .checked_by("name after an act")
        // Before the victim has the lock of what was left, while it has it, with the name gone, and with its own there.
        .frozen(
            "create",
            Outcomes::phases(&[
                "made; present",
                "busy; present",
                "made; present",
                "was there; present",
            ]),
        )
        .frozen_and_killed(
            "create",
            Outcomes::phases(&[
                "made; present",
                "busy; left",
                "made; present",
                "was there; present",
            ]),
        ),
        region(
            "create_in_region",
            "zeroes",
            Outcomes::switch("empty", "ready"),
        ),
        region(
            "create_in_region",
            "claimed",
            Outcomes::switch("empty", "ready"),
        )
        .orphaned()
        .killed_after("create_in_region", Outcomes::rising(&["empty", "ready"]))
        .frozen("create_in_region", Outcomes::always("ready"))
        // Told of a living creator, who is killed then.
        .frozen_and_killed(
            "create_in_region",
            Outcomes::phases(&["ready", "empty", "ready"]),
        ),
        region("open_region", "ready region", Outcomes::always("ready")),
    ]
}

fn name(operation: &str, state: &str, outcomes: Outcomes) -> Case {
    case(operation, state, outcomes).checked_by("name")
}

fn region(operation: &str, state: &str, outcomes: Outcomes) -> Case {
    case(operation, state, outcomes).checked_by("region")
}

/// These are ways of thousands of steps: each is visited in one mode, and many in the others.
fn case(operation: &str, state: &str, outcomes: Outcomes) -> Case {
    Case::new(operation, state)
        .mode(Mode::Kill, outcomes.clone())
        .at_most(1000)
        .mode(Mode::KillUnreaped, outcomes)
}

/// The victim creates, and so does the one who acts: one of them did, the other was told.
fn both() -> Outcomes {
    Outcomes::any(&["present"])
}

pub(crate) fn commands() -> Commands {
    setups(victims(Commands::new()))
        .act("create", |name| match Segment::create(name, SIZE) {
            Ok(_) => "made",
            Err(Error::AlreadyExists { .. }) => "was there",
            Err(Error::Busy { .. }) => "busy",
            Err(other) => panic!("{other}"),
        })
        .act("create_in_region", |name| {
            let region = region_of(name);
            within_a_moment(move || match Segment::create(region, SIZE) {
                Ok(_) => "made",
                Err(Error::AlreadyExists { .. }) => "was there",
                Err(Error::NotReady { creator, .. }) if creator.is_some() => "busy",
                Err(other) => panic!("{other}"),
            })
        })
        .act("unlink, then create", |name| {
            let name = name.to_owned();
            within_a_moment(move || {
                match shm_core::unlink(&name) {
                    Ok(()) | Err(Error::NotFound { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                create(&name);
                "made"
            })
        })
        .act("unlink", |name| {
            let name = name.to_owned();
            within_a_moment(move || match shm_core::unlink(&name) {
                Ok(()) | Err(Error::NotFound { .. }) => "unlinked",
                Err(other) => panic!("{other}"),
            })
        })
        .act("sweep", |_| {
            within_a_moment(|| {
                let swept = shm_core::sweep();
                swept.map(|_| "swept").expect("a directory to sweep")
            })
        })
        .check("name", |name, _| check_name(name))
        .check("name after an act", |name, acted| match acted {
            Some(acted) => format!("{acted}; {}", check_name(name)),
            None => check_name(name).to_owned(),
        })
        .check("region", |name, _| check_region(name))
}

fn setups(commands: Commands) -> Commands {
    commands
        .setup("nothing", |_| {})
        .setup("segment", |name| drop(create(name)))
        .setup("temporary", |name| {
            // Its owner is gone, somebody else still lives in it when the victim comes.
            let place = Place::named(name).unlink_on_drop(true).participants(4);
            std::mem::forget(Segment::create(place, SIZE).expect("a new segment"));
        })
        .setup("left", |name| {
            let place = Place::named(name).unlink_on_drop(true);
            std::mem::forget(Segment::create(place, SIZE).expect("a new segment"));
            die();
        })
        .setup("zeroes", |name| drop(region_of(name)))
        .setup("claimed", |name| {
            let _ = Segment::create_with(region_of(name), SIZE, |segment| {
                segment.write(0, &[0xEE; SIZE])?;
                die();
            });
        })
        .setup("ready region", |name| {
            Segment::create(region_of(name), SIZE).expect("a new segment");
        })
}

fn victims(commands: Commands) -> Commands {
    commands
        .victim("create", |name| {
            warm_up();
            mark_start();
            let made = Segment::create(name, SIZE);
            mark_end();
            assert!(
                matches!(made, Ok(_) | Err(Error::AlreadyExists { .. })),
                "{made:?}"
            );
        })
        .victim("open_or_create", |name| {
            warm_up();
            mark_start();
            let segment = Segment::open_or_create(name, SIZE);
            mark_end();
            segment.expect("one of the two");
        })
        .victim("open", |name| {
            warm_up();
            mark_start();
            let segment = Segment::open(name, SIZE);
            mark_end();
            drop(segment);
        })
        .victim("open_read_only", |name| {
            warm_up();
            mark_start();
            let segment = Segment::open_read_only(name, SIZE);
            mark_end();
            segment.expect("it exists");
        })
        .victim("unlink", |name| {
            warm_up();
            mark_start();
            let result = shm_core::unlink(name);
            mark_end();
            assert!(
                matches!(result, Ok(()) | Err(Error::NotFound { .. })),
                "{result:?}"
            );
        })
        .victim("drop", |name| {
            let place = Place::named(name).unlink_on_drop(true);
            let segment = Segment::create(place, SIZE).expect("a new segment");
            mark_start();
            drop(segment);
            mark_end();
        })
        .victim("sweep", |_| {
            warm_up();
            mark_start();
            let swept = shm_core::sweep();
            mark_end();
            swept.expect("a directory to sweep");
        })
        .victim("create_in_region", |name| {
            warm_up();
            let region = region_of(name);
            mark_start();
            let segment = Segment::create(region, SIZE);
            mark_end();
            drop(segment);
        })
        .victim("open_region", |name| {
            warm_up();
            let region = region_of(name);
            mark_start();
            let segment = Segment::open(region, SIZE);
            mark_end();
            segment.expect("it is ready");
        })
}

fn create(name: &str) -> Segment {
    Segment::create(name, SIZE).expect("a new segment")
}

/// What the name is now; then it must be possible to use and to remove it, or to create it anew.
fn check_name(name: &str) -> &'static str {
    let absent = || {
        create(name).unlink().expect("it was just created");
        "absent"
    };
    if !Path::new("/dev/shm").join(name).exists() {
        return absent();
    }
    let left = match Segment::open(name, SIZE) {
        Ok(segment) => {
            let mine = std::process::id();
            let others = segment
                .participants()
                .iter()
                .filter(|id| id.pid() != mine)
                .count();
            assert_eq!(others, 0, "the dead do not take part");
            segment.write(0, &[7; SIZE]).expect("it can be used");
            let mut bytes = [0; SIZE];
            segment.read(0, &mut bytes).expect("it can be used");
            assert_eq!(bytes, [7; SIZE]);
            let temporary = is_temporary(name);
            drop(segment);
            temporary
        }
        // The sweep of another point, visited at the same time, was faster.
        Err(Error::NotFound { .. }) => return absent(),
        Err(other) => panic!("a name is there, but: {other}"),
    };
    if left {
        // Nobody alive is attached: whoever creates the name takes the old one away.
        create(name);
    }
    shm_core::unlink(name).expect("it was there");
    if left { "left" } else { "present" }
}

/// Whether the name should have gone with a creator who is gone.
fn is_temporary(name: &str) -> bool {
    let header = std::fs::read(Path::new("/dev/shm").join(name)).expect("it is there");
    header[28] & 1 != 0
}

fn check_region(name: &str) -> &'static str {
    let outcome = match Segment::open(region_of(name), SIZE) {
        Ok(segment) => {
            let mut bytes = [1; SIZE];
            segment.read(0, &mut bytes).expect("it is in bounds");
            assert_eq!(bytes, [0; SIZE], "nothing of a dead creator shows");
            "ready"
        }
        Err(Error::NotReady { creator: None, .. }) => {
            Segment::create(region_of(name), SIZE).expect("the claim of the dead is free");
            Segment::open(region_of(name), SIZE).expect("it was just created");
            "empty"
        }
        Err(other) => panic!("{other}"),
    };
    std::fs::remove_file(Path::new("/dev/shm").join(name)).expect("the region's file");
    outcome
}

/// What `act` says, or that it waits: for the inode's lock of somebody who stands still it would do so for
/// a second, and then be told so. This process ends before.
fn within_a_moment(act: impl FnOnce() -> &'static str + Send + 'static) -> &'static str {
    let (done, acted) = mpsc::channel();
    let thread = thread::Builder::new().name("act".to_owned());
    let thread = thread.spawn(move || {
        // Nobody listens any more when it comes too late.
        let _ = done.send(act());
    });
    // One that is still at work, or waits for a processor, may have as long as the case.
    let is_asleep = || {
        let threads = shm_testing::threads(std::process::id());
        threads.iter().any(|t| t.name == "act" && t.state == 'S')
    };
    loop {
        match acted.recv_timeout(Duration::from_millis(30)) {
            Err(RecvTimeoutError::Timeout) if is_asleep() => return "waits",
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                thread
                    .expect("a thread")
                    .join()
                    .expect("nothing else goes wrong");
                unreachable!("it panicked instead")
            }
            Ok(acted) => return acted,
        }
    }
}

/// A mapping that is nobody's segment, shared by way of a file.
fn region_of(name: &str) -> Region {
    let path = Path::new("/dev/shm").join(name);
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = file.expect("a file");
    file.set_len(4096).expect("room for a page");
    let map = memmap2::MmapOptions::new()
        .map_raw(&file)
        .expect("a mapping");
    let start = NonNull::new(map.as_mut_ptr()).expect("not at address 0");
    // SAFETY: the region keeps the mapping; its bytes are used through the family alone.
    unsafe { Region::new(start, map.len(), map) }
}

/// Has this process read what it reads once only: who and where it is. That way is long, private to
/// the process, and leaves nothing.
pub(crate) fn warm_up() {
    Segment::create(Place::anonymous(), SIZE).expect("a segment without a name");
}

/// Ends this process as SIGKILL does.
pub(crate) fn die() -> ! {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("permitted");
    unreachable!("SIGKILL cannot be survived")
}
