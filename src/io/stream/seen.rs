//! What Python may see of a connection that was accepted natively: its `socket.socket` and its addresses, made now.

use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use pyo3::prelude::*;

use super::socket::{Kind, Socket};
use super::state::{Objects, Stream};
use crate::py::asyncio::asyncio;
use crate::py::call::Object;

/// A connection's `socket.socket`, made now if there was none; None when the connection is over.
///
/// # Errors
/// MemoryError.
pub fn sock_of<'py>(stream: &Bound<'py, Stream>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = stream.py();
    let known = |objects: &Objects| match &objects.socket {
        Socket::Python(file) | Socket::Pipe { file, .. } => Ok(file.clone_ref(py)),
        Socket::Native(fd) => Err(fd.as_raw_fd()),
    };
    let found = stream.get().state.with(py, |state| {
        let kind = state.accepted.as_ref().map(|accepted| accepted.kind);
        state.objects.as_ref().map(|objects| (known(objects), kind))
    });
    let (fd, kind) = match found {
        None | Some((Err(_), None)) => return Ok(None),
        Some((Ok(sock), _)) => return Ok(Some(sock.into_bound(py))),
        Some((Err(fd), Some(kind))) => (fd, kind),
    };
    let sock = asyncio(py)?.helper(py, "socket_of")?.try_call((fd, kind))?;
    // Python code has run: the connection may be over, or another socket object have been made.
    let native = stream.get().state.with(py, |state| match &mut state.objects {
        Some(Objects { socket, .. }) if matches!(socket, Socket::Native(_)) => {
            Some(std::mem::replace(socket, Socket::Python(sock.clone().unbind())))
        }
        _ => None,
    });
    match native {
        Some(Socket::Native(fd)) => {
            // The socket object closes it.
            let _its_own: RawFd = fd.into_raw_fd();
            Ok(Some(sock))
        }
        _ => {
            sock.try_call_method(pyo3::intern!(py, "detach"), ())?;
            sock_of(stream)
        }
    }
}

/// What `known_of` gives.
pub type Known<'py> = (Option<Bound<'py, PyAny>>, Kind, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The socket of a connection that was accepted natively, the numbers that it is made with, `sockname` and `peername`.
/// When the connection is over there is no socket. None: another kind of connection.
///
/// # Errors
/// MemoryError.
pub fn known_of<'py>(stream: &Bound<'py, Stream>) -> PyResult<Option<Known<'py>>> {
    let py = stream.py();
    let Some(accepted) = stream.get().state.with(py, |state| state.accepted.clone()) else { return Ok(None) };
    let (sockname, peername) = (accepted.sockname.get().in_python(py)?, accepted.peername.get().in_python(py)?);
    Ok(Some((sock_of(stream)?, accepted.kind, sockname, peername)))
}
