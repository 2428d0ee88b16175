//! The shared words of all toys, in a mapped file in /dev/shm.

use std::fs::{self, File, OpenOptions};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use memmap2::MmapOptions;
use nix::libc;

/// What the toys keep. Every access of theirs is SeqCst: they show deaths, not orderings.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Words {
    /// 0 when free; else the owner's pid, or 1 where the owner is kept apart.
    pub(crate) lock: AtomicU32,
    /// The owner's pid, where it is kept apart.
    pub(crate) owner: AtomicU32,
    /// 1 while `old` is what `a` and `b` go back to.
    pub(crate) log: AtomicU32,
    pub(crate) old: AtomicU32,
    /// The two that are always equal when nobody is inside.
    pub(crate) a: AtomicU32,
    pub(crate) b: AtomicU32,
    /// 1 while a holder relies on being alone.
    pub(crate) alone: AtomicU32,
    /// How often somebody came in nevertheless.
    pub(crate) intrusions: AtomicU32,
    /// The ticket lock's two counters.
    pub(crate) next: AtomicU32,
    pub(crate) serving: AtomicU32,
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}

/// Makes the file, all zero.
pub(crate) fn create(name: &str) -> &'static Words {
    let size = size_of::<Words>() as u64;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path(name))
        .expect("a new file");
    file.set_len(size).expect("room for the words");
    map(&file)
}

/// Maps a file made by [`create`].
pub(crate) fn open(name: &str) -> &'static Words {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path(name))
        .expect("the file");
    map(&file)
}

pub(crate) fn remove(name: &str) {
    fs::remove_file(path(name)).expect("the file");
}

fn map(file: &File) -> &'static Words {
    let map = MmapOptions::new().map_raw(file).expect("a mapping");
    let words = ManuallyDrop::new(map).as_ptr().cast::<Words>();
    // SAFETY:
    // - in bounds, aligned, mapped: a page holds the words, and it is never unmapped;
    // - no other writer but through atomics: every toy maps it by this function;
    // - any bytes are a value of atomic integers.
    unsafe { &*words }
}

/// Sleeps while `word` is `value`, at most for `limit`; may return early.
pub(crate) fn sleep_on(word: &AtomicU32, value: u32, limit: Option<Duration>) {
    let timeout = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: limit.subsec_nanos().into(),
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is a live aligned u32; the time is null or a live timespec.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            timeout,
        )
    };
}

/// Wakes all that sleep on `word`.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: waking does not touch the word's memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
