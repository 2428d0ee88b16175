//! A failure told to people: the longest good prefix, the operation that ends it, and a picture of the intervals.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Write};

use super::{History, Model};

/// How much of the good prefix the report shows.
const LAST_IN_ORDER: usize = 12;
/// How many rows the picture has at most.
const ROWS: usize = 32;

/// Why there is no order. Operations are indices into [`History::operations`].
///
/// [`Display`](fmt::Display) gives the report for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// An order of the longest linearizable prefix: of all that happened before a `culprit` returned.
    pub prefix: Vec<usize>,
    /// The operations (mostly one) whose return ended it: with their results, no order exists.
    pub culprits: Vec<usize>,
    /// All that had been invoked by then and are not in `prefix`; the culprits and what they overlap.
    pub unordered: Vec<usize>,
    /// False if the budget did not allow to find out whether a longer prefix is linearizable.
    pub exact: bool,
    report: String,
}

impl Failure {
    pub(super) fn of_key(mut self, key: &impl Debug) -> Self {
        self.report.insert_str(0, &format!("key {key:?}: "));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

/// `prefix` explains all that returned before `end`; with what returned at `end` there is no order.
pub(super) fn describe<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    part: &[usize],
    prefix: &[(usize, M::State)],
    end: u64,
    exact: bool,
    states: usize,
) -> Failure {
    let operations = history.operations();
    let in_order: BTreeSet<usize> = prefix.iter().map(|&(index, _)| index).collect();
    let returned_at = |index: usize| operations[index].end.as_ref().map(|end| end.at);
    let culprits: Vec<usize> = part
        .iter()
        .copied()
        .filter(|&index| returned_at(index) == Some(end))
        .collect();
    let unordered: Vec<usize> = part
        .iter()
        .copied()
        .filter(|index| operations[*index].invoked <= end && !in_order.contains(index))
        .collect();

    let last = prefix
        .last()
        .map_or_else(|| model.init(), |(_, state)| state.clone());
    let mut text = Text {
        history,
        out: String::new(),
    };
    text.line(format_args!(
        "not linearizable ({states} configurations tried)"
    ));
    text.prefix(prefix, exact);
    for &index in &culprits {
        text.culprit(model, &last, index);
    }
    let rows = prefix
        .iter()
        .rev()
        .take(LAST_IN_ORDER)
        .map(|&(index, _)| index)
        .chain(unordered.iter().copied());
    text.picture(rows.collect(), &in_order, &culprits);
    Failure {
        prefix: prefix.iter().map(|&(index, _)| index).collect(),
        culprits,
        unordered,
        exact,
        report: text.out,
    }
}

struct Text<'h, O, R> {
    history: &'h History<O, R>,
    out: String,
}

impl<O: Debug, R: Debug> Text<'_, O, R> {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.out, "{line}");
    }

    /// `P2 #5  Get -> Got(7)`
    fn operation(&self, index: usize) -> String {
        let operation = &self.history.operations()[index];
        let (process, number) = self.history.name(index);
        match &operation.end {
            Some(end) => format!("P{process} #{number}  {:?} -> {:?}", operation.op, end.ret),
            None => format!("P{process} #{number}  {:?} pending", operation.op),
        }
    }

    fn prefix(&mut self, prefix: &[(usize, impl Debug)], exact: bool) {
        if prefix.is_empty() {
            return self.line(format_args!("\nno operation can be put in order"));
        }
        let which = match exact {
            true => "the longest prefix that has an order",
            false => "a prefix that has an order (the budget ended before a longer one was found)",
        };
        self.line(format_args!(
            "\n{which}, and the state after each operation:"
        ));
        let skipped = prefix.len().saturating_sub(LAST_IN_ORDER);
        if skipped > 0 {
            self.line(format_args!("  ({skipped} more before these)"));
        }
        for (place, (index, state)) in prefix.iter().enumerate().skip(skipped) {
            let operation = self.operation(*index);
            self.line(format_args!("  {:>4}. {operation}    {state:?}", place + 1));
        }
    }

    fn culprit<M: Model<Op = O, Ret = R>>(&mut self, model: &M, state: &M::State, index: usize) {
        let operation = self.operation(index);
        self.line(format_args!(
            "\nbut no order also explains\n     *  {operation}"
        ));
        let answers: Vec<String> = model
            .step(state, &self.history.operations()[index].op)
            .into_iter()
            .map(|(answer, _)| format!("{answer:?}"))
            .collect();
        match answers[..] {
            [] => self.line(format_args!(
                "        (after the order above it could not happen)"
            )),
            _ => self.line(format_args!(
                "        (after the order above the answer would be {})",
                answers.join(" or ")
            )),
        }
    }

    /// One row for each operation, one column for each instant at which one of them begins or ends.
    fn picture(&mut self, mut rows: Vec<usize>, in_order: &BTreeSet<usize>, culprits: &[usize]) {
        let operations = self.history.operations();
        rows.sort_by_key(|&index| (operations[index].invoked, index));
        let cut = rows.len().saturating_sub(ROWS);
        let instants: BTreeSet<u64> = rows[cut..]
            .iter()
            .flat_map(|&index| {
                let operation = &operations[index];
                [
                    Some(operation.invoked),
                    operation.end.as_ref().map(|end| end.at),
                ]
            })
            .flatten()
            .collect();
        let column = |at: u64| instants.range(..at).count();
        self.line(format_args!(
            "\nin time (* not explained, ? not in the order, > pending):"
        ));
        if cut > 0 {
            self.line(format_args!("  ({cut} more before these)"));
        }
        for &index in &rows[cut..] {
            let operation = &operations[index];
            let mark = match (culprits.contains(&index), in_order.contains(&index)) {
                (true, _) => '*',
                (false, true) => ' ',
                (false, false) => '?',
            };
            let from = column(operation.invoked);
            let bar = match operation.end.as_ref().map(|end| column(end.at)) {
                Some(to) if to == from => "|".to_owned(),
                Some(to) => format!("|{}|", "-".repeat(to - from - 1)),
                None => format!("|{}>", "-".repeat(instants.len() - from)),
            };
            let bar = format!("{}{bar}", " ".repeat(from));
            let operation = self.operation(index);
            let width = instants.len() + 2;
            self.line(format_args!("  {mark} {bar:<width$}  {operation}"));
        }
    }
}
