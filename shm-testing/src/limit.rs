//! A time limit on another process: past it, the process is killed.
//!
//! The one who waits can then block in `waitpid` or `read` without polling.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Kills a process with SIGKILL unless dropped in time.
///
/// It must be dropped or [disarmed](Limit::disarm) as soon as the process is reaped, so that the pid cannot mean another
/// process; between the two there is no more than a few instructions, and the kernel hands out pids in turn.
#[derive(Debug)]
pub(crate) struct Limit {
    id: u64,
    at: Instant,
}

#[derive(Debug, Default)]
struct Armed {
    next: u64,
    waiting: BTreeMap<(Instant, u64), Pid>,
    fired: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Guardian {
    armed: Mutex<Armed>,
    changed: Condvar,
}

impl Limit {
    /// Arms the limit for process `pid`.
    pub(crate) fn new(pid: Pid, limit: Duration) -> Self {
        let guardian = guardian();
        let mut armed = guardian.lock();
        let id = armed.next;
        armed.next += 1;
        let at = Instant::now() + limit;
        armed.waiting.insert((at, id), pid);
        // Only an earlier end than all others has to be told.
        if armed.waiting.keys().next() == Some(&(at, id)) {
            guardian.changed.notify_one();
        }
        Self { id, at }
    }

    /// Kills nobody any more.
    pub(crate) fn disarm(&self) {
        guardian().lock().waiting.remove(&(self.at, self.id));
    }

    /// Whether it was this limit that killed the process.
    pub(crate) fn fired(&self) -> bool {
        guardian().lock().fired.contains(&self.id)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let mut armed = guardian().lock();
        armed.waiting.remove(&(self.at, self.id));
        armed.fired.remove(&self.id);
    }
}

impl Guardian {
    fn lock(&self) -> MutexGuard<'_, Armed> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> ! {
        let mut armed = self.lock();
        loop {
            let now = Instant::now();
            let pause = match armed.waiting.first_key_value() {
                Some((&(at, id), &pid)) if at <= now => {
                    // Fails only when the process is gone already.
                    let _ = kill(pid, Signal::SIGKILL);
                    armed.waiting.remove(&(at, id));
                    armed.fired.insert(id);
                    continue;
                }
                Some((&(at, _), _)) => at - now,
                None => Duration::from_secs(3600),
            };
            armed = match self.changed.wait_timeout(armed, pause) {
                Ok((armed, _)) => armed,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Starts the thread that watches over the limits, if there is none yet: it may run where the caller may.
pub(crate) fn start() {
    guardian();
}

fn guardian() -> &'static Guardian {
    static GUARDIAN: OnceLock<&'static Guardian> = OnceLock::new();
    GUARDIAN.get_or_init(|| {
        let guardian: &'static Guardian = Box::leak(Box::default());
        thread::Builder::new()
            .name("limits".into())
            .spawn(|| guardian.watch())
            .expect("a thread for the time limits");
        guardian
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn process_past_its_limit_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let limit = Limit::new(Pid::from_raw(child.id() as i32), Duration::from_millis(30));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(limit.fired());
    }

    #[test]
    fn dropped_or_disarmed_limit_kills_nobody() {
        let mut child = Command::new("sleep").arg("0.2").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        drop(Limit::new(pid, Duration::from_millis(30)));
        let disarmed = Limit::new(pid, Duration::from_millis(30));
        disarmed.disarm();
        let later = Limit::new(pid, Duration::from_secs(60));
        assert!(child.wait().unwrap().success());
        assert!(!disarmed.fired() && !later.fired());
    }
}
