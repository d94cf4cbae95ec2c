//! The `sock_*` calls as Rust futures: the system call is tried at once in the awaiting task's step, and again when
//! the descriptor is ready. Dropping one (a cancelled task) leaves the socket as it was.
//!
//! Loop thread, GIL held. The hot ones (`recv`, `recv_into`, `sendall`) call the kernel; the others call the socket's
//! own method, which knows addresses of every family.

use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::watch::{Side, Watch};
use crate::bridge::RustFuture;
use crate::py::call::{self, Object};
use crate::py::cell::GilCell;
use crate::py::error;

/// One try of a call: None when it would block.
type Attempt = Box<dyn FnMut(Python<'_>, RawFd) -> PyResult<Option<Tried>> + Send>;

/// What a try of a call came to.
enum Tried {
    Done(Py<PyAny>),
    /// A receive got less than it asked for.
    Short(Py<PyAny>),
}

impl Tried {
    /// `count` of `asked` bytes were received.
    fn received(value: Py<PyAny>, count: usize, asked: usize) -> Self {
        if 0 < count && count < asked { Self::Short(value) } else { Self::Done(value) }
    }
}

/// A call that is tried until it does not block.
struct Trying {
    event_loop: Py<PyAny>,
    watch: Arc<Watch>,
    sock: Py<PyAny>,
    side: Side,
    attempt: Attempt,
    /// It may say `Tried::Short`, and is not tried on a socket that is known to be drained.
    receives: bool,
    /// The descriptor and the id under which we wait.
    waiting: Option<(RawFd, u64)>,
}

impl Trying {
    fn wait(&self, py: Python<'_>, fd: RawFd, cx: &Context<'_>) -> PyResult<u64> {
        if self.watch.callbacks(py, fd) != 0 {
            // asyncio's words for a descriptor that a transport uses; somebody else's callback is no obstacle.
            self.event_loop.bind(py).try_call_method(pyo3::intern!(py, "_ensure_fd_no_transport"), (fd,))?;
        }
        self.watch.wait(self.sock.bind(py), fd, self.side, cx.waker())
    }

    fn stop_waiting(&mut self, py: Python<'_>) {
        if let Some((fd, id)) = self.waiting.take() {
            self.watch.forget(py, fd, self.side, id);
        }
    }
}

impl Future for Trying {
    type Output = PyResult<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Python::attach(|py| {
            let this = &mut *self;
            this.stop_waiting(py);
            let fd: RawFd = match fileno(this.sock.bind(py)) {
                Ok(fd) => fd,
                Err(raised) => return Poll::Ready(Err(raised)),
            };
            let drained = this.receives && this.watch.is_drained(this.sock.bind(py), fd);
            let tried = if drained { Ok(None) } else { (this.attempt)(py, fd) };
            match tried {
                Ok(Some(Tried::Done(value))) => Poll::Ready(Ok(value)),
                Ok(Some(Tried::Short(value))) => {
                    this.watch.drained(this.sock.bind(py), fd);
                    Poll::Ready(Ok(value))
                }
                Err(raised) => Poll::Ready(Err(raised)),
                Ok(None) => match this.wait(py, fd, cx) {
                    Ok(id) => {
                        this.waiting = Some((fd, id));
                        Poll::Pending
                    }
                    Err(raised) => Poll::Ready(Err(raised)),
                },
            }
        })
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            Python::attach(|py| self.stop_waiting(py));
        }
    }
}

fn fileno(sock: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    sock.try_call_method(pyo3::intern!(sock.py(), "fileno"), ())?.extract()
}

/// What a call needs of its loop.
pub struct Place {
    pub event_loop: Py<PyAny>,
    pub watch: Arc<Watch>,
}

fn trying(name: &'static str, place: Place, sock: Py<PyAny>, side: Side, attempt: Attempt) -> RustFuture {
    let Place { event_loop, watch } = place;
    RustFuture::new(name, Trying { event_loop, watch, sock, side, attempt, receives: false, waiting: None })
}

