//! The parent's side of a crew: peers that live as long as the run and take turns with all contenders.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::arena::Arena;
use crate::clock::now;
use crate::control::{Order, Task, no_answer};
use crate::process::{Peer, Role, Ties};
use crate::variants::{ALL, Contender, Entry, Peers};
use crate::worker::site;

/// Processes, and threads of the one host process, that can work at a time.
pub const STRENGTH: usize = 4;

/// What the counter holds at the start of a slice; far more than a slice can take away.
const START: u64 = 1 << 40;

/// Seconds until peers that do not answer are given up, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

/// Peers, and all contenders that they work with.
#[derive(Debug)]
pub struct Crew {
    arena: Arena,
    peers: Vec<Peer>,
    made: Vec<Made>,
}

/// Keeps what the parent made until the run ends.
struct Made(#[allow(dead_code, reason = "kept for its drop")] Box<dyn Contender>);

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made")
    }
}

/// What a slice found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// From the first peer's begin to the stop, in nanoseconds.
    pub wall: u64,
    /// Operations of each peer.
    pub operations: Vec<u64>,
    /// The longest wait of all, in nanoseconds.
    pub longest_wait: u64,
    /// Decrements that were done and are not in the counter.
    pub lost: u64,
}

impl Slice {
    /// Operations of all peers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.operations.iter().sum()
    }

    /// Nanoseconds of wall time for each operation of whichever peer.
    #[must_use]
    pub fn nanoseconds(&self) -> f64 {
        self.wall as f64 / self.total() as f64
    }
}

impl Crew {
    /// Makes all contenders and starts the peers.
    ///
    /// # Errors
    ///
    /// What the system or a contender says.
    pub fn start(run: &str) -> io::Result<Self> {
        let arena = Arena::create(ALL.len())?;
        let make =
            |(number, entry): (usize, &Entry)| (entry.create)(&site(&arena, run, number)).map(Made);
        let made = ALL
            .iter()
            .enumerate()
            .map(make)
            .collect::<io::Result<_>>()?;
        let ties = Ties {
            parent: std::process::id(),
            arena: arena.fd(),
            run: run.to_owned(),
        };
        let workers = (0..STRENGTH).map(|slot| Role::Worker {
            ties: ties.clone(),
            slot,
        });
        let host = Role::Host {
            ties: ties.clone(),
            first: STRENGTH,
            threads: STRENGTH,
        };
        let peers = workers
            .chain([host])
            .map(|role| Peer::start(&role))
            .collect::<io::Result<_>>()?;
        Ok(Self { arena, peers, made })
    }

    /// Lets `strength` peers do `task` with a contender for a while, and counts what is missing from the counter afterwards.
    ///
    /// # Errors
    ///
    /// `TimedOut` if a peer does not answer; `Other` if a peer ended.
    pub fn slice(
        &mut self,
        contender: usize,
        strength: usize,
        task: Task,
        length: Duration,
    ) -> io::Result<Slice> {
        let first = match ALL[contender].peers {
            Peers::Processes => 0,
            Peers::Threads => STRENGTH,
        };
        let control = self.arena.control();
        let slots = first..first + strength;

        // Relaxed, here and below: orders and answers publish the slots.
        control.slot(first).value.store(START, Relaxed);
        self.order(contender, first..first + 1, Task::Set)?;

        self.give(contender, slots.clone(), task);
        thread::sleep(length);
        control.stop();
        let stopped = now();
        self.wait_for(contender, strength)?;
        let seen = || slots.clone().map(|slot| control.slot(slot));
        let began = seen()
            .map(|slot| slot.began.load(Relaxed))
            .min()
            .unwrap_or(stopped);
        let operations: Vec<u64> = seen().map(|slot| slot.operations.load(Relaxed)).collect();
        let longest_wait = seen()
            .map(|slot| slot.longest_wait.load(Relaxed))
            .max()
            .unwrap_or(0);

        let lost = match task {
            Task::Count => {
                self.order(contender, first..first + 1, Task::Get)?;
                let left = control.slot(first).value.load(Relaxed);
                operations.iter().sum::<u64>() - (START - left)
            }
            _ => 0,
        };
        Ok(Slice {
            wall: stopped.saturating_sub(began),
            operations,
            longest_wait,
            lost,
        })
    }

    fn order(
        &mut self,
        contender: usize,
        slots: std::ops::Range<usize>,
        task: Task,
    ) -> io::Result<()> {
        let answers = slots.len();
        self.give(contender, slots, task);
        self.wait_for(contender, answers)
    }

    fn give(&self, contender: usize, slots: std::ops::Range<usize>, task: Task) {
        let contender = u8::try_from(contender).expect("fewer than 256 contenders");
        let slots = slots.fold(0, |bits, slot| bits | 1 << slot);
        self.arena.control().give(Order {
            task,
            contender,
            slots,
        });
    }

    fn wait_for(&mut self, contender: usize, answers: usize) -> io::Result<()> {
        let deadline = now() + PATIENCE;
        while !self.arena.control().wait_for(answers, now() + 100_000_000) {
            self.peers.iter_mut().try_for_each(Peer::still_runs)?;
            if now() > deadline {
                return Err(no_answer(ALL[contender].name));
            }
        }
        Ok(())
    }

    /// How many contenders this crew has.
    #[must_use]
    pub fn contenders(&self) -> usize {
        self.made.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Slice;

    #[test]
    fn nanoseconds_are_wall_time_over_the_operations_of_all() {
        let slice = Slice {
            wall: 3000,
            operations: vec![100, 200],
            longest_wait: 0,
            lost: 0,
        };
        assert_eq!(slice.total(), 300);
        assert_eq!(slice.nanoseconds(), 10.0);
    }
}
