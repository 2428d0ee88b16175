//! What the dead left in the locks, and outside of them: whoever comes settles it, and may be killed over it.

use shm_core::Segment;
use shm_core::sync::Ordering;
use shm_lock::Patience;
use shm_queue::raw::Control;
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Outcomes, mark_end, mark_start};

use super::{bytes, create_bytes, number_of, open, small_queue};
use crate::segment::die;

pub(super) fn cases() -> Vec<Case> {
    let any = Outcomes::any;
    let mut cases = Vec::new();
    for state in ["dead in put lock", "dead in get lock"] {
        cases.extend([
            bytes("put small", state)
                .orphaned()
                .killed(Outcomes::switch("1", "1 4")),
            bytes("put large", state)
                .orphaned()
                .killed(Outcomes::switch("1", "1 8")),
            bytes("get bytes", state)
                .orphaned()
                .killed(Outcomes::switch("1", "nothing")),
            bytes("recover", state)
                .orphaned()
                .killed(Outcomes::always("1"))
                .frozen("get one", any(&["got 1; nothing", "got nothing; 1"])),
        ]);
    }
    let left = "1' 2' 3";
    cases.extend([
        bytes("put small", "dead with leases")
            .orphaned()
            .killed(Outcomes::switch(left, "1' 2' 3 4")),
        bytes("get bytes", "dead with leases")
            .orphaned()
            .killed(Outcomes::switch(left, "1' 2'")),
        bytes("open queue", "dead with leases")
            .orphaned()
            .killed(Outcomes::always(left)),
        bytes("recover", "dead with leases")
            .orphaned()
            .killed(Outcomes::always(left))
            .frozen(
                "get one",
                any(&["got 1; 2' 3", "got 3; 1' 2'", "got nothing; 1' 2' 3"]),
            )
            .frozen_and_killed(
                "get one",
                any(&["got 1; 2' 3", "got 3; 1' 2'", "got nothing; 1' 2' 3"]),
            ),
        bytes("get two", "dead with leases")
            .orphaned()
            .killed(Outcomes::phases(&[left, "1' 2'", "2'"])),
    ]);
    cases
}

pub(super) fn commands(commands: Commands) -> Commands {
    setups(commands)
        .act("rebuild", |name| {
            let queue = open(name);
            match locks_are_free(queue.segment()) {
                true => queue.recover().map_or("failed", |_| "rebuilt"),
                false => "locked",
            }
        })
        .victim("get two", |name| {
            let (queue, mut bytes) = (open(name), Vec::with_capacity(1000));
            mark_start();
            let first = queue.get_into(&mut bytes);
            let second = queue.recover().and_then(|_| queue.get_into(&mut bytes));
            mark_end();
            first.and(second).expect("there were three");
            assert_eq!(number_of(&bytes), 1, "the oldest");
        })
        .victim("recover", |name| {
            let queue = open(name);
            mark_start();
            let result = queue.recover();
            mark_end();
            result.expect("nothing stands in the way");
        })
}

fn setups(commands: Commands) -> Commands {
    commands
        .setup("dead in put lock", |name| {
            let queue = create_bytes(name, small_queue(), &[1]);
            let control = queue.segment().view::<Control>(0).expect("a queue");
            let put = &control.put;
            // SAFETY: the queue stays mapped until this process ends; no signal handler.
            unsafe { put.lock.acquire(Patience::Endless) }.expect("it is free");
            // Of what is written under this lock and never believed again.
            for cache in [
                &put.stack,
                &put.writing,
                &put.lowest,
                &put.chunks,
                &put.allocated,
            ] {
                cache.store(7777, Ordering::Relaxed);
            }
            for cache in [&put.head_seen, &put.taken] {
                cache.store(u64::MAX / 3, Ordering::Relaxed);
            }
            die();
        })
        .setup("dead in get lock", |name| {
            let queue = create_bytes(name, small_queue(), &[1]);
            let control = queue.segment().view::<Control>(0).expect("a queue");
            let get = &control.get;
            // SAFETY: as above.
            unsafe { get.lock.acquire(Patience::Endless) }.expect("it is free");
            for cache in [&get.leased, &get.dead] {
                cache.store(7777, Ordering::Relaxed);
            }
            for cache in [&get.tail_seen, &get.next_expiry] {
                cache.store(u64::MAX / 3, Ordering::Relaxed);
            }
            die();
        })
        .setup("dead with leases", |name| {
            let queue = create_bytes(name, small_queue(), &[1, 2, 3]);
            let _first = queue.recv_ref().expect("it was put");
            let _second = queue.recv_ref().expect("it was put");
            let _reservation = queue.try_reserve(2300).expect("there is room");
            die();
        })
}

/// Whether a `recover`, which takes both locks, would not wait for a victim that stands still.
pub(super) fn locks_are_free(segment: &Segment) -> bool {
    let control = segment.view::<Control>(0).expect("a queue");
    [&control.put.lock, &control.get.lock].iter().all(|lock| {
        // SAFETY: the queue stays mapped while this process has it; no signal handler.
        let is_free = unsafe { lock.acquire(Patience::None) }.is_ok();
        if is_free {
            // SAFETY: just taken.
            unsafe { lock.unlock() };
        }
        is_free
    })
}
