//! What the death of a process leaves of a mutex: one test for each row of docs/peer-death.md.

use std::time::{Duration, Instant};

use shm_core::{Place, Segment};
use shm_lock::{Cause, LockError, LockFailure, Mutex};
use shm_testing::{
    Alarms, Child, Peer, UniqueName, eventually, peer_main, until_thread_asleep_in_futex, watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("holds", holds as fn(&mut Peer)),
        ("waits", waits),
        ("repairs for ever", repairs_for_ever),
        ("lets a thread end with the lock", thread_ends_with_the_lock),
        ("execs with the lock", execs_with_the_lock),
        ("forks with the lock", forks_with_the_lock),
        ("drops the handle of a lock it holds", drops_the_handle),
        ("holds raw_sync's", holds_raw_sync),
        ("waits for raw_sync's", waits_for_raw_sync),
    ]);
}

fn open(peer: &Peer) -> Mutex<[i64; 2]> {
    Mutex::open(&peer.args()[0]).unwrap()
}

/// A mutex over two words that add up to zero, with a name of its own.
fn create(tag: &str) -> (UniqueName, Mutex<[i64; 2]>) {
    let name = UniqueName::new(tag);
    let mutex = Mutex::create(&*name, [0, 0]).unwrap();
    (name, mutex)
}

/// Takes the lock, makes half a change, and stays.
fn holds(peer: &mut Peer) {
    let mutex = open(peer);
    let mut pair = match mutex.lock() {
        Err(LockError::OwnerDied(recover)) => recover.accept(),
        other => other.unwrap(),
    };
    pair[0] += 5;
    peer.say("holding");
    peer.hear();
}

/// Waits for the lock and tells what it got.
fn waits(peer: &mut Peer) {
    let mutex = open(peer);
    peer.say("waiting");
    let said = match mutex.lock() {
        Ok(pair) => format!("got {pair:?}"),
        Err(LockError::OwnerDied(recover)) => {
            let cause = recover.cause();
            let before = *recover;
            let pair = recover.repair(|pair| pair[1] = -pair[0]);
            format!("{cause:?} {before:?} {pair:?}")
        }
        Err(other) => format!("{other}"),
    };
    peer.say(&said);
}

fn repairs_for_ever(peer: &mut Peer) {
    let mutex = open(peer);
    let _guard = mutex.lock_or_repair(|pair, _| {
        pair[1] = 77;
        peer.say("repairing");
        peer.hear();
    });
}

fn thread_ends_with_the_lock(peer: &mut Peer) {
    let mutex = open(peer);
    let clone = mutex.clone();
    std::thread::spawn(move || std::mem::forget(clone.lock().unwrap()))
        .join()
        .unwrap();
    let died = matches!(mutex.lock(), Err(LockError::OwnerDied(_)));
    peer.say(&format!("owner died: {died}"));
}

fn execs_with_the_lock(peer: &mut Peer) {
    use std::os::unix::process::CommandExt;
    let mutex = open(peer);
    std::mem::forget(mutex.lock().unwrap());
    peer.say("about to exec");
    panic!("{}", std::process::Command::new("sleep").arg("60").exec());
}

fn forks_with_the_lock(peer: &mut Peer) {
    let mutex = open(peer);
    let guard = mutex.lock().unwrap();
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            // The child's copy of the guard unlocks nothing, and the child is not the owner.
            drop(guard);
            let other = mutex.try_lock();
            std::process::exit(i32::from(!matches!(other, Err(LockError::WouldBlock))));
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert!(
                matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)),
                "{status:?}"
            );
        }
    }
    drop(guard);
    assert!(mutex.try_lock().is_ok(), "the parent's guard unlocked");
    peer.say("done");
}

fn drops_the_handle(peer: &mut Peer) {
    let mutex = open(peer);
    let outer = Mutex::<u32>::open(&peer.args()[1]).unwrap();
    std::mem::forget(outer.lock().unwrap());
    std::mem::forget(mutex.lock().unwrap());
    // The newest node of the thread's list lies in this mapping: unmapped, the kernel's walk would
    // end there and the older lock would stay locked for ever.
    drop(mutex);
    peer.say("holding");
    peer.hear();
}

