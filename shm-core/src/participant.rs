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

use std::io;

use crate::sys::liveness;

const PID_BITS: u32 = 22;

/// A process of this boot, as one word: its PID and its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId(u64);

impl ProcessId {
    /// The calling process. Read from `/proc` once, and again after a fork.
    ///
    /// Where `/proc` is not mounted the start time is 0, and [`is_alive`](Self::is_alive) says so.
    #[must_use]
    pub fn current() -> Self {
        use crate::sync::{AtomicU64, Ordering};
        static STAMP: AtomicU64 = AtomicU64::new(0);
        static BITS: AtomicU64 = AtomicU64::new(0);
        let stamp = crate::fork::stamp();
        // PAIR process-id: Acquire sees the BITS stored before the STAMP below.
        if STAMP.load(Ordering::Acquire) != stamp {
            let pid = std::process::id();
            let start = liveness::start_time_of(pid).unwrap_or(0);
            // Relaxed: every thread of one process stores the same bits.
            BITS.store(start << PID_BITS | u64::from(pid), Ordering::Relaxed);
            // PAIR process-id: Release publishes BITS.
            STAMP.store(stamp, Ordering::Release);
        }
        // Relaxed: ordered by the stamp.
        Self(BITS.load(Ordering::Relaxed))
    }

    /// Process id, as `ps` shows it.
    #[must_use]
    pub fn pid(self) -> u32 {
        (self.0 & ((1 << PID_BITS) - 1)) as u32
    }

    /// Start time in clock ticks (1/100 s) after boot.
    #[must_use]
    pub fn start_time(self) -> u64 {
        self.0 >> PID_BITS
    }

    /// The word that goes into a segment.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The process that a word from a segment names; `None` if it can name none (PID 0, bit 63).
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let id = Self(bits);
        (id.pid() != 0 && bits >> 63 == 0).then_some(id)
    }

    /// Whether the process lives: exact, also for zombies (dead), reused PIDs (dead) and processes
    /// whose first thread ended (alive).
    ///
    /// # Errors
    /// When the system cannot tell: out of descriptors, or no `/proc`. Take it for alive then.
    pub fn is_alive(self) -> io::Result<bool> {
        liveness::is_alive(self.pid(), self.start_time())
    }

    /// [`is_alive`](Self::is_alive), where a doubt counts as life.
    pub(crate) fn may_live(self) -> bool {
        self.is_alive().unwrap_or(true)
    }
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid())
    }
}

#[cfg(not(loom))]
pub(crate) use table::{Slot, Table};

#[cfg(not(loom))]
mod table {
    use super::ProcessId;
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
                    Some(id) => !id.may_live(),
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
                taken.then(|| (index, slot.uses.fetch_add(1, Ordering::Relaxed) + 1))
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
        fn garbage_in_a_slot_is_nobody() {
            let rows = table(&[1 << 63, u64::MAX, 1 << 40]);
            assert_eq!(Table(&rows).living().count(), 0);
            assert!(Table(&rows).register(ProcessId::current()).is_some());
        }
    }
}
