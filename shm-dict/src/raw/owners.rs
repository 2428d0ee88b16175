//! Which shard each chunk of the heap belongs to: a word for each, taken by compare-and-swap.
//!
//! ```text
//! 31 backed: the chunk has memory   23..16 use: 0 none, 1.. blocks of a class, 254 head of a run, 255 rest of one
//! 15..0 shard + 1; 0: free
//! ```
//!
//! The words are truth, not a cache: what is killed between taking a chunk and using it leaves a chunk that
//! belongs to its shard, in which the shard's next rebuild finds nothing.
//!
//! Memory is allocated before the first touch: chunk by chunk, and for the words themselves page by page
//! (`frontier`). So a full file system is an answer here and not a SIGBUS later.

use core::fmt;

use shm_core::sync::Ordering;

use super::{CLASSES, Fault, RawDict, Rebuilt, Refused};

const BACKED: u32 = 1 << 31;
const SHARD_MASK: u32 = 0xFFFF;
const HEAD: u32 = 254;
const REST: u32 = 255;

/// The most chunks that are given memory before somebody needs them.
const AHEAD: u32 = 64;
/// Owners whose words share a page.
const STEP: u32 = 1024;

/// What a chunk is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Blocks of this class.
    Blocks(usize),
    /// The first of several chunks that are one block.
    Head,
    /// Another of them.
    Rest,
}

impl Use {
    const fn to_bits(self) -> u32 {
        match self {
            Self::Blocks(class) => class as u32 + 1,
            Self::Head => HEAD,
            Self::Rest => REST,
        }
    }

    const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            HEAD => Some(Self::Head),
            REST => Some(Self::Rest),
            0 => None,
            class if class as usize <= CLASSES => Some(Self::Blocks(class as usize - 1)),
            _ => None,
        }
    }
}

/// The word of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Owner(u32);

impl Owner {
    const fn new(shard: usize, used: Use) -> Self {
        Self((shard as u32 + 1) | (used.to_bits() << 16))
    }

    /// The word behind these bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether the chunk belongs to a shard.
    #[must_use]
    pub const fn is_taken(self) -> bool {
        self.0 & SHARD_MASK != 0
    }

    /// Whether it belongs to this one.
    #[must_use]
    pub const fn is_of(self, shard: usize) -> bool {
        self.0 & SHARD_MASK == shard as u32 + 1
    }

    /// What it is used for; `None` if the bits say nothing.
    #[must_use]
    pub const fn used(self) -> Option<Use> {
        Use::from_bits(self.0 >> 16 & 0xFF)
    }

    /// Whether it belongs to this one, and has memory.
    pub(super) const fn is_backed_of(self, shard: usize) -> bool {
        self.is_of(shard) && self.is_backed()
    }

    const fn is_backed(self) -> bool {
        self.0 & BACKED != 0
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({:#x})", self.0)
    }
}

/// The file system gave no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory {
    /// Bytes that were needed.
    pub needed: u64,
    /// Bytes that were free.
    pub free: u64,
}

impl From<NoMemory> for Refused {
    fn from(NoMemory { needed, free }: NoMemory) -> Self {
        Self::Full { needed, free }
    }
}

/// What a writer asks of its attachment: above all, memory for parts of the segment before they are touched.
pub trait Memory: fmt::Debug {
    /// For the words of the chunks from `first` to before `end`.
    ///
    /// # Errors
    /// [`NoMemory`].
    fn back_owners(&self, first: u32, end: u32) -> Result<(), NoMemory>;

    /// Is told that another shard was repaired on the way, under its lock.
    fn repaired(&self, _rebuilt: &Rebuilt) {}

    /// For these chunks, some of which may have memory already.
    ///
    /// # Errors
    /// [`NoMemory`].
    fn back_chunks(&self, first: u32, count: u32) -> Result<(), NoMemory>;
}

impl RawDict {
    /// Chunks whose words have memory.
    #[inline]
    pub(super) fn frontier(&self) -> u32 {
        // PAIR dict-frontier: Acquire; the words have memory.
        let frontier = self.control.frontier.load(Ordering::Acquire);
        frontier.min(self.limits.chunks)
    }

    /// The word of a chunk.
    #[inline]
    pub(super) fn owner(&self, chunk: u32) -> Owner {
        match self.owners.get(chunk as usize) {
            // Relaxed: the shard's lock orders the words of its own chunks.
            Some(word) if chunk < self.frontier() => Owner(word.load(Ordering::Relaxed)),
            _ => Owner(0),
        }
    }

