//! A user of shm-core alone: two processes, one segment.

use std::process::Command;

use shm_core::{Error, Place, Segment};

type Anything = Result<(), Box<dyn std::error::Error>>;

fn main() -> Anything {
    match std::env::args().nth(1) {
        None => parent(&format!("consumer-core-{}", std::process::id())),
        Some(name) => child(&name),
    }
}

fn parent(name: &str) -> Anything {
    let segment = Segment::create(Place::named(name).unlink_on_drop(true), 64)?;
    segment.write(0, b"ping")?;
    let status = Command::new(std::env::current_exe()?).arg(name).status()?;
    assert!(status.success(), "{status}");
    let mut word = [0; 4];
    segment.read(0, &mut word)?;
    println!("parent reads {}", word.escape_ascii());
    drop(segment);
    let gone = matches!(Segment::open(name, 64), Err(Error::NotFound { .. }));
    println!("gone with its creator: {gone}");
    Ok(())
}

fn child(name: &str) -> Anything {
    let segment = Segment::open(name, 64)?;
    let mut word = [0; 4];
    segment.read(0, &mut word)?;
    println!("child reads {}", word.escape_ascii());
    segment.write(0, b"pong")?;
    Ok(())
}
