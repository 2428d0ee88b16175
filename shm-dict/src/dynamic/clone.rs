//! Copies.

use super::walk::{Step, walk};
use super::{Dynamic, Kind};

impl Clone for Dynamic {
    fn clone(&self) -> Self {
        // The containers that are being made, inside each other.
        let mut open: Vec<(Kind, Vec<Self>)> = Vec::new();
        for step in walk(self) {
            let made = match step {
                Step::Leaf(value) => leaf(value),
                Step::Enter(value) => {
                    open.push((value.kind(), Vec::new()));
                    continue;
                }
                Step::Leave => {
                    let Some((kind, items)) = open.pop() else {
                        break;
                    };
                    container(kind, items)
                }
            };
            match open.last_mut() {
                Some((_, items)) => items.push(made),
                None => return made,
            }
        }
        unreachable!("a walk leaves what it enters")
    }
}

fn leaf(value: &Dynamic) -> Dynamic {
    match value {
        Dynamic::Bool(value) => Dynamic::Bool(*value),
        Dynamic::Int(value) => Dynamic::Int(value.clone()),
        Dynamic::Float(value) => Dynamic::Float(*value),
        Dynamic::Str(value) => Dynamic::Str(value.clone()),
        Dynamic::Bytes(value) => Dynamic::Bytes(value.clone()),
        Dynamic::None | Dynamic::Tuple(_) | Dynamic::List(_) | Dynamic::Dict(_) => Dynamic::None,
    }
}

/// The container of what came in a walk between its beginning and its end.
fn container(kind: Kind, items: Vec<Dynamic>) -> Dynamic {
    match kind {
        Kind::Tuple => Dynamic::Tuple(items.into()),
        Kind::Dict => {
            let mut items = items.into_iter();
            let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?)));
            Dynamic::Dict(pairs.collect())
        }
        _ => Dynamic::List(items.into()),
    }
}
