//! Values written as in Python.

/// A [`Dynamic`](crate::Dynamic), written nearly as in Python: `None`, `[..]`, `(..)`, `{key: value, ..}`, and
/// expressions of all that becomes a value.
///
/// An item that begins with a bracket is a container, or what is in the parentheses. An expression that begins so and goes
/// on, `(1 + x) * 2`, needs a name first. An integer literal is an `i32`, as elsewhere, if nothing says more.
///
/// # Examples
/// ```
/// use shm_dict::dynamic;
///
/// let two = 2;
/// let value = dynamic!({0.25: None, 1: "1", "2": [1, two, (two + 1,)], (1, 2): {}});
/// assert_eq!(value.to_string(), "{0.25: None, 1: '1', '2': [1, 2, (3,)], (1, 2): {}}");
/// assert_eq!(dynamic!((1, 2.5)).to_string(), "(1, 2.5)");
/// ```
#[macro_export]
macro_rules! dynamic {
    // Items: those that are made, what is still to come.
    (@items [$($made:expr,)*]) => { ::std::vec![$($made),*] };
    (@items [$($made:expr,)*] None $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@items [$($made,)* $crate::Dynamic::None,] $($($rest)*)?)
    };
    (@items [$($made:expr,)*] [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@items [$($made,)* $crate::dynamic!([$($inner)*]),] $($($rest)*)?)
    };
    (@items [$($made:expr,)*] ($($inner:tt)*) $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@items [$($made,)* $crate::dynamic!(($($inner)*)),] $($($rest)*)?)
    };
    (@items [$($made:expr,)*] {$($inner:tt)*} $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@items [$($made,)* $crate::dynamic!({$($inner)*}),] $($($rest)*)?)
    };
    (@items [$($made:expr,)*] $next:expr $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@items [$($made,)* $crate::dynamic!($next),] $($($rest)*)?)
    };

    // Pairs: those that are made, the tokens of the key so far, what is still to come.
    (@pairs [$($made:expr,)*] []) => { [$($made),*] };
    (@pairs [$($made:expr,)*] [$($key:tt)+] : None $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@pairs [$($made,)* ($crate::dynamic!($($key)+), $crate::Dynamic::None),] [] $($($rest)*)?)
    };
    (@pairs [$($made:expr,)*] [$($key:tt)+] : [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@pairs [$($made,)* ($crate::dynamic!($($key)+), $crate::dynamic!([$($inner)*])),] [] $($($rest)*)?)
    };
    (@pairs [$($made:expr,)*] [$($key:tt)+] : ($($inner:tt)*) $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@pairs [$($made,)* ($crate::dynamic!($($key)+), $crate::dynamic!(($($inner)*))),] [] $($($rest)*)?)
    };
    (@pairs [$($made:expr,)*] [$($key:tt)+] : {$($inner:tt)*} $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@pairs [$($made,)* ($crate::dynamic!($($key)+), $crate::dynamic!({$($inner)*})),] [] $($($rest)*)?)
    };
    (@pairs [$($made:expr,)*] [$($key:tt)+] : $value:expr $(, $($rest:tt)*)?) => {
        $crate::dynamic!(@pairs [$($made,)* ($crate::dynamic!($($key)+), $crate::dynamic!($value)),] [] $($($rest)*)?)
    };
    (@pairs [$($made:expr,)*] [$($key:tt)*] $next:tt $($rest:tt)*) => {
        $crate::dynamic!(@pairs [$($made,)*] [$($key)* $next] $($rest)*)
    };

    (None) => { $crate::Dynamic::None };
    ([$($items:tt)*]) => {
        $crate::Dynamic::List($crate::dynamic!(@items [] $($items)*).into())
    };
    (()) => { $crate::Dynamic::Tuple(::std::default::Default::default()) };
    // In parentheses alone, without a comma.
    (($inner:expr)) => { $crate::dynamic!($inner) };
    (($($items:tt)+)) => {
        $crate::Dynamic::Tuple($crate::dynamic!(@items [] $($items)*).into())
    };
    ({}) => { $crate::Dynamic::Dict(::std::default::Default::default()) };
    ({$($pairs:tt)+}) => {
        $crate::Dynamic::Dict($crate::dynamic!(@pairs [] [] $($pairs)*).into_iter().collect())
    };
    ($value:expr) => { $crate::Dynamic::from($value) };
}
