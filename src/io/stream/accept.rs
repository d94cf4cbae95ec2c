//! How a server comes by its connections: the callback of a listening socket, which the loop calls when somebody waits
//! to be accepted. Loop thread, GIL held; no cell is borrowed while Python code runs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::class::Parts;
use super::ends;
use super::socket::{self, Accepted, Kind, Socket};
use super::state::{Stream, Transport};
use crate::io::address::Address;
use crate::io::protocol_of::{self, Short};
use crate::io::sock_plain::{self, ReceiveBuffer};
use crate::io::watch::Watch;
use crate::py::asyncio::asyncio;
use crate::py::call::{self, Object};
use crate::py::cell::{GilCell, GilValue};
use crate::py::exit::outlast;
use crate::py::{context, error, whole};
use crate::sched::LoopState;

/// The listening socket that a listener was called for last.
struct Listening {
    sock: Py<PyAny>,
    /// What its connections' socket objects are made with. None: it accepts by its own methods.
    kind: Option<Kind>,
    short: Short,
}

/// `loop._accept_connection`, which asyncio's `_start_serving` gives `_add_reader` for a listening socket.
#[pyclass(frozen, name = "_Listener", module = "pyloop._native")]
pub struct Listener {
    event_loop: Py<LoopState>,
    /// `pyloop._transports.StreamTransport`.
    class: Py<PyType>,
    /// asyncio's method, for what is not done here.
    otherwise: Py<PyAny>,
    watch: Arc<Watch>,
    buffer: Arc<ReceiveBuffer>,
    listening: GilCell<Option<Arc<Listening>>>,
    /// The turn of the loop in which it was called last.
    called_in: GilValue<Option<u64>>,
}

/// What `_accept_connection` is called with, of a plain connection.
struct Given<'py> {
    protocol_factory: Bound<'py, PyAny>,
    sock: Bound<'py, PyAny>,
    server: Option<Bound<'py, PyAny>>,
    backlog: isize,
    /// The server's, of which each connection has a copy: from CPython 3.15 on.
    context: Option<Bound<'py, PyAny>>,
}

impl<'py> Given<'py> {
    /// None: it is for asyncio's method.
    fn from(args: &Bound<'py, PyTuple>) -> Option<Self> {
        // What is not given is not asked for: an error would be made.
        let given = |index: usize| if index < args.len() { args.get_item(index).ok() } else { None };
        if given(2).is_some_and(|sslcontext| !sslcontext.is_none()) {
            return None;
        }
        Some(Self {
            protocol_factory: given(0)?,
            sock: given(1)?,
            server: given(3).filter(|server| !server.is_none()),
            backlog: given(4).map_or(Some(100), |backlog| backlog.cast_exact::<PyInt>().ok()?.extract().ok())?,
            context: given(7).filter(|context| !context.is_none()),
        })
    }
}

impl Listener {
    /// `class`: `pyloop._transports.StreamTransport`. `otherwise`: asyncio's method.
    pub fn new(
        event_loop: &Bound<'_, LoopState>,
        class: &Bound<'_, PyType>,
        otherwise: &Bound<'_, PyAny>,
        watch: Arc<Watch>,
        buffer: Arc<ReceiveBuffer>,
    ) -> Self {
        Self {
            event_loop: event_loop.clone().unbind(),
            class: class.clone().unbind(),
            otherwise: otherwise.clone().unbind(),
            watch,
            buffer,
            listening: GilCell::default(),
            called_in: GilValue::default(),
        }
    }

    /// What is known of a listening socket: looked at in the first call for it.
    fn look_at(&self, sock: &Bound<'_, PyAny>) -> PyResult<Arc<Listening>> {
        let py = sock.py();
        if let Some(known) = self.listening.with(py, |known| known.clone())
            && known.sock.is(sock)
        {
            return Ok(known);
        }
        let kind = asyncio(py)?.helper(py, "accepted_natively")?.try_call((sock,))?.extract()?;
        let short = protocol_of::short(sock_plain::fileno(sock)?);
        let found = Arc::new(Listening { sock: sock.clone().unbind(), kind, short });
        drop(self.listening.replace(py, Some(Arc::clone(&found))));
        Ok(found)
    }

