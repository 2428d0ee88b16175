//! The condition variable between living processes. The module with CPython's names keeps the sense of
//! `_TestCondition` in its suite for multiprocessing.

use std::time::{Duration, Instant};

use shm_core::{Place, Region, recv_fd, send_fd};
use shm_lock::{Condvar, LockError, LockFailure, Mutex};
use shm_testing::{
    Child, Peer, UniqueName, peer_main, until_thread_asleep_in_futex, wait_until, watchdog,
};

/// Threads that sleep and threads that have returned, and a number to wait for.
type State = [u64; 3];
const SLEEPING: usize = 0;
const WOKEN: usize = 1;
const NUMBER: usize = 2;

/// Long against a slice of 100 ms, since what must not happen could happen at the end of one.
const DELTA: Duration = Duration::from_millis(350);

#[test]
fn peer() {
    peer_main(&[
        ("waits", waits as fn(&mut Peer)),
        ("waits for the number", waits_for_the_number),
        ("waits for the number in vain", waits_in_vain),
        ("notifies", notifies),
        ("fills", fills),
    ]);
}

fn open(peer: &Peer) -> (Mutex<State>, Condvar) {
    let (mutex, condvar) = (&peer.args()[0], &peer.args()[1]);
    (Mutex::open(mutex).unwrap(), Condvar::open(condvar).unwrap())
}

/// CPython's `f`: counts itself, waits, counts itself again.
fn f(mutex: &Mutex<State>, condvar: &Condvar, timeout: Option<Duration>) {
    let mut state = mutex.lock().unwrap();
    state[SLEEPING] += 1;
    let mut state = match timeout {
        Some(timeout) => {
            let (state, result) = condvar.wait_timeout(state, timeout).unwrap();
            assert!(result.timed_out());
            state
        }
        None => condvar.wait(state).unwrap(),
    };
    state[WOKEN] += 1;
}

fn waits(peer: &mut Peer) {
    let (mutex, condvar) = open(peer);
    let timeout = peer.args().get(2).map(|ms| ms.parse().unwrap());
    peer.say("waiting");
    f(&mutex, &condvar, timeout.map(Duration::from_millis));
    peer.say("woken");
}

fn waits_for_the_number(peer: &mut Peer) {
    let (mutex, condvar) = open(peer);
    let mut state = mutex.lock().unwrap();
    state[SLEEPING] += 1;
    let state = condvar
        .wait_while(state, |state| state[NUMBER] != 4)
        .unwrap();
    peer.say(&format!("{}", state[NUMBER]));
}

fn waits_in_vain(peer: &mut Peer) {
    let (mutex, condvar) = open(peer);
    let (begin, timeout) = (Instant::now(), Duration::from_millis(150));
    let state = mutex.lock().unwrap();
    peer.say("waiting");
    let (_, result) = condvar
        .wait_timeout_while(state, timeout, |state| state[NUMBER] != 4)
        .unwrap();
    assert!(result.timed_out() && begin.elapsed() >= timeout);
    peer.say("in vain");
}

fn notifies(peer: &mut Peer) {
    let (mutex, condvar) = open(peer);
    drop(mutex.lock().unwrap());
    condvar.notify_one();
    peer.say("notified");
}

/// Takes turns with its sibling: waits for an even or an odd number, and moves it on.
fn fills(peer: &mut Peer) {
    let (mutex, condvar) = open(peer);
    let parity: u64 = peer.args()[2].parse().unwrap();
    for _ in 0..5_000 {
        let state = mutex.lock().unwrap();
        let mut state = condvar
            .wait_while(state, |state| state[NUMBER] % 2 != parity)
            .unwrap();
        state[NUMBER] += 1;
        drop(state);
        condvar.notify_one();
    }
    peer.say("done");
}

/// A mutex and a condition variable with names of their own.
struct Both {
    names: [UniqueName; 2],
    mutex: Mutex<State>,
    condvar: Condvar,
}

impl Both {
    fn new(tag: &str) -> Self {
        let names = [
            UniqueName::new(&format!("{tag}-mutex")),
            UniqueName::new(&format!("{tag}-condvar")),
        ];
        Self {
            mutex: Mutex::create(&*names[0], [0; 3]).unwrap(),
            condvar: Condvar::create(&*names[1]).unwrap(),
            names,
        }
    }

    fn spawn(&self, role: &str, more: &[&str]) -> Child {
        let args = [&[&*self.names[0], &*self.names[1]], more].concat();
        Child::spawn(role, &args)
    }

    /// A process, asleep in the condition variable.
    fn waiter(&self) -> Child {
        let mut child = self.spawn("waits", &[]);
        child.expect("waiting");
        let tid = child.tid();
        until_thread_asleep_in_futex(child.pid(), tid);
        child
    }

    fn woken(&self) -> u64 {
        self.mutex.lock().unwrap()[WOKEN]
    }

