//! The alarm clock of a loop: wakes the turn for the earliest timer.
//!
//! tokio's timer wheel ticks in milliseconds, so on Linux the alarm is a timerfd in tokio's reactor, and in the loop's
//! own poller, where it ends a sleep as well: to the nanosecond for the kernel, within some tens of microseconds for
//! us. Elsewhere, and in a process that had no descriptor left for it, the alarm is tokio's `Sleep`, up to a
//! millisecond late. Never early, either way.
//!
//! It belongs to the loop's engine, which makes it before the first run and keeps it: a run that is under way needs no
//! descriptor for a timer. Used by the thread that runs the loop, inside its runtime.

use std::os::fd::RawFd;
use std::task::{Context, Poll};

#[cfg(target_os = "linux")]
use timerfd::Exact;
use wheel::Wheel;

/// The longest the loop sleeps in one go (asyncio's MAXIMUM_SELECT_TIMEOUT), in nanoseconds.
const LONGEST_SLEEP: u64 = 24 * 3600 * 1_000_000_000;

fn earliest(when: u64, now: u64) -> u64 {
    when.min(now.saturating_add(LONGEST_SLEEP))
}

/// Wakes the waker that it was set with, at the time that it was set for.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// None: it could not be made.
    #[cfg(target_os = "linux")]
    exact: Option<Exact>,
    /// The kernel did not set it.
    #[cfg(target_os = "linux")]
    is_refused: bool,
    wheel: Wheel,
}

impl Alarm {
    /// A run begins, inside its runtime. A process without a descriptor for a timerfd is no reason not to run.
    /// The timerfd.
    pub(super) fn prepare(&mut self) -> Option<RawFd> {
        #[cfg(target_os = "linux")]
        {
            if self.exact.is_none() && !self.is_refused {
                self.exact = Exact::new().ok();
            }
            self.exact.as_ref().map(Exact::descriptor)
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    #[cfg(target_os = "linux")]
    #[cold]
    fn give_up(&mut self) {
        self.exact = None;
        self.is_refused = true;
    }

    /// Have the timerfd expire at `when`; it is `now`. False: there is none.
    pub(super) fn set_descriptor(&mut self, when: u64, now: u64) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(exact) = &mut self.exact {
            match exact.expire(earliest(when, now)) {
                Ok(()) => return true,
                Err(_refused) => self.give_up(),
            }
        }
        let _ = (when, now);
        false
    }

    /// Have the waker of `cx` woken at `when` (nanoseconds of CLOCK_MONOTONIC); it is `now`.
    pub(super) fn set(&mut self, when: u64, now: u64, cx: &mut Context<'_>) {
        let when = earliest(when, now);
        #[cfg(target_os = "linux")]
        if let Some(exact) = &mut self.exact {
            match exact.set(when, cx) {
                Ok(()) => return,
                Err(_refused) => self.give_up(),
            }
        }
        self.wheel.set(when, now, cx);
    }
}

#[cfg(target_os = "linux")]
mod timerfd {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use super::{Context, Poll};

    /// A timerfd that the reactor watches.
    #[derive(Debug)]
    pub(super) struct Exact {
        fd: AsyncFd<OwnedFd>,
        set_for: u64,
    }

    impl Exact {
        /// # Errors
        /// The process or the system has no descriptor, or no memory, left for it.
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self { fd: watched(create()?)?, set_for: 0 })
        }

        pub(super) fn descriptor(&self) -> RawFd {
            self.fd.as_raw_fd()
        }

        /// # Errors
        /// The kernel's.
        pub(super) fn expire(&mut self, when: u64) -> io::Result<()> {
            if self.set_for != when {
                set_time(self.fd.get_ref(), when)?;
                self.set_for = when;
            }
            Ok(())
        }

        /// # Errors
        /// The kernel's, or the reactor's.
        pub(super) fn set(&mut self, when: u64, cx: &mut Context<'_>) -> io::Result<()> {
            self.expire(when)?;
            // An expiry that has been seen is over: the next one is a new edge.
            while let Poll::Ready(ready) = self.fd.poll_read_ready(cx) {
                ready?.clear_ready();
            }
            Ok(())
        }
    }

    fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: the registration owns the descriptor, so it is open and the same for as long as it is watched.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|failed| failed.into_parts().1)
    }

    fn create() -> io::Result<OwnedFd> {
        // SAFETY: a plain system call; a descriptor that it gives is ours alone.
        unsafe {
            match libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(OwnedFd::from_raw_fd(fd)),
            }
        }
    }

    fn set_time(fd: &OwnedFd, when: u64) -> io::Result<()> {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let once = libc::timespec {
            tv_sec: (when / 1_000_000_000) as libc::time_t,
            tv_nsec: (when % 1_000_000_000) as libc::c_long,
        };
        let setting = libc::itimerspec { it_interval: never, it_value: once };
        // SAFETY: a timerfd, and a setting that the call copies.
        let set = unsafe {
            libc::timerfd_settime(fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const setting, std::ptr::null_mut())
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

mod wheel {
    use std::future::Future;
    use std::pin::Pin;
    use std::time::Duration;

    use tokio::time::{Instant, Sleep};

    use super::Context;

    /// tokio's own timer.
    #[derive(Debug, Default)]
    pub(super) struct Wheel {
        sleep: Option<Pin<Box<Sleep>>>,
        set_for: u64,
    }

    impl Wheel {
        pub(super) fn set(&mut self, when: u64, now: u64, cx: &mut Context<'_>) {
            let deadline = Instant::now() + Duration::from_nanos(when.saturating_sub(now));
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    if self.set_for != when {
                        sleep.as_mut().reset(deadline);
                    }
                    sleep
                }
                slot => slot.insert(Box::pin(tokio::time::sleep_until(deadline))),
            };
            self.set_for = when;
            if sleep.as_mut().poll(cx).is_ready() {
                // Due by tokio's clock: the turn looks again at once.
                self.sleep = None;
                cx.waker().wake_by_ref();
            }
        }
    }
}
