//! Tells a forked child from its parent at the price of one load.
//!
//! A child inherits every byte of its parent's private memory: thread-local caches of thread ids,
//! guards of locks that it does not hold, handles that would unlink a name it does not own. One page is
//! different: `MADV_WIPEONFORK` has the kernel hand the child a zeroed copy. The page holds the
//! process's stamp; a cache that remembers the stamp it was filled under knows whether it was copied.
//!
//! - INV-F1: a process never has the stamp that one it descends from, by `fork`, `_Fork` or `clone`
//!   without `CLONE_VM`, had before that fork (so whatever it inherited was filled under another): the counter that numbers them is ordinary memory, so a
//!   child's starts where its parent's stood.
//! - INV-F2: a stamp never changes during a process's life, and never is zero.
//!
//! A child of `vfork` or `clone(CLONE_VM)` shares its parent's memory and therefore its stamp: it must
//! not use the family's types before it has called `exec`.
//!
//! Sources: madvise(2), `MADV_WIPEONFORK` (Linux 4.14).

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::mutants::mutant;

// The page and the counter are this process's own memory, not a protocol between threads of a model:
// they are `core` atomics in loom builds too.

/// Stands in for the page until there is one.
static NO_PAGE: AtomicU64 = AtomicU64::new(0);

/// Stands in for the page for good, in a process that did not get it when it first asked, and in its children.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// The wipe-on-fork page, [`NO_PAGE`] or [`REFUSED`]; never dangling. Changes once.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(no_page());

/// The last stamp that this process, or any process it was forked from, has handed out.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Bytes of the page.
const PAGE_SIZE: usize = 4096;

/// Set in the stamps of a process that could not get the page: the rest is its process id.
const WITHOUT_PAGE: u64 = 1 << 63;

const fn no_page() -> *mut AtomicU64 {
    ptr::from_ref(&NO_PAGE).cast_mut()
}

/// This process's stamp: the same in all its threads and for its whole life, different in a forked child.
///
/// Two loads, after the first call in a process.
#[inline]
#[must_use]
pub fn stamp() -> u64 {
    match peek() {
        0 => stamp_slow(),
        stamp => stamp,
    }
}

/// This process's stamp, or 0 while nobody has asked for it: two loads, no branch. A cache that was
/// filled under a [`stamp`] is this process's own if it equals; otherwise ask [`stamp`].
#[inline]
#[must_use]
pub fn peek() -> u64 {
    // Relaxed: the stamp is a number on its own.
    page().load(Ordering::Relaxed)
}

#[inline]
fn page() -> &'static AtomicU64 {
    // PAIR fork-page: Acquire sees the page as `install` left it.
    let page = PAGE.load(Ordering::Acquire);
    // SAFETY:
    // - in bounds, aligned, mapped: a static, or the start of a page that is never unmapped;
    // - other writers use atomics too; the kernel's wipe happens before the child's first step;
    // - any bytes are a value: an `AtomicU64`.
    unsafe { &*page }
}

#[cold]
#[inline(never)]
fn stamp_slow() -> u64 {
    if PAGE.load(Ordering::Acquire) == no_page() {
        install();
    }
    if ptr::eq(PAGE.load(Ordering::Acquire), &raw const REFUSED) {
        return WITHOUT_PAGE | u64::from(std::process::id());
    }
    // Relaxed: numbers on their own. A thread that loses the race wastes a number.
    let mine = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    match page().compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => mine,
        Err(theirs) => theirs,
    }
}

/// Maps the page, or notes that the system refuses; another thread may be first.
fn install() {
    let page = map_page().unwrap_or((&raw const REFUSED).cast_mut());
    // PAIR fork-page: Release hands the advised page to the Acquire in `page`.
    let stored = PAGE.compare_exchange(no_page(), page, Ordering::Release, Ordering::Relaxed);
    if stored.is_err() && !ptr::eq(page, &raw const REFUSED) {
        // SAFETY: the mapping just made; its address was not published.
        unsafe { libc::munmap(page.cast(), PAGE_SIZE) };
    }
}

/// A new page, advised; `None` if the system refuses.
fn map_page() -> Option<*mut AtomicU64> {
    // SAFETY: a new private mapping at an address of the kernel's choice replaces nothing.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            PAGE_SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: `address` is the mapping just made, and nobody else knows it yet.
    let wiped = unsafe { libc::madvise(address, PAGE_SIZE, libc::MADV_WIPEONFORK) } == 0;
    if !wiped {
        // SAFETY: as above.
        unsafe { libc::munmap(address, PAGE_SIZE) };
    }
    wiped.then_some(address.cast())
}

/// The process in which something was made that is not for its forked children, such as the guard of a lock.
///
/// Whose a lock is says its word, but not by which guard: a child that has taken the lock itself must not give it back by
/// a guard that it inherited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u64);

impl Origin {
    /// The calling process.
    #[inline]
    #[must_use]
    pub fn here() -> Self {
        Self(stamp())
    }

    /// Whether the calling process is the one.
    #[inline]
    #[must_use]
    pub fn is_here(self) -> bool {
        self.0 == stamp() || mutant("Guard::ForkedChildUnlocks")
    }
}

