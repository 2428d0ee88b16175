//! One point: a fresh start state, a victim brought to a step and disturbed, a fresh checker.

use std::fmt;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Error;
use super::case::{Case, Mode, Plan};
use super::source::Symbols;
use super::start_state::StartStates;
use super::trace::{Pace, Reached, Trace};
use super::tracee::Tracee;
use crate::command::{self, End, Holder, Program, Running, quote};
use crate::procfs::{ThreadState, time_at_work};

/// How often a victim that went another way is tried again.
const RETRIES: u32 = 6;
/// The least time limit of a victim: stepping is slow, and a busy machine slower.
const VICTIM_LIMIT: Duration = Duration::from_secs(5);
/// The time limit of a recording: hundreds of thousands of single steps, on a machine where each may take a tenth of a
/// millisecond.
const RECORDING_LIMIT: Duration = Duration::from_secs(120);
/// How often a way is recorded at most.
const RECORDINGS: u32 = 50;
/// How long a waiter that does not sleep is to be at work, in time of a processor, before the victim is killed.
const WAITER_SPINS: Duration = Duration::from_millis(50);
/// How often a sleeper is looked at, 200 µs apart, before it counts as one that does not fall asleep.
const LOOKS: u32 = 1000;

/// Where in an operation: after `step` instructions, or asleep in the call that is the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At {
    pub(crate) step: usize,
    pub(crate) asleep: bool,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step)?;
        if self.asleep {
            write!(f, " asleep")
        } else {
            Ok(())
        }
    }
}

/// What the structure was like before the victim came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start<'a> {
    /// Another victim was killed before, at this step of its own way.
    pub(crate) killed: Option<(&'a Trace, usize)>,
}

/// What a point showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The checker is content and names this outcome.
    Outcome(String),
    /// The same, of a victim that stood beside the recorded way: its place in the order is vague.
    Aside(String),
    /// A violation whatever the other points show.
    Wrong(String),
    /// The victim never came by this step again: nothing is known.
    Missed,
}

/// A point that was visited, in one attempt or more.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) verdict: Verdict,
    /// The victim left the recorded way.
    pub(crate) diverged: bool,
    /// Victims that were at no end of their way when their time was over.
    pub(crate) hung: usize,
}

/// What one attempt came to.
enum Tried {
    Seen(Verdict),
    /// The victim went another way.
    Strayed,
    /// It was somewhere on its way when its time was over.
    Hung,
}

/// The living processes of a start state.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Until it is let go.
    holder: Option<Holder>,
    /// Until the checker wakes them.
    sleepers: Vec<Running>,
}

/// A row's fixed part: everything but the step.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) program: &'a Program,
    pub(crate) symbols: &'a Symbols,
    pub(crate) case: &'a Case,
    pub(crate) plan: &'a Plan,
    /// What the case's set-up left.
    pub(crate) states: &'a StartStates,
}

