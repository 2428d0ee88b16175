//! Files that hold segments: made without a name, published whole, opened with care.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};

use crate::error::Error;
use crate::mutants::mutant;

type Result<T> = std::result::Result<T, Error>;

/// What `open` needs to know of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl From<&FileStat> for FileId {
    fn from(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// A file without a name in `directory`; nothing is left of it if this process dies.
///
/// Source: open(2), O_TMPFILE.
pub(crate) fn unnamed_in(segment: &str, directory: &Path, mode: u32) -> Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(mode);
    let file = retry(|| nix::fcntl::open(directory, flags, mode)).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => directory_missing(segment, directory),
        Errno::EOPNOTSUPP | Errno::EISDIR => Error::Unsupported {
            segment: segment.to_owned(),
            what: "the file system has no O_TMPFILE",
        },
        // No inode is left: what it takes is not counted in bytes.
        Errno::ENOSPC | Errno::EDQUOT => Error::StorageFull {
            segment: segment.to_owned(),
            need: 0,
            free: 0,
        },
        errno => Error::from_errno(segment, "open(O_TMPFILE)", errno),
    })?;
    // The umask took bits away; the mode is the caller's word.
    nix::sys::stat::fchmod(&file, mode).map_err(|e| Error::from_errno(segment, "fchmod", e))?;
    Ok(file)
}

/// A memfd that can still be sealed.
pub(crate) fn anonymous(segment: &str) -> Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    memfd_create("shm", flags).map_err(|e| Error::from_errno(segment, "memfd_create", e))
}

/// Seals a memfd against shrinking, growing and further seals: no peer can make a page vanish.
pub(crate) fn seal(segment: &str, file: &OwnedFd) -> Result<()> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))
        .map(|_| ())
        .map_err(|e| Error::from_errno(segment, "fcntl(F_ADD_SEALS)", e))
}

/// Gives an unnamed file its name; whoever links first wins.
///
/// Source: open(2), O_TMPFILE; linkat(2) through /proc, which needs no privilege.
pub(crate) fn publish(segment: &str, file: &OwnedFd, path: &Path) -> Result<()> {
    if mutant("Segment::TakesANameThatIsTaken") {
        let _ = nix::unistd::unlink(path);
    }
    let by_proc = format!("/proc/self/fd/{}", file.as_raw_fd());
    let cwd = nix::fcntl::AT_FDCWD;
    match nix::unistd::linkat(cwd, by_proc.as_str(), cwd, path, AtFlags::AT_SYMLINK_FOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) => Err(Error::AlreadyExists {
            segment: segment.to_owned(),
        }),
        Err(Errno::ENOSPC | Errno::EDQUOT) => Err(storage_full(segment, file, 0)),
        Err(e) => Err(Error::from_errno(segment, "linkat", e)),
    }
}

/// Opens an existing file, never through a symbolic link in its last component.
pub(crate) fn open(segment: &str, path: &Path, read_only: bool) -> Result<OwnedFd> {
    let access = if read_only {
        OFlag::O_RDONLY
    } else {
        OFlag::O_RDWR
    };
    // O_NONBLOCK: a FIFO of that name must not hang us; it says nothing to regular files.
    let flags = access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    retry(|| nix::fcntl::open(path, flags, Mode::empty())).map_err(|errno| match errno {
        Errno::ENOENT => match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
                directory_missing(segment, directory)
            }
            _ => Error::NotFound {
                segment: segment.to_owned(),
            },
        },
        Errno::ENOTDIR => directory_missing(segment, path.parent().unwrap_or(path)),
        Errno::ELOOP => not_a_segment(segment, "it is a symbolic link"),
        Errno::ENXIO | Errno::EISDIR => not_a_segment(segment, "it is not a regular file"),
        errno => Error::from_errno(segment, "open", errno),
    })
}

/// Opens a descriptor that this process inherited, by its number.
pub(crate) fn open_inherited(segment: &str, number: i32, read_only: bool) -> Result<OwnedFd> {
    let access = if read_only {
        OFlag::O_RDONLY
    } else {
        OFlag::O_RDWR
    };
    let path = format!("/proc/self/fd/{number}");
    // O_NONBLOCK: as in `open`.
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    retry(|| nix::fcntl::open(path.as_str(), flags, Mode::empty())).map_err(|errno| match errno {
        Errno::ENOENT => Error::NotFound {
            segment: segment.to_owned(),
        },
        Errno::ENXIO => not_a_segment(segment, "it is not a regular file"),
        errno => Error::from_errno(segment, "open", errno),
    })
}

/// `fstat`, refusing what is no regular file.
pub(crate) fn stat(segment: &str, file: impl AsFd) -> Result<FileStat> {
    let stat = nix::sys::stat::fstat(file).map_err(|e| Error::from_errno(segment, "fstat", e))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(not_a_segment(segment, "it is not a regular file"));
    }
    Ok(stat)
}

