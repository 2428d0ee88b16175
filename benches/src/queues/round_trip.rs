//! A message there and another one back, on two cores.

use super::absent;
use super::channel::Lanes;
use super::kernel::{Kernel, MessageQueue, Pipe, SocketPair};
use super::shm::{Adaptive, Bytes, Sleep, Spin};
use crate::bell::PingPong;
use crate::section::{Bound, Section, Target};
use crate::workload::Workload;

const PIPE: &str = "pipe";
const ASLEEP: &str = "shm ByteQueue, Sleep";
const SPINNING: &str = "shm ByteQueue, Spin";
const CROSSBEAM_SPINS: &str = "crossbeam-channel try_recv in a loop (threads)";

type Trip<C> = PingPong<Lanes<C>>;

pub(super) fn sections() -> Vec<Section> {
    let target = |row, reference, most| Target {
        row,
        reference,
        bound: Bound::MedianAtMost(most),
    };
    let asleep = vec![
        Workload::new::<Trip<Kernel<Pipe, 64>>>(PIPE, 2),
        Workload::new::<Trip<Bytes<64, Sleep>>>(ASLEEP, 2),
        Workload::new::<Trip<Bytes<64, Adaptive>>>("shm ByteQueue, Adaptive", 2),
        Workload::new::<Trip<Kernel<SocketPair, 64>>>("SOCK_SEQPACKET socketpair", 2),
        Workload::new::<Trip<Kernel<MessageQueue, 64>>>("POSIX message queue", 2),
        #[cfg(feature = "rivals")]
        Workload::new::<Trip<super::in_process::Crossbeam<[u8; 64]>>>(
            "crossbeam-channel (threads)",
            2,
        )
        .in_threads(),
        #[cfg(feature = "rivals")]
        Workload::new::<Trip<super::ipc_channel::IpcChannel<64>>>(super::IPC_CHANNEL, 2),
    ];
    let spinning = vec![
        #[cfg(feature = "rivals")]
        Workload::new::<Trip<super::in_process::Crossbeam<[u8; 64], true>>>(CROSSBEAM_SPINS, 2)
            .in_threads(),
        #[cfg(feature = "rivals")]
        Workload::new::<Trip<super::in_process::Crossbeam<[u8; 64]>>>(
            "crossbeam-channel recv (threads)",
            2,
        )
        .in_threads(),
        Workload::new::<Trip<Bytes<64, Spin>>>(SPINNING, 2),
    ];
    vec![
        Section {
            key: "trip_asleep",
            title: "There and back, 64 B each way, sleeping",
            reference: PIPE,
            rows: asleep,
            targets: vec![target(ASLEEP, PIPE, 1.4)],
            notes: absent(),
            after: None,
        },
        Section {
            key: "trip_spinning",
            title: "There and back, 64 B each way, spinning",
            reference: CROSSBEAM_SPINS,
            rows: spinning,
            targets: vec![
                target(SPINNING, CROSSBEAM_SPINS, 1.2),
                target(SPINNING, "crossbeam-channel recv (threads)", 1.2),
            ],
            notes: absent(),
            after: None,
        },
    ]
}
