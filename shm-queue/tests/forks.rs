//! What a forked child has of its parent's queues.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_queue::{ByteQueue, Codec, CodecError, JoinableQueue, Place, Queue, QueueError};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

#[test]
fn peer() {
    peer_main(&[
        (
            "forks with everything",
            forks_with_everything as fn(&mut Peer),
        ),
        ("forks in a codec", forks_in_a_codec),
    ]);
}

#[test]
fn what_a_forked_child_inherits_is_inert() {
    let _watchdog = watchdog();
    let names = ["bytes", "values", "tasks"].map(UniqueName::new);
    let args: Vec<_> = names.iter().map(|name| &**name).collect();
    Child::spawn("forks with everything", &args).expect("done");
}

fn forks_with_everything(peer: &mut Peer) {
    let args = peer.args().to_vec();
    let bytes = ByteQueue::create(args[0].as_str(), 4).unwrap();
    let values = Queue::<u32>::create(args[1].as_str(), 4).unwrap();
    let tasks = JoinableQueue::<u32>::create(args[2].as_str(), 4).unwrap();
    bytes.put(b"received").unwrap();
    tasks.put_many([1, 2]).unwrap();
    let received = bytes.recv_ref().unwrap();
    let reservation = bytes.reserve(1000).unwrap();
    let other_reservation = bytes.reserve(10).unwrap();
    let sender = values.sender().unwrap();
    let _ = tasks.get().unwrap().detach();
    let task = tasks.get().unwrap();
    let readiness = values.readiness().unwrap();
    // SAFETY: the peer's other threads hold no lock that we need.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // It may get the number of a thread that is not there.
            let thread = thread::spawn(|| ());
            drop(readiness);
            thread.join().unwrap();
            drop(received);
            drop(reservation);
            assert_eq!(other_reservation.commit(), Err(QueueError::Stale));
            drop(sender);
            assert_eq!(task.task_done(), Err(QueueError::Stale));
            assert_eq!(tasks.task_done(), Err(QueueError::TaskDoneTooOften));
            let seen = bytes.inspect().unwrap();
            assert_eq!((seen.writing, seen.leases.len()), (2, 1));
            assert!(!values.is_closed());
            // It may use the queues itself.
            values.put(7).unwrap();
            drop((bytes, values, tasks));
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).unwrap();
            assert_eq!(status, WaitStatus::Exited(child, 0));
        }
    }
    let seen = bytes.inspect().unwrap();
    assert_eq!((seen.writing, seen.leases.len()), (2, 1));
    drop(received);
    reservation.commit().unwrap();
    drop(other_reservation);
    assert_eq!(bytes.inspect().unwrap().len, 1);
    assert_eq!(tasks.unfinished(), Ok(2));
    task.task_done().unwrap();
    tasks.task_done().unwrap();
    assert_eq!(tasks.unfinished(), Ok(0));
    assert_eq!(values.get(), Ok(7));
    assert!(!values.is_closed());
    drop(sender);
    assert_eq!(values.get(), Err(QueueError::Closed));
    peer.say("done");
}

/// A codec that forks where it is told.
struct Forking;

std::thread_local! {
    /// The value in whose decoding it forks.
    static WHERE: Cell<Option<u32>> = const { Cell::new(None) };
    static IS_CHILD: Cell<bool> = const { Cell::new(false) };
    /// Messages that the child has decoded.
    static DECODED: Cell<u32> = const { Cell::new(0) };
}

impl Codec<u32> for Forking {
    const NAME: &'static str = "forking";

    fn encode(value: &u32, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend(value.to_le_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<u32, CodecError> {
        let value = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        DECODED.set(DECODED.get() + u32::from(IS_CHILD.get()));
        if WHERE.get() == Some(value) {
            WHERE.set(None);
            // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => IS_CHILD.set(true),
                ForkResult::Parent { child } => {
                    let status = waitpid(child, None).unwrap();
                    assert_eq!(status, WaitStatus::Exited(child, 0));
                }
            }
        }
        Ok(value)
    }
}

/// The child of one who decodes must not give back, finish or have what its parent was handed out.
#[test]
fn a_child_forked_by_a_codec_does_not_have_its_parents_messages() {
    let _watchdog = watchdog();
    Child::spawn("forks in a codec", &[]).expect("done");
}

fn forks_in_a_codec(peer: &mut Peer) {
    let tasks = JoinableQueue::<u32, Forking>::create(Place::anonymous(), 8).unwrap();
    let values = Queue::<u32, Forking>::create(Place::anonymous(), 8).unwrap();
    tasks.put_many([1, 2, 3, 4]).unwrap();
    values.put_many([1, 2, 3]).unwrap();

    let task = forked_at(1, || tasks.get()).unwrap();
    let further = forked_at(3, || tasks.get_many(8)).unwrap();
    assert_eq!(
        further.iter().map(|task| **task).collect::<Vec<_>>(),
        [2, 3, 4]
    );
    let done = further.into_iter().map(|task| task.task_done());
    done.for_each(|done| done.unwrap());
    task.task_done().unwrap();
    assert_eq!(tasks.unfinished(), Ok(0));

    assert_eq!(forked_at(1, || values.get()), Ok(1));
    assert_eq!(forked_at(3, || values.get_many(8)), Ok(vec![2, 3]));
    assert_eq!(values.try_get(), Err(QueueError::Empty));

    // It is in a later batch that the last one is decoded, and the child has those before from its parent.
    let many = Queue::<u32, Forking>::create(Place::anonymous(), 100).unwrap();
    many.put_many(0..100).unwrap();
    let drained = forked_at(99, || many.drain());
    assert_eq!(drained, Ok((0..100).collect()));
    peer.say("done");
}

/// What the parent gets; the child, forked in the decoding of `value`, must get nothing, and decode nothing more.
fn forked_at<R>(value: u32, get: impl FnOnce() -> Result<R, QueueError>) -> Result<R, QueueError> {
    WHERE.set(Some(value));
    let got = catch_unwind(AssertUnwindSafe(get)).unwrap();
    if IS_CHILD.get() {
        // No destructor: those of the queues are the parent's.
        let nothing = matches!(got, Err(QueueError::Stale)) && DECODED.get() == 0;
        let code = i32::from(!nothing);
        std::mem::forget(got);
        std::process::exit(code);
    }
    assert_eq!(WHERE.get(), None, "it forked");
    got
}
