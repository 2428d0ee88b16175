//! The workers' ledger: what each began and ended, in a file of its own, outside of what is tested.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | not 0: the workers are to stop |
//! | 1, 2 | number of seats, records in a seat |
//! | from 8 | the seats: a header each, then the records |
//!
//! | word of a header | meaning |
//! |---|---|
//! | 0, 1 | counted operations: begun, ended |
//! | 2, 3 | of those that a kill interrupted: settled as done, as not done |
//! | 4, 5 | visits: begun, ended |
//! | 6, 7 | records: begun, ended (a hint) |
//! | 8 | not 0: a record found no room |
//! | 9 | the process that has the seat, once it works |
//! | 10 | not 0: a worker panicked |
//! | from 16 | what the first one that did so said, UTF-8, ended by a zero |
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
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use memmap2::{MmapOptions, MmapRaw};

const HEADER: usize = 8;
const SEAT_HEADER: usize = 64;

const BEGUN: usize = 0;
const ENDED: usize = 1;
const DONE: usize = 2;
const NOT_DONE: usize = 3;
const VISITS_BEGUN: usize = 4;
const VISITS_ENDED: usize = 5;
const RECORDS_BEGUN: usize = 6;
const RECORDS_ENDED: usize = 7;
const OVERFULL: usize = 8;
const AT_WORK: usize = 9;
const PANICKED: usize = 10;
const WORDS: usize = 16;

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

    /// The first seat that had no room for a record.
    pub(super) fn overfull(&self) -> Option<usize> {
        (0..self.seats()).find(|&seat| self.seat(seat).header[OVERFULL].load(SeqCst) != 0)
    }

    /// Whether the storm should end, while there is room.
    pub(super) fn is_nearly_full(&self) -> bool {
        (0..self.seats()).any(|seat| self.seat(seat).is_nearly_full())
    }

    /// A seat whose worker panicked, and what it said.
    pub(super) fn panicked(&self) -> Option<(usize, String)> {
        let seat = (0..self.seats()).find(|&seat| self.seat(seat).of(PANICKED) != 0)?;
        Some((seat, self.seat(seat).words()))
    }

    /// How many operations a seat can record.
    pub(super) fn room(&self) -> usize {
        self.words()[2].load(SeqCst) as usize
    }

    fn sum(&self, of_seat: impl Fn(Seat<'_>) -> u64) -> u64 {
        (0..self.seats()).map(|seat| of_seat(self.seat(seat))).sum()
    }

    /// Operations begun: counted and recorded ones, and visits.
    pub fn begun(&self) -> u64 {
        self.sum(|seat| seat.of(BEGUN) + seat.of(VISITS_BEGUN) + seat.of(RECORDS_BEGUN))
    }

    /// Grows with every operation that ends; may lag behind by some that were killed just then.
    pub(super) fn progress(&self) -> u64 {
        self.sum(|seat| seat.of(ENDED) + seat.of(VISITS_ENDED) + seat.of(RECORDS_ENDED))
    }

    /// Operations ended, as their workers told.
    pub fn ended(&self) -> u64 {
        self.sum(|seat| seat.of(ENDED) + seat.of(VISITS_ENDED) + seat.records_ended())
    }

    /// Operations whose worker was killed before it could tell their end.
    pub fn pending(&self) -> u64 {
        self.begun() - self.ended()
    }

    /// How many of the counted operations took effect: all that ended or were settled as done, and any of
    /// those that nobody settled.
    pub fn effects(&self) -> RangeInclusive<u64> {
        self.sum(|seat| seat.effects())..=self.sum(|seat| seat.effects() + seat.open())
    }

    /// How many of a seat's counted operations took effect.
    ///
    /// # Errors
    /// When one was interrupted and [nobody settled](super::Worker::settle) whether it did.
    pub fn settled(&self, seat: usize) -> Result<u64, String> {
        match self.seat(seat).open() {
            0 => Ok(self.seat(seat).effects()),
            open => Err(format!("seat {seat}: {open} operations are not settled")),
        }
    }

    /// All recorded operations, those of a seat in the order in which they were begun.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        (0..self.seats()).flat_map(|seat| self.records_of(seat))
    }

    /// The recorded operations of a seat, in the order in which they were begun.
    pub fn records_of(&self, seat: usize) -> impl Iterator<Item = Record> + '_ {
        let place = self.seat(seat);
        let records = place.records[..2 * place.recorded()].chunks(2);
        records.map(move |words| Record {
            seat,
            begun: words[0].load(SeqCst),
            result: words[1].load(SeqCst).checked_sub(1),
        })
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
    fn of(&self, word: usize) -> u64 {
        self.header[word].load(SeqCst)
    }

    /// Notes that this process has begun to work.
    pub(super) fn enlist(&self) {
        self.header[AT_WORK].store(process::id().into(), SeqCst);
    }

    /// The process that began to work here last.
    pub(super) fn at_work(&self) -> u64 {
        self.of(AT_WORK)
    }

    /// Notes that the worker panicked: at once, since it may be killed before it could tell.
    pub(super) fn panic(&self, words: &str) {
        if self.header[PANICKED].swap(1, SeqCst) != 0 {
            return;
        }
        let chunks = words.as_bytes().chunks(8);
        // The last one stays zero.
        for (word, chunk) in self.header[WORDS..SEAT_HEADER - 1].iter().zip(chunks) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(bytes), SeqCst);
        }
    }

    fn words(&self) -> String {
        let words = self.header[WORDS..].iter();
        let bytes: Vec<u8> = words
            .flat_map(|word| word.load(SeqCst).to_le_bytes())
            .collect();
        let end = bytes.iter().position(|&byte| byte == 0);
        String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
    }

    /// Notes an operation before and after it.
    pub(super) fn count<R>(&self, operation: impl FnOnce() -> R) -> R {
        self.note([BEGUN, ENDED], operation)
    }

    /// Notes a visit before and after it.
    pub(super) fn visit<R>(&self, operation: impl FnOnce() -> R) -> R {
        self.note([VISITS_BEGUN, VISITS_ENDED], operation)
    }

    fn note<R>(&self, [begun, ended]: [usize; 2], operation: impl FnOnce() -> R) -> R {
        self.header[begun].fetch_add(1, SeqCst);
        let result = operation();
        self.header[ended].fetch_add(1, SeqCst);
        result
    }

    /// Counted operations that ended, or that somebody found done.
    pub(super) fn effects(&self) -> u64 {
        self.of(ENDED) + self.of(DONE)
    }

    /// Counted operations of which nobody knows whether they took effect.
    pub(super) fn open(&self) -> u64 {
        self.of(BEGUN) - self.of(ENDED) - self.of(DONE) - self.of(NOT_DONE)
    }

    /// Notes of one that is open whether it took effect. One store: killed before it, the next one asks again.
    pub(super) fn settle(&self, is_done: bool) {
        let word = if is_done { DONE } else { NOT_DONE };
        self.header[word].fetch_add(1, SeqCst);
    }

    /// Records an operation before and after it.
    ///
    /// # Panics
    /// When there is no room; the ledger says so to the storm.
    pub(super) fn record(&self, what: u64, operation: impl FnOnce() -> u64) {
        let at = self.recorded();
        if 2 * at >= self.records.len() {
            self.header[OVERFULL].store(1, SeqCst);
            panic!("no room for another record");
        }
        // Killed here, the next worker in this seat writes over it: nothing was begun.
        self.records[2 * at].swap(what, SeqCst);
        self.header[RECORDS_BEGUN].swap(at as u64 + 1, SeqCst);
        let result = operation();
        self.records[2 * at + 1].swap(result + 1, SeqCst);
        self.header[RECORDS_ENDED].fetch_add(1, SeqCst);
    }

    pub(super) fn recorded(&self) -> usize {
        self.of(RECORDS_BEGUN) as usize
    }

    /// Whether three quarters of the room for records are used.
    pub(super) fn is_nearly_full(&self) -> bool {
        8 * self.recorded() >= 3 * self.records.len()
    }

    /// What the last record says that was begun, if it is pending.
    pub(super) fn interrupted(&self) -> Option<u64> {
        let [.., what, result] = &self.records[..2 * self.recorded()] else {
            return None;
        };
        (result.load(SeqCst) == 0).then(|| what.load(SeqCst))
    }

    fn records_ended(&self) -> u64 {
        let recorded = self.records[..2 * self.recorded()].chunks(2);
        recorded.filter(|words| words[1].load(SeqCst) != 0).count() as u64
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
        // The counted ones alone.
        assert_eq!(ledger.effects(), 2..=3);
        let records = [(7, Some(40)), (8, None), (9, Some(0))];
        let records = records.map(|(begun, result)| Record {
            seat: 1,
            begun,
            result,
        });
        assert!(ledger.records().eq(records));
        assert_eq!(ledger.seat(1).interrupted(), None);
        interrupted(|| ledger.seat(1).record(10, || panic!("killed")));
        assert_eq!(again.seat(1).interrupted(), Some(10));
    }

    #[test]
    fn settled_operations_are_known() {
        let (_name, ledger) = ledger();
        let seat = ledger.seat(1);
        seat.count(|| ());
        for (is_done, effects) in [(true, 2), (false, 2), (true, 3)] {
            interrupted(|| seat.count(|| panic!("killed")));
            assert!(ledger.settled(1).is_err());
            seat.settle(is_done);
            assert_eq!(ledger.settled(1), Ok(effects));
        }
        assert_eq!((ledger.effects(), ledger.pending()), (3..=3, 3));
    }

    #[test]
    fn visits_have_no_effects() {
        let (_name, ledger) = ledger();
        ledger.seat(0).visit(|| ());
        interrupted(|| ledger.seat(0).visit(|| panic!("killed")));
        assert_eq!((ledger.effects(), ledger.settled(0)), (0..=0, Ok(0)));
        assert_eq!((ledger.begun(), ledger.pending()), (2, 1));
    }

    #[test]
    fn last_words_are_kept_as_far_as_there_is_room() {
        let (_name, ledger) = ledger();
        assert_eq!(ledger.panicked(), None);
        ledger.seat(1).panic("torn");
        // Of another thread, whom that one took along.
        ledger.seat(1).panic("no panic in a thread");
        assert_eq!(ledger.panicked(), Some((1, "torn".to_owned())));
        ledger.seat(0).panic(&"long ".repeat(1000));
        let (seat, words) = ledger.panicked().unwrap();
        assert!(seat == 0 && words.len() > 300 && words.starts_with("long long"));
        assert_eq!(ledger.seat(1).words(), "torn");
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
    fn full_seat_refuses_as_often_as_it_is_asked() {
        let (_name, ledger) = ledger();
        let seat = ledger.seat(1);
        (0..8).for_each(|n| seat.record(n + 1, || 0));
        assert_eq!(ledger.overfull(), None);
        for _ in 0..3 {
            interrupted(|| seat.record(9, || unreachable!("nobody would know of it")));
            assert_eq!(ledger.overfull(), Some(1));
        }
        assert_eq!((ledger.records().count(), ledger.pending()), (8, 0));
    }
}
