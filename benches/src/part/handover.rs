//! A holder is killed while another process sleeps in `lock`: how long until that one owns the lock.
//!
//! The time is taken from just before `kill` in the parent until the waiter runs inside its critical section, on one clock. Holder and
//! waiter are fresh processes in each round; the lock goes on from round to round, so that a repair that does not last would show.
//! Locks that nobody hands over are the negative control: their waiter must still be stuck after the patience of the plan.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Report, number, rotated};
use crate::arena::Arena;
use crate::clock::now;
use crate::control::no_answer;
use crate::options::{Part, Plan};
use crate::process::{Peer, Role, Ties};
use crate::statistics::{largest, median, quantile};
use crate::table::{Align, Table, figure};
use crate::variants::{ALL, AfterKill, BOOST, Contender, Peers, RAW_SYNC, absent, without_code};
use crate::worker::{WAITER, site};

/// Until a holder or a waiter is where it should be.
const PATIENCE: Duration = Duration::from_secs(20);

/// The deaths of one variant's holders.
#[derive(Clone, Debug, Default)]
struct Deaths {
    /// Microseconds from kill to ownership.
    times: Vec<f64>,
    /// How many of the new owners were told that the old one died.
    told: usize,
    /// Waiters that did not get the lock in time.
    stuck: usize,
}

/// Measures and reports.
///
/// # Errors
///
/// What the system says, or a child that ended.
pub fn measure(run: &str, plan: &Plan) -> io::Result<Report> {
    let mut stage = Stage::set(run)?;
    let mut found = vec![Deaths::default(); ALL.len()];
    let with = |after: AfterKill| {
        let wanted = move |&at: &usize| {
            ALL[at].lock && ALL[at].peers == Peers::Processes && ALL[at].after_kill == after
        };
        (0..ALL.len()).filter(wanted).collect::<Vec<_>>()
    };
    for (after, rounds) in [
        (AfterKill::HandedOver, plan.deaths),
        (AfterKill::Stuck, plan.hopeless),
    ] {
        let patience = patience(after, plan);
        let variants = with(after);
        for round in 0..rounds {
            for at in rotated(variants.len(), round) {
                stage.death(variants[at], patience, &mut found[variants[at]])?;
            }
        }
    }
    Ok(report(&found, plan))
}

/// A waiter that is to get the lock has all the time that a busy machine may need.
fn patience(after: AfterKill, plan: &Plan) -> Duration {
    match after {
        AfterKill::HandedOver => PATIENCE,
        _ => plan.patience,
    }
}

fn report(found: &[Deaths], plan: &Plan) -> Report {
    let columns = [
        "variant",
        "deaths",
        "median, us",
        "p90, us",
        "worst, us",
        "told",
        "waiter still stuck",
    ];
    let mut table = Table::new(
        "SIGKILL of a holder until a sleeping waiter owns the lock",
        &columns,
    )
    .align(6, Align::Left);
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for (entry, deaths) in ALL.iter().zip(found) {
        let Deaths { times, told, stuck } = deaths;
        let patience = patience(entry.after_kill, plan).as_millis();
        let all = times.len() + stuck;
        if all == 0 {
            continue;
        }
        table.row(vec![
            entry.name.to_owned(),
            all.to_string(),
            figure(median(times), 0),
            figure(quantile(times, 0.9), 0),
            figure(largest(times), 0),
            told.to_string(),
            if *stuck == 0 {
                "never".to_owned()
            } else {
                format!("{stuck} of {all}, after {patience} ms")
            },
        ]);
        rows.push(json!({
            "variant": entry.name,
            "deaths": all,
            "us": { "median": number(median(times)), "p90": number(quantile(times, 0.9)), "worst": number(largest(times)) },
            "told": told,
            "stuck": stuck,
            "patience_ms": patience as u64,
        }));
        match entry.after_kill {
            AfterKill::HandedOver if *stuck > 0 => {
                failures.push(format!(
                    "{}: {stuck} of {all} waiters did not get a dead holder's lock",
                    entry.name
                ));
            }
            AfterKill::Stuck if *stuck < all => {
                failures.push(format!(
                    "{}: handed over, though it is the negative control",
                    entry.name
                ));
            }
            _ => (),
        }
    }
    table.note("From just before kill(2) until the waiter, which slept, is in its critical section; told: the lock reported the death.");
    for line in absent(&[RAW_SYNC])
        .into_iter()
        .chain(without_code(&[BOOST]))
    {
        table.note(line);
    }
    Report {
        part: Part::Handover,
        table,
        rows,
        failures,
    }
}

