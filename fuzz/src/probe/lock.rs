//! The types of shm-lock, used as [`super`] says.

use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use shm_core::Region;
use shm_lock::{
    AcquireError, Barrier, BoundedSemaphore, Condvar, Event, Guard, Guarded, LockError,
    LockFailure, LockResult, Mutex, Once, OnceValue, Permit, ReentrantMutex, ReleaseError,
    RobustPermit, RobustSemaphore, RwLock, RwLockReadGuard, Semaphore, WaitTimeout,
};

use super::{shown, told};

pub(super) fn use_mutex(mutex: &Mutex<u64>, choice: u8) {
    let _ = (mutex.inspect(), format!("{mutex:?}"), mutex.unlink());
    let change = |data: &mut u64| *data = data.wrapping_add(1);
    let free = settle(mutex.try_lock(), choice, change);
    #[cfg(feature = "planted")]
    crate::planted::in_mutex(mutex);
    settle(mutex.lock_deadline(Instant::now()), choice, change);
    settle(mutex.lock_timeout(Duration::ZERO), choice, change);
    if free {
        settle(mutex.lock(), choice, change);
        match mutex.lock_or_repair(|data, _| change(data)) {
            Ok(mut guard) => change(&mut guard),
            Err(failure) => told(&failure),
        }
    }
}

/// Does with a lock what `choice` says; tells whether it was to be had and still is.
pub(super) fn settle<G: Guarded + Debug>(
    result: LockResult<G>,
    choice: u8,
    change: impl FnOnce(&mut G::Data),
) -> bool {
    let mut guard = match result {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(recover) | LockError::Poisoned(recover)) => {
            told(&recover.cause());
            match choice % 4 {
                0 => drop(recover.repair(change)),
                1 => drop(recover.accept()),
                2 => {
                    recover.abandon();
                    return false;
                }
                _ => drop(recover),
            }
            return true;
        }
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let _ = (format!("{guard:?}"), guard.data());
    change(guard.data_mut());
    true
}

pub(super) fn use_reentrant(mutex: &ReentrantMutex<u64>, choice: u8) {
    let _ = (mutex.inspect(), mutex.unlink());
    shown(mutex);
    let change = |data: &mut u64| *data = data.wrapping_add(1);
    let mut free = false;
    for result in [
        mutex.try_lock(),
        mutex.lock_deadline(Instant::now()),
        mutex.lock_timeout(Duration::ZERO),
    ] {
        match result {
            Ok(guard) => {
                shown(&guard);
                let depth = guard.depth();
                match mutex.lock() {
                    Ok(again) => assert_eq!((again.depth(), *again), (depth + 1, *guard)),
                    // Bytes may say that it is as deep as it can be.
                    Err(error) => told(&error),
                }
                free = true;
            }
            report => free = settle(report, choice, change),
        }
    }
    if free {
        match mutex.lock_or_repair(|data, _| change(data)) {
            Ok(guard) => shown(&guard),
            Err(failure) => told(&failure),
        }
    }
}

pub(super) fn use_rwlock(lock: &RwLock<u64>, choice: u8) {
    let inspection = lock.inspect();
    assert!(inspection.readers.len() <= inspection.slots);
    let _ = lock.unlink();
    shown(lock);
    let readable = read(lock, lock.try_read());
    read(lock, lock.read_deadline(Instant::now()));
    read(lock, lock.read_timeout(Duration::ZERO));
    if readable {
        read(lock, lock.read());
    }
    let change = |data: &mut u64| *data = data.wrapping_add(1);
    let free = settle(lock.try_write(), choice, change);
    settle(lock.write_deadline(Instant::now()), choice, change);
    settle(lock.write_timeout(Duration::ZERO), choice, change);
    if !free {
        return;
    }
    settle(lock.write(), choice, change);
    match lock.write_or_repair(|data, _| change(data)) {
        Ok(guard) => {
            let now = *guard;
            assert!(matches!(
                lock.try_read(),
                Err(LockFailure::WouldBlock | LockFailure::Deadlock)
            ));
            assert_eq!(*guard.downgrade(), now);
        }
        Err(failure) => told(&failure),
    }
    match lock.read_or_repair(|data, _| change(data)) {
        Ok(guard) => shown(&guard),
        Err(failure) => told(&failure),
    }
}

