//! Two words that are to be equal, changed under a lock that outlives its owner; with faults to
//! choose from.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use shm_testing::step_killer::{mark_end, mark_start};
use shm_testing::{Commands, ThreadState, wait_until};

use crate::words::{self, Words};

/// How a toy goes about it. The first of each kind is right.
#[derive(Debug, Clone, Copy)]
struct Toy {
    owner: Owner,
    liveness: Liveness,
    recovery: Recovery,
    sleep: Sleep,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Owner {
    /// The lock word is the owner's pid.
    InTheWord,
    /// The lock word is a flag; the owner is stored after it was won.
    AfterTheFlag,
}

#[derive(Debug, Clone, Copy)]
enum Liveness {
    /// A pidfd that polls readable, or none: dead.
    Pidfd,
    /// `kill(pid, 0)` fails: dead. A corpse that nobody reaped is taken for alive.
    Kill,
    /// State letter Z: dead. A process whose first thread ended is taken for dead.
    Letter,
    /// Waited for long enough: dead. A stopped owner is taken for dead.
    Timer,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Recovery {
    /// From a record of the old value, which is closed last.
    Undo,
    /// The same, but the record is closed before its work is done.
    ClosedEarly,
    /// None at all.
    Forgotten,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sleep {
    /// The owner's life is looked at again after each slice.
    InSlices,
    /// Until the owner wakes us, which a dead one never does.
    ForEver,
}

const GOOD: Toy = Toy {
    owner: Owner::InTheWord,
    liveness: Liveness::Pidfd,
    recovery: Recovery::Undo,
    sleep: Sleep::InSlices,
};
const SLICE: Duration = Duration::from_millis(20);
/// How long somebody who may give up waits, and when the timer takes an owner for dead.
const SHORT: Duration = Duration::from_millis(4);
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn commands() -> Commands {
    let toys = [
        ("good", GOOD),
        (
            "flag",
            Toy {
                owner: Owner::AfterTheFlag,
                ..GOOD
            },
        ),
        (
            "kill0",
            Toy {
                liveness: Liveness::Kill,
                ..GOOD
            },
        ),
        (
            "letter",
            Toy {
                liveness: Liveness::Letter,
                ..GOOD
            },
        ),
        (
            "timer",
            Toy {
                liveness: Liveness::Timer,
                ..GOOD
            },
        ),
        (
            "early",
            Toy {
                recovery: Recovery::ClosedEarly,
                ..GOOD
            },
        ),
        (
            "torn",
            Toy {
                recovery: Recovery::Forgotten,
                ..GOOD
            },
        ),
        (
            "forever",
            Toy {
                sleep: Sleep::ForEver,
                ..GOOD
            },
        ),
    ];
    let commands = Commands::new()
        .setup("idle", |name| {
            words::create(name);
        })
        .setup("orphan", orphan)
        .hold("lock", |name, pause| {
            let words = words::open(name);
            assert!(GOOD.lock(words, LONG));
            pause();
            GOOD.unlock(words);
        })
        .hold("lock-second-thread", hold_by_second_thread)
        .victim("panics", |name| {
            words::open(name);
            mark_start();
            panic!("on purpose");
        })
        .check("leaky", |name, _| {
            let outcome = check(GOOD, name, None);
            words::create(&format!("{name}.left"));
            outcome
        });
    toys.into_iter().fold(commands, |commands, (name, toy)| {
        commands
            .victim(name, move |name| {
                let words = words::open(name);
                mark_start();
                toy.add(words);
                mark_end();
            })
            .act(name, move |name| {
                let words = words::open(name);
                match toy.lock(words, SHORT) {
                    true => {
                        toy.add_inside(words);
                        toy.unlock(words);
                        "added"
                    }
                    false => "busy",
                }
            })
            .check(name, move |name, acted| check(toy, name, acted))
    })
}

/// Dies in the middle of a change, with the lock.
fn orphan(name: &str) {
    let words = words::create(name);
    assert!(GOOD.lock(words, LONG));
    words.old.store(0, SeqCst);
    words.log.store(1, SeqCst);
    words.a.store(1, SeqCst);
    raise(Signal::SIGKILL).expect("to die");
}

/// Holds the lock in a process whose first thread has ended: its state letter is Z, and it lives.
fn hold_by_second_thread(name: &str, pause: &(dyn Fn() + Sync)) {
    let words = words::open(name);
    thread::scope(|scope| {
        scope.spawn(|| {
            let own = std::process::id();
            let first_ended = || ThreadState::read(own, own).is_some_and(|t| t.state == 'Z');
            assert!(wait_until(first_ended, LONG));
            assert!(GOOD.lock(words, LONG));
            words.alone.store(1, SeqCst);
            pause();
            words.alone.store(0, SeqCst);
            GOOD.unlock(words);
            std::process::exit(0);
        });
        // SAFETY: ends this thread alone; what the other borrows stays on its stack for ever.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
}

/// The value, less what another process added; after the pair was verified and used again.
fn check(toy: Toy, name: &str, acted: Option<&str>) -> String {
    let words = words::open(name);
    assert!(toy.lock(words, LONG));
    let (a, b) = (words.a.load(SeqCst), words.b.load(SeqCst));
    assert_eq!(a, b, "torn");
    assert_eq!(
        words.intrusions.load(SeqCst),
        0,
        "somebody came in while another held the lock"
    );
    toy.add_inside(words);
    toy.unlock(words);
    let again = (
        words.a.load(SeqCst),
        words.b.load(SeqCst),
        words.lock.load(SeqCst),
    );
    assert_eq!(again, (a + 1, a + 1, 0), "not usable");
    words::remove(name);
    let others = u32::from(acted == Some("added"));
    assert!(a >= others, "an addition is lost");
    (a - others).to_string()
}

impl Toy {
    fn add(self, words: &Words) {
        assert!(self.lock(words, LONG));
        self.add_inside(words);
        self.unlock(words);
    }

    fn add_inside(self, words: &Words) {
        words.intrusions.fetch_add(words.alone.load(SeqCst), SeqCst);
        let old = words.a.load(SeqCst);
        if self.recovery != Recovery::Forgotten {
            words.old.store(old, SeqCst);
            words.log.store(1, SeqCst);
        }
        words.a.store(old + 1, SeqCst);
        words.b.store(old + 1, SeqCst);
        if self.recovery != Recovery::Forgotten {
            words.log.store(0, SeqCst);
        }
    }

    fn recover(self, words: &Words) {
        if self.recovery == Recovery::Forgotten || words.log.load(SeqCst) == 0 {
            return;
        }
        if self.recovery == Recovery::ClosedEarly {
            words.log.store(0, SeqCst);
        }
        words.a.store(words.old.load(SeqCst), SeqCst);
        words.b.store(words.old.load(SeqCst), SeqCst);
        words.log.store(0, SeqCst);
    }

    /// Whether the lock was taken in time; from a dead owner it is taken with the repair done.
    fn lock(self, words: &Words, limit: Duration) -> bool {
        let own = std::process::id();
        let mine = if self.owner == Owner::InTheWord {
            own
        } else {
            1
        };
        let mut begun = None;
        loop {
            let Err(taken) = words.lock.compare_exchange(0, mine, SeqCst, SeqCst) else {
                words.owner.store(own, SeqCst);
                return true;
            };
            let waited = begun.get_or_insert_with(Instant::now).elapsed();
            let owner = match self.owner {
                Owner::InTheWord => taken,
                Owner::AfterTheFlag => words.owner.load(SeqCst),
            };
            if owner != 0 && self.is_dead(owner, waited) {
                let word = match self.owner {
                    Owner::InTheWord => &words.lock,
                    Owner::AfterTheFlag => &words.owner,
                };
                if word.compare_exchange(owner, own, SeqCst, SeqCst).is_ok() {
                    self.recover(words);
                    return true;
                }
                continue;
            }
            if waited >= limit {
                return false;
            }
            let slice = (self.sleep == Sleep::InSlices).then_some(SLICE.min(limit - waited));
            words::sleep_on(&words.lock, taken, slice);
        }
    }

    fn unlock(self, words: &Words) {
        words.owner.store(0, SeqCst);
        words.lock.store(0, SeqCst);
        words::wake(&words.lock);
    }

    fn is_dead(self, pid: u32, waited: Duration) -> bool {
        match self.liveness {
            Liveness::Pidfd => is_dead_by_pidfd(pid),
            Liveness::Kill => kill(Pid::from_raw(pid as i32), None) == Err(Errno::ESRCH),
            Liveness::Letter => ThreadState::read(pid, pid).is_none_or(|t| t.state == 'Z'),
            Liveness::Timer => waited >= SHORT / 2,
        }
    }
}

fn is_dead_by_pidfd(pid: u32) -> bool {
    // SAFETY: takes two integers, returns a descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        assert_eq!(Errno::last(), Errno::ESRCH, "pidfd_open");
        return true;
    }
    // SAFETY: the descriptor is fresh, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut polled = [PollFd::new(
        std::os::fd::AsFd::as_fd(&fd),
        PollFlags::POLLIN,
    )];
    poll(&mut polled, PollTimeout::ZERO).expect("a pidfd can be polled") == 1
}
