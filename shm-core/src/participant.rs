//! Who takes part: one `u64` names a process for as long as the machine is up.
//!
//! ```text
//! bits  0..22   process id in its PID namespace (the kernel's greatest is 2^22)
//! bits 22..63   start time in clock ticks since boot (field 22 of /proc/PID/stat); 0 = unknown
//! bit  63       0
//! ```
//!
//! A process id comes back as soon as the kernel has gone round; together with the start time it does not.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};
use std::io::Read;

use crate::fork;

const PID_BITS: u32 = 22;
const PID_MASK: u64 = (1 << PID_BITS) - 1;
const START_MASK: u64 = (1 << 41) - 1;

/// A process: its id and the time it was started.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct ProcessId(NonZeroU64);

impl ProcessId {
    /// The calling process. Reads `/proc/self/stat` once per process; allocates nothing, so that a
    /// forked child may call it.
    #[must_use]
    pub fn current() -> Self {
        // The cache is the pair (stamp, bits), the stamp written last and checked on both sides.
        static STAMP: AtomicU64 = AtomicU64::new(0);
        static BITS: AtomicU64 = AtomicU64::new(0);

        let stamp = fork::stamp();
        // PAIR process-cache: Acquire sees the bits that were stored before this stamp.
        if STAMP.load(Ordering::Acquire) == stamp
            && let Some(id) = Self::from_bits(BITS.load(Ordering::Relaxed))
        {
            return id;
        }
        let id = Self::from_parts(std::process::id(), start_time_of_self());
        // All threads of a process store the same bits; the stamp of another process, left by a
        // fork, differs until its own bits stand.
        BITS.store(id.to_bits(), Ordering::Relaxed);
        // PAIR process-cache: Release hands the bits to the Acquire above.
        STAMP.store(stamp, Ordering::Release);
        id
    }

    /// The process with this id and start time.
    pub(crate) fn from_parts(pid: u32, start_time: u64) -> Self {
        let bits = (start_time & START_MASK) << PID_BITS | u64::from(pid) & PID_MASK;
        // No process has the id 0, so the bits are never all zero.
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// The process id.
    #[must_use]
    pub const fn pid(self) -> u32 {
        (self.0.get() & PID_MASK) as u32
    }

    /// The start time in clock ticks since boot; 0 if `/proc` could not tell.
    #[must_use]
    pub const fn start_time(self) -> u64 {
        self.0.get() >> PID_BITS & START_MASK
    }

    /// As it is stored in shared memory; never 0.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// From what is stored in shared memory; 0 is nobody.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }
}

impl core::fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ProcessId")
            .field("pid", &self.pid())
            .field("start_time", &self.start_time())
            .finish()
    }
}

impl core::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.pid())
    }
}

/// Field 22 of `/proc/self/stat`; 0 if it cannot be read.
fn start_time_of_self() -> u64 {
    let mut text = [0; 1024];
    let mut length = 0;
    let Ok(mut file) = std::fs::File::open("/proc/self/stat") else {
        return 0;
    };
    while let Some(rest) = text.get_mut(length..)
        && let Ok(read @ 1..) = file.read(rest)
    {
        length += read;
    }
    start_time_in(text.get(..length).unwrap_or_default()).unwrap_or(0)
}

/// The start time in the text of a `stat` file. Its second field is the program's name in
/// parentheses, which may itself hold blanks and parentheses: count from the last one.
pub(crate) fn start_time_in(stat: &[u8]) -> Option<u64> {
    const FIELDS_AFTER_NAME: usize = 19;
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let field = stat
        .get(name_end + 1..)?
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|field| !field.is_empty())
        .nth(FIELDS_AFTER_NAME)?;
    core::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_current_process_has_its_pid_and_a_start_time() {
        let id = ProcessId::current();
        assert_eq!(id.pid(), std::process::id());
        assert_ne!(id.start_time(), 0);
        assert_eq!(id, ProcessId::current());
        assert_eq!(ProcessId::from_bits(id.to_bits()), Some(id));
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = b"42 (a) S (b) R) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 12 13";
        assert_eq!(start_time_in(stat), Some(987_654));
        assert_eq!(start_time_in(b"42 (short) S 1"), None);
        assert_eq!(start_time_in(b""), None);
    }
}
