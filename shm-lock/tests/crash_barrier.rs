//! What the death of a process leaves of a barrier: one test for each row of docs/peer-death.md.

use std::time::{Duration, Instant};

use shm_lock::Barrier;
use shm_testing::{Child, Peer, UniqueName, peer_main, until_thread_asleep_in_futex, watchdog};

#[test]
fn peer() {
    peer_main(&[
        ("waits", waits as fn(&mut Peer)),
        ("registers", registers),
        ("waits in rounds", waits_in_rounds),
        ("forks as a party", forks_as_a_party),
    ]);
}

fn open(peer: &Peer) -> Barrier {
    Barrier::open(&peer.args()[0]).unwrap()
}

fn waits(peer: &mut Peer) {
    let barrier = open(peer);
    peer.say("waiting");
    let said = match barrier.wait() {
        Ok(_) => "through".to_owned(),
        Err(error) => format!("{:?}", error.dead_party().map(|id| id.pid())),
    };
    peer.say(&said);
    peer.hear();
}

fn registers(peer: &mut Peer) {
    let mut party = open(peer).register().unwrap();
    peer.say("registered");
    peer.hear();
    peer.say(if party.wait().is_ok() {
        "through"
    } else {
        "broken"
    });
    peer.hear();
}

fn waits_in_rounds(peer: &mut Peer) {
    let mut party = open(peer).register().unwrap();
    peer.say("waiting");
    while party.wait().is_ok() {}
    peer.say("broken");
}

fn forks_as_a_party(peer: &mut Peer) {
    let barrier = open(peer);
    let party = barrier.register().unwrap();
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            drop(party);
            std::process::exit(i32::from(barrier.inspect().registered.len() != 1));
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            let exited = nix::sys::wait::WaitStatus::Exited(child, 0);
            assert_eq!(status, exited, "the child took its parent's place away");
        }
    }
    drop(party);
    assert!(barrier.inspect().registered.is_empty());
    peer.say("done");
}

fn asleep(name: &str) -> Child {
    let mut waiter = Child::spawn("waits", &[name]);
    waiter.expect("waiting");
    let tid = waiter.tid();
    until_thread_asleep_in_futex(waiter.pid(), tid);
    waiter
}

fn registered(name: &str) -> Child {
    let mut party = Child::spawn("registers", &[name]);
    party.expect("registered");
    party
}

#[test]
fn a_registered_party_that_dies_elsewhere_breaks_it() {
    let _watchdog = watchdog();
    let name = UniqueName::new("registered");
    let barrier = Barrier::create(&*name, 3).unwrap();
    let mut party = registered(&name);
    let mut waiter = asleep(&name);
    let dead = Some(party.pid());
    // Not reaped, which is as dead as can be.
    party.kill_unreaped();
    let error = barrier.wait().unwrap_err();
    assert_eq!(error.dead_party().map(|id| id.pid()), dead);
    assert!(error.to_string().ends_with("died"), "{error}");
    waiter.expect(&format!("{dead:?}"));
    assert!(barrier.inspect().registered.is_empty());

    // Whole again, without the dead.
    barrier.reset();
    let mut others = [asleep(&name), asleep(&name)];
    barrier.wait().unwrap();
    others.iter_mut().for_each(|peer| peer.expect("through"));
}

#[test]
fn of_several_dead_parties_one_is_named() {
    let _watchdog = watchdog();
    let name = UniqueName::new("several");
    let barrier = Barrier::create(&*name, 3).unwrap();
    let mut parties = [(); 3].map(|()| registered(&name));
    let pids = parties.each_ref().map(Child::pid);
    parties.iter_mut().for_each(Child::kill);
    // Finds all of them dead, and takes the place of one.
    let _party = barrier.register().unwrap();
    let error = barrier.wait().unwrap_err();
    let dead = error.dead_party().map(|id| id.pid());
    assert!(dead.is_some_and(|pid| pids.contains(&pid)), "{error}");
}

#[test]
fn a_waiting_party_that_dies_breaks_it() {
    let _watchdog = watchdog();
    let name = UniqueName::new("waiting");
    let barrier = Barrier::create(&*name, 3).unwrap();
    let mut doomed = asleep(&name);
    let mut waiter = asleep(&name);
    assert_eq!(barrier.n_waiting(), 2);
    let dead = Some(doomed.pid());
    doomed.kill();
    waiter.expect(&format!("{dead:?}"));
    assert!(barrier.is_broken());
}

#[test]
fn a_stopped_party_is_not_taken_for_dead() {
    let _watchdog = watchdog();
    let name = UniqueName::new("stopped");
    let barrier = Barrier::create(&*name, 3).unwrap();
    let mut party = registered(&name);
    let mut sleeper = asleep(&name);
    party.stop();
    sleeper.stop();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| barrier.wait());
        std::thread::sleep(Duration::from_millis(400));
        assert!(!barrier.is_broken());
        party.cont();
        sleeper.cont();
        party.tell("wait");
        assert!(waiter.join().unwrap().is_ok());
    });
    party.expect("through");
    sleeper.expect("through");
}

#[test]
fn one_that_never_registered_is_covered_by_the_timeout_alone() {
    let _watchdog = watchdog();
    let name = UniqueName::new("unknown");
    let barrier = Barrier::create(&*name, 2).unwrap();
    let mut unknown = Child::spawn("registers", &[&name]);
    unknown.kill();
    let timeout = Duration::from_millis(300);
    let begin = Instant::now();
    let error = barrier.wait_timeout(timeout).unwrap_err();
    // If it came as far as to register before it was killed, it was known.
    assert!(error.dead_party().is_some() || error.timed_out() && begin.elapsed() >= timeout);
}

#[test]
fn a_dead_partys_place_is_free_for_another() {
    let _watchdog = watchdog();
    let name = UniqueName::new("place");
    let barrier = Barrier::create(&*name, 1).unwrap();
    let mut party = registered(&name);
    assert!(barrier.register().is_err(), "it lives");
    party.kill();
    let mut mine = barrier.register().unwrap();
    assert!(barrier.is_broken(), "a death is not passed over");
    barrier.reset();
    mine.wait().unwrap();
}

#[test]
fn a_forked_childs_party_is_inert() {
    let _watchdog = watchdog();
    let name = UniqueName::new("fork");
    let _barrier = Barrier::create(&*name, 2).unwrap();
    Child::spawn("forks as a party", &[&name]).expect("done");
}

/// Three run round after round, and one of them is killed anywhere: the others hear of it.
#[test]
fn a_party_killed_anywhere_hangs_nobody() {
    let _watchdog = watchdog();
    for round in 0..25 {
        let name = UniqueName::new("rounds");
        let barrier = Barrier::create(&*name, 3).unwrap();
        let mut peers: Vec<_> = (0..3)
            .map(|_| Child::spawn("waits in rounds", &[&name]))
            .collect();
        peers.iter_mut().for_each(|peer| peer.expect("waiting"));
        std::thread::sleep(Duration::from_micros(173 * (round % 11)));
        let mut doomed = peers.pop().unwrap();
        doomed.kill();
        peers.iter_mut().for_each(|peer| peer.expect("broken"));
        assert!(barrier.is_broken());
    }
}