#[test]
fn owner_death_hands_lock_to_waiter() {
    let _watchdog = watchdog();
    let (name, mutex) = create("hand-over");
    let mut holder = Child::spawn("holds", &[&name]);
    holder.expect("holding");
    let mut waiter = Child::spawn("waits", &[&name]);
    waiter.expect("waiting");
    let tid = waiter.tid();
    until_thread_asleep_in_futex(waiter.pid(), tid);
    eventually(|| mutex.inspect().waiters == 1);
    assert_eq!(mutex.inspect().owner.map(|id| id.pid()), Some(holder.pid()));
    holder.kill_unreaped();
    let said = waiter.hear();
    assert!(
        said.starts_with("OwnerDied") && said.ends_with("[5, 0] [5, -5]"),
        "{said}"
    );
    assert!(said.contains(&format!("pid: {}", holder.pid())), "{said}");
    assert_eq!(
        *mutex.lock().unwrap(),
        [5, -5],
        "repaired once, reported once"
    );
}

#[test]
fn owner_death_is_reported_to_the_next_one_who_comes() {
    let _watchdog = watchdog();
    let (name, mutex) = create("next");
    for deaths in 1..=3 {
        let mut holder = Child::spawn("holds", &[&name]);
        holder.expect("holding");
        assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
        holder.kill();
        let Err(LockError::OwnerDied(recover)) = mutex.try_lock() else {
            panic!("not reported")
        };
        let Cause::OwnerDied {
            process,
            deaths: counted,
        } = recover.cause()
        else {
            panic!()
        };
        assert_eq!(
            (process.map(|id| id.pid()), counted),
            (Some(holder.pid()), deaths)
        );
        *recover.repair(|pair| pair[1] = -pair[0]) = [0, 0];
    }
    assert_eq!(mutex.inspect().deaths, 3);
}

#[test]
fn a_recovery_that_is_not_finished_is_reported_again() {
    let _watchdog = watchdog();
    let (name, mutex) = create("again");
    let mut holder = Child::spawn("holds", &[&name]);
    holder.expect("holding");
    holder.kill();
    let mut repairer = Child::spawn("repairs for ever", &[&name]);
    repairer.expect("repairing");
    repairer.kill();
    for _ in 0..2 {
        // Dropped without a repair.
        assert!(matches!(mutex.lock(), Err(LockError::OwnerDied(recover)) if *recover == [5, 77]));
    }
    let guard = mutex
        .lock_or_repair(|pair, cause| {
            assert!(
                matches!(cause, Cause::OwnerDied { deaths: 2, .. }),
                "{cause:?}"
            );
            *pair = [1, -1];
        })
        .unwrap();
    drop(guard);
    assert_eq!(*mutex.lock().unwrap(), [1, -1]);
}

#[test]
fn a_killed_waiter_harms_nobody() {
    let _watchdog = watchdog();
    let (name, mutex) = create("waiter");
    let guard = mutex.lock().unwrap();
    let mut doomed = Child::spawn("waits", &[&name]);
    let mut other = Child::spawn("waits", &[&name]);
    for waiter in [&mut doomed, &mut other] {
        waiter.expect("waiting");
        let tid = waiter.tid();
        until_thread_asleep_in_futex(waiter.pid(), tid);
    }
    eventually(|| mutex.inspect().waiters == 2);
    doomed.kill();
    // The dead are not counted.
    eventually(|| mutex.inspect().waiters == 1);
    drop(guard);
    other.expect("got [0, 0]");
    assert!(mutex.lock().is_ok());
}

#[test]
fn data_given_up_is_refused_to_all() {
    let _watchdog = watchdog();
    let (name, mutex) = create("given-up");
    let mut holder = Child::spawn("holds", &[&name]);
    holder.expect("holding");
    holder.kill();
    let Err(LockError::OwnerDied(recover)) = mutex.lock() else {
        panic!("not reported")
    };
    let mut waiter = Child::spawn("waits", &[&name]);
    waiter.expect("waiting");
    recover.abandon();
    waiter.expect("the data behind the lock was given up");
    assert!(matches!(mutex.try_lock(), Err(LockError::NotRecoverable)));
    let none = mutex.lock_or_repair(|_, _| unreachable!("nothing to repair"));
    assert!(matches!(none, Err(LockFailure::NotRecoverable)));
}

