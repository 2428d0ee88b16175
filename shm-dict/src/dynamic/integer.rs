//! Integers of any size.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::{BigInt, Sign};

use super::convert::ConvertError;

/// An integer of any size. One that fits into an `i64` is kept as such, so that there is one form of each number.
///
/// It comes from and becomes ([`TryFrom`]) all integers of Rust, and [`BigInt`] for who computes with it.
///
/// # Examples
/// ```
/// use shm_dict::{BigInt, Integer};
///
/// let large = Integer::from(u64::MAX);
/// assert_eq!(large.as_i64(), None);
/// assert_eq!(u64::try_from(&large)?, u64::MAX);
///
/// let small = Integer::from(large.to_bigint() - BigInt::from(u64::MAX) + 7);
/// assert_eq!(small.as_i64(), Some(7));
/// # Ok::<(), shm_dict::ConvertError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Integer(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Small(i64),
    /// Never one that fits into an `i64`.
    Big(Box<BigInt>),
}

impl Integer {
    /// The integer, if it fits.
    #[inline]
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Form::Small(value) => Some(value),
            Form::Big(_) => None,
        }
    }

    /// The integer, to compute with.
    #[must_use]
    pub fn to_bigint(&self) -> BigInt {
        match &self.0 {
            Form::Small(value) => BigInt::from(*value),
            Form::Big(value) => BigInt::clone(value),
        }
    }

    /// The integer as it is kept.
    pub(super) fn form(&self) -> Result<i64, &BigInt> {
        match &self.0 {
            Form::Small(value) => Ok(*value),
            Form::Big(value) => Err(value),
        }
    }

    /// Compares exact values; NaN is greater than all numbers.
    pub(super) fn cmp_float(&self, float: f64) -> Ordering {
        /// 2^63: the first that is no `i64`.
        const END: f64 = 9_223_372_036_854_775_808.0;
        if float.is_nan() || float == f64::INFINITY {
            return Ordering::Less;
        }
        if float == f64::NEG_INFINITY {
            return Ordering::Greater;
        }
        let floor = float.floor();
        let to_floor = match &self.0 {
            Form::Small(_) if floor >= END => Ordering::Less,
            Form::Small(_) if floor < -END => Ordering::Greater,
            Form::Small(value) => value.cmp(&(floor as i64)),
            Form::Big(value) if floor.abs() < END => value.sign().cmp(&Sign::NoSign),
            Form::Big(value) => BigInt::cmp(value, &of_large(floor)),
        };
        // An integer that is not above the floor is below what is above it.
        to_floor.then(if floor < float {
            Ordering::Less
        } else {
            Ordering::Equal
        })
    }
}

/// The integer that a finite float is whose magnitude is 2^63 at least.
fn of_large(float: f64) -> BigInt {
    let bits = float.to_bits();
    let exponent = (bits >> 52 & 0x7FF) as i32 - 1075;
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let magnitude = BigInt::from(mantissa) << exponent.max(0);
    if float < 0.0 { -magnitude } else { magnitude }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Form::Small(first), Form::Small(second)) => first.cmp(second),
            (Form::Big(first), Form::Big(second)) => first.cmp(second),
            (Form::Big(first), Form::Small(_)) => first.sign().cmp(&Sign::NoSign),
            (Form::Small(_), Form::Big(second)) => Sign::NoSign.cmp(&second.sign()),
        }
    }
}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Small(value) => fmt::Display::fmt(value, f),
            Form::Big(value) => fmt::Display::fmt(value, f),
        }
    }
}

impl fmt::Debug for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<BigInt> for Integer {
    fn from(value: BigInt) -> Self {
        match i64::try_from(&value) {
            Ok(small) => Self(Form::Small(small)),
            Err(_) => Self(Form::Big(Box::new(value))),
        }
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl From<$type> for Integer {
            #[inline]
            fn from(value: $type) -> Self {
                match i64::try_from(value) {
                    Ok(small) => Self(Form::Small(small)),
                    Err(_) => Self(Form::Big(Box::new(BigInt::from(value)))),
                }
            }
        }

        impl TryFrom<&Integer> for $type {
            type Error = ConvertError;

            #[inline]
            fn try_from(value: &Integer) -> Result<Self, ConvertError> {
                let converted = match &value.0 {
                    Form::Small(small) => <$type>::try_from(*small).ok(),
                    Form::Big(big) => <$type>::try_from(&**big).ok(),
                };
                converted.ok_or(ConvertError::OutOfRange { target: stringify!($type) })
            }
        }
    )*};
}
integers!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);
