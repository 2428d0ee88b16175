//! Negative controls: each has one well-known fault, and a run in which it is not found has shown
//! nothing.

use std::time::Duration;

use shm_testing::step_killer::{Case, Mode, Outcomes};

pub(crate) fn cases() -> Vec<Case> {
    let switch = || Outcomes::switch("0", "1");
    vec![
        // Two stores, and no recovery.
        control("torn", "idle", "torn").killed(switch()),
        // The owner is stored after the flag that says "locked".
        control("flag", "idle", "the checker hangs").killed(switch()),
        // A recovery that cannot be repeated, killed itself.
        control("early", "orphan", "torn")
            .orphaned()
            .mode(Mode::Kill, switch()),
        // A corpse that nobody reaped is taken for alive: kill(pid, 0).
        control("kill0", "idle", "the checker hangs").mode(Mode::KillUnreaped, switch()),
        // A living process whose first thread ended is taken for dead: the state letter.
        control("letter", "idle", "somebody came in")
            .while_held("lock-second-thread")
            .killed(switch()),
        // A stopped process is taken for dead: a timer.
        control("timer", "idle", "outcome \"0\"").frozen("timer", Outcomes::always("1")),
        // A sleeper that never looks again.
        control("forever", "idle", "forever hangs").killed_under_waiter("forever", switch()),
        // A waiter that dies with its ticket.
        control("ticket", "idle", "the checker hangs")
            .while_held("ticket")
            .mode(Mode::Kill, switch()),
        // A raised flag whose bell was not rung.
        control("raise", "idle", "sleep for ever hangs")
            .with_sleeper("sleep for ever")
            .mode(Mode::Kill, Outcomes::switch("0; woken", "1; woken")),
        // A semaphore that calls itself robust, and does not know who has its permits.
        control("permit", "two permits", "did not come back")
            .mode(Mode::Kill, Outcomes::always("all there")),
        // A count of readers, which a dead one leaves raised.
        control("reader", "idle", "keeps the writer out")
            .mode(Mode::Kill, Outcomes::always("free")),
    ]
}

/// Its violation says `fault`.
fn control(operation: &str, state: &str, fault: &str) -> Case {
    Case::new(operation, state)
        .limit(Duration::from_millis(400))
        .control(fault)
}
