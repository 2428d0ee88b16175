//! A bench that is killed in the middle of its work leaves neither names nor processes behind.
//!
//! Not run by libtest: the bench executes its own program again for its children, so the program
//! must be the bench. With [`VICTIM`] in the environment it is; else it is the test.

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use shm_benches::counter;
use shm_benches::process::SHM;
use shm_benches::suite::{self, Suite};

/// Set where this program is the bench, to which.
const VICTIM: &str = "SHM_BENCH_VICTIM";

/// Until names and processes are there, and until they are gone.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match env::var(VICTIM).as_deref() {
        Ok("dict") => return suite::main(Suite::Dict),
        Ok(_) => return counter::main(),
        Err(_) => {}
    }
    for (bench, part, processes, names) in [
        ("counter", "fairness", 6, 0),
        ("counter", "handover", 2, 0),
        ("counter", "segment", 1, 100),
        ("dict", "two_insert_64", 6, 2),
    ] {
        match killed_bench_leaves_nothing(bench, part, processes, names) {
            Ok(()) => println!("killed_bench_leaves_nothing ({part}) ... ok"),
            Err(error) => {
                eprintln!("killed_bench_leaves_nothing ({part}) ... FAILED: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Kills the bench when it has at least so many children and names.
fn killed_bench_leaves_nothing(
    bench: &str,
    part: &str,
    processes: usize,
    names: usize,
) -> Result<(), Box<dyn Error>> {
    let mut bench = Command::new(env::current_exe()?)
        .args(["--bench", "--only", part])
        .env(VICTIM, bench)
        .stdout(Stdio::null())
        .spawn()?;
    let run = format!("shm-bench.{}.", bench.id());
    let there = || Ok(processes_of(&run)? >= processes && names_of(&run)? >= names);
    let came = within_patience(there, Some(&mut bench));
    bench.kill()?;
    let status = bench.wait()?;
    if !came? || status.signal().is_none() {
        return Err(format!("the bench did not get going: {status}").into());
    }

    let gone = || Ok(processes_of(&run)? == 0 && names_of(&run)? == 0);
    if within_patience(gone, None)? {
        return Ok(());
    }
    Err(format!(
        "{} processes and {} names are left",
        processes_of(&run)?,
        names_of(&run)?
    )
    .into())
}

fn within_patience(
    condition: impl Fn() -> Result<bool, Box<dyn Error>>,
    mut bench: Option<&mut Child>,
) -> Result<bool, Box<dyn Error>> {
    let began = Instant::now();
    while !condition()? {
        let ended = match &mut bench {
            Some(bench) => bench.try_wait()?.is_some(),
            None => false,
        };
        if ended || began.elapsed() > PATIENCE {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// Names in `/dev/shm` that belong to the run.
fn names_of(run: &str) -> Result<usize, Box<dyn Error>> {
    let names = fs::read_dir(SHM)?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name());
    Ok(names
        .filter(|name| name.to_string_lossy().contains(run))
        .count())
}

/// Processes that were started for the run: its name is among their arguments.
fn processes_of(run: &str) -> Result<usize, Box<dyn Error>> {
    // A process may end while it is looked at.
    let lines = fs::read_dir("/proc")?
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    Ok(lines
        .filter(|line| String::from_utf8_lossy(line).contains(run))
        .count())
}
