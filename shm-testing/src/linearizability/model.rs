//! What a structure promises, written as a sequential program: the yardstick of the checker.

use std::fmt::Debug;
use std::hash::Hash;

/// A sequential specification: from a state, an operation may return these results and leave these states.
///
/// An operation that cannot happen in a state (a blocking `get` on an empty queue) has no outcome there.
/// One that may answer in several ways has several.
pub trait Model {
    /// All that the future depends on.
    type State: Clone + Eq + Hash + Debug;
    /// An operation with its arguments. Two equal operations have equal outcomes in equal states.
    type Op: PartialEq + Debug;
    /// What an operation returns.
    type Ret: PartialEq + Debug;

    /// The state before the first operation.
    fn init(&self) -> Self::State;

    /// Every result that `op` may return in `state`, each with the state that it leaves.
    fn step(
        &self,
        state: &Self::State,
        op: &Self::Op,
    ) -> impl IntoIterator<Item = (Self::Ret, Self::State)>;

    /// The states that `op` may leave when its process is killed in it, and it did take effect;
    /// that it took none is always allowed besides.
    ///
    /// As given, those that a return would have left; a model says more where death itself leaves a mark.
    fn crash(&self, state: &Self::State, op: &Self::Op) -> impl IntoIterator<Item = Self::State> {
        self.step(state, op).into_iter().map(|(_, next)| next)
    }
}

/// A model whose state is a product of independent parts, each operation touching one of them.
///
/// Linearizability is compositional: a history is linearizable if and only if the history of each part is.
/// So each can be checked alone, at a fraction of the cost.
pub trait Partitioned: Model {
    /// The name of a part.
    type Key: Ord + Debug;

    /// The one part that `op` reads and writes.
    fn key(&self, op: &Self::Op) -> Self::Key;
}
