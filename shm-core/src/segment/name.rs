//! Segment names: what may be one, checked before the file system sees it.

use crate::error::{Error, MAX_NAME, NameProblem};

/// Checks a name: 1..=[`MAX_NAME`] bytes of `[A-Za-z0-9._-]`, the first one alphanumeric.
///
/// So a name is never a path (`/`, `..`), never hidden (`.x`) and never an option (`-x`).
///
/// # Errors
/// [`Error::InvalidName`] with the first [`NameProblem`].
pub(crate) fn check(name: &str) -> Result<(), Error> {
    match problem(name) {
        None => Ok(()),
        Some(problem) => Err(Error::InvalidName {
            name: name.to_owned(),
            problem,
        }),
    }
}

fn problem(name: &str) -> Option<NameProblem> {
    if name.is_empty() {
        return Some(NameProblem::Empty);
    }
    if name.len() > MAX_NAME {
        return Some(NameProblem::TooLong { len: name.len() });
    }
    name.char_indices()
        .find(|&(at, c)| !(c.is_ascii_alphanumeric() || at > 0 && matches!(c, '.' | '_' | '-')))
        .map(|(at, character)| NameProblem::Character { character, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in [
            "a",
            "0",
            "tickets",
            "a.b_c-D9",
            "a..b",
            &"x".repeat(MAX_NAME),
        ] {
            assert!(check(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        let character = |character, at| NameProblem::Character { character, at };
        for (name, expected) in [
            ("", NameProblem::Empty),
            (
                &"x".repeat(MAX_NAME + 1),
                NameProblem::TooLong { len: MAX_NAME + 1 },
            ),
            ("..", character('.', 0)),
            ("-rf", character('-', 0)),
            ("a/b", character('/', 1)),
            ("a\0b", character('\0', 1)),
            ("ab\u{e9}", character('\u{e9}', 2)),
            ("a b", character(' ', 1)),
        ] {
            assert_eq!(problem(name), Some(expected), "{name:?}");
        }
    }
}
