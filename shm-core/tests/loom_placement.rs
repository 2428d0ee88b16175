//! Creation in a region that everybody sees, modelled: one creator at a time, nobody reads what is
//! not finished, a dead creator's claim is taken over. Beside each fact a broken twin that must fail.

#![cfg(loom)]

use loom::sync::Arc;
use shm_core::placement::{Fault, MAGIC, Placement, Refused};
use shm_core::sync::{AtomicU64, Ordering, UnsafeCell, death, thread};

/// A region with one word of payload, and what the kernel knows of its two processes.
struct Region {
    magic: AtomicU64,
    claim: AtomicU64,
    /// Not atomic: loom reports whoever touches it together with another.
    payload: UnsafeCell<u64>,
    /// Bit i: process i has died.
    dead: loom::sync::atomic::AtomicU64,
    fault: Option<Fault>,
}

// SAFETY: the payload is what the protocol under test protects; loom checks every access.
unsafe impl Sync for Region {}
// SAFETY: as for Sync.
unsafe impl Send for Region {}

impl Region {
    fn new(fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            magic: AtomicU64::new(0),
            claim: AtomicU64::new(0),
            payload: UnsafeCell::new(0),
            dead: loom::sync::atomic::AtomicU64::new(0),
            fault,
        })
    }

    fn placement(&self) -> Placement<'_> {
        Placement {
            magic: &self.magic,
            claim: &self.claim,
            fault: self.fault,
        }
    }

    /// Creates as process `me` does: claim, write, publish.
    fn create(&self, me: u64) -> Result<(), Refused> {
        // The kernel's answer comes after the last instruction of the dead. It takes its time, which
        // is also how the model is told to let the others run here.
        let may_live = |id: u64| {
            thread::yield_now();
            self.dead.load(Ordering::Acquire) & (1 << id) == 0
        };
        self.placement().claim(me, may_live)?;
        // SAFETY: the claim is ours; loom checks that nobody else is at it.
        self.payload.with_mut(|payload| unsafe { *payload = me });
        self.placement().publish();
        Ok(())
    }

    /// What an attaching process reads; `None` while it is not ready.
    fn read(&self) -> Option<u64> {
        // SAFETY: published; loom checks that nobody writes any more.
        self.placement()
            .is_ready()
            .then(|| self.payload.with(|payload| unsafe { *payload }))
    }
}

fn two_creators_and_a_reader(fault: Option<Fault>) {
    loom::model(move || {
        let region = Region::new(fault);
        let creators = [1, 2].map(|me| {
            let region = Arc::clone(&region);
            thread::spawn(move || region.create(me))
        });
        let seen = loop {
            match region.read() {
                Some(creator) => break creator,
                None => thread::yield_now(),
            }
        };
        let results = creators.map(|creator| creator.join().unwrap());
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "{results:?}"
        );
        assert!(
            results[seen as usize - 1].is_ok(),
            "what was read is the winner's"
        );
    });
}

#[test]
fn one_creator_wins_and_a_reader_sees_all_of_it() {
    two_creators_and_a_reader(None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn broken_publication_without_release_is_found() {
    two_creators_and_a_reader(Some(Fault::PublishesRelaxed));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn broken_claim_of_a_living_creator_is_found() {
    two_creators_and_a_reader(Some(Fault::RobsTheLiving));
}

/// Process 1 creates and is killed before its step `step`, or after all of them; process 2 creates
/// until something is there; then somebody reads.
fn dying_creator(fault: Option<Fault>) {
    death::at_every_step(|step| {
        loom::model(move || {
            let region = Region::new(fault);
            let first = {
                let region = Arc::clone(&region);
                thread::spawn(move || {
                    let outcome = death::run(step, || region.create(1));
                    // A process that has finished ends too.
                    region.dead.fetch_or(1 << 1, Ordering::AcqRel);
                    outcome == death::Outcome::Finished(Ok(()))
                })
            };
            let early = region.read();
            let second = loop {
                match region.create(2) {
                    Err(Refused::Claimed(_)) => thread::yield_now(),
                    other => break other,
                }
            };
            let first_created = first.join().unwrap();
            assert!(!(first_created && second.is_ok()), "two creators");
            let creator = region
                .read()
                .expect("the second creator created, or found it ready");
            assert_eq!(
                creator == 2,
                second.is_ok(),
                "what is there is the work of who says so"
            );
            assert!(
                early.is_none_or(|early| early == creator),
                "what was read stays"
            );
            assert_eq!(region.magic.load(Ordering::Acquire), MAGIC);
        });
    });
}

#[test]
fn a_dead_creators_claim_is_taken_over_and_a_finished_one_is_left_alone() {
    dying_creator(None);
}

#[test]
#[should_panic(expected = "two creators")]
fn broken_claim_without_a_second_look_is_found() {
    dying_creator(Some(Fault::ClaimsWithoutSecondLook));
}
