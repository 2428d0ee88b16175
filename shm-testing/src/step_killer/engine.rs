//! One row: records the ways, visits the points on all jobs, judges them in order.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use nix::sys::personality::{self, Persona};

use super::awake::stay_on_one;
use super::case::{Case, Mode, Plan};
use super::order::{Sampling, instructions, order, order_within};
use super::outcomes::Outcomes;
use super::point::{At, Setting, Start, Verdict, clean};
use super::report::{Row, Violation};
use super::source::{Place, Places};
use super::start_state::StartStates;
use super::trace::Trace;
use super::{Error, StepKiller};
use crate::UniqueName;

/// A start state with the victim's way from there; or why there is none.
type Recorded = Result<Trace, String>;

/// A row is wrong if more than [`SOME`] of its points were never reached, or only beside the recorded way, and more than
/// one in so many.
const MANY: usize = 20;
const SOME: usize = 2;
/// How many points of a row are visited again by the exact way, at most.
const SUSPECTS: usize = 32;
/// How many of these points of a row are tried again with no other victim beside them, at most.
const ALONE: usize = 128;

/// All work is to end. Relaxed: nothing but that is told.
pub(crate) static END: AtomicBool = AtomicBool::new(false);

/// What a mode visits at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What the sampling says.
    Sample,
    /// Each instruction once, also where the case asks for fewer points.
    EachInstruction,
}

/// What the modes of a case share.
pub(crate) struct Common {
    names: Names,
    states: StartStates,
    /// The victim's way, once one is known that victims kept to. A mode with a first victim has others.
    way: Option<Trace>,
}

impl Common {
    pub(crate) fn new(jobs: usize) -> Self {
        Self {
            names: Names::new(jobs),
            states: StartStates::default(),
            way: None,
        }
    }
}

/// A point to visit: which start, where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Point {
    start: usize,
    at: At,
}

/// A visited one.
#[derive(Debug)]
struct Visited {
    point: Point,
    verdict: Verdict,
    diverged: bool,
    hung: usize,
}

impl Visited {
    /// Nothing is known of the point, or not where it stands in the order. What is wrong anywhere is known.
    fn is_vague(&self, outcomes: &Outcomes) -> bool {
        match &self.verdict {
            Verdict::Missed => true,
            Verdict::Aside(label) => outcomes.knows(label),
            Verdict::Outcome(_) | Verdict::Wrong(_) => false,
        }
    }

    /// Takes over what another visit of the same point has shown, if it has shown anything.
    fn again(&mut self, seen: Self) {
        let hung = self.hung + seen.hung;
        if seen.verdict != Verdict::Missed {
            *self = seen;
        }
        self.hung = hung;
    }
}

