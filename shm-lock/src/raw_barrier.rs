//! A barrier in shared memory that breaks when a party dies, instead of hanging the rest.
//!
//! ```text
//! offset size field     meaning
//!      0    8 state     arrived (11 bits) | BROKEN (bit 11) | history (32 bits) | round (20 bits)
//!      8    4 bell      futex: moves whenever a round ends or breaks
//!     12    4 parties   nobody writes it after creation
//!     16    8 culprit   ProcessId of the party whose death broke the barrier; 0: none's
//!     24    8 checked   hint: CLOCK_MONOTONIC ns of the last look at who lives
//!     32   32           reserved
//!     64   16 places[0] ProcessId (8) of who stands there, 0 = nobody; round (20 bits) | REGISTERED (bit 31); 4 reserved
//!    ... 256 of them: the first `parties` for those who register, the others for the time of one wait
//! ```
//!
//! # States
//!
//! A round collects arrivals until there are as many as parties, and is then complete; or it breaks (a party
//! died, was late, or aborted), and the barrier stays broken until somebody resets it, which begins the
//! next round. `history` tells how the last 32 rounds ended (bit 0 the last one, 1 = broken), so that who
//! wakes late learns how its own did. Who comes later than that is told that it broke.
//!
//! # Invariants
//!
//! - INV-B1: an arrival, the completion of a round, its break and a reset are one compare-and-exchange each.
//! - INV-B2: who arrives stands in a place, with that round, before its arrival is counted, and until it
//!   knows how the round ended. So every party that is counted can be looked up when it dies.
//! - INV-B3: `bell` moves after every change of `state` that ends or breaks a round; who sleeps on a `bell`
//!   has looked at the state after reading it.
//! - INV-B4: a place is taken by compare-and-exchange from 0, and given back by who stands there, or by anybody
//!   if that one is dead. What stands in `round` is believed only while the place has not changed hands.
//!
//! # Pairs
//!
//! - PAIR barrier-state: every change of `state` is a read-modify-write with Release and Acquire; so the return
//!   of any party sees what all parties did before they arrived.
//! - PAIR barrier-bell: Release moves it after the state; the Acquire of the sleeper then sees that state.
//! - PAIR futex-queue (`shm_core::futex`): the bell moves before the wake, and is compared when falling asleep.
//!
//! # Peer death
//!
//! | killed | left behind | the others |
//! |---|---|---|
//! | registered, not waiting | its place | who waits finds it dead at the end of a slice (100 ms), and breaks |
//! | waiting | its place and its arrival | as above, unless the round completes first |
//! | last to arrive, before the bell | a complete round | see it at the end of their slice |
//! | woken, before it leaves its place | its place, with an old round | whoever looks gives the place back |
//! | breaking or resetting, before the bell | the new state | see it at the end of their slice |
//! | neither registered nor waiting | nothing | wait until their timeout: nobody knows of it |
//!
//! Sources: CPython's `threading.Barrier` (broken, abort, reset); D. Hensgen, R. Finkel, U. Manber, *Two Algorithms
//! for Barrier Synchronization* (the count and the round). Shown by `tests/loom_barrier.rs`,
//! `tests/crash_barrier.rs`.

use core::time::Duration;

use shm_core::futex::{self, Wait};
use shm_core::mutants::{mutant, mutant_of};
use shm_core::sync::{AtomicU32, AtomicU64, Ordering, yield_now};
use shm_core::{Deadline, ProcessId, deadline};

use crate::spin::Spin;

/// Places; those beyond the parties' own serve parties that did not register, one wait long.
#[cfg(not(loom))]
const PLACES: usize = 256;
#[cfg(loom)]
const PLACES: usize = 6;

/// Who finds that nobody has looked for so long looks who lives.
#[cfg(not(loom))]
const CHECK: Duration = Duration::from_millis(50);
#[cfg(loom)]
const CHECK: Duration = Duration::ZERO;

const ARRIVED_BITS: u32 = 11;
const ARRIVED: u64 = (1 << ARRIVED_BITS) - 1;
const BROKEN: u64 = 1 << ARRIVED_BITS;
const HISTORY_SHIFT: u32 = ARRIVED_BITS + 1;
const ROUND_SHIFT: u32 = HISTORY_SHIFT + u32::BITS;
const ROUND: u32 = (1 << (u64::BITS - ROUND_SHIFT)) - 1;

/// In the word of a place: it stays its party's beyond the wait.
const REGISTERED: u32 = 1 << 31;

/// A state, taken apart.
#[derive(Clone, Copy)]
struct State(u64);

