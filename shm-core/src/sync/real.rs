//! The machine's atomics, cells and threads.

pub use core::hint::spin_loop;
pub use core::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    AtomicUsize, Ordering, compiler_fence, fence,
};
pub use std::thread;
pub use std::thread::yield_now;

/// Asks for the cache line at `place`, to be written soon: other processors give it up meanwhile. A hint,
/// which changes no byte, and does nothing where nothing is mapped.
#[inline(always)]
pub fn prefetch_to_write<T>(place: *const T) {
    // An instruction of its own, which the intrinsic of the baseline's processors does not give. Those
    // that lack it take it for a NOP; the first Intel 64 ones, until 2006, did not.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: changes caches alone, at any address.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

/// `core::cell::UnsafeCell` in loom's shape: access through a closure that is given the pointer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T: ?Sized>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    #[inline]
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    /// Gives `f` the pointer for reading.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Gives `f` the pointer for writing.
    #[inline]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
