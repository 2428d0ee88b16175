//! Who takes part: a process as one 64-bit word, and the table of those attached to a segment.
//!
//! A PID alone comes back; with the start time it does not. Both fit in one word, so that an
//! owner is written and cleared by a single atomic store, and a claim by a single compare-and-swap:
//!
//! | bits | field |
//! |---:|---|
//! | 0..22 | process id (Linux allows at most 2^22) |
//! | 22..63 | start time in clock ticks after boot (field 22 of /proc/PID/stat) |
//! | 63 | 0 |
//!
//! The table stands behind the header: `participants` slots of 16 bytes.
//!
//! | offset | size | field | meaning |
//! |---:|---:|---|---|
//! | 0 | 8 | `process` | [`ProcessId`] of the process attached through this slot, 0 = free |
//! | 8 | 8 | `uses` | how often the slot was taken: tells its users apart |
//!
//! INV-P1: a slot is taken by compare-and-swap of `process` from 0 or from a dead process's id.
//! Peer death: the id stays in the slot; whoever looks tests it and may take the slot.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};
use std::io;

use crate::fork;
use crate::sys::liveness;

const PID_BITS: u32 = 22;
const PID_MASK: u64 = (1 << PID_BITS) - 1;
const START_MASK: u64 = (1 << 41) - 1;

/// A process of this boot, as one word: its PID and its start time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct ProcessId(NonZeroU64);

impl ProcessId {
    /// The calling process. Reads `/proc/self/stat` once per process; allocates nothing, so that a
    /// forked child may call it.
    #[must_use]
    pub fn current() -> Self {
        // The cache is the pair (stamp, bits), the stamp written last and checked on both sides.
        static STAMP: AtomicU64 = AtomicU64::new(0);
        static BITS: AtomicU64 = AtomicU64::new(0);

        let stamp = fork::stamp();
        // PAIR process-cache: Acquire sees the bits that were stored before this stamp.
        if STAMP.load(Ordering::Acquire) == stamp
            && let Some(id) = Self::from_bits(BITS.load(Ordering::Relaxed))
        {
            return id;
        }
        let id = Self::from_parts(std::process::id(), liveness::start_time_of_self());
        // All threads of a process store the same bits; the stamp of another process, left by a
        // fork, differs until its own bits stand.
        BITS.store(id.to_bits(), Ordering::Relaxed);
        // PAIR process-cache: Release hands the bits to the Acquire above.
        STAMP.store(stamp, Ordering::Release);
        id
    }

    /// The process with this id and start time.
    pub(crate) fn from_parts(pid: u32, start_time: u64) -> Self {
        let bits = (start_time & START_MASK) << PID_BITS | u64::from(pid) & PID_MASK;
        // No process has the id 0, so the bits are never all zero.
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// Process id, as `ps` shows it.
    #[must_use]
    pub const fn pid(self) -> u32 {
        (self.0.get() & PID_MASK) as u32
    }

    /// The start time in clock ticks since boot; 0 if `/proc` could not tell.
    #[must_use]
    pub const fn start_time(self) -> u64 {
        self.0.get() >> PID_BITS & START_MASK
    }

    /// As it is stored in shared memory; never 0.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The process that a word from a segment names; `None` if it can name none (PID 0, bit 63).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(word) if bits & PID_MASK != 0 && bits >> 63 == 0 => Some(Self(word)),
            _ => None,
        }
    }

    /// Whether the process lives: exact, also for zombies (dead), reused PIDs (dead) and processes
    /// whose first thread ended (alive).
    ///
    /// # Errors
    /// When the system cannot tell: out of descriptors, no `/proc`, or a process has the PID and it was never known
    /// when the one that is meant started. Take it for alive then.
    pub fn is_alive(self) -> io::Result<bool> {
        // Who asks lives, and its start time is not that of an earlier process with its id; where neither is known, it is
        // taken for itself.
        if self == Self::current() {
            return Ok(true);
        }
        let start_time = Some(self.start_time()).filter(|start_time| *start_time != 0);
        liveness::is_alive(self.pid(), start_time)
    }

    /// [`is_alive`](Self::is_alive), where a doubt counts as life.
    #[cfg(not(loom))]
    pub(crate) fn may_live(self) -> bool {
        self.is_alive().unwrap_or(true)
    }
}

impl core::fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ProcessId")
            .field("pid", &self.pid())
            .field("start_time", &self.start_time())
            .finish()
    }
}

impl core::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "process {}", self.pid())
    }
}

#[cfg(not(loom))]
pub(crate) use table::{Slot, Table};

#[cfg(not(loom))]
mod table {
    use super::ProcessId;
    use crate::mutants::mutant;
    use crate::sync::{AtomicU64, Ordering};

    /// One row of the table, as it lies in the segment.
    #[derive(Debug)]
    #[repr(C)]
    pub(crate) struct Slot {
        /// INV-P1. 0 = free.
        process: AtomicU64,
        uses: AtomicU64,
    }

    /// The participant table of one segment.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Table<'a>(pub(crate) &'a [Slot]);

    impl Table<'_> {
        /// Takes a slot for `me`; `None` when living processes have them all.
        pub(crate) fn register(self, me: ProcessId) -> Option<(usize, u64)> {
            self.take(me, |process| process == 0).or_else(|| {
                self.take(me, |process| match ProcessId::from_bits(process) {
                    Some(id) => !id.may_live() && !mutant("Participants::KeepSlotsOfTheDead"),
                    None => true,
                })
            })
        }

