//! The raw mutex between real processes: deaths, forks and execs.

#![cfg(not(loom))]

use std::ffi::CString;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, ftruncate};
use shm_core::Deadline;
use shm_lock::{Acquired, RawLockError, RawMutex};

/// What the processes share; all zero at first. Never unmapped, so that it outlives every section.
#[repr(C)]
struct Shared {
    mutex: RawMutex,
    /// Equal whenever no section is open.
    first: AtomicU64,
    second: AtomicU64,
    /// Sections entered; [`TORN`] if one found the pair unequal without a report.
    sections: AtomicU32,
}

/// See [`Shared::sections`].
const TORN: u32 = 1 << 31;

fn map(fd: &OwnedFd) -> &'static Shared {
    let length = NonZeroUsize::new(4096).expect("not zero");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping replaces nothing.
    let address = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) };
    let address = address.expect("mmap").cast::<Shared>();
    // SAFETY:
    // - in bounds, aligned, mapped for ever: a page, larger than `Shared`;
    // - other writers use atomics too;
    // - any bytes are a value: atomics.
    unsafe { address.as_ref() }
}

fn share() -> (&'static Shared, OwnedFd) {
    let fd = memfd_create(c"raw_mutex", MFdFlags::MFD_CLOEXEC).expect("memfd_create");
    ftruncate(&fd, 4096).expect("ftruncate");
    (map(&fd), fd)
}

/// A forked child, killed and reaped at the latest when dropped.
struct Forked(Pid);

impl Forked {
    /// The child does nothing but `body`, which neither allocates nor panics, and exits with its answer.
    fn new(body: impl FnOnce() -> i32) -> Self {
        // SAFETY: other threads run; so the child must not touch what they may have locked, the
        // allocator above all. The bodies below lock, count and sleep.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                let code = body();
                // SAFETY: ends the child at once, without the destructors of the parent's things.
                unsafe { nix::libc::_exit(code) }
            }
        }
    }

    fn pid(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }

    fn wait(self) -> i32 {
        let status = waitpid(self.0, None).expect("waitpid");
        std::mem::forget(self);
        match status {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

fn lock(shared: &'static Shared) -> Result<Acquired, RawLockError> {
    // A watchdog: far longer than any wait of these tests.
    let deadline = Deadline::after(Duration::from_secs(30));
    // SAFETY: the mapping is never removed.
    unsafe { shared.mutex.lock(Some(deadline)) }
}

fn unlock(shared: &'static Shared) {
    // SAFETY: every caller has locked it, in this thread or in the one it was forked from.
    unsafe { shared.mutex.unlock() }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_micros(100));
    }
}

/// Takes the lock and holds it until killed.
fn hold(shared: &'static Shared) -> i32 {
    if lock(shared).is_err() {
        return 1;
    }
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn owner_death_hands_the_lock_to_a_sleeping_waiter() {
    let (shared, _fd) = share();
    let owner = Forked::new(|| hold(shared));
    let pid = owner.pid();
    until("the child's section", || {
        shared.mutex.inspect().owner.is_some()
    });
    assert_eq!(shared.mutex.inspect().since, None, "nobody has had to wait");
    let waiter = thread::spawn(move || {
        let acquired = lock(shared).expect("the kernel gives it up");
        unlock(shared);
        acquired
    });
    until("the waiter sleeps", || shared.mutex.inspect().waiters == 1);
    let seen = shared.mutex.inspect();
    assert_eq!(seen.owner.map(|owner| owner.pid()), Some(pid));
    assert_eq!(seen.owner_tid, pid);
    assert!(seen.since.is_some());

    drop(owner);
    let acquired = waiter.join().expect("no panic");
    assert!(acquired.inconsistent);
    assert_eq!(acquired.dead_owner.map(|owner| owner.pid()), Some(pid));
    assert_eq!(acquired.deaths, 1);
}

#[test]
fn owner_death_lets_every_waiter_through() {
    let (shared, _fd) = share();
    let owner = Forked::new(|| hold(shared));
    until("the child's section", || {
        shared.mutex.inspect().owner.is_some()
    });
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            Forked::new(|| match lock(shared) {
                Ok(acquired) if acquired.inconsistent => {
                    shared.mutex.mark_consistent();
                    unlock(shared);
                    10
                }
                Ok(_) => {
                    unlock(shared);
                    20
                }
                Err(_) => 1,
            })
        })
        .collect();
    until("all sleep", || shared.mutex.inspect().waiters == 3);
    drop(owner);
    let mut answers: Vec<i32> = waiters.into_iter().map(Forked::wait).collect();
    answers.sort_unstable();
    assert_eq!(answers, [10, 20, 20], "one repairs, the others see nothing");
}

#[test]
fn a_killed_sleeper_takes_nothing_with_it() {
    let (shared, _fd) = share();
    lock(shared).expect("it is free");
    let sleepers: Vec<_> = (0..2).map(|_| Forked::new(|| hold(shared))).collect();
    until("both sleep", || shared.mutex.inspect().waiters == 2);
    drop(sleepers);
    assert_eq!(shared.mutex.inspect().waiters, 0);
    unlock(shared);
    let acquired = lock(shared).expect("it is free");
    assert!(!acquired.inconsistent);
    assert_eq!(acquired.deaths, 0);
    unlock(shared);
}

#[test]
fn a_forked_child_owns_nothing_and_releases_nothing() {
    let (shared, _fd) = share();
    lock(shared).expect("it is free");
    let child = Forked::new(|| {
        // Before the child has locked anything, and after.
        for _ in 0..2 {
            unlock(shared);
            if shared.mutex.is_held_by_me() {
                return 1;
            }
            // SAFETY: the mapping is never removed.
            if unsafe { shared.mutex.try_lock() } != Err(RawLockError::WouldBlock) {
                return 2;
            }
        }
        0
    });
    assert_eq!(child.wait(), 0);
    assert!(shared.mutex.is_held_by_me());
    unlock(shared);
    let acquired = lock(shared).expect("it is free");
    assert!(!acquired.inconsistent, "the child's end is no owner's end");
    unlock(shared);
}