    /// That `count` have returned, and after a while not one more.
    #[track_caller]
    fn expect_woken(&self, count: u64) {
        let limit = Duration::from_secs(10);
        assert!(wait_until(|| self.woken() >= count, limit), "too few");
        std::thread::sleep(DELTA);
        assert_eq!(self.woken(), count);
    }

    fn notify(&self, count: usize) {
        let _state = self.mutex.lock().unwrap();
        self.condvar.notify_n(count);
    }
}

mod cpython_test_condition {
    use super::*;

    #[test]
    fn test_notify() {
        let _watchdog = watchdog();
        let both = Both::new("notify");
        let mut process = both.waiter();
        std::thread::scope(|scope| {
            scope.spawn(|| f(&both.mutex, &both.condvar, None));
            let asleep = || both.condvar.inspect().waiters == 2;
            assert!(wait_until(asleep, Duration::from_secs(10)));
            both.expect_woken(0);
            both.notify(1);
            both.expect_woken(1);
            both.notify(1);
            both.expect_woken(2);
        });
        process.expect("woken");
        assert_eq!(both.condvar.inspect().counted, 0, "nothing is left over");
    }

    #[test]
    fn test_notify_all() {
        let _watchdog = watchdog();
        let both = Both::new("notify-all");
        // Six time out.
        let mut peers: Vec<_> = (0..3).map(|_| both.spawn("waits", &["120"])).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| f(&both.mutex, &both.condvar, Some(Duration::from_millis(120))));
            }
        });
        for peer in &mut peers {
            peer.expect("waiting");
            peer.expect("woken");
        }
        assert_eq!(both.woken(), 6);
        // Six new ones wake, and no token of the old ones is left.
        let mut peers: Vec<_> = (0..3).map(|_| both.waiter()).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| f(&both.mutex, &both.condvar, None));
            }
            let asleep = || both.condvar.inspect().waiters == 6;
            assert!(wait_until(asleep, Duration::from_secs(10)));
            both.expect_woken(6);
            both.notify(usize::MAX);
            both.expect_woken(12);
        });
        peers.iter_mut().for_each(|peer| peer.expect("woken"));
        let left = both.condvar.inspect();
        assert_eq!((left.counted, left.signals, left.waiters), (0, 0, 0));
    }

    #[test]
    fn test_notify_n() {
        let _watchdog = watchdog();
        let both = Both::new("notify-n");
        let mut peers: Vec<_> = (0..3).map(|_| both.waiter()).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| f(&both.mutex, &both.condvar, None));
            }
            let asleep = || both.condvar.inspect().waiters == 6;
            assert!(wait_until(asleep, Duration::from_secs(10)));
            both.notify(2);
            both.expect_woken(2);
            both.notify(4);
            both.expect_woken(6);
            both.notify(3);
            both.expect_woken(6);
        });
        peers.iter_mut().for_each(|peer| peer.expect("woken"));
        // A notification without anybody is not kept.
        let (_, result) = both
            .condvar
            .wait_timeout(both.mutex.lock().unwrap(), DELTA)
            .unwrap();
        assert!(result.timed_out());
    }

    #[test]
    fn test_timeout() {
        let _watchdog = watchdog();
        let both = Both::new("timeout");
        let mut peer = both.spawn("waits", &["150"]);
        let (begin, timeout) = (Instant::now(), Duration::from_millis(150));
        let state = both.mutex.lock().unwrap();
        let (state, result) = both.condvar.wait_timeout(state, timeout).unwrap();
        assert!(result.timed_out() && begin.elapsed() >= timeout);
        let deadline = Instant::now() + timeout;
        let (state, result) = both.condvar.wait_deadline(state, deadline).unwrap();
        assert!(result.timed_out() && Instant::now() >= deadline);
        assert!(matches!(both.mutex.try_lock(), Err(LockError::WouldBlock)));
        drop(state);
        peer.expect("waiting");
        peer.expect("woken");
        assert_eq!(both.condvar.inspect().counted, 0);
    }

    #[test]
    fn test_waitfor() {
        let _watchdog = watchdog();
        let both = Both::new("wait-for");
        let mut peer = both.spawn("waits for the number", &[]);
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(10));
            both.mutex.lock().unwrap()[NUMBER] += 1;
            both.condvar.notify_one();
        }
        peer.expect("4");
    }

    #[test]
    fn test_waitfor_timeout() {
        let _watchdog = watchdog();
        let both = Both::new("wait-for-timeout");
        let mut peer = both.spawn("waits for the number in vain", &[]);
        peer.expect("waiting");
        for _ in 0..3 {
            both.mutex.lock().unwrap()[NUMBER] += 1;
            both.condvar.notify_one();
        }
        peer.expect("in vain");
        let (begin, timeout) = (Instant::now(), Duration::from_millis(150));
        let never = |state: &mut State| state[NUMBER] != 4;
        let state = both.mutex.lock().unwrap();
        let (state, result) = both
            .condvar
            .wait_timeout_while(state, timeout, never)
            .unwrap();
        assert!(result.timed_out() && begin.elapsed() >= timeout);
        let (mut state, result) = both
            .condvar
            .wait_deadline_while(state, begin, never)
            .unwrap();
        assert!(result.timed_out());
        state[NUMBER] = 4;
        let (_, result) = both
            .condvar
            .wait_deadline_while(state, begin, never)
            .unwrap();
        assert!(!result.timed_out(), "what holds needs no time");
    }

    #[test]
    fn test_wait_result() {
        let _watchdog = watchdog();
        let both = Both::new("wait-result");
        let state = both.mutex.lock().unwrap();
        let (state, result) = both.condvar.wait_timeout(state, Duration::ZERO).unwrap();
        assert!(result.timed_out());
        let (state, result) = both
            .condvar
            .wait_timeout(state, Duration::from_millis(100))
            .unwrap();
        assert!(result.timed_out());
        let mut peer = both.spawn("notifies", &[]);
        let (_state, result) = both.condvar.wait_timeout(state, Duration::MAX).unwrap();
        assert!(!result.timed_out());
        peer.expect("notified");
    }
}

