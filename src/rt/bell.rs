//! The bell of a loop that sleeps in a poller: any thread rings it, without the GIL, and the sleep ends. The poller is
//! our own, which looks for edges, or that of a loop of another kind, which looks for what can be read.
//!
//! The lock is held for one system call that does not wait. It keeps a late ring from a descriptor that the loop has
//! closed, and whose number is somebody else's by then.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// None: not made yet, or closed.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Option<OwnedFd>>);

#[cfg(target_os = "linux")]
impl Bell {
    /// Make it, if there is none yet; its descriptor.
    ///
    /// # Errors
    /// The process or the system has no descriptor, or no memory, left for it.
    pub fn hang(&self) -> io::Result<RawFd> {
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

    /// Each write is a new edge for the poller, and there is room for 2^64 of them. False: there is no bell, or
    /// somebody has closed its descriptor.
    pub fn ring(&self) -> bool {
        let bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bell.as_ref().is_some_and(|bell| {
            let once = 1_u64;
            // SAFETY: a plain system call with eight bytes that are there; a descriptor that is not open is an error.
            let written = unsafe { libc::write(bell.as_raw_fd(), (&raw const once).cast(), size_of::<u64>()) };
            written > 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
        })
    }

    /// Take back all rings so far: there is nothing to be read until the next.
    pub fn hush(&self) {
        if let Some(bell) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut rings = 0_u64;
            // SAFETY: the descriptor is open and does not block, and there is room for the eight bytes.
            unsafe { libc::read(bell.as_raw_fd(), (&raw mut rings).cast(), size_of::<u64>()) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Bell {
    /// # Errors
    /// Always: there is no eventfd here.
    pub fn hang(&self) -> io::Result<RawFd> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub fn ring(&self) -> bool {
        false
    }

    pub fn hush(&self) {}
}

impl Bell {
    /// The loop is closed, or does not listen any more.
    pub fn take_down(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
