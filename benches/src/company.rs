//! The peers of one section: their parent's side, and their own.

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::arena::Arena;
use crate::calls::Calls;
use crate::clock::now;
use crate::control::{Order, Task, UNKNOWN, no_answer};
use crate::process::{Peer, Role, Ties, pin_among, processors};
use crate::section::Section;
use crate::suite::Suite;
use crate::variants::Peers;
use crate::worker::site;
use crate::workload::{Done, Player};

/// Processes, and threads of the one host process, that can work at a time.
pub const STRENGTH: usize = 4;

/// Nanoseconds until peers that do not answer are given up.
const PATIENCE: u64 = 120_000_000_000;

/// Peers, and what the parent made for them.
pub struct Company {
    arena: Arena,
    section: Section,
    peers: Vec<Peer>,
    _made: Vec<Box<dyn Any>>,
}

impl std::fmt::Debug for Company {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Company").field(&self.section.key).finish()
    }
}

/// What a slice found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// From the first peer's begin to the last one's end, less what the most idle one prepared, in nanoseconds.
    pub wall: u64,
    /// What all peers did: sums, but of the timed operations those of the peer that timed them.
    pub done: Done,
    /// How often a peer went to sleep.
    pub sleeps: u64,
    /// System calls of all peers, if they were counted.
    pub calls: Option<u64>,
}

impl Slice {
    /// Nanoseconds of wall time for each operation of whichever peer.
    #[must_use]
    pub fn nanoseconds(&self) -> f64 {
        self.wall as f64 / self.done.operations as f64
    }
}

impl Company {
    /// Makes all that a section needs and starts its peers.
    ///
    /// # Errors
    ///
    /// What the system or a library says.
    pub fn start(run: &str, suite: Suite, section: Section) -> io::Result<Self> {
        let arena = Arena::create(section.rows.len())?;
        let run = format!("{run}{}.", section.key);
        let make = |(number, row): (usize, &crate::workload::Workload)| {
            (row.create)(&site(&arena, &run, number))
        };
        let made = section
            .rows
            .iter()
            .enumerate()
            .map(make)
            .collect::<io::Result<_>>()?;
        let seats = |first, threads| Role::Seats {
            ties: Ties {
                parent: std::process::id(),
                arena: arena.fd(),
                run: run.clone(),
            },
            suite,
            section: section.key.to_owned(),
            first,
            threads,
        };
        let peers = (0..STRENGTH)
            .map(|slot| seats(slot, 1))
            .chain([seats(STRENGTH, STRENGTH)])
            .map(|role| Peer::start(&role))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            arena,
            section,
            peers,
            _made: made,
        })
    }

    /// Lets the peers of a row work for a while.
    ///
    /// # Errors
    ///
    /// `TimedOut` if a peer does not answer; `Other` if a peer ended.
    pub fn slice(&mut self, row: usize, length: Duration) -> io::Result<Slice> {
        self.work(row, length, Task::Count)
    }

    /// As [`slice`](Self::slice), with the system calls counted, where that is permitted: its times are not those of
    /// an ordinary slice.
    ///
    /// # Errors
    ///
    /// As [`slice`](Self::slice).
    pub fn slice_with_calls(&mut self, row: usize, length: Duration) -> io::Result<Slice> {
        self.work(row, length, Task::CountCalls)
    }

    fn work(&mut self, row: usize, length: Duration, task: Task) -> io::Result<Slice> {
        let workload = self.section.rows[row];
        let first = match workload.peers {
            Peers::Processes => 0,
            Peers::Threads => STRENGTH,
        };
        let slots = first..first + workload.seats;
        let control = self.arena.control();
        control.give(Order {
            task,
            contender: u8::try_from(row).expect("fewer than 256 rows"),
            slots: slots.clone().fold(0, |bits, slot| bits | 1 << slot),
        });
        thread::sleep(length);
        control.stop();
        self.wait_for(workload.seats, workload.name)?;

        let mut all = Slice {
            calls: Some(0),
            ..Slice::default()
        };
        let (mut began, mut ended) = (u64::MAX, 0);
        for slot in slots.map(|slot| control.slot(slot)) {
            // Relaxed, all: published by the answers.
            began = began.min(slot.began.load(Relaxed));
            ended = ended.max(slot.ended.load(Relaxed));
            all.done.operations += slot.operations.load(Relaxed);
            all.done.balance += slot.balance.load(Relaxed).cast_signed();
            all.done.faults += slot.faults.load(Relaxed);
            all.done.median = all.done.median.max(slot.median.load(Relaxed));
            all.done.tail = all.done.tail.max(slot.tail.load(Relaxed));
            all.done.idle = all.done.idle.max(slot.idle.load(Relaxed));
            all.sleeps += slot.sleeps.load(Relaxed);
            let calls = Some(slot.calls.load(Relaxed)).filter(|calls| *calls != UNKNOWN);
            all.calls = all.calls.zip(calls).map(|(all, one)| all + one);
        }
        all.wall = (ended - began).saturating_sub(all.done.idle);
        Ok(all)
    }

    fn wait_for(&mut self, answers: usize, whose: &str) -> io::Result<()> {
        let deadline = now() + PATIENCE;
        while !self.arena.control().wait_for(answers, now() + 100_000_000) {
            self.peers.iter_mut().try_for_each(Peer::still_runs)?;
            if now() > deadline {
                return Err(no_answer(whose));
            }
        }
        Ok(())
    }

    /// The section.
    #[must_use]
    pub fn section(&self) -> &Section {
        &self.section
    }
}

