//! The fault driver fails every call once, and finds what is not cleaned up afterwards.

use nix::errno::Errno;
use shm_testing::faults::{Call, Fault, FaultReport, Faults, Persistence};
use shm_testing::step_killer::Case;
use shm_testing::watchdog;

const VICTIMS: &str = env!("CARGO_BIN_EXE_toy-victim");

fn run(operation: &str) -> FaultReport {
    let report = Faults::new(VICTIMS)
        .unwrap()
        .calls(&[Call::OPEN, Call::FTRUNCATE, Call::MMAP, Call::FALLOCATE])
        .errors(&[Errno::ENOSPC, Errno::EMFILE, Errno::EINTR])
        .run(&Case::new(operation, "nothing"), &["absent", "whole"])
        .unwrap();
    println!("{report}");
    report
}

/// Whether one of the violations has `what` in it.
fn is_found(report: &FaultReport, what: &str) -> bool {
    let mut found = report
        .violations()
        .filter_map(|fault| fault.violation.as_deref());
    found.any(|violation| violation.contains(what))
}

#[test]
fn tidy_maker_survives_every_fault() {
    let _watchdog = watchdog();
    let report = run("make");
    assert_eq!(report.violations().count(), 0);
    let told = |call: &str, error, persistence| {
        let hit = |fault: &&Fault| {
            (fault.call, fault.error, fault.persistence) == (call, error, persistence)
        };
        report
            .faults
            .iter()
            .find(hit)
            .map(|fault| (fault.told.as_str(), fault.found.as_str()))
    };
    let refused = |errno| format!("refused with {}", errno as i32);
    let (once, lasting) = (Persistence::Once, Persistence::Lasting);
    for call in ["open", "ftruncate", "mmap"] {
        let expected = refused(Errno::ENOSPC);
        assert_eq!(
            told(call, Errno::ENOSPC, once),
            Some((expected.as_str(), "absent"))
        );
        assert_eq!(
            told(call, Errno::ENOSPC, lasting),
            Some((expected.as_str(), "absent"))
        );
    }
    // The standard library tries again; the C library's mmap is not tried again.
    assert_eq!(told("open", Errno::EINTR, once), Some(("made", "whole")));
    assert_eq!(
        told("ftruncate", Errno::EINTR, once),
        Some(("made", "whole"))
    );
    assert_eq!(told("open", Errno::EINTR, lasting), None);
    assert_eq!(told("fallocate", Errno::ENOSPC, once), None);
}

#[test]
fn file_that_is_left_is_found() {
    let _watchdog = watchdog();
    assert!(is_found(&run("make-untidily"), "half-made"));
}

#[test]
fn descriptor_that_is_left_is_found() {
    let _watchdog = watchdog();
    assert!(is_found(&run("make-leakily"), "keeps"));
}

#[test]
fn panic_is_found() {
    let _watchdog = watchdog();
    assert!(is_found(&run("make-rashly"), "exit code 101"));
}

#[test]
fn every_call_of_a_kind_is_failed_in_turn() {
    let _watchdog = watchdog();
    let report = Faults::new(VICTIMS)
        .unwrap()
        .calls(&[Call::FTRUNCATE, Call::OPEN])
        .errors(&[Errno::EINTR])
        .run(&Case::new("make-thrice", "nothing"), &["whole"])
        .unwrap();
    // Three calls, each tried again by the standard library; none is opened between the marks.
    let hits: Vec<_> = report
        .faults
        .iter()
        .map(|fault| (fault.call, fault.n))
        .collect();
    assert_eq!(hits, [("ftruncate", 1), ("ftruncate", 2), ("ftruncate", 3)]);
    assert!(
        report
            .faults
            .iter()
            .all(|fault| fault.told == "made" && fault.found == "whole")
    );
    assert_eq!(report.violations().count(), 0);
}

#[test]
fn a_futex_of_the_process_alone_is_left_alone() {
    let _watchdog = watchdog();
    let report = Faults::new(VICTIMS)
        .unwrap()
        .calls(&[Call::FUTEX])
        .errors(&[Errno::EINTR])
        .run(&Case::new("wake", "nothing"), &["absent"])
        .unwrap();
    let hits: Vec<_> = report.faults.iter().map(|fault| fault.n).collect();
    assert_eq!(hits, [1], "{report}");
    assert_eq!(report.violations().count(), 0);
}

#[test]
fn a_table_gives_each_call_its_own_errors() {
    let _watchdog = watchdog();
    let table: &[(Call, &[Errno])] = &[
        (Call::FTRUNCATE, &[Errno::ENOSPC]),
        (Call::MMAP, &[Errno::ENOMEM]),
        // Made by no maker.
        (Call::FALLOCATE, &[Errno::ENOSPC]),
    ];
    let report = Faults::new(VICTIMS)
        .unwrap()
        .table(table)
        .run(&Case::new("make", "nothing"), &["absent"])
        .unwrap();
    let hits: Vec<_> = report.faults.iter().map(|f| (f.call, f.error)).collect();
    let (truncate, map) = (("ftruncate", Errno::ENOSPC), ("mmap", Errno::ENOMEM));
    // Each once, and once for good.
    assert_eq!(hits, [truncate, truncate, map, map]);
    assert_eq!(report.violations().count(), 0);
}
