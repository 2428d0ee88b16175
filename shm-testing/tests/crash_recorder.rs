//! Real processes that are killed while they record: each leaves at most one pending operation, and the history that
//! they leave together is explained by what they did.

#[path = "scratch/mod.rs"]
mod scratch;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use scratch::Scratch;
use shm_testing::linearizability::{
    Budget, History, Recorder, Register, RegisterOp, RegisterRet, Verdict, check, collect, snapshot,
};

type RegisterRecorder = Recorder<RegisterOp, RegisterRet>;
type RegisterHistory = History<RegisterOp, RegisterRet>;

/// In the environment of a child: the directory of its test. What else it has to know.
const DIR: &str = "SHM_TEST_DIR";
const PROCESS: &str = "SHM_TEST_PROCESS";

/// A child process that runs the test of this name again, and finds the directory in its environment.
struct Peer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    fn spawn(test: &str, dir: &Path, process: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .env(PROCESS, process.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Waits until the child says `word`, and returns what follows on the line.
    fn wait_for(&mut self, word: &str) -> String {
        for line in self.lines.by_ref().lines() {
            // The test harness may have begun the line.
            if let Some((_, rest)) = line.unwrap().split_once(word) {
                return rest.trim().to_owned();
            }
        }
        panic!("the child ended before it said {word}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}");
    }

    fn wait(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Of a test that failed; for one that was waited for both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory, if this process is a child; it dies with its parent.
fn child_of() -> Option<(PathBuf, u32)> {
    let dir = std::env::var_os(DIR)?;
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let process = std::env::var(PROCESS).unwrap().parse().unwrap();
    Some((dir.into(), process))
}

/// A word in a file of the directory: the thing under test.
struct SharedWord(MmapRaw);

impl SharedWord {
    fn create(dir: &Path) -> Self {
        fs::write(dir.join("word"), [0; 8]).unwrap();
        Self::open(dir)
    }

    fn open(dir: &Path) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .open(dir.join("word"))
            .unwrap();
        Self(MmapOptions::new().len(8).map_raw(&file).unwrap())
    }

    fn get(&self) -> &AtomicU64 {
        // SAFETY:
        // - in bounds, aligned, mapped: the mapping has 8 bytes from the start of a page, and lives as long as `self`;
        // - all processes access it atomically; - any bytes are a `u64`.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast()) }
    }
}

fn counts(history: &RegisterHistory) -> (usize, usize) {
    let pending = history.pending().count();
    (history.operations().len() - pending, pending)
}

#[test]
fn a_process_killed_in_an_operation_leaves_exactly_one_pending() {
    if let Some((dir, process)) = child_of() {
        let mut recorder = RegisterRecorder::create(dir, process, 10).unwrap();
        for n in 0..3 {
            recorder.record(&RegisterOp::Write(n), || RegisterRet::Done);
        }
        recorder.record(&RegisterOp::Write(3), || {
            println!("inside");
            loop {
                thread::park();
            }
        });
    }
    let dir = Scratch::new("killed-inside");
    let mut peer = Peer::spawn(
        "a_process_killed_in_an_operation_leaves_exactly_one_pending",
        &dir,
        9,
    );
    peer.wait_for("inside");
    assert!(
        collect::<RegisterOp, RegisterRet>(&dir).is_err(),
        "it lives"
    );
    peer.kill();

    let history: RegisterHistory = collect(&dir).unwrap();
    assert_eq!(counts(&history), (3, 1));
    let pending = history.pending().next().unwrap();
    assert_eq!((pending.process, pending.op), (9, RegisterOp::Write(3)));
    assert_eq!(history.operations().last(), Some(pending));
}

#[test]
fn a_process_killed_between_operations_leaves_none_pending() {
    if let Some((dir, process)) = child_of() {
        let mut recorder = RegisterRecorder::create(dir, process, 10).unwrap();
        for n in 0..3 {
            recorder.record(&RegisterOp::Write(n), || RegisterRet::Done);
        }
        println!("between");
        loop {
            thread::park();
        }
    }
    let dir = Scratch::new("killed-between");
    let mut peer = Peer::spawn(
        "a_process_killed_between_operations_leaves_none_pending",
        &dir,
        0,
    );
    peer.wait_for("between");
    peer.kill();
    assert_eq!(counts(&collect(&dir).unwrap()), (3, 0));
}

/// Stops this thread where its tracer waits for it; what it does until the next stop is stepped through.
fn mark() {
    raise(Signal::SIGSTOP).unwrap();
}

/// A thread that is being traced. Let go with a SIGKILL: its process cannot be waited for as long as it is traced.
struct Traced(Pid);

impl Traced {
    fn wait(&self) -> WaitStatus {
        waitpid(self.0, Some(WaitPidFlag::__WALL)).unwrap()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // It may be dead already, if the test failed.
        let _ = ptrace::detach(self.0, Signal::SIGKILL);
    }
}

/// Runs the child from its first mark to its second, and looks at what it leaves after each instruction.
///
/// What the files hold after an instruction is what a SIGKILL there leaves: so this is a kill at each.
fn step_through<L: PartialEq>(mut peer: Peer, mut look: impl FnMut() -> L) -> (Vec<L>, usize) {
    let tid = Pid::from_raw(peer.wait_for("tid").parse().unwrap());
    let traced = Traced(tid);
    assert_eq!(traced.wait(), WaitStatus::Stopped(tid, Signal::SIGSTOP));
    let mut labels = vec![look()];
    let mut steps = 0;
    loop {
        ptrace::step(tid, None).unwrap();
        match traced.wait() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => steps += 1,
            WaitStatus::Stopped(_, Signal::SIGSTOP) => break,
            other => panic!("after {steps} steps: {other:?}"),
        }
        let label = look();
        if labels.last() != Some(&label) {
            labels.push(label);
        }
    }
    drop(traced);
    peer.kill();
    (labels, steps)
}

/// As a child: lets the parent trace this thread.
fn be_traced() {
    ptrace::traceme().expect("ptrace has to be permitted for this test");
    println!("tid {}", gettid());
}

#[test]
fn a_kill_at_any_instruction_leaves_at_most_one_pending() {
    if let Some((dir, process)) = child_of() {
        let word = SharedWord::open(&dir);
        let mut recorder = RegisterRecorder::create(&dir, process, 2).unwrap();
        let mut add = || {
            recorder.record(&RegisterOp::FetchAdd(1), || {
                RegisterRet::Value(word.get().fetch_add(1, Ordering::AcqRel))
            })
        };
        be_traced();
        mark();
        add();
        add();
        mark();
        unreachable!("killed at the mark");
    }
    let dir = Scratch::new("every-instruction");
    let word = SharedWord::create(&dir);
    let peer = Peer::spawn(
        "a_kill_at_any_instruction_leaves_at_most_one_pending",
        &dir,
        0,
    );
    let (labels, steps) = step_through(peer, || {
        let history: RegisterHistory = snapshot(&dir).unwrap();
        // After a kill the next reader sees the word so, and this history has to explain it.
        let now = word.get().load(Ordering::Acquire);
        let mut operations = history.operations().to_vec();
        operations.push(shm_testing::linearizability::Operation::returned(
            1,
            u64::MAX - 1,
            RegisterOp::Read,
            u64::MAX,
            RegisterRet::Value(now),
        ));
        let with_read = History::new(operations).unwrap();
        check(&Register::default(), &with_read, Budget::default()).expect_linearizable();
        (counts(&history), now)
    });
    println!("{steps} instructions");
    assert_eq!(
        labels,
        [
            ((0, 0), 0),
            ((0, 1), 0),
            ((0, 1), 1),
            ((1, 0), 1),
            ((1, 1), 1),
            ((1, 1), 2),
            ((2, 0), 2),
        ]
    );
}

#[test]
fn a_kill_at_any_instruction_of_the_creation_leaves_no_operation() {
    if let Some((dir, process)) = child_of() {
        be_traced();
        mark();
        let recorder = RegisterRecorder::create(&dir, process, 2);
        mark();
        unreachable!("killed at the mark with {recorder:?}");
    }
    let dir = Scratch::new("creation");
    let peer = Peer::spawn(
        "a_kill_at_any_instruction_of_the_creation_leaves_no_operation",
        &dir,
        0,
    );
    let path = dir.join("0.history");
    let (labels, steps) = step_through(peer, || {
        assert_eq!(counts(&snapshot(&dir).unwrap()), (0, 0));
        fs::read(&path).map_or(0, |bytes| bytes.len())
    });
    println!("{steps} instructions");
    // Absent or empty, then in full size.
    assert_eq!(labels, [0, (4 + 2 * 12) * 8]);
}

/// The processes from here on are killed in the middle of their work.
const VICTIMS: u32 = 2;
/// What a survivor does, and what a victim has done at most before it waits for its death.
const SURVIVOR_WORK: usize = 300;
const VICTIM_WORK: usize = 20_000;

/// Four workers on one word, two of them killed; then what they leave, and what the word is at last.
///
/// The kill comes when the word has reached a value that moves from round to round.
fn kill_round(test: &str, round: u64) -> RegisterHistory {
    let dir = Scratch::new(&format!("{test}-{round}"));
    let word = SharedWord::create(&dir);
    let mut peers: Vec<Peer> = (0..VICTIMS + 2)
        .map(|process| Peer::spawn(test, &dir, process))
        .collect();
    for peer in &mut peers {
        peer.wait_for("ready");
    }
    File::create(dir.join("go")).unwrap();
    while word.get().load(Ordering::Relaxed) < round * 10 {
        std::hint::spin_loop();
    }
    let victims = peers.split_off(VICTIMS as usize);
    victims.into_iter().for_each(Peer::kill);
    peers.into_iter().for_each(Peer::wait);
    let mut last = RegisterRecorder::create(&dir, VICTIMS + 2, 1).unwrap();
    last.record(&RegisterOp::Read, || {
        RegisterRet::Value(word.get().load(Ordering::Acquire))
    });
    drop(last);
    collect(&dir).unwrap()
}

fn worker(dir: &Path, process: u32, mut work: impl FnMut(&AtomicU64) -> u64) -> ! {
    let count = match process >= VICTIMS {
        true => VICTIM_WORK,
        false => SURVIVOR_WORK,
    };
    let word = SharedWord::open(dir);
    let mut recorder = RegisterRecorder::create(dir, process, count).unwrap();
    println!("ready");
    while !dir.join("go").exists() {
        thread::yield_now();
    }
    for _ in 0..count {
        recorder.record(&RegisterOp::FetchAdd(1), || {
            RegisterRet::Value(work(word.get()))
        });
    }
    if process < VICTIMS {
        drop(recorder);
        std::process::exit(0);
    }
    loop {
        thread::park();
    }
}

#[test]
fn additions_of_killed_processes_are_explained() {
    if let Some((dir, process)) = child_of() {
        worker(&dir, process, |word| word.fetch_add(1, Ordering::AcqRel));
    }
    let mut pending_in_all = 0;
    for round in 0..20 {
        let history = kill_round("additions_of_killed_processes_are_explained", round);
        for process in 0..VICTIMS + 2 {
            let pending = history.pending().filter(|o| o.process == process).count();
            assert!(
                pending <= usize::from(process >= VICTIMS),
                "process {process}"
            );
            pending_in_all += pending;
        }
        check(&Register::default(), &history, Budget::default()).expect_linearizable();
    }
    println!("{pending_in_all} of 40 killed in an operation");
    assert!(pending_in_all > 0, "no kill came in an operation");
}

#[test]
fn additions_that_are_a_load_and_a_store_are_not() {
    if let Some((dir, process)) = child_of() {
        worker(&dir, process, |word| {
            let before = word.load(Ordering::Acquire);
            thread::yield_now();
            word.store(before + 1, Ordering::Release);
            before
        });
    }
    let rejected = (10..20)
        .filter(|&round| {
            let history = kill_round("additions_that_are_a_load_and_a_store_are_not", round);
            matches!(
                check(&Register::default(), &history, Budget::default()),
                Verdict::NotLinearizable(_)
            )
        })
        .count();
    assert!(rejected > 0, "lost updates were never seen");
}