/// The peers' side: follows orders in so many slots, a thread in each, for ever.
///
/// # Errors
///
/// What the system or a library says, if there is one thread; with several the process ends.
pub fn sit(
    arena: &Arena,
    run: &str,
    section: &Section,
    first: usize,
    threads: usize,
) -> io::Result<()> {
    if threads == 1 {
        return follow(arena, run, section, first, first).map(|never| match never {});
    }
    thread::scope(|scope| {
        for seat in 0..threads {
            scope.spawn(move || {
                let Err(error) = follow(arena, run, section, first + seat, seat);
                // The others would go on waiting for orders: the parent must see the end of all.
                eprintln!("thread {seat}: {error}");
                std::process::exit(1);
            });
        }
    });
    Ok(())
}

fn follow(
    arena: &Arena,
    run: &str,
    section: &Section,
    slot: usize,
    seat: usize,
) -> io::Result<Infallible> {
    let allowed = processors();
    let control = arena.control();
    let mine = control.slot(slot);
    let mut opened: Vec<Option<Box<dyn Player>>> = section.rows.iter().map(|_| None).collect();
    let mut last = 0;
    loop {
        let order = control.take(slot, &mut last);
        let number = usize::from(order.contender);
        let workload = section
            .rows
            .get(number)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        pin_among(&allowed, if workload.together { 0 } else { seat })?;
        let player = match &mut opened[number] {
            Some(player) => player,
            empty => empty.insert((workload.open)(&site(arena, run, number), seat)?),
        };
        let slept = sleeps()?;
        let counting = match order.task {
            // Where it is not permitted, the parent says so.
            Task::CountCalls => Calls::begin().ok(),
            _ => None,
        };
        // Relaxed, all: published by the answer.
        mine.began.store(now(), Relaxed);
        let done = player.play(&control.stop);
        mine.ended.store(now(), Relaxed);
        let calls = counting.map(Calls::count).transpose()?;
        mine.calls.store(calls.unwrap_or(UNKNOWN), Relaxed);
        mine.sleeps.store(sleeps()? - slept, Relaxed);
        mine.operations.store(done.operations, Relaxed);
        mine.balance.store(done.balance.cast_unsigned(), Relaxed);
        mine.faults.store(done.faults, Relaxed);
        mine.idle.store(done.idle, Relaxed);
        mine.median.store(done.median, Relaxed);
        mine.tail.store(done.tail, Relaxed);
        control.answer();
    }
}

/// Voluntary context switches of this thread.
fn sleeps() -> io::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok(usage.voluntary_context_switches().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::{Done, Slice};

    #[test]
    fn nanoseconds_are_wall_time_over_the_operations_of_all() {
        let slice = Slice {
            wall: 3000,
            done: Done {
                operations: 300,
                ..Done::default()
            },
            ..Slice::default()
        };
        assert_eq!(slice.nanoseconds(), 10.0);
    }
}
