//! A process is killed in the middle of a change, with the lock in its hands; another one sleeps,
//! waiting for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shm_lock::{Cause, LockError, Mutex};

use super::Findings;
use super::child::{Actor, Failure, Role, Said, now};
use super::children::{Act, Trouble};
use super::report::{self, Expectation};
use super::teller::Teller;
use crate::figures::elapsed;

const ROUNDS: usize = 21;
/// What each round moves from the first number to the second.
const AMOUNT: i64 = 100;

/// Two numbers that must add up to zero.
type Pair = [i64; 2];

/// What the waiter did when it had the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taking {
    /// When it had the lock.
    at: u64,
    /// The lock's report, in its words.
    report: Option<String>,
    /// The process that the report names.
    dead: Option<u32>,
    found: Pair,
    left: Pair,
}

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// From just before the kill until the waiter had the lock, in microseconds.
    median_us: f64,
    least_us: f64,
    most_us: f64,
    rounds: Vec<Round>,
}

#[derive(Debug, Clone, Serialize)]
struct Round {
    holder: u32,
    waiter: u32,
    /// Negative: the waiter had the lock before the kill.
    us: f64,
    #[serde(flatten)]
    taking: Taking,
}

/// A child: dies in the middle of a change.
pub(super) fn hold(actor: &Actor, name: &str, amount: i64) -> Result<(), Failure> {
    let pair = Mutex::<Pair>::open(name)?;
    let mut pair = pair.lock().map_err(|error| error.to_string())?;
    pair[0] -= amount;
    actor.say(Said::Holding)?;
    // Nobody opens it: here it is killed.
    actor.wait_for_gate()?;
    pair[1] += amount;
    Err("nobody killed it".into())
}

/// A child: sleeps until it has the lock, and repairs what it finds.
pub(super) fn wait(actor: &Actor, name: &str) -> Result<(), Failure> {
    let pair = Mutex::<Pair>::open(name)?;
    actor.say(Said::Waiting)?;
    let taken = pair.lock();
    let at = now();
    let taking = match taken {
        Err(LockError::OwnerDied(recover)) => {
            let cause = recover.cause();
            let found = *recover;
            // The change is finished for the dead: its second half follows from the first.
            let repaired = recover.repair(|pair| pair[1] = -pair[0]);
            Taking {
                at,
                report: Some(cause.to_string()),
                dead: match cause {
                    Cause::OwnerDied { process, .. } => process.map(|id| id.pid()),
                    _ => None,
                },
                found,
                left: *repaired,
            }
        }
        Ok(pair) => Taking {
            at,
            report: None,
            dead: None,
            found: *pair,
            left: *pair,
        },
        Err(other) => return Err(other.to_string().into()),
    };
    actor.say(Said::Took(taking))
}

/// The part.
pub(super) fn run(act: &mut Act, teller: &mut Teller) -> Result<Findings, Trouble> {
    let told = Trouble::Output;
    teller
        .say(format!(
            "Two numbers must add up to zero. A process takes the lock, takes {AMOUNT} off the \
             first number, and is killed with SIGKILL before it adds {AMOUNT} to the second. \
             Another process sleeps, waiting for the lock. This happens {ROUNDS} times, each time \
             to new processes."
        ))
        .map_err(told)?;

    let pair = act.create("pair", |place| Mutex::create(place, [0, 0]))?;
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        let round = one_round(act, &pair)?;
        if number == 1 {
            tell_round(&round, teller).map_err(told)?;
        }
        rounds.push(round);
        let progress = format!("round {number} of {ROUNDS}");
        teller.progress(&progress).map_err(told)?;
    }
    act.farewell()?;

    let figures = Figures::of(rounds);
    let micros = |us: f64| elapsed(Duration::from_secs_f64(us.max(0.0) / 1e6));
    teller
        .then_say(format!(
            "From the kill until the sleeping process had the lock, in {} rounds: median {}, \
             fastest {}, slowest {}.",
            figures.rounds.len(),
            micros(figures.median_us),
            micros(figures.least_us),
            micros(figures.most_us),
        ))
        .map_err(told)?;
    teller
        .then_say(
            "The kernel itself frees the locks of a dead process and wakes one that sleeps. That \
             one is told that the data may be half-way through a change, and whose death it was. \
             Python's multiprocessing.Lock at the same point: nobody releases it any more, and \
             the sleeper waits for ever.",
        )
        .map_err(told)?;
    let expectations = expectations(&figures.rounds);
    Ok((report::Figures::Death(figures), expectations))
}

