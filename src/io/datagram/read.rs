//! The way of a received datagram: from the kernel to the protocol.

use std::io;

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::room::{AT_ONCE, Count, Received};
use super::state::{Objects, Peer, State, Transport};
use crate::core::timeline::Kind;
use crate::io::address::Address;
use crate::io::sock_plain::{Method, methods};
use crate::io::transport::{self, AnyTransport};
use crate::py::call::Object;
use crate::py::error::{self, Slim};
use crate::sched::trace;

/// What is there for the protocol.
enum Next<'py> {
    Datagram(Bound<'py, PyAny>, Bound<'py, PyAny>),
    /// For `error_received`.
    Error(PyErr),
    /// Nothing now.
    Nothing,
}

/// Give the protocol what has arrived.
///
/// asyncio gives it one datagram a turn. As long as nothing else is ready, nobody can tell two turns from one; so what
/// was received with one system call goes on in the same turn then, and waits for the next turn else.
///
/// # Errors
/// What ends the run.
pub fn ready(of: Transport<'_, '_>) -> Slim<()> {
    let mut done = Ok(());
    for _ in 0..AT_ONCE {
        if !of.with(|state| state.reads() && (state.readable || !state.arrived.is_empty())) {
            break;
        }
        done = match next(of) {
            Ok(Next::Nothing) => Ok(()),
            Ok(next) => give(of, next),
            Err(raised) => transport::failed(of, raised, "Fatal read error on datagram transport"),
        };
        if done.is_err() || !is_alone(of) {
            break;
        }
    }
    done
}

fn is_alone(of: Transport<'_, '_>) -> bool {
    of.with(|state| state.objects.as_ref().is_some_and(|it| transport::is_alone(it.event_loop.get(), of.py())))
}

/// Call the protocol. What comes out of it is for the exception handler, and the endpoint goes on.
fn give<'py>(of: Transport<'_, 'py>, next: Next<'py>) -> Slim<()> {
    let py = of.py();
    let Some(protocol) = of.protocol() else { return Ok(()) };
    let called = match next {
        Next::Datagram(data, sender) => {
            protocol.try_call_method(pyo3::intern!(py, "datagram_received"), (data, sender))
        }
        Next::Error(raised) => protocol.try_call_method(pyo3::intern!(py, "error_received"), (raised.into_value(py),)),
        Next::Nothing => return Ok(()),
    };
    match called {
        Ok(_) => Ok(()),
        Err(raised) => failed_callback(of, "_read_ready", raised),
    }
}

/// An exception came out of what is this method of the transport on asyncio.
///
/// # Errors
/// What ends the run.
#[cold]
pub fn failed_callback(of: Transport<'_, '_>, method: &str, raised: PyErr) -> Slim<()> {
    let callback = of.object.try_getattr(method)?;
    transport::report(of, &callback, &PyTuple::empty(of.py()), raised)
}

/// The next thing for the protocol: what was received before, or what is received now.
fn next<'py>(of: Transport<'_, 'py>) -> PyResult<Next<'py>> {
    let py = of.py();
    if let Some((data, sender)) = of.with(|state| state.arrived.pop_front()) {
        return Ok(Next::Datagram(data.into_bound(py).into_any(), sender.into_bound(py)));
    }
    let Some(sock) = of.part(|objects| &objects.sock) else { return Ok(Next::Nothing) };
    if of.kind().family.is_none() || !methods(py)?.is_plain(&sock, Method::RecvFrom)? {
        return receive_by_method(of, &sock);
    }
    let mut first = None;
    match receive(of, &mut first) {
        Ok(()) => Ok(match first {
            Some((data, sender)) => Next::Datagram(data.into_any(), sender),
            None => Next::Nothing,
        }),
        // The kernel may have more to tell.
        Err(raised) if raised.is_instance_of::<PyOSError>(py) => Ok(Next::Error(raised)),
        Err(raised) => Err(raised),
    }
}

/// An error of the kernel's, or of Python's.
struct Failed(PyErr);

impl From<io::Error> for Failed {
    fn from(failed: io::Error) -> Self {
        Self(error::os_error(&failed))
    }
}

