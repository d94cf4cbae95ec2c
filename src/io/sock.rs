//! The `sock_*` calls as Rust futures: the system call is tried at once in the awaiting task's step, and again when
//! the descriptor is ready. Dropping one (a cancelled task) leaves the socket as it was.
//!
//! Loop thread, GIL held. What is hot (`recv`, `recv_into`, `send`) asks the kernel itself (`sock_plain`) when the
//! socket is of Python's own class and the arguments are plain. Anything else is the socket's own affair: its method is
//! called, which may be a subclass's, knows addresses of every family, and has its own words for what it does not take.
//! As asyncio's, a call looks at its arguments when it is awaited, and holds no buffer while it waits to receive.

use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError};
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySlice, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::descriptor::descriptor_of;
use super::sock_plain::{self, Bytes, Method, ReceiveBuffer, Tried, methods};
use super::watch::Watch;
use super::watched::Side;
use crate::bridge::{RustFuture, Traverse};
use crate::py::asyncio::asyncio;
use crate::py::call::{Arguments, Object};
use crate::py::error;

/// What is called, with what.
pub enum Call {
    Recv { size: Py<PyAny>, buffer: Arc<ReceiveBuffer> },
    RecvInto { buffer: Py<PyAny> },
    RecvFrom { size: Py<PyAny> },
    RecvFromInto { buffer: Py<PyAny>, size: Py<PyAny> },
    SendAll { data: Py<PyAny>, rest: Option<Rest> },
    SendTo { data: Py<PyAny>, address: Py<PyAny> },
    Accept,
    Connect { address: Py<PyAny>, begun: bool },
}

/// What of a `sendall` is still to be sent. As asyncio's it holds the buffer, which cannot be resized meanwhile.
pub enum Rest {
    /// By the kernel.
    Plain { bytes: Bytes, sent: usize },
    /// By the socket's own `send`, from a memoryview of bytes.
    View { view: Py<PyAny>, sent: usize },
}

impl Call {
    fn side(&self) -> Side {
        match self {
            Self::SendAll { .. } | Self::SendTo { .. } | Self::Connect { .. } => Side::Write,
            _ => Side::Read,
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::Recv { .. } => Method::Recv,
            Self::RecvInto { .. } => Method::RecvInto,
            Self::RecvFrom { .. } => Method::RecvFrom,
            Self::RecvFromInto { .. } => Method::RecvFromInto,
            Self::SendAll { .. } => Method::Send,
            Self::SendTo { .. } => Method::SendTo,
            Self::Accept => Method::Accept,
            Self::Connect { .. } => Method::Connect,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Recv { .. } => "sock_recv",
            Self::RecvInto { .. } => "sock_recv_into",
            Self::RecvFrom { .. } => "sock_recvfrom",
            Self::RecvFromInto { .. } => "sock_recvfrom_into",
            Self::SendAll { .. } => "sock_sendall",
            Self::SendTo { .. } => "sock_sendto",
            Self::Accept => "sock_accept",
            Self::Connect { .. } => "sock_connect",
        }
    }
}

/// A call as a Rust future. It does not hold the loop, which holds it: it would keep an abandoned loop alive.
pub fn future(watch: Arc<Watch>, sock: Py<PyAny>, debug: bool, call: Call) -> RustFuture {
    RustFuture::seen(call.name(), Trying { watch, sock, call, debug, is_plain: None, waiting: None })
}

/// A call that is tried until it does not block.
struct Trying {
    watch: Arc<Watch>,
    sock: Py<PyAny>,
    call: Call,
    /// The loop's debug mode, when it was called.
    debug: bool,
    /// Whether the socket's method is CPython's own: the kernel may be asked instead, and "would block" says that the
    /// kernel has nothing more. None: it has not been awaited yet.
    is_plain: Option<bool>,
    /// The descriptor and the id under which it waits.
    waiting: Option<(RawFd, u64)>,
}

impl Future for Trying {
    type Output = PyResult<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Python::attach(|py| {
            self.wait_no_more(py, false);
            match self.advance(py, cx) {
                Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                Ok(Poll::Pending) => Poll::Pending,
                Err(raised) => Poll::Ready(Err(raised)),
            }
        })
    }
}

impl Traverse for Trying {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sock)?;
        match &self.call {
            Call::Recv { size, .. } | Call::RecvFrom { size } => visit.call(size),
            Call::RecvInto { buffer } => visit.call(buffer),
            Call::RecvFromInto { buffer, size } => visit.call(buffer).and_then(|()| visit.call(size)),
            Call::SendAll { data, rest } => match rest {
                Some(Rest::View { view, .. }) => visit.call(data).and_then(|()| visit.call(view)),
                // The buffer itself is held by its `Py_buffer`, too, of which the collector knows nothing.
                Some(Rest::Plain { .. }) | None => visit.call(data),
            },
            Call::SendTo { data, address } => visit.call(data).and_then(|()| visit.call(address)),
            Call::Accept => Ok(()),
            Call::Connect { address, .. } => visit.call(address),
        }
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            Python::attach(|py| self.wait_no_more(py, true));
        }
    }
}

