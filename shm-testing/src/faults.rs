//! Fails the n-th system call of an operation, for n = 1 and on until none is left to fail.
//!
//! The victims are those of the step killer, made with [`Commands::trial`](crate::Commands::trial):
//! they perform one operation between the marks and tell how it went. For each call, error and n a
//! fresh victim runs from a fresh start state; its n-th call of that kind between the marks is not
//! performed but returns the error (with [`Persistence::Lasting`], and all later ones too). Then:
//!
//! - the victim has to end well and to tell an outcome: a panic, a signal or a hang is a violation;
//! - it must not keep descriptors or mapped segments: where it tells what it tells undisturbed, as
//!   many as then; where it tells a failure, as many as before the operation;
//! - the checker has to be content with what is left, and name one of the case's outcomes;
//! - when the checker is done nothing of the segment's name may be left in `/dev/shm`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use crate::UniqueName;
use crate::command::{End, Program, outcome_in, quote};
use crate::step_killer::Error;
use crate::step_killer::case::{Case, Mode, Plan};
use crate::step_killer::engine::fix_addresses;
use crate::step_killer::outcomes::Outcomes;
use crate::step_killer::point::{Setting, Start, Verdict, clean};
use crate::step_killer::source::{Symbols, maps_of};
use crate::step_killer::start_state::StartStates;
use crate::step_killer::trace::{Pace, run_to};
use crate::step_killer::tracee::{Stop, Tracee, ptrace_permitted};

/// A kind of system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    name: &'static str,
    numbers: &'static [i64],
}

impl Call {
    /// `open`, `openat`, `openat2`.
    pub const OPEN: Self = Self::new(
        "open",
        &[libc::SYS_open, libc::SYS_openat, libc::SYS_openat2],
    );
    /// `stat`, `fstat`, `newfstatat`, `statx`.
    pub const STAT: Self = Self::new(
        "stat",
        &[
            libc::SYS_stat,
            libc::SYS_fstat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
        ],
    );
    /// `ftruncate`.
    pub const FTRUNCATE: Self = Self::new("ftruncate", &[libc::SYS_ftruncate]);
    /// `fallocate`.
    pub const FALLOCATE: Self = Self::new("fallocate", &[libc::SYS_fallocate]);
    /// `mmap`.
    pub const MMAP: Self = Self::new("mmap", &[libc::SYS_mmap]);
    /// `mprotect`.
    pub const MPROTECT: Self = Self::new("mprotect", &[libc::SYS_mprotect]);
    /// `madvise`.
    pub const MADVISE: Self = Self::new("madvise", &[libc::SYS_madvise]);
    /// `futex`, of a word that other processes may share: a private one is libc's or std's own, and left alone.
    pub const FUTEX: Self = Self::new("futex", &[libc::SYS_futex]);
    /// `link`, `linkat`.
    pub const LINK: Self = Self::new("link", &[libc::SYS_link, libc::SYS_linkat]);
    /// `unlink`, `unlinkat`.
    pub const UNLINK: Self = Self::new("unlink", &[libc::SYS_unlink, libc::SYS_unlinkat]);
    /// `rename`, `renameat`, `renameat2`.
    pub const RENAME: Self = Self::new(
        "rename",
        &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2],
    );
    /// `fcntl`.
    pub const FCNTL: Self = Self::new("fcntl", &[libc::SYS_fcntl]);
    /// `flock`.
    pub const FLOCK: Self = Self::new("flock", &[libc::SYS_flock]);
    /// `fchmod`, `fchmodat`.
    pub const CHMOD: Self = Self::new("chmod", &[libc::SYS_fchmod, libc::SYS_fchmodat]);
    /// `read`, `pread64`.
    pub const READ: Self = Self::new("read", &[libc::SYS_read, libc::SYS_pread64]);
    /// `write`, `pwrite64`.
    pub const WRITE: Self = Self::new("write", &[libc::SYS_write, libc::SYS_pwrite64]);
    /// `memfd_create`.
    pub const MEMFD_CREATE: Self = Self::new("memfd_create", &[libc::SYS_memfd_create]);
    /// `pidfd_open`.
    pub const PIDFD_OPEN: Self = Self::new("pidfd_open", &[libc::SYS_pidfd_open]);
    /// `poll`, `ppoll`.
    pub const POLL: Self = Self::new("poll", &[libc::SYS_poll, libc::SYS_ppoll]);
    /// `sendmsg`, `recvmsg`.
    pub const MESSAGE: Self = Self::new("message", &[libc::SYS_sendmsg, libc::SYS_recvmsg]);
    /// `getdents64`.
    pub const GETDENTS: Self = Self::new("getdents", &[libc::SYS_getdents64]);
    /// `get_robust_list`.
    pub const ROBUST_LIST: Self = Self::new("get_robust_list", &[libc::SYS_get_robust_list]);

    /// All of the above.
    pub const ALL: [Self; 22] = [
        Self::OPEN,
        Self::STAT,
        Self::FTRUNCATE,
        Self::FALLOCATE,
        Self::MMAP,
        Self::MPROTECT,
        Self::MADVISE,
        Self::FUTEX,
        Self::LINK,
        Self::UNLINK,
        Self::RENAME,
        Self::FCNTL,
        Self::FLOCK,
        Self::CHMOD,
        Self::READ,
        Self::WRITE,
        Self::MEMFD_CREATE,
        Self::PIDFD_OPEN,
        Self::POLL,
        Self::MESSAGE,
        Self::GETDENTS,
        Self::ROBUST_LIST,
    ];

    /// A kind by its x86-64 numbers.
    pub const fn new(name: &'static str, numbers: &'static [i64]) -> Self {
        Self { name, numbers }
    }
}

