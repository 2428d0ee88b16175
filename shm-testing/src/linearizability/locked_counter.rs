//! A counter under a robust mutex: the model of a lock whose owner may die.

use std::collections::BTreeSet;

use super::{Model, Words};

/// A counter that is 0 at first, and the mutex that protects it.
///
/// Two ways to record it; one history uses one of them:
///
/// - a whole critical section as one operation, [`LockedCounterOp::Add`]: cheap to check, and a process that is killed
///   anywhere in it leaves one pending operation;
/// - lock, reads, writes and unlock each for itself: then mutual exclusion and the answers of `try_lock` are checked too.
///   Whoever saw a process die adds a [`LockedCounterOp::Die`] in its name, which returned when the death was complete
///   (the process was waited for), and is pending if nobody can say when.
///
/// `OwnerDied` is an answer that must be true: it is given once for each owner that died inside, and never otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct LockedCounter;

/// The state of a [`LockedCounter`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LockedCounterState {
    /// The counter.
    pub value: u64,
    /// Who holds the lock.
    pub holder: Option<u32>,
    /// The last holder died in it, and nobody has been told yet; then `holder` is `None`.
    pub orphaned: bool,
    /// Who can take it no more.
    pub dead: BTreeSet<u32>,
}

/// Operations on a [`LockedCounter`]; all but `Add` name the process that performs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockedCounterOp {
    /// Lock, add, unlock; returns [`LockedCounterRet::Added`].
    Add(u64),
    /// Waits; returns [`LockedCounterRet::Acquired`] or [`LockedCounterRet::OwnerDied`].
    Lock(u32),
    /// As `Lock`, or returns [`LockedCounterRet::WouldBlock`]. Also the timed form, where that is the expired time.
    TryLock(u32),
    /// Returns [`LockedCounterRet::Value`].
    Read(u32),
    /// Returns [`LockedCounterRet::Done`].
    Write(u32, u64),
    /// Returns [`LockedCounterRet::Done`].
    Unlock(u32),
    /// The process dies; returns [`LockedCounterRet::Done`] in the eyes of whoever waited for it.
    Die(u32),
}

/// Results of a [`LockedCounterOp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockedCounterRet {
    /// The section is over.
    Added {
        /// The counter before it.
        before: u64,
        /// The lock said that its last owner died.
        owner_died: bool,
    },
    /// The lock is ours.
    Acquired,
    /// The lock is ours, and its last owner died holding it.
    OwnerDied,
    /// The lock was held.
    WouldBlock,
    /// The counter.
    Value(u64),
    /// It was done.
    Done,
}

impl LockedCounterState {
    fn is_free_for(&self, process: u32) -> bool {
        self.holder.is_none() && !self.dead.contains(&process)
    }

    fn is_held_by(&self, process: u32) -> bool {
        self.holder == Some(process)
    }

    fn locked_by(&self, process: u32) -> (LockedCounterRet, Self) {
        let told = match self.orphaned {
            true => LockedCounterRet::OwnerDied,
            false => LockedCounterRet::Acquired,
        };
        let locked = Self {
            holder: Some(process),
            orphaned: false,
            ..self.clone()
        };
        (told, locked)
    }

    fn unlocked(&self) -> Self {
        Self {
            holder: None,
            ..self.clone()
        }
    }

    fn with_value(&self, value: u64) -> Self {
        Self {
            value,
            ..self.clone()
        }
    }

    fn added(&self, n: u64) -> Self {
        Self {
            orphaned: false,
            ..self.with_value(self.value.wrapping_add(n))
        }
    }

    fn orphan(&self) -> Self {
        Self {
            holder: None,
            orphaned: true,
            ..self.clone()
        }
    }

    fn after_death_of(&self, process: u32) -> Self {
        let mut next = match self.is_held_by(process) {
            true => self.orphan(),
            false => self.clone(),
        };
        next.dead.insert(process);
        next
    }
}

impl Model for LockedCounter {
    type State = LockedCounterState;
    type Op = LockedCounterOp;
    type Ret = LockedCounterRet;

    fn init(&self) -> LockedCounterState {
        LockedCounterState::default()
    }

