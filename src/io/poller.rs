//! A poller of our own, epoll or kqueue, whose descriptor is watched by tokio's edge-triggered one.
//!
//! asyncio's `add_reader` is level-triggered and any descriptor may be closed behind the loop's back; the kernel's own
//! bookkeeping answers both. Used by the loop's thread, or by whoever holds the GIL.
//!
//! The kernel knows a registration by the *file* and the number that it had, the program knows the number only. When
//! the number is closed and the file lives on elsewhere (a duplicate, a forked child, a process that it was sent to),
//! epoll goes on to report that file, under a number that may be another file's by now, and nobody can take it back. So
//! each registration has a number of its own, its generation, which comes with its events.
//!
//! A forked child shares its parent's poller, and leaves it alone.

use std::io;
#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::rt::process;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Interest {
    pub const NONE: Self = Self { read: false, write: false };
    pub const BOTH: Self = Self { read: true, write: true };

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Whether all of it is in `other`.
    pub fn is_within(self, other: Self) -> bool {
        self.read <= other.read && self.write <= other.write
    }

    pub fn and(self, other: Self) -> Self {
        Self { read: self.read && other.read, write: self.write && other.write }
    }

    pub fn without(self, other: Self) -> Self {
        Self { read: self.read && !other.read, write: self.write && !other.write }
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

/// One registration: the descriptor, and which of its registrations this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    pub fd: RawFd,
    pub generation: u32,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub of: Registration,
    pub ready: Interest,
    /// A receive that gets less than it asked for may have left something: the end of the stream, an error, urgent
    /// data.
    pub more_than_data: bool,
}

/// Whether a receive of less than was asked for says that the next one would block: an edge-triggered descriptor whose
/// events tell of the end of the stream and of urgent data (epoll(7), questions and answers, 9).
pub const SHORT_MEANS_DRAINED: bool = cfg!(target_os = "linux");

/// Whether a file may be reported on under a number that was closed. kqueue forgets what is closed.
pub const REPORTS_CLOSED: bool = cfg!(target_os = "linux");

/// How many events one look takes; more are found by the next.
pub const EVENTS_AT_ONCE: usize = 256;

/// The generation of a descriptor of the loop's own, whose events only end a sleep.
pub const OWN: u32 = 0;

/// What a sleep has ended with: room for the kernel's events.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct Events {
    room: Box<[MaybeUninit<libc::epoll_event>; EVENTS_AT_ONCE]>,
    count: usize,
}

#[cfg(target_os = "linux")]
impl Default for Events {
    fn default() -> Self {
        Self { room: Box::new([const { MaybeUninit::uninit() }; EVENTS_AT_ONCE]), count: 0 }
    }
}

#[cfg(target_os = "linux")]
impl Events {
    /// Give each to `found`; how many there were.
    pub fn take(&mut self, found: impl FnMut(Event)) -> usize {
        let count = std::mem::take(&mut self.count);
        // SAFETY: `Poller::sleep` has counted what the kernel has written.
        unsafe { read(&self.room[..count], found) };
        count
    }
}

/// What a sleep has ended with. There is none: the loop sleeps in tokio's driver here.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub struct Events;

#[cfg(not(target_os = "linux"))]
impl Events {
    pub fn take(&mut self, _found: impl FnMut(Event)) -> usize {
        0
    }
}

/// epoll (Linux) or kqueue (the BSDs, macOS).
#[derive(Debug)]
pub struct Poller {
    own: OwnedFd,
    /// The process that made it (`process::generation`).
    process: u32,
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.own.as_raw_fd()
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Poller {
    /// # Errors
    /// The process or the system has no descriptor, or no memory, left for it.
    pub fn new() -> io::Result<Self> {
        // SAFETY: `create` gives a descriptor that it has just made, and that nobody else knows of.
        let own = unsafe { OwnedFd::from_raw_fd(check(create())?) };
        Ok(Self { own, process: process::generation() })
    }

    fn check_process(&self) -> io::Result<()> {
        let is_inherited = self.process != process::generation();
        if is_inherited { Err(io::Error::from_raw_os_error(libc::EBADF)) } else { Ok(()) }
    }
}

#[cfg(target_os = "linux")]
fn create() -> libc::c_int {
    // SAFETY: a system call without pointers.
    unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }
}

