//! Who has a transport's descriptor, and what is known of a connection that was accepted natively: Python's socket object
//! and the addresses are made when somebody asks for them. Guarded by the GIL.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
#[cfg(not(target_os = "linux"))]
use std::os::fd::AsRawFd;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

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
    pub sockname: Address,
    pub peername: Address,
}

/// An address as the kernel gives it.
pub enum Address {
    Inet(SocketAddrV4),
    Inet6(SocketAddrV6),
    /// `sun_path`, as long as the kernel says.
    Unix(Box<[u8]>),
    Unknown,
}

impl Address {
    /// Have `call` (of `accept4`, `getsockname`) write an address, and take its answer.
    fn asked<R>(
        call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> io::Result<R>,
    ) -> io::Result<(R, Self)> {
        // SAFETY: an all-zero sockaddr_storage is a valid one.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let answer = call((&raw mut storage).cast(), &raw mut size)?;
        let size = (size as usize).min(size_of::<libc::sockaddr_storage>());
        let address = match libc::c_int::from(storage.ss_family) {
            libc::AF_INET if size >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: the family says that it is one, and a storage has room for, and the alignment of, each kind.
                let known = unsafe { &*(&raw const storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(known.sin_addr.s_addr));
                Self::Inet(SocketAddrV4::new(ip, u16::from_be(known.sin_port)))
            }
            libc::AF_INET6 if size >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: the family says that it is one, and a storage has room for, and the alignment of, each kind.
                let known = unsafe { &*(&raw const storage).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(known.sin6_addr.s6_addr);
                let (port, flow) = (u16::from_be(known.sin6_port), u32::from_be(known.sin6_flowinfo));
                Self::Inet6(SocketAddrV6::new(ip, port, flow, known.sin6_scope_id))
            }
            libc::AF_UNIX => {
                // SAFETY: the family says that it is one, and a storage has room for, and the alignment of, each kind.
                let known = unsafe { &*(&raw const storage).cast::<libc::sockaddr_un>() };
                let length = size.saturating_sub(std::mem::offset_of!(libc::sockaddr_un, sun_path));
                Self::Unix(known.sun_path.iter().take(length).map(|&byte| byte.cast_unsigned()).collect())
            }
            _ => Self::Unknown,
        };
        Ok((answer, address))
    }

    /// Where the socket is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(fd: RawFd) -> io::Result<Self> {
        // SAFETY: `asked` gives places that may be written to for the call.
        Self::asked(|place, size| check(unsafe { libc::getsockname(fd, place, size) })).map(|(_, address)| address)
    }

    /// As `socket.getsockname` and `getpeername` give it.
    ///
    /// # Errors
    /// MemoryError.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Inet(address) => (address.ip().to_string(), address.port()).into_bound_py_any(py),
            Self::Inet6(address) => {
                let packed = PyBytes::new(py, &address.ip().octets());
                let ip = py.import("_socket")?.try_getattr("inet_ntop")?.try_call((libc::AF_INET6, packed))?;
                (ip, address.port(), address.flowinfo(), address.scope_id()).into_bound_py_any(py)
            }
            // Linux's abstract names.
            Self::Unix(path) if cfg!(target_os = "linux") && path.first() == Some(&0) => {
                Ok(PyBytes::new(py, path).into_any())
            }
            Self::Unix(path) => {
                let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                py.import("os")?.try_getattr("fsdecode")?.try_call((PyBytes::new(py, &path[..end]),))
            }
            Self::Unknown => Ok(py.None().into_bound(py)),
        }
    }
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
