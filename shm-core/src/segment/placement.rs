//! Who may create in a caller's region, and when it is there for others.
//!
//! A named segment is built in a file without a name; a region of the caller's is in plain sight of
//! everybody from the start. Two words of the header settle it:
//!
//! | `claim` | `magic` | meaning | who may go on |
//! |---|---|---|---|
//! | 0 | other | nobody is here | a creator, by compare-and-swap of `claim` |
//! | a living process | other | being created | that process |
//! | a dead process | other | a creator died | a creator, by compare-and-swap of `claim` |
//! | any | [`MAGIC`] | ready | everybody attaches |
//!
//! INV-R1: only the process in `claim` writes the other bytes while `magic` is not there.
//! PAIR region-ready: `publish` stores `magic` with Release, `is_ready` loads it with Acquire.
//! Tests: `tests/loom_placement.rs`, `tests/crash_region.rs`.

use crate::mutants::mutant_of;
use crate::sync::{AtomicU64, Ordering};

/// `"shm"`, NUL, `"fam"`, 1: the first eight bytes of every segment.
pub const MAGIC: u64 = u64::from_le_bytes(*b"shm\0fam\x01");

/// The two words, wherever they live.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Last word to be stored.
    pub magic: &'a AtomicU64,
    /// The creator's process id bits, or 0.
    pub claim: &'a AtomicU64,
    /// What the model does wrong on purpose.
    #[cfg(loom)]
    pub fault: Option<Fault>,
}

/// Ways to be wrong, for the model to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `magic` is stored without Release.
    PublishesRelaxed,
    /// A claim is not followed by a second look at `magic`.
    ClaimsWithoutSecondLook,
    /// A claim is taken from a living creator too.
    RobsTheLiving,
}

/// Why a claim was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Something is there already.
    Ready,
    /// The living process of these bits is at work.
    Claimed(u64),
}

impl Placement<'_> {
    #[cfg(loom)]
    fn broken(self, fault: Fault) -> bool {
        self.fault == Some(fault) || mutant_of("Placement", &fault)
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn broken(self, fault: Fault) -> bool {
        mutant_of("Placement", &fault)
    }

    /// Whether something is there to attach to; its bytes are visible then.
    pub fn is_ready(self) -> bool {
        // PAIR region-ready: Acquire.
        self.magic.load(Ordering::Acquire) == MAGIC
    }

    /// Takes the right to create for `me`, also from a dead creator.
    ///
    /// # Errors
    /// [`Refused`] when something is there or somebody alive is at work (`me` included: another
    /// thread of this process).
    pub fn claim(self, me: u64, may_live: impl Fn(u64) -> bool) -> Result<(), Refused> {
        loop {
            if self.is_ready() {
                return Err(Refused::Ready);
            }
            // Relaxed: the compare-and-swap decides.
            let seen = self.claim.load(Ordering::Relaxed);
            if seen != 0 && may_live(seen) && !self.broken(Fault::RobsTheLiving) {
                return Err(Refused::Claimed(seen));
            }
            // PAIR region-claim: Acquire sees what the last claimant gave up with Release.
            if self
                .claim
                .compare_exchange(seen, me, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            // Between our look at `magic` and our swap the creator may have finished and died.
            if self.is_ready() && !self.broken(Fault::ClaimsWithoutSecondLook) {
                // Relaxed would do: a name for people.
                self.claim.store(seen, Ordering::Release);
                return Err(Refused::Ready);
            }
            return Ok(());
        }
    }

    /// Gives the right back, after an initialisation that failed.
    pub fn give_up(self) {
        // PAIR region-claim: Release.
        self.claim.store(0, Ordering::Release);
    }

    /// Shows what was created to everybody.
    pub fn publish(self) {
        // PAIR region-ready: Release.
        let order = match self.broken(Fault::PublishesRelaxed) {
            true => Ordering::Relaxed,
            false => Ordering::Release,
        };
        self.magic.store(MAGIC, order);
    }
}
