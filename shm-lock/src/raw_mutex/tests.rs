use super::*;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// Counts under the lock, without atomics.
#[derive(Default)]
struct Counter {
    mutex: RawMutex,
    value: shm_core::sync::UnsafeCell<u64>,
}

// SAFETY: `value` is touched only by `add`, under the lock.
unsafe impl Sync for Counter {}
// SAFETY: no thread-bound state while the mutex is unlocked.
unsafe impl Send for Counter {}

impl Counter {
    fn add(&self) {
        // SAFETY: `self` outlives the section.
        let acquired = unsafe { self.mutex.lock(None) }.expect("no other error can happen");
        assert!(!acquired.inconsistent);
        self.value.with_mut(|value| {
            // SAFETY: the lock is held, so nobody else touches the value.
            unsafe { *value += 1 }
        });
        // SAFETY: locked above.
        unsafe { self.mutex.unlock() };
    }
}

#[test]
fn smoke() {
    let mutex = RawMutex::new();
    // SAFETY: the mutex outlives the sections.
    let acquired = unsafe { mutex.lock(None) }.expect("it is free");
    assert_eq!(
        acquired,
        Acquired {
            inconsistent: false,
            poisoned: false,
            dead_owner: None,
            deaths: 0
        }
    );
    assert!(mutex.is_held_by_me());
    let seen = mutex.inspect();
    assert_eq!(seen.owner_tid, mutex.owner_tid());
    assert_eq!(seen.owner, Some(ProcessId::current()));
    assert_eq!((seen.waiters, seen.since), (0, None));
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
    assert!(!mutex.is_held_by_me());
    assert_eq!(mutex.inspect().owner_tid, 0);
}

#[test]
fn four_threads_lose_no_update() {
    const ROUNDS: u64 = 20_000;
    let counter = Arc::new(Counter::default());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || (0..ROUNDS).for_each(|_| counter.add()))
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    // SAFETY: all threads are done.
    assert_eq!(counter.value.with(|value| unsafe { *value }), 4 * ROUNDS);
}

#[test]
fn locking_twice_is_a_deadlock_and_trying_twice_would_block() {
    let mutex = RawMutex::new();
    // SAFETY: the mutex outlives the section.
    unsafe { mutex.lock(None) }.expect("it is free");
    // SAFETY: as above.
    assert_eq!(unsafe { mutex.lock(None) }, Err(RawLockError::Deadlock));
    // SAFETY: as above.
    assert_eq!(unsafe { mutex.try_lock() }, Err(RawLockError::WouldBlock));
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
    // SAFETY: as above.
    unsafe { mutex.try_lock() }.expect("it is free again");
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
}

#[test]
fn a_timed_lock_waits_as_long_as_it_said() {
    let mutex = RawMutex::new();
    // SAFETY: the mutex outlives the section.
    unsafe { mutex.lock(None) }.expect("it is free");
    thread::scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            let deadline = Deadline::after(Duration::from_millis(30));
            // SAFETY: as above.
            let error = unsafe { mutex.lock(Some(deadline)) };
            assert_eq!(error, Err(RawLockError::Timeout));
            assert!(begin.elapsed() >= Duration::from_millis(30));
        });
    });
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
    let past = Deadline::from_nanoseconds(1);
    // SAFETY: as above.
    unsafe { mutex.lock(Some(past)) }.expect("a free lock is taken without a look at the clock");
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
}

#[test]
fn inspect_counts_the_sleepers_and_says_since_when() {
    let mutex = RawMutex::new();
    let before = deadline::now();
    // SAFETY: the mutex outlives the section.
    unsafe { mutex.lock(None) }.expect("it is free");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // SAFETY: as above.
                unsafe { mutex.lock(None) }.expect("it becomes free");
                // SAFETY: locked above.
                unsafe { mutex.unlock() };
            });
        }
        while mutex.inspect().waiters != 2 {
            thread::yield_now();
        }
        let since = mutex.inspect().since.expect("somebody sleeps");
        assert!((before..deadline::now()).contains(&since));
        // SAFETY: locked above.
        unsafe { mutex.unlock() };
    });
    assert_eq!(mutex.inspect().waiters, 0);
    assert_eq!(mutex.inspect().since, None);
}

#[test]
fn poison_stays_until_declared_consistent() {
    let mutex = RawMutex::new();
    let look = |and_then: fn(&RawMutex)| {
        // SAFETY: the mutex outlives the section.
        let acquired = unsafe { mutex.lock(None) }.expect("it is free");
        and_then(&mutex);
        // SAFETY: locked above.
        unsafe { mutex.unlock() };
        acquired.poisoned
    };
    assert!(!look(RawMutex::mark_poisoned));
    assert!(mutex.inspect().poisoned);
    assert!(look(|_| {}));
    assert!(look(RawMutex::mark_consistent), "a look repairs nothing");
    assert!(!look(|_| {}));
    assert_eq!(mutex.inspect().deaths, 0);
}

#[test]
fn data_given_up_refuses_every_waiter() {
    let mutex = RawMutex::new();
    // SAFETY: the mutex outlives the section.
    unsafe { mutex.lock(None) }.expect("it is free");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // SAFETY: as above.
                let refused = unsafe { mutex.lock(None) };
                assert_eq!(refused, Err(RawLockError::NotRecoverable));
            });
        }
        while mutex.inspect().waiters != 3 {
            thread::yield_now();
        }
        mutex.mark_not_recoverable();
        // SAFETY: locked above.
        unsafe { mutex.unlock() };
    });
    // SAFETY: as above.
    let refused = unsafe { mutex.try_lock() };
    assert_eq!(refused, Err(RawLockError::NotRecoverable));
    assert!(mutex.inspect().not_recoverable);
    assert_eq!(mutex.owner_tid(), 0);
}

