//! Every operation of the shm family, killed at every instruction.
//!
//! Without a sub-command this program runs all cases on itself (`--full`, or a sample; see `--help`).
//! With one it is a victim, a checker, or whoever else a case needs, so that a person can replay
//! any point by hand: `shm-kill setup held NAME`, `shm-kill victim lock NAME`, `shm-kill check lock NAME`.
//!
//! | file | subjects |
//! |---|---|
//! | `segment.rs` | create, open, open_or_create, unlink, drop, sweep; regions |
//! | `creation.rs` | the making and the opening of each type |
//! | `mutex.rs` | lock, try_lock, timed lock, repair, abandon, poisoning |
//! | `reentrant.rs` | the same, several times over |
//! | `rwlock.rs` | read, write, downgrade, repair |
//! | `semaphore.rs` | acquire, release: permits without owners, bounded and not |
//! | `robust.rs` | acquire, release: permits that come back |
//! | `condvar.rs` | wait, notify one, some, all |
//! | `event.rs` | set, clear, wait |
//! | `barrier.rs` | register, wait, leave, abort, reset |
//! | `once.rs` | initialise once, also in the place of a dead one |
//! | `value.rs` | `Value`, `AtomicValue`, `Array` |
//! | `atomic.rs` | `AtomicArray`; waiting for an `AtomicValue` |
//! | `seq_value.rs` | `SeqValue` |
//! | `shareable_list.rs` | `ShareableList` |
//! | `faults.rs`, `blocking.rs` | what makes, grows and waits, for the driver that fails system calls (`tests/faults.rs`) |
//! | `queue/` | `ByteQueue`, `Queue`, `JoinableQueue` |
//! | `dict/` | `Dict`, `DictGuard` |
//! | `dict_list.rs` | `List` |
//! | `dict_tree.rs` | containers inside of others, transactions |
//! | `control.rs` | toys with well-known faults, each of which must be found |

mod atomic;
mod barrier;
mod blocking;
mod condvar;
mod control;
mod creation;
mod dict;
mod dict_list;
mod dict_tree;
mod event;
mod faults;
mod mutex;
mod once;
mod queue;
mod reentrant;
mod robust;
mod rwlock;
mod segment;
mod semaphore;
mod seq_value;
mod shareable_list;
mod value;
// The controls are the toys that the instrument's own tests use.
#[path = "../../shm-testing/victims/bell.rs"]
mod bell;
#[path = "../../shm-testing/victims/count.rs"]
mod count;
#[path = "../../shm-testing/victims/ticket.rs"]
mod ticket;
#[path = "../../shm-testing/victims/toy.rs"]
mod toy;
#[path = "../../shm-testing/victims/words.rs"]
mod words;

use std::process::ExitCode;

use shm_testing::Commands;
use shm_testing::step_killer::Suite;

/// Negative controls among the cases.
const CONTROLS: usize = 17;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().is_some_and(|first| !first.starts_with("--")) {
        let commands = Commands::new();
        return commands
            .and(segment::commands())
            .and(creation::commands())
            .and(mutex::commands())
            .and(reentrant::commands())
            .and(rwlock::commands())
            .and(semaphore::commands())
            .and(robust::commands())
            .and(condvar::commands())
            .and(event::commands())
            .and(barrier::commands())
            .and(once::commands())
            .and(value::commands())
            .and(atomic::commands())
            .and(queue::commands())
            .and(dict::commands())
            .and(dict_list::commands())
            .and(dict_tree::commands())
            .and(seq_value::commands())
            .and(shareable_list::commands())
            .and(faults::commands())
            .and(toy::commands())
            .and(ticket::commands())
            .and(bell::commands())
            .and(count::commands())
            .main();
    }
    let cases = [
        segment::cases(),
        creation::cases(),
        mutex::cases(),
        reentrant::cases(),
        rwlock::cases(),
        semaphore::cases(),
        robust::cases(),
        condvar::cases(),
        event::cases(),
        barrier::cases(),
        once::cases(),
        value::cases(),
        atomic::cases(),
        queue::cases(),
        dict::cases(),
        dict_list::cases(),
        dict_tree::cases(),
        seq_value::cases(),
        shareable_list::cases(),
        control::cases(),
    ]
    .concat();
    let program = std::env::current_exe().expect("this program has a path");
    Suite::new(program, cases)
        .with_controls(CONTROLS)
        .main(std::env::args().skip(1))
}
