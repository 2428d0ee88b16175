//! `shm gc`: what should have gone with creators who died.

use std::io::Write;
use std::process::ExitCode;

use crate::exit::Failure;

/// Removes the names and says which.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    let removed = shm_core::sweep()?;
    let mut out = anstream::stdout().lock();
    for name in &removed {
        writeln!(out, "removed {name}")?;
    }
    if removed.is_empty() {
        writeln!(out, "nothing to remove")?;
    }
    Ok(ExitCode::SUCCESS)
}
