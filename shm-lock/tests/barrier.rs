//! The barrier between living processes. The module with CPython's names keeps the sense of `_TestBarrier` in
//! its suite for multiprocessing: five parties, each a process.

use std::time::{Duration, Instant};

use shm_core::{Error, Place, Region, recv_fd, send_fd};
use shm_lock::{Barrier, CreateError, Mutex};
use shm_testing::{Child, Peer, UniqueName, Watchdog, peer_main, wait_until, watchdog};

const PARTIES: u32 = 5;

#[test]
fn peer() {
    peer_main(&[
        ("waits", waits as fn(&mut Peer)),
        ("waits by default timeout", waits_by_default),
        ("steps", steps),
        ("acts", acts),
    ]);
}

/// Waits as often as it is told, and says how each wait ended.
fn waits(peer: &mut Peer) {
    let barrier = Barrier::open(&peer.args()[0]).unwrap();
    loop {
        let result = match &*peer.hear() {
            "wait" => barrier.wait(),
            "end" => return,
            ms => barrier.wait_timeout(Duration::from_millis(ms.parse().unwrap())),
        };
        let said = match result {
            Ok(result) => format!("{} {}", result.index(), result.is_leader()),
            Err(error) if error.timed_out() => "late".to_owned(),
            Err(_) => "broken".to_owned(),
        };
        peer.say(&said);
    }
}

fn waits_by_default(peer: &mut Peer) {
    let barrier = Barrier::open(&peer.args()[0]).unwrap();
    let barrier = barrier.with_default_timeout(Duration::from_millis(150));
    peer.hear();
    let begin = Instant::now();
    let error = barrier.wait().unwrap_err();
    let early = error.timed_out() && begin.elapsed() < Duration::from_millis(150);
    peer.say(if early { "early" } else { "broken" });
}

/// CPython's `multipass`: adds to one of two counters between barriers, and finds both in step.
fn steps(peer: &mut Peer) {
    let barrier = Barrier::open(&peer.args()[0]).unwrap();
    let counts = Mutex::<[u64; 2]>::open(&peer.args()[1]).unwrap();
    let rounds: u64 = peer.args()[2].parse().unwrap();
    for round in 0..rounds {
        counts.lock().unwrap()[0] += 1;
        assert_eq!(counts.lock().unwrap()[1], round * u64::from(PARTIES));
        barrier.wait().unwrap();
        counts.lock().unwrap()[1] += 1;
        assert_eq!(counts.lock().unwrap()[0], (round + 1) * u64::from(PARTIES));
        barrier.wait().unwrap();
    }
    peer.say("done");
}

/// The leader acts between two waits; all find afterwards that it has.
fn acts(peer: &mut Peer) {
    let barrier = Barrier::open(&peer.args()[0]).unwrap();
    let actions = Mutex::<u64>::open(&peer.args()[1]).unwrap();
    if barrier.wait().unwrap().is_leader() {
        *actions.lock().unwrap() += 1;
    }
    barrier.wait().unwrap();
    peer.say(&actions.lock().unwrap().to_string());
}

/// A barrier, and a process for each party.
struct Start {
    name: UniqueName,
    barrier: Barrier,
    peers: Vec<Child>,
}

impl Start {
    fn new(role: &str, peers: u32) -> Self {
        let name = UniqueName::new("barrier");
        let barrier = Barrier::create(&*name, PARTIES).unwrap();
        let peers = (0..peers).map(|_| Child::spawn(role, &[&name])).collect();
        Self {
            name,
            barrier,
            peers,
        }
    }

    fn tell(&mut self, line: &str) {
        self.peers.iter_mut().for_each(|peer| peer.tell(line));
    }

    fn hear(&mut self) -> Vec<String> {
        let mut said: Vec<_> = self.peers.iter_mut().map(Child::hear).collect();
        said.sort_unstable();
        said
    }

    fn until_waiting(&self, count: u32) {
        let limit = Duration::from_secs(10);
        assert!(wait_until(|| self.barrier.n_waiting() == count, limit));
    }

    /// All five pass.
    fn pass(&mut self) {
        self.tell("wait");
        let expected = ["0 false", "1 false", "2 false", "3 false", "4 true"];
        assert_eq!(self.hear(), expected);
        assert!(!self.barrier.is_broken());
        assert_eq!(self.barrier.n_waiting(), 0);
    }
}