    fn chunk_bytes(&self, count: u32) -> u64 {
        u64::from(count) << self.limits.chunk_shift
    }

    fn full(&self, count: u32) -> Refused {
        Refused::Full {
            needed: self.chunk_bytes(count),
            free: self.free_bytes(),
        }
    }

    /// Lets the frontier go on by a page of words, from `seen`, where the caller found it; `false` if that is the end.
    /// Where it is by now tells nothing: another may have been faster, and what is before it was not looked at.
    fn advance(&self, seen: u32, memory: &dyn Memory) -> Result<bool, Refused> {
        if seen == self.limits.chunks {
            return Ok(false);
        }
        if self.frontier() <= seen {
            let end = seen.saturating_add(STEP).min(self.limits.chunks);
            memory.back_owners(seen, end)?;
            // PAIR dict-frontier: Release. Another may have been faster, and further.
            self.control.frontier.fetch_max(end, Ordering::AcqRel);
        }
        Ok(true)
    }

    /// Takes a free chunk for blocks.
    pub(super) fn take_chunk(
        &self,
        shard: usize,
        class: usize,
        memory: &dyn Memory,
    ) -> Result<u32, Refused> {
        let owner = Owner::new(shard, Use::Blocks(class));
        // Relaxed: a hint.
        let hint = self.control.hint.load(Ordering::Relaxed);
        self.take_behind(hint, owner, memory).or_else(|refused| {
            // Before the hint there may be one too; where no memory is to be had, one that has it.
            let end = self.frontier();
            let has_memory = |chunk: &u32| self.owner(*chunk).is_backed();
            let mut chunks = (0..end).filter(has_memory);
            let chunk = chunks.find(|&chunk| self.take(chunk, owner));
            match chunk.or_else(|| self.take_first(0, hint.min(end), owner)) {
                Some(chunk) => self.backed(chunk, 1, memory).map(|()| chunk),
                None => Err(refused),
            }
        })
    }

    /// Takes a free chunk that is not before `from`.
    fn take_behind(
        &self,
        mut from: u32,
        owner: Owner,
        memory: &dyn Memory,
    ) -> Result<u32, Refused> {
        loop {
            let end = self.frontier();
            if let Some(chunk) = self.take_first(from, end, owner) {
                return self.backed(chunk, 1, memory).map(|()| chunk);
            }
            from = end.max(from);
            if !self.advance(end, memory)? {
                return Err(self.full(1));
            }
        }
    }

    fn take_first(&self, from: u32, end: u32, owner: Owner) -> Option<u32> {
        let chunk = (from..end).find(|&chunk| self.take(chunk, owner))?;
        // Relaxed: a hint. Not moved by runs, which pass by single free chunks.
        self.control.hint.store(chunk + 1, Ordering::Relaxed);
        Some(chunk)
    }

    /// Takes `count` free chunks in a row, as one block.
    pub(super) fn take_run(
        &self,
        shard: usize,
        count: u32,
        memory: &dyn Memory,
    ) -> Result<u32, Refused> {
        if count > self.limits.chunks {
            return Err(self.full(count));
        }
        // Relaxed, here and below: a hint.
        let hint = self.run_hint.load(Ordering::Relaxed);
        let behind = self.take_run_from((hint, hint), shard, count).ok();
        let first = match behind.filter(|&first| self.backed(first, count, memory).is_ok()) {
            Some(first) => first,
            // Before the hint there may be one too; where no memory is to be had, one that has it.
            None => self.take_first_run(shard, count, memory)?,
        };
        self.run_hint.store(first + count, Ordering::Relaxed);
        Ok(first)
    }

    fn take_first_run(
        &self,
        shard: usize,
        count: u32,
        memory: &dyn Memory,
    ) -> Result<u32, Refused> {
        let mut end = (0, 0);
        loop {
            match self.take_run_from(end, shard, count) {
                Ok(first) => return self.backed(first, count, memory).map(|()| first),
                Err(at) => end = at,
            }
            if !self.advance(end.1, memory)? {
                return Err(self.full(count));
            }
        }
    }

