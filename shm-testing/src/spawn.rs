//! Starts processes that never outlive the one that started them.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, not when its process does. A test
//! thread that hands its child to another thread and returns would thus kill it. So one thread,
//! which lives as long as the process, does all the forking.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

type Job = (Command, Sender<io::Result<Child>>);

/// Spawns `command`; the kernel kills it with SIGKILL when this process ends, however it ends.
///
/// # Errors
/// Whatever [`Command::spawn`] says.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in jobs {
                    die_with_parent(&mut command);
                    // The asker may have given up; the dropped child is then its own business.
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread for spawning");
        sender
    });
    let (reply, answer) = channel();
    spawner
        .send((command, reply))
        .expect("the spawner lives as long as the process");
    answer.recv().expect("the spawner answers every job")
}

/// Makes the child of `command` die by SIGKILL when the forking thread of this process ends.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made (prctl, getppid), and
    // nothing is allocated or locked.
    unsafe { command.pre_exec(move || bind_to_parent(parent)) };
}

/// The child's part: ask for the signal, then see whether the parent is already gone.
pub(crate) fn bind_to_parent(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::Error::from_raw_os_error(
            nix::errno::Errno::ESRCH as i32,
        ));
    }
    Ok(())
}