#[test]
fn a_thread_that_ends_with_a_forgotten_guard_is_a_dead_owner() {
    let _watchdog = watchdog();
    let (name, _mutex) = create("thread");
    Child::spawn("lets a thread end with the lock", &[&name]).expect("owner died: true");
}

#[test]
fn exec_gives_the_lock_back_with_a_report() {
    let _watchdog = watchdog();
    let (name, mutex) = create("exec");
    let mut child = Child::spawn("execs with the lock", &[&name]);
    child.expect("about to exec");
    let limit = Duration::from_secs(10);
    assert!(matches!(
        mutex.lock_timeout(limit),
        Err(LockError::OwnerDied(_))
    ));
}

#[test]
fn a_forked_childs_guard_is_inert() {
    let _watchdog = watchdog();
    let (name, _mutex) = create("fork");
    Child::spawn("forks with the lock", &[&name]).expect("done");
}

#[test]
fn a_handle_dropped_while_its_lock_is_held_loses_no_lock() {
    let _watchdog = watchdog();
    let (name, mutex) = create("unmapped");
    let outer_name = UniqueName::new("older");
    let outer = Mutex::create(&*outer_name, 0_u32).unwrap();
    let mut child = Child::spawn("drops the handle of a lock it holds", &[&name, &outer_name]);
    child.expect("holding");
    child.kill();
    let limit = Duration::from_secs(10);
    assert!(matches!(
        mutex.lock_timeout(limit),
        Err(LockError::OwnerDied(_))
    ));
    assert!(matches!(
        outer.lock_timeout(limit),
        Err(LockError::OwnerDied(_))
    ));
}

/// How often a name is mapped in this process.
fn mappings(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).count()
}

#[test]
fn handles_that_go_while_the_lock_is_held_through_another_are_unmapped_later() {
    let _watchdog = watchdog();
    let (name, mutex) = create("parked");
    let before = mappings(&name);
    let guard = mutex.lock().unwrap();
    for _ in 0..10 {
        let other = Mutex::<[i64; 2]>::open(&*name).unwrap();
        assert!(other.try_lock().is_err());
    }
    drop(guard);
    // The next handle that goes takes them along; other tests of this process may be at it.
    let unmapped = || {
        drop(Mutex::<[i64; 2]>::open(&*name).unwrap());
        mappings(&name) == before
    };
    assert!(shm_testing::wait_until(unmapped, Duration::from_secs(10)));
}

#[test]
fn the_2001st_lock_of_a_thread_is_refused_and_the_2000_others_are_handed_over() {
    let _watchdog = watchdog();
    let region = shm_core::Region::heap(2001 * 512);
    let locks: Vec<Mutex<u8>> = (0..2001)
        .map(|i| Mutex::create(region.part(i * 512, 512).unwrap(), 0).unwrap())
        .collect();
    std::thread::scope(|s| {
        s.spawn(|| {
            for lock in &locks[..2000] {
                std::mem::forget(lock.lock().unwrap());
            }
            assert!(matches!(locks[2000].lock(), Err(LockError::TooManyLocks)));
            assert!(matches!(
                locks[2000].try_lock(),
                Err(LockError::TooManyLocks)
            ));
        })
        .join()
        .unwrap();
    });
    for lock in &locks[..2000] {
        assert!(matches!(lock.try_lock(), Err(LockError::OwnerDied(_))));
    }
    assert!(locks[2000].try_lock().is_ok());
}