fn receiving(name: &'static str, place: Place, sock: Py<PyAny>, attempt: Attempt) -> RustFuture {
    let Place { event_loop, watch } = place;
    let side = Side::Read;
    RustFuture::new(name, Trying { event_loop, watch, sock, side, attempt, receives: true, waiting: None })
}

/// The answer of a system call: None when it would block or was interrupted.
fn answered(count: isize) -> PyResult<Option<usize>> {
    if count >= 0 {
        return Ok(Some(count as usize));
    }
    let failed = io::Error::last_os_error();
    match failed.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error::os_error(&failed)),
    }
}

/// The answer of a socket method: None when it would block or was interrupted.
fn unblocked<T>(py: Python<'_>, answer: PyResult<T>) -> PyResult<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(raised)
            if raised.is_instance_of::<PyBlockingIOError>(py) || raised.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

/// The most that goes through the loop's own buffer; a larger receive gets a buffer of its size.
const BUFFER: usize = 256 * 1024;

/// A buffer that receives share: what arrived is copied out, exactly as long as it is.
#[derive(Debug, Default)]
pub struct ReceiveBuffer(GilCell<Vec<u8>>);

/// `loop.sock_recv(sock, n)`.
pub fn recv(place: Place, buffer: Arc<ReceiveBuffer>, sock: Py<PyAny>, n: usize) -> RustFuture {
    let attempt = move |py: Python<'_>, fd: RawFd| {
        if n == 0 {
            // As CPython: the kernel is not asked.
            return Ok(Some(Tried::Done(PyBytes::new(py, b"").into_any().unbind())));
        }
        buffer.0.with(py, |buffer| {
            let mut own;
            let room = if n <= BUFFER {
                if buffer.len() < n {
                    buffer.resize(n, 0);
                }
                &mut buffer[..n]
            } else {
                own = vec![0_u8; n];
                &mut own[..]
            };
            // SAFETY: `room` is valid for its length.
            let count = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), 0) };
            let received = |count| {
                let data = PyBytes::new(py, &room[..count]).into_any().unbind();
                Tried::received(data, count, room.len())
            };
            answered(count).map(|count| count.map(received))
        })
    };
    receiving("sock_recv", place, sock, Box::new(attempt))
}

/// `loop.sock_recv_into(sock, buf)`.
///
/// # Errors
/// What is no writable buffer: TypeError, BufferError.
pub fn recv_into(place: Place, sock: Py<PyAny>, buf: &Bound<'_, PyAny>) -> PyResult<RustFuture> {
    let buffer = byte_view(buf)?;
    if buffer.readonly() {
        // The socket's own words for it.
        sock.bind(buf.py()).try_call_method("recv_into", (buf, 0))?;
    }
    let attempt = move |py: Python<'_>, fd: RawFd| {
        if buffer.len_bytes() == 0 {
            return Ok(Some(Tried::Done(0_usize.into_pyobject(py)?.into_any().unbind())));
        }
        // SAFETY: the PyBuffer keeps the memory where it is; the GIL is held, so Python code does not touch it.
        let count = unsafe { libc::recv(fd, buffer.buf_ptr(), buffer.len_bytes(), 0) };
        let received = |count: usize| {
            let value = count.into_pyobject(py)?.into_any().unbind();
            Ok(Tried::received(value, count, buffer.len_bytes()))
        };
        answered(count)?.map(received).transpose()
    };
    Ok(receiving("sock_recv_into", place, sock, Box::new(attempt)))
}

fn byte_view(buf: &Bound<'_, PyAny>) -> PyResult<PyBuffer<u8>> {
    match PyBuffer::<u8>::get(buf) {
        Ok(view) if view.is_c_contiguous() => Ok(view),
        // Other items than bytes: seen as bytes.
        _ => PyBuffer::get(
            &buf.py().get_type::<pyo3::types::PyMemoryView>().try_call((buf,))?.try_call_method("cast", ("B",))?,
        ),
    }
}

