//! Wake-ups from process to process, by all that can wake.

use std::any::Any;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, ptr};

use shm_lock::{Condvar, Event, Mutex};

use super::boost;
use crate::bell::{Bell, PingPong};
use crate::section::{Bound, Section, Target};
use crate::variants::{Site, check, place};
use crate::workload::{Workload, keep, nothing_to_keep};

const FUTEX: &str = "raw futex";
const EVENT: &str = "shm Event";
const CONDVAR: &str = "shm Condvar";

pub(super) fn one_core() -> Section {
    let rows = rows().into_iter().map(Workload::on_one_core).collect();
    section(
        "wakeup_one_core",
        "Two processes on one core wake each other in turn: there and back",
        rows,
    )
}

pub(super) fn two_cores() -> Section {
    section(
        "wakeup_two_cores",
        "Two processes on two cores wake each other in turn: there and back",
        rows(),
    )
}

fn section(key: &'static str, title: &'static str, rows: Vec<Workload>) -> Section {
    let target = |row| Target {
        row,
        reference: FUTEX,
        bound: Bound::MedianAtMost(1.1),
    };
    let mut notes = vec!["raw futex: a word for each direction, FUTEX_WAKE at each turn, FUTEX_WAIT without spinning.".to_owned()];
    notes.extend(crate::variants::absent(&["raw_sync Event"]));
    notes.extend(boost("interprocess_condition"));
    Section {
        key,
        title,
        reference: FUTEX,
        rows,
        targets: vec![target(EVENT), target(CONDVAR)],
        notes,
        after: None,
    }
}

fn rows() -> Vec<Workload> {
    vec![
        Workload::new::<PingPong<Futex>>(FUTEX, 2),
        Workload::new::<PingPong<Events>>(EVENT, 2),
        Workload::new::<PingPong<Turns>>(CONDVAR, 2),
        Workload::new::<PingPong<PthreadTurns>>("pthread_cond", 2),
        #[cfg(feature = "rivals")]
        Workload::new::<PingPong<rival::RawSync>>("raw_sync Event", 2),
    ]
}

/// Two words in the contender's page, one in each of two pairs of cache lines: each is one peer's bell.
struct Futex {
    mine: *const AtomicU32,
    other: *const AtomicU32,
}

impl Futex {
    fn word(site: &Site, seat: usize) -> *const AtomicU32 {
        site.page.start::<u8>().wrapping_add(128 * seat).cast()
    }

    fn at(word: &*const AtomicU32) -> &AtomicU32 {
        // SAFETY: in the contender's page (offset 0 or 128), aligned, mapped for ever, used as an atomic by all.
        unsafe { &**word }
    }
}

impl Bell for Futex {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            mine: Self::word(site, seat),
            other: Self::word(site, 1 - seat),
        })
    }

    fn ring(&mut self) {
        let word = Self::at(&self.other);
        // PAIR bell: Release publishes what the ringer did to the Acquire in `wait`.
        word.store(1, Ordering::Release);
        // SAFETY: FUTEX_WAKE uses the address as a key; it neither reads nor writes through it.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    fn wait(&mut self) {
        let word = Self::at(&self.mine);
        // PAIR bell: Acquire sees what the ringer did before the Release in `ring`.
        while word.load(Ordering::Acquire) == 0 {
            let forever = ptr::null::<libc::timespec>();
            // SAFETY: FUTEX_WAIT reads the word, which is mapped for ever, and writes nothing.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, forever) };
        }
        // Relaxed: the ringer rings again only after this one has rung.
        word.store(0, Ordering::Relaxed);
    }
}

/// An event for each peer.
struct Events {
    mine: Event,
    other: Event,
}

fn named(site: &Site, seat: usize) -> Site {
    Site {
        page: site.page,
        name: format!("{}-{seat}", site.name),
    }
}

impl Bell for Events {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let both = [0, 1].map(|seat| keep(Event::create(place(&named(site, seat)))));
        Ok(Box::new(both))
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        let open = |seat| Event::open(&named(site, seat).name).map_err(io::Error::other);
        Ok(Self {
            mine: open(seat)?,
            other: open(1 - seat)?,
        })
    }

    fn ring(&mut self) {
        self.other.set();
    }

    fn wait(&mut self) {
        self.mine.wait();
        self.mine.clear();
    }
}

/// Whose turn it is, under a mutex, and a condition variable that tells of its change.
struct Turns {
    turn: Mutex<u32>,
    changed: Condvar,
    seat: u32,
}

