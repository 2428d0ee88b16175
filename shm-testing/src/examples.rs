//! The examples of a crate, run as its tests.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{spawn, wait_until};

/// How long an example may run, unoptimised and on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs each `examples/*.rs` of the crate in `manifest_dir` to its end, one after the other.
///
/// The folder is what is listed, so that no example can be forgotten. `cargo test` of a package builds them before its tests;
/// with `--test` it does not.
///
/// # Panics
/// When an example is not built, does not end with success, or not within two minutes; the message quotes what it said.
///
/// # Examples
/// ```no_run
/// #[test]
/// fn every_example_runs_and_finds_what_it_expects() {
///     shm_testing::run_examples(env!("CARGO_MANIFEST_DIR"));
/// }
/// ```
pub fn run_examples(manifest_dir: &str) {
    let binaries = built();
    for name in names(&Path::new(manifest_dir).join("examples")) {
        let binary = binaries.join(&name);
        assert!(
            binary.exists(),
            "example {name} is not built; `cargo test` without `--test` does it, or `cargo build --examples`"
        );
        if let Err(fault) = run(Command::new(binary), LIMIT) {
            panic!("example {name}: {fault}");
        }
    }
}

/// Where cargo puts the examples: beside the folder of the running test.
fn built() -> PathBuf {
    let test = env::current_exe().expect("the path of this test binary");
    let profile = test.ancestors().nth(2).expect("PROFILE/deps/TEST");
    profile.join("examples")
}

/// The examples in `folder`, each a file of its own; sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let name = |entry: io::Result<fs::DirEntry>| {
        let file = entry.expect("a folder that can be read").file_name();
        let file = file.to_str().expect("a name in ASCII");
        let name = file.strip_suffix(".rs");
        name.unwrap_or_else(|| panic!("{file} in the examples is no source file"))
            .to_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    assert!(!names.is_empty(), "no example in {}", folder.display());
    names.sort_unstable();
    names
}

/// Runs `command` to its end; what went wrong, if anything did. What it started and left is killed.
fn run(mut command: Command, limit: Duration) -> Result<(), String> {
    let (mut output, writer) = io::pipe().expect("a pipe");
    let errors = writer.try_clone().expect("a second descriptor");
    command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .process_group(0);
    let mut process = spawn::spawn(command).map_err(|error| error.to_string())?;
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        output.read_to_end(&mut said).map(|_| said)
    });
    let ended = || !matches!(process.try_wait(), Ok(None));
    let in_time = wait_until(ended, limit);
    // Fails if nobody of the group is left, as it should be.
    let _ = killpg(Pid::from_raw(process.id() as i32), Signal::SIGKILL);
    let status = process.wait().expect("a child can be waited for");
    let said = reader
        .join()
        .expect("no panic")
        .expect("a pipe can be read");
    let said = String::from_utf8_lossy(&said);
    match in_time {
        true if status.success() => Ok(()),
        true => Err(format!("{status}\n{said}")),
        false => Err(format!("did not end within {limit:?}\n{said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_ends_well_is_well() {
        assert_eq!(run(shell("echo done"), LIMIT), Ok(()));
    }

    #[test]
    fn what_fails_says_how() {
        let fault = run(shell("echo so; echo and so >&2; exit 3"), LIMIT).unwrap_err();
        assert!(fault.contains("3\nso\nand so"), "{fault}");
        let fault = run(shell("kill -9 $$"), LIMIT).unwrap_err();
        assert!(fault.contains("signal: 9"), "{fault}");
    }

    #[test]
    fn what_hangs_is_ended_with_all_that_it_started() {
        // Without the group's end the reader would wait for the second one, which holds the pipe. On a busy machine the
        // first may not come to say anything in so short a time.
        let limits = (0..8).map(|n| Duration::from_millis(200 << n));
        let mut faults =
            limits.map(|limit| run(shell("echo before; sleep 3600 & wait"), limit).unwrap_err());
        let fault = faults.find(|fault| fault.contains("before")).unwrap();
        assert!(fault.contains("did not end"), "{fault}");
        assert_eq!(run(shell("sleep 3600 & exit 0"), LIMIT), Ok(()));
    }

    fn folder(files: &[&str]) -> PathBuf {
        let folder = env::temp_dir().join(&*crate::UniqueName::new("examples"));
        fs::create_dir_all(folder.join("examples")).unwrap();
        for file in files {
            fs::write(folder.join("examples").join(file), "").unwrap();
        }
        folder
    }

    /// What `run_examples` says of a folder with these files.
    fn refusal(files: &[&str]) -> String {
        let folder = folder(files);
        let path = folder.to_str().unwrap().to_owned();
        let panic = thread::spawn(move || run_examples(&path))
            .join()
            .unwrap_err();
        fs::remove_dir_all(folder).unwrap();
        panic.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn an_example_cannot_be_forgotten() {
        let said = refusal(&["nobody_built_this.rs"]);
        assert!(said.contains("nobody_built_this is not built"), "{said}");
        let said = refusal(&["main"]);
        assert!(
            said.contains("main in the examples is no source file"),
            "{said}"
        );
        assert!(refusal(&[]).contains("no example in"));
    }
}
