//! A bakery of two processes: one keeps the stock, the other sells from it, and dies in the middle of a sale. It
//! depends on shm-dict alone.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use shm_dict::{Bytes, Dict, DictError, List, Options, Place, Raw};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [name, role] if role == "dies" => {
            let stock = Dict::<String, u32>::open(name)?;
            stock.modify("plain", |_| std::process::abort())?;
            Ok(())
        }
        [name, _] => sell(name),
        _ => keep(),
    }
}

fn keep() -> Result<(), Failure> {
    let name = format!("consumer-dict-{}", std::process::id());
    let place = |what: &str| Place::named(format!("{name}{what}")).unlink_on_drop(true);
    let stock = Dict::<String, u32>::create(place(""), Options::new())?;
    stock.extend([("poppy".to_owned(), 2), ("plain".to_owned(), 5)])?;
    let repairs = Arc::new(AtomicU32::new(0));
    let counted = repairs.clone();
    stock.on_recovery(move |_| _ = counted.fetch_add(1, Ordering::Relaxed));

    let seller = |role: &str| {
        let mut seller = Command::new(std::env::current_exe()?);
        seller.args([&name, role]).status()
    };
    println!("the first seller died: {}", !seller("dies")?.success());
    println!("plain buns, read without a lock: {:?}", stock.get("plain")?);
    stock.repair()?;
    println!("repairs: {}", repairs.load(Ordering::Relaxed));
    println!("the second seller is done: {}", seller("sells")?.success());
    let mut left = stock.snapshot()?;
    left.sort();
    println!("left: {left:?}");
    println!("entries by check: {}", stock.check()?.entries);

    let numbers = Dict::<u64, u64, Raw>::create(place("-numbers"), Options::new())?;
    println!("{} and {}", numbers.fetch_add(&7, 3)?, numbers.fetch_add(&7, 1)?);
    println!("{:?}", numbers.compare_and_swap(&7, Some(&4), None)?);
    println!("{:?}", numbers.lock()?.get(&7)?);

    let small = Dict::<Vec<u8>, Vec<u8>, Bytes>::create(place("-small"), Options::new().max_bytes(16 << 10).shards(1))?;
    let mut key = 0_u64;
    let full = loop {
        key += 1;
        match small.set(&key.to_le_bytes()[..], &vec![0; 1000]) {
            Ok(()) => {}
            Err(full) => break full,
        }
    };
    println!("full: {}", matches!(full, DictError::Full { .. }));
    nest(place("-nested"))?;
    Ok(())
}

fn nest(place: Place) -> Result<(), Failure> {
    let shelves = Dict::<String, u32>::create(place, Options::new())?;
    let order: List<u32> = shelves.child_list("order")?;
    order.extend(0..10)?;
    order.reverse()?;
    println!("reversed: {:?}", order.snapshot()?);
    shelves.extend([("left".to_owned(), 9), ("right".to_owned(), 0)])?;
    shelves.transaction(&["left", "right"], |buns| {
        buns.modify("left", |left| left.map(|left| left - 4))?;
        buns.modify("right", |right| right.map(|right| right + 4)).map(drop)
    })?;
    println!("moved: {:?} and {:?}", shelves.get("left")?, shelves.get("right")?);
    shelves.remove("order")?;
    println!("gone: {}", order.len() == Err(DictError::Stale));
    Ok(())
}

fn sell(name: &str) -> Result<(), Failure> {
    let stock = Dict::<String, u32>::open(name)?;
    for bun in ["plain", "poppy", "poppy", "plain"] {
        let left = stock.modify(bun, |left| left.map(|left| left - 1).filter(|&left| left > 0))?;
        println!("sold {bun}, {} left", left.unwrap_or(0));
    }
    Ok(())
}
