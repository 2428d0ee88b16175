//! How a command ends: the exit codes, and what goes to standard error.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use shm_core::Error;

/// The codes, for people who ask `--help`.
pub(crate) const CODES: &str = "\
Exit codes:
  0  everything went as it should
  1  an expectation failed, or something stands in the way (a name in use, a full disk)
  2  the command line cannot be understood
  3  no such segment
  4  not a segment, a foreign one, or a corrupt one
  5  permission denied";

/// An expectation failed, or the state of things does not allow it.
pub(crate) const CONFLICT: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const FOREIGN: u8 = 4;
const PERMISSION: u8 = 5;

/// A command that did not do its work: the exit code, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// `None` when there is nobody left to read it.
    text: Option<String>,
}

impl Failure {
    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        Self {
            code: CONFLICT,
            text: Some(text.into()),
        }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Says why on standard error and gives the code.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(text) = &self.text {
            anstream::eprintln!("shm: {text}");
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            let _ = write!(text, ": {deeper}");
            cause = deeper.source();
        }
        Self {
            code: code_of(&error),
            text: Some(text),
        }
    }
}

impl From<io::Error> for Failure {
    /// Output that could not be written; a reader who went away (`shm ls | head -1`) is told nothing.
    fn from(error: io::Error) -> Self {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            code: CONFLICT,
            text: (!gone).then(|| format!("cannot write the output: {error}")),
        }
    }
}

fn code_of(error: &Error) -> u8 {
    match error {
        Error::InvalidName { .. } => USAGE,
        Error::NotFound { .. } | Error::DirectoryMissing { .. } => NOT_FOUND,
        Error::NotASegment { .. }
        | Error::Truncated { .. }
        | Error::Mismatch { .. }
        | Error::OtherBoot { .. }
        | Error::Corrupt { .. } => FOREIGN,
        Error::PermissionDenied { .. } | Error::ForeignOwner { .. } => PERMISSION,
        _ => CONFLICT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_errors_has_its_code() {
        let segment = || "tickets".to_owned();
        let (call, why) = ("openat", "because");
        for (error, code) in [
            (Error::NotFound { segment: segment() }, 3),
            (Error::AlreadyExists { segment: segment() }, 1),
            (
                Error::NotASegment {
                    segment: segment(),
                    why,
                },
                4,
            ),
            (Error::OtherBoot { segment: segment() }, 4),
            (
                Error::PermissionDenied {
                    segment: segment(),
                    call,
                },
                5,
            ),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.code(), code, "{failure:?}");
            assert!(failure.text.is_some_and(|text| text.contains("tickets")));
        }
        assert_eq!(
            Failure::from(shm_core::unlink("a/b").unwrap_err()).code(),
            2
        );
    }

    #[test]
    fn the_operating_systems_answer_is_part_of_the_text() {
        let error = Error::System {
            segment: "tickets".to_owned(),
            call: "mmap",
            source: io::Error::other("no more maps"),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.code(), 1);
        assert_eq!(
            failure.text.as_deref(),
            Some("segment tickets: mmap failed: no more maps")
        );
    }

    #[test]
    fn a_reader_who_went_away_is_told_nothing() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.text), (1, None));
    }
}
