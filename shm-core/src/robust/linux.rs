//! The list that glibc keeps.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::{offset_of, size_of};
use core::ptr::{self, NonNull};

use super::{LIMIT, TooManyLocks, Unsupported, WORD_OFFSET};
use crate::fork;
use crate::mutants::mutant;
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
    /// The stamp of the process in which the rest holds; [`NEVER`] = in none.
    stamp: Cell<u64>,
    head: Cell<*const Head>,
    process: Cell<u64>,
    tid: Cell<u32>,
    /// How many locks of ours are in the list besides one, or more (where the C library's went meanwhile),
    /// while the list is not empty; meaningless while it is. Made exact before anybody is refused for it. The lock
    /// that is taken alone and released alone, almost every one, never touches it.
    besides: Cell<u32>,
}

/// No process has this stamp.
const NEVER: u64 = u64::MAX;

thread_local! {
    static LOCAL: Local = const {
        Local {
            stamp: Cell::new(NEVER),
            head: Cell::new(ptr::null()),
            process: Cell::new(0),
            tid: Cell::new(0),
            besides: Cell::new(0),
        }
    };
}

/// The calling thread, ready to lock. Neither `Send` nor `Sync`: a list belongs to its thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    local: NonNull<Local>,
    head: *const Head,
    tid: u32,
    not_send: PhantomData<*const Local>,
}

/// The calling thread; asks the kernel once per thread, and again in a forked child.
///
/// # Errors
///
/// [`Unsupported`] where the C library's list is absent or has another layout than glibc's.
#[inline]
pub fn thread() -> Result<Thread, Unsupported> {
    LOCAL.with(|local| {
        if local.stamp.get() != fork::peek() {
            first_use(local)?;
        }
        Ok(Thread::of(local))
    })
}

/// The calling thread, if it has called [`thread`] since its process was forked: one that has not
/// holds no lock, whatever guards it inherited.
#[inline]
#[must_use]
pub fn current() -> Option<Thread> {
    LOCAL.with(|local| {
        (local.stamp.get() == fork::peek() || is_used(local)).then(|| Thread::of(local))
    })
}

/// For a process that has no wipe-on-fork page to peek at.
#[cold]
#[inline(never)]
fn is_used(local: &Local) -> bool {
    local.stamp.get() == fork::stamp()
}

#[cold]
#[inline(never)]
fn first_use(local: &Local) -> Result<(), Unsupported> {
    if is_used(local) {
        return Ok(());
    }
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
    local.head.set(head);
    local.tid.set(tid.unsigned_abs());
    local.process.set(ProcessId::current().to_bits());
    // The C library gives a forked child an empty list.
    local.besides.set(0);
    local.stamp.set(fork::stamp());
    Ok(())
}