impl State {
    fn arrived(self) -> u32 {
        // Eleven bits.
        (self.0 & ARRIVED) as u32
    }

    fn is_broken(self) -> bool {
        self.0 & BROKEN != 0
    }

    fn round(self) -> u32 {
        // Twenty bits.
        (self.0 >> ROUND_SHIFT) as u32
    }

    fn history(self) -> u32 {
        (self.0 >> HISTORY_SHIFT) as u32
    }

    /// How `round` ended: `None` if it has not, `Some(true)` if it is complete.
    fn ended(self, round: u32) -> Option<bool> {
        match self.round().wrapping_sub(round) & ROUND {
            0 if self.is_broken() => Some(false),
            0 => None,
            ago @ 1..=u32::BITS => Some(self.history() >> (ago - 1) & 1 == 0),
            _ => Some(false),
        }
    }

    /// The next round, nobody arrived; the last one is remembered as complete or broken.
    fn next_round(self, complete: bool) -> Self {
        let history = self.history() << 1 | u32::from(!complete);
        let step = u32::from(!mutant("Barrier::RoundStandsStill"));
        let round = self.round().wrapping_add(step) & ROUND;
        Self(u64::from(round) << ROUND_SHIFT | u64::from(history) << HISTORY_SHIFT)
    }

    /// One more arrival.
    fn after_arrival(self, parties: u32) -> Self {
        if self.arrived() + 1 >= parties {
            self.next_round(true)
        } else {
            Self(self.0 + 1)
        }
    }

    fn broken(self) -> Self {
        Self(self.0 & !ARRIVED | BROKEN)
    }
}

/// The barrier is broken, or broke while the caller waited: everybody who waited hears it, and so does
/// everybody who comes, until somebody resets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken{}", self.why())]
pub struct BrokenBarrier {
    dead: Option<ProcessId>,
    timed_out: bool,
}

impl BrokenBarrier {
    /// The party whose death broke it, if that was the reason; `None` if the barrier was reset before the caller came to
    /// look.
    #[must_use]
    pub fn dead_party(&self) -> Option<ProcessId> {
        self.dead
    }

    /// Whether the caller itself broke it, since its time was over.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    fn why(&self) -> String {
        match self.dead {
            Some(process) => format!(": {process} died"),
            None if self.timed_out => ": not all parties came in time".to_owned(),
            None => String::new(),
        }
    }
}

/// What `inspect` saw. True at some instant of the call at best: for people and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierInspection {
    /// How many must arrive.
    pub parties: u32,
    /// How many have arrived and wait.
    pub waiting: u32,
    /// Rounds that have ended (modulo 2^20).
    pub rounds: u32,
    /// Whether it is broken.
    pub broken: bool,
    /// The processes that have registered, each as often as it has.
    pub registered: Vec<ProcessId>,
}

/// What a broken barrier does wrong, so that a model can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
pub enum BarrierFault {
    ArrivesWithRelaxed,
    ForgetsTheBell,
    ReadsTheBellAfterLooking,
    ForgetsHistory,
    IgnoresTheDead,
    ArrivesBeforeItStands,
    BelievesAnyRound,
}

/// One place, as it lies in the segment.
#[derive(Debug)]
#[repr(C)]
struct Place {
    process: AtomicU64,
    round: AtomicU32,
    _reserved: AtomicU32,
}

/// A barrier, between threads of any processes that map it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RawBarrier {
    state: AtomicU64,
    bell: AtomicU32,
    parties: AtomicU32,
    culprit: AtomicU64,
    checked: AtomicU64,
    _reserved: [AtomicU64; 4],
    places: [Place; PLACES],
    #[cfg(loom)]
    fault: Option<BarrierFault>,
}

#[cfg(not(loom))]
const _: () = {
    assert!(core::mem::offset_of!(RawBarrier, places) == 64);
    assert!(size_of::<Place>() == 16 && size_of::<RawBarrier>() == 64 + 16 * PLACES);
};

#[cfg(not(loom))]
// SAFETY: atomic words throughout.
unsafe impl shm_core::Shared for RawBarrier {}

/// A party that stands in a place of its own.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    place: usize,
    process: ProcessId,
}

impl Standing {
    /// The process that registered.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        self.process
    }
}

impl RawBarrier {
    /// The most parties there can be: as many places serve those who do not register.
    pub const MAX_PARTIES: u32 = (PLACES / 2) as u32;

    /// Offset of the number of parties.
    #[cfg(not(loom))]
    pub(crate) const PARTIES: usize = core::mem::offset_of!(RawBarrier, parties);

