//! A bakery of two processes: one bakes and waits until all is eaten, the other dies with a bun, is started anew
//! and eats. It depends on shm-queue alone.

use std::process::Command;

use shm_queue::{ByteQueue, JoinableQueue, Place, Queue, QueueError};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [name, role] if role == "dies" => {
            let counter = JoinableQueue::<String>::open(name)?;
            let _bun = counter.get()?;
            std::process::abort();
        }
        [name, _] => eat(name),
        _ => bake(),
    }
}

fn bake() -> Result<(), Failure> {
    let name = format!("consumer-queue-{}", std::process::id());
    let place = |what: &str| Place::named(format!("{name}{what}")).unlink_on_drop(true);
    let counter = JoinableQueue::<String>::create(place(""), 4)?;
    let eater = |role: &str| {
        let mut eater = Command::new(std::env::current_exe()?);
        eater.args([&name, role]).spawn()
    };
    counter.put_many(["poppy", "sesame", "plain"].map(String::from))?;
    let died = !eater("dies")?.wait()?.success();
    println!("the first eater died: {died}");
    // At once, instead of when somebody has waited for a slice.
    println!("buns it left: {}", counter.recover()?.returned);
    let mut second = eater("eats")?;
    counter.join()?;
    counter.close()?;
    println!("all is eaten: {}", second.wait()?.success());

    let numbers = Queue::<u32>::create(place("-numbers"), 2)?;
    numbers.put(1)?;
    numbers.put(2)?;
    let refused = numbers.try_put(3).unwrap_err();
    println!("{}: {}", refused.value, refused.error);
    println!("{:?}, then {}", numbers.get_many(5)?, numbers.try_get().unwrap_err());

    let bytes = ByteQueue::create(place("-bytes"), 2)?;
    let mut room = bytes.reserve(5)?;
    room.copy_from_slice(b"bytes");
    room.commit()?;
    println!("{}", String::from_utf8_lossy(&bytes.recv_ref()?));
    Ok(())
}

fn eat(name: &str) -> Result<(), Failure> {
    let counter = JoinableQueue::<String>::open(name)?;
    loop {
        match counter.get() {
            Ok(bun) => {
                println!("eating {}, delivery {}", *bun, bun.deliveries());
                bun.task_done()?;
            }
            Err(QueueError::Closed) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}