impl Trying {
    /// Before the first try: asyncio's checks.
    fn begin(&mut self, py: Python<'_>) -> PyResult<bool> {
        let sock = self.sock.bind(py);
        asyncio(py)?.check_socket(sock, self.debug)?;
        let is_plain = methods(py)?.is_plain(sock, self.call.method())?;
        self.is_plain = Some(is_plain);
        Ok(is_plain)
    }

    /// Try it. Pending: it waits for the descriptor.
    fn advance(&mut self, py: Python<'_>, cx: &Context<'_>) -> PyResult<Poll<Py<PyAny>>> {
        let is_plain = match self.is_plain {
            Some(known) => known,
            None => self.begin(py)?,
        };
        let fd = if is_plain { Some(methods(py)?.fileno(self.sock.bind(py))?) } else { None };
        match self.attempt(py, fd)? {
            Tried::Done(value) => return Ok(Poll::Ready(value)),
            Tried::Blocked => self.wait(py, fd, cx)?,
            Tried::Busy => cx.waker().wake_by_ref(),
        }
        Ok(Poll::Pending)
    }

    /// `fd`: of a plain socket.
    fn wait(&mut self, py: Python<'_>, fd: Option<RawFd>, cx: &Context<'_>) -> PyResult<()> {
        let (sock, side) = (self.sock.bind(py), self.call.side());
        if let Some(fd) = fd
            && let Some(id) = self.watch.wait_again(sock, fd, side, cx.waker())
        {
            self.waiting = Some((fd, id));
            return Ok(());
        }
        let fd = match fd {
            Some(fd) => fd,
            None => descriptor_of(&sock.try_call_method(pyo3::intern!(py, "fileno"), ())?)?,
        };
        if (self.watch.callbacks(py, fd) != 0 || self.watch.transport(py, fd).is_some())
            && let Some(event_loop) = self.watch.event_loop(py)
        {
            // asyncio's words for a descriptor that a transport uses; somebody else's callback is no obstacle.
            event_loop.try_call_method(pyo3::intern!(py, "_ensure_fd_no_transport"), (fd,))?;
        }
        let id = self.watch.wait(sock, fd, side, self.is_plain == Some(true), cx.waker())?;
        self.waiting = Some((fd, id));
        Ok(())
    }

    fn wait_no_more(&mut self, py: Python<'_>, for_good: bool) {
        if let Some((fd, id)) = self.waiting.take() {
            self.watch.wait_no_more(py, fd, self.call.side(), id, for_good);
        }
    }

    /// `fd`: of a plain socket.
    fn attempt(&mut self, py: Python<'_>, fd: Option<RawFd>) -> PyResult<Tried> {
        let method = self.call.method();
        let (sock, watch) = (self.sock.bind(py), &*self.watch);
        match (&mut self.call, fd) {
            (Call::Recv { size, buffer }, fd) => match (size.extract(py), fd) {
                (Ok(size), Some(fd)) if ReceiveBuffer::takes(size) => buffer.recv(watch, sock, fd, size),
                _ => ask(sock, method, (&*size,)),
            },
            (Call::RecvInto { buffer }, Some(fd)) => match Bytes::writable(buffer.bind(py)) {
                Some(room) => sock_plain::recv_into(watch, sock, fd, &room),
                None => ask(sock, method, (&*buffer,)),
            },
            (Call::RecvInto { buffer }, None) => ask(sock, method, (&*buffer,)),
            (Call::RecvFrom { size }, _) => ask(sock, method, (&*size,)),
            (Call::RecvFromInto { buffer, size }, _) => {
                if size.bind(py).try_is_truthy()? {
                    ask(sock, method, (&*buffer, &*size))
                } else {
                    ask(sock, method, (&*buffer, buffer.bind(py).try_len()?))
                }
            }
            (Call::SendAll { data, rest }, fd) => send_all(sock, fd, data.bind(py), rest),
            (Call::SendTo { data, address }, _) => ask(sock, method, (&*data, &*address)),
            (Call::Accept, _) => accept(sock),
            (Call::Connect { address, begun }, fd) => {
                if std::mem::replace(begun, true) {
                    connected(sock, fd, address.bind(py))
                } else {
                    ask(sock, method, (&*address,))
                }
            }
        }
    }
}

/// The socket's own method.
fn ask<'py>(sock: &Bound<'py, PyAny>, method: Method, args: impl Arguments<'py>) -> PyResult<Tried> {
    let name = methods(sock.py())?.name(sock.py(), method);
    let answer = unblocked(sock.py(), sock.try_call_method(name, args))?;
    Ok(answer.map_or(Tried::Blocked, |value| Tried::Done(value.unbind())))
}