/// Receive what there is: the first into `first`, the others into the transport.
fn receive<'py>(of: Transport<'_, 'py>, first: &mut Option<(Bound<'py, PyBytes>, Bound<'py, PyAny>)>) -> PyResult<()> {
    let py = of.py();
    let room = of.with(|state| state.objects.as_ref().map(|objects: &Objects| objects.room.clone()));
    let Some(room) = room else { return Ok(()) };
    let (fd, longest) = (of.kind().fd, of.kind().longest());
    let mut count = 0;
    let traced = trace::begins();
    let received = room.receive(py, fd, longest, |received: Received<'_>| {
        let data = PyBytes::new(py, received.data);
        count += received.data.len();
        let sender = sender(of, &received).map_err(Failed)?;
        if first.is_none() {
            *first = Some((data, sender));
        } else {
            of.with(|state| state.arrived.push_back((data.unbind(), sender.unbind())));
        }
        Ok(())
    });
    note(of, received.as_ref().ok().copied());
    of.counted(|counters| counters.received.add(py, count));
    if let Some(since) = traced {
        trace::moved(py, Kind::Receive, since, count);
    }
    received.map(drop).map_err(|Failed(raised)| raised)
}

/// Note what a receive says of what there is left. `count`: None when it has failed.
fn note(of: Transport<'_, '_>, count: Option<Option<Count>>) {
    of.with(|state: &mut State| {
        state.readable = match count {
            // An error is told once, and there may be datagrams behind it.
            None => true,
            Some(Some(count)) => !count.is_all || state.more_than_data,
            Some(None) => {
                state.more_than_data = false;
                false
            }
        };
    });
}

/// The sender of a datagram: the object of the last one, if it is the same.
fn sender<'py>(of: Transport<'_, 'py>, received: &Received<'_>) -> PyResult<Bound<'py, PyAny>> {
    let py = of.py();
    let known = of.with(|state| {
        let known = state.sender.as_ref().filter(|known| known.address.is(received.sender, received.sender_size));
        known.map(|known| known.object.clone_ref(py))
    });
    if let Some(known) = known {
        return Ok(known.into_bound(py));
    }
    let address = Address::new(received.sender, received.sender_size);
    let object = address.in_python(py)?;
    let peer = Box::new(Peer { object: object.clone().unbind(), address });
    drop(of.with(|state| state.sender.replace(peer)));
    Ok(object)
}

/// Receive by the socket's own method, which may be anybody's.
#[cold]
fn receive_by_method<'py>(of: Transport<'_, 'py>, sock: &Bound<'py, PyAny>) -> PyResult<Next<'py>> {
    let py = of.py();
    let received = of.object.try_call_method(pyo3::intern!(py, "_receive_from"), (sock,));
    // That it would block need not mean that the kernel has nothing.
    let readable = may_read(of.kind().fd);
    of.with(|state| state.readable = readable);
    match received {
        Ok(pair) => Ok(Next::Datagram(pair.get_item(0)?, pair.get_item(1)?)),
        Err(raised) if would_block(py, &raised) => Ok(Next::Nothing),
        Err(raised) if raised.is_instance_of::<PyOSError>(py) => Ok(Next::Error(raised)),
        Err(raised) => Err(raised),
    }
}

/// Whether the answer of a socket's method is to try again later.
pub fn would_block(py: Python<'_>, raised: &PyErr) -> bool {
    raised.is_instance_of::<PyBlockingIOError>(py) || raised.is_instance_of::<PyInterruptedError>(py)
}

/// Whether the kernel says now that a receive would not block.
fn may_read(fd: libc::c_int) -> bool {
    poll(fd, libc::POLLIN)
}

/// Whether the kernel says now that this would not block, or has failed.
pub fn poll(fd: libc::c_int, events: libc::c_short) -> bool {
    let mut asked = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry, valid for the call.
    let count = unsafe { libc::poll(&raw mut asked, 1, 0) };
    count > 0 && asked.revents & libc::POLLNVAL == 0
}
