//! The workers' ledger: what each began and ended, in a file of its own, outside of what is tested.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | not 0: the workers are to stop |
//! | 1, 2 | number of seats, records in a seat |
//! | from 8 | the seats: begun, ended, records begun, records ended (a hint), then the records |
//!
//! A record is two words: what was begun, then the result plus one, or 0 while it is pending. A
//! worker writes only to its own seat; when it was killed the next one in its seat goes on behind
//! it, so that nothing is ever taken back.
//!
//! Every store is a SeqCst exchange: neither the processor nor the compiler moves any part of the
//! operation to the other side of it. Readers read after the writer's end, or only for a hint.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use memmap2::{MmapOptions, MmapRaw};

const HEADER: usize = 8;
const SEAT_HEADER: usize = 4;

/// A mapped ledger.
pub struct Ledger {
    map: MmapRaw,
}

/// One recorded operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The seat whose worker performed it.
    pub seat: usize,
    /// What was begun.
    pub begun: u64,
    /// What came of it; `None` when the worker was killed before it could tell.
    pub result: Option<u64>,
}

/// A worker's place in the ledger.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    header: &'a [AtomicU64],
    records: &'a [AtomicU64],
}

impl Ledger {
    pub(super) fn create(path: &Path, seats: usize, records: usize) -> io::Result<Self> {
        let count = HEADER + seats * (SEAT_HEADER + 2 * records);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        // Sparse: what is not written takes no room.
        file.set_len((count * size_of::<u64>()) as u64)?;
        let ledger = Self::map(&file)?;
        ledger.words()[1].store(seats as u64, SeqCst);
        ledger.words()[2].store(records as u64, SeqCst);
        Ok(ledger)
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Self::map(&file)
    }

    fn map(file: &File) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw(file)?;
        Ok(Self { map })
    }

    fn words(&self) -> &[AtomicU64] {
        let words = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY:
        // - in bounds, aligned, mapped: whole words from a page's start, for as long as `self`;
        // - no other writer but through atomics: both sides use this type only;
        // - any bytes are a value of an atomic integer.
        unsafe { std::slice::from_raw_parts(words, self.map.len() / size_of::<AtomicU64>()) }
    }

    /// Tells the workers to stop.
    pub(super) fn stop(&self) {
        self.words()[0].store(1, SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.words()[0].load(SeqCst) != 0
    }

    fn seats(&self) -> usize {
        self.words()[1].load(SeqCst) as usize
    }

    pub(super) fn seat(&self, index: usize) -> Seat<'_> {
        let records = self.words()[2].load(SeqCst) as usize;
        let size = SEAT_HEADER + 2 * records;
        let seat = &self.words()[HEADER + index * size..][..size];
        let (header, records) = seat.split_at(SEAT_HEADER);
        Seat { header, records }
    }

    /// Operations begun, counted and recorded ones.
    pub fn begun(&self) -> u64 {
        (0..self.seats()).map(|seat| self.seat(seat).begun()).sum()
    }

    /// Grows with every operation that ends; may lag behind by some that were killed just then.
    pub(super) fn progress(&self) -> u64 {
        let of_seat = |seat: Seat<'_>| seat.header[1].load(SeqCst) + seat.header[3].load(SeqCst);
        (0..self.seats()).map(|seat| of_seat(self.seat(seat))).sum()
    }

    /// Operations ended.
    pub fn ended(&self) -> u64 {
        (0..self.seats()).map(|seat| self.seat(seat).ended()).sum()
    }

    /// Operations whose worker was killed before it could tell their end; each may have taken effect
    /// or not.
    pub fn pending(&self) -> u64 {
        self.begun() - self.ended()
    }

    /// How often the operations can have taken effect: all that ended, and any of the pending.
    pub fn effects(&self) -> RangeInclusive<u64> {
        self.ended()..=self.begun()
    }

    /// All recorded operations, those of a seat in the order in which they were begun.
    pub fn records(&self) -> Vec<Record> {
        let of_seat = |seat| {
            let records = self.seat(seat).records[..2 * self.seat(seat).recorded()].chunks(2);
            records.map(move |words| Record {
                seat,
                begun: words[0].load(SeqCst),
                result: words[1].load(SeqCst).checked_sub(1),
            })
        };
        (0..self.seats())
            .flat_map(|seat| of_seat(seat).collect::<Vec<_>>())
            .collect()
    }

    /// Compares what the recorded operations put somewhere with what is `found` there: that of an
    /// ended one is there exactly once, that of a pending one at most once, and nothing else is.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn account_for(&self, found: impl IntoIterator<Item = u64>) -> Result<(), String> {
        let mut times = std::collections::HashMap::new();
        for item in found {
            *times.entry(item).or_insert(0_usize) += 1;
        }
        let mut wrong = Vec::new();
        for record in self.records() {
            match (times.remove(&record.begun).unwrap_or(0), record.result) {
                (1, _) | (0, None) => {}
                (0, Some(_)) => wrong.push(format!("{:#x} is lost", record.begun)),
                (n, _) => wrong.push(format!("{:#x} is there {n} times", record.begun)),
            }
        }
        wrong.extend(
            times
                .keys()
                .map(|item| format!("{item:#x} was never begun")),
        );
        match wrong.len() {
            0 => Ok(()),
            n => Err(format!("{n} items: {}, ..", wrong[..n.min(5)].join(", "))),
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("begun", &self.begun())
            .field("ended", &self.ended())
            .finish_non_exhaustive()
    }
}

