//! Accounts between which processes transfer money. One is killed at some instant, again and again; the sum is as it was.
//!
//! ```sh
//! cargo run --release -p shm-dict --example accounts
//! ```

use std::process::{Command, Stdio};
use std::time::Duration;

use shm_dict::{Dict, DictError, Options, Place};

type Failure = Box<dyn std::error::Error>;
type Accounts = Dict<u32, i64>;

const ACCOUNTS: u32 = 20;
const EACH: i64 = 1000;
const DEATHS: u64 = 20;

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1) {
        Some(name) => transfer_for_ever(&name),
        None => manage(),
    }
}

fn manage() -> Result<(), Failure> {
    let name = format!("accounts-{}", std::process::id());
    let place = Place::named(&name).unlink_on_drop(true);
    let accounts = Accounts::create(place, Options::new())?;
    accounts.extend((0..ACCOUNTS).map(|number| (number, EACH)))?;

    let program = std::env::current_exe()?;
    let mut transfers = 0;
    for death in 0..DEATHS {
        let mut teller = Command::new(&program);
        let mut teller = teller.arg(&name).stdin(Stdio::null()).spawn()?;
        let seen = accounts.version();
        accounts.wait_for_change(seen)?;
        std::thread::sleep(Duration::from_micros(death * 137));
        teller.kill()?;
        teller.wait()?;
        transfers += accounts.version() - seen;
        let sum: i64 = accounts
            .snapshot()?
            .iter()
            .map(|(_, balance)| balance)
            .sum();
        assert_eq!(sum, i64::from(ACCOUNTS) * EACH);
    }

    // More than there is.
    let refused = transfer(&accounts, 0, 1, 1_000_000);
    assert!(refused.is_ok_and(|made| !made));
    println!(
        "{DEATHS} processes were killed among some {transfers} changes; not a coin was lost or made"
    );
    assert_eq!(accounts.check()?.entries, u64::from(ACCOUNTS));
    Ok(())
}

/// Transfers money if there is so much; both accounts change or none.
fn transfer(accounts: &Accounts, from: u32, to: u32, sum: i64) -> Result<bool, DictError> {
    accounts.transaction(&[&from, &to], |accounts| {
        let balance = accounts.get(&from)?.unwrap_or_default();
        if balance < sum {
            return Ok(false);
        }
        accounts.set(&from, &(balance - sum))?;
        accounts.modify(&to, |balance| Some(balance.unwrap_or_default() + sum))?;
        Ok(true)
    })
}

fn transfer_for_ever(name: &str) -> Result<(), Failure> {
    let accounts = Accounts::open(name)?;
    for number in 0_u32.. {
        let (from, to) = (number % ACCOUNTS, number.wrapping_mul(7) % ACCOUNTS);
        transfer(&accounts, from, to, i64::from(number % 90))?;
    }
    Ok(())
}
