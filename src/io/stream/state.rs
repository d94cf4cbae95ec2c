//! What a transport of a byte stream knows. Guarded by the GIL.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::{PyTraverseError, PyVisit};

use super::socket::{Accepted, Socket};
use crate::accel::native_parts::OF_STREAM;
use crate::core::cork::Cork;
use crate::core::flow::Flow;
use crate::core::outgoing::Outgoing;
use crate::io::poller::Interest;
use crate::io::protocol_of::Short;
use crate::io::sock_plain::ReceiveBuffer;
use crate::io::transport;
pub use crate::io::transport::Stage;
use crate::io::watch::Watch;
use crate::py::cell::GilCell;
use crate::py::error::Slim;
use crate::sched::LoopState;

/// How the protocol wants what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// `data_received(bytes)`.
    Data,
    /// Into its own buffer: `get_buffer(-1)`, `buffer_updated(count)` (`asyncio.BufferedProtocol`).
    Buffer,
    /// As ciphertext (`pyloop._tls.SSLProtocol`), while there is nothing out of the ordinary; else as `Buffer`.
    Tls,
    /// Of a pipe that is read: `data_received(bytes)`, whatever the protocol is.
    Pipe,
    /// Of a pipe that is written: nothing. What can be received says that nobody reads any more.
    Nothing,
}

/// The objects of a transport, which are gone when its connection is.
pub struct Objects {
    pub event_loop: Py<LoopState>,
    pub socket: Socket,
    pub protocol: Py<PyAny>,
    /// The context that the protocol's methods are called in: a copy of the one that the transport was made in.
    pub context: Py<PyAny>,
    pub server: Option<Py<PyAny>>,
    /// Who made the connection, and waits for it.
    pub waiter: Option<Py<PyAny>>,
    /// Who waits for everything to have been sent.
    pub empty_waiter: Option<Py<PyAny>>,
    pub watch: Arc<Watch>,
    pub buffer: Arc<ReceiveBuffer>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is one of asyncio's own attributes, or a fact of its own")]
pub struct State {
    pub objects: Option<Objects>,
    pub fd: RawFd,
    /// Of a connection that was accepted natively.
    pub accepted: Option<Arc<Accepted>>,
    pub stage: Stage,
    pub wants: Wants,
    pub short: Short,
    /// asyncio's `_closing`: nothing is received any more.
    pub closing: bool,
    /// asyncio's `_conn_lost`: `connection_lost` is queued or has been called. Counts the writes since, too.
    pub lost: u32,
    /// asyncio's `_conn_lost` of a pipe that is written: counts the writes since it was closed, and the one that
    /// failed.
    pub refused: u32,
    /// asyncio's `_paused`: of reading. A device that is written to is never read.
    pub paused: bool,
    /// asyncio's `_eof`: nothing is to be written any more.
    pub eof_written: bool,
    /// The peer will send no more, and the protocol wants to go on writing.
    pub eof_received: bool,
    /// There may be something to receive.
    pub readable: bool,
    /// What the last event said beside: the end of the stream, an error, urgent data. A short receive says nothing
    /// then.
    pub more_than_data: bool,
    /// How large the bytes are that the next receive goes into without a copy; 0: it goes into the loop's buffer.
    pub room: usize,
    /// The kernel takes more than it did when something was left to send.
    pub writable: bool,
    /// It is in the loop's queue.
    pub queued: bool,
    /// The loop keeps it alive (`hold`).
    pub held: bool,
    /// Its descriptor is lent to `sendfile`.
    pub lent: bool,
    pub outgoing: Outgoing<PyBackedBytes>,
    pub flow: Flow,
    pub cork: Cork,
    /// What `connection_lost` is to be told.
    pub reason: Option<Py<PyAny>>,
}

/// The native part of a transport: what it knows, and what of it Python asks for.
#[pyclass(frozen, name = "_Stream", module = "pyloop._native")]
pub struct Stream {
    pub state: GilCell<State>,
}

impl State {
    /// Whether its transport is one of a pipe.
    pub fn is_pipe(&self) -> bool {
        matches!(self.wants, Wants::Pipe | Wants::Nothing)
    }

    /// What the kernel is to tell of the descriptor as long as the connection lives.
    pub fn interest(&self) -> Interest {
        match self.wants {
            Wants::Data | Wants::Buffer | Wants::Tls => Interest { read: true, write: true },
            Wants::Pipe => Interest { read: true, write: false },
            // A device has no reader that could go; it is asked about when it has taken less than was written.
            Wants::Nothing => Interest { read: !self.paused, write: !self.paused },
        }
    }

