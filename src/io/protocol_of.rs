//! What kind of socket a descriptor is.

use std::os::fd::RawFd;

use super::poller::SHORT_MEANS_DRAINED;

/// Whether a receive of less than it had room for says that the next one would block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// TCP.
    Drained,
    /// A Unix socket: unless descriptors or credentials were sent with the bytes, at which a receive ends.
    DrainedUnlessMore,
    /// Another kind of stream, or another kernel than Linux.
    Unknown,
    /// A pipe, or what is read like one: unknown. A writer with O_DIRECT makes packets, each of which ends a read, and
    /// a terminal gives one line a read.
    Pipe,
}

impl Short {
    /// Whether a short receive says nothing.
    #[inline]
    pub fn says_nothing(self) -> bool {
        matches!(self, Self::Unknown | Self::Pipe)
    }
}

/// Send small pieces at once, on TCP (TCP_NODELAY). asyncio leaves out the sockets that were made with `proto` 0.
pub fn send_at_once(fd: RawFd) {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `on` is valid for the call, which reads it. Whoever has no such option refuses it, which is no harm.
    unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), size) };
}

/// What a short receive on this stream says.
pub fn short(fd: RawFd) -> Short {
    if !SHORT_MEANS_DRAINED {
        Short::Unknown
    } else if is_tcp(fd) {
        Short::Drained
    } else {
        Short::DrainedUnlessMore
    }
}

/// Other streams end a receive early: at the border between two messages with descriptors (Unix), say.
pub fn is_tcp(fd: RawFd) -> bool {
    #[cfg(target_os = "linux")]
    {
        let mut protocol: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        let place = (&raw mut protocol).cast();
        // SAFETY: `protocol` and `size` are valid places for the answer, and live until the call returns.
        let asked = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL, place, &raw mut size) };
        asked == 0 && protocol == libc::IPPROTO_TCP
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = fd;
        false
    }
}
