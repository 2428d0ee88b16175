//! What the death of a process leaves of a queue: real processes, killed, stopped, forked.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getpid, gettid};
use shm_queue::{ByteQueue, JoinableQueue, Options, Place, Queue, QueueError, WaitStrategy};
use shm_testing::{
    Alarms, Child, Peer, ThreadState, UniqueName, eventually, in_private_tmpfs, peer_main,
    skip_unless_required, until_thread_asleep_in_futex, watchdog,
};

/// For what must happen.
const LONG: Duration = Duration::from_secs(15);
/// For what must not: two slices and a half.
const WHILE: Duration = Duration::from_millis(250);

#[test]
fn peer() {
    peer_main(&[
        ("works", works as fn(&mut Peer)),
        ("detaches", detaches),
        ("takes and gets", takes_and_gets),
        ("reads in place", reads_in_place),
        ("reserves", reserves),
        ("sends", sends),
        ("gets", gets),
        ("waits for the end", waits_for_the_end),
        ("puts", puts),
        ("joins", joins),
        ("forks and the child puts", forks_and_the_child_puts),
        ("forks into a dead slot", forks_into_a_dead_slot),
        ("is interrupted", is_interrupted),
        ("fills the disk", fills_the_disk),
        ("many threads", many_threads),
        ("dies in a batch", dies_in_a_batch),
        (
            "forks and the child dies in a batch",
            forks_and_the_child_dies_in_a_batch,
        ),
    ]);
}

fn name_of(peer: &Peer) -> String {
    peer.args()[0].clone()
}

fn tasks(peer: &Peer) -> JoinableQueue<u32> {
    JoinableQueue::open(name_of(peer)).unwrap()
}

/// Takes as many tasks as it is told and holds them; done with them when it hears of it.
fn works(peer: &mut Peer) {
    let queue = tasks(peer);
    let count = peer.args()[1].parse().unwrap();
    let held: Vec<_> = (0..count).map(|_| queue.get().unwrap()).collect();
    peer.say("working");
    peer.hear();
    held.into_iter().for_each(|task| task.task_done().unwrap());
    peer.say("done");
}

fn detaches(peer: &mut Peer) {
    let queue = tasks(peer);
    let values: Vec<_> = (0..2).map(|_| queue.get().unwrap().detach()).collect();
    assert_eq!(values, [1, 2]);
    peer.say("working");
    peer.hear();
}

/// Holds a task and sleeps for another.
fn takes_and_gets(peer: &mut Peer) {
    let queue = tasks(peer);
    let _task = queue.get().unwrap();
    peer.say("working");
    let _ = queue.get();
}

fn reads_in_place(peer: &mut Peer) {
    let queue = ByteQueue::open(name_of(peer)).unwrap();
    let received = queue.recv_ref().unwrap();
    peer.say(&format!("reading {}", received.len()));
    peer.hear();
}

fn reserves(peer: &mut Peer) {
    let queue = ByteQueue::open(name_of(peer)).unwrap();
    let mut reservation = queue.reserve(1000).unwrap();
    reservation.fill(1);
    peer.say("writing");
    peer.hear();
    reservation.commit().unwrap();
    peer.say("written");
    peer.hear();
}

fn sends(peer: &mut Peer) {
    let queue = Queue::<u32>::open(name_of(peer)).unwrap();
    let sender = queue.sender().unwrap();
    sender.put(peer.args()[1].parse().unwrap()).unwrap();
    peer.say("sent");
    peer.hear();
}

fn gets(peer: &mut Peer) {
    let queue = tasks(peer);
    peer.say("getting");
    let task = queue.get().unwrap();
    let (value, deliveries) = (*task, task.deliveries());
    task.task_done().unwrap();
    peer.say(&format!("got {value}, delivery {deliveries}"));
}

fn waits_for_the_end(peer: &mut Peer) {
    let queue = tasks(peer);
    peer.say("getting");
    assert_eq!(queue.get().map(drop), Err(QueueError::Closed));
    peer.say("closed");
}

fn puts(peer: &mut Peer) {
    let queue = tasks(peer);
    peer.say("putting");
    queue.put(peer.args()[1].parse().unwrap()).unwrap();
    peer.say("put");
}

fn joins(peer: &mut Peer) {
    let queue = tasks(peer);
    peer.say("joining");
    queue.join().unwrap();
    peer.say("joined");
}

fn create(name: &UniqueName, options: impl Into<Options>, tasks: &[u32]) -> JoinableQueue<u32> {
    let queue = JoinableQueue::create(&**name, options).unwrap();
    queue.put_many(tasks.iter().copied()).unwrap();
    queue
}

/// A peer in a role that sleeps in a queue's futex now.
fn asleep(role: &str, args: &[&str], said: &str) -> Child {
    let mut child = Child::spawn(role, args);
    child.expect(said);
    let tid = child.tid();
    until_thread_asleep_in_futex(child.pid(), tid);
    child
}

fn worker(name: &str, count: u32) -> Child {
    let mut worker = Child::spawn("works", &[name, &count.to_string()]);
    worker.expect("working");
    worker
}

