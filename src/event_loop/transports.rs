//! What `pyloop._transports` has a loop make: the native parts of transports and of listening sockets' callbacks.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::Loop;
use crate::io::protocol_of;
use crate::io::sock_plain;
use crate::io::stream::accept::Listener;
use crate::io::stream::class::Parts;
use crate::io::stream::socket::Socket;
use crate::io::stream::state::Stream;
use crate::py::context;

/// The native part of a transport of a byte stream.
#[pyfunction]
pub fn new_stream<'py>(
    event_loop: &Bound<'py, Loop>,
    sock: Bound<'py, PyAny>,
    protocol: Bound<'py, PyAny>,
    waiter: Option<Bound<'py, PyAny>>,
    server: Option<Bound<'py, PyAny>>,
) -> PyResult<Stream> {
    let fd = sock_plain::fileno(&sock)?;
    Ok(Stream::new(Parts {
        event_loop: event_loop.as_super().clone(),
        fd,
        socket: Socket::Python(sock.unbind()),
        accepted: None,
        short: protocol_of::short(fd),
        protocol,
        context: context::copy_current(event_loop.py())?,
        waiter,
        server,
        watch: Loop::watch(event_loop)?,
        buffer: Arc::clone(&event_loop.get().receive_buffer),
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
