//! The list that glibc keeps.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::{offset_of, size_of};
use core::ptr::{self, NonNull};

use super::{LIMIT, TooManyLocks, Unsupported, WORD_OFFSET};
use crate::fork;
use crate::participant::ProcessId;
use crate::sync::{AtomicU32, AtomicUsize, Ordering, compiler_fence};

/// Marks a priority-inheriting pthread mutex in an address of the list.
const PI: usize = 1;

/// `struct robust_list_head` of the kernel.
#[repr(C)]
struct Head {
    list: AtomicUsize,
    futex_offset: isize,
    pending: AtomicUsize,
}

/// A lock's links in the list of the thread that holds it. The kernel's node is the field `next`.
///
/// Valid only in the owner's address space; all zero in a lock that nobody ever held.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Node {
    prev: AtomicUsize,
    next: AtomicUsize,
}

const _: () = assert!(size_of::<Node>() == 16 && offset_of!(Node, next) == 8);

impl Node {
    /// Links that have never been in a list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            prev: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        }
    }

    /// The address that the list knows this node by.
    #[inline]
    fn address(&self) -> usize {
        // Exposed: neighbours reach this node through the integer.
        ptr::from_ref(&self.next).expose_provenance()
    }
}

/// What a thread remembers about itself, filled under a fork stamp.
#[derive(Debug)]
struct Local {
    /// The stamp of the process in which the rest holds; 0 = nowhere.
    stamp: Cell<u64>,
    head: Cell<*const Head>,
    process: Cell<u64>,
    tid: Cell<u32>,
    held: Cell<u32>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            stamp: Cell::new(0),
            head: Cell::new(ptr::null()),
            process: Cell::new(0),
            tid: Cell::new(0),
            held: Cell::new(0),
        }
    };
}

/// The calling thread, ready to lock. Neither `Send` nor `Sync`: a list belongs to its thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    local: NonNull<Local>,
    not_send: PhantomData<*const Local>,
}

/// The calling thread; asks the kernel once per thread, and again in a forked child.
///
/// # Errors
///
/// [`Unsupported`] where the C library's list is absent or has another layout than glibc's.
#[inline]
pub fn thread() -> Result<Thread, Unsupported> {
    match current() {
        Some(thread) => Ok(thread),
        None => first_use(),
    }
}

/// The calling thread, if it has called [`thread`] since its process was forked: one that has not
/// holds no lock, whatever guards it inherited.
#[inline]
#[must_use]
pub fn current() -> Option<Thread> {
    LOCAL.with(|local| {
        (local.stamp.get() == fork::stamp()).then_some(Thread {
            local: NonNull::from(local),
            not_send: PhantomData,
        })
    })
}

#[cold]
#[inline(never)]
fn first_use() -> Result<Thread, Unsupported> {
    let mut head: *const Head = ptr::null();
    let mut length = 0_usize;
    // SAFETY: both are live locals that the call alone writes; 0 is the calling thread.
    let result =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    if result != 0 || head.is_null() || length != size_of::<Head>() {
        return Err(Unsupported);
    }
    // SAFETY:
    // - in bounds, aligned, mapped: the kernel has this address and length from the C library, whose
    //   thread descriptor it is part of;
    // - no other writer: set once, before the thread's first instruction of ours;
    // - any bytes are a value: an integer.
    let offset = unsafe { (*head).futex_offset };
    if offset != WORD_OFFSET {
        return Err(Unsupported);
    }
    // SAFETY: gives a number.
    let tid = unsafe { libc::gettid() };
    LOCAL.with(|local| {
        local.head.set(head);
        local.tid.set(tid.unsigned_abs());
        local.process.set(ProcessId::current().to_bits());
        // The C library gives a forked child an empty list.
        local.held.set(0);
        local.stamp.set(fork::stamp());
        Ok(Thread {
            local: NonNull::from(local),
            not_send: PhantomData,
        })
    })
}

impl Thread {
    #[inline]
    fn local(&self) -> &Local {
        // SAFETY:
        // - in bounds, aligned, mapped: a thread-local without destructor lives as long as its
        //   thread, and `Thread` never leaves it (not `Send`);
        // - no other writer: cells of this thread alone, lent only shared;
        // - any bytes are a value: initialised when the thread began.
        unsafe { self.local.as_ref() }
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY:
        // - in bounds, aligned, mapped: checked by `first_use`, part of the thread's descriptor;
        // - other writers: the C library in this same thread, never during an operation of ours; the
        //   two links are atomics here;
        // - any bytes are a value: integers.
        unsafe { &*self.local().head.get() }
    }

