//! Ends a test that hangs, and says where it hung.

use std::io::{self, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{procfs, unique_name};

/// Aborts the process unless dropped in time.
///
/// When it fires it prints the test's name and what each thread of this process and of its
/// children waits in, removes what the living [`UniqueName`](crate::UniqueName)s stand for, and all with such a name in
/// theirs, and aborts, so that the exit code is not zero. Children started by this crate die with the process.
///
/// # Examples
/// ```
/// let _watchdog = shm_testing::watchdog();
/// // ... something that may hang ...
/// ```
#[derive(Debug)]
pub struct Watchdog {
    // Only taken by drop: hanging up is the sign that the test came to its end.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A [`Watchdog`] of 30 seconds.
pub fn watchdog() -> Watchdog {
    Watchdog::new(Duration::from_secs(30))
}

impl Watchdog {
    /// Starts to watch; the test's name is that of the calling thread, which is what libtest gives.
    pub fn new(limit: Duration) -> Self {
        let test = thread::current().name().unwrap_or("unnamed").to_owned();
        let (alive, ended) = channel::<()>();
        let thread = thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    fire(&test, limit);
                }
            })
            .expect("a thread for the watchdog");
        Self {
            alive: Some(alive),
            thread: Some(thread),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fire(test: &str, limit: Duration) -> ! {
    let own = std::process::id();
    let mut report = format!("\nwatchdog: {test} did not end within {limit:?}\n");
    for pid in [own].into_iter().chain(procfs::children(own)) {
        report += &format!("  process {pid}\n");
        for thread in procfs::threads(pid) {
            report += &format!("    {thread}\n");
        }
    }
    // Written to the descriptor: the print macros would end in the test's captured output.
    let _ = io::stderr().write_all(report.as_bytes());
    unique_name::remove_all();
    std::process::abort();
}