#[test]
fn the_task_of_a_killed_consumer_is_the_first_for_a_sleeping_getter() {
    let _watchdog = watchdog();
    let name = UniqueName::new("task");
    let queue = create(&name, 4, &[1]);
    let mut doomed = worker(&name, 1);
    let mut getter = asleep("gets", &[&name], "getting");
    doomed.kill();
    getter.expect("got 1, delivery 2");
    queue.join_timeout(LONG).unwrap();
}

#[test]
fn it_comes_before_what_was_put_later() {
    let _watchdog = watchdog();
    let name = UniqueName::new("order");
    let queue = create(&name, 8, &[1, 2, 3, 4, 5]);
    let mut doomed = worker(&name, 3);
    doomed.kill();
    queue.recover().unwrap();
    queue.put(6).unwrap();
    for (value, deliveries) in [(1, 2), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1)] {
        let task = queue.try_get().unwrap();
        assert_eq!((*task, task.deliveries()), (value, deliveries));
        task.task_done().unwrap();
    }
    assert_eq!(queue.unfinished(), Ok(0));
}

/// Who left a closed queue as soon as it is empty would leave the task of one who dies then to nobody.
#[test]
fn a_closed_queue_keeps_somebody_for_the_tasks_of_others() {
    let _watchdog = watchdog();
    let name = UniqueName::new("closed");
    let queue = create(&name, 4, &[1]);
    let mut doomed = worker(&name, 1);
    queue.close().unwrap();
    assert_eq!(queue.try_get().map(drop), Err(QueueError::Empty));
    assert_eq!(queue.get_timeout(WHILE).map(drop), Err(QueueError::Timeout));
    let mut getter = asleep("gets", &[&name], "getting");
    doomed.kill();
    getter.expect("got 1, delivery 2");
    queue.join_timeout(LONG).unwrap();
    assert_eq!(queue.get().map(drop), Err(QueueError::Closed));
}

#[test]
fn a_closed_queue_ends_with_the_last_task() {
    let _watchdog = watchdog();
    let name = UniqueName::new("last-task");
    let queue = create(&name, 4, &[1, 2]);
    let mut other = worker(&name, 1);
    let mine = queue.get().unwrap();
    queue.close().unwrap();
    // Or two might wait for each other.
    assert_eq!(queue.get().map(drop), Err(QueueError::Closed));
    mine.task_done().unwrap();
    let mut waiter = asleep("waits for the end", &[&name], "getting");
    other.tell("go on");
    other.expect("done");
    waiter.expect("closed");
    queue.join_timeout(LONG).unwrap();
}

/// As long as a get would say `Empty`, the descriptor is not readable.
#[test]
fn a_closed_queue_is_not_ready_before_its_last_task_is_done() {
    let _watchdog = watchdog();
    let name = UniqueName::new("not-ready");
    let queue = create(&name, 4, &[1]);
    let mut other = worker(&name, 1);
    queue.close().unwrap();
    let readiness = queue.readiness().unwrap();
    let is_readable = |time: Duration| {
        let time = PollTimeout::try_from(time).unwrap();
        let mut set = [PollFd::new(readiness.as_fd(), PollFlags::POLLIN)];
        poll(&mut set, time).unwrap() == 1
    };
    assert_eq!(queue.try_get().map(drop), Err(QueueError::Empty));
    assert!(!is_readable(WHILE));
    other.tell("go on");
    other.expect("done");
    assert!(is_readable(LONG));
    assert_eq!(queue.try_get().map(drop), Err(QueueError::Closed));
}

/// Also who never sleeps is told.
#[test]
fn a_closed_queue_ends_for_one_who_spins() {
    let _watchdog = watchdog();
    let name = UniqueName::new("spins");
    let queue = create(&name, 4, &[1]);
    queue.set_wait_strategy(WaitStrategy::Spin);
    let mut other = worker(&name, 1);
    queue.close().unwrap();
    std::thread::scope(|s| {
        let spinner = s.spawn(|| queue.get().map(drop));
        std::thread::sleep(WHILE);
        assert!(!spinner.is_finished());
        other.tell("go on");
        other.expect("done");
        assert_eq!(spinner.join().unwrap(), Err(QueueError::Closed));
    });
}

#[test]
fn nothing_comes_back_after_a_shutdown_at_once() {
    let _watchdog = watchdog();
    let name = UniqueName::new("shutdown");
    let queue = create(&name, 4, &[1]);
    let _other = worker(&name, 1);
    queue.shutdown(true).unwrap();
    assert_eq!(queue.get().map(drop), Err(QueueError::Closed));
}

/// The joiner itself finds the death; who only tries finds it as well.
#[test]
fn join_outlives_the_consumer_it_waits_for() {
    let _watchdog = watchdog();
    let name = UniqueName::new("join");
    let queue = create(&name, 4, &[1]);
    let mut doomed = worker(&name, 1);
    let mut joiner = asleep("joins", &[&name], "joining");
    doomed.kill_unreaped();
    let task = loop {
        match queue.try_get() {
            Ok(task) => break task,
            Err(error) => assert!(error.is_empty(), "{error}"),
        }
    };
    assert_eq!((*task, task.deliveries()), (1, 2));
    task.task_done().unwrap();
    joiner.expect("joined");
}

