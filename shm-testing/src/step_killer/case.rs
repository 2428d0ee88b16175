//! What to kill, where, and which outcomes are right: one case a start state and operation.

use std::fmt;
use std::time::Duration;

use super::outcomes::Outcomes;

/// One operation in one start state, and the ways in which its victim is disturbed.
///
/// The words are sub-commands of the victims' program (see [`Commands`](crate::Commands)): the case
/// `Case::new("put", "full")` runs `setup full NAME`, then `victim put NAME`, then `check put NAME`.
///
/// # Examples
/// ```
/// use shm_testing::step_killer::{Case, Outcomes};
///
/// let case = Case::new("put", "empty")
///     .killed(Outcomes::switch("old", "new"))
///     .frozen("put", Outcomes::always("both"));
/// assert_eq!(case.to_string(), "put, empty");
/// ```
#[derive(Debug, Clone)]
pub struct Case {
    pub(crate) operation: String,
    pub(crate) state: String,
    pub(crate) check: String,
    pub(crate) setup_dies: bool,
    pub(crate) set_up_anew: bool,
    pub(crate) holder: Option<Holder>,
    /// The victim sleeps until it gives up.
    pub(crate) gives_up: bool,
    pub(crate) sleepers: Vec<String>,
    pub(crate) plans: Vec<Plan>,
    /// How many points a mode that is added now may have.
    most: Option<usize>,
    pub(crate) limit: Duration,
    /// Of a negative control: what the violation says that shows its fault.
    pub(crate) control: Option<String>,
}

/// The living process that holds something while the victim works.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) what: String,
    /// Killed at the time when it would be told to let go.
    pub(crate) dies: bool,
}

/// One way to disturb the victim, and what may then be found.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) outcomes: Outcomes,
    /// How many points are a good sample of it, even in a full run.
    pub(crate) most: Option<usize>,
}

/// Points of a [`Mode::KillTwice`] in a full run, unless told: a step of each of two victims is a square.
const PAIRS: usize = 2000;

/// Points of a victim that sleeps at most of them until it gives up.
const SLEEPY: usize = 300;

/// What is done at step k.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The victim is killed and reaped.
    Kill,
    /// The victim is killed; its corpse stays a zombie while the checker runs.
    KillUnreaped,
    /// The victim stands still while the named process acts, then goes on to its end.
    Freeze(String),
    /// The victim stands still while the named process acts, then is killed.
    FreezeKill(String),
    /// The named process acts while the victim stands still; once it sleeps on a futex or is done
    /// the victim is killed, and it has to get through.
    KillUnderWaiter(String),
    /// The victim of the named operation is killed at each of its steps first; then the case's own
    /// victim, which finds that state, is killed at each of its own.
    KillTwice(String),
}

impl Case {
    /// The operation `victim OPERATION` from the state `setup STATE`, judged by `check OPERATION`.
    ///
    /// It has no modes yet; add at least one, or the run is refused.
    pub fn new(operation: &str, state: &str) -> Self {
        Self {
            operation: operation.to_owned(),
            state: state.to_owned(),
            check: operation.to_owned(),
            setup_dies: false,
            set_up_anew: false,
            holder: None,
            gives_up: false,
            sleepers: Vec::new(),
            plans: Vec::new(),
            most: None,
            limit: Duration::from_secs(5),
            control: None,
        }
    }

    /// Whether there is somebody or something for the victim to wait for.
    pub(crate) fn may_sleep(&self) -> bool {
        self.gives_up || self.holder.is_some() || !self.sleepers.is_empty()
    }

    /// Judges by `check NAME` instead of the operation's own.
    pub fn checked_by(mut self, name: &str) -> Self {
        self.check = name.to_owned();
        self
    }

    /// The set-up ends by killing itself with SIGKILL, and so leaves an orphan.
    pub fn orphaned(mut self) -> Self {
        self.setup_dies = true;
        self
    }

    /// Runs the set-up for each point, even where what it left could be put back: for files that a process which is at
    /// work for another point may take away, also before they are copied.
    pub fn set_up_anew(mut self) -> Self {
        self.set_up_anew = true;
        self
    }

    /// Starts `hold WHAT NAME` after the set-up. It is told to let go when the victim sleeps in a
    /// system call, or else before the check; a victim that does sleep is also killed asleep.
    pub fn while_held(mut self, what: &str) -> Self {
        self.holder = Some(Holder {
            what: what.to_owned(),
            dies: false,
        });
        self
    }