/// Visits the points of one mode of a case.
pub(crate) fn run_row(
    killer: &StepKiller,
    index: usize,
    case: &Case,
    plan: &Plan,
    scope: Scope,
    common: &mut Common,
) -> Result<Row, Error> {
    let begun = Instant::now();
    let out_of_time = || killer.budget.is_some_and(|budget| begun.elapsed() > budget);
    let (names, known) = (&common.names, common.way.take());
    let setting = Setting {
        program: &killer.program,
        symbols: &killer.symbols,
        case,
        plan,
        states: &common.states,
    };

    let first = match &plan.mode {
        Mode::KillTwice(operation) => parallel(1, &[Start::default()], |job, start| {
            setting.record(names.of(job), start, operation).map(Some)
        })?
        .pop(),
        _ => None,
    };
    let sampling = killer.sampling.at_most(plan.most);
    let (starts, all_starts) = starts(sampling, killer.seed, first.as_ref());
    let record =
        |job, start: &Start<'_>| match setting.record(names.of(job), start, &case.operation) {
            Ok(trace) => Ok(Some(Ok(trace))),
            Err(Error::Victim(what) | Error::Helper(what)) => Ok(Some(Err(what))),
            Err(error) => Err(error),
        };
    let recorded = match (&first, known) {
        (None, Some(way)) => vec![Ok(way)],
        (_, way) => {
            common.way = way;
            parallel(killer.jobs, &starts, record)?
        }
    };

    let (points, all_points) = points(sampling, killer.seed, scope, &plan.mode, &recorded);
    let enough = match case.control {
        Some(_) => killer.enough.min(3),
        None => killer.enough,
    };
    let (begun_ones, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let visit = |job, &point: &Point| {
        // A row has one point at least. Relaxed: a hint to stop; a point more or less does not matter.
        let is_first = begun_ones.fetch_add(1, Ordering::Relaxed) == 0;
        if !is_first && out_of_time() || wrong.load(Ordering::Relaxed) >= enough {
            return Ok(None);
        }
        let trace = recorded[point.start]
            .as_ref()
            .expect("a point lies on a way");
        let visit = setting.visit(names.of(job), &starts[point.start], trace, point.at)?;
        if let Verdict::Wrong(_) = visit.verdict {
            wrong.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(Visited {
            point,
            verdict: visit.verdict,
            diverged: visit.diverged,
            hung: visit.hung,
        }))
    };
    let mut visited = parallel(killer.jobs, &points, visit)?;
    visited.sort_by_key(|visited| visited.point);
    // Once more, while no other victim's files are there to lead a victim another way.
    names.clean()?;
    let vague = visited
        .iter()
        .filter(|visited| visited.is_vague(&plan.outcomes));
    let again: Vec<Point> = vague.map(|visited| visited.point).take(ALONE).collect();
    for seen in parallel(1, &again, visit)? {
        let place = visited.binary_search_by_key(&seen.point, |visited| visited.point);
        visited[place.expect("it was visited before")].again(seen);
    }
    let count = |is: fn(&Visited) -> bool| visited.iter().filter(|visited| is(visited)).count();
    let missed = count(|visited| visited.verdict == Verdict::Missed);
    let aside = count(|visited| matches!(visited.verdict, Verdict::Aside(_)));
    let whole = all_starts && all_points && visited.len() == points.len() && missed == 0;
    // Of an outcome that nobody saw, a point without a place in the order may have been the only one.
    let ordered = whole && aside == 0;

    let again = |job, point: &Point| {
        let way = recorded[point.start]
            .as_ref()
            .expect("a point lies on a way");
        let visited = setting.visit_exactly(names.of(job), &starts[point.start], way, point.at);
        visited.map(Some)
    };
    let mut confirmed = HashSet::new();
    loop {
        let suspects = suspects(plan, starts.len(), &visited, ordered, &confirmed);
        if suspects.is_empty() {
            break;
        }
        let verdicts = parallel(killer.jobs, &suspects, again)?;
        replace(&mut visited, &suspects, verdicts);
        confirmed.extend(suspects);
    }

    let elapsed = begun.elapsed();
    let hung: usize = visited.iter().map(|visited| visited.hung).sum();
    let mut violations = judge(plan, &starts, &recorded, &visited, ordered);
    if missed + aside > SOME && (missed + aside) * MANY > visited.len() {
        let all = visited.len();
        violations.push(Violation {
            step: "most".to_owned(),
            what: format!(
                "of {all} points {missed} were never reached, {aside} only beside the recorded way"
            ),
            after: Place::default(),
            before: Place::default(),
        });
    }
    // One may have been a machine that stood still.
    if hung > 1 && !case.may_sleep() {
        violations.push(Violation {
            step: "some".to_owned(),
            what: format!("{hung} victims hung on their way, with nobody to wait for"),
            after: Place::default(),
            before: Place::default(),
        });
    }
    violations.truncate(enough);
    let steps = recorded.iter().flatten().map(Trace::steps).max();
    let diverged = visited.iter().filter(|v| v.diverged).count();
    if first.is_none() && diverged == 0 {
        common.way = recorded.into_iter().next().and_then(Result::ok);
    }
    Ok(Row {
        case: index,
        operation: case.operation.clone(),
        state: case.start_name(),
        mode: plan.mode.to_string(),
        control: case.control.clone(),
        steps: steps.unwrap_or(0),
        points: visited.len() - missed,
        whole,
        diverged,
        aside,
        missed,
        hung,
        outcomes: outcomes_in_short(&visited),
        violations,
        elapsed,
    })
}

/// The start states: one, or one for each step at which a first victim was killed; and whether these
/// are all.
fn starts(sampling: Sampling, seed: usize, first: Option<&Trace>) -> (Vec<Start<'_>>, bool) {
    let Some(trace) = first else {
        return (vec![Start::default()], true);
    };
    let mut steps = order(&trace.pcs, seed);
    let take = sampling.starts(steps.len());
    let all = take == steps.len();
    steps.truncate(take);
    steps.sort_unstable();
    let start = |step| Start {
        killed: Some((trace, step)),
    };
    (steps.into_iter().map(start).collect(), all)
}

