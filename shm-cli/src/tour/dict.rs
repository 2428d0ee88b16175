//! Ten processes take one off a number in a dictionary, by two calls and by one; then a writer is killed in
//! the middle of its update.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shm_dict::{Dict, Options};

use super::child::{Actor, Failure, Role, Said};
use super::children::{Act, Trouble};
use super::report::{self, Expectation};
use super::teller::Teller;
use super::{Findings, containers};
use crate::figures::{elapsed, grouped};

const PROCESSES: u64 = 10;
/// How often each of them takes one off.
const TIMES: u64 = 50_000;
const FROM: i64 = (PROCESSES * TIMES) as i64;
const KEY: &str = "num";
/// What the doomed writer would make of the number.
const CHANGE: i64 = 100;

type Numbers = Dict<String, i64>;

/// How one is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Call {
    /// `get`, then `set`.
    GetAndSet,
    /// `modify`.
    Modify,
}

impl Call {
    const ALL: [Self; 2] = [Self::GetAndSet, Self::Modify];

    fn name(self) -> &'static str {
        match self {
            Self::GetAndSet => "get, then set",
            Self::Modify => "modify",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::GetAndSet => "get-and-set",
            Self::Modify => "modify",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    runs: Vec<Run>,
    death: Death,
    containers: containers::Figures,
}

#[derive(Debug, Clone, Serialize)]
struct Run {
    call: Call,
    ends_at: i64,
    /// Updates that had no effect.
    lost: i64,
    /// From the first process's start to the last one's end.
    seconds: f64,
}

/// What a killed writer left.
#[derive(Debug, Clone, Default, Serialize)]
struct Death {
    killed: u32,
    /// What a reader got while the dead still had the lock.
    read: Option<i64>,
    /// What the next writer found, and who it was told had died.
    found: Option<i64>,
    reported: Option<u32>,
    /// What `check` says of the memory.
    checked: bool,
}

/// A child: takes one off, `times` times.
pub(super) fn decrement(actor: &Actor, call: Call, name: &str, times: u64) -> Result<(), Failure> {
    let numbers = Numbers::open(name)?;
    actor.wait_for_start()?;
    let began = super::child::now();
    for _ in 0..times {
        match call {
            Call::GetAndSet => {
                let number = numbers.get(KEY)?.ok_or("no number")?;
                numbers.set(KEY, &(number - 1))?;
            }
            Call::Modify => {
                numbers.modify(KEY, |number| number.map(|number| number - 1))?;
            }
        }
    }
    let ended = super::child::now();
    actor.say(Said::Counted { began, ended })
}

/// A child: dies in the middle of an update.
pub(super) fn update(actor: &Actor, name: &str) -> Result<(), Failure> {
    let numbers = Numbers::open(name)?;
    let mut waited = Ok(());
    numbers.modify(KEY, |number| {
        // Under the lock. Nobody opens the gate: here it is killed.
        waited = actor
            .say(Said::Holding)
            .and_then(|()| actor.wait_for_gate());
        number.map(|number| number + CHANGE)
    })?;
    waited?;
    Err("nobody killed it".into())
}

/// The part.
pub(super) fn run(act: &mut Act, teller: &mut Teller) -> Result<Findings, Trouble> {
    let told = Trouble::Output;
    teller
        .say(format!(
            "A dictionary has a number of {}. Ten processes take one off, {} times each: first by \
             reading the entry and then writing it, then with modify, which does both under the \
             lock of the entry's shard.",
            grouped(FROM),
            grouped(TIMES as i64),
        ))
        .map_err(told)?;
    teller.gap().map_err(told)?;
    teller
        .columns(format_args!(
            "{:<16}  {:>13}  {:>13}  {:>8}",
            "how", "ends at", "updates lost", "time"
        ))
        .map_err(told)?;
    let mut runs = Vec::new();
    for call in Call::ALL {
        let run = count_down(act, call, teller)?;
        let time = elapsed(Duration::from_secs_f64(run.seconds));
        teller
            .row(format_args!(
                "{:<16}  {:>13}  {:>13}  {time:>8}",
                call.name(),
                grouped(run.ends_at),
                grouped(run.lost),
            ))
            .map_err(told)?;
        runs.push(run);
    }
    teller
        .then_say(
            "In Python, d[\"num\"] -= 1 on a Manager().dict() is the first of these, and each call \
             is a message to a server process.",
        )
        .map_err(told)?;

    let death = killed_in_an_update(act)?;
    teller
        .then_say(format!(
            "Then a process is killed with SIGKILL in the middle of a modify, with the lock in its \
             hands. A reader reads {} at once, and the next writer finds {}; it is told that \
             process {} died, and goes on.",
            tell(death.read),
            tell(death.found),
            death.reported.map_or("?".to_owned(), |pid| pid.to_string()),
        ))
        .map_err(told)?;
    let (containers, more) = containers::run(act, teller)?;
    act.farewell()?;
    let figures = Figures {
        runs,
        death,
        containers,
    };
    let mut expectations = expectations(&figures);
    expectations.extend(more);
    Ok((report::Figures::Dict(figures), expectations))
}

fn tell(number: Option<i64>) -> String {
    number.map_or("nothing".to_owned(), grouped)
}

fn count_down(act: &mut Act, call: Call, teller: &mut Teller) -> Result<Run, Trouble> {
    let numbers = act.create(call.what(), |place| Numbers::create(place, Options::new()))?;
    numbers.set(KEY, &FROM)?;
    let roles: Vec<_> = (0..PROCESSES)
        .map(|_| Role::Decrement {
            call,
            name: act.name(call.what()),
            times: TIMES,
        })
        .collect();
    let words = act.race(&roles, || {
        if !teller.wants_progress() {
            return Ok(());
        }
        let left = numbers.get(KEY).ok().flatten().unwrap_or_default();
        teller.progress(&format!("{:<16}  {:>13} to go", call.name(), grouped(left)))
    })?;
    let (mut first, mut last) = (u64::MAX, 0);
    for (child, said) in words.into_iter().enumerate() {
        let Said::Counted { began, ended } = said else {
            return Err(act.unexpected((child, said)));
        };
        first = first.min(began);
        last = last.max(ended);
    }
    let ends_at = numbers.get(KEY)?.unwrap_or(FROM);
    Ok(Run {
        call,
        ends_at,
        lost: ends_at,
        seconds: last.saturating_sub(first) as f64 / 1e9,
    })
}

fn killed_in_an_update(act: &mut Act) -> Result<Death, Trouble> {
    const WHAT: &str = "death";
    let numbers = act.create(WHAT, |place| Numbers::create(place, Options::new()))?;
    numbers.set(KEY, &FROM)?;
    let reported = Arc::new(Mutex::new(None));
    let told = Arc::clone(&reported);
    numbers.on_recovery(move |recovery| {
        let dead = recovery.dead.map(|dead| dead.pid());
        *told.lock().unwrap_or_else(PoisonError::into_inner) = dead;
    });
    let name = act.name(WHAT);
    let child = act.start(&Role::Update { name })?;
    match act.hear()? {
        (_, Said::Holding) => {}
        other => return Err(act.unexpected(other)),
    }
    let killed = act.pid(child);
    act.kill(child)?;
    let read = numbers.get(KEY)?;
    let mut found = None;
    numbers.modify(KEY, |number| {
        found = number;
        number
    })?;
    let reported = *reported.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Death {
        killed,
        read,
        found,
        reported,
        checked: numbers.check().is_ok_and(|stats| stats.entries == 1),
    })
}