/// Whether later calls fail too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// The n-th call only.
    Once,
    /// The n-th call and all after it. Not tried with EINTR and EAGAIN, which ask to try again.
    Lasting,
}

/// The driver: a program with victims, the calls and the errors.
///
/// # Examples
/// ```no_run
/// use nix::errno::Errno;
/// use shm_testing::faults::{Call, Faults};
/// use shm_testing::step_killer::Case;
///
/// let report = Faults::new("target/debug/victim")?
///     .calls(&[Call::OPEN, Call::MMAP])
///     .errors(&[Errno::EMFILE, Errno::ENOMEM])
///     .run(&Case::new("create", "nothing"), &["absent", "whole"])?;
/// assert_eq!(report.violations().count(), 0, "{report}");
/// # Ok::<(), shm_testing::step_killer::Error>(())
/// ```
#[derive(Debug)]
pub struct Faults {
    program: Program,
    symbols: Symbols,
    calls: Vec<Call>,
    errors: Vec<Errno>,
    table: Option<Vec<(Call, Vec<Errno>)>>,
}

/// One fault and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The call's name.
    pub call: &'static str,
    /// What it returned instead of being performed.
    pub error: Errno,
    /// Which of the calls of this kind, from 1.
    pub n: usize,
    /// Whether the later ones failed as well.
    pub persistence: Persistence,
    /// What the victim told.
    pub told: String,
    /// What the checker found; empty when it was not asked.
    pub found: String,
    /// What is wrong, if anything.
    pub violation: Option<String>,
}

/// What the faults of one operation showed.
#[derive(Debug, Clone)]
pub struct FaultReport {
    /// The operation and its start state.
    pub case: String,
    /// Every fault that was hit.
    pub faults: Vec<Fault>,
}

/// What a process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    descriptors: usize,
    segments: usize,
}

/// A run of a victim: how it ended, and what it kept at the two marks.
#[derive(Debug)]
struct Run {
    end: End,
    output: String,
    hit: bool,
    before: Kept,
    /// None when it did not get there.
    after: Option<Kept>,
}

impl Faults {
    /// A driver for the victims in `program`: all calls, and the errors that the calls of a
    /// healthy program meet (ENOSPC, EMFILE, ENFILE, ENOMEM, EINTR, EAGAIN, EACCES, EPERM, ENOSYS).
    ///
    /// # Errors
    /// [`Error::PtraceNotPermitted`]; [`Error::Program`] when the program cannot be read or has no
    /// marks.
    pub fn new(program: impl AsRef<Path>) -> Result<Self, Error> {
        ptrace_permitted()?;
        Ok(Self {
            symbols: Symbols::read(program.as_ref())?,
            program: Program::new(program.as_ref().to_owned()),
            calls: Call::ALL.to_vec(),
            errors: vec![
                Errno::ENOSPC,
                Errno::EMFILE,
                Errno::ENFILE,
                Errno::ENOMEM,
                Errno::EINTR,
                Errno::EAGAIN,
                Errno::EACCES,
                Errno::EPERM,
                Errno::ENOSYS,
            ],
            table: None,
        })
    }

