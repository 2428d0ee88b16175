//! How many system calls a thread makes, as the kernel counts them: perf_event_open(2) on the tracepoint
//! `raw_syscalls:sys_enter`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::FromRawFd;

/// Where the kernel tells the number of the tracepoint.
const TRACEPOINT: &str = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";

/// `perf_event_attr`, as long as its first version was: a count, no samples.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

const _: () = assert!(size_of::<Attributes>() == 64);

/// `PERF_TYPE_TRACEPOINT`.
const KIND: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 8;

/// Counts the system calls of the thread that made it. While there is one, every system call of the machine
/// takes a little longer.
#[derive(Debug)]
pub struct Calls(File);

impl Calls {
    /// Begins to count.
    ///
    /// # Errors
    ///
    /// What the system says: the tracing file system is not mounted at its usual place, or this user may not count.
    pub fn begin() -> io::Result<Self> {
        let id = fs::read_to_string(TRACEPOINT)
            .map_err(|error| io::Error::new(error.kind(), format!("{TRACEPOINT}: {error}")))?;
        let attributes = Attributes {
            kind: KIND,
            size: size_of::<Attributes>() as u32,
            config: id.trim().parse().map_err(io::Error::other)?,
            rest: [0; 6],
        };
        let (this_thread, any_processor, no_group) = (0, -1, -1);
        // SAFETY: reads the attributes, which are there.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_processor,
                no_group,
                CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nobody else.
        Ok(Self(unsafe { File::from_raw_fd(fd as i32) }))
    }

    /// How many it were since [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn count(mut self) -> io::Result<u64> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count)?;
        // Without this one.
        Ok(u64::from_ne_bytes(count) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Calls;

    fn call(times: usize) {
        for _ in 0..times {
            nix::unistd::getppid();
        }
    }

    #[test]
    fn every_call_of_this_thread_is_counted_and_no_other() {
        let Ok(calls) = Calls::begin() else {
            println!("not permitted here");
            return;
        };
        call(10);
        assert_eq!(calls.count().unwrap(), 10);
        let calls = Calls::begin().unwrap();
        std::thread::spawn(|| call(1000)).join().unwrap();
        assert!(calls.count().unwrap() < 1000);
    }
}