/// `loop.sock_sendall(sock, data)`.
///
/// # Errors
/// TypeError for what is no buffer.
pub fn sendall(place: Place, sock: Py<PyAny>, data: &Bound<'_, PyAny>) -> PyResult<RustFuture> {
    let buffer = byte_view(data)?;
    let mut sent = 0;
    let attempt = move |py: Python<'_>, fd: RawFd| {
        loop {
            // Nothing is sent, too, once: the socket may have something to say about it.
            let left = buffer.len_bytes() - sent;
            // SAFETY: the PyBuffer keeps the memory where it is, and `sent` is within it.
            let count = unsafe { libc::send(fd, buffer.buf_ptr().cast::<u8>().add(sent).cast(), left, 0) };
            let count = answered(count)?;
            sent += count.unwrap_or_default();
            if sent == buffer.len_bytes() {
                return Ok(Some(Tried::Done(py.None())));
            }
            if count.is_none() {
                return Ok(None);
            }
        }
    };
    Ok(trying("sock_sendall", place, sock, Side::Write, Box::new(attempt)))
}

/// A call of the socket's own method, tried until it does not block: `recvfrom`, `recvfrom_into`, `sendto`.
pub fn method(
    name: &'static str,
    place: Place,
    sock: &Bound<'_, PyAny>,
    side: Side,
    method: &'static str,
    args: &Bound<'_, PyTuple>,
) -> RustFuture {
    let this = sock.clone().unbind();
    let args = args.clone().unbind();
    let attempt = move |py: Python<'_>, _fd: RawFd| {
        let answer = call::call_tuple(&this.bind(py).try_getattr(method)?, Some(args.bind(py)));
        Ok(unblocked(py, answer.map(Bound::unbind))?.map(Tried::Done))
    };
    trying(name, place, sock.clone().unbind(), side, Box::new(attempt))
}

/// `loop.sock_accept(sock)`: `(conn, address)`, `conn` non-blocking.
pub fn accept(place: Place, sock: &Bound<'_, PyAny>) -> RustFuture {
    let this = sock.clone().unbind();
    let attempt = move |py: Python<'_>, _fd: RawFd| {
        let answer = this.bind(py).try_call_method(pyo3::intern!(py, "accept"), ());
        let Some(pair) = unblocked(py, answer.map(Bound::unbind))? else { return Ok(None) };
        pair.bind(py).get_item(0)?.try_call_method(pyo3::intern!(py, "setblocking"), (false,))?;
        Ok(Some(Tried::Done(pair)))
    };
    trying("sock_accept", place, sock.clone().unbind(), Side::Read, Box::new(attempt))
}

/// `loop.sock_connect(sock, address)` with an address that needs no resolving.
pub fn connect(place: Place, sock: &Bound<'_, PyAny>, address: Py<PyAny>) -> RustFuture {
    let this = sock.clone().unbind();
    let mut begun = false;
    let attempt = move |py: Python<'_>, fd: RawFd| {
        if !begun {
            begun = true;
            return Ok(unblocked(py, this.bind(py).try_call_method(pyo3::intern!(py, "connect"), (&address,)))?
                .map(|_| Tried::Done(py.None())));
        }
        let mut code: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `code` and `size` are valid places for the answer.
        let asked =
            unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut code).cast(), &raw mut size) };
        if asked != 0 {
            return Err(error::os_error(&io::Error::last_os_error()));
        }
        match code {
            0 => Ok(Some(Tried::Done(py.None()))),
            libc::EINPROGRESS | libc::EALREADY | libc::EAGAIN => Ok(None),
            code => Err(error::connect_failed(code, address.bind(py))),
        }
    };
    trying("sock_connect", place, sock.clone().unbind(), Side::Write, Box::new(attempt))
}
