//! Descriptors: whatever becomes of a segment, it leaves none open.

use std::os::fd::{AsRawFd, RawFd};

/// Runs code that closes what it opens.
///
/// # Panics
/// If one is open that was not before.
pub(crate) fn closed<R>(code: impl FnOnce() -> R) -> R {
    let before = lowest_free();
    let result = code();
    assert_eq!(before, lowest_free(), "a descriptor was left open");
    result
}

/// Several: one that was left open may lie above others that were closed.
fn lowest_free() -> [RawFd; 4] {
    let held = [(); 4].map(|()| nix::unistd::dup(std::io::stderr()).expect("a descriptor"));
    held.each_ref().map(AsRawFd::as_raw_fd)
}
