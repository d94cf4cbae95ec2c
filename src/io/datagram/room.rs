//! The room that datagrams are received into, one for all of a loop's endpoints: several with one system call, each
//! into a slot of its own. Loop thread, GIL held.

use std::io;
use std::os::fd::RawFd;

use pyo3::prelude::*;

use crate::io::syscall::answer;
use crate::py::cell::GilCell;

/// How many datagrams one receive takes.
pub const AT_ONCE: usize = 16;

/// More than any IP datagram has, and a few cache lines, so that not all slots begin in the same ones of the
/// processor's cache.
const SLOT: usize = 64 * 1024 + 9 * 64;

/// How much of a datagram is received; the rest is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Longest {
    /// 64 KiB: of UDP there are no longer ones.
    Internet,
    /// 256 KiB: asyncio's `max_size`, for Unix sockets.
    Unix,
}

impl Longest {
    /// How many slots one datagram takes, and how many bytes of them.
    fn layout(self) -> (usize, usize) {
        match self {
            Self::Internet => (1, 64 * 1024),
            Self::Unix => (4, 256 * 1024),
        }
    }
}

/// A datagram where it was received: its bytes, and what the kernel says of its sender.
pub struct Received<'a> {
    pub data: &'a [u8],
    pub sender: &'a libc::sockaddr_storage,
    pub sender_size: libc::socklen_t,
}

/// What one receive came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub datagrams: usize,
    /// There was room for more, and no more were there.
    pub is_all: bool,
}

/// The slots, and the lists of them that the kernel is given.
struct Slots {
    /// Zeros from the kernel, so that a page is there when a datagram first needs it.
    memory: Vec<u8>,
    senders: [libc::sockaddr_storage; AT_ONCE],
    #[cfg(target_os = "linux")]
    places: [libc::iovec; AT_ONCE],
    #[cfg(target_os = "linux")]
    heads: [libc::mmsghdr; AT_ONCE],
    /// What `places` and `heads` were made for.
    #[cfg(target_os = "linux")]
    made_for: Option<Longest>,
    #[cfg(not(target_os = "linux"))]
    sizes: [(usize, libc::socklen_t); AT_ONCE],
}

// SAFETY: the pointers in it point into itself (it is boxed, and its memory is its own), and are used by whoever has
// it.
unsafe impl Send for Slots {}

impl Slots {
    fn new() -> Box<Self> {
        // SAFETY: these are plain numbers and pointers, all of which may be zero.
        unsafe {
            Box::new(Self {
                memory: vec![0; AT_ONCE * SLOT],
                senders: std::mem::zeroed(),
                #[cfg(target_os = "linux")]
                places: std::mem::zeroed(),
                #[cfg(target_os = "linux")]
                heads: std::mem::zeroed(),
                #[cfg(target_os = "linux")]
                made_for: None,
                #[cfg(not(target_os = "linux"))]
                sizes: [(0, 0); AT_ONCE],
            })
        }
    }

    /// Receive as many as there are, and there is room for. None: there are none now.
    #[cfg(target_os = "linux")]
    fn receive(&mut self, fd: RawFd, longest: Longest) -> io::Result<Option<Count>> {
        let (slots, size) = longest.layout();
        let most = AT_ONCE / slots;
        if self.made_for != Some(longest) {
            self.made_for = Some(longest);
            for index in 0..most {
                let place = &mut self.places[index];
                place.iov_base = self.memory[index * slots * SLOT..].as_mut_ptr().cast();
                place.iov_len = size;
                let head = &mut self.heads[index].msg_hdr;
                head.msg_name = (&raw mut self.senders[index]).cast();
                head.msg_iov = &raw mut self.places[index];
                head.msg_iovlen = 1;
            }
        }
        for head in &mut self.heads[..most] {
            head.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        let heads = self.heads.as_mut_ptr();
        // SAFETY: the first `most` heads name places for an address and for `size` bytes each, which are this one's own
        // and lie apart from each other.
        let received = answer(|| unsafe {
            libc::recvmmsg(fd, heads, most as libc::c_uint, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) as isize
        })?;
        Ok(received.map(|datagrams| Count { datagrams, is_all: datagrams < most }))
    }

    #[cfg(target_os = "linux")]
    fn get(&self, index: usize, longest: Longest) -> Received<'_> {
        let (slots, size) = longest.layout();
        let head = &self.heads[index];
        let data = &self.memory[index * slots * SLOT..][..(head.msg_len as usize).min(size)];
        Received { data, sender: &self.senders[index], sender_size: head.msg_hdr.msg_namelen }
    }

    /// Receive as many as there are, and there is room for. None: there are none now.
    #[cfg(not(target_os = "linux"))]
    fn receive(&mut self, fd: RawFd, longest: Longest) -> io::Result<Option<Count>> {
        let (slots, size) = longest.layout();
        let most = AT_ONCE / slots;
        for index in 0..most {
            let place = self.memory[index * slots * SLOT..].as_mut_ptr().cast();
            let sender = (&raw mut self.senders[index]).cast();
            let mut sender_size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            // SAFETY: there are `size` bytes at `place`, and the address has its own place.
            let received =
                answer(|| unsafe { libc::recvfrom(fd, place, size, libc::MSG_DONTWAIT, sender, &raw mut sender_size) });
            match received {
                Ok(Some(length)) => self.sizes[index] = (length, sender_size),
                // The error comes again, or is one of those that are told once: the next receive does not say it.
                Ok(None) | Err(_) if index > 0 => return Ok(Some(Count { datagrams: index, is_all: true })),
                Ok(None) => return Ok(None),
                Err(failed) => return Err(failed),
            }
        }
        Ok(Some(Count { datagrams: most, is_all: false }))
    }

    #[cfg(not(target_os = "linux"))]
    fn get(&self, index: usize, longest: Longest) -> Received<'_> {
        let (slots, _) = longest.layout();
        let (length, sender_size) = self.sizes[index];
        Received { data: &self.memory[index * slots * SLOT..][..length], sender: &self.senders[index], sender_size }
    }
}

/// A loop's room for datagrams: made when the first one is received.
#[derive(Default)]
pub struct Room(GilCell<Option<Box<Slots>>>);

impl Room {
    /// Receive what there is, as far as there is room, and have `take` look at each. None: there is nothing now.
    ///
    /// # Errors
    /// The kernel's; those of `take`, after which the others are lost.
    pub fn receive<E: From<io::Error>>(
        &self,
        py: Python<'_>,
        fd: RawFd,
        longest: Longest,
        mut take: impl FnMut(Received<'_>) -> Result<(), E>,
    ) -> Result<Option<Count>, E> {
        // `take` may run Python code, which may run the loop: that makes a room of its own.
        let mut slots = self.0.take(py).unwrap_or_else(Slots::new);
        let received = slots.receive(fd, longest).map_err(E::from).and_then(|count| {
            let datagrams = count.map_or(0, |count| count.datagrams);
            (0..datagrams).try_for_each(|index| take(slots.get(index, longest)))?;
            Ok(count)
        });
        drop(self.0.replace(py, Some(slots)));
        received
    }
}