/// Reads, and again while reading; tells whether it was possible.
fn read(lock: &RwLock<u64>, result: Result<RwLockReadGuard<'_, u64>, LockFailure>) -> bool {
    match result {
        Ok(guard) => {
            shown(&guard);
            match lock.read() {
                Ok(again) => assert_eq!(*again, *guard),
                // Bytes may say that it is as deep as it can be.
                Err(failure) => told(&failure),
            }
            assert!(lock.try_write().is_err(), "a writer beside a reader");
            true
        }
        Err(failure) => {
            told(&failure);
            false
        }
    }
}

pub(super) fn use_semaphore(semaphore: &Semaphore, choice: u8) {
    let _ = semaphore.unlink();
    shown(semaphore);
    #[cfg(feature = "planted")]
    crate::planted::in_semaphore(semaphore);
    let free = take(semaphore.try_acquire());
    take(semaphore.acquire_deadline(Instant::now()));
    take(semaphore.acquire_timeout(Duration::ZERO));
    if semaphore.inspect().permits > 0 {
        assert!(free && take(Ok(semaphore.acquire())));
    }
    let before = semaphore.inspect().permits;
    give(semaphore.release(0), 0, before, || {
        semaphore.inspect().permits
    });
    for permits in [u32::from(choice), u32::MAX] {
        let before = semaphore.inspect().permits;
        give(semaphore.release(permits), permits, before, || {
            semaphore.inspect().permits
        });
    }
    if let Ok(permit) = semaphore.try_acquire() {
        permit.forget();
    }
}

pub(super) fn use_bounded(semaphore: &BoundedSemaphore, choice: u8) {
    let _ = semaphore.unlink();
    shown(semaphore);
    let free = take(semaphore.try_acquire());
    take(semaphore.acquire_deadline(Instant::now()));
    take(semaphore.acquire_timeout(Duration::ZERO));
    if semaphore.inspect().permits > 0 {
        assert!(free && take(Ok(semaphore.acquire())));
    }
    for permits in [0, u32::from(choice), u32::MAX] {
        let before = semaphore.inspect().permits;
        give(semaphore.release(permits), permits, before, || {
            semaphore.inspect().permits
        });
    }
}

/// Whether there was a permit; it is given back.
fn take(result: Result<Permit<'_>, AcquireError>) -> bool {
    match result {
        Ok(permit) => {
            shown(&permit);
            true
        }
        Err(error) => {
            told(&error);
            false
        }
    }
}

/// A release adds as many permits as it says, or none.
fn give(result: Result<(), ReleaseError>, permits: u32, before: u32, now: impl Fn() -> u32) {
    match result {
        Ok(()) => assert_eq!(now(), before + permits),
        Err(error) => {
            told(&error);
            assert_eq!(now(), before);
        }
    }
}

pub(super) fn use_robust(semaphore: &RobustSemaphore) {
    let inspection = semaphore.inspect();
    assert!(inspection.holders.len() <= semaphore.permits() as usize);
    let _ = semaphore.unlink();
    shown(semaphore);
    let take = |result: Result<RobustPermit<'_>, LockFailure>| match result {
        Ok(permit) => {
            shown(&permit);
            assert!(permit.index() < semaphore.permits() as usize);
            let _ = permit.dead_holder();
            true
        }
        Err(failure) => {
            told(&failure);
            false
        }
    };
    let free = take(semaphore.try_acquire());
    take(semaphore.acquire_deadline(Instant::now()));
    take(semaphore.acquire_timeout(Duration::ZERO));
    if free {
        assert!(semaphore.available() > 0 && take(semaphore.acquire()));
    }
}

