//! What the death of a process leaves of a robust semaphore.

use std::time::{Duration, Instant};

use shm_lock::{LockFailure, RobustSemaphore};
use shm_testing::{
    Child, Peer, UniqueName, Watchdog, eventually, peer_main, until_thread_asleep_in_futex,
    wait_until, watchdog,
};

/// For what must happen.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn peer() {
    peer_main(&[
        ("holds two", holds_two as fn(&mut Peer)),
        ("waits", waits),
        ("forks", forks),
        ("passes for ever", passes_for_ever),
        ("executes itself in a thread", executes_in_a_thread),
    ]);
}

fn open(peer: &Peer) -> RobustSemaphore {
    RobustSemaphore::open(&peer.args()[0]).unwrap()
}

fn holds_two(peer: &mut Peer) {
    let semaphore = open(peer);
    let _permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
    peer.say("holding");
    peer.hear();
}

fn waits(peer: &mut Peer) {
    let semaphore = open(peer);
    peer.say("waiting");
    let permit = semaphore.acquire().unwrap();
    peer.say(&format!("{:?}", permit.dead_holder().map(|id| id.pid())));
    peer.hear();
}

/// From another thread than the first: the kernel does not release what that one has.
fn executes_in_a_thread(peer: &mut Peer) {
    use std::os::unix::process::CommandExt;
    let semaphore = open(peer);
    peer.say("about to exec");
    std::thread::scope(|s| {
        s.spawn(|| {
            std::mem::forget(semaphore.acquire().unwrap());
            panic!("{}", std::process::Command::new("sleep").arg("60").exec());
        });
    });
}

#[test]
fn a_permit_that_the_kernel_forgets_comes_back() {
    let _watchdog = watchdog();
    let name = UniqueName::new("rsem-exec");
    let semaphore = RobustSemaphore::create(&*name, 1).unwrap();
    let mut child = Child::spawn("executes itself in a thread", &[&name]);
    child.expect("about to exec");
    assert!(wait_until(|| semaphore.available() == 0, SOON));
    let permit = semaphore.acquire_timeout(SOON).unwrap();
    assert_eq!(permit.dead_holder().map(|id| id.pid()), Some(child.pid()));
    child.kill();
}

fn passes_for_ever(peer: &mut Peer) {
    let semaphore = open(peer);
    peer.say("ready");
    loop {
        let _permit = semaphore.acquire().unwrap();
    }
}

fn forks(peer: &mut Peer) {
    let semaphore = open(peer);
    let permit = semaphore.acquire().unwrap();
    let other = semaphore.acquire().unwrap();
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            drop(permit);
            let none = semaphore.try_acquire().map(drop) == Err(LockFailure::WouldBlock);
            std::process::exit(i32::from(!none));
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            let fine = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
            assert!(fine, "{status:?}");
        }
    }
    assert_eq!(semaphore.available(), 0);
    drop((permit, other));
    assert_eq!(semaphore.available(), 2);
    peer.say("done");
}

fn asleep(name: &str) -> Child {
    let mut child = Child::spawn("waits", &[name]);
    child.expect("waiting");
    let tid = child.tid();
    until_thread_asleep_in_futex(child.pid(), tid);
    child
}

fn create(tag: &str) -> (UniqueName, RobustSemaphore) {
    let name = UniqueName::new(tag);
    let semaphore = RobustSemaphore::create(&*name, 2).unwrap();
    (name, semaphore)
}

#[test]
fn the_permits_of_the_dead_come_back() {
    let _watchdog = watchdog();
    let (name, semaphore) = create("come-back");
    for round in 1..=3 {
        let mut holder = Child::spawn("holds two", &[&name]);
        holder.expect("holding");
        assert_eq!(semaphore.available(), 0);
        let holders = semaphore.inspect().holders;
        let pids = holders.iter().map(|holder| holder.owner.map(|id| id.pid()));
        assert!(pids.eq([Some(holder.pid()); 2]));
        holder.kill();
        assert_eq!(semaphore.available(), 2);
        let permits = [
            semaphore.try_acquire().unwrap(),
            semaphore.try_acquire().unwrap(),
        ];
        for permit in &permits {
            let dead = permit.dead_holder().map(|id| id.pid());
            assert_eq!(dead, Some(holder.pid()));
        }
        assert_eq!(semaphore.inspect().deaths, 2 * round);
        drop(permits);
        assert_eq!(
            semaphore.acquire().unwrap().dead_holder(),
            None,
            "told once"
        );
    }
}

#[test]
fn a_sleeper_notices_the_death_of_a_holder() {
    let _watchdog = watchdog();
    let (name, semaphore) = create("sleeper");
    let mut holder = Child::spawn("holds two", &[&name]);
    holder.expect("holding");
    let mut first = asleep(&name);
    let mut second = asleep(&name);
    eventually(|| semaphore.inspect().waiters == 2);
    let begin = Instant::now();
    holder.kill_unreaped();
    let told = format!("Some({})", holder.pid());
    first.expect(&told);
    second.expect(&told);
    println!("both had a permit {:?} after the kill", begin.elapsed());
    assert_eq!(semaphore.inspect().deaths, 2);
}

#[test]
fn the_line_moves_on_when_its_first_is_killed() {
    let _watchdog = watchdog();
    let (name, semaphore) = create("first");
    let permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
    let mut first = asleep(&name);
    let mut second = asleep(&name);
    let mut third = asleep(&name);
    first.kill();
    second.kill();
    // Between two sleeps, in the line and at its head, it is none that is seen to wait.
    let leads = wait_until(|| semaphore.inspect().waiters == 1, SOON);
    assert!(leads, "{:?}", semaphore.inspect());
    drop(permits);
    third.expect("None");
    assert_eq!(semaphore.available(), 1);
}

/// The first in the line is the one whom a permit that is given back wakes.
#[test]
fn a_stopped_waiter_keeps_no_permit_from_those_behind_it() {
    let _watchdog = watchdog();
    let (name, semaphore) = create("behind");
    let permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
    let mut first = asleep(&name);
    eventually(|| semaphore.inspect().waiters == 1);
    let mut behind = asleep(&name);
    eventually(|| semaphore.inspect().waiters == 2);
    first.stop();
    drop(permits);
    behind.expect("None");
    first.cont();
    first.expect("None");
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn a_forked_childs_permit_is_inert() {
    let _watchdog = watchdog();
    let (name, _semaphore) = create("rsem-fork");
    Child::spawn("forks", &[&name]).expect("done");
}

#[test]
fn the_permits_add_up_after_a_storm_of_kills() {
    const KILLS: usize = 120;
    let _watchdog = Watchdog::new(Duration::from_secs(300));
    let (name, semaphore) = create("rsem-storm");
    let spawn = || {
        let mut child = Child::spawn("passes for ever", &[&name]);
        child.expect("ready");
        child
    };
    let mut children: Vec<Child> = (0..4).map(|_| spawn()).collect();
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_micros(100 + 41 * (kill as u64 % 40)));
        children[kill % 4].kill();
        children[kill % 4] = spawn();
    }
    children.iter_mut().for_each(Child::kill);
    assert_eq!(semaphore.available(), 2);
    let limit = Duration::from_secs(10);
    let permits = [
        semaphore.acquire_timeout(limit).unwrap(),
        semaphore.acquire_timeout(limit).unwrap(),
    ];
    assert_eq!(
        semaphore.try_acquire().unwrap_err(),
        LockFailure::WouldBlock
    );
    drop(permits);
    let idle = semaphore.inspect();
    assert_eq!((idle.waiters, idle.holders.len()), (0, 0));
}
