//! A key and its value in a block.
//!
//! ```text
//!  0  4 length of the key     4  4 length of the value; with the highest bit set: a container (`home.rs`)
//!  8  8 version: the number of the change that made it
//! 16    key, padded with zeros to 8 bytes, then the value likewise
//! ```

use shm_core::sync::{AtomicU64, Ordering};

use super::heap::UNIT;
use super::{CONTAINER, Container, Damaged, Entry, RawDict, hash};

/// In the length of a value: it is a container.
const IS_CONTAINER: u32 = 1 << 31;

/// Bytes before the key.
pub const HEADER: usize = 16;

/// The bytes of a record.
#[inline]
#[must_use]
pub const fn record_bytes(key: usize, value: usize) -> usize {
    HEADER + key.next_multiple_of(8) + value.next_multiple_of(8)
}

/// A record in the heap. Without the shard's lock its bytes may be anybody's: what was read is worth
/// something only after the generation was looked at again.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// All of it, the header too.
    words: &'a [AtomicU64],
    key: u32,
    /// With [`IS_CONTAINER`], where it is one: no byte is left over, which would be copied apart.
    value: u32,
}

/// What a record is to have in the place of its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'v> {
    pub(super) bytes: &'v [u8],
    is_container: bool,
}

/// A value in the heap.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    words: &'a [AtomicU64],
    len: usize,
}

impl RawDict {
    /// The first word of a block.
    #[inline(always)]
    pub(super) fn word(&self, unit: u64) -> Result<&AtomicU64, Damaged> {
        let damaged = Damaged {
            field: "block",
            value: unit,
        };
        let index = usize::try_from(unit).map_err(|_| damaged)?;
        self.heap.get(index.saturating_mul(2)).ok_or(damaged)
    }

    /// So many words of a block.
    #[inline(always)]
    pub(super) fn block(&self, unit: u64, words: usize) -> Result<&[AtomicU64], Damaged> {
        let damaged = Damaged {
            field: "block",
            value: unit,
        };
        let start = usize::try_from(unit)
            .ok()
            .and_then(|unit| unit.checked_mul(UNIT / 8))
            .ok_or(damaged)?;
        let end = start.checked_add(words).ok_or(damaged)?;
        self.heap.get(start..end).ok_or(damaged)
    }

    /// Asks for the line behind the first one of a block, while that one comes.
    #[inline]
    pub(super) fn prefetch_second_line(&self, unit: u64) {
        if let Some(word) = self
            .heap
            .get((unit as usize).wrapping_mul(2).wrapping_add(8))
        {
            shm_core::sync::prefetch_to_read(word);
        }
    }

    /// The record in a block; its lengths are read once, and checked.
    #[inline(always)]
    pub(super) fn record(&self, unit: u64) -> Result<Record<'_>, Damaged> {
        // Relaxed: behind the Acquire of PAIR dict-entry, or under the shard's lock.
        let lengths = self.word(unit)?.load(Ordering::Relaxed);
        let (key, value) = (lengths as u32, (lengths >> 32) as u32);
        if key > self.limits.max_key || value > self.limits.max_value {
            self.check_container(lengths)?;
        }
        let len = value & !IS_CONTAINER;
        let words = self.block(unit, record_bytes(key as usize, len as usize) / 8)?;
        Ok(Record { words, key, value })
    }

    /// Refuses lengths that are neither a value's nor a container's.
    #[cold]
    fn check_container(&self, lengths: u64) -> Result<(), Damaged> {
        let (key, value) = (lengths as u32, (lengths >> 32) as u32);
        match key <= self.limits.max_key && value == IS_CONTAINER | (CONTAINER * 8) as u32 {
            true => Ok(()),
            false => Err(Damaged {
                field: "lengths of a record",
                value: lengths,
            }),
        }
    }

    /// The record that an entry leads to, of as many words as there are `left` at most: all records together fit
    /// into the heap.
    pub(super) fn next_record(
        &self,
        entry: Entry,
        left: &mut usize,
    ) -> Result<Record<'_>, Damaged> {
        let record = self.record(entry.unit())?;
        record.count_down(entry.unit(), left)?;
        Ok(record)
    }

    /// Writes a record into a block that nothing leads to.
    #[inline]
    pub(super) fn write_record(
        &self,
        unit: u64,
        key: &[u8],
        content: Content<'_>,
        version: u64,
    ) -> Result<(), Damaged> {
        let Content {
            bytes: value,
            is_container,
        } = content;
        let words = self.block(unit, record_bytes(key.len(), value.len()) / 8)?;
        let kind = if is_container { IS_CONTAINER } else { 0 };
        let lengths = key.len() as u64 | u64::from(value.len() as u32 | kind) << 32;
        // Relaxed, all: the entry's store publishes them.
        words[0].store(lengths, Ordering::Relaxed);
        words[1].store(version, Ordering::Relaxed);
        let (to_key, to_value) = words[2..].split_at(key.len().div_ceil(8));
        store(to_key, key);
        store(to_value, value);
        Ok(())
    }
}