/// Arena, and the locks that holders die with.
struct Stage {
    arena: Arena,
    ties: Ties,
    made: Vec<Option<Box<dyn Contender>>>,
}

impl Stage {
    fn set(run: &str) -> io::Result<Self> {
        let arena = Arena::create(ALL.len())?;
        let ties = Ties {
            parent: std::process::id(),
            arena: arena.fd(),
            run: format!("{run}handover."),
        };
        Ok(Self {
            arena,
            ties,
            made: ALL.iter().map(|_| None).collect(),
        })
    }

    /// A holder takes the lock, a waiter goes to sleep on it, the holder is killed.
    fn death(&mut self, variant: usize, patience: Duration, found: &mut Deaths) -> io::Result<()> {
        if self.made[variant].is_none() {
            self.made[variant] = Some((ALL[variant].create)(&site(
                &self.arena,
                &self.ties.run,
                variant,
            ))?);
        }
        let control = self.arena.control();
        let slot = control.slot(WAITER);
        control.clear();

        let mut holder = Peer::start(&Role::Holder {
            ties: self.ties.clone(),
            contender: variant,
        })?;
        self.until(variant, &mut holder, |stage, _| {
            stage.arena.control().wait_for(1, now() + 1_000_000)
        })?;
        control.clear();
        let mut waiter = Peer::start(&Role::Waiter {
            ties: self.ties.clone(),
            contender: variant,
        })?;
        // Relaxed: `began` says only that the waiter is on its way into the lock.
        self.until(variant, &mut waiter, |_, _| slot.began.load(Relaxed) != 0)?;
        self.until(variant, &mut waiter, |_, peer| asleep(peer))?;

        let killed = now();
        holder.kill()?;
        if control.wait_for(1, killed + patience.as_nanos() as u64) {
            // Relaxed: published by the waiter's answer.
            found
                .times
                .push((slot.ended.load(Relaxed) - killed) as f64 / 1e3);
            found.told += slot.value.load(Relaxed) as usize;
            waiter.wait()?;
        } else {
            found.stuck += 1;
            waiter.kill()?;
            waiter.wait()?;
            // Nobody will ever get this lock: the next round needs another.
            self.made[variant] = None;
        }
        holder.wait()?;
        Ok(())
    }

    fn until(
        &self,
        variant: usize,
        peer: &mut Peer,
        mut there: impl FnMut(&Self, &Peer) -> bool,
    ) -> io::Result<()> {
        let deadline = now() + PATIENCE.as_nanos() as u64;
        while !there(self, peer) {
            peer.still_runs()?;
            if now() > deadline {
                return Err(no_answer(ALL[variant].name));
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// Asleep, and a little later still: a process that only yields or is preempted does not pass.
fn asleep(peer: &Peer) -> bool {
    peer.sleeps() && {
        thread::sleep(Duration::from_millis(1));
        peer.sleeps()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{ALL, AfterKill, Deaths, report};
    use crate::options::Options;

    fn found(of: impl Fn(AfterKill) -> Deaths) -> Vec<Deaths> {
        ALL.iter().map(|entry| of(entry.after_kill)).collect()
    }

    fn failures(found: &[Deaths]) -> Vec<String> {
        report(found, &Options::parse_from(["counter"]).plan()).failures
    }

    fn handed_over() -> Deaths {
        Deaths {
            times: vec![30.0; 5],
            told: 5,
            stuck: 0,
        }
    }

    fn stuck() -> Deaths {
        Deaths {
            stuck: 1,
            ..Deaths::default()
        }
    }

    #[test]
    fn what_the_list_promises_is_no_failure() {
        let as_promised = |after| match after {
            AfterKill::HandedOver => handed_over(),
            AfterKill::Stuck => stuck(),
            _ => Deaths::default(),
        };
        assert!(failures(&found(as_promised)).is_empty());
    }

    #[test]
    fn stuck_robust_lock_is_a_failure() {
        let robust = ALL
            .iter()
            .filter(|entry| entry.after_kill == AfterKill::HandedOver)
            .count();
        let lines = failures(&found(|after| {
            if after == AfterKill::HandedOver {
                stuck()
            } else {
                Deaths::default()
            }
        }));
        assert_eq!(lines.len(), robust);
        assert!(
            robust > 0 && lines[0].contains("1 of 1 waiters"),
            "{lines:?}"
        );
    }

    #[test]
    fn negative_control_that_is_handed_over_is_a_failure() {
        let lines = failures(&found(|after| {
            if after == AfterKill::Stuck {
                handed_over()
            } else {
                Deaths::default()
            }
        }));
        assert!(
            !lines.is_empty() && lines.iter().all(|line| line.contains("negative control")),
            "{lines:?}"
        );
    }
}
