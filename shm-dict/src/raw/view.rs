//! Looks without a lock: nothing is stored in shared memory, nobody is waited for.
//!
//! A reader looks at the shard's generation, follows the words, copies, and looks again. Where the
//! generation has not changed, nothing that it followed was cut off meanwhile, so nothing was written over.
//! A word is believed only after such a look, so that a block that was never given out is not touched.

use shm_core::sync::{Ordering, fence};

use super::path::{Path, Step, Way};
use super::{Container, Damaged, Fault, Home, RawDict, Shard, TableWord};

/// Looks that may be in vain, since writers cut something off meanwhile.
pub(super) const TRIES: usize = 32;

/// What a look-up without a lock gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked<R> {
    /// It is there; what was taken of it.
    Found(R),
    /// It was not there, at some instant of the call.
    Absent,
    /// The container was not there.
    Gone,
    /// Writers were at work each time.
    Disturbed,
}

/// Why a look gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Something was cut off meanwhile.
    Disturbed,
    /// The container is not there.
    Gone,
    /// Bytes that make no sense; it is damage if they were nobody else's meanwhile.
    Damaged(Damaged),
}

impl From<Damaged> for Missed {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// One look at a shard.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) dict: &'a RawDict,
    pub(super) shard: &'a Shard,
    generation: u64,
}

impl<'a> View<'a> {
    #[inline]
    pub(super) fn at(dict: &'a RawDict, shard: &'a Shard) -> Self {
        // PAIR dict-generation: Acquire; what is read after it is at least as new.
        let generation = shard.generation.load(Ordering::Acquire);
        Self {
            dict,
            shard,
            generation,
        }
    }

    /// Whether nothing was cut off since the look began.
    #[inline]
    fn is_valid(&self) -> bool {
        if self.dict.broken(Fault::DoesNotValidate) {
            return true;
        }
        // PAIR dict-generation: behind the fence, whatever was read that is newer than a cut shows the cut.
        fence(Ordering::Acquire);
        self.shard.generation.load(Ordering::Relaxed) == self.generation
    }

    /// Before a word is believed.
    #[inline]
    pub(super) fn ensure_valid(&self) -> Result<(), Missed> {
        match self.is_valid() {
            true => Ok(()),
            false => Err(Missed::Disturbed),
        }
    }

    /// What the look gave, if it was not disturbed.
    #[inline]
    pub(super) fn judge<R>(
        &self,
        result: Result<Option<R>, Missed>,
    ) -> Option<Result<Looked<R>, Damaged>> {
        if !self.is_valid() {
            return None;
        }
        match result {
            Ok(Some(found)) => Some(Ok(Looked::Found(found))),
            Ok(None) => Some(Ok(Looked::Absent)),
            Err(Missed::Gone) => Some(Ok(Looked::Gone)),
            Err(Missed::Damaged(damaged)) => Some(Err(damaged)),
            Err(Missed::Disturbed) => None,
        }
    }

    /// The shard's own root.
    #[inline]
    pub(super) fn top(&self) -> Home<'a> {
        Home {
            root: &self.shard.front.0.table,
            count: &self.shard.count,
            tombstones: &self.shard.tombstones,
            epoch: 0,
            depth: 0,
        }
    }

    /// The root at the end of a way.
    #[inline]
    pub(super) fn home(&self, path: Option<&Path>) -> Result<Home<'a>, Missed> {
        match path {
            None => Ok(self.top()),
            Some(path) => self.follow(path),
        }
    }

    fn follow(&self, path: &Path) -> Result<Home<'a>, Missed> {
        let mut home = self.top();
        for step in &path.steps {
            let container = self.container(home, step)?.ok_or(Missed::Gone)?;
            if container.id() != step.id && !self.dict.broken(Fault::ForgetsTheNumber) {
                return Err(Missed::Gone);
            }
            home = container.home()?;
        }
        Ok(home)
    }

    fn container(&self, home: Home<'a>, step: &Step) -> Result<Option<Container<'a>>, Missed> {
        match &step.way {
            Way::Key { hash, key } => {
                let record = self.record(home, *hash, key)?;
                Ok(record.and_then(|record| record.container()))
            }
            Way::Element(near) => self.container_in_list(home, step.id, near),
        }
    }

    /// The table word of the present epoch.
    #[inline]
    pub(super) fn root(&self, home: Home<'a>) -> TableWord {
        // PAIR dict-entry: Acquire sees the table's words; PAIR dict-epoch: the epoch is at least the table's.
        let word = TableWord(home.root.load(Ordering::Acquire));
        let epoch = match home.depth {
            0 => self.dict.control.epoch.load(Ordering::Acquire),
            _ => 0,
        };
        match word.is_of(epoch) {
            true => word,
            false => TableWord::none(epoch),
        }
    }
}