    /// This thread's id, as the kernel compares it with a lock's word.
    #[inline]
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.local().tid.get()
    }

    /// This thread's process, as [`ProcessId::to_bits`] gives it.
    #[inline]
    #[must_use]
    pub fn process(&self) -> u64 {
        self.local().process.get()
    }

    /// Names `node` as the lock being worked on: from here to [`Thread::end`] the kernel looks at its
    /// word too, in the list or not. `word` must be the lock's word, [`WORD_OFFSET`] from the node.
    ///
    /// # Errors
    ///
    /// [`TooManyLocks`] if the thread holds [`LIMIT`] already; then nothing is pending.
    #[inline]
    pub fn begin(&self, node: &Node, word: &AtomicU32) -> Result<(), TooManyLocks> {
        if self.local().held.get() >= LIMIT {
            return Err(TooManyLocks);
        }
        self.begin_unlock(node, word);
        Ok(())
    }

    /// As [`Thread::begin`], for a lock that the thread holds: the limit does not matter.
    #[inline]
    pub fn begin_unlock(&self, node: &Node, word: &AtomicU32) {
        debug_assert_eq!(
            ptr::from_ref(word).addr(),
            ptr::from_ref(&node.next)
                .addr()
                .wrapping_add_signed(WORD_OFFSET),
        );
        self.head().pending.store(node.address(), Ordering::Relaxed);
        // Before whatever changes the word (INV-R1).
        compiler_fence(Ordering::SeqCst);
    }

    /// Links `node`, whose word this thread has just taken, at the front of the list.
    ///
    /// # Safety
    ///
    /// - The thread's id stands in the lock's word, and the node is not in the list yet.
    /// - The lock stays mapped, where it is, until [`Thread::remove`] or the thread's end.
    #[inline]
    pub unsafe fn push(&self, node: &Node) {
        let head = self.head();
        let head_address = ptr::from_ref(head).expose_provenance();
        let first = head.list.load(Ordering::Relaxed);
        node.next.store(first, Ordering::Relaxed);
        node.prev.store(head_address, Ordering::Relaxed);
        // The node's `next` stands before the node is linked (INV-R2).
        compiler_fence(Ordering::SeqCst);
        if first != head_address {
            // SAFETY: the first node of this thread's list is a lock that it holds, ours or the C
            // library's, still mapped by the contract of either.
            unsafe { link(first - size_of::<usize>(), node.address()) };
        }
        head.list.store(node.address(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let held = &self.local().held;
        held.set(held.get() + 1);
    }

    /// Unlinks `node`, whose word still holds this thread's id.
    ///
    /// # Safety
    ///
    /// The node was linked by [`Thread::push`] in this thread, and has not been removed since.
    #[inline]
    pub unsafe fn remove(&self, node: &Node) {
        let head_address = ptr::from_ref(self.head()).addr();
        let next = node.next.load(Ordering::Relaxed);
        let prev = node.prev.load(Ordering::Relaxed);
        if next & !PI != head_address {
            // SAFETY: a neighbour in this thread's list is a lock that it holds, still mapped.
            unsafe { link((next & !PI) - size_of::<usize>(), prev) };
        }
        // The one store that takes the node out (INV-R2). The previous `next` may be the head's `list`.
        // SAFETY: as above; the head lives as long as the thread.
        unsafe { link(prev & !PI, next) };
        // Before the word is given away (INV-R1: it is still pending).
        compiler_fence(Ordering::SeqCst);
        let held = &self.local().held;
        held.set(held.get().wrapping_sub(1));
    }

    /// Ends the operation: nothing is pending.
    #[inline]
    pub fn end(&self) {
        // After the word has changed and the node is linked or gone.
        compiler_fence(Ordering::SeqCst);
        self.head().pending.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }
}

/// Stores `value` in the link at `address`.
///
/// # Safety
///
/// `address` is a `prev`, `next` or `list` field of the calling thread's own list.
#[inline]
unsafe fn link(address: usize, value: usize) {
    let field = ptr::with_exposed_provenance::<AtomicUsize>(address);
    // SAFETY:
    // - in bounds, aligned, mapped: a link field of this thread's list, by the contract;
    // - no other writer: a thread's list is written by that thread alone (INV-R3);
    // - any bytes are a value: an integer.
    let field = unsafe { &*field };
    // Relaxed: read by this thread, and by the kernel after its last instruction.
    field.store(value, Ordering::Relaxed);
}
