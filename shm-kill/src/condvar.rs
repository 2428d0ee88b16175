//! The condition variable: a notification counts from one step on, and reaches as many of the living
//! as it was for; of a dead waiter nothing is left that could take one.

use std::thread;
use std::time::Duration;

use shm_lock::{Condvar, Guard, LockError, Mutex};
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};
use shm_testing::{Commands, wait_until};

/// Of those who were notified.
type Woken = u64;

const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    // The mutex is held before the wait and after it: killed there, its owner is reported.
    let waits = || Outcomes::phases(&["whole", "died", "whole", "died", "whole"]);
    let waiting = |operation| Case::new(operation, "condvar").checked_by("condvar");
    vec![
        notifying("notify_one", 2).killed(Outcomes::switch(
            "2 still wait; notified, notified",
            "1 still wait; notified, notified",
        )),
        notifying("notify_one", 1)
            .killed(Outcomes::switch(
                "1 still wait; notified",
                "0 still wait; notified",
            ))
            .frozen("notify_one", Outcomes::always("0 still wait; notified"))
            .frozen_and_killed("notify_one", Outcomes::always("0 still wait; notified")),
        notifying("notify_two", 3).killed(Outcomes::switch(
            "3 still wait; notified, notified, notified",
            "1 still wait; notified, notified, notified",
        )),
        notifying("notify_all", 2)
            .killed(Outcomes::switch(
                "2 still wait; notified, notified",
                "0 still wait; notified, notified",
            ))
            // The one is for one of the two, whenever it comes.
            .frozen(
                "notify_one",
                Outcomes::always("0 still wait; notified, notified"),
            )
            .frozen_and_killed(
                "notify_one",
                Outcomes::switch(
                    "1 still wait; notified, notified",
                    "0 still wait; notified, notified",
                ),
            ),
        notifying("notify_all", 0).killed(Outcomes::always("0 still wait")),
        waiting("condvar wait")
            .while_held("a notification to come")
            .killed(waits()),
        waiting("condvar wait")
            .while_held("a notification to come")
            .with_sleeper("condvar wait")
            // The other may hold the mutex when the victim wants it, so the steps are not the same
            // each time.
            .killed(Outcomes::any(&["whole; notified", "died; notified"])),
        waiting("condvar wait_timeout")
            .killed(waits())
            .frozen_and_killed("signal another waiter", waits()),
        // One signal, while a dead waiter is still counted: it is for the living one.
        Case::new("condvar wait_timeout", "condvar")
            .checked_by("condvar beside a waiter")
            .with_sleeper("condvar wait")
            .killed(Outcomes::phases(&[
                "whole; notified",
                "died; notified",
                "whole; notified",
                "died; notified",
                "whole; notified",
            ])),
    ]
}

/// `operation`, with so many asleep.
fn notifying(operation: &str, sleepers: usize) -> Case {
    let check = ["nobody notified", "1 notified", "2 notified", "3 notified"][sleepers];
    let case = Case::new(operation, "condvar").checked_by(check);
    (0..sleepers).fold(case, |case, _| case.with_sleeper("condvar wait"))
}

pub(crate) fn commands() -> Commands {
    victims(Commands::new())
        .setup("condvar", |name| {
            drop(Condvar::create(name).expect("a new condition variable"));
            drop(Mutex::<Woken>::create(mutex_of(name).as_str(), 0).expect("a new mutex"));
        })
        .hold("a notification to come", |name, until_told| {
            let (condvar, _) = open(name);
            until_told();
            condvar.notify_all();
        })
        .act("notify_one", |name| {
            open(name).0.notify_one();
            "notified"
        })
        .act("condvar wait", |name| {
            let (condvar, mutex) = open(name);
            let guard = mutex.lock().expect("it is free");
            // Another waiter may have died with the mutex since; its data is only a count.
            let mut woken = match condvar.wait(guard) {
                Err(LockError::OwnerDied(recover)) => recover.accept(),
                guard => guard.expect("it is no one else's"),
            };
            *woken += 1;
            "notified"
        })
        .act("signal another waiter", |name| {
            let (condvar, mutex) = open(name);
            match mutex.try_lock() {
                Ok(guard) => drop(guard),
                Err(LockError::WouldBlock) => return "the mutex is held",
                Err(other) => panic!("{other}"),
            }
            a_round(&condvar, &mutex);
            "notified"
        })
        .check("nobody notified", |name, _| check_notified(name, 0))
        .check("1 notified", |name, _| check_notified(name, 1))
        .check("2 notified", |name, _| check_notified(name, 2))
        .check("3 notified", |name, _| check_notified(name, 3))
        .check("condvar", |name, _| check_waited(name, 0))
        .check("condvar beside a waiter", |name, _| check_waited(name, 1))
}