#[test]
fn detached_tasks_of_the_dead_are_delivered_again() {
    let _watchdog = watchdog();
    let name = UniqueName::new("detached");
    let queue = create(&name, 4, &[1, 2, 3]);
    let mut doomed = Child::spawn("detaches", &[&name]);
    doomed.expect("working");
    doomed.kill();
    assert_eq!(queue.recover().unwrap().returned, 2);
    let order: Vec<_> = (0..3).map(|_| queue.try_get().unwrap().detach()).collect();
    assert_eq!(order, [1, 2, 3]);
    (0..3).for_each(|_| queue.task_done().unwrap());
    assert_eq!(queue.task_done(), Err(QueueError::TaskDoneTooOften));
}

#[test]
fn a_message_that_the_dead_read_in_place_is_delivered_again() {
    let _watchdog = watchdog();
    for len in [10, 1000] {
        let name = UniqueName::new("received");
        let queue = ByteQueue::create(&*name, 4).unwrap();
        queue.put(&vec![7; len]).unwrap();
        let mut doomed = Child::spawn("reads in place", &[&name]);
        doomed.expect(&format!("reading {len}"));
        doomed.kill();
        let received = queue.recv_ref_timeout(LONG).unwrap();
        assert_eq!((&*received, received.deliveries()), (&vec![7; len][..], 2));
    }
}

#[test]
fn the_room_of_a_killed_producer_comes_back() {
    let _watchdog = watchdog();
    let name = UniqueName::new("reserved");
    let options = Options::new(1).max_message(1000).arena_bytes(1024);
    let queue = ByteQueue::create(&*name, options).unwrap();
    let mut doomed = Child::spawn("reserves", &[&name]);
    doomed.expect("writing");
    assert_eq!(
        queue.put_timeout(b"no room", WHILE),
        Err(QueueError::Timeout)
    );
    assert_eq!(queue.inspect().unwrap().writing, 1);
    doomed.kill();
    queue.put_timeout(&[2; 1000], LONG).unwrap();
    assert_eq!(
        queue.get(),
        Ok(vec![2; 1000]),
        "the dead one's is not there"
    );
    let seen = queue.inspect().unwrap();
    assert_eq!((seen.writing, seen.len), (0, 0));
}

/// A put that is not finished is nobody's obstacle: neither that of a stopped process nor of a slow one.
#[test]
fn a_stopped_producer_delays_nobody() {
    let _watchdog = watchdog();
    let name = UniqueName::new("stopped");
    let queue = ByteQueue::create(&*name, 4).unwrap();
    let mut slow = Child::spawn("reserves", &[&name]);
    slow.expect("writing");
    slow.stop();
    for round in 0..100_u8 {
        queue.put_timeout(&[round; 500], LONG).unwrap();
        assert_eq!(queue.get_timeout(LONG), Ok(vec![round; 500]));
    }
    queue.recover().unwrap();
    slow.cont();
    slow.tell("commit");
    slow.expect("written");
    assert_eq!(
        queue.get(),
        Ok(vec![1; 1000]),
        "what it had reserved stayed its own"
    );
}

#[test]
fn a_stopped_consumer_keeps_its_tasks() {
    let _watchdog = watchdog();
    let name = UniqueName::new("keeps");
    let queue = create(&name, 4, &[1, 2]);
    let mut stopped = worker(&name, 2);
    stopped.stop();
    assert_eq!(queue.get_timeout(WHILE).unwrap_err(), QueueError::Timeout);
    assert_eq!(queue.recover().unwrap().returned, 0);
    stopped.cont();
    stopped.tell("finish");
    stopped.expect("done");
    queue.join_timeout(LONG).unwrap();
}

#[test]
fn the_last_senders_death_closes_the_queue_and_no_other() {
    let _watchdog = watchdog();
    let name = UniqueName::new("senders");
    let queue = Queue::<u32>::create(&*name, 8).unwrap();
    let [mut first, mut last] = ["1", "2"].map(|value| {
        let mut sender = Child::spawn("sends", &[&name, value]);
        sender.expect("sent");
        sender
    });
    first.kill();
    let mut values = [queue.get().unwrap(), queue.get().unwrap()];
    values.sort_unstable();
    assert_eq!(values, [1, 2]);
    assert_eq!(
        queue.get_timeout(WHILE),
        Err(QueueError::Timeout),
        "one lives"
    );
    last.kill_unreaped();
    assert_eq!(queue.get_timeout(LONG), Err(QueueError::Closed));
    assert!(queue.sender().is_err());
}

