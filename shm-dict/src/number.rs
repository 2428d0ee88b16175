//! What [`fetch_add`](crate::Dict::fetch_add) adds.

mod sealed {
    pub trait Sealed {}
}

/// The primitive integers and floats, and no other type: they are added under the lock. Integers wrap around, as the
/// atomic ones do.
///
/// ```compile_fail,E0277
/// #[derive(Clone, Copy, Default)]
/// struct Mine(u32);
///
/// impl shm_dict::Number for Mine {
///     fn plus(self, other: Self) -> Self {
///         Self(self.0 + other.0)
///     }
/// }
/// ```
pub trait Number: Copy + Default + sealed::Sealed {
    /// The sum.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}

        impl Number for $type {
            #[inline]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
        }
    )*};
}
integers!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

macro_rules! floats {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}

        impl Number for $type {
            #[inline]
            fn plus(self, other: Self) -> Self {
                self + other
            }
        }
    )*};
}
floats!(f32, f64);
