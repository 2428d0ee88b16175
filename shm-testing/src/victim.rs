//! The sub-commands of a program with victims: for the step killer, and for a person at a shell.

use std::env;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::unistd::Pid;

use crate::command::{GO, OUTCOME, READY, TOOL};
use crate::spawn::bind_to_parent;

type Run = Box<dyn Fn(&str, Option<&str>)>;

/// What a victims' program can do, by sub-command.
///
/// | sub-command | what it does |
/// |---|---|
/// | `setup STATE NAME` | makes the segment NAME in that state, from nothing |
/// | `victim OPERATION NAME` | opens it and performs the operation between the two marks |
/// | `act WHAT NAME` | opens it, does something, says `outcome=...` |
/// | `hold WHAT NAME` | opens it, holds something, says `ready`, and lets go when told `go` |
/// | `check OPERATION NAME [ACTED]` | opens it, verifies, uses and removes it, says `outcome=...` |
///
/// ACTED is what the process that acted beside the victim said, where there was one. All but the
/// victim may take what time they need, within the case's limit; a panic is a failure. When a tool
/// runs a sub-command, it dies with the tool.
///
/// # Examples
/// ```no_run
/// use shm_testing::Commands;
/// use shm_testing::step_killer::{mark_end, mark_start};
///
/// # struct Counter; impl Counter { fn create(_: &str) -> Self { Self } fn open(_: &str) -> Self { Self }
/// # fn add(&self) {} fn get(&self) -> u64 { 0 } fn unlink(&self) {} }
/// fn main() -> std::process::ExitCode {
///     Commands::new()
///         .setup("zero", |name| drop(Counter::create(name)))
///         .victim("add", |name| {
///             let counter = Counter::open(name);
///             mark_start();
///             counter.add();
///             mark_end();
///         })
///         .check("add", |name, _| {
///             let counter = Counter::open(name);
///             let outcome = counter.get().to_string();
///             counter.unlink();
///             outcome
///         })
///         .main()
/// }
/// ```
#[derive(Default)]
pub struct Commands {
    list: Vec<(&'static str, &'static str, Run)>,
}

impl Commands {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `setup STATE NAME`. All that it leaves is to be in `/dev/shm` with NAME in its name: no process, nothing elsewhere.
    pub fn setup(self, state: &'static str, run: impl Fn(&str) + 'static) -> Self {
        self.add("setup", state, Box::new(move |name, _| run(name)))
    }

    /// Adds `victim OPERATION NAME`.
    pub fn victim(self, operation: &'static str, run: impl Fn(&str) + 'static) -> Self {
        self.add("victim", operation, Box::new(move |name, _| run(name)))
    }

    /// Adds `victim OPERATION NAME` that tells how the operation went: for the
    /// [fault driver](crate::faults), and of use to the step killer as well.
    pub fn trial<S: Into<String>>(
        self,
        operation: &'static str,
        run: impl Fn(&str) -> S + 'static,
    ) -> Self {
        self.add(
            "victim",
            operation,
            Box::new(move |name, _| say(&run(name).into())),
        )
    }

    /// Adds `act WHAT NAME`; `run` returns what to say.
    pub fn act<S: Into<String>>(
        self,
        what: &'static str,
        run: impl Fn(&str) -> S + 'static,
    ) -> Self {
        self.add("act", what, Box::new(move |name, _| say(&run(name).into())))
    }

    /// Adds `hold WHAT NAME`; `run` calls its second argument while it holds.
    pub fn hold(
        self,
        what: &'static str,
        run: impl Fn(&str, &(dyn Fn() + Sync)) + 'static,
    ) -> Self {
        self.add(
            "hold",
            what,
            Box::new(move |name, _| run(name, &until_told)),
        )
    }

    /// Adds `check OPERATION NAME [ACTED]`; `run` returns the outcome.
    pub fn check<S: Into<String>>(
        self,
        operation: &'static str,
        run: impl Fn(&str, Option<&str>) -> S + 'static,
    ) -> Self {
        let run: Run = Box::new(move |name, acted| say(&run(name, acted).into()));
        self.add("check", operation, run)
    }

    /// Takes over all commands of `other`.
    ///
    /// # Panics
    /// When both have one of the same name.
    pub fn and(mut self, other: Self) -> Self {
        self.list.extend(other.list);
        self
    }

    /// Runs the command that the program's arguments ask for.
    pub fn main(self) -> ExitCode {
        let args: Vec<String> = env::args().skip(1).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (verb, word, name, acted) = match args[..] {
            [verb, word, name] => (verb, word, name, None),
            [verb, word, name, acted] => (verb, word, name, Some(acted)),
            _ => return self.usage(),
        };
        // Each process looks for one command: a list is made faster than a map.
        let mut found = self
            .list
            .iter()
            .filter(|(v, w, _)| *v == verb && *w == word);
        let Some((_, _, run)) = found.next() else {
            return self.usage();
        };
        assert!(found.next().is_none(), "two commands `{verb} {word}`");
        if let Ok(tool) = env::var(TOOL) {
            enlist(&tool, verb == "victim").expect("the tool is there, and may trace");
        }
        run(name, acted);
        ExitCode::SUCCESS
    }

    fn usage(&self) -> ExitCode {
        eprintln!("usage: one of");
        for (verb, word) in self.names() {
            eprintln!("  {verb} {word} NAME");
        }
        ExitCode::from(2)
    }

    fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(verb, word, _)| (*verb, *word))
    }

    fn add(mut self, verb: &'static str, word: &'static str, run: Run) -> Self {
        self.list.push((verb, word, run));
        self
    }
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Dies with the tool from now on; a victim stops, for the tool to take over.
fn enlist(tool: &str, traced: bool) -> io::Result<()> {
    let tool = tool.parse().map_err(io::Error::other)?;
    bind_to_parent(Pid::from_raw(tool))?;
    if traced {
        ptrace::traceme()?;
        raise(Signal::SIGSTOP)?;
    }
    Ok(())
}

fn say(outcome: &str) {
    println!("{OUTCOME}{outcome}");
}

/// Says that something is held, and waits for the word to let go.
fn until_told() {
    println!("{READY}");
    io::stdout().flush().expect("somebody listens");
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("a line of input");
    assert_eq!(line.trim_end(), GO, "to be told to let go");
}