#[test]
fn recovery_closes_a_queue_whose_last_sender_died() {
    let _watchdog = watchdog();
    let name = UniqueName::new("settles");
    let queue = Queue::<u32>::create(&*name, 8).unwrap();
    let mut sender = Child::spawn("sends", &[&name, "1"]);
    sender.expect("sent");
    queue.recover().unwrap();
    assert!(!queue.inspect().unwrap().closed, "it lives");
    sender.kill_unreaped();
    queue.recover().unwrap();
    assert!(queue.inspect().unwrap().closed);
    assert_eq!(queue.get().unwrap(), 1);
    assert_eq!(queue.try_get(), Err(QueueError::Closed));
}

#[test]
fn who_is_killed_asleep_changes_nothing_for_the_others() {
    let _watchdog = watchdog();
    let name = UniqueName::new("asleep");
    let queue = create(&name, 1, &[]);
    let mut doomed = asleep("gets", &[&name], "getting");
    let mut getter = asleep("gets", &[&name], "getting");
    doomed.kill();
    queue.put(1).unwrap();
    getter.expect("got 1, delivery 1");
    queue.put(2).unwrap();
    let mut joiner = asleep("joins", &[&name], "joining");
    let mut doomed = [
        asleep("puts", &[&name, "3"], "putting"),
        asleep("joins", &[&name], "joining"),
    ];
    let mut putter = asleep("puts", &[&name, "4"], "putting");
    doomed.iter_mut().for_each(Child::kill);
    let task = queue.get().unwrap();
    putter.expect("put");
    task.task_done().unwrap();
    assert_eq!(queue.get().unwrap().detach(), 4);
    assert_eq!(queue.unfinished(), Ok(1));
    queue.task_done().unwrap();
    joiner.expect("joined");
}

#[test]
fn a_task_that_kills_its_consumers_becomes_a_dead_letter() {
    let _watchdog = watchdog();
    let name = UniqueName::new("poison");
    let queue = create(&name, Options::new(4).max_deliveries(3), &[666, 1]);
    for deliveries in 1..=3 {
        let mut doomed = worker(&name, 1);
        assert_eq!(queue.inspect().unwrap().leases[0].deliveries, deliveries);
        doomed.kill();
        queue.recover().unwrap();
    }
    let task = queue.try_get().unwrap();
    assert_eq!((*task, task.deliveries()), (1, 1));
    task.task_done().unwrap();
    queue.join_timeout(LONG).unwrap();
    assert_eq!(queue.inspect().unwrap().buried, 1);
    let letters = queue.dead_letters().unwrap();
    assert_eq!((letters.len(), letters[0].deliveries), (1, 3));
    assert_eq!(letters[0].reason, shm_queue::DeadReason::Deliveries);
}

/// More tasks may die with their consumers than dead letters are kept: they must not use up the cells.
#[test]
fn a_queue_of_poison_alone_goes_on() {
    let _watchdog = watchdog();
    let name = UniqueName::new("epidemic");
    let options = Options::new(4).leases(4).dead_letters(2).max_deliveries(1);
    let queue = create(&name, options, &[]);
    for round in 0..4 {
        queue.put_many((0..4).map(|n| round * 4 + n)).unwrap();
        let mut doomed = worker(&name, 4);
        doomed.kill();
        queue.recover().unwrap();
        assert_eq!(queue.inspect().unwrap().dead_letters, 2);
    }
    queue.put_many(0..4).unwrap();
    let letters = queue.dead_letters().unwrap();
    assert_eq!(
        letters.iter().map(|l| l.bytes[0]).collect::<Vec<_>>(),
        [14, 15]
    );
    assert_eq!(queue.inspect().unwrap().buried, 16);
}

/// The smallest table of participants that a queue can have.
const SLOTS: u32 = 64;

/// Each is a participant, so that few slots are left.
fn handles(name: &str, count: u32) -> Vec<JoinableQueue<u32>> {
    let open = |_| JoinableQueue::open(name).unwrap();
    (0..count).map(open).collect()
}

/// A task of somebody who is no participant any more, and left no trace in the table of participants: `join` finds it.
#[test]
fn a_task_of_nobody_is_delivered_again() {
    let _watchdog = watchdog();
    let name = UniqueName::new("nobodys");
    let queue = create(&name, 4, &[1]);
    let mut doomed = worker(&name, 1);
    doomed.kill();
    let dead = queue.segment().dead_participants();
    assert_eq!(dead.len(), 1);
    let (slot, id) = dead[0];
    queue.segment().bury(slot, id);
    assert_eq!(queue.join_timeout(WHILE), Err(QueueError::Timeout));
    let task = queue.get_timeout(LONG).unwrap();
    assert_eq!((*task, task.deliveries()), (1, 2));
    task.task_done().unwrap();
    queue.join_timeout(LONG).unwrap();
}

/// With one slot less than processes, the next one takes the dead one's before anybody has looked.
#[test]
fn whoever_takes_a_dead_ones_slot_settles_what_it_left() {
    let _watchdog = watchdog();
    let name = UniqueName::new("slot");
    let place = Place::named(&*name).participants(SLOTS);
    let queue = JoinableQueue::<u32>::create(place, 4).unwrap();
    let _others = handles(&name, SLOTS - 2);
    for round in 1..=70 {
        queue.put(round).unwrap();
        let mut doomed = worker(&name, 1);
        match round % 2 {
            0 => doomed.kill(),
            _ => doomed.kill_unreaped(),
        }
        let mut next = Child::spawn("gets", &[&name]);
        next.expect("getting");
        next.expect(&format!("got {round}, delivery 2"));
        next.wait();
    }
    queue.join_timeout(LONG).unwrap();
}

