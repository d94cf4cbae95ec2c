//! The way of a written byte: sent at once, or kept and sent when the kernel takes more.

use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};

use super::ends;
use super::send::{send, send_waiting};
use super::state::{State, Transport};
use crate::core::flow::Tell;
use crate::io::syscall::traced;
use crate::io::transport;
use crate::py::asyncio::asyncio;
use crate::py::buffer::{self, View};
use crate::py::call::Object;
use crate::py::error::{self, Slim};

/// The most that is gathered: as much as asyncio keeps before it has the protocol pause.
const MOST_GATHERED: usize = 64 * 1024;

/// What `write` found when it looked.
pub enum Found {
    /// Send at once by this descriptor.
    Idle(RawFd),
    /// Behind others that wait to be sent.
    Busy,
    /// Behind what has been gathered, if anything, until that is sent: when the callback ends, or soon
    /// (`sched::after`).
    Gathers,
    /// Behind what has been gathered, and now: it is too much to wait.
    Full,
    /// The connection is lost; so many writes came since.
    Lost(u32),
}

/// How a write goes out, and what is said of one that cannot.
pub trait Way {
    /// What is to be written is no bytes.
    fn no_bytes(data: &Bound<'_, PyAny>) -> PyErr;

    /// Where a write of so many bytes goes; None: nowhere.
    ///
    /// # Errors
    /// Nothing may be written now.
    fn find(of: Transport<'_, '_>, length: usize) -> PyResult<Option<Found>>;

    /// How much of it the kernel took: None when it takes nothing now.
    ///
    /// # Errors
    /// The connection is broken.
    fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>>;

    /// Something is to be left over for when the kernel takes more.
    ///
    /// # Errors
    /// OSError for what cannot be watched.
    fn waits(_of: Transport<'_, '_>) -> PyResult<()> {
        Ok(())
    }
}

/// The way of what is written to a socket.
pub struct ToSocket;

impl Way for ToSocket {
    #[cold]
    fn no_bytes(data: &Bound<'_, PyAny>) -> PyErr {
        let text = || {
            let refusal = asyncio(data.py())?.helper(data.py(), "refusal_to_write")?;
            refusal.try_call((data.get_type().name()?,)).map(Bound::unbind)
        };
        text().map_or_else(|raised| raised, PyTypeError::new_err)
    }

    #[inline]
    fn find(of: Transport<'_, '_>, length: usize) -> PyResult<Option<Found>> {
        look_once(of, length)
    }

    #[inline]
    fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
        send(fd, bytes)
    }
}

/// Where so many bytes go.
#[inline]
fn place(py: Python<'_>, state: &mut State, length: usize) -> Found {
    // So the protocol is told to pause in the very write in which asyncio tells it.
    let most = MOST_GATHERED.min(state.flow.high);
    if state.cork.is_in() {
        return if state.outgoing.size() + length <= most { Found::Gathers } else { Found::Full };
    }
    if !state.outgoing.is_empty() {
        return Found::Busy;
    }
    if length > 0
        && let Some(after) = state.objects.as_ref().map(|objects| &objects.event_loop.get().after)
        && let Some(batch) = after.batch(py)
    {
        let first = state.cork.writes_in(batch);
        let many_write = after.many_write(py, first);
        if (many_write || state.cork.is_worth_it()) && length <= most {
            return Found::Gathers;
        }
        state.cork.sent_at_once(first);
    }
    Found::Idle(state.fd)
}

/// The checks that open `write` and `writelines`. `length`: how many bytes are to be written; 0 when it is only looked.
fn look(of: Transport<'_, '_>, name: &str, while_sending: &str, length: usize) -> PyResult<Found> {
    let py = of.py();
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
        Ok(place(py, state, length))
    });
    found.map_err(PyRuntimeError::new_err)
}

/// `transport.write(data)`.
///
/// # Errors
/// TypeError for what is no bytes, RuntimeError after `write_eof` and while a file is sent; what ends the run.
#[inline]
pub fn write(of: Transport<'_, '_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    write_by::<ToSocket>(of, data)
}

