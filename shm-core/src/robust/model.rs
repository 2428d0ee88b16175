//! The modelled list, and what the modelled kernel does with it at a thread's end.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use core::ptr;
use std::sync::atomic::AtomicU32 as Counter;

use super::{LIMIT, OWNER_DIED, TID_MASK, TooManyLocks, Unsupported, WAITERS};
use crate::futex;
use crate::participant::ProcessId;
use crate::sync::{AtomicU32, Ordering};

/// A lock's links; the model keeps the list in the thread.
#[derive(Debug, Default)]
pub struct Node {
    _private: (),
}

impl Node {
    /// Links that have never been in a list.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

/// A lock in a thread's list: the address of its node names it, its word is what the kernel works on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    node: *const Node,
    word: *const AtomicU32,
}

loom::lazy_static! {
    /// Thread ids are handed out in the order of first use, anew in each execution. Not a loom atomic:
    /// the kernel's numbering is no event that a schedule depends on.
    static ref NEXT_TID: Counter = Counter::new(1);
}

loom::thread_local! {
    static TID: Cell<u32> = Cell::new(0);
    static LIST: RefCell<Vec<Entry>> = RefCell::new(Vec::new());
    static PENDING: Cell<Option<Entry>> = Cell::new(None);
}

/// The calling model thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    tid: u32,
    not_send: PhantomData<*const ()>,
}

/// The calling thread.
///
/// # Errors
///
/// None in the model.
pub fn thread() -> Result<Thread, Unsupported> {
    Ok(this_thread())
}

fn this_thread() -> Thread {
    let tid = TID.with(|tid| {
        if tid.get() == 0 {
            tid.set(NEXT_TID.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
        tid.get()
    });
    Thread {
        tid,
        not_send: PhantomData,
    }
}

/// The calling thread: the model does not fork.
#[must_use]
pub fn current() -> Option<Thread> {
    Some(this_thread())
}

impl Thread {
    /// This thread's id.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// This thread's process: each model thread is one.
    #[must_use]
    pub fn process(&self) -> u64 {
        ProcessId::from_parts(self.tid, 1).to_bits()
    }

    /// Names the lock being worked on.
    ///
    /// # Errors
    ///
    /// [`TooManyLocks`] if the thread holds [`LIMIT`] already.
    pub fn begin(&self, node: &Node, word: &AtomicU32) -> Result<(), TooManyLocks> {
        if LIST.with(|list| list.borrow().len()) >= LIMIT as usize {
            return Err(TooManyLocks);
        }
        self.begin_unlock(node, word);
        Ok(())
    }

    /// As [`Thread::begin`], for a lock that the thread holds.
    pub fn begin_unlock(&self, node: &Node, word: &AtomicU32) {
        let entry = Entry {
            node: ptr::from_ref(node),
            word: ptr::from_ref(word),
        };
        PENDING.with(|pending| pending.set(Some(entry)));
    }

    /// Links the pending `node`.
    ///
    /// # Safety
    ///
    /// As on the machine; besides, the lock outlives the thread's `death::run`.
    pub unsafe fn push(&self, node: &Node) {
        let pending = PENDING
            .with(Cell::get)
            .filter(|entry| ptr::eq(entry.node, node))
            .expect("push belongs to an operation that has begun");
        LIST.with(|list| {
            let mut list = list.borrow_mut();
            assert!(!list.contains(&pending), "the node is in the list already");
            list.push(pending);
        });
    }

    /// Unlinks `node`.
    ///
    /// # Safety
    ///
    /// As on the machine.
    pub unsafe fn remove(&self, node: &Node) {
        LIST.with(|list| {
            let mut list = list.borrow_mut();
            let at = list
                .iter()
                .position(|entry| ptr::eq(entry.node, node))
                .expect("the node is in the list");
            list.remove(at);
        });
    }

    /// Ends the operation.
    pub fn end(&self) {
        PENDING.with(|pending| pending.set(None));
    }
}

/// What the kernel does when the calling thread has ended: the list, newest first, then what is pending.
pub fn bury() {
    let thread = this_thread();
    let list = LIST.with(RefCell::take);
    let pending = PENDING.with(Cell::take);
    for entry in list.iter().rev() {
        if pending != Some(*entry) {
            release(thread.tid, *entry, false);
        }
    }
    if let Some(entry) = pending {
        release(thread.tid, entry, true);
    }
}

std::thread_local! {
    static KERNEL: Cell<Kernel> = const { Cell::new(Kernel::New) };
}

/// Which kernel buries the model's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Wakes for a pending lock only if nobody holds it, and so loses a wake-up ("case B"): a third thread
    /// takes the lock, without WAITERS, between the release or the wake of the one that is killed
    /// and its burial. The next slice ends that.
    Old,
    /// Wakes for a pending lock also if it is held without WAITERS. Models use this one unless they say so.
    New,
}

impl Kernel {
    /// Lets this kernel bury the threads of the models that the calling test runs from now on.
    pub fn install(self) {
        KERNEL.set(self);
    }
}

/// `handle_futex_death`.
fn release(tid: u32, entry: Entry, pending: bool) {
    // SAFETY: the lock outlives the thread's `death::run`, by the contract of `push`; a pending one
    // is borrowed by the operation that was cut short.
    let word = unsafe { &*entry.word };
    // The kernel's compare-and-exchange is a full barrier.
    let mut seen = word.kernel().load(Ordering::Relaxed);
    loop {
        let owner = seen & TID_MASK;
        let case_b = KERNEL.get() == Kernel::New && owner != tid && seen & WAITERS == 0;
        if pending && (owner == 0 || case_b) {
            futex::wake_by_kernel(word, 1);
            return;
        }
        if owner != tid {
            return;
        }
        let left = OWNER_DIED | seen & WAITERS;
        match word
            .kernel()
            .compare_exchange(seen, left, Ordering::AcqRel, Ordering::Relaxed)
        {
            Ok(_) => break,
            Err(now) => seen = now,
        }
    }
    if seen & WAITERS != 0 {
        futex::wake_by_kernel(word, 1);
    }
}
