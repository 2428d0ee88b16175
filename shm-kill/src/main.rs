//! Every operation of the shm family, killed at every instruction.
//!
//! Without a sub-command this program runs all cases on itself (`--full`, or a sample; see `--help`).
//! With one it is a victim, a checker, or whoever else a case needs, so that a person can replay
//! any point by hand: `shm-kill setup held NAME`, `shm-kill victim lock NAME`, `shm-kill check lock NAME`.
//!
//! | file | subjects |
//! |---|---|
//! | `segment.rs` | create, open, open_or_create, unlink, drop, sweep; regions |
//! | `mutex.rs` | lock, try_lock, timed lock, repair, abandon, poisoning |
//! | `value.rs` | `Value`, `AtomicValue`, `Array` |
//! | `seq_value.rs` | `SeqValue` |
//! | `queue.rs` | `ByteQueue`, `Queue`, `JoinableQueue` |
//! | `control.rs` | toys with well-known faults, each of which must be found |

mod control;
mod mutex;
mod queue;
mod segment;
mod seq_value;
// The controls are the toys that the instrument's own tests use.
#[path = "../../shm-testing/victims/ticket.rs"]
mod ticket;
#[path = "../../shm-testing/victims/toy.rs"]
mod toy;
mod value;
#[path = "../../shm-testing/victims/words.rs"]
mod words;

use std::process::ExitCode;

use shm_testing::Commands;
use shm_testing::step_killer::Suite;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().is_some_and(|first| !first.starts_with("--")) {
        let commands = Commands::new();
        return commands
            .and(segment::commands())
            .and(mutex::commands())
            .and(value::commands())
            .and(queue::commands())
            .and(seq_value::commands())
            .and(toy::commands())
            .and(ticket::commands())
            .main();
    }
    let cases = [
        segment::cases(),
        mutex::cases(),
        value::cases(),
        queue::cases(),
        seq_value::cases(),
        control::cases(),
    ]
    .concat();
    let program = std::env::current_exe().expect("this program has a path");
    Suite::new(program, cases).main(std::env::args().skip(1))
}
