//! A user of shm-value alone: a child changes a value, a number and two arrays.

use std::process::Command;

use shm_value::{Array, AtomicArray, AtomicValue, Place, Value};

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
    let counts = AtomicArray::create(place("counts"), &[0_u16; 3])?;

    let status = Command::new(std::env::current_exe()?).arg(prefix).status()?;
    assert!(status.success(), "{status}");
    println!("number {}", number.get()?);
    println!("tickets {}", tickets.wait(10));
    println!("array {:?}", &array.lock().unwrap()[..]);
    println!("counts {counts:?}");
    Ok(())
}

fn child(prefix: &str) -> Anything {
    let name = |what| format!("{prefix}-{what}");
    Value::<f64>::open(name("number"))?.set(3.1415927)?;
    let tickets = AtomicValue::<u32>::open(name("tickets"))?;
    tickets.fetch_sub(1);
    tickets.notify_all();
    let counts = AtomicArray::<u16>::open(name("counts"))?;
    for count in counts.elements() {
        count.fetch_add(5);
    }
    for element in Array::<i32>::open(name("array"))?.lock().unwrap().iter_mut() {
        *element = -*element;
    }
    Ok(())
}
