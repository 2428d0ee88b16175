//! Kills a process at every instruction of an operation and looks at what it leaves behind.
//!
//! A *victim* process performs one operation between two marks ([`mark_start`], [`mark_end`]) on its
//! main thread. Its way is recorded once by single steps. Then, for each step k: a fresh start
//! state is set up, a fresh victim runs to k (a hardware breakpoint to an address where the count of
//! hits is known, the rest stepped) and is disturbed there; a fresh *checker* process attaches,
//! verifies, uses the structure again and names the outcome. The outcomes in the order of the steps
//! are judged: an atomic operation shows `old` up to some step and `new` from there on.
//!
//! | mode | at step k |
//! |---|---|
//! | [`Mode::Kill`] | SIGKILL |
//! | [`Mode::KillUnreaped`] | SIGKILL, the corpse a zombie while the checker runs |
//! | [`Mode::Freeze`] | stands still, another process acts, goes on |
//! | [`Mode::FreezeKill`] | stands still, another process acts, SIGKILL |
//! | [`Mode::KillUnderWaiter`] | SIGKILL while another process waits for it |
//! | [`Mode::KillTwice`] | SIGKILL at each step, of a victim that finds what a first one left at each of *its* steps |
//!
//! With [`Case::while_held`] the victim meets a living holder, sleeps, and is killed asleep as well. With
//! [`Case::with_sleeper`] others sleep in the structure while the victim works; each must wake in the end.
//!
//! # Violations
//! An outcome that is not among the case's, or out of order; a checker that fails or hangs; a
//! victim or a sleeper that fails or hangs when it is let go; anything named after the segment in `/dev/shm`
//! when the checker, whose part it is to remove the segment, is done.
//!
//! # Start states
//! A set-up is to leave nothing but files in `/dev/shm` with the segment's name in theirs. It runs anew for each point
//! ([`Case::set_up_anew`], or when the files are large), or they are kept and put back for the case's other points.
//!
//! # Limits
//! x86-64. Steps lie between instructions of the main thread, as seen by the processor in program
//! order: a store's delay in the store buffer is not explored. A system call is one step, and so is
//! a call of the vDSO (the clock), which writes nothing shared. A path that depends on time or
//! chance may differ between runs: such a victim is tried again, at last by single steps alone
//! (`diverged`). If that, too, ends beside the recorded way (`aside`), also when it is tried while no other victim runs, the
//! point is judged, but not its place in the order; if it never comes so far, the point is `missed`, and not counted; more
//! than one in twenty of these two, and more than two, is a violation. Of a row at most 128 are tried once more. A victim
//! that hangs on its way may have missed its breakpoint, and sleep unseen: it is tried again, and counted as `hung`; two of
//! a row are a violation where there is nobody to wait for, and so is one that hangs though each of its steps is taken by
//! the tracer. A victim may also come to the recorded instruction by another way. So an outcome that is out of order is looked at again, by single steps each of
//! which is the recorded one; what these show counts. The victims run without address randomisation and with a fixed
//! environment. A victim shares its processor with its checker and all others of its start state: they take turns, and
//! never run at the same instant; that is what kill storms and models are for.

mod awake;
pub(crate) mod case;
pub(crate) mod engine;
mod marks;
mod order;
pub(crate) mod outcomes;
pub(crate) mod point;
mod report;
pub(crate) mod source;
pub(crate) mod start_state;
mod suite;
pub(crate) mod trace;
pub(crate) mod tracee;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

pub use case::{Case, Mode};
pub use marks::{mark_end, mark_start};
pub use order::Sampling;
pub use outcomes::Outcomes;
pub use report::{Report, Row, Violation};
pub use source::Place;
pub use suite::Suite;
pub use tracee::ptrace_permitted;

use crate::command::Program;
use crate::limit;
use awake::Awake;
use engine::{Common, Scope};
use source::Symbols;

/// The tool: a program with victims, and how thoroughly to go about it.
///
/// # Examples
/// ```no_run
/// use shm_testing::step_killer::{Case, Outcomes, StepKiller};
///
/// let cases = [Case::new("put", "empty").killed(Outcomes::switch("old", "new"))];
/// let report = StepKiller::new("target/debug/victim")?.run(&cases)?;
/// println!("{}", report.summary());
/// assert!(report.is_good());
/// # Ok::<(), shm_testing::step_killer::Error>(())
/// ```
#[derive(Debug)]
pub struct StepKiller {
    program: Program,
    symbols: Symbols,
    jobs: usize,
    sampling: Sampling,
    budget: Option<Duration>,
    enough: usize,
    seed: usize,
}

