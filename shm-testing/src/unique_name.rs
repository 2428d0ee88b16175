//! Names in `/dev/shm` that no other test, process or run uses, removed when done.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::time::{ClockId, clock_gettime};

/// Every name that this process still has to remove; the watchdog reads it before it aborts.
static REGISTERED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A name for a segment, `tag-PID-COUNTER-TIME`, with only `[A-Za-z0-9._-]` in it.
///
/// Dropping it removes `/dev/shm/NAME` if it is still there, also when the test panics; a
/// [`Watchdog`](crate::Watchdog) that fires removes all with NAME in theirs. Peers get the name as a plain string,
/// so only the process that made it removes it; in a forked child the drop does nothing.
///
/// # Examples
/// ```
/// let name = shm_testing::UniqueName::new("tickets");
/// std::fs::write(name.path(), b"bytes").unwrap();
/// let path = name.path();
/// drop(name);
/// assert!(!path.exists());
/// ```
#[derive(Debug)]
pub struct UniqueName {
    name: String,
    maker: u32,
}

impl UniqueName {
    /// A fresh name that begins with `tag`.
    ///
    /// # Panics
    /// When `tag` is empty, longer than 100 bytes, does not begin with a letter or a digit, or has
    /// a byte outside `[A-Za-z0-9._-]`.
    pub fn new(tag: &str) -> Self {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        assert!(
            tag.len() <= 100
                && tag.bytes().all(allowed)
                && tag.starts_with(|c: char| c.is_ascii_alphanumeric()),
            "{tag:?} cannot begin a segment's name"
        );
        // Relaxed: a counter; only its atomicity matters.
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let maker = std::process::id();
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists");
        let nanos = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
        let name = format!("{tag}-{maker}-{count}-{nanos:x}");
        registered().insert(name.clone());
        Self { name, maker }
    }

    /// Where the named segment stands: `/dev/shm/NAME`.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }
}

impl Drop for UniqueName {
    fn drop(&mut self) {
        if std::process::id() != self.maker {
            return;
        }
        registered().remove(&self.name);
        let _ = fs::remove_file(self.path());
    }
}

impl Deref for UniqueName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl AsRef<str> for UniqueName {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for UniqueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Removes what all living [`UniqueName`]s of this process stand for, and all with such a name in theirs, without waiting
/// for a lock.
pub(crate) fn remove_all() {
    let names = match REGISTERED.try_lock() {
        Ok(names) => names,
        Err(std::sync::TryLockError::Poisoned(names)) => names.into_inner(),
        Err(std::sync::TryLockError::WouldBlock) => return,
    };
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return;
    };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let is_ours = |name: &String| file.to_string_lossy().contains(name.as_str());
        if names.iter().any(is_ours) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn registered() -> MutexGuard<'static, BTreeSet<String>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}
