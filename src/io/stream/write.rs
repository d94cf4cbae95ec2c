//! The way of a written byte: sent at once, or kept and sent when the kernel takes more.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};

use super::ends;
use super::state::{State, Transport};
use crate::core::flow::Tell;
use crate::py::asyncio::asyncio;
use crate::py::buffer::{self, View};
use crate::py::call::Object;
use crate::py::error::{self, Slim};

/// How many chunks one system call sends.
const AT_ONCE: usize = 64;

/// How many system calls send before others have their turn: a peer that reads as fast would keep the loop for ever.
const CALLS_AT_ONCE: usize = 16;

/// From so many writes to a lost connection on each is reported (asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`).
const TOO_MANY_WRITES: u32 = 5;

#[cfg(target_os = "linux")]
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const FLAGS: libc::c_int = libc::MSG_DONTWAIT;

/// How much the kernel took: None when it takes nothing now.
fn taken(mut call: impl FnMut() -> isize) -> io::Result<Option<usize>> {
    loop {
        let count = call();
        if count >= 0 {
            return Ok(Some(count.cast_unsigned()));
        }
        let failed = io::Error::last_os_error();
        match failed.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted => {}
            _ => return Err(failed),
        }
    }
}

fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    // SAFETY: `bytes` is valid for its length.
    taken(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), FLAGS) })
}

fn send_all(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    if let [only] = pieces {
        return send(fd, only);
    }
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: an IoSlice is an iovec (as std promises), and each is valid for its length; sendmsg only reads.
    taken(|| unsafe { libc::sendmsg(fd, &raw const message, FLAGS) })
}

/// What `write` found when it looked.
enum Found {
    /// Send at once by this descriptor.
    Idle(RawFd),
    /// Others wait to be sent.
    Busy,
    /// The connection is lost; so many writes came since.
    Lost(u32),
}

/// The checks that open `write` and `writelines`.
fn look(of: Transport<'_, '_>, name: &str, while_sending: &str) -> PyResult<Found> {
    let found = of.with(|state| {
        if state.eof_written {
            return Err(format!("Cannot call {name}() after write_eof()"));
        }
        if state.objects.as_ref().is_some_and(|objects| objects.empty_waiter.is_some()) {
            return Err(format!("unable to {while_sending}; sendfile is in progress"));
        }
        if state.lost > 0 || state.objects.is_none() {
            let before = state.lost;
            state.lost = before.saturating_add(1);
            return Ok(Found::Lost(before));
        }
        Ok(if state.outgoing.is_empty() { Found::Idle(state.fd) } else { Found::Busy })
    });
    found.map_err(PyRuntimeError::new_err)
}

#[cold]
fn dropped(py: Python<'_>, writes: u32) -> PyResult<()> {
    if writes >= TOO_MANY_WRITES {
        asyncio(py)?.helper(py, "warn_of_lost_write")?.try_call(())?;
    }
    Ok(())
}

/// `transport.write(data)`.
///
/// # Errors
/// TypeError for what is no bytes, RuntimeError after `write_eof` and while a file is sent; what ends the run.
#[inline]
pub fn write(of: Transport<'_, '_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        if let Some(fd) = idle(of, bytes.as_bytes().is_empty())? {
            return sent(of, send(fd, bytes.as_bytes()), bytes.as_bytes().len(), |gone| (bytes.clone(), gone));
        }
        return keep(of, bytes.clone());
    }
    let known = data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>();
    if !known && !data.is_instance_of::<PyMemoryView>() {
        let text = format!("data argument must be a bytes-like object, not {}", data.get_type().name()?.try_repr()?);
        return Err(PyTypeError::new_err(text));
    }
    match View::new(data, false) {
        Ok(view) => match idle(of, view.len() == 0)? {
            Some(fd) => {
                let tried = view.with(|bytes| send(fd, bytes));
                sent(of, tried, view.len(), |gone| (view.copy_from(gone), 0))
            }
            None => keep(of, view.copy_from(0)),
        },
        Err(_scattered) => write(of, buffer::gathered(data)?.as_any()),
    }
}

