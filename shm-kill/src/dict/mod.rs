//! Dictionaries: each entry is as before the operation or as after it, whole, and all memory is there.
//!
//! A value is named by its number, which says how long it is too (`value`). A check names the entries in the order
//! of their keys, `1=10 4=30`; of the keys from 100 on it says how many there are: `1=10, 6 more`.

mod check;
mod numbers;
mod rows;
mod states;
mod victims;

use std::time::Duration;

use shm_dict::{Bytes, Dict, DictError, Options};
use shm_testing::Commands;
use shm_testing::step_killer::{Case, Mode, Outcomes};

pub(crate) use check::{chunks_of, count_recoveries};
pub(crate) use states::fix_seed;

type Values = Dict<u64, Vec<u8>, Bytes>;

/// Those wait so long whom a victim that stands still may keep waiting.
pub(crate) const SHORT: Duration = Duration::from_millis(20);
/// Sixteen chunks of 4 KiB.
pub(crate) const HEAP: u64 = 64 << 10;
pub(crate) const CHUNK_SHIFT: u32 = 12;
/// The keys that a check looks for.
const KEYS: std::ops::Range<u64> = 0..300;
/// From here on keys are counted, and all have this value.
const MORE: u64 = 100;
const OF_MORE: u8 = 20;

pub(crate) fn cases() -> Vec<Case> {
    [rows::cases(), numbers::cases(), rows::controls()].concat()
}

pub(crate) fn commands() -> Commands {
    let commands = victims::commands(states::commands(Commands::new()));
    numbers::commands(commands).check("dict", check::check)
}

pub(crate) fn small_dict(shards: u32) -> Options {
    Options::new().max_bytes(HEAP).shards(shards)
}

fn value(number: u8) -> Vec<u8> {
    let len = match number / 10 {
        0 => 8,
        1 => 40,
        2 => 300,
        // Two chunks.
        _ => 4080,
    };
    vec![number; len]
}

fn number_of(bytes: &[u8]) -> u8 {
    assert!(bytes == value(bytes[0]), "torn: {bytes:?}");
    bytes[0]
}

fn open(name: &str) -> Values {
    Values::open(name).expect("the dictionary")
}

/// How a victim dies: a full run visits so many steps that every line has its turn, or all of them; for corpses
/// that nobody reaps, and for what is added behind, fewer.
trait Dies {
    fn dies(self, outcomes: Outcomes) -> Self;
    fn dies_at_every_step(self, outcomes: Outcomes) -> Self;
}

impl Dies for Case {
    fn dies(self, outcomes: Outcomes) -> Self {
        self.at_most(1000).dies_at_every_step(outcomes)
    }

    fn dies_at_every_step(self, outcomes: Outcomes) -> Self {
        self.mode(Mode::Kill, outcomes.clone())
            .at_most(150)
            .mode(Mode::KillUnreaped, outcomes)
    }
}

/// What a reader saw while the victim stood still, and what is there in the end: all or nothing of a change.
pub(crate) fn seen_or_not(old: &str, new: &str, end: &str) -> Outcomes {
    let [first, second] = [old, new].map(|seen| format!("{seen}; {end}"));
    match first == second {
        true => Outcomes::always(&first),
        false => Outcomes::rising(&[&first, &second]),
    }
}

/// All or nothing of a change, which in some states is none.
pub(crate) fn old_or_new(old: &str, new: &str) -> Outcomes {
    match old == new {
        true => Outcomes::always(old),
        false => Outcomes::switch(old, new),
    }
}

pub(crate) fn acted<T>(done: &str, result: Result<T, DictError>) -> String {
    match result {
        Ok(_) => done.to_owned(),
        Err(DictError::Timeout) => "refused".to_owned(),
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn label(acted: Option<&str>, found: &str) -> String {
    acted.map_or_else(|| found.to_owned(), |acted| format!("{acted}; {found}"))
}
