//! What happened, as the processes themselves saw it: intervals on one clock, each with an operation and its result.

use thiserror::Error;

/// One operation of one process: invoked at a time, and either returned with a result or pending.
///
/// Times are nanoseconds of `CLOCK_MONOTONIC`, or any other unit that is the same throughout the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// The sequential process (or thread) that performed it.
    pub process: u32,
    /// When it was invoked: before its first step.
    pub invoked: u64,
    /// What was asked.
    pub op: O,
    /// What was answered, if its process lived to say so.
    pub end: Option<Return<R>>,
}

/// The end of an operation that returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return<R> {
    /// When it returned: after its last step.
    pub at: u64,
    /// What it answered.
    pub ret: R,
}

impl<O, R> Operation<O, R> {
    /// An operation that was invoked at `invoked` and returned `ret` at `at`.
    pub fn returned(process: u32, invoked: u64, op: O, at: u64, ret: R) -> Self {
        Self {
            process,
            invoked,
            op,
            end: Some(Return { at, ret }),
        }
    }

    /// An operation that was invoked at `invoked` and whose process was killed in it:
    /// it may have taken effect at any time since then, or never.
    pub fn pending(process: u32, invoked: u64, op: O) -> Self {
        Self {
            process,
            invoked,
            op,
            end: None,
        }
    }
}

/// The operations of all processes, each process in its own order.
///
/// - INV-H1: sorted by process, and within a process in program order.
/// - INV-H2: no operation returns before it is invoked.
/// - INV-H3: within a process an operation is invoked no earlier than the one before it returned
///   (or, if that one is pending, was invoked).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<O, R> {
    operations: Vec<Operation<O, R>>,
}

/// Why a list of operations is not a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// An operation returned before it was invoked.
    #[error("process {process}: its operation number {number} returned before it was invoked")]
    ReturnsBeforeInvoked {
        /// The process.
        process: u32,
        /// Position among the operations of that process, from 0.
        number: usize,
    },
    /// A process began an operation before the one before it had returned.
    #[error(
        "process {process}: its operation number {number} began before the one before it had returned"
    )]
    NotSequential {
        /// The process.
        process: u32,
        /// Position among the operations of that process, from 0.
        number: usize,
    },
}

impl<O, R> History<O, R> {
    /// Takes the operations in any order, as long as those of one process that begin at the same time are in program order.
    ///
    /// # Errors
    /// [`Malformed`] if an operation returns before it is invoked, or two operations of one process overlap.
    pub fn new(mut operations: Vec<Operation<O, R>>) -> Result<Self, Malformed> {
        operations.sort_by_key(|operation| (operation.process, operation.invoked));
        let history = Self { operations };
        history.validate()?;
        Ok(history)
    }

    fn validate(&self) -> Result<(), Malformed> {
        for (index, operation) in self.operations.iter().enumerate() {
            let (process, number) = self.name(index);
            if operation
                .end
                .as_ref()
                .is_some_and(|end| end.at < operation.invoked)
            {
                return Err(Malformed::ReturnsBeforeInvoked { process, number });
            }
            // INV-H3 for a pending predecessor follows from the sort.
            if let Some(before) = self.previous(index)
                && let Some(end) = &self.operations[before].end
                && end.at > operation.invoked
            {
                return Err(Malformed::NotSequential { process, number });
            }
        }
        Ok(())
    }

    /// All operations, by process and in program order; the checker names them by their index here.
    pub fn operations(&self) -> &[Operation<O, R>] {
        &self.operations
    }

    /// The operations that never returned.
    pub fn pending(&self) -> impl Iterator<Item = &Operation<O, R>> {
        self.operations
            .iter()
            .filter(|operation| operation.end.is_none())
    }

    /// The operation of the same process just before this one.
    pub(super) fn previous(&self, index: usize) -> Option<usize> {
        let before = index.checked_sub(1)?;
        (self.operations[before].process == self.operations[index].process).then_some(before)
    }

    /// The process, and the position among its operations.
    pub(super) fn name(&self, index: usize) -> (u32, usize) {
        let process = self.operations[index].process;
        let first = self
            .operations
            .partition_point(|operation| operation.process < process);
        (process, index - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_out_by_process_and_in_program_order() {
        let history = History::new(vec![
            Operation::returned(1, 5, 'c', 6, ()),
            Operation::returned(0, 3, 'b', 3, ()),
            Operation::pending(1, 7, 'd'),
            Operation::returned(0, 0, 'a', 3, ()),
        ])
        .unwrap();
        let ops: String = history
            .operations()
            .iter()
            .map(|operation| operation.op)
            .collect();
        assert_eq!(ops, "abcd");
        assert_eq!(history.name(3), (1, 1));
        assert_eq!(history.previous(2), None);
        assert_eq!(history.previous(3), Some(2));
        assert_eq!(history.pending().count(), 1);
    }

    #[test]
    fn a_return_before_the_invocation_is_malformed() {
        let refused = History::new(vec![Operation::returned(0, 2, (), 1, ())]);
        assert_eq!(
            refused,
            Err(Malformed::ReturnsBeforeInvoked {
                process: 0,
                number: 0
            })
        );
    }

    #[test]
    fn overlapping_operations_of_one_process_are_malformed() {
        let refused = History::new(vec![
            Operation::returned(4, 0, (), 10, ()),
            Operation::returned(4, 9, (), 12, ()),
        ]);
        assert_eq!(
            refused,
            Err(Malformed::NotSequential {
                process: 4,
                number: 1
            })
        );
    }
}
