//! Values, numbers, arrays and lists, used as [`super`] says.

use std::time::{Duration, Instant};

use shm_value::{
    Array, AtomicArray, AtomicArrayReader, AtomicReader, AtomicValue, SeqValue, ShareableList,
    Value, ValueError, ValueGuard,
};

use super::lock::settle;
use super::{shown, told};

pub(super) fn use_value(value: &Value<[u8; 24]>, choice: u8) {
    let _ = (value.inspect(), format!("{value:?}"), value.unlink());
    let read = value.get();
    write(value.try_lock(), choice);
    write(value.lock_timeout(Duration::ZERO), choice);
    write(value.lock_deadline(Instant::now()), choice);
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

/// Commits or discards, as `choice` says.
fn write(result: Result<ValueGuard<'_, [u8; 24]>, ValueError>, choice: u8) {
    match result {
        Ok(guard) if choice.is_multiple_of(2) => guard.discard(),
        Ok(mut guard) => guard[0] ^= choice,
        Err(error) => told(&error),
    }
}

pub(super) fn use_seq_value(value: &SeqValue<[u8; 24]>, choice: u8) {
    let _ = (value.inspect(), format!("{value:?}"), value.unlink());
    let seen = value.get_with_version();
    assert_eq!((value.get(), value.version()), seen);
    let late = value.wait_for_change_deadline(seen.1, Instant::now());
    assert_eq!(late, Err(ValueError::Timeout));
    let timeout = Duration::ZERO;
    assert_eq!(value.wait_for_change_timeout(seen.1, timeout), late);
    assert_eq!(value.wait_for_change(!seen.1), seen);
    assert_eq!(value.waiters(), 0);
    write(value.try_lock(), choice);
    write(value.lock_timeout(timeout), choice);
    write(value.lock_deadline(Instant::now()), choice);
    if value.segment().is_read_only() {
        assert_eq!(value.set([0; 24]), Err(ValueError::ReadOnly));
        assert_eq!(value.get_with_version(), seen);
        return;
    }
    if value.try_lock().is_err() {
        return;
    }
    if choice.is_multiple_of(2) {
        let now = value.get_with_version();
        assert_eq!(now, seen, "a discarded guard changed the value");
    }
    let version = value.version();
    let bytes = [choice; 24];
    assert_eq!(value.set(bytes), Ok(()));
    let (now, next) = value.wait_for_change(version);
    assert_eq!(now, bytes);
    // Bytes may say that it is the last one.
    assert_eq!(next, version.wrapping_add(1) & (u64::MAX >> 1));
    assert_eq!(value.update(|bytes| bytes[3] = 3), Ok(()));
    assert_eq!(value.get()[3], 3);
}

pub(super) fn use_list(list: &ShareableList, choice: u8) {
    let _ = (list.inspect(), list.unlink(), list.is_empty());
    shown(list);
    #[cfg(feature = "planted")]
    crate::planted::in_list(list);
    let len = list.len();
    assert!(list.iter().len() == len && list.is_empty() == (len == 0));
    let corrupt = list.iter().find_map(Result::err);
    assert_eq!(list.to_vec().err(), corrupt);
    for found in [list.count("seven"), list.count(7), list.count(true)] {
        assert_eq!(found.err(), corrupt);
    }
    for found in [list.index_of("seven"), list.index_of(7)] {
        let Ok(Some(index)) = found else { continue };
        assert!(list.get(index).is_ok());
    }
    match list.lock_timeout(Duration::ZERO) {
        Ok(guard) => shown(&guard),
        Err(error) => told(&error),
    }
    let guard = match list.try_lock() {
        Ok(guard) => guard,
        Err(error) => {
            told(&error);
            let read_only = list.segment().is_read_only();
            assert!(!read_only || list.set(0, 7) == Err(ValueError::ReadOnly));
            return;
        }
    };
    for index in places(len) {
        let Some(room) = list.room(index) else {
            let out_of_range = ValueError::OutOfRange { index, len };
            assert!(index >= len);
            assert_eq!(list.get(index), Err(out_of_range));
            assert_eq!(guard.set(index, 7), Err(out_of_range));
            continue;
        };
        let bytes = vec![choice; room + 1];
        let need = room + 1;
        let too_long = Err(ValueError::TooLong { index, need, room });
        assert_eq!(guard.set(index, &*bytes), too_long);
        assert_eq!(guard.set(index, &bytes[..room]), Ok(()));
        assert_eq!(list.get(index), Ok(bytes[..room].into()));
        assert_eq!(guard.set(index, i64::from(choice)), Ok(()));
        assert_eq!(guard.get(index), Ok(i64::from(choice).into()));
    }
    drop(guard);
    if len > 0 {
        assert_eq!(list.set(0, "again"), Ok(()));
    }
}

pub(super) fn use_number(number: &AtomicValue<i64>) {
    let _ = (format!("{number:?}"), number.unlink());
    let first = number.load();
    let late = number.wait_deadline(first, Instant::now());
    assert_eq!(late, Err(ValueError::Timeout));
    assert_eq!(number.wait_timeout(first, Duration::ZERO), late);
    assert_eq!(number.wait(!first), first);
    assert_eq!((number.notify_all(), number.notify_one()), (0, false));
    assert_eq!(number.waiters(), 0);
    assert_eq!(number.fetch_add(i64::MAX), first);
    assert_eq!(number.fetch_sub(i64::MAX), first.wrapping_add(i64::MAX));
    assert_eq!(number.swap(1), first);
    assert_eq!(number.compare_exchange(2, 3), Err(1));
    assert_eq!(number.compare_exchange(1, 3), Ok(1));
    assert_eq!(number.fetch_update(|seen| seen.checked_add(1)), Ok(3));
    number.store(first);
    assert_eq!(number.load(), first);
}

pub(super) fn use_array(array: &Array<u32>, choice: u8) {
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
        let (start, end) = (len / 3, len / 2);
        elements[start..end].fill(u32::from(choice));
        elements.copy_within(start..end, 0);
        assert_eq!(elements.iter().as_slice()[start..end].len(), end - start);
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
    for index in places(len) {
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

pub(super) fn use_number_reader(reader: &AtomicReader<i64>) {
    shown(reader);
    let reader = reader.clone();
    let seen = reader.load();
    let late = reader.wait_deadline(seen, Instant::now());
    assert_eq!(late, Err(ValueError::Timeout));
    assert_eq!(reader.wait_timeout(seen, Duration::ZERO), late);
    assert_eq!(reader.wait(!seen), seen);
}

pub(super) fn use_numbers(array: &AtomicArray<u32>) {
    let _ = array.unlink();
    shown(array);
    let len = array.len();
    assert_eq!(array.to_vec().len(), len);
    assert!(array.elements().len() == len && array.iter().len() == len);
    assert_eq!(array.is_empty(), len == 0);
    for index in places(len) {
        let Ok(element) = array.element(index) else {
            let out_of_range = ValueError::OutOfRange { index, len };
            assert!(index >= len);
            assert_eq!(array.load(index), Err(out_of_range));
            assert_eq!(array.store(index, 1), Err(out_of_range));
            continue;
        };
        let first = element.load();
        assert_eq!(array.load(index), Ok(first));
        assert_eq!(element.fetch_add(u32::MAX), first);
        assert_eq!(element.fetch_sub(u32::MAX), first.wrapping_sub(1));
        assert_eq!(element.swap(1), first);
        assert_eq!(element.compare_exchange(2, 3), Err(1));
        assert_eq!(element.compare_exchange(1, 3), Ok(1));
        assert_eq!(element.fetch_update(|seen| seen.checked_add(1)), Ok(3));
        element.store(first);
        assert_eq!(array.store(index, first), Ok(()));
    }
}

pub(super) fn use_numbers_reader(reader: &AtomicArrayReader<u32>) {
    shown(reader);
    let len = reader.len();
    let all = reader.clone().to_vec();
    assert!(all.len() == len && reader.iter().eq(all.iter().copied()));
    for index in places(len) {
        let expected = all.get(index).copied();
        assert_eq!(
            reader.load(index),
            expected.ok_or(ValueError::OutOfRange { index, len })
        );
    }
}

/// Indexes in an array of `len` and beyond it.
fn places(len: usize) -> [usize; 5] {
    [0, len / 2, len.wrapping_sub(1), len, usize::MAX]
}
