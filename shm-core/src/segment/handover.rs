//! Handing a segment to another process: a descriptor over a socket, one inherited, or a name with
//! its generation.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::Segment;
use crate::error::Error;

/// What goes with the descriptor, so that a stray message is not taken for one.
const GREETING: &[u8; 8] = b"shm-fd\x00\x01";

/// What errors call a segment whose name nobody knows yet.
const RECEIVED: &str = "(received)";

/// Room for a control message of 253 descriptors, the most that one can have (unix(7)), and for others beside it: those for
/// which there is no room would be lost.
const CONTROL_WORDS: usize = 256;

/// A segment's name and generation: plain data that travels as a value does.
///
/// Opened with `Place::from(&handle)`, it gives that very segment, or [`Error::Mismatch`] if the
/// name belongs to another by now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SegmentHandle {
    pub(crate) name: String,
    pub(crate) generation: u64,
}

impl SegmentHandle {
    /// The segment's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Segment {
    /// The name and the generation, to be sent to another process.
    ///
    /// # Errors
    /// [`Error::NotNamed`] for a segment that has no name in `/dev/shm`.
    pub fn handle(&self) -> Result<SegmentHandle, Error> {
        let named = self
            .path()
            .is_some_and(|path| path == Path::new(super::DIRECTORY).join(self.name()));
        match named && super::name::check(self.name()).is_ok() {
            true => Ok(SegmentHandle {
                name: self.name().to_owned(),
                generation: self.generation(),
            }),
            false => Err(Error::NotNamed {
                segment: self.name().to_owned(),
            }),
        }
    }

    /// A descriptor that survives `exec`: its number, told to a child, opens the segment there with
    /// [`Place::inherited`](crate::Place::inherited). Drop it when the child has started.
    ///
    /// # Errors
    /// [`Error::NotNamed`] for a region, [`Error::TooManyDescriptors`].
    ///
    /// # Examples
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use shm_core::{Place, Segment};
    ///
    /// let segment = Segment::create(Place::anonymous(), 64)?;
    /// let fd = segment.inheritable_fd()?;
    /// // std::process::Command::new(..).env("SEGMENT_FD", fd.as_raw_fd().to_string()).spawn()
    /// let in_the_child = Segment::open(Place::inherited(fd.as_raw_fd()), 64)?;
    /// # assert_eq!(in_the_child.generation(), segment.generation());
    /// # Ok::<(), shm_core::Error>(())
    /// ```
    pub fn inheritable_fd(&self) -> Result<OwnedFd, Error> {
        use nix::fcntl::{FcntlArg, fcntl};
        let file = self.as_fd()?;
        let number = fcntl(file, FcntlArg::F_DUPFD(3))
            .map_err(|e| Error::from_errno(self.name(), "fcntl(F_DUPFD)", e))?;
        // SAFETY: F_DUPFD made this descriptor just now; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

/// Sends a segment's descriptor over a Unix socket. Blocks while the socket's buffer is full.
///
/// # Errors
/// [`Error::NotNamed`] for a region, [`Error::System`] when the peer is gone.
pub fn send_fd(socket: &UnixStream, segment: &Segment) -> Result<(), Error> {
    let fds = [segment.as_fd()?.as_raw_fd()];
    let message = [IoSlice::new(GREETING)];
    let rights = [ControlMessage::ScmRights(&fds)];
    loop {
        let raw = socket.as_fd().as_raw_fd();
        match sendmsg::<()>(raw, &message, &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::from_errno(segment.name(), "sendmsg", e)),
        }
    }
}

/// Receives a descriptor that [`send_fd`] sent; blocks until it comes, or as long as the socket's
/// read timeout says. Open it with [`Place::fd`](crate::Place::fd), which checks what it is.
///
/// # Errors
/// [`Error::NotASegment`] for another message or an end of the stream; [`Error::System`], with
/// `WouldBlock` for a timeout; [`Error::TooManyDescriptors`] if this process may not have one more: then what was sent is
/// gone.
///
/// # Examples
/// ```
/// use std::os::unix::net::UnixStream;
/// use shm_core::{Place, Segment, recv_fd, send_fd};
///
/// let (here, there) = UnixStream::pair()?;
/// send_fd(&here, &Segment::create(Place::anonymous(), 64)?)?;
/// let received = Segment::open(recv_fd(&there)?, 64)?; // in another process
/// # assert_eq!(received.size(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn recv_fd(socket: &UnixStream) -> Result<OwnedFd, Error> {
    let not_one = |why| Error::NotASegment {
        segment: RECEIVED.to_owned(),
        why,
    };
    let mut greeting = [0; GREETING.len()];
    let message = receive(socket, &mut greeting)?;
    if message.is_cut {
        let (segment, call) = (RECEIVED.to_owned(), "recvmsg");
        return Err(Error::TooManyDescriptors { segment, call });
    }
    if message.bytes == 0 {
        return Err(not_one("the stream ended"));
    }
    let mut descriptors = message.descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (Some(descriptor), None) if &greeting == GREETING => Ok(descriptor),
        _ => Err(not_one("the message is no descriptor of a segment")),
    }
}

/// What came over a socket.
struct Message {
    /// How many bytes; 0 at the end of the stream.
    bytes: usize,
    descriptors: Vec<OwnedFd>,
    /// Whether there was no room in this process for some of the descriptors.
    is_cut: bool,
}

/// Receives a message, and takes charge of all descriptors in it. nix does not give out those of a message that was cut.
fn receive(socket: &UnixStream, bytes: &mut [u8]) -> Result<Message, Error> {
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
    let received = loop {
        // SAFETY:
        // - in bounds: the header leads to `bytes` and `control`, with their lengths;
        // - no other writer: both are ours alone; any bytes are a value.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        match usize::try_from(received) {
            Ok(received) => break received,
            Err(_) => match Errno::last() {
                Errno::EINTR => {}
                error => return Err(Error::from_errno(RECEIVED, "recvmsg", error)),
            },
        }
    };
    Ok(Message {
        bytes: received,
        descriptors: descriptors(&header),
        is_cut: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
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
