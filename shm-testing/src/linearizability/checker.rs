//! The search for an order: Wing and Gong's, with Lowe's memo of the configurations already seen.
//!
//! A history is linearizable if every operation that returned, and any of the pending ones, can be given one instant between
//! its invocation and its return such that the model, run in the order of those instants, gives the recorded results.
//!
//! The search builds the order from the front, depth first. The next operation can be any that no other one in waiting
//! precedes: A precedes B if A returned before B was invoked, or if both are of one process and A came first.
//! Equal times of two processes mean "at the same time", so a coarse clock can hide a fault but never invent one.
//! A configuration is the set of the operations in order so far, and the model's state; one that was seen before is not
//! searched again, which is what keeps the search from being factorial. There is no recursion: long histories are fine.
//!
//! Pending operations stand apart. The order need not hold them; one may enter it at any time after its invocation,
//! with any effect that [`Model::crash`] allows. They are tried last, and two short cuts keep many of them affordable:
//! one that would change nothing is left out, and of several equal ones the earliest is taken first.
//!
//! Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993), the search; Lowe, "Testing for
//! linearizability" (2017), the memo and the partition by key; Herlihy and Wing (1990), pending operations, and that
//! linearizability is compositional and closed under prefixes.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::report::{Failure, describe};
use super::{History, Model, Partitioned};

/// How many configurations a check may visit before it gives up; each is kept in memory until the check ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Configurations.
    pub states: usize,
}

impl Default for Budget {
    /// A million configurations.
    fn default() -> Self {
        Self { states: 1_000_000 }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable {
        /// Such an order, as indices into [`History::operations`]; pending operations that are not in it took no effect.
        /// From [`check_by_key`], one key after another.
        order: Vec<usize>,
    },
    /// There is none.
    NotLinearizable(Failure),
    /// The budget was used up first: nothing is known.
    Undecided {
        /// Configurations visited.
        states: usize,
    },
}

impl Verdict {
    /// True only if an order was found.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable { .. })
    }

    /// The order that was found.
    ///
    /// # Panics
    /// With the report if there is none, and also if nothing is known.
    #[track_caller]
    pub fn expect_linearizable(self) -> Vec<usize> {
        match self {
            Self::Linearizable { order } => order,
            Self::NotLinearizable(failure) => panic!("{failure}"),
            Self::Undecided { states } => {
                panic!(
                    "undecided: neither an order nor a proof that there is none in {states} configurations"
                )
            }
        }
    }
}

/// Is there an order of the operations, in accord with real time, in which the model gives the recorded results?
///
/// Takes time exponential in the number of operations that overlap, at worst; `budget` bounds it.
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Ret>, budget: Budget) -> Verdict {
    let all = (0..history.operations().len()).collect();
    check_part(model, history, all, budget).0
}

/// As [`check`], with the history of each key checked alone. The budget is for all of them together.
///
/// A key that fails decides, even if another one is undecided.
pub fn check_by_key<M: Partitioned>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    budget: Budget,
) -> Verdict {
    let mut parts = BTreeMap::<M::Key, Vec<usize>>::new();
    for (index, operation) in history.operations().iter().enumerate() {
        parts
            .entry(model.key(&operation.op))
            .or_default()
            .push(index);
    }
    let mut order = Vec::new();
    let mut visited = 0;
    let mut undecided = false;
    for (key, part) in parts {
        let left = Budget {
            states: budget.states.saturating_sub(visited),
        };
        let (verdict, states) = check_part(model, history, part, left);
        visited += states;
        match verdict {
            Verdict::Linearizable { order: of_key } => order.extend(of_key),
            Verdict::NotLinearizable(failure) => {
                return Verdict::NotLinearizable(failure.of_key(&key));
            }
            Verdict::Undecided { .. } => undecided = true,
        }
    }
    match undecided {
        true => Verdict::Undecided { states: visited },
        false => Verdict::Linearizable { order },
    }
}

/// The verdict on the operations `part`, and the configurations visited.
fn check_part<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    part: Vec<usize>,
    budget: Budget,
) -> (Verdict, usize) {
    let mut search = Search::new(model, history, &part, u64::MAX);
    let found = search.run(budget);
    let states = search.seen.len();
    let verdict = match found {
        Found::Order => Verdict::Linearizable {
            order: search.order().map(|(index, _)| index).collect(),
        },
        Found::Nothing { reached } => {
            drop(search);
            Verdict::NotLinearizable(explain(model, history, &part, reached, budget, states))
        }
        Found::BudgetEnd => Verdict::Undecided { states },
    };
    (verdict, states)
}

