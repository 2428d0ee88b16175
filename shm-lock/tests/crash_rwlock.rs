//! What the death of a process leaves of a reader-writer lock.

use std::time::Duration;

use shm_lock::{Cause, LockError, LockFailure, RwLock};
use shm_testing::{
    Child, Peer, UniqueName, Watchdog, peer_main, until_thread_asleep_in_futex, watchdog,
};

type Pair = [i64; 2];

#[test]
fn peer() {
    peer_main(&[
        ("reads", reads as fn(&mut Peer)),
        ("writes", writes),
        ("waits to write", waits_to_write),
        ("waits to read", waits_to_read),
        ("downgrades", downgrades),
        ("forks", forks),
        ("forks with a report", forks_with_a_report),
        ("storms", storms),
    ]);
}

fn open(peer: &Peer) -> RwLock<Pair> {
    RwLock::open(&peer.args()[0]).unwrap()
}

fn create(tag: &str) -> (UniqueName, RwLock<Pair>) {
    let name = UniqueName::new(tag);
    let lock = RwLock::create(&*name, [0, 0]).unwrap();
    (name, lock)
}

fn reads(peer: &mut Peer) {
    let lock = open(peer);
    let _outer = lock.read().unwrap();
    let _inner = lock.read().unwrap();
    peer.say("holding");
    peer.hear();
}

/// Half a change.
fn writes(peer: &mut Peer) {
    let lock = open(peer);
    let mut pair = lock.write_or_repair(|_, _| ()).unwrap();
    pair[0] += 5;
    peer.say("holding");
    peer.hear();
}

fn downgrades(peer: &mut Peer) {
    let lock = open(peer);
    let mut pair = lock.write().unwrap();
    *pair = [3, -3];
    let _reader = pair.downgrade();
    peer.say("holding");
    peer.hear();
}

fn waits_to_write(peer: &mut Peer) {
    let lock = open(peer);
    peer.say("waiting");
    let said = match lock.write() {
        Ok(pair) => format!("got {pair:?}"),
        Err(LockError::OwnerDied(recover)) => {
            let cause = recover.cause();
            let pair = recover.repair(|pair| pair[1] = -pair[0]);
            format!("{cause:?} {pair:?}")
        }
        Err(other) => format!("{other}"),
    };
    peer.say(&said);
    peer.hear();
}

fn waits_to_read(peer: &mut Peer) {
    let lock = open(peer);
    peer.say("waiting");
    let said = match lock.read() {
        Ok(pair) => format!("got {pair:?}"),
        Err(error) => format!("{error}"),
    };
    peer.say(&said);
    peer.hear();
}

/// Reads and writes until it is killed; whoever sees half a change says so.
fn storms(peer: &mut Peer) {
    let lock = open(peer);
    let repair = |pair: &mut Pair, _| pair[1] = -pair[0];
    peer.say("ready");
    for round in 0_u64.. {
        if round % 4 == 0 {
            let mut pair = lock.write_or_repair(repair).unwrap();
            assert_eq!(pair[0] + pair[1], 0, "not reported");
            pair[0] += 1;
            pair[1] -= 1;
        } else {
            let pair = lock.read_or_repair(repair).unwrap();
            assert_eq!(pair[0] + pair[1], 0, "not reported");
        }
    }
}

fn forks(peer: &mut Peer) {
    let lock = open(peer);
    let reader = lock.read().unwrap();
    let nested = lock.read().unwrap();
    child_drops_its_copies(&lock, (nested, reader));
    assert_eq!(lock.inspect().readers.len(), 0, "the parent's copies count");
    let writer = lock.write().unwrap();
    child_drops_its_copies(&lock, writer);
    assert_eq!(lock.inspect().writer.owner, None);
    let writer = lock.write().unwrap();
    child_drops_its_copies(&lock, [writer].map(|writer| writer.downgrade()));
    peer.say("done");
}

