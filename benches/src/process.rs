//! Child processes: the bench executes itself again, in a role.
//!
//! Who dies when: a child dies with its parent (`PR_SET_PDEATHSIG`), also when the parent is killed. The janitor alone outlives it, to
//! remove what has the run's name in `/dev/shm`, and then ends too.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::{fs, thread};

use clap::Subcommand;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use crate::suite::Suite;

/// Where POSIX shared memory has its names on Linux.
pub const SHM: &str = "/dev/shm";

/// What a child process does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
#[command(hide = true)]
pub enum Role {
    /// Follows orders in one slot.
    #[command(hide = true)]
    Worker {
        /// Whose child it is, and what it shares with it.
        #[command(flatten)]
        ties: Ties,
        /// Its slot.
        #[arg(long)]
        slot: usize,
    },
    /// Follows orders in several slots, a thread in each.
    #[command(hide = true)]
    Host {
        /// Whose child it is, and what it shares with it.
        #[command(flatten)]
        ties: Ties,
        /// The first slot.
        #[arg(long)]
        first: usize,
        /// How many slots.
        #[arg(long)]
        threads: usize,
    },
    /// Follows orders in the slots of a section of a suite, a thread in each.
    #[command(hide = true)]
    Seats {
        /// Whose child it is, and what it shares with it.
        #[command(flatten)]
        ties: Ties,
        /// The suite.
        #[arg(long)]
        suite: Suite,
        /// The key of the section.
        #[arg(long)]
        section: String,
        /// The first slot.
        #[arg(long)]
        first: usize,
        /// How many slots.
        #[arg(long)]
        threads: usize,
    },
    /// Locks, and holds until it is killed.
    #[command(hide = true)]
    Holder {
        /// Whose child it is, and what it shares with it.
        #[command(flatten)]
        ties: Ties,
        /// Number of the contender.
        #[arg(long)]
        contender: usize,
    },
    /// Locks, tells when it owned the lock, and ends.
    #[command(hide = true)]
    Waiter {
        /// Whose child it is, and what it shares with it.
        #[command(flatten)]
        ties: Ties,
        /// Number of the contender.
        #[arg(long)]
        contender: usize,
    },
    /// Locks a shard of a dictionary, and holds it until it is killed.
    #[command(hide = true)]
    DictWriter {
        /// Whose child it is.
        #[arg(long)]
        parent: u32,
        /// The dictionary's name.
        #[arg(long)]
        dict: String,
    },
    /// Waits for the end of its parent and removes the run's names.
    #[command(hide = true)]
    Janitor {
        /// What the names begin with.
        #[arg(long)]
        run: String,
    },
}

/// What a child shares with its parent.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Ties {
    /// The parent.
    #[arg(long)]
    pub parent: u32,
    /// The parent's descriptor of the arena.
    #[arg(long)]
    pub arena: i32,
    /// What the names of the run begin with.
    #[arg(long)]
    pub run: String,
}

impl Ties {
    fn arguments(&self) -> Vec<String> {
        let Self { parent, arena, run } = self;
        [
            "--parent".into(),
            parent.to_string(),
            "--arena".into(),
            arena.to_string(),
            "--run".into(),
            run.clone(),
        ]
        .into()
    }
}

impl Role {
    /// The command line that parses to this role.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let (name, ties, rest): (&str, Vec<String>, Vec<(&str, String)>) = match self {
            Self::Worker { ties, slot } => (
                "worker",
                ties.arguments(),
                vec![("--slot", slot.to_string())],
            ),
            Self::Host {
                ties,
                first,
                threads,
            } => (
                "host",
                ties.arguments(),
                vec![
                    ("--first", first.to_string()),
                    ("--threads", threads.to_string()),
                ],
            ),
            Self::Seats {
                ties,
                suite,
                section,
                first,
                threads,
            } => (
                "seats",
                ties.arguments(),
                vec![
                    ("--suite", suite.to_string()),
                    ("--section", section.clone()),
                    ("--first", first.to_string()),
                    ("--threads", threads.to_string()),
                ],
            ),
            Self::Holder { ties, contender } => (
                "holder",
                ties.arguments(),
                vec![("--contender", contender.to_string())],
            ),
            Self::Waiter { ties, contender } => (
                "waiter",
                ties.arguments(),
                vec![("--contender", contender.to_string())],
            ),
            Self::DictWriter { parent, dict } => (
                "dict-writer",
                Vec::new(),
                vec![("--parent", parent.to_string()), ("--dict", dict.clone())],
            ),
            Self::Janitor { run } => ("janitor", Vec::new(), vec![("--run", run.clone())]),
        };
        let rest = rest
            .into_iter()
            .flat_map(|(option, value)| [option.to_owned(), value]);
        [name.to_owned()]
            .into_iter()
            .chain(ties)
            .chain(rest)
            .collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args(self.arguments());
        command
    }
}

/// A child that is killed and reaped when it is dropped.
#[derive(Debug)]
pub struct Peer(Child);

impl Peer {
    /// Starts this program again, in that role.
    ///
    /// # Errors
    ///
    /// What the system says of `fork` and `exec`.
    pub fn start(role: &Role) -> io::Result<Self> {
        role.command().stdin(Stdio::null()).spawn().map(Self)
    }