    /// Whether to accept everybody who waits: at the first call, and when the last one was in the turn before. A
    /// connection that comes alone is accepted without asking the kernel for another one; it tells again of those that
    /// wait.
    fn drains(&self, py: Python<'_>, turn: u64) -> bool {
        self.called_in.replace(py, Some(turn)).is_none_or(|before| turn <= before + 1)
    }

    /// A connection has been accepted: make the protocol and the transport, and have `connection_made` called.
    fn connect(&self, given: &Given<'_>, (kind, short): (Kind, Short), fd: OwnedFd, peername: Address) -> PyResult<()> {
        let (py, server) = (given.sock.py(), given.server.as_ref());
        let context = match &given.context {
            Some(context) => context::copy(context)?,
            None => context::copy_current(py)?,
        };
        // What the factory sets in it, the connection's protocol sees.
        let inside = context::inside(&context)?;
        let protocol = given.protocol_factory.try_call(())?;
        let is_buffered = protocol.try_is_instance(asyncio(py)?.buffered_protocol_class.bind(py))?;
        let sockname = Address::of(fd.as_raw_fd()).unwrap_or_else(|_| Address::none()).keep();
        let stream = Stream::new(Parts {
            event_loop: self.event_loop.bind(py).clone(),
            fd: fd.as_raw_fd(),
            socket: Socket::Native(fd),
            accepted: Some(Arc::new(Accepted { kind, sockname, peername: peername.keep() })),
            short,
            protocol: protocol.clone(),
            context: context.clone(),
            waiter: None,
            server: server.cloned(),
            watch: Arc::clone(&self.watch),
            buffer: Arc::clone(&self.buffer),
        });
        let stream = Bound::new(py, stream)?;
        Stream::set_protocol_kind(&stream, &protocol, is_buffered);
        let transport = whole::new_instance(self.class.bind(py))?;
        transport.try_setattr(pyo3::intern!(py, "_stream"), &stream)?;
        let attached = match server {
            Some(server) => asyncio(py)?.attach_to_server(server, &transport),
            None => Ok(()),
        };
        let begun = attached.and_then(|()| ends::begin(Transport { object: &transport, stream: &stream }));
        if begun.is_err() {
            // It has been nobody's: the descriptor is closed without a warning.
            let objects = stream.get().state.with(py, |state| state.objects.take());
            drop(objects);
        }
        drop(inside);
        begun
    }
}

#[pymethods]
impl Listener {
    /// Accept who waits, as asyncio's `_accept_connection`.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(slf: &Bound<'_, Self>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let otherwise = || call::call_all(this.otherwise.bind(py), args, kwargs).map(drop);
        let state = this.event_loop.bind(py).get();
        let Some(given) = Given::from(args).filter(|_| kwargs.is_none() && !state.debug.get(py)) else {
            return otherwise();
        };
        let listening = this.look_at(&given.sock)?;
        let Some(kind) = listening.kind else { return otherwise() };
        let drains = this.drains(py, state.counters.turns.get(py));
        for count in 0..given.backlog {
            if count > 0 && !drains {
                break;
            }
            let fd = sock_plain::fileno(&given.sock)?;
            if count > 0 && fd < 0 {
                // The server was closed by the protocol factory, say.
                break;
            }
            match socket::accept(fd) {
                Ok((fd, peername)) => match this.connect(&given, (kind, listening.short), fd, peername) {
                    Err(raised) if error::ends_the_run(py, &raised) => return Err(raised),
                    // asyncio says nothing of it, but in debug mode.
                    Ok(()) | Err(_) => {}
                },
                Err(failed) => match failed.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => break,
                    // It meets the same, says so, and tries again in a second.
                    _ if is_exhausted(&failed) => return otherwise(),
                    _ => return Err(error::os_error(&failed)),
                },
            }
        }
        Ok(())
    }

    /// To whoever asks it is asyncio's method.
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().otherwise.bind(slf.py()).try_getattr(name.clone())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.class)?;
        visit.call(&self.otherwise)?;
        let Some(listening) = self.listening.peek_in_traverse(&visit) else { return Ok(()) };
        listening.as_ref().map_or(Ok(()), |listening| visit.call(&listening.sock))
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| drop(self.listening.take(py)));
    }
}

/// The process or the system has nothing left for another connection.
fn is_exhausted(failed: &io::Error) -> bool {
    let known = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    failed.raw_os_error().is_some_and(|code| known.contains(&code))
}
