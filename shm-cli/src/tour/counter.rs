//! Ten processes count one number down: with no lock, with a lock, and atomically.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shm_lock::Mutex;
use shm_value::AtomicValue;

use super::Findings;
use super::child::{Actor, Failure, Role, Said};
use super::children::{Act, Trouble};
use super::report::{self, Expectation};
use super::teller::Teller;
use crate::figures::{elapsed, grouped};

const PROCESSES: u64 = 10;

/// How the number is counted down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    /// Read it, subtract, write it.
    NoLock,
    /// The same, with a lock around it.
    Lock,
    /// One instruction.
    Atomic,
}

impl How {
    const ALL: [Self; 3] = [Self::NoLock, Self::Lock, Self::Atomic];

    fn name(self) -> &'static str {
        match self {
            Self::NoLock => "no lock",
            Self::Lock => "Mutex",
            Self::Atomic => "atomic fetch_sub",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::NoLock => "no-lock",
            Self::Lock => "lock",
            Self::Atomic => "atomic",
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    from: u64,
    processes: u64,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    how: How,
    ends_at: i64,
    /// Updates that had no effect on what the number ended at.
    lost: i64,
    /// From the first process's start to the last one's end.
    seconds: f64,
    /// That time by all updates.
    ns_per_update: f64,
}

/// The number, as one or as the other.
enum Number {
    Bare(AtomicValue<i64>),
    Locked(Mutex<i64>),
}

impl Number {
    fn create(act: &Act, how: How, from: i64) -> Result<Self, Trouble> {
        Ok(match how {
            How::Lock => Self::Locked(act.create(how.what(), |place| Mutex::create(place, from))?),
            How::NoLock | How::Atomic => {
                Self::Bare(act.create(how.what(), |place| AtomicValue::create(place, from))?)
            }
        })
    }

    fn open(how: How, name: &str) -> Result<Self, shm_core::Error> {
        Ok(match how {
            How::Lock => Self::Locked(Mutex::open(name)?),
            How::NoLock | How::Atomic => Self::Bare(AtomicValue::open(name)?),
        })
    }

    /// The number now, if it can be had in a moment.
    fn look(&self) -> Result<i64, String> {
        match self {
            Self::Bare(number) => Ok(number.load()),
            Self::Locked(number) => {
                let number = number.lock_timeout(Duration::from_millis(10));
                number.map(|number| *number).map_err(|e| e.to_string())
            }
        }
    }
}

/// A child: counts.
pub(super) fn count(actor: &Actor, how: How, name: &str, times: u64) -> Result<(), Failure> {
    let number = Number::open(how, name)?;
    actor.wait_for_start()?;
    let began = super::child::now();
    match (how, &number) {
        (How::Atomic, Number::Bare(number)) => {
            for _ in 0..times {
                number.fetch_sub(1);
            }
        }
        (_, Number::Bare(number)) => {
            for _ in 0..times {
                number.store(number.load() - 1);
            }
        }
        (_, Number::Locked(number)) => {
            for _ in 0..times {
                *number.lock().map_err(|error| error.to_string())? -= 1;
            }
        }
    }
    let ended = super::child::now();
    actor.say(Said::Counted { began, ended })
}

/// The part.
pub(super) fn run(act: &mut Act, from: u64, teller: &mut Teller) -> Result<Findings, Trouble> {
    let told = Trouble::Output;
    teller
        .say(format!(
            "Ten processes count a number down from {}, all at once, so that it should end at 0. \
             They do it three times: with no lock (read, subtract, write), with a lock around \
             that, and with one atomic instruction.",
            grouped(from as i64),
        ))
        .map_err(told)?;
    teller.gap().map_err(told)?;
    teller
        .columns(format_args!(
            "{:<16}  {:>13}  {:>13}  {:>8}  {:>13}",
            "how", "ends at", "updates lost", "time", "ns per update"
        ))
        .map_err(told)?;

    let mut runs = Vec::new();
    for how in How::ALL {
        let run = count_down(act, how, from, teller)?;
        let time = elapsed(Duration::from_secs_f64(run.seconds));
        teller
            .row(format_args!(
                "{:<16}  {:>13}  {:>13}  {time:>8}  {:>13.1}",
                how.name(),
                grouped(run.ends_at),
                grouped(run.lost),
                run.ns_per_update,
            ))
            .map_err(told)?;
        runs.push(run);
    }
    teller.then_say(why(&runs[0], from)).map_err(told)?;

    let exact = |run: &Run| {
        let what = match run.how {
            How::Lock => "with the lock the number ends at 0",
            _ => "with the atomic instruction the number ends at 0",
        };
        Expectation::new(
            what,
            run.ends_at == 0,
            format!("it ended at {}", run.ends_at),
        )
    };
    let expectations = runs[1..].iter().map(exact).collect();
    let figures = Figures {
        from,
        processes: PROCESSES,
        runs,
    };
    Ok((report::Figures::Counter(figures), expectations))
}

fn count_down(act: &mut Act, how: How, from: u64, teller: &mut Teller) -> Result<Run, Trouble> {
    let number = Number::create(act, how, from as i64)?;
    let share = |at: u64| from / PROCESSES + u64::from(at < from % PROCESSES);
    let roles: Vec<_> = (0..PROCESSES)
        .map(|at| Role::Count {
            how,
            name: act.name(how.what()),
            times: share(at),
        })
        .collect();
    let mut left = from as i64;
    let words = act.race(&roles, || {
        if !teller.wants_progress() {
            return Ok(());
        }
        // Not had in a moment: the last one will do.
        left = number.look().unwrap_or(left);
        teller.progress(&format!("{:<16}  {:>13} to go", how.name(), grouped(left)))
    })?;

    let (mut first, mut last) = (u64::MAX, 0);
    for (child, said) in words.into_iter().enumerate() {
        let Said::Counted { began, ended } = said else {
            return Err(act.unexpected((child, said)));
        };
        first = first.min(began);
        last = last.max(ended);
    }
    let ends_at = number.look().map_err(Trouble::Lock)?;
    let nanos = last.saturating_sub(first) as f64;
    Ok(Run {
        how,
        ends_at,
        lost: ends_at,
        seconds: nanos / 1e9,
        ns_per_update: nanos / from as f64,
    })
}

fn why(unlocked: &Run, from: u64) -> String {
    let lost = if unlocked.lost == 0 {
        "Without a lock none happened to be lost this time. That was luck: a process that is \
         interrupted between reading and writing undoes, by its late write, what others did \
         meanwhile."
            .to_owned()
    } else {
        let of_hundred = unlocked.lost as f64 / from as f64 * 100.0;
        format!(
            "Without a lock {of_hundred:.1} of 100 updates were lost; how many is chance. A \
             process that is interrupted between reading and writing undoes, by its late write, \
             what others did meanwhile."
        )
    };
    format!(
        "{lost} The lock lets nobody in between the two, and the atomic instruction has no \
         between. Take AtomicValue for a number, Mutex or Value for anything larger."
    )
}