/// The same for a forked child, which becomes a participant when it first takes something.
#[test]
fn a_forked_child_settles_what_its_slots_last_user_left() {
    let _watchdog = watchdog();
    let name = UniqueName::new("forked-slot");
    let place = Place::named(&*name).participants(SLOTS);
    let queue = JoinableQueue::<u32>::create(place, 4).unwrap();
    let _others = handles(&name, SLOTS - 3);
    queue.put_many([1, 2]).unwrap();
    let mut child = Child::spawn("forks into a dead slot", &[&name]);
    child.expect("open");
    let mut doomed = worker(&name, 1);
    doomed.kill();
    child.tell("fork");
    child.expect("done");
}

fn forks_into_a_dead_slot(peer: &mut Peer) {
    let queue = tasks(peer);
    peer.say("open");
    peer.hear();
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // It takes the dead one's slot, so that nobody is dead any more.
            let second = queue.get().unwrap();
            let first = queue.get_timeout(LONG).unwrap();
            let right = (*first, first.deliveries()) == (1, 2) && *second == 2;
            first.task_done().unwrap();
            second.task_done().unwrap();
            std::process::exit(i32::from(!right));
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).unwrap();
            assert_eq!(status, WaitStatus::Exited(child, 0));
        }
    }
    queue.join_timeout(LONG).unwrap();
    peer.say("done");
}

/// What a parent and its forked child put, one after the other, comes out in that order. The name is CPython's.
#[test]
fn test_fork() {
    let _watchdog = watchdog();
    let name = UniqueName::new("both-put");
    Child::spawn("forks and the child puts", &[&name]).expect("done");
}

fn forks_and_the_child_puts(peer: &mut Peer) {
    let queue = Queue::<u32>::create(name_of(peer), 20).unwrap();
    (0..10).for_each(|n| queue.put(n).unwrap());
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            (10..20).for_each(|n| queue.put(n).unwrap());
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).unwrap();
            assert_eq!(status, WaitStatus::Exited(child, 0));
        }
    }
    (0..20).for_each(|n| assert_eq!(queue.get_timeout(LONG), Ok(n)));
    assert_eq!(queue.try_get(), Err(QueueError::Empty));
    peer.say("done");
}

/// A message whose sender kills itself when it comes to it, under the lock.
struct Deadly(u8);

impl AsRef<[u8]> for Deadly {
    fn as_ref(&self) -> &[u8] {
        if self.0 == 0 {
            kill(getpid(), Signal::SIGKILL).unwrap();
        }
        std::slice::from_ref(&self.0)
    }
}

fn put_and_die(queue: &ByteQueue) -> ! {
    queue.put_many(&[1, 2, 0].map(Deadly)).unwrap();
    unreachable!("the third is deadly");
}

fn dies_in_a_batch(peer: &mut Peer) {
    put_and_die(&ByteQueue::open(name_of(peer)).unwrap());
}

#[test]
fn what_was_put_before_a_death_in_a_batch_is_got() {
    let _watchdog = watchdog();
    let name = UniqueName::new("batch");
    let queue = ByteQueue::create(&*name, 4).unwrap();
    for _ in 0..2 {
        let mut child = Child::spawn("dies in a batch", &[&name]);
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL as i32));
        assert_eq!(queue.get_timeout(LONG), Ok(vec![1]));
        assert_eq!(queue.get(), Ok(vec![2]));
        assert_eq!(queue.try_get(), Err(QueueError::Empty));
    }
}

/// A child that inherited the queue and only puts is no participant, so nobody finds one dead.
#[test]
fn what_a_child_put_before_its_death_is_got() {
    let _watchdog = watchdog();
    let name = UniqueName::new("childs-batch");
    Child::spawn("forks and the child dies in a batch", &[&name]).expect("done");
}

fn forks_and_the_child_dies_in_a_batch(peer: &mut Peer) {
    let queue = ByteQueue::create(name_of(peer), 4).unwrap();
    for counts in [false, true] {
        // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => put_and_die(&queue),
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).unwrap();
                assert_eq!(status, WaitStatus::Signaled(child, Signal::SIGKILL, false));
            }
        }
        if counts {
            assert_eq!(queue.len(), Ok(2));
        }
        assert_eq!(queue.get_timeout(LONG), Ok(vec![1]));
        assert_eq!(queue.get_timeout(LONG), Ok(vec![2]));
    }
    peer.say("done");
}