    /// The kernel has taken so many bytes.
    #[inline]
    pub fn note_sent(&self, py: Python<'_>, count: usize) {
        if let Some(objects) = &self.objects {
            objects.event_loop.get().counters.sent.add(py, count);
        }
    }

    /// So many bytes have been received.
    #[inline]
    pub fn note_received(&self, py: Python<'_>, count: usize) {
        if let Some(objects) = &self.objects {
            objects.event_loop.get().counters.received.add(py, count);
        }
    }

    /// Whether there may be something to receive, or a reader that is gone, and somebody wants to hear of it.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.readable && !self.paused && (!self.closing || self.wants == Wants::Nothing)
    }
}

impl Stream {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.peek_in_traverse(visit) else { return Ok(()) };
        visit.call(&state.reason)?;
        let Some(objects) = &state.objects else { return Ok(()) };
        visit.call(&objects.event_loop)?;
        if let Socket::Python(file) | Socket::Pipe { file, .. } = &objects.socket {
            visit.call(file)?;
        }
        visit.call(&objects.protocol)?;
        visit.call(&objects.context)?;
        visit.call(&objects.server)?;
        visit.call(&objects.waiter)?;
        visit.call(&objects.empty_waiter)
    }
}

/// A transport, as an object and its native part.
#[derive(Clone, Copy)]
pub struct Transport<'a, 'py> {
    /// The instance of `pyloop._transports.StreamTransport`.
    pub object: &'a Bound<'py, PyAny>,
    pub stream: &'a Bound<'py, Stream>,
}

impl<'py> Transport<'_, 'py> {
    pub fn py(self) -> Python<'py> {
        self.object.py()
    }

    #[inline]
    pub fn with<R>(self, f: impl FnOnce(&mut State) -> R) -> R {
        self.stream.get().state.with(self.py(), f)
    }

    /// One of its objects, while the connection lives.
    #[inline]
    pub fn part<T>(self, part: impl FnOnce(&Objects) -> &Py<T>) -> Option<Bound<'py, T>> {
        let py = self.py();
        self.with(|state| state.objects.as_ref().map(|objects| part(objects).clone_ref(py))).map(|it| it.into_bound(py))
    }

    /// Have the loop keep it alive while it reads, or has something to send; asyncio's loop has a callback then. One
    /// that is paused lives as long as somebody knows it.
    ///
    /// # Errors
    /// MemoryError.
    pub fn hold(self) -> PyResult<()> {
        let watch = |state: &mut State| {
            let holds = !state.paused || !state.outgoing.is_empty();
            let is_held = std::mem::replace(&mut state.held, holds);
            let changes = state.stage == Stage::Connected && holds != is_held;
            let objects = state.objects.as_ref().filter(|_| changes && !state.lent)?;
            Some((Arc::clone(&objects.watch), state.fd, holds))
        };
        match self.with(watch) {
            Some((watch, fd, holds)) => watch.hold_transport(fd, self.object, holds),
            None => Ok(()),
        }
    }

    /// Have the loop look after it in its next turn: something can be received or sent.
    pub fn queue(self) {
        let Some(event_loop) = self.part(|objects| &objects.event_loop) else { return };
        if !self.with(|state| std::mem::replace(&mut state.queued, true)) {
            transport::queue(event_loop.get(), self.object);
        }
    }

    /// Have `connection_made` or `connection_lost` called in the loop's next turn.
    ///
    /// # Errors
    /// RuntimeError when the loop is closed; in debug mode, in a thread that is not the loop's.
    pub fn queue_transition(self) -> PyResult<()> {
        transport::queue_transition(self)
    }
}

/// The native part of a transport.
///
/// # Errors
/// AttributeError, TypeError: it is none of ours, or not initialized.
#[inline]
pub fn stream_of<'py>(transport: &Bound<'py, PyAny>) -> Slim<Bound<'py, Stream>> {
    use crate::py::call::Object;
    if let Some(part) = OF_STREAM.held(transport)
        && let Ok(stream) = part.cast_exact::<Stream>()
    {
        return Ok(stream.to_owned());
    }
    let stream = transport.try_getattr(pyo3::intern!(transport.py(), "_stream")).map_err(Box::new)?;
    stream.cast_into::<Stream>().map_err(|failed| Box::new(failed.into()))
}
