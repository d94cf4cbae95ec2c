//! The bell of a loop that sleeps in its own poller: any thread rings it, without the GIL, and the sleep ends.
//!
//! The lock is held for one system call that does not wait. It keeps a late ring from a descriptor that the loop has closed,
//! and whose number is somebody else's by then.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// None: not made yet, or closed.
#[derive(Debug, Default)]
pub(super) struct Bell(Mutex<Option<OwnedFd>>);

#[cfg(target_os = "linux")]
impl Bell {
    /// Make it, if there is none yet; its descriptor.
    ///
    /// # Errors
    /// The process or the system has no descriptor, or no memory, left for it.
    pub(super) fn hang(&self) -> io::Result<RawFd> {
        let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = &*bell {
            return Ok(bell.as_raw_fd());
        }
        // SAFETY: a plain system call; a descriptor that it gives is ours alone.
        let made = unsafe {
            match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                -1 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(bell.insert(made).as_raw_fd())
    }

    /// Nobody reads what is written: each write is a new edge for the poller, and there is room for 2^64 of them.
    pub(super) fn ring(&self) {
        if let Some(bell) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let once = 1_u64;
            // SAFETY: the descriptor is open, and the eight bytes are there.
            unsafe { libc::write(bell.as_raw_fd(), (&raw const once).cast(), size_of::<u64>()) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Bell {
    /// # Errors
    /// Always: no loop sleeps in its poller here.
    pub(super) fn hang(&self) -> io::Result<RawFd> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(super) fn ring(&self) {}
}

impl Bell {
    /// The loop is closed.
    pub(super) fn take_down(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