impl StepKiller {
    /// A tool for the victims in `program`, which looks at every step, at twice as many points at a
    /// time as there are processors: half of them wait for somebody to fall asleep or to give up.
    ///
    /// # Errors
    /// [`Error::PtraceNotPermitted`]; [`Error::Program`] when the program cannot be read or has no
    /// marks.
    pub fn new(program: impl AsRef<Path>) -> Result<Self, Error> {
        ptrace_permitted()?;
        let symbols = Symbols::read(program.as_ref())?;
        let jobs = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            program: Program::new(program.as_ref().to_owned()),
            symbols,
            jobs,
            sampling: Sampling::All,
            budget: None,
            enough: 50,
            seed: 0,
        })
    }

    /// Sets an environment variable for all commands; they have almost none otherwise.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.program.add_env(key, value);
        self
    }

    /// How many points are visited at a time.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Which part of the steps is visited.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// At which of the steps a sample begins: another number, another sample.
    pub fn seed(mut self, seed: usize) -> Self {
        self.seed = seed;
        self
    }

    /// Ends each row after so much time, but not before its first point; what it did by then is a good sample.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Ends a row after so many violations (50 unless told; for a control, at most 3).
    pub fn enough(mut self, violations: usize) -> Self {
        self.enough = violations.max(1);
        self
    }

    /// Runs all modes of all cases.
    ///
    /// # Errors
    /// When the tool cannot do its work: a set-up fails, processes cannot be started or traced.
    /// What the victims and checkers do is in the report instead.
    pub fn run(&self, cases: &[Case]) -> Result<Report, Error> {
        self.run_with(cases, |_| {})
    }

    /// Like [`StepKiller::run`]; hands out each row as soon as it is done.
    ///
    /// # Errors
    /// As [`StepKiller::run`].
    pub fn run_with(&self, cases: &[Case], mut on_row: impl FnMut(&Row)) -> Result<Report, Error> {
        if let Some(case) = cases.iter().find(|case| case.plans.is_empty()) {
            return Err(Error::NoModes(case.to_string()));
        }
        let _awake = Awake::new();
        // Not by a thread that stays on one processor.
        limit::start();
        let mut report = Report::default();
        let mut operations = HashSet::new();
        for (index, case) in cases.iter().enumerate() {
            let is_first = operations.insert(&case.operation);
            let mut common = Common::new(self.jobs);
            for plan in &case.plans {
                let scope = match self.sampling == Sampling::All && plan.mode == Mode::Kill {
                    true if is_first => Scope::EachInstruction,
                    _ => Scope::Sample,
                };
                let row = engine::run_row(self, index, case, plan, scope, &mut common)?;
                on_row(&row);
                report.rows.push(row);
            }
        }
        Ok(report)
    }
}

/// Why the tool could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel, a container's filter or a security module forbids tracing.
    #[error("ptrace is not permitted here, so nothing can be stepped: {0}")]
    PtraceNotPermitted(io::Error),
    /// The debug registers cannot be used.
    #[error("hardware breakpoints (PTRACE_POKEUSER) cannot be set: {0}")]
    NoBreakpoints(Errno),
    /// The victims' program is of no use.
    #[error("victims' program {path}: {why}")]
    Program {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A case has no modes: nothing would be done.
    #[error("{0}: no modes")]
    NoModes(String),
    /// The cases are not those that were promised.
    #[error("{0}")]
    Cases(String),
    /// A start state could not be made.
    #[error("setup {0}")]
    Setup(String),
    /// The operation fails even when nobody disturbs it.
    #[error("the victim, {0}")]
    Victim(String),
    /// A process that acts, holds or checks failed.
    #[error("{0}")]
    Helper(String),
    /// The first of two victims did not come by its recorded way.
    #[error("the first victim went another way than before: {0}")]
    Diverged(String),
    /// A signal told it to end.
    #[error("told to end")]
    Ended,
    /// The system refused something else.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}
