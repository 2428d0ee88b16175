//! Was there an order? Histories of concurrent operations, recorded by processes that may be killed, checked against a
//! sequential model.
//!
//! 1. Each process appends its operations to a file of its own with a [`Recorder`];
//! 2. when they have ended, or are dead, [`collect`] makes one [`History`] of the files;
//! 3. [`check`] (or [`check_by_key`]) looks for an order of the operations, in accord with real time, in which a
//!    [`Model`] gives the results that were recorded.
//!
//! An operation whose process was killed in it is pending: it may have taken effect, at any time since it was
//! invoked, or never. The checker tries both. A search that outgrows its [`Budget`] is [`Verdict::Undecided`], which is
//! not a pass.
//!
//! ```
//! use shm_testing::linearizability::{Budget, History, Operation, Register, RegisterOp, RegisterRet, check};
//!
//! let killed = Operation::pending(0, 0, RegisterOp::Write(7));
//! let new = Operation::returned(1, 10, RegisterOp::Read, 11, RegisterRet::Value(7));
//! let old = Operation::returned(1, 20, RegisterOp::Read, 21, RegisterRet::Value(0));
//!
//! // Seen, so it took effect.
//! let history = History::new(vec![killed.clone(), new.clone()])?;
//! assert!(check(&Register::default(), &history, Budget::default()).is_linearizable());
//!
//! // Never seen, so it took none.
//! let history = History::new(vec![killed.clone(), old.clone()])?;
//! assert!(check(&Register::default(), &history, Budget::default()).is_linearizable());
//!
//! // Seen, and then not: no order explains that.
//! let history = History::new(vec![killed, new, old])?;
//! assert!(!check(&Register::default(), &history, Budget::default()).is_linearizable());
//! # Ok::<(), shm_testing::linearizability::Malformed>(())
//! ```

mod checker;
mod history;
mod list;
mod locked_counter;
mod map;
mod model;
mod queue;
mod recorder;
mod register;
mod report;

pub use checker::{Budget, Verdict, check, check_by_key};
pub use history::{History, Malformed, Operation, Return};
pub use list::{List, ListOp, ListRet};
pub use locked_counter::{LockedCounter, LockedCounterOp, LockedCounterRet, LockedCounterState};
pub use map::{Map, MapAction, MapOp, MapRet};
pub use model::{Model, Partitioned};
pub use queue::{Queue, QueueOp, QueueRet};
pub use recorder::{CollectError, Invocation, Recorder, Words, collect, collect_windows, snapshot};
pub use register::{Register, RegisterOp, RegisterRet};
pub use report::Failure;
