//! What a recorder writes is what the reader gives back, and nothing else is taken for a recording.

mod scratch;

use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use proptest::prelude::*;
use scratch::Scratch;
use shm_testing::linearizability::{
    CollectError, History, LockedCounterOp, LockedCounterRet, MapAction, MapOp, MapRet, QueueOp,
    QueueRet, Recorder, RegisterOp, RegisterRet, Words, collect, collect_windows, snapshot,
};

type QueueRecorder = Recorder<QueueOp, QueueRet>;
type QueueHistory = History<QueueOp, QueueRet>;

fn ops(history: &QueueHistory) -> Vec<(u32, QueueOp, Option<QueueRet>)> {
    let operations = history.operations().iter();
    operations
        .map(|o| (o.process, o.op, o.end.as_ref().map(|end| end.ret)))
        .collect()
}

#[test]
fn what_was_recorded_is_collected_from_all_processes() {
    let dir = Scratch::new("collect");
    let mut first = QueueRecorder::create(&dir, 7, 10).unwrap();
    let mut second = QueueRecorder::create(&dir, 3, 10).unwrap();
    assert_eq!(
        first.record(&QueueOp::Put(5), || QueueRet::Done),
        QueueRet::Done
    );
    second.record(&QueueOp::Get, || QueueRet::Got(5));
    first.invoke(&QueueOp::TryGet).returned(&QueueRet::Empty);
    drop((first, second));

    let history = collect(&dir).unwrap();
    assert_eq!(
        ops(&history),
        [
            (3, QueueOp::Get, Some(QueueRet::Got(5))),
            (7, QueueOp::Put(5), Some(QueueRet::Done)),
            (7, QueueOp::TryGet, Some(QueueRet::Empty)),
        ]
    );
    // One after another on one clock, each of a length.
    let times = |index: usize| {
        let operation = &history.operations()[index];
        [operation.invoked, operation.end.as_ref().unwrap().at]
    };
    let times = [times(1), times(0), times(2)].concat();
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[0] < times[5]);
}

#[test]
fn an_operation_that_does_not_return_is_pending() {
    let dir = Scratch::new("pending");
    let mut recorder = QueueRecorder::create(&dir, 0, 10).unwrap();
    recorder.record(&QueueOp::Put(1), || QueueRet::Done);
    let _ = recorder.invoke(&QueueOp::Get);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        recorder.record(&QueueOp::Put(2), || panic!("in the operation"))
    }));
    assert!(panicked.is_err());
    recorder.record(&QueueOp::TryGet, || QueueRet::Empty);
    drop(recorder);
    assert_eq!(
        ops(&collect(&dir).unwrap()),
        [
            (0, QueueOp::Put(1), Some(QueueRet::Done)),
            (0, QueueOp::Get, None),
            (0, QueueOp::Put(2), None),
            (0, QueueOp::TryGet, Some(QueueRet::Empty)),
        ]
    );
}

#[test]
fn windows_are_histories_of_their_own() {
    let dir = Scratch::new("windows");
    let mut recorders = [0, 1].map(|process| QueueRecorder::create(&dir, process, 10).unwrap());
    for window in [4, 9] {
        for recorder in &mut recorders {
            recorder.begin_window(window);
            recorder.record(&QueueOp::Put(window), || QueueRet::Done);
        }
    }
    drop(recorders);
    let windows = collect_windows(&dir).unwrap();
    assert_eq!(windows.keys().copied().collect::<Vec<_>>(), [4, 9]);
    for (window, history) in &windows {
        assert_eq!(
            ops(history),
            [0, 1].map(|process| (process, QueueOp::Put(*window), Some(QueueRet::Done)))
        );
    }
    assert_eq!(
        collect::<QueueOp, QueueRet>(&dir)
            .unwrap()
            .operations()
            .len(),
        4
    );
}

#[test]
fn a_recorder_that_is_full_refuses_to_go_on() {
    let dir = Scratch::new("full");
    let mut recorder = QueueRecorder::create(&dir, 0, 2).unwrap();
    recorder.record(&QueueOp::Put(1), || QueueRet::Done);
    recorder.record(&QueueOp::Put(2), || QueueRet::Done);
    let mut performed = false;
    let refused = catch_unwind(AssertUnwindSafe(|| {
        recorder.record(&QueueOp::Put(3), || {
            performed = true;
            QueueRet::Done
        })
    }));
    assert!(refused.is_err() && !performed);
    drop(recorder);
    assert_eq!(ops(&collect(&dir).unwrap()).len(), 2);
}

