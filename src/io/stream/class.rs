//! What `pyloop._transports.StreamTransport` asks of its native part, and its methods that skip PyO3's wrapper.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::pipe::ToPipe;
use super::seen;
use super::socket::{Accepted, Socket};
use super::state::{Objects, Stage, State, Stream, Transport, Wants, stream_of};
use super::tls::Known;
use super::write::{ToSocket, Way};
use super::{ends, write};
use crate::accel::methods;
use crate::core::cork::Cork;
use crate::core::flow::Flow;
use crate::core::outgoing::Outgoing;
use crate::io::protocol_of::{self, Short};
use crate::io::sock_plain::ReceiveBuffer;
use crate::io::watch::Watch;
use crate::py::cell::GilCell;
use crate::py::direct::{Args, Direct, keeps_usual};
use crate::py::exit::outlast;
use crate::sched::LoopState;

/// What a transport is made of.
pub struct Parts<'py> {
    pub event_loop: Bound<'py, LoopState>,
    pub fd: RawFd,
    pub socket: Socket,
    pub accepted: Option<Arc<Accepted>>,
    pub short: Short,
    pub protocol: Bound<'py, PyAny>,
    /// What its methods are called in.
    pub context: Bound<'py, PyAny>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub server: Option<Bound<'py, PyAny>>,
    pub watch: Arc<Watch>,
    pub buffer: Arc<ReceiveBuffer>,
}

impl Stream {
    /// The native part of a transport; `begin` makes it one.
    pub fn new(parts: Parts<'_>) -> Self {
        let Parts { fd, accepted, short, .. } = parts;
        let objects = Objects {
            event_loop: parts.event_loop.unbind(),
            socket: parts.socket,
            protocol: parts.protocol.unbind(),
            context: parts.context.unbind(),
            server: parts.server.map(Bound::unbind),
            waiter: parts.waiter.map(Bound::unbind),
            empty_waiter: None,
            watch: parts.watch,
            buffer: parts.buffer,
        };
        if matches!(short, Short::Drained | Short::Unknown) {
            protocol_of::send_at_once(fd);
        }
        let state = State {
            objects: Some(objects),
            fd,
            accepted,
            stage: Stage::New,
            wants: Wants::Data,
            short,
            closing: false,
            lost: 0,
            refused: 0,
            paused: false,
            eof_written: false,
            eof_received: false,
            readable: false,
            more_than_data: false,
            room: 0,
            writable: false,
            queued: false,
            held: true,
            lent: false,
            outgoing: Outgoing::default(),
            flow: Flow::default(),
            cork: Cork::default(),
            reason: None,
        };
        Self { state: GilCell::new(state) }
    }
}

fn of<'a, 'py>(stream: &'a Bound<'py, Stream>, transport: &'a Bound<'py, PyAny>) -> Transport<'a, 'py> {
    Transport { object: transport, stream }
}

#[pymethods]
impl Stream {
    /// Have `connection_made` called in the next turn.
    fn begin(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>, buffered: bool) -> PyResult<()> {
        let of = of(slf, transport);
        if let Some(protocol) = of.part(|objects| &objects.protocol) {
            Self::set_protocol_kind(slf, &protocol, buffered);
        }
        ends::begin(of)
    }