#[test]
fn two_handles_of_one_process_are_two_participants() {
    let _watchdog = watchdog();
    let name = UniqueName::new("handles");
    let first = create(&name, 4, &[1, 2]);
    let second = JoinableQueue::<u32>::open(&*name).unwrap();
    assert_eq!(first.get().unwrap().detach(), 1);
    let task = second.get().unwrap();
    assert_eq!(second.task_done(), Err(QueueError::TaskDoneTooOften));
    first.task_done().unwrap();
    drop(second);
    assert_eq!(
        first.recover().unwrap().returned,
        0,
        "the task keeps its handle"
    );
    drop(task);
    assert_eq!(first.try_get().unwrap().deliveries(), 2);
}

/// Where there always is something to get, nobody sleeps, and still somebody looks after the dead.
#[test]
fn a_busy_queue_notices_a_death() {
    let _watchdog = watchdog();
    let name = UniqueName::new("busy");
    let queue = create(&name, Options::new(10_000), &[1]);
    let mut doomed = worker(&name, 1);
    queue.put_many(2..10_000).unwrap();
    doomed.kill();
    for expected in 2..10_000 {
        let task = queue.get().unwrap();
        let value = *task;
        task.task_done().unwrap();
        if value == 1 {
            return;
        }
        assert_eq!(value, expected);
        // Work.
        std::thread::sleep(Duration::from_micros(500));
    }
    panic!("the dead one's task was never delivered");
}

/// Also where messages are taken out for good, and nobody ever sleeps.
#[test]
fn a_busy_queue_of_bytes_notices_a_death() {
    let _watchdog = watchdog();
    let name = UniqueName::new("busy-bytes");
    let queue = ByteQueue::create(&*name, 100).unwrap();
    queue.put(&[1]).unwrap();
    let mut doomed = Child::spawn("reads in place", &[&name]);
    doomed.expect("reading 1");
    queue.put(&[2]).unwrap();
    doomed.kill();
    for _ in 0..10_000 {
        queue.put(&[2]).unwrap();
        if queue.get() == Ok(vec![1]) {
            return;
        }
        // Work.
        std::thread::sleep(Duration::from_micros(500));
    }
    panic!("what the dead one read was never delivered");
}

/// The same for what the dead one wrote: the room for it is free again.
#[test]
fn a_busy_queue_notices_the_death_of_one_who_writes() {
    let _watchdog = watchdog();
    let name = UniqueName::new("busy-room");
    let queue = ByteQueue::create(&*name, 100).unwrap();
    let mut doomed = Child::spawn("reserves", &[&name]);
    doomed.expect("writing");
    doomed.kill();
    for _ in 0..10_000 {
        queue.put(&[2]).unwrap();
        assert_eq!(queue.get(), Ok(vec![2]));
        if queue.inspect().unwrap().writing == 0 {
            return;
        }
        // Work.
        std::thread::sleep(Duration::from_micros(500));
    }
    panic!("the dead one's room was never free");
}

/// The futex word that a thread of this process sleeps on, and the value that the word had: each wake changes it.
fn sleeps_on(tid: u32) -> Option<(u64, u64)> {
    let thread = ThreadState::read(std::process::id(), tid)?;
    let asleep = thread.asleep_in_shared_futex();
    let (_, arguments) = thread.syscall.filter(|_| asleep)?;
    Some((arguments[0], arguments[2]))
}

/// Does it in a thread; gives the thread, and what it sleeps on, as soon as it does.
fn asleep_in<'s>(
    scope: &'s Scope<'s, '_>,
    call: impl FnOnce() + Send + 's,
) -> (ScopedJoinHandle<'s, ()>, u32, (u64, u64)) {
    let (tell, hear) = mpsc::channel();
    let thread = scope.spawn(move || {
        tell.send(gettid().as_raw().unsigned_abs()).unwrap();
        call();
    });
    let tid = hear.recv().unwrap();
    loop {
        if let Some(on) = sleeps_on(tid) {
            return (thread, tid, on);
        }
    }
}

/// A message that finds room but no chunks must not swallow the wake of one that needs none.
#[test]
fn a_large_message_that_does_not_fit_stops_no_small_one() {
    let _watchdog = watchdog();
    let mut swallowed = false;
    for _ in 0..8 {
        let options = Options::new(2).max_message(1024).arena_bytes(1024);
        let queue = ByteQueue::create(Place::anonymous(), options).unwrap();
        queue.put(&[1; 1024]).unwrap();
        queue.put(b"small").unwrap();
        let held = queue.recv_ref().unwrap();
        queue.put(b"small").unwrap();
        std::thread::scope(|s| {
            // Asleep in this order: the first is the one whom a wake reaches.
            let (large, large_tid, before) = asleep_in(s, || queue.put(&[2; 1024]).unwrap());
            let (small, small_tid, on) = asleep_in(s, || queue.put(b"other").unwrap());
            assert_eq!(before, on, "nobody has been woken");
            assert_eq!(queue.get().unwrap(), b"small");
            while !small.is_finished() {
                // In this order: before the large one falls asleep again, it has passed the wake on.
                let again = sleeps_on(large_tid).is_some_and(|on| on != before);
                swallowed |= again && sleeps_on(small_tid) == Some(before);
            }
            drop(held);
            while queue.try_get().is_ok() || !large.is_finished() {}
        });
    }
    assert!(!swallowed, "the small one slept on beside room for it");
}

