//! The sections of the bench `queue`: streams of messages, and round trips.

use crate::section::Section;

mod channel;
#[cfg(feature = "rivals")]
mod in_process;
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

/// Who is not here: without `rivals`, and in any build.
fn absent() -> Vec<String> {
    let mut lines = crate::variants::absent(&[
        "crossbeam-channel (threads)",
        "crossbeam-queue ArrayQueue (threads)",
        "rtrb (threads)",
    ]);
    lines.push(
        "absent: iceoryx2, ipc-channel, boost message_queue; this bench has no code for them"
            .into(),
    );
    lines
}