    fn step(
        &self,
        state: &LockedCounterState,
        op: &LockedCounterOp,
    ) -> impl IntoIterator<Item = (LockedCounterRet, LockedCounterState)> {
        use LockedCounterOp::{Add, Die, Lock, Read, TryLock, Unlock, Write};
        use LockedCounterRet::{Added, Done, Value, WouldBlock};
        match *op {
            Add(n) if state.holder.is_none() => {
                let (before, owner_died) = (state.value, state.orphaned);
                Some((Added { before, owner_died }, state.added(n)))
            }
            Lock(by) | TryLock(by) if state.is_free_for(by) => Some(state.locked_by(by)),
            TryLock(by) if state.holder.is_some() && !state.dead.contains(&by) => {
                Some((WouldBlock, state.clone()))
            }
            Read(by) if state.is_held_by(by) => Some((Value(state.value), state.clone())),
            Write(by, value) if state.is_held_by(by) => Some((Done, state.with_value(value))),
            Unlock(by) if state.is_held_by(by) => Some((Done, state.unlocked())),
            Die(process) => Some((Done, state.after_death_of(process))),
            Add(_) | Lock(_) | TryLock(_) | Read(_) | Write(..) | Unlock(_) => None,
        }
    }

    /// A section that is one operation also holds the death in it: an orphan, with the addition or without.
    fn crash(
        &self,
        state: &LockedCounterState,
        op: &LockedCounterOp,
    ) -> impl IntoIterator<Item = LockedCounterState> {
        let died_inside = match *op {
            LockedCounterOp::Add(n) if state.holder.is_none() => {
                [Some(state.added(n).orphan()), Some(state.orphan())]
            }
            _ => [None, None],
        };
        let ended = self.step(state, op).into_iter().map(|(_, next)| next);
        died_inside.into_iter().flatten().chain(ended)
    }
}

impl Words for LockedCounterOp {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            LockedCounterOp::Add(n) => [0, n, 0, 0],
            LockedCounterOp::Lock(by) => [1, by.into(), 0, 0],
            LockedCounterOp::TryLock(by) => [2, by.into(), 0, 0],
            LockedCounterOp::Read(by) => [3, by.into(), 0, 0],
            LockedCounterOp::Write(by, value) => [4, by.into(), value, 0],
            LockedCounterOp::Unlock(by) => [5, by.into(), 0, 0],
            LockedCounterOp::Die(by) => [6, by.into(), 0, 0],
        }
    }

    fn from_words([code, first, second, _]: [u64; 4]) -> Option<Self> {
        let by = u32::try_from(first);
        Some(match code {
            0 => LockedCounterOp::Add(first),
            1 => LockedCounterOp::Lock(by.ok()?),
            2 => LockedCounterOp::TryLock(by.ok()?),
            3 => LockedCounterOp::Read(by.ok()?),
            4 => LockedCounterOp::Write(by.ok()?, second),
            5 => LockedCounterOp::Unlock(by.ok()?),
            6 => LockedCounterOp::Die(by.ok()?),
            _ => return None,
        })
    }
}

impl Words for LockedCounterRet {
    fn to_words(&self) -> [u64; 4] {
        match *self {
            LockedCounterRet::Added { before, owner_died } => [0, before, owner_died.into(), 0],
            LockedCounterRet::Acquired => [1, 0, 0, 0],
            LockedCounterRet::OwnerDied => [2, 0, 0, 0],
            LockedCounterRet::WouldBlock => [3, 0, 0, 0],
            LockedCounterRet::Value(value) => [4, value, 0, 0],
            LockedCounterRet::Done => [5, 0, 0, 0],
        }
    }

    fn from_words(words: [u64; 4]) -> Option<Self> {
        Some(match words {
            [0, before, owner_died @ (0 | 1), _] => LockedCounterRet::Added {
                before,
                owner_died: owner_died == 1,
            },
            [1, ..] => LockedCounterRet::Acquired,
            [2, ..] => LockedCounterRet::OwnerDied,
            [3, ..] => LockedCounterRet::WouldBlock,
            [4, value, ..] => LockedCounterRet::Value(value),
            [5, ..] => LockedCounterRet::Done,
            _ => return None,
        })
    }
}
