//! Orders from the parent to its peers and their answers, in one page of atomics.
//!
//! The parent writes an order, wakes everybody, and waits until each addressed peer has answered; peers that are not addressed sleep
//! on. So an addressed peer never misses an order, and at most one order is open.
//!
//! | Offset | Size | Field | Meaning |
//! |---:|---:|---|---|
//! | 0 | 4 | `order` | the open order, see [`Order`]; peers sleep on it |
//! | 128 | 4 | `stop` | not zero: end the slice |
//! | 256 | 4 | `answers` | how many addressed peers have answered; the parent sleeps on it |
//! | 384 | 8 x 128 | `slots` | what each peer found |

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::now;

/// Peers that one arena has room for.
pub const SLOTS: usize = 8;

/// One pair of cache lines, so that what two peers write is not fetched together.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Line<T>(T);

impl<T> Deref for Line<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What addressed peers do with the contender of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Task {
    /// Set the counter to the slot's `value`.
    Set = 1,
    /// Tell the counter in the slot's `value`.
    Get = 2,
    /// Decrement the counter in a tight loop until `stop`.
    Count = 3,
    /// Lock, hold for [`crate::worker::SECTION`], unlock, at once again, until `stop`.
    Hold = 4,
    /// As `Count`, and count the system calls.
    CountCalls = 5,
}

/// An order, packed into the word that peers sleep on:
/// bits 0..8 a bit for each addressed slot, 8..16 the contender, 16..20 the task, 20..32 a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub task: Task,
    /// Number of the contender.
    pub contender: u8,
    /// A bit for each addressed slot.
    pub slots: u8,
}

impl Order {
    const SERIAL_SHIFT: u32 = 20;

    fn pack(self, serial: u32) -> u32 {
        let Self {
            task,
            contender,
            slots,
        } = self;
        serial << Self::SERIAL_SHIFT
            | (task as u32) << 16
            | u32::from(contender) << 8
            | u32::from(slots)
    }

    fn unpack(word: u32) -> Option<Self> {
        let task = match word >> 16 & 0xf {
            1 => Task::Set,
            2 => Task::Get,
            3 => Task::Count,
            4 => Task::Hold,
            5 => Task::CountCalls,
            _ => return None,
        };
        Some(Self {
            task,
            contender: (word >> 8) as u8,
            slots: word as u8,
        })
    }

    /// Whether the peer in that slot is addressed.
    #[must_use]
    pub fn addresses(self, slot: usize) -> bool {
        self.slots >> slot & 1 == 1
    }
}

/// What was not counted.
pub const UNKNOWN: u64 = u64::MAX;

/// What one peer found, written by it alone before it answers; `value` goes both ways.
#[derive(Debug, Default)]
pub struct Slot {
    /// When the peer began, on the common clock.
    pub began: AtomicU64,
    /// When it had what it waited for.
    pub ended: AtomicU64,
    /// Operations done.
    pub operations: AtomicU64,
    /// The longest that it waited for the lock, in nanoseconds.
    pub longest_wait: AtomicU64,
    /// The counter, or another word that the task speaks of.
    pub value: AtomicU64,
    /// What came in less what went out, as an `i64`; over all peers it must be zero.
    pub balance: AtomicU64,
    /// How often the peer saw something that must not be.
    pub faults: AtomicU64,
    /// Median of single operations, in nanoseconds.
    pub median: AtomicU64,
    /// The 99th percentile of single operations, in nanoseconds.
    pub tail: AtomicU64,
    /// Nanoseconds in which it prepared, which do not count.
    pub idle: AtomicU64,
    /// How often the peer went to sleep: voluntary context switches.
    pub sleeps: AtomicU64,
    /// System calls of the peer, or [`UNKNOWN`].
    pub calls: AtomicU64,
}

/// The page. Zero bytes are a page without an order.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Control {
    order: Line<AtomicU32>,
    /// Not zero: end the slice.
    pub stop: Line<AtomicU32>,
    answers: Line<AtomicU32>,
    slots: [Line<Slot>; SLOTS],
}

impl Control {
    /// The slot of that number.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[must_use]
    pub fn slot(&self, number: usize) -> &Slot {
        &self.slots[number]
    }

    /// The parent's side: opens an order.
    pub fn give(&self, order: Order) {
        // Relaxed, all three: published by the order below, and nobody else writes `order`.
        self.answers.store(0, Ordering::Relaxed);
        self.stop.store(0, Ordering::Relaxed);
        let serial = (self.order.load(Ordering::Relaxed) >> Order::SERIAL_SHIFT) + 1;
        // PAIR order: Release publishes the slots' `value` and the resets above to the Acquire in `take`.
        self.order.store(order.pack(serial), Ordering::Release);
        futex::wake_all(&self.order);
    }

