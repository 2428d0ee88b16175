//! A process that holds a permit is killed, and a process for which others wait at a barrier.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shm_lock::{Barrier, RobustSemaphore};

use super::Findings;
use super::child::{Actor, Failure, Role, Said, now};
use super::children::{Act, Trouble};
use super::report::{self, Expectation};
use super::teller::Teller;
use crate::figures::elapsed;

/// Permits of the semaphore, and processes that hold one each.
const PERMITS: u32 = 3;
/// Parties of the barrier.
const PARTIES: u32 = 3;

/// What a process was told that had waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// When its wait was over.
    at: u64,
    /// The report, in its words; `None`: there was nothing to report.
    report: Option<String>,
    /// The process that the report names.
    dead: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    semaphore: Wait,
    /// Permits that can be acquired when everybody is gone.
    permits_left: u32,
    barrier: Vec<Wait>,
}

/// One wait that a death ended.
#[derive(Debug, Clone, Serialize)]
struct Wait {
    killed: u32,
    waiter: u32,
    /// From just before the kill until the wait was over, in microseconds.
    us: f64,
    #[serde(flatten)]
    told: Told,
}

/// A child: takes a permit, and keeps it until the tour says otherwise.
pub(super) fn keep(actor: &Actor, name: &str) -> Result<(), Failure> {
    let semaphore = RobustSemaphore::open(name)?;
    let permit = semaphore.acquire()?;
    actor.say(Said::Holding)?;
    actor.wait_for_gate()?;
    drop(permit);
    actor.say(Said::Finished)
}

/// A child: waits for a permit.
pub(super) fn want(actor: &Actor, name: &str) -> Result<(), Failure> {
    let semaphore = RobustSemaphore::open(name)?;
    actor.say(Said::Waiting)?;
    let permit = semaphore.acquire()?;
    let at = now();
    let dead = permit.dead_holder().map(|id| id.pid());
    actor.say(Said::Waited(Told {
        at,
        report: dead.map(|pid| format!("process {pid} died with this permit")),
        dead,
    }))
}

/// A child: registers at the barrier, and waits there or dies before it comes.
pub(super) fn meet(actor: &Actor, name: &str, comes: bool) -> Result<(), Failure> {
    let mut party = Barrier::open(name)?.register()?;
    if !comes {
        actor.say(Said::Holding)?;
        // Nobody opens it: here it is killed.
        actor.wait_for_gate()?;
        return Err("nobody killed it".into());
    }
    actor.say(Said::Waiting)?;
    let broken = party.wait().err();
    let at = now();
    actor.say(Said::Waited(Told {
        at,
        dead: broken
            .as_ref()
            .and_then(|broken| broken.dead_party())
            .map(|id| id.pid()),
        report: broken.map(|broken| broken.to_string()),
    }))
}

/// The part.
pub(super) fn run(act: &mut Act, teller: &mut Teller) -> Result<Findings, Trouble> {
    let told = Trouble::Output;
    teller
        .say(
            "A semaphore has three permits, and three processes hold them. A fourth waits. One of \
             the three is killed with SIGKILL.",
        )
        .map_err(told)?;
    let semaphore = act.create("permits", |place| RobustSemaphore::create(place, PERMITS))?;
    let keep = Role::Keep {
        name: act.name("permits"),
    };
    let holders = (0..PERMITS)
        .map(|_| start(act, &keep, Word::Holding))
        .collect::<Result<Vec<_>, _>>()?;
    let want = Role::Want {
        name: act.name("permits"),
    };
    let waiter = start(act, &want, Word::Waiting)?;
    until_asleep(act, || semaphore.inspect().waiters == 1)?;
    let killed = act.kill(holders[0])?;
    let wait = hear_wait(act, holders[0], killed, &[waiter])?;
    tell(&wait, teller).map_err(told)?;
    act.open_gate();
    for _ in 1..PERMITS {
        match act.hear()? {
            (_, Said::Finished) => {}
            other => return Err(act.unexpected(other)),
        }
    }
    act.farewell()?;
    let permits_left = semaphore.available();

    teller
        .then_say(
            "A barrier has three parties. All three processes register; two wait at it. The third \
             is killed before it comes.",
        )
        .map_err(told)?;
    let barrier = act.create("barrier", |place| Barrier::create(place, PARTIES))?;
    let meet = |comes| Role::Meet {
        name: act.name("barrier"),
        comes,
    };
    let (meets, stays_away) = (meet(true), meet(false));
    let doomed = start(act, &stays_away, Word::Holding)?;
    let waiters = (1..PARTIES)
        .map(|_| start(act, &meets, Word::Waiting))
        .collect::<Result<Vec<_>, _>>()?;
    until_asleep(act, || barrier.n_waiting() == PARTIES - 1)?;
    let killed = act.kill(doomed)?;
    let mut waits = Vec::new();
    for _ in 1..PARTIES {
        let wait = hear_wait(act, doomed, killed, &waiters)?;
        tell(&wait, teller).map_err(told)?;
        waits.push(wait);
    }
    act.farewell()?;
    teller
        .then_say(
            "In Python a killed process's permit is gone for good, and whoever waits at a barrier \
             for a dead process waits until its own timeout, if it gave one.",
        )
        .map_err(told)?;

    let figures = Figures {
        semaphore: wait,
        permits_left,
        barrier: waits,
    };
    let expectations = expectations(&figures);
    Ok((report::Figures::Permits(figures), expectations))
}