    /// Fails only these calls.
    pub fn calls(mut self, calls: &[Call]) -> Self {
        self.calls = calls.to_vec();
        self
    }

    /// Fails with these errors only.
    pub fn errors(mut self, errors: &[Errno]) -> Self {
        self.errors = errors.to_vec();
        self
    }

    /// Fails each call with its own errors only; instead of [`calls`](Self::calls) and
    /// [`errors`](Self::errors).
    pub fn table(mut self, table: &[(Call, &[Errno])]) -> Self {
        let row = |&(call, errors): &(Call, &[Errno])| (call, errors.to_vec());
        self.table = Some(table.iter().map(row).collect());
        self
    }

    fn rows(&self) -> Vec<(Call, Vec<Errno>)> {
        let all = || self.calls.iter().map(|&call| (call, self.errors.clone()));
        self.table.clone().unwrap_or_else(|| all().collect())
    }

    /// Sets an environment variable for all commands; they have almost none otherwise.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.program.add_env(key, value);
        self
    }

    /// Runs the operation of `case` with every fault; its modes are not looked at. The checker has
    /// to name one of `outcomes`.
    ///
    /// # Errors
    /// When the driver cannot do its work, or the operation fails without a fault.
    pub fn run(&self, case: &Case, outcomes: &[&str]) -> Result<FaultReport, Error> {
        let outcomes = Outcomes::any(outcomes);
        // A thread of its own, since it changes how its children are loaded.
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                fix_addresses()?;
                self.run_here(case, outcomes)
            });
            worker.join().expect("the driver does not panic")
        })
    }

    fn run_here(&self, case: &Case, outcomes: Outcomes) -> Result<FaultReport, Error> {
        let name = UniqueName::new("fault");
        let mode = Mode::Kill;
        let plan = Plan {
            mode,
            outcomes,
            most: None,
        };
        let setting = Setting {
            program: &self.program,
            symbols: &self.symbols,
            case,
            plan: &plan,
            states: &StartStates::default(),
        };
        let mut made = BTreeSet::new();
        let healthy = self.attempt(&setting, &name, |number| {
            made.insert(number);
            None
        })?;
        let undisturbed = match (healthy.end, outcome_in(&healthy.output)) {
            (End::GOOD, Some(told)) => told.to_owned(),
            _ => {
                let what = format!("without a fault: {}{}", healthy.end, quote(&healthy.output));
                return Err(Error::Victim(what));
            }
        };
        let mut faults = Vec::new();
        for (call, errors) in self.rows() {
            // A kind of call that is not made undisturbed is not made before the first of them fails.
            if !call.numbers.iter().any(|number| made.contains(number)) {
                continue;
            }
            for error in errors {
                for persistence in [Persistence::Once, Persistence::Lasting] {
                    let retried = matches!(error, Errno::EINTR | Errno::EAGAIN);
                    if retried && persistence == Persistence::Lasting {
                        continue;
                    }
                    for n in 1.. {
                        let mut fault = Fault {
                            call: call.name,
                            error,
                            n,
                            persistence,
                            told: String::new(),
                            found: String::new(),
                            violation: None,
                        };
                        if !self.inject(
                            &setting,
                            &name,
                            call,
                            &undisturbed,
                            &healthy,
                            &mut fault,
                        )? {
                            break;
                        }
                        faults.push(fault);
                    }
                }
            }
        }
        clean(&name)?;
        Ok(FaultReport {
            case: case.to_string(),
            faults,
        })
    }

    /// Tries one fault; `false` when no call was left to fail.
    fn inject(
        &self,
        setting: &Setting<'_>,
        name: &str,
        call: Call,
        undisturbed: &str,
        healthy: &Run,
        fault: &mut Fault,
    ) -> Result<bool, Error> {
        let mut count = 0;
        let run = self.attempt(setting, name, |number| {
            count += usize::from(call.numbers.contains(&number));
            let due = match fault.persistence {
                Persistence::Once => count == fault.n,
                Persistence::Lasting => count >= fault.n,
            };
            (due && call.numbers.contains(&number)).then_some(fault.error)
        })?;
        if !run.hit {
            return Ok(false);
        }
        fault.told = outcome_in(&run.output).unwrap_or_default().to_owned();
        fault.violation = if run.end != End::GOOD {
            Some(format!("the victim: {}{}", run.end, quote(&run.output)))
        } else if fault.told.is_empty() {
            Some("the victim tells no outcome".to_owned())
        } else {
            let (ought, when) = match fault.told == undisturbed {
                true => (healthy.after, "without a fault"),
                false => (Some(run.before), "before"),
            };
            (run.after != ought).then(|| format!("keeps {:?}, {when} {ought:?}", run.after))
        };
        match setting.check(name, None) {
            Ok(Verdict::Outcome(found)) if setting.plan.outcomes.knows(&found) => {
                fault.found = found
            }
            Ok(Verdict::Outcome(found)) => {
                fault.violation.get_or_insert(format!("outcome {found:?}"));
                fault.found = found;
            }
            Ok(Verdict::Wrong(what)) | Err(Error::Helper(what)) => {
                fault.violation.get_or_insert(what);
            }
            Ok(Verdict::Aside(_) | Verdict::Missed) => unreachable!("a check has no place"),
            Err(error) => return Err(error),
        }
        clean(name)?;
        Ok(true)
    }

    /// Runs a fresh victim; `judge` decides for each call between the marks whether it fails.
    fn attempt(
        &self,
        setting: &Setting<'_>,
        name: &str,
        mut judge: impl FnMut(i64) -> Option<Errno>,
    ) -> Result<Run, Error> {
        let mut others = setting.prepare(name, &Start::default(), Pace::Fast)?;
        let operation = &setting.case.operation;
        let command = self.program.command(&["victim", operation, name]);
        let mut victim = Tracee::launch(command, setting.case.limit)?;
        let base = self.symbols.base(&maps_of(victim.pid())?);
        run_to(&mut victim, base + self.symbols.start_mark)?;
        victim.set_breakpoints(base + self.symbols.end_mark, None)?;
        let mut run = Run {
            end: End::GOOD,
            output: String::new(),
            hit: false,
            before: Kept::by(victim.pid())?,
            after: None,
        };
        let mut stop = victim.run_to_call()?;
        while stop == Stop::Call {
            // libc ends a process whose private futex fails.
            let fault = match victim.is_private_futex()? {
                true => None,
                false => judge(victim.call_number()?),
            };
            stop = match fault {
                Some(error) => {
                    run.hit = true;
                    victim.fail_call(error)?
                }
                // To the exit, which looks like an entry.
                None => victim.run_to_call()?,
            };
            if stop == Stop::Call {
                stop = victim.run_to_call()?;
            }
        }
        if stop == Stop::Trap {
            run.after = Some(Kept::by(victim.pid())?);
        }
        run.end = victim.run_to_end()?;
        run.output = victim.output();
        setting.let_go(&mut others)?;
        Ok(run)
    }
}

