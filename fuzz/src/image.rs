//! Segments that are in order, as bytes; and any bytes as a segment.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use shm_core::{HEADER_SIZE, Place, Segment};
use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, Mutex, Once, OnceValue, ReentrantMutex,
    RobustSemaphore, RwLock, Semaphore,
};
use shm_value::{Array, AtomicArray, AtomicValue, Item, SeqValue, ShareableList, Value};

use crate::backing::Backing;
use crate::input::by_a_byte;
use crate::probe::{self, ELEMENTS};

by_a_byte! {
    /// What lives in a segment.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Content {
        Bytes,
        Mutex,
        Value,
        AtomicValue,
        Array,
        AtomicArray,
        ReentrantMutex,
        RwLock,
        Semaphore,
        BoundedSemaphore,
        RobustSemaphore,
        Condvar,
        Event,
        Barrier,
        Once,
        OnceValue,
        SeqValue,
        ShareableList,
    }
}

impl Content {
    pub(crate) const ALL: [Self; 18] = [
        Self::Bytes,
        Self::Mutex,
        Self::Value,
        Self::AtomicValue,
        Self::Array,
        Self::AtomicArray,
        Self::ReentrantMutex,
        Self::RwLock,
        Self::Semaphore,
        Self::BoundedSemaphore,
        Self::RobustSemaphore,
        Self::Condvar,
        Self::Event,
        Self::Barrier,
        Self::Once,
        Self::OnceValue,
        Self::SeqValue,
        Self::ShareableList,
    ];

    /// Whether it has lock words beyond the first.
    pub(crate) fn has_slots(self) -> bool {
        matches!(self, Self::RwLock | Self::RobustSemaphore)
    }

    /// A segment of this content as its creator leaves it.
    pub(crate) fn image(self) -> &'static [u8] {
        static IMAGES: LazyLock<[Vec<u8>; 18]> = LazyLock::new(|| Content::ALL.map(make));
        &IMAGES[self as usize]
    }
}

/// Makes a segment and copies its bytes. Two participants, so that the payload is near.
fn make(content: Content) -> Vec<u8> {
    let place = Place::anonymous().participants(2);
    match content {
        Content::Bytes => bytes_of(&Segment::create(place, 64).expect("a segment")),
        Content::Mutex => bytes_of(Mutex::create(place, 7_u64).expect("a mutex").segment()),
        Content::Value => bytes_of(Value::create(place, [7; 24]).expect("a value").segment()),
        Content::AtomicValue => {
            let number = AtomicValue::create(place, 7_i64).expect("a number");
            bytes_of(number.segment())
        }
        Content::Array => bytes_of(Array::create(place, &ELEMENTS).expect("an array").segment()),
        Content::AtomicArray => {
            let array = AtomicArray::create(place, &ELEMENTS).expect("an array");
            bytes_of(array.segment())
        }
        Content::ReentrantMutex => {
            let mutex = ReentrantMutex::create(place, 7_u64).expect("a mutex");
            bytes_of(mutex.segment())
        }
        Content::RwLock => {
            let lock = RwLock::create_for(place, 7_u64, 2).expect("a lock for two readers");
            bytes_of(lock.segment())
        }
        Content::Semaphore => {
            let semaphore = Semaphore::create(place, 2).expect("a semaphore");
            bytes_of(semaphore.segment())
        }
        Content::BoundedSemaphore => {
            let semaphore = BoundedSemaphore::create(place, 2).expect("a semaphore");
            bytes_of(semaphore.segment())
        }
        Content::RobustSemaphore => {
            let semaphore = RobustSemaphore::create(place, 2).expect("a semaphore");
            bytes_of(semaphore.segment())
        }
        Content::Condvar => bytes_of(Condvar::create(place).expect("a condvar").segment()),
        Content::Event => bytes_of(Event::create(place).expect("an event").segment()),
        Content::Barrier => bytes_of(Barrier::create(place, 2).expect("a barrier").segment()),
        Content::Once => bytes_of(Once::create(place).expect("a once").segment()),
        Content::OnceValue => {
            let once = OnceValue::<[u8; 24]>::create(place).expect("a once");
            bytes_of(once.segment())
        }
        Content::SeqValue => {
            let value = SeqValue::create(place, [7; 24]).expect("a value");
            bytes_of(value.segment())
        }
        Content::ShareableList => {
            let items = [
                "seven".into(),
                7.into(),
                7.0.into(),
                true.into(),
                Item::None,
            ];
            let list = ShareableList::create(place, &items).expect("a list");
            bytes_of(list.segment())
        }
    }
}

fn bytes_of(segment: &Segment) -> Vec<u8> {
    let fd = segment
        .as_fd()
        .expect("an anonymous segment has a descriptor");
    let file = File::from(fd.try_clone_to_owned().expect("a descriptor"));
    let len = file.metadata().expect("its size").len() as usize;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

/// Where boot id and namespaces stand, which no fuzzer guesses.
const ORIGIN: std::ops::Range<usize> = 88..112;

/// Opens any bytes as a segment, and uses what opens.
///
/// The first two bytes say how:
///
/// | byte | bits | |
/// |---:|---:|---|
/// | 0 | 0 | 0: the rest is the segment, but for boot id and namespaces; 1: the rest follows a header that is in order |
/// | 0 | 1 | 1: attached to read only |
/// | 0 | 2.. | modulo 18: opened as this content |
/// | 1 | 0..5 | 0 to 27: in memory; 28 to 30: in a file; 31: under a name, which costs the most |
pub fn segment_image(data: &[u8]) {
    let [mode, place, rest @ ..] = data else {
        return;
    };
    let (read_only, mode, choice) = (mode & 2 != 0, mode & 1, usize::from(mode >> 2));
    let content = Content::ALL[choice % Content::ALL.len()];
    let mut bytes = rest.to_vec();
    if mode == 0 {
        if let Some(origin) = bytes.get_mut(ORIGIN) {
            origin.copy_from_slice(&content.image()[ORIGIN]);
        }
    } else {
        let whole = content.image();
        bytes.splice(..0, whole[..HEADER_SIZE].iter().copied());
        bytes.resize(bytes.len().max(whole.len()), 0);
    }
    let backing = match place % 32 {
        0..28 => Backing::memory(&bytes),
        28..31 => Backing::file(&bytes),
        _ => Backing::named(&bytes),
    };
    probe::attach_and_use(&backing, content, read_only, &[]);
    if let Backing::Named { name, .. } = &backing {
        probe::meet_the_name(name, bytes.len());
    }
}
