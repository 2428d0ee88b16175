//! Two producers and three consumers share a buffer of four places, made of a mutex and two condition
//! variables, and one consumer is killed in its sleep. Every number arrives once.
//!
//! `cargo run -p shm-lock --example bounded_buffer`

use std::env;
use std::error::Error;
use std::process::{Child, Command};

use shm_core::Place;
use shm_lock::{Condvar, LockFailure, Mutex};
use zerocopy::{FromBytes, FromZeros, IntoBytes, KnownLayout};

const PLACES: u64 = 4;
const EACH: u64 = 500;
const ALL: u64 = 2 * EACH;

/// A ring of numbers, and what has come out of it.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
struct Buffer {
    numbers: [u64; PLACES as usize],
    put: u64,
    got: u64,
    sum: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    match &args[1..] {
        [] => run_the_factory(),
        [name, role] => work(name, role),
        _ => Err("no arguments are expected".into()),
    }
}

fn names(name: &str) -> [String; 3] {
    ["buffer", "not-empty", "not-full"].map(|part| format!("{name}-{part}"))
}

fn run_the_factory() -> Result<(), Box<dyn Error>> {
    let name = format!("factory-{}", std::process::id());
    let [buffer, not_empty, not_full] = names(&name).map(|n| Place::named(n).unlink_on_drop(true));
    let buffer = Mutex::create(buffer, Buffer::new_zeroed())?;
    let (not_empty, _not_full) = (Condvar::create(not_empty)?, Condvar::create(not_full)?);

    let binary = env::current_exe()?;
    let worker = |role: &str| Command::new(&binary).args([&name, role]).spawn();
    let mut victim = worker("consumer")?;
    while not_empty.inspect().waiters == 0 {
        std::thread::yield_now();
    }
    victim.kill()?;
    victim.wait()?;
    println!("a consumer was killed while it slept");

    let roles = ["producer", "producer", "consumer", "consumer"];
    let workers: Vec<Child> = roles.into_iter().map(worker).collect::<Result<_, _>>()?;
    for mut worker in workers {
        assert!(worker.wait()?.success());
    }
    let buffer = buffer.lock().map_err(LockFailure::from)?;
    println!("{} put, {} got, sum {}", buffer.put, buffer.got, buffer.sum);
    assert_eq!((buffer.put, buffer.got), (ALL, ALL));
    assert_eq!(buffer.sum, ALL * (ALL - 1) / 2);
    Ok(())
}

fn work(name: &str, role: &str) -> Result<(), Box<dyn Error>> {
    let [buffer, not_empty, not_full] = names(name);
    let buffer = Mutex::<Buffer>::open(buffer)?;
    let (not_empty, not_full) = (Condvar::open(not_empty)?, Condvar::open(not_full)?);
    for _ in 0..EACH {
        let done = match role {
            "producer" => produce(&buffer, &not_full).map(|()| not_empty.notify_one()),
            _ => consume(&buffer, &not_empty).map(|()| not_full.notify_one()),
        };
        done?;
    }
    Ok(())
}

fn produce(buffer: &Mutex<Buffer>, not_full: &Condvar) -> Result<(), LockFailure> {
    let full = |b: &mut Buffer| b.put - b.got == PLACES;
    let mut b = not_full.wait_while(buffer.lock()?, full)?;
    let number = b.put;
    b.numbers[(number % PLACES) as usize] = number;
    b.put += 1;
    Ok(())
}

fn consume(buffer: &Mutex<Buffer>, not_empty: &Condvar) -> Result<(), LockFailure> {
    let empty = |b: &mut Buffer| b.put == b.got;
    let mut b = not_empty.wait_while(buffer.lock()?, empty)?;
    b.sum += b.numbers[(b.got % PLACES) as usize];
    b.got += 1;
    Ok(())
}