    /// As [`take_run`](Self::take_run), before the frontier and not before `first`, from where on all before `at` are free;
    /// gives both as they are in the end if there is none. They may have no memory.
    fn take_run_from(
        &self,
        (mut first, mut at): (u32, u32),
        shard: usize,
        count: u32,
    ) -> Result<u32, (u32, u32)> {
        while at < self.frontier() {
            at += 1;
            if self.owner(at - 1).is_taken() {
                first = at;
            } else if at - first == count {
                if self.take_all(shard, first, count) {
                    return Ok(first);
                }
                first = at;
            }
        }
        Err((first, at))
    }

    fn take_all(&self, shard: usize, first: u32, count: u32) -> bool {
        for chunk in first..first + count {
            let used = match chunk == first {
                true => Use::Head,
                false => Use::Rest,
            };
            if !self.take(chunk, Owner::new(shard, used)) {
                (first..chunk).rev().for_each(|taken| self.give_back(taken));
                return false;
            }
        }
        true
    }

    /// Takes a chunk if it is free.
    fn take(&self, chunk: u32, owner: Owner) -> bool {
        let word = &self.owners[chunk as usize];
        // Relaxed: the compare-and-swap decides.
        let mut seen = Owner(word.load(Ordering::Relaxed));
        if self.broken(Fault::TakesWithoutSwap) && !seen.is_taken() {
            word.store(owner.0 | seen.0 & BACKED, Ordering::Relaxed);
            return true;
        }
        while !seen.is_taken() {
            // PAIR dict-owner: Acquire sees that the last owner cut off what was there.
            match word.compare_exchange(
                seen.0,
                owner.0 | seen.0 & BACKED,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(other) => seen = Owner(other),
            }
        }
        false
    }

    /// Sees to it that chunks just taken have memory; gives them back otherwise.
    fn backed(&self, first: u32, count: u32, memory: &dyn Memory) -> Result<(), Refused> {
        let chunks = first..first + count;
        if chunks.clone().all(|chunk| self.owner(chunk).is_backed()) {
            return Ok(());
        }
        // The more there is already, the more at a time; where there is little left, what is needed.
        let ahead = (first / 4 + 2).clamp(count, count.max(AHEAD));
        let ahead = ahead.min(self.frontier() - first);
        let memory = match memory.back_chunks(first, ahead) {
            Ok(()) => Ok(ahead),
            Err(_) if ahead > count => memory.back_chunks(first, count).map(|()| count),
            Err(no_memory) => Err(no_memory),
        };
        match memory {
            Ok(count) => {
                for chunk in first..first + count {
                    // Relaxed: it has memory, whosever it is.
                    self.owners[chunk as usize].fetch_or(BACKED, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(no_memory) => {
                chunks.rev().for_each(|chunk| self.give_back(chunk));
                Err(no_memory.into())
            }
        }
    }

    /// Makes a chunk nobody's, whose contents were cut off.
    pub(super) fn give_back(&self, chunk: u32) {
        let word = &self.owners[chunk as usize];
        // Relaxed: the chunk is the shard's own until the store. That it has memory may be noted meanwhile, and be
        // forgotten: then it is allocated once more.
        let backed = word.load(Ordering::Relaxed) & BACKED;
        // PAIR dict-owner: Release.
        word.store(backed, Ordering::Release);
        // Relaxed: a hint.
        self.control.hint.fetch_min(chunk, Ordering::Relaxed);
    }

    /// Has it forgotten that free chunks have memory; gives the ranges of these chunks. Under all locks.
    #[must_use]
    pub fn unback_free(&self) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for chunk in 0..self.frontier() {
            if self.owner(chunk) != Owner(BACKED) {
                continue;
            }
            // Relaxed: all locks.
            self.owners[chunk as usize].store(0, Ordering::Relaxed);
            match ranges.last_mut() {
                Some((first, count)) if *first + *count == chunk => *count += 1,
                _ => ranges.push((chunk, 1)),
            }
        }
        ranges
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_owner_says_what_it_was_made_of() {
        for used in [
            Use::Blocks(0),
            Use::Blocks(CLASSES - 1),
            Use::Head,
            Use::Rest,
        ] {
            let owner = Owner::new(255, used);
            assert!(owner.is_taken() && owner.is_of(255) && !owner.is_of(0));
            assert_eq!(owner.used(), Some(used));
        }
        assert_eq!(Owner::from_bits(0x7F << 16 | 1).used(), None);
        assert!(!Owner(BACKED).is_taken());
    }
}
