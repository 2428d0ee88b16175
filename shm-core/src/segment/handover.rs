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
use crate::sys::socket;

/// What goes with the descriptor, so that a stray message is not taken for one.
const GREETING: &[u8; 8] = b"shm-fd\x00\x01";

/// What errors call a segment whose name nobody knows yet.
const RECEIVED: &str = "(received)";

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
    let message = socket::receive(RECEIVED, socket, &mut greeting)?;
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
