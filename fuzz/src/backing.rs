//! Where the bytes of an attack stand: a memfd, a name in /dev/shm, or memory of exactly their length.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use nix::sys::memfd::{MFdFlags, memfd_create};
use shm_core::{DIRECTORY, Place, Region};

/// Bytes that the library opens as a segment, and that an attacker changes.
#[derive(Debug)]
pub(crate) enum Backing {
    /// A file, opened by descriptor.
    File { len: usize },
    /// A file that is found by its name, which goes when this is dropped.
    Named {
        name: String,
        file: File,
        len: usize,
    },
    /// A region of the caller's. Its end is the end of an allocation, where AddressSanitizer watches.
    Memory(Arc<Memory>),
}

/// An allocation, aligned as mapped memory is.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    len: usize,
}

// SAFETY: an address; what is behind it is reached by one thread, or through the library.
unsafe impl Send for Memory {}
// SAFETY: as for Send.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn zeroed(len: usize) -> Arc<Self> {
        Self::allocated(len, alloc_zeroed)
    }

    fn copied(bytes: &[u8]) -> Arc<Self> {
        let memory = Self::allocated(bytes.len(), alloc);
        // SAFETY: `bytes` fit, and nobody else has the memory yet.
        unsafe {
            memory
                .start
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        memory
    }

    fn allocated(len: usize, allocate: unsafe fn(Layout) -> *mut u8) -> Arc<Self> {
        let layout = Layout::from_size_align(len.max(1), 4096).expect("a small layout");
        // SAFETY: the size is not zero.
        let start = unsafe { allocate(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Arc::new(Self { start, layout, len })
    }

    /// All of it. Only the library and [`Backing::poke`] touch the bytes.
    pub(crate) fn region(self: &Arc<Self>) -> Region {
        // SAFETY: `self` is kept, and its bytes are touched as just said, in one thread.
        unsafe { Region::new(self.start, self.len, Arc::clone(self)) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `allocated` with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Self::Named { name, .. } = self {
            // The library may have removed it already.
            let _ = std::fs::remove_file(format!("{DIRECTORY}/{name}"));
        }
    }
}

/// One memfd for all inputs: making one costs more than all that is done with it.
fn the_file() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        let fd: OwnedFd = memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).expect("a memfd");
        File::from(fd)
    })
}

impl Backing {
    pub(crate) fn file(bytes: &[u8]) -> Self {
        // No shorter first: pages that stay need not be zeroed again.
        let len = bytes.len() as u64;
        the_file().set_len(len).expect("a memfd of any length");
        the_file()
            .write_all_at(bytes, 0)
            .expect("room for an input");
        Self::File { len: bytes.len() }
    }

    /// A name that nobody else uses; ci/fuzz.sh removes what a killed run leaves.
    pub(crate) fn named(bytes: &[u8]) -> Self {
        let name = format!("shm-fuzz-{}", std::process::id());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(format!("{DIRECTORY}/{name}"))
            .expect("a file in /dev/shm");
        file.write_all_at(bytes, 0).expect("room for an input");
        let len = bytes.len();
        Self::Named { name, file, len }
    }

    pub(crate) fn memory(bytes: &[u8]) -> Self {
        Self::Memory(Memory::copied(bytes))
    }

    /// In memory; for one choice in eight in a file, whose mapping takes the most of a short input.
    pub(crate) fn of(bytes: &[u8], choice: u8) -> Self {
        match choice % 8 {
            7 => Self::file(bytes),
            _ => Self::memory(bytes),
        }
    }

    /// What the library is told to open.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::File { .. } => Place::fd(the_file().try_clone().expect("a descriptor").into()),
            Self::Named { name, .. } => Place::named(name),
            Self::Memory(memory) => Place::region(memory.region()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::File { len } | Self::Named { len, .. } => *len,
            Self::Memory(memory) => memory.len,
        }
    }

    /// Changes bytes; those beyond the end are left out.
    pub(crate) fn poke(&self, at: usize, bytes: &[u8]) {
        let room = self.len().saturating_sub(at);
        let bytes = &bytes[..bytes.len().min(room)];
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::File { .. } => write(the_file(), at, bytes),
            Self::Named { file, .. } => write(file, at, bytes),
            Self::Memory(memory) => {
                // SAFETY: `at` is inside, as `room` is not zero.
                let to = unsafe { memory.start.add(at) };
                // SAFETY: `bytes` fit; no reference into the memory is in use while we poke.
                unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
            }
        }
    }

    /// Eight bytes, zero where the segment has none.
    pub(crate) fn peek(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        if at.checked_add(8).is_some_and(|end| end <= self.len()) {
            match self {
                Self::File { .. } => read(the_file(), at, &mut bytes),
                Self::Named { file, .. } => read(file, at, &mut bytes),
                Self::Memory(memory) => {
                    // SAFETY: eight bytes at `at` are inside.
                    let from = unsafe { memory.start.add(at) };
                    // SAFETY: as above; they are initialised, and nobody writes meanwhile.
                    unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut bytes).cast(), 8) };
                }
            }
        }
        u64::from_ne_bytes(bytes)
    }
}

fn write(file: &File, at: usize, bytes: &[u8]) {
    file.write_all_at(bytes, at as u64)
        .expect("a write inside the file");
}

fn read(file: &File, at: usize, bytes: &mut [u8]) {
    file.read_exact_at(bytes, at as u64)
        .expect("a read inside the file");
}
