//! Attaches to doubtful bytes and calls the whole API on them, never blocking.
//!
//! A lock word of any bytes looks held, perhaps by a thread that lives; so a call that waits is made
//! only right after a `try_` form found the lock free, or with a deadline that has passed.

use std::fmt::Debug;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use shm_core::sync::AtomicU64;
use shm_core::{Error, Place, Segment};
use shm_lock::{Guarded, LockError, LockResult, Mutex};
use shm_value::{Array, AtomicReader, AtomicValue, Value, ValueError, ValueGuard};

use crate::allocation;
use crate::backing::Backing;
use crate::image::Content;
use crate::pokes::Round;

/// The array of an image.
pub(crate) const ELEMENTS: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// Attaches as `content` and, if that succeeds, uses it: once as it is, then after each round's
/// changes.
pub(crate) fn attach_and_use(
    backing: &Backing,
    content: Content,
    read_only: bool,
    rounds: &[Round],
) {
    let descriptors = lowest_free_descriptor();
    // Where a handle made now finds its lock word, if its content has one.
    let lock_word = backing.peek(40) as usize;
    allocation::bounded(backing.len(), || {
        let Ok(target) = Target::attach(backing, content, read_only).map_err(|error| told(&error))
        else {
            return;
        };
        target.use_all(0);
        for round in rounds {
            for poke in &round.pokes {
                poke.apply(backing);
            }
            target.use_all(round.choice);
        }
        // A mapping with a lock that this process seems to hold would be kept for ever.
        if names_own_thread(backing.peek(lock_word) as u32) {
            backing.poke(lock_word, &[0; 4]);
        }
    });
    assert_eq!(
        descriptors,
        lowest_free_descriptor(),
        "a descriptor was left open"
    );
}

/// Does what a stranger does who meets the name: creates in its place, and removes it.
pub(crate) fn meet_the_name(name: &str, size: usize) {
    allocation::bounded(size, || {
        let place = || Place::named(name).participants(2);
        match Segment::create(place(), 64) {
            // It looked like one that should have gone with its creator.
            Ok(segment) => assert_eq!(segment.size(), 64),
            Err(error) => told(&error),
        }
        match Segment::open_or_create(place(), 64) {
            Ok(segment) => use_segment(&segment),
            Err(error) => told(&error),
        }
        match shm_core::unlink(name) {
            Ok(()) => {
                let gone = matches!(Segment::open(name, 64), Err(Error::NotFound { .. }));
                assert!(gone, "a name that was removed is there");
            }
            Err(error) => told(&error),
        }
    });
}

fn names_own_thread(word: u32) -> bool {
    let tid = word & 0x3FFF_FFFF;
    tid != 0 && Path::new(&format!("/proc/self/task/{tid}")).exists()
}

fn lowest_free_descriptor() -> RawFd {
    nix::unistd::dup(std::io::stderr())
        .expect("a descriptor")
        .as_raw_fd()
}

/// An error says something.
fn told(error: &(impl std::fmt::Display + Debug)) {
    assert!(!error.to_string().is_empty() && !format!("{error:?}").is_empty());
}

/// A handle of each kind.
enum Target {
    Bytes(Segment),
    Mutex(Mutex<u64>),
    Value(Value<[u8; 24]>),
    Number(AtomicValue<i64>),
    Reader(AtomicReader<i64>),
    Array(Array<u32>),
}

impl Target {
    fn attach(backing: &Backing, content: Content, read_only: bool) -> Result<Self, Error> {
        let place = backing.place();
        Ok(match (content, read_only) {
            (Content::Bytes, false) => Self::Bytes(Segment::open(place, 8)?),
            (Content::Bytes, true) => Self::Bytes(Segment::open_read_only(place, 8)?),
            // A mutex is not opened to read.
            (Content::Mutex, _) => Self::Mutex(Mutex::open(place)?),
            (Content::Value, false) => Self::Value(Value::open(place)?),
            (Content::Value, true) => Self::Value(Value::open_read_only(place)?),
            (Content::AtomicValue, false) => Self::Number(AtomicValue::open(place)?),
            (Content::AtomicValue, true) => Self::Reader(AtomicValue::open_read_only(place)?),
            (Content::Array, false) => Self::Array(Array::open(place)?),
            (Content::Array, true) => Self::Array(Array::open_read_only(place)?),
        })
    }

    fn use_all(&self, choice: u8) {
        match self {
            Self::Bytes(segment) => use_segment(segment),
            Self::Mutex(mutex) => use_mutex(mutex, choice),
            Self::Value(value) => use_value(value, choice),
            Self::Number(number) => use_number(number),
            Self::Reader(reader) => {
                let _ = (reader.load(), format!("{reader:?}"), reader.clone());
            }
            Self::Array(array) => use_array(array, choice),
        }
    }
}

fn use_segment(segment: &Segment) {
    let _ = (
        segment.kind(),
        segment.generation(),
        segment.creator(),
        segment.participants(),
    );
    let size = segment.size();
    let mut bytes = [0; 16];
    for offset in [
        0,
        size / 2,
        size.saturating_sub(16),
        size - 8,
        size,
        usize::MAX,
    ] {
        let inside = offset <= size && size - offset >= 16;
        let read = segment.read(offset, &mut bytes);
        assert_eq!(read.is_ok(), inside, "{offset} of {size}");
        if let Err(error) = read {
            told(&error);
        }
        let written = segment.write(offset, &bytes);
        // A header may say that a lock is in it.
        let locked = matches!(written, Err(shm_core::Error::Unsupported { .. }));
        assert_eq!(
            written.is_ok(),
            inside && !segment.is_read_only() && !locked,
            "{offset} of {size}"
        );
        assert!(segment.view::<AtomicU64>(offset).is_ok() <= (offset <= size - 8));
    }
    for result in [
        segment.allocate(0, size),
        segment.allocate(size, 1),
        segment.unlink(),
    ] {
        if let Err(error) = result {
            told(&error);
        }
    }
    let _ = (
        segment.participant(),
        segment.handle(),
        format!("{segment:?}"),
    );
}

