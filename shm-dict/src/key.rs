//! What can be a key: types whose equal values have equal bytes.

use crate::error::DictError;

/// What a key can be looked up by: the key itself, or what it borrows as (`str` for a `String`).
///
/// Equal values have equal bytes, and different values different ones.
pub trait KeyBytes {
    /// Calls `f` with the bytes.
    ///
    /// # Errors
    /// [`DictError::NotAKey`], and what `f` returns.
    fn with_key_bytes<R>(
        &self,
        f: impl FnOnce(&[u8]) -> Result<R, DictError>,
    ) -> Result<R, DictError>;
}

/// A type of keys: integers, floats but for NaN, `bool`, `char`, `String`, `Vec<u8>`, and arrays and tuples of them.
///
/// # Examples
/// ```
/// use shm_core::Place;
/// use shm_dict::Dict;
///
/// # let name = format!("doc-key-{}", std::process::id());
/// let place = Place::named(&name).unlink_on_drop(true);
/// let board = Dict::<(u8, u8), String>::create(place, Default::default())?;
/// board.set(&(4, 1), &"king".to_owned())?;
/// assert_eq!(board.get(&(4, 1))?.as_deref(), Some("king"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ShmKey: KeyBytes + Sized {
    /// The bytes that each key has, if all have as many.
    const SIZE: Option<usize>;

    /// The key of these bytes, which may be anything.
    ///
    /// # Errors
    /// [`DictError::NotAKey`].
    fn from_key_bytes(bytes: &[u8]) -> Result<Self, DictError>;
}

const NO_KEY: DictError = DictError::NotAKey("the stored bytes are none of this type");

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl KeyBytes for $type {
            #[inline]
            fn with_key_bytes<R>(
                &self,
                f: impl FnOnce(&[u8]) -> Result<R, DictError>,
            ) -> Result<R, DictError> {
                f(&self.to_le_bytes())
            }
        }

        impl ShmKey for $type {
            const SIZE: Option<usize> = Some(size_of::<$type>());

            #[inline]
            fn from_key_bytes(bytes: &[u8]) -> Result<Self, DictError> {
                Ok(Self::from_le_bytes(bytes.try_into().map_err(|_| NO_KEY)?))
            }
        }
    )*};
}
integers!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

macro_rules! floats {
    ($($type:ty),*) => {$(
        /// -0.0 and 0.0 are one key; NaN is none.
        impl KeyBytes for $type {
            #[inline]
            fn with_key_bytes<R>(
                &self,
                f: impl FnOnce(&[u8]) -> Result<R, DictError>,
            ) -> Result<R, DictError> {
                if self.is_nan() {
                    return Err(DictError::NotAKey("NaN equals nothing"));
                }
                // Adding zero makes 0.0 of -0.0.
                f(&(*self + 0.0).to_le_bytes())
            }
        }

        impl ShmKey for $type {
            const SIZE: Option<usize> = Some(size_of::<$type>());

            #[inline]
            fn from_key_bytes(bytes: &[u8]) -> Result<Self, DictError> {
                Ok(Self::from_le_bytes(bytes.try_into().map_err(|_| NO_KEY)?))
            }
        }
    )*};
}
floats!(f32, f64);

macro_rules! through {
    ($($type:ty as $other:ty: $to:expr, $from:expr;)*) => {$(
        impl KeyBytes for $type {
            #[inline]
            fn with_key_bytes<R>(
                &self,
                f: impl FnOnce(&[u8]) -> Result<R, DictError>,
            ) -> Result<R, DictError> {
                let to: fn(&$type) -> $other = $to;
                to(self).with_key_bytes(f)
            }
        }

        impl ShmKey for $type {
            const SIZE: Option<usize> = <$other as ShmKey>::SIZE;

            fn from_key_bytes(bytes: &[u8]) -> Result<Self, DictError> {
                let from: fn($other) -> Option<$type> = $from;
                from(<$other>::from_key_bytes(bytes)?).ok_or(NO_KEY)
            }
        }
    )*};
}
through! {
    bool as u8: |it| u8::from(*it), |byte| (byte < 2).then_some(byte == 1);
    char as u32: |it| u32::from(*it), char::from_u32;
}

macro_rules! strings {
    ($($owned:ty, $borrowed:ty: $bytes:ident;)*) => {$(
        impl KeyBytes for $borrowed {
            #[inline]
            fn with_key_bytes<R>(
                &self,
                f: impl FnOnce(&[u8]) -> Result<R, DictError>,
            ) -> Result<R, DictError> {
                f(self.$bytes())
            }
        }

        impl KeyBytes for $owned {
            #[inline]
            fn with_key_bytes<R>(
                &self,
                f: impl FnOnce(&[u8]) -> Result<R, DictError>,
            ) -> Result<R, DictError> {
                f(self.$bytes())
            }
        }
    )*};
}
strings! {
    String, str: as_bytes;
    Vec<u8>, [u8]: as_ref;
}

impl ShmKey for String {
    const SIZE: Option<usize> = None;

    fn from_key_bytes(bytes: &[u8]) -> Result<Self, DictError> {
        Self::from_utf8(bytes.to_vec()).map_err(|_| NO_KEY)
    }
}

impl ShmKey for Vec<u8> {
    const SIZE: Option<usize> = None;

    fn from_key_bytes(bytes: &[u8]) -> Result<Self, DictError> {
        Ok(bytes.to_vec())
    }
}