/// What a user of `shared_memory` has today.
fn raw_sync(
    name: &str,
    create: bool,
) -> (shared_memory::Shmem, Box<dyn raw_sync::locks::LockImpl>) {
    use raw_sync::locks::{LockInit, Mutex};
    let conf = shared_memory::ShmemConf::new().os_id(name).size(4096);
    let shmem = if create {
        conf.create().unwrap()
    } else {
        conf.open().unwrap()
    };
    let base = shmem.as_ptr();
    let data = base.wrapping_add(1024);
    let lock = if create {
        // SAFETY: the mapping has room for the lock at its start and for the data behind it.
        unsafe { Mutex::new(base, data) }.unwrap().0
    } else {
        // SAFETY: as above; the creator has initialised it.
        unsafe { Mutex::from_existing(base, data) }.unwrap().0
    };
    (shmem, lock)
}

fn holds_raw_sync(peer: &mut Peer) {
    let (_shmem, lock) = raw_sync(&peer.args()[0], false);
    let _guard = lock.lock().unwrap();
    peer.say("holding");
    peer.hear();
}

fn waits_for_raw_sync(peer: &mut Peer) {
    let (_shmem, lock) = raw_sync(&peer.args()[0], false);
    peer.say("waiting");
    let _guard = lock.lock().unwrap();
    peer.say("got it");
}

/// The negative control: the same story with the lock that has no owner.
#[test]
fn raw_syncs_waiter_is_still_stuck_when_ours_has_recovered() {
    let _watchdog = watchdog();
    let theirs = UniqueName::new("raw-sync");
    let _shmem = raw_sync(&theirs, true);
    let mut their_holder = Child::spawn("holds raw_sync's", &[&theirs]);
    their_holder.expect("holding");
    let mut their_waiter = Child::spawn("waits for raw_sync's", &[&theirs]);
    their_waiter.expect("waiting");

    let (name, _mutex) = create("control");
    let mut holder = Child::spawn("holds", &[&name]);
    holder.expect("holding");
    let mut waiter = Child::spawn("waits", &[&name]);
    waiter.expect("waiting");
    for waiter in [&mut their_waiter, &mut waiter] {
        let tid = waiter.tid();
        until_thread_asleep_in_futex(waiter.pid(), tid);
    }

    their_holder.kill();
    holder.kill();
    assert!(waiter.hear().starts_with("OwnerDied"));
    let stuck = their_waiter.try_expect("got it", Duration::from_millis(500));
    assert!(
        stuck.is_err(),
        "raw_sync's lock has become robust: say so in the README"
    );
}

#[test]
fn a_timeout_is_neither_early_nor_lost_to_signals() {
    let _watchdog = watchdog();
    let (_name, mutex) = create("timeout");
    let guard = mutex.lock().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let _alarms = Alarms::every(Duration::from_millis(10));
            let begin = Instant::now();
            let timeout = Duration::from_millis(150);
            assert!(mutex.lock_timeout(timeout).unwrap_err().is_timeout());
            assert!(begin.elapsed() >= timeout);
            let deadline = Instant::now() + timeout;
            assert!(mutex.lock_deadline(deadline).unwrap_err().is_timeout());
            assert!(Instant::now() >= deadline);
            assert!(mutex.lock_timeout(Duration::ZERO).unwrap_err().is_timeout());
            assert!(mutex.lock_deadline(begin).unwrap_err().is_timeout());
        });
    });
    drop(guard);
    assert!(mutex.lock_timeout(Duration::MAX).is_ok());
    assert!(
        mutex.lock_timeout(Duration::ZERO).is_ok(),
        "a free lock needs no time"
    );
}

#[test]
fn a_mutex_is_opened_as_what_it_is() {
    let name = UniqueName::new("typed");
    let _mutex = Mutex::create(&*name, 1_u64).unwrap();
    let error = Mutex::<i64>::open(&*name).unwrap_err().to_string();
    assert!(
        error.contains("type tag") && error.contains("i64") && error.contains("u64"),
        "{error}"
    );
    let error = Mutex::<u32>::open(&*name).unwrap_err().to_string();
    assert!(error.contains("type size is 8, expected 4"), "{error}");
    assert!(
        Segment::open(&*name, 1)
            .unwrap_err()
            .to_string()
            .contains("kind is MUTX")
    );
    assert!(Mutex::<u64>::open(Place::named(&*name).type_tag("mine")).is_err());
}