/// The answer of a socket's method: None when it would block or was interrupted.
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

/// `fd`: of a plain socket.
fn send_all<'py>(
    sock: &Bound<'py, PyAny>,
    fd: Option<RawFd>,
    data: &Bound<'py, PyAny>,
    rest: &mut Option<Rest>,
) -> PyResult<Tried> {
    let py = sock.py();
    match (&mut *rest, fd) {
        (Some(Rest::Plain { bytes, sent }), Some(fd)) => sock_plain::send(py, fd, bytes, sent),
        (Some(Rest::View { view, sent }), _) => send_view(sock, view.bind(py), sent),
        (_, fd) => {
            let plain = fd.and_then(|fd| Bytes::readable(data).map(|bytes| (fd, bytes)));
            let Some((fd, bytes)) = plain else { return begin_to_send(sock, data, rest) };
            let mut sent = 0;
            let tried = sock_plain::send(py, fd, &bytes, &mut sent)?;
            if !matches!(tried, Tried::Done(_)) {
                *rest = Some(Rest::Plain { bytes, sent });
            }
            Ok(tried)
        }
    }
}

/// The first of what a socket's own `send` is to send: all of it is offered, as asyncio does.
fn begin_to_send<'py>(sock: &Bound<'py, PyAny>, data: &Bound<'py, PyAny>, rest: &mut Option<Rest>) -> PyResult<Tried> {
    let py = sock.py();
    let sent = count(ask(sock, Method::Send, (data,))?, py)?;
    let view = match py.get_type::<PyMemoryView>().try_call((data,)) {
        Ok(view) => view,
        // It sends what is no buffer, too.
        Err(_) if sent == data.try_len()? => return Ok(Tried::Done(py.None())),
        Err(raised) => return Err(raised),
    };
    if sent >= byte_count(&view)? {
        return Ok(Tried::Done(py.None()));
    }
    let view = view.try_call_method(pyo3::intern!(py, "cast"), ("B",))?.unbind();
    *rest = Some(Rest::View { view, sent });
    Ok(Tried::Blocked)
}

fn send_view<'py>(sock: &Bound<'py, PyAny>, view: &Bound<'py, PyAny>, sent: &mut usize) -> PyResult<Tried> {
    let (py, all) = (sock.py(), byte_count(view)?);
    let left = view.get_item(PySlice::new(py, sent.cast_signed(), all.cast_signed(), 1))?;
    *sent += count(ask(sock, Method::Send, (left,))?, py)?;
    Ok(if *sent >= all { Tried::Done(py.None()) } else { Tried::Blocked })
}

/// How much a `send` has sent.
fn count(tried: Tried, py: Python<'_>) -> PyResult<usize> {
    match tried {
        Tried::Done(count) => count.extract(py),
        Tried::Blocked | Tried::Busy => Ok(0),
    }
}

fn byte_count(view: &Bound<'_, PyAny>) -> PyResult<usize> {
    view.try_getattr(pyo3::intern!(view.py(), "nbytes"))?.extract()
}

/// `(conn, address)`, `conn` non-blocking.
fn accept(sock: &Bound<'_, PyAny>) -> PyResult<Tried> {
    let py = sock.py();
    let answer = sock.try_call_method(pyo3::intern!(py, "accept"), ());
    let Some(pair) = unblocked(py, answer)? else { return Ok(Tried::Blocked) };
    let pair = match pair.cast_into_exact::<PyTuple>() {
        Ok(pair) => pair.into_any(),
        Err(other) => py.get_type::<PyTuple>().try_call((other.into_inner(),))?,
    };
    pair.get_item(0)?.try_call_method(pyo3::intern!(py, "setblocking"), (false,))?;
    Ok(Tried::Done(pair.unbind()))
}

/// What has become of a connection that was begun. `fd`: of a plain socket.
fn connected(sock: &Bound<'_, PyAny>, fd: Option<RawFd>, address: &Bound<'_, PyAny>) -> PyResult<Tried> {
    let py = sock.py();
    if !fd.map_or(Ok(true), sock_plain::is_decided)? {
        return Ok(Tried::Blocked);
    }
    let option = (libc::SOL_SOCKET, libc::SO_ERROR);
    let answer = sock.try_call_method(pyo3::intern!(py, "getsockopt"), option);
    let Some(code) = unblocked(py, answer)? else { return Ok(Tried::Blocked) };
    match code.extract()? {
        0 => Ok(Tried::Done(py.None())),
        libc::EINPROGRESS | libc::EALREADY | libc::EAGAIN | libc::EINTR => Ok(Tried::Blocked),
        code => Err(error::connect_failed(code, address)),
    }
}
