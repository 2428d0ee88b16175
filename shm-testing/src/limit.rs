//! A time limit on another process: past it, the process is killed.
//!
//! The one who waits can then block in `waitpid` or `read` without polling.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::procfs::{ThreadState, time_at_work};

/// How often one that waits for a processor is given as much time again.
const RESPITES: u32 = 8;

/// Kills a process with SIGKILL unless dropped in time; one that waited for a processor for most of it has more time.
///
/// It must be dropped or [disarmed](Limit::disarm) as soon as the process is reaped, so that the pid cannot mean another
/// process; between the two there is no more than a few instructions, and the kernel hands out pids in turn.
#[derive(Debug)]
pub(crate) struct Limit {
    id: u64,
}

#[derive(Debug, Default)]
struct Armed {
    next: u64,
    waiting: BTreeMap<u64, Watched>,
    fired: BTreeSet<u64>,
}

#[derive(Debug)]
struct Watched {
    pid: Pid,
    limit: Duration,
    end: Instant,
    respites: u32,
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
        let end = Instant::now() + limit;
        // Only an earlier end than all others has to be told.
        if armed.waiting.values().all(|other| end < other.end) {
            guardian.changed.notify_one();
        }
        let watched = Watched {
            pid,
            limit,
            end,
            respites: RESPITES,
        };
        armed.waiting.insert(id, watched);
        Self { id }
    }

    /// Kills nobody any more.
    pub(crate) fn disarm(&self) {
        guardian().lock().waiting.remove(&self.id);
    }

    /// Whether it was this limit that killed the process.
    pub(crate) fn fired(&self) -> bool {
        guardian().lock().fired.contains(&self.id)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let mut armed = guardian().lock();
        armed.waiting.remove(&self.id);
        armed.fired.remove(&self.id);
    }
}

impl Watched {
    /// At the end of its time: gives it as much again if it can go on, and did not come to it.
    fn has_respite(&mut self) -> bool {
        let pid = self.pid.as_raw() as u32;
        let state = ThreadState::read(pid, pid).map(|thread| thread.state);
        if self.respites == 0 || !is_starved(state, time_at_work(pid), self.limit) {
            return false;
        }
        self.respites -= 1;
        self.end = Instant::now() + self.limit;
        true
    }
}

/// Whether one that is runnable, or stands before its tracer, has had less than a quarter of its time.
fn is_starved(state: Option<char>, at_work: Option<Duration>, limit: Duration) -> bool {
    matches!(state, Some('R' | 't')) && at_work.is_some_and(|time| time < limit / 4)
}

impl Guardian {
    fn lock(&self) -> MutexGuard<'_, Armed> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> ! {
        let mut armed = self.lock();
        loop {
            let now = Instant::now();
            let first = armed
                .waiting
                .iter_mut()
                .min_by_key(|(_, watched)| watched.end);
            let pause = match first {
                Some((&id, watched)) if watched.end <= now => {
                    if !watched.has_respite() {
                        // Fails only when the process is gone already.
                        let _ = kill(watched.pid, Signal::SIGKILL);
                        armed.waiting.remove(&id);
                        armed.fired.insert(id);
                    }
                    continue;
                }
                Some((_, watched)) => watched.end - now,
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
    fn who_sleeps_or_has_worked_is_not_starved() {
        let limit = Duration::from_secs(4);
        let starved =
            |state, seconds| is_starved(Some(state), Some(Duration::from_secs(seconds)), limit);
        assert!(starved('R', 0) && starved('t', 0));
        assert!(!starved('S', 0) && !starved('D', 0) && !starved('Z', 0) && !starved('R', 1));
        assert!(!is_starved(None, None, limit));
    }

    #[test]
    fn process_that_spins_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let limit = Limit::new(Pid::from_raw(child.id() as i32), Duration::from_millis(30));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(limit.fired());
    }

    #[test]
    fn dropped_or_disarmed_limit_watches_nobody() {
        let is_watched = |id| guardian().lock().waiting.contains_key(&id);
        let limit = || Limit::new(Pid::this(), Duration::from_secs(3600));
        let (dropped, disarmed, kept) = (limit(), limit(), limit());
        let ids = [dropped.id, disarmed.id, kept.id];
        assert_eq!(ids.map(is_watched), [true; 3]);
        drop(dropped);
        disarmed.disarm();
        assert_eq!(ids.map(is_watched), [false, false, true]);
        assert!(!disarmed.fired() && !kept.fired());
    }
}
