//! The peer's end of a [`Child`](crate::Child): finds its role and speaks with the test.

use std::any::Any;
use std::env;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use nix::unistd::gettid;

use crate::wire::{self, ARGS, Kind, ROLE, SEPARATOR};

/// A role's name and what it does.
pub type Role<'a> = (&'a str, fn(&mut Peer));

/// Runs the role that the environment asks for, or returns at once if it asks for none.
///
/// To be called from `#[test] fn peer()` at the root of an integration test; for another place see
/// [`peer_main_at`].
///
/// # Panics
/// When the role is not among `roles`, or when the role panics; the parent is told the message.
pub fn peer_main(roles: &[Role<'_>]) {
    peer_main_at("peer", roles);
}

/// Like [`peer_main`], in a test with another path such as `suite::peer`.
///
/// The parent starts it with [`Child::spawn_at`](crate::Child::spawn_at) and the same path. Several such tests may stand in
/// one binary.
///
/// # Panics
/// As [`peer_main`].
pub fn peer_main_at(path: &str, roles: &[Role<'_>]) {
    let Ok(asked) = env::var(ROLE) else { return };
    let mut peer = Peer::from_environment();
    let Some((_, role)) = roles.iter().find(|(name, _)| *name == asked) else {
        let known: Vec<_> = roles.iter().map(|(name, _)| *name).collect();
        peer.write(
            Kind::Panicked,
            &format!("{path} has no role {asked:?}, only {known:?}"),
        );
        panic!("no role {asked:?}");
    };
    peer.write(Kind::Thread, &gettid().to_string());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| role(&mut peer))) {
        peer.write(Kind::Panicked, &message_of(&*panic));
        resume_unwind(panic);
    }
}

/// The peer's end: what a role function gets.
#[derive(Debug)]
pub struct Peer {
    args: Vec<String>,
}

impl Peer {
    fn from_environment() -> Self {
        let args = env::var(ARGS).unwrap_or_default();
        let args = match args.as_str() {
            "" => Vec::new(),
            list => list.split(SEPARATOR).skip(1).map(str::to_owned).collect(),
        };
        Self { args }
    }

    /// The arguments that the parent gave.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Tells the parent one line; it may hold any character.
    ///
    /// # Panics
    /// When the parent no longer listens.
    pub fn say(&mut self, line: &str) {
        self.write(Kind::Said, line);
    }

    /// Waits for the parent's next line.
    ///
    /// # Panics
    /// When the parent hung up.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        let read = io::stdin()
            .lock()
            .read_line(&mut line)
            .expect("a line from the parent");
        assert!(read > 0, "the parent hung up");
        wire::unescape(line.trim_end_matches('\n'))
    }

    fn write(&mut self, kind: Kind, text: &str) {
        let line = wire::line(kind, text);
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .expect("the parent listens");
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "a panic without a message".to_owned(),
    }
}
