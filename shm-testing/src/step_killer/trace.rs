//! The way of the victim from mark to mark, recorded once, and how to get to any step of it fast.

use std::collections::HashMap;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use super::Error;
use super::source::{Map, Symbols, maps_of, vdso};
use super::tracee::{Stop, Tracee};
use crate::command::{End, quote};

/// Operations longer than this are refused: a spin without end looks like one.
const MAX_STEPS: usize = 1 << 20;
const SYSCALL_INSTRUCTION: u64 = 0x050f;

/// The recorded way of an operation: step k is where k of its instructions have been executed.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// The address of the instruction that step k has not executed yet.
    pub(crate) pcs: Vec<u64>,
    /// Where the end mark stands: the last step's address.
    end_mark: u64,
    /// How to get to each step.
    ways: Vec<Way>,
    /// Where the kernel's code for fast calls is mapped. A call of it counts as one instruction, like
    /// a system call: it writes nothing that is shared, and how long it takes depends on the clock.
    vdso: Range<u64>,
    /// The step whose system call slept until somebody else acted.
    pub(crate) asleep_at: Option<usize>,
    /// What is mapped where, to name the places.
    pub(crate) maps: Vec<Map>,
}

/// Run until a breakpoint on the step `anchor` was hit `hits` times, then single steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    anchor: usize,
    hits: usize,
}

/// How a victim is brought to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// By breakpoints, as far as they lead.
    Fast,
    /// By single steps alone.
    Stepped,
    /// By single steps, each of which is to be the recorded one.
    Exact,
}

/// How far a victim was brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It stands at the step.
    Step,
    /// It sleeps in the step's system call.
    Asleep,
    /// As many instructions were executed, but on another way than the recorded one.
    Aside,
    /// It went another way, and is nowhere near.
    Elsewhere,
    /// It was at no end of its way when its time was over.
    Hung,
    /// It ended in a bad way before.
    Ended(End),
}

/// What happens to a sleeping victim so that it wakes.
pub(crate) type Waker<'a> = &'a mut dyn FnMut() -> Result<(), Error>;

impl Trace {
    /// Performs the operation once, step by step.
    ///
    /// `waker` is called when the victim sleeps in a system call; `None`: such a call is waited for.
    pub(crate) fn record(
        command: Command,
        symbols: &Symbols,
        limit: Duration,
        mut waker: Option<Waker<'_>>,
    ) -> Result<Self, Error> {
        let mut tracee = Tracee::launch(command, limit)?;
        let maps = maps_of(tracee.pid())?;
        let vdso = vdso(&maps);
        let base = symbols.base(&maps);
        let end_mark = base + symbols.end_mark;
        run_to(&mut tracee, base + symbols.start_mark)?;
        let first = tracee.top_of_stack()?;
        run_to(&mut tracee, first)?;
        tracee.clear_breakpoints()?;

        let mut pcs = vec![first];
        let mut asleep_at = None;
        let mut calls = HashMap::new();
        loop {
            let pc = *pcs.last().expect("never empty");
            if pc == end_mark {
                break;
            }
            if pcs.len() > MAX_STEPS {
                return Err(Error::Victim(format!(
                    "the operation is longer than {MAX_STEPS} instructions, or does not end"
                )));
            }
            let is_call = match calls.get(&pc) {
                Some(&known) => known,
                None => {
                    let is_call = tracee.peek(pc)? & 0xffff == SYSCALL_INSTRUCTION;
                    calls.insert(pc, is_call);
                    is_call
                }
            };
            let mut stop = match &waker {
                _ if vdso.contains(&pc) => {
                    let back = tracee.top_of_stack()?;
                    leave_vdso(&mut tracee, back)?
                }
                Some(_) if is_call => tracee.step_or_sleep()?,
                _ => tracee.step()?,
            };
            if stop == Stop::Asleep {
                asleep_at = Some(pcs.len() - 1);
                if let Some(wake) = waker.take() {
                    wake()?;
                }
                stop = tracee.finish_step()?;
            }
            match stop {
                Stop::Trap => pcs.push(tracee.pc()?),
                stop => return Err(ended_early(&mut tracee, stop, pcs.len() - 1)),
            }
        }
        if let Some(wake) = waker.take() {
            wake()?;
        }
        let end = tracee.run_to_end()?;
        if end != End::GOOD {
            let output = tracee.output();
            return Err(Error::Victim(format!(
                "undisturbed: {end}{}",
                quote(&output)
            )));
        }
        let ways = ways(&pcs);
        Ok(Self {
            pcs,
            end_mark,
            ways,
            vdso,
            asleep_at,
            maps,
        })
    }

