//! A segment without a name: the parent makes it, a child inherits it, both see the same bytes.
//!
//! `cargo run -p shm-core --example hand_over`

use std::env;
use std::error::Error;
use std::os::fd::AsRawFd;
use std::process::Command;

use shm_core::{Place, Segment};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => parent(),
        Some(number) => child(number.parse()?),
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    let frames = Segment::create(Place::anonymous(), 1 << 20)?;
    frames.write(0, b"a frame of the parent")?;

    let fd = frames.inheritable_fd()?;
    let number = fd.as_raw_fd().to_string();
    let status = Command::new(env::current_exe()?).arg(number).status()?;

    let mut reply = [0; 20];
    frames.read(4096, &mut reply)?;
    println!("parent read: {}", String::from_utf8_lossy(&reply));
    assert!(status.success());
    assert_eq!(&reply, b"a reply of the child");
    Ok(())
}

fn child(number: i32) -> Result<(), Box<dyn Error>> {
    let frames = Segment::open(Place::inherited(number), 1 << 20)?;
    let mut frame = [0; 21];
    frames.read(0, &mut frame)?;
    println!("child read:  {}", String::from_utf8_lossy(&frame));
    frames.write(4096, b"a reply of the child")?;
    Ok(())
}