/// The descriptor to send by, if nothing waits to be sent, and there is something.
#[inline]
fn idle(of: Transport<'_, '_>, is_empty: bool) -> PyResult<Option<RawFd>> {
    if is_empty {
        // It counts as no write, but is refused like one.
        let refused =
            of.with(|state| state.eof_written || state.objects.as_ref().is_some_and(|it| it.empty_waiter.is_some()));
        return if refused { look(of, "write", "write").map(|_| None) } else { Ok(None) };
    }
    match look(of, "write", "write")? {
        Found::Idle(fd) => Ok(Some(fd)),
        Found::Busy => Ok(None),
        Found::Lost(writes) => dropped(of.py(), writes).map(|()| None),
    }
}

/// So much of a write was sent: the rest is kept.
#[inline]
fn sent<'py>(
    of: Transport<'_, 'py>,
    tried: io::Result<Option<usize>>,
    length: usize,
    rest: impl FnOnce(usize) -> (Bound<'py, PyBytes>, usize),
) -> PyResult<()> {
    match tried {
        Ok(Some(count)) if count == length => Ok(()),
        Ok(count) => {
            let (chunk, gone) = rest(count.unwrap_or(0));
            let chunk = PyBackedBytes::from(chunk);
            of.with(|state| state.outgoing.push_rest(chunk, gone));
            Ok(grown(of).map_err(|raised| *raised)?)
        }
        Err(error) => {
            Ok(ends::failed(of, error::os_error(&error), "Fatal write error on socket transport").map_err(|it| *it)?)
        }
    }
}

/// Behind what waits to be sent.
fn keep(of: Transport<'_, '_>, chunk: Bound<'_, PyBytes>) -> PyResult<()> {
    let chunk = PyBackedBytes::from(chunk);
    let kept = of.with(|state| {
        let is_kept = !state.outgoing.is_empty() && state.lost == 0;
        if is_kept {
            state.outgoing.push(chunk);
        }
        is_kept
    });
    if kept { grown(of).map_err(|raised| *raised) } else { Ok(()) }
}

/// `transport.writelines(list)`.
///
/// # Errors
/// As `write`; what iterating raises.
pub fn writelines(of: Transport<'_, '_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
    // asyncio looks at these before it looks at the list.
    if of.with(|state| state.lost == 0) || of.with(|state| state.eof_written) {
        look(of, "writelines", "writelines")?;
    }
    let mut chunks = Vec::new();
    let lines = lines.py().get_type::<PyList>().as_any().try_call((lines,))?.cast_into::<PyList>()?;
    for line in lines.iter() {
        let bytes = match line.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) => View::new(&line, false).map(|view| view.copy_from(0)).or_else(|_| buffer::gathered(&line))?,
        };
        chunks.push(PyBackedBytes::from(bytes));
    }
    if chunks.iter().all(|chunk| chunk.is_empty()) {
        return Ok(());
    }
    let found = look(of, "writelines", "writelines")?;
    if let Found::Lost(writes) = found {
        return dropped(of.py(), writes);
    }
    of.with(|state| chunks.into_iter().for_each(|chunk| state.outgoing.push(chunk)));
    if matches!(found, Found::Idle(_)) {
        flush(of).map_err(|raised| *raised)?;
    }
    grown(of).map_err(|raised| *raised)
}

/// Send what waits, as far as the kernel takes it. True: it would take more, and others are to have their turn.
fn send_waiting(state: &mut State) -> io::Result<bool> {
    for _ in 0..CALLS_AT_ONCE {
        let mut places = [IoSlice::new(&[]); AT_ONCE];
        let count = state.outgoing.fill(&mut places);
        if count == 0 {
            return Ok(false);
        }
        let offered: usize = places[..count].iter().map(|place| place.len()).sum();
        let taken = send_all(state.fd, &places[..count])?.unwrap_or(0);
        // Bytes of no subclass are let go of: no Python code runs.
        state.outgoing.advance(taken, drop);
        if taken < offered {
            return Ok(false);
        }
    }
    Ok(!state.outgoing.is_empty())
}

