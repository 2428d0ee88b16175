//! A process of the tour, from its own side: what it is to do, and what it says.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::getppid;
use serde::{Deserialize, Serialize};

use super::{bakery, containers, counter, death, dict, permits, tickets, value};

/// How the tour starts a child.
#[derive(Debug, Args)]
pub(crate) struct ChildOptions {
    /// The tour's process id
    parent: i32,
    /// The child's number
    number: usize,
    /// The role, as JSON
    #[arg(value_parser = parse_role)]
    role: Role,
}

fn parse_role(text: &str) -> Result<Role, serde_json::Error> {
    serde_json::from_str(text)
}

/// What a child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Role {
    /// Counts the number `name` down, `times` times.
    Count {
        how: counter::How,
        name: String,
        times: u64,
    },
    /// Buys a ticket in the hall `name`, as buyer number `buyer`.
    Buy { name: String, buyer: u32 },
    /// Sets the number and negates the array.
    Write { number: String, array: String },
    /// Locks the pair `name`, takes `amount` off one side, and waits for its death.
    Hold { name: String, amount: i64 },
    /// Waits for the lock of the pair `name`, and repairs it.
    Wait { name: String },
    /// Takes a permit of the semaphore `name` and keeps it.
    Keep { name: String },
    /// Waits for a permit of the semaphore `name`.
    Want { name: String },
    /// Registers at the barrier `name`, and waits there if it `comes`.
    Meet { name: String, comes: bool },
    /// Bakes buns for the counter `name`, meets the other bakers at the `oven`, and waits until all are eaten.
    Bake {
        name: String,
        oven: String,
        baker: u32,
    },
    /// Eats buns from the counter `name`; if it is `doomed`, it is killed at the first bite.
    Eat { name: String, doomed: bool },
    /// Takes one off the number in the dictionary `name`, `times` times.
    Decrement {
        call: dict::Call,
        name: String,
        times: u64,
    },
    /// Begins to update the number in the dictionary `name`, and waits for its death.
    Update { name: String },
    /// Changes a dictionary, a list, and a dictionary with a list in it.
    Change { names: [String; 3] },
    /// Transfers between the accounts in the dictionary `name` until it is killed.
    Transfer { name: String },
}

impl Role {
    /// What people call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Count { .. } => "counting",
            Self::Buy { .. } => "buying",
            Self::Write { .. } => "writing",
            Self::Hold { .. } => "holding the lock",
            Self::Wait { .. } => "waiting for the lock",
            Self::Keep { .. } => "keeping a permit",
            Self::Want { .. } => "waiting for a permit",
            Self::Meet { .. } => "meeting at the barrier",
            Self::Bake { .. } => "baking",
            Self::Eat { .. } => "eating",
            Self::Decrement { .. } => "taking one off",
            Self::Update { .. } => "updating",
            Self::Change { .. } => "changing containers",
            Self::Transfer { .. } => "transferring",
        }
    }
}

/// What a child says. Times are [`now`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Said {
    /// It is at the start line.
    Ready,
    /// It counted.
    Counted { began: u64, ended: u64 },
    /// It got a ticket, or none.
    Served {
        ticket: Option<u32>,
        began: u64,
        ended: u64,
    },
    /// It did what it was to do.
    Finished,
    /// It holds the lock, in the middle of a change; or a permit; or a place at a barrier.
    Holding,
    /// It is about to wait.
    Waiting,
    /// Its wait was ended by a death.
    Waited(permits::Told),
    /// It has put its last bun on the counter.
    Baked,
    /// It has eaten a bun.
    Ate(bakery::Bite),
    /// It has a bun in its mouth.
    Bit(bakery::Bite),
    /// All buns are eaten.
    Joined { at: u64 },
    /// It has the lock.
    Took(death::Taking),
    /// It could not do its part.
    Failed { why: String },
}

impl Said {
    /// Whether it ends after saying so.
    pub(super) fn is_last(&self) -> bool {
        !matches!(
            self,
            Self::Ready | Self::Holding | Self::Waiting | Self::Baked | Self::Ate(_) | Self::Bit(_)
        )
    }
}

/// A line from a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) from: usize,
    pub(super) said: Said,
}

/// What a role may fail with.
pub(super) type Failure = Box<dyn std::error::Error>;

/// The child, to its role.
#[derive(Debug)]
pub(super) struct Actor {
    number: usize,
}

impl Actor {
    /// Tells the tour.
    pub(super) fn say(&self, said: Said) -> Result<(), Failure> {
        let from = self.number;
        let mut line = serde_json::to_string(&Line { from, said })?;
        line.push('\n');
        // One write of less than PIPE_BUF: lines of several children do not mix.
        io::stdout().write_all(line.as_bytes())?;
        Ok(())
    }

    /// Says that it is ready, and waits until the tour lets all go.
    pub(super) fn wait_for_start(&self) -> Result<(), Failure> {
        self.say(Said::Ready)?;
        self.wait_for_gate()
    }

    /// Sleeps until the start line is closed; nothing is ever written to it.
    pub(super) fn wait_for_gate(&self) -> Result<(), Failure> {
        io::stdin().read_exact(&mut [0]).or_else(|error| {
            let closed = error.kind() == io::ErrorKind::UnexpectedEof;
            if closed { Ok(()) } else { Err(error.into()) }
        })
    }
}

/// Plays a role.
pub(crate) fn run_child(options: &ChildOptions) -> ExitCode {
    // First of all: not to outlive the tour. If it died before the first line, the second sees it.
    let bound = prctl::set_pdeathsig(Signal::SIGKILL);
    if bound.is_err() || getppid().as_raw() != options.parent {
        eprintln!("shm: tour-child is started by `shm tour` only");
        return ExitCode::FAILURE;
    }
    let actor = Actor {
        number: options.number,
    };
    let done = match &options.role {
        Role::Count { how, name, times } => counter::count(&actor, *how, name, *times),
        Role::Buy { name, buyer } => tickets::buy(&actor, name, *buyer),
        Role::Write { number, array } => value::write(&actor, number, array),
        Role::Hold { name, amount } => death::hold(&actor, name, *amount),
        Role::Wait { name } => death::wait(&actor, name),
        Role::Keep { name } => permits::keep(&actor, name),
        Role::Want { name } => permits::want(&actor, name),
        Role::Meet { name, comes } => permits::meet(&actor, name, *comes),
        Role::Bake { name, oven, baker } => bakery::bake(&actor, name, oven, *baker),
        Role::Eat { name, doomed } => bakery::eat(&actor, name, *doomed),
        Role::Decrement { call, name, times } => dict::decrement(&actor, *call, name, *times),
        Role::Update { name } => dict::update(&actor, name),
        Role::Change { names } => containers::change(&actor, names),
        Role::Transfer { name } => containers::transfer(name),
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    let why = error.to_string();
    // If nobody hears it, nobody is left to care.
    let _ = actor.say(Said::Failed { why });
    ExitCode::FAILURE
}

/// CLOCK_MONOTONIC in nanoseconds: the same for all processes, whatever the wall clock does.
pub(super) fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}