impl<'v> Content<'v> {
    /// A value.
    #[inline]
    pub(super) const fn value(bytes: &'v [u8]) -> Self {
        Self {
            bytes,
            is_container: false,
        }
    }

    /// The words of a container.
    pub(super) const fn container(bytes: &'v [u8; CONTAINER * 8]) -> Self {
        Self {
            bytes,
            is_container: true,
        }
    }
}

impl<'a> Record<'a> {
    /// Takes its words from those that are left.
    #[inline]
    pub(super) fn count_down(&self, unit: u64, left: &mut usize) -> Result<(), Damaged> {
        *left = left.checked_sub(self.words.len()).ok_or(Damaged {
            field: "records of a shard",
            value: unit,
        })?;
        Ok(())
    }

    #[inline(always)]
    const fn is_container(&self) -> bool {
        self.value & IS_CONTAINER != 0
    }

    /// Whether this value can be put in the place of the one that is there, by one store.
    #[inline(always)]
    pub(super) fn has_room_for(&self, value: &[u8]) -> bool {
        // That of a container is longer.
        self.value as usize == value.len() && value.len() <= 8
    }

    /// What it has in the place of a value, if it is a container.
    #[must_use]
    pub fn container(&self) -> Option<Container<'a>> {
        match self.is_container() {
            true => Container::of(self.content().words),
            false => None,
        }
    }

    /// Whether it is so long that a reader had better look again before it believes its length.
    pub(super) const fn is_long(&self) -> bool {
        self.words.len() > 512
    }

    /// Bytes of the whole.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    #[inline(always)]
    fn key_words(&self) -> &'a [AtomicU64] {
        &self.words[2..2 + (self.key as usize).div_ceil(8)]
    }

    /// Whether it is the record of this key.
    #[inline(always)]
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        self.key as usize == key.len() && are(self.key_words(), key)
    }

    /// The key's hash, of the words where they are; under the shard's lock.
    #[inline]
    pub(super) fn hash(&self, seed: [u64; 2]) -> u64 {
        let (whole, rest) = (self.key as usize / 8, self.key as usize % 8);
        let words = self.key_words();
        // Relaxed: see `Record`.
        let word = |word: &AtomicU64| u64::from_le(word.load(Ordering::Relaxed));
        let last = words.get(whole).map_or(0, word) & ((1 << (8 * rest)) - 1);
        hash::of_words(
            seed,
            words[..whole].iter().map(word),
            last,
            self.key as usize,
        )
    }

    /// The key.
    pub fn key(&self) -> Value<'a> {
        Value {
            words: self.key_words(),
            len: self.key as usize,
        }
    }

    /// The value, if it is not a container.
    #[inline(always)]
    #[must_use]
    pub fn value(&self) -> Option<Value<'a>> {
        match self.is_container() {
            true => None,
            false => Some(self.content()),
        }
    }

    #[inline(always)]
    fn content(&self) -> Value<'a> {
        Value {
            words: &self.words[2 + (self.key as usize).div_ceil(8)..],
            len: (self.value & !IS_CONTAINER) as usize,
        }
    }

    /// The number of the change that made it.
    pub fn version(&self) -> u64 {
        // Relaxed: under the shard's lock.
        self.words[1].load(Ordering::Relaxed)
    }

    /// Puts another value of one word in the place of this one; under the shard's lock.
    #[inline(always)]
    pub(super) fn replace_word(&self, value: &[u8], version: u64) {
        // Relaxed: only read under the lock. Before the value: a value has never a number that it had before.
        self.words[1].store(version, Ordering::Relaxed);
        // PAIR dict-entry: Release, for who reads the value and then what came before.
        self.content().words[0].store(padded(value), Ordering::Release);
    }
}

