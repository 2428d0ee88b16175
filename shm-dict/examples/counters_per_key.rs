//! Ten processes count words, each a part of a text, in one dictionary: every count is added in one step, so none
//! is lost. One more is killed in the middle of a change, and that change never was.
//!
//! ```sh
//! cargo run --release -p shm-dict --example counters_per_key
//! ```

use std::process::Command;

use shm_dict::{Dict, Options, Place, Raw};

type Failure = Box<dyn std::error::Error>;

const PROCESSES: u64 = 10;
const ROUNDS: u64 = 2000;
const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps on";

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [name, role] if role == "dies" => die(name),
        [name, _] => count(name),
        _ => manage(),
    }
}

fn manage() -> Result<(), Failure> {
    let name = format!("counters-{}", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let words = Dict::<String, u64, Raw>::create(place, Options::new())?;

    let program = std::env::current_exe()?;
    let start = |role: &str| Command::new(&program).args([&name, role]).spawn();
    let mut counting = (0..PROCESSES)
        .map(|_| start("counts"))
        .collect::<Result<Vec<_>, _>>()?;
    assert!(!start("dies")?.wait()?.success());
    for process in &mut counting {
        assert!(process.wait()?.success());
    }

    let mut counts = words.snapshot()?;
    counts.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), word.clone()));
    for (word, count) in &counts[..3] {
        println!("{word}: {count}");
    }
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let expected = PROCESSES * ROUNDS * TEXT.split(' ').count() as u64;
    println!("{all} words were counted, {} are lost", expected - all);
    assert_eq!(all, expected);
    assert_eq!(words.get("the")?, Some(3 * PROCESSES * ROUNDS));
    Ok(())
}

fn count(name: &str) -> Result<(), Failure> {
    let words = Dict::<String, u64, Raw>::open(name)?;
    for round in 0..ROUNDS {
        for word in TEXT.split(' ') {
            // Two ways to say the same; both are one step.
            if round % 2 == 0 {
                words.fetch_add(word, 1)?;
            } else {
                let word = word.to_owned();
                words
                    .entry(&word)
                    .and_modify(|count| *count += 1)
                    .or_insert(1)?;
            }
        }
    }
    Ok(())
}

/// A bug that takes the process along while it holds the lock.
fn die(name: &str) -> Result<(), Failure> {
    let words = Dict::<String, u64, Raw>::open(name)?;
    words.modify("the", |_| std::process::abort())?;
    Ok(())
}
