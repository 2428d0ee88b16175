//! How the tour is told: paragraphs, aligned figures, and a line that moves where it takes longer.
//!
//! Colours are up to `anstream`: none in a pipe, none under NO_COLOR. With `--json` nobody tells
//! anything.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

use super::report::{Expectation, Report};
use crate::figures::count;

const WIDTH: usize = 78;
const INDENT: &str = "   ";

const BOLD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Nothing moves before this much time has passed.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it moves.
const PACE: Duration = Duration::from_millis(200);

/// Tells the story to standard output.
pub(super) struct Teller {
    /// `None`: silent.
    out: Option<AutoStream<Stdout>>,
    /// Whether a line may be written over.
    terminal: bool,
    /// Characters of the moving line that stand on the terminal now.
    moving: usize,
    /// When it may move next.
    next: Instant,
}

impl Teller {
    pub(super) fn new(silent: bool) -> Self {
        Self {
            out: (!silent).then(anstream::stdout),
            terminal: !silent && io::stdout().is_terminal(),
            moving: 0,
            next: Instant::now() + PATIENCE,
        }
    }

    /// What this is about.
    pub(super) fn opening(&mut self, parts: usize, processors: usize) -> io::Result<()> {
        let parts = count(parts, "part", "parts");
        self.write(format_args!(
            "{BOLD}shm tour{BOLD:#}: memory that processes share, in {parts}\n\n"
        ))?;
        self.say(format!(
            "Every process here is this program, started again. They have nothing in common but \
             the names of segments in /dev/shm. They run on {}.",
            count(processors, "processor", "processors")
        ))
    }

    /// Begins a part.
    pub(super) fn heading(&mut self, number: usize, title: &str) -> io::Result<()> {
        self.write(format_args!("\n{BOLD}{number}. {title}{BOLD:#}\n\n"))
    }

    /// A paragraph, broken into lines.
    pub(super) fn say(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        for line in wrapped(text.as_ref(), WIDTH - INDENT.len()) {
            self.row(line)?;
        }
        Ok(())
    }

    /// A paragraph after an empty line.
    pub(super) fn then_say(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.gap()?;
        self.say(text)
    }

    /// A line of figures, as it is.
    pub(super) fn row(&mut self, text: impl Display) -> io::Result<()> {
        self.write(format_args!("{INDENT}{text}\n"))
    }

    /// The heading of a table.
    pub(super) fn columns(&mut self, text: impl Display) -> io::Result<()> {
        self.write(format_args!("{INDENT}{FAINT}{text}{FAINT:#}\n"))
    }

    pub(super) fn gap(&mut self) -> io::Result<()> {
        self.write(format_args!("\n"))
    }

    /// Whether it is time for the line that moves.
    pub(super) fn wants_progress(&self) -> bool {
        self.terminal && Instant::now() >= self.next
    }

    /// Writes over the line that moves, if it is time; the next thing told takes its place.
    pub(super) fn progress(&mut self, text: &str) -> io::Result<()> {
        if !self.wants_progress() {
            return Ok(());
        }
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        // Spaces instead of an escape sequence, for NO_COLOR.
        write!(out, "\r{INDENT}{text:<width$}", width = self.moving)?;
        out.flush()?;
        self.moving = self.moving.max(text.chars().count());
        self.next = Instant::now() + PACE;
        Ok(())
    }

    /// What had to be so, and whether it was.
    pub(super) fn expectations(&mut self, expectations: &[Expectation]) -> io::Result<()> {
        self.gap()?;
        for Expectation {
            ok,
            expectation,
            found,
        } in expectations
        {
            if *ok {
                self.row(format_args!("{GOOD}ok{GOOD:#}      {expectation}"))?;
            } else {
                self.row(format_args!("{BAD}FAILED{BAD:#}  {expectation}"))?;
                for line in wrapped(found, WIDTH - 11) {
                    self.row(format_args!("        {line}"))?;
                }
            }
        }
        Ok(())
    }

    /// The result.
    pub(super) fn closing(&mut self, report: &Report) -> io::Result<()> {
        self.gap()?;
        let (expected, failures) = (report.expected(), report.failures());
        if report.ok {
            return self.write(format_args!(
                "{GOOD}All {expected} expectations hold.{GOOD:#} \
                 No process runs on, nothing is left in /dev/shm.\n"
            ));
        }
        self.write(format_args!(
            "{BAD}{} of {expected} expectations failed:{BAD:#}\n",
            failures.len()
        ))?;
        for failure in failures {
            self.row(failure)?;
        }
        Ok(())
    }

    fn write(&mut self, text: impl Display) -> io::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        if self.moving > 0 {
            let width = INDENT.len() + self.moving;
            write!(out, "\r{:width$}\r", "")?;
            self.moving = 0;
        }
        self.next = Instant::now() + PATIENCE;
        write!(out, "{text}")?;
        out.flush()
    }
}

/// Breaks a text into lines of at most `width` characters, at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let joined = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && joined > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces_and_never_wider() {
        let text = "Ten processes count a number down, 100 µs each.";
        for width in 10..50 {
            let lines = wrapped(text, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width));
            assert_eq!(lines.join(" "), text);
        }
        assert_eq!(wrapped(text, 47).len(), 1, "exactly as wide as the text");
        assert_eq!(wrapped(text, 46).len(), 2);
    }

    #[test]
    fn a_word_wider_than_the_line_stands_alone() {
        assert_eq!(
            wrapped("a /dev/shm/tickets b", 5),
            ["a", "/dev/shm/tickets", "b"]
        );
        assert_eq!(wrapped("", 5), Vec::<String>::new());
    }
}
