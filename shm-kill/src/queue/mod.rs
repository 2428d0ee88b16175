//! Queues: each message is there or not, whole, once, in its place; and what the dead held goes to others.
//!
//! A message is named by its number: small below 6, 7 of a size that is copied into the arena under the lock,
//! all others so long that they are copied outside it.

mod byte_queue;
mod check;
mod controls;
mod dead;
mod sleepers;
mod tasks;
mod values;
mod whole;

use std::time::Duration;

use shm_queue::{ByteQueue, Options};
use shm_testing::Commands;
use shm_testing::step_killer::Case;

use crate::segment::place;

/// Those wait so long who must get something, or find out that they will not.
const PATIENCE: Duration = Duration::from_millis(400);
/// Those wait so long whom a victim that stands still may keep waiting.
const SHORT: Duration = Duration::from_millis(20);

pub(crate) fn cases() -> Vec<Case> {
    [
        byte_queue::cases(),
        dead::cases(),
        sleepers::cases(),
        whole::cases(),
        values::cases(),
        tasks::cases(),
        controls::cases(),
    ]
    .concat()
}

pub(crate) fn commands() -> Commands {
    let commands = dead::commands(byte_queue::commands(Commands::new()));
    let commands = whole::commands(sleepers::commands(commands));
    let commands = tasks::commands(values::commands(commands));
    controls::commands(commands)
}

fn bytes(operation: &str, state: &str) -> Case {
    Case::new(operation, state).checked_by("byte queue")
}

fn small_queue() -> Options {
    Options::new(3)
        .leases(4)
        .dead_letters(2)
        .max_message(3000)
        .arena_bytes(12 << 10)
}

fn message(number: u8) -> Vec<u8> {
    let len = match number {
        0..=5 => 40,
        7 => 300,
        _ => 2300,
    };
    vec![number; len]
}

/// The same as a value: of a type that is encoded as a whole, not element by element.
fn text(number: u8) -> String {
    to_text(message(number))
}

fn to_text(message: Vec<u8>) -> String {
    String::from_utf8(message).expect("numbers below 128")
}

fn number_of(bytes: &[u8]) -> u8 {
    assert!(bytes == message(bytes[0]), "torn: {bytes:?}");
    bytes[0]
}

fn create_bytes(name: &str, options: Options, numbers: &[u8]) -> ByteQueue {
    let queue = ByteQueue::create(place(name), options).expect("a new queue");
    for &number in numbers {
        queue.try_put(&message(number)).expect("it has room");
    }
    queue
}

fn open(name: &str) -> ByteQueue {
    ByteQueue::open(name).expect("the queue")
}
