//! The processes of a part and the names they share: started, listened to, and gone in the end,
//! however it ends.
//!
//! Everything that would outlive this process is kept in one place, the stage, behind one lock:
//!
//! | the tour ends by | children | names |
//! |---|---|---|
//! | its end, a failure, a panic | killed and reaped by the drop of [`Act`] | unlinked by its scope |
//! | SIGINT, SIGTERM, SIGHUP | killed and reaped by the thread that waits for them | unlinked by the scope |
//! | SIGKILL | killed by the kernel (`PR_SET_PDEATHSIG`) | removed by whoever sweeps next |
//!
//! INV-T1: children and names come into being only while the stage is locked. The signal thread
//! locks it and never gives it back, so that nothing can appear behind its back.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use shm_core::{Place, Scope};

use super::child::{Line, Role, Said, now};
use crate::figures::count;

/// How long one look at the pipe takes at most.
const TICK: Duration = Duration::from_millis(20);

/// Why a part did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("it was not over after {} s; its processes were killed", .0.as_secs())]
    Timeout(Duration),
    #[error("process {pid} ({role}) ended before its time: {status}")]
    Ended {
        pid: u32,
        role: &'static str,
        status: ExitStatus,
    },
    #[error("process {pid} ({role}) could not do its part: {why}")]
    Failed {
        pid: u32,
        role: &'static str,
        why: String,
    },
    #[error("process {pid} ({role}) said what nobody expected: {said:?}")]
    Unexpected {
        pid: u32,
        role: &'static str,
        said: Box<Said>,
    },
    #[error("a line from a child cannot be read: {0}")]
    Garbled(#[from] serde_json::Error),
    #[error(transparent)]
    Segment(#[from] shm_core::Error),
    #[error(transparent)]
    Counted(#[from] shm_lock::CreateError),
    #[error(transparent)]
    Created(#[from] shm_queue::CreateError),
    #[error(transparent)]
    Queue(#[from] shm_queue::QueueError),
    #[error(transparent)]
    Mapped(#[from] shm_dict::CreateError),
    #[error(transparent)]
    Dict(#[from] shm_dict::DictError),
    #[error("the lock was not given: {0}")]
    Lock(String),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    /// The story cannot be told: nothing wrong with the part, but no reason to go on.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Trouble {
    move |source| Trouble::System { what, source }
}

/// INV-T1.
static STAGE: Mutex<Stage> = Mutex::new(Stage {
    scope: None,
    children: Vec::new(),
});

struct Stage {
    scope: Option<Scope>,
    children: Vec<Child>,
}

struct Child {
    process: process::Child,
    role: &'static str,
    /// It may end: it said its last word, or was killed on purpose.
    may_end: bool,
    killed: bool,
    /// How it ended, once it has been reaped.
    status: Option<ExitStatus>,
}

impl Child {
    /// Whether it has ended; reaps it then.
    fn look(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.process.try_wait()?;
        }
        Ok(self.status)
    }

    fn ended(&self, status: ExitStatus) -> Trouble {
        let (pid, role) = (self.process.id(), self.role);
        Trouble::Ended { pid, role, status }
    }
}

impl Stage {
    /// Ends everything; says how many processes had to be killed for it.
    fn clear(&mut self) -> usize {
        let mut killed = 0;
        for child in &mut self.children {
            // Fails only for what is reaped already.
            if child.status.is_none() && child.process.kill().is_ok() {
                killed += 1;
            }
        }
        for child in &mut self.children {
            let _ = child.process.wait();
        }
        self.children.clear();
        drop(self.scope.take());
        killed
    }
}

fn stage() -> MutexGuard<'static, Stage> {
    STAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks SIGINT, SIGTERM and SIGHUP, and starts the thread that waits for them. To be called
/// before any other thread exists. Children inherit the blocked signals: of a Ctrl-C, which the
/// terminal sends to all of them, they hear only what the tour makes of it.
pub(super) fn end_on_signals() -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let wait = move || {
        let signal = loop {
            if let Ok(signal) = signals.wait() {
                break signal;
            }
        };
        // INV-T1: never given back.
        let mut stage = stage();
        let killed = count(stage.clear(), "process", "processes");
        anstream::eprintln!("\nshm tour: ended by {signal}; {killed} killed, names removed");
        process::exit(128 + signal as i32);
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// What begins the names of a tour's segments.
pub(super) fn prefix() -> String {
    format!("shm-tour-{}-", process::id())
}

/// A part in progress. Its drop ends its processes and removes its names.
pub(super) struct Act {
    part: &'static str,
    budget: Budget,
    /// All children write to one pipe; a line is written at once and shorter than PIPE_BUF.
    ears: PipeReader,
    mouth: PipeWriter,
    unfinished: Vec<u8>,
    heard: VecDeque<(usize, Said)>,
    /// The start line: children read from it, and get to the end of it all at once when it closes.
    gate: Option<(PipeReader, PipeWriter)>,
}

impl Act {
    /// Begins a part that may take as long as `limit`.
    pub(super) fn begin(part: &'static str, limit: Duration) -> Result<Self, Trouble> {
        let (ears, mouth) = io::pipe().map_err(system("no pipe for the children's words"))?;
        let mut stage = stage();
        stage.clear();
        stage.scope = Some(Scope::new());
        Ok(Self {
            part,
            budget: Budget::new(limit),
            ears,
            mouth,
            unfinished: Vec::new(),
            heard: VecDeque::new(),
            gate: None,
        })
    }

    /// The name of one of the part's segments.
    pub(super) fn name(&self, what: &str) -> String {
        format!("{}{}-{what}", prefix(), self.part)
    }

    /// Creates a segment that ends with the part.
    pub(super) fn create<T, E>(
        &self,
        what: &str,
        make: impl FnOnce(Place) -> Result<T, E>,
    ) -> Result<T, Trouble>
    where
        Trouble: From<E>,
    {
        let stage = stage();
        let place = Place::named(self.name(what));
        Ok(make(match &stage.scope {
            Some(scope) => scope.place(place),
            None => place.unlink_on_drop(true),
        })?)
    }

    /// Starts a child and gives its number. Its standard input is the start line.
    pub(super) fn start(&mut self, role: &Role) -> Result<usize, Trouble> {
        let no_pipe = "no pipe for the start line";
        let gate = match self.gate.take() {
            Some(gate) => gate,
            None => io::pipe().map_err(system(no_pipe))?,
        };
        let (line, _) = self.gate.insert(gate);
        let line = line.try_clone().map_err(system(no_pipe))?;
        let mouth = self.mouth.try_clone().map_err(system(no_pipe))?;
        let program = env::current_exe().map_err(system("the program does not find itself"))?;
        let mut stage = stage();
        let number = stage.children.len();
        let process = Command::new(program)
            .arg("tour-child")
            .args([process::id().to_string(), number.to_string()])
            .arg(serde_json::to_string(role)?)
            .stdin(line)
            .stdout(mouth)
            .spawn()
            .map_err(system("a child process cannot be started"))?;
        stage.children.push(Child {
            process,
            role: role.name(),
            may_end: false,
            killed: false,
            status: None,
        });
        Ok(number)
    }

    /// Lets all children at the start line go, at once.
    pub(super) fn open_gate(&mut self) {
        self.gate = None;
    }

    /// A child's process id.
    pub(super) fn pid(&self, child: usize) -> u32 {
        stage().children[child].process.id()
    }

    /// Kills a child with SIGKILL, and gives the time just before.
    pub(super) fn kill(&mut self, child: usize) -> Result<u64, Trouble> {
        let mut stage = stage();
        let child = &mut stage.children[child];
        child.may_end = true;
        child.killed = true;
        let before = now();
        child
            .process
            .kill()
            .map_err(system("a child cannot be killed"))?;
        Ok(before)
    }

    /// The next word of any child; waits for it.
    pub(super) fn hear(&mut self) -> Result<(usize, Said), Trouble> {
        loop {
            if let Some(word) = self.heard.pop_front() {
                return Ok(word);
            }
            self.listen(TICK)?;
        }
    }

    /// Lets some time pass, less if a child says something; says whether there is a word to hear.
    ///
    /// # Errors
    /// When a child ended that should not have, or could not do its part, or the part's time is over.
    pub(super) fn listen(&mut self, time: Duration) -> Result<bool, Trouble> {
        self.budget.spend()?;
        if self.speaks(time.min(TICK))? {
            self.read()?;
        } else if let Some(gone) = first_gone()? {
            // What it said before it ended is in the pipe by now.
            if self.speaks(Duration::ZERO)? {
                self.read()?;
            } else {
                return Err(gone);
            }
        }
        Ok(!self.heard.is_empty())
    }

    /// Whether there is something in the pipe, at the latest after `time`.
    fn speaks(&self, time: Duration) -> Result<bool, Trouble> {
        let mut ears = [PollFd::new(self.ears.as_fd(), PollFlags::POLLIN)];
        let millis = time.as_millis().try_into().unwrap_or(u16::MAX);
        match poll(&mut ears, PollTimeout::from(millis)) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(system("the children cannot be listened to")(error.into())),
        }
    }

    fn read(&mut self) -> Result<(), Trouble> {
        let mut chunk = [0; 4096];
        let read = self.ears.read(&mut chunk);
        let len = read.map_err(system("the children cannot be listened to"))?;
        self.unfinished.extend_from_slice(&chunk[..len]);
        while let Some(end) = self.unfinished.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            let Line { from, said } = serde_json::from_slice(&line)?;
            let mut stage = stage();
            let Some(child) = stage.children.get_mut(from) else {
                continue;
            };
            child.may_end |= said.is_last();
            if let Said::Failed { why } = said {
                let (pid, role) = (child.process.id(), child.role);
                return Err(Trouble::Failed { pid, role, why });
            }
            self.heard.push_back((from, said));
        }
        Ok(())
    }

    /// A word that does not fit.
    pub(super) fn unexpected(&self, (from, said): (usize, Said)) -> Trouble {
        let stage = stage();
        let child = &stage.children[from];
        let (pid, role, said) = (child.process.id(), child.role, Box::new(said));
        Trouble::Unexpected { pid, role, said }
    }

    /// Starts a child in each role, lets all go at once when the last is ready, and gives their last
    /// words in the same order. `tick` is called some fifty times a second while they run.
    pub(super) fn race(
        &mut self,
        roles: &[Role],
        mut tick: impl FnMut() -> io::Result<()>,
    ) -> Result<Vec<Said>, Trouble> {
        let mut numbers = Vec::new();
        for role in roles {
            numbers.push(self.start(role)?);
        }
        for _ in roles {
            match self.hear()? {
                (_, Said::Ready) => {}
                other => return Err(self.unexpected(other)),
            }
        }
        self.open_gate();
        let mut words: Vec<Option<Said>> = roles.iter().map(|_| None).collect();
        while words.iter().any(Option::is_none) {
            tick().map_err(Trouble::Output)?;
            if !self.listen(TICK)? {
                continue;
            }
            let (from, said) = self.hear()?;
            match numbers.iter().position(|&number| number == from) {
                Some(at) if said.is_last() && words[at].is_none() => words[at] = Some(said),
                _ => return Err(self.unexpected((from, said))),
            }
        }
        self.farewell()?;
        Ok(words.into_iter().flatten().collect())
    }

    /// Waits until all children have ended, as they should.
    pub(super) fn farewell(&mut self) -> Result<(), Trouble> {
        let mut pause = Duration::from_micros(100);
        while !all_ended()? {
            self.budget.spend()?;
            thread::sleep(pause);
            pause = (pause * 2).min(TICK);
        }
        Ok(())
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        stage().clear();
    }
}

/// A child that ended without leave.
fn first_gone() -> Result<Option<Trouble>, Trouble> {
    for child in &mut stage().children {
        if child.may_end {
            continue;
        }
        if let Some(status) = child
            .look()
            .map_err(system("a child cannot be waited for"))?
        {
            return Ok(Some(child.ended(status)));
        }
    }
    Ok(None)
}

/// Whether all have ended; an error if one did so in a bad way.
fn all_ended() -> Result<bool, Trouble> {
    let mut all = true;
    for child in &mut stage().children {
        match child
            .look()
            .map_err(system("a child cannot be waited for"))?
        {
            None => all = false,
            Some(status) if status.success() || child.killed => {}
            Some(status) => return Err(child.ended(status)),
        }
    }
    Ok(all)
}

/// What is left of a part's time. Time in which this process did not run (Ctrl-Z, a laptop's lid)
/// does not count.
struct Budget {
    limit: Duration,
    left: Duration,
    seen: Instant,
}

impl Budget {
    fn new(limit: Duration) -> Self {
        let (left, seen) = (limit, Instant::now());
        Self { limit, left, seen }
    }

    fn spend(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        let spent = (now - self.seen).min(50 * TICK);
        self.seen = now;
        match self.left.checked_sub(spent) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Trouble::Timeout(self.limit)),
        }
    }
}