    #[getter]
    fn protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::part(slf, |objects| Some(&objects.protocol))
    }

    fn set_protocol(slf: &Bound<'_, Self>, protocol: Py<PyAny>, buffered: bool) {
        Self::set_protocol_kind(slf, protocol.bind(slf.py()), buffered);
        let old = slf.get().state.with(slf.py(), |state| match &mut state.objects {
            Some(objects) => std::mem::replace(&mut objects.protocol, protocol),
            None => protocol,
        });
        drop(old);
    }

    /// The `socket.socket`; None when the connection is over.
    #[getter]
    fn sock<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        seen::sock_of(slf)
    }

    /// Whether there is a socket.
    #[getter]
    fn open(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.objects.is_some())
    }

    /// What there is to know of a connection that was accepted natively.
    fn known<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<seen::Known<'py>>> {
        seen::known_of(slf)
    }

    #[getter]
    fn event_loop<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::part(slf, |objects| Some(objects.event_loop.as_any()))
    }

    #[getter]
    fn server<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::part(slf, |objects| objects.server.as_ref())
    }

    #[getter]
    fn empty_waiter<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::part(slf, |objects| objects.empty_waiter.as_ref())
    }

    /// Keep who waits for everything to have been sent; whether it has been.
    fn set_empty_waiter(
        slf: &Bound<'_, Self>,
        transport: &Bound<'_, PyAny>,
        waiter: Option<Py<PyAny>>,
    ) -> PyResult<bool> {
        ends::uncork(of(slf, transport)).map_err(|raised| *raised)?;
        let (old, is_empty) = slf
            .get()
            .state
            .with(slf.py(), |state| {
                let is_empty = state.outgoing.is_empty();
                match &mut state.objects {
                    Some(objects) if waiter.is_none() || objects.empty_waiter.is_none() => {
                        Ok((std::mem::replace(&mut objects.empty_waiter, waiter), is_empty))
                    }
                    Some(_) => Err("Empty waiter is already set"),
                    None => Ok((None, is_empty)),
                }
            })
            .map_err(PyRuntimeError::new_err)?;
        drop(old);
        Ok(is_empty)
    }

    #[getter]
    fn fd(slf: &Bound<'_, Self>) -> i32 {
        slf.get().state.with(slf.py(), |state| state.fd)
    }

    #[getter]
    fn closing(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.closing)
    }

    #[getter]
    fn lost(slf: &Bound<'_, Self>) -> u32 {
        slf.get().state.with(slf.py(), |state| state.lost)
    }

    #[getter]
    fn refused(slf: &Bound<'_, Self>) -> u32 {
        slf.get().state.with(slf.py(), |state| state.refused)
    }

    #[getter]
    fn paused(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.paused)
    }

    #[getter]
    fn eof_written(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.eof_written)
    }

    /// Whether the kernel is asked for what arrives.
    #[getter]
    fn polls_read(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| {
            state.stage == Stage::Connected && !state.closing && !state.paused && !state.eof_received && !state.lent
        })
    }

    /// How many bytes the kernel has not taken yet.
    #[getter]
    fn size(slf: &Bound<'_, Self>) -> usize {
        slf.get().state.with(slf.py(), |state| if state.cork.is_in() { 0 } else { state.outgoing.size() })
    }

    /// Send now what has been gathered.
    fn uncork(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        ends::uncork(of(slf, transport)).map_err(|raised| *raised)
    }

    #[getter]
    fn writing_paused(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.flow.paused)
    }

    fn set_limits(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>, high: usize, low: usize) -> PyResult<()> {
        let of = of(slf, transport);
        ends::uncork(of).map_err(|raised| *raised)?;
        of.with(|state| (state.flow.high, state.flow.low) = (high, low));
        write::grown(of).map_err(|raised| *raised)
    }

    fn write(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        write::write(of(slf, transport), data)
    }

    fn write_to_pipe(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        write::write_by::<ToPipe>(of(slf, transport), data)
    }

    fn writelines(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        write::writelines(of(slf, transport), lines)
    }

    fn write_eof(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        write::write_eof(of(slf, transport))
    }

    fn close(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        ends::close(of(slf, transport))
    }

    fn force_close(
        slf: &Bound<'_, Self>,
        transport: &Bound<'_, PyAny>,
        reason: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        ends::force_close(of(slf, transport), reason)
    }

    fn fail(
        slf: &Bound<'_, Self>,
        transport: &Bound<'_, PyAny>,
        raised: Bound<'_, PyAny>,
        message: &str,
    ) -> PyResult<()> {
        ends::failed(of(slf, transport), PyErr::from_value(raised), message).map_err(|raised| *raised)
    }

    /// False when it does not read anyway.
    fn pause(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        let of = of(slf, transport);
        let paused = of.with(|state| !state.closing && !std::mem::replace(&mut state.paused, true));
        if paused {
            of.hold()?;
        }
        Ok(paused)
    }

    /// False when it was not paused.
    fn resume(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        let of = of(slf, transport);
        let resumed = of.with(|state| !state.closing && std::mem::replace(&mut state.paused, false));
        if resumed
            && of.with(|state| {
                state.readable |= std::mem::take(&mut state.eof_received);
                state.readable && state.stage == Stage::Connected
            })
        {
            of.queue();
        }
        if resumed {
            of.hold()?;
        }
        Ok(resumed)
    }

    /// Lend the descriptor to somebody else who watches it.
    fn lend(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) {
        let py = slf.py();
        let watch = slf.get().state.with(py, |state| {
            state.lent = true;
            state.objects.as_ref().map(|objects| (Arc::clone(&objects.watch), state.fd))
        });
        if let Some((watch, fd)) = watch {
            drop(watch.remove_transport(py, fd, transport));
        }
    }

    /// It is not lent any more.
    fn take_back(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let of = of(slf, transport);
        let watch = of.with(|state| {
            state.lent = false;
            state.held = true;
            state.objects.as_ref().map(|objects| (Arc::clone(&objects.watch), state.fd))
        });
        let Some((watch, fd)) = watch else { return Ok(()) };
        watch.add_transport(fd, transport.clone())?;
        ends::watch(of).map_err(|raised| *raised)?;
        of.hold()
    }

    /// The transport goes without having been closed: let go of everything.
    fn release(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        ends::release(of(slf, transport)).map_err(|raised| *raised)
    }

    /// The pipe is somebody else's from now on, and stays open: the transport lets go of everything.
    fn disown(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) {
        let py = slf.py();
        let (objects, fd) = slf.get().state.with(py, |state| (state.objects.take(), state.fd));
        if let Some(objects) = objects {
            drop(objects.watch.remove_transport(py, fd, transport));
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| {
            let gone = self.state.with(py, |state| (state.objects.take(), state.reason.take(), state.outgoing.clear()));
            drop(gone);
        });
    }
}