    /// The parent's side: waits until that many peers have answered the open order. False if they did not before `deadline`.
    #[must_use]
    pub fn wait_for(&self, answers: usize, deadline: u64) -> bool {
        loop {
            // PAIR answer: Acquire sees what the peers wrote into their slots before the Release in `answer`.
            let seen = self.answers.load(Ordering::Acquire);
            if seen as usize >= answers {
                return true;
            }
            if now() >= deadline {
                return false;
            }
            futex::wait(&self.answers, seen, Duration::from_millis(20));
        }
    }

    /// The peer's side: sleeps until an order other than `last` addresses `slot`, and remembers it in `last`.
    pub fn take(&self, slot: usize, last: &mut u32) -> Order {
        loop {
            // PAIR order: Acquire sees what the parent wrote before the Release in `give`.
            let word = self.order.load(Ordering::Acquire);
            match Order::unpack(word) {
                Some(order) if word != *last && order.addresses(slot) => {
                    *last = word;
                    return order;
                }
                _ => futex::wait(&self.order, word, Duration::from_secs(1)),
            }
        }
    }

    /// The peer's side: says that it has done its part and that its slot is written.
    pub fn answer(&self) {
        // PAIR answer: Release publishes the peer's slot to the Acquire in `wait_for`.
        self.answers.fetch_add(1, Ordering::Release);
        futex::wake_all(&self.answers);
    }

    /// The parent's side: forgets all answers and what is in the slots. No peer uses the page meanwhile.
    pub fn clear(&self) {
        // Relaxed: peers that read this are started afterwards.
        self.answers.store(0, Ordering::Relaxed);
        for slot in &self.slots {
            let Slot {
                began,
                ended,
                operations,
                longest_wait,
                value,
                balance,
                faults,
                idle,
                median,
                tail,
                sleeps,
                calls,
            } = &**slot;
            for word in [
                began,
                ended,
                operations,
                longest_wait,
                value,
                balance,
                faults,
                idle,
                median,
                tail,
                sleeps,
                calls,
            ] {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Whether the slice is over. Relaxed: nothing is read because of it.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }

    /// Ends the slice.
    pub fn stop(&self) {
        // Relaxed: peers read nothing because of it.
        self.stop.store(1, Ordering::Relaxed);
    }
}

/// An error for peers that do not answer.
#[must_use]
pub fn no_answer(whose: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no answer from the peers of `{whose}`"),
    )
}

/// The system call futex(2) without the private flag, for words that processes share.
mod futex {
    use std::ptr;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    /// Sleeps while `word` holds `expected`, until a wake or at most `limit`; callers look again in any case.
    pub(super) fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
        let limit = libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(limit.subsec_nanos()),
        };
        // SAFETY: FUTEX_WAIT reads the word and the timespec, both alive and aligned for the whole call, and writes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                expected,
                &raw const limit,
                ptr::null::<u32>(),
                0,
            )
        };
    }

    /// Wakes all that sleep on `word`.
    pub(super) fn wake_all(word: &AtomicU32) {
        // SAFETY: FUTEX_WAKE uses the address as a key; it neither reads nor writes through it.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::thread;

    use super::{Control, Order, Task};
    use crate::clock::now;

    #[test]
    fn order_survives_its_word() {
        for task in [Task::Set, Task::Get, Task::Count, Task::Hold] {
            let order = Order {
                task,
                contender: 200,
                slots: 0b1001_0110,
            };
            assert_eq!(Order::unpack(order.pack(4095)), Some(order));
            assert_ne!(order.pack(1), order.pack(2));
        }
        assert_eq!(Order::unpack(0), None);
    }

    #[test]
    fn order_addresses_its_slots_only() {
        let order = Order {
            task: Task::Get,
            contender: 0,
            slots: 0b101,
        };
        assert_eq!(
            [0, 1, 2, 7].map(|slot| order.addresses(slot)),
            [true, false, true, false]
        );
    }

    #[test]
    fn addressed_peers_take_each_order_once() {
        let control = Control::default();
        thread::scope(|scope| {
            for slot in 0..2 {
                let control = &control;
                scope.spawn(move || {
                    let mut last = 0;
                    for turn in 1..=100 {
                        assert_eq!(control.take(slot, &mut last).contender, turn);
                        control.slot(slot).operations.fetch_add(1, Relaxed);
                        control.answer();
                    }
                });
            }
            for turn in 1..=100 {
                control.give(Order {
                    task: Task::Get,
                    contender: turn,
                    slots: 0b11,
                });
                assert!(control.wait_for(2, now() + 10_000_000_000));
            }
        });
        assert_eq!(
            [0, 1].map(|slot| control.slot(slot).operations.load(Relaxed)),
            [100, 100]
        );
    }

    #[test]
    fn wait_for_an_answer_that_never_comes_ends() {
        assert!(!Control::default().wait_for(1, now() + 1_000_000));
    }

    #[test]
    fn giving_an_order_withdraws_the_stop() {
        let control = Control::default();
        control.stop();
        assert!(control.stopped());
        control.give(Order {
            task: Task::Count,
            contender: 1,
            slots: 1,
        });
        assert!(!control.stopped());
    }
}
