//! Values instead of bytes, one to one.

use super::absent;
use super::channel::Stream;
use super::shm::{Orders, Tasks, Typed};
use crate::section::Section;
use crate::workload::Workload;

pub(super) fn section() -> Section {
    #[allow(unused_mut, reason = "only with rivals")]
    let mut rows = vec![
        Workload::new::<Stream<Typed<u64>, 1, false>>("shm Queue<u64, Raw>", 2),
        Workload::new::<Stream<Tasks, 1, false>>(
            "shm JoinableQueue<u64, Raw>, get and task_done",
            2,
        ),
        Workload::new::<Stream<Orders, 1, false>>("shm Queue<struct, Postcard>", 2),
    ];
    #[cfg(feature = "rivals")]
    {
        use super::in_process::Crossbeam;
        use super::shm::Order;
        rows.extend([
            Workload::new::<Stream<Crossbeam<u64>, 1, false>>("crossbeam-channel of u64", 2)
                .in_threads(),
            Workload::new::<Stream<Crossbeam<Order>, 1, false>>("crossbeam-channel of struct", 2)
                .in_threads(),
        ]);
    }
    Section {
        key: "typed",
        title: "One to one, values",
        reference: "crossbeam-channel of u64",
        rows,
        targets: Vec::new(),
        notes: absent(),
        after: None,
    }
}
