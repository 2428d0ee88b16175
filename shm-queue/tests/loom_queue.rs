//! The queue under loom: what is put arrives whole and once, no wake is lost, and anybody may die at every
//! step.
//!
//! Beside each claim stands a twin, a queue broken in one way, that the same model must refuse.
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p shm-queue --test loom_queue`

#![cfg(loom)]

use std::sync::Arc;

use shm_core::sync::death::{self, Outcome};
use shm_core::sync::{AtomicU32, AtomicU64, Ordering, UnsafeCell, explore, thread};
use shm_lock::Patience;
use shm_queue::raw::{
    Claim, Control, Damaged, Fault, GetSide, Lease, Limits, Owner, PutSide, RawQueue, Refused,
    Returned, Signal, State, Word,
};

/// A message of so many bytes lies in the arena, and is copied outside the lock.
const LARGE: u32 = 100;
const SMALL: u32 = 4;

struct Shared {
    queue: RawQueue,
    /// What the messages say, one for each cell: loom reports two that touch it at once.
    texts: Vec<UnsafeCell<u32>>,
    /// Bit n: the process with participant slot n is gone.
    gone: AtomicU32,
    /// What was made of a message before it was finished.
    result: UnsafeCell<u32>,
}

// SAFETY: the cells are touched by those whose they are at the moment, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

fn owner(slot: usize) -> Owner {
    Owner::new(slot, 0).expect("a small slot")
}

impl Shared {
    fn new(capacity: u32, leases: u32, fault: Option<Fault>) -> Arc<Self> {
        let cells = (capacity + leases) as usize;
        let numbers = |len: usize| (0..len).map(|_| AtomicU32::new(0)).collect();
        let queue = RawQueue {
            control: Box::new(Control::default()),
            ring: numbers(cells.next_power_of_two()),
            freed: numbers(cells.next_power_of_two()),
            stack: numbers(cells),
            bitmap: Box::new([AtomicU64::new(0)]),
            cells: (0..cells).map(|_| Default::default()).collect(),
            limits: Limits {
                capacity,
                leases,
                dead_letters: 0,
                max_deliveries: 0,
                inline: 32,
                chunks: 2,
            },
            fault,
        };
        queue.initialise();
        Arc::new(Self {
            queue,
            texts: (0..cells).map(|_| UnsafeCell::new(0)).collect(),
            gone: AtomicU32::new(0),
            result: UnsafeCell::new(0),
        })
    }

    fn fault(&self) -> Option<Fault> {
        self.queue.fault
    }

    fn alive(&self) -> impl Fn(Owner) -> bool + '_ {
        |owner| self.gone.load(Ordering::Acquire) >> owner.slot() & 1 == 0
    }

    fn put_side(&self) -> PutSide<'_> {
        // SAFETY: the queue outlives all threads of the model.
        let side = unsafe { self.queue.enter_put(Patience::Endless, self.alive()) };
        side.expect("a lock without a deadline, and good words")
    }

    fn get_side(&self) -> GetSide<'_> {
        // SAFETY: the queue outlives all threads of the model.
        let side = unsafe { self.queue.enter_get(Patience::Endless, self.alive()) };
        side.expect("a lock without a deadline, and good words")
    }

    fn both_sides(&self) -> (PutSide<'_>, GetSide<'_>) {
        // SAFETY: the queue outlives all threads of the model.
        let sides = unsafe { self.queue.enter_both(Patience::Endless, self.alive()) };
        sides.expect("locks without a deadline, and good words")
    }

    fn write(&self, index: u32, text: u32) {
        // SAFETY: the cell is the writer's; loom checks that.
        self.texts[index as usize].with_mut(|at| unsafe { *at = text });
    }

    fn read(&self, index: u32) -> u32 {
        // SAFETY: nobody writes it meanwhile; loom checks that.
        self.texts[index as usize].with(|at| unsafe { *at })
    }

    // ---- one attempt each, as `transfer.rs` makes them -------------------------------------------

    /// Puts a small message, if there is room.
    fn try_put(&self, text: u32) -> bool {
        let put = self.put_side().put(
            SMALL,
            |_, end| Ok(end),
            |claim| self.write(claim.index, text),
        );
        match put {
            Ok(()) => true,
            Err(Refused::Full) => false,
            Err(error) => panic!("not put: {error:?}"),
        }
    }

    /// Puts small messages, as many of them as there is room for; says how many.
    fn try_put_many(&self, texts: &[u32]) -> u32 {
        let message = |&text: &u32| (SMALL, move |claim: Claim| self.write(claim.index, text));
        let messages = texts.iter().map(message);
        self.put_side().put_many(messages, |_, end| Ok(end))
    }

    fn claim(&self, slot: usize) -> Claim {
        let grow = |_, end| Ok(end);
        let claim = self.put_side().claim(owner(slot), LARGE, grow);
        claim.expect("room")
    }

    /// Puts a large message.
    fn put_large(&self, slot: usize, text: u32) {
        let claim = self.claim(slot);
        self.write(claim.index, text);
        let commit = self.put_side().commit(owner(slot), claim);
        commit.expect("it is ours");
    }

    /// Takes the first message out, if there is one.
    fn try_get(&self) -> Option<u32> {
        let side = self.get_side();
        let front = side.front().expect("a queue in order")?;
        let text = self.read(front.index);
        side.take(front).expect("a queue in order");
        Some(text)
    }

    /// Takes out the messages that are there, two at most.
    fn try_get_two(&self) -> Vec<u32> {
        let mut got = Vec::new();
        let taken = self.get_side().take_many(2, |_, front| {
            got.push(self.read(front.index));
            Ok::<_, Damaged>(true)
        });
        assert_eq!(taken, Ok(got.len()), "a queue in order");
        got
    }

    fn try_lease(&self, slot: usize) -> Option<Lease> {
        let side = self.get_side();
        let front = side.front().expect("a queue in order")?;
        Some(side.lease(front, owner(slot), 0).expect("a queue in order"))
    }

    fn finish(&self, lease: Lease) {
        let finished = self.get_side().finish(lease);
        assert_eq!(finished, Ok(true), "it is ours");
    }

    // ---- as `transfer.rs` and `wait.rs` wait -----------------------------------------------------

    fn wait_for<R>(
        &self,
        signal: &Signal,
        attempt: impl Fn() -> Option<R>,
        more: impl Fn() -> bool,
    ) -> R {
        let (mut announced, mut slept) = (None, false);
        loop {
            if let Some(done) = attempt() {
                if slept {
                    signal.pass_on(more, self.fault());
                }
                return done;
            }
            match announced.take() {
                None => announced = Some(signal.announce(self.fault())),
                Some(word) => {
                    slept = true;
                    signal.sleep(word, None);
                }
            }
        }
    }

    fn put(&self, text: u32) {
        let control = &self.queue.control;
        let attempt = || self.try_put(text).then_some(());
        self.wait_for(&control.not_full, attempt, || self.queue.has_room());
        control.not_empty.notify(1, self.fault());
    }

    fn get(&self) -> u32 {
        let control = &self.queue.control;
        let attempt = || self.try_get();
        let text = self.wait_for(&control.not_empty, attempt, || self.queue.has_messages());
        self.tell_producers();
        text
    }

    fn tell_producers(&self) {
        let control = &self.queue.control;
        control.not_full.notify(1, self.fault());
        if control.idle.may_sleep() && self.queue.seems_idle() {
            control.idle.notify(u32::MAX, self.fault());
        }
    }

    fn join(&self) {
        let idle = &self.queue.control.idle;
        loop {
            let announced = idle.announce(self.fault());
            if self.put_side().unfinished() == Ok(0) {
                return;
            }
            idle.sleep(announced, None);
        }
    }

    // ---- after all -------------------------------------------------------------------------------

    /// All that is in the queue, in its order, after what the dead left was settled.
    fn drain(&self) -> Vec<u32> {
        let (put, get) = self.both_sides();
        put.rebuild(&get, self.alive()).expect("good words");
        self.check_caches();
        drop((put, get));
        self.rest()
    }

    /// All that is in the queue, in its order.
    fn rest(&self) -> Vec<u32> {
        std::iter::from_fn(|| self.try_get()).collect()
    }

    /// INV-Q3. Under both locks.
    fn check_caches(&self) {
        let queue = &self.queue;
        let words: Vec<_> = queue.words().map(|word| word.expect("a cell").1).collect();
        let of = |state| {
            let is = move |(_, word): &(usize, &Word)| word.state() == Some(state);
            let number = |(index, _): (usize, &Word)| index as u32;
            words.iter().enumerate().filter(is).map(number).collect()
        };
        let load = |number: &AtomicU32| number.load(Ordering::Relaxed);
        let stretch = |ring: &[AtomicU32], from: u64, to: u64| -> Vec<u32> {
            assert!(to - from <= ring.len() as u64, "more than the ring holds");
            let at = |position| load(&ring[position as usize % ring.len()]);
            (from..to).map(at).collect()
        };
        let control = &queue.control;
        let (head, tail) = (
            control.head.load(Ordering::Relaxed),
            control.shown.tail.load(Ordering::Acquire),
        );
        let mut waiting = stretch(&queue.ring, head, tail);
        let ordered = waiting.windows(2).all(|pair| {
            let number = |index: u32| words[index as usize].number();
            number(pair[0]).is_before(number(pair[1]))
        });
        assert!(ordered, "the ring is in order");
        waiting.sort_unstable();
        let ready: Vec<u32> = of(State::Ready);
        assert_eq!(waiting, ready, "the ring has the ready cells");
        let on_stack = load(&control.put.stack) as usize;
        let mut free: Vec<u32> = queue.stack[..on_stack].iter().map(load).collect();
        let (taken, freed) = (
            control.put.taken.load(Ordering::Relaxed),
            control.freed.load(Ordering::Acquire),
        );
        let given_back = stretch(&queue.freed, taken, freed);
        free.extend(&given_back);
        free.sort_unstable();
        let is_free: Vec<u32> = of(State::Free);
        assert_eq!(free, is_free, "stack and freed ring have the free cells");
        let (leased, writing): (Vec<u32>, Vec<u32>) = (of(State::Leased), of(State::Writing));
        assert_eq!(load(&control.get.leased) as usize, leased.len());
        assert_eq!(load(&control.put.writing) as usize, writing.len());
        // A chunk for each large message, and for each in the freed ring.
        let large = |index: &&u32| load(&queue.cells[**index as usize].len) == LARGE;
        let busy = ready.iter().chain(&leased).chain(&writing);
        let chunks = busy.chain(&given_back).filter(large).count() as u32;
        assert_eq!(load(&control.put.chunks), chunks);
        assert_eq!(queue.bitmap[0].load(Ordering::Relaxed).count_ones(), chunks);
    }

    /// As [`check_caches`](Self::check_caches), under both locks: nothing needed a rebuild by now.
    fn check(&self) {
        let sides = self.both_sides();
        self.check_caches();
        drop(sides);
    }
}

fn spawn<T: 'static>(
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// Spawns the process with slot 1, which is killed at `step`.
fn spawn_victim(
    shared: &Arc<Shared>,
    step: usize,
    body: impl FnOnce(&Shared) + 'static,
) -> thread::JoinHandle<bool> {
    spawn(shared, move |shared| {
        let outcome = death::run(step, || body(shared));
        shared.gone.fetch_or(1 << 1, Ordering::Release);
        outcome == Outcome::Finished(())
    })
}

/// Schedules with one preemption, where threads and points of death are many.
fn explore_less(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.max_branches = 20_000;
    builder.check(model);
}

// ---- publication -----------------------------------------------------------------------------------

/// One puts two messages into a queue of `capacity`, another takes them out.
fn publication(capacity: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(capacity, 0, fault);
        let producer = spawn(&shared, |shared| {
            for text in [1, 2] {
                while !shared.try_put(text) {
                    thread::yield_now();
                }
            }
        });
        for text in [1, 2] {
            let got = loop {
                if let Some(got) = shared.try_get() {
                    break got;
                }
                thread::yield_now();
            };
            assert_eq!(got, text);
        }
        producer.join().expect("no panic");
        shared.check();
    });
}

#[test]
fn a_message_arrives_whole_and_its_cell_is_used_again_after_that() {
    publication(1, None);
    publication(2, None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_publishes_the_tail_relaxed() {
    publication(2, Some(Fault::PublishesTailRelaxed));
}

#[test]
#[should_panic(expected = "a queue in order")]
fn twin_that_stores_the_tail_before_the_word() {
    publication(2, Some(Fault::StoresTailBeforeWord));
}

/// One puts three messages, as many at a time as there is room for, another takes out as many as there are.
fn publication_of_many(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(2, 0, fault);
        let producer = spawn(&shared, |shared| {
            let (texts, mut put) = ([1, 2, 3], 0);
            while put < texts.len() {
                put += shared.try_put_many(&texts[put..]) as usize;
                thread::yield_now();
            }
        });
        let mut got = Vec::new();
        while got.len() < 3 {
            got.extend(shared.try_get_two());
            thread::yield_now();
        }
        assert_eq!(got, [1, 2, 3]);
        producer.join().expect("no panic");
        shared.check();
    });
}

#[test]
fn messages_of_a_batch_arrive_whole_and_their_cells_are_used_again() {
    publication_of_many(None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_publishes_the_tail_of_a_batch_relaxed() {
    publication_of_many(Some(Fault::PublishesTailRelaxed));
}

#[test]
#[should_panic(expected = "a queue in order")]
fn twin_that_stores_the_tail_before_a_batchs_words() {
    publication_of_many(Some(Fault::StoresTailBeforeWord));
}

/// A producer takes the cell of a task that is finished meanwhile; nothing but `freed` orders the two, since the
/// head has passed that task before.
fn reuse(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(2, 1, fault);
        for text in [1, 2] {
            assert!(shared.try_put(text));
        }
        let lease = shared.try_lease(1).expect("the first");
        let consumer = spawn(&shared, move |shared| {
            assert_eq!(shared.read(lease.index), 1);
            shared.finish(lease);
        });
        // One of these comes for the cell that is given back, as soon as it is.
        for text in [3, 4] {
            shared.try_put(text);
            assert!(shared.try_get().is_some());
            thread::yield_now();
        }
        consumer.join().expect("no panic");
        shared.check();
    });
}

#[test]
fn a_cell_is_used_again_after_it_was_given_back() {
    reuse(None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_frees_relaxed() {
    reuse(Some(Fault::FreesRelaxed));
}

// ---- leases that run out ---------------------------------------------------------------------------

/// A task is taken back and finished, and its cell is written anew, while its first holder copies it.
fn overwriting(fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 1, fault);
        // The bytes of the first cell, word by word.
        let text = Arc::new(AtomicU32::new(1));
        assert!(shared.try_put(1));
        let side = shared.get_side();
        let front = side.front().expect("a queue in order").expect("one");
        let lease = side.lease(front, owner(1), 1).expect("a queue in order");
        drop(side);
        assert!(shared.try_put(2));
        let copied = Arc::clone(&text);
        let holder = spawn(&shared, move |shared| {
            let copy = copied.load(Ordering::Relaxed);
            if shared.queue.is_leased_still(lease) == Ok(true) {
                assert_eq!(copy, 1, "another message's bytes");
            }
        });
        assert_eq!(shared.get_side().take_back_expired(2), Ok(1));
        assert_eq!((shared.try_get(), shared.try_get()), (Some(1), Some(2)));
        let write = |claim: Claim| {
            if claim.index == lease.index {
                shared.queue.before_overwriting();
                text.store(3, Ordering::Relaxed);
            }
        };
        let put = || {
            let put = shared.put_side().put(SMALL, |_, end| Ok(end), write);
            assert_eq!(put, Ok(()));
        };
        // The second of these has the cell that was given back first.
        put();
        assert!(shared.try_get().is_some());
        put();
        assert_eq!(text.load(Ordering::Relaxed), 3);
        holder.join().expect("no panic");
        shared.check();
    });
}

#[test]
fn a_copy_with_bytes_of_another_message_is_not_believed() {
    overwriting(None);
}

#[test]
#[should_panic(expected = "another message's bytes")]
fn twin_that_overwrites_without_a_fence() {
    overwriting(Some(Fault::OverwritesWithoutFence));
}

#[test]
#[should_panic(expected = "another message's bytes")]
fn twin_that_believes_a_copy_of_what_was_taken_back() {
    overwriting(Some(Fault::BelievesACopyOfWhatWasTakenBack));
}

// ---- sleep and wake --------------------------------------------------------------------------------

/// A consumer sleeps on an empty queue, a producer on a full one.
fn waking(messages: u32, fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 0, fault);
        let producer = spawn(&shared, move |shared| {
            (0..messages).for_each(|n| shared.put(n))
        });
        for text in 0..messages {
            assert_eq!(shared.get(), text);
        }
        producer.join().expect("no panic");
    });
}

#[test]
fn no_wake_is_lost_between_a_producer_and_a_consumer() {
    waking(1, None);
    waking(2, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake() {
    waking(1, Some(Fault::ForgetsToWake));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_notifies_without_a_fence() {
    waking(1, Some(Fault::NotifiesWithoutFence));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_sleeps_unannounced() {
    waking(1, Some(Fault::SleepsUnannounced));
}

/// Two consumers sleep, and two messages come. `asleep`: they do so before the first, which loom, which forgets
/// all but the last access to a word, does not find by itself.
fn two_sleepers(asleep: bool, fault: Option<Fault>) {
    explore_less(move || {
        let shared = Shared::new(2, 0, fault);
        let consumers = [0, 1].map(|_| spawn(&shared, Shared::get));
        if asleep {
            thread::yield_now();
        }
        for text in [1, 2] {
            shared.put(text);
        }
        let got = consumers.map(|consumer| consumer.join().expect("no panic"));
        assert_eq!(got[0] + got[1], 3);
    });
}

#[test]
fn who_is_woken_passes_the_wake_on() {
    two_sleepers(false, None);
    two_sleepers(true, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_keeps_the_wake() {
    two_sleepers(true, Some(Fault::KeepsTheWake));
}

/// Two producers sleep on a full queue that is emptied.
fn two_sleeping_producers(asleep: bool, fault: Option<Fault>) {
    explore_less(move || {
        let shared = Shared::new(2, 0, fault);
        assert!(shared.try_put(1) && shared.try_put(2));
        let producers = [3, 4].map(|text| spawn(&shared, move |shared| shared.put(text)));
        if asleep {
            thread::yield_now();
        }
        assert_eq!([shared.get(), shared.get()], [1, 2]);
        for producer in producers {
            producer.join().expect("no panic");
        }
        let rest = shared.rest();
        assert_eq!((rest.len(), rest.iter().sum()), (2, 7_u32));
    });
}

#[test]
fn who_is_woken_passes_the_room_on() {
    two_sleeping_producers(false, None);
    two_sleeping_producers(true, None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_keeps_the_room() {
    two_sleeping_producers(true, Some(Fault::KeepsTheWake));
}

// ---- join ------------------------------------------------------------------------------------------

/// A task puts another before it is done; who has joined sees what was made of both.
fn joining(join: fn(&Shared), fault: Option<Fault>) {
    explore(move || {
        let shared = Shared::new(1, 1, fault);
        // The task is in the second cell; the one that it puts will be in the first.
        assert!(shared.try_put(0));
        let first = shared.try_lease(1).expect("it is there");
        assert!(shared.try_put(1));
        shared.finish(first);
        let task = shared.try_lease(1).expect("it is there");
        let worker = spawn(&shared, move |shared| {
            assert!(shared.try_put(2));
            shared.finish(task);
            shared.tell_producers();
            let last = shared.try_lease(1).expect("its own");
            // SAFETY: nobody reads it before all is finished; loom checks that.
            shared.result.with_mut(|result| unsafe { *result = 2 });
            shared.finish(last);
            shared.tell_producers();
        });
        join(&shared);
        // SAFETY: nobody writes it any more; loom checks that.
        assert_eq!(shared.result.with(|result| unsafe { *result }), 2);
        worker.join().expect("no panic");
    });
}

/// As [`Shared::join`], but looks without the put lock.
fn join_without_the_lock(shared: &Shared) {
    let unfinished = || {
        let owned =
            |(_, word): (u32, Word)| matches!(word.state(), Some(State::Ready | State::Leased));
        shared
            .queue
            .words()
            .any(|word| owned(word.expect("a cell")))
    };
    while unfinished() {
        thread::yield_now();
    }
}

#[test]
fn join_returns_when_all_is_finished() {
    joining(Shared::join, None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_joins_without_the_put_lock() {
    joining(join_without_the_lock, None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_finishes_relaxed() {
    joining(Shared::join, Some(Fault::FinishesRelaxed));
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_to_wake_those_who_join() {
    joining(Shared::join, Some(Fault::ForgetsToWake));
}

// ---- death -----------------------------------------------------------------------------------------

/// A producer is killed at each step of `puts`, which says 1, while another puts 2: the first message is there
/// or not, as its process could tell; the second always is.
fn dying_producer(fault: Option<Fault>, puts: fn(&Shared)) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, 0, fault);
            let victim = spawn_victim(&shared, step, puts);
            assert!(shared.try_put(2));
            let finished = victim.join().expect("no panic");
            let mut got = shared.drain();
            got.sort_unstable();
            let complete = got == [1, 2];
            assert!(
                complete || (!finished && got == [2]),
                "lost or doubled: {got:?}"
            );
            assert!(shared.try_put(3) && shared.try_put(4), "all room is there");
            assert_eq!(shared.rest(), [3, 4]);
        });
    });
}

#[test]
fn a_producer_dies_at_every_step_of_a_put() {
    dying_producer(None, |shared| {
        assert!(shared.try_put(1));
    });
}

#[test]
fn a_producer_dies_at_every_step_of_a_large_put() {
    dying_producer(None, |shared| shared.put_large(1, 1));
}

/// A producer is killed at each step of putting two messages together, while another takes out what it finds:
/// there are the first ones of them, in their order.
fn dying_batch(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(2, 0, fault);
            let victim = spawn_victim(&shared, step, |shared| {
                assert_eq!(shared.try_put_many(&[1, 2]), 2);
            });
            let mut got = shared.try_get_two();
            let finished = victim.join().expect("no panic");
            drop(shared.put_side());
            shared.check();
            got.extend(shared.rest());
            let first_ones = got == [1, 2] || (!finished && [1, 2].starts_with(&got));
            assert!(first_ones, "lost or doubled: {got:?}");
            assert!(shared.try_put(3) && shared.try_put(4), "all room is there");
            assert_eq!(shared.rest(), [3, 4]);
        });
    });
}

#[test]
fn a_producer_dies_at_every_step_of_a_batch() {
    dying_batch(None);
}

#[test]
#[should_panic(expected = "stack and freed ring have the free cells")]
fn twin_that_forgets_what_a_batch_of_the_dead_had() {
    dying_batch(Some(Fault::SkipsRebuild));
}

/// A consumer is killed at each step of taking out two messages together, while another takes out what it finds: only
/// the first ones are gone, and nothing comes twice.
fn dying_taker(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(2, 0, fault);
            assert_eq!(shared.try_put_many(&[1, 2]), 2);
            let victim = spawn_victim(&shared, step, |shared| drop(shared.try_get_two()));
            let own = shared.try_get();
            let finished = victim.join().expect("no panic");
            drop(shared.get_side());
            shared.check();
            let got: Vec<_> = own.into_iter().chain(shared.rest()).collect();
            let last_ones = [1, 2].ends_with(&got) && !(finished && got == [1, 2]);
            // The other one came first, and the victim took the second.
            let others = own == Some(1) && got == [1];
            assert!(last_ones || others, "lost or doubled: {got:?}");
            assert!(shared.try_put(3) && shared.try_put(4), "all room is there");
            assert_eq!(shared.rest(), [3, 4]);
        });
    });
}

#[test]
fn a_consumer_dies_at_every_step_of_taking_many() {
    dying_taker(None);
}

#[test]
#[should_panic(expected = "the ring has the ready cells")]
fn twin_that_forgets_what_a_dead_taker_took() {
    dying_taker(Some(Fault::SkipsRebuild));
}

/// A consumer is killed at each step of what it does with the first of two messages, while another takes what
/// there is. The first is gone only if the consumer was through with it.
fn dying_consumer(fault: Option<Fault>, consumes: fn(&Shared), through: &'static [u32]) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, 1, fault);
            shared.put_large(0, 1);
            assert!(shared.try_put(2));
            let victim = spawn_victim(&shared, step, consumes);
            let mut got: Vec<_> = shared.try_get().into_iter().collect();
            let finished = victim.join().expect("no panic");
            got.extend(shared.drain());
            got.sort_unstable();
            let old = got == [1, 2];
            // Whoever comes second takes the second message.
            let new = got == through || (!through.is_empty() && through.len() < 2 && got == [1]);
            assert!(new || (old && !finished), "lost or doubled: {got:?}");
            assert!(shared.try_put(3) && shared.try_put(4), "all room is there");
            assert_eq!(shared.rest(), [3, 4]);
        });
    });
}

#[test]
fn a_consumer_dies_at_every_step_of_a_get() {
    dying_consumer(
        None,
        |shared| {
            shared.try_get();
        },
        &[2],
    );
}

/// A consumer is killed at each step of a task, one of two, while another takes what there is. Its task is gone only if
/// it had begun to finish it.
fn dying_task(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, 1, fault);
            shared.put_large(0, 1);
            assert!(shared.try_put(2));
            // What the victim is about to finish; not of the model, which would take it for a step.
            let finishing = Arc::new(std::sync::atomic::AtomicU32::new(0));
            let of_victim = Arc::clone(&finishing);
            let victim = spawn_victim(&shared, step, move |shared| {
                if let Some(lease) = shared.try_lease(1) {
                    of_victim.store(shared.read(lease.index), Ordering::Relaxed);
                    shared.finish(lease);
                }
            });
            let mut got: Vec<_> = shared.try_get().into_iter().collect();
            let finished = victim.join().expect("no panic");
            got.extend(shared.drain());
            got.sort_unstable();
            let finishing = finishing.load(Ordering::Relaxed);
            let others: Vec<_> = [1, 2]
                .into_iter()
                .filter(|&text| text != finishing)
                .collect();
            let kept = !finished && got == [1, 2];
            assert!(
                kept || got == others,
                "lost or doubled: {got:?}, {finishing}"
            );
            assert!(shared.try_put(3) && shared.try_put(4), "all room is there");
            assert_eq!(shared.rest(), [3, 4]);
        });
    });
}

#[test]
fn a_consumer_dies_at_every_step_of_a_task() {
    dying_task(None);
}

#[test]
#[should_panic(expected = "lost or doubled")]
fn twin_that_does_not_return_the_task_of_the_dead() {
    dying_task(Some(Fault::RecoversWithoutReturning));
}

fn gives_back(shared: &Shared) {
    if let Some(lease) = shared.try_lease(1) {
        let returned = shared.get_side().give_back(lease);
        assert_eq!(returned, Ok(Returned::Ready));
    }
}

#[test]
fn a_consumer_dies_at_every_step_of_giving_back() {
    dying_consumer(None, gives_back, &[1, 2]);
}

#[test]
#[should_panic(expected = "lost or doubled")]
fn twin_that_does_not_return_what_the_dead_have() {
    dying_consumer(Some(Fault::RecoversWithoutReturning), gives_back, &[1, 2]);
}

/// What a death under the lock leaves is made good by whoever comes next, without being told.
fn dying_unnoticed(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore(move || {
            let shared = Shared::new(2, 0, fault);
            let victim = spawn_victim(&shared, step, |shared| {
                assert!(shared.try_put(1));
                assert_eq!(shared.try_get(), Some(1));
            });
            victim.join().expect("no panic");
            drop(shared.put_side());
            drop(shared.get_side());
            shared.check();
        });
    });
}

#[test]
fn whoever_follows_the_dead_rebuilds() {
    dying_unnoticed(None);
}

#[test]
#[should_panic(expected = "stack and freed ring have the free cells")]
fn twin_that_skips_the_rebuild() {
    dying_unnoticed(Some(Fault::SkipsRebuild));
}

// ---- recovery --------------------------------------------------------------------------------------

/// One finishes a task, another puts into its cell, a third makes all caches anew.
#[test]
fn a_rebuild_meets_a_task_that_ends_and_a_put() {
    explore_less(|| {
        let shared = Shared::new(1, 1, None);
        shared.put_large(0, 1);
        let task = shared.try_lease(0).expect("it is there");
        assert!(shared.try_put(2));
        let consumer = spawn(&shared, move |shared| shared.finish(task));
        let third = spawn(&shared, |shared| {
            let (put, get) = shared.both_sides();
            put.rebuild(&get, |_| true).expect("good words");
            shared.check_caches();
        });
        assert_eq!(shared.try_get(), Some(2));
        assert!(shared.try_put(3));
        consumer.join().expect("no panic");
        third.join().expect("no panic");
        shared.check();
        assert_eq!(shared.rest(), [3]);
    });
}

/// Two recover what a dead process left: a task, a put that was begun, and both caches in disorder. One of them
/// is killed at each step.
fn two_recoverers(fault: Option<Fault>) {
    death::at_every_step(|step| {
        explore_less(move || {
            let shared = Shared::new(2, 1, fault);
            shared.put_large(2, 1);
            shared.try_lease(2).expect("it is there");
            shared.claim(2);
            assert!(shared.try_put(2));
            // As a death under both locks may leave them.
            let (put, get) = shared.both_sides();
            let control = &shared.queue.control;
            control.put.lock.mark_poisoned();
            control.get.lock.mark_poisoned();
            control.put.stack.store(0, Ordering::Relaxed);
            control.shown.tail.store(0, Ordering::Relaxed);
            drop((get, put));
            shared.gone.fetch_or(1 << 2, Ordering::Release);
            let recovers = |shared: &Shared| drop(shared.both_sides());
            let victim = spawn_victim(&shared, step, recovers);
            recovers(&shared);
            shared.check();
            victim.join().expect("no panic");
            drop(shared.put_side());
            drop(shared.get_side());
            shared.check();
            assert_eq!(shared.rest(), [1, 2], "nothing is lost");
            assert!(shared.try_put(3) && shared.try_put(4), "all room is there");
        });
    });
}

#[test]
fn two_recover_and_one_of_them_dies() {
    two_recoverers(None);
}

#[test]
#[should_panic(expected = "nothing is lost")]
fn twin_that_recovers_without_returning() {
    two_recoverers(Some(Fault::RecoversWithoutReturning));
}

/// A message that was delivered as often as allowed, to one that died, is not kept where no dead letters are:
/// else each such death would take a cell away for good.
#[test]
fn dead_letters_that_deaths_make_are_no_more_than_are_kept() {
    explore(|| {
        let mut shared = Shared::new(1, 1, None);
        let limits = &mut Arc::get_mut(&mut shared)
            .expect("nobody else's")
            .queue
            .limits;
        limits.max_deliveries = 1;
        shared.put_large(0, 1);
        shared.try_lease(2).expect("it is there");
        shared.gone.fetch_or(1 << 2, Ordering::Release);
        assert_eq!(shared.drain(), []);
        assert!(shared.try_put(2) && shared.try_lease(0).is_some());
        assert!(shared.try_put(3), "all room is there");
    });
}