    /// Like [`Case::while_held`], but the holder is killed instead of told to let go: a sleeping
    /// victim then inherits, and is killed on the way.
    pub fn while_held_by_the_doomed(mut self, what: &str) -> Self {
        self.holder = Some(Holder {
            what: what.to_owned(),
            dies: true,
        });
        self
    }

    /// The victim sleeps in a system call until its own time is over, and is killed asleep as well; a holder lets go
    /// before the check, not when it sleeps. Its time is to be longer than it takes to be stepped to its sleep; so the
    /// modes that are added behind are samples, as by [`Case::at_most`].
    pub fn gives_up(mut self) -> Self {
        self.gives_up = true;
        self.at_most(SLEEPY)
    }

    /// Starts `act WHAT NAME` after the set-up and the holder, and waits until it sleeps on a shared
    /// futex; several, one after the other. It is still there when the checker comes, who has to see to
    /// it that it wakes: then it must end, and what it says is added to the outcome, as in
    /// `set; woken, woken`.
    pub fn with_sleeper(mut self, what: &str) -> Self {
        self.sleepers.push(what.to_owned());
        self
    }

    /// The start state in words.
    pub(crate) fn start_name(&self) -> String {
        let state = &self.state;
        let mut name = match &self.holder {
            None => state.clone(),
            Some(Holder { what, dies: false }) => format!("{state}, held by {what}"),
            Some(Holder { what, dies: true }) => format!("{state}, held by {what} until it dies"),
        };
        for sleeper in &self.sleepers {
            name += &format!(", {sleeper} asleep");
        }
        name
    }

    /// Adds a way to disturb the victim.
    pub fn mode(mut self, mode: Mode, outcomes: Outcomes) -> Self {
        let most = match mode {
            Mode::KillTwice(_) => Some(self.most.unwrap_or(PAIRS)),
            _ => self.most,
        };
        let plan = Plan {
            mode,
            outcomes,
            most,
        };
        self.plans.push(plan);
        self
    }

    /// Visits at most so many points in each mode added from here on, even in a full run: for the ways
    /// of many steps, most of which another mode or case visits too. The table calls it a sample. In the first case of
    /// an operation, [`Mode::Kill`] is at each instruction once all the same.
    pub fn at_most(mut self, points: usize) -> Self {
        self.most = Some(points);
        self
    }

    /// Adds the modes [`Mode::Kill`] and [`Mode::KillUnreaped`].
    pub fn killed(self, outcomes: Outcomes) -> Self {
        self.mode(Mode::Kill, outcomes.clone())
            .mode(Mode::KillUnreaped, outcomes)
    }

    /// Adds the mode [`Mode::Freeze`] with `act ACT NAME`.
    pub fn frozen(self, act: &str, outcomes: Outcomes) -> Self {
        self.mode(Mode::Freeze(act.to_owned()), outcomes)
    }

    /// Adds the mode [`Mode::FreezeKill`] with `act ACT NAME`.
    pub fn frozen_and_killed(self, act: &str, outcomes: Outcomes) -> Self {
        self.mode(Mode::FreezeKill(act.to_owned()), outcomes)
    }

    /// Adds the mode [`Mode::KillUnderWaiter`] with `act ACT NAME`.
    pub fn killed_under_waiter(self, act: &str, outcomes: Outcomes) -> Self {
        self.mode(Mode::KillUnderWaiter(act.to_owned()), outcomes)
    }

    /// Adds the mode [`Mode::KillTwice`] with `victim FIRST NAME` killed before.
    pub fn killed_after(self, first: &str, outcomes: Outcomes) -> Self {
        self.mode(Mode::KillTwice(first.to_owned()), outcomes)
    }

    /// How long each process may take before it counts as hung (5 s unless told).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Marks a negative control: it is caught if some mode of it shows a violation with `fault` in its words, and
    /// its points and violations are not counted among those of the others.
    pub fn control(mut self, fault: &str) -> Self {
        self.control = Some(fault.to_owned());
        self
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.operation, self.start_name())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => write!(f, "kill"),
            Self::KillUnreaped => write!(f, "kill, corpse unreaped"),
            Self::Freeze(act) => write!(f, "freeze, {act}, resume"),
            Self::FreezeKill(act) => write!(f, "freeze, {act}, kill"),
            Self::KillUnderWaiter(act) => write!(f, "kill while {act} waits"),
            Self::KillTwice(first) => write!(f, "kill after killed {first}"),
        }
    }
}
