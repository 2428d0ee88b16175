//! The system calls of segments, of making and opening each type, of growing, of waiting and of settling what the dead
//! left fail one by one: a typed error or none, nothing left behind, and the same operation works afterwards.

use std::time::Duration;

use nix::errno::Errno;
use shm_testing::Watchdog;
use shm_testing::faults::{Call, Fault, FaultReport, Faults};
use shm_testing::step_killer::Case;

#[allow(
    dead_code,
    reason = "the operations run in the program itself; here are their names"
)]
#[path = "../src/blocking.rs"]
mod blocking;

/// The errors that each call may meet; EINTR only where a signal can interrupt it.
const FAULTS: &[(Call, &[Errno])] = &[
    (
        Call::OPEN,
        &[
            Errno::EINTR,
            Errno::EMFILE,
            Errno::ENOMEM,
            Errno::EACCES,
            Errno::ENOSPC,
        ],
    ),
    (Call::STAT, &[Errno::ENOMEM, Errno::EACCES]),
    (Call::GETDENTS, &[Errno::ENOMEM]),
    (Call::READ, &[Errno::EINTR, Errno::ENOMEM]),
    (Call::WRITE, &[Errno::EINTR, Errno::ENOSPC]),
    (
        Call::FTRUNCATE,
        &[Errno::EINTR, Errno::ENOSPC, Errno::ENOMEM, Errno::EACCES],
    ),
    (
        Call::FALLOCATE,
        &[Errno::EINTR, Errno::ENOSPC, Errno::ENOMEM],
    ),
    (Call::MMAP, &[Errno::ENOMEM, Errno::EACCES]),
    (Call::MADVISE, &[Errno::ENOMEM, Errno::EINVAL]),
    (Call::LINK, &[Errno::ENOSPC, Errno::ENOMEM, Errno::EACCES]),
    // A file system that writes down what is gone (overlayfs) has to have room for it.
    (Call::UNLINK, &[Errno::ENOMEM, Errno::EACCES, Errno::ENOSPC]),
    (Call::FCNTL, &[Errno::EMFILE, Errno::ENOMEM, Errno::EACCES]),
    (Call::FLOCK, &[Errno::EINTR, Errno::ENOMEM]),
    (Call::CHMOD, &[Errno::EPERM]),
    (Call::MEMFD_CREATE, &[Errno::EMFILE, Errno::ENOMEM]),
    (Call::PIDFD_OPEN, &[Errno::EMFILE, Errno::ENOMEM]),
    (Call::POLL, &[Errno::EINTR, Errno::ENOMEM]),
    (Call::MESSAGE, &[Errno::EINTR, Errno::ENOMEM]),
    (Call::FUTEX, &[Errno::EINTR, Errno::ENOMEM, Errno::EACCES]),
    (Call::ROBUST_LIST, &[Errno::EPERM]),
];

/// What is left of the name, by what the operation told.
#[derive(Clone, Copy)]
enum Leaves {
    /// Made if it is done.
    Made,
    /// Gone, whatever happened.
    Nothing,
    /// There, whatever happened.
    TheSegment,
    /// What concerns a single name may be passed over.
    Either,
}

fn run(case: Case) -> FaultReport {
    run_lasting(case, 20)
}

/// A wait lasts so many milliseconds.
fn run_lasting(case: Case, wait: u32) -> FaultReport {
    let operation = case.to_string();
    let case = case.checked_by("leftover").limit(Duration::from_secs(20));
    let report = Faults::new(env!("CARGO_BIN_EXE_shm-kill"))
        .map(|faults| faults.table(FAULTS).env(blocking::LASTS, &wait.to_string()))
        .and_then(|faults| faults.run(&case, &["absent", "present"]))
        .unwrap_or_else(|error| panic!("{operation}: {error}"));
    println!("{report}");
    report
}