/// The file that a path names now, without following a symbolic link; `None` if there is none.
pub(crate) fn id_at(segment: &str, path: &Path) -> Result<Option<FileId>> {
    match nix::sys::stat::lstat(path) {
        Ok(stat) => Ok(Some(FileId::from(&stat))),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(Error::from_errno(segment, "lstat", e)),
    }
}

/// Refuses a network file system: memory mapped from it is not shared with other hosts coherently,
/// and a lock in it would not be one.
pub(crate) fn require_local(segment: &str, file: &OwnedFd) -> Result<()> {
    use nix::sys::statfs;
    let kind = statfs::fstatfs(file).map_err(|e| Error::from_errno(segment, "fstatfs", e))?;
    const CIFS: i64 = 0xFF53_4D42;
    const SMB2: i64 = 0xFE53_4D42;
    let magic = kind.filesystem_type().0 as i64;
    let remote = [
        statfs::NFS_SUPER_MAGIC,
        statfs::SMB_SUPER_MAGIC,
        statfs::CODA_SUPER_MAGIC,
    ]
    .iter()
    .any(|t| t.0 == magic);
    if remote || magic == CIFS || magic == SMB2 {
        let what = "the file is on a network file system";
        return Err(Error::Unsupported {
            segment: segment.to_owned(),
            what,
        });
    }
    Ok(())
}

/// Sets the size, without allocating.
pub(crate) fn set_size(segment: &str, file: &OwnedFd, size: u64) -> Result<()> {
    let too_large = || Error::TooLarge {
        segment: segment.to_owned(),
        requested: size,
    };
    let length = i64::try_from(size).map_err(|_| too_large())?;
    retry(|| nix::unistd::ftruncate(file, length)).map_err(|errno| match errno {
        Errno::EFBIG | Errno::EINVAL | Errno::EOVERFLOW => too_large(),
        Errno::ENOSPC | Errno::EDQUOT => storage_full(segment, file, size),
        errno => Error::from_errno(segment, "ftruncate", errno),
    })
}

/// Step of an allocation. Small enough to end between two signals of a 1 kHz timer: the kernel
/// gives an interrupted `fallocate` up, all of it.
const STEP: u64 = 1 << 20;

/// Allocates bytes that a touch could otherwise find missing (SIGBUS on a full tmpfs).
///
/// # Errors
/// [`Error::StorageFull`]; some of the range may be allocated then, which nobody can notice but
/// by the room that is left.
///
/// Source: fallocate(2); shmem_fallocate in the kernel.
pub(crate) fn allocate(segment: &str, file: &OwnedFd, offset: u64, len: u64) -> Result<()> {
    use nix::fcntl::{FallocateFlags, fallocate};
    if len >= STEP && free_bytes(file).is_some_and(|free| free < unallocated(file, len)) {
        return Err(storage_full(segment, file, len));
    }
    let (mut at, end) = (offset, offset + len);
    if mutant("Segment::ReservesNothing") {
        return Ok(());
    }
    let mut step = STEP;
    while at < end {
        let part = step.min(end - at);
        match fallocate(file, FallocateFlags::empty(), at as i64, part as i64) {
            Ok(()) => at += part,
            Err(Errno::EINTR) => step = (step / 2).max(4096),
            Err(Errno::ENOSPC | Errno::EDQUOT | Errno::ENOMEM) => {
                return Err(storage_full(segment, file, len));
            }
            Err(Errno::EFBIG) => {
                return Err(Error::TooLarge {
                    segment: segment.to_owned(),
                    requested: end,
                });
            }
            Err(Errno::EOPNOTSUPP) => {
                let what = "the file system cannot reserve space (fallocate)";
                return Err(Error::Unsupported {
                    segment: segment.to_owned(),
                    what,
                });
            }
            Err(e) => return Err(Error::from_errno(segment, "fallocate", e)),
        }
    }
    Ok(())
}

/// Gives the memory of whole pages in a range back.
///
/// Source: fallocate(2), FALLOC_FL_PUNCH_HOLE.
pub(crate) fn discard(segment: &str, file: &OwnedFd, offset: u64, len: u64) -> Result<()> {
    use nix::fcntl::{FallocateFlags, fallocate};
    if len == 0 {
        return Ok(());
    }
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    retry(|| fallocate(file, flags, offset as i64, len as i64))
        .map_err(|e| Error::from_errno(segment, "fallocate(PUNCH_HOLE)", e))
}

/// Maps pages that are allocated already, for writing.
///
/// Source: madvise(2), MADV_POPULATE_WRITE (Linux 5.14).
pub(crate) fn prefault(start: *mut u8, len: usize) {
    // SAFETY: changes no byte, at any address. An error is no matter: pages are mapped when they are touched.
    let _ = unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_WRITE) };
}

