//! What `pyloop._transports` has a loop make: the native parts of transports and of listening sockets' callbacks.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::Loop;
use crate::io::datagram;
use crate::io::datagram::state::{Datagrams, Kind};
use crate::io::protocol_of::{self, Short};
use crate::io::sock_plain;
use crate::io::stream::accept::Listener;
use crate::io::stream::class::Parts;
use crate::io::stream::socket::Socket;
use crate::io::stream::state::{Stream, Wants};
use crate::py::{context, error};

/// The native part of a transport of a byte stream. `context`: None for a copy of the current one.
#[pyfunction]
pub fn new_stream<'py>(
    event_loop: &Bound<'py, Loop>,
    sock: Bound<'py, PyAny>,
    protocol: Bound<'py, PyAny>,
    waiter: Option<Bound<'py, PyAny>>,
    server: Option<Bound<'py, PyAny>>,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Stream> {
    let fd = sock_plain::fileno(&sock)?;
    Ok(Stream::new(Parts {
        event_loop: event_loop.as_super().clone(),
        fd,
        socket: Socket::Python(sock.unbind()),
        accepted: None,
        short: protocol_of::short(fd),
        protocol,
        context: context.map_or_else(|| context::copy_current(event_loop.py()), Ok)?,
        waiter,
        server,
        watch: Loop::watch(event_loop)?,
        buffer: Arc::clone(&event_loop.get().receive_buffer),
    }))
}

/// The native part of a transport of a pipe, which does not block.
///
/// `watches`: its descriptor is watched from the start, and one that is written tells when nobody reads any more.
///
/// # Errors
/// OSError when there is no descriptor left, for one that another transport has.
#[pyfunction]
pub fn new_pipe<'py>(
    event_loop: &Bound<'py, Loop>,
    pipe: Bound<'py, PyAny>,
    fd: RawFd,
    protocol: Bound<'py, PyAny>,
    waiter: Option<Bound<'py, PyAny>>,
    reads: bool,
    watches: bool,
) -> PyResult<Stream> {
    let py = event_loop.py();
    let watch = Loop::watch(event_loop)?;
    let duplicate = match watch.transport(py, fd) {
        Some(_) => Some(duplicate(fd).map_err(|failed| error::os_error(&failed))?),
        None => None,
    };
    let fd = duplicate.as_ref().map_or(fd, AsRawFd::as_raw_fd);
    let stream = Stream::new(Parts {
        event_loop: event_loop.as_super().clone(),
        fd,
        socket: Socket::Pipe { file: pipe.unbind(), duplicate },
        accepted: None,
        short: Short::Pipe,
        protocol,
        context: context::copy_current(py)?,
        waiter,
        server: None,
        watch,
        buffer: Arc::clone(&event_loop.get().receive_buffer),
    });
    stream.state.with(py, |state| {
        state.wants = if reads { Wants::Pipe } else { Wants::Nothing };
        state.paused = !watches;
    });
    Ok(stream)
}

/// Another number for the same file.
fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a system call without pointers.
    let made = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(made) }) }
}

/// The native part of a transport of datagrams. `sock`: with its family, if it is of Python's own class, so that the
/// kernel is asked. `remote`: asyncio's `_address`, and whether the socket is connected. `rules`: what each datagram
/// that waits counts for beside its bytes, and whether empty ones are sent.
#[pyfunction]
pub fn new_datagrams<'py>(
    event_loop: &Bound<'py, Loop>,
    sock: (Bound<'py, PyAny>, Option<i32>),
    protocol: Bound<'py, PyAny>,
    remote: (Option<Bound<'py, PyAny>>, bool),
    waiter: Option<Bound<'py, PyAny>>,
    rules: (usize, bool),
) -> PyResult<Datagrams> {
    let ((sock, family), (remote, is_connected), (header, sends_empty)) = (sock, remote, rules);
    let fd = sock_plain::fileno(&sock)?;
    Ok(Datagrams::new(datagram::class::Parts {
        event_loop: event_loop.as_super().clone(),
        kind: Kind { fd, family, is_connected, sends_empty },
        sock,
        header,
        protocol,
        context: context::copy_current(event_loop.py())?,
        remote,
        waiter,
        watch: Loop::watch(event_loop)?,
        room: Arc::clone(&event_loop.get().datagram_room),
    }))
}

/// `loop._accept_connection`, which makes transports of this class; `otherwise` is asyncio's method.
#[pyfunction]
pub fn new_listener<'py>(
    event_loop: &Bound<'py, Loop>,
    class: &Bound<'py, PyType>,
    otherwise: &Bound<'py, PyAny>,
) -> PyResult<Listener> {
    let (watch, buffer) = (Loop::watch(event_loop)?, Arc::clone(&event_loop.get().receive_buffer));
    Ok(Listener::new(event_loop.as_super(), class, otherwise, watch, buffer))
}
