//! The way of a sent datagram: out at once, or kept and sent when the kernel takes more.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyAttributeError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::ends;
use super::read::{failed_callback, poll, would_block};
use super::state::{Peer, Transport};
use crate::core::flow::Tell;
use crate::io::address::Address;
use crate::io::sock_plain::{Method, methods};
use crate::io::syscall::{SEND_FLAGS, answer, traced};
use crate::io::transport::{self, AnyTransport, Stage};
use crate::py::audit::audit;
use crate::py::buffer::{self, View};
use crate::py::call::Object;
use crate::py::error::{self, Slim};

/// How many that wait are sent before others have their turn: a peer that receives as fast would keep the loop for
/// ever.
const AT_ONCE: usize = 64;

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Sent,
    /// The kernel will tell when it takes more.
    Blocked,
    /// Nobody will tell: it is to be tried again.
    Again,
}

/// The bytes of an object that the caller of `attempt` holds, and which stay where they are. What they are may change
/// when Python code runs, as that of an audit hook: so they are no slice.
#[derive(Clone, Copy)]
struct Content {
    place: *const u8,
    length: usize,
}

/// `transport.sendto(data, addr)`.
///
/// # Errors
/// TypeError for what is no bytes, ValueError for another address than the endpoint's own; what `error_received`
/// raises.
#[inline]
pub fn send_to(of: Transport<'_, '_>, data: &Bound<'_, PyAny>, addr: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        let content = Content { place: bytes.as_bytes().as_ptr(), length: bytes.as_bytes().len() };
        return send_bytes(of, data, addr, Some(content), || Ok(PyBackedBytes::from(bytes.clone())));
    }
    let known = data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>();
    if !known && !data.is_instance_of::<PyMemoryView>() {
        let text = format!("data argument must be a bytes-like object, not {}", data.get_type().name()?.try_repr()?);
        return Err(PyTypeError::new_err(text));
    }
    match View::new(data, false) {
        Ok(view) => {
            let content = Content { place: view.address(), length: view.len() };
            send_bytes(of, data, addr, Some(content), || Ok(PyBackedBytes::from(view.copy_from(0))))
        }
        // The socket has its words for it.
        Err(_scattered) => send_bytes(of, data, addr, None, || Ok(buffer::gathered(data)?.into())),
    }
}

/// `content`: None for what does not lie in one piece. `keep`: makes a copy that does not change.
fn send_bytes(
    of: Transport<'_, '_>,
    data: &Bound<'_, PyAny>,
    addr: &Bound<'_, PyAny>,
    content: Option<Content>,
    keep: impl FnOnce() -> PyResult<PyBackedBytes>,
) -> PyResult<()> {
    let py = of.py();
    if !of.kind().sends_empty && content.is_some_and(|content| content.length == 0) {
        return Ok(());
    }
    let (remote, lost, is_idle, has_socket) = of.with(|state| {
        let remote = state.remote.as_ref().map(|remote| remote.clone_ref(py));
        (remote, state.lost, state.waiting.is_empty(), state.objects.is_some())
    });
    let remote = remote.map(|remote| remote.into_bound(py));
    if let Some(remote) = &remote {
        if !addr.is_none() && !addr.is(remote) && !remote.try_eq(addr)? {
            let text = format!("Invalid address: must be None or {}", remote.try_str()?);
            return Err(PyValueError::new_err(text));
        }
        if lost > 0 {
            of.with(|state| state.lost = lost.saturating_add(1));
            return transport::dropped(py, lost, "warn_of_lost_write");
        }
    }
    let addr = remote.as_ref().unwrap_or(addr);
    if !has_socket {
        return Err(over());
    }
    let mut retry = false;
    if is_idle {
        match attempt(of, data, content, addr) {
            Ok(Tried::Sent) => return Ok(()),
            Ok(tried) => retry = tried == Tried::Again,
            Err(raised) => return failed(of, raised, "Fatal write error on datagram transport"),
        }
    }
    // What is sent after the end is lost.
    if lost > 0 {
        return Ok(());
    }
    let kept = keep()?;
    let addressee = if addr.is_none() { None } else { Some(addr.clone().unbind()) };
    of.with(|state| {
        state.writable |= retry;
        state.waiting.push(kept, addressee);
    });
    if retry {
        of.queue();
    }
    ends::watch(of).map_err(|raised| *raised)?;
    grown(of).map_err(|raised| *raised)
}

/// What asyncio says to whoever sends by a transport without a socket.
#[cold]
fn over() -> PyErr {
    PyAttributeError::new_err("'NoneType' object has no attribute 'call_exception_handler'")
}

/// A send has failed: an OSError is for the protocol, every other one is the end.
#[cold]
fn failed(of: Transport<'_, '_>, raised: PyErr, message: &str) -> PyResult<()> {
    let py = of.py();
    if !raised.is_instance_of::<PyOSError>(py) {
        return transport::failed(of, raised, message).map_err(|raised| *raised);
    }
    let Some(protocol) = of.protocol() else { return Ok(()) };
    let exception = raised.into_value(py).into_bound(py).into_any();
    protocol.try_call_method(pyo3::intern!(py, "error_received"), (exception,)).map(drop)
}