#[test]
fn a_starving_waiter_gets_the_lock_from_a_greedy_owner() {
    let mutex = RawMutex::new();
    let done = AtomicU32::new(0);
    thread::scope(|scope| {
        let mutex = &mutex;
        let done = &done;
        scope.spawn(move || {
            while done.load(Ordering::Relaxed) == 0 {
                // SAFETY: the mutex outlives the section.
                unsafe { mutex.lock(None) }.expect("it becomes free");
                thread::sleep(Duration::from_micros(200));
                // SAFETY: locked above.
                unsafe { mutex.unlock() };
            }
        });
        for _ in 0..10 {
            let deadline = Deadline::after(Duration::from_secs(20));
            // SAFETY: as above.
            unsafe { mutex.lock(Some(deadline)) }.expect("the owner has to hand over");
            // SAFETY: locked above.
            unsafe { mutex.unlock() };
            thread::sleep(Duration::from_micros(500));
        }
        done.store(1, Ordering::Relaxed);
    });
}

#[test]
fn a_starving_waiter_is_handed_the_lock() {
    let mutex = RawMutex::new();
    // SAFETY: the mutex outlives the section.
    unsafe { mutex.lock(None) }.expect("it is free");
    let held = mutex.word.fetch_or(WAITERS, Ordering::Relaxed) | WAITERS;
    mutex.starve.store(1, Ordering::Relaxed);
    thread::scope(|scope| {
        // One who sleeps, and takes nothing: the word stays as the unlock leaves it.
        scope.spawn(|| {
            while mutex.word.load(Ordering::Relaxed) == held {
                let _ = futex::wait(&mutex.word, held, None);
            }
        });
        while futex::waiters(&mutex.word) == 0 {
            thread::yield_now();
        }
        // SAFETY: locked above.
        unsafe { mutex.unlock() };
        assert_eq!(mutex.word.load(Ordering::Relaxed), HANDED_OVER);
        // SAFETY: as above.
        let newcomer = unsafe { mutex.try_lock() };
        assert_eq!(newcomer, Err(RawLockError::WouldBlock));
    });
}

#[test]
fn a_thread_that_ends_with_the_lock_hands_it_over_with_a_report() {
    let mutex = RawMutex::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the mutex outlives the thread.
            unsafe { mutex.lock(None) }.expect("it is free");
        });
    });
    // The scope ends before the kernel has buried the thread: wait for it, not for luck.
    // SAFETY: the mutex outlives the section.
    let acquired = unsafe { mutex.lock(None) }.expect("the kernel gives it up");
    assert!(acquired.inconsistent);
    assert_eq!(acquired.dead_owner, Some(ProcessId::current()));
    assert_eq!(acquired.deaths, 1);
    // SAFETY: locked above.
    unsafe { mutex.unlock() };

    // Not repaired: the next one is told again, though not by whom.
    // SAFETY: as above.
    let again = unsafe { mutex.try_lock() }.expect("it is free");
    assert!(again.inconsistent);
    assert_eq!((again.dead_owner, again.deaths), (None, 1));
    mutex.mark_consistent();
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
    // SAFETY: as above.
    let repaired = unsafe { mutex.lock(None) }.expect("it is free");
    assert!(!repaired.inconsistent);
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
}

#[test]
fn a_lock_handed_to_a_waiter_that_died_is_free_for_those_who_do_not_wait() {
    let mutex = RawMutex::new();
    let limit = Deadline::after(Duration::from_secs(10));
    for patience in [crate::Patience::None, Duration::ZERO.into()] {
        // As the owner's unlock left it, before the woken waiter was killed.
        mutex.word.store(HANDED_OVER, Ordering::Relaxed);
        // SAFETY: the mutex outlives the section.
        while unsafe { mutex.acquire(patience) }.is_err() {
            assert!(!limit.is_past(), "{patience:?} never gets it");
            thread::yield_now();
        }
        // SAFETY: locked above.
        unsafe { mutex.unlock() };
    }
}

#[test]
fn one_thread_cannot_hold_more_than_the_kernel_would_release() {
    let mutexes: Vec<RawMutex> = (0..=robust::LIMIT).map(|_| RawMutex::new()).collect();
    let (last, held) = mutexes.split_last().expect("there are some");
    for mutex in held {
        // SAFETY: the mutexes outlive their sections.
        unsafe { mutex.lock(None) }.expect("within the limit");
    }
    // SAFETY: as above.
    let refused = unsafe { last.lock(None) };
    assert_eq!(refused, Err(RawLockError::TooManyLocks));
    assert_eq!(last.owner_tid(), 0);
    // SAFETY: locked above.
    unsafe { held[7].unlock() };
    // SAFETY: as above.
    unsafe { last.lock(None) }.expect("one less");
    for mutex in mutexes.iter().filter(|mutex| mutex.is_held_by_me()) {
        // SAFETY: locked above.
        unsafe { mutex.unlock() };
    }
    assert!(mutexes.iter().all(|mutex| mutex.owner_tid() == 0));
}