    /// The number of instructions; steps go from 0 to this, both included.
    pub(crate) fn steps(&self) -> usize {
        self.pcs.len() - 1
    }

    /// Brings a fresh victim to step `k`, and into its sleep if `asleep`.
    ///
    /// `waker` is called at the recorded sleep.
    pub(crate) fn reach(
        &self,
        tracee: &mut Tracee,
        k: usize,
        asleep: bool,
        pace: Pace,
        waker: Waker<'_>,
    ) -> Result<Reached, Error> {
        tracee.set_breakpoints(self.pcs[0], None)?;
        match tracee.run()? {
            Stop::Trap => {}
            Stop::Ended(end) => return Ok(Reached::Ended(end)),
            Stop::Asleep | Stop::Call => unreachable!("nobody asked for that stop"),
        }
        tracee.clear_breakpoints()?;
        let mut at = 0;
        // A sleep on the way is walked to by itself, so that the waker acts at its time.
        if let Some(sleep) = self.asleep_at.filter(|sleep| *sleep < k || asleep) {
            match self.walk(tracee, 0, sleep, pace)? {
                Reached::Step => {}
                other => return Ok(other),
            }
            let stop = tracee.step_or_sleep()?;
            if asleep {
                return Ok(match stop {
                    Stop::Asleep => Reached::Asleep,
                    Stop::Trap | Stop::Call => Reached::Elsewhere,
                    Stop::Ended(end) => Reached::Ended(end),
                });
            }
            waker()?;
            let stop = match stop {
                Stop::Asleep => tracee.finish_step()?,
                stop => stop,
            };
            if let Stop::Ended(end) = stop {
                return Ok(Reached::Ended(end));
            }
            at = sleep + 1;
        }
        self.walk(tracee, at, k, pace)
    }

    /// From step `from` to step `k`.
    fn walk(
        &self,
        tracee: &mut Tracee,
        from: usize,
        k: usize,
        pace: Pace,
    ) -> Result<Reached, Error> {
        let mut at = from;
        let way = self.ways[k];
        // Hits are counted from step 0, so a walk that begins later is stepped.
        if from == 0 && way.anchor > 0 && pace == Pace::Fast {
            let target = self.pcs[way.anchor];
            let end = Some(self.end_mark).filter(|end| *end != target);
            tracee.set_breakpoints(target, end)?;
            for _ in 0..way.hits {
                // Before the recorded sleep, one that sleeps has missed the breakpoint, and nobody would
                // wake it.
                let stop = match self.asleep_at {
                    Some(sleep) if k <= sleep => tracee.run_or_sleep()?,
                    _ => tracee.run()?,
                };
                match stop {
                    Stop::Trap if tracee.pc()? == target => {}
                    Stop::Ended(end) => return Ok(ended(end)),
                    _ => return Ok(Reached::Elsewhere),
                }
            }
            tracee.clear_breakpoints()?;
            at = way.anchor;
        }
        for k in at..k {
            let stop = match self.vdso.contains(&self.pcs[k]) {
                false => tracee.step()?,
                true => leave_vdso(tracee, self.pcs[k + 1])?,
            };
            match stop {
                Stop::Trap if pace == Pace::Exact && tracee.pc()? != self.pcs[k + 1] => {
                    return Ok(Reached::Elsewhere);
                }
                Stop::Trap => {}
                Stop::Ended(end) => return Ok(ended(end)),
                Stop::Asleep | Stop::Call => unreachable!("nobody asked for that stop"),
            }
        }
        Ok(match tracee.pc()? == self.pcs[k] {
            true => Reached::Step,
            false => Reached::Aside,
        })
    }
}

