//! Bakers and eaters around a queue of ten buns; then an eater is killed with a bun in its mouth.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shm_lock::Barrier;
use shm_queue::JoinableQueue;

use super::Findings;
use super::child::{Actor, Failure, Role, Said, now};
use super::children::{Act, Trouble};
use super::report::{self, Expectation};
use super::teller::Teller;
use crate::figures::elapsed;

const BAKERS: u32 = 2;
const EATERS: u32 = 3;
/// Buns that each baker bakes.
const EACH: u32 = 10;
/// Buns that the counter holds.
const CAPACITY: u32 = 10;
/// How long a bun takes to eat.
const MEAL: Duration = Duration::from_millis(5);

/// A bun: who baked it, and which one of that baker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Bun {
    baker: u32,
    number: u32,
}

/// A bun in an eater's mouth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bite {
    bun: Bun,
    /// How often it was handed out.
    deliveries: u8,
    at: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    peaceful: Day,
    deadly: Day,
}

/// What happened on one day in the bakery.
#[derive(Debug, Default, Clone, Serialize)]
struct Day {
    /// How often each bun was eaten.
    #[serde(skip)]
    eaten: BTreeMap<Bun, u32>,
    buns: usize,
    /// When the last bun was eaten, and when the bakers' `join` returned, in microseconds after the start.
    last_bite_us: f64,
    joined_us: Vec<f64>,
    /// What is unfinished in the end.
    unfinished: usize,
    /// The eater that was killed.
    killed: Option<u32>,
    /// The bun that it had, and whether somebody else ate it, as its second delivery.
    dropped: Option<Bun>,
    eaten_again: bool,
    /// From the kill until that bun was in another mouth, in milliseconds.
    again_ms: Option<f64>,
}

/// A child: bakes its buns, puts them on the counter, and waits until all buns are eaten. Before that it waits for the
/// other bakers: when nobody else has baked yet, all is eaten as soon as its own are.
pub(super) fn bake(actor: &Actor, name: &str, oven: &str, baker: u32) -> Result<(), Failure> {
    let counter = JoinableQueue::<Bun>::open(name)?;
    let oven = Barrier::open(oven)?;
    actor.wait_for_start()?;
    for number in 1..=EACH {
        counter
            .put(Bun { baker, number })
            .map_err(|refused| refused.to_string())?;
    }
    actor.say(Said::Baked)?;
    oven.wait()?;
    counter.join()?;
    let at = now();
    actor.say(Said::Joined { at })
}

/// A child: eats until the bakery closes, or bites and is killed.
pub(super) fn eat(actor: &Actor, name: &str, doomed: bool) -> Result<(), Failure> {
    let counter = JoinableQueue::<Bun>::open(name)?;
    actor.wait_for_start()?;
    while let Ok(task) = counter.get() {
        let bite = Bite {
            bun: *task,
            deliveries: task.deliveries(),
            at: now(),
        };
        if doomed {
            actor.say(Said::Bit(bite))?;
            loop {
                thread::park();
            }
        }
        thread::sleep(MEAL);
        // Told first: after the last bun the bakers may be faster than these words.
        actor.say(Said::Ate(bite))?;
        task.task_done()?;
    }
    actor.say(Said::Finished)
}

/// The part.
pub(super) fn run(act: &mut Act, teller: &mut Teller) -> Result<Findings, Trouble> {
    let told = Trouble::Output;
    teller
        .say(format!(
            "Two bakers bake ten buns each and put them on a counter that holds {CAPACITY}. Three \
             eaters take them from there, eat, and say when a bun is done. When both have no \
             more buns to bake, the bakers wait until all are eaten."
        ))
        .map_err(told)?;
    let peaceful = day(act, "counter", false, teller)?;
    teller
        .then_say(format!(
            "The last bun was bitten {} after the start; the bakers went home at {} and {}.",
            micros(peaceful.last_bite_us),
            micros(peaceful.joined_us[0]),
            micros(peaceful.joined_us[1]),
        ))
        .map_err(told)?;
    teller
        .then_say(
            "The next day an eater is killed with SIGKILL, with a bun in its mouth that it has \
             not finished.",
        )
        .map_err(told)?;
    let deadly = day(act, "deadly", true, teller)?;
    if let (Some(bun), Some(ms)) = (deadly.dropped, deadly.again_ms) {
        teller
            .then_say(format!(
                "{} after its death, bun {} of baker {} was in another mouth, and the bakers \
                 went home.",
                elapsed(Duration::from_secs_f64(ms.max(0.0) / 1e3)),
                bun.number,
                bun.baker
            ))
            .map_err(told)?;
    }
    teller
        .then_say(
            "In Python, multiprocessing.JoinableQueue counts finished tasks: the dead eater never \
             says task_done, its bun is gone, and join waits for ever.",
        )
        .map_err(told)?;
    let figures = Figures { peaceful, deadly };
    let expectations = expectations(&figures);
    Ok((report::Figures::Bakery(figures), expectations))
}