pub(super) fn use_condvar(condvar: &Condvar, choice: u8) {
    /// Waiting needs a mutex; this one is in order.
    static MUTEX: LazyLock<Mutex<u64>> = LazyLock::new(|| {
        let region = Region::heap(Mutex::<u64>::REGION_SIZE);
        Mutex::create(region, 7).expect("a mutex")
    });
    let _ = (condvar.inspect(), condvar.unlink());
    shown(condvar);
    condvar.notify_n(usize::from(choice));
    condvar.notify_one();
    let lock = || MUTEX.lock().expect("free");
    let waited = |result: Result<WaitTimeout<'_, u64>, LockError<Guard<'_, u64>>>| match result {
        Ok((guard, _)) => assert_eq!(*guard, 7),
        Err(error) => told(&error),
    };
    waited(condvar.wait_deadline(lock(), Instant::now()));
    waited(condvar.wait_timeout(lock(), Duration::ZERO));
    waited(condvar.wait_timeout_while(lock(), Duration::ZERO, |_| true));
    waited(condvar.wait_deadline_while(lock(), Instant::now(), |_| false));
    drop(
        condvar
            .wait_while(lock(), |_| false)
            .expect("nothing to wait for"),
    );
    condvar.notify_all();
    assert_eq!(
        condvar.inspect().counted,
        0,
        "counted after all were notified"
    );
}

pub(super) fn use_event(event: &Event) {
    let _ = (event.inspect(), event.unlink());
    shown(event);
    let set = event.is_set();
    assert_eq!(event.wait_deadline(Instant::now()), set);
    assert_eq!(event.wait_timeout(Duration::ZERO), set);
    event.set();
    event.wait();
    assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
    event.clear();
    assert!(!event.is_set() && !event.wait_deadline(Instant::now()));
}

pub(super) fn use_barrier(barrier: &Barrier, choice: u8) {
    let _ = (barrier.inspect(), barrier.unlink());
    shown(barrier);
    let wait = |barrier: &Barrier| {
        match barrier.wait_deadline(Instant::now()) {
            Ok(result) => assert_eq!(result.is_leader(), result.index() + 1 == barrier.parties()),
            Err(broken) => told(&broken),
        }
        barrier.wait_timeout(Duration::ZERO).is_ok()
    };
    wait(barrier);
    match barrier.register() {
        Ok(mut party) => {
            shown(&party);
            let _ = party.wait_deadline(Instant::now());
            party.barrier().reset();
            let _ = party.wait_timeout(Duration::ZERO);
        }
        Err(full) => told(&full),
    }
    if choice.is_multiple_of(2) {
        barrier.abort();
        assert!(barrier.is_broken() && !wait(barrier));
    }
    barrier.reset();
    assert!(!barrier.is_broken() && barrier.n_waiting() == 0);
    let impatient = barrier.clone().with_default_timeout(Duration::ZERO);
    assert_eq!(impatient.wait().is_ok(), barrier.parties() == 1);
}

pub(super) fn use_once(once: &Once) {
    let _ = (once.inspect(), once.unlink());
    shown(once);
    let done = once.is_completed();
    let mut calls = 0;
    for result in [
        once.try_call_once(|| calls += 1),
        once.call_once_deadline(Instant::now(), || ()),
        once.call_once_timeout(Duration::ZERO, || ()),
    ] {
        match result {
            Ok(()) => assert!(once.is_completed()),
            Err(failure) => told(&failure),
        }
    }
    assert!(calls <= u32::from(!done), "called again");
    if once.is_completed() {
        assert_eq!(once.call_once(|| calls += 1), Ok(()));
        assert!(calls <= u32::from(!done), "called again");
    }
}

pub(super) fn use_once_value(once: &OnceValue<[u8; 24]>) {
    let _ = (once.inspect(), once.unlink());
    shown(once);
    let before = once.get().copied();
    for result in [
        once.try_get_or_init(|| [1; 24]),
        once.get_or_init_deadline(Instant::now(), || [2; 24]),
        once.get_or_init_timeout(Duration::ZERO, || [3; 24]),
    ] {
        match result {
            Ok(value) => assert_eq!(Some(value), once.get()),
            Err(failure) => told(&failure),
        }
    }
    assert!(
        before.is_none() || once.get().copied() == before,
        "made again"
    );
    if let Some(&value) = once.get() {
        assert_eq!(once.get_or_init(|| [4; 24]), Ok(&value));
        let made = once.get_or_try_init(|| Err(()));
        assert_eq!(made, Ok(Ok(&value)));
    }
}