fn expectations(figures: &Figures) -> Vec<Expectation> {
    let Figures { runs, death, .. } = figures;
    let modify = runs.iter().find(|run| run.call == Call::Modify);
    vec![
        Expectation::new(
            "with modify no update is lost",
            modify.is_some_and(|run| run.ends_at == 0),
            format!("{runs:?}"),
        ),
        Expectation::new(
            "a killed writer leaves the entry as it was for all others",
            death.read == Some(FROM) && death.found == Some(FROM) && death.checked,
            format!("{death:?}"),
        ),
        Expectation::new(
            "and the next writer is told who died",
            death.reported == Some(death.killed),
            format!("{death:?}"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(change: impl FnOnce(&mut Figures)) -> Vec<bool> {
        let run = |call| Run {
            call,
            ends_at: 0,
            lost: 0,
            seconds: 1.0,
        };
        let mut figures = Figures {
            runs: Call::ALL.map(run).to_vec(),
            death: Death {
                killed: 7,
                read: Some(FROM),
                found: Some(FROM),
                reported: Some(7),
                checked: true,
            },
            containers: containers::Figures::default(),
        };
        change(&mut figures);
        expectations(&figures).iter().map(|e| e.ok).collect()
    }

    #[test]
    fn each_thing_that_can_go_wrong_fails_its_expectation() {
        assert_eq!(verdicts(|_| {}), [true; 3]);
        assert_eq!(verdicts(|f| f.runs[0].ends_at = 5), [true; 3]);
        assert_eq!(verdicts(|f| f.runs[1].ends_at = 5), [false, true, true]);
        let read = |f: &mut Figures| f.death.read = Some(FROM + CHANGE);
        assert_eq!(verdicts(read), [true, false, true]);
        assert_eq!(verdicts(|f| f.death.found = None), [true, false, true]);
        assert_eq!(verdicts(|f| f.death.checked = false), [true, false, true]);
        assert_eq!(verdicts(|f| f.death.reported = None), [true, true, false]);
    }
}
