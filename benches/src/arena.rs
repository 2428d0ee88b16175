//! The anonymous memory that the processes of one run share: a page of orders and answers, then a page for each contender.
//!
//! It is a memfd, so it has no name that could be left behind. Children reach it through `/proc/PARENT/fd/NUMBER`.

use std::cell::UnsafeCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::control::Control;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// A page in which one contender lives. Zero when the arena is new.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Page(UnsafeCell<[u8; PAGE]>);

// SAFETY: the type offers a raw pointer and an atomic, nothing that reads or writes the bytes otherwise.
unsafe impl Sync for Page {}

impl Page {
    /// Where a `T` begins that fills the start of the page. What may be done with it is the contender's affair.
    #[must_use]
    pub fn start<T>(&self) -> *mut T {
        const { assert!(size_of::<T>() <= PAGE && align_of::<T>() <= PAGE) };
        self.0.get().cast()
    }

    /// The first eight bytes as an atomic, for contenders that use nothing else of the page.
    #[must_use]
    pub fn word(&self) -> &AtomicU64 {
        // SAFETY:
        // - in bounds, aligned, mapped: the page is larger and stricter, and lives as long as `self`;
        // - no other writer that is not atomic: the contender that owns the page uses it through this function alone;
        // - any bytes are a value of an integer.
        unsafe { AtomicU64::from_ptr(self.start()) }
    }

    /// The first eight bytes of the last cache line as an atomic: for what a measurement shares besides the contender, which
    /// has the rest of the page.
    #[must_use]
    pub fn aside(&self) -> &AtomicU64 {
        // SAFETY: the offset is inside the page.
        let last: *mut u64 = unsafe { self.start::<u8>().add(PAGE - 64) }.cast();
        // SAFETY:
        // - in bounds, aligned, mapped: 64 bytes before the end of a page, which lives as long as `self`;
        // - no other writer that is not atomic: contenders keep to the rest of the page, measurements to this function;
        // - any bytes are a value of an integer.
        unsafe { AtomicU64::from_ptr(last) }
    }
}

/// The shared memory of one run. It stays mapped until the process ends, so what lies in it is `'static`.
#[derive(Debug)]
pub struct Arena {
    file: File,
    map: &'static MmapRaw,
}

impl Arena {
    /// Makes an arena with that many pages for contenders.
    ///
    /// # Errors
    ///
    /// What the system says of `memfd_create`, `ftruncate` or `mmap`.
    pub fn create(pages: usize) -> io::Result<Self> {
        let file = File::from(memfd_create(c"shm-bench", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(((1 + pages) * PAGE) as u64)?;
        Self::map(file)
    }

    /// Maps the arena that process `parent` has as its descriptor number `fd`.
    ///
    /// # Errors
    ///
    /// What the system says of `open` or `mmap`; `NotFound` if the parent is gone.
    pub fn attach(parent: u32, fd: i32) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{parent}/fd/{fd}"))?;
        Self::map(file)
    }

    fn map(file: File) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw(&file)?;
        if map.len() < PAGE || map.len() % PAGE != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an arena is a whole number of pages",
            ));
        }
        Ok(Self {
            file,
            map: Box::leak(Box::new(map)),
        })
    }

    /// The number under which children find the descriptor.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// The page of orders and answers.
    #[must_use]
    pub fn control(&self) -> &'static Control {
        const { assert!(size_of::<Control>() <= PAGE && align_of::<Control>() <= PAGE) };
        let control: *const Control = self.map.as_ptr().cast();
        // SAFETY:
        // - in bounds, aligned, mapped: the map is at least a page, starts at one, and is never unmapped;
        // - no other writer that is not atomic: `Control` consists of atomics, and all processes use it as `Control`;
        // - any bytes are a value of an atomic integer.
        unsafe { &*control }
    }

    /// The page of the contender of that number.
    ///
    /// # Panics
    ///
    /// If the arena was made for fewer contenders.
    #[must_use]
    pub fn page(&self, contender: usize) -> &'static Page {
        let offset = (1 + contender) * PAGE;
        assert!(
            offset < self.map.len(),
            "the arena has no page for contender {contender}"
        );
        // SAFETY: `offset` is inside the map, as asserted.
        let page: *const Page = unsafe { self.map.as_ptr().add(offset) }.cast();
        // SAFETY:
        // - in bounds, aligned, mapped: the map is a whole number of pages, starts at one, and is never unmapped;
        // - no other writer: `Page` is an `UnsafeCell`, it promises nothing about its bytes;
        // - any bytes are a value of bytes.
        unsafe { &*page }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::Arena;

    #[test]
    fn two_mappings_show_the_same_bytes() {
        let arena = Arena::create(2).unwrap();
        let again = Arena::attach(std::process::id(), arena.fd()).unwrap();
        arena.page(1).word().store(7, Relaxed);
        assert_eq!(again.page(1).word().load(Relaxed), 7);
        assert_eq!(again.page(0).word().load(Relaxed), 0);
        assert_ne!(arena.page(1).start::<u8>(), again.page(1).start::<u8>());
    }

    #[test]
    #[should_panic(expected = "no page for contender 1")]
    fn page_beyond_the_end_is_refused() {
        let _ = Arena::create(1).unwrap().page(1);
    }

    #[test]
    fn attach_to_what_is_not_there_is_an_error() {
        assert!(Arena::attach(std::process::id(), 9999).is_err());
    }
}
