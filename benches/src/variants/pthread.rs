//! The C library's own mutex in shared memory: normal, and robust.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::{fmt, io};

use super::{Former, Lock, Site};

/// A mutex and, in the same cache line, what it protects.
#[repr(C, align(64))]
struct Shared {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    /// Read and written only by the owner of `mutex`.
    counter: UnsafeCell<u64>,
}

/// A process-shared mutex that dies with its owner.
pub struct Pthread(Mapped);

/// A process-shared mutex of the robust kind: the kernel hands it over, with EOWNERDEAD.
pub struct PthreadRobust(Mapped);

/// A place that holds an initialised mutex (INV-P1) and stays mapped until the process ends (INV-P2).
struct Mapped(*mut Shared);

impl Mapped {
    fn create(site: &Site, robust: bool) -> io::Result<Self> {
        let shared = Mapped(site.page.start());
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a place of the right type that the call initialises.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        if robust {
            // SAFETY: initialised above.
            check(unsafe {
                libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST)
            })?;
        }
        // SAFETY:
        // - in bounds, aligned, mapped: `Page::start` fits a `Shared`, and pages are never unmapped;
        // - no other user: the run creates before it opens, and a page belongs to one contender;
        // - the attributes were initialised above.
        check(unsafe { libc::pthread_mutex_init(shared.mutex(), attributes) })?;
        // SAFETY: initialised above, not used after this.
        check(unsafe { libc::pthread_mutexattr_destroy(attributes) })?;
        Ok(shared)
    }

    fn open(site: &Site) -> Self {
        // INV-P1: the run creates every contender before it starts the processes that open it.
        Self(site.page.start())
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        // SAFETY: in bounds: `self.0` points to a whole `Shared` (INV-P2); only an address is computed.
        let cell = unsafe { &raw const (*self.0).mutex };
        UnsafeCell::raw_get(cell)
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        // SAFETY: initialised (INV-P1) and mapped (INV-P2).
        let former = match unsafe { libc::pthread_mutex_lock(self.mutex()) } {
            0 => Former::Left,
            code => self.repair(code),
        };
        // SAFETY: in bounds: `self.0` points to a whole `Shared` (INV-P2); only an address is computed.
        let counter = UnsafeCell::raw_get(unsafe { &raw const (*self.0).counter });
        // SAFETY:
        // - in bounds, aligned, mapped: a field of a mapped `Shared` (INV-P2);
        // - no other reader or writer: we own the mutex until the unlock below, and the reference ends before it;
        // - any bytes are an integer: what a dead owner left is a `u64` too.
        let result = critical(unsafe { &mut *counter }, former);
        // SAFETY: initialised, mapped, and locked by this thread above.
        let code = unsafe { libc::pthread_mutex_unlock(self.mutex()) };
        assert_eq!(code, 0, "unlock by the owner");
        result
    }

    #[cold]
    fn repair(&self, code: i32) -> Former {
        assert_eq!(code, libc::EOWNERDEAD, "pthread_mutex_lock");
        // SAFETY: robust (else no EOWNERDEAD), and this thread owns it, as EOWNERDEAD says.
        let code = unsafe { libc::pthread_mutex_consistent(self.mutex()) };
        assert_eq!(code, 0, "pthread_mutex_consistent");
        Former::Died
    }
}

/// What a pthread function returned, as a result.
pub(crate) fn check(code: i32) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

impl Lock for Pthread {
    fn create(site: &Site) -> io::Result<Self> {
        Mapped::create(site, false).map(Self)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(Mapped::open(site)))
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        self.0.with(critical)
    }
}

impl Lock for PthreadRobust {
    fn create(site: &Site) -> io::Result<Self> {
        Mapped::create(site, true).map(Self)
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(Mapped::open(site)))
    }

    #[inline]
    fn with<R>(&self, critical: impl FnOnce(&mut u64, Former) -> R) -> R {
        self.0.with(critical)
    }
}

impl fmt::Debug for Pthread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pthread")
    }
}

impl fmt::Debug for PthreadRobust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PthreadRobust")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{Former, Lock, PthreadRobust, Site};
    use crate::arena::Arena;

    #[test]
    fn robust_mutex_tells_that_its_owner_died() {
        let arena = Arena::create(1).unwrap();
        let site = Site {
            page: arena.page(0),
            name: String::new(),
        };
        let lock = PthreadRobust::create(&site).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let lock = PthreadRobust::open(&site).unwrap();
                // SAFETY: an initialised mutex; the thread ends with it locked, which the robust kind answers for.
                assert_eq!(unsafe { libc::pthread_mutex_lock(lock.0.mutex()) }, 0);
            });
        });
        assert_eq!(lock.with(|_, former| former), Former::Died);
        assert_eq!(lock.with(|_, former| former), Former::Left);
    }
}