mod cpython_test_barrier {
    use super::*;

    fn in_step(rounds: u64) {
        let _watchdog = Watchdog::new(Duration::from_secs(60));
        let (name, counts) = (UniqueName::new("step"), UniqueName::new("counts"));
        let barrier = Barrier::create(&*name, PARTIES).unwrap();
        let shared = Mutex::create(&*counts, [0_u64; 2]).unwrap();
        let args = [&*name, &*counts, &*rounds.to_string()];
        let mut peers: Vec<_> = (0..PARTIES).map(|_| Child::spawn("steps", &args)).collect();
        for peer in &mut peers {
            peer.expect_within("done", Duration::from_secs(60));
        }
        assert_eq!(*shared.lock().unwrap(), [rounds * u64::from(PARTIES); 2]);
        assert_eq!(barrier.n_waiting(), 0);
        assert!(!barrier.is_broken());
    }

    #[test]
    fn test_barrier() {
        in_step(1);
    }

    #[test]
    fn test_barrier_10() {
        in_step(10);
    }

    #[test]
    fn test_thousand() {
        in_step(1000);
    }

    #[test]
    fn test_wait_return() {
        let _watchdog = watchdog();
        Start::new("waits", PARTIES).pass();
    }

    /// CPython's action runs once, before anybody leaves: here the leader's work between two waits.
    #[test]
    fn test_action() {
        let _watchdog = watchdog();
        let (name, actions) = (UniqueName::new("action"), UniqueName::new("actions"));
        let _barrier = Barrier::create(&*name, PARTIES).unwrap();
        let _actions = Mutex::create(&*actions, 0_u64).unwrap();
        let args = [&*name, &*actions];
        let mut peers: Vec<_> = (0..PARTIES).map(|_| Child::spawn("acts", &args)).collect();
        peers.iter_mut().for_each(|peer| peer.expect("1"));
    }

    #[test]
    fn test_abort() {
        let _watchdog = watchdog();
        let mut start = Start::new("waits", PARTIES - 1);
        start.tell("wait");
        start.until_waiting(PARTIES - 1);
        start.barrier.abort();
        assert_eq!(start.hear(), ["broken"; 4]);
        assert!(start.barrier.is_broken());
        assert_eq!(start.barrier.n_waiting(), 0);
        assert!(start.barrier.wait().is_err(), "and stays so");
    }

    #[test]
    fn test_reset() {
        let _watchdog = watchdog();
        let mut start = Start::new("waits", PARTIES - 1);
        start.tell("wait");
        start.until_waiting(PARTIES - 1);
        start.barrier.reset();
        assert_eq!(start.hear(), ["broken"; 4]);
        assert!(!start.barrier.is_broken());
        start.peers.push(Child::spawn("waits", &[&start.name]));
        start.pass();
    }

    #[test]
    fn test_abort_and_reset() {
        let _watchdog = watchdog();
        let mut start = Start::new("waits", PARTIES - 1);
        start.tell("wait");
        start.until_waiting(PARTIES - 1);
        start.barrier.abort();
        assert_eq!(start.hear(), ["broken"; 4]);
        start.barrier.reset();
        assert!(!start.barrier.is_broken());
        start.peers.push(Child::spawn("waits", &[&start.name]));
        start.pass();
        start.pass();
    }

    #[test]
    fn test_timeout() {
        let _watchdog = watchdog();
        let mut start = Start::new("waits", PARTIES - 1);
        let (first, others) = start.peers.split_first_mut().unwrap();
        others.iter_mut().for_each(|peer| peer.tell("wait"));
        first.tell("200");
        first.expect("late");
        others.iter_mut().for_each(|peer| peer.expect("broken"));
        assert!(start.barrier.is_broken());
        let deadline = Instant::now() + Duration::from_secs(60);
        let late = start.barrier.wait_deadline(deadline).unwrap_err();
        assert!(!late.timed_out(), "it was broken before");
    }

    #[test]
    fn test_default_timeout() {
        let _watchdog = watchdog();
        let mut start = Start::new("waits by default timeout", PARTIES - 1);
        start.tell("go");
        assert_eq!(start.hear(), ["broken"; 4]);
        assert!(start.barrier.is_broken());
    }