/// What is wrong with a fault beyond what the driver looks at.
fn wrong(fault: &Fault, leaves: Leaves) -> Option<String> {
    if let Some(violation) = &fault.violation {
        return Some(violation.clone());
    }
    let done = !fault.told.starts_with("refused");
    let full = fault.error == Errno::EMFILE && !done;
    // A creator that cannot look into a name of the dead says that it exists: so it does.
    let names_it = ["TooManyDescriptors", "AlreadyExists"].map(|name| fault.told.contains(name));
    // Of whom nobody can say whether it lives is waited for, until the time is over.
    let waited = fault.call == "pidfd_open" && fault.told.contains("timed_out: true");
    if full && names_it == [false; 2] && !waited {
        return Some("no descriptor left, and another error".to_owned());
    }
    if fault.error == Errno::EINTR && !done {
        return Some("an interruption came through".to_owned());
    }
    let expected = match leaves {
        Leaves::Made if done => "present",
        Leaves::Made | Leaves::Nothing => "absent",
        Leaves::TheSegment => "present",
        Leaves::Either => return None,
    };
    (fault.found != expected).then(|| format!("ought to be {expected}"))
}

fn wrongs(report: &FaultReport, leaves: Leaves) -> Vec<String> {
    let wrong = |fault: &Fault| wrong(fault, leaves).map(|what| format!("{fault}: {what}"));
    report.faults.iter().filter_map(wrong).collect()
}

fn survives(operation: &str, state: &str, leaves: Leaves) {
    survives_as(Case::new(operation, state), leaves);
}

fn survives_as(case: Case, leaves: Leaves) {
    let operation = case.to_string();
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    let report = run(case);
    assert!(
        !report.faults.is_empty(),
        "{operation} makes no call that could fail"
    );
    let wrongs = wrongs(&report, leaves);
    assert!(wrongs.is_empty(), "{operation}: {wrongs:#?}");
}

#[test]
fn making_a_segment() {
    for operation in [
        "tell create",
        "tell create, all reserved",
        "tell create, at a path",
        "tell open_or_create",
    ] {
        survives(operation, "nothing", Leaves::Made);
    }
    survives("tell create, without a name", "nothing", Leaves::Nothing);
}

#[test]
fn finding_a_segment() {
    for operation in [
        "tell open",
        "tell open_read_only",
        "tell open_or_create, what is there",
        "tell list",
    ] {
        survives(operation, "segment", Leaves::TheSegment);
    }
}

#[test]
fn handing_a_segment_over() {
    for operation in [
        "tell inheritable_fd",
        "tell send_fd",
        "tell recv_fd",
        "tell open, by inherited descriptor",
    ] {
        survives(operation, "segment", Leaves::TheSegment);
    }
}

#[test]
fn filling_a_sparse_segment() {
    survives("tell allocate", "sparse segment", Leaves::TheSegment);
}

#[test]
fn removing_a_segment() {
    survives("tell unlink", "segment", Leaves::Nothing);
    survives("tell drop", "nothing", Leaves::Nothing);
}

#[test]
fn finding_what_the_dead_left() {
    // Each of these tests may sweep what another one's set-up left.
    let dead = |operation| Case::new(operation, "left").orphaned().set_up_anew();
    survives_as(dead("tell create"), Leaves::Made);
    // It may open what the dead left, which anybody may take away again.
    survives_as(dead("tell open_or_create"), Leaves::Either);
    survives_as(dead("tell sweep"), Leaves::Either);
    survives_as(dead("tell list"), Leaves::Either);
}

/// Each operation with what a process left that was killed in the middle: the last attempt loses nothing.
#[test]
fn settling_what_the_dead_left() {
    for (operation, state) in [
        ("tell recover, of one", "dead in put lock"),
        ("tell recover, of one", "dead in get lock"),
        ("tell recover, of three", "dead with leases"),
        ("tell get, of three", "dead with leases"),
        ("tell put, behind one", "dead in put lock"),
        ("tell task, of two", "task of the dead"),
        ("tell set, beside three", "dead under the lock"),
        ("tell repair, after a transaction", "dead in a transaction"),
        ("tell lock, and repair", "torn pair"),
        ("tell write, after a reader", "rwlock with a dead reader"),
        ("tell acquire, of the dead", "robust permits of the dead"),
        ("tell get_or_init, half made", "once value half made"),
        ("tell wait, of the dead", "barrier of the dead"),
    ] {
        survives_as(Case::new(operation, state).orphaned(), Leaves::TheSegment);
    }
}