/// A descriptor's thread takes no message, and passes its wake on before it says that there is one.
#[test]
fn a_descriptor_keeps_no_wake_from_a_getter() {
    let _watchdog = watchdog();
    let queue = Queue::<u32>::create(Place::anonymous(), 4).unwrap();
    let readiness = queue.readiness().unwrap();
    let mut kept = false;
    for round in 0..8 {
        // Asleep in this order: the first is the one whom a wake reaches.
        eventually(|| {
            readiness.rearm();
            queue.inspect().unwrap().waiters.0 == 1
        });
        std::thread::scope(|s| {
            let (getter, tid, before) = asleep_in(s, || assert_eq!(queue.get(), Ok(round)));
            queue.put(round).unwrap();
            // Without it, the getter had it first.
            let mut set = [PollFd::new(readiness.as_fd(), PollFlags::POLLIN)];
            while !getter.is_finished() {
                if poll(&mut set, PollTimeout::from(1_u8)) == Ok(1) {
                    kept |= sleeps_on(tid) == Some(before);
                    break;
                }
            }
        });
    }
    assert!(!kept, "the getter slept on beside a message");
}

/// A large message's consumer that had the last lease lets the next one know.
#[test]
fn the_end_of_the_last_lease_wakes_who_waits_for_one() {
    let _watchdog = watchdog();
    let mut missed = false;
    for _ in 0..8 {
        let options = Options::new(4).leases(1).max_message(3000);
        let queue = ByteQueue::create(Place::anonymous(), options).unwrap();
        queue.put(&[1; 3000]).unwrap();
        queue.put(&[2; 3000]).unwrap();
        let held = queue.recv_ref().unwrap();
        std::thread::scope(|s| {
            let (_, tid, before) = asleep_in(s, || drop(queue.get().unwrap()));
            drop(held);
            missed |= sleeps_on(tid) == Some(before);
        });
    }
    assert!(!missed, "it slept on beside a free lease");
}

/// Whether one who sleeps in `waits` sleeps on after `act`, which lets it go: to the end of its slice at least.
fn sleeps_on_despite(waits: impl FnOnce() + Send, act: impl FnOnce()) -> bool {
    std::thread::scope(|s| {
        let (_, tid, before) = asleep_in(s, waits);
        act();
        sleeps_on(tid) == Some(before)
    })
}

/// At the end of its slice each looks by itself, so that a wake that was forgotten costs time and nothing else.
#[test]
fn whoever_sleeps_is_woken_by_what_it_waits_for() {
    let _watchdog = watchdog();
    let mut forgotten = Vec::new();
    let mut note = |what, slept_on: bool| forgotten.extend(slept_on.then_some(what));
    // Several times: a slice may end just then.
    for _ in 0..4 {
        let queue = JoinableQueue::<u32>::create(Place::anonymous(), 1).unwrap();
        let get = || queue.get().unwrap().task_done().unwrap();
        let put = || queue.put(1).unwrap();
        note("a message", sleeps_on_despite(get, put));
        put();
        note("room", sleeps_on_despite(put, get));
        let task = queue.get().unwrap();
        let join = || queue.join().unwrap();
        note(
            "the last task",
            sleeps_on_despite(join, || task.task_done().unwrap()),
        );
        let ends = || assert_eq!(queue.get().unwrap_err(), QueueError::Closed);
        note(
            "the end",
            sleeps_on_despite(ends, || queue.close().unwrap()),
        );
    }
    assert_eq!(forgotten, [""; 0], "slept on");
}

#[test]
fn signals_interrupt_no_wait() {
    let _watchdog = watchdog();
    let name = UniqueName::new("alarms");
    let queue = create(&name, 1, &[]);
    let mut peer = Child::spawn("is interrupted", &[&name]);
    peer.expect("getting");
    std::thread::sleep(WHILE);
    queue.put(1).unwrap();
    peer.expect("putting");
    std::thread::sleep(WHILE);
    queue.get().unwrap().task_done().unwrap();
    peer.expect("joining");
    std::thread::sleep(WHILE);
    queue.get().unwrap().task_done().unwrap();
    peer.expect("done");
}

/// A signal that comes before each slice is over leaves those who sleep none in which nothing happened.
#[test]
fn one_who_is_interrupted_again_and_again_notices_a_death() {
    let _watchdog = watchdog();
    let name = UniqueName::new("alarms-death");
    let queue = create(&name, Options::new(4).max_deliveries(2), &[1]);
    let often = || Alarms::every(Duration::from_millis(10));
    let mut first = worker(&name, 1);
    let alarms = often();
    std::thread::sleep(WHILE);
    first.kill();
    let task = queue.get().unwrap();
    assert_eq!(task.deliveries(), 2);
    drop((alarms, task.requeue()));

    // A dead letter by now, in the place of another.
    queue.put(2).unwrap();
    worker(&name, 1).kill();
    worker(&name, 1).kill();
    let _alarms = often();
    queue.join().unwrap();
}