impl Setting<'_> {
    /// Records the way of `victim OPERATION` from the given start; one that is to give up asleep, until it was seen
    /// asleep: on a busy machine its time may be over before.
    pub(crate) fn record(
        &self,
        name: &str,
        start: &Start<'_>,
        operation: &str,
    ) -> Result<Trace, Error> {
        for _ in 0..RECORDINGS {
            let trace = self.record_once(name, start, operation)?;
            if !self.case.gives_up || trace.asleep_at.is_some() {
                return Ok(trace);
            }
        }
        Err(Error::Victim("does not sleep until it gives up".to_owned()))
    }

    fn record_once(&self, name: &str, start: &Start<'_>, operation: &str) -> Result<Trace, Error> {
        let mut others = self.prepare_surely(name, start)?;
        let sleeps = others.holder.is_some() || self.case.gives_up;
        let mut waker = || self.wake(&mut others);
        let command = self.program.command(&["victim", operation, name]);
        let waker: Option<super::trace::Waker<'_>> = if sleeps { Some(&mut waker) } else { None };
        let trace = Trace::record(command, self.symbols, RECORDING_LIMIT, waker);
        clean(name)?;
        trace
    }

    /// Visits one point.
    pub(crate) fn visit(
        &self,
        name: &str,
        start: &Start<'_>,
        trace: &Trace,
        at: At,
    ) -> Result<Visit, Error> {
        let mut visit = Visit {
            verdict: Verdict::Missed,
            diverged: false,
            hung: 0,
        };
        for attempt in 0..=RETRIES {
            visit.diverged = attempt == RETRIES;
            let pace = match visit.diverged {
                true => Pace::Stepped,
                false => Pace::Fast,
            };
            match self.attempt(name, start, trace, at, pace)? {
                Tried::Seen(verdict) => {
                    visit.verdict = verdict;
                    return Ok(visit);
                }
                Tried::Strayed => {}
                Tried::Hung => visit.hung += 1,
            }
        }
        // What is left would be in the other victims' way.
        clean(name)?;
        Ok(visit)
    }

    /// Visits a point by a way of which each step is the recorded one; `None` if no victim keeps to it. A fast one may
    /// come by another way to the same instruction, also to one that it passes twice.
    pub(crate) fn visit_exactly(
        &self,
        name: &str,
        start: &Start<'_>,
        trace: &Trace,
        at: At,
    ) -> Result<Option<Verdict>, Error> {
        for _ in 0..=RETRIES {
            if let Tried::Seen(verdict) = self.attempt(name, start, trace, at, Pace::Exact)? {
                return Ok(Some(verdict));
            }
        }
        Ok(None)
    }

    /// One attempt, and what the failures of those who take part in it mean.
    fn attempt(
        &self,
        name: &str,
        start: &Start<'_>,
        trace: &Trace,
        at: At,
        pace: Pace,
    ) -> Result<Tried, Error> {
        match self.attempt_once(name, start, trace, at, pace) {
            Err(Error::Diverged(_)) => Ok(Tried::Strayed),
            // The state could be made for the recording.
            Err(Error::Helper(what) | Error::Setup(what)) => Ok(Tried::Seen(Verdict::Wrong(what))),
            // The time limit killed it between two requests.
            Err(Error::System(e)) if e.raw_os_error() == Some(Errno::ESRCH as i32) => {
                Ok(Tried::Hung)
            }
            tried => tried,
        }
    }

    fn attempt_once(
        &self,
        name: &str,
        start: &Start<'_>,
        trace: &Trace,
        at: At,
        pace: Pace,
    ) -> Result<Tried, Error> {
        let wrong = |what| Ok(Tried::Seen(Verdict::Wrong(what)));
        let mut others = self.prepare(name, start, pace)?;
        let command = self
            .program
            .command(&["victim", &self.case.operation, name]);
        let mut victim = Tracee::launch(command, self.victim_limit(pace))?;
        let mut waker = || self.wake(&mut others);
        let reached = trace.reach(&mut victim, at.step, at.asleep, pace, &mut waker)?;
        match reached {
            Reached::Step | Reached::Asleep => {}
            Reached::Aside if pace == Pace::Stepped => {}
            Reached::Aside | Reached::Elsewhere | Reached::Ended(End::GOOD) => {
                return Ok(Tried::Strayed);
            }
            // It may have missed its breakpoint, and sleep where nobody wakes it.
            Reached::Hung if pace == Pace::Fast || trace.asleep_at.is_some() => {
                return Ok(Tried::Hung);
            }
            Reached::Hung => return wrong(format!("the victim hangs{}", quote(&victim.output()))),
            Reached::Ended(end) => {
                let output = quote(&victim.output());
                return wrong(format!("the victim ended before: {end}{output}"));
            }
        }
        let other = match &self.plan.mode {
            Mode::Kill | Mode::KillTwice(_) => {
                victim.kill(true)?;
                None
            }
            Mode::KillUnreaped => {
                victim.kill(false)?;
                None
            }
            Mode::Freeze(act) => {
                let done = self.act(act, name)?;
                victim.renew_limit(self.case.limit);
                self.let_go(&mut others)?;
                let end = victim.run_to_end()?;
                if end != End::GOOD {
                    return wrong(format!(
                        "the resumed victim: {end}{}",
                        quote(&victim.output())
                    ));
                }
                Some(done)
            }
            Mode::FreezeKill(act) => {
                let done = self.act(act, name)?;
                victim.kill(true)?;
                Some(done)
            }
            Mode::KillUnderWaiter(act) => {
                let command = self.program.command(&["act", act, name]);
                let waiter = Running::start(command, self.case.limit)?;
                until_waiting(waiter.pid());
                victim.kill(true)?;
                Some(outcome_of(&format!("act {act}"), waiter.finish()?)?)
            }
        };
        self.let_go(&mut others)?;
        let verdict = self.check(name, other.as_deref())?;
        let verdict = self.hear_sleepers(others, verdict)?;
        victim.reap()?;
        Ok(Tried::Seen(match verdict {
            Verdict::Outcome(outcome) if reached == Reached::Aside => Verdict::Aside(outcome),
            verdict => verdict,
        }))
    }

    fn victim_limit(&self, pace: Pace) -> Duration {
        match pace {
            Pace::Fast => self.case.limit.max(VICTIM_LIMIT),
            Pace::Stepped | Pace::Exact => RECORDING_LIMIT,
        }
    }

    /// Makes the start state, in more attempts than a point has: without it there is no row.
    fn prepare_surely(&self, name: &str, start: &Start<'_>) -> Result<Others, Error> {
        for _ in 0..RETRIES * 3 {
            match self.prepare(name, start, Pace::Fast) {
                Err(Error::Diverged(_)) => {}
                prepared => return prepared,
            }
        }
        self.prepare(name, start, Pace::Fast)
    }

    /// Makes the start state.
    pub(crate) fn prepare(
        &self,
        name: &str,
        start: &Start<'_>,
        pace: Pace,
    ) -> Result<Others, Error> {
        clean(name)?;
        let case = self.case;
        self.set_up(name)?;
        if let (Some((trace, step)), Mode::KillTwice(first)) = (start.killed, &self.plan.mode) {
            let command = self.program.command(&["victim", first, name]);
            let mut victim = Tracee::launch(command, self.victim_limit(pace))?;
            match trace.reach(&mut victim, step, false, pace, &mut || Ok(()))? {
                Reached::Step => {}
                other => return Err(Error::Diverged(format!("{other:?}"))),
            }
            victim.kill(true)?;
        }
        let mut others = Others::default();
        if let Some(holder) = &case.holder {
            let command = self.program.command(&["hold", &holder.what, name]);
            let started = Holder::start(command, case.limit * 4)?;
            let refused = |ran: command::Ran| {
                Error::Setup(format!("hold {}: {}", holder.what, ran.describe()))
            };
            others.holder = Some(started.map_err(refused)?);
        }
        for what in &case.sleepers {
            let command = self.program.command(&["act", what, name]);
            let sleeper = Running::start(command, case.limit * 4)?;
            if let Err(seen) = falls_asleep(sleeper.pid(), case.limit) {
                let ran = sleeper.finish()?;
                return Err(Error::Setup(format!(
                    "act {what} does not fall asleep ({seen}): {}",
                    ran.describe()
                )));
            }
            others.sleepers.push(sleeper);
        }
        Ok(others)
    }

    /// Runs the set-up, or puts back what it left the first time.
    fn set_up(&self, name: &str) -> Result<(), Error> {
        let case = self.case;
        if !case.set_up_anew && self.states.put_back(name)? {
            return Ok(());
        }
        let setup = self.program.command(&["setup", &case.state, name]);
        let ran = command::run(setup, case.limit)?;
        let good = match case.setup_dies {
            false => End::GOOD,
            true => End::Killed(9),
        };
        if ran.end != good {
            return Err(Error::Setup(format!("{}: {}", case.state, ran.describe())));
        }
        match case.set_up_anew {
            true => Ok(()),
            false => Ok(self.states.keep(name)?),
        }
    }

    /// Has a sleeping victim wake, unless its own time is to wake it.
    fn wake(&self, others: &mut Others) -> Result<(), Error> {
        match self.case.gives_up {
            true => Ok(()),
            false => self.let_go(others),
        }
    }

    /// Ends the holder, if there is one left, in the way that the case says.
    pub(crate) fn let_go(&self, others: &mut Others) -> Result<(), Error> {
        let (Some(holder), Some(plan)) = (others.holder.take(), &self.case.holder) else {
            return Ok(());
        };
        if plan.dies {
            return Ok(holder.kill()?);
        }
        match holder.release()? {
            ran if ran.end == End::GOOD => Ok(()),
            ran => Err(Error::Helper(format!(
                "hold {}: {}",
                plan.what,
                ran.describe()
            ))),
        }
    }

    /// Waits for the end of the sleepers, and adds to the outcome what they say.
    fn hear_sleepers(&self, others: Others, verdict: Verdict) -> Result<Verdict, Error> {
        let mut said = Vec::new();
        for (what, sleeper) in self.case.sleepers.iter().zip(others.sleepers) {
            said.push(outcome_of(&format!("act {what}"), sleeper.finish()?)?);
        }
        said.sort();
        Ok(match verdict {
            Verdict::Outcome(outcome) if !said.is_empty() => {
                Verdict::Outcome(format!("{outcome}; {}", said.join(", ")))
            }
            verdict => verdict,
        })
    }

    /// Lets another process act beside the frozen victim; returns what it says it did.
    fn act(&self, act: &str, name: &str) -> Result<String, Error> {
        let command = self.program.command(&["act", act, name]);
        outcome_of(
            &format!("act {act}"),
            command::run(command, self.case.limit)?,
        )
    }

    /// Judges what is left, and sees that nothing is left after that.
    pub(crate) fn check(&self, name: &str, other: Option<&str>) -> Result<Verdict, Error> {
        let mut args = vec!["check", self.case.check.as_str(), name];
        args.extend(other);
        let ran = command::run(self.program.command(&args), self.case.limit)?;
        let outcome = outcome_of("the checker", ran)?;
        match left_in_shm(name)? {
            left if left.is_empty() => Ok(Verdict::Outcome(outcome)),
            left => Ok(Verdict::Wrong(format!(
                "leak: {left:?} after outcome {outcome:?}"
            ))),
        }
    }
}