const TYPES: [&str; 21] = [
    "Mutex",
    "ReentrantMutex",
    "RwLock",
    "Semaphore",
    "BoundedSemaphore",
    "RobustSemaphore",
    "Condvar",
    "Event",
    "Barrier",
    "Once",
    "OnceValue",
    "Value",
    "AtomicValue",
    "Array",
    "AtomicArray",
    "SeqValue",
    "ShareableList",
    "Queue",
    "JoinableQueue",
    "Dict",
    "List",
];

#[test]
fn making_each_type() {
    for name in TYPES {
        survives(&format!("tell create {name}"), "nothing", Leaves::Made);
    }
}

#[test]
fn opening_each_type() {
    for name in TYPES {
        survives(&format!("tell open {name}"), name, Leaves::TheSegment);
    }
}

#[test]
fn removing_what_a_type_made() {
    // The others remove their segment in the same way.
    for name in [
        "SeqValue",
        "ShareableList",
        "Queue",
        "JoinableQueue",
        "Dict",
        "List",
    ] {
        survives(&format!("tell unlink {name}"), name, Leaves::Nothing);
    }
}

/// Asks for memory that it does not get.
fn is_refused_memory(report: &FaultReport) -> bool {
    let refused = |fault: &Fault| fault.call == "fallocate" && fault.told.starts_with("refused");
    report.faults.iter().any(refused)
}

#[test]
fn what_needs_new_memory_happens_or_changes_nothing() {
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    for (operation, state) in [
        ("tell set, in new memory", "Dict of one"),
        ("tell put, in new memory", "Queue of one"),
    ] {
        let report = run(Case::new(operation, state));
        assert!(is_refused_memory(&report), "{report}");
        let wrongs = wrongs(&report, Leaves::TheSegment);
        assert!(wrongs.is_empty(), "{operation}: {wrongs:#?}");
    }
}

#[test]
fn control_a_change_by_what_failed_is_noticed() {
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    let report = run(Case::new("tell two sets, in new memory", "Dict of one"));
    let wrongs = wrongs(&report, Leaves::TheSegment);
    let changed = "changed by what failed";
    assert!(
        wrongs.iter().any(|what| what.contains(changed)),
        "{wrongs:?}"
    );
}

/// A call that blocks has no error but what it waits for; its sleep is interrupted, or fails.
fn waits(how: &str, ends: &str) {
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    for name in blocking::NAMES {
        let case = || Case::new(&format!("{how} {name}"), "nothing");
        // On a busy machine the wait may be over before the first sleep.
        let slept = |report: &FaultReport| report.faults.iter().any(|f| f.call == "futex");
        let report = (0..7).map(|n| run_lasting(case(), 20 << n)).find(slept);
        let report = report.unwrap_or_else(|| panic!("{how} {name}: never asleep"));
        for fault in &report.faults {
            let unsupported = fault.call == "get_robust_list" && fault.told.contains("Unsupported");
            assert!(fault.violation.is_none(), "{name}: {fault}");
            assert!(fault.told == ends || unsupported, "{name}: {fault}");
        }
    }
}

#[test]
fn waiting() {
    waits("wait for", blocking::RETURNED);
}

#[test]
fn waiting_in_vain() {
    waits("wait in vain for", blocking::TIMED_OUT);
}

#[test]
fn control_a_file_that_is_left_is_noticed() {
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    let report = run(Case::new("tell create, and leave a file", "nothing"));
    let wrongs = wrongs(&report, Leaves::Made);
    assert!(
        wrongs
            .iter()
            .any(|what| what.ends_with("ought to be absent")),
        "{wrongs:?}"
    );
}

#[test]
fn control_a_descriptor_that_is_left_is_noticed() {
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    let report = run(Case::new("tell create, and leave a descriptor", "nothing"));
    let wrongs = wrongs(&report, Leaves::Nothing);
    assert!(
        wrongs.iter().any(|what| what.contains("keeps Some(Kept")),
        "{wrongs:?}"
    );
}

#[test]
fn control_an_interruption_that_comes_through_is_noticed() {
    let _watchdog = Watchdog::new(Duration::from_secs(60));
    let report = run(Case::new("tell lock, once", "nothing"));
    let wrongs = wrongs(&report, Leaves::Nothing);
    let interrupted = "an interruption came through";
    assert!(
        wrongs.iter().any(|what| what.ends_with(interrupted)),
        "{wrongs:?}"
    );
}