#[test]
fn a_forked_child_locks_and_dies_on_its_own() {
    let (shared, _fd) = share();
    // The parent's thread has its list already; the child needs its own.
    lock(shared).expect("it is free");
    unlock(shared);
    // Ends with the lock held.
    let child = Forked::new(|| i32::from(lock(shared).is_err()));
    let pid = child.pid();
    assert_eq!(child.wait(), 0);
    let acquired = lock(shared).expect("the kernel gives it up");
    assert!(acquired.inconsistent);
    assert_eq!(acquired.dead_owner.map(|owner| owner.pid()), Some(pid));
    unlock(shared);
}

#[test]
fn exec_hands_the_lock_over() {
    let (shared, _fd) = share();
    let program = CString::new("/bin/sleep").expect("no zero");
    let argument = CString::new("1000").expect("no zero");
    let arguments = [program.as_ptr(), argument.as_ptr(), std::ptr::null()];
    let owner = Forked::new(|| {
        if lock(shared).is_err() {
            return 1;
        }
        // SAFETY: made before the fork, and terminated.
        unsafe { nix::libc::execv(program.as_ptr(), arguments.as_ptr()) };
        2
    });
    until("the child has called exec", || {
        shared.mutex.inspect().inconsistent
    });
    let acquired = lock(shared).expect("the kernel gives it up");
    let dead = acquired.dead_owner.map(|owner| owner.pid());
    assert_eq!(dead, Some(owner.pid()));
    unlock(shared);
}

/// The kernel releases nothing for a thread other than the first that calls `exec`: when it walks the
/// list, the thread has the first one's id, and the words hold another.
#[test]
fn a_lock_that_the_kernel_forgets_is_rescued() {
    let (shared, fd) = share();
    let mut peer = peer("exec_from_second_thread", &fd);
    until("the peer's section", || {
        shared.mutex.inspect().owner.is_some()
    });
    let acquired = lock(shared).expect("a waiter finds that the owner is gone");
    assert!(acquired.inconsistent);
    let dead = acquired.dead_owner.map(|owner| owner.pid());
    assert_eq!(dead, Some(peer.id()));
    unlock(shared);
    peer.kill().expect("it sleeps");
    peer.wait().expect("it is ours");
}

/// Processes killed at random: whoever finds the pair torn has been told so, and nobody hangs.
#[test]
fn kill_storm_leaves_no_unreported_damage() {
    const KILLS: usize = 100;
    let (shared, _fd) = share();
    let spawn = || Forked::new(|| work(shared));
    let mut workers: Vec<Forked> = (0..3).map(|_| spawn()).collect();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for kill in 0..KILLS {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_micros(seed >> 53));
        let replacement = spawn();
        drop(std::mem::replace(&mut workers[kill % 3], replacement));
        let before = shared.sections.load(Ordering::Relaxed);
        until("a section after a kill", || {
            shared.sections.load(Ordering::Relaxed) != before
        });
    }
    drop(workers);
    let acquired = lock(shared).expect("nobody is left");
    if !acquired.inconsistent {
        let first = shared.first.load(Ordering::Relaxed);
        assert_eq!(first, shared.second.load(Ordering::Relaxed));
    }
    unlock(shared);
    assert_eq!(shared.sections.load(Ordering::Relaxed) & TORN, 0);
    assert_ne!(acquired.deaths, 0, "no kill hit a section: nothing shown");
}

/// Counts the pair up under the lock, for ever.
fn work(shared: &'static Shared) -> i32 {
    loop {
        let Ok(acquired) = lock(shared) else {
            return 1;
        };
        let first = shared.first.load(Ordering::Relaxed);
        if acquired.inconsistent {
            shared.second.store(first, Ordering::Relaxed);
            shared.mutex.mark_consistent();
        } else if shared.second.load(Ordering::Relaxed) != first {
            shared.sections.fetch_or(TORN, Ordering::Relaxed);
        }
        shared.first.store(first + 1, Ordering::Relaxed);
        for _ in 0..50 {
            std::hint::spin_loop();
        }
        shared.second.store(first + 1, Ordering::Relaxed);
        let sections = shared.sections.load(Ordering::Relaxed);
        let next = sections & TORN | (sections + 1) & !TORN;
        shared.sections.store(next, Ordering::Relaxed);
        unlock(shared);
    }
}

// ---- peers: this test binary, started again ------------------------------------------------------

const ROLE: &str = "RAW_MUTEX_PEER_ROLE";
const FD: &str = "RAW_MUTEX_PEER_FD";

fn peer(role: &str, fd: &OwnedFd) -> Child {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).expect("fcntl");
    Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "peer_process", "--nocapture"])
        .env(ROLE, role)
        .env(FD, fd.as_raw_fd().to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("the test binary runs")
}

#[test]
fn peer_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return; // The other side of tests in this file: does something only when they start it.
    };
    let fd: RawFd = std::env::var(FD)
        .ok()
        .and_then(|fd| fd.parse().ok())
        .expect("started by another test");
    // SAFETY: inherited for this very purpose, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let shared = map(&fd);
    match role.as_str() {
        "exec_from_second_thread" => {
            use std::os::unix::process::CommandExt;
            let second = thread::spawn(move || {
                lock(shared).expect("it is free");
                Command::new("/bin/sleep").arg("1000").exec()
            });
            panic!("exec: {}", second.join().expect("no panic"));
        }
        other => panic!("no such role: {other}"),
    }
}