/// The child settles its copy of a report, in whichever way it is told; the parent's is to be settled still.
fn forks_with_a_report(peer: &mut Peer) {
    let lock = open(peer);
    let Err(LockError::OwnerDied(recover)) = lock.write() else {
        panic!("not reported")
    };
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            // Nobody else ends it if it hangs.
            nix::unistd::alarm::set(10);
            match peer.args()[1].as_str() {
                "accepts" => drop(recover.accept()),
                _ => recover.abandon(),
            }
            std::process::exit(0);
        }
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
        }
    }
    drop(recover);
    let Err(LockError::OwnerDied(recover)) = lock.write() else {
        panic!("the child settled it")
    };
    drop(recover.accept());
    assert!(lock.read().is_ok());
    peer.say("done");
}

/// Forks; the child drops its copies of the guards, and the lock must still be the parent's.
fn child_drops_its_copies(lock: &RwLock<Pair>, guards: impl Sized) {
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            drop(guards);
            let held = matches!(lock.try_write(), Err(LockError::WouldBlock));
            std::process::exit(i32::from(!held));
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            let fine = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
            assert!(fine, "{status:?}");
            drop(guards);
            assert!(lock.try_write().is_ok(), "the parent's guards unlocked");
        }
    }
}

fn asleep(role: &str, name: &str) -> Child {
    let mut child = Child::spawn(role, &[name]);
    child.expect("waiting");
    let tid = child.tid();
    until_thread_asleep_in_futex(child.pid(), tid);
    child
}

fn holding(role: &str, name: &str) -> Child {
    let mut child = Child::spawn(role, &[name]);
    child.expect("holding");
    child
}

#[test]
fn a_dead_readers_slot_goes_to_the_writer_who_waits_for_it() {
    let _watchdog = watchdog();
    let (name, lock) = create("dead-reader");
    for role in ["reads", "downgrades"] {
        let mut doomed = holding(role, &name);
        let mut other = holding("reads", &name);
        assert_eq!(lock.inspect().readers.len(), 2);
        let mut writer = asleep("waits to write", &name);
        doomed.kill();
        other.kill();
        assert!(writer.hear().starts_with("got "), "nobody broke anything");
        writer.kill();
        lock.write_or_repair(|_, _| ()).unwrap()[0] = 0;
        assert!(lock.inspect().readers.is_empty());
    }
}

#[test]
fn a_writers_death_is_told_to_readers_and_mended_by_the_next_writer() {
    let _watchdog = watchdog();
    let (name, lock) = create("dead-writer");
    let mut doomed = holding("writes", &name);
    let mut reader = asleep("waits to read", &name);
    doomed.kill_unreaped();
    assert!(
        reader.hear().contains("died while it held it"),
        "the sleeping reader is told at once"
    );
    for _ in 0..2 {
        let Err(LockFailure::NeedsRepair(Cause::OwnerDied {
            process: Some(process),
            deaths: 1,
        })) = lock.read()
        else {
            panic!("not reported")
        };
        assert_eq!(process.pid(), doomed.pid());
    }
    assert!(lock.inspect().writer.inconsistent);
    let mut writer = Child::spawn("waits to write", &[&name]);
    writer.expect("waiting");
    let said = writer.hear();
    assert!(
        said.starts_with("OwnerDied") && said.ends_with("[5, -5]"),
        "{said}"
    );
    assert!(said.contains(&format!("pid: {}", doomed.pid())), "{said}");
    assert_eq!(*lock.read().unwrap(), [5, -5]);
}

#[test]
fn a_writers_death_hands_the_lock_to_the_writer_who_waits() {
    let _watchdog = watchdog();
    let (name, _lock) = create("writer-hand-over");
    let mut doomed = holding("writes", &name);
    let mut writer = asleep("waits to write", &name);
    doomed.kill_unreaped();
    let said = writer.hear();
    assert!(said.starts_with("OwnerDied"), "{said}");
}