    /// A barrier for `parties`, which may do one thing wrong.
    #[cfg(loom)]
    #[must_use]
    pub fn new_broken(parties: u32, fault: Option<BarrierFault>) -> Self {
        let place = |_| Place {
            process: AtomicU64::new(0),
            round: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
        };
        Self {
            state: AtomicU64::new(0),
            bell: AtomicU32::new(0),
            parties: AtomicU32::new(parties),
            culprit: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            _reserved: core::array::from_fn(|_| AtomicU64::new(0)),
            places: core::array::from_fn(place),
            fault,
        }
    }

    #[cfg(loom)]
    fn is_faulty(&self, fault: BarrierFault) -> bool {
        self.fault == Some(fault) || mutant_of("Barrier", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn is_faulty(&self, fault: BarrierFault) -> bool {
        mutant_of("Barrier", &fault)
    }

    /// How many must arrive.
    pub fn parties(&self) -> u32 {
        self.parties_found().max(1)
    }

    /// What stands in the word, which a handle checks when it is made.
    pub(crate) fn parties_found(&self) -> u32 {
        // Relaxed: never written after creation.
        self.parties.load(Ordering::Relaxed)
    }

    /// Arrives, and waits for the others. Gives how many had arrived before.
    ///
    /// # Errors
    /// [`BrokenBarrier`].
    pub fn wait(
        &self,
        party: Party,
        deadline: Option<Deadline>,
        is_alive: impl Fn(ProcessId) -> bool,
    ) -> Result<u32, BrokenBarrier> {
        let (standing, registered) = match party {
            Party::Registered(standing) => (standing, REGISTERED),
            Party::Passing(process) => (self.stand(process, deadline, &is_alive)?, 0),
        };
        let result = self.arrive(standing, registered, deadline, &is_alive);
        if registered == 0 {
            self.step_aside(standing);
        }
        result
    }

    fn arrive(
        &self,
        standing: Standing,
        registered: u32,
        deadline: Option<Deadline>,
        is_alive: &dyn Fn(ProcessId) -> bool,
    ) -> Result<u32, BrokenBarrier> {
        let place = &self.places[standing.place];
        let parties = self.parties();
        // PAIR barrier-state: Acquire, for the culprit of a broken one.
        let mut seen = State(self.state.load(Ordering::Acquire));
        let after = loop {
            if seen.is_broken() {
                return Err(self.broken());
            }
            // Relaxed: the arrival publishes it (INV-B2).
            place
                .round
                .store(seen.round() | registered, Ordering::Relaxed);
            let after = seen.after_arrival(parties);
            match self.exchange(seen, after) {
                Ok(()) => break after,
                Err(now) => seen = now,
            }
        };
        if self.is_faulty(BarrierFault::ArrivesBeforeItStands) {
            place
                .process
                .store(standing.process.to_bits(), Ordering::Relaxed);
        }
        if after.round() != seen.round() {
            self.ring();
        } else {
            self.wait_for_end(seen.round(), standing, deadline, is_alive)?;
        }
        Ok(seen.arrived())
    }

    /// Sleeps until `round` has ended.
    fn wait_for_end(
        &self,
        round: u32,
        standing: Standing,
        deadline: Option<Deadline>,
        is_alive: &dyn Fn(ProcessId) -> bool,
    ) -> Result<(), BrokenBarrier> {
        let mut spin = Spin::new();
        let mut slept = false;
        loop {
            // PAIR barrier-bell: Acquire sees the state that this bell stands for.
            let mut bell = self.bell.load(Ordering::Acquire);
            // PAIR barrier-state: Acquire sees what all parties did before they arrived.
            match State(self.state.load(Ordering::Acquire)).ended(round) {
                Some(true) => return Ok(()),
                Some(false) => return Err(self.broken()),
                None => {}
            }
            if slept {
                slept = false;
                self.look_who_lives(round, standing.process, is_alive);
                continue;
            }
            if deadline.is_some_and(Deadline::is_past) {
                if self.break_round(round) {
                    let timed_out = true;
                    return Err(BrokenBarrier {
                        dead: None,
                        timed_out,
                    });
                }
                continue;
            }
            if spin.again() {
                continue;
            }
            if self.is_faulty(BarrierFault::ReadsTheBellAfterLooking) {
                bell = self.bell.load(Ordering::Acquire);
            }
            // A sleep that ends and leaves the round as it was is a slice that is over.
            slept = futex::wait_slice(&self.bell, bell, deadline) != Wait::Changed;
        }
    }

    /// Breaks `round` if somebody who belongs to it is dead, and gives back the places of the dead.
    fn look_who_lives(&self, round: u32, me: ProcessId, is_alive: &dyn Fn(ProcessId) -> bool) {
        if self.is_faulty(BarrierFault::IgnoresTheDead) || !self.is_my_turn_to_look() {
            return;
        }
        for place in &self.places {
            // Acquire: the round of who stands there, after its id (INV-B4).
            let seen = place.process.load(Ordering::Acquire);
            let dead = ProcessId::from_bits(seen).filter(|&id| id != me && !is_alive(id));
            let Some(dead) = dead else { continue };
            // Acquire: before the second look at the id.
            let word = place.round.load(Ordering::Acquire);
            let belongs = word & REGISTERED != 0 || word & ROUND == round;
            // Relaxed: an id of the dead does not come back; still there, it was there all along.
            let still = place.process.load(Ordering::Relaxed) == seen;
            if still && (belongs || self.is_faulty(BarrierFault::BelievesAnyRound)) {
                self.break_for(round, dead);
            }
            // The place last, so that a looker who dies before leaves it to the next one. Relaxed: what is
            // in it is of no use to the next who stands there.
            let _ = place
                .process
                .compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Many wake at the same time, and one of them suffices.
    fn is_my_turn_to_look(&self) -> bool {
        let now = deadline::now();
        // Relaxed, both: a hint. One who took the turn and died is followed after the same time.
        let last = self.checked.load(Ordering::Relaxed);
        now.saturating_sub(last) >= CHECK.as_nanos() as u64
            && self
                .checked
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn break_for(&self, round: u32, dead: ProcessId) {
        // Relaxed: published by the break.
        let before = self.culprit.swap(dead.to_bits(), Ordering::Relaxed);
        if self.break_round(round) || (before == 0 && self.is_broken_in(round)) {
            // Broken by another who found the same death, it may have been its name that was replaced.
            return;
        }
        // It ended otherwise; then nobody's death broke it, or somebody else's did, who stays the culprit.
        let _ = self.culprit.compare_exchange(
            dead.to_bits(),
            before,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    fn is_broken_in(&self, round: u32) -> bool {
        // PAIR barrier-state.
        let state = State(self.state.load(Ordering::Acquire));
        state.is_broken() && state.round() == round
    }

    /// Breaks `round`; `false` if it has ended already.
    fn break_round(&self, round: u32) -> bool {
        // PAIR barrier-state.
        let mut seen = State(self.state.load(Ordering::Acquire));
        while seen.ended(round).is_none() {
            match self.exchange(seen, seen.broken()) {
                Ok(()) => {
                    self.ring();
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Breaks the barrier: who waits, and who comes, gets [`BrokenBarrier`].
    pub fn abort(&self) {
        loop {
            // PAIR barrier-state.
            let state = State(self.state.load(Ordering::Acquire));
            if state.is_broken() || self.break_round(state.round()) {
                return;
            }
        }
    }

    /// Begins a new round; who waits gets [`BrokenBarrier`]. Mends a broken barrier.
    pub fn reset(&self) {
        // PAIR barrier-state.
        let mut seen = State(self.state.load(Ordering::Acquire));
        loop {
            if seen.arrived() == 0 && !seen.is_broken() {
                return;
            }
            // Relaxed: published by the new round.
            self.culprit.store(0, Ordering::Relaxed);
            let complete = self.is_faulty(BarrierFault::ForgetsHistory);
            match self.exchange(seen, seen.next_round(complete)) {
                Ok(()) => return self.ring(),
                Err(now) => seen = now,
            }
        }
    }

    fn ring(&self) {
        if self.is_faulty(BarrierFault::ForgetsTheBell) {
            return;
        }
        // PAIR barrier-bell: Release, after the state.
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake(&self.bell, u32::MAX);
    }

    fn broken(&self) -> BrokenBarrier {
        BrokenBarrier {
            // Relaxed: published by the break, which was seen.
            dead: ProcessId::from_bits(self.culprit.load(Ordering::Relaxed)),
            timed_out: false,
        }
    }

    fn exchange(&self, seen: State, after: State) -> Result<(), State> {
        let (success, failure) = if self.is_faulty(BarrierFault::ArrivesWithRelaxed) {
            (Ordering::Relaxed, Ordering::Relaxed)
        } else {
            // PAIR barrier-state: both ways.
            (Ordering::AcqRel, Ordering::Acquire)
        };
        self.state
            .compare_exchange(seen.0, after.0, success, failure)
            .map(|_| ())
            .map_err(State)
    }

    // ---- places ------------------------------------------------------------------------------------

    /// Stands `process` in a place of its own, until [`leave`](Self::leave); `None` if as many are
    /// registered as there are parties, and live.
    pub fn register(
        &self,
        process: ProcessId,
        is_alive: impl Fn(ProcessId) -> bool,
    ) -> Option<Standing> {
        let own = 0..(self.parties() as usize).min(PLACES);
        for _ in 0..2 {
            if let Some(standing) = self.take_place(own.clone(), process) {
                let place = &self.places[standing.place];
                // Relaxed: read by those who have seen the id, or a later round.
                place.round.store(REGISTERED, Ordering::Relaxed);
                return Some(standing);
            }
            // PAIR barrier-state.
            let round = State(self.state.load(Ordering::Acquire)).round();
            // Relaxed: a hint; this look does not wait for its turn.
            self.checked.store(0, Ordering::Relaxed);
            self.look_who_lives(round, process, &is_alive);
        }
        None
    }

    /// Gives a registered party's place back.
    pub fn leave(&self, standing: Standing) {
        self.step_aside(standing);
    }

    /// A place for one wait.
    fn stand(
        &self,
        process: ProcessId,
        deadline: Option<Deadline>,
        is_alive: &dyn Fn(ProcessId) -> bool,
    ) -> Result<Standing, BrokenBarrier> {
        let passing = (self.parties() as usize).min(PLACES / 2)..PLACES;
        if self.is_faulty(BarrierFault::ArrivesBeforeItStands) {
            let place = passing.start;
            return Ok(Standing { place, process });
        }
        loop {
            if let Some(standing) = self.take_place(passing.clone(), process) {
                return Ok(standing);
            }
            // As many as that are on their way out of an earlier round, or have died there.
            // PAIR barrier-state.
            let round = State(self.state.load(Ordering::Acquire)).round();
            self.look_who_lives(round, process, is_alive);
            if deadline.is_some_and(Deadline::is_past) {
                let timed_out = self.break_round(round);
                return Err(BrokenBarrier {
                    timed_out,
                    ..self.broken()
                });
            }
            yield_now();
        }
    }

    fn take_place(&self, among: core::ops::Range<usize>, process: ProcessId) -> Option<Standing> {
        let len = among.len().max(1);
        // Different processes begin at different places.
        let first = process.pid() as usize;
        (0..among.len()).find_map(|step| {
            let place = among.start + (first + step) % len;
            let word = &self.places[place].process;
            // Relaxed: a look, and the exchange of a word that the arrival publishes (INV-B2).
            let taken = word.load(Ordering::Relaxed) == 0
                && word
                    .compare_exchange(0, process.to_bits(), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            taken.then_some(Standing { place, process })
        })
    }

    fn step_aside(&self, standing: Standing) {
        let mine = standing.process.to_bits();
        // Release: after what stood in `round`. Fails only if somebody took this process for dead.
        let _ = self.places[standing.place].process.compare_exchange(
            mine,
            0,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    // ---- for observers -----------------------------------------------------------------------------

    /// How many wait in the present round.
    pub fn waiting(&self) -> u32 {
        // Relaxed: outdated as soon as it is read.
        State(self.state.load(Ordering::Relaxed)).arrived()
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        // Relaxed: outdated as soon as it is read.
        State(self.state.load(Ordering::Relaxed)).is_broken()
    }

    /// Who waits and who has registered. Disturbs nobody.
    #[must_use]
    pub fn inspect(&self) -> BarrierInspection {
        // Relaxed, all: outdated as soon as it is read.
        let state = State(self.state.load(Ordering::Relaxed));
        let registered = self.places.iter().filter_map(|place| {
            let process = ProcessId::from_bits(place.process.load(Ordering::Relaxed))?;
            (place.round.load(Ordering::Relaxed) & REGISTERED != 0).then_some(process)
        });
        BarrierInspection {
            parties: self.parties(),
            waiting: state.arrived(),
            rounds: state.round(),
            broken: state.is_broken(),
            registered: registered.collect(),
        }
    }

    /// How many sleep.
    #[cfg(loom)]
    pub fn sleepers(&self) -> usize {
        futex::waiters(&self.bell)
    }

    /// Ends the slice of every sleeper, which the model's kernel does not do by itself.
    #[cfg(loom)]
    pub fn end_slices(&self) {
        futex::wake(&self.bell, u32::MAX);
    }
}

/// Who waits.
#[derive(Debug, Clone, Copy)]
pub enum Party {
    /// One that stands in a place of its own.
    Registered(Standing),
    /// A process that takes a place for this wait.
    Passing(ProcessId),
}
