//! Running the command.

use std::process::{Command, Output, Stdio};

/// The command, with no word of the environment on colours.
pub(crate) fn shm(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shm"));
    command.args(args).stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    shm(args).output().unwrap()
}

pub(crate) fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}
