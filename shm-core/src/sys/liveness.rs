//! Whether a process that once wrote its identity down still lives: the exact test.
//!
//! `kill(pid, 0)` takes a zombie for a living process and a stranger with a reused PID for the one
//! meant; the state letter takes a process whose first thread ended for a dead one. So: a process
//! is dead if `pidfd_open` finds none of that PID, or if the descriptor polls readable (the whole
//! thread group has ended, reaped or not), or if the process that has the PID now started at
//! another time.
//!
//! Sources: pidfd_open(2), proc_pid_stat(5).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::mutants::mutant;

/// Whether the process `pid` that started at `start_time` (clock ticks after boot; `None`: nobody knows) lives.
///
/// # Errors
/// When the system cannot tell: out of descriptors, no `/proc`, no start time. Take it for alive then.
pub(crate) fn is_alive(pid: u32, start_time: Option<u64>) -> io::Result<bool> {
    let Some(pidfd) = open_pidfd(pid)? else {
        return Ok(false);
    };
    if has_ended(&pidfd)? && !mutant("ProcessId::ZombieLives") {
        return Ok(false);
    }
    let Some(start_time) = start_time else {
        let why = "the start time of the process was never known";
        return Err(io::Error::other(why));
    };
    match start_time_of(pid) {
        Ok(now) => Ok(now == start_time || mutant("ProcessId::IgnoresTheStartTime")),
        // It ended between the two looks, or /proc hides it.
        Err(_) if has_ended(&pidfd)? => Ok(false),
        Err(e) => Err(e),
    }
}

fn open_pidfd(pid: u32) -> io::Result<Option<OwnedFd>> {
    // SAFETY:
    // - pidfd_open takes a PID and flags by value and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0u32) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        // EINVAL and ENOENT: the number is a thread's now, so no process has it.
        return match error.raw_os_error() {
            Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY:
    // - the descriptor is new and owned by nobody else.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY:
        // - in bounds, no other writer: one local pollfd, and one is what we pass.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        match ready {
            0 => return Ok(false),
            1 => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Start time of a living process in clock ticks after boot: field 22 of /proc/PID/stat.
pub(crate) fn start_time_of(pid: u32) -> io::Result<u64> {
    read_start_time(File::open(format!("/proc/{pid}/stat"))?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has no field 22"))
}

/// The start time of this process; 0 if `/proc` cannot tell. Allocates nothing, so that a forked
/// child may ask.
pub(crate) fn start_time_of_self() -> u64 {
    File::open("/proc/self/stat")
        .ok()
        .and_then(read_start_time)
        .unwrap_or(0)
}

/// One read gives all of it: the kernel writes the text anew for each. Allocates nothing.
fn read_start_time(mut stat: File) -> Option<u64> {
    let mut text = [0; 1024];
    let mut len = 0;
    while let Ok(read @ 1..) = stat.read(&mut text[len..]) {
        len += read;
    }
    parse_start_time(&text[..len])
}

/// The command (field 2) stands in parentheses and may hold spaces and parentheses of its own.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|&b| b == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_survives_a_command_with_parentheses() {
        let stat = b"42 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(parse_start_time(stat), Some(777));
        assert_eq!(parse_start_time(b"42 (a"), None);
        assert_eq!(parse_start_time(b"42 (a) S 1 2"), None);
    }

    #[test]
    fn this_process_lives_and_one_of_another_start_time_does_not() {
        let pid = std::process::id();
        let start = start_time_of(pid).unwrap();
        assert!(is_alive(pid, Some(start)).unwrap());
        assert!(
            !is_alive(pid, Some(start + 1)).unwrap(),
            "the PID was reused"
        );
    }

    #[test]
    fn of_a_process_whose_start_nobody_knows_only_the_death_is_sure() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(child.id(), None).unwrap(), "nobody has the PID");
        assert!(is_alive(std::process::id(), None).is_err(), "somebody has");
    }

    #[test]
    fn a_thread_id_is_no_process() {
        let (tx, rx) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY:
            // - gettid has no arguments and touches no memory.
            tx.send(unsafe { libc::gettid() }).unwrap();
            let _ = wait.recv();
        });
        let tid = rx.recv().unwrap() as u32;
        assert!(!is_alive(tid, Some(start_time_of(tid).unwrap())).unwrap());
        drop(end);
        thread.join().unwrap();
    }
}