fn micros(us: f64) -> String {
    elapsed(Duration::from_secs_f64(us.max(0.0) / 1e6))
}

/// One day: everybody starts at once, until the bakers have gone home and the counter is closed.
fn day(act: &mut Act, name: &str, deadly: bool, teller: &mut Teller) -> Result<Day, Trouble> {
    let counter = act.create(name, |place| JoinableQueue::<Bun>::create(place, CAPACITY))?;
    let oven = format!("{name}-oven");
    let _oven = act.create(&oven, |place| Barrier::create(place, BAKERS))?;
    let mut people = BTreeMap::new();
    for baker in 1..=BAKERS {
        let (name, oven) = (act.name(name), act.name(&oven));
        let child = act.start(&Role::Bake { name, oven, baker })?;
        people.insert(child, format!("baker {baker}"));
    }
    // On a deadly day the others come when the first has bitten: it must have a bun.
    let early = if deadly { 1 } else { EATERS };
    for eater in 1..=early {
        let (name, doomed) = (act.name(name), deadly);
        let child = act.start(&Role::Eat { name, doomed })?;
        people.insert(child, format!("eater {eater}"));
    }
    for _ in &people {
        match act.hear()? {
            (_, Said::Ready) => {}
            other => return Err(act.unexpected(other)),
        }
    }
    teller.gap().map_err(Trouble::Output)?;
    let start = now();
    act.open_gate();
    let mut day = Day::default();
    let (mut at_home, mut sated, mut killed_at, mut awaited) = (0, 0, 0, 0);
    let eaters = if deadly { EATERS - 1 } else { EATERS };
    while sated < eaters {
        let (child, said) = act.hear()?;
        let person = people[&child].clone();
        let at = |at: u64| micros(at.saturating_sub(start) as f64 / 1e3);
        let line = match said {
            Said::Baked => Some((at(now()), "has put its last bun on the counter".to_owned())),
            Said::Ate(bite) => Some((at(bite.at), day.ate(bite, start, killed_at))),
            Said::Bit(bite) => {
                killed_at = act.kill(child)?;
                day.killed = Some(act.pid(child));
                day.dropped = Some(bite.bun);
                for eater in early + 1..=EATERS {
                    let (name, doomed) = (act.name(name), false);
                    let child = act.start(&Role::Eat { name, doomed })?;
                    people.insert(child, format!("eater {eater}"));
                    awaited += 1;
                }
                let bun = tell_bun(bite);
                Some((at(bite.at), format!("bites into {bun}, and is killed")))
            }
            Said::Joined { at: joined } => {
                day.joined_us
                    .push(joined.saturating_sub(start) as f64 / 1e3);
                at_home += 1;
                if at_home == BAKERS {
                    day.unfinished = counter.unfinished()?;
                    counter.close()?;
                }
                Some((at(joined), "goes home: all buns are eaten".to_owned()))
            }
            Said::Ready => {
                awaited -= 1;
                if awaited == 0 {
                    act.open_gate();
                }
                None
            }
            Said::Finished => {
                sated += 1;
                None
            }
            other => return Err(act.unexpected((child, other))),
        };
        if let Some((time, what)) = line {
            let row = format!("{time:>9}  {person}  {what}");
            teller.row(row).map_err(Trouble::Output)?;
        }
    }
    act.farewell()?;
    day.buns = day.eaten.len();
    Ok(day)
}

