//! A level-triggered poller of our own, whose descriptor is watched by tokio's edge-triggered one.
//!
//! asyncio's `add_reader` is level-triggered and any descriptor may be closed behind the loop's back; the kernel's own
//! bookkeeping answers both. Used by the loop's thread, or by whoever holds the GIL.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::rt::process::generation;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Interest {
    pub fn is_empty(self) -> bool {
        !self.read && !self.write
    }
}

/// How often an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// As long as it holds.
    Level,
    /// When it begins to hold.
    Edge,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub fd: RawFd,
    pub read: bool,
    pub write: bool,
    /// A receive that gets less than it asked for may have left something: the end of the stream, an error, urgent data.
    pub more_than_data: bool,
}

/// Whether a receive of less than was asked for says that the next one would block: an edge-triggered descriptor whose
/// events tell of the end of the stream and of urgent data (epoll(7), questions and answers, 9).
pub const SHORT_MEANS_DRAINED: bool = cfg!(target_os = "linux");

/// How many events one look takes; more are found by the next.
pub const EVENTS_AT_ONCE: usize = 256;

/// epoll (Linux) or kqueue (the BSDs, macOS).
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
    /// The process that made it (`generation`). A forked child shares it with its parent, and leaves it alone.
    generation: u32,
}

impl Poller {
    fn own(fd: OwnedFd) -> Self {
        Self { fd, generation: generation() }
    }

    fn check_process(&self) -> io::Result<()> {
        let inherited = self.generation != generation();
        if inherited { Err(io::Error::from_raw_os_error(libc::EBADF)) } else { Ok(()) }
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(target_os = "linux")]
const MORE_THAN_DATA: libc::c_int = libc::EPOLLRDHUP | libc::EPOLLPRI;

#[cfg(target_os = "linux")]
impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; a descriptor that it gives is ours alone.
        unsafe { Ok(Self::own(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?))) }
    }

    /// Watch for this.
    ///
    /// # Errors
    /// EBADF, or EPERM for what cannot be polled (a regular file).
    pub fn set(&self, fd: RawFd, interest: Interest, _before: Interest, trigger: Trigger) -> io::Result<()> {
        let mut events = 0;
        if interest.read {
            events |= libc::EPOLLIN;
        }
        if interest.write {
            events |= libc::EPOLLOUT;
        }
        if trigger == Trigger::Edge {
            events |= libc::EPOLLET | MORE_THAN_DATA;
        }
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        // A descriptor that was closed behind our back, and perhaps opened anew, is unknown to the kernel here.
        match self.control(libc::EPOLL_CTL_MOD, fd, &mut event) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.control(libc::EPOLL_CTL_ADD, fd, &mut event)
            }
            done => done,
        }
    }

    /// Watch it no more. It may be closed already.
    pub fn remove(&self, fd: RawFd, _before: Interest) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        drop(self.control(libc::EPOLL_CTL_DEL, fd, &mut event));
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, event: &mut libc::epoll_event) -> io::Result<()> {
        self.check_process()?;
        // SAFETY: `event` is valid for the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, event) }).map(drop)
    }

    /// What is ready now, without waiting.
    pub fn look(&self, mut found: impl FnMut(Event)) -> io::Result<usize> {
        self.check_process()?;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_AT_ONCE];
        // SAFETY: the kernel writes at most EVENTS_AT_ONCE entries.
        let count =
            unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), EVENTS_AT_ONCE as libc::c_int, 0) };
        let count = check(count)? as usize;
        for event in events.iter().take(count) {
            let bits = event.events as libc::c_int;
            // An error or a hang-up is for both sides, as in `selectors.EpollSelector`.
            let (read, write) = (bits & !libc::EPOLLOUT != 0, bits & !libc::EPOLLIN != 0);
            let more_than_data = bits & (MORE_THAN_DATA | libc::EPOLLERR | libc::EPOLLHUP) != 0;
            found(Event { fd: event.u64 as RawFd, read, write, more_than_data });
        }
        Ok(count)
    }
}

#[cfg(not(target_os = "linux"))]
impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; a descriptor that it gives is ours alone.
        unsafe { Ok(Self::own(OwnedFd::from_raw_fd(check(libc::kqueue())?))) }
    }

    /// Watch for this.
    ///
    /// # Errors
    /// EBADF, or EINVAL for what cannot be polled.
    pub fn set(&self, fd: RawFd, interest: Interest, before: Interest, trigger: Trigger) -> io::Result<()> {
        let flags = libc::EV_ADD | if trigger == Trigger::Edge { libc::EV_CLEAR } else { 0 };
        for (wanted, was, filter) in
            [(interest.read, before.read, libc::EVFILT_READ), (interest.write, before.write, libc::EVFILT_WRITE)]
        {
            if wanted {
                self.control(fd, filter, flags)?;
            } else if was {
                drop(self.control(fd, filter, libc::EV_DELETE));
            }
        }
        Ok(())
    }

    /// Watch it no more. It may be closed already.
    pub fn remove(&self, fd: RawFd, before: Interest) {
        for (was, filter) in [(before.read, libc::EVFILT_READ), (before.write, libc::EVFILT_WRITE)] {
            if was {
                drop(self.control(fd, filter, libc::EV_DELETE));
            }
        }
    }

    fn control(&self, fd: RawFd, filter: i16, flags: u16) -> io::Result<()> {
        self.check_process()?;
        // SAFETY: an all-zero kevent is a valid one.
        let mut change: libc::kevent = unsafe { std::mem::zeroed() };
        change.ident = fd as libc::uintptr_t;
        change.filter = filter;
        change.flags = flags;
        // SAFETY: one change, no place for events.
        let result = unsafe {
            libc::kevent(self.fd.as_raw_fd(), &raw const change, 1, std::ptr::null_mut(), 0, std::ptr::null())
        };
        check(result).map(drop)
    }

    /// What is ready now, without waiting.
    pub fn look(&self, mut found: impl FnMut(Event)) -> io::Result<usize> {
        self.check_process()?;
        // SAFETY: an all-zero kevent is a valid one.
        let mut events: [libc::kevent; EVENTS_AT_ONCE] = unsafe { std::mem::zeroed() };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes at most EVENTS_AT_ONCE entries.
        let count = unsafe {
            libc::kevent(
                self.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                events.as_mut_ptr(),
                EVENTS_AT_ONCE as libc::c_int,
                &raw const now,
            )
        };
        let count = check(count)? as usize;
        for event in events.iter().take(count) {
            let read = event.filter == libc::EVFILT_READ;
            found(Event { fd: event.ident as RawFd, read, write: !read, more_than_data: true });
        }
        Ok(count)
    }
}
