//! Descriptors over a Unix socket.
//!
//! Sources: recvmsg(2), cmsg(3), unix(7).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;

use crate::deadline::Deadline;
use crate::error::Error;

/// Room for a control message of 253 descriptors, the most that one can have (unix(7)), and for others beside it: those for
/// which there is no room would be lost.
const CONTROL_WORDS: usize = 256;

/// What came over a socket.
pub(crate) struct Message {
    /// How many bytes; 0 at the end of the stream.
    pub(crate) bytes: usize,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether there was no room in this process for some of the descriptors.
    pub(crate) is_cut: bool,
}

/// Receives a message, within the socket's read timeout, and takes charge of all descriptors in it. nix does not give out those of a message that was cut.
pub(crate) fn receive(
    segment: &str,
    socket: &UnixStream,
    bytes: &mut [u8],
) -> Result<Message, Error> {
    // SAFETY: all zero is a message header without anything.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // Words, so that it is aligned as control messages are.
    let mut control = [0_u64; CONTROL_WORDS];
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_WAITALL;
    let timeout = socket.read_timeout().ok().flatten();
    let deadline = timeout.map(Deadline::after);
    let received = loop {
        // SAFETY:
        // - in bounds: the header leads to `bytes` and `control`, with their lengths;
        // - no other writer: both are ours alone; any bytes are a value.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        match usize::try_from(received) {
            Ok(received) => break received,
            Err(_) => match Errno::last() {
                // The kernel would begin the timeout anew.
                Errno::EINTR => wait_readable(segment, socket, deadline)?,
                error => return Err(Error::from_errno(segment, "recvmsg", error)),
            },
        }
    };
    Ok(Message {
        bytes: received,
        descriptors: descriptors(&header),
        is_cut: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Waits until something has come, or the other end has gone; without a deadline not at all.
fn wait_readable(
    segment: &str,
    socket: &UnixStream,
    deadline: Option<Deadline>,
) -> Result<(), Error> {
    let Some(deadline) = deadline else {
        return Ok(());
    };
    let mut asked = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        let left = deadline.remaining();
        if left.is_zero() {
            return Err(Error::from_errno(segment, "recvmsg", Errno::EAGAIN));
        }
        // Rounded up; if that is too early, the loop asks again.
        let milliseconds = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        // SAFETY: one entry, which is ours alone.
        match unsafe { libc::poll(&raw mut asked, 1, milliseconds) } {
            0 => {}
            ready if ready > 0 => return Ok(()),
            _ => match Errno::last() {
                Errno::EINTR => {}
                error => return Err(Error::from_errno(segment, "poll", error)),
            },
        }
    }
}

/// The descriptors of a message that was just received.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled the control buffer that the header leads to, and said how far.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: in bounds and aligned, as the macros say; nobody else writes it; any bytes are a value.
        let part = unsafe { next.read() };
        if (part.cmsg_level, part.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: gives a number.
            let before = unsafe { libc::CMSG_LEN(0) } as usize;
            // SAFETY: so many bytes stand before the descriptors.
            let first = unsafe { libc::CMSG_DATA(next) }.cast::<i32>();
            #[allow(
                clippy::unnecessary_cast,
                reason = "of another type in other C libraries"
            )]
            let count = (part.cmsg_len as usize).saturating_sub(before) / size_of::<i32>();
            // SAFETY: in bounds, as the length says; aligned, as a header is; nobody else writes them; any bytes are a value.
            let numbers = unsafe { std::slice::from_raw_parts(first, count) };
            // SAFETY: the kernel made these descriptors for us just now; nobody else owns them.
            let own = |&number| unsafe { OwnedFd::from_raw_fd(number) };
            descriptors.extend(numbers.iter().map(own));
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    descriptors
}