#[cfg(not(target_os = "linux"))]
fn create() -> libc::c_int {
    // SAFETY: a system call without arguments.
    unsafe { libc::kqueue() }
}

#[cfg(target_os = "linux")]
const MORE_THAN_DATA: libc::c_int = libc::EPOLLRDHUP | libc::EPOLLPRI;

#[cfg(target_os = "linux")]
impl Poller {
    /// Watch for this, as this registration. `before` is what the descriptor was watched for, as far as is known.
    /// False: that registration is not the number's any more, and may live on.
    ///
    /// # Errors
    /// EBADF for a number that is no descriptor's, EPERM for what cannot be polled (a regular file), ENOMEM and ENOSPC.
    /// Nothing is registered then.
    pub fn set(
        &self,
        registration: Registration,
        interest: Interest,
        before: Interest,
        trigger: Trigger,
    ) -> io::Result<bool> {
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
        let Registration { fd, generation } = registration;
        let data = u64::from(generation) << 32 | u64::from(fd.cast_unsigned());
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: data };
        // What is known is the number: another file may have it by now, or one that had it before has it again.
        let [first, second, otherwise] = if before.is_empty() {
            [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EEXIST]
        } else {
            [libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD, libc::ENOENT]
        };
        match self.control(first, fd, &mut event) {
            Err(error) if error.raw_os_error() == Some(otherwise) => {
                self.control(second, fd, &mut event).map(|()| before.is_empty())
            }
            done => done.map(|()| true),
        }
    }

    /// Watch it no more.
    ///
    /// # Errors
    /// EBADF, ENOENT: the number is no descriptor's any more, or another's. The file that had it may live on.
    pub fn remove(&self, fd: RawFd, _before: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        self.control(libc::EPOLL_CTL_DEL, fd, &mut event)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, event: &mut libc::epoll_event) -> io::Result<()> {
        self.check_process()?;
        // SAFETY: `event` is valid for the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.as_raw_fd(), operation, fd, event) }).map(drop)
    }

    /// What is ready now, without waiting; how much of it.
    ///
    /// # Errors
    /// The kernel's: somebody has closed the poller's descriptor.
    pub fn look(&self, found: impl FnMut(Event)) -> io::Result<usize> {
        let mut room = [const { MaybeUninit::uninit() }; EVENTS_AT_ONCE];
        let count = self.wait(&mut room, 0)?;
        // SAFETY: `wait` says how many the kernel has written.
        unsafe { read(&room[..count], found) };
        Ok(count)
    }

    /// Sleep until something is ready, or a signal comes. Without the GIL.
    ///
    /// # Errors
    /// The kernel's: somebody has closed the poller's descriptor.
    pub fn sleep(&self, events: &mut Events) -> io::Result<()> {
        events.count = 0;
        match self.wait(&mut events.room, -1) {
            Ok(count) => events.count = count,
            Err(failed) if failed.kind() == io::ErrorKind::Interrupted => {}
            Err(failed) => return Err(failed),
        }
        Ok(())
    }

    /// How many the kernel has written to `room`.
    fn wait(
        &self,
        room: &mut [MaybeUninit<libc::epoll_event>; EVENTS_AT_ONCE],
        milliseconds: libc::c_int,
    ) -> io::Result<usize> {
        self.check_process()?;
        let (fd, place, most) = (self.as_raw_fd(), room.as_mut_ptr().cast(), EVENTS_AT_ONCE as libc::c_int);
        // SAFETY: there is room for as many entries as the kernel is told that it may write.
        check(unsafe { libc::epoll_wait(fd, place, most, milliseconds) }).map(|count| count as usize)
    }
}

