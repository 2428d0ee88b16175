//! A descriptor that says when there is a message: for epoll, and what is built on it.
//!
//! Futexes and descriptors do not mix, so a thread of the asking process waits in its stead, as any getter
//! does, and writes a byte into a pipe. Nothing of it is in the segment, and a queue for which nobody
//! asks pays nothing.
//!
//! | state | pipe | thread |
//! |---|---|---|
//! | armed | empty | waits for a message, or for the closing and the end of the last message that may come back |
//! | ready | one byte | waits for [`Readiness::rearm`] |
//!
//! Peer death: the thread looks after the dead in its slices, as every sleeper does.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use shm_core::fork;

use crate::inner::Inner;

/// A descriptor that is readable while there may be a message, or a get would say that the queue is closed.
///
/// When it is readable: get until the queue is empty, then [`rearm`](Self::rearm). Several consumers may be
/// ready for one message, so a `try_get` may find nothing.
///
/// A forked child has a copy without a thread behind it: it is readable while the parent's is, and only the parent can
/// rearm it.
///
/// # Examples
/// With tokio: `examples/async_consumer.rs`.
#[derive(Debug)]
pub struct Readiness {
    shared: Arc<Shared>,
    pipe: PipeReader,
    thread: Option<JoinHandle<()>>,
    stamp: u64,
}

#[derive(Debug)]
struct Shared {
    inner: Arc<Inner>,
    state: Mutex<State>,
    rearmed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    stopped: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// The thread: waits for a message, says so, waits until that was heard.
    fn run(&self, mut pipe: PipeWriter) {
        while self.wait_for_news() {
            let mut state = self.state();
            // One byte in an empty pipe: it does not block. It fails if nobody can read it any more.
            if state.stopped || pipe.write_all(&[1]).is_err() {
                return;
            }
            state.ready = true;
            while state.ready && !state.stopped {
                state = self
                    .rearmed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Whether a getter would hear something: also that there will be nothing more.
    fn is_news(&self) -> bool {
        self.inner.raw.has_messages()
            || self.inner.raw.is_closed() && !self.inner.is_empty_for_now()
    }

    /// `false`: stopped.
    fn wait_for_news(&self) -> bool {
        let raw = &self.inner.raw;
        loop {
            let announced = raw.control.not_empty.announce(None);
            if self.is_stopped() {
                return false;
            }
            if self.is_news() {
                return true;
            }
            let not_empty = &raw.control.not_empty;
            let was_woken = not_empty.sleep(announced, self.inner.until(None));
            if was_woken {
                // This thread takes none: another sleeper may want it.
                not_empty.pass_on(|| raw.has_messages(), None);
            }
            // What is wrong with the queue is for the getters to hear.
            let _ = self.inner.look_after_sleep(was_woken, None);
        }
    }
}

impl Readiness {
    pub(crate) fn new(inner: &Arc<Inner>) -> io::Result<Self> {
        let (pipe, writer) = io::pipe()?;
        let shared = Arc::new(Shared {
            inner: Arc::clone(inner),
            state: Mutex::default(),
            rearmed: Condvar::new(),
        });
        let behind = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("shm-readiness".into())
            .spawn(move || behind.run(writer))?;
        Ok(Self {
            shared,
            pipe,
            thread: Some(thread),
            stamp: fork::stamp(),
        })
    }

    /// Makes it unreadable until there is a message again. If there is one already, it is readable
    /// at once.
    pub fn rearm(&self) {
        // In a forked child the lock may be that of a thread that is not there.
        if self.stamp != fork::stamp() {
            return;
        }
        let mut state = self.shared.state();
        if state.ready {
            // The byte is there: it does not block.
            let _ = (&self.pipe).read(&mut [0]);
            state.ready = false;
            self.shared.rearmed.notify_one();
        }
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if self.stamp != fork::stamp() {
            // Of a thread that is not there; to detach it might be to detach another one, which has its number by now.
            std::mem::forget(self.thread.take());
            return;
        }
        self.shared.state().stopped = true;
        self.shared.rearmed.notify_one();
        self.shared
            .inner
            .raw
            .control
            .not_empty
            .notify(u32::MAX, None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
