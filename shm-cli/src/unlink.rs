//! `shm rm`: removes segments by name, unless somebody still uses them.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use shm_core::SegmentInfo;

use crate::exit::Failure;
use crate::figures::count;

/// What to remove.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Names, as `shm ls` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Remove names also while living processes are attached; these keep the memory
    #[arg(short, long)]
    force: bool,
}

/// Removes all that can be removed; the code is that of the first name that could not.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    // Names of dead creators go first, so that the list below does not take them from under us.
    let swept = shm_core::sweep()?;
    let known = shm_core::list()?;
    let mut out = anstream::stdout().lock();
    let mut code = 0;
    for name in &options.names {
        let removed = if swept.contains(name) {
            Ok(())
        } else {
            remove(name, &known, options.force)
        };
        match removed {
            Ok(()) => writeln!(out, "removed {name}")?,
            Err(failure) => {
                code = if code == 0 { failure.code() } else { code };
                failure.report();
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// The look at who is attached comes first: a process that attaches in between keeps the memory and
/// loses the name.
fn remove(name: &str, known: &[SegmentInfo], force: bool) -> Result<(), Failure> {
    let users = known
        .iter()
        .find(|info| info.name == name)
        .map_or(&[][..], |info| &info.participants);
    if !users.is_empty() && !force {
        let pids: Vec<_> = users.iter().map(|id| id.pid().to_string()).collect();
        return Err(Failure::conflict(format!(
            "segment {name} is used by {} ({}); --force removes its name all the same",
            count(users.len(), "process", "processes"),
            pids.join(", ")
        )));
    }
    Ok(shm_core::unlink(name)?)
}
