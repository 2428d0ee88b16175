//! A file for each process, in which it writes what it does, such that a SIGKILL at any instruction leaves at most one
//! pending operation.
//!
//! The file lies outside the segment under test and is written by its one process only. All words are native `u64`:
//!
//! | word | what |
//! |---|---|
//! | 0 | magic; 0 until the file is complete |
//! | 1 | the process: a label given by the test, not the pid |
//! | 2 | pid, for people |
//! | 3 | number of records that fit |
//! | 4.. | the records, 12 words each |
//!
//! | word of a record | what |
//! |---|---|
//! | 0 | state: `EMPTY`, `INVOKED`, `RETURNED` |
//! | 1 | window |
//! | 2 | time of the invocation, nanoseconds of `CLOCK_MONOTONIC` |
//! | 3 | time of the return |
//! | 4..8 | the operation |
//! | 8..12 | the result |
//!
//! - INV-R1: the records in use come first; the first `EMPTY` one ends the list.
//! - INV-R2: words 1, 2 and 4..8 of a record are complete once it is `INVOKED`, words 3 and 8..12 once it is `RETURNED`.
//! - INV-R3: the operation begins after its record is `INVOKED`, and has ended before it is `RETURNED`.
//!
//! So each of the two is committed by one store, that of the state. Death before the first: the operation never began, and
//! there is no record. Death between the two: it is pending, whether it had begun, was under way, or had ended. Pages of a
//! shared mapping outlive their process, so nothing has to be flushed.
//!
//! What a time means: a fence on either side of the operation keeps it between its two times, stores included. A store
//! that an unfenced program would find still in its store buffer is therefore visible when its operation is recorded
//! as returned; histories say nothing about that delay, nor about weaker orders that a fence at the edge of an
//! operation would hide.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
// Not through the facade of shm-core: this is an instrument, and is never part of a model.
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, posix_fallocate};
use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use super::{History, Malformed, Operation};

/// "shmhist" and the version of the format.
const MAGIC: u64 = u64::from_le_bytes(*b"shmhist\x01");
const HEADER_WORDS: usize = 4;
const RECORD_WORDS: usize = 12;
const EXTENSION: &str = "history";

const EMPTY: u64 = 0;
const INVOKED: u64 = 1;
const RETURNED: u64 = 2;

/// Where in a record.
const STATE: usize = 0;
const WINDOW: usize = 1;
const INVOKED_AT: usize = 2;
const RETURNED_AT: usize = 3;
const OP: usize = 4;
const RET: usize = 8;

/// What can be written into a record: an operation with its arguments, or a result.
pub trait Words: Sized {
    /// All of it, in four words.
    fn to_words(&self) -> [u64; 4];

    /// The same again, or `None` if [`to_words`](Self::to_words) never gives these words.
    fn from_words(words: [u64; 4]) -> Option<Self>;
}

/// The recorder of one process or thread.
///
/// # Peer death
/// Killed at any instruction, it leaves the operations that returned, and at most one that is pending: the one it was in.
#[derive(Debug)]
pub struct Recorder<O, R> {
    map: MmapRaw,
    /// Locked for as long as this process lives, so that nobody reads a history that still grows.
    _locked: Flock<File>,
    capacity: usize,
    len: usize,
    window: u64,
    types: PhantomData<fn(O) -> R>,
}

/// An operation under way. Dropped without [`returned`](Self::returned), it stays pending.
#[derive(Debug)]
#[must_use = "an operation that does not return is pending"]
pub struct Invocation<'r, O, R> {
    recorder: &'r Recorder<O, R>,
    record: usize,
}