/// What a child says before the kill.
#[derive(Clone, Copy)]
enum Word {
    Holding,
    Waiting,
}

/// Starts a child and waits for its first word.
fn start(act: &mut Act, role: &Role, word: Word) -> Result<usize, Trouble> {
    let child = act.start(role)?;
    match (word, act.hear()?) {
        (Word::Holding, (from, Said::Holding)) if from == child => Ok(child),
        (Word::Waiting, (from, Said::Waiting)) if from == child => Ok(child),
        (_, other) => Err(act.unexpected(other)),
    }
}

/// Waits until the children wait; a word from one of them before that does not fit.
fn until_asleep(act: &mut Act, asleep: impl Fn() -> bool) -> Result<(), Trouble> {
    while !asleep() {
        if act.listen(Duration::from_millis(1))? {
            let word = act.hear()?;
            return Err(act.unexpected(word));
        }
    }
    Ok(())
}

fn hear_wait(act: &mut Act, dead: usize, killed: u64, waiters: &[usize]) -> Result<Wait, Trouble> {
    match act.hear()? {
        (waiter, Said::Waited(told)) if waiters.contains(&waiter) => Ok(Wait {
            killed: act.pid(dead),
            waiter: act.pid(waiter),
            us: (told.at as f64 - killed as f64) / 1e3,
            told,
        }),
        other => Err(act.unexpected(other)),
    }
}

fn tell(wait: &Wait, teller: &mut Teller) -> std::io::Result<()> {
    let later = elapsed(Duration::from_secs_f64(wait.us.max(0.0) / 1e6));
    let report = wait.told.report.as_deref().unwrap_or("(no report)");
    teller.gap()?;
    teller.row(format_args!("SIGKILL to process {}", wait.killed))?;
    teller.row(format_args!(
        "{later} later process {} goes on, with this report:",
        wait.waiter
    ))?;
    teller.row(format_args!("  \"{report}\""))
}

fn expectations(figures: &Figures) -> Vec<Expectation> {
    let names_the_dead = |wait: &Wait| wait.us >= 0.0 && wait.told.dead == Some(wait.killed);
    vec![
        Expectation::new(
            "the waiting process gets the permit of the dead, and is told so",
            names_the_dead(&figures.semaphore),
            format!("{:?}", figures.semaphore),
        ),
        Expectation::new(
            "in the end all three permits can be acquired",
            figures.permits_left == PERMITS,
            format!("{} can", figures.permits_left),
        ),
        Expectation::new(
            "both waiting parties are told whose death broke the barrier",
            figures.barrier.len() == 2 && figures.barrier.iter().all(names_the_dead),
            format!("{:?}", figures.barrier),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(change: impl FnOnce(&mut Figures)) -> Vec<bool> {
        let wait = Wait {
            killed: 7,
            waiter: 8,
            us: 50.0,
            told: Told {
                at: 1,
                report: Some("process 7 died".to_owned()),
                dead: Some(7),
            },
        };
        let mut figures = Figures {
            semaphore: wait.clone(),
            permits_left: PERMITS,
            barrier: vec![wait.clone(), wait],
        };
        change(&mut figures);
        expectations(&figures).iter().map(|e| e.ok).collect()
    }

    #[test]
    fn each_thing_that_can_go_wrong_fails_its_expectation() {
        assert_eq!(verdicts(|_| {}), [true; 3]);
        let first = [false, true, true];
        assert_eq!(verdicts(|f| f.semaphore.told.dead = None), first);
        assert_eq!(verdicts(|f| f.semaphore.us = -1.0), first);
        assert_eq!(verdicts(|f| f.permits_left = 2), [true, false, true]);
        let last = [true, true, false];
        assert_eq!(verdicts(|f| f.barrier[1].told.dead = Some(9)), last);
        assert_eq!(verdicts(|f| f.barrier.truncate(1)), last);
    }
}