impl Bell for Turns {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let turn = keep(Mutex::create(place(&named(site, 0)), 0_u32))?;
        let changed = keep(Condvar::create(place(&named(site, 1))))?;
        Ok(Box::new((turn, changed)))
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            turn: Mutex::open(&named(site, 0).name).map_err(io::Error::other)?,
            changed: Condvar::open(&named(site, 1).name).map_err(io::Error::other)?,
            seat: seat as u32,
        })
    }

    fn ring(&mut self) {
        *self.turn.lock().expect("nobody dies") = 1 - self.seat;
        self.changed.notify_one();
    }

    fn wait(&mut self) {
        let turn = self.turn.lock().expect("nobody dies");
        let waited = self.changed.wait_while(turn, |turn| *turn != self.seat);
        drop(waited.expect("nobody dies"));
    }
}

/// The same from the C library.
#[repr(C)]
struct Shared {
    mutex: libc::pthread_mutex_t,
    changed: libc::pthread_cond_t,
    turn: u32,
}

/// In a page of the arena that the parent initialised and that is never unmapped.
struct PthreadTurns {
    shared: *mut Shared,
    seat: u32,
}

impl PthreadTurns {
    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        // SAFETY: in bounds, only an address is computed.
        unsafe { &raw mut (*self.shared).mutex }
    }

    fn changed(&self) -> *mut libc::pthread_cond_t {
        // SAFETY: in bounds, only an address is computed.
        unsafe { &raw mut (*self.shared).changed }
    }

    fn turn(&self) -> *mut u32 {
        // SAFETY: in bounds, only an address is computed.
        unsafe { &raw mut (*self.shared).turn }
    }

    fn lock(&self) {
        // SAFETY: initialised by the parent, mapped for ever.
        check(unsafe { libc::pthread_mutex_lock(self.mutex()) }).expect("it locks");
    }

    fn unlock(&self) {
        // SAFETY: locked by this thread.
        check(unsafe { libc::pthread_mutex_unlock(self.mutex()) }).expect("it was locked");
    }
}

impl Bell for PthreadTurns {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        let this = Self::open(site, 0)?;
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a place of the right type that the call initialises.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: a place of the right type in a page of its own, used by nobody yet.
        check(unsafe { libc::pthread_mutex_init(this.mutex(), attributes) })?;
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a place of the right type that the call initialises.
        check(unsafe { libc::pthread_condattr_init(attributes) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: a place of the right type in a page of its own, used by nobody yet.
        check(unsafe { libc::pthread_cond_init(this.changed(), attributes) })?;
        Ok(nothing_to_keep())
    }

    fn open(site: &Site, seat: usize) -> io::Result<Self> {
        Ok(Self {
            shared: site.page.start(),
            seat: seat as u32,
        })
    }

    fn ring(&mut self) {
        self.lock();
        // SAFETY: mapped for ever, and read and written under the mutex alone.
        unsafe { self.turn().write(1 - self.seat) };
        self.unlock();
        // SAFETY: initialised by the parent, mapped for ever.
        check(unsafe { libc::pthread_cond_signal(self.changed()) }).expect("it signals");
    }

    fn wait(&mut self) {
        self.lock();
        // SAFETY: mapped for ever, and read and written under the mutex alone.
        while unsafe { self.turn().read() } != self.seat {
            // SAFETY: both initialised by the parent, the mutex locked by this thread.
            check(unsafe { libc::pthread_cond_wait(self.changed(), self.mutex()) })
                .expect("it waits");
        }
        self.unlock();
    }
}

#[cfg(feature = "rivals")]
mod rival {
    use std::any::Any;
    use std::io;

    use raw_sync::Timeout;
    use raw_sync::events::{Event, EventImpl, EventInit, EventState};

    use crate::bell::Bell;
    use crate::variants::{Site, told};
    use crate::workload::nothing_to_keep;

    /// An event of `raw_sync` for each peer, with automatic reset, in a page that is never unmapped.
    pub(super) struct RawSync {
        mine: Box<dyn EventImpl>,
        other: Box<dyn EventImpl>,
    }

    fn place(site: &Site, seat: usize) -> *mut u8 {
        site.page.start::<u8>().wrapping_add(256 * seat)
    }

    impl Bell for RawSync {
        fn create(site: &Site) -> io::Result<Box<dyn Any>> {
            for seat in 0..2 {
                // SAFETY: 256 bytes of a page of its own, used by nobody yet: more than an event takes.
                unsafe { Event::new(place(site, seat), true) }.map_err(told)?;
            }
            Ok(nothing_to_keep())
        }

        fn open(site: &Site, seat: usize) -> io::Result<Self> {
            let open = |seat| {
                // SAFETY: initialised by the parent, mapped for ever.
                let found = unsafe { Event::from_existing(place(site, seat)) };
                found.map(|(event, _)| event).map_err(told)
            };
            Ok(Self {
                mine: open(seat)?,
                other: open(1 - seat)?,
            })
        }

        fn ring(&mut self) {
            self.other.set(EventState::Signaled).expect("it is set");
        }

        fn wait(&mut self) {
            self.mine.wait(Timeout::Infinite).expect("it is waited for");
        }
    }
}
