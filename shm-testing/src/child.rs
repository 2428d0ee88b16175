//! A peer: a second process of the same test binary, and a line protocol with it.
//!
//! An integration test file holds one test that is not one, named `peer`, and the roles:
//!
//! ```no_run
//! use shm_testing::{Child, Peer, peer_main};
//!
//! fn holder(peer: &mut Peer) {
//!     // ... take the lock named peer.args()[0] ...
//!     peer.say("holding");
//!     assert_eq!(peer.hear(), "go");
//! }
//!
//! #[test]
//! fn peer() {
//!     peer_main(&[("holder", holder as fn(&mut Peer))]);
//! }
//!
//! #[test]
//! fn a_dead_holder_is_noticed() {
//!     let mut holder = Child::spawn("holder", &["tickets"]);
//!     holder.expect("holding");
//!     holder.kill();
//! }
//! ```
//!
//! In an ordinary run `peer` returns at once. A [`Child`] is the test binary started again with
//! `peer --exact` and the role in its environment; its standard input and output carry the lines.
//! A line of ours begins with a marker, wherever on the line it stands, so that what libtest
//! prints is passed over.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fmt};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::spawn;
use crate::wire::{self, ARGS, Kind, ROLE, SEPARATOR};

/// How long [`Child::expect`] waits.
const LIMIT: Duration = Duration::from_secs(20);
/// How much of a peer's standard error a report quotes.
const QUOTED: usize = 8 << 10;

/// A peer process, seen from the test. Dropping it kills and reaps it.
///
/// It also dies when the test process does, however that ends. It may be moved to another thread.
#[derive(Debug)]
pub struct Child {
    role: String,
    process: process::Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Kind, String)>,
    errors: Arc<Mutex<Vec<u8>>>,
    error_reader: Option<JoinHandle<()>>,
    tid: Option<u32>,
}

/// Whether a process with that status runs no more.
fn is_end(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
}

impl Child {
    /// Starts a peer in `role`, by the test `peer` at the root of this test binary.
    ///
    /// # Panics
    /// When the process cannot be started.
    #[track_caller]
    pub fn spawn(role: &str, args: &[&str]) -> Self {
        Self::spawn_at("peer", role, args)
    }

    /// Starts a peer by the test at `path`, for example `suite::peer`; see
    /// [`peer_main_at`](crate::peer_main_at).
    ///
    /// # Panics
    /// When the process cannot be started, or an argument holds the character U+001F.
    #[track_caller]
    pub fn spawn_at(path: &str, role: &str, args: &[&str]) -> Self {
        let mut list = String::new();
        for arg in args {
            assert!(!arg.contains(SEPARATOR), "{arg:?} cannot be passed on");
            list.push(SEPARATOR);
            list.push_str(arg);
        }
        let binary = env::current_exe().expect("the path of this test binary");
        let mut command = Command::new(binary);
        command
            .args([path, "--exact", "--nocapture", "--test-threads=1", "-q"])
            .env(ROLE, role)
            .env(ARGS, list)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = spawn::spawn(command)
            .unwrap_or_else(|e| panic!("peer {role:?} cannot be started: {e}"));

        let (sender, lines) = channel();
        let stdout = process.stdout.take().expect("stdout is a pipe");
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if let Some(line) = wire::parse(&line)
                    && sender.send(line).is_err()
                {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(Vec::new()));
        let stderr = process.stderr.take().expect("stderr is a pipe");
        let sink = Arc::clone(&errors);
        let error_reader = Some(thread::spawn(move || keep_tail(stderr, &sink)));
        let stdin = process.stdin.take();
        Self {
            role: role.to_owned(),
            process,
            stdin,
            lines,
            errors,
            error_reader,
            tid: None,
        }
    }

    /// The peer's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The id of the peer's thread that runs its role; not the first thread, which is libtest's.
    ///
    /// # Panics
    /// When the peer does not begin its role in time.
    #[track_caller]
    pub fn tid(&mut self) -> u32 {
        if self.tid.is_none() {
            match self.next(LIMIT) {
                Ok((Kind::Thread, tid)) => self.tid = tid.parse().ok(),
                Ok(other) => panic!("peer {:?} began with {other:?}", self.role),
                Err(error) => panic!("{error}"),
            }
        }
        self.tid.expect("just learned")
    }