/// How much of `len` is surely not allocated yet: the file has fewer blocks than that.
fn unallocated(file: &OwnedFd, len: u64) -> u64 {
    let blocks = nix::sys::stat::fstat(file).map_or(0, |stat| stat.st_blocks as u64 * 512);
    len.saturating_sub(blocks)
}

/// Bytes that are free: of the file system, and of memory where the file system is memory.
fn free_bytes(file: &OwnedFd) -> Option<u64> {
    use nix::sys::statfs;
    let memory = statfs::fstatfs(file).ok()?.filesystem_type() == statfs::TMPFS_MAGIC;
    let disk = nix::sys::statvfs::fstatvfs(file).ok()?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    match (memory, disk.blocks()) {
        (false, _) => Some(free),
        // A tmpfs without a limit, as memfd's is: only memory bounds it.
        (true, 0) => available_memory(),
        (true, _) => Some(available_memory().map_or(free, |memory| free.min(memory))),
    }
}

/// MemAvailable + SwapFree of /proc/meminfo.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |key: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some((kib("MemAvailable:")? + kib("SwapFree:").unwrap_or(0)) * 1024)
}

fn storage_full(segment: &str, file: &OwnedFd, need: u64) -> Error {
    let free = free_bytes(file).unwrap_or(0);
    Error::StorageFull {
        segment: segment.to_owned(),
        need,
        free,
    }
}

/// Reads the first bytes of a file into private memory; fewer if it is shorter.
pub(crate) fn read_start(segment: &str, file: &OwnedFd, buffer: &mut [u8]) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match retry(|| nix::sys::uio::pread(file, &mut buffer[got..], got as i64)) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) => return Err(Error::from_errno(segment, "pread", e)),
        }
    }
    Ok(got)
}

/// An exclusive lock on a segment's inode, held while its name is judged and removed.
///
/// Not nix's `Flock`, whose drop panics if it cannot unlock.
#[derive(Debug)]
pub(crate) struct InodeLock(OwnedFd);

impl Drop for InodeLock {
    fn drop(&mut self) {
        // Before the descriptor is closed: a child forked meanwhile may have a copy of it. An error has
        // nobody to go to, and the lock goes with the last copy.
        let _ = flock(&self.0, libc::LOCK_UN);
    }
}

fn flock(file: &OwnedFd, operation: i32) -> nix::Result<()> {
    // SAFETY: an open descriptor, as it is borrowed; no memory is involved.
    let result = unsafe { libc::flock(file.as_raw_fd(), operation) };
    Errno::result(result).map(drop)
}

/// How long to wait for another process that holds an inode's lock.
const INODE_LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Takes the inode's lock through a description of its own, so that threads exclude each other too.
pub(crate) fn lock_inode(segment: &str, file: OwnedFd) -> Result<InodeLock> {
    let until = Instant::now() + INODE_LOCK_PATIENCE;
    loop {
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => return Ok(InodeLock(file)),
            Err(Errno::EWOULDBLOCK | Errno::EINTR) => {
                if Instant::now() >= until {
                    return Err(Error::Busy {
                        segment: segment.to_owned(),
                    });
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(errno) => return Err(Error::from_errno(segment, "flock", errno)),
        }
    }
}

/// Removes a name.
pub(crate) fn unlink(segment: &str, path: &Path) -> Result<()> {
    nix::unistd::unlink(path).map_err(|errno| match errno {
        Errno::ENOENT => Error::NotFound {
            segment: segment.to_owned(),
        },
        errno => Error::from_errno(segment, "unlink", errno),
    })
}

/// The file names in a directory, but for those that no segment can have.
pub(crate) fn names_in(segment: &str, directory: &Path) -> Result<Vec<String>> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => directory_missing(segment, directory),
        _ => Error::from_io(segment, "reading the directory", error),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| match entry {
        Ok(entry) => Ok(OsStr::to_str(&entry.file_name()).map(str::to_owned)).transpose(),
        Err(error) => Some(Err(failed(error))),
    };
    let entries = loop {
        match std::fs::read_dir(directory) {
            // As `retry`.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            entries => break entries.map_err(failed)?,
        }
    };
    entries.filter_map(name).collect()
}

fn directory_missing(segment: &str, directory: &Path) -> Error {
    let directory = directory.display().to_string();
    Error::DirectoryMissing {
        segment: segment.to_owned(),
        directory,
    }
}

fn not_a_segment(segment: &str, why: &'static str) -> Error {
    Error::NotASegment {
        segment: segment.to_owned(),
        why,
    }
}

/// Calls again if a signal came in between: also an open may wait, where a process or a server is the file system.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
