//! A run that is told to end leaves no file.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shm_testing::{Watchdog, wait_until};

/// Killed when it is dropped.
struct Run(Child);

impl Run {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shm-kill"));
        command.args(["--full", "--only", "create, nothing"]);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn run_that_is_told_to_end_leaves_no_file() {
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut run = Run::start();
        let tag = format!("kill-{}-", run.0.id());
        let left = || {
            let entries = fs::read_dir("/dev/shm").unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.contains(&tag)).count()
        };
        assert!(wait_until(|| left() > 0, Duration::from_secs(200)));
        kill(Pid::from_raw(run.0.id() as i32), signal).unwrap();
        assert_eq!(run.0.wait().unwrap().code(), Some(130));
        assert_eq!(left(), 0);
    }
}
