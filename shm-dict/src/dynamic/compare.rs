//! Equality, order and hash, which agree.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::Dynamic;
use super::walk::{Step, walk};

/// Compares what are no containers.
pub(super) fn leaves(first: &Dynamic, second: &Dynamic) -> Ordering {
    use Dynamic::{Bool, Bytes, Float, Int, Str};
    match (first, second) {
        (Bool(first), Bool(second)) => first.cmp(second),
        (Int(first), Int(second)) => first.cmp(second),
        (Float(first), Float(second)) => floats(*first, *second),
        (Int(first), Float(second)) => first.cmp_float(*second).then(Ordering::Less),
        (Float(first), Int(second)) => second.cmp_float(*first).then(Ordering::Less).reverse(),
        (Str(first), Str(second)) => first.cmp(second),
        (Bytes(first), Bytes(second)) => first.cmp(second),
        _ => first.kind().cmp(&second.kind()),
    }
}

/// -0.0 is 0.0; NaN is NaN and the greatest.
fn floats(first: f64, second: f64) -> Ordering {
    first
        .partial_cmp(&second)
        .unwrap_or_else(|| first.is_nan().cmp(&second.is_nan()))
}

/// The same bits for equal floats.
fn bits(float: f64) -> u64 {
    if float.is_nan() {
        return f64::NAN.to_bits();
    }
    // Adding zero makes 0.0 of -0.0.
    (float + 0.0).to_bits()
}

impl Ord for Dynamic {
    fn cmp(&self, other: &Self) -> Ordering {
        if !self.is_container() && !other.is_container() {
            return leaves(self, other);
        }
        // Two walks are of one length as long as their steps are equal.
        let steps = walk(self).zip(walk(other));
        steps
            .map(|(first, second)| first.order(&second))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Dynamic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Dynamic {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Dynamic {}

impl Hash for Dynamic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for step in walk(self) {
            let (Step::Leaf(value) | Step::Enter(value)) = step else {
                state.write_u8(u8::MAX);
                continue;
            };
            state.write_u8(value.kind() as u8);
            match value {
                Self::Bool(value) => value.hash(state),
                Self::Int(value) => value.hash(state),
                Self::Float(value) => bits(*value).hash(state),
                Self::Str(value) => value.hash(state),
                Self::Bytes(value) => value.hash(state),
                Self::None | Self::Tuple(_) | Self::List(_) | Self::Dict(_) => {}
            }
        }
    }
}