    /// Waits up to 20 s for the peer to say exactly `line`.
    ///
    /// # Panics
    /// When it says something else, panics, ends or stays silent; the message quotes what came
    /// instead, and its standard error.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        self.expect_within(line, LIMIT);
    }

    /// Like [`Child::expect`] with another limit.
    ///
    /// # Panics
    /// As [`Child::expect`].
    #[track_caller]
    pub fn expect_within(&mut self, line: &str, limit: Duration) {
        if let Err(error) = self.try_expect(line, limit) {
            panic!("{error}");
        }
    }

    /// Like [`Child::expect_within`], but the failure is returned.
    ///
    /// # Errors
    /// When the peer says something else, panics, ends or stays silent.
    pub fn try_expect(&mut self, line: &str, limit: Duration) -> Result<(), ExpectError> {
        match self.said(limit) {
            Ok(said) if said == line => Ok(()),
            Ok(said) => Err(self.error(&format!("said {said:?}, not {line:?}"))),
            Err(error) => Err(error.while_waiting_for(line)),
        }
    }

    /// Waits up to 20 s for the peer's next line, whatever it is.
    ///
    /// # Panics
    /// When the peer panics, ends or stays silent.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        match self.said(LIMIT) {
            Ok(line) => line,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends the peer one line; [`Peer::hear`](crate::Peer::hear) returns it.
    ///
    /// # Panics
    /// When the peer is gone.
    #[track_caller]
    pub fn tell(&mut self, line: &str) {
        let text = format!("{}\n", wire::escape(line));
        let stdin = self.stdin.as_mut().expect("stdin is open until wait");
        if let Err(error) = stdin.write_all(text.as_bytes()) {
            panic!(
                "{}",
                self.error(&format!("does not hear {line:?}: {error}"))
            );
        }
    }

    /// Kills the peer with SIGKILL and reaps it.
    ///
    /// # Panics
    /// When it had already ended in another way.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.kill().expect("a child can be killed");
        let status = self.process.wait().expect("a child can be waited for");
        if status.signal() != Some(Signal::SIGKILL as i32) {
            panic!(
                "{}",
                self.error(&format!("had ended before the kill: {status}"))
            );
        }
    }

    /// Kills the peer with SIGKILL and returns when it is dead but not reaped: a zombie, until
    /// [`Child::wait`], [`Child::kill`] or the drop.
    #[track_caller]
    pub fn kill_unreaped(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for(WaitPidFlag::WEXITED);
    }

    /// Stops the peer with SIGSTOP and returns when all its threads have stopped.
    ///
    /// # Panics
    /// When it ended meanwhile.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.wait_for(WaitPidFlag::WSTOPPED);
    }

    /// Lets a stopped peer run on.
    ///
    /// # Panics
    /// When it ended meanwhile.
    #[track_caller]
    pub fn cont(&mut self) {
        self.signal(Signal::SIGCONT);
        self.wait_for(WaitPidFlag::WCONTINUED);
    }

    /// As [`stop`](Self::stop), for one that may end by itself: `false` if it did.
    pub(crate) fn try_stop(&mut self) -> bool {
        self.signal(Signal::SIGSTOP);
        !is_end(self.next_status(WaitPidFlag::WSTOPPED))
    }

    /// As [`cont`](Self::cont), for one that may end as soon as it runs; does not wait until it does.
    pub(crate) fn let_run(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Closes the peer's standard input and waits for it to end.
    pub fn wait(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.process.wait().expect("a child can be waited for")
    }

    fn signal(&self, signal: Signal) {
        kill(self.raw_pid(), signal).expect("an unreaped child can be signalled");
    }

    /// Waits for the event; panics when the peer ended meanwhile.
    #[track_caller]
    fn wait_for(&self, event: WaitPidFlag) {
        let status = self.next_status(event);
        if is_end(status) && event != WaitPidFlag::WEXITED {
            panic!("{}", self.error(&format!("ended: {status:?}")));
        }
    }

    /// Waits for the event, and for the end in any case; the end is left to be reaped.
    fn next_status(&self, event: WaitPidFlag) -> WaitStatus {
        let flags = event | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        loop {
            match waitid(Id::Pid(self.raw_pid()), flags) {
                Err(Errno::EINTR) => {}
                status => break status.expect("an unreaped child can be waited for"),
            }
        }
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    fn said(&mut self, limit: Duration) -> Result<String, ExpectError> {
        let end = Instant::now() + limit;
        loop {
            match self.next(end.saturating_duration_since(Instant::now()))? {
                (Kind::Said, line) => return Ok(line),
                (Kind::Thread, tid) => self.tid = tid.parse().ok(),
                (Kind::Panicked, message) => {
                    return Err(self.error(&format!("panicked: {message}")));
                }
            }
        }
    }

    fn next(&mut self, limit: Duration) -> Result<(Kind, String), ExpectError> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(ExpectError {
                silence: true,
                ..self.error(&format!("is silent for {limit:?}"))
            }),
            Err(RecvTimeoutError::Disconnected) => {
                // Its output ended, so it is about to; the status says how.
                let status = self.wait();
                if let Some(reader) = self.error_reader.take() {
                    let _ = reader.join();
                }
                Err(self.error(&format!("ended: {status}")))
            }
        }
    }

    fn error(&self, what: &str) -> ExpectError {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        ExpectError {
            what: format!("peer {:?} (process {}) {what}", self.role, self.pid()),
            stderr: String::from_utf8_lossy(&errors).into_owned(),
            silence: false,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only when it is dead and reaped already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Why a peer did not say what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectError {
    what: String,
    stderr: String,
    silence: bool,
}

impl ExpectError {
    /// Whether the peer lives and said nothing in time.
    pub fn is_silence(&self) -> bool {
        self.silence
    }

    fn while_waiting_for(mut self, line: &str) -> Self {
        self.what += &format!(" (expected {line:?})");
        self
    }
}

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.stderr.is_empty() {
            write!(f, "\n--- its standard error ---\n{}---", self.stderr)?;
        }
        Ok(())
    }
}

impl std::error::Error for ExpectError {}

/// Reads all of `from`, and keeps the end of it.
fn keep_tail(mut from: impl Read, sink: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        let mut kept = sink.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&chunk[..n]);
        let surplus = kept.len().saturating_sub(QUOTED);
        kept.drain(..surplus);
    }
}