fn use_mutex(mutex: &Mutex<u64>, choice: u8) {
    let _ = (mutex.inspect(), format!("{mutex:?}"), mutex.unlink());
    let change = |data: &mut u64| *data = data.wrapping_add(1);
    let free = settle(mutex.try_lock(), choice, change);
    #[cfg(feature = "planted")]
    crate::planted::in_mutex(mutex);
    settle(mutex.lock_deadline(Instant::now()), choice, change);
    settle(mutex.lock_timeout(Duration::ZERO), choice, change);
    if free {
        settle(mutex.lock(), choice, change);
        match mutex.lock_or_repair(|data, _| change(data)) {
            Ok(mut guard) => change(&mut guard),
            Err(failure) => told(&failure),
        }
    }
}

/// Does with a lock what `choice` says; tells whether it was to be had and still is.
fn settle<G: Guarded + Debug>(
    result: LockResult<G>,
    choice: u8,
    change: impl FnOnce(&mut G::Data),
) -> bool {
    let mut guard = match result {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(recover) | LockError::Poisoned(recover)) => {
            told(&recover.cause());
            match choice % 4 {
                0 => drop(recover.repair(change)),
                1 => drop(recover.accept()),
                2 => {
                    recover.abandon();
                    return false;
                }
                _ => drop(recover),
            }
            return true;
        }
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let _ = (format!("{guard:?}"), guard.data());
    change(guard.data_mut());
    true
}

fn use_value(value: &Value<[u8; 24]>, choice: u8) {
    let _ = (value.inspect(), format!("{value:?}"), value.unlink());
    let read = value.get();
    let settle = |result: Result<ValueGuard<'_, [u8; 24]>, ValueError>| match result {
        Ok(guard) if choice.is_multiple_of(2) => guard.discard(),
        Ok(mut guard) => guard[0] ^= choice,
        Err(error) => told(&error),
    };
    settle(value.try_lock());
    settle(value.lock_timeout(Duration::ZERO));
    settle(value.lock_deadline(Instant::now()));
    if value.segment().is_read_only() {
        assert_eq!(value.set([0; 24]), Err(ValueError::ReadOnly));
        assert_eq!(value.get(), read);
        return;
    }
    if value.try_lock().is_err() {
        return;
    }
    if choice.is_multiple_of(2) {
        assert_eq!(value.get(), read, "a discarded guard changed the value");
    }
    let bytes = [choice; 24];
    assert_eq!(value.set(bytes), Ok(()));
    assert_eq!(value.get(), Ok(bytes));
    assert_eq!(value.update(|bytes| bytes[3] = 3), Ok(()));
    assert_eq!(value.get().map(|bytes| bytes[3]), Ok(3));
}

fn use_number(number: &AtomicValue<i64>) {
    let _ = (format!("{number:?}"), number.unlink());
    let first = number.load();
    assert_eq!(number.fetch_add(i64::MAX), first);
    assert_eq!(number.fetch_sub(i64::MAX), first.wrapping_add(i64::MAX));
    assert_eq!(number.swap(1), first);
    assert_eq!(number.compare_exchange(2, 3), Err(1));
    assert_eq!(number.compare_exchange(1, 3), Ok(1));
    assert_eq!(number.fetch_update(|seen| seen.checked_add(1)), Ok(3));
    number.store(first);
    assert_eq!(number.load(), first);
}

fn use_array(array: &Array<u32>, choice: u8) {
    let _ = (
        array.inspect(),
        format!("{array:?}"),
        array.unlink(),
        array.is_empty(),
    );
    let len = array.len();
    #[cfg(feature = "planted")]
    crate::planted::in_array(array);
    let change = |elements: &mut [u32]| {
        assert_eq!(elements.len(), len);
        elements.reverse();
    };
    let free = settle(array.try_lock(), choice, change);
    settle(array.lock_deadline(Instant::now()), choice, change);
    settle(array.lock_timeout(Duration::ZERO), choice, change);
    let read_only = array.segment().is_read_only();
    assert!(!(free && read_only), "a lock on a read-only attachment");
    if !free && !read_only {
        return;
    }
    settle(array.lock(), choice, change);
    match array.lock_or_repair(|elements, _| elements.reverse()) {
        Ok(mut guard) => change(&mut guard),
        Err(failure) => told(&failure),
    }
    for index in [0, len / 2, len.wrapping_sub(1), len, usize::MAX] {
        let out_of_range = Err(ValueError::OutOfRange { index, len });
        let (get, set) = (array.get(index), array.set(index, 9));
        if index >= len {
            assert_eq!((get, set), (out_of_range, out_of_range.map(drop)));
        } else if set.is_ok() {
            assert_eq!(array.get(index), Ok(9));
        } else if read_only {
            assert!(
                get.is_ok() && set == Err(ValueError::ReadOnly),
                "{get:?} {set:?}"
            );
        }
    }
}