/// What each process has of its own, empty at first, behind a lock: never the copy of one that a thread held which a
/// forked child does not have.
#[derive(Debug)]
pub struct PerProcess<T: Default> {
    stamp: u64,
    value: Mutex<T>,
    /// The forked child's, and what it forks in turn; null while there is none. From a box, freed with this.
    next: AtomicPtr<PerProcess<T>>,
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self {
            stamp: stamp(),
            value: Mutex::default(),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl<T: Default + Send> PerProcess<T> {
    /// The calling process's, locked.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let value = self.get();
        value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> &Mutex<T> {
        let stamp = stamp();
        let mut at = self;
        while at.stamp != stamp {
            at = at.next();
        }
        &at.value
    }

    /// What is behind it, made now if there is nothing.
    fn next(&self) -> &Self {
        // PAIR per-process: Acquire sees what is behind the pointer.
        let mut next = self.next.load(Ordering::Acquire);
        if next.is_null() {
            let new = Box::into_raw(Box::<Self>::default());
            // PAIR per-process: Release shows what is behind the pointer.
            let stored =
                self.next
                    .compare_exchange(next, new, Ordering::Release, Ordering::Acquire);
            next = match stored {
                Ok(_) => new,
                Err(theirs) => {
                    // SAFETY: made above, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(new) });
                    theirs
                }
            };
        }
        // SAFETY:
        // - in bounds, aligned, mapped: from a box that `drop` alone frees, when nobody borrows `self`;
        // - no other writer: lent shared alone; in a forked child it is a copy.
        unsafe { &*next }
    }
}

impl<T: Default> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if matches!(self.value.try_lock(), Err(TryLockError::WouldBlock)) {
            // Of a thread that this process does not have, and that was changing it: it may be half of the old one and
            // half of the new.
            let value = self.value.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::take(value));
        }
        let next = *self.next.get_mut();
        if !next.is_null() {
            // SAFETY: from a box, and nobody borrows `self` any more.
            drop(unsafe { Box::from_raw(next) });
        }
    }
}

/// Locks what a forked child may have inherited locked, of a thread that it does not have: `None` there, after a tenth of a
/// second. `stamp` is that of the process in which the lock was made.
pub fn lock_inherited<T>(mutex: &Mutex<T>, stamp: u64) -> Option<MutexGuard<'_, T>> {
    if stamp == self::stamp() {
        return Some(mutex.lock().unwrap_or_else(PoisonError::into_inner));
    }
    for _ in 0..100 {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_stays_within_a_process_and_its_threads() {
        let mine = stamp();
        assert_ne!(mine, 0);
        assert_eq!(stamp(), mine);
        let theirs = std::thread::spawn(stamp).join().expect("no panic");
        assert_eq!(theirs, mine);
    }

    #[test]
    fn a_child_and_a_grandchild_have_stamps_of_their_own() {
        let mine = stamp();
        // The children do nothing but load, store and exit, which is allowed after a fork of a
        // process with threads.
        let status = in_child(|| {
            let child = stamp();
            if child == mine || child != stamp() {
                return 1;
            }
            let below = in_child(|| i32::from(stamp() == child || stamp() == mine));
            if below != 0 { 2 } else { 0 }
        });
        assert_eq!(status, 0);
        assert_eq!(stamp(), mine, "a fork must not change its parent");
    }

    #[test]
    fn a_child_does_not_wait_for_a_lock_of_a_thread_that_it_does_not_have() {
        let list = PerProcess::<Vec<u32>>::default();
        let held = list.lock();
        let status = in_child(|| match list.get().try_lock() {
            Ok(mut empty) if empty.is_empty() => {
                empty.push(1);
                drop(empty);
                let below = in_child(|| list.get().try_lock().map_or(1, |list| list.len() as i32));
                below
                    + list
                        .get()
                        .try_lock()
                        .map_or(2, |list| 1 - list.len() as i32)
            }
            _ => 3,
        });
        assert_eq!(status, 0);
        drop(held);
        assert!(list.lock().is_empty());
    }

    #[test]
    fn a_child_leaves_alone_what_a_thread_that_it_does_not_have_was_changing() {
        static DROPPED: AtomicU64 = AtomicU64::new(0);
        struct Value;
        impl Drop for Value {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        let kept = PerProcess::<Vec<Value>>::default();
        kept.lock().push(Value);
        let mut kept = Some(kept);
        let mut dropped_in_child = |is_locked| {
            if let (true, Some(kept)) = (is_locked, &kept) {
                std::mem::forget(kept.lock());
            }
            in_child(|| {
                drop(kept.take());
                DROPPED.load(Ordering::Relaxed) as i32
            })
        };
        assert_eq!(dropped_in_child(false), 1);
        assert_eq!(dropped_in_child(true), 0);
    }

    fn in_child(body: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child calls only `body`, which touches memory alone, and `_exit`.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                let code = body();
                // SAFETY: ends the child at once; no destructor of the copied process runs.
                unsafe { libc::_exit(code) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `child` is ours and not yet waited for; `status` is a live local.
                let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(waited, child);
                assert!(libc::WIFEXITED(status), "status {status:#x}");
                libc::WEXITSTATUS(status)
            }
        }
    }
}