impl Value<'_> {
    /// Its bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of a value of at most one word, with zeros behind.
    #[inline(always)]
    #[must_use]
    pub fn word(&self) -> Option<[u8; 8]> {
        match self.words {
            [] => Some([0; 8]),
            // Relaxed: see `Record`.
            [word] => Some(word.load(Ordering::Relaxed).to_ne_bytes()),
            _ => None,
        }
    }

    /// Copies it to `out`, which has as many bytes.
    #[inline]
    pub fn copy_into(&self, out: &mut [u8]) {
        load(self.words, out);
    }

    /// Copies it, in place of what `out` had.
    #[inline]
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        out.clear();
        // No more: a length that somebody made up is in the segment, but its double need not be.
        out.reserve_exact(self.len());
        self.append_to(out);
    }

    /// Copies it behind what `out` has.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let (start, len) = (out.len(), self.len());
        out.reserve(len);
        #[cfg(not(loom))]
        {
            let (whole, to) = (len & !7, out.spare_capacity_mut().as_mut_ptr().cast());
            // SAFETY: as in `load`; `out` has room for `len` more.
            unsafe { shm_core::layout::load_words(self.words.as_ptr().cast(), to, whole) };
            // SAFETY: so many bytes were just written behind those that were there.
            unsafe { out.set_len(start + whole) };
            if let Some(word) = self.words.get(whole / 8) {
                // Relaxed: as in `load`.
                let word = word.load(Ordering::Relaxed).to_ne_bytes();
                out.extend_from_slice(&word[..len - whole]);
            }
        }
        #[cfg(loom)]
        {
            out.resize(start + len, 0);
            load(self.words, &mut out[start..]);
        }
    }

    /// Whether it is these bytes.
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.len() == bytes.len() && are(self.words, bytes)
    }

    /// Its bytes where they are.
    ///
    /// # Safety
    /// The caller holds the shard's lock as long as it uses them.
    #[cfg(not(loom))]
    #[must_use]
    pub unsafe fn as_bytes(&self) -> &[u8] {
        // SAFETY:
        // - in bounds: `record` made the words as many as the length needs; mapped as long as the dictionary;
        // - no writer in any process: values are written under the shard's lock, which the caller holds, and
        //   a block that is reachable is not given out; any bytes are `u8`s.
        unsafe { core::slice::from_raw_parts(self.words.as_ptr().cast(), self.len()) }
    }
}

/// Up to eight bytes as a word, with zeros behind.
#[inline(always)]
fn padded(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(bytes) => u64::from_ne_bytes(bytes),
        Err(_) => {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        }
    }
}

/// Whether words are these bytes, of which they are as many as are needed.
#[inline(always)]
fn are(words: &[AtomicU64], bytes: &[u8]) -> bool {
    let (whole, rest) = bytes.as_chunks::<8>();
    // Relaxed, both: see `Record`.
    let is = |(word, bytes): (&AtomicU64, &[u8; 8])| {
        word.load(Ordering::Relaxed) == u64::from_ne_bytes(*bytes)
    };
    words.iter().zip(whole).all(is)
        && (rest.is_empty() || words[whole.len()].load(Ordering::Relaxed) == padded(rest))
}

/// Copies bytes into words, which are as many as are needed; the last is filled with zeros.
#[inline]
fn store(words: &[AtomicU64], from: &[u8]) {
    let (whole, rest) = from.as_chunks::<8>();
    #[cfg(not(loom))]
    {
        let (to, len) = (words.as_ptr().cast::<u8>().cast_mut(), whole.len() * 8);
        debug_assert!(len <= words.len() * 8);
        // SAFETY:
        // - in bounds: the words are as many as the bytes need; mapped and writable as long as the dictionary; aligned;
        // - no other writer: nothing leads to the block, and the shard's lock is held.
        unsafe { shm_core::layout::store_words(to, from.as_ptr(), len) };
    }
    #[cfg(loom)]
    for (word, bytes) in words.iter().zip(whole) {
        // Relaxed: see `write_record`.
        word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        words[whole.len()].store(padded(rest), Ordering::Relaxed);
    }
}

/// Copies bytes out of words, which are as many as are needed.
#[cfg(not(loom))]
#[inline]
fn load(words: &[AtomicU64], out: &mut [u8]) {
    debug_assert_eq!(words.len(), out.len().div_ceil(8));
    let whole = out.len() & !7;
    // SAFETY:
    // - in bounds: the words are as many as the length needs; mapped as long as the dictionary; aligned;
    // - writers, in any process, store whole words atomically; any bytes are `u8`s.
    unsafe { shm_core::layout::load_words(words.as_ptr().cast(), out.as_mut_ptr(), whole) };
    if let Some(word) = words.get(whole / 8) {
        // Relaxed: see `Record`. The whole word at once: a value of one word is replaced where it is.
        let word = word.load(Ordering::Relaxed).to_ne_bytes();
        let rest = &mut out[whole..];
        rest.copy_from_slice(&word[..rest.len()]);
    }
}

#[cfg(loom)]
fn load(words: &[AtomicU64], out: &mut [u8]) {
    for (word, bytes) in words.iter().zip(out.chunks_mut(8)) {
        let word = word.load(Ordering::Relaxed).to_ne_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}