/// `write` of a socket's transport, or of a pipe's.
///
/// # Errors
/// As `write`; AssertionError for what is no bytes, of a pipe.
#[inline]
pub fn write_by<W: Way>(of: Transport<'_, '_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        let length = bytes.as_bytes().len();
        return match W::find(of, length)? {
            Some(Found::Idle(fd)) => {
                let tried = traced(of.py(), || W::send(fd, bytes.as_bytes()));
                sent::<W>(of, tried, length, |gone| (bytes.clone(), gone))
            }
            Some(found) => keep(of, &found, [PyBackedBytes::from(bytes.clone())]),
            None => Ok(()),
        };
    }
    let known = data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>();
    if !known && !data.is_instance_of::<PyMemoryView>() {
        return Err(W::no_bytes(data));
    }
    match View::new(data, false) {
        Ok(view) => match W::find(of, view.len())? {
            Some(Found::Idle(fd)) => {
                let tried = view.with(|bytes| traced(of.py(), || W::send(fd, bytes)));
                sent::<W>(of, tried, view.len(), |gone| (view.copy_from(gone), 0))
            }
            Some(found) => keep(of, &found, [PyBackedBytes::from(view.copy_from(0))]),
            None => Ok(()),
        },
        Err(_scattered) => write_by::<W>(of, buffer::gathered(data)?.as_any()),
    }
}

/// `write` of bytes that are the caller's: what cannot be sent at once is copied.
///
/// # Errors
/// As `write`.
#[inline]
pub fn write_copied(of: Transport<'_, '_>, bytes: &[u8]) -> PyResult<()> {
    let copy = |gone: usize| PyBytes::new(of.py(), &bytes[gone..]);
    match look_once(of, bytes.len())? {
        Some(Found::Idle(fd)) => {
            let tried = traced(of.py(), || send(fd, bytes));
            sent::<ToSocket>(of, tried, bytes.len(), |gone| (copy(gone), 0))
        }
        Some(found) => keep(of, &found, [PyBackedBytes::from(copy(0))]),
        None => Ok(()),
    }
}

/// Where a write of so many bytes goes; None: nowhere.
#[inline]
fn look_once(of: Transport<'_, '_>, length: usize) -> PyResult<Option<Found>> {
    if length == 0 {
        // It counts as no write, but is refused like one.
        let refused =
            of.with(|state| state.eof_written || state.objects.as_ref().is_some_and(|it| it.empty_waiter.is_some()));
        return if refused { look(of, "write", "write", 0).map(|_| None) } else { Ok(None) };
    }
    match look(of, "write", "write", length)? {
        Found::Lost(writes) => transport::dropped(of.py(), writes, "warn_of_lost_write").map(|()| None),
        found => Ok(Some(found)),
    }
}

/// So much of a write was sent: the rest is kept.
#[inline]
fn sent<'py, W: Way>(
    of: Transport<'_, 'py>,
    tried: io::Result<Option<usize>>,
    length: usize,
    rest: impl FnOnce(usize) -> (Bound<'py, PyBytes>, usize),
) -> PyResult<()> {
    if let Ok(Some(count)) = tried {
        of.with(|state| state.note_sent(of.py(), count));
    }
    match tried {
        Ok(Some(count)) if count == length => Ok(()),
        Ok(count) => {
            W::waits(of)?;
            let (chunk, gone) = rest(count.unwrap_or(0));
            let chunk = PyBackedBytes::from(chunk);
            of.with(|state| state.outgoing.push_rest(chunk, gone));
            Ok(grown(of).map_err(|raised| *raised)?)
        }
        Err(error) => write_failed(of, error::os_error(&error)).map_err(|raised| *raised),
    }
}

/// The kernel has refused what was to be sent: the connection is broken.
#[cold]
fn write_failed(of: Transport<'_, '_>, raised: PyErr) -> Slim<()> {
    let is_pipe = of.with(|state| {
        state.refused += u32::from(state.is_pipe());
        state.is_pipe()
    });
    let kind = if is_pipe { "pipe" } else { "socket" };
    ends::failed(of, raised, &format!("Fatal write error on {kind} transport"))
}