/// Wakes for messages that it may not have leave it none either.
#[test]
fn one_who_is_woken_again_and_again_notices_a_death() {
    let _watchdog = watchdog();
    // One who does not may notice it all the same where the machine stands still for longer than a sleep.
    (0..3).for_each(|_| notices_a_death_while_it_is_woken());
}

fn notices_a_death_while_it_is_woken() {
    let name = UniqueName::new("trickle");
    let queue = create(&name, Options::new(10_000).leases(1), &[1]);
    worker(&name, 1).kill();
    // So many wakes are a look's worth twenty times over.
    const WAKES: u32 = 100;
    let (over, wakes) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|s| {
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) && wakes.fetch_add(1, Ordering::Relaxed) < WAKES {
                queue.put(2).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let task = queue.get().unwrap();
        over.store(true, Ordering::Relaxed);
        assert_eq!((*task, task.deliveries()), (1, 2));
        let wakes = wakes.load(Ordering::Relaxed);
        assert!(wakes <= WAKES, "it looked when nobody woke it any more");
    });
}

fn is_interrupted(peer: &mut Peer) {
    let queue = tasks(peer);
    let _alarms = Alarms::every(Duration::from_millis(1));
    let short = Duration::from_millis(30);
    let timed_out = |begun: Instant, error: QueueError| {
        assert!(error.is_timeout(), "{error}");
        assert!(begun.elapsed() >= short, "too early");
    };
    let begun = Instant::now();
    timed_out(begun, queue.get_timeout(short).unwrap_err());
    peer.say("getting");
    let task = queue.get().unwrap();
    task.task_done().unwrap();
    queue.put(2).unwrap();
    let begun = Instant::now();
    timed_out(begun, queue.put_timeout(3, short).unwrap_err().error);
    let begun = Instant::now();
    timed_out(begun, queue.join_timeout(short).unwrap_err());
    peer.say("putting");
    queue.put(3).unwrap();
    peer.say("joining");
    queue.join().unwrap();
    assert!(Alarms::handled() > 100);
    peer.say("done");
}

#[test]
fn a_full_disk_refuses_the_message_and_changes_nothing() {
    let _watchdog = watchdog();
    let mut peer = Child::spawn("fills the disk", &[]);
    let said = peer.hear();
    match said.as_str() {
        "not permitted" => skip_unless_required("root, or user namespaces"),
        said => assert_eq!(said, "done"),
    }
}

fn fills_the_disk(peer: &mut Peer) {
    let permitted = in_private_tmpfs("/dev/shm", "size=256k", fill_the_disk);
    peer.say(if permitted { "done" } else { "not permitted" });
}

fn fill_the_disk() {
    let options = Options::new(8)
        .leases(8)
        .max_message(128 << 10)
        .arena_bytes(1 << 20);
    let queue = ByteQueue::create("queue", options).unwrap();
    let message = |n: u8| vec![n; 64 << 10];
    let mut put = 0;
    let before = loop {
        let before = queue.inspect().unwrap();
        match queue.try_put(&message(put)) {
            Ok(()) => put += 1,
            Err(QueueError::StorageFull { need, .. }) if need <= 128 << 10 => break before,
            Err(other) => panic!("{other}"),
        }
    };
    assert!((1..4).contains(&put), "{put} fit");
    let after = queue.inspect().unwrap();
    assert_eq!(before, after);
    assert!(queue.put(&message(9)).is_err(), "an error, not a wait");
    let room = queue.reserve(64 << 10);
    assert!(
        matches!(room, Err(QueueError::StorageFull { .. })),
        "{room:?}"
    );
    queue.put(b"a small one needs none").unwrap();
    for n in 0..put {
        assert_eq!(queue.get().unwrap(), message(n));
    }
    assert_eq!(queue.get().unwrap(), b"a small one needs none");
    queue.put(&message(1)).unwrap();
}

/// Threads of several processes, one of which is killed in the midst of it.
#[test]
fn threads_of_several_processes_lose_nothing_to_a_death() {
    let _watchdog = watchdog();
    let name = UniqueName::new("threads");
    let queue = create(&name, 16, &[]);
    let mut peers: Vec<_> = (0..3)
        .map(|_| Child::spawn("many threads", &[&name]))
        .collect();
    peers.iter_mut().for_each(|peer| peer.expect("working"));
    let put = |values: std::ops::Range<u32>| queue.put_many(values).unwrap();
    put(0..3000);
    peers.pop().unwrap().kill();
    put(3000..6000);
    peers.pop().unwrap().kill();
    put(6000..9000);
    queue.join_timeout(LONG).unwrap();
    let seen = queue.inspect().unwrap();
    assert_eq!((seen.len, seen.leases.len(), seen.dead_letters), (0, 0, 0));
    queue.close().unwrap();
    peers[0].expect("done");
}

fn many_threads(peer: &mut Peer) {
    let queue = tasks(peer);
    peer.say("working");
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                while let Ok(task) = queue.get() {
                    task.task_done().unwrap();
                }
            });
        }
    });
    peer.say("done");
}