        fn take(self, me: ProcessId, free: impl Fn(u64) -> bool) -> Option<(usize, u64)> {
            self.0.iter().enumerate().find_map(|(index, slot)| {
                // Relaxed: the compare-and-swap decides.
                let seen = slot.process.load(Ordering::Relaxed);
                let taken = free(seen)
                    && slot
                        .process
                        // PAIR participant: Release/Acquire with `living` and the next taker.
                        .compare_exchange(seen, me.to_bits(), Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok();
                // Relaxed: counts only; ordered by the swap of `process`.
                taken.then(|| {
                    let before = slot.uses.fetch_add(1, Ordering::Relaxed);
                    (index, before.wrapping_add(1))
                })
            })
        }

        /// Gives a slot back, if it still says `me`.
        pub(crate) fn release(self, index: usize, me: ProcessId) {
            if let Some(slot) = self.0.get(index) {
                let me = me.to_bits();
                // PAIR participant: Release, as the next taker's Acquire.
                let _ = slot
                    .process
                    .compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed);
            }
        }

        /// Whether the slot is taken by a living process, in a use that `is_use` means.
        pub(crate) fn is_attached(self, index: usize, is_use: impl Fn(u64) -> bool) -> bool {
            self.0.get(index).is_some_and(|slot| {
                // PAIR participant: Acquire, as the taker's Release.
                let id = ProcessId::from_bits(slot.process.load(Ordering::Acquire));
                // Relaxed: a taker that has not yet counted itself has left nothing anywhere.
                is_use(slot.uses.load(Ordering::Relaxed)) && id.is_some_and(ProcessId::may_live)
            })
        }

        /// The living participants, with their slots and uses.
        pub(crate) fn attached(self) -> impl Iterator<Item = (usize, u64, ProcessId)> {
            self.0.iter().enumerate().filter_map(|(index, slot)| {
                // PAIR participant: Acquire, as the taker's Release.
                let id = ProcessId::from_bits(slot.process.load(Ordering::Acquire))?;
                // Relaxed: ordered by the process.
                let uses = slot.uses.load(Ordering::Relaxed);
                id.may_live().then_some((index, uses, id))
            })
        }

        /// The slots of the dead.
        pub(crate) fn dead(self) -> impl Iterator<Item = (usize, ProcessId)> {
            self.0.iter().enumerate().filter_map(|(index, slot)| {
                // PAIR participant: Acquire, as the taker's Release.
                let id = ProcessId::from_bits(slot.process.load(Ordering::Acquire))?;
                (!id.may_live()).then_some((index, id))
            })
        }

        /// The living processes that are attached, each as often as it is.
        pub(crate) fn living(self) -> impl Iterator<Item = ProcessId> {
            self.0
                .iter()
                // PAIR participant: Acquire, as the taker's Release.
                .filter_map(|slot| ProcessId::from_bits(slot.process.load(Ordering::Acquire)))
                .filter(|id| id.may_live())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn table(rows: &[u64]) -> Vec<Slot> {
            let slot = |&id| Slot {
                process: AtomicU64::new(id),
                uses: AtomicU64::new(0),
            };
            rows.iter().map(slot).collect()
        }

        #[test]
        fn free_slots_go_first_then_dead_ones_and_living_ones_never() {
            let me = ProcessId::current();
            let dead = ProcessId::from_bits(me.to_bits() + (1 << 22)).unwrap();
            let rows = table(&[me.to_bits(), dead.to_bits(), 0]);
            let table = Table(&rows);
            assert_eq!(table.register(me), Some((2, 1)));
            assert_eq!(table.register(me), Some((1, 1)), "the dead one's");
            assert_eq!(table.register(me), None, "all three live");
            table.release(0, dead);
            assert_eq!(table.register(me), None, "a stranger cannot release it");
            table.release(2, me);
            assert_eq!(
                table.register(me),
                Some((2, 2)),
                "the second use of that slot"
            );
            assert_eq!(table.living().count(), 3);
        }

        #[test]
        fn the_dead_are_found_and_buried_once() {
            let me = ProcessId::current();
            let gone = ProcessId::from_bits(me.to_bits() + (1 << 22)).unwrap();
            let rows = table(&[me.to_bits(), gone.to_bits(), 0]);
            let table = Table(&rows);
            assert!(table.is_attached(0, |uses| uses == 0));
            assert!(!table.is_attached(0, |uses| uses == 1), "another use");
            assert!(!table.is_attached(1, |_| true), "dead");
            assert!(!table.is_attached(2, |_| true), "free");
            assert!(!table.is_attached(3, |_| true), "there is none");
            assert_eq!(table.dead().collect::<Vec<_>>(), [(1, gone)]);
            table.release(1, gone);
            assert_eq!(table.dead().count(), 0);
        }

        #[test]
        fn a_use_count_at_its_end_starts_over() {
            let rows = table(&[0]);
            rows[0].uses.store(u64::MAX, Ordering::Relaxed);
            assert_eq!(Table(&rows).register(ProcessId::current()), Some((0, 0)));
        }

        #[test]
        fn garbage_in_a_slot_is_nobody() {
            let rows = table(&[1 << 63, u64::MAX, 1 << 40]);
            assert_eq!(Table(&rows).living().count(), 0);
            assert!(Table(&rows).register(ProcessId::current()).is_some());
        }
    }
}
