//! A server that takes two connections at a time, and six clients, one of which is killed with its
//! connection open. The connection comes back, and all others are served.
//!
//! `cargo run -p shm-lock --example connection_limit`

use std::env;
use std::error::Error;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use shm_core::Place;
use shm_lock::RobustSemaphore;

const CONNECTIONS: u32 = 2;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    match &args[1..] {
        [] => serve(),
        [name, client] => connect(name, client),
        _ => Err("no arguments are expected".into()),
    }
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    let name = format!("connection-limit-{}", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let connections = RobustSemaphore::create(place, CONNECTIONS)?;

    let client = |label: &str| -> std::io::Result<Child> {
        Command::new(env::current_exe()?)
            .args([&name, label])
            .spawn()
    };
    let mut unlucky = client("unlucky")?;
    // It has a connection, and will never give it back.
    while connections.inspect().holders.is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let clients: Vec<Child> = (1..6)
        .map(|n| client(&n.to_string()))
        .collect::<Result<_, _>>()?;
    for holder in connections.inspect().holders {
        if let Some(process) = holder.owner {
            println!("connected: {process}");
        }
    }
    unlucky.kill()?;
    unlucky.wait()?;

    for mut client in clients {
        assert!(client.wait()?.success(), "a client was not served");
    }
    let after = connections.inspect();
    println!(
        "{} of {} connections are free, {} came back from the dead",
        connections.available(),
        after.permits,
        after.deaths
    );
    // A permit counts as come back when somebody has it again; so take them all.
    let all = [connections.acquire()?, connections.acquire()?];
    assert_eq!(connections.inspect().deaths, 1);
    assert!(connections.try_acquire().is_err());
    drop(all);
    assert_eq!(connections.available(), CONNECTIONS);
    Ok(ExitCode::SUCCESS)
}

fn connect(name: &str, client: &str) -> Result<ExitCode, Box<dyn Error>> {
    let connections = RobustSemaphore::open(name)?;
    let connection = connections.acquire_timeout(Duration::from_secs(20))?;
    if client == "unlucky" {
        std::thread::sleep(Duration::from_secs(60));
        return Ok(ExitCode::FAILURE);
    }
    if let Some(process) = connection.dead_holder() {
        println!("client {client} has the connection of {process}, which died");
    }
    std::thread::sleep(Duration::from_millis(20));
    println!("client {client} was served");
    Ok(ExitCode::SUCCESS)
}