#[test]
fn a_writer_killed_while_it_collects_the_slots_harms_nobody() {
    let _watchdog = watchdog();
    let (name, lock) = create("collecting");
    let reader = lock.read().unwrap();
    let mut doomed = asleep("waits to write", &name);
    let mut late = asleep("waits to read", &name);
    doomed.kill();
    late.expect("got [0, 0]");
    assert!(!lock.inspect().writer.inconsistent);
    drop(reader);
    late.kill();
    assert!(lock.try_write().is_ok());
    assert_eq!(lock.inspect().writer.deaths, 0);
}

#[test]
fn a_killed_waiting_reader_harms_nobody() {
    let _watchdog = watchdog();
    let (name, lock) = create("waiting-reader");
    let writer = lock.write().unwrap();
    let mut doomed = asleep("waits to read", &name);
    let mut other = asleep("waits to read", &name);
    doomed.kill();
    drop(writer);
    other.expect("got [0, 0]");
    other.kill();
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_repair_that_is_not_finished_is_asked_for_again() {
    let _watchdog = watchdog();
    let (name, lock) = create("rw-again");
    let mut doomed = holding("writes", &name);
    doomed.kill();
    // Dropped without a repair.
    assert!(matches!(lock.write(), Err(LockError::OwnerDied(recover)) if *recover == [5, 0]));
    let Err(LockFailure::NeedsRepair(cause)) = lock.read() else {
        panic!("forgotten")
    };
    let none = Cause::OwnerDied {
        process: None,
        deaths: 1,
    };
    assert_eq!(cause, none);
    let reader = lock
        .read_or_repair(|pair, cause| {
            assert_eq!(cause, none);
            pair[1] = -pair[0];
        })
        .unwrap();
    assert_eq!(*reader, [5, -5]);
}

#[test]
fn data_given_up_is_refused_to_readers_and_writers() {
    let _watchdog = watchdog();
    let (name, lock) = create("rw-given-up");
    holding("writes", &name).kill();
    let Err(LockError::OwnerDied(recover)) = lock.write() else {
        panic!("not reported")
    };
    recover.abandon();
    assert_eq!(lock.read().unwrap_err(), LockFailure::NotRecoverable);
    assert!(matches!(lock.try_write(), Err(LockError::NotRecoverable)));
    assert!(matches!(lock.write(), Err(LockError::NotRecoverable)));
    assert!(lock.inspect().writer.not_recoverable);
}

#[test]
fn a_forked_childs_guards_are_inert() {
    let _watchdog = watchdog();
    let (name, _lock) = create("rw-fork");
    Child::spawn("forks", &[&name]).expect("done");
}

#[test]
fn a_forked_childs_report_is_inert() {
    let _watchdog = watchdog();
    for settles in ["accepts", "abandons"] {
        let (name, _lock) = create("rw-fork-report");
        let mut writer = Child::spawn("writes", &[&name]);
        writer.expect("holding");
        writer.kill();
        Child::spawn("forks with a report", &[&name, settles]).expect("done");
    }
}

#[test]
fn half_a_change_is_always_reported_in_a_storm_of_kills() {
    const KILLS: usize = 150;
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    let (name, lock) = create("rw-storm");
    let spawn = || {
        let mut child = Child::spawn("storms", &[&name]);
        child.expect("ready");
        child
    };
    let mut children: Vec<Child> = (0..3).map(|_| spawn()).collect();
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_micros(200 + 37 * (kill as u64 % 50)));
        children[kill % 3].kill();
        children[kill % 3] = spawn();
    }
    children.iter_mut().for_each(Child::kill);
    let limit = Duration::from_secs(10);
    let pair = match lock.write_timeout(limit) {
        Err(LockError::OwnerDied(recover)) => recover.repair(|pair| pair[1] = -pair[0]),
        other => other.expect("nobody is left"),
    };
    assert_eq!(pair[0] + pair[1], 0);
    assert!(pair[0] > 0, "nobody wrote");
    drop(pair);
    assert!(lock.inspect().readers.is_empty());
}