/// The points to visit in the order to visit them, and whether these are all.
fn points(
    sampling: Sampling,
    seed: usize,
    scope: Scope,
    mode: &Mode,
    recorded: &[Recorded],
) -> (Vec<Point>, bool) {
    let sampling = sampling.share(recorded.len());
    // The tracer has no hold on one that sleeps.
    let freezes = matches!(mode, Mode::Freeze(_) | Mode::FreezeKill(_));
    let mut whole = true;
    let mut turns = Vec::new();
    for (start, trace) in recorded.iter().enumerate() {
        let Ok(trace) = trace else { continue };
        let all = trace.pcs.len();
        let least = match scope {
            Scope::EachInstruction => instructions(&trace.pcs),
            Scope::Sample => 0,
        };
        let take = sampling.take(all).max(least);
        // Of several starts only the first is looked at from both ends; each other goes on where the one before it
        // stopped, so that together they are at many places.
        let mut steps = match start {
            1.. if take < all => order_within(&trace.pcs, seed.wrapping_add(start * take)),
            _ => order(&trace.pcs, seed),
        };
        whole &= take == all;
        steps.truncate(take);
        let awake = steps.into_iter().map(|step| At {
            step,
            asleep: false,
        });
        let asleep = trace.asleep_at.filter(|_| !freezes);
        whole &= asleep == trace.asleep_at;
        let asleep = asleep.map(|step| At { step, asleep: true });
        for (turn, at) in asleep.into_iter().chain(awake).enumerate() {
            turns.push((turn, Point { start, at }));
        }
    }
    // All starts come forward alike, so that a row that is cut short has looked at each.
    turns.sort_by_key(|(turn, _)| *turn);
    (turns.into_iter().map(|(_, point)| point).collect(), whole)
}