    /// Whether it still runs; an error tells how it ended.
    ///
    /// # Errors
    ///
    /// `Other` if it ended.
    pub fn still_runs(&mut self) -> io::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("a child process ended: {status}"))),
        }
    }

    /// Sends SIGKILL, and does not wait for what follows.
    ///
    /// # Errors
    ///
    /// What the system says of `kill`.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()
    }

    /// Waits until it has ended; true if it was killed.
    ///
    /// # Errors
    ///
    /// What the system says of `waitpid`; `Other` if it ended in any other way than by success or SIGKILL.
    pub fn wait(&mut self) -> io::Result<bool> {
        let status: ExitStatus = self.0.wait()?;
        match status.signal() {
            Some(signal) if signal == Signal::SIGKILL as i32 => Ok(true),
            None if status.success() => Ok(false),
            _ => Err(io::Error::other(format!("a child process ended: {status}"))),
        }
    }

    /// Whether its only thread sleeps (state S of `/proc/PID/stat`).
    #[must_use]
    pub fn sleeps(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        state(&stat) == Some('S')
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Already ended, or gone now: either is the aim.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The state letter; the name before it stands in brackets and may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The child's side: asks to die with its parent, and dies at once if the parent is gone already.
///
/// # Errors
///
/// What the system says of `prctl`; `NotFound` if the parent is gone.
pub fn die_with(parent: u32) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == Pid::from_raw(parent.cast_signed()) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the parent process is gone",
        ))
    }
}

/// The processors that this process may use.
#[must_use]
pub fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|&at| allowed.is_set(at).unwrap_or(false))
        .collect()
}

/// Binds the calling thread to one of its processors: peers with consecutive numbers go round-robin.
///
/// # Errors
///
/// What the system says of `sched_setaffinity`.
pub fn pin(number: usize) -> io::Result<()> {
    pin_among(&processors(), number)
}

/// As [`pin`], to one of these.
///
/// # Errors
///
/// As [`pin`].
pub fn pin_among(allowed: &[usize], number: usize) -> io::Result<()> {
    let Some(&processor) = number
        .checked_rem(allowed.len())
        .and_then(|at| allowed.get(at))
    else {
        return Ok(());
    };
    let mut one = CpuSet::new();
    one.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &one).map_err(io::Error::from)
}

/// A process that outlives this one just long enough to remove the run's names from `/dev/shm`.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
    /// Closed by the end of this process, however it ends: that is the janitor's sign.
    pipe: Option<ChildStdin>,
}

impl Janitor {
    /// Hires one for the names that begin with `run`. In its own process group, so that Ctrl-C leaves it to its work.
    ///
    /// # Errors
    ///
    /// What the system says of `fork` and `exec`.
    pub fn start(run: &str) -> io::Result<Self> {
        let mut command = Role::Janitor {
            run: run.to_owned(),
        }
        .command();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// The janitor's work: waits until the other end of standard input is closed, then removes the names.
    ///
    /// # Errors
    ///
    /// What the system says of reading or of the directory.
    pub fn work(run: &str) -> io::Result<()> {
        io::stdin().read_to_end(&mut Vec::new())?;
        // Killed children die a little later than their parent, and may be just about to make a name.
        thread::sleep(std::time::Duration::from_millis(20));
        remove_names(Path::new(SHM), run)
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.flush();
        }
        let _ = self.child.wait();
    }
}

/// Removes the files in `directory` whose names contain `run`.
fn remove_names(directory: &Path, run: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(run) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => (),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::{Role, Suite, Ties, pin, processors, remove_names, state};
    use crate::options::Options;

    #[test]
    fn roles_survive_their_command_lines() {
        let ties = Ties {
            parent: 12,
            arena: 3,
            run: "shm-bench.12.".into(),
        };
        for role in [
            Role::Worker {
                ties: ties.clone(),
                slot: 2,
            },
            Role::Host {
                ties: ties.clone(),
                first: 4,
                threads: 3,
            },
            Role::Seats {
                ties: ties.clone(),
                suite: Suite::LockFamily,
                section: "rwlock".into(),
                first: 4,
                threads: 2,
            },
            Role::Holder {
                ties: ties.clone(),
                contender: 7,
            },
            Role::Waiter { ties, contender: 1 },
            Role::DictWriter {
                parent: 12,
                dict: "shm-bench.12.repair".into(),
            },
            Role::Janitor {
                run: "shm-bench.12.".into(),
            },
        ] {
            let line = ["counter".to_owned()].into_iter().chain(role.arguments());
            assert_eq!(Options::try_parse_from(line).unwrap().role, Some(role));
        }
    }

    #[test]
    fn state_is_found_behind_any_name() {
        assert_eq!(state("17 (a) R (b) S 1 17"), Some('S'));
        assert_eq!(state("17 (counter) R 1"), Some('R'));
        assert_eq!(state(""), None);
    }

    #[test]
    fn pinned_thread_has_one_processor() {
        std::thread::spawn(|| {
            pin(5).unwrap();
            assert_eq!(processors().len(), 1);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn only_names_of_the_run_are_removed() {
        let directory =
            std::env::temp_dir().join(format!("shm-bench-names.{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        for name in [
            "shm-bench.1.2",
            "prefix-shm-bench.1.3",
            "shm-bench.11.2",
            "other",
        ] {
            fs::write(directory.join(name), "").unwrap();
        }
        remove_names(&directory, "shm-bench.1.").unwrap();
        let mut left: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(left, ["other", "shm-bench.11.2"]);
    }
}