fn outcome_of(who: &str, ran: command::Ran) -> Result<String, Error> {
    match (ran.end, ran.outcome()) {
        (End::Hung, _) => Err(Error::Helper(format!("{who} hangs{}", quote(&ran.output)))),
        (End::GOOD, Some(outcome)) => Ok(outcome.to_owned()),
        (End::GOOD, None) => Err(Error::Helper(format!("{who} names no outcome"))),
        _ => Err(Error::Helper(format!("{who}: {}", ran.describe()))),
    }
}

/// Returns when the process sleeps on a shared futex; else what was seen of it last. Gives up when
/// the limit is past, but not before it looked [`LOOKS`] times: a machine that stood still for a while
/// says nothing about the process.
fn falls_asleep(pid: u32, limit: Duration) -> Result<(), String> {
    let end = Instant::now() + limit;
    let mut looks = 0;
    loop {
        thread::sleep(Duration::from_micros(200));
        looks += 1;
        match ThreadState::read(pid, pid) {
            None => return Err("gone".to_owned()),
            Some(thread) if thread.asleep_in_shared_futex() => return Ok(()),
            Some(thread) if thread.state == 'Z' || looks >= LOOKS && Instant::now() >= end => {
                return Err(format!("seen in {looks} looks, last: {thread}"));
            }
            Some(_) => {}
        }
    }
}

