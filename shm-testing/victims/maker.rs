//! Makes a file of one page, and cleans up after a failure; or forgets a part of that.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU32;

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};

use crate::words;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    FileLeft,
    DescriptorLeft,
    Panic,
}

pub(crate) fn commands() -> Commands {
    let makers = [
        ("make", Fault::None),
        ("make-untidily", Fault::FileLeft),
        ("make-leakily", Fault::DescriptorLeft),
        ("make-rashly", Fault::Panic),
    ];
    let commands = Commands::new()
        .setup("nothing", |_| {})
        .trial("make-thrice", |name| {
            let file = File::create_new(words::path(name)).expect("a new file");
            mark_start();
            for part in 1..=3 {
                file.set_len(PAGE.get() as u64 * part / 3).expect("room");
            }
            mark_end();
            "made"
        })
        .check("make-thrice", check)
        .trial("wake", |_| {
            let word = AtomicU32::new(0);
            mark_start();
            wake_own_threads(&word);
            words::wake(&word);
            mark_end();
            "woken"
        })
        .check("wake", check);
    makers
        .into_iter()
        .fold(commands, |commands, (operation, fault)| {
            commands
                .trial(operation, move |name| {
                    mark_start();
                    let made = make(name, fault);
                    mark_end();
                    match made {
                        Ok(()) => "made".to_owned(),
                        Err(error) => format!("refused with {}", error.raw_os_error().unwrap_or(0)),
                    }
                })
                .check(operation, check)
        })
}

/// Wakes the threads of this process that sleep on a word of this process alone, as libc does.
fn wake_own_threads(word: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: waking does not touch the word's memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, i32::MAX) };
}

fn check(name: &str, _: Option<&str>) -> &'static str {
    let Ok(file) = fs::metadata(words::path(name)) else {
        return "absent";
    };
    assert_eq!(file.len(), PAGE.get() as u64, "half-made");
    words::remove(name);
    "whole"
}

fn make(name: &str, fault: Fault) -> io::Result<()> {
    let path = words::path(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    let filled = fill(&file);
    if fault == Fault::Panic {
        filled.as_ref().expect("a page");
    }
    if filled.is_err() {
        if fault != Fault::FileLeft {
            fs::remove_file(&path)?;
        }
        if fault == Fault::DescriptorLeft {
            mem::forget(file);
        }
    }
    filled
}

/// Gives the file a page, and writes to it.
fn fill(file: &File) -> io::Result<()> {
    file.set_len(PAGE.get() as u64)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses the address, so nothing is mapped over.
    let at = unsafe { mmap(None, PAGE, access, MapFlags::MAP_SHARED, file, 0) }?;
    // SAFETY: in bounds of a fresh mapping that nobody else knows; any byte is a value.
    unsafe { at.cast::<u8>().write(1) };
    // SAFETY: nothing refers to the mapping.
    Ok(unsafe { munmap(at, PAGE.get()) }?)
}