#[test]
fn a_process_has_one_file() {
    let dir = Scratch::new("one-file");
    let _first = QueueRecorder::create(&dir, 5, 2).unwrap();
    let second = QueueRecorder::create(&dir, 5, 2).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_recorder_in_use_is_not_collected_but_can_be_looked_at() {
    let dir = Scratch::new("in-use");
    let mut recorder = QueueRecorder::create(&dir, 0, 2).unwrap();
    recorder.record(&QueueOp::Put(1), || QueueRet::Done);
    let refused = collect::<QueueOp, QueueRet>(&dir).unwrap_err();
    assert!(
        matches!(refused, CollectError::StillWritten { .. }),
        "{refused}"
    );
    assert_eq!(ops(&snapshot(&dir).unwrap()).len(), 1);
    drop(recorder);
    assert_eq!(ops(&collect(&dir).unwrap()).len(), 1);
}

#[test]
fn other_files_are_left_alone_and_a_missing_directory_is_an_error() {
    let dir = Scratch::new("others");
    fs::write(dir.join("notes.txt"), "not ours").unwrap();
    assert_eq!(ops(&collect(&dir).unwrap()), []);
    let missing = collect::<QueueOp, QueueRet>(dir.join("missing")).unwrap_err();
    assert!(matches!(missing, CollectError::Io { .. }), "{missing}");
}

/// Words of the file, as the module describes them: four of the header, then twelve for each record.
fn change_word(path: &Path, index: usize, value: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[index * 8..][..8].copy_from_slice(&value.to_ne_bytes());
    fs::write(path, bytes).unwrap();
}

/// A recording of one operation, with one word changed.
fn collect_changed(name: &str, index: usize, value: u64) -> Result<QueueHistory, CollectError> {
    let dir = Scratch::new(name);
    let mut recorder = QueueRecorder::create(&dir, 0, 2).unwrap();
    recorder.record(&QueueOp::Put(1), || QueueRet::Done);
    drop(recorder);
    change_word(&dir.join("0.history"), index, value);
    collect(&dir)
}

#[test]
fn a_file_without_a_header_has_no_operations() {
    let dir = Scratch::new("empty");
    fs::write(dir.join("0.history"), "").unwrap();
    assert_eq!(ops(&collect(&dir).unwrap()), []);
    assert_eq!(ops(&collect_changed("no-magic", 0, 0).unwrap()), []);
}

#[test]
fn a_foreign_file_is_refused() {
    let dir = Scratch::new("foreign");
    fs::write(dir.join("0.history"), "short").unwrap();
    let short = collect::<QueueOp, QueueRet>(&dir).unwrap_err();
    assert!(matches!(short, CollectError::Foreign { .. }), "{short}");
    for (name, index, value) in [
        ("magic", 0, u64::from_le_bytes(*b"shmhist\x02")),
        ("label", 1, 1 << 32),
        ("capacity", 3, 3),
        ("huge", 3, u64::MAX / 12 + 1),
    ] {
        let refused = collect_changed(name, index, value).unwrap_err();
        assert!(
            matches!(refused, CollectError::Foreign { .. }),
            "{name}: {refused}"
        );
    }
}

#[test]
fn a_record_that_makes_no_sense_is_refused() {
    let first = 4;
    for (name, index, value) in [
        ("state", first, 3),
        ("op", first + 4, 99),
        ("ret", first + 8, 99),
    ] {
        let refused = collect_changed(name, index, value).unwrap_err();
        let is_named = matches!(refused, CollectError::Record { record: 0, .. });
        assert!(is_named, "{name}: {refused}");
    }
    // A hole: the first is empty, the second is not.
    let dir = Scratch::new("hole");
    let mut recorder = QueueRecorder::create(&dir, 0, 2).unwrap();
    recorder.record(&QueueOp::Put(1), || QueueRet::Done);
    recorder.record(&QueueOp::Put(2), || QueueRet::Done);
    drop(recorder);
    change_word(&dir.join("0.history"), first, 0);
    let refused = collect::<QueueOp, QueueRet>(&dir).unwrap_err();
    assert!(
        matches!(refused, CollectError::Record { record: 1, .. }),
        "{refused}"
    );
}

#[test]
fn times_that_contradict_each_other_are_refused() {
    let refused = collect_changed("times", 4 + 3, 1).unwrap_err();
    assert!(matches!(refused, CollectError::Malformed(_)), "{refused}");
}

fn round_trip<W: Words + PartialEq>(value: &W) -> bool {
    W::from_words(value.to_words()).as_ref() == Some(value)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_give_back_what_was_put_in(
        a: u64, b: u64, by: u32, key: u64, owner_died: bool,
        some in prop::option::of(any::<u64>()), other in prop::option::of(any::<u64>()),
    ) {
        use LockedCounterOp::{Add, Die, Lock, Read, TryLock, Unlock, Write};
        for op in [
            RegisterOp::Read, RegisterOp::Write(a), RegisterOp::Swap(a), RegisterOp::FetchAdd(a),
            RegisterOp::AddFetch(a), RegisterOp::CompareExchange { expected: a, new: b },
        ] {
            prop_assert!(round_trip(&op));
        }
        for ret in [RegisterRet::Done, RegisterRet::Value(a), RegisterRet::Mismatch(a)] {
            prop_assert!(round_trip(&ret));
        }
        for op in [QueueOp::Put(a), QueueOp::TryPut(a), QueueOp::Get, QueueOp::TryGet] {
            prop_assert!(round_trip(&op));
        }
        for ret in [QueueRet::Done, QueueRet::Full, QueueRet::Got(a), QueueRet::Empty] {
            prop_assert!(round_trip(&ret));
        }
        for action in [
            MapAction::Get, MapAction::Insert(a), MapAction::Remove, MapAction::FetchAdd(a),
            MapAction::CompareAndSwap { expected: some, new: other },
        ] {
            let op = MapOp { key, action };
            prop_assert!(round_trip(&op));
        }
        for ret in [MapRet::Done, MapRet::Value(some), MapRet::Mismatch(some)] {
            prop_assert!(round_trip(&ret));
        }
        for op in [Add(a), Lock(by), TryLock(by), Read(by), Write(by, a), Unlock(by), Die(by)] {
            prop_assert!(round_trip(&op));
        }
        for ret in [
            LockedCounterRet::Added { before: a, owner_died }, LockedCounterRet::Acquired,
            LockedCounterRet::OwnerDied, LockedCounterRet::WouldBlock, LockedCounterRet::Value(a),
            LockedCounterRet::Done,
        ] {
            prop_assert!(round_trip(&ret));
        }
    }
}
