//! How the bytes of an input become a script, so that hardly any byte says nothing.
//!
//! What is derived takes four bytes for the variant of an enum, of which the highest decides, and a byte before each
//! element of a vector, of whose values half end the vector: most changes of a byte change nothing, or cut the rest off.

use arbitrary::{Arbitrary, Result, Unstructured};

/// As many as there are bytes for.
#[derive(Debug)]
pub(crate) struct Rest<T>(pub(crate) Vec<T>);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Rest<T> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut all = Vec::new();
        while !u.is_empty() {
            all.push(T::arbitrary(u)?);
        }
        Ok(Self(all))
    }
}

/// A byte that says how many, then they, as far as there are bytes.
#[derive(Debug, Clone)]
pub(crate) struct Few<T, const MOST: usize>(pub(crate) Vec<T>);

impl<'a, T: Arbitrary<'a>, const MOST: usize> Arbitrary<'a> for Few<T, MOST> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let count = usize::from(u8::arbitrary(u)?) % (MOST + 1);
        let mut all = Vec::new();
        while all.len() < count && !u.is_empty() {
            all.push(T::arbitrary(u)?);
        }
        Ok(Self(all))
    }
}

/// An enum of which one byte chooses the variant.
macro_rules! by_a_byte {
    (
        $(#[$meta:meta])*
        $visible:vis enum $name:ident {
            $(
                $(#[$doc:meta])*
                $variant:ident $(($($field:ty),*))? $({ $($named:ident: $kind:ty),* $(,)? })?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $visible enum $name {
            $($(#[$doc])* $variant $(($($field),*))? $({ $($named: $kind),* })?),*
        }

        impl<'a> arbitrary::Arbitrary<'a> for $name {
            fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
                type Maker<'a> = fn(&mut arbitrary::Unstructured<'a>) -> arbitrary::Result<$name>;
                let makers: &[Maker<'a>] = &[$(
                    |u| {
                        // A variant without fields takes nothing more.
                        let _ = &u;
                        Ok($name::$variant
                            $(($(u.arbitrary::<$field>()?),*))?
                            $({ $($named: u.arbitrary::<$kind>()?),* })?)
                    }
                ),*];
                let byte = usize::from(u.arbitrary::<u8>()?);
                makers[byte % makers.len()](u)
            }
        }
    };
}

pub(crate) use by_a_byte;
