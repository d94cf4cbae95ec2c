//! Who has a transport's descriptor, and what is known of a connection that was accepted natively: Python's socket
//! object and the addresses are made when somebody asks for them. Guarded by the GIL.

use std::io;
#[cfg(not(target_os = "linux"))]
use std::os::fd::AsRawFd;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;

use crate::io::address::{Address, Kept};
use crate::py::call::Object;

/// Who has a descriptor, and closes it.
pub enum Socket {
    /// A `socket.socket`.
    Python(Py<PyAny>),
    /// A pipe, of whatever class. When another transport watches the same descriptor, this one has a duplicate.
    Pipe { file: Py<PyAny>, duplicate: Option<OwnedFd> },
    /// Nobody has asked for one.
    Native(OwnedFd),
}

impl Socket {
    /// Close the descriptor.
    ///
    /// # Errors
    /// What a socket object's `close` raises.
    pub fn close(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Python(sock) => sock.into_bound(py).try_call_method(pyo3::intern!(py, "close"), ()).map(drop),
            Self::Pipe { file, duplicate } => {
                drop(duplicate);
                file.into_bound(py).try_call_method(pyo3::intern!(py, "close"), ()).map(drop)
            }
            Self::Native(fd) => {
                drop(fd);
                Ok(())
            }
        }
    }
}

/// What a `socket.socket` is made with: the numbers of its family, type and protocol.
pub type Kind = (i32, i32, i32);

/// What there is to know of an accepted connection.
pub struct Accepted {
    pub kind: Kind,
    pub sockname: Kept,
    pub peername: Kept,
}

fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Accept a connection, which does not block and is closed when another program is executed; and the peer's address.
///
/// # Errors
/// The kernel's: WouldBlock when nobody waits.
pub fn accept(listening: RawFd) -> io::Result<(OwnedFd, Address)> {
    Address::asked(|place, size| {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: `asked` gives places that may be written to for the call.
            let fd = unsafe { libc::accept4(listening, place, size, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) };
            // SAFETY: the kernel has just made it, and nobody else knows of it.
            Ok(unsafe { OwnedFd::from_raw_fd(check(fd)?) })
        }
        #[cfg(not(target_os = "linux"))]
        {
            // SAFETY: `asked` gives places that may be written to for the call.
            let fd = check(unsafe { libc::accept(listening, place, size) })?;
            // SAFETY: the kernel has just made it, and nobody else knows of it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: system calls without pointers, on a descriptor that lives until they return.
            unsafe {
                check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC))?;
                check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK))?;
            }
            Ok(fd)
        }
    })
}