/// Returns when the waiter sleeps, has ended, or has spun for long enough. By the clock alone one that had no processor yet
/// would do; one that never has any ends by its own limit.
fn until_waiting(pid: u32) {
    let mut sightings = 0;
    while sightings < 3 && time_at_work(pid).is_some_and(|time| time < WAITER_SPINS) {
        thread::sleep(Duration::from_micros(200));
        match ThreadState::read(pid, pid) {
            None => return,
            Some(thread) if thread.state == 'Z' || thread.asleep_in_shared_futex() => return,
            Some(thread) if thread.state == 'S' => sightings += 1,
            Some(_) => sightings = 0,
        }
    }
}

/// What of this name is in /dev/shm; temporaries may wear it in the middle.
pub(crate) fn left_in_shm(name: &str) -> io::Result<Vec<String>> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/dev/shm")? {
        let entry = entry?.file_name().to_string_lossy().into_owned();
        if entry.contains(name) {
            left.push(entry);
        }
    }
    Ok(left)
}

/// Removes what a point may have left.
pub(crate) fn clean(name: &str) -> io::Result<()> {
    for left in left_in_shm(name)? {
        // Somebody who is just ending may have been faster.
        let _ = fs::remove_file(format!("/dev/shm/{left}"));
    }
    Ok(())
}
