//! A process under the tracer: hardware breakpoints, single steps, death.
//!
//! All calls for one tracee come from the thread that launched it; the kernel asks for that.

use std::io::{self, PipeReader, Read};
use std::mem::offset_of;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::Error;
use crate::command::{End, quote};
use crate::limit::Limit;
use crate::procfs::ThreadState;

const PC: usize = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rip);
const SP: usize = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rsp);
/// The number of the system call that it is in, and what the call returned.
const CALL: usize = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, orig_rax);
const SECOND_ARGUMENT: usize =
    offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rsi);
const RESULT: usize = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rax);
const DEBUG_REGISTERS: usize = offset_of!(libc::user, u_debugreg);
/// The register that switches breakpoints on: bits 0 and 2 stand for the first and the second.
const CONTROL: usize = 7;
/// How often in turn a call is seen asleep before it is taken to sleep.
const SIGHTINGS: u32 = 4;
/// The tracee dies with the tracer, and its system-call stops are told from its traps.
const OPTIONS: Options = Options::PTRACE_O_EXITKILL.union(Options::PTRACE_O_TRACESYSGOOD);

/// What a tracee did when it was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It stands at the breakpoint, or after one instruction.
    Trap,
    /// It stands at the entry or the exit of a system call.
    Call,
    /// It sleeps in a system call, and has not stopped.
    Asleep,
    /// It is no more.
    Ended(End),
}

/// A victim under the tracer.
#[derive(Debug)]
pub(crate) struct Tracee {
    pid: Pid,
    // Kept for its pipes; waiting is done here.
    _child: Child,
    output: PipeReader,
    limit: Limit,
    end: Option<End>,
    reaped: bool,
}

/// Asks the kernel whether this process may trace its children.
///
/// # Errors
/// [`Error::PtraceNotPermitted`] when it may not.
pub fn ptrace_permitted() -> Result<(), Error> {
    // The program is never run: the error after the request ends the attempt.
    let mut command = Command::new("/proc/self/exe");
    // SAFETY: between fork and exec only ptrace is called; nothing is allocated or locked.
    unsafe {
        command.pre_exec(|| {
            ptrace::traceme()?;
            Err(Errno::ECANCELED.into())
        })
    };
    match command.spawn() {
        Err(e) if e.raw_os_error() == Some(Errno::ECANCELED as i32) => Ok(()),
        Err(e) => Err(Error::PtraceNotPermitted(e)),
        Ok(_) => unreachable!("the hook before exec always fails"),
    }
}