impl Seat<'_> {
    /// Notes an operation before and after it.
    pub(super) fn count<R>(&self, operation: impl FnOnce() -> R) -> R {
        let [begun, ended, ..] = self.header else {
            unreachable!("a seat has a header");
        };
        begun.fetch_add(1, SeqCst);
        let result = operation();
        ended.fetch_add(1, SeqCst);
        result
    }

    /// Records an operation before and after it.
    pub(super) fn record(&self, what: u64, operation: impl FnOnce() -> u64) {
        let at = self.recorded();
        // Killed here, the next worker in this seat writes over it: nothing was begun.
        self.records[2 * at].swap(what, SeqCst);
        self.header[2].swap(at as u64 + 1, SeqCst);
        let result = operation();
        self.records[2 * at + 1].swap(result + 1, SeqCst);
        self.header[3].fetch_add(1, SeqCst);
    }

    pub(super) fn is_full(&self) -> bool {
        2 * self.recorded() >= self.records.len()
    }

    pub(super) fn recorded(&self) -> usize {
        self.header[2].load(SeqCst) as usize
    }

    fn begun(&self) -> u64 {
        self.header[0].load(SeqCst) + self.recorded() as u64
    }

    fn ended(&self) -> u64 {
        let recorded = self.records[..2 * self.recorded()].chunks(2);
        let ended = recorded.filter(|words| words[1].load(SeqCst) != 0);
        self.header[1].load(SeqCst) + ended.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UniqueName;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn ledger() -> (UniqueName, Ledger) {
        let name = UniqueName::new("ledger");
        let ledger = Ledger::create(&name.path(), 2, 8).unwrap();
        (name, ledger)
    }

    /// As a kill does: the operation never returns.
    fn interrupted(operation: impl FnOnce()) {
        assert!(catch_unwind(AssertUnwindSafe(operation)).is_err());
    }

    #[test]
    fn interrupted_operations_are_pending() {
        let (name, ledger) = ledger();
        let again = Ledger::open(&name.path()).unwrap();
        ledger.seat(0).count(|| ());
        interrupted(|| ledger.seat(0).count(|| panic!("killed")));
        again.seat(0).count(|| ());
        ledger.seat(1).record(7, || 40);
        interrupted(|| ledger.seat(1).record(8, || panic!("killed")));
        again.seat(1).record(9, || 0);
        assert_eq!(
            (ledger.begun(), ledger.ended(), ledger.pending()),
            (6, 4, 2)
        );
        assert_eq!(ledger.effects(), 4..=6);
        let records = [(7, Some(40)), (8, None), (9, Some(0))];
        let records = records.map(|(begun, result)| Record {
            seat: 1,
            begun,
            result,
        });
        assert_eq!(ledger.records(), records);
    }

    #[test]
    fn account_knows_lost_doubled_and_strange_items() {
        let (_name, ledger) = ledger();
        ledger.seat(0).record(1, || 0);
        interrupted(|| ledger.seat(0).record(2, || panic!("killed")));
        assert_eq!(ledger.account_for([1]), Ok(()));
        assert_eq!(ledger.account_for([2, 1]), Ok(()));
        assert!(ledger.account_for([2]).unwrap_err().contains("0x1 is lost"));
        assert!(
            ledger
                .account_for([1, 1])
                .unwrap_err()
                .contains("0x1 is there 2 times")
        );
        assert!(
            ledger
                .account_for([1, 2, 2])
                .unwrap_err()
                .contains("0x2 is there 2 times")
        );
        assert!(
            ledger
                .account_for([1, 3])
                .unwrap_err()
                .contains("0x3 was never begun")
        );
    }

    #[test]
    fn full_seat_says_so() {
        let (_name, ledger) = ledger();
        let seat = ledger.seat(1);
        (0..8).for_each(|n| seat.record(n + 1, || 0));
        assert!(seat.is_full() && !ledger.seat(0).is_full());
    }
}