impl Stream {
    pub(super) fn set_protocol_kind(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>, buffered: bool) {
        let wants = match Known::get(slf.py()) {
            Some(known) if known.is_tls(protocol) => Wants::Tls,
            _ if buffered => Wants::Buffer,
            _ => Wants::Data,
        };
        slf.get().state.with(slf.py(), |state| {
            if !state.is_pipe() {
                state.wants = wants;
            }
        });
    }

    fn part<'py>(
        slf: &Bound<'py, Self>,
        part: impl FnOnce(&Objects) -> Option<&Py<PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        let py = slf.py();
        let known =
            slf.get().state.with(py, |state| state.objects.as_ref().and_then(part).map(|known| known.clone_ref(py)));
        known.map(|known| known.into_bound(py))
    }
}

#[inline]
fn write<'py, W: Way>(slf: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
    if args.count() != 1 || !args.is_plain() {
        return None;
    }
    let written = stream_of(slf)
        .map_err(|raised| *raised)
        .and_then(|stream| write::write_by::<W>(Transport { object: slf, stream: &stream }, &args.get(0)));
    Some(written.map(|()| slf.py().None().into_bound(slf.py())))
}

/// `transport.write(data)`.
struct Write;

impl Direct for Write {
    type Class = PyAny;
    const NAME: &'static str = "write";
    const SIGNATURE: Option<&'static str> = Some("($self, data)");

    #[inline]
    fn call<'py>(slf: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        write::<ToSocket>(slf, args)
    }

    keeps_usual!();
}

/// `transport.write(data)` of a pipe.
struct WriteToPipe;

impl Direct for WriteToPipe {
    type Class = PyAny;
    const NAME: &'static str = "write";
    const SIGNATURE: Option<&'static str> = Some("($self, data)");

    #[inline]
    fn call<'py>(slf: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        write::<ToPipe>(slf, args)
    }

    keeps_usual!();
}

/// `transport.is_closing()`.
struct IsClosing;

impl Direct for IsClosing {
    type Class = PyAny;
    const NAME: &'static str = "is_closing";
    const SIGNATURE: Option<&'static str> = Some("($self)");

    #[inline]
    fn call<'py>(slf: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        if args.count() != 0 || !args.is_plain() {
            return None;
        }
        let stream = match stream_of(slf) {
            Ok(stream) => stream,
            Err(raised) => return Some(Err(*raised)),
        };
        let closing = Transport { object: slf, stream: &stream }.with(|state| state.closing);
        Some(Ok(PyBool::new(slf.py(), closing).to_owned().into_any()))
    }

    keeps_usual!();
}

/// Give `pyloop._transports.StreamTransport` its fast methods; called once, when the class is made.
///
/// # Errors
/// MemoryError.
#[pyfunction]
pub(crate) fn install_transport_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    methods::install::<Write>(class)?;
    methods::install::<IsClosing>(class)
}

/// As `install_transport_methods`, for `pyloop._pipes.WritePipeTransport`.
///
/// # Errors
/// MemoryError.
#[pyfunction]
pub(crate) fn install_pipe_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    methods::install::<WriteToPipe>(class)
}
