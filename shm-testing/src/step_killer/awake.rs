//! Keeps the processors from halting between the steps of a victim, and each victim on its tracer's: to wake another
//! processor, and more so a virtual one, takes longer than a step does.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};

/// While it is there, a thread of the idle class spins on each processor of ours, and makes way for everybody else.
#[derive(Debug)]
pub(crate) struct Awake {
    done: Arc<AtomicBool>,
    threads: Vec<(Pid, JoinHandle<()>)>,
}

impl Awake {
    /// Where the system refuses it, the steps only take longer. So they would where less time is allowed than all the
    /// processors have: the threads would use it up.
    pub(crate) fn new() -> Self {
        let mut awake = Self {
            done: Arc::default(),
            threads: Vec::new(),
        };
        let ours: Vec<usize> = processors().collect();
        if thread::available_parallelism().is_ok_and(|allowed| allowed.get() >= ours.len()) {
            awake.threads = ours.into_iter().filter_map(|cpu| awake.spin(cpu)).collect();
        }
        awake
    }

    fn spin(&self, processor: usize) -> Option<(Pid, JoinHandle<()>)> {
        let done = self.done.clone();
        let (sender, thread_id) = mpsc::channel();
        let spin = move || {
            let _ = sender.send(gettid());
            let refused = become_idle(processor).is_err();
            // Relaxed: nothing but the end of it is told.
            while !refused && !done.load(Ordering::Relaxed) {
                spin_loop();
            }
        };
        let thread = thread::Builder::new().spawn(spin).ok()?;
        Some((thread_id.recv().ok()?, thread))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        for (thread_id, thread) in self.threads.drain(..) {
            // To end takes time of a processor, too, and of the idle class it might have none for minutes. Without the right
            // to do so, it may.
            let _ = put_in_class(thread_id, libc::SCHED_OTHER);
            let _ = thread.join();
        }
    }
}

/// Those that this thread may run on.
fn processors() -> impl Iterator<Item = usize> {
    let ours = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(move |cpu| ours.is_set(*cpu) == Ok(true))
}

/// Leaves this thread, and the processes that it starts from now on, on one of ours: of two neighbours each on another.
/// Where the system refuses it, the steps only take longer.
pub(crate) fn stay_on_one(job: usize) {
    let ours: Vec<usize> = processors().collect();
    if let Some(processor) = ours.get(job % ours.len().max(1)) {
        let _ = stay_on(*processor);
    }
}

fn stay_on(processor: usize) -> nix::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &only)
}

fn become_idle(processor: usize) -> nix::Result<()> {
    stay_on(processor)?;
    put_in_class(Pid::from_raw(0), libc::SCHED_IDLE)
}

fn put_in_class(thread: Pid, class: i32) -> nix::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `param`, which lives until it returns; no other memory is touched.
    Errno::result(unsafe { libc::sched_setscheduler(thread.as_raw(), class, &param) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that is not of the idle class would take the time of those whom it is to help.
    #[test]
    fn threads_are_of_the_idle_class() {
        let class = thread::spawn(|| {
            become_idle(processors().next().unwrap()).unwrap();
            // SAFETY: 0 is this thread; no memory is touched.
            unsafe { libc::sched_getscheduler(0) }
        });
        assert_eq!(class.join().unwrap(), libc::SCHED_IDLE);
    }

    #[test]
    fn neighbours_stay_on_different_ones() {
        let ours: Vec<usize> = processors().collect();
        let seen: Vec<Vec<usize>> = (0..2)
            .map(|job| {
                let stay = move || {
                    stay_on_one(job);
                    processors().collect()
                };
                thread::spawn(stay).join().unwrap()
            })
            .collect();
        assert_eq!(seen, [[ours[0]], [ours[1 % ours.len()]]]);
    }

    #[test]
    fn all_end_with_it() {
        let awake = Awake::new();
        let done = awake.done.clone();
        drop(awake);
        // Ours is the last: none of the threads is left.
        assert_eq!(Arc::strong_count(&done), 1);
    }
}
