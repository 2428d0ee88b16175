//! A work queue with retries: workers that fail or are killed lose no job, and a job that nobody can do
//! is put aside.
//!
//! ```sh
//! cargo run -p shm-queue --example work_queue
//! ```

use std::process::Command;

use serde::{Deserialize, Serialize};
use shm_queue::{JoinableQueue, Options, Place};

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    number: u32,
    text: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        Some(name) => work(&name),
        None => manage(),
    }
}

/// Puts jobs, starts workers, waits until all is done.
fn manage() -> Result<(), Box<dyn std::error::Error>> {
    let name = format!("work-queue-{}", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let jobs = JoinableQueue::<Job>::create(place, Options::new(8).max_deliveries(3))?;

    let program = std::env::current_exe()?;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Command::new(&program).arg(&name).spawn()?);
    }
    for number in 1..=20 {
        let text = match number {
            7 => "impossible".to_owned(),
            13 => "deadly".to_owned(),
            _ => format!("job {number}"),
        };
        jobs.put(Job { number, text })?;
    }
    jobs.join()?;
    jobs.close()?;
    let killed = workers
        .iter_mut()
        .map(|worker| worker.wait().map(|status| !status.success()))
        .collect::<Result<Vec<_>, _>>()?;
    let killed = killed.iter().filter(|&&killed| killed).count();

    let letters = jobs.dead_letters()?;
    println!(
        "{killed} worker died of a job; {} job was given up:",
        letters.len()
    );
    for letter in &letters {
        println!(
            "  after {} deliveries: {:?}",
            letter.deliveries, letter.reason
        );
    }
    assert_eq!((killed, letters.len()), (1, 1));
    Ok(())
}

fn work(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let jobs = JoinableQueue::<Job>::open(name)?;
    while let Ok(job) = jobs.get() {
        match job.text.as_str() {
            // Given back by the drop of the guard: somebody may have more luck.
            "impossible" => continue,
            // A bug that takes the whole process along, the first time.
            "deadly" if job.deliveries() == 1 => std::process::abort(),
            _ => job.task_done()?,
        }
    }
    Ok(())
}
