//! Faults of the kinds that the targets look for. SHM_FUZZ_PLANTED names the one that is active.

use std::sync::LazyLock;

use shm_core::sync::{AtomicU64, Ordering};
use shm_dict::{Bytes, Codec, Dict, Dynamic, KeyBytes, List, Postcard, ShmKey};
use shm_lock::{LockError, Mutex, Semaphore};
use shm_queue::{ByteQueue, QueueError};
use shm_value::{Array, Item, ShareableList, Value};

fn active(fault: &str) -> bool {
    static CHOSEN: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("SHM_FUZZ_PLANTED").ok());
    CHOSEN.as_deref() == Some(fault)
}

pub(crate) fn in_mutex(mutex: &Mutex<u64>) {
    if active("panic") {
        // "It is either free or held."
        assert!(matches!(
            mutex.try_lock(),
            Ok(_) | Err(LockError::WouldBlock)
        ));
    }
    if active("hang") {
        // "Whoever holds it will release it."
        while matches!(mutex.try_lock(), Err(LockError::WouldBlock)) {}
    }
}

pub(crate) fn in_semaphore(semaphore: &Semaphore) {
    if active("permits") {
        // "There are never more than at creation."
        assert!(semaphore.inspect().permits <= 2);
    }
}

pub(crate) fn in_array(array: &Array<u32>) {
    let word = array
        .segment()
        .view::<AtomicU64>(48)
        .expect("the length word");
    // "It was checked when the array was attached."
    let len = word.load(Ordering::Relaxed) as usize;
    if active("length") && len > 0 {
        let first = array
            .segment()
            .at(56, 4)
            .expect("the first element")
            .cast::<u32>()
            .as_ptr();
        let last = first.wrapping_add(len - 1);
        // SAFETY: none: this is the fault, a length that is read again and not checked again.
        std::hint::black_box(unsafe { last.read_volatile() });
    }
    if active("allocation") {
        std::hint::black_box(Vec::<u32>::with_capacity(len % (1 << 28)));
    }
    if active("descriptor") && array.segment().participants().len() != 2 {
        std::mem::forget(array.segment().as_fd().map(|fd| fd.try_clone_to_owned()));
    }
}

/// Whether a guard that is to be discarded is.
pub(crate) fn discards(value: &Value<[u8; 24]>) -> bool {
    !active("discard") || value.get().is_ok_and(|bytes| bytes[0] == 0)
}

pub(crate) fn in_list(list: &ShareableList) {
    if active("item") {
        // "They were checked when the list was opened."
        assert!(list.iter().all(|item| item.is_ok()));
    }
}

/// What a list is expected to hold after an item was set.
pub(crate) fn in_set(item: Item) -> Item {
    match item {
        // "As in Python, where those at the end are lost."
        Item::Bytes(mut bytes) if active("zeros") => {
            while bytes.pop_if(|byte| *byte == 0).is_some() {}
            Item::Bytes(bytes)
        }
        item => item,
    }
}

/// What a get is expected to give.
pub(crate) fn in_get(expected: Result<Vec<u8>, QueueError>) -> Result<Vec<u8>, QueueError> {
    match expected {
        // "The second message of any queue is large."
        Ok(text) if active("order") && text.first() == Some(&1) && text.len() < 300 => {
            Err(QueueError::Empty)
        }
        expected => expected,
    }
}

pub(crate) fn in_queue(queue: &ByteQueue) {
    if active("waiting") {
        // "A queue never has more than its capacity."
        assert!(queue.len().is_ok_and(|len| len <= queue.capacity()));
    }
}

/// What a pop is expected to give.
pub(crate) fn in_pop(expected: Option<Vec<u8>>) -> Option<Vec<u8>> {
    // "A value of more than a block is gone once it was replaced."
    expected.filter(|value| !active("removal") || value.len() < 256)
}

pub(crate) fn in_dict<K: ShmKey, V, C: Codec<V>>(dict: &Dict<K, V, C>) {
    if active("entries") {
        // "There are never more entries than places for them."
        let seen = dict.inspect();
        assert!(
            seen.shards
                .iter()
                .all(|shard| shard.entries <= shard.places)
        );
    }
}

/// What these bytes are as a key.
pub(crate) fn in_key(bytes: &[u8]) -> Option<Dynamic> {
    // "What is written as a value is a key."
    <Postcard as Codec<Dynamic>>::decode(bytes)
        .ok()
        .filter(|key| active("key") && key.with_key_bytes(|_| Ok(())).is_ok())
}

/// What a value is encoded to.
pub(crate) fn in_encoded(bytes: &mut Vec<u8>) {
    // "Zeros at the end say nothing."
    if active("round") && bytes.last() == Some(&0) {
        bytes.pop();
    }
}

/// What an end of a list is expected to give.
pub(crate) fn in_end(expected: Option<Vec<u8>>) -> Option<Vec<u8>> {
    // "What does not fit into the word of an item stays."
    expected.filter(|value| !active("long") || value.len() < 8)
}

pub(crate) fn in_row(row: &List<Vec<u8>, Bytes>) {
    if active("span") {
        // "A list is as long as it was made."
        assert!(row.len().is_ok_and(|len| len < 50));
    }
}
