//! A user of shm-lock alone: one mutex, two processes that take turns, one that dies holding it.

use std::process::Command;

use shm_lock::{LockError, Mutex, Place};

type Anything = Result<(), Box<dyn std::error::Error>>;

const ROUNDS: u64 = 10_000;

fn main() -> Anything {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [] => parent(&format!("consumer-lock-{}", std::process::id())),
        [role, name] if role == "count" => count(name),
        [role, name] if role == "die" => die(name),
        other => Err(format!("arguments {other:?}").into()),
    }
}

fn parent(name: &str) -> Anything {
    let me = std::env::current_exe()?;
    let counter = Mutex::create(Place::named(name).unlink_on_drop(true), 0_u64)?;
    let counting = [(); 2].map(|()| Command::new(&me).args(["count", name]).spawn());
    for child in counting {
        let status = child?.wait()?;
        assert!(status.success(), "{status}");
    }
    println!("two processes counted to {}", *counter.lock().unwrap());

    let status = Command::new(&me).args(["die", name]).status()?;
    assert!(!status.success(), "{status}");
    match counter.lock() {
        Err(LockError::OwnerDied(recover)) => {
            println!("the owner died and left {}", *recover);
            let counter = recover.repair(|count| *count = 2 * ROUNDS);
            println!("repaired: {}", *counter);
        }
        other => return Err(format!("{other:?}").into()),
    }
    println!("and again: {}", *counter.lock().unwrap());
    Ok(())
}

fn count(name: &str) -> Anything {
    let counter = Mutex::<u64>::open(name)?;
    for _ in 0..ROUNDS {
        *counter.lock().unwrap() += 1;
    }
    Ok(())
}

fn die(name: &str) -> Anything {
    let counter = Mutex::<u64>::open(name)?;
    let mut held = counter.lock().unwrap();
    *held = 0;
    std::process::abort()
}