fn tell_bun(bite: Bite) -> String {
    format!("bun {} of baker {}", bite.bun.number, bite.bun.baker)
}

impl Day {
    /// A bun is eaten; in words.
    fn ate(&mut self, bite: Bite, start: u64, killed_at: u64) -> String {
        *self.eaten.entry(bite.bun).or_default() += 1;
        let us = bite.at.saturating_sub(start) as f64 / 1e3;
        self.last_bite_us = self.last_bite_us.max(us);
        let mut line = format!("eats {}", tell_bun(bite));
        if self.dropped == Some(bite.bun) {
            self.eaten_again = bite.deliveries == 2;
            self.again_ms = Some((bite.at as f64 - killed_at as f64) / 1e6);
            line.push_str(", delivered a second time");
        }
        line
    }

    /// Whether every bun was eaten, once.
    fn all_eaten_once(&self) -> bool {
        self.buns == (BAKERS * EACH) as usize && self.eaten.values().all(|&times| times == 1)
    }

    /// Whether both bakers went home, and not before the last bun was bitten.
    fn joined_last(&self) -> bool {
        let home = self.joined_us.len() == BAKERS as usize;
        home && self.joined_us.iter().all(|&us| us >= self.last_bite_us) && self.unfinished == 0
    }
}

fn expectations(figures: &Figures) -> Vec<Expectation> {
    let Figures { peaceful, deadly } = figures;
    let found = |day: &Day| {
        format!(
            "{} buns, last bite at {} us, home at {:?} us, {} unfinished; how often: {:?}",
            day.buns, day.last_bite_us, day.joined_us, day.unfinished, day.eaten
        )
    };
    vec![
        Expectation::new(
            "every bun is eaten, once",
            peaceful.all_eaten_once(),
            found(peaceful),
        ),
        Expectation::new(
            "the bakers go home when all is eaten, not before",
            peaceful.joined_last(),
            found(peaceful),
        ),
        Expectation::new(
            "with an eater killed, its bun is eaten by another",
            deadly.eaten_again && deadly.killed.is_some() && deadly.all_eaten_once(),
            format!("{:?}: {}", deadly.dropped, found(deadly)),
        ),
        Expectation::new(
            "and the bakers go home then too",
            deadly.joined_last(),
            found(deadly),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> Day {
        let buns = (1..=BAKERS).flat_map(|baker| (1..=EACH).map(move |n| (baker, n)));
        Day {
            eaten: buns
                .map(|(baker, number)| (Bun { baker, number }, 1))
                .collect(),
            buns: 20,
            last_bite_us: 5.0,
            joined_us: vec![6.0, 7.0],
            killed: Some(7),
            eaten_again: true,
            ..Day::default()
        }
    }

    fn verdicts(change: impl FnOnce(&mut Figures)) -> Vec<bool> {
        let mut figures = Figures {
            peaceful: day(),
            deadly: day(),
        };
        change(&mut figures);
        expectations(&figures).iter().map(|e| e.ok).collect()
    }

    #[test]
    fn each_thing_that_can_go_wrong_fails_its_expectation() {
        assert_eq!(verdicts(|_| {}), [true; 4]);
        let twice = |day: &mut Day| day.eaten.values_mut().for_each(|times| *times += 1);
        assert_eq!(
            verdicts(|f| twice(&mut f.peaceful)),
            [false, true, true, true]
        );
        assert_eq!(
            verdicts(|f| twice(&mut f.deadly)),
            [true, true, false, true]
        );
        let lost = |f: &mut Figures| f.deadly.eaten_again = false;
        assert_eq!(verdicts(lost), [true, true, false, true]);
        let early = |f: &mut Figures| f.peaceful.joined_us[1] = 4.0;
        assert_eq!(verdicts(early), [true, false, true, true]);
        let alone = |f: &mut Figures| f.deadly.joined_us.truncate(1);
        assert_eq!(verdicts(alone), [true, true, true, false]);
        assert_eq!(
            verdicts(|f| f.deadly.unfinished = 1),
            [true, true, true, false]
        );
    }
}
