//! Back-pressure: a fast producer and a slow consumer around a queue of four. The producer waits a moment
//! for room, and drops what it cannot put by then.
//!
//! ```sh
//! cargo run -p shm-queue --example back_pressure
//! ```

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use shm_queue::{Place, Queue, QueueError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        Some(name) => consume(&name),
        None => produce(),
    }
}

fn produce() -> Result<(), Box<dyn std::error::Error>> {
    let name = format!("back-pressure-{}", std::process::id());
    let frames = Queue::<u32>::create(Place::named(&name).unlink_on_drop(true), 4)?;
    let mut consumer = Command::new(std::env::current_exe()?).arg(&name).spawn()?;
    let (mut sent, mut dropped) = (0, 0);
    for frame in 0..100 {
        match frames.put_timeout(frame, Duration::from_millis(1)) {
            Ok(()) => sent += 1,
            Err(refused) if refused.error == QueueError::Timeout => dropped += 1,
            Err(refused) => return Err(refused.into()),
        }
    }
    frames.close()?;
    assert!(consumer.wait()?.success());
    println!("{sent} frames were sent, {dropped} dropped; never more than 4 waited");
    assert_eq!(sent + dropped, 100);
    Ok(())
}

fn consume(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let frames = Queue::<u32>::open(name)?;
    let mut last = None;
    for frame in &frames {
        let frame = frame?;
        assert!(last < Some(frame), "frames stay in order");
        last = Some(frame);
        sleep(Duration::from_millis(2));
    }
    Ok(())
}
