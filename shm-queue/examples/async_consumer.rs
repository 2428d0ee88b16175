//! A consumer in a tokio program: it waits for a message of another process without a thread of its own
//! being blocked in the runtime.
//!
//! ```sh
//! cargo run -p shm-queue --example async_consumer
//! ```

use std::process::Command;
use std::time::Duration;

use shm_queue::{Place, Queue, QueueError, Readiness};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if let Some(name) = std::env::args().nth(1) {
        return produce(&name);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(consume())
}

async fn consume() -> Result<(), Failure> {
    let name = format!("async-consumer-{}", std::process::id());
    let queue = Queue::<u32>::create(Place::named(&name).unlink_on_drop(true), 4)?;
    let readiness = queue.readiness()?;
    // SAFETY: its descriptor stays open and the same as long as it lives, and the `AsyncFd` owns it.
    let readiness = unsafe { AsyncFd::register_with_interest(readiness, Interest::READABLE) }?;
    let mut producer = Command::new(std::env::current_exe()?).arg(&name).spawn()?;

    // Something else goes on meanwhile.
    let ticks = tokio::spawn(async {
        let mut ticks = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ticks += 1;
            if ticks == 5 {
                return ticks;
            }
        }
    });
    let mut sum = 0;
    while let Some(number) = next(&queue, &readiness).await? {
        sum += number;
    }
    assert!(producer.wait()?.success());
    println!("the sum is {sum}; the clock ticked {} times", ticks.await?);
    assert_eq!(sum, 5050);
    Ok(())
}

/// The next number; `None` when the queue is closed and empty.
async fn next(queue: &Queue<u32>, readiness: &AsyncFd<Readiness>) -> Result<Option<u32>, Failure> {
    loop {
        match queue.try_get() {
            Ok(number) => return Ok(Some(number)),
            Err(QueueError::Closed) => return Ok(None),
            Err(QueueError::Empty) => {}
            Err(other) => return Err(other.into()),
        }
        // Not readable from here on, until there is a message: perhaps at once.
        readiness.get_ref().rearm();
        let mut ready = readiness.readable().await?;
        ready.clear_ready();
    }
}

fn produce(name: &str) -> Result<(), Failure> {
    let queue = Queue::<u32>::open(name)?;
    let sender = queue.sender()?;
    for number in 1..=100 {
        sender.put(number)?;
        if number % 25 == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    Ok(())
}
