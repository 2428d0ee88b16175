//! Ten processes count a shared number down: by read-then-write, under the value's lock, and by one
//! instruction. The first way may lose updates (how many is chance), the others lose none.
//!
//! `cargo run --release -p shm-value --example countdown`

use std::env;
use std::error::Error;
use std::process::{Child, Command};

use shm_core::Scope;
use shm_value::{AtomicValue, Value};

const PROCESSES: i64 = 10;
const EACH: i64 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => parent(),
        Some(prefix) => count_down(&prefix),
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    let prefix = format!("countdown-{}", std::process::id());
    let scope = Scope::new();
    let start = PROCESSES * EACH;
    let careless = AtomicValue::create(scope.place(format!("{prefix}-careless")), start)?;
    let locked = Value::create(scope.place(format!("{prefix}-locked")), start)?;
    let atomic = AtomicValue::create(scope.place(format!("{prefix}-atomic")), start)?;

    let child = |_| Command::new(env::current_exe()?).arg(&prefix).spawn();
    let children: Vec<Child> = (0..PROCESSES).map(child).collect::<std::io::Result<_>>()?;
    for mut child in children {
        assert!(child.wait()?.success());
    }

    println!("counted down from {start} by {PROCESSES} processes:");
    println!(
        "  read, then write   {:>8}  <- updates that were lost",
        careless.load()
    );
    println!("  update             {:>8}", locked.get()?);
    println!("  fetch_sub          {:>8}", atomic.load());
    assert_eq!((locked.get()?, atomic.load()), (0, 0));
    Ok(())
}

fn count_down(prefix: &str) -> Result<(), Box<dyn Error>> {
    let careless = AtomicValue::<i64>::open(format!("{prefix}-careless"))?;
    let locked = Value::<i64>::open(format!("{prefix}-locked"))?;
    let atomic = AtomicValue::<i64>::open(format!("{prefix}-atomic"))?;
    for _ in 0..EACH {
        careless.store(careless.load() - 1);
    }
    for _ in 0..EACH {
        locked.update(|n| *n -= 1)?;
    }
    for _ in 0..EACH {
        atomic.fetch_sub(1);
    }
    Ok(())
}
