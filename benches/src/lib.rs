//! What the shm family costs, beside its rivals, measured on real processes.
//!
//! These benches stand on this crate:
//!
//! - `cargo bench -p shm-benches --bench counter`: four tables. One counter decremented by one, two and four processes; fairness with
//!   long critical sections; the time from the death of a holder until a sleeping waiter owns the lock; and the life of a small segment.
//! - `cargo bench -p shm-benches --bench lock_family`, `--bench value`, `--bench queue`, `--bench dict`,
//!   `--bench containers`: the other locks, values, queues, dictionaries, lists and what is inside of others, a table for each way of
//!   use; each says which of its targets were met.
//! - `cargo bench -p shm-benches --bench uncontended`: lock and unlock by a single thread, with criterion.
//!
//! Every figure is meant to be read as a ratio inside one run: the variants take turns in short slices, each ratio is taken within its
//! round, and what is printed is the median over the rounds. No figure is asserted. What is asserted is correctness: a lock that loses
//! an update, or a robust lock that is not handed over, makes the bench fail.
//!
//! # How it is built
//!
//! | Module | What it does |
//! |---|---|
//! | [`options`], [`counter`] | the command line, and the order of the parts |
//! | [`arena`], [`control`], [`clock`] | the memory that the processes of one run share, orders and answers in it, and one clock for all |
//! | [`process`], [`crew`], [`worker`] | child processes by re-execution of the bench, their parent's side and their own |
//! | [`variants`] | one file for each contender of `counter` |
//! | [`part`] | one file for each table of `counter` |
//! | [`suite`], [`section`], [`company`], [`workload`], [`bell`] | the same for the benches whose tables are sections: rows, targets, peers |
//! | [`family`], [`values`], [`queues`], [`dicts`], [`containers`] | their sections, and the contenders in them |
//! | [`shared`] | what the threads of one process find under a name |
//! | [`python`] | contenders of Python |
//! | [`calls`], [`statistics`], [`table`], [`machine`] | system calls, medians, the printed table, what the run ran on |
//!
//! # What is left behind
//!
//! Nothing. Children die with their parent, and a janitor process that outlives it removes the run's names from `/dev/shm`, also when
//! the parent was killed. One rival is apart: a run killed while two ends of `ipc-channel` meet leaves a socket in the temporary
//! directory.

pub mod arena;
pub mod bell;
pub mod calls;
pub mod clock;
pub mod company;
pub mod containers;
pub mod control;
pub mod counter;
pub mod crew;
pub mod dicts;
pub mod family;
pub mod machine;
pub mod options;
pub mod part;
pub mod process;
pub mod python;
pub mod queues;
pub mod section;
pub mod shared;
pub mod statistics;
pub mod suite;
pub mod table;
pub mod values;
pub mod variants;
pub mod worker;
pub mod workload;

/// The examples of the workspace's README; this crate sees all that they need.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExamples;