/// Put what cannot, or need not, be sent at once behind what waits to be sent.
fn keep(of: Transport<'_, '_>, found: &Found, chunks: impl IntoIterator<Item = PyBackedBytes>) -> PyResult<()> {
    let first = of.with(|state| {
        chunks.into_iter().for_each(|chunk| state.outgoing.push(chunk));
        matches!(found, Found::Gathers) && state.cork.put_in()
    });
    match found {
        Found::Gathers if first => uncork_later(of),
        Found::Gathers => {}
        Found::Idle(_) | Found::Full => {
            flush(of).and_then(|()| grown(of)).map_err(|raised| *raised)?;
        }
        Found::Busy | Found::Lost(_) => grown(of).map_err(|raised| *raised)?,
    }
    Ok(())
}

/// Have what is gathered sent when the callback ends, or soon.
fn uncork_later(of: Transport<'_, '_>) {
    if let Some(event_loop) = of.part(|objects| &objects.event_loop) {
        event_loop.get().after.uncork_later(of.object, of.stream.as_any());
    }
}

/// How asyncio's `writelines` looks at what it is given, which has changed between CPythons.
#[derive(Clone, Copy)]
struct Looks {
    leaves_out_what_is_false: bool,
    takes_none_when_lost: bool,
}

/// That of this CPython, found by experiment at the first use.
#[inline]
fn looks(py: Python<'_>) -> PyResult<Looks> {
    static FOUND: PyOnceLock<Looks> = PyOnceLock::new();
    FOUND
        .get_or_try_init(py, || {
            let answer = asyncio(py)?.helper(py, "how_writelines_looks")?.try_call(())?;
            let (leaves_out_what_is_false, takes_none_when_lost) = answer.extract()?;
            Ok(Looks { leaves_out_what_is_false, takes_none_when_lost })
        })
        .copied()
}

/// `transport.writelines(list)`.
///
/// # Errors
/// As `write`; what iterating raises.
pub fn writelines(of: Transport<'_, '_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
    // asyncio looks at these before it looks at the list.
    if of.with(|state| state.lost == 0) || of.with(|state| state.eof_written) {
        look(of, "writelines", "writelines", 0)?;
    }
    if !lines.try_is_truthy()? {
        return Ok(());
    }
    let looks = looks(lines.py())?;
    if looks.takes_none_when_lost
        && of.with(|state| state.lost > 0)
        && let Found::Lost(writes) = look(of, "writelines", "writelines", 0)?
    {
        return transport::dropped(of.py(), writes, "warn_of_lost_write");
    }
    let mut chunks = Vec::new();
    let lines = lines.py().get_type::<PyList>().as_any().try_call((lines,))?.cast_into::<PyList>()?;
    for line in lines.iter() {
        let bytes = match line.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) if looks.leaves_out_what_is_false && !line.try_is_truthy()? => continue,
            Err(_) => View::new(&line, false).map(|view| view.copy_from(0)).or_else(|_| buffer::gathered(&line))?,
        };
        chunks.push(PyBackedBytes::from(bytes));
    }
    let length = chunks.iter().map(|chunk| chunk.len()).sum();
    if length == 0 {
        return Ok(());
    }
    match look(of, "writelines", "writelines", length)? {
        Found::Lost(writes) => transport::dropped(of.py(), writes, "warn_of_lost_write"),
        found => keep(of, &found, chunks),
    }
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
        send_waiting(of.py(), state)?;
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
            return write_failed(of, raised);
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
    ends::uncork(of).map_err(|raised| *raised)?;
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
        Some(Tell::Pause) => transport::tell(of, "pause_writing"),
        _ => Ok(()),
    }
}

fn shrunk(of: Transport<'_, '_>) -> Slim<()> {
    of.hold()?;
    match of.with(|state| state.flow.shrunk(state.outgoing.size())) {
        Some(Tell::Resume) => transport::tell(of, "resume_writing"),
        _ => Ok(()),
    }
}
