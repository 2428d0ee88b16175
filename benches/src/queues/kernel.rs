//! What the kernel offers: pipe, socket pair, POSIX message queue. Peers inherit the descriptors from their parent, whose
//! numbers stand in the contender's page; so nothing has a name that could be left behind.

use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mqueue::{MQ_OFlag, MqAttr, mq_open, mq_unlink};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;

use super::channel::{Channel, End};
use crate::variants::Site;

/// Makes the two ends of something, the one that puts first.
pub(super) trait Make: 'static {
    fn ends(site: &Site) -> io::Result<[OwnedFd; 2]>;
}

pub(super) enum Pipe {}
pub(super) enum SocketPair {}
pub(super) enum MessageQueue {}

impl Make for Pipe {
    fn ends(_: &Site) -> io::Result<[OwnedFd; 2]> {
        let (reader, writer) = io::pipe()?;
        Ok([writer.into(), reader.into()])
    }
}

impl Make for SocketPair {
    fn ends(_: &Site) -> io::Result<[OwnedFd; 2]> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok([one, other])
    }
}

/// The most messages that wait in a POSIX message queue unless the administrator allows more.
const MOST: libc::c_long = 10;

/// The longest message of ours that goes through one.
const LONGEST: libc::c_long = 1024;

impl Make for MessageQueue {
    fn ends(site: &Site) -> io::Result<[OwnedFd; 2]> {
        let name = format!("/{}", site.name);
        let attributes = MqAttr::new(0, MOST, LONGEST, 0);
        let flags = MQ_OFlag::O_RDWR | MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL;
        let queue = mq_open(
            name.as_str(),
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
            Some(&attributes),
        )?;
        mq_unlink(name.as_str())?;
        // On Linux a message queue's descriptor is a file descriptor, for which read and write are not offered.
        // SAFETY: just opened, and owned by nobody else: `MqdT` does not close it.
        let queue = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(queue.as_raw_fd()) };
        Ok([queue.try_clone()?, queue])
    }
}

/// The page's words for the numbers of the descriptors: two for each lane.
fn numbers(site: &Site, lane: usize) -> &[AtomicU64; 2] {
    let words: *const [AtomicU64; 2] = site.page.start::<[AtomicU64; 2]>().wrapping_add(lane);
    // SAFETY: in bounds and aligned (32 bytes at the start of a page), mapped for ever, used as atomics by all.
    unsafe { &*words }
}

/// One end, with messages of `SIZE` bytes.
pub(super) struct Kernel<M, const SIZE: usize> {
    fd: RawFd,
    message: Box<[u8; SIZE]>,
    make: std::marker::PhantomData<M>,
}

impl<M: Make, const SIZE: usize> Channel for Kernel<M, SIZE>
where
    Self: Transfer,
{
    fn create(site: &Site, lane: usize) -> io::Result<Box<dyn Any>> {
        let ends = M::ends(site)?;
        for (end, number) in ends.iter().zip(numbers(site, lane)) {
            // For the children to inherit.
            fcntl(end, FcntlArg::F_SETFD(FdFlag::empty()))?;
            // Relaxed: the children are started afterwards.
            number.store(end.as_raw_fd().cast_unsigned().into(), Relaxed);
        }
        Ok(Box::new(ends))
    }

    fn open(site: &Site, lane: usize, end: End) -> io::Result<Self> {
        let [put, get] = numbers(site, lane);
        let number = match end {
            End::Put => put,
            End::Get => get,
        };
        Ok(Self {
            // Relaxed: written before this process was started.
            fd: number.load(Relaxed) as RawFd,
            message: Box::new([7; SIZE]),
            make: std::marker::PhantomData,
        })
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        self.message[..8].copy_from_slice(&stamp.to_ne_bytes());
        self.send().expect("it is put");
    }

    #[inline]
    fn get(&mut self) -> u64 {
        self.receive().expect("it is got");
        let first = self.message.first_chunk().expect("a message has a stamp");
        u64::from_ne_bytes(*first)
    }
}

/// Whole messages in and out.
pub(super) trait Transfer {
    fn send(&mut self) -> io::Result<()>;
    fn receive(&mut self) -> io::Result<()>;
}

/// Calls until the whole message is through; a pipe may take or give it in pieces.
fn whole(size: usize, mut call: impl FnMut(usize) -> isize) -> io::Result<()> {
    let mut done = 0;
    while done < size {
        match call(done) {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count if count > 0 => done += count.cast_unsigned(),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

fn write<const SIZE: usize>(fd: RawFd, message: &[u8; SIZE]) -> io::Result<()> {
    whole(SIZE, |done| {
        let rest = &message[done..];
        // SAFETY: reads so many bytes, which are there.
        unsafe { libc::write(fd, rest.as_ptr().cast(), rest.len()) }
    })
}

fn read<const SIZE: usize>(fd: RawFd, message: &mut [u8; SIZE]) -> io::Result<()> {
    whole(SIZE, |done| {
        let rest = &mut message[done..];
        // SAFETY: writes at most so many bytes, for which there is room.
        unsafe { libc::read(fd, rest.as_mut_ptr().cast(), rest.len()) }
    })
}

impl<const SIZE: usize> Transfer for Kernel<Pipe, SIZE> {
    fn send(&mut self) -> io::Result<()> {
        write(self.fd, &self.message)
    }

    fn receive(&mut self) -> io::Result<()> {
        read(self.fd, &mut self.message)
    }
}

impl<const SIZE: usize> Transfer for Kernel<SocketPair, SIZE> {
    fn send(&mut self) -> io::Result<()> {
        write(self.fd, &self.message)
    }

    fn receive(&mut self) -> io::Result<()> {
        read(self.fd, &mut self.message)
    }
}

impl<const SIZE: usize> Transfer for Kernel<MessageQueue, SIZE> {
    fn send(&mut self) -> io::Result<()> {
        let (fd, message) = (self.fd, &*self.message);
        whole(SIZE, |_| {
            // SAFETY: reads so many bytes, which are there.
            match unsafe { libc::mq_send(fd, message.as_ptr().cast(), SIZE, 0) } {
                0 => SIZE.cast_signed(),
                _ => -1,
            }
        })
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut room = [0_u8; LONGEST as usize];
        let fd = self.fd;
        whole(SIZE, |_| {
            // SAFETY: writes at most so many bytes, for which there is room.
            unsafe {
                libc::mq_receive(
                    fd,
                    room.as_mut_ptr().cast(),
                    room.len(),
                    std::ptr::null_mut(),
                )
            }
        })?;
        self.message.copy_from_slice(&room[..SIZE]);
        Ok(())
    }
}
