//! What a run ran on: a figure without it says nothing.

use std::{fmt, fs};

use serde_json::{Value, json};

/// Load above which the figures are worth little.
pub const BUSY: f64 = 1.5;

/// The machine, as far as it can be read without privileges.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// The processor's name.
    pub processor: String,
    /// Name and release of the kernel.
    pub kernel: String,
    /// Name and version of the C library, whose locks are among the rivals.
    pub c_library: String,
    /// Load average of the last minute when the run began.
    pub load: f64,
}

impl Machine {
    /// Looks at the machine.
    #[must_use]
    pub fn look() -> Self {
        Self {
            cores: crate::process::processors().len(),
            processor: fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|text| processor(&text))
                .unwrap_or_else(unknown),
            kernel: nix::sys::utsname::uname()
                .map(|name| format!("{} {}", name.sysname().display(), name.release().display()))
                .unwrap_or_else(|_| unknown()),
            c_library: c_library(),
            load: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| load(&text))
                .unwrap_or(f64::NAN),
        }
    }

    /// The same for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "cores": self.cores,
            "processor": self.processor,
            "kernel": self.kernel,
            "c_library": self.c_library,
            "load_before": self.load,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cores,
            processor,
            kernel,
            c_library,
            load,
        } = self;
        write!(
            f,
            "{cores} cores, {processor}; {kernel}; {c_library}; load average before the run {load:.2}"
        )
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

#[cfg(target_env = "gnu")]
fn c_library() -> String {
    // SAFETY: takes no argument; returns a string that the C library owns for ever.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: NUL-terminated, not null, never freed and never changed.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn c_library() -> String {
    std::env::consts::OS.to_owned() + ", not glibc"
}

#[cfg(test)]
mod tests {
    use super::{Machine, load, processor};

    #[test]
    fn processor_is_the_first_model_name() {
        let text = "processor\t: 0\nmodel name\t: Example 3000\nflags: x\nmodel name\t: Other\n";
        assert_eq!(processor(text).as_deref(), Some("Example 3000"));
        assert_eq!(processor("Features : fp"), None);
    }

    #[test]
    fn load_is_the_first_number() {
        assert_eq!(load("0.52 0.30 0.10 1/200 4711\n"), Some(0.52));
        assert_eq!(load(""), None);
    }

    #[test]
    fn this_machine_has_a_core_and_a_kernel() {
        let machine = Machine::look();
        assert!(machine.cores >= 1);
        assert!(machine.to_string().contains("Linux"));
        assert_eq!(machine.to_json()["cores"], machine.cores);
    }
}