impl Kept {
    fn by(pid: u32) -> Result<Self, Error> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let shared = |line: &&str| line.contains("/dev/shm/") || line.contains("/memfd:");
        Ok(Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            segments: maps.lines().filter(shared).count(),
        })
    }
}

impl FaultReport {
    /// The faults with which something is wrong.
    pub fn violations(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.violation.is_some())
    }
}

impl fmt::Display for FaultReport {
    /// A line for each call and error with what the victims told, then the violations.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told: BTreeMap<(&str, String), BTreeMap<&str, usize>> = BTreeMap::new();
        for fault in &self.faults {
            let row = told
                .entry((fault.call, format!("{:?}", fault.error)))
                .or_default();
            *row.entry(&fault.told).or_default() += 1;
        }
        writeln!(f, "{}: {} faults", self.case, self.faults.len())?;
        for ((call, error), told) in told {
            let told: Vec<_> = told
                .iter()
                .map(|(told, times)| format!("{told} x{times}"))
                .collect();
            writeln!(f, "  {call} {error}: {}", told.join(", "))?;
        }
        for fault in self.violations() {
            writeln!(f, "  {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = match self.persistence {
            Persistence::Once => "",
            Persistence::Lasting => " and later ones",
        };
        write!(f, "{} {:?} at call {}{on}", self.call, self.error, self.n)?;
        write!(f, ": told {:?}, found {:?}", self.told, self.found)?;
        match &self.violation {
            Some(what) => write!(f, ": {what}"),
            None => Ok(()),
        }
    }
}
