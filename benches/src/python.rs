//! Contenders of Python, by scripts that run alone.

use std::process::Command;

use crate::options::Plan;

/// Runs a script for a while; it prints a speed, or why it cannot.
///
/// # Errors
///
/// Why there is none.
pub fn speed(script: &str, arguments: &[&str], plan: &Plan) -> Result<f64, String> {
    // It takes the processes of Python a while to get going.
    let length = plan.slice.as_secs_f64() * 8.0;
    let output = Command::new("python3")
        .args(["-c", script])
        .args(arguments)
        .arg(length.to_string())
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().parse() {
        Ok(speed) if output.status.success() => Ok(speed),
        _ => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(why.lines().last().unwrap_or("it said nothing").to_owned())
        }
    }
}