fn one_round(act: &mut Act, pair: &Mutex<Pair>) -> Result<Round, Trouble> {
    let name = || act.name("pair");
    let (hold, wait) = (
        Role::Hold {
            name: name(),
            amount: AMOUNT,
        },
        Role::Wait { name: name() },
    );
    let holder = act.start(&hold)?;
    match act.hear()? {
        (child, Said::Holding) if child == holder => {}
        other => return Err(act.unexpected(other)),
    }
    let waiter = act.start(&wait)?;
    match act.hear()? {
        (child, Said::Waiting) if child == waiter => {}
        other => return Err(act.unexpected(other)),
    }
    // It sleeps when the kernel counts it; a word from it before that does not fit.
    while pair.inspect().waiters == 0 {
        if act.listen(Duration::from_millis(1))? {
            break;
        }
    }
    let killed = act.kill(holder)?;
    match act.hear()? {
        (child, Said::Took(taking)) if child == waiter => Ok(Round {
            holder: act.pid(holder),
            waiter: act.pid(waiter),
            us: (taking.at as f64 - killed as f64) / 1e3,
            taking,
        }),
        other => Err(act.unexpected(other)),
    }
}

fn tell_round(round: &Round, teller: &mut Teller) -> std::io::Result<()> {
    let Round {
        holder,
        waiter,
        us,
        taking,
    } = round;
    let pair =
        |[first, second]: Pair| format!("{first:>6} {second:>6}   sum {:>5}", first + second);
    let report = taking.report.as_deref().unwrap_or("(no report)");
    let later = elapsed(Duration::from_secs_f64(us.max(0.0) / 1e6));
    teller.gap()?;
    teller.columns("the first round")?;
    teller.row(format_args!(
        "process {holder} holds the lock, in the middle of its change"
    ))?;
    teller.row(format_args!("process {waiter} sleeps, waiting for it"))?;
    teller.row(format_args!("SIGKILL to process {holder}"))?;
    teller.row(format_args!(
        "{later} later process {waiter} has the lock, with this report:"
    ))?;
    teller.row(format_args!("  \"{report}\""))?;
    teller.row(format_args!("  it finds  {}", pair(taking.found)))?;
    teller.row(format_args!("  it leaves {}", pair(taking.left)))
}

impl Figures {
    fn of(rounds: Vec<Round>) -> Self {
        let mut times: Vec<f64> = rounds.iter().map(|round| round.us).collect();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
        Self {
            median_us: at(times.len() / 2),
            least_us: at(0),
            most_us: at(times.len().saturating_sub(1)),
            rounds,
        }
    }
}

fn expectations(rounds: &[Round]) -> Vec<Expectation> {
    let all = |expectation: &str, holds: &dyn Fn(&Round) -> bool| {
        let wrong: Vec<_> = rounds.iter().filter(|round| !holds(round)).collect();
        let found = match wrong.first() {
            None => format!("in {} of {ROUNDS} rounds", rounds.len()),
            Some(first) => format!("not in {} rounds; the first: {first:?}", wrong.len()),
        };
        let ok = wrong.is_empty() && rounds.len() == ROUNDS;
        Expectation::new(expectation, ok, found)
    };
    let sum = |pair: Pair| pair[0] + pair[1];
    vec![
        all(
            "the sleeper gets the lock after the kill, not before",
            &|round| round.us >= 0.0,
        ),
        all(
            "it is told that the owner died, and which process it was",
            &|round| round.taking.report.is_some() && round.taking.dead == Some(round.holder),
        ),
        all("it finds the change half done", &|round| {
            sum(round.taking.found) == -AMOUNT
        }),
        all("it leaves two numbers that add up to zero", &|round| {
            sum(round.taking.left) == 0
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds() -> Vec<Round> {
        let round = |at: usize| Round {
            holder: 100,
            waiter: 200,
            us: at as f64,
            taking: Taking {
                at: 0,
                report: Some("its last owner died".to_owned()),
                dead: Some(100),
                found: [-300, 200],
                left: [-300, 300],
            },
        };
        (1..=ROUNDS).rev().map(round).collect()
    }

    fn verdicts(change: impl FnOnce(&mut Vec<Round>)) -> Vec<bool> {
        let mut rounds = rounds();
        change(&mut rounds);
        expectations(&rounds).iter().map(|e| e.ok).collect()
    }

    #[test]
    fn the_median_is_the_middle_of_the_sorted_rounds() {
        let figures = Figures::of(rounds());
        assert_eq!(
            (figures.least_us, figures.median_us, figures.most_us),
            (1.0, 11.0, 21.0)
        );
    }

    #[test]
    fn each_thing_that_can_go_wrong_fails_its_expectation() {
        assert_eq!(verdicts(|_| {}), [true; 4]);
        assert_eq!(verdicts(|r| r[3].us = -1.0), [false, true, true, true]);
        let other = [true, false, true, true];
        assert_eq!(verdicts(|r| r[3].taking.dead = Some(7)), other);
        assert_eq!(verdicts(|r| r[3].taking.report = None), other);
        let found = |r: &mut Vec<Round>| r[20].taking.found = [0, 0];
        assert_eq!(verdicts(found), [true, true, false, true]);
        let left = |r: &mut Vec<Round>| r[0].taking.left = [-300, 200];
        assert_eq!(verdicts(left), [true, true, true, false]);
        assert_eq!(
            verdicts(|r| r.truncate(20)),
            [false; 4],
            "a round is missing"
        );
    }
}