/// Appends a part of a key, with its length before it if that is not always the same.
fn append<K: ShmKey>(part: &K, out: &mut Vec<u8>) -> Result<(), DictError> {
    part.with_key_bytes(|bytes| {
        if K::SIZE.is_none() {
            let len = u32::try_from(bytes.len()).map_err(|_| DictError::KeyTooLong {
                len: bytes.len() as u64,
                most: crate::MAX_KEY.into(),
            })?;
            out.extend_from_slice(&len.to_le_bytes());
        }
        out.extend_from_slice(bytes);
        Ok(())
    })
}

/// Takes a part off the front of a key's bytes.
fn take<K: ShmKey>(bytes: &mut &[u8]) -> Result<K, DictError> {
    let len = match K::SIZE {
        Some(size) => size,
        None => {
            let (len, rest) = bytes.split_first_chunk::<4>().ok_or(NO_KEY)?;
            *bytes = rest;
            u32::from_le_bytes(*len) as usize
        }
    };
    let (part, rest) = bytes.split_at_checked(len).ok_or(NO_KEY)?;
    *bytes = rest;
    K::from_key_bytes(part)
}

/// The sum of the sizes, if all have one.
const fn sum(sizes: &[Option<usize>]) -> Option<usize> {
    let (mut sum, mut at) = (0, 0);
    while at < sizes.len() {
        match sizes[at] {
            Some(size) => sum += size,
            None => return None,
        }
        at += 1;
    }
    Some(sum)
}

impl<K: ShmKey, const N: usize> KeyBytes for [K; N] {
    fn with_key_bytes<R>(
        &self,
        f: impl FnOnce(&[u8]) -> Result<R, DictError>,
    ) -> Result<R, DictError> {
        let mut bytes = Vec::with_capacity(size_of::<Self>());
        self.iter().try_for_each(|part| append(part, &mut bytes))?;
        f(&bytes)
    }
}

impl<K: ShmKey, const N: usize> ShmKey for [K; N] {
    const SIZE: Option<usize> = sum(&[K::SIZE; N]);

    fn from_key_bytes(mut bytes: &[u8]) -> Result<Self, DictError> {
        let parts: Vec<K> = (0..N).map(|_| take(&mut bytes)).collect::<Result<_, _>>()?;
        match (bytes.is_empty(), parts.try_into()) {
            (true, Ok(parts)) => Ok(parts),
            _ => Err(NO_KEY),
        }
    }
}

macro_rules! tuples {
    ($(($($part:ident . $at:tt),*))*) => {$(
        impl<$($part: ShmKey),*> KeyBytes for ($($part,)*) {
            fn with_key_bytes<R>(
                &self,
                f: impl FnOnce(&[u8]) -> Result<R, DictError>,
            ) -> Result<R, DictError> {
                let mut bytes = Vec::with_capacity(size_of::<Self>());
                $(append(&self.$at, &mut bytes)?;)*
                f(&bytes)
            }
        }

        impl<$($part: ShmKey),*> ShmKey for ($($part,)*) {
            const SIZE: Option<usize> = sum(&[$($part::SIZE),*]);

            fn from_key_bytes(mut bytes: &[u8]) -> Result<Self, DictError> {
                let key = ($(take::<$part>(&mut bytes)?,)*);
                if bytes.is_empty() { Ok(key) } else { Err(NO_KEY) }
            }
        }
    )*};
}
tuples! {
    (A.0)
    (A.0, B.1)
    (A.0, B.1, C.2)
    (A.0, B.1, C.2, D.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(key: &(impl KeyBytes + ?Sized)) -> Vec<u8> {
        key.with_key_bytes(|bytes| Ok(bytes.to_vec())).unwrap()
    }

    fn round<K: ShmKey + PartialEq + std::fmt::Debug>(key: K) {
        let bytes = bytes_of(&key);
        if let Some(size) = K::SIZE {
            assert_eq!(bytes.len(), size, "{key:?}");
        }
        assert_eq!(K::from_key_bytes(&bytes), Ok(key));
        let mut longer = bytes.clone();
        longer.push(0xFF);
        let longer = K::from_key_bytes(&longer).map(|key| bytes_of(&key));
        assert!(longer != Ok(bytes), "two strings of bytes for one key");
    }

    #[test]
    fn keys_come_back_as_they_went() {
        round(-7_i8);
        round(u128::MAX);
        round(0.25);
        round(true);
        round('ß');
        round("key".to_owned());
        round(vec![0_u8, 1]);
        round([1_u16, 2, 3]);
        round((1_u8, "one".to_owned()));
        round(("a".to_owned(), "bc".to_owned(), 1_u64, [0_u8; 4]));
        round(("x".to_owned(),));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let first = ("ab".to_owned(), "c".to_owned());
        let second = ("a".to_owned(), "bc".to_owned());
        assert_ne!(bytes_of(&first), bytes_of(&second));
    }

    #[test]
    fn zero_is_one_key_and_nan_is_none() {
        assert_eq!(bytes_of(&-0.0), bytes_of(&0.0));
        let nan = f64::NAN.with_key_bytes(|_| Ok(()));
        assert!(matches!(nan, Err(DictError::NotAKey(_))));
    }

    #[test]
    fn what_borrows_has_the_same_bytes() {
        assert_eq!(bytes_of("key"), bytes_of(&"key".to_owned()));
        assert_eq!(bytes_of(&[1_u8, 2][..]), bytes_of(&vec![1_u8, 2]));
    }
}
