//! What the death of a process leaves of a condition variable: one test for each row of docs/peer-death.md.

use std::time::Duration;

use shm_core::Region;
use shm_lock::{Condvar, LockError, Mutex};
use shm_testing::{
    Child, Peer, UniqueName, eventually, peer_main, until_thread_asleep_in_futex, watchdog,
};

/// Items to take, and items taken.
type Shelf = [u64; 2];

#[test]
fn peer() {
    peer_main(&[
        ("takes", takes as fn(&mut Peer)),
        ("notifies for ever", notifies_for_ever),
        ("waits and dies with the lock", waits_and_dies),
    ]);
}

fn open(peer: &Peer) -> (Mutex<Shelf>, Condvar) {
    let (mutex, condvar) = (&peer.args()[0], &peer.args()[1]);
    (Mutex::open(mutex).unwrap(), Condvar::open(condvar).unwrap())
}

fn takes(peer: &mut Peer) {
    let (mutex, condvar) = open(peer);
    peer.say("waiting");
    let guard = mutex.lock().unwrap();
    let said = match condvar.wait_while(guard, |shelf| shelf[0] == 0) {
        Ok(mut shelf) => {
            shelf[0] -= 1;
            shelf[1] += 1;
            "taken".to_owned()
        }
        Err(LockError::OwnerDied(recover)) => {
            let said = format!("owner died, {}", *recover == [7, 0]);
            drop(recover.accept());
            said
        }
        Err(other) => other.to_string(),
    };
    peer.say(&said);
    peer.hear();
}

fn notifies_for_ever(peer: &mut Peer) {
    let (_, condvar) = open(peer);
    peer.say("notifying");
    loop {
        condvar.notify_one();
        condvar.notify_all();
    }
}

fn waits_and_dies(peer: &mut Peer) {
    let (mutex, condvar) = open(peer);
    let shelf = mutex.lock().unwrap();
    peer.say("waiting");
    let mut shelf = condvar.wait(shelf).unwrap();
    shelf[0] = 7;
    std::process::abort();
}

struct Both {
    names: [UniqueName; 2],
    mutex: Mutex<Shelf>,
    condvar: Condvar,
}

impl Both {
    fn new(tag: &str) -> Self {
        let names = [
            UniqueName::new(&format!("{tag}-mutex")),
            UniqueName::new(&format!("{tag}-condvar")),
        ];
        Self {
            mutex: Mutex::create(&*names[0], [0; 2]).unwrap(),
            condvar: Condvar::create(&*names[1]).unwrap(),
            names,
        }
    }

    fn spawn(&self, role: &str) -> Child {
        Child::spawn(role, &[&*self.names[0], &*self.names[1]])
    }

    fn asleep(&self, role: &str) -> Child {
        let mut child = self.spawn(role);
        child.expect("waiting");
        let tid = child.tid();
        until_thread_asleep_in_futex(child.pid(), tid);
        child
    }

    fn put(&self, count: u64) {
        self.mutex.lock().unwrap()[0] += count;
    }
}

#[test]
fn killed_waiters_hold_nobody_up_and_take_no_signal() {
    let _watchdog = watchdog();
    let both = Both::new("asleep");
    let mut doomed: Vec<_> = (0..3).map(|_| both.asleep("takes")).collect();
    let mut waiter = both.asleep("takes");
    doomed.iter_mut().for_each(Child::kill);
    eventually(|| both.condvar.inspect().waiters == 1);
    // A pthread condition variable hangs here, or in one of the next notifications.
    both.put(1);
    both.condvar.notify_one();
    waiter.expect("taken");
    for _ in 0..10 {
        both.condvar.notify_one();
    }
    let left = both.condvar.inspect();
    assert_eq!(
        (left.counted, left.signals),
        (0, 0),
        "the dead are forgotten"
    );
}

/// A stopped process has been woken and cannot run, which is as good as one killed when it was woken.
#[test]
fn the_signal_of_a_woken_waiter_that_dies_reaches_another_within_a_slice() {
    let _watchdog = watchdog();
    for round in 0..5 {
        let both = Both::new("woken");
        let mut first = both.asleep("takes");
        let mut second = both.asleep("takes");
        // Both are awake when they look, and neither can lock the mutex.
        let mut shelf = both.mutex.lock().unwrap();
        shelf[0] = 1;
        both.condvar.notify_one();
        std::thread::sleep(Duration::from_millis(round));
        first.kill();
        drop(shelf);
        second.expect("taken");
    }
}

#[test]
fn an_owner_that_dies_is_reported_by_wait() {
    let _watchdog = watchdog();
    let both = Both::new("owner");
    let mut waiter = both.asleep("takes");
    let mut victim = both.asleep("waits and dies with the lock");
    // Both are woken. If the first to lock is the victim, the other one gets the report; otherwise it
    // finds nothing on the shelf, and is notified again after the victim's death.
    both.condvar.notify_all();
    assert!(!victim.wait().success());
    both.condvar.notify_all();
    waiter.expect("owner died, true");
    assert!(both.mutex.lock().is_ok());
}

#[test]
fn a_notifier_killed_anywhere_leaves_a_condition_variable_that_works() {
    let _watchdog = watchdog();
    let both = Both::new("notifier");
    let mut waiter = both.asleep("takes");
    for _ in 0..20 {
        let mut notifier = both.spawn("notifies for ever");
        notifier.expect("notifying");
        notifier.kill();
    }
    both.put(1);
    both.condvar.notify_one();
    waiter.expect("taken");
}

/// After a kill the dead are still counted, with a mutex that nobody will use again.
#[test]
fn the_mutex_of_the_dead_binds_nobody() {
    let _watchdog = watchdog();
    let both = Both::new("mutex");
    let mut doomed = both.asleep("takes");
    doomed.kill();
    assert_eq!(both.condvar.inspect().counted, 1);
    let other = Mutex::create(Region::heap(4096), 0_u32).unwrap();
    let (_, result) = both
        .condvar
        .wait_timeout(other.lock().unwrap(), Duration::from_millis(10))
        .unwrap();
    assert!(result.timed_out());
    assert_eq!(both.condvar.inspect().counted, 0);
}

/// Consumers are killed wherever they are while items come; the living take every one that the dead
/// did not.
#[test]
fn a_kill_storm_loses_no_signal() {
    let _watchdog = watchdog();
    let both = Both::new("storm");
    let mut rng = 1_u64;
    for _ in 0..15 {
        let mut doomed: Vec<_> = (0..2).map(|_| both.asleep("takes")).collect();
        let mut waiter = both.asleep("takes");
        both.put(1);
        both.condvar.notify_one();
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros(rng >> 54));
        doomed.iter_mut().for_each(Child::kill);
        let taken_by_the_dead = match both.mutex.lock() {
            Ok(shelf) => shelf[0] == 0,
            Err(LockError::OwnerDied(recover)) => recover.repair(|shelf| shelf[0] = 0)[0] == 0,
            Err(other) => panic!("{other}"),
        };
        if taken_by_the_dead {
            // Or by the living one, which then does not mind.
            both.put(1);
            both.condvar.notify_one();
        }
        waiter.expect("taken");
        both.mutex.lock().unwrap()[0] = 0;
    }
}
