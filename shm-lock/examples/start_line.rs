//! Four runners meet at a start line, twice. Before the second start one of them is killed, and the
//! others hear of it instead of waiting for ever.
//!
//! `cargo run -p shm-lock --example start_line`

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use shm_core::Place;
use shm_lock::{Barrier, Event};

const RUNNERS: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    match &args[1..] {
        [] => hold_the_race(),
        [name, runner] => run(name, runner),
        _ => Err("no arguments are expected".into()),
    }
}

fn hold_the_race() -> Result<(), Box<dyn Error>> {
    let name = format!("race-{}", std::process::id());
    let line = Barrier::create(Place::named(&name).unlink_on_drop(true), RUNNERS)?;
    let again = Place::named(format!("{name}-again")).unlink_on_drop(true);
    let again = Event::create(again)?;

    let binary = env::current_exe()?;
    let runner = |n: u32| Command::new(&binary).args([&name, &n.to_string()]).spawn();
    let mut runners: Vec<Child> = (0..RUNNERS).map(runner).collect::<Result<_, _>>()?;

    while line.inspect().rounds == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut unlucky = runners.pop().ok_or("there are four")?;
    unlucky.kill()?;
    unlucky.wait()?;
    println!("runner {} was killed between the starts", RUNNERS - 1);
    again.set();

    for mut runner in runners {
        assert!(runner.wait()?.success(), "a runner was not told");
    }
    assert!(line.is_broken());

    // Ready for another race.
    line.reset();
    assert!(!line.is_broken());
    Ok(())
}

fn run(name: &str, runner: &str) -> Result<(), Box<dyn Error>> {
    let line = Barrier::open(name)?;
    let again = Event::open(format!("{name}-again"))?;
    // From here on our death is known to the others.
    let mut place = line.register()?;

    let first = place.wait()?;
    println!(
        "runner {runner} starts, number {} at the line",
        first.index()
    );
    again.wait();
    let Err(broken) = place.wait() else {
        return Err("the start was given without the dead runner".into());
    };
    println!("runner {runner} does not start: {broken}");
    match broken.dead_party() {
        Some(_) => Ok(()),
        None => Err("nobody died, it says".into()),
    }
}
