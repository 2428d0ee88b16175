//! Messages in one direction, as fast as they go: one to one and two to two.

#[cfg(feature = "rivals")]
use super::IPC_CHANNEL;
use super::channel::Stream;
use super::kernel::{Kernel, MessageQueue, Pipe, SocketPair};
use super::shm::Bytes;
use super::{absent, python};
use crate::section::{Bound, Section, Target};
use crate::workload::Workload;

const CROSSBEAM: &str = "crossbeam-channel (threads)";
const SINGLE: &str = "shm ByteQueue";
const MANY: &str = "shm ByteQueue, 16 at a time";

pub(super) fn sections() -> Vec<Section> {
    let target = |row, reference, least| Target {
        row,
        reference,
        bound: Bound::SpeedAtLeast(least),
    };
    vec![
        section::<64, 1>(
            "one_64",
            "One to one, 64 B",
            small::<64, 1>(),
            vec![target(SINGLE, CROSSBEAM, 1.0), target(MANY, SINGLE, 2.0)],
        ),
        section::<1024, 1>(
            "one_1k",
            "One to one, 1 KiB",
            small::<1024, 1>(),
            vec![target(SINGLE, CROSSBEAM, 1.0)],
        ),
        section::<65536, 1>(
            "one_64k",
            "One to one, 64 KiB",
            large::<65536, 1>(),
            Vec::new(),
        ),
        section::<64, 2>(
            "two_64",
            "Two to two, 64 B",
            small::<64, 2>(),
            vec![target(SINGLE, CROSSBEAM, 0.7), target(MANY, CROSSBEAM, 1.0)],
        ),
        section::<1024, 2>(
            "two_1k",
            "Two to two, 1 KiB",
            small::<1024, 2>(),
            vec![target(SINGLE, CROSSBEAM, 1.0)],
        ),
    ]
}

fn section<const SIZE: usize, const SIDE: usize>(
    key: &'static str,
    title: &'static str,
    rows: Vec<Workload>,
    mut targets: Vec<Target>,
) -> Section {
    targets.push(Target {
        row: SINGLE,
        reference: SINGLE,
        bound: Bound::SlowestAtLeast(0.3),
    });
    let mut notes = vec!["Ours take up to 256 messages (64 of 64 KiB), as do the channels for threads; a pipe 64 KiB, a message queue 10 messages.".to_owned()];
    notes.extend(absent());
    if SIDE > 1 {
        notes.push(
            "absent: rtrb, ipc-channel; they are for one consumer, and stand in one to one".into(),
        );
    }
    Section {
        key,
        title,
        reference: CROSSBEAM,
        rows,
        targets,
        notes,
        after: Some(|plan, _| Ok(python::lines(SIZE, SIDE, plan))),
    }
}

fn ours<const SIZE: usize, const SIDE: usize>() -> Vec<Workload> {
    vec![
        Workload::new::<Stream<Bytes<SIZE>, SIDE, false>>(SINGLE, 2 * SIDE),
        Workload::new::<Stream<Bytes<SIZE>, SIDE, true>>(MANY, 2 * SIDE),
        Workload::new::<Stream<Kernel<Pipe, SIZE>, SIDE, false>>("pipe", 2 * SIDE),
        Workload::new::<Stream<Kernel<SocketPair, SIZE>, SIDE, false>>(
            "SOCK_SEQPACKET socketpair",
            2 * SIDE,
        ),
    ]
}

fn small<const SIZE: usize, const SIDE: usize>() -> Vec<Workload> {
    let mut rows = ours::<SIZE, SIDE>();
    rows.push(Workload::new::<
        Stream<Kernel<MessageQueue, SIZE>, SIDE, false>,
    >("POSIX message queue", 2 * SIDE));
    #[cfg(feature = "rivals")]
    {
        use super::in_process::{Array, Crossbeam, Rtrb};
        rows.extend([
            Workload::new::<Stream<Crossbeam<[u8; SIZE]>, SIDE, false>>(CROSSBEAM, 2 * SIDE)
                .in_threads(),
            Workload::new::<Stream<Array<[u8; SIZE]>, SIDE, false>>(
                "crossbeam-queue ArrayQueue (threads)",
                2 * SIDE,
            )
            .in_threads(),
        ]);
        if SIDE == 1 {
            rows.push(
                Workload::new::<Stream<Rtrb<[u8; SIZE]>, SIDE, false>>("rtrb (threads)", 2)
                    .in_threads(),
            );
            rows.push(ipc_channel::<SIZE>());
        }
    }
    rows
}

/// Messages that nobody passes by value.
fn large<const SIZE: usize, const SIDE: usize>() -> Vec<Workload> {
    #[allow(unused_mut, reason = "only with rivals")]
    let mut rows = ours::<SIZE, SIDE>();
    #[cfg(feature = "rivals")]
    {
        rows.push(
            Workload::new::<Stream<super::in_process::Crossbeam<Box<[u8; SIZE]>>, SIDE, false>>(
                CROSSBEAM,
                2 * SIDE,
            )
            .in_threads(),
        );
        if SIDE == 1 {
            rows.push(ipc_channel::<SIZE>());
        }
    }
    rows
}

#[cfg(feature = "rivals")]
fn ipc_channel<const SIZE: usize>() -> Workload {
    Workload::new::<Stream<super::ipc_channel::IpcChannel<SIZE>, 1, false>>(IPC_CHANNEL, 2)
}
