//! `ipc-channel`: messages of bytes from one process to another, through sockets.
//!
//! An end cannot be inherited, so the two ends meet under a name in the temporary directory, which goes when they
//! have met. Whoever puts waits there, from its first message on; so nobody waits while it opens several.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use super::channel::{Channel, End};
use crate::variants::Site;
use crate::workload::nothing_to_keep;

/// A name that whoever puts writes into the page.
#[repr(C)]
struct Name {
    /// 0 until the name is there.
    len: AtomicUsize,
    bytes: [AtomicU8; 248],
}

impl Name {
    fn of(site: &Site, lane: usize) -> &Self {
        let names: *const Self = site.page.start::<[Self; 2]>().cast::<Self>();
        let name = names.wrapping_add(lane);
        // SAFETY: one of the two at the start of the page: in bounds and aligned, mapped for ever, used as atomics by all.
        unsafe { &*name }
    }

    fn write(&self, name: &str) {
        assert!(name.len() <= self.bytes.len(), "{name}");
        for (to, byte) in self.bytes.iter().zip(name.bytes()) {
            // Relaxed: published by the length.
            to.store(byte, Ordering::Relaxed);
        }
        // PAIR name: Release publishes the bytes to the Acquire in `read`.
        self.len.store(name.len(), Ordering::Release);
    }

    /// Waits until it is there.
    fn read(&self) -> String {
        loop {
            // PAIR name: Acquire.
            let len = self.len.load(Ordering::Acquire);
            if len > 0 {
                let bytes = self.bytes[..len].iter();
                let bytes = bytes.map(|byte| byte.load(Ordering::Relaxed)).collect();
                return String::from_utf8(bytes).expect("it was a string");
            }
            std::thread::yield_now();
        }
    }
}

/// One end, with messages of `SIZE` bytes.
pub(super) enum IpcChannel<const SIZE: usize> {
    /// Whoever gets has not been met yet.
    Alone(Option<IpcOneShotServer<IpcBytesSender>>),
    Put(IpcBytesSender, Box<[u8; SIZE]>),
    Get(IpcBytesReceiver),
}

impl<const SIZE: usize> IpcChannel<SIZE> {
    #[cold]
    fn meet(&mut self) {
        if let Self::Alone(server) = self {
            let server = server.take().expect("it is met once");
            let (_, sender) = server.accept().expect("the other end comes");
            *self = Self::Put(sender, Box::new([7; SIZE]));
        }
    }
}

impl<const SIZE: usize> Channel for IpcChannel<SIZE> {
    fn create(_: &Site, _: usize) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site, lane: usize, end: End) -> io::Result<Self> {
        let name = Name::of(site, lane);
        Ok(match end {
            End::Put => {
                let (server, its_name) = IpcOneShotServer::new().map_err(io::Error::other)?;
                name.write(&its_name);
                Self::Alone(Some(server))
            }
            End::Get => {
                let (sender, receiver) = ipc::bytes_channel().map_err(io::Error::other)?;
                let other = IpcSender::connect(name.read()).map_err(io::Error::other)?;
                other.send(sender).map_err(io::Error::other)?;
                Self::Get(receiver)
            }
        })
    }

    #[inline]
    fn put(&mut self, stamp: u64) {
        if let Self::Alone(_) = self {
            self.meet();
        }
        let Self::Put(sender, message) = self else {
            panic!("the other end puts");
        };
        message[..8].copy_from_slice(&stamp.to_ne_bytes());
        sender.send(&message[..]).expect("it is put");
    }

    #[inline]
    fn get(&mut self) -> u64 {
        let Self::Get(receiver) = self else {
            panic!("the other end gets");
        };
        let message = receiver.recv().expect("it is got");
        assert_eq!(message.len(), SIZE);
        let first = message.first_chunk().expect("a message has a stamp");
        u64::from_ne_bytes(*first)
    }
}