/// Where a victim is that ended before its step.
fn ended(end: End) -> Reached {
    match end {
        End::GOOD => Reached::Elsewhere,
        End::Hung => Reached::Hung,
        end => Reached::Ended(end),
    }
}

/// Runs through the vDSO, back to where it was called.
fn leave_vdso(tracee: &mut Tracee, back: u64) -> nix::Result<Stop> {
    tracee.set_breakpoints(back, None)?;
    let stop = tracee.run()?;
    if stop == Stop::Trap {
        tracee.clear_breakpoints()?;
    }
    Ok(stop)
}

/// The cheapest way to each step: a stop at a breakpoint costs about what a single step does.
fn ways(pcs: &[u64]) -> Vec<Way> {
    let mut hits = HashMap::new();
    let mut ways: Vec<Way> = Vec::with_capacity(pcs.len());
    for (k, pc) in pcs.iter().enumerate() {
        // A string instruction stays at its address for many steps, but hits once.
        let entered = k == 0 || pcs[k - 1] != *pc;
        let count = hits.entry(*pc).or_insert(0);
        *count += usize::from(entered);
        let direct = Way {
            anchor: k,
            hits: *count,
        };
        let best = match ways.last() {
            _ if k == 0 => Way { anchor: 0, hits: 0 },
            Some(last) if !entered || last.hits + (k - last.anchor) <= direct.hits => *last,
            _ => direct,
        };
        ways.push(best);
    }
    // The address of step 0 is not counted as hit there: the victim stands on it already.
    for way in &mut ways {
        if way.anchor > 0 && pcs[way.anchor] == pcs[0] {
            way.hits -= 1;
        }
    }
    ways
}

pub(crate) fn run_to(tracee: &mut Tracee, address: u64) -> Result<(), Error> {
    tracee
        .set_breakpoints(address, None)
        .map_err(Error::NoBreakpoints)?;
    match tracee.run()? {
        Stop::Trap if tracee.pc()? == address => Ok(()),
        stop => Err(ended_early(tracee, stop, 0)),
    }
}

fn ended_early(tracee: &mut Tracee, stop: Stop, step: usize) -> Error {
    match stop {
        Stop::Ended(End::Hung) => Error::Victim(format!(
            "hangs at step {step}; if it sleeps there, the case needs a holder that lets it go"
        )),
        Stop::Ended(end) => Error::Victim(format!(
            "ended before the end mark, at step {step}: {end}{}",
            quote(&tracee.output())
        )),
        stop => Error::Victim(format!("stopped outside of its marks: {stop:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(anchor: usize, hits: usize) -> Way {
        Way { anchor, hits }
    }

    #[test]
    fn straight_code_is_reached_by_one_stop() {
        assert_eq!(ways(&[1, 2, 3]), [way(0, 0), way(0, 0), way(2, 1)]);
    }

    #[test]
    fn loop_is_entered_by_counted_hits_where_that_is_cheaper() {
        // Twice round a loop of four; its second round is stepped from the last fresh address.
        let ways = ways(&[1, 10, 11, 12, 13, 10, 11, 12, 13, 2]);
        assert_eq!(ways[4], way(4, 1));
        assert_eq!(ways[5], way(4, 1));
        assert_eq!(ways[6], way(6, 2));
        assert_eq!(ways[9], way(9, 1));
    }

    #[test]
    fn string_instruction_is_stepped_through() {
        let ways = ways(&[1, 7, 7, 7, 8]);
        assert_eq!(ways[3], way(0, 0));
        assert_eq!(ways[4], way(4, 1));
    }

    #[test]
    fn first_address_counts_no_hit_at_the_start() {
        let ways = ways(&[5, 6, 6, 6, 6, 5]);
        assert_eq!(ways[4], way(0, 0));
        assert_eq!(ways[5], way(5, 1));
    }
}
