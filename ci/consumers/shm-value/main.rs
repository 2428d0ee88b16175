//! A user of shm-value alone: a child changes a value, a number and an array.

use std::process::Command;

use shm_value::{Array, AtomicValue, Place, Value};

type Anything = Result<(), Box<dyn std::error::Error>>;

fn main() -> Anything {
    match std::env::args().nth(1) {
        None => parent(&format!("consumer-value-{}", std::process::id())),
        Some(prefix) => child(&prefix),
    }
}

fn parent(prefix: &str) -> Anything {
    let place = |what| Place::named(format!("{prefix}-{what}")).unlink_on_drop(true);
    let number = Value::create(place("number"), 0.0_f64)?;
    let tickets = AtomicValue::create(place("tickets"), 10_u32)?;
    let array = Array::create(place("array"), &[0_i32, 1, 2, 3])?;

    let status = Command::new(std::env::current_exe()?).arg(prefix).status()?;
    assert!(status.success(), "{status}");
    println!("number {}", number.get()?);
    println!("tickets {}", tickets.load());
    println!("array {:?}", &array.lock().unwrap()[..]);
    Ok(())
}

fn child(prefix: &str) -> Anything {
    let name = |what| format!("{prefix}-{what}");
    Value::<f64>::open(name("number"))?.set(3.1415927)?;
    AtomicValue::<u32>::open(name("tickets"))?.fetch_sub(1);
    for element in Array::<i32>::open(name("array"))?.lock().unwrap().iter_mut() {
        *element = -*element;
    }
    Ok(())
}
