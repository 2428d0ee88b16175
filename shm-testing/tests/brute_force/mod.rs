//! Every order of every choice of pending operations, tried by the definition alone; shares no code with the checker.

use shm_testing::linearizability::{History, Model, Operation};

/// True if some order of the returned operations and some of the pending ones is in accord with real time and the model.
///
/// For at most 8 operations or so.
pub(crate) fn has_order<M: Model>(model: &M, history: &History<M::Op, M::Ret>) -> bool {
    let all: Vec<_> = history.operations().iter().collect();
    (0..1_u32 << all.len()).any(|choice| {
        let is_chosen = |index: usize| choice & (1 << index) != 0;
        let leaves_out_a_return =
            (0..all.len()).any(|index| all[index].end.is_some() && !is_chosen(index));
        let mut chosen: Vec<usize> = (0..all.len()).filter(|&index| is_chosen(index)).collect();
        !leaves_out_a_return
            && any_permutation(&mut chosen, 0, &mut |order| {
                is_in_real_time(&all, order) && explains(model, &all, order)
            })
    })
}

/// True if each operation of the order could be after all those that come before it there, and the model agrees.
pub(crate) fn is_order_of<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    order: &[usize],
) -> bool {
    let all: Vec<_> = history.operations().iter().collect();
    let missing = (0..all.len()).any(|index| all[index].end.is_some() && !order.contains(&index));
    let mut distinct = order.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    !missing
        && distinct.len() == order.len()
        && is_in_real_time(&all, order)
        && explains(model, &all, order)
}

fn any_permutation(
    items: &mut [usize],
    fixed: usize,
    holds: &mut impl FnMut(&[usize]) -> bool,
) -> bool {
    if fixed == items.len() {
        return holds(items);
    }
    (fixed..items.len()).any(|next| {
        items.swap(fixed, next);
        let found = any_permutation(items, fixed + 1, holds);
        items.swap(fixed, next);
        found
    })
}

/// No operation comes after one that it precedes.
fn is_in_real_time<O, R>(all: &[&Operation<O, R>], order: &[usize]) -> bool {
    order.iter().enumerate().all(|(place, &later)| {
        order[..place]
            .iter()
            .all(|&earlier| !precedes(all, later, earlier))
    })
}

fn precedes<O, R>(all: &[&Operation<O, R>], a: usize, b: usize) -> bool {
    let Some(end) = &all[a].end else { return false };
    let same_process = all[a].process == all[b].process;
    end.at < all[b].invoked || (same_process && a < b)
}

/// Runs all states that the order may lead to.
fn explains<M: Model>(model: &M, all: &[&Operation<M::Op, M::Ret>], order: &[usize]) -> bool {
    let mut states = vec![model.init()];
    for &index in order {
        let operation = all[index];
        let mut next = Vec::new();
        for state in &states {
            match &operation.end {
                Some(end) => {
                    for (ret, after) in model.step(state, &operation.op) {
                        if ret == end.ret {
                            next.push(after);
                        }
                    }
                }
                None => next.extend(model.crash(state, &operation.op)),
            }
        }
        states = next;
    }
    !states.is_empty()
}
