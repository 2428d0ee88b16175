//! A configuration that is changed while it is in use: many processes read it all the time, one writes.
//! The first writer is killed in the middle of a change; the readers do not notice, and a second one
//! goes on.
//!
//! `cargo run --release -p shm-value --example live_configuration`

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use shm_core::Scope;
use shm_value::SeqValue;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const READERS: usize = 6;
/// Changes that the first writer lives to commit.
const CHANGES: u64 = 100_000;

/// Whole, if the limits add up to the total.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Configuration {
    /// Requests in a second, for each of four kinds.
    limits: [u64; 4],
    total: u64,
    timeout_ms: u32,
    /// 0: go on; 1: stop.
    stop: u32,
}

impl Configuration {
    fn new(limit: u64) -> Self {
        Self {
            limits: [limit, limit + 1, limit + 2, limit + 3],
            total: 4 * limit + 6,
            timeout_ms: 250,
            stop: 0,
        }
    }

    fn is_whole(&self) -> bool {
        self.limits.iter().sum::<u64>() == self.total
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => parent(),
        ["read", name] => read(name),
        ["write", name] => write(name),
        _ => Err("unknown arguments".into()),
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    let name = format!("live-configuration-{}", std::process::id());
    let scope = Scope::new();
    let configuration = SeqValue::create(scope.place(&name), Configuration::new(0))?;
    let child = |role: &str| {
        Command::new(env::current_exe()?)
            .args([role, &name])
            .spawn()
    };

    let readers: Vec<Child> = (0..READERS)
        .map(|_| child("read"))
        .collect::<std::io::Result<_>>()?;

    let mut doomed = child("write")?;
    // Until it has begun the change after its last.
    while configuration.version() < CHANGES || configuration.inspect().owner.is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    doomed.kill()?;
    doomed.wait()?;
    let left = configuration.get();
    println!("the first writer was killed after {CHANGES} changes, in the middle of the next");
    assert!(left.is_whole() && configuration.version() == CHANGES);

    // The second one: the parent itself.
    for limit in 1..1_000 {
        configuration.set(Configuration::new(limit))?;
    }
    configuration.update(|configuration| configuration.stop = 1)?;
    for mut reader in readers {
        assert!(reader.wait()?.success(), "a reader saw half a change");
    }
    println!("{READERS} readers saw nothing but whole configurations");
    Ok(())
}

/// Looks at the configuration for each request, as a server would, until it says stop.
fn read(name: &str) -> Result<(), Box<dyn Error>> {
    let configuration = SeqValue::<Configuration>::open_read_only(name)?;
    let (mut requests, mut changes, mut last) = (0_u64, 0_u64, 0);
    loop {
        let (now, version) = configuration.get_with_version();
        if !now.is_whole() {
            return Err(format!("half a change: {now:?}").into());
        }
        requests += 1;
        changes += u64::from(version != last);
        last = version;
        if now.stop == 1 {
            println!("  {requests:>9} requests, {changes:>6} of them under a new configuration");
            return Ok(());
        }
    }
}

/// Changes the configuration without pause, then begins a change that it does not live to finish.
fn write(name: &str) -> Result<(), Box<dyn Error>> {
    let configuration = SeqValue::<Configuration>::open(name)?;
    for limit in 1..=CHANGES {
        configuration.set(Configuration::new(limit))?;
    }
    configuration.update(|configuration| {
        configuration.limits = [7; 4];
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    })?;
    Ok(())
}