/// Send what waits, and do what is to be done then.
///
/// # Errors
/// What ends the run.
pub fn flush(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    let tried = of.with(|state| {
        if state.objects.is_none() || state.lost > 0 || state.outgoing.is_empty() {
            return Ok(false);
        }
        state.writable = send_waiting(state)?;
        Ok(true)
    });
    match tried {
        Ok(false) => return Ok(()),
        Ok(true) => {}
        Err(failed) => {
            let raised = error::os_error(&failed);
            let waiter = of.with(|state| {
                drop(state.outgoing.clear());
                state.objects.as_mut().and_then(|objects| objects.empty_waiter.take())
            });
            settle(waiter.map(|waiter| waiter.into_bound(py)), "set_exception", raised.value(py).as_any())?;
            return ends::failed(of, raised, "Fatal write error on socket transport");
        }
    }
    if of.with(|state| state.writable) {
        of.queue();
    }
    let told = shrunk(of);
    let done = if of.with(|state| state.outgoing.is_empty() && state.lost == 0) { all_sent(of) } else { Ok(()) };
    told.and(done)
}

/// Everything has been sent.
fn all_sent(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    let (waiter, closing, shut) = of.with(|state| {
        let waiter = state.objects.as_ref().and_then(|objects| objects.empty_waiter.as_ref());
        (waiter.map(|waiter| waiter.clone_ref(py)), state.closing, state.eof_written)
    });
    settle(waiter.map(|waiter| waiter.into_bound(py)), "set_result", &py.None().into_bound(py))?;
    if closing {
        of.with(|state| state.lost = 1);
        return ends::lost(of);
    }
    match if shut { shut_down(of) } else { Ok(()) } {
        Ok(()) => Ok(()),
        Err(raised) => ends::failed(of, raised, "Fatal write error on socket transport"),
    }
}

/// Give a future its result, or its exception, unless it has one.
fn settle(waiter: Option<Bound<'_, PyAny>>, method: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(waiter) = waiter else { return Ok(()) };
    if waiter.try_call_method(pyo3::intern!(waiter.py(), "done"), ())?.try_is_truthy()? {
        return Ok(());
    }
    waiter.try_call_method(method, (value,)).map(drop)
}

/// `transport.write_eof()`.
///
/// # Errors
/// OSError: there is no connection any more.
pub fn write_eof(of: Transport<'_, '_>) -> PyResult<()> {
    let now = of.with(|state| {
        if state.closing || state.objects.is_none() || std::mem::replace(&mut state.eof_written, true) {
            return false;
        }
        state.outgoing.is_empty()
    });
    if now { shut_down(of) } else { Ok(()) }
}

fn shut_down(of: Transport<'_, '_>) -> PyResult<()> {
    let done = of.with(|state| {
        // SAFETY: a system call without pointers, for a socket that the transport owns.
        if state.objects.is_some() && unsafe { libc::shutdown(state.fd, libc::SHUT_WR) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    });
    done.map_err(|failed| error::os_error(&failed))
}

/// There is more to send than there was.
pub fn grown(of: Transport<'_, '_>) -> Slim<()> {
    of.hold()?;
    match of.with(|state| state.flow.grown(state.outgoing.size())) {
        Some(Tell::Pause) => tell(of, "pause_writing"),
        _ => Ok(()),
    }
}

fn shrunk(of: Transport<'_, '_>) -> Slim<()> {
    of.hold()?;
    match of.with(|state| state.flow.shrunk(state.outgoing.size())) {
        Some(Tell::Resume) => tell(of, "resume_writing"),
        _ => Ok(()),
    }
}

fn tell(of: Transport<'_, '_>, method: &str) -> Slim<()> {
    let py = of.py();
    let Some(protocol) = of.part(|objects| &objects.protocol) else { return Ok(()) };
    let Err(raised) = protocol.try_call_method(method, ()) else { return Ok(()) };
    if error::ends_the_run(py, &raised) {
        return Err(Box::new(raised));
    }
    let Some(event_loop) = of.part(|objects| &objects.event_loop) else { return Ok(()) };
    let exception = raised.into_value(py).into_bound(py).into_any();
    let items = [("exception", &exception), ("transport", of.object), ("protocol", &protocol)];
    Ok(error::call_exception_handler(event_loop.as_any(), &format!("protocol.{method}() failed"), &items)?)
}