/// Give each event to `found`.
///
/// # Safety
/// The kernel has written all of them.
#[cfg(target_os = "linux")]
unsafe fn read(events: &[MaybeUninit<libc::epoll_event>], mut found: impl FnMut(Event)) {
    for event in events {
        // SAFETY: the caller says that the kernel has written it.
        let event = unsafe { event.assume_init() };
        let (bits, data) = (event.events.cast_signed(), event.u64);
        let of = Registration { fd: (data as u32).cast_signed(), generation: (data >> 32) as u32 };
        // An error or a hang-up is for both sides, as in `selectors.EpollSelector`.
        let ready = Interest { read: bits & !libc::EPOLLOUT != 0, write: bits & !libc::EPOLLIN != 0 };
        let more_than_data = bits & (MORE_THAN_DATA | libc::EPOLLERR | libc::EPOLLHUP) != 0;
        found(Event { of, ready, more_than_data });
    }
}

#[cfg(not(target_os = "linux"))]
impl Poller {
    /// The loop does not sleep here (`accel::OWN_SLEEP`).
    ///
    /// # Errors
    /// Always.
    pub fn sleep(&self, _events: &mut Events) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Watch for this, as this registration. `before` is what the descriptor was watched for, as far as is known. True:
    /// no registration of a number that was closed lives on.
    ///
    /// # Errors
    /// EBADF for a number that is no descriptor's, EINVAL for what cannot be polled, ENOMEM.
    pub fn set(
        &self,
        registration: Registration,
        interest: Interest,
        before: Interest,
        trigger: Trigger,
    ) -> io::Result<bool> {
        let flags = libc::EV_ADD | if trigger == Trigger::Edge { libc::EV_CLEAR } else { 0 };
        for (wanted, was, filter) in
            [(interest.read, before.read, libc::EVFILT_READ), (interest.write, before.write, libc::EVFILT_WRITE)]
        {
            if wanted {
                self.control(registration, filter, flags)?;
            } else if was {
                // It may be closed already.
                drop(self.control(registration, filter, libc::EV_DELETE));
            }
        }
        Ok(true)
    }

    /// Watch it no more.
    ///
    /// # Errors
    /// EBADF, ENOENT: it is closed, and forgotten by that.
    pub fn remove(&self, fd: RawFd, before: Interest) -> io::Result<()> {
        let registration = Registration { fd, generation: 0 };
        let sides = [(before.read, libc::EVFILT_READ), (before.write, libc::EVFILT_WRITE)];
        let told = sides.into_iter().filter(|&(was, _)| was);
        told.map(|(_, filter)| self.control(registration, filter, libc::EV_DELETE)).fold(Ok(()), io::Result::and)
    }

    fn control(&self, registration: Registration, filter: i16, flags: u16) -> io::Result<()> {
        self.check_process()?;
        // SAFETY: an all-zero kevent is a valid one.
        let mut change: libc::kevent = unsafe { std::mem::zeroed() };
        change.ident = registration.fd as libc::uintptr_t;
        change.filter = filter;
        change.flags = flags;
        change.udata = registration.generation as usize as *mut libc::c_void;
        // SAFETY: one change, which the call copies; no place for events.
        let result =
            unsafe { libc::kevent(self.as_raw_fd(), &raw const change, 1, std::ptr::null_mut(), 0, std::ptr::null()) };
        check(result).map(drop)
    }

    /// What is ready now, without waiting; how much of it.
    ///
    /// # Errors
    /// The kernel's: somebody has closed the poller's descriptor.
    pub fn look(&self, mut found: impl FnMut(Event)) -> io::Result<usize> {
        self.check_process()?;
        // SAFETY: an all-zero kevent is a valid one.
        let mut events: [libc::kevent; EVENTS_AT_ONCE] = unsafe { std::mem::zeroed() };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: there is room for as many entries as the kernel is told that it may write.
        let count = unsafe {
            libc::kevent(
                self.as_raw_fd(),
                std::ptr::null(),
                0,
                events.as_mut_ptr(),
                EVENTS_AT_ONCE as libc::c_int,
                &raw const now,
            )
        };
        let count = check(count)? as usize;
        for event in &events[..count] {
            let of = Registration { fd: event.ident as RawFd, generation: event.udata as usize as u32 };
            let read = event.filter == libc::EVFILT_READ;
            found(Event { of, ready: Interest { read, write: !read }, more_than_data: true });
        }
        Ok(count)
    }
}