impl Tracee {
    /// Starts a victim, which stops as soon as its main function has begun.
    ///
    /// The calling thread is to have switched off address randomisation for its children.
    pub(crate) fn launch(mut command: Command, limit: Duration) -> Result<Self, Error> {
        let (output, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        drop(command);
        let pid = Pid::from_raw(child.id() as i32);
        let mut tracee = Self {
            pid,
            _child: child,
            output,
            limit: Limit::new(pid, limit),
            end: None,
            reaped: false,
        };
        match tracee.wait_status()? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                ptrace::setoptions(pid, OPTIONS)?;
                Ok(tracee)
            }
            status => {
                tracee.note_end(status);
                let output = tracee.output();
                Err(Error::Victim(format!(
                    "before it began: {status:?}{}; its main function should be that of Commands",
                    quote(&output)
                )))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Gives it a fresh time limit.
    pub(crate) fn renew_limit(&mut self, limit: Duration) {
        self.limit = Limit::new(self.pid, limit);
    }

    pub(crate) fn pc(&self) -> nix::Result<u64> {
        self.peek_user(PC)
    }

    /// The word on top of the stack: at a function's first instruction, where it returns to.
    pub(crate) fn top_of_stack(&self) -> nix::Result<u64> {
        self.peek(self.peek_user(SP)?)
    }

    /// One word of its memory.
    pub(crate) fn peek(&self, address: u64) -> nix::Result<u64> {
        ptrace::read(self.pid, address as usize as *mut _).map(|word| word as u64)
    }

    /// Switches on breakpoints at one or two addresses.
    pub(crate) fn set_breakpoints(&self, first: u64, second: Option<u64>) -> nix::Result<()> {
        self.clear_breakpoints()?;
        self.poke_debug(0, first)?;
        if let Some(second) = second {
            self.poke_debug(1, second)?;
        }
        // An address that stops execution has zeros in its type and length bits.
        self.poke_debug(CONTROL, if second.is_some() { 0b101 } else { 0b1 })
    }

    pub(crate) fn clear_breakpoints(&self) -> nix::Result<()> {
        self.poke_debug(CONTROL, 0)
    }

    /// Lets it run to a breakpoint or its end.
    pub(crate) fn run(&mut self) -> nix::Result<Stop> {
        self.resume(ptrace::cont)
    }

    /// Lets it run to the entry or the exit of a system call, a breakpoint or its end.
    pub(crate) fn run_to_call(&mut self) -> nix::Result<Stop> {
        self.resume(ptrace::syscall)
    }

    /// At the entry of a system call: its number.
    pub(crate) fn call_number(&self) -> nix::Result<i64> {
        self.peek_user(CALL).map(|number| number as i64)
    }

    /// At the entry of a system call: whether it is about a futex of this process alone, as those of libc and std are.
    pub(crate) fn is_private_futex(&self) -> nix::Result<bool> {
        let private = libc::FUTEX_PRIVATE_FLAG as u64;
        Ok(self.call_number()? == libc::SYS_futex
            && self.peek_user(SECOND_ARGUMENT)? & private != 0)
    }

    /// At the entry of a system call: makes it one that does nothing, and goes to its exit.
    pub(crate) fn fail_call(&mut self, errno: Errno) -> nix::Result<Stop> {
        self.poke_user(CALL, u64::MAX)?;
        let stop = self.run_to_call()?;
        if stop == Stop::Call {
            self.poke_user(RESULT, -(errno as i64) as u64)?;
        }
        Ok(stop)
    }

    /// Executes one instruction; blocks as long as a system call does.
    pub(crate) fn step(&mut self) -> nix::Result<Stop> {
        self.resume(ptrace::step)
    }

    /// Executes one instruction, but does not wait for a system call that sleeps.
    pub(crate) fn step_or_sleep(&mut self) -> nix::Result<Stop> {
        self.resume_or_sleep(ptrace::step)
    }

    /// Lets it run to a breakpoint or its end, or until it sleeps in a system call.
    pub(crate) fn run_or_sleep(&mut self) -> nix::Result<Stop> {
        self.resume_or_sleep(ptrace::cont)
    }

    fn resume_or_sleep(
        &mut self,
        go: impl Fn(Pid, Option<Signal>) -> nix::Result<()>,
    ) -> nix::Result<Stop> {
        go(self.pid, None)?;
        let mut sightings = 0;
        let started = Instant::now();
        loop {
            let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG))?;
            if status != WaitStatus::StillAlive {
                return self.stop_of(status, go);
            }
            // A fast call is back before the first look into /proc.
            if started.elapsed() < Duration::from_micros(100) {
                thread::yield_now();
                continue;
            }
            let asleep = ThreadState::read(self.pid(), self.pid())
                .is_some_and(|thread| thread.state == 'S' && thread.syscall.is_some());
            sightings = if asleep { sightings + 1 } else { 0 };
            if sightings == SIGHTINGS {
                return Ok(Stop::Asleep);
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits for the end of the step that [`Tracee::step_or_sleep`] left asleep.
    pub(crate) fn finish_step(&mut self) -> nix::Result<Stop> {
        let status = self.wait_status()?;
        self.stop_of(status, ptrace::step)
    }

    /// Kills it; unless `reap`, it stays a zombie until [`Tracee::reap`] or the drop.
    pub(crate) fn kill(&mut self, reap: bool) -> nix::Result<()> {
        if self.end.is_none() {
            kill(self.pid, Signal::SIGKILL)?;
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(self.pid), flags) == Err(Errno::EINTR) {}
        }
        if reap { self.reap() } else { Ok(()) }
    }

    /// Takes a killed one's corpse away.
    pub(crate) fn reap(&mut self) -> nix::Result<()> {
        while !self.reaped {
            let status = self.wait_status()?;
            self.note_end(status);
        }
        Ok(())
    }

    /// Lets it run to its end, no longer traced.
    pub(crate) fn run_to_end(&mut self) -> nix::Result<End> {
        if self.end.is_none() {
            self.clear_breakpoints()?;
            ptrace::detach(self.pid, None)?;
        }
        self.reap()?;
        Ok(self.end.expect("a reaped process has ended"))
    }

    /// All that it wrote; to be called when it has ended.
    pub(crate) fn output(&mut self) -> String {
        let mut output = Vec::new();
        // What cannot be read is missing from a report, no more.
        let _ = self.output.read_to_end(&mut output);
        String::from_utf8_lossy(&output).into_owned()
    }

    fn resume(&mut self, go: impl Fn(Pid, Option<Signal>) -> nix::Result<()>) -> nix::Result<Stop> {
        go(self.pid, None)?;
        let status = self.wait_status()?;
        self.stop_of(status, go)
    }

    fn wait_status(&self) -> nix::Result<WaitStatus> {
        loop {
            match waitpid(self.pid, None) {
                Err(Errno::EINTR) => {}
                status => return status,
            }
        }
    }

    /// Reads a status; a signal that is not the tracer's is handed on and the tracee goes on.
    fn stop_of(
        &mut self,
        mut status: WaitStatus,
        go: impl Fn(Pid, Option<Signal>) -> nix::Result<()>,
    ) -> nix::Result<Stop> {
        loop {
            match status {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => return Ok(Stop::Trap),
                WaitStatus::PtraceSyscall(_) => return Ok(Stop::Call),
                WaitStatus::Stopped(pid, signal) => go(pid, Some(signal))?,
                status => {
                    if let Some(end) = self.note_end(status) {
                        return Ok(Stop::Ended(end));
                    }
                }
            }
            status = self.wait_status()?;
        }
    }

    fn note_end(&mut self, status: WaitStatus) -> Option<End> {
        let end = End::of(status, Some(&self.limit))?;
        self.limit.disarm();
        self.end = Some(end);
        self.reaped = true;
        Some(end)
    }

    fn peek_user(&self, offset: usize) -> nix::Result<u64> {
        ptrace::read_user(self.pid, offset as *mut _).map(|word| word as u64)
    }

    fn poke_debug(&self, register: usize, value: u64) -> nix::Result<()> {
        let offset = DEBUG_REGISTERS + register * size_of::<u64>();
        self.poke_user(offset, value)
    }

    fn poke_user(&self, offset: usize, value: u64) -> nix::Result<()> {
        ptrace::write_user(self.pid, offset as *mut _, value as i64)
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let _ = self.kill(true);
    }
}
