//! Attaches to doubtful bytes and calls the whole API on them, never blocking.
//!
//! A lock word of any bytes looks held, perhaps by a thread that lives; so a call that waits is made
//! only right after a `try_` form found the lock free, or with a deadline that has passed.

mod lock;
mod value;

use std::fmt::{self, Debug, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use shm_core::sync::AtomicU64;
use shm_core::{Error, Place, Segment};
use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, Mutex, Once, OnceValue, ReentrantMutex,
    RobustSemaphore, RwLock, Semaphore,
};
use shm_value::{
    Array, AtomicArray, AtomicArrayReader, AtomicReader, AtomicValue, SeqValue, ShareableList,
    Value,
};

use crate::allocation;
use crate::backing::Backing;
use crate::descriptors;
use crate::image::Content;
use crate::pokes::Round;
use crate::told::{self, told};

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
    told::forget();
    // Where a handle made now finds its lock words, if its content has any.
    let payload = backing.peek(40) as usize;
    let attack = || {
        let Ok(target) = Target::attach(backing, content, read_only).map_err(|error| told(&error))
        else {
            return;
        };
        target.use_all(0);
        for round in rounds {
            for poke in &round.pokes.0 {
                poke.apply(backing);
            }
            target.use_all(round.choice);
        }
        let last = if content.has_slots() {
            backing.len()
        } else {
            payload
        };
        release_all(backing, payload..=last);
    };
    descriptors::closed(|| allocation::bounded(backing.len(), attack));
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

/// A mapping with a lock that this process seems to hold would be kept for ever.
fn release_all(backing: &Backing, words: RangeInclusive<usize>) {
    for word in words.step_by(64) {
        if names_own_thread(backing.peek(word) as u32) {
            backing.poke(word, &[0; 4]);
        }
    }
}

fn names_own_thread(word: u32) -> bool {
    let tid = word & 0x3FFF_FFFF;
    tid != 0 && Path::new(&format!("/proc/self/task/{tid}")).exists()
}

/// Formats without keeping the text: that of a long array is longer than the array.
fn shown(what: &impl Debug) {
    struct Nowhere;
    impl Write for Nowhere {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            Ok(())
        }
    }
    assert!(write!(Nowhere, "{what:?}").is_ok());
}

/// A handle of each kind.
enum Target {
    Bytes(Segment),
    Mutex(Mutex<u64>),
    Value(Value<[u8; 24]>),
    Number(AtomicValue<i64>),
    NumberReader(AtomicReader<i64>),
    Array(Array<u32>),
    Numbers(AtomicArray<u32>),
    NumbersReader(AtomicArrayReader<u32>),
    Reentrant(ReentrantMutex<u64>),
    RwLock(RwLock<u64>),
    Semaphore(Semaphore),
    Bounded(BoundedSemaphore),
    Robust(RobustSemaphore),
    Condvar(Condvar),
    Event(Event),
    Barrier(Barrier),
    Once(Once),
    OnceValue(OnceValue<[u8; 24]>),
    SeqValue(SeqValue<[u8; 24]>),
    List(ShareableList),
}

impl Target {
    fn attach(backing: &Backing, content: Content, read_only: bool) -> Result<Self, Error> {
        let place = backing.place();
        Ok(match (content, read_only) {
            (Content::Bytes, false) => Self::Bytes(Segment::open(place, 8)?),
            (Content::Bytes, true) => Self::Bytes(Segment::open_read_only(place, 8)?),
            (Content::Value, false) => Self::Value(Value::open(place)?),
            (Content::Value, true) => Self::Value(Value::open_read_only(place)?),
            (Content::AtomicValue, false) => Self::Number(AtomicValue::open(place)?),
            (Content::AtomicValue, true) => Self::NumberReader(AtomicValue::open_read_only(place)?),
            (Content::Array, false) => Self::Array(Array::open(place)?),
            (Content::Array, true) => Self::Array(Array::open_read_only(place)?),
            (Content::AtomicArray, false) => Self::Numbers(AtomicArray::open(place)?),
            (Content::AtomicArray, true) => {
                Self::NumbersReader(AtomicArray::open_read_only(place)?)
            }
            (Content::Once, false) => Self::Once(Once::open(place)?),
            (Content::Once, true) => Self::Once(Once::open_read_only(place)?),
            (Content::OnceValue, false) => Self::OnceValue(OnceValue::open(place)?),
            (Content::OnceValue, true) => Self::OnceValue(OnceValue::open_read_only(place)?),
            (Content::SeqValue, false) => Self::SeqValue(SeqValue::open(place)?),
            (Content::SeqValue, true) => Self::SeqValue(SeqValue::open_read_only(place)?),
            (Content::ShareableList, false) => Self::List(ShareableList::open(place)?),
            (Content::ShareableList, true) => Self::List(ShareableList::open_read_only(place)?),
            // The others are not opened to read.
            (Content::Mutex, _) => Self::Mutex(Mutex::open(place)?),
            (Content::ReentrantMutex, _) => Self::Reentrant(ReentrantMutex::open(place)?),
            (Content::RwLock, _) => Self::RwLock(RwLock::open(place)?),
            (Content::Semaphore, _) => Self::Semaphore(Semaphore::open(place)?),
            (Content::BoundedSemaphore, _) => Self::Bounded(BoundedSemaphore::open(place)?),
            (Content::RobustSemaphore, _) => Self::Robust(RobustSemaphore::open(place)?),
            (Content::Condvar, _) => Self::Condvar(Condvar::open(place)?),
            (Content::Event, _) => Self::Event(Event::open(place)?),
            (Content::Barrier, _) => Self::Barrier(Barrier::open(place)?),
        })
    }

    fn use_all(&self, choice: u8) {
        match self {
            Self::Bytes(segment) => use_segment(segment),
            Self::Mutex(mutex) => lock::use_mutex(mutex, choice),
            Self::Value(value) => value::use_value(value, choice),
            Self::Number(number) => value::use_number(number),
            Self::NumberReader(reader) => value::use_number_reader(reader),
            Self::Array(array) => value::use_array(array, choice),
            Self::Numbers(array) => value::use_numbers(array),
            Self::NumbersReader(reader) => value::use_numbers_reader(reader),
            Self::Reentrant(mutex) => lock::use_reentrant(mutex, choice),
            Self::RwLock(lock) => lock::use_rwlock(lock, choice),
            Self::Semaphore(semaphore) => lock::use_semaphore(semaphore, choice),
            Self::Bounded(semaphore) => lock::use_bounded(semaphore, choice),
            Self::Robust(semaphore) => lock::use_robust(semaphore),
            Self::Condvar(condvar) => lock::use_condvar(condvar, choice),
            Self::Event(event) => lock::use_event(event),
            Self::Barrier(barrier) => lock::use_barrier(barrier, choice),
            Self::Once(once) => lock::use_once(once),
            Self::OnceValue(once) => lock::use_once_value(once),
            Self::SeqValue(value) => value::use_seq_value(value, choice),
            Self::List(list) => value::use_list(list, choice),
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
        // A header may say that a lock is in it.
        let locked = matches!(read, Err(shm_core::Error::Unsupported { .. }));
        assert_eq!(read.is_ok(), inside && !locked, "{offset} of {size}");
        if let Err(error) = read {
            told(&error);
        }
        let written = segment.write(offset, &bytes);
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