impl<O: Words, R: Words> Recorder<O, R> {
    /// Creates the file of `process` in the directory `dir`, with room for `capacity` operations.
    ///
    /// A process that is started again after its death is a new process, with a label of its own.
    ///
    /// # Errors
    /// `AlreadyExists` if this process has a file there, and what the system says about files and their space.
    pub fn create(dir: impl AsRef<Path>, process: u32, capacity: usize) -> io::Result<Self> {
        let path = dir.as_ref().join(format!("{process}.{EXTENSION}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        let size = capacity
            .checked_mul(RECORD_WORDS)
            .and_then(|words| words.checked_add(HEADER_WORDS))
            .and_then(|words| words.checked_mul(size_of::<u64>()))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let length = i64::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        // Allocated, not only sized: a touch must not find the disk full.
        posix_fallocate(&*locked, 0, length)?;
        let recorder = Self {
            map: MmapOptions::new().len(size).map_raw(&*locked)?,
            _locked: locked,
            capacity,
            len: 0,
            window: 0,
            types: PhantomData,
        };
        // Relaxed: the Release below is after them in program order, which is all that a death respects.
        recorder.word(1).store(process.into(), Ordering::Relaxed);
        recorder
            .word(2)
            .store(std::process::id().into(), Ordering::Relaxed);
        recorder.word(3).store(capacity as u64, Ordering::Relaxed);
        // PAIR recorded: with the reader, see `parse`.
        recorder.word(0).store(MAGIC, Ordering::Release);
        Ok(recorder)
    }

    /// Files what follows under another window: a stretch that is checked by itself. It is 0 at first.
    ///
    /// For the check to make sense, all processes have to be between operations when one window ends and the next
    /// begins, and the structure has to be as the model has it at first.
    pub fn begin_window(&mut self, window: u64) {
        self.window = window;
    }

    /// Notes that `op` is about to begin. Call it right before.
    ///
    /// # Panics
    /// If the file is full: a history with a hole is worse than none.
    pub fn invoke(&mut self, op: &O) -> Invocation<'_, O, R> {
        assert!(
            self.len < self.capacity,
            "the recorder has room for {} operations only",
            self.capacity
        );
        let record = self.len;
        self.len += 1;
        self.store_four(record, OP, op.to_words());
        // Relaxed: committed by the Release below.
        self.field(record, WINDOW)
            .store(self.window, Ordering::Relaxed);
        self.field(record, INVOKED_AT)
            .store(now(), Ordering::Relaxed);
        // PAIR recorded: with the reader, see `parse`. Publishes the operation (INV-R2).
        self.field(record, STATE).store(INVOKED, Ordering::Release);
        // Nothing of the operation is done before the time is read and the record is committed (INV-R3): the time goes
        // through a store, and the fence lets no later access pass a store.
        fence(Ordering::SeqCst);
        Invocation {
            recorder: self,
            record,
        }
    }

    /// Performs and records one operation.
    ///
    /// # Panics
    /// If the file is full; and if `perform` does, in which case the operation stays pending.
    pub fn record(&mut self, op: &O, perform: impl FnOnce() -> R) -> R {
        let invocation = self.invoke(op);
        let ret = perform();
        invocation.returned(&ret);
        ret
    }
}

impl<O: Words, R: Words> Invocation<'_, O, R> {
    /// Notes that the operation has returned `ret`. Call it right after.
    pub fn returned(self, ret: &R) {
        // All of the operation is done, and its stores are visible, before the time is read (INV-R3).
        fence(Ordering::SeqCst);
        let returned_at = now();
        self.recorder.store_four(self.record, RET, ret.to_words());
        // Relaxed: committed by the Release below.
        self.recorder
            .field(self.record, RETURNED_AT)
            .store(returned_at, Ordering::Relaxed);
        // PAIR recorded: with the reader, see `parse`. Publishes the result (INV-R2).
        self.recorder
            .field(self.record, STATE)
            .store(RETURNED, Ordering::Release);
    }
}

impl<O, R> Recorder<O, R> {
    fn store_four(&self, record: usize, field: usize, words: [u64; 4]) {
        for (offset, word) in words.into_iter().enumerate() {
            // Relaxed: committed by the Release of the state.
            self.field(record, field + offset)
                .store(word, Ordering::Relaxed);
        }
    }

