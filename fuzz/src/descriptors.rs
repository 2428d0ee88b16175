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

fn lowest_free() -> RawFd {
    nix::unistd::dup(std::io::stderr())
        .expect("a descriptor")
        .as_raw_fd()
}
