//! A pipeline of three processes: numbers, their squares, their sum. Each stage ends when the one before
//! it has: the last sender's end closes a queue.
//!
//! ```sh
//! cargo run -p shm-queue --example pipeline
//! ```

use std::process::Command;

use shm_queue::{Place, Queue, Raw};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("squares") => squares(&args[1], &args[2]),
        Some("sum") => sum(&args[1]),
        _ => numbers(),
    }
}

fn numbers() -> Result<(), Box<dyn std::error::Error>> {
    let name = |stage: &str| format!("pipeline-{stage}-{}", std::process::id());
    let place = |stage: &str| Place::named(name(stage)).unlink_on_drop(true);
    let numbers = Queue::<u64, Raw>::create(place("numbers"), 64)?;
    let _squares = Queue::<u64, Raw>::create(place("squares"), 64)?;

    let program = std::env::current_exe()?;
    let stage = |args: &[&str]| Command::new(&program).args(args).spawn();
    let mut squaring = stage(&["squares", &name("numbers"), &name("squares")])?;
    let mut summing = stage(&["sum", &name("squares")])?;

    let sender = numbers.sender()?;
    for number in 1..=10_000 {
        sender.put(number)?;
    }
    drop(sender);
    assert!(squaring.wait()?.success());
    assert!(summing.wait()?.success());
    Ok(())
}

fn squares(from: &str, to: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (numbers, squares) = (Queue::<u64, Raw>::open(from)?, Queue::<u64, Raw>::open(to)?);
    let sender = squares.sender()?;
    for number in &numbers {
        let number = number?;
        sender.put(number * number)?;
    }
    Ok(())
}

fn sum(from: &str) -> Result<(), Box<dyn std::error::Error>> {
    let sum: u64 = Queue::<u64, Raw>::open(from)?
        .iter()
        .sum::<Result<_, _>>()?;
    println!("the sum of the squares of 1 to 10,000 is {sum}");
    assert_eq!(sum, 333_383_335_000);
    Ok(())
}
