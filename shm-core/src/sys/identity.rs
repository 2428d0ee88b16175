//! Who and where this process is: boot, namespaces, itself, now.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, TryLockError};

use crate::fork;
use crate::mutants::mutant;
use crate::participant::ProcessId;

/// What a new header says of its creator, and what `open` compares.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) boot_id: [u8; 16],
    pub(crate) pid_namespace: u32,
    pub(crate) time_namespace: u32,
    pub(crate) process: ProcessId,
    /// Fresh in each value.
    pub(crate) random: u64,
    /// CLOCK_BOOTTIME in nanoseconds, fresh in each value.
    pub(crate) boot_time: u64,
}

/// Reads the identity.
pub(crate) fn here() -> io::Result<Identity> {
    Ok(Identity {
        random: random()?,
        boot_time: boot_time(),
        ..lasting()?
    })
}

/// What cannot change in a process: read once, and again after a fork.
fn lasting() -> io::Result<Identity> {
    static CACHE: Mutex<Option<(u64, Identity)>> = Mutex::new(None);
    if mutant("Identity::WaitsForAnother") {
        // For so long that a fork comes in between.
        let _held = CACHE.lock();
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    // Never wait: in a forked child the lock may be that of a thread that is not there.
    let mut cache = match CACHE.try_lock() {
        Ok(cache) => cache,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return read(),
    };
    let stamp = fork::stamp();
    match &*cache {
        Some((cached, identity)) if *cached == stamp => Ok(identity.clone()),
        _ => {
            let read = read()?;
            *cache = Some((stamp, read.clone()));
            Ok(read)
        }
    }
}

fn read() -> io::Result<Identity> {
    Ok(Identity {
        boot_id: boot_id()?,
        pid_namespace: namespace("pid")?,
        time_namespace: match namespace("time") {
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            other => other?,
        },
        process: ProcessId::current(),
        random: 0,
        boot_time: 0,
    })
}

/// The namespace's inode number: 32 bits in the kernel.
fn namespace(which: &str) -> io::Result<u32> {
    let inode = std::fs::metadata(format!("/proc/self/ns/{which}"))?.ino();
    u32::try_from(inode).map_err(|_| io::Error::other("a namespace inode beyond 32 bits"))
}

fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16)
        .map(u128::to_be_bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn random() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY:
    // - in bounds: the buffer is eight bytes of our own stack, and eight is what we pass;
    // - no other writer: it is local;
    // - any bytes are a value: they are `u8`.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match got {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// CLOCK_BOOTTIME in nanoseconds: counts through suspend, never jumps with the wall clock.
pub(crate) fn boot_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY:
    // - in bounds, no other writer, any bytes a value: `time` is a local timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    debug_assert_eq!(result, 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