    #[test]
    fn test_single_thread() {
        let barrier = Barrier::create(Place::anonymous(), 1).unwrap();
        for _ in 0..3 {
            let result = barrier.wait().unwrap();
            assert!(result.is_leader() && result.index() == 0);
            barrier.wait_timeout(Duration::ZERO).unwrap();
        }
    }
}

#[test]
fn impossible_numbers_of_parties_are_refused() {
    let region = || Region::heap(8192);
    let none = Barrier::create(region(), 0);
    assert!(matches!(none, Err(CreateError::Zero)));
    let many = Barrier::create(region(), Barrier::MAX_PARTIES + 1);
    assert!(matches!(many, Err(CreateError::TooMany { .. })));
}

#[test]
fn the_most_parties_there_can_be_stay_in_step() {
    let _watchdog = watchdog();
    let barrier = Barrier::create(Region::heap(8192), Barrier::MAX_PARTIES).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..Barrier::MAX_PARTIES {
            scope.spawn(|| (0..10).for_each(|_| assert!(barrier.wait().is_ok())));
        }
    });
    assert_eq!(barrier.inspect().rounds, 10);
}

#[test]
fn as_many_register_as_there_are_parties() {
    let _watchdog = watchdog();
    let barrier = Barrier::create(Region::heap(8192), 2).unwrap();
    let mut first = barrier.register().unwrap();
    let mut second = barrier.register().unwrap();
    assert_eq!(barrier.inspect().registered.len(), 2);
    assert_eq!(barrier.register().unwrap_err().parties, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(first.wait().is_ok()));
        assert!(second.wait_timeout(Duration::from_secs(20)).is_ok());
    });
    drop(first);
    assert!(barrier.register().is_ok());
    assert!(!barrier.is_broken(), "to leave breaks nothing");
}

#[test]
fn it_lives_by_name_without_a_name_and_in_a_region() {
    let name = UniqueName::new("places");
    let named = Barrier::open_or_create(&*name, 3).unwrap();
    let again = Barrier::open_or_create(&*name, 4).unwrap();
    assert_eq!(again.parties(), 3, "the first one's parties");
    assert!(format!("{again:?}").contains("parties: 3"), "{again:?}");
    named.abort();
    assert!(again.is_broken());
    named.unlink().unwrap();
    assert!(Barrier::open(&*name).is_err());

    let anonymous = Barrier::create(Place::anonymous(), 2).unwrap();
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    send_fd(&here, anonymous.segment()).unwrap();
    let handed_over = Barrier::open(recv_fd(&there).unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(handed_over.wait().is_ok()));
        assert!(anonymous.wait().is_ok());
    });

    let region = Region::heap(Barrier::REGION_SIZE);
    Barrier::create(region.clone(), 2).unwrap().abort();
    assert!(Barrier::open(region).unwrap().is_broken());
}

#[test]
fn a_number_of_parties_that_cannot_be_is_corrupt() {
    let name = UniqueName::new("corrupt-parties");
    let _barrier = Barrier::create(&*name, 2).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    for wrong in [0, Barrier::MAX_PARTIES + 1, u32::MAX] {
        std::os::unix::fs::FileExt::write_all_at(&file, &wrong.to_ne_bytes(), 4096 + 12).unwrap();
        let error = Barrier::open(&*name).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{wrong}: {error}");
    }
}

/// There is no `try_wait`: who waits for nobody passes as the last, and otherwise has come and is late.
#[test]
fn a_timeout_of_zero_passes_the_last_and_breaks_for_all_others() {
    let _watchdog = watchdog();
    let mut start = Start::new("waits", PARTIES - 1);
    start.tell("wait");
    start.until_waiting(PARTIES - 1);
    let last = start.barrier.wait_timeout(Duration::ZERO).unwrap();
    assert!(last.is_leader());
    assert_eq!(start.hear(), ["0 false", "1 false", "2 false", "3 false"]);
    let (late, others) = start.peers.split_first_mut().unwrap();
    others.iter_mut().for_each(|peer| peer.tell("wait"));
    let three = || start.barrier.n_waiting() == PARTIES - 2;
    assert!(wait_until(three, Duration::from_secs(10)));
    late.tell("0");
    late.expect("late");
    others.iter_mut().for_each(|peer| peer.expect("broken"));
    assert!(start.barrier.is_broken());
}