fn victims(commands: Commands) -> Commands {
    let notify = |commands: Commands, operation, count: usize| {
        commands.victim(operation, move |name| {
            let (condvar, _) = open(name);
            mark_start();
            condvar.notify_n(count);
            mark_end();
        })
    };
    let commands = notify(commands, "notify_one", 1);
    let commands = notify(commands, "notify_two", 2);
    notify(commands, "notify_all", usize::MAX)
        .victim("condvar wait", |name| {
            let (condvar, mutex) = open(name);
            mark_start();
            let guard = mutex.lock().expect("it is free");
            drop(condvar.wait(guard));
            mark_end();
        })
        .victim("condvar wait_timeout", |name| {
            let (condvar, mutex) = open(name);
            mark_start();
            let guard = mutex.lock().expect("it is free");
            // No time at all: whether it slept before would depend on the speed of the steps.
            drop(condvar.wait_timeout(guard, Duration::ZERO));
            mark_end();
        })
}

fn mutex_of(name: &str) -> String {
    format!("{name}.mutex")
}

fn open(name: &str) -> (Condvar, Mutex<Woken>) {
    let mutex = Mutex::open(mutex_of(name).as_str());
    (
        Condvar::open(name).expect("the condition variable"),
        mutex.expect("its mutex"),
    )
}

/// Of `sleepers`, how many the victim has left without a notification; each of them gets one here.
fn check_notified(name: &str, sleepers: u64) -> String {
    let (condvar, mutex) = open(name);
    let state = condvar.inspect();
    let left = u64::from(state.counted - state.signals);
    // One notification is for one more of them, and lets those go on for whom the dead one's was.
    condvar.notify_one();
    until_woken(&mutex, (sleepers - left + 1).min(sleepers));
    let state = condvar.inspect();
    let still = u64::from(state.counted - state.signals);
    assert_eq!(still, left.saturating_sub(1), "{state:?}");
    condvar.notify_all();
    until_woken(&mutex, sleepers);
    finish(&condvar, &mutex);
    format!("{left} still wait")
}

/// What the mutex tells of one who waited, and whether one signal reaches the one who lives.
fn check_waited(name: &str, sleepers: u64) -> &'static str {
    let (condvar, mutex) = open(name);
    let outcome = match mutex.lock_timeout(PATIENCE) {
        Ok(_) => "whole",
        Err(LockError::OwnerDied(recover)) => {
            drop(recover.accept());
            "died"
        }
        Err(other) => panic!("{other}"),
    };
    if sleepers > 0 {
        condvar.notify_one();
        until_woken(&mutex, sleepers);
    }
    // What a dead waiter left ends with the epoch.
    condvar.notify_all();
    finish(&condvar, &mutex);
    outcome
}

fn until_woken(mutex: &Mutex<Woken>, count: u64) {
    let woken = || *mutex.lock().expect("nobody dies any more");
    let all = wait_until(|| woken() >= count, PATIENCE);
    assert!(all, "{} woken of {count}", woken());
    assert_eq!(woken(), count, "one notification too many");
}

/// Nobody waits; somebody can wait and be notified.
fn finish(condvar: &Condvar, mutex: &Mutex<Woken>) {
    let state = condvar.inspect();
    assert_eq!((state.counted, state.signals), (0, 0), "{state:?}");
    a_round(condvar, mutex);
    condvar.unlink().expect("it is there");
    mutex.unlink().expect("it is there");
}

/// One waits, and gets a signal that is sent when it does.
fn a_round(condvar: &Condvar, mutex: &Mutex<Woken>) {
    let wait = |guard: Guard<'_, Woken>| {
        let waited = condvar.wait_timeout(guard, PATIENCE);
        assert!(!waited.expect("the mutex is whole").1.timed_out());
    };
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(mutex.lock().expect("it is free")));
        let asleep = wait_until(|| condvar.inspect().waiters > 0, PATIENCE);
        assert!(asleep, "nobody sleeps");
        condvar.notify_one();
        waiter.join().expect("it was notified");
    });
}