/// Finds the longest prefix (in time) that is linearizable, and describes where it ends.
///
/// Prefixes of a linearizable history are linearizable, so the last good one is found by bisection.
/// `reached` is a return such that everything before it is known to be good.
fn explain<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    part: &[usize],
    reached: u64,
    budget: Budget,
    states: usize,
) -> Failure {
    let operations = history.operations();
    let mut returns: Vec<u64> = part
        .iter()
        .filter_map(|&index| operations[index].end.as_ref().map(|end| end.at))
        .collect();
    returns.sort_unstable();
    returns.dedup();

    // All before `good` are linearizable; `bad` is not, or (then `exact` is false) is not known to be.
    let mut good = returns.partition_point(|&at| at < reached);
    let mut bad = returns.len() - 1;
    let mut exact = true;
    while good < bad {
        let middle = good.midpoint(bad);
        match Search::new(model, history, part, returns[middle]).run(budget) {
            Found::Order => good = middle + 1,
            Found::Nothing { .. } => bad = middle,
            Found::BudgetEnd => {
                bad = middle;
                exact = false;
            }
        }
    }

    let mut search = match good.checked_sub(1) {
        Some(last) => Search::new(model, history, part, returns[last]),
        None => Search::new(model, history, &[], 0),
    };
    search.run(budget);
    let prefix: Vec<(usize, M::State)> = search.order().collect();
    describe(model, history, part, &prefix, returns[good], exact, states)
}

/// How an operation ended, as far as this search looks.
enum End<'h, R> {
    Returned(&'h R),
    /// It goes on beyond the prefix that is searched: it can have any result, or none yet.
    Running,
    Killed,
}

struct Entry<'h, M: Model> {
    index: usize,
    op: &'h M::Op,
    end: End<'h, M::Ret>,
    invoked: u64,
    /// When it returned; for the optional ones the end of time.
    returned: u64,
    /// Position in `required` of the operation of the same process that has to come before.
    after: Option<usize>,
    /// Position in `optional` of an equal one that was invoked earlier; it goes first.
    ///
    /// That loses nothing: where this one is in an order and the earlier one is not before it, the two can change places,
    /// since all that precedes the earlier one precedes this one.
    twin: Option<usize>,
}

/// Positions, ascending; shared by all nodes where they are the same.
type Positions = Rc<[u32]>;

/// A set of operations put in order, and the state that the model is in after them: what the rest of the search depends on.
///
/// - INV-C1: all of `required` below `top` but the `holes` are in order, and none from `top` on.
///   All holes were under way at one instant, the invocation of the last one below `top`: so, but for operations that
///   took no time, there are never more of them than processes, however long the history is.
/// - INV-C2: of `optional`, those in `extras` are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration<S> {
    top: usize,
    holes: Positions,
    extras: Positions,
    state: S,
}

/// A node of the search: the order so far is the path to it.
struct Frame<S> {
    configuration: Configuration<S>,
    /// The operation that led here.
    taken: Option<Place>,
    /// The first return among those that are not in order: nothing invoked after it can come next.
    limit: u64,
    /// The next to try.
    cursor: Cursor,
    /// Where the untried outcomes of the last one tried begin in [`Search::outcomes`].
    outcomes: usize,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Required(usize),
    Optional(usize),
}

/// First the holes, then those from `top` on, then the optional ones.
#[derive(Debug, Clone, Copy)]
enum Cursor {
    Hole(usize),
    Required(usize),
    Optional(usize),
}

enum Found {
    /// See [`Search::order`].
    Order,
    /// All has been tried. Everything that returned before `reached` can be put in order.
    Nothing {
        reached: u64,
    },
    BudgetEnd,
}

/// INV-C3: `required` and `optional` are sorted by invocation.
struct Search<'h, M: Model> {
    model: &'h M,
    /// What returned: all have to be put in order.
    required: Vec<Entry<'h, M>>,
    /// What did not.
    optional: Vec<Entry<'h, M>>,
    frames: Vec<Frame<M::State>>,
    /// A stack: each frame's untried outcomes lie above those of the frames below it.
    outcomes: Vec<(Place, M::State)>,
    seen: HashSet<Configuration<M::State>>,
}

