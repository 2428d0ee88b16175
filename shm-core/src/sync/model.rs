//! Loom's atomics, cells and threads; before every atomic operation a model thread may die.

use super::death;

pub use loom::hint::spin_loop;
pub use loom::sync::atomic::{Ordering, fence};
pub use loom::thread;
pub use loom::thread::yield_now;

/// Explores every schedule of `model` with at most two preemptions, or as many as
/// `LOOM_MAX_PREEMPTIONS` says.
pub fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Nothing: orders a thread only with the kernel that buries it, and the model's kernel sees program order.
#[inline]
pub fn compiler_fence(_: Ordering) {}

/// Nothing: a model has no caches.
#[inline]
pub fn prefetch_to_write<T>(_: *const T) {}

/// Loom's cell with the closures alone, as on the machine. Not an atomic, hence no point of death.
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// Gives `f` the pointer for reading; loom reports a concurrent writer.
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.0.with(f)
    }

    /// Gives `f` the pointer for writing; loom reports any concurrent access.
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

macro_rules! model_atomics {
    ($($name:ident: $int:ty),+ $(,)?) => {$(
        /// Loom's atomic of this width; each operation is a point where the thread may die.
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name);

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl $name {
            /// A new atomic; not `const`, since it belongs to one execution of the model.
            pub fn new(value: $int) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $int {
                death::step();
                self.0.load(order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn store(&self, value: $int, order: Ordering) {
                death::step();
                self.0.store(value, order);
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn swap(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.swap(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                death::step();
                self.0.compare_exchange(current, new, success, failure)
            }

            /// As the method of `core` with this name; does not fail spuriously.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                self.compare_exchange(current, new, success, failure)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.fetch_add(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.fetch_sub(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_and(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.fetch_and(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.fetch_or(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_xor(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.fetch_xor(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_max(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.fetch_max(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_min(&self, value: $int, order: Ordering) -> $int {
                death::step();
                self.0.fetch_min(value, order)
            }

            /// As the method of `core` with this name.
            #[track_caller]
            pub fn fetch_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                let mut old = self.load(fetch_order);
                while let Some(new) = f(old) {
                    match self.compare_exchange_weak(old, new, set_order, fetch_order) {
                        Ok(old) => return Ok(old),
                        Err(seen) => old = seen,
                    }
                }
                Err(old)
            }
        }
    )+};
}

model_atomics!(
    AtomicI8: i8,
    AtomicI16: i16,
    AtomicI32: i32,
    AtomicI64: i64,
    AtomicU8: u8,
    AtomicU16: u16,
    AtomicU32: u32,
    AtomicU64: u64,
    AtomicUsize: usize,
);

impl AtomicU32 {
    /// The atomic without the point of death: for the modelled kernel, which nobody kills.
    pub(crate) fn kernel(&self) -> &loom::sync::atomic::AtomicU32 {
        &self.0
    }
}