    fn field(&self, record: usize, field: usize) -> &AtomicU64 {
        self.word(HEADER_WORDS + record * RECORD_WORDS + field)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        let words = self.map.len() / size_of::<u64>();
        assert!(index < words, "word {index} of {words}");
        let word = self.map.as_mut_ptr().cast::<u64>().wrapping_add(index);
        // SAFETY:
        // - in bounds (just checked), aligned (a mapping begins on a page), mapped for as long as `self` lives;
        // - every access in this process is atomic; no other process maps the file, readers copy it by system calls;
        // - any bytes are a `u64`.
        unsafe { AtomicU64::from_ptr(word) }
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has CLOCK_MONOTONIC");
    // Both are not negative on this clock.
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Why the recorded files could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The system would not let us read it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its process is alive and may go on writing; or a fork of it is, which holds the same open file.
    #[error("{}: still in use by its process, or by a fork of it", path.display())]
    StillWritten {
        /// The file.
        path: PathBuf,
    },
    /// It is not a recording, or of another version.
    #[error("{}: not a recording of this version", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A record is not one that a recorder with these types of operation and result leaves.
    #[error("{}: record {record} makes no sense", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Which, from 0.
        record: usize,
    },
    /// The operations contradict each other.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Reads the files of all processes in `dir`, when all of them have ended or are dead.
///
/// # Errors
/// [`CollectError`]; in particular `StillWritten` if one of them lives. Wait for killed processes before.
pub fn collect<O: Words, R: Words>(dir: impl AsRef<Path>) -> Result<History<O, R>, CollectError> {
    let operations = read_all(dir.as_ref(), true)?;
    Ok(History::new(values(operations))?)
}

/// As [`collect`], with a history for each window. Numbers of operations count from the start of the window.
///
/// # Errors
/// As [`collect`].
pub fn collect_windows<O: Words, R: Words>(
    dir: impl AsRef<Path>,
) -> Result<BTreeMap<u64, History<O, R>>, CollectError> {
    let mut windows = BTreeMap::<u64, Vec<Operation<O, R>>>::new();
    for (window, operation) in read_all(dir.as_ref(), true)? {
        windows.entry(window).or_default().push(operation);
    }
    windows
        .into_iter()
        .map(|(window, operations)| Ok((window, History::new(operations)?)))
        .collect()
}

/// As [`collect`], while the processes live but stand still (traced, stopped): what a SIGKILL now would leave.
///
/// # Errors
/// As [`collect`], without `StillWritten`.
pub fn snapshot<O: Words, R: Words>(dir: impl AsRef<Path>) -> Result<History<O, R>, CollectError> {
    let operations = read_all(dir.as_ref(), false)?;
    Ok(History::new(values(operations))?)
}

fn values<O, R>(operations: Vec<(u64, Operation<O, R>)>) -> Vec<Operation<O, R>> {
    operations
        .into_iter()
        .map(|(_, operation)| operation)
        .collect()
}

type InWindow<O, R> = (u64, Operation<O, R>);

fn read_all<O: Words, R: Words>(
    dir: &Path,
    must_have_ended: bool,
) -> Result<Vec<InWindow<O, R>>, CollectError> {
    let io_error = |source| CollectError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut operations = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        if path.extension().is_some_and(|found| found == EXTENSION) {
            if must_have_ended {
                check_ended(&path)?;
            }
            let bytes = fs::read(&path).map_err(|source| CollectError::Io {
                path: path.clone(),
                source,
            })?;
            parse(&path, &bytes, &mut operations)?;
        }
    }
    Ok(operations)
}

fn check_ended(path: &Path) -> Result<(), CollectError> {
    let io_error = |source| CollectError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(()),
        Err((_, Errno::EWOULDBLOCK)) => Err(CollectError::StillWritten {
            path: path.to_owned(),
        }),
        Err((_, errno)) => Err(io_error(errno.into())),
    }
}

fn parse<O: Words, R: Words>(
    path: &Path,
    bytes: &[u8],
    operations: &mut Vec<InWindow<O, R>>,
) -> Result<(), CollectError> {
    // PAIR recorded: a writer that died or stands still has done all its stores in program order up to some instruction,
    // and the system call that brought these bytes came after that. So a state that is seen was stored after what it
    // commits; the Release kept the compiler from another order.
    let words: Vec<u64> = bytes
        .chunks_exact(size_of::<u64>())
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("chunks of 8")))
        .collect();
    let foreign = || CollectError::Foreign {
        path: path.to_owned(),
    };
    let Some((header, records)) = words.split_at_checked(HEADER_WORDS) else {
        // Killed before the file had its size; one that never recorded is no error.
        return match bytes.is_empty() {
            true => Ok(()),
            false => Err(foreign()),
        };
    };
    let process = match *header {
        [0, ..] => return Ok(()),
        [MAGIC, process, _, capacity]
            if capacity.checked_mul(RECORD_WORDS as u64) == Some(records.len() as u64) =>
        {
            u32::try_from(process).map_err(|_| foreign())?
        }
        _ => return Err(foreign()),
    };
    let mut ended = false;
    for (number, record) in records.chunks_exact(RECORD_WORDS).enumerate() {
        let senseless = || CollectError::Record {
            path: path.to_owned(),
            record: number,
        };
        if record[STATE] == EMPTY {
            ended = true;
            continue;
        }
        if ended {
            return Err(senseless());
        }
        let operation = parse_record(process, record).ok_or_else(senseless)?;
        operations.push((record[WINDOW], operation));
    }
    Ok(())
}

fn parse_record<O: Words, R: Words>(process: u32, record: &[u64]) -> Option<Operation<O, R>> {
    let op = O::from_words(four(record, OP))?;
    let invoked = record[INVOKED_AT];
    match record[STATE] {
        INVOKED => Some(Operation::pending(process, invoked, op)),
        RETURNED => {
            let ret = R::from_words(four(record, RET))?;
            Some(Operation::returned(
                process,
                invoked,
                op,
                record[RETURNED_AT],
                ret,
            ))
        }
        _ => None,
    }
}

fn four(record: &[u64], field: usize) -> [u64; 4] {
    std::array::from_fn(|offset| record[field + offset])
}
