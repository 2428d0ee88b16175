//! A dictionary or list in ordinary memory, and a file system that refuses more at some moment.

use std::cell::Cell;

use shm_core::sync::{AtomicU32, AtomicU64};
use shm_dict::raw::{Control, Kind, Limits, Memory, NoMemory, RawDict, Shard, Writer};
use shm_lock::Patience;

/// Refuses once, after so many requests.
#[derive(Debug)]
pub(crate) struct Refusing {
    left: Cell<usize>,
}

impl Refusing {
    pub(crate) fn after(requests: usize) -> Self {
        Self {
            left: Cell::new(requests),
        }
    }

    fn ask(&self) -> Result<(), NoMemory> {
        let left = self.left.get();
        self.left.set(left.wrapping_sub(1));
        match left {
            0 => Err(NoMemory { needed: 1, free: 0 }),
            _ => Ok(()),
        }
    }
}

impl Memory for Refusing {
    fn back_owners(&self, _: u32, _: u32) -> Result<(), NoMemory> {
        self.ask()
    }

    fn back_chunks(&self, _: u32, _: u32) -> Result<(), NoMemory> {
        self.ask()
    }
}

fn leaked<T>(len: usize, each: fn() -> T) -> &'static [T] {
    Box::leak((0..len).map(|_| each()).collect())
}

/// One of one shard and eight chunks.
pub(crate) fn raw(root: Kind, max_value: usize) -> RawDict {
    const CHUNKS: u32 = 8;
    RawDict {
        control: &leaked(1, Control::default)[0],
        shards: leaked(1, Shard::default),
        owners: leaked(CHUNKS as usize, || AtomicU32::new(0)),
        heap: leaked((CHUNKS as usize) << 9, || AtomicU64::new(0)),
        limits: Limits {
            chunk_shift: 12,
            chunks: CHUNKS,
            max_key: 300,
            max_value: max_value as u32,
            seed: [3, 4],
            root,
        },
        run_hint: AtomicU32::new(0),
    }
}

pub(crate) fn writer<'a>(dict: &'a RawDict, memory: &'a Refusing) -> Writer<'a> {
    // SAFETY: the dictionary's memory is there for ever.
    unsafe { dict.enter(0, Patience::Endless, memory) }
        .unwrap()
        .0
}