/// Try to send. `content`: of `data`; None: the socket's own method is to look at it.
#[inline]
fn attempt<'py>(
    of: Transport<'_, 'py>,
    data: &Bound<'py, PyAny>,
    content: Option<Content>,
    addr: &Bound<'py, PyAny>,
) -> PyResult<Tried> {
    let (py, kind) = (of.py(), of.kind());
    let Some(sock) = of.part(|objects| &objects.sock) else { return Ok(Tried::Sent) };
    let method = if kind.is_connected { Method::Send } else { Method::SendTo };
    if let (Some(family), Some(content)) = (kind.family, content)
        && methods(py)?.is_plain(&sock, method)?
    {
        if kind.is_connected {
            // SAFETY: the bytes are there (`Content`), and are only read.
            let send = || unsafe { libc::send(kind.fd, content.place.cast(), content.length, SEND_FLAGS) };
            return settled(of, traced(py, || answer(send)));
        }
        if let Some(address) = address_of(of, family, addr) {
            audit(c"socket.sendto", &sock, addr)?;
            let (place, size) = address.as_raw();
            let (bytes, length) = (content.place.cast(), content.length);
            // SAFETY: the bytes are there (`Content`), and so is the address; both are only read.
            let send = || unsafe { libc::sendto(kind.fd, bytes, length, SEND_FLAGS, place, size) };
            return settled(of, traced(py, || answer(send)));
        }
    }
    by_method(of, &sock, method, data, addr)
}

/// What the kernel has answered.
#[inline]
fn settled(of: Transport<'_, '_>, sent: std::io::Result<Option<usize>>) -> PyResult<Tried> {
    match sent {
        Ok(Some(count)) => {
            of.counted(|counters| counters.sent.add(of.py(), count));
            Ok(Tried::Sent)
        }
        Ok(None) => Ok(blocked(of)),
        Err(failed) => Err(error::os_error(&failed)),
    }
}

/// Send by the socket's own method, which may be anybody's, and has its words for what it does not take.
#[cold]
fn by_method<'py>(
    of: Transport<'_, 'py>,
    sock: &Bound<'py, PyAny>,
    method: Method,
    data: &Bound<'py, PyAny>,
    addr: &Bound<'py, PyAny>,
) -> PyResult<Tried> {
    let name = methods(of.py())?.name(of.py(), method);
    let sent = match method {
        Method::Send => sock.try_call_method(name, (data,)),
        _ => sock.try_call_method(name, (data, addr)),
    };
    match sent {
        Ok(_) => Ok(Tried::Sent),
        Err(raised) if would_block(of.py(), &raised) => Ok(blocked(of)),
        Err(raised) => Err(raised),
    }
}

/// It would block. Whether the kernel tells of it when it does no more: not when it is another socket's queue that is
/// full, or the socket's method that has its reasons. asyncio tries again in each turn as long as the kernel calls it
/// writable.
#[cold]
fn blocked(of: Transport<'_, '_>) -> Tried {
    of.with(|state| state.writable = false);
    if poll(of.kind().fd, libc::POLLOUT) { Tried::Again } else { Tried::Blocked }
}

/// The address as the kernel takes it, if it is written plainly: the last one's, if it is the same object.
#[inline]
fn address_of(of: Transport<'_, '_>, family: libc::c_int, addr: &Bound<'_, PyAny>) -> Option<Address> {
    // A datagram may come from nowhere; none is sent there.
    if addr.is_none() {
        return None;
    }
    let known = of.with(|state| {
        let mut known = [&state.addressee, &state.sender].into_iter().flatten();
        known.find(|peer| peer.object.is(addr)).map(|peer| peer.address)
    });
    if known.is_some() {
        return known;
    }
    let address = Address::parse(family, addr)?;
    let peer = Box::new(Peer { object: addr.clone().unbind(), address });
    drop(of.with(|state| state.addressee.replace(peer)));
    Some(address)
}

/// Send what waits, and do what is to be done then.
///
/// # Errors
/// What ends the run.
pub fn flush(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    let mut told = Ok(());
    for _ in 0..AT_ONCE {
        let next = of.with(|state| if state.objects.is_some() && state.lost == 0 { state.waiting.pop() } else { None });
        let Some((data, addr)) = next else { break };
        let addressee = addr.as_ref().map_or_else(|| py.None().into_bound(py), |addr| addr.bind(py).clone());
        let object = data.clone_ref(py).into_bound_py_any(py)?;
        let content = Content { place: data.as_ptr(), length: data.len() };
        match attempt(of, &object, Some(content), &addressee) {
            Ok(Tried::Sent) => {}
            Ok(tried) => {
                of.with(|state| {
                    state.writable = tried == Tried::Again;
                    state.waiting.put_back(data, addr);
                });
                break;
            }
            Err(raised) => {
                if let Err(raised) = failed(of, raised, "Fatal write error on datagram transport") {
                    told = failed_callback(of, "_sendto_ready", raised);
                }
                // The others have the next turn.
                of.with(|state| state.writable = true);
                break;
            }
        }
    }
    told = told.and(shrunk(of));
    let sent = if of.with(|state| state.waiting.is_empty()) { all_sent(of) } else { Ok(()) };
    told.and(sent)
}

/// Nothing waits any more.
fn all_sent(of: Transport<'_, '_>) -> Slim<()> {
    ends::watch(of)?;
    let is_over = of.with(|state| state.closing && state.lost == 0 && state.stage == Stage::Connected);
    if is_over {
        of.with(|state| state.lost = 1);
        return ends::lost(of);
    }
    Ok(())
}

/// More waits than did.
pub fn grown(of: Transport<'_, '_>) -> Slim<()> {
    match of.with(|state| state.flow.grown(state.waiting.size())) {
        Some(Tell::Pause) => transport::tell(of, "pause_writing"),
        _ => Ok(()),
    }
}

fn shrunk(of: Transport<'_, '_>) -> Slim<()> {
    match of.with(|state| state.flow.shrunk(state.waiting.size())) {
        Some(Tell::Resume) => transport::tell(of, "resume_writing"),
        _ => Ok(()),
    }
}
