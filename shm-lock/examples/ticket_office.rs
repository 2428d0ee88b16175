//! Twenty buyers race for the last ten tickets, and one of them is killed in the middle of a sale.
//! Every ticket is sold once, and the sale that was cut short is mended by the next buyer.
//!
//! `cargo run -p shm-lock --example ticket_office`

use std::env;
use std::error::Error;
use std::process::{Child, Command};

use shm_core::Place;
use shm_lock::{Cause, Mutex};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// Together these two are always ten.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
struct Office {
    left: u32,
    sold: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    match &args[1..] {
        [] => open_the_office(),
        [name, buyer] => buy(name, buyer),
        _ => Err("no arguments are expected".into()),
    }
}

fn open_the_office() -> Result<(), Box<dyn Error>> {
    let name = format!("ticket-office-{}", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let office = Mutex::create(place, Office { left: 10, sold: 0 })?;

    let buyer = |n: usize| -> std::io::Result<Child> {
        let label = if n == 3 {
            "unlucky".to_owned()
        } else {
            n.to_string()
        };
        Command::new(env::current_exe()?)
            .args([&name, &label])
            .spawn()
    };
    let buyers: Vec<Child> = (0..20).map(buyer).collect::<Result<_, _>>()?;
    for mut buyer in buyers {
        buyer.wait()?;
    }

    let office = office.lock_or_repair(mend)?;
    println!(
        "at closing time: {} left, {} sold",
        office.left, office.sold
    );
    assert_eq!((office.left, office.sold), (0, 10));
    Ok(())
}

fn buy(name: &str, buyer: &str) -> Result<(), Box<dyn Error>> {
    let office = Mutex::<Office>::open(name)?;
    let mut office = office.lock_or_repair(mend)?;
    if office.left == 0 {
        return Ok(());
    }
    office.left -= 1;
    if buyer == "unlucky" {
        // As SIGKILL would, between the two steps of a sale: the ticket is gone and not sold.
        std::process::abort();
    }
    office.sold += 1;
    println!("buyer {buyer} has ticket {}", office.sold);
    Ok(())
}

/// The ticket that was taken out and not sold goes back.
fn mend(office: &mut Office, cause: Cause) {
    println!("{cause}: {} left and {} sold", office.left, office.sold);
    office.left = 10 - office.sold;
}
