//! Ways to break [`RawMutex`](super::RawMutex), so that a model can show that it would notice.
//!
//! Only a loom build can make a broken mutex; elsewhere `broken` is a constant `false` and every
//! trace of this module disappears.

/// What a broken mutex does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what its variant does")]
#[allow(unreachable_pub, reason = "exported in loom builds alone")]
pub enum Fault {
    TakesWithRelaxed,
    ReleasesWithRelaxed,
    ForgetsToWake,
    EndsBeforeRelease,
    RecoveryDropsWaiters,
    SleeperTakesWithoutWaiters,
    GivesUpWithoutWaiters,
    SleepsUnboundedAtHandOff,
    ClearsOwnerAfterRelease,
    NeverClearsOwner,
    ClearsOwnerBeforeNoting,
}