/// Applies `work` to all items on several threads; a `None` stops all. Results come in no order
/// unless none is missing, then in that of the items.
fn parallel<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(usize, &T) -> Result<Option<R>, Error> + Sync,
) -> Result<Vec<R>, Error> {
    // Relaxed throughout: the counters hand out indices; the scope's join publishes the results.
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for job in 0..jobs.min(items.len()) {
            let (next, stop, results, failure, work) = (&next, &stop, &results, &failure, &work);
            scope.spawn(move || {
                stay_on_one(job);
                if let Err(errno) = fix_addresses() {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(errno.into());
                    return;
                }
                while !stop.load(Ordering::Relaxed) && !END.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    match work(job, item) {
                        Ok(Some(result)) => {
                            let mut results =
                                results.lock().unwrap_or_else(PoisonError::into_inner);
                            results.push((index, result));
                        }
                        Ok(None) => stop.store(true, Ordering::Relaxed),
                        Err(error) => {
                            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    if END.load(Ordering::Relaxed) {
        return Err(Error::Ended);
    }
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Switches off address randomisation for the processes that this thread starts.
pub(crate) fn fix_addresses() -> nix::Result<()> {
    personality::set(personality::get()? | Persona::ADDR_NO_RANDOMIZE).map(drop)
}

/// Points at which something is out of order, and those before them, but for those that are `confirmed`: their victims
/// may have come there by another way than the recorded one.
fn suspects(
    plan: &Plan,
    starts: usize,
    visited: &[Visited],
    whole: bool,
    confirmed: &HashSet<Point>,
) -> Vec<Point> {
    let mut suspects = Vec::new();
    for start in 0..starts {
        let (points, labels) = labels(visited, start);
        for (at, _) in plan.outcomes.judge(&labels, whole) {
            if plan.outcomes.knows(labels[at]) {
                suspects.extend_from_slice(&points[at.saturating_sub(1)..=at]);
            }
        }
    }
    suspects.retain(|suspect| !confirmed.contains(suspect));
    suspects.sort();
    suspects.dedup();
    suspects.truncate(SUSPECTS.saturating_sub(confirmed.len()));
    suspects
}

/// The outcomes of a start, where their place in the order is certain.
fn labels(visited: &[Visited], start: usize) -> (Vec<Point>, Vec<&str>) {
    let of_start = visited.iter().filter(|v| v.point.start == start);
    of_start
        .filter_map(|visited| match &visited.verdict {
            Verdict::Outcome(label) => Some((visited.point, label.as_str())),
            _ => None,
        })
        .unzip()
}

/// Puts what the exact way showed in the place of what was seen first; where there was none, that stays.
fn replace(visited: &mut [Visited], points: &[Point], verdicts: Vec<Option<Verdict>>) {
    for (point, verdict) in points.iter().zip(verdicts) {
        let place = visited.binary_search_by_key(point, |visited| visited.point);
        if let (Ok(place), Some(verdict)) = (place, verdict) {
            let seen = &mut visited[place];
            seen.diverged |= seen.verdict != verdict;
            seen.verdict = verdict;
        }
    }
}

/// All that is wrong, in the order of starts and steps.
fn judge(
    plan: &Plan,
    starts: &[Start<'_>],
    recorded: &[Recorded],
    visited: &[Visited],
    whole: bool,
) -> Vec<Violation> {
    let mut places = Places::default();
    let mut violations = Vec::new();
    for (index, (start, trace)) in starts.iter().zip(recorded).enumerate() {
        let prefix = match start.killed {
            Some((_, first)) => format!("{first} > "),
            None => String::new(),
        };
        let trace = match trace {
            Ok(trace) => trace,
            Err(what) => {
                violations.push(Violation {
                    step: format!("{prefix}undisturbed"),
                    what: what.clone(),
                    after: place_of_first(start, &mut places),
                    before: Place::default(),
                });
                continue;
            }
        };
        let mut wrong: Vec<(At, String)> = Vec::new();
        for visited in visited
            .iter()
            .filter(|visited| visited.point.start == index)
        {
            match &visited.verdict {
                Verdict::Aside(label) if !plan.outcomes.knows(label) => {
                    wrong.push((visited.point.at, format!("outcome {label:?}")));
                }
                Verdict::Wrong(what) => wrong.push((visited.point.at, what.clone())),
                Verdict::Outcome(_) | Verdict::Aside(_) | Verdict::Missed => {}
            }
        }
        let (points, labels) = labels(visited, index);
        for (at, what) in plan.outcomes.judge(&labels, whole) {
            wrong.push((points[at].at, what));
        }
        wrong.sort();
        violations.extend(wrong.into_iter().map(|(at, what)| Violation {
            step: format!("{prefix}{at}"),
            what,
            after: places.find(&trace.pcs[..at.step], &trace.maps),
            before: places.find(&trace.pcs[..=at.step], &trace.maps),
        }));
    }
    violations
}

/// Where the first of two victims was killed.
fn place_of_first(start: &Start<'_>, places: &mut Places) -> Place {
    match start.killed {
        Some((trace, step)) => places.find(&trace.pcs[..=step], &trace.maps),
        None => Place::default(),
    }
}

/// `old 0..=41, new 42..=96`; of several starts only how often each came.
fn outcomes_in_short(visited: &[Visited]) -> String {
    let several = visited.iter().any(|visited| visited.point.start > 0);
    let mut runs: Vec<(&str, At, At, usize)> = Vec::new();
    for visited in visited {
        let label = match &visited.verdict {
            Verdict::Outcome(label) => label.as_str(),
            Verdict::Wrong(_) => "wrong",
            Verdict::Missed | Verdict::Aside(_) => continue,
        };
        let at = visited.point.at;
        let run = match several {
            true => runs.iter_mut().find(|run| run.0 == label),
            false => runs.last_mut().filter(|run| run.0 == label),
        };
        match run {
            Some(run) => (run.2, run.3) = (at, run.3 + 1),
            None => runs.push((label, at, at, 1)),
        }
    }
    let text = |(label, from, to, count): (&str, At, At, usize)| match several {
        true => format!("{label} x{count}"),
        false if from == to => format!("{label} {from}"),
        false => format!("{label} {from}..={to}"),
    };
    const SHOWN: usize = 12;
    let more = runs.len().saturating_sub(SHOWN);
    let mut texts: Vec<String> = runs.into_iter().take(SHOWN).map(text).collect();
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join(", ")
}

/// A segment's name for each job, all of one length, so that the victims' ways are the same.
struct Names(
    Vec<String>,
    #[expect(dead_code, reason = "keeps the names ours")] UniqueName,
);

impl Names {
    fn new(jobs: usize) -> Self {
        let unique = UniqueName::new("kill");
        let names = (0..jobs)
            .map(|job| format!("{}-{job:03}", &*unique))
            .collect();
        Self(names, unique)
    }

    fn of(&self, job: usize) -> &str {
        &self.0[job]
    }

    /// Removes what the jobs' points have left.
    fn clean(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|name| clean(name))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // Also runs on the way out of a failure; the failure is what is reported.
        let _ = self.clean();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(verdict: Verdict) -> Visited {
        let at = At {
            step: 3,
            asleep: false,
        };
        Visited {
            point: Point { start: 0, at },
            verdict,
            diverged: false,
            hung: 1,
        }
    }

    #[test]
    fn what_is_wrong_beside_the_way_is_not_tried_again() {
        let outcomes = Outcomes::switch("old", "new");
        let is_vague = |verdict| visited(verdict).is_vague(&outcomes);
        assert!(is_vague(Verdict::Missed) && is_vague(Verdict::Aside("old".to_owned())));
        assert!(!is_vague(Verdict::Aside("torn".to_owned())));
        assert!(!is_vague(Verdict::Wrong("it fails".to_owned())));
    }

    #[test]
    fn another_visit_adds_what_it_has_shown() {
        let aside = || Verdict::Aside("old".to_owned());
        let mut seen = visited(aside());
        seen.again(visited(Verdict::Missed));
        assert_eq!((&seen.verdict, seen.hung), (&aside(), 2));
        let wrong = || Verdict::Wrong("it fails".to_owned());
        seen.again(visited(wrong()));
        assert_eq!((seen.verdict, seen.hung), (wrong(), 3));
    }
}
