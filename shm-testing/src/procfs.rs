//! What `/proc` and the clocks tell about the threads of a process.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// One thread as `/proc/PID/task/TID` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadState {
    /// The thread's id.
    pub tid: u32,
    /// The thread's name (`comm`).
    pub name: String,
    /// The state letter: `R` running, `S` asleep, `T` stopped, `t` traced, `Z` ended.
    pub state: char,
    /// The kernel function it waits in; empty when unknown.
    pub waits_in: String,
    /// Number and arguments of the system call it is blocked in, if it is.
    pub syscall: Option<(i64, [u64; 6])>,
}

/// The x86-64 numbers of the calls that sleep on a futex word.
const FUTEX: i64 = 202;
const FUTEX_WAITV: i64 = 449;
const FUTEX_WAIT: i64 = 455;
/// `futex(2)`: the word is looked up in this process only; what std and libtest wait on.
const FUTEX_PRIVATE_FLAG: u64 = 128;
/// The operation numbers of `futex(2)` that sleep.
const FUTEX_OPS_WAIT: [u64; 2] = [0, 9];
/// `futex2`: the same flag in the flags argument of `futex_wait(2)`.
const FUTEX2_PRIVATE: u64 = 128;

impl ThreadState {
    /// Whether the thread sleeps on a futex word that other processes can wake it from.
    ///
    /// Waits on private futexes do not count: a test's own main thread, a joined std thread or a
    /// channel wait on those.
    pub fn asleep_in_shared_futex(&self) -> bool {
        self.state == 'S'
            && match self.syscall {
                Some((FUTEX, args)) => {
                    args[1] & FUTEX_PRIVATE_FLAG == 0 && FUTEX_OPS_WAIT.contains(&(args[1] & 0x7f))
                }
                Some((FUTEX_WAIT, args)) => args[4] & FUTEX2_PRIVATE == 0,
                Some((FUTEX_WAITV, _)) => true,
                _ => false,
            }
    }

    /// Reads the state of one thread; `None` when it is gone.
    pub fn read(pid: u32, tid: u32) -> Option<Self> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}"));
        // `TID (COMM) S ...`, where COMM may itself hold parentheses.
        let stat = file("stat").ok()?;
        let open = stat.find('(')?;
        let close = stat.rfind(')')?;
        let name = stat[open + 1..close].to_owned();
        let state = stat[close + 1..].trim_start().chars().next()?;
        Some(Self {
            tid,
            name,
            state,
            waits_in: file("wchan").unwrap_or_default(),
            syscall: file("syscall").ok().and_then(|line| parse_syscall(&line)),
        })
    }
}

impl fmt::Display for ThreadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.tid, self.name, self.state)?;
        if !self.waits_in.is_empty() && self.waits_in != "0" {
            write!(f, " in {}", self.waits_in)?;
        }
        if let Some((number, args)) = self.syscall {
            write!(f, ", call {number}({:#x}, {:#x}, ..)", args[0], args[1])?;
        }
        Ok(())
    }
}

/// All threads of process `pid`; empty when it is gone.
pub fn threads(pid: u32) -> Vec<ThreadState> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|tid| ThreadState::read(pid, tid))
        .collect()
}

/// The children of process `pid`, where the kernel lists them.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    threads(pid)
        .iter()
        .filter_map(|t| fs::read_to_string(format!("/proc/{pid}/task/{}/children", t.tid)).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The time of a processor that the process has had; `None` if it is gone.
pub(crate) fn time_at_work(pid: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// `NR 0xA0 .. 0xA5 0xSP 0xPC` while blocked in a call; `running` or `-1 ..` otherwise.
fn parse_syscall(line: &str) -> Option<(i64, [u64; 6])> {
    let mut words = line.split_whitespace();
    let number: i64 = words.next()?.parse().ok().filter(|n| *n >= 0)?;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some((number, args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syscall_line_of_a_sleeper_is_read() {
        let line = "202 0x7f00 0x80 0x2 0x0 0x0 0xffffffff 0x7ffe 0x7f01";
        let (number, args) = parse_syscall(line).unwrap();
        assert_eq!(
            (number, args[0], args[1], args[5]),
            (202, 0x7f00, 0x80, 0xffff_ffff)
        );
    }

    #[test]
    fn syscall_line_of_a_runner_is_none() {
        assert_eq!(parse_syscall("running\n"), None);
        assert_eq!(parse_syscall("-1 0x7ffe 0x7f01"), None);
    }

    #[test]
    fn own_threads_are_listed() {
        let own = nix::unistd::gettid().as_raw() as u32;
        assert!(
            threads(std::process::id())
                .iter()
                .any(|t| t.tid == own && t.state == 'R')
        );
    }
}