#[test]
fn two_processes_take_turns_and_lose_no_signal() {
    let _watchdog = watchdog();
    let both = Both::new("turns");
    let mut even = both.spawn("fills", &["0"]);
    let mut odd = both.spawn("fills", &["1"]);
    even.expect("done");
    odd.expect("done");
    assert_eq!(both.mutex.lock().unwrap()[NUMBER], 10_000);
}

#[test]
fn another_mutex_is_refused_while_somebody_waits() {
    let _watchdog = watchdog();
    let both = Both::new("other");
    let other = Mutex::create(Region::heap(4096), 5_u32).unwrap();
    let mut peer = both.waiter();
    let refused = both.condvar.wait(other.lock().unwrap());
    let Err(LockError::OtherMutex(guard)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*guard, 5, "still locked");
    let failure = LockFailure::from(LockError::OtherMutex(guard));
    assert_eq!(failure, LockFailure::OtherMutex);
    assert!(other.try_lock().is_ok(), "dropped with the error");
    both.notify(1);
    peer.expect("woken");
    // Nobody waits any more: any mutex will do.
    let (_, result) = both
        .condvar
        .wait_timeout(other.lock().unwrap(), Duration::from_millis(1))
        .unwrap();
    assert!(result.timed_out());
}

#[test]
fn more_waiters_than_can_be_counted_lose_no_notification() {
    let _watchdog = watchdog();
    let mutex = Mutex::create(Region::heap(4096), [0_u64; 3]).unwrap();
    let condvar = Condvar::create(Region::heap(4096)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..1_100 {
            let body = || {
                let mut state = mutex.lock().unwrap();
                state[SLEEPING] += 1;
                let state = condvar
                    .wait_while(state, |state| state[NUMBER] == 0)
                    .unwrap();
                drop(state);
            };
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, body)
                .unwrap();
        }
        while mutex.lock().unwrap()[SLEEPING] < 1_100 {
            std::thread::yield_now();
        }
        mutex.lock().unwrap()[NUMBER] = 1;
        condvar.notify_all();
    });
}

#[test]
fn it_lives_by_name_without_a_name_and_in_a_region() {
    let name = UniqueName::new("places");
    let named = Condvar::open_or_create(&*name).unwrap();
    let again = Condvar::open_or_create(&*name).unwrap();
    assert_eq!(again.segment().generation(), named.segment().generation());
    assert!(format!("{again:?}").contains("waiters: 0"), "{again:?}");
    assert!(Mutex::<u32>::open(&*name).is_err(), "another kind");
    named.unlink().unwrap();
    assert!(Condvar::open(&*name).is_err());

    let anonymous = Condvar::create(Place::anonymous()).unwrap();
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    send_fd(&here, anonymous.segment()).unwrap();
    let handed_over = Condvar::open(recv_fd(&there).unwrap()).unwrap();
    let mutex = Mutex::create(Region::heap(4096), 0_u32).unwrap();
    std::thread::scope(|scope| {
        let guard = mutex.lock().unwrap();
        scope.spawn(|| {
            *mutex.lock().unwrap() = 1;
            anonymous.notify_all();
        });
        assert_eq!(*handed_over.wait_while(guard, |n| *n == 0).unwrap(), 1);
    });

    let region = Region::heap(Condvar::REGION_SIZE);
    let placed = Condvar::create(region.clone()).unwrap();
    placed.notify_one();
    let same = Condvar::open(region).unwrap();
    assert_eq!(same.segment().generation(), placed.segment().generation());
}

/// A tally that none of ours leaves: more signals than waiters.
#[test]
fn a_tally_that_cannot_be_is_notified_away() {
    let name = UniqueName::new("corrupt-tally");
    let condvar = Condvar::create(&*name).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    let tally = 3_u64 | 1 << 10;
    std::os::unix::fs::FileExt::write_all_at(&file, &tally.to_ne_bytes(), 4096 + 8).unwrap();
    condvar.notify_one();
    let seen = condvar.inspect();
    assert_eq!((seen.counted, seen.signals), (0, 0));
}