impl<'h, M: Model> Search<'h, M> {
    /// Looks at the operations `part`, as they stood at the time `until` (that instant included).
    fn new(model: &'h M, history: &'h History<M::Op, M::Ret>, part: &[usize], until: u64) -> Self {
        let mut required = Vec::new();
        let mut optional = Vec::new();
        for &index in part {
            let operation = &history.operations()[index];
            if operation.invoked > until {
                continue;
            }
            let (end, returned) = match &operation.end {
                Some(end) if end.at <= until => (End::Returned(&end.ret), end.at),
                Some(_) => (End::Running, u64::MAX),
                None => (End::Killed, u64::MAX),
            };
            let list = match end {
                End::Returned(_) => &mut required,
                End::Running | End::Killed => &mut optional,
            };
            list.push(Entry::<M> {
                index,
                op: &operation.op,
                end,
                invoked: operation.invoked,
                returned,
                after: None,
                twin: None,
            });
        }
        // The sort is stable: of one process, program order stays (INV-H1).
        required.sort_by_key(|entry| entry.invoked);
        optional.sort_by_key(|entry| entry.invoked);
        link_processes(history, &mut required, &mut optional);
        link_twins(&mut optional);
        Self {
            model,
            required,
            optional,
            frames: Vec::new(),
            outcomes: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn run(&mut self, budget: Budget) -> Found {
        let mut reached = 0;
        let none = Positions::from([]);
        self.enter(
            None,
            Configuration {
                top: 0,
                holes: none.clone(),
                extras: none,
                state: self.model.init(),
            },
        );
        while let Some(frame) = self.frames.last() {
            let now = &frame.configuration;
            if now.top - now.holes.len() == self.required.len() {
                return Found::Order;
            }
            if self.seen.len() > budget.states {
                return Found::BudgetEnd;
            }
            reached = reached.max(frame.limit);
            match self.next_choice() {
                Some((place, state)) => self.enter(Some(place), self.after(place, state)),
                None => {
                    self.frames.pop();
                }
            }
        }
        Found::Nothing { reached }
    }

    /// The configuration after the last frame's, with one more operation in order.
    fn after(&self, place: Place, state: M::State) -> Configuration<M::State> {
        let before = &self.frames[self.frames.len() - 1].configuration;
        let mut next = Configuration {
            state,
            top: before.top,
            holes: before.holes.clone(),
            extras: before.extras.clone(),
        };
        match place {
            Place::Required(position) if position < before.top => {
                let is_other = |hole: &u32| *hole as usize != position;
                next.holes = before.holes.iter().copied().filter(is_other).collect();
            }
            Place::Required(position) => {
                if position > before.top {
                    let skipped = before.top as u32..position as u32;
                    next.holes = before.holes.iter().copied().chain(skipped).collect();
                }
                next.top = position + 1;
            }
            Place::Optional(position) => {
                let mut extras = before.extras.to_vec();
                let place = extras.partition_point(|&extra| (extra as usize) < position);
                extras.insert(place, position as u32);
                next.extras = extras.into();
            }
        }
        next
    }

    /// Goes on from `configuration`, unless it was seen before.
    fn enter(&mut self, taken: Option<Place>, configuration: Configuration<M::State>) {
        if !self.seen.insert(configuration.clone()) {
            return;
        }
        self.frames.push(Frame {
            limit: self.limit(&configuration),
            configuration,
            taken,
            cursor: Cursor::Hole(0),
            outcomes: self.outcomes.len(),
        });
    }

    /// The first return among those that are not in order.
    fn limit(&self, configuration: &Configuration<M::State>) -> u64 {
        let holes = configuration.holes.iter();
        let of_holes = holes
            .map(|&hole| self.required[hole as usize].returned)
            .min();
        let mut limit = of_holes.unwrap_or(u64::MAX);
        for entry in &self.required[configuration.top..] {
            // Whoever is invoked after that return also returns after it (INV-C3).
            if entry.invoked > limit {
                break;
            }
            limit = limit.min(entry.returned);
        }
        limit
    }

    /// The next operation that can follow on the last frame, with a state that it leaves.
    fn next_choice(&mut self) -> Option<(Place, M::State)> {
        let frame = self.frames.last_mut()?;
        let now = &frame.configuration;
        while self.outcomes.len() == frame.outcomes {
            let (place, next) = match frame.cursor {
                Cursor::Hole(nth) => match now.holes.get(nth) {
                    Some(&hole) => (Some(Place::Required(hole as usize)), Cursor::Hole(nth + 1)),
                    None => (None, Cursor::Required(now.top)),
                },
                Cursor::Required(position) => match self.required.get(position) {
                    Some(entry) if entry.invoked <= frame.limit => (
                        Some(Place::Required(position)),
                        Cursor::Required(position + 1),
                    ),
                    _ => (None, Cursor::Optional(0)),
                },
                Cursor::Optional(position) => match self.optional.get(position) {
                    Some(entry) if entry.invoked <= frame.limit => (
                        Some(Place::Optional(position)),
                        Cursor::Optional(position + 1),
                    ),
                    _ => return None,
                },
            };
            frame.cursor = next;
            let Some(place) = place else { continue };
            let entry = match place {
                Place::Required(position) => &self.required[position],
                Place::Optional(position) => &self.optional[position],
            };
            if entry.may_come(place, now) {
                entry.outcomes(place, self.model, &now.state, &mut self.outcomes);
            }
        }
        self.outcomes.pop()
    }

    /// The path to the last frame: operations by their index in the history, each with the state that it left.
    fn order(&self) -> impl Iterator<Item = (usize, M::State)> {
        self.frames.iter().filter_map(|frame| {
            let entry = match frame.taken? {
                Place::Required(position) => &self.required[position],
                Place::Optional(position) => &self.optional[position],
            };
            Some((entry.index, frame.configuration.state.clone()))
        })
    }
}

impl<M: Model> Entry<'_, M> {
    /// Nothing that its process or a twin has to do before is missing; what else precedes it, the limit has told.
    fn may_come(&self, place: Place, now: &Configuration<M::State>) -> bool {
        let has_extra = |position: usize| now.extras.binary_search(&(position as u32)).is_ok();
        let is_in_order = |position: usize| {
            position < now.top && now.holes.binary_search(&(position as u32)).is_err()
        };
        let is_new = match place {
            Place::Required(_) => true,
            Place::Optional(position) => !has_extra(position),
        };
        is_new && self.after.is_none_or(is_in_order) && self.twin.is_none_or(has_extra)
    }

    /// Adds the states that this operation can leave.
    fn outcomes(
        &self,
        place: Place,
        model: &M,
        state: &M::State,
        into: &mut Vec<(Place, M::State)>,
    ) {
        match self.end {
            End::Returned(ret) => into.extend(
                model
                    .step(state, self.op)
                    .into_iter()
                    .filter(|(answer, _)| answer == ret)
                    .map(|(_, next)| (place, next)),
            ),
            // An optional operation without an effect is one that is not in the order.
            End::Running => into.extend(
                model
                    .step(state, self.op)
                    .into_iter()
                    .map(|(_, next)| next)
                    .filter(|next| next != state)
                    .map(|next| (place, next)),
            ),
            End::Killed => into.extend(
                model
                    .crash(state, self.op)
                    .into_iter()
                    .filter(|next| next != state)
                    .map(|next| (place, next)),
            ),
        }
    }
}

/// Notes for each entry the last operation before it that its process saw return.
fn link_processes<'h, M: Model>(
    history: &History<M::Op, M::Ret>,
    required: &mut [Entry<'h, M>],
    optional: &mut [Entry<'h, M>],
) {
    let position: BTreeMap<usize, usize> = required
        .iter()
        .enumerate()
        .map(|(position, entry)| (entry.index, position))
        .collect();
    for entry in required.iter_mut().chain(optional) {
        // One that is not in `position` never returned, or is not of this part.
        entry.after = std::iter::successors(history.previous(entry.index), |&index| {
            history.previous(index)
        })
        .find_map(|index| position.get(&index).copied());
    }
}

/// Links the optional operations that are equal; at equal times there is no earlier one.
fn link_twins<M: Model>(optional: &mut [Entry<'_, M>]) {
    for position in 1..optional.len() {
        let (earlier, rest) = optional.split_at_mut(position);
        let entry = &mut rest[0];
        entry.twin = earlier.iter().rposition(|other| {
            other.op == entry.op
                && other.invoked < entry.invoked
                && matches!(other.end, End::Killed) == matches!(entry.end, End::Killed)
        });
    }
}
