//! Broken variants of the family, to show that its tests would notice: `ci/mutants.sh`.
//!
//! A mutant is one line at the place that it breaks: `if mutant("Value::...")`, or a `Fault` of a protocol,
//! which a model can choose too. Without `--cfg shm_mutants` both questions are a constant `false` and leave no
//! code behind. With it, `SHM_MUTANT` names the one that is broken, in this process and those that it starts.
//! The cfg builds in the repository alone: the list of names is not in the package.

#[cfg(shm_mutants)]
pub use chosen::{mutant, mutant_of};

/// Whether the mutant `name` was chosen.
#[cfg(not(shm_mutants))]
#[inline(always)]
#[must_use]
pub const fn mutant(_: &str) -> bool {
    false
}

/// Whether the mutant `subject::fault` was chosen.
#[cfg(not(shm_mutants))]
#[inline(always)]
#[must_use]
pub const fn mutant_of<F>(_: &str, _: &F) -> bool {
    false
}

#[cfg(shm_mutants)]
mod chosen {
    use core::fmt::Debug;
    use std::sync::OnceLock;

    /// A line each: the name, what it breaks, and where that is noticed, with `|` in between.
    const LIST: &str = include_str!("../../ci/mutants.txt");

    /// Whether the mutant `name` was chosen.
    #[must_use]
    pub fn mutant(name: &str) -> bool {
        chosen() == Some(name)
    }

    /// Whether the mutant `subject::fault` was chosen.
    #[must_use]
    pub fn mutant_of(subject: &str, fault: &impl Debug) -> bool {
        chosen()
            .and_then(|name| name.strip_prefix(subject)?.strip_prefix("::"))
            .is_some_and(|chosen| chosen == format!("{fault:?}"))
    }

    /// `SHM_MUTANT`, read once.
    fn chosen() -> Option<&'static str> {
        static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
        let read = || std::env::var("SHM_MUTANT").ok().inspect(|name| check(name));
        CHOSEN.get_or_init(read).as_deref()
    }

    /// A mutant that does not exist would be one that nothing catches, or everything.
    fn check(name: &str) {
        let named = |line: &str| line.split('|').next().is_some_and(|it| it.trim() == name);
        if !LIST.lines().any(named) {
            eprintln!("SHM_MUTANT={name}: ci/mutants.txt has no such mutant");
            std::process::abort();
        }
    }
}
