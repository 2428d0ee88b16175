//! The event between living processes. The module with CPython's names keeps the sense of `_TestEvent` in
//! its suite for multiprocessing.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use shm_core::{Place, Region, recv_fd, send_fd};
use shm_lock::Event;
use shm_testing::{
    Child, Peer, UniqueName, eventually, peer_main, until_thread_asleep_in_futex, watchdog,
};

#[test]
fn peer() {
    peer_main(&[
        ("sets", sets as fn(&mut Peer)),
        ("waits", waits),
        ("sets in a signal handler", sets_in_a_signal_handler),
    ]);
}

fn sets(peer: &mut Peer) {
    Event::open(&peer.args()[0]).unwrap().set();
    peer.say("set");
}

fn waits(peer: &mut Peer) {
    let event = Event::open(&peer.args()[0]).unwrap();
    peer.say("waiting");
    event.wait();
    peer.say("through");
}

fn sets_in_a_signal_handler(peer: &mut Peer) {
    static EVENT: OnceLock<Event> = OnceLock::new();
    extern "C" fn handler(_: i32) {
        if let Some(event) = EVENT.get() {
            event.set();
        }
    }
    EVENT.set(Event::open(&peer.args()[0]).unwrap()).unwrap();
    let action = SigAction::new(
        SigHandler::Handler(handler),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing but `Event::set`, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    peer.say("ready");
    peer.hear();
}

fn asleep(name: &str) -> Child {
    let mut waiter = Child::spawn("waits", &[name]);
    waiter.expect("waiting");
    let tid = waiter.tid();
    until_thread_asleep_in_futex(waiter.pid(), tid);
    waiter
}

mod cpython_test_event {
    use super::*;

    #[test]
    fn test_event() {
        let _watchdog = watchdog();
        let name = UniqueName::new("test-event");
        let event = Event::create(&*name).unwrap();
        assert!(!event.is_set() && !event.try_wait());
        assert!(!event.wait_timeout(Duration::ZERO));
        let (begin, timeout) = (Instant::now(), Duration::from_millis(150));
        assert!(!event.wait_timeout(timeout));
        assert!(begin.elapsed() >= timeout);
        let deadline = Instant::now() + timeout;
        assert!(!event.wait_deadline(deadline));
        assert!(Instant::now() >= deadline);

        event.set();
        assert!(event.is_set() && event.try_wait());
        event.wait();
        assert!(event.wait_timeout(Duration::ZERO));
        assert!(event.wait_timeout(Duration::MAX));
        assert!(event.wait_deadline(begin), "set is set, however late");
        // A second time changes nothing.
        event.set();
        assert_eq!(event.inspect().sets, 1);

        event.clear();
        assert!(!event.is_set() && !event.try_wait());
        assert!(!event.wait_timeout(Duration::ZERO));
        let mut setter = Child::spawn("sets", &[&name]);
        event.wait();
        assert!(event.is_set() && event.try_wait());
        setter.expect("set");
    }

    #[test]
    fn test_repr() {
        let _watchdog = watchdog();
        let name = UniqueName::new("test-repr");
        let event = Event::create(&*name).unwrap();
        assert!(format!("{event:?}").contains("state: unset"), "{event:?}");
        Child::spawn("sets", &[&name]).expect("set");
        assert!(format!("{event:?}").contains("state: set"), "{event:?}");
        event.clear();
        assert!(format!("{event:?}").contains("state: unset"), "{event:?}");
    }
}

#[test]
fn set_frees_all_processes_even_if_it_is_cleared_at_once() {
    let _watchdog = watchdog();
    let name = UniqueName::new("all");
    let event = Event::create(&*name).unwrap();
    let mut waiters: Vec<_> = (0..4).map(|_| asleep(&name)).collect();
    eventually(|| event.inspect().waiters == 4);
    event.set();
    event.clear();
    waiters.iter_mut().for_each(|peer| peer.expect("through"));
    assert!(!event.is_set());
    assert!(!event.wait_timeout(Duration::ZERO));
}

#[test]
fn a_signal_handler_may_set_it() {
    let _watchdog = watchdog();
    let name = UniqueName::new("signal");
    let event = Event::create(&*name).unwrap();
    let mut setter = Child::spawn("sets in a signal handler", &[&name]);
    setter.expect("ready");
    kill(Pid::from_raw(setter.pid() as i32), Signal::SIGUSR1).unwrap();
    event.wait();
}

#[test]
fn ping_and_pong_lose_no_set() {
    let _watchdog = watchdog();
    let ping = Event::create(Region::heap(4096)).unwrap();
    let pong = Event::create(Region::heap(4096)).unwrap();
    let rounds = 5_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                ping.wait();
                ping.clear();
                pong.set();
            }
        });
        for _ in 0..rounds {
            ping.set();
            pong.wait();
            pong.clear();
        }
    });
    assert_eq!(ping.inspect().sets, rounds);
    assert_eq!(pong.inspect().sets, rounds);
}

#[test]
fn it_lives_by_name_without_a_name_and_in_a_region() {
    let name = UniqueName::new("places");
    let named = Event::open_or_create(&*name).unwrap();
    named.set();
    assert!(Event::open_or_create(&*name).unwrap().is_set());
    named.unlink().unwrap();
    assert!(Event::open(&*name).is_err());

    let anonymous = Event::create(Place::anonymous()).unwrap();
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    send_fd(&here, anonymous.segment()).unwrap();
    let handed_over = Event::open(recv_fd(&there).unwrap()).unwrap();
    anonymous.set();
    assert!(handed_over.wait_timeout(Duration::ZERO));

    let region = Region::heap(Event::REGION_SIZE);
    Event::create(region.clone()).unwrap().set();
    assert!(Event::open(region).unwrap().is_set());
}