impl Thread {
    #[inline]
    fn of(local: &Local) -> Self {
        Self {
            local: NonNull::from(local),
            head: local.head.get(),
            tid: local.tid.get(),
            not_send: PhantomData,
        }
    }

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
        unsafe { &*self.head }
    }

    /// This thread's id, as the kernel compares it with a lock's word.
    #[inline]
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.tid
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
        debug_assert_eq!(
            ptr::from_ref(word).addr(),
            ptr::from_ref(&node.next)
                .addr()
                .wrapping_add_signed(WORD_OFFSET),
        );
        if self.local().besides.get() >= LIMIT - 1 && self.is_full() {
            return Err(TooManyLocks);
        }
        if !mutant("RobustList::NothingPending") {
            self.head().pending.store(node.address(), Ordering::Relaxed);
        }
        // Before whatever changes the word (INV-R1).
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }

    /// Whether the list has as many nodes as it may have, the C library's among them: counts them anew.
    #[cold]
    #[inline(never)]
    fn is_full(&self) -> bool {
        if mutant("RobustList::CountsForEver") {
            return true;
        }
        let head = self.head();
        let head_address = ptr::from_ref(head).addr();
        let (mut at, mut nodes) = (head.list.load(Ordering::Relaxed) & !PI, 0);
        while at != head_address && nodes < LIMIT {
            // SAFETY: a node of this thread's list is a lock that it holds, still mapped.
            at = unsafe { field(at) }.load(Ordering::Relaxed) & !PI;
            nodes += 1;
        }
        self.local().besides.set(nodes.saturating_sub(1));
        nodes == LIMIT
    }

    /// As [`Thread::begin`], for a lock that the thread holds: the limit does not matter.
    #[inline]
    pub fn begin_unlock(&self, node: &Node, _: &AtomicU32) {
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
        if !mutant("RobustList::LinksBeforeNext") {
            node.next.store(first, Ordering::Relaxed);
        }
        node.prev.store(head_address, Ordering::Relaxed);
        // The node's `next` stands before the node is linked (INV-R2).
        compiler_fence(Ordering::SeqCst);
        let besides = &self.local().besides;
        if first != head_address {
            // SAFETY: the first node of this thread's list is a lock that it holds, ours or the C
            // library's, still mapped by the contract of either.
            unsafe { link((first & !PI) - size_of::<usize>(), node.address()) };
            besides.set(besides.get() + 1);
        } else if besides.get() != 0 {
            besides.set(0);
        }
        head.list.store(node.address(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        if mutant("RobustList::LinksBeforeNext") {
            node.next.store(first, Ordering::Relaxed);
        }
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
        if next != head_address || prev != head_address {
            // SAFETY: by the contract, and others remain in the list.
            return unsafe { self.remove_from_others(next, prev) };
        }
        // The one store that takes the node out (INV-R2).
        self.head().list.store(head_address, Ordering::Relaxed);
        // Before the word is given away (INV-R1: it is still pending).
        compiler_fence(Ordering::SeqCst);
    }

    /// Unlinks a node that stands between `next` and `prev`, of which at most one is the head.
    ///
    /// # Safety
    ///
    /// Both are links that the node had in this thread's list.
    #[inline]
    unsafe fn remove_from_others(&self, next: usize, prev: usize) {
        if next & !PI != ptr::from_ref(self.head()).addr() {
            // SAFETY: a neighbour in this thread's list is a lock that it holds, still mapped.
            unsafe { link((next & !PI) - size_of::<usize>(), prev) };
        }
        // The one store that takes the node out (INV-R2). The previous `next` may be the head's `list`.
        // SAFETY: as above; the head lives as long as the thread.
        unsafe { link(prev & !PI, next) };
        compiler_fence(Ordering::SeqCst);
        let besides = &self.local().besides;
        besides.set(besides.get().saturating_sub(1));
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
/// As [`field`].
#[inline]
unsafe fn link(address: usize, value: usize) {
    // Relaxed: read by this thread, and by the kernel after its last instruction.
    // SAFETY: by the contract.
    unsafe { field(address) }.store(value, Ordering::Relaxed);
}

/// The link at `address`.
///
/// # Safety
///
/// `address` is a `prev`, `next` or `list` field of the calling thread's own list.
#[inline]
unsafe fn field<'a>(address: usize) -> &'a AtomicUsize {
    let field = ptr::with_exposed_provenance::<AtomicUsize>(address);
    // SAFETY:
    // - in bounds, aligned, mapped: a link field of this thread's list, by the contract;
    // - no other writer: a thread's list is written by that thread alone (INV-R3);
    // - any bytes are a value: an integer.
    unsafe { &*field }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::robust::{OWNER_DIED, TID_MASK};
    use std::cell::UnsafeCell;
    use std::thread;

    /// The least that the list needs: a word 32 bytes before the node.
    #[derive(Default)]
    #[repr(C)]
    struct Lock {
        word: AtomicU32,
        padding: [u32; 5],
        node: Node,
    }

    impl Lock {
        fn lock(&self) {
            let thread = thread().expect("glibc's list");
            thread.begin(&self.node, &self.word).expect("few locks");
            let taken =
                self.word
                    .compare_exchange(0, thread.tid(), Ordering::Acquire, Ordering::Relaxed);
            assert_eq!(taken, Ok(0));
            // SAFETY: the word was taken just now, and the lock outlives the thread.
            unsafe { thread.push(&self.node) };
            thread.end();
        }

        fn unlock(&self) {
            let thread = thread().expect("glibc's list");
            thread.begin_unlock(&self.node, &self.word);
            // SAFETY: locked by this thread.
            unsafe { thread.remove(&self.node) };
            self.word.store(0, Ordering::Release);
            thread.end();
        }

        /// Waits for the kernel, which buries a thread a little after it was joined.
        fn is_orphaned(&self) -> bool {
            while self.word.load(Ordering::Acquire) & TID_MASK != 0 {
                thread::yield_now();
            }
            self.word.load(Ordering::Acquire) & OWNER_DIED != 0
        }
    }

    /// A robust mutex of the C library.
    struct Pthread(Box<UnsafeCell<libc::pthread_mutex_t>>);

    // SAFETY: a pthread mutex is made for use by several threads.
    unsafe impl Sync for Pthread {}

    impl Pthread {
        fn new() -> Self {
            let mutex = Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
            let mut attributes = core::mem::MaybeUninit::uninit();
            // SAFETY: a live local to be initialised.
            let result = unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
            assert_eq!(result, 0);
            // SAFETY: initialised above.
            let result = unsafe {
                libc::pthread_mutexattr_setrobust(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_MUTEX_ROBUST,
                )
            };
            assert_eq!(result, 0);
            // SAFETY: the mutex is not in use yet; the attributes are initialised.
            let result = unsafe { libc::pthread_mutex_init(mutex.get(), attributes.as_ptr()) };
            assert_eq!(result, 0);
            Self(mutex)
        }

        fn lock(&self) -> i32 {
            // SAFETY: initialised by `new`, at an address that stays.
            unsafe { libc::pthread_mutex_lock(self.0.get()) }
        }

        fn unlock(&self) {
            // SAFETY: as in `lock`.
            assert_eq!(unsafe { libc::pthread_mutex_unlock(self.0.get()) }, 0);
        }

        fn is_orphaned(&self) -> bool {
            match self.lock() {
                0 => {
                    self.unlock();
                    false
                }
                libc::EOWNERDEAD => {
                    // SAFETY: as in `lock`.
                    unsafe { libc::pthread_mutex_consistent(self.0.get()) };
                    self.unlock();
                    true
                }
                error => panic!("pthread_mutex_lock: {error}"),
            }
        }
    }

    /// Xorshift: the same orders in each run.
    fn next(seed: &mut u64) -> usize {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 33) as usize
    }

    #[test]
    fn own_locks_and_pthread_mutexes_share_the_list_in_any_order() {
        const EACH: usize = 8;
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..200 {
            let own: Vec<Lock> = (0..EACH).map(|_| Lock::default()).collect();
            let pthreads: Vec<Pthread> = (0..EACH).map(|_| Pthread::new()).collect();
            let mut held = [false; 2 * EACH];
            let steps: Vec<usize> = (0..60).map(|_| next(&mut seed) % (2 * EACH)).collect();
            for &step in &steps {
                held[step] = !held[step];
            }
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut holds = [false; 2 * EACH];
                    for &step in &steps {
                        match (step < EACH, holds[step]) {
                            (true, false) => own[step].lock(),
                            (true, true) => own[step].unlock(),
                            (false, false) => assert_eq!(pthreads[step - EACH].lock(), 0),
                            (false, true) => pthreads[step - EACH].unlock(),
                        }
                        holds[step] = !holds[step];
                    }
                });
            });
            for (index, &held) in held.iter().enumerate() {
                let orphaned = if index < EACH {
                    own[index].is_orphaned()
                } else {
                    pthreads[index - EACH].is_orphaned()
                };
                assert_eq!(orphaned, held, "lock {index} after {steps:?}");
            }
        }
    }

    #[test]
    fn a_pending_lock_is_released_without_being_in_the_list() {
        let taken = Lock::default();
        let released = Lock::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                released.lock();
                let thread = thread().expect("glibc's list");
                thread.begin_unlock(&released.node, &released.word);
                // SAFETY: locked above.
                unsafe { thread.remove(&released.node) };
                // Ends here: neither listed nor free.
            });
            scope.spawn(|| {
                let thread = thread().expect("glibc's list");
                thread.begin(&taken.node, &taken.word).expect("few locks");
                taken.word.store(thread.tid(), Ordering::Relaxed);
                // Ends here: taken and not yet listed.
            });
        });
        assert!(taken.is_orphaned());
        assert!(released.is_orphaned());
    }

    #[test]
    fn the_limit_counts_what_is_held_now() {
        let locks: Vec<Lock> = (0..=LIMIT).map(|_| Lock::default()).collect();
        let (last, held) = locks.split_last().expect("there are some");
        held.iter().for_each(Lock::lock);
        let thread = thread().expect("glibc's list");
        assert_eq!(thread.begin(&last.node, &last.word), Err(TooManyLocks));
        held[0].unlock();
        last.lock();
        held[1..].iter().for_each(Lock::unlock);
        last.unlock();
    }

    #[test]
    fn a_pthread_mutex_that_goes_first_is_not_counted_for_ever() {
        let (own, pthread) = (Lock::default(), Pthread::new());
        for _ in 0..2 * LIMIT {
            assert_eq!(pthread.lock(), 0);
            own.lock();
            pthread.unlock();
            own.unlock();
        }
    }
}
