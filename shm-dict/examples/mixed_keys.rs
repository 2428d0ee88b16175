//! Two processes share one dictionary of keys and values of any kind, as a Python program would:
//! `{0.25: None, 1: '1', '2': 2}`.
//!
//! ```sh
//! cargo run --release -p shm-dict --example mixed_keys
//! ```

use std::process::Command;

use shm_dict::{Dict, Dynamic, Place, dynamic};

type Failure = Box<dyn std::error::Error>;
type Mixed = Dict<Dynamic, Dynamic>;

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1) {
        Some(name) => change(&name),
        None => manage(),
    }
}

fn manage() -> Result<(), Failure> {
    let name = format!("mixed-keys-{}", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let mixed = Mixed::create(place, Default::default())?;
    mixed.set(&0.25.into(), &dynamic!("a quarter"))?;
    mixed.set(&1.into(), &dynamic!(1))?;
    mixed.set(&(2, "b").into(), &dynamic!([2, ("b",)]))?;
    println!("before: {}", text(&mixed)?);

    let program = std::env::current_exe()?;
    assert!(Command::new(program).arg(&name).status()?.success());
    println!("after:  {}", text(&mixed)?);
    assert_eq!(
        text(&mixed)?,
        "{0.25: None, 1: '1', '2': 2, (2, 'b'): [2, ('b',), {'c': 3}]}"
    );
    Ok(())
}

/// In the other process.
fn change(name: &str) -> Result<(), Failure> {
    let mixed = Mixed::open(name)?;
    mixed.set(&0.25.into(), &dynamic!(None))?;
    mixed.modify(&1.into(), |value| {
        value.map(|number| number.to_string().into())
    })?;
    mixed.set(&"2".into(), &dynamic!(2))?;
    mixed.modify(&(2, "b").into(), |value| match value {
        Some(Dynamic::List(mut items)) => {
            items.push(dynamic!({"c": 3}));
            Some(Dynamic::List(items))
        }
        other => other,
    })?;

    // As in Python, a list is no key; and a value says of what kind it is.
    println!(
        "a list: {}",
        mixed.set(&dynamic!([1]), &dynamic!(1)).unwrap_err()
    );
    let one = mixed.get(&1.into())?.unwrap_or_default();
    println!("number: {}", i32::try_from(&one).unwrap_err());
    Ok(())
}

fn text(mixed: &Mixed) -> Result<String, Failure> {
    Ok(Dynamic::dict(mixed.snapshot()?).to_string())
}
