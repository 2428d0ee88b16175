//! Settings with a dictionary and a list inside of them, which two processes change in place.
//!
//! ```sh
//! cargo run --release -p shm-dict --example nested_settings
//! ```

use std::process::Command;

use shm_dict::{Dict, Dynamic, List, Place, dynamic};

type Failure = Box<dyn std::error::Error>;
type Settings = Dict<Dynamic, Dynamic>;

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1) {
        Some(name) => change(&name),
        None => manage(),
    }
}

fn manage() -> Result<(), Failure> {
    let name = format!("nested-settings-{}", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let settings = Settings::create(place, Default::default())?;
    settings.set(&"retries".into(), &dynamic!(3))?;
    let colours: Settings = settings.child_dict(&"colours".into())?;
    colours.set(&"sky".into(), &dynamic!("grey"))?;
    let hosts: List<Dynamic> = settings.child_list(&"hosts".into())?;
    hosts.extend([dynamic!("alpha"), dynamic!("beta")])?;
    println!("before: {}", settings.to_dynamic()?);

    let program = std::env::current_exe()?;
    assert!(Command::new(program).arg(&name).status()?.success());

    // What the other process did is seen through the handles that were here before.
    let sky = colours.get(&"sky".into())?;
    println!("after:  {}; the sky is {sky:?}", settings.to_dynamic()?);
    assert_eq!(sky, Some(dynamic!("blue")));
    assert_eq!(
        hosts.snapshot()?,
        [dynamic!("gamma"), dynamic!("beta"), dynamic!("alpha")]
    );

    // What is inside goes with its key.
    settings.remove(&"hosts".into())?;
    println!("hosts:  {}", hosts.len().unwrap_err());
    assert_eq!(settings.check()?.entries, 2);
    Ok(())
}

/// In the other process: a colour, and hosts in the opposite order.
fn change(name: &str) -> Result<(), Failure> {
    let settings = Settings::open(name)?;
    let colours: Settings = settings.child_dict(&"colours".into())?;
    colours.set(&"sky".into(), &dynamic!("blue"))?;
    let hosts: List<Dynamic> = settings.child_list(&"hosts".into())?;
    hosts.push(&dynamic!("gamma"))?;
    hosts.reverse()?;
    Ok(())
}
