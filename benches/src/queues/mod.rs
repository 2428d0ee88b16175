//! The sections of the bench `queue`: streams of messages, and round trips.

use crate::section::Section;

mod channel;
#[cfg(feature = "rivals")]
mod in_process;
#[cfg(feature = "rivals")]
mod ipc_channel;
mod kernel;
mod python;
mod round_trip;
mod shm;
mod stream;
mod typed;

/// All of them, in the order of the tables.
#[must_use]
pub fn sections() -> Vec<Section> {
    let mut sections = stream::sections();
    sections.push(typed::section());
    sections.extend(round_trip::sections());
    sections
}

/// A rival that has one receiver: one to one alone.
const IPC_CHANNEL: &str = "ipc-channel";

/// Who is not here: without `rivals`, and in any build.
fn absent() -> Vec<String> {
    let mut lines = crate::variants::absent(&[
        "crossbeam-channel (threads)",
        "crossbeam-queue ArrayQueue (threads)",
        "rtrb (threads)",
        IPC_CHANNEL,
    ]);
    lines.extend(crate::variants::without_code(&[
        (
            "iceoryx2",
            "it is built with libclang, which not every machine has",
        ),
        (
            "boost::interprocess::message_queue",
            crate::variants::FOREIGN,
        ),
    ]));
    lines
}
