//! Runs a helper command to its end, with a time limit, and reads what it said.

use std::fmt;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::limit::Limit;

/// Tells a sub-command the pid of the tool that runs it. It then dies with the tool, and a victim
/// asks to be traced. By doing so itself it needs no hook between fork and exec, so that starting
/// it does not copy the tool's page tables: that would take most of the time.
pub(crate) const TOOL: &str = "SHM_TESTING_TOOL";
/// A line of a helper's output that begins with this names the outcome.
pub(crate) const OUTCOME: &str = "outcome=";
/// The line by which a holder says that it holds.
pub(crate) const READY: &str = "ready";
/// The line that makes a holder release and end.
pub(crate) const GO: &str = "go";

/// A program whose sub-commands are the victims, their helpers and their checkers.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    env: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            env: Vec::new(),
        }
    }

    pub(crate) fn add_env(&mut self, key: &str, value: &str) {
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// `PATH ARGS..` in an environment that is the same each time: it lies on the victim's stack.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(args)
            .env_clear()
            .env("LD_BIND_NOW", "1")
            .env(TOOL, std::process::id().to_string())
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null());
        command
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Killed(i32),
    /// Killed by the time limit.
    Hung,
}

impl End {
    pub(crate) const GOOD: Self = Self::Exited(0);

    /// The end behind `status`; `None` if it is none.
    pub(crate) fn of(status: WaitStatus, limit: Option<&Limit>) -> Option<Self> {
        match status {
            WaitStatus::Exited(_, code) => Some(Self::Exited(code)),
            WaitStatus::Signaled(..) if limit.is_some_and(Limit::fired) => Some(Self::Hung),
            WaitStatus::Signaled(_, signal, _) => Some(Self::Killed(signal as i32)),
            _ => None,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
            Self::Hung => write!(f, "hung"),
        }
    }
}

/// What a helper did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) end: End,
    pub(crate) output: String,
}

impl Ran {
    /// The outcome that it named last.
    pub(crate) fn outcome(&self) -> Option<&str> {
        outcome_in(&self.output)
    }

    /// One line for a report: the end, and the end of what it said.
    pub(crate) fn describe(&self) -> String {
        format!("{}{}", self.end, quote(&self.output))
    }
}

/// The last outcome named in `output`.
pub(crate) fn outcome_in(output: &str) -> Option<&str> {
    output
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(OUTCOME))
}

/// The last lines of `output` on one line, with a colon before; nothing if there are none.
pub(crate) fn quote(output: &str) -> String {
    let notes = |line: &&str| !line.is_empty() && !line.starts_with("note: run with");
    let mut lines: Vec<_> = output.lines().map(str::trim).filter(notes).collect();
    lines.drain(..lines.len().saturating_sub(4));
    match lines.is_empty() {
        true => String::new(),
        false => format!(": {}", lines.join(" | ")),
    }
}

/// Runs `command` to its end.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(command: Command, limit: Duration) -> io::Result<Ran> {
    Running::start(command, limit)?.finish()
}

/// A helper under way.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: PipeReader,
    limit: Limit,
    ended: bool,
}

impl Running {
    /// Starts `command`, to be killed after `limit`; output and errors come through one pipe.
    pub(crate) fn start(mut command: Command, limit: Duration) -> io::Result<Self> {
        let (output, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        // The command holds the pipe's writing ends, without which the reader sees no end.
        drop(command);
        let limit = Limit::new(Pid::from_raw(child.id() as i32), limit);
        Ok(Self {
            child,
            output,
            limit,
            ended: false,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, and reads all that is left of the output.
    pub(crate) fn finish(mut self) -> io::Result<Ran> {
        let mut output = Vec::new();
        self.output.read_to_end(&mut output)?;
        let end = self.wait()?;
        let output = String::from_utf8_lossy(&output).into_owned();
        Ok(Ran { end, output })
    }

    fn wait(&mut self) -> io::Result<End> {
        let pid = Pid::from_raw(self.child.id() as i32);
        loop {
            match waitpid(pid, None) {
                Ok(status) => {
                    if let Some(end) = End::of(status, Some(&self.limit)) {
                        self.ended = true;
                        return Ok(end);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.wait();
        }
    }
}

/// A living process that holds something while the victim works, until told to let go.
#[derive(Debug)]
pub(crate) struct Holder {
    running: Running,
    stdin: ChildStdin,
}

impl Holder {
    /// Starts `command` and waits until it says that it holds; otherwise says how it ended.
    pub(crate) fn start(mut command: Command, limit: Duration) -> io::Result<Result<Self, Ran>> {
        command.stdin(Stdio::piped());
        let mut running = Running::start(command, limit)?;
        let stdin = running.child.stdin.take().expect("stdin is a pipe");
        let mut said = String::new();
        let mut lines = BufReader::with_capacity(1, &running.output);
        loop {
            let start = said.len();
            if lines.read_line(&mut said)? == 0 {
                let end = running.wait()?;
                return Ok(Err(Ran { end, output: said }));
            }
            if said[start..].trim_end() == READY {
                return Ok(Ok(Self { running, stdin }));
            }
        }
    }

    /// Tells it to let go, and waits for its end.
    pub(crate) fn release(mut self) -> io::Result<Ran> {
        // A holder that is gone already shows in how it ended.
        let _ = self.stdin.write_all(format!("{GO}\n").as_bytes());
        self.running.finish()
    }

    /// Kills it with SIGKILL, and reaps it.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.running.child.kill()?;
        self.running.wait().map(drop)
    }
}
